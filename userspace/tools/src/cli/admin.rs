// SPDX-License-Identifier: GPL-2.0

//! The command line of embrfs-admin.

use super::sections;
use super::Section;
use clap::Parser;
use clap::Subcommand;
use clap::ValueEnum;
use embr_engine::tree::Key;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::mounted::STRIPES;
use std::ffi::OsString;
use std::path::PathBuf;

/// What stands below the options.
pub const SECTIONS: &[Section] = &[
    (
        "Examples",
        "embrfs-admin devices                   every embrfs device of this machine, by volume\n\
         embrfs-admin status                    every mounted volume\n\
         embrfs-admin status /mnt               the one mounted there\n\
         embrfs-admin dump super /dev/vdb       what the superblock of a device says\n\
         embrfs-admin dump items names --inode 1 /dev/vdb   what the root directory has\n\
         embrfs-admin dump block 2309 /dev/vdb  what a block is used for, and by which files\n\
         embrfs-admin extract /dev/vdb --to saved   what can be read of a volume that is not mounted\n\
         embrfs-admin discard-side /dev/vdc     what would be lost with what was written to it alone\n\
         embrfs-admin catch-up /dev/vdb         members that missed something get it",
    ),
    (
        "Exit status",
        "0  done, and nothing is wrong with what was looked at\n\
         1  done, but a volume is degraded, incomplete or in conflict, a device is damaged, or files are\n\
         2  the command line is wrong\n\
         3  could not be done",
    ),
];

/// The same of `embrfs-admin extract`.
pub const EXTRACT: &[Section] = &[
    (
        "Examples",
        "embrfs-admin extract /dev/vdb --to /srv/saved           everything; the other devices are found\n\
         embrfs-admin extract a.img b.img --to new etc home/jo   only these, from image files\n\
         embrfs-admin extract /dev/vdb --list                    which files there are\n\
         embrfs-admin extract /dev/vdb --list-snapshots          which snapshots there are\n\
         embrfs-admin extract /dev/vdb --snapshot monday --to old   what one of them has",
    ),
    (
        "Exit status",
        "0  all that was asked for is there, as the volume had it last\n\
         1  done, but some of it is damaged or lost, or lost its way, or may not be the newest\n\
         2  the command line is wrong\n\
         3  could not be done, or not in full, for a reason that lies where the files were to go",
    ),
];

/// Look after embrfs volumes.
///
/// Shows volumes, their devices, and what is on them, and gets files out of those that cannot be mounted. Changes nothing on any device,
/// but for discard-side and catch-up.
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
    ///
    /// What one device says by itself: its superblock and roots, its journal, a node at a block. What a volume has, as its newest root and the
    /// journal behind that say: the nodes and items of its trees, and what a block is used for. The trees are space (what is in use), names
    /// (inodes, directories, attributes, extents), engrams (where what files hold lies), stripes, references (blocks that several files
    /// name) and snapshots. What is damaged is told, and it goes on behind it. Nothing is written.
    Dump {
        /// Which structure
        #[command(subcommand)]
        what: Dump,
    },
    /// Copy files out of a volume that is not mounted, however damaged it is
    ///
    /// Needs no kernel support, and writes nothing to the devices. Everything is verified as it is when it is mounted; what rots within
    /// redundancy is rebuilt. Members may be missing, more of them too than the volume can do without: then what is left comes out.
    /// Where the newest root cannot be used, the one before it is. What cannot be had is told on standard error, with the path, and
    /// for a file with the range of bytes; all else goes on.
    ///
    /// Files get their modes, times, extended attributes, holes and hard links; owners, device nodes and privileged
    /// attributes where that is permitted. Not restored are flags of chattr(1) and projects. A new DIR becomes what the root directory
    /// was; one that exists keeps its own owner and mode.
    /// As root, owners, set-user-ID programs and device nodes come out as the volume has them: extract what you do not trust as
    /// somebody else.
    ///
    /// A file that no directory leads to any more is put where it says itself that it was. If that is not known, it goes to
    /// DIR/lost+found, as #INODE, or as #DIRECTORY/NAME.
    ///
    /// Under its own name there is never less than what a file held: one of which something is lost is called
    /// NAME.damaged, with a hole in place of what is lost, unless --damaged says otherwise.
    Extract(Extract),
    /// Give up one side of a volume whose members were written to apart
    ///
    /// Where some members were mounted without the others, and those without them, each side has something that the other has not,
    /// and together they are not mounted. This sets the devices named back: they are members still, but what they hold counts only as
    /// far as the other side knows of it. What was written to them alone is lost. Without --yes, it is only said what that
    /// would be, and nothing is written. It is refused where those that are kept do not make a volume that can be mounted.
    ///
    /// Cut short, it can be given again. Then the members can be caught up.
    DiscardSide(DiscardSide),
    /// Give members of a volume that is not mounted what they missed
    ///
    /// Everything that should lie on members which were away is verified, and written again where it is wrong; what was written in fewer
    /// copies while they were away gets more. Then they are members again. Cut short anywhere, they are as stale as before, and
    /// nothing else is changed.
    CatchUp(CatchUp),
}

