// SPDX-License-Identifier: GPL-2.0

//! mkfs.embrfs: everything is checked before anything is written, and what was written is read back.

mod candidates;
mod geometry;
mod report;
mod tree;

use crate::cli::mkfs::Args;
use crate::cli::mkfs::BlockHashBits;
use crate::cli::mkfs::Owner;
use crate::failure::Failure;
use crate::output;
use crate::program;
use crate::say;
use candidates::Candidate;
use candidates::Opened;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::units::Bytes;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::create::Impossible;
use embr_engine::volume::create::Options;
use embr_engine::volume::create::Plan;
use embrfs_host::Host;
use embrfs_host::WritableFileDevice;
use std::process::ExitCode;

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// The program.
pub fn main() -> ExitCode {
    program::run("mkfs.embrfs", USAGE, |args: &Args| args.json, run)
}

fn run(args: Args) -> Result<u8, Failure> {
    let host = Host::new().map_err(|e| {
        Failure::new(
            FAILED,
            "system",
            format!("no random numbers from the kernel: {e}"),
        )
    })?;
    let candidates = candidates::examine(&args)?;
    let geometry = geometry::choose(&args, candidates.len())?;
    let sizes: Vec<Bytes> = candidates.iter().map(|c| c.size).collect();
    let options = Options {
        geometry,
        block_hash: match args.block_hash {
            BlockHashBits::Short => BlockHash::Short,
            BlockHashBits::Full => BlockHash::Full,
        },
        label: Label::new(&args.label)
            .ok_or_else(|| Failure::new(USAGE, "usage", "the label does not fit"))?,
        uuid: args.uuid,
    };
    let plan =
        Plan::new(&host, options, &sizes).map_err(|why| refuse_plan(why, &options, &candidates))?;
    let domains = geometry::domains(&args, candidates.len())?;
    let plan = plan.in_domains(domains);
    if let Some(uuid) = args.uuid {
        candidates::refuse_known_uuid(uuid, &candidates, host.hasher())?;
    }
    let report = report::Report {
        args: &args,
        options: &options,
        plan: &plan,
        candidates: &candidates,
    };
    if args.dry_run {
        finish(&args, &report, true);
        return Ok(0);
    }
    let devices = candidates::open(&args, candidates.iter())?;
    make(&host, &plan, &devices, args.root_owner)?;
    verify(&host, &plan, &devices)?;
    finish(&args, &report, false);
    Ok(0)
}

fn finish(args: &Args, report: &report::Report<'_>, dry: bool) {
    if args.json {
        output::document(&report.json(dry));
    } else if !args.quiet {
        say!("{}", report.text(dry));
    }
}

/// First all devices are wiped, so that no half-made volume mixes with what was there; then all get roots, and the volume its root
/// directory; only with the superblocks it is one.
fn make(host: &Host, plan: &Plan, devices: &Opened, owner: Owner) -> Result<(), Failure> {
    for (index, device) in devices.iter().enumerate() {
        plan.wipe(index, device).map_err(|error| {
            failed_writing(
                device,
                &error,
                "what these devices held is partly wiped; there is no volume on them",
            )
        })?;
    }
    let unmade = |device: &WritableFileDevice, error| {
        failed_writing(
            device,
            &error,
            "no whole volume was made; replace the device and run mkfs.embrfs again",
        )
    };
    for (index, device) in devices.iter().enumerate() {
        plan.write_root(index, host, device)
            .map_err(|error| unmade(device, error))?;
    }
    tree::plant(host, plan, devices, owner)?;
    for (index, device) in devices.iter().enumerate() {
        plan.write_superblocks(index, host, device)
            .map_err(|error| unmade(device, error))?;
    }
    Ok(())
}

fn failed_writing(device: &WritableFileDevice, error: &embr_engine::Error, state: &str) -> Failure {
    Failure::new(FAILED, "write", device.reading().explain(error)).advise(state)
}

/// Reads everything back from the devices themselves, as a mount would.
fn verify(host: &Host, plan: &Plan, devices: &Opened) -> Result<(), Failure> {
    let failed = |message: String| {
        Failure::new(FAILED, "verification", message)
            .advise("what was written does not read back: do not use the volume, and test or replace the device")
    };
    let mut members = Vec::new();
    for device in devices {
        device.reading().forget_cached();
        members.push(
            volume::probe(device, host.hasher())
                .map_err(|e| failed(device.reading().explain(&e)))?,
        );
    }
    for (device, member) in devices.iter().zip(&members) {
        let name = device.reading().path().display();
        if member.superblock.volume != plan.volume()
            || member
                .copies
                .iter()
                .any(|c| c.state != volume::probe::CopyState::Good)
        {
            return Err(failed(format!(
                "{name}: a superblock copy does not read back as written"
            )));
        }
        if member.size != device.size() {
            return Err(failed(format!("{name}: its size changed meanwhile")));
        }
    }
    let names: Vec<_> = devices
        .iter()
        .map(|d| d.reading().path().display())
        .collect();
    let made = assemble(&members).map_err(|error| failed(error.explain(&names).to_string()))?;
    if made.current() != plan.members().len() || made.capacity() != plan.capacity() {
        return Err(failed(format!(
            "only {} of {} devices are members",
            made.current(),
            plan.members().len()
        )));
    }
    Ok(())
}

/// What the engine says of an impossible volume, with the device's name and a way out.
fn refuse_plan(why: Impossible, options: &Options, candidates: &[Candidate]) -> Failure {
    let name = |index: usize| {
        candidates
            .get(index)
            .map_or_else(String::new, |c| format!("{}: ", c.path.display()))
    };
    let failure = |kind, device: String| Failure::new(FAILED, kind, format!("{device}{why}"));
    match &why {
        Impossible::NoMemory => failure("memory", String::new()),
        Impossible::TooFewDevices { given, .. } => {
            let refused = Failure::new(
                FAILED,
                "geometry",
                format!("bundle {}: {why}", options.geometry),
            );
            refused.advise(geometry::possible_with(*given))
        }
        Impossible::TooManyDevices(_) => {
            failure("geometry", String::new()).advise("make several volumes")
        }
        Impossible::TooSmall(index, _) => {
            let refused = failure("size", name(*index));
            match candidates.get(*index) {
                Some(c) if !c.identity.is_some_and(|id| id.is_block()) => {
                    refused.advise("let mkfs.embrfs grow the image with --size 64M")
                }
                _ => refused.advise("leave this device out, or give a larger one"),
            }
        }
        Impossible::TooLarge(index, _) => {
            failure("size", name(*index)).advise("use a partition of it")
        }
    }
}
