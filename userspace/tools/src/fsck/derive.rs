// SPDX-License-Identifier: GPL-2.0

//! Repair of what a volume holds: the engine's, told with the paths of files. The volume is looked at first, and nothing is written where there
//! is nothing to be done.

use super::contents;
use super::findings::Finding;
use super::findings::Mend;
use super::findings::Report;
use super::repair::in_use;
use super::versions::Versions;
use super::CORRECTED;
use super::OPERATIONAL;
use crate::cli::fsck::Args;
use crate::failure::Failure;
use crate::output;
use crate::whole;
use crate::whole::Unfit;
use embr_engine::check;
use embr_engine::check::Counted;
use embr_engine::check::Depth;
use embr_engine::check::Stage;
use embr_engine::env::Environment;
use embr_engine::error::Error;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::repair;
use embr_engine::repair::Deed;
use embr_engine::repair::Options;
use embr_engine::units::Bytes;
use embr_engine::units::SnapshotId;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::recover;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Member;
use embr_engine::volume::Mounted;
use embrfs_host::machine::Event;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::Host;
use embrfs_host::WritableFileDevice;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Deeds of one kind that are told where they concern no file; of more there is the number.
const MOST: u64 = 100;
/// Changes in memory at which a checkpoint is due, at most.
const DIRTY: Bytes = Bytes(16 << 20);

/// Where deeds go.
#[derive(Default)]
struct Told {
    deeds: Vec<Finding>,
    kinds: BTreeMap<&'static str, u64>,
    progress: Option<Instant>,
}

/// The same, with the files that they concern.
struct Telling<'t, M> {
    told: &'t mut Told,
    versions: Option<Versions<'t, M>>,
}

impl<M: Machine> repair::Observer for Telling<'_, M> {
    fn does(&mut self, found: &check::Finding, deed: &Deed) {
        let count = self.told.kinds.entry(deed.kind()).or_default();
        *count += 1;
        if *count > MOST && is_of_no_file(deed) {
            return;
        }
        let inode = found.inode();
        let versions = self.versions.as_ref();
        let path = versions
            .zip(inode)
            .and_then(|(versions, number)| versions.path(number));
        let found_text = found.to_string();
        let told = versions.map(|v| v.told(&found_text, path.as_deref()));
        let text = format!("{}: {deed}", told.unwrap_or(found_text));
        self.told.deeds.push(Finding {
            device: None,
            text,
            mend: Mend::Derived,
            mended: true,
            at: Some(json!({
                "kind": found.kind(),
                "deed": deed.kind(),
                "inode": inode.map(|n| n.0),
                "path": path,
                "of": versions.and_then(|v| v.whose()),
            })),
        });
    }

    fn shows(&mut self, whose: Option<SnapshotId>) {
        if let Some(versions) = &mut self.versions {
            versions.shows(whose);
        }
    }

    fn at(&mut self, _: Stage, counted: &Counted) -> bool {
        let due = |last: &Instant| last.elapsed() > Duration::from_millis(200);
        if self.told.progress.as_ref().is_some_and(due) {
            self.told.progress = Some(Instant::now());
            output::remark(format_args!(
                "repair: {} nodes, {} inodes",
                counted.nodes, counted.inodes
            ));
        }
        true
    }
}

fn is_of_no_file(deed: &Deed) -> bool {
    matches!(
        deed,
        Deed::Taken(_)
            | Deed::Freed(_)
            | Deed::CopyWritten
            | Deed::References
            | Deed::StripeLives(_)
            | Deed::StripeListed
    )
}

