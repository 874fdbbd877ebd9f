// SPDX-License-Identifier: GPL-2.0

//! What can go wrong, said so that the reader knows what to do. Messages name places on the device; who called knows the
//! device's name and puts it in front.

use crate::env::DeviceError;
use crate::format::root::BadRoot;
use crate::format::superblock::BadSuperblock;
use crate::units::Bytes;
use core::fmt;

pub use embr_rt::NoMem;

/// An error on one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// Memory could not be had.
    NoMemory,
    /// A range of the device could not be read.
    Read(Bytes, DeviceError),
    /// A range of the device could not be written.
    Write(Bytes, DeviceError),
    /// What was written could not be made durable.
    Flush(DeviceError),
    /// No superblock copy has embrfs's magic.
    NotEmbrfs,
    /// Too small to hold even one superblock.
    TooSmall(Bytes),
    /// No copy of the superblock is sound; this is what is wrong with the first that has the magic.
    Superblock(Bytes, BadSuperblock),
    /// Two sound copies of the superblock are of different volumes or devices.
    CopiesDisagree(Bytes),
    /// The device is smaller than the part of it that the volume uses.
    Truncated {
        /// What the device has.
        has: Bytes,
        /// What the volume uses.
        needs: Bytes,
    },
    /// A sealed root that this code does not understand is newer than all that it does.
    UnknownRoot(Bytes, BadRoot),
    /// No sound root on the device; this is what is wrong with the first slot that is not empty.
    NoRoot(BadRoot),
}

/// The kinds of error that callers treat differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Memory could not be had.
    NoMemory,
    /// A device failed.
    Io,
    /// This is not embrfs.
    NotEmbrfs,
    /// Sound, but beyond what this code knows.
    Unsupported,
    /// Damaged.
    Corrupted,
    /// Members that are needed are not there.
    Missing,
    /// The operator has to decide or to name other devices.
    Conflict,
}

impl Error {
    /// A failed read at `at`.
    pub(crate) fn reading(at: Bytes, why: DeviceError) -> Self {
        match why {
            DeviceError::NoMemory => Error::NoMemory,
            why => Error::Read(at, why),
        }
    }

    /// A failed write at `at`.
    pub(crate) fn writing(at: Bytes, why: DeviceError) -> Self {
        match why {
            DeviceError::NoMemory => Error::NoMemory,
            why => Error::Write(at, why),
        }
    }

    /// Which kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::NoMemory | Error::Superblock(_, BadSuperblock::NoMemory) => Kind::NoMemory,
            Error::Read(..) | Error::Write(..) | Error::Flush(_) => Kind::Io,
            Error::NotEmbrfs | Error::TooSmall(_) => Kind::NotEmbrfs,
            Error::Superblock(_, BadSuperblock::Version(_) | BadSuperblock::Features(_)) => {
                Kind::Unsupported
            }
            Error::UnknownRoot(..) => Kind::Unsupported,
            Error::Superblock(..) | Error::Truncated { .. } | Error::NoRoot(_) => Kind::Corrupted,
            Error::CopiesDisagree(_) => Kind::Conflict,
        }
    }
}

impl From<NoMem> for Error {
    fn from(_: NoMem) -> Self {
        Error::NoMemory
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoMemory => f.write_str("out of memory"),
            Error::Read(at, why) => write!(f, "cannot read at byte {at}: {why}"),
            Error::Write(at, why) => write!(f, "cannot write at byte {at}: {why}"),
            Error::Flush(why) => write!(f, "cannot make writes durable: {why}"),
            Error::NotEmbrfs => f.write_str("not an embrfs device (no superblock has its magic)"),
            Error::TooSmall(has) => write!(f, "not an embrfs device ({has} bytes are too few for one)"),
            Error::Superblock(at, why) => write!(f, "superblock at byte {at}: {why}"),
            Error::CopiesDisagree(at) => write!(
                f,
                "the superblock at byte {at} is sound but of another volume or device than the first: \
                 the device was partly overwritten with another one's contents"
            ),
            Error::Truncated { has, needs } => {
                write!(f, "the device has {has} bytes, but the volume uses {needs}: it was shrunk or is another device")
            }
            Error::UnknownRoot(at, why) => write!(
                f,
                "the newest root, at byte {at}, is not understood here ({why}): use a newer embrfs"
            ),
            Error::NoRoot(BadRoot::Empty) => f.write_str("no root was ever written: making the volume was interrupted; run mkfs.embrfs again"),
            Error::NoRoot(why) => write!(f, "no sound root: {why}"),
        }
    }
}
