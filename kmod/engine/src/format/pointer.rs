// SPDX-License-Identifier: GPL-2.0

//! A pointer to a node: when it was written, half of its seal, and the places of its copies. With the seal's half a parent
//! vouches for the very bytes of its children, and so a root for the whole tree.

use crate::format::layout;
use crate::format::member::Slot;
use crate::format::node::NODE_SIZE;
use crate::units::Blocks;
use crate::units::Generation;
use crate::units::BLOCK_SHIFT;
use crate::units::BLOCK_SIZE;
use core::fmt;
use zerocopy::little_endian::U64;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// Copies of a node, at most: one more than the largest number of parity fragments.
pub const COPIES: usize = 5;
/// Bytes of a pointer on disk.
pub const POINTER_SIZE: usize = 64;
/// Bytes of a seal that a pointer keeps.
pub const HASH_SIZE: usize = 16;

/// In a place: the bits of the block; the device's slot is in those above.
const BLOCK_BITS: u32 = 56;
/// Blocks of a node.
const NODE_BLOCKS: u64 = (NODE_SIZE / BLOCK_SIZE) as u64;
/// Block numbers are below this.
const BLOCKS: u64 = layout::MAX_DEVICE.0 >> BLOCK_SHIFT;

/// A pointer as it lies on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub struct Raw {
    /// Generation in which the node was written.
    pub generation: U64,
    /// The first half of its seal.
    pub hash: [u8; HASH_SIZE],
    /// Where its copies lie.
    pub places: RawPlaces,
}

/// Places as they lie on disk: slot in the highest byte, block below; zero is none.
pub type RawPlaces = [U64; COPIES];

/// Where one copy of a node begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// On which device.
    pub device: Slot,
    /// At which block, not 0.
    pub block: Blocks,
}

impl Place {
    /// As it lies on disk.
    pub(super) fn packed(self) -> Option<u64> {
        let possible = self.block.0 != 0 && self.block.0 < BLOCKS;
        let device = (self.device.index() as u64).wrapping_shl(BLOCK_BITS);
        possible.then_some(device | self.block.0)
    }

    /// Checks what lies on a disk; zero is no place.
    pub(super) fn unpacked(packed: u64) -> Option<Self> {
        let device = Slot::new(packed.wrapping_shr(BLOCK_BITS) as usize)?;
        let block = Blocks(packed & u64::MAX.wrapping_shr(u64::BITS.wrapping_sub(BLOCK_BITS)));
        let place = Place { device, block };
        place.packed().map(|_| place)
    }
}

/// The places of a node's copies: at least one, none on another. Whether they lie within their devices and clear of the system
/// areas, and on devices of their own where that is called for, is for those to check who know the devices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Places([u64; COPIES]);

impl Places {
    /// These places, if a node can lie there.
    pub fn new(places: &[Place]) -> Option<Self> {
        let mut packed = [0u64; COPIES];
        if places.len() > COPIES {
            return None;
        }
        for (to, place) in packed.iter_mut().zip(places) {
            *to = place.packed()?;
        }
        Places::checked(packed)
    }

    /// Checks places from a disk.
    pub fn parse(raw: &RawPlaces) -> Option<Self> {
        Places::checked(raw.map(U64::get))
    }

    fn checked(packed: [u64; COPIES]) -> Option<Self> {
        let mut ended = false;
        for (index, place) in packed.into_iter().enumerate() {
            if place == 0 {
                ended = true;
                continue;
            }
            Place::unpacked(place)?;
            // Places on different devices are further apart than any node is long.
            let mut before = packed.iter().take(index);
            if ended || before.any(|other| place.abs_diff(*other) < NODE_BLOCKS) {
                return None;
            }
        }
        let [first, ..] = packed;
        (first != 0).then_some(Places(packed))
    }

    /// As they lie on disk.
    pub fn raw(&self) -> RawPlaces {
        self.0.map(U64::new)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Place> + '_ {
        self.0.iter().copied().filter_map(Place::unpacked)
    }

