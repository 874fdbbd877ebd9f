// SPDX-License-Identifier: GPL-2.0

//! What an inode's item holds: everything that stat(2) tells, and the target of a symlink.

use crate::error::NoMem;
use crate::format::geometry::Policy;
use crate::units::Bytes;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use core::fmt;
use embr_rt::Vec;
use zerocopy::little_endian::I64;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of inodes.
pub const VERSION: u8 = 1;
/// Bytes before the target of a symlink.
pub const INODE_SIZE: usize = 96;
/// Bytes of a symlink's target, at most.
pub const MAX_TARGET: usize = 4095;
/// The highest link count.
pub const MAX_LINKS: u32 = 1 << 31;
/// Most bytes of a file: whole blocks, of which every end is a signed number of 64 bits.
pub const MAX_SIZE: Bytes = Bytes((1 << 63) - BLOCK_SIZE as u64);
/// The bits of a mode that are not the type.
pub const PERMISSIONS: u16 = 0o7777;

const TYPE_SHIFT: u32 = 12;
const NANOS: u32 = 1_000_000_000;
const _: () = assert!(size_of::<Raw>() == INODE_SIZE);
const _: () = assert!(INODE_SIZE + MAX_TARGET <= crate::format::node::MAX_VALUE);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTime {
    seconds: I64,
    nanos: U32,
}

/// As many blocks as the largest size that a file can have.
const MAX_BLOCKS: u64 = i64::MAX as u64 / BLOCK_SIZE as u64 + 1;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    version: u8,
    policy: u8,
    mode: U16,
    nlink: U32,
    uid: U32,
    gid: U32,
    size: U64,
    entries: U64,
    rdev: U32,
    generation: U32,
    flags: U32,
    project: U32,
    accessed: RawTime,
    modified: RawTime,
    changed: RawTime,
    born: RawTime,
}

/// What kind of file it is. The numbers are those of a mode's highest four bits, and of readdir(3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum FileType {
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    CharDevice = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    BlockDevice = 6,
    /// A file with bytes.
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket.
    Socket = 12,
}

impl FileType {
    /// The type with this number.
    pub fn new(number: u8) -> Option<Self> {
        Some(match number {
            1 => FileType::Fifo,
            2 => FileType::CharDevice,
            4 => FileType::Directory,
            6 => FileType::BlockDevice,
            8 => FileType::Regular,
            10 => FileType::Symlink,
            12 => FileType::Socket,
            _ => return None,
        })
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Whether files of this type name a device.
    pub fn is_device(self) -> bool {
        matches!(self, FileType::CharDevice | FileType::BlockDevice)
    }
}

/// A device that a file names: major number in the upper 12 bits, minor number in the lower 20.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Rdev(pub u32);

/// An inode.
#[derive(PartialEq, Eq, Debug)]
pub struct Inode {
    /// What kind of file it is.
    pub kind: FileType,
    /// The other bits of its mode.
    pub permissions: u16,
    /// How many names it has; of a directory 2 and one more for each directory in it; 0 of an orphan.
    pub nlink: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Bytes of a file, or of a symlink's target; else 0.
    pub size: Bytes,
    /// How many names are in a directory, . and .. not counted; how many blocks a file holds, in the tree, on devices, or as room.
    pub entries: u64,
    /// Which device it names.
    pub rdev: Rdev,
    /// Tells it from a file that had its number on an older copy of the volume.
    pub generation: u32,
    /// Flags, as chattr(1) sets them.
    pub flags: u32,
    /// The project that its space is counted for.
    pub project: u32,
    /// When it was last read.
    pub accessed: Timestamp,
    /// When its contents last changed.
    pub modified: Timestamp,
    /// When anything of it last changed.
    pub changed: Timestamp,
    /// When it was made.
    pub born: Timestamp,
    /// How much its data is to survive; of a directory, what is made in it has that.
    pub policy: Policy,
    /// The target of a symlink.
    pub target: Vec<u8>,
}

/// What is wrong with an inode's item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadInode {
    /// Memory could not be had.
    NoMemory,
    /// Too short for an inode.
    Short(usize),
    /// Of another version.
    Version(u8),
    /// There is no such type of file.
    Mode(u16),
    /// More names than there can be, or a directory with one.
    Links(u32),
    /// A size or target that such a file cannot have.
    Size(u64),
    /// Something with entries or blocks that has none, such as a directory that is removed.
    Entries(u64),
    /// Something that is no device names one.
    Rdev(u32),
    /// Nanoseconds that make a second.
    Time(u32),
    /// There is no such policy.
    Policy(u8),
}

impl From<NoMem> for BadInode {
    fn from(_: NoMem) -> Self {
        BadInode::NoMemory
    }
}

