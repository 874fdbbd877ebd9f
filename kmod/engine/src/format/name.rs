// SPDX-License-Identifier: GPL-2.0

//! The items that tie names to files: an entry of a directory, the parents of a file, and the numbers of files that are kept
//! under no file.

use crate::error::NoMem;
use crate::format::inode::FileType;
use crate::units::InodeNo;
use embr_rt::Vec;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of these items.
pub const VERSION: u8 = 1;
/// Bytes of a name, at most.
pub const MAX_NAME: usize = 255;
/// Bytes of an entry before the name.
pub const ENTRY_SIZE: usize = 16;
/// Bytes of a number's item.
pub const NUMBER_SIZE: usize = 9;

const _: () = assert!(size_of::<RawEntry>() == ENTRY_SIZE);
const _: () = assert!(size_of::<RawNumber>() == NUMBER_SIZE);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawEntry {
    version: u8,
    kind: u8,
    zero: [u8; 2],
    generation: U32,
    inode: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawParent {
    directory: U64,
    length: u8,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawNumber {
    version: u8,
    number: U64,
}

/// A name that a file can have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// This name, if a file can have it.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let sound = !bytes.is_empty()
            && bytes.len() <= MAX_NAME
            && bytes != b"."
            && bytes != b".."
            && !bytes.iter().any(|b| matches!(b, 0 | b'/'));
        sound.then_some(Name(bytes))
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// What an entry leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// Which file.
    pub inode: InodeNo,
    /// Its generation.
    pub generation: u32,
    /// What kind of file it is.
    pub kind: FileType,
}

/// The value of a directory's entry.
pub fn encode_entry(target: Target, name: Name<'_>) -> Result<Vec<u8>, NoMem> {
    let raw = RawEntry {
        version: VERSION,
        kind: target.kind.number(),
        zero: [0; 2],
        generation: target.generation.into(),
        inode: target.inode.0.into(),
    };
    let mut bytes = Vec::try_with_capacity(ENTRY_SIZE.saturating_add(name.0.len()))?;
    bytes.try_extend_from_slice(raw.as_bytes())?;
    bytes.try_extend_from_slice(name.0)?;
    Ok(bytes)
}

/// What an entry's value says; none where it makes no sense.
pub fn parse_entry(bytes: &[u8]) -> Option<(Target, Name<'_>)> {
    let (raw, name) = RawEntry::ref_from_prefix(bytes).ok()?;
    let target = Target {
        inode: InodeNo(raw.inode.get()),
        generation: raw.generation.get(),
        kind: FileType::new(raw.kind)?,
    };
    let sound = raw.version == VERSION && target.inode != InodeNo::NONE;
    Some((target, Name::new(name)?)).filter(|_| sound)
}

/// The parents in one item of a file: those whose hashes are the same. At least one.
#[derive(Clone, Copy)]
pub struct Parents<'a>(&'a [u8]);

impl<'a> Parents<'a> {
    /// Checks an item's value.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (version, list) = bytes.split_first()?;
        if *version != VERSION || list.is_empty() {
            return None;
        }
        let mut rest = list;
        while !rest.is_empty() {
            rest = split_parent(rest)?.1;
        }
        Some(Parents(list))
    }

    /// Each of them: directory, and name in it.
    pub fn iter(self) -> impl Iterator<Item = (InodeNo, Name<'a>)> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (parent, after) = split_parent(rest)?;
            rest = after;
            Some(parent)
        })
    }
}

fn split_parent(bytes: &[u8]) -> Option<((InodeNo, Name<'_>), &[u8])> {
    let (raw, rest) = RawParent::ref_from_prefix(bytes).ok()?;
    let (name, rest) = rest.split_at_checked(usize::from(raw.length))?;
    let directory = InodeNo(raw.directory.get());
    if directory == InodeNo::NONE {
        return None;
    }
    Some(((directory, Name::new(name)?), rest))
}

/// The value of an item with no parent in it yet.
pub fn no_parents() -> Result<Vec<u8>, NoMem> {
    Vec::try_from_slice(&[VERSION])
}

/// Puts a parent at the end of an item's value.
pub fn push_parent(bytes: &mut Vec<u8>, directory: InodeNo, name: Name<'_>) -> Result<(), NoMem> {
    let raw = RawParent {
        directory: directory.0.into(),
        length: u8::try_from(name.0.len()).unwrap_or(u8::MAX),
    };
    bytes.try_extend_from_slice(raw.as_bytes())?;
    bytes.try_extend_from_slice(name.0)
}

/// The value of an item that is one inode number.
pub fn encode_number(number: InodeNo) -> [u8; NUMBER_SIZE] {
    let raw = RawNumber {
        version: VERSION,
        number: number.0.into(),
    };
    let mut bytes = [0; NUMBER_SIZE];
    for (to, from) in bytes.iter_mut().zip(raw.as_bytes()) {
        *to = *from;
    }
    bytes
}

/// What the item of a number says; none where it makes no sense.
pub fn parse_number(bytes: &[u8]) -> Option<InodeNo> {
    let raw = RawNumber::ref_from_bytes(bytes).ok()?;
    let number = InodeNo(raw.number.get());
    (raw.version == VERSION && number != InodeNo::NONE).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_cannot_be() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0", &[b'a'; 256]] {
            assert_eq!(Name::new(bad), None);
        }
        for good in [&b"..."[..], b" ", b"\xff\n", &[b'a'; 255]] {
            assert!(Name::new(good).is_some());
        }
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let target = Target {
            inode: InodeNo(0x0102),
            generation: 0x0304,
            kind: FileType::Socket,
        };
        let name = Name::new(b"so").unwrap();
        let bytes = encode_entry(target, name).unwrap();
        let expected = b"\x01\x0c\0\0\x04\x03\0\0\x02\x01\0\0\0\0\0\0so";
        assert_eq!(&bytes[..], expected);
        assert_eq!(parse_entry(expected), Some((target, name)));
        let mut parents = no_parents().unwrap();
        assert!(Parents::parse(&parents).is_none());
        push_parent(&mut parents, InodeNo(3), name).unwrap();
        push_parent(&mut parents, InodeNo(4), Name::new(b"x").unwrap()).unwrap();
        let expected = b"\x01\x03\0\0\0\0\0\0\0\x02so\x04\0\0\0\0\0\0\0\x01x";
        assert_eq!(&parents[..], expected);
        let back: std::vec::Vec<_> = Parents::parse(&parents).unwrap().iter().collect();
        assert_eq!(back, [(InodeNo(3), name), (InodeNo(4), Name(b"x"))]);
        assert!(Parents::parse(&expected[..expected.len() - 1]).is_none());
        assert_eq!(encode_number(InodeNo(5)), *b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(parse_number(&encode_number(InodeNo(5))), Some(InodeNo(5)));
        assert_eq!(parse_number(b"\x01\0\0\0\0\0\0\0\0"), None);
        assert_eq!(parse_number(b"\x02\x05\0\0\0\0\0\0\0"), None);
    }

    proptest! {
        #[test]
        fn anything_is_parsed_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Some((target, name)) = parse_entry(&bytes) {
                let again = encode_entry(target, name).unwrap();
                prop_assert_eq!(&again[4..], &bytes[4..]);
            }
            if let Some(parents) = Parents::parse(&bytes) {
                let mut again = no_parents().unwrap();
                for (directory, name) in parents.iter() {
                    push_parent(&mut again, directory, name).unwrap();
                }
                prop_assert_eq!(&again[..], &bytes[..]);
            }
        }
    }
}
