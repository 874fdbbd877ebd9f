// SPDX-License-Identifier: GPL-2.0

//! Which thing a path leads to: two paths of one device, or of one image file, have one identity.

use rustix::fs::major;
use rustix::fs::minor;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::path::PathBuf;

/// A block device by its number, or a regular file by its inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Identity {
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A regular file: the device and the inode that it lies on.
    File(u64, u64),
}

impl Identity {
    /// What `path` leads to, through symbolic links. Directories and the like are an error.
    pub fn of(path: &Path) -> io::Result<Self> {
        Self::from_metadata(&fs::metadata(path)?)
    }

    /// What an open file is.
    pub fn from_metadata(meta: &fs::Metadata) -> io::Result<Self> {
        let kind = meta.file_type();
        if kind.is_block_device() {
            Ok(Identity::Block(major(meta.rdev()), minor(meta.rdev())))
        } else if kind.is_file() {
            Ok(Identity::File(meta.dev(), meta.ino()))
        } else if kind.is_char_device() {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a character device, not a block device",
            ))
        } else if kind.is_dir() {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a directory, not a block device or image file",
            ))
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a block device nor an image file",
            ))
        }
    }

    /// Whether it is a block device.
    pub fn is_block(self) -> bool {
        matches!(self, Identity::Block(..))
    }

    /// The directory of a block device in sysfs.
    pub fn sysfs(self) -> Option<PathBuf> {
        match self {
            Identity::Block(major, minor) => {
                Some(PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
            }
            Identity::File(..) => None,
        }
    }

    /// For a partition, the disk that it is a part of.
    pub fn whole_disk(self) -> Option<Identity> {
        let dir = self.sysfs()?;
        if !dir.join("partition").exists() {
            return None;
        }
        // The link's target is …/block/DISK/PARTITION.
        let real = fs::canonicalize(dir).ok()?;
        parse_number(&fs::read_to_string(real.parent()?.join("dev")).ok()?)
    }
}

/// Reads `major:minor`.
pub(crate) fn parse_number(text: &str) -> Option<Identity> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(Identity::Block(major.parse().ok()?, minor.parse().ok()?))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Block(major, minor) => write!(f, "block device {major}:{minor}"),
            Identity::File(_, inode) => write!(f, "file with inode {inode}"),
        }
    }
}