impl fmt::Display for BadInode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadInode::NoMemory => f.write_str("out of memory"),
            BadInode::Short(n) => write!(f, "{n} bytes are too few for an inode"),
            BadInode::Version(n) => write!(f, "an inode of unknown version {n}"),
            BadInode::Mode(mode) => write!(f, "no type of file has mode {mode:o}"),
            BadInode::Links(n) => write!(f, "a link count of {n}"),
            BadInode::Size(n) => write!(f, "a size of {n} bytes"),
            BadInode::Entries(n) => write!(f, "{n} entries"),
            BadInode::Rdev(n) => write!(f, "device number {n:#x} where there is no device"),
            BadInode::Time(n) => write!(f, "a time with {n} nanoseconds"),
            BadInode::Policy(n) => write!(f, "unknown policy {n}"),
        }
    }
}

impl RawTime {
    fn new(time: Timestamp) -> Self {
        RawTime {
            seconds: time.seconds.into(),
            nanos: time.nanos.into(),
        }
    }

    fn parse(&self) -> Result<Timestamp, BadInode> {
        let nanos = self.nanos.get();
        if nanos >= NANOS {
            return Err(BadInode::Time(nanos));
        }
        Ok(Timestamp {
            seconds: self.seconds.get(),
            nanos,
        })
    }
}

impl Inode {
    /// The mode, type included.
    pub fn mode(&self) -> u16 {
        u16::from(self.kind.number()).wrapping_shl(TYPE_SHIFT) | self.permissions
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Checks an item's value.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadInode> {
        let (raw, target) =
            Raw::ref_from_prefix(bytes).map_err(|_| BadInode::Short(bytes.len()))?;
        if raw.version != VERSION {
            return Err(BadInode::Version(raw.version));
        }
        let mode = raw.mode.get();
        let kind = FileType::new((mode.wrapping_shr(TYPE_SHIFT) & 0xf) as u8)
            .ok_or(BadInode::Mode(mode))?;
        let inode = Inode {
            kind,
            permissions: mode & PERMISSIONS,
            nlink: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size: Bytes(raw.size.get()),
            entries: raw.entries.get(),
            rdev: Rdev(raw.rdev.get()),
            generation: raw.generation.get(),
            flags: raw.flags.get(),
            project: raw.project.get(),
            accessed: raw.accessed.parse()?,
            modified: raw.modified.parse()?,
            changed: raw.changed.parse()?,
            born: raw.born.parse()?,
            policy: Policy::new(raw.policy).ok_or(BadInode::Policy(raw.policy))?,
            target: Vec::try_from_slice(target)?,
        };
        inode.check()?;
        Ok(inode)
    }

    fn check(&self) -> Result<(), BadInode> {
        let directory = self.is_directory();
        if self.nlink > MAX_LINKS || (directory && self.nlink == 1) {
            return Err(BadInode::Links(self.nlink));
        }
        let may_have = match self.kind {
            FileType::Directory => self.nlink != 0,
            FileType::Regular => self.entries <= MAX_BLOCKS,
            _ => false,
        };
        if self.entries != 0 && !may_have {
            return Err(BadInode::Entries(self.entries));
        }
        if self.rdev != Rdev(0) && !self.kind.is_device() {
            return Err(BadInode::Rdev(self.rdev.0));
        }
        let sound = match self.kind {
            FileType::Regular => self.target.is_empty() && self.size <= MAX_SIZE,
            FileType::Symlink => {
                is_target(&self.target) && self.size == Bytes(self.target.len() as u64)
            }
            _ => self.target.is_empty() && self.size == Bytes(0),
        };
        if !sound {
            return Err(BadInode::Size(self.size.0));
        }
        Ok(())
    }

    /// The item's value.
    pub fn encode(&self) -> Result<Vec<u8>, NoMem> {
        let raw = Raw {
            version: VERSION,
            policy: self.policy.number(),
            mode: self.mode().into(),
            nlink: self.nlink.into(),
            uid: self.uid.into(),
            gid: self.gid.into(),
            size: self.size.0.into(),
            entries: self.entries.into(),
            rdev: self.rdev.0.into(),
            generation: self.generation.into(),
            flags: self.flags.into(),
            project: self.project.into(),
            accessed: RawTime::new(self.accessed),
            modified: RawTime::new(self.modified),
            changed: RawTime::new(self.changed),
            born: RawTime::new(self.born),
        };
        let mut bytes = Vec::try_with_capacity(INODE_SIZE.saturating_add(self.target.len()))?;
        bytes.try_extend_from_slice(raw.as_bytes())?;
        bytes.try_extend_from_slice(&self.target)?;
        Ok(bytes)
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Self, NoMem> {
        Ok(Inode {
            target: self.target.try_clone()?,
            ..*self
        })
    }
}

/// Whether a symlink can have this target.
pub fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= MAX_TARGET && !target.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn time(n: i64) -> Timestamp {
        Timestamp {
            seconds: n,
            nanos: 999_999_999,
        }
    }

