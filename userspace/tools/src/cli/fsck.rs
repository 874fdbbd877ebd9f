// SPDX-License-Identifier: GPL-2.0

//! The command line of fsck.embrfs.

use super::sections;
use super::Section;
use clap::Parser;
use embr_engine::units::Bytes;
use std::path::PathBuf;

/// What stands below the options.
pub const SECTIONS: &[Section] = &[
    (
        "Examples",
        "fsck.embrfs /dev/vdb             check the volume that /dev/vdb belongs to, ask before each repair\n\
         fsck.embrfs -n /dev/vdb          only look\n\
         fsck.embrfs -y a.img b.img       check a volume in image files, repair without asking\n\
         fsck.embrfs --repair -n a.img    tell what a repair of trees and names would do\n\
         fsck.embrfs --repair a.img       do it",
    ),
    (
        "Check",
        "devices        every copy of the superblock, every root, and whether the devices make a volume\n\
         nodes          every copy of every node of every tree, and the journal behind the newest root\n\
         free space     each block has one use, copies lie on as many devices as they should, and free is\n\
         \x20              what is left\n\
         engrams        where they lie, what of them lives, whose it is and its hashes, against what files\n\
         \x20              name\n\
         references     what is said of blocks that several files name, against what they name\n\
         stripes        what they hold, against what engrams say lies there; what of them lives; lists and\n\
         \x20              sums\n\
         snapshots      snapshots and heads: what was touched in each, and versions that nobody sees\n\
         names          inodes, links, directories and attributes, as each snapshot and head sees them\n\
         data           with --data: all that files hold, every copy, and all of each stripe, parity and\n\
         \x20              what is dead too",
    ),
    (
        "Repair",
        "With --repair, what is wrong in trees and names is put right where it follows from the rest, and\n\
         each thing that is done is told:\n\
         nodes          a bad copy is written again from one that is sound\n\
         free space     from all that is in use; what two have is never freed, and its tree is written anew\n\
         \x20              if it is lost\n\
         engrams        what lives, and whose it is, from what files name; what no file names gives back\n\
         \x20              its room; where one lies, if that is lost, from the stripes that hold it\n\
         references     what is said of blocks that several files name is counted anew\n\
         stripes        what of them lives, where they are listed as wasteful, the sums; what a fragment\n\
         \x20              holds, if that is lost, from the engrams that lie there\n\
         snapshots      what was touched in one is noted where it is not; versions that nobody sees are\n\
         \x20              removed\n\
         inodes         links, entries and blocks are counted again; an inode that is missing is made from\n\
         \x20              its items, for root alone\n\
         names          entries in wrong places, twice, of another type or without an inode; what inodes\n\
         \x20              say of their names\n\
         attributes     those in wrong places, or twice\n\
         lost+found     gets what has no name, as #NUMBER, in the root directory, where it is made if it is\n\
         \x20              not there\n\
         lists          of files without a name, of operations that go on, of numbers that were given out\n\
         \n\
         Nothing that could be read before cannot be read after. It may be cut short at any moment; running\n\
         it again goes on. All members have to be there.\n\
         \n\
         Names are mended in each head, as it sees them. What a snapshot shows stays as it is, but for\n\
         counts that are wrong for all who see them. Where what is said of the snapshots makes no sense,\n\
         names are left alone.\n\
         \n\
         Items that make no sense stay, unless --drop-senseless is given. Where a node of the trees of\n\
         names, engrams, stripes, references or snapshots is lost, only free space and bad copies of nodes\n\
         are repaired: what is in use is kept from being given out, and nothing is freed.\n\
         \n\
         Data and parity that rotted, and extents that name what is not there, stay as they are; what\n\
         neither copies nor parity give back cannot be read. For what is left: embrfs-admin extract copies\n\
         all that can be read to another place.\n\
         \n\
         Its memory is that of --memory, and what one engram takes that files name more often than fits\n\
         into it.",
    ),
    (
        "Exit status",
        "0   no errors\n\
         1   errors were corrected\n\
         4   errors were left uncorrected; with -n, all that were found\n\
         8   operational error: a device cannot be read, is in use, is no embrfs, or is a later version's\n\
         16  the command line is wrong\n\
         32  cancelled at a question\n\
         The code is the sum of what applies.",
    ),
];

/// Check and repair an embrfs volume.
///
/// Checks every superblock copy and every root of every device, and whether the devices make a volume. Then, from the
/// newest root and the journal behind it, checks all trees, what each block is used for, and what they say of files, engrams, stripes
/// and snapshots (see Check). Damaged or old superblock copies are written again from the newest, damaged roots from their second copy. What a later
/// version of embrfs wrote is left alone. A volume in use is checked, but never repaired: mounted, or with a member
/// that something else holds, or an image file under a loop device; of a mounted volume, trees and names are not checked.
///
/// One device is enough: the others of its volume are found by UUID. Without -n, -p or -y, repairs are asked
/// for on a terminal, and left undone elsewhere. What is wrong in trees and names is repaired with --repair alone (see Repair).
#[derive(Parser, Debug)]
#[command(name = "fsck.embrfs", bin_name = "fsck.embrfs", version, styles = super::PLAIN, after_long_help = sections(SECTIONS))]
pub struct Args {
    /// Only look: answer every question with no
    #[arg(short = 'n', long, conflicts_with_all = ["preen", "yes"])]
    pub dry_run: bool,

    /// Repair what is safe without asking, as at boot (all that there is to repair now is safe)
    #[arg(short = 'p', long, visible_short_alias = 'a', conflicts_with = "yes")]
    pub preen: bool,

    /// Answer every question with yes
    #[arg(short = 'y', long)]
    pub yes: bool,

    /// Repair trees and names as well, without asking; with -n, only tell what would be done at first (see Repair)
    #[arg(long)]
    pub repair: bool,

    /// With --repair, remove items that make no sense, and what is left of inodes of which nothing says what they were
    #[arg(long, requires = "repair")]
    pub drop_senseless: bool,

    /// Check even if it seems clean; accepted for fsck(8), embrfs is always checked in full
    #[arg(short, long)]
    pub force: bool,

    /// Say more
    #[arg(short, long)]
    pub verbose: bool,

    /// Do not look for other devices of the volume
    #[arg(long)]
    pub only: bool,

    /// Print one JSON document
    #[arg(long)]
    pub json: bool,

    /// Read all that files hold as well, every copy of it and all of each stripe, and compare the hashes
    #[arg(long)]
    pub data: bool,

    /// Show on a terminal how far the check is
    #[arg(long)]
    pub progress: bool,

    /// Memory for what grows with the volume, free space included (64 bytes for each MiB of it); with less it takes longer. Without
    /// this, 256M and what free space takes
    #[arg(long, value_name = "BYTES", value_parser = super::mkfs::size)]
    pub memory: Option<Bytes>,

    /// Progress to a file descriptor, as fsck(8) asks for; ignored
    #[arg(short = 'C', value_name = "FD", hide = true, num_args = 0..=1, require_equals = true)]
    pub progress_to: Option<Option<i32>>,

    /// Devices or image files of one volume
    #[arg(required = true, value_name = "DEVICE")]
    pub devices: Vec<PathBuf>,
}
