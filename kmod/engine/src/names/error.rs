// SPDX-License-Identifier: GPL-2.0

//! Why something could not be done with names. Each variant is one error number of Linux.

use crate::error::NoMem;
use crate::format::inode::BadInode;
use crate::names::item::Item;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::StripeId;
use crate::volume::mounted::Fault;
use core::fmt;

/// Why something could not be done with names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// There is no such name or file (ENOENT).
    NotFound,
    /// There is such a name already (EEXIST).
    Exists,
    /// Only a directory will do (ENOTDIR).
    NotDirectory,
    /// Anything but a directory will do (EISDIR).
    IsDirectory,
    /// There are names in the directory (ENOTEMPTY).
    NotEmpty,
    /// The name is too long (ENAMETOOLONG).
    NameTooLong,
    /// It makes no sense: a directory into itself, an empty name (EINVAL).
    Invalid,
    /// Nobody may: a second name for a directory (EPERM).
    NotPermitted,
    /// The file has as many names as there can be (EMLINK).
    TooManyLinks,
    /// There is no place for it (ENOSPC).
    NoSpace,
    /// Beyond the largest size that a file can have (EFBIG).
    TooBig,
    /// The file has no such extended attribute (ENODATA).
    NoAttribute,
    /// Longer than an extended attribute can be (E2BIG).
    TooLong,
    /// No copy of this block of the file is sound (EIO).
    Lost(InodeNo, FileBlock),
    /// An engram's items are damaged (EFSCORRUPTED).
    Engram(EngramId, Wrong),
    /// It is used by others (EBUSY).
    Busy,
    /// Less of this engram survives than is to of who would name it: nobody is told (ENOSPC).
    Weak(EngramId),
    /// What is known of a snapshot is damaged (EFSCORRUPTED).
    Snapshot(SnapshotId, Wrong),
    /// A stripe's items are damaged (EFSCORRUPTED).
    Stripe(StripeId, Wrong),
    /// The file holds something that this version does not understand (EOPNOTSUPP).
    NotUnderstood(Item),
    /// An item is damaged (EFSCORRUPTED).
    Corrupted(Damage),
    /// The volume failed.
    Fault(Fault),
}

/// An item that is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The item; it says whose.
    pub item: Item,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What is wrong with an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It is not there, though others name it.
    Missing,
    /// It is no inode.
    Inode(BadInode),
    /// It makes no sense.
    Senseless,
    /// It does not agree with what others say: a count, a type, a name.
    Disagrees,
    /// A directory is its own ancestor.
    Circle,
}

impl Damage {
    /// Whose item it is.
    pub fn inode(&self) -> InodeNo {
        self.item.owner()
    }
}

impl Error {
    /// Whether it is what lies on the volume that is wrong, which trying again does not change.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Error::Lost(..)
                | Error::Engram(..)
                | Error::Stripe(..)
                | Error::Snapshot(..)
                | Error::NotUnderstood(_)
                | Error::Corrupted(_)
                | Error::Fault(Fault::Tree(_) | Fault::Space(_) | Fault::SpaceItem(_))
        )
    }

    /// This is wrong with this item.
    pub(crate) fn damaged(item: Item, wrong: Wrong) -> Self {
        match wrong {
            Wrong::Inode(BadInode::NoMemory) => Error::Fault(Fault::NoMemory),
            wrong => Error::Corrupted(Damage { item, wrong }),
        }
    }
}

impl From<Fault> for Error {
    fn from(why: Fault) -> Self {
        match why {
            Fault::NoSpace => Error::NoSpace,
            why => Error::Fault(why),
        }
    }
}

impl From<NoMem> for Error {
    fn from(_: NoMem) -> Self {
        Error::Fault(Fault::NoMemory)
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Missing => f.write_str("it is missing"),
            Wrong::Inode(why) => why.fmt(f),
            Wrong::Senseless => f.write_str("it makes no sense"),
            Wrong::Disagrees => f.write_str("it disagrees with other items"),
            Wrong::Circle => f.write_str("the directory is its own ancestor"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound => f.write_str("no such file or directory"),
            Error::Exists => f.write_str("the name exists"),
            Error::NotDirectory => f.write_str("not a directory"),
            Error::IsDirectory => f.write_str("a directory"),
            Error::NotEmpty => f.write_str("the directory is not empty"),
            Error::NameTooLong => f.write_str("the name is too long"),
            Error::Invalid => f.write_str("this makes no sense"),
            Error::NotPermitted => f.write_str("not permitted"),
            Error::TooManyLinks => f.write_str("too many names for one file"),
            Error::NoSpace => f.write_str("no space left"),
            Error::TooBig => f.write_str("larger than a file can be"),
            Error::NoAttribute => f.write_str("no such extended attribute"),
            Error::TooLong => f.write_str("longer than an extended attribute can be"),
            Error::Busy => f.write_str("in use"),
            Error::Weak(engram) => write!(
                f,
                "engram {engram} survives the loss of fewer devices than the file is to: attach missing devices, or make room, and try again"
            ),
            Error::Snapshot(id, wrong) => {
                write!(f, "what is known of snapshot {id} is damaged: {wrong}; run fsck.embrfs")
            }
            // Of what moves it is not known whose it is.
            Error::Lost(InodeNo::NONE, _) => f.write_str(
                "a block of a stripe is lost: attach missing devices, or run fsck.embrfs --data to see whose it is",
            ),
            Error::Lost(inode, block) => write!(
                f,
                "inode {inode}: block {block} is lost, as nothing gives it back: attach missing devices, or restore the file from a backup"
            ),
            Error::Stripe(stripe, wrong) => {
                write!(f, "what is known of stripe {stripe} is damaged: {wrong}; run fsck.embrfs")
            }
            Error::Engram(engram, wrong) => {
                write!(f, "engram {engram}: an item: {wrong}; run fsck.embrfs")
            }
            Error::NotUnderstood(item) => write!(
                f,
                "inode {}: item {:#x}:{:#x} is of a kind that is not understood here: use a newer embrfs",
                item.owner(),
                item.kind().0,
                item.sub()
            ),
            Error::Corrupted(damage) => write!(
                f,
                "inode {}: item {:#x}:{:#x}: {}; run fsck.embrfs",
                damage.inode(),
                damage.item.kind().0,
                damage.item.sub(),
                damage.wrong
            ),
            Error::Fault(why) => why.fmt(f),
        }
    }
}
