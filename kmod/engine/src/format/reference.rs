// SPDX-License-Identifier: GPL-2.0

//! What the tree of references holds of blocks of engrams that are named more than once: how often each is named, and how often by
//! which file. Nothing is said of what is named once.

use crate::error::NoMem;
use crate::format::engram::MAX_BLOCKS;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::InodeNo;
use embr_rt::Vec;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of such items.
pub const VERSION: u8 = 1;

const HEADER_SIZE: usize = 4;
const RUN_SIZE: usize = 6;
const _: () = assert!(size_of::<RawRun>() == RUN_SIZE);
const _: () = assert!(MAX_SIZE <= crate::format::node::MAX_VALUE);

/// Bytes of a tally, at most.
pub const MAX_SIZE: usize = HEADER_SIZE + MAX_BLOCKS * RUN_SIZE;
/// Bytes of a tally of one run.
pub const ONE_RUN: usize = HEADER_SIZE + RUN_SIZE;
/// Bytes by which a tally grows at most when the number of one block changes.
pub const GROWTH: usize = 2 * RUN_SIZE;

/// What a tally is of. The numbers leave room for other units than raw blocks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Of {
    /// How often each block is named in all; those are left out that are named once.
    All,
    /// How often by this file.
    User(InodeNo),
}

const ALL: u64 = 0x01 << 56;
const USER: u64 = 0x02 << 56;

/// The key of a tally.
pub fn key(engram: EngramId, of: Of) -> Key {
    match of {
        Of::All => Key([engram.0, ALL, 0]),
        Of::User(inode) => Key([engram.0, USER, inode.0]),
    }
}

/// What the item with this key is, if it is a tally.
pub fn parse_key(key: Key) -> Option<(EngramId, Of)> {
    let Key([engram, kind, inode]) = key;
    let of = match (kind, inode) {
        (_, _) if engram == 0 => return None,
        (ALL, 0) => Of::All,
        (USER, 1..) => Of::User(InodeNo(inode)),
        _ => return None,
    };
    Some((EngramId(engram), of))
}

/// Every key of an engram.
pub fn all(engram: EngramId) -> Range {
    Range {
        first: Key([engram.0, 0, 0]),
        last: Key([engram.0, u64::MAX, u64::MAX]),
    }
}

