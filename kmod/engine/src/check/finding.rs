// SPDX-License-Identifier: GPL-2.0

//! What a check can find, each with all that is known of where it is.

use super::data::Defect;
use super::references::Miscount;
use super::stripes::Flaw;
use crate::format::engram;
use crate::format::inode::BadInode;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::format::reference;
use crate::format::stripe;
use crate::names::Item;
use crate::names::Kind;
use crate::names::Wrong;
use crate::tree::error::Spot;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::EngramId;
use crate::units::Generation;
use crate::units::InodeNo;
use crate::units::Level;
use crate::units::SnapshotId;
use crate::units::StripeId;
use crate::units::TreeId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::REFERENCES;
use crate::volume::mounted::SNAPSHOTS;
use crate::volume::mounted::STRIPES;
use core::fmt;

/// Something that is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// While the volume was mounted to be looked at; it went on without this.
    Mount(Fault),
    /// The newest root on this device, at this place, names other trees than the volume was mounted with.
    Root(Slot, Bytes),
    /// The top of a tree is newer than the root that names it.
    Newer(TreeId, Generation),
    /// A copy of a node is bad; another one is sound.
    Copy(TreeError, Range),
    /// A node, and all below it, is lost: these keys.
    Lost(TreeError, Range),
    /// A node that is emptier than a merge leaves any: no damage, but whoever wrote it has an error.
    UnderFull(Use, Slot, Blocks),
    /// Blocks that lie beyond the end of their device.
    Beyond(Use, Extent),
    /// Blocks of a device that the volume does not have.
    NoDevice(Use, Extent),
    /// Blocks that something else uses as well.
    Overlap(Use, Extent),
    /// Two copies of one thing on this device: both go with it.
    Together(Use, Slot),
    /// So many devices have a copy of a thing, but so many should; and there is no reason for that.
    TooFew(Use, usize, usize),
    /// The same, but a device was lost or did not take it: what is written meanwhile has fewer copies.
    Fewer(Use, usize, usize),
    /// Blocks that are said to be in use, but nothing uses them.
    Unused(Extent),
    /// Blocks that are said to be free, but something uses them.
    Used(Extent),
    /// Blocks of an engram that are said to live, but no file has them.
    Unnamed(Extent),
    /// The root says that this tree has so many nodes; it has so many.
    Nodes(TreeId, u64, u64),
    /// A copy of blocks of a file that does not read as it was written.
    Rotten(Item, Extent),
    /// Blocks of a stripe that do not read as they were written.
    RottenStripe(StripeId, Extent),
    /// An engram.
    Engram(EngramId, Defect),
    /// What is said of the shared blocks of an engram.
    Reference(EngramId, Miscount),
    /// A stripe.
    Stripe(StripeId, Flaw),
    /// A snapshot, or what is its own.
    Snapshot(SnapshotId, Oddity),
    /// An item of the tree of names.
    Names(Item, Trouble),
}

/// What is wrong with a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Oddity {
    /// Its node.
    Node(Wrong),
    /// What is at this key makes no sense.
    Senseless(Key),
    /// It has a version of this item, and does not say that it touched it.
    NotNoted(Item),
    /// It has a version of this item that a newer one of its own hides, and nothing is to be swept.
    Hidden(Item),
    /// It says that this item is gone, which is not there anyway.
    Idle(Item),
}

/// What blocks are used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// The system area with this number.
    Area(usize),
    /// The journal.
    Journal,
    /// A node of this tree and level, with this first key.
    Node(TreeId, Level, Key),
    /// Blocks of this engram.
    Engram(EngramId),
    /// A fragment of this stripe.
    Stripe(StripeId),
    /// Something that no item names; only tests have it.
    Held,
}