/// What to give up.
#[derive(clap::Args, Debug)]
pub struct DiscardSide {
    /// Do it
    #[arg(long)]
    pub yes: bool,

    /// A device or image file that is kept, instead of all others of the volume that are found; may be given several times
    #[arg(long, value_name = "DEVICE")]
    pub keep: Vec<PathBuf>,

    /// The devices or image files that are set back
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// What to catch up.
#[derive(clap::Args, Debug)]
pub struct CatchUp {
    /// Although most of the members are not here or missed something
    #[arg(long)]
    pub degraded: bool,

    /// Devices or image files of one volume; of one device, the others are found
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// What to get out of a volume, and where to put it.
#[derive(clap::Args, Debug)]
#[command(
    after_long_help = sections(EXTRACT),
    group = clap::ArgGroup::new("where").required(true).args(["to", "list", "list_snapshots"]),
    group = clap::ArgGroup::new("which").args(["snapshot", "all_snapshots", "any_version", "list_snapshots"]),
    override_usage = "embrfs-admin extract [OPTIONS] <DEVICE>... --to <DIR> [PATH]...\n       \
                      embrfs-admin extract [OPTIONS] <DEVICE>... --list [PATH]...\n       \
                      embrfs-admin extract [OPTIONS] <DEVICE>... --list-snapshots"
)]
pub struct Extract {
    /// Put the files below DIR: a new directory, or one with nothing in it. With PATHs, from the volume's root on, only those, and
    /// all that is below them
    #[arg(long, value_names = ["DIR", "PATH"], num_args = 1..)]
    pub to: Vec<OsString>,

    /// Only say which files there are; what they hold is not read
    #[arg(long, value_name = "PATH", num_args = 0.., conflicts_with = "damaged")]
    pub list: Option<Vec<OsString>>,

    /// Only say which snapshots and heads there are
    #[arg(long, conflicts_with = "damaged")]
    pub list_snapshots: bool,

    /// Those files that this snapshot or head has, instead of what a mount would show
    #[arg(long, value_name = "NAME")]
    pub snapshot: Option<OsString>,

    /// What all snapshots and heads have: what a mount would show goes to DIR/head, others to DIR/snapshots/NAME. Each takes its full room
    #[arg(long)]
    pub all_snapshots: bool,

    /// The newest version of everything, whichever snapshot or head wrote it: where it is lost which there are
    #[arg(long)]
    pub any_version: bool,

    /// What becomes of a file of which something is lost
    #[arg(long, value_name = "HOW", default_value = "aside")]
    pub damaged: Damaged,

    /// Do not look for other devices of the volume
    #[arg(long)]
    pub only: bool,

    /// Show on a terminal how far it is
    #[arg(long)]
    pub progress: bool,

    /// Devices or image files of one volume; of one device, the others are found
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}