/// All files that name blocks of an engram which are or were shared.
pub fn users(engram: EngramId) -> Range {
    Range {
        first: Key([engram.0, USER, 0]),
        last: Key([engram.0, USER, u64::MAX]),
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawRun {
    first: u8,
    last: u8,
    number: U32,
}

/// Blocks of an engram that follow each other and have the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The first of them.
    pub first: usize,
    /// How many.
    pub blocks: usize,
    /// The number of each, not zero.
    pub number: u32,
}

/// A number for each block of an engram.
#[derive(PartialEq, Eq, Debug)]
pub struct Tally {
    numbers: Vec<u32>,
    /// How many runs they make, zeros not counted.
    runs: usize,
}

impl Tally {
    /// All zeros.
    pub fn try_new() -> Result<Self, NoMem> {
        Ok(Tally {
            numbers: Vec::try_from_elem(0, MAX_BLOCKS)?,
            runs: 0,
        })
    }

    /// The number of a block.
    pub fn number(&self, block: usize) -> u32 {
        self.numbers.get(block).copied().unwrap_or(0)
    }

    /// Whether a run begins with a block.
    fn begins(&self, block: usize) -> usize {
        let before = block.checked_sub(1).map_or(0, |b| self.number(b));
        let number = self.number(block);
        usize::from(number != 0 && number != before)
    }

    /// Gives a block this number.
    pub fn set(&mut self, block: usize, number: u32) {
        let next = block.saturating_add(1);
        let before = self.begins(block).saturating_add(self.begins(next));
        if let Some(place) = self.numbers.get_mut(block) {
            *place = number;
        }
        let after = self.begins(block).saturating_add(self.begins(next));
        self.runs = self.runs.saturating_add(after).saturating_sub(before);
    }

    /// Whether all are zero.
    pub fn is_empty(&self) -> bool {
        self.runs == 0
    }

    /// Runs of equal numbers, but zeros.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut at = 0usize;
        core::iter::from_fn(move || {
            let first = (at..MAX_BLOCKS).find(|b| self.number(*b) != 0)?;
            let number = self.number(first);
            let end = (first..MAX_BLOCKS).find(|b| self.number(*b) != number);
            at = end.unwrap_or(MAX_BLOCKS);
            Some(Run {
                first,
                blocks: at.saturating_sub(first),
                number,
            })
        })
    }

    /// Bytes of the item's value.
    pub fn size(&self) -> usize {
        let runs = self.runs.saturating_mul(RUN_SIZE);
        runs.saturating_add(HEADER_SIZE)
    }

    /// Checks an item's value. In all, no block is listed that is named once.
    pub fn parse(value: &[u8], of: Of) -> Result<Option<Self>, NoMem> {
        let Some(([version, _, _, _], rest)) = value.split_first_chunk() else {
            return Ok(None);
        };
        let Ok(runs) = <[RawRun]>::ref_from_bytes(rest) else {
            return Ok(None);
        };
        if *version != VERSION || runs.is_empty() {
            return Ok(None);
        }
        let least = match of {
            Of::All => 2,
            Of::User(_) => 1,
        };
        let mut tally = Tally::try_new()?;
        let mut end = 0usize;
        for run in runs {
            let (first, last) = (usize::from(run.first), usize::from(run.last));
            let number = run.number.get();
            if first < end || last < first || number < least {
                return Ok(None);
            }
            end = last.saturating_add(1);
            (first..end).for_each(|block| tally.set(block, number));
        }
        Ok(Some(tally))
    }

    /// The item's value; none where all are zero, which has no item.
    pub fn encode(&self) -> Result<Option<Vec<u8>>, NoMem> {
        if self.is_empty() {
            return Ok(None);
        }
        let mut value = Vec::try_with_capacity(self.size())?;
        value.try_extend_from_slice(&[VERSION, 0, 0, 0])?;
        for run in self.runs() {
            let last = run.first.saturating_add(run.blocks).saturating_sub(1);
            let raw = RawRun {
                first: run.first as u8,
                last: last as u8,
                number: run.number.into(),
            };
            value.try_extend_from_slice(raw.as_bytes())?;
        }
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENGRAM: EngramId = EngramId(3);

    fn tally(runs: &[(usize, usize, u32)]) -> Tally {
        let mut tally = Tally::try_new().unwrap();
        for (first, last, number) in runs {
            (*first..=*last).for_each(|block| tally.set(block, *number));
        }
        tally
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let some = tally(&[(0, 6, 2), (7, 7, 0x0102_0304), (250, 255, 2)]);
        let value = some.encode().unwrap().unwrap();
        let mut expected = std::vec![1, 0, 0, 0];
        expected.extend([0, 6, 2, 0, 0, 0]);
        expected.extend([7, 7, 4, 3, 2, 1]);
        expected.extend([250, 255, 2, 0, 0, 0]);
        assert_eq!(&value[..], &expected[..]);
        assert_eq!(value.len(), some.size());
        assert_eq!(Tally::parse(&value, Of::All), Ok(Some(some)));
        assert_eq!(key(ENGRAM, Of::All), Key([3, 1 << 56, 0]));
        let user = Of::User(InodeNo(9));
        assert_eq!(key(ENGRAM, user), Key([3, 2 << 56, 9]));
        for of in [Of::All, user] {
            assert_eq!(parse_key(key(ENGRAM, of)), Some((ENGRAM, of)));
            assert!(all(ENGRAM).has(key(ENGRAM, of)));
            assert_eq!(users(ENGRAM).has(key(ENGRAM, of)), of == user);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bad = |value: &[u8], of| Tally::parse(value, of) == Ok(None);
        let user = Of::User(InodeNo(9));
        let sound = [1, 0, 0, 0, 3, 4, 2, 0, 0, 0];
        assert!(!bad(&sound, Of::All) && !bad(&sound, user));
        // Another version; the end before the begin; no number.
        for (at, byte) in [(0, 2), (5, 2), (6, 0)] {
            let mut value = sound;
            value[at] = byte;
            assert!(bad(&value, user), "byte {at}");
        }
        let mut once = sound;
        once[6] = 1;
        assert!(bad(&once, Of::All) && !bad(&once, user));
        assert!(bad(&sound[..4], user) && bad(&sound[..9], user) && bad(&[], user));
        let overlapping = [1, 0, 0, 0, 3, 4, 2, 0, 0, 0, 4, 5, 2, 0, 0, 0];
        assert!(bad(&overlapping, user));
        for key in [
            Key([0, ALL, 0]),
            Key([3, ALL, 1]),
            Key([3, USER, 0]),
            Key([3, USER + 1, 9]),
            Key([3, 0, 0]),
        ] {
            assert_eq!(parse_key(key), None, "{key}");
        }
        assert!(Tally::try_new().unwrap().encode().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn a_number_for_each_block(steps in proptest::collection::vec((0usize..256, 0u32..4), 0..200)) {
            let mut tally = Tally::try_new().unwrap();
            let mut model = [0; MAX_BLOCKS];
            for (block, number) in steps {
                tally.set(block, number);
                model[block] = number;
                prop_assert_eq!(tally.runs().count() * RUN_SIZE + HEADER_SIZE, tally.size());
            }
            for (block, number) in model.iter().enumerate() {
                prop_assert_eq!(tally.number(block), *number);
            }
            prop_assert_eq!(tally.is_empty(), model.iter().all(|n| *n == 0));
            if let Some(value) = tally.encode().unwrap() {
                prop_assert_eq!(value.len(), tally.size());
                prop_assert!(value.len() <= MAX_SIZE);
                let again = Tally::parse(&value, Of::User(InodeNo(1))).unwrap();
                prop_assert_eq!(again, Some(tally));
            }
        }
    }
}