/// What is wrong with an item of the tree of names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// It is of no kind that is known here, or has a place that its kind does not have.
    Unknown,
    /// It is of a snapshot that does not exist.
    Version(u64),
    /// It is no inode.
    Inode(BadInode),
    /// It makes no sense.
    Senseless,
    /// It belongs to an inode that is not there.
    NoInode,
    /// An inode with a number that was never set aside, of which this is the lowest.
    Number(InodeNo),
    /// It does not lie where its name's hash says.
    Place,
    /// The same name, or parent, is there twice.
    Twice,
    /// An entry that leads to an inode that is not there.
    Nowhere(InodeNo),
    /// An entry that leads to an inode of another type.
    Type(InodeNo),
    /// An entry that leads to an inode of another generation.
    Generation(InodeNo),
    /// An entry that leads to an inode which does not have it among its parents.
    NoParent(InodeNo),
    /// A parent of which that directory knows nothing.
    NoEntry(InodeNo),
    /// A parent whose name leads to another inode in that directory.
    OtherEntry(InodeNo),
    /// An item that only a directory has.
    NotDirectory,
    /// An item that only a regular file has.
    NotRegular,
    /// Blocks of a file that lie in the tree and in an engram at once.
    TwoPlaces,
    /// An extent in an engram that is not there, or shorter.
    NoEngram(EngramId),
    /// An extent of which a block is said to be dead.
    Dead(EngramId),
    /// An extent of which a block has another owner or none.
    NotOwned(EngramId),
    /// An extent of which a block is said to be shared, but not by this file.
    NotCounted(EngramId),
    /// Places that were set aside, of which a block is said to be shared.
    SharedUnwritten(EngramId),
    /// An extent that survives so many losses, where the file is to survive that many.
    Weak(EngramId, u8, u8),
    /// An extent of which a block has no hash.
    NoHash(EngramId),
    /// An extent with a block that another one has as well.
    NamedTwice(EngramId),
    /// An attribute of whose value this piece is not there.
    NoPiece(usize),
    /// A piece of no attribute's value.
    NoAttribute,
    /// A piece that has so many bytes, but should have that many.
    Piece(usize, usize),
    /// The link count is this, but should be that.
    Links(u32, u64),
    /// The number of entries, or of a file's blocks, is this, but that many are there.
    Entries(u64, u64),
    /// A directory with this many parents: one is right, none for the root.
    Parents(u64),
    /// An inode without a name that is not in the list of orphans.
    NotListed,
    /// The list of orphans names an inode that is not there, or has a name.
    Listed(InodeNo),
    /// A directory that is not below the root.
    Unreachable,
    /// There is no item that says which numbers were never set aside.
    NoCounter,
    /// There is no root directory.
    NoRoot,
}

impl Finding {
    /// Whether something is lost or wrong; else there is no more to it than an error in who wrote it, or a device that was lost.
    pub fn is_damage(&self) -> bool {
        !matches!(
            self,
            Finding::UnderFull(..) | Finding::Fewer(..) | Finding::Nodes(..)
        )
    }

