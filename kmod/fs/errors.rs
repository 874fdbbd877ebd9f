// SPDX-License-Identifier: GPL-2.0

//! From the engine's errors to errno, and from errno to words.

use core::fmt;
use embr_engine::{
    error::Kind,
    names,
    tree::TreeError,
    volume::mounted::Fault, //
};
use kernel::prelude::*;

/// The errno for a kind of error. The reason itself is in the log.
pub(crate) fn errno(kind: Kind) -> Error {
    match kind {
        Kind::NoMemory => ENOMEM,
        Kind::Io => EIO,
        // mount(8) tries another type, or says "wrong fs type".
        Kind::NotEmbrfs => EINVAL,
        Kind::Unsupported => EOPNOTSUPP,
        Kind::Corrupted => EUCLEAN,
        Kind::Missing => ENXIO,
        Kind::Conflict => EINVAL,
    }
}

/// The errno for what went wrong with a file.
pub(crate) fn file_errno(why: &names::Error) -> Error {
    match why {
        names::Error::NotFound => ENOENT,
        names::Error::Exists => EEXIST,
        names::Error::NotDirectory => ENOTDIR,
        names::Error::IsDirectory => EISDIR,
        names::Error::NotEmpty => ENOTEMPTY,
        names::Error::NameTooLong => ENAMETOOLONG,
        names::Error::Invalid => EINVAL,
        names::Error::Busy => EBUSY,
        names::Error::NotPermitted => EPERM,
        names::Error::TooManyLinks => EMLINK,
        names::Error::NoSpace | names::Error::Weak(_) => ENOSPC,
        names::Error::TooBig => EFBIG,
        names::Error::NoAttribute => ENODATA,
        names::Error::TooLong => E2BIG,
        names::Error::Lost(..) => EIO,
        names::Error::NotUnderstood(_) => EOPNOTSUPP,
        names::Error::Corrupted(_)
        | names::Error::Engram(..)
        | names::Error::Stripe(..)
        | names::Error::Snapshot(..) => EUCLEAN,
        names::Error::Fault(why) => fault_errno(why),
    }
}

/// The errno for what went wrong with a volume.
pub(crate) fn fault_errno(why: &Fault) -> Error {
    match why {
        Fault::NoMemory => ENOMEM,
        Fault::NoSpace => ENOSPC,
        Fault::ReadOnly => EROFS,
        Fault::Members | Fault::Stopped => EIO,
        Fault::TooLarge => EFBIG,
        // To this mount(8) answers by mounting read-only.
        Fault::Degraded | Fault::Features(_) | Fault::UnknownTree(_) => EROFS,
        Fault::JournalUnread(_) | Fault::RootUnread | Fault::RootBefore(_) => EIO,
        Fault::Tree(TreeError::Io(..) | TreeError::Write(..)) => EIO,
        Fault::SpaceLost(TreeError::Io(..)) => EIO,
        Fault::NoRoot
        | Fault::Tree(_)
        | Fault::Space(_)
        | Fault::SpaceItem(_)
        | Fault::SpaceLost(_)
        | Fault::Shrunk(_)
        | Fault::DeviceTable
        | Fault::JournalLost(_)
        | Fault::JournalRecord(_) => EUCLEAN,
    }
}

/// Why a device cannot be opened.
pub(crate) struct OpenFailure(pub(crate) Error);

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            e if e == ENOENT => "there is no such file",
            e if e == ENOTBLK => "not a block device",
            e if e == ENXIO || e == ENODEV => "there is no such device",
            e if e == EACCES || e == EPERM => "permission denied",
            e if e == EBUSY => {
                "in use: mounted, or held by something else such as md, dm or another file system"
            }
            e => return write!(f, "{e:?}"),
        };
        f.write_str(text)
    }
}

impl OpenFailure {
    /// Whether a disk that broke, vanished or was put to other use can be the reason. A failing driver may say anything; these
    /// are what it does not say.
    pub(crate) fn can_be_the_disk(&self) -> bool {
        ![ENOTBLK, EACCES, EPERM, ENOMEM, EINTR].contains(&self.0)
    }
}

/// Whether a member that gives this error may be left out: it is broken or wiped. One that is newer than what we know, or may
/// be another volume's, is for the operator to judge.
pub(crate) fn can_be_left_out(kind: Kind) -> bool {
    match kind {
        Kind::Io | Kind::NotEmbrfs | Kind::Corrupted => true,
        Kind::NoMemory | Kind::Unsupported | Kind::Missing | Kind::Conflict => false,
    }
}

/// Bytes from a user or a disk, fit for a log.
pub(crate) struct Escaped<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.escape_ascii(), f)
    }
}
