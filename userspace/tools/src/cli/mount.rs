// SPDX-License-Identifier: GPL-2.0

//! The command line of mount.embrfs, which mount(8) writes.

use super::sections;
use super::Section;
use clap::Parser;
use std::path::PathBuf;

/// What stands below the options.
pub const SECTIONS: &[Section] = &[
    (
        "Options of -o",
        "device=PATH  a further member; with at least one of these, no others are looked for\n\
         noscan       look for no further members\n\
         degraded     go read-write without a majority of the members\n\
         discard      tell devices of what is freed, so that they can forget it; nodiscard, the default, does not: see fstrim(8)\n\
         remount      change the options of what is mounted at DIR\n\
         ro rw nosuid nodev noexec noatime relatime strictatime nodiratime nosymfollow sync dirsync lazytime\n\
         \x20            as in mount(8); anything else goes to the kernel, which refuses what it does not know",
    ),
    (
        "Examples",
        "mount -t embrfs /dev/vdb /mnt                    the usual way; mount(8) calls mount.embrfs\n\
         mount.embrfs -v UUID=2c4ae2b6-… /mnt             by UUID, telling which devices are used\n\
         mount -t embrfs -o device=/dev/vdc /dev/vdb /mnt exactly these two, as after a split",
    ),
    (
        "Exit status",
        "0   mounted\n\
         1   the command line is wrong, or permission is denied\n\
         2   the kernel lacks embrfs or the mount calls\n\
         32  the mount failed; the message is the kernel's",
    ),
];

/// Mount an embrfs volume of several devices.
///
/// Reads the superblock of DEVICE, finds the other members of its volume among the machine's block devices, names
/// them all to the kernel, and passes on what the kernel has to say. mount(8) calls this for file systems of type
/// embrfs.
#[derive(Parser, Debug)]
#[command(name = "mount.embrfs", bin_name = "mount.embrfs", version, styles = super::PLAIN, after_long_help = sections(SECTIONS))]
pub struct Args {
    /// Leave out options that the kernel does not know
    #[arg(short)]
    pub sloppy: bool,

    /// Do everything but the mount itself
    #[arg(short)]
    pub fake: bool,

    /// Write no mtab; embrfs never does
    #[arg(short = 'n')]
    pub no_mtab: bool,

    /// Tell what is done
    #[arg(short)]
    pub verbose: bool,

    /// Mount read-only; the same as -o ro
    #[arg(short)]
    pub read_only: bool,

    /// Mount read-write; the same as -o rw
    #[arg(short = 'w')]
    pub write: bool,

    /// Options, separated by commas
    #[arg(short, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub options: Vec<String>,

    /// The type that mount(8) was asked for
    #[arg(short = 't', value_name = "TYPE", hide = true)]
    pub kind: Option<String>,

    /// Any member of the volume, or UUID=…, or LABEL=…
    #[arg(value_name = "DEVICE")]
    pub source: String,

    /// Where to mount it
    #[arg(value_name = "DIR")]
    pub target: PathBuf,
}
