// SPDX-License-Identifier: GPL-2.0

//! fsck.embrfs: what is wrong with a volume's devices, each by itself and together, and how much of that can be mended.

mod contents;
mod derive;
mod findings;
mod repair;
mod roots;
mod versions;

use crate::cli::fsck::Args;
use crate::describe;
use crate::failure::Failure;
use crate::output;
use crate::program;
use crate::say;
use crate::whole;
use embr_engine::env::Environment;
use embr_engine::error::Error;
use embr_engine::error::Kind;
use embr_engine::units::Uuid;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::Member;
use embrfs_host::device::Claim;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use findings::Finding;
use findings::Mend;
use findings::Report;
use serde_json::json;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) const CORRECTED: u8 = 1;
pub(crate) const UNCORRECTED: u8 = 4;
pub(crate) const OPERATIONAL: u8 = 8;
const USAGE: u8 = 16;
const CANCELLED: u8 = 32;

/// The program.
pub fn main() -> ExitCode {
    program::run("fsck.embrfs", USAGE, |args: &Args| args.json, run)
}

fn run(args: Args) -> Result<u8, Failure> {
    let host = Host::new().map_err(|e| {
        Failure::new(
            OPERATIONAL,
            "system",
            format!("no random numbers from the kernel: {e}"),
        )
    })?;
    let paths = all_paths(&args, &host)?;
    let mut report = check(&paths, &host)?;
    let mounted = whole::mounted(&paths);
    let mut code = 0;
    if report.mendable() {
        code |= repair::repair(&args, &host, &paths, &mut report)?;
    }
    match &mounted {
        Some(_) => report
            .notes
            .push("trees and names were not checked, as the volume is mounted".to_owned()),
        None => {
            if args.repair {
                code |= derive::repair(&args, &host, &paths, &mut report)?;
            }
            contents::check(&args, &host, &paths, &mut report)?;
        }
    }
    if args.repair && mounted.is_some() {
        report
            .notes
            .push("a volume in use is never repaired".to_owned());
        code |= OPERATIONAL;
    }
    if args.repair && report.contents.is_some() && report.code() & UNCORRECTED != 0 && !args.dry_run
    {
        report.notes.push(
            "what is left follows from nothing else: embrfs-admin extract copies all that can be read"
                .to_owned(),
        );
    }
    code |= report.code();
    tell(&args, &report, mounted.as_deref(), code);
    Ok(code)
}

/// The devices named, and the others of their volume.
fn all_paths(args: &Args, host: &Host) -> Result<Vec<PathBuf>, Failure> {
    whole::paths(&args.devices, args.only, host).map_err(|(path, why)| {
        Failure::new(OPERATIONAL, "device", format!("{}: {why}", path.display()))
    })
}

pub(crate) fn open(path: &Path) -> Result<FileDevice, Failure> {
    FileDevice::open(path, Claim::Shared).map_err(|why| cannot_open(path, &why))
}

fn cannot_open(path: &Path, why: &io::Error) -> Failure {
    let text = format!("{}: cannot open: {why}", path.display());
    Failure::new(OPERATIONAL, "device", text)
}

/// Checks everything there is; changes nothing.
pub(crate) fn check(paths: &[PathBuf], host: &Host) -> Result<Report, Failure> {
    let names = paths.iter().map(|p| p.display().to_string()).collect();
    let mut report = Report {
        names,
        ..Report::default()
    };
    let mut sound: Vec<Member> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let device = open(path)?;
        match volume::probe(&device, host.hasher()) {
            Ok(member) => {
                let mut found = findings::superblocks(index, &member);
                found.extend(findings::unknown_features(index, &member));
                found.extend(roots::check(
                    index,
                    &device,
                    &member.superblock,
                    host.hasher(),
                ));
                findings::leave_what_is_not_understood(&mut found);
                report.findings.extend(found);
                sound.push(member);
                names.push(path.display().to_string());
            }
            Err(error) => report.findings.push(unreadable(index, &device, error)),
        }
    }
    // Of features, one device speaks for all: they are one volume.
    if report.findings.iter().any(|f| f.mend == Mend::Unknown) {
        findings::leave_what_is_not_understood(&mut report.findings);
    }
    together(&mut report, &sound, &names);
    Ok(report)
}

