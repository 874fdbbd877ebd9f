// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin extract`: gets files out of a volume that is not mounted, however damaged it is. What is read is verified as a mount would;
//! nothing is written to the volume's devices; nothing that is not there is made up.

mod again;
mod contents;
mod list;
mod output;
mod report;
mod restore;
mod seen;
mod source;
mod versions;
mod walk;
mod wanted;
mod write;

use super::FAILED;
use crate::cli::admin::Damaged;
use crate::cli::admin::Extract;
use crate::complain;
use crate::failure::Failure;
use crate::output::document;
use crate::say;
use crate::whole;
use crate::whole::Unfit;
use crate::whole::Whole;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::units::Bytes;
use embr_engine::volume::assemble::assemble_in_part;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_host::busy;
use embrfs_host::busy::Use;
use embrfs_host::Host;
use list::Listing;
use output::Output;
use report::Report;
use serde_json::json;
use serde_json::Value;
use source::Source;
use std::fmt::Display;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use versions::Version;
use walk::Job;
use walk::Walk;
use wanted::Wanted;
use write::Writing;

const CACHE: Bytes = Bytes(64 << 20);

fn failed(kind: &'static str, why: &dyn Display) -> Failure {
    Failure::new(FAILED, kind, why.to_string())
}

/// A volume that somebody writes to meanwhile would look damaged where it is not.
fn must_be_free(paths: &[PathBuf], report: &mut Report) -> Result<(), Failure> {
    let refuse = |how: String| {
        let advice = "copy the files from there, or unmount it first";
        Err(failed("mounted", &how).advise(advice))
    };
    if let Some(how) = whole::mounted(paths) {
        return refuse(how);
    }
    for path in paths {
        let Ok(Some(how)) = busy::in_use(path) else {
            continue;
        };
        if let Use::Under(name) = &how {
            if let Some(how) = whole::mounted(&[Path::new("/dev").join(name)]) {
                return refuse(format!("{how}, and lies on {}", path.display()));
            }
        }
        let path = path.display();
        report.note(format!(
            "{path} is {how} (if it is written to meanwhile, sound files will seem damaged)"
        ));
    }
    Ok(())
}

/// Opens all there is of the volume.
fn open(args: &Extract, host: &Host, report: &mut Report) -> Result<Whole, Failure> {
    let paths = whole::paths(&args.devices, args.only, host)
        .map_err(|(path, why)| failed("device", &format_args!("{}: {why}", path.display())))?;
    must_be_free(&paths, report)?;
    let gathered = whole::gather(&paths, host, &mut |path, why| {
        let why = match why {
            Unfit::Open(why) => format!("{}: cannot open: {why}", path.display()),
            Unfit::Probe(device, why) => device.explain(&why),
        };
        report.note(format!("{why}; going on without it"));
        Ok(())
    })?;
    let names = gathered.paths.iter().filter_map(|index| paths.get(*index));
    let names: Vec<_> = names.map(|path| path.display()).collect();
    if names.is_empty() {
        return Err(failed(
            "volume",
            &"none of the devices says of what volume it is",
        ));
    }
    let volume = assemble_in_part(&gathered.members)
        .map_err(|why| failed("volume", &why.explain(&names)))?;
    let missing = volume.missing();
    let tolerated = u32::from(volume.geometry().parity());
    if missing.count() > tolerated {
        report.is_doubtful = true;
        report.note(format!(
            "{} members are missing and only {tolerated} may be: {missing}; what was changed last may not be here, and much will be lost",
            missing.count()
        ));
    } else if missing.any() {
        report.note(format!("degraded: without members {missing}"));
    }
    if volume.unknown_read_only().any() {
        let unknown = volume.unknown_read_only();
        report.note(format!(
            "the volume uses features that this embrfs-admin does not know ({unknown}): there may be more in it than comes out"
        ));
    }
    Ok(gathered.into_whole(volume))
}

/// Adds what only one of the ways has to the document.
fn with(mut document: Value, more: Value) -> Value {
    if let (Some(all), Value::Object(more)) = (document.as_object_mut(), more) {
        all.extend(more);
    }
    document
}