    /// One of them.
    pub fn get(&self, n: usize) -> Option<Place> {
        self.0.get(n).copied().and_then(Place::unpacked)
    }

    /// The places so many blocks behind these, if they can be.
    pub fn moved(&self, blocks: u64) -> Option<Self> {
        let behind = |place: u64| match Place::unpacked(place) {
            Some(Place { device, block }) => {
                let block = Blocks(block.0.saturating_add(blocks));
                Place { device, block }.packed()
            }
            None => Some(0),
        };
        let mut moved = self.0;
        for place in moved.iter_mut() {
            *place = behind(*place)?;
        }
        Some(Places(moved))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().filter(|p| **p != 0).count()
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A pointer to a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer {
    /// Generation in which the node was written.
    pub generation: Generation,
    /// The first half of its seal.
    pub hash: [u8; HASH_SIZE],
    /// Where its copies lie.
    pub places: Places,
}

impl Raw {
    /// Checks a pointer from a disk.
    pub fn parse(&self) -> Option<Pointer> {
        let generation = Generation(self.generation.get());
        let places = Places::parse(&self.places)?;
        (generation.0 != 0).then_some(Pointer {
            generation,
            hash: self.hash,
            places,
        })
    }

    /// The pointer of which [`Self::parse`] has already approved.
    pub(super) fn parsed(&self) -> Pointer {
        Pointer {
            generation: Generation(self.generation.get()),
            hash: self.hash,
            places: Places(self.places.map(U64::get)),
        }
    }
}

impl Pointer {
    /// As it lies on disk.
    pub fn raw(&self) -> Raw {
        Raw {
            generation: self.generation.0.into(),
            hash: self.hash,
            places: self.places.raw(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;
    use zerocopy::FromBytes as _;
    use zerocopy::IntoBytes as _;

    fn place(device: usize, block: u64) -> Place {
        Place {
            device: Slot::new(device).unwrap(),
            block: Blocks(block),
        }
    }

    #[test]
    fn round_trip() {
        let all = [
            place(63, BLOCKS - 1),
            place(0, 1),
            place(5, 77),
            place(6, 77),
            place(7, 77),
        ];
        for n in 1..=COPIES {
            let places = Places::new(&all[..n]).unwrap();
            assert!(Places::new(&[place(1, 5), place(1, 9)]).is_some());
            assert_eq!(places.iter().collect::<Vec<_>>(), &all[..n]);
            assert_eq!(places.count(), n);
            let pointer = Pointer {
                generation: Generation(9),
                hash: [7; 16],
                places,
            };
            let bytes: [u8; POINTER_SIZE] = pointer.raw().as_bytes().try_into().unwrap();
            let raw = Raw::ref_from_bytes(&bytes).unwrap();
            assert_eq!(raw.parse(), Some(pointer));
            assert_eq!(raw.parsed(), pointer);
        }
    }

    #[test]
    fn impossible_places_are_refused() {
        assert!(Places::new(&[]).is_none());
        assert!(Places::new(&[place(1, 1); 6]).is_none());
        assert!(Places::new(&[place(1, 5), place(1, 8)]).is_none());
        assert!(Places::new(&[place(1, 8), place(2, 8), place(1, 5)]).is_none());
        assert!(Places::new(&[place(1, 0)]).is_none());
        assert!(Places::new(&[place(1, BLOCKS)]).is_none());
        for bad in [
            [0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0],
            [1, 0, (2 << 56) | 1, 0, 0],
            [1, 2, 0, 0, 0],
            [(64 << 56) | 1, 0, 0, 0, 0],
            [1 << 56, 0, 0, 0, 0],
            [u64::MAX; 5],
        ] {
            assert!(Places::parse(&bad.map(U64::new)).is_none(), "{bad:x?}");
        }
        let raw = Raw {
            generation: 0.into(),
            hash: [0; 16],
            places: [1, 0, 0, 0, 0].map(U64::new),
        };
        assert!(raw.parse().is_none());
    }
}
