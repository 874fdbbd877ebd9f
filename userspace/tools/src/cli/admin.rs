// SPDX-License-Identifier: GPL-2.0

//! The command line of embrfs-admin.

use super::sections;
use super::Section;
use clap::Parser;
use clap::Subcommand;
use std::path::PathBuf;

/// What stands below the options.
pub const SECTIONS: &[Section] = &[
    (
        "Examples",
        "embrfs-admin devices                   every embrfs device of this machine, by volume\n\
         embrfs-admin status                    every mounted volume\n\
         embrfs-admin status /mnt               the one mounted there\n\
         embrfs-admin dump super /dev/vdb       what the superblock of a device says",
    ),
    (
        "Exit status",
        "0  done, and nothing is wrong with what was looked at\n\
         1  done, but a volume is degraded, incomplete or in conflict, or a device is damaged\n\
         2  the command line is wrong\n\
         3  could not be done",
    ),
];

/// Look after embrfs volumes.
///
/// Shows volumes, their devices, and what is on them. Changes nothing.
#[derive(Parser, Debug)]
#[command(
    name = "embrfs-admin", version, styles = super::PLAIN, after_long_help = sections(SECTIONS),
    disable_help_subcommand = true
)]
pub struct Args {
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,

    /// What to do
    #[command(subcommand)]
    pub action: Action,
}

/// What there is to do.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Show how a volume is: its devices, its room, what it may still lose
    Status {
        /// A mount point or any file below it, a device, or an image file; without one, every mounted volume
        #[arg(value_name = "PATH|DEVICE")]
        path: Option<PathBuf>,
    },
    /// List embrfs devices by volume, with how each stands
    Devices {
        /// Only these devices or image files, instead of all block devices of the machine
        #[arg(value_name = "DEVICE")]
        devices: Vec<PathBuf>,
    },
    /// Show structures as they lie on a device
    Dump {
        /// Which structure
        #[command(subcommand)]
        what: Dump,
    },
}

/// Structures that can be shown.
#[derive(Subcommand, Debug)]
pub enum Dump {
    /// The superblock: how each copy is, and what the newest says
    Super {
        /// Only this copy (0, 1 or 2), sound or not the newest
        #[arg(long, value_name = "N")]
        copy: Option<usize>,
        /// The rings of roots as well
        #[arg(long)]
        roots: bool,
        /// A device or image file
        #[arg(value_name = "DEVICE")]
        device: PathBuf,
    },
}