/// Opens the directory, and gives what is asked for out.
fn put<M: Machine>(
    volume: (&Names, &Mounted<M>),
    versions: &[Version],
    (wanted, damaged): (&Wanted, Damaged),
    (path, as_json): (PathBuf, bool),
    mut report: Report,
) -> Result<u8, Failure> {
    let refused = |why: io::Error| failed("output", &format_args!("{}: {why}", path.display()));
    let mut output = Output::create(&path).map_err(refused)?;
    let mut done = Ok(());
    for version in versions {
        let below = match version.place.is_empty() {
            true => None,
            false => Some(output.below(&version.place).map_err(refused)?),
        };
        let output = match below {
            Some(below) => below,
            None => output.again().map_err(refused)?,
        };
        let writing = Writing::new(output, path.clone(), damaged);
        let mut walk = Walk::new(job(volume, version, report), writing);
        done = walk.run(wanted.clone());
        report = walk.job.report;
        if done.is_err() {
            break;
        }
    }
    let path = path.display().to_string();
    report.end();
    if let Err(why) = done {
        complain!("{path}: {}", report.summary(false));
        let so_far = with(report.json(), json!({ "ok": false, "exit": FAILED }));
        return Err(why.with(so_far));
    }
    if as_json {
        document(&with(report.json(), json!({ "directory": path })));
    } else {
        say!("{path}: {}", report.summary(true));
    }
    Ok(report.status())
}

fn list<M: Machine>(
    volume: (&Names, &Mounted<M>),
    versions: &[Version],
    wanted: &Wanted,
    as_json: bool,
    mut report: Report,
) -> Result<u8, Failure> {
    let mut rows = Vec::new();
    for version in versions {
        let listing = Listing {
            as_json,
            rows: std::mem::take(&mut rows),
            whose: version.whose.clone(),
        };
        let mut walk = Walk::new(job(volume, version, report), listing);
        walk.run(wanted.clone())?;
        (report, rows) = (walk.job.report, walk.act.rows);
    }
    report.end();
    if as_json {
        document(&with(report.json(), json!({ "list": rows })));
    }
    Ok(report.status())
}

/// What is to be read of a snapshot or head.
fn job<'s, M: Machine>(
    (names, mounted): (&'s Names, &'s Mounted<M>),
    version: &'s Version,
    mut report: Report,
) -> Job<'s, M> {
    report.whose.clone_from(&version.whose);
    let source = Source {
        mounted,
        view: &version.view,
        files: names.of(mounted, &version.view),
    };
    Job { source, report }
}

pub(super) fn run(args: &Extract, as_json: bool, host: &Host) -> Result<u8, Failure> {
    let (directory, paths) = match (args.to.split_first(), &args.list) {
        (Some((directory, paths)), _) => (Some(directory), paths),
        (None, Some(paths)) => (None, &paths[..]),
        (None, None) => (None, &[][..]),
    };
    let wanted = Wanted::new(paths)?;
    let mut report = Report::new(as_json, args.progress && io::stderr().is_terminal());
    let whole = open(args, host, &mut report)?;
    let options = Options {
        read_only: true,
        degraded: true,
        cache: CACHE,
        dirty: Bytes(u64::MAX),
    };
    let reader = whole.reader_of_all(host);
    let mounted = Mounted::open(reader, &whole.volume, &whole.members, options)
        .map_err(|why| failed("volume", &why))?;
    if let Some(why) = mounted.cut() {
        report.is_doubtful = true;
        report.note(format!("this is not all that the volume held last: {why}"));
    }
    let names = Names::try_new(HashWidth::Full).map_err(|why| failed("memory", &why))?;
    if args.list_snapshots {
        return versions::list(&names, &mounted, &report, as_json);
    }
    let versions = versions::wanted(args, &names, &mounted, &mut report)?;
    let volume = (&names, &*mounted);
    let Some(directory) = directory else {
        return list(volume, &versions, &wanted, as_json, report);
    };
    let how = (&wanted, args.damaged);
    let path = PathBuf::from(directory);
    put(volume, &versions, how, (path, as_json), report)
}