    fn spot(&self) -> Option<&Spot> {
        match self {
            Finding::Copy(why, _) | Finding::Lost(why, _) | Finding::Mount(Fault::Tree(why)) => {
                match why {
                    TreeError::Io(spot, _) | TreeError::Corrupt(spot, _) => Some(spot),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The device that it concerns.
    pub fn device(&self) -> Option<Slot> {
        match self {
            Finding::Root(slot, _)
            | Finding::UnderFull(_, slot, _)
            | Finding::Together(_, slot) => Some(*slot),
            Finding::Mount(Fault::Space(e))
            | Finding::Beyond(_, e)
            | Finding::NoDevice(_, e)
            | Finding::Overlap(_, e)
            | Finding::Unused(e)
            | Finding::Unnamed(e)
            | Finding::Rotten(_, e)
            | Finding::RottenStripe(_, e)
            | Finding::Used(e) => Some(e.device),
            _ => self.spot().map(|s| s.device),
        }
    }

    /// The first block that it concerns.
    pub fn block(&self) -> Option<Blocks> {
        match self {
            Finding::Root(_, at) => Some(at.whole_blocks()),
            Finding::UnderFull(_, _, block) => Some(*block),
            Finding::Mount(Fault::Space(e))
            | Finding::Beyond(_, e)
            | Finding::NoDevice(_, e)
            | Finding::Overlap(_, e)
            | Finding::Unused(e)
            | Finding::Unnamed(e)
            | Finding::Rotten(_, e)
            | Finding::RottenStripe(_, e)
            | Finding::Used(e) => Some(e.start),
            _ => self.spot().map(|s| s.at.whole_blocks()),
        }
    }

    /// The tree that it concerns.
    pub fn tree(&self) -> Option<TreeId> {
        match self {
            Finding::Newer(tree, _) | Finding::Nodes(tree, ..) => Some(*tree),
            Finding::UnderFull(what, ..)
            | Finding::Beyond(what, _)
            | Finding::NoDevice(what, _)
            | Finding::Overlap(what, _)
            | Finding::Together(what, _)
            | Finding::TooFew(what, ..)
            | Finding::Fewer(what, ..) => what.tree(),
            Finding::Mount(Fault::SpaceItem(_)) => Some(crate::volume::mounted::SPACE),
            Finding::Names(..) | Finding::Rotten(..) => Some(NAMES),
            Finding::Engram(..) => Some(ENGRAMS),
            Finding::Reference(..) => Some(REFERENCES),
            Finding::Snapshot(_, Oddity::Hidden(_) | Oddity::Idle(_)) => Some(NAMES),
            Finding::Snapshot(..) => Some(SNAPSHOTS),
            Finding::Stripe(..) | Finding::RottenStripe(..) => Some(STRIPES),
            _ => self.spot().map(|s| s.tree),
        }
    }

    /// The key that it concerns.
    pub fn key(&self) -> Option<Key> {
        match self {
            Finding::UnderFull(what, ..)
            | Finding::Beyond(what, _)
            | Finding::NoDevice(what, _)
            | Finding::Overlap(what, _)
            | Finding::Together(what, _)
            | Finding::TooFew(what, ..)
            | Finding::Fewer(what, ..) => what.key(),
            Finding::Mount(Fault::SpaceItem(key)) => Some(*key),
            Finding::Names(item, _) | Finding::Rotten(item, _) => Some(item.at(SnapshotId::FIRST)),
            Finding::Snapshot(id, Oddity::Hidden(item) | Oddity::Idle(item)) => Some(item.at(*id)),
            Finding::Snapshot(id, odd) => Some(odd.key(*id)),
            Finding::Engram(engram, Defect::Senseless(key)) if key.0[0] == engram.0 => Some(*key),
            Finding::Engram(engram, _) => Some(engram::all(*engram).first),
            Finding::Reference(_, Miscount::Senseless(key)) => Some(*key),
            Finding::Reference(engram, _) => Some(reference::all(*engram).first),
            Finding::Stripe(_, Flaw::Senseless(key)) => Some(*key),
            Finding::Stripe(stripe, _) | Finding::RottenStripe(stripe, _) => {
                Some(stripe::all(*stripe).first)
            }
            Finding::Copy(_, keys) | Finding::Lost(_, keys) => Some(keys.first),
            _ => None,
        }
    }

    /// The inode that it concerns.
    pub fn inode(&self) -> Option<InodeNo> {
        match self {
            Finding::Names(_, Trouble::Listed(number)) => Some(*number),
            Finding::Reference(_, Miscount::User(inode, ..)) => Some(*inode),
            Finding::Names(item, _) | Finding::Rotten(item, _) => {
                Some(item.owner()).filter(|n| *n != InodeNo::NONE)
            }
            _ => None,
        }
    }

    /// A word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::Mount(_) => "mount",
            Finding::Root(..) => "root",
            Finding::Newer(..) => "newer",
            Finding::Copy(..) => "copy",
            Finding::Lost(..) => "lost",
            Finding::UnderFull(..) => "underfull",
            Finding::Beyond(..) => "beyond",
            Finding::NoDevice(..) => "no-device",
            Finding::Overlap(..) => "overlap",
            Finding::Together(..) => "together",
            Finding::TooFew(..) => "too-few",
            Finding::Fewer(..) => "fewer",
            Finding::Unused(_) => "unused",
            Finding::Used(_) => "used",
            Finding::Unnamed(_) => "unnamed",
            Finding::Nodes(..) => "node-count",
            Finding::Rotten(..) | Finding::RottenStripe(..) => "rotten",
            Finding::Engram(..) => "engram",
            Finding::Reference(..) => "reference",
            Finding::Snapshot(..) => "snapshot",
            Finding::Stripe(..) => "stripe",
            Finding::Names(..) => "names",
        }
    }
}

impl Use {
    fn tree(&self) -> Option<TreeId> {
        match self {
            Use::Node(tree, ..) => Some(*tree),
            _ => None,
        }
    }

    fn key(&self) -> Option<Key> {
        match self {
            Use::Node(_, _, key) => Some(*key),
            _ => None,
        }
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Area(number) => write!(f, "system area {number}"),
            Use::Journal => f.write_str("the journal"),
            Use::Node(tree, level, key) => {
                write!(
                    f,
                    "a node of tree {tree}, level {level}, with keys from {key}"
                )
            }
            Use::Engram(engram) => write!(f, "engram {engram}"),
            Use::Stripe(stripe) => write!(f, "stripe {stripe}"),
            Use::Held => f.write_str("data"),
        }
    }
}

/// Blocks, for people.
struct Shown<'a>(&'a Extent);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Extent {
            device,
            start,
            blocks,
        } = self.0;
        match blocks.0 {
            1 => write!(f, "block {start}")?,
            n => write!(
                f,
                "blocks {start} to {}",
                start.0.saturating_add(n).saturating_sub(1)
            )?,
        }
        write!(f, " of the device in slot {}", device.index())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Mount(why) => why.fmt(f),
            Finding::Root(slot, at) => write!(
                f,
                "the newest root at byte {at} of the device in slot {} names other trees than its copies",
                slot.index()
            ),
            Finding::Newer(tree, generation) => {
                write!(f, "tree {tree}: its top is of generation {generation}, which is newer than the root")
            }
            Finding::Copy(why, _) => write!(f, "{why}; another copy is sound"),
            Finding::Lost(why, keys) => write!(
                f,
                "{why}; no copy is sound; keys {} to {} are lost",
                keys.first, keys.last
            ),
            Finding::UnderFull(what, slot, block) => write!(
                f,
                "{what}, at block {block} of the device in slot {}, is emptier than it should be; nothing is lost",
                slot.index()
            ),
            Finding::Beyond(what, e) => write!(f, "{} lie beyond its end: {what}", Shown(e)),
            Finding::NoDevice(what, e) => {
                write!(f, "{} are used, which the volume does not have: {what}", Shown(e))
            }
            Finding::Overlap(what, e) => write!(f, "{} are used twice, once by {what}", Shown(e)),
            Finding::Together(what, slot) => write!(
                f,
                "two copies of {what} are on the device in slot {}, and would be lost with it",
                slot.index()
            ),
            Finding::TooFew(what, has, wanted) => {
                write!(f, "{what} has copies on {has} of {wanted} devices")
            }
            Finding::Fewer(what, has, wanted) => write!(
                f,
                "{what} has copies on {has} of {wanted} devices: it was written while one was not here or failed"
            ),
            Finding::Unused(e) => write!(f, "{} are said to be in use, but nothing uses them", Shown(e)),
            Finding::Used(e) => write!(f, "{} are said to be free, but are in use", Shown(e)),
            Finding::Nodes(tree, said, there) => {
                write!(f, "tree {tree} has {there} nodes, the root says {said}")
            }
            Finding::Unnamed(e) => write!(f, "{} are said to live, but no file has them", Shown(e)),
            Finding::Rotten(item, e) => write!(
                f,
                "inode {}: {} do not read as they were written",
                item.owner(),
                Shown(e)
            ),
            Finding::RottenStripe(stripe, e) => write!(
                f,
                "stripe {stripe}: {} do not read as they were written",
                Shown(e)
            ),
            Finding::Engram(engram, defect) => write!(f, "engram {engram}: {defect}"),
            Finding::Reference(engram, what) => write!(f, "engram {engram}: {what}"),
            Finding::Stripe(stripe, flaw) => write!(f, "stripe {stripe}: {flaw}"),
            Finding::Snapshot(id, odd) => write!(f, "snapshot {id}: {odd}"),
            Finding::Names(item, trouble) => {
                match item.owner() {
                    InodeNo::NONE => f.write_str("names")?,
                    inode => write!(f, "inode {inode}")?,
                }
                match item.kind() {
                    Kind::INODE => f.write_str(": ")?,
                    Kind::PARENT => write!(f, ", parents at {:#x}: ", item.sub())?,
                    Kind::ENTRY => write!(f, ", entry at {:#x}: ", item.sub())?,
                    Kind::ATTRIBUTE => write!(f, ", attribute at {:#x}: ", item.sub())?,
                    Kind::PIECE => write!(f, ", piece of an attribute at {:#x}: ", item.sub())?,
                    kind => write!(f, ", item {:#x}:{:#x}: ", kind.0, item.sub())?,
                }
                trouble.fmt(f)
            }
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Defect::Senseless(key) => write!(f, "its item {key} makes no sense"),
            Defect::NoMap => f.write_str("nothing says where it lies"),
            Defect::NoLive => f.write_str("nothing says what of it lives"),
            Defect::Dead => f.write_str("nothing of it lives"),
            Defect::Owners => f.write_str("a block has two owners"),
            Defect::Unowned => f.write_str("what lives and what has an owner are not the same"),
            Defect::Pieces => f.write_str("it does not lie in the stripes that it names"),
            Defect::Parts => f.write_str("nothing says where some of what lives of it lies"),
            Defect::Number => f.write_str("its number was not given out"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Unknown => f.write_str("it is of no kind that is known here"),
            Trouble::Version(id) => write!(f, "it is of snapshot {id}, which does not exist"),
            Trouble::Inode(why) => why.fmt(f),
            Trouble::Senseless => f.write_str("it makes no sense"),
            Trouble::NoInode => f.write_str("there are items of this inode, but not the inode"),
            Trouble::Number(next) => write!(f, "its number was not given out: {next} is the next"),
            Trouble::Place => f.write_str("it does not lie where the hash of its name says"),
            Trouble::Twice => f.write_str("the same name is there twice"),
            Trouble::Nowhere(to) => write!(f, "it leads to inode {to}, which is not there"),
            Trouble::Type(to) => write!(f, "it leads to inode {to}, which is of another type"),
            Trouble::Generation(to) => {
                write!(f, "it leads to inode {to}, which is of another generation")
            }
            Trouble::NoParent(to) => {
                write!(f, "it leads to inode {to}, which does not know of it")
            }
            Trouble::NoEntry(directory) => {
                write!(f, "there is no such entry in directory {directory}")
            }
            Trouble::OtherEntry(directory) => {
                write!(
                    f,
                    "the entry in directory {directory} leads to another inode"
                )
            }
            Trouble::NotDirectory => f.write_str("an entry of what is no directory"),
            Trouble::NotRegular => f.write_str("contents of what is no regular file"),
            Trouble::TwoPlaces => f.write_str("blocks lie in the tree and in an engram at once"),
            Trouble::NoEngram(engram) => {
                write!(
                    f,
                    "it names blocks of engram {engram}, which does not have them"
                )
            }
            Trouble::Dead(engram) => write!(f, "it names blocks of engram {engram} that are dead"),
            Trouble::NotOwned(engram) => {
                write!(
                    f,
                    "it names blocks of engram {engram} that are not this file's"
                )
            }
            Trouble::NotCounted(engram) => {
                write!(
                    f,
                    "it names blocks of engram {engram} that others have as well, and is not counted among those: remove nothing before \
                     that is repaired"
                )
            }
            Trouble::SharedUnwritten(engram) => {
                write!(
                    f,
                    "places of engram {engram} that were set aside for it are said to be shared: do not write to it before that is repaired"
                )
            }
            Trouble::Weak(engram, has, wanted) => {
                write!(
                    f,
                    "engram {engram} of it survives {has} losses, the file is to survive {wanted}"
                )
            }
            Trouble::NoHash(engram) => {
                write!(f, "it names blocks of engram {engram} that have no hash")
            }
            Trouble::NamedTwice(engram) => {
                write!(
                    f,
                    "it names blocks of engram {engram} that something else has as well"
                )
            }
            Trouble::NoPiece(number) => write!(f, "piece {number} of its value is not there"),
            Trouble::NoAttribute => f.write_str("no attribute has this piece of a value"),
            Trouble::Piece(has, wanted) => {
                write!(f, "it has {has} bytes of a value, but should have {wanted}")
            }
            Trouble::Links(has, counted) => {
                write!(f, "its link count is {has}, but should be {counted}")
            }
            Trouble::Entries(has, counted) => {
                write!(f, "it counts {has} entries or blocks, but has {counted}")
            }
            Trouble::Parents(count) => write!(f, "a directory with {count} parents"),
            Trouble::NotListed => f.write_str("it has no name, and is not in the list of orphans"),
            Trouble::Listed(number) => write!(
                f,
                "the list of orphans has inode {number}, which is not there or has a name"
            ),
            Trouble::Unreachable => f.write_str("this directory is not below the root"),
            Trouble::NoCounter => f.write_str("it is not said which numbers were given out"),
            Trouble::NoRoot => f.write_str("there is no root directory"),
        }
    }
}
