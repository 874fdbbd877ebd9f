// SPDX-License-Identifier: GPL-2.0

//! Carrying out what was found to be mendable, then checking again: only what is sound afterwards counts as corrected.

use super::findings::Finding;
use super::findings::Mend;
use super::findings::Report;
use super::CORRECTED;
use super::OPERATIONAL;
use crate::cli::fsck::Args;
use crate::failure::Failure;
use crate::output;
use crate::say;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::env::WritableDevice;
use embr_engine::error::Error;
use embr_engine::format::layout;
use embr_engine::format::root::Root;
use embr_engine::units::Bytes;
use embr_engine::volume;
use embr_engine::volume::mend::mend_copies;
use embrfs_host::busy;
use embrfs_host::Host;
use embrfs_host::WritableFileDevice;
use std::io;
use std::io::IsTerminal;
use std::path::Path;
use std::path::PathBuf;

/// Who decides.
enum Will {
    Always,
    Never,
    Ask,
}

fn will(args: &Args) -> Will {
    if args.dry_run {
        Will::Never
    } else if args.preen || args.yes || args.repair {
        Will::Always
    } else if !args.json && io::stdin().is_terminal() && io::stdout().is_terminal() {
        Will::Ask
    } else {
        Will::Never
    }
}

/// Repairs what may be, and returns what that adds to the exit code.
pub(super) fn repair(
    args: &Args,
    host: &Host,
    paths: &[PathBuf],
    report: &mut Report,
) -> Result<u8, Failure> {
    let will = will(args);
    if matches!(will, Will::Never) {
        if !args.dry_run {
            report
                .notes
                .push("nothing was repaired: run fsck.embrfs -y".to_owned());
        }
        return Ok(0);
    }
    // One device in use speaks for all of them: they are one volume.
    if let Some(why) = paths.iter().find_map(|path| in_use(path)) {
        report.notes.push(format!("nothing was repaired: {why}"));
        return Ok(OPERATIONAL);
    }
    for (index, path) in paths.iter().enumerate() {
        let mut wanted: Vec<usize> = Vec::new();
        for (number, finding) in report.findings.iter().enumerate() {
            if finding.device == Some(index)
                && finding.can_be_mended()
                && agreed(&will, finding, &report.names)?
            {
                wanted.push(number);
            }
        }
        if wanted.is_empty() {
            continue;
        }
        match WritableFileDevice::open(path) {
            Ok(device) => {
                let failed = mend_device(host, &device, &report.findings, &wanted);
                report.notes.extend(failed);
            }
            Err(error) => {
                report.notes.push(format!(
                    "{}: cannot be opened for repair: {error}",
                    path.display()
                ));
                return Ok(OPERATIONAL);
            }
        }
    }
    recheck(host, paths, report)
}

/// Why a device or image file must not be written, by the same rules as in mkfs. Opening it for writing tells less: an image
/// file under a loop device can be opened by anyone.
pub(super) fn in_use(path: &Path) -> Option<String> {
    match busy::in_use(path) {
        Ok(None) => None,
        Ok(Some(how)) => Some(format!("{} is {how}", path.display())),
        Err(error) => Some(format!(
            "{}: whether it is in use cannot be told: {error}",
            path.display()
        )),
    }
}

fn agreed(will: &Will, finding: &Finding, names: &[String]) -> Result<bool, Failure> {
    match will {
        Will::Always => return Ok(true),
        Will::Never => return Ok(false),
        Will::Ask => {}
    }
    say!("{}", finding.line(names));
    output::ask(format_args!("Repair? [y/N] "));
    let mut answer = String::new();
    match io::stdin().read_line(&mut answer) {
        Ok(0) | Err(_) => Err(super::cancelled()),
        Ok(_) => Ok(matches!(answer.trim(), "y" | "Y" | "yes")),
    }
}

/// Carries out the chosen findings of one device, and tells what could not be done.
fn mend_device(
    host: &Host,
    device: &WritableFileDevice,
    findings: &[Finding],
    wanted: &[usize],
) -> Vec<String> {
    let mut failed = Vec::new();
    let mut superblocks_done = false;
    for finding in wanted.iter().filter_map(|n| findings.get(*n)) {
        let done = match finding.mend {
            // One writing mends all copies of the device.
            Mend::Superblocks if superblocks_done => Ok(()),
            Mend::Superblocks => {
                superblocks_done = true;
                volume::probe(device, host.hasher())
                    .and_then(|member| mend_copies(host.hasher(), device, &member))
            }
            Mend::CopyRoot { from, to } => copy_root(host, device, from, to),
            Mend::ClearRoot(at) => write_root(device, at, &[0; layout::ROOT_SIZE]),
            Mend::None | Mend::Derived | Mend::Forbidden | Mend::Operational | Mend::Unknown => {
                Ok(())
            }
        };
        if let Err(error) = done {
            failed.push(device.reading().explain(&error));
        }
    }
    failed
}

/// A root's seal names its place, so it is parsed at the one and sealed again for the other.
fn copy_root(
    host: &Host,
    device: &WritableFileDevice,
    from: Bytes,
    to: Bytes,
) -> Result<(), Error> {
    let superblock = volume::probe(device, host.hasher())?.superblock;
    let mut bytes = [0u8; layout::ROOT_SIZE];
    device
        .read(from, &mut bytes)
        .map_err(|why| Error::Read(from, why))?;
    let slot = layout::rings(device.size())
        .find_map(|ring| {
            (0..layout::RING_SLOTS).find(|slot| layout::slot_at(ring, *slot) == Some(from))
        })
        .unwrap_or(0);
    let root = Root::parse(
        host.hasher(),
        &bytes,
        from,
        slot,
        superblock.volume,
        superblock.device,
    )
    .map_err(Error::NoRoot)?;
    let trees: Vec<_> = Root::trees(&bytes).collect();
    root.encode(&trees, host.hasher(), to, &mut bytes);
    write_root(device, to, &bytes)
}

fn write_root(device: &impl WritableDevice, at: Bytes, bytes: &[u8]) -> Result<(), Error> {
    device
        .write(at, bytes)
        .map_err(|why| Error::Write(at, why))?;
    device.flush().map_err(Error::Flush)
}

/// Looks again at everything. What is no longer found was corrected.
fn recheck(host: &Host, paths: &[PathBuf], report: &mut Report) -> Result<u8, Failure> {
    let again = super::check(paths, host)?;
    let mut corrected = false;
    for finding in report.findings.iter_mut().filter(|f| f.can_be_mended()) {
        let still = again
            .findings
            .iter()
            .any(|f| f.device == finding.device && f.text == finding.text);
        finding.mended = !still;
        corrected |= !still;
    }
    let new: Vec<Finding> = again
        .findings
        .into_iter()
        .filter(|f| {
            !report
                .findings
                .iter()
                .any(|old| old.device == f.device && old.text == f.text)
        })
        .collect();
    report.findings.extend(new);
    report.volume = again.volume;
    report.volume_uuid = again.volume_uuid;
    Ok(if corrected { CORRECTED } else { 0 })
}