    fn symlink(target: &[u8]) -> Inode {
        Inode {
            kind: FileType::Symlink,
            permissions: 0o4777,
            nlink: 3,
            uid: 4,
            gid: 5,
            size: Bytes(target.len() as u64),
            entries: 0,
            rdev: Rdev(0),
            generation: 7,
            flags: 8,
            project: 9,
            accessed: time(-10),
            modified: time(11),
            changed: time(12),
            born: time(i64::MIN),
            policy: Policy::surviving(1).unwrap(),
            target: Vec::try_from_slice(target).unwrap(),
        }
    }

    fn reparsed(inode: &Inode) -> Result<Inode, BadInode> {
        Inode::parse(&inode.encode().unwrap())
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let bytes = symlink(b"there").encode().unwrap();
        let mut expected = std::vec::Vec::new();
        expected.extend([1, 2]);
        expected.extend(0o124777u16.to_le_bytes());
        for n in [3u32, 4, 5] {
            expected.extend(n.to_le_bytes());
        }
        expected.extend(5u64.to_le_bytes());
        expected.extend(0u64.to_le_bytes());
        for n in [0u32, 7, 8, 9] {
            expected.extend(n.to_le_bytes());
        }
        for seconds in [-10, 11, 12, i64::MIN] {
            expected.extend(seconds.to_le_bytes());
            expected.extend(999_999_999u32.to_le_bytes());
        }
        expected.extend(b"there");
        assert_eq!(&bytes[..], &expected[..]);
        assert_eq!(reparsed(&symlink(b"there")), Ok(symlink(b"there")));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bad = |change: &dyn Fn(&mut Inode)| {
            let mut inode = symlink(b"x");
            change(&mut inode);
            reparsed(&inode).expect_err("bad")
        };
        let empty = |i: &mut Inode, kind| {
            i.kind = kind;
            i.size = Bytes(0);
            i.target.clear();
        };
        assert_eq!(
            bad(&|i| i.nlink = MAX_LINKS + 1),
            BadInode::Links(MAX_LINKS + 1)
        );
        assert_eq!(bad(&|i| i.size = Bytes(2)), BadInode::Size(2));
        assert_eq!(bad(&|i| i.target = Vec::new()), BadInode::Size(1));
        assert_eq!(
            bad(&|i| i.target = Vec::try_from_slice(&[0]).unwrap()),
            BadInode::Size(1)
        );
        assert_eq!(bad(&|i| i.kind = FileType::Regular), BadInode::Size(1));
        assert_eq!(bad(&|i| i.rdev = Rdev(1)), BadInode::Rdev(1));
        assert_eq!(bad(&|i| i.entries = 1), BadInode::Entries(1));
        assert_eq!(bad(&|i| i.born.nanos = NANOS), BadInode::Time(NANOS));
        assert_eq!(
            bad(&|i| {
                empty(i, FileType::Directory);
                i.nlink = 1;
            }),
            BadInode::Links(1)
        );
        assert_eq!(
            bad(&|i| {
                empty(i, FileType::Directory);
                i.nlink = 0;
                i.entries = 1;
            }),
            BadInode::Entries(1)
        );
        assert_eq!(
            bad(&|i| {
                empty(i, FileType::Regular);
                i.size = Bytes(1 << 63);
            }),
            BadInode::Size(1 << 63)
        );
        assert_eq!(
            bad(&|i| {
                empty(i, FileType::Regular);
                i.entries = 1 << 52;
            }),
            BadInode::Entries(1 << 52)
        );
        let long = std::vec![b'a'; MAX_TARGET + 1];
        assert!(reparsed(&symlink(&long)).is_err());
        assert!(reparsed(&symlink(&long[1..])).is_ok());
        assert_eq!(Inode::parse(&[1; 95]), Err(BadInode::Short(95)));
        assert_eq!(Inode::parse(&[2; 96]), Err(BadInode::Version(2)));
    }

    proptest! {
        #[test]
        fn what_is_understood_is_written_the_same(mut bytes in proptest::collection::vec(any::<u8>(), 96..120), at in 0usize..96, byte: u8) {
            let mut sound = std::vec::Vec::from(&symlink(b"x").encode().unwrap()[..]);
            sound[at] = byte;
            bytes[0] = VERSION;
            for bytes in [bytes, sound] {
                if let Ok(inode) = Inode::parse(&bytes) {
                    let again = inode.encode().unwrap();
                    prop_assert_eq!(&again[2..], &bytes[2..]);
                }
            }
        }
    }
}