/// A device that says nothing of use.
fn unreadable(index: usize, device: &FileDevice, error: Error) -> Finding {
    let text = device.explain(&error);
    let place = format!("{}: ", device.path().display());
    let text = text
        .strip_prefix(&place)
        .map_or(text.clone(), str::to_owned);
    let operational = matches!(
        error.kind(),
        Kind::NoMemory | Kind::Io | Kind::NotEmbrfs | Kind::Unsupported
    );
    Finding {
        device: Some(index),
        text,
        mend: if operational {
            Mend::Operational
        } else {
            Mend::None
        },
        mended: false,
        at: None,
    }
}

/// Whether the sound devices make a volume, and agree on what it is.
fn together(report: &mut Report, sound: &[Member], names: &[String]) {
    if sound.is_empty() {
        return;
    }
    match assemble(sound) {
        Ok(assembled) => {
            report.volume = Some(describe_volume(&assembled));
            if assembled.missing().any() {
                report.notes.push(format!(
                    "degraded: {} of {} members are missing or stale: {}",
                    assembled.missing().count(),
                    assembled.seats().len(),
                    assembled.missing()
                ));
            }
            report
                .findings
                .extend(findings::disagreements(&assembled, sound, names));
            report.volume_uuid = Some(assembled.uuid());
        }
        Err(error) => {
            let mend = if error.kind() == Kind::Conflict {
                Mend::Operational
            } else {
                Mend::None
            };
            report.findings.push(Finding {
                device: None,
                text: error.explain(names).to_string(),
                mend,
                mended: false,
                at: None,
            });
            report.volume_uuid = sound.first().map(|m| m.superblock.volume);
        }
    }
}

fn describe_volume(volume: &volume::Volume) -> String {
    format!(
        "bundle {}, {} of {} members, epoch {}, generation {}, {}",
        volume.geometry(),
        volume.current(),
        volume.seats().len(),
        volume.epoch().number,
        volume.generation(),
        describe::blocks(volume.capacity()),
    )
}

fn tell(args: &Args, report: &Report, mounted: Option<&str>, code: u8) {
    if args.json {
        output::document(&json!({
            "ok": code & !CORRECTED == 0,
            "exit": code,
            "volume": report.volume_uuid.map(|u: Uuid| u.to_string()),
            "summary": report.volume,
            "mounted": mounted,
            "devices": report.names,
            "findings": report.findings.iter().map(|f| f.json(&report.names)).collect::<Vec<_>>(),
            "notes": report.notes,
            "checked": report.contents.map(|c| json!({
                "nodes": c.nodes, "inodes": c.inodes, "items": c.items, "passes": c.passes,
            })),
        }));
        return;
    }
    for finding in &report.findings {
        say!("{}", finding.line(&report.names));
    }
    for note in &report.notes {
        say!("note: {note}");
    }
    let uuid = report
        .volume_uuid
        .map_or_else(|| "no volume".to_owned(), |u| u.to_string());
    let verdict = match code {
        0 => "clean",
        CORRECTED => "errors were corrected",
        c if c & OPERATIONAL != 0 => "could not be checked or repaired in full",
        _ => "ERRORS ARE LEFT",
    };
    match &report.volume {
        Some(summary) => say!("{uuid}: {verdict} ({summary})"),
        None => say!("{uuid}: {verdict}"),
    }
    if args.verbose {
        report
            .names
            .iter()
            .for_each(|name| say!("  checked {name}"));
        if let Some(c) = report.contents {
            say!(
                "  checked {} nodes, {} inodes with {} items",
                c.nodes,
                c.inodes,
                c.items
            );
        }
    }
}

pub(crate) fn cancelled() -> Failure {
    Failure::new(
        CANCELLED,
        "cancelled",
        "cancelled; what was repaired so far stays repaired",
    )
}