/// A process that writes.
type Writer<'w> = Process<'w, WritableFileDevice, fn(Event<'_>)>;

/// What a repair may take of memory, and how it goes about it.
struct How {
    cache: Bytes,
    options: Options<'static>,
}

impl How {
    fn new(args: &Args, host: &Host, volume: &volume::Volume) -> Result<Self, Failure> {
        let memory = contents::memory(args, volume)?;
        let cache = Bytes(memory.0 / 4).min(contents::CACHE);
        Ok(How {
            cache,
            options: Options {
                check: check::Options {
                    memory: Bytes((memory.0 - cache.0) / 2),
                    depth: Depth::Copies,
                    data: false,
                    held: &[],
                },
                drop_senseless: args.drop_senseless,
                dry_run: false,
                now: host.now(),
            },
        })
    }
}

/// Repairs what the volume holds, and returns what that adds to the exit code.
pub(super) fn repair(
    args: &Args,
    host: &Host,
    paths: &[PathBuf],
    report: &mut Report,
) -> Result<u8, Failure> {
    // What this version does not understand it does not write to.
    let is_strange = |f: &Finding| matches!(f.mend, Mend::Forbidden | Mend::Unknown);
    if report.findings.iter().any(is_strange) {
        return Ok(0);
    }
    let mut told = Told {
        progress: (args.progress && io::stderr().is_terminal()).then(Instant::now),
        ..Told::default()
    };
    if !plan(args, host, paths, &mut told)? {
        return Ok(0);
    }
    if args.dry_run {
        for deed in told.deeds.drain(..) {
            report.notes.push(format!("would be done: {}", deed.text));
        }
        tell_rest(&told, report);
        return Ok(0);
    }
    if let Some(why) = paths.iter().find_map(|path| in_use(path)) {
        report.notes.push(format!("nothing was repaired: {why}"));
        return Ok(OPERATIONAL);
    }
    told.deeds.clear();
    told.kinds.clear();
    let failed = carry_out(args, host, paths, &mut told)?;
    let mut code = match told.kinds.is_empty() {
        true => 0,
        false => CORRECTED,
    };
    tell_rest(&told, report);
    report.findings.append(&mut told.deeds);
    if let Some(why) = failed {
        report.notes.push(why);
        code |= OPERATIONAL;
    }
    Ok(code)
}

fn tell_rest(told: &Told, report: &mut Report) {
    let is_short = |kind: &str| {
        [
            "taken",
            "freed",
            "copy-written",
            "references",
            "stripe-lives",
            "stripe-listed",
        ]
        .contains(&kind)
    };
    for (kind, count) in told.kinds.iter().filter(|(k, n)| **n > MOST && is_short(k)) {
        let more = count - MOST;
        report
            .notes
            .push(format!("{more} more things done of kind {kind}"));
    }
}

/// Whether there is anything to be done, and what at first.
fn plan(args: &Args, host: &Host, paths: &[PathBuf], told: &mut Told) -> Result<bool, Failure> {
    let gathered = whole::gather(paths, host, &mut |path, why| match why {
        Unfit::Open(why) => Err(super::cannot_open(path, &why)),
        Unfit::Probe(..) => Ok(()),
    })?;
    let Ok(assembled) = assemble(&gathered.members) else {
        return Ok(false);
    };
    let whole = gathered.into_whole(assembled);
    let how = How::new(args, host, &whole.volume)?;
    let mut faults = Vec::new();
    let mut note = |why| faults.push(why);
    let reader = whole.reader(host);
    // Why it cannot even be looked at, the check tells.
    let Ok(mounted) = Mounted::inspect(reader, &whole.volume, &whole.members, how.cache, &mut note)
    else {
        return Ok(false);
    };
    let view = View::first();
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        return Ok(false);
    };
    let files = names.of(&mounted, &view);
    let mut telling = Telling {
        told,
        versions: Some(Versions::new(&mounted, &names)),
    };
    let of_space = |why: &&Fault| matches!(why, Fault::Space(_) | Fault::SpaceItem(_));
    if let Some(why) = faults.iter().find(of_space) {
        repair::Observer::does(
            &mut telling,
            &check::Finding::Mount(*why),
            &Deed::SpaceRewritten,
        );
    }
    let options = Options {
        dry_run: true,
        ..how.options
    };
    // The check comes to the same end, and tells why.
    let _ = repair::repair(&mounted, files, &options, &mut telling);
    Ok(!told.kinds.is_empty())
}

/// Does it; says why it could not be done wholly.
fn carry_out(
    args: &Args,
    host: &Host,
    paths: &[PathBuf],
    told: &mut Told,
) -> Result<Option<String>, Failure> {
    let refuse = |path: &Path, why: &dyn Display| {
        let text = format!("{}: cannot be opened for repair: {why}", path.display());
        Failure::new(OPERATIONAL, "device", text)
    };
    let mut devices: Vec<WritableFileDevice> = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    for path in paths {
        let device = WritableFileDevice::open(path).map_err(|why| refuse(path, &why))?;
        let probed: Result<Member, Error> = volume::probe(&device, host.hasher());
        match probed {
            Ok(member) => {
                devices.push(device);
                members.push(member);
            }
            // That it has no part in the volume was told.
            Err(_) => drop(device),
        }
    }
    let Ok(volume) = assemble(&members) else {
        return Ok(None);
    };
    let how = How::new(args, host, &volume)?;
    let process: Writer<'_> = Process::new(Slots::of_volume(&volume, &devices), host, |_| {});
    let mount = recover::Options {
        read_only: false,
        degraded: false,
        cache: how.cache,
        dirty: how.cache.min(DIRTY),
    };
    let mut telling: Telling<'_, Writer<'_>> = Telling {
        told: &mut *told,
        versions: None,
    };
    let check = &how.options.check;
    let opened = repair::open(process, &volume, &members, mount, check, &mut telling);
    let mounted = match opened {
        Ok(mounted) => mounted,
        Err(why) => return Ok(Some(format!("nothing was repaired: {why}"))),
    };
    let view = View::first();
    let done = Names::try_new(HashWidth::Full).map(|names| {
        let files = names.of(&mounted, &view);
        let mut telling = Telling {
            told,
            versions: Some(Versions::new(&mounted, &names)),
        };
        repair::repair(&mounted, files, &how.options, &mut telling)
    });
    let stopped =
        |why: &dyn Display| format!("the repair could not be finished: {why}; run it again");
    let failed = match done {
        Ok(Ok(_)) => None,
        Ok(Err(why)) => Some(stopped(&why)),
        Err(why) => Some(stopped(&why)),
    };
    let closed = mounted.into_inner().close();
    Ok(failed.or(closed.err().map(|why| stopped(&why))))
}
