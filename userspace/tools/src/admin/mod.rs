// SPDX-License-Identifier: GPL-2.0

//! embrfs-admin: shows volumes, devices and structures. Changes nothing.

mod devices;
mod dump;
mod status;

use crate::cli::admin::Action;
use crate::cli::admin::Args;
use crate::cli::admin::Dump;
use crate::failure::Failure;
use crate::program;
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
        Action::Dump {
            what:
                Dump::Super {
                    copy,
                    roots,
                    device,
                },
        } => dump::run(device, *copy, *roots, args.json, &host),
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