/// Choices of `--damaged`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Damaged {
    /// What is left of it is put beside where it would be, as NAME.damaged
    Aside,
    /// It keeps its name, and has zeros where something is lost
    Keep,
    /// It is left out
    Skip,
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
    /// The journal of a device: its groups, in the order of their numbers
    Journal {
        /// The records of each group as well
        #[arg(long)]
        records: bool,
        /// A device or image file
        #[arg(value_name = "DEVICE")]
        device: PathBuf,
    },
    /// The nodes of a tree, as the newest root has it
    Nodes {
        /// Which tree: space, names, engrams, stripes, references or snapshots, or its number
        #[arg(value_name = "TREE", value_parser = tree)]
        tree: TreeId,
        /// Devices or image files of one volume; of one device, the others are found
        #[arg(value_name = "DEVICE", required = true)]
        devices: Vec<PathBuf>,
    },
    /// The items of a tree and what they mean, with what the journal made of them
    Items {
        /// Which tree: space, names, engrams, stripes, references or snapshots, or its number
        #[arg(value_name = "TREE", value_parser = tree)]
        tree: TreeId,
        /// From this key on: three hexadecimal numbers, as in 1:0:0; what is left out is 0
        #[arg(long, value_name = "KEY", value_parser = first_key)]
        from: Option<Key>,
        /// Up to this key; what is left out is the highest that there is
        #[arg(long, value_name = "KEY", value_parser = last_key)]
        to: Option<Key>,
        /// Only those of this inode
        #[arg(long, value_name = "N", conflicts_with_all = ["from", "to"])]
        inode: Option<u64>,
        /// Devices or image files of one volume; of one device, the others are found
        #[arg(value_name = "DEVICE", required = true)]
        devices: Vec<PathBuf>,
    },
    /// The node that lies at a block, whether any tree has it or not
    Node {
        /// The block
        #[arg(value_name = "BLOCK")]
        block: u64,
        /// A device or image file
        #[arg(value_name = "DEVICE")]
        device: PathBuf,
    },
    /// What a block is used for, and by whom
    ///
    /// Of what files hold: which block of which engram it is, whether that lives, whether it is in copies or where in a stripe; which files
    /// name it, all that share it and those of snapshots too, with their paths; and as which block of the file it was written, where the
    /// one that wrote it has it still. Of parity, which stripe, fragment and row. All engrams and stripes are gone through for it.
    Block {
        /// The block, counted from the begin of the device in 4096 bytes
        #[arg(value_name = "BLOCK")]
        block: u64,
        /// The device that it is on, and others of its volume; without them, they are found
        #[arg(value_name = "DEVICE", required = true)]
        devices: Vec<PathBuf>,
    },
}

fn tree(text: &str) -> Result<TreeId, String> {
    match text {
        "space" => Ok(SPACE),
        "names" => Ok(NAMES),
        "engrams" => Ok(ENGRAMS),
        "stripes" => Ok(STRIPES),
        "references" => Ok(REFERENCES),
        "snapshots" => Ok(SNAPSHOTS),
        number => number.parse().map(TreeId).map_err(|_| {
            "space, names, engrams, stripes, references, snapshots, or a number from 0 to 255"
                .to_owned()
        }),
    }
}

fn key(text: &str, missing: u64) -> Result<Key, String> {
    let mut key = [missing; 3];
    let mut places = key.iter_mut();
    for part in text.split(':') {
        let number = u64::from_str_radix(part.trim_start_matches("0x"), 16);
        match (places.next(), number) {
            (Some(place), Ok(number)) => *place = number,
            _ => return Err("up to three hexadecimal numbers, as in 1:0:0".to_owned()),
        }
    }
    Ok(Key(key))
}

fn first_key(text: &str) -> Result<Key, String> {
    key(text, 0)
}

fn last_key(text: &str) -> Result<Key, String> {
    key(text, u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(first_key("1:0x2"), Ok(Key([1, 2, 0])));
        assert_eq!(last_key("ff"), Ok(Key([255, u64::MAX, u64::MAX])));
        for bad in ["", "1:2:3:4", "g", "1::2", "-1", "11111111111111111"] {
            assert!(first_key(bad).is_err(), "{bad}");
        }
        assert_eq!(tree("names"), Ok(NAMES));
        assert_eq!(tree("snapshots"), Ok(SNAPSHOTS));
        assert_eq!(tree("7"), Ok(TreeId(7)));
        assert!(tree("name").is_err());
    }
}
