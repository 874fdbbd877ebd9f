// SPDX-License-Identifier: GPL-2.0

//! embrfs-admin: shows volumes, devices and structures, and gets files out of volumes. Of what is on devices, only discarding a side
//! and catching up members change anything.

mod devices;
mod dump;
mod extract;
mod journal;
mod sides;
mod status;
mod trees;

use crate::cli::admin::Action;
use crate::cli::admin::Args;
use crate::cli::admin::Dump;
use crate::failure::Failure;
use crate::program;
use embr_engine::names::Item;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::InodeNo;
use embrfs_host::device::Claim;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use std::path::Path;
use std::process::ExitCode;

const TROUBLE: u8 = 1;
const USAGE: u8 = 2;
const FAILED: u8 = 3;

/// The program.
pub fn main() -> ExitCode {
    program::run("embrfs-admin", USAGE, |args: &Args| args.json, run)
}

fn run(args: Args) -> Result<u8, Failure> {
    let host = Host::new().map_err(|e| {
        Failure::new(
            FAILED,
            "system",
            format!("no random numbers from the kernel: {e}"),
        )
    })?;
    match &args.action {
        Action::Status { path } => status::run(path.as_deref(), args.json, &host),
        Action::Devices { devices } => devices::run(devices, args.json, &host),
        Action::Dump { what } => dump(what, args.json, &host),
        Action::Extract(what) => extract::run(what, args.json, &host),
        Action::DiscardSide(what) => sides::discard(what, args.json, &host),
        Action::CatchUp(what) => sides::catch_up(what, args.json, &host),
    }
}

fn dump(what: &Dump, json: bool, host: &Host) -> Result<u8, Failure> {
    match what {
        Dump::Super {
            copy,
            roots,
            device,
        } => dump::run(device, *copy, *roots, json, host),
        Dump::Journal { records, device } => journal::run(device, *records, json, host),
        Dump::Nodes { tree, devices } => trees::nodes(*tree, devices, json, host),
        Dump::Items {
            tree,
            from,
            to,
            inode,
            devices,
        } => {
            let range = match inode {
                Some(number) => Item::all(InodeNo(*number)),
                None => Range {
                    first: from.unwrap_or(Key::MIN),
                    last: to.unwrap_or(Key::MAX),
                },
            };
            trees::items(*tree, range, devices, json, host)
        }
        Dump::Node { block, device } => trees::node(*block, device, json, host),
        Dump::Block { block, devices } => trees::block(*block, devices, json, host),
    }
}

fn open(path: &Path) -> Result<FileDevice, Failure> {
    FileDevice::open(path, Claim::Shared).map_err(|e| {
        Failure::new(
            FAILED,
            "device",
            format!("{}: cannot open: {e}", path.display()),
        )
    })
}
