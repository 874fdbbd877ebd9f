// SPDX-License-Identifier: GPL-2.0

//! What the tree of engrams holds of each: where its blocks lie, their hashes, which of them live, and whose they are.

use crate::error::NoMem;
use crate::format::geometry::Policy;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::format::node::MAX_VALUE;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::format::pointer::RawPlaces;
use crate::format::pointer::COPIES;
use crate::format::superblock::BlockHash;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use embr_rt::Vec;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of such items.
pub const VERSION: u8 = 1;
/// Blocks of an engram, at most.
pub const MAX_BLOCKS: usize = 256;
/// Bytes of an engram, at most.
pub const MAX_PAYLOAD: u64 = (MAX_BLOCKS * BLOCK_SIZE) as u64;
/// Blocks whose hashes lie in one item.
pub const HASHES: usize = 16;
/// In a map: whole copies, one after the other places.
const COPIED: u8 = 0;
/// In a map: parts of stripes.
const STRIPED: u8 = 1;
/// In a map: copies whose blocks do not all lie together.
const PARTED: u8 = 2;
/// Parts of an engram in copies, at most.
pub const MAX_PARTS: usize = 64;
/// Bytes of a part, at most.
pub const PART_SIZE: usize = size_of::<RawPart>() + COPIES * size_of::<U64>();
const _: () = assert!(size_of::<RawMap>() + MAX_PARTS * PART_SIZE <= MAX_VALUE);
pub(super) const SUB_BITS: u32 = 56;

/// What an item of an engram is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Where its blocks lie.
    Map = 0x01,
    /// Hashes of 16 blocks.
    Hashes = 0x02,
    /// Which blocks live.
    Live = 0x03,
    /// Whose a run of them is, by its first block.
    Owner = 0x04,
    /// Under no engram: a number above that of every engram there ever was.
    Numbers = 0xf2,
    /// Under no engram: below this number, all that lay in copies and had better lie in stripes was moved.
    Passed = 0xf3,
}

/// The key of an item.
pub fn key(engram: EngramId, kind: Kind, sub: usize) -> Key {
    let kind = (kind as u64).wrapping_shl(SUB_BITS);
    Key([engram.0, kind | (sub as u64), 0])
}

/// The part of a key that tells items of a kind apart.
pub fn sub(key: Key) -> u64 {
    let [_, place, _] = key.0;
    place & u64::MAX.wrapping_shr(u64::BITS.wrapping_sub(SUB_BITS))
}

/// Every key of an engram.
pub fn all(engram: EngramId) -> Range {
    Range {
        first: Key([engram.0, 0, 0]),
        last: Key([engram.0, u64::MAX, u64::MAX]),
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawMap {
    version: u8,
    kind: u8,
    blocks: U16,
    policy: u8,
    zero: [u8; 3],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawPiece {
    stripe: U64,
    at: U16,
    first: u8,
    last: u8,
}

/// Blocks of an engram that lie together in a stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first of them.
    pub first: usize,
    /// How many, not none.
    pub blocks: usize,
    /// The stripe.
    pub stripe: StripeId,
    /// Which block of its payload the first is.
    pub at: usize,
}

impl Piece {
    fn parse(raw: &RawPiece) -> Option<Self> {
        let (first, last) = (usize::from(raw.first), usize::from(raw.last));
        let sound = raw.stripe.get() != 0 && first <= last;
        sound.then(|| Piece {
            first,
            blocks: last.saturating_sub(first).saturating_add(1),
            stripe: StripeId(raw.stripe.get()),
            at: usize::from(raw.at.get()),
        })
    }

    fn raw(&self) -> RawPiece {
        RawPiece {
            stripe: self.stripe.0.into(),
            at: (self.at as u16).into(),
            first: self.first as u8,
            last: self.end().saturating_sub(1) as u8,
        }
    }

    /// The block behind the last.
    pub fn end(&self) -> usize {
        self.first.saturating_add(self.blocks)
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawPart {
    first: u8,
    last: u8,
    copies: u8,
    zero: u8,
}

/// Blocks of an engram in copies that lie together, at each of several places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first of them.
    pub first: usize,
    /// How many, not none.
    pub blocks: usize,
    /// Where the first of them lies.
    pub places: Places,
}

impl Part {
    /// The block behind the last.
    pub fn end(&self) -> usize {
        self.first.saturating_add(self.blocks)
    }

    /// Whether it has a block.
    pub fn has(&self, block: usize) -> bool {
        (self.first..self.end()).contains(&block)
    }

    /// Those of these blocks that it has, at each of its places.
    pub fn extents(&self, first: usize, blocks: usize) -> PartExtents<'_> {
        PartExtents {
            part: self,
            first,
            blocks,
            next: 0,
        }
    }

    /// The same at one of its places.
    fn extent(&self, first: usize, blocks: usize, copy: usize) -> Option<Extent> {
        let from = first.max(self.first);
        let to = first.saturating_add(blocks).min(self.end());
        let place = self.places.get(copy).filter(|_| from < to)?;
        Some(Extent {
            device: place.device,
            start: self.of(place, from),
            blocks: Blocks(to.saturating_sub(from) as u64),
        })
    }

    /// Where one of its blocks lies, if its first lies at this place.
    fn of(&self, place: Place, block: usize) -> Blocks {
        let within = block.saturating_sub(self.first) as u64;
        Blocks(place.block.0.saturating_add(within))
    }

    /// Those of these blocks that it has, if there are any.
    pub fn cut(&self, first: usize, blocks: usize) -> Option<Part> {
        let from = first.max(self.first);
        let to = first.saturating_add(blocks).min(self.end());
        let places = self.places.moved(from.saturating_sub(self.first) as u64)?;
        (from < to).then_some(Part {
            first: from,
            blocks: to.saturating_sub(from),
            places,
        })
    }

    /// From the first to the last of its blocks that live, if any do.
    pub fn living(&self, live: &Live) -> Option<Part> {
        let (first, _) = live.runs(self.first, self.blocks).next()?;
        let (last, blocks) = live.runs(self.first, self.blocks).last()?;
        let end = last.saturating_add(blocks);
        self.cut(first, end.saturating_sub(first))
    }

    /// The same as two, if it has more than one block.
    pub fn halves(&self) -> Option<(Part, Part)> {
        let half = self.blocks / 2;
        let middle = self.first.saturating_add(half);
        let rest = self.blocks.saturating_sub(half);
        self.cut(self.first, half).zip(self.cut(middle, rest))
    }

    /// Takes the next part in if it goes on where this one ends, at all places.
    fn join(&mut self, next: &Part) -> bool {
        let follows =
            self.end() == next.first && self.places.moved(self.blocks as u64) == Some(next.places);
        if follows {
            self.blocks = self.blocks.saturating_add(next.blocks);
        }
        follows
    }

    /// The part that lies next on a disk, of an engram of so many blocks; and what lies behind it.
    fn parse(value: &[u8], blocks: usize) -> Option<(Self, &[u8])> {
        let (raw, rest) = RawPart::ref_from_prefix(value).ok()?;
        let copies = usize::from(raw.copies);
        let (places, rest) = <[U64]>::ref_from_prefix_with_elems(rest, copies).ok()?;
        let mut all: RawPlaces = [U64::new(0); COPIES];
        for (to, place) in all.get_mut(..copies)?.iter_mut().zip(places) {
            *to = *place;
        }
        let (first, last) = (usize::from(raw.first), usize::from(raw.last));
        let places = Places::parse(&all).filter(|places| places.count() == copies)?;
        let is_sound = raw.zero == 0 && first <= last && last < blocks;
        let part = Part {
            first,
            blocks: last.saturating_sub(first).saturating_add(1),
            places,
        };
        is_sound.then_some((part, rest))
    }

    fn encode(&self, value: &mut Vec<u8>) -> Result<(), NoMem> {
        let copies = self.places.count();
        let raw = RawPart {
            first: self.first as u8,
            last: self.end().saturating_sub(1) as u8,
            copies: copies as u8,
            zero: 0,
        };
        value.try_extend_from_slice(raw.as_bytes())?;
        let places = self.places.raw();
        value.try_extend_from_slice(places.get(..copies).unwrap_or_default().as_bytes())
    }
}

/// What lies of a part at each of its places.
pub struct PartExtents<'p> {
    part: &'p Part,
    first: usize,
    blocks: usize,
    next: usize,
}

impl Iterator for PartExtents<'_> {
    type Item = Extent;

    fn next(&mut self) -> Option<Extent> {
        let extent = self.part.extent(self.first, self.blocks, self.next)?;
        self.next = self.next.saturating_add(1);
        Some(extent)
    }
}

/// The parts of an engram in copies.
pub struct Parts<'m> {
    map: &'m Map,
    next: usize,
}

impl Iterator for Parts<'_> {
    type Item = Part;

    fn next(&mut self) -> Option<Part> {
        let part = self.map.nth(self.next)?;
        self.next = self.next.saturating_add(1);
        Some(part)
    }
}

/// Where blocks of an engram lie in copies.
pub struct Extents<'m> {
    map: &'m Map,
    first: usize,
    blocks: usize,
    part: usize,
    copy: usize,
}

impl Iterator for Extents<'_> {
    type Item = Extent;

    #[inline(never)]
    fn next(&mut self) -> Option<Extent> {
        loop {
            let part = self.map.nth(self.part)?;
            if let Some(extent) = part.extent(self.first, self.blocks, self.copy) {
                self.copy = self.copy.saturating_add(1);
                return Some(extent);
            }
            (self.part, self.copy) = (self.part.saturating_add(1), 0);
        }
    }
}

/// Where blocks of an engram lie.
#[derive(PartialEq, Eq, Debug)]
pub enum Lies {
    /// All of them together, at each of these places.
    Copies(Places),
    /// In copies as well, but not all together: these parts, in order. What is in none is dead.
    Parts(Vec<Part>),
    /// In stripes: these pieces, in order. What is in none was given up with its stripe.
    Stripes(Vec<Piece>),
}

/// Where an engram's blocks lie.
#[derive(PartialEq, Eq, Debug)]
pub struct Map {
    /// How many they are.
    pub blocks: usize,
    /// How much they are to survive.
    pub policy: Policy,
    /// Where they lie.
    pub lies: Lies,
}

impl Map {
    /// Whole copies at these places.
    pub fn copied(blocks: usize, policy: Policy, places: Places) -> Self {
        let lies = Lies::Copies(places);
        Map {
            blocks,
            policy,
            lies,
        }
    }

    /// Checks an item's value.
    pub fn parse(value: &[u8]) -> Result<Option<Self>, NoMem> {
        let Ok((raw, rest)) = RawMap::ref_from_prefix(value) else {
            return Ok(None);
        };
        let blocks = usize::from(raw.blocks.get());
        if raw.version != VERSION || blocks == 0 || blocks > MAX_BLOCKS {
            return Ok(None);
        }
        let Some(policy) = Policy::new(raw.policy) else {
            return Ok(None);
        };
        let lies = match raw.kind {
            COPIED => match RawPlaces::ref_from_bytes(rest) {
                Ok(places) => Places::parse(places).map(Lies::Copies),
                Err(_) => None,
            },
            STRIPED => pieces(rest, blocks)?.map(Lies::Stripes),
            PARTED => parts(rest, blocks)?.map(Lies::Parts),
            _ => None,
        };
        Ok(lies.map(|lies| Map {
            blocks,
            policy,
            lies,
        }))
    }

    /// The item's value.
    pub fn encode(&self) -> Result<Vec<u8>, NoMem> {
        let raw = RawMap {
            version: VERSION,
            kind: match self.lies {
                Lies::Copies(_) => COPIED,
                Lies::Parts(_) => PARTED,
                Lies::Stripes(_) => STRIPED,
            },
            blocks: (self.blocks as u16).into(),
            policy: self.policy.number(),
            zero: [0; 3],
        };
        let mut value = Vec::try_from_slice(raw.as_bytes())?;
        match &self.lies {
            Lies::Copies(places) => value.try_extend_from_slice(places.raw().as_bytes())?,
            Lies::Parts(parts) => {
                for part in parts.iter() {
                    part.encode(&mut value)?;
                }
            }
            Lies::Stripes(pieces) => {
                for piece in pieces.iter() {
                    value.try_extend_from_slice(piece.raw().as_bytes())?;
                }
            }
        }
        Ok(value)
    }

    /// The places of its copies, where these lie in one piece each.
    pub fn copies(&self) -> Option<&Places> {
        match &self.lies {
            Lies::Copies(places) => Some(places),
            Lies::Parts(_) | Lies::Stripes(_) => None,
        }
    }

    /// Whether it lies in copies.
    pub fn is_copied(&self) -> bool {
        !matches!(self.lies, Lies::Stripes(_))
    }

    /// The parts in which it lies in copies; none where it lies in stripes.
    pub fn parts(&self) -> Parts<'_> {
        Parts { map: self, next: 0 }
    }

    #[inline(never)]
    fn nth(&self, n: usize) -> Option<Part> {
        match &self.lies {
            Lies::Copies(places) => (n == 0).then_some(Part {
                first: 0,
                blocks: self.blocks,
                places: *places,
            }),
            Lies::Parts(parts) => parts.get(n).copied(),
            Lies::Stripes(_) => None,
        }
    }

    /// The part that has a block, where it lies in copies.
    #[inline(never)]
    pub fn part(&self, block: usize) -> Option<Part> {
        self.parts().find(|part| part.has(block))
    }

    /// Where these blocks lie in copies, part by part, at each place of each.
    pub fn extents(&self, first: usize, blocks: usize) -> Extents<'_> {
        Extents {
            map: self,
            first,
            blocks,
            part: 0,
            copy: 0,
        }
    }

    /// Whether something of it lies on a device.
    pub fn is_on(&self, device: Slot) -> bool {
        let mut all = self.extents(0, self.blocks);
        all.any(|extent| extent.device == device)
    }

    /// What lies in copies lies in these parts from now on, which are in order. Not if they are too many.
    pub fn part_as(&mut self, parts: &[Part]) -> Result<bool, NoMem> {
        let mut joined: Vec<Part> = Vec::new();
        for part in parts {
            match joined.last_mut().is_some_and(|last| last.join(part)) {
                true => {}
                false => joined.push(*part)?,
            }
        }
        let whole = joined.first().filter(|part| part.blocks == self.blocks);
        self.lies = match whole {
            Some(whole) => Lies::Copies(whole.places),
            None if joined.is_empty() || joined.len() > MAX_PARTS => return Ok(false),
            None => Lies::Parts(joined),
        };
        Ok(true)
    }

    /// The pieces in which it lies in stripes.
    pub fn pieces(&self) -> &[Piece] {
        match &self.lies {
            Lies::Copies(_) | Lies::Parts(_) => &[],
            Lies::Stripes(pieces) => pieces,
        }
    }

    /// The piece that a block lies in, where it lies in a stripe.
    pub fn piece(&self, block: usize) -> Option<Piece> {
        let Lies::Stripes(pieces) = &self.lies else {
            return None;
        };
        let has = |piece: &&Piece| (piece.first..piece.end()).contains(&block);
        pieces.iter().find(has).copied()
    }
}

/// The parts of an engram of so many blocks.
fn parts(value: &[u8], blocks: usize) -> Result<Option<Vec<Part>>, NoMem> {
    let mut parts: Vec<Part> = Vec::new();
    let (mut end, mut rest) = (0, value);
    while !rest.is_empty() {
        let next = Part::parse(rest, blocks).filter(|(part, _)| part.first >= end);
        let Some((part, behind)) = next.filter(|_| parts.len() < MAX_PARTS) else {
            return Ok(None);
        };
        (end, rest) = (part.end(), behind);
        parts.push(part)?;
    }
    Ok((end != 0).then_some(parts))
}

/// The pieces of an engram of so many blocks.
fn pieces(value: &[u8], blocks: usize) -> Result<Option<Vec<Piece>>, NoMem> {
    let mut pieces: Vec<Piece> = Vec::new();
    let Ok(all) = <[RawPiece]>::ref_from_bytes(value) else {
        return Ok(None);
    };
    let mut end = 0;
    for raw in all {
        let piece = Piece::parse(raw).filter(|p| p.first >= end && p.end() <= blocks);
        let Some(piece) = piece else {
            return Ok(None);
        };
        end = piece.end();
        pieces.push(piece)?;
    }
    Ok((end != 0).then_some(pieces))
}

/// Which blocks of an engram live.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Live([u64; MAX_BLOCKS / 64]);

impl Live {
    fn each(&mut self, first: usize, blocks: usize, f: impl Fn(u64, u64) -> u64) {
        for (n, word) in self.0.iter_mut().enumerate() {
            let begin = n.saturating_mul(64);
            let from = first.saturating_sub(begin).min(64);
            let to = first.saturating_add(blocks).saturating_sub(begin).min(64);
            if from < to {
                let count = to.saturating_sub(from) as u32;
                let mask = u64::MAX.wrapping_shr(64u32.saturating_sub(count));
                *word = f(*word, mask.wrapping_shl(from as u32));
            }
        }
    }

    /// These blocks live.
    pub fn set(&mut self, first: usize, blocks: usize) {
        self.each(first, blocks, |word, mask| word | mask);
    }

    /// These blocks are dead.
    pub fn clear(&mut self, first: usize, blocks: usize) {
        self.each(first, blocks, |word, mask| word & !mask);
    }

    /// How many live.
    pub fn count(&self) -> usize {
        self.0.iter().fold(0usize, |n, word| {
            n.saturating_add(word.count_ones() as usize)
        })
    }

    /// Whether a block lives.
    pub fn has(&self, block: usize) -> bool {
        let word = self.0.get(block / 64).copied().unwrap_or(0);
        word.wrapping_shr((block % 64) as u32) & 1 != 0
    }

    /// Runs of those of these blocks that live.
    pub fn runs(&self, first: usize, blocks: usize) -> Runs {
        Runs {
            live: *self,
            at: first,
            end: first.saturating_add(blocks),
        }
    }

    /// Checks the value of the item of an engram with so many blocks.
    pub fn parse(value: &[u8], blocks: usize) -> Option<Self> {
        let ([version, _, low, high], bytes) = value.split_first_chunk()?;
        let mut live = Live::default();
        if *version != VERSION || bytes.len() != blocks.div_ceil(8) {
            return None;
        }
        for (n, byte) in bytes.iter().enumerate() {
            let word = live.0.get_mut(n / 8)?;
            *word |= u64::from(*byte).wrapping_shl((n % 8).saturating_mul(8) as u32);
        }
        let mut beyond = live;
        beyond.clear(0, blocks);
        let count = usize::from(u16::from_le_bytes([*low, *high]));
        (beyond.count() == 0 && live.count() == count).then_some(live)
    }

    /// The item's value for an engram with so many blocks.
    pub fn encode(&self, blocks: usize) -> Result<Vec<u8>, NoMem> {
        let [low, high] = (self.count() as u16).to_le_bytes();
        let mut value = Vec::try_from_slice(&[VERSION, 0, low, high])?;
        let bytes = self.0.iter().flat_map(|word| word.to_le_bytes());
        value.try_extend(bytes.take(blocks.div_ceil(8)))?;
        Ok(value)
    }
}

/// Runs of blocks that live.
pub struct Runs {
    live: Live,
    at: usize,
    end: usize,
}

impl Iterator for Runs {
    /// Its first block, and how many.
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let begin = (self.at..self.end).find(|block| self.live.has(*block))?;
        let end = (begin..self.end).find(|block| !self.live.has(*block));
        self.at = end.unwrap_or(self.end);
        Some((begin, self.at.saturating_sub(begin)))
    }
}

/// How many bytes of a block's hash are kept.
pub fn hash_size(kept: BlockHash) -> usize {
    usize::from(kept.size())
}

/// The hashes of a group, each of so many bytes; none where the value makes no sense.
pub fn parse_hashes(value: &[u8], size: usize) -> Option<&[u8]> {
    let (version, hashes) = value.split_first()?;
    let whole = hashes.len().checked_rem(size) == Some(0);
    let sound = whole && hashes.len() <= HASHES.saturating_mul(size);
    (*version == VERSION && sound).then_some(hashes)
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawOwner {
    version: u8,
    zero: u8,
    blocks: U16,
    more: [u8; 4],
    inode: U64,
    at: U64,
}

/// Whose a run of an engram's blocks is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// How many blocks.
    pub blocks: usize,
    /// The file.
    pub inode: InodeNo,
    /// Where in the file the run was when it was written: a hint.
    pub at: FileBlock,
}

impl Owner {
    /// Checks an item's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let raw = RawOwner::ref_from_bytes(value).ok()?;
        let owner = Owner {
            blocks: usize::from(raw.blocks.get()),
            inode: InodeNo(raw.inode.get()),
            at: FileBlock(raw.at.get()),
        };
        let sound = raw.version == VERSION && owner.blocks != 0 && owner.blocks <= MAX_BLOCKS;
        sound.then_some(owner)
    }

    /// The item's value.
    pub fn encode(&self) -> [u8; size_of::<RawOwner>()] {
        let raw = RawOwner {
            version: VERSION,
            zero: 0,
            blocks: (self.blocks as u16).into(),
            more: [0; 4],
            inode: self.inode.0.into(),
            at: self.at.0.into(),
        };
        let mut bytes = [0; size_of::<RawOwner>()];
        for (to, from) in bytes.iter_mut().zip(raw.as_bytes()) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::pointer::Place;
    use crate::units::Blocks;
    use proptest::prelude::*;

    fn map() -> Map {
        let place = |device, block| Place {
            device: Slot::new(device).unwrap(),
            block: Blocks(block),
        };
        Map::copied(
            256,
            Policy::surviving(1).unwrap(),
            Places::new(&[place(2, 7), place(1, 9)]).unwrap(),
        )
    }

    fn striped() -> Map {
        let piece = |first, blocks, stripe, at| Piece {
            first,
            blocks,
            stripe: StripeId(stripe),
            at,
        };
        let pieces = [piece(0, 10, 3, 258), piece(254, 2, 2, 0)];
        Map {
            blocks: 256,
            policy: Policy::VOLUME,
            lies: Lies::Stripes(Vec::try_from_slice(&pieces).unwrap()),
        }
    }

    #[test]
    fn pieces_of_stripes_are_where_the_format_says() {
        let value = striped().encode().unwrap();
        let mut expected = std::vec![1, 1, 0, 1, 0, 0, 0, 0];
        expected.extend([3, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 9]);
        expected.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 254, 255]);
        assert_eq!(&value[..], &expected[..]);
        assert_eq!(Map::parse(&value), Ok(Some(striped())));
        let at = |block| striped().piece(block).map(|p| (p.stripe.0, p.at));
        assert_eq!(at(9), Some((3, 258)));
        assert_eq!(at(10), None);
        assert_eq!(at(255), Some((2, 0)));
        assert_eq!(map().piece(0), None);
        // No stripe; the end before the begin; overlapping; out of order; a block behind the engram's last; none at all.
        for (at, byte) in [(8, 0), (18, 10), (30, 9), (31, 3), (3, 0)] {
            let mut bad = striped().encode().unwrap();
            bad[at] = byte;
            assert_eq!(Map::parse(&bad), Ok(None), "byte {at}");
        }
        assert_eq!(Map::parse(&value[..8]), Ok(None));
        assert_eq!(Map::parse(&value[..31]), Ok(None));
    }

    fn parted() -> Map {
        let place = |device, block| Place {
            device: Slot::new(device).unwrap(),
            block: Blocks(block),
        };
        let part = |first, blocks, places: &[Place]| Part {
            first,
            blocks,
            places: Places::new(places).unwrap(),
        };
        let parts = [
            part(0, 2, &[place(2, 7), place(1, 9)]),
            part(5, 3, &[place(3, 4)]),
        ];
        let mut map = map();
        assert_eq!(map.part_as(&parts), Ok(true));
        map
    }

    #[test]
    fn parts_are_where_the_format_says() {
        let value = parted().encode().unwrap();
        let mut expected = std::vec![1, 2, 0, 1, 2, 0, 0, 0];
        expected.extend([0, 1, 2, 0]);
        expected.extend(((2u64 << 56) | 7).to_le_bytes());
        expected.extend(((1u64 << 56) | 9).to_le_bytes());
        expected.extend([5, 7, 1, 0]);
        expected.extend(((3u64 << 56) | 4).to_le_bytes());
        assert_eq!(&value[..], &expected[..]);
        assert_eq!(Map::parse(&value), Ok(Some(parted())));
        // Three copies, or none; overlapping; the end before the begin; one copy too many; what is to be zero.
        for (at, byte) in [(10, 3), (10, 0), (28, 1), (29, 4), (30, 6), (31, 1)] {
            let mut bad = parted().encode().unwrap();
            bad[at] = byte;
            assert_eq!(Map::parse(&bad), Ok(None), "byte {at}");
        }
        for length in [8, 9, 27, 31, 39] {
            assert_eq!(Map::parse(&value[..length]), Ok(None));
        }
        let mut behind = value.to_vec();
        behind[2..4].copy_from_slice(&[7, 0]);
        assert_eq!(Map::parse(&behind), Ok(None));
    }

    #[test]
    fn parts_say_where_blocks_lie() {
        let on = |e: Extent| (e.device.index(), e.start.0, e.blocks.0);
        let lie = |map: &Map, first, blocks| {
            map.extents(first, blocks)
                .map(on)
                .collect::<std::vec::Vec<_>>()
        };
        assert_eq!(lie(&map(), 3, 5), [(2, 10, 5), (1, 12, 5)]);
        assert_eq!(lie(&parted(), 1, 6), [(2, 8, 1), (1, 10, 1), (3, 4, 2)]);
        assert_eq!(lie(&parted(), 2, 3), []);
        assert_eq!(lie(&striped(), 0, 256), []);
        let part = parted().part(7).unwrap();
        assert_eq!((part.first, part.blocks), (5, 3));
        assert_eq!(parted().part(4), None);
        assert_eq!(
            part.cut(6, 9).unwrap().extents(0, 256).map(on).next(),
            Some((3, 5, 2))
        );
        assert_eq!(part.cut(8, 9), None);
        // What lies together is one.
        let all = map().part(0).unwrap();
        let (a, b) = (all.cut(0, 9).unwrap(), all.cut(9, 247).unwrap());
        let mut again = map();
        assert_eq!(again.part_as(&[a, b]), Ok(true));
        assert_eq!(again, map());
        let each: std::vec::Vec<Part> = (0..=MAX_PARTS)
            .map(|n| all.cut(2 * n, 1).unwrap())
            .collect();
        assert_eq!(again.part_as(&each), Ok(false));
        assert_eq!(again.part_as(&each[1..]), Ok(true));
        assert_eq!(Map::parse(&again.encode().unwrap()), Ok(Some(again)));
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let value = map().encode().unwrap();
        let mut expected = std::vec![1, 0, 0, 1, 2, 0, 0, 0];
        for place in [(2u64 << 56) | 7, (1 << 56) | 9, 0, 0, 0] {
            expected.extend(place.to_le_bytes());
        }
        assert_eq!(&value[..], &expected[..]);
        assert_eq!(Map::parse(&value), Ok(Some(map())));

        let mut live = Live::default();
        live.set(1, 9);
        let value = live.encode(13).unwrap();
        assert_eq!(&value[..], &[1, 0, 9, 0, 0xfe, 0x03]);
        assert_eq!(Live::parse(&value, 13), Some(live));

        let owner = Owner {
            blocks: 3,
            inode: InodeNo(4),
            at: FileBlock(5),
        };
        let mut expected = std::vec![1, 0, 3, 0, 0, 0, 0, 0];
        expected.extend(4u64.to_le_bytes());
        expected.extend(5u64.to_le_bytes());
        assert_eq!(&owner.encode()[..], &expected[..]);
        assert_eq!(Owner::parse(&owner.encode()), Some(owner));
        assert_eq!(
            key(EngramId(3), Kind::Owner, 255),
            Key([3, (4 << 56) | 255, 0])
        );
        assert_eq!(sub(key(EngramId(3), Kind::Owner, 255)), 255);
        assert!(all(EngramId(3)).has(key(EngramId(3), Kind::Numbers, 0)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut value = map().encode().unwrap();
        for (at, byte) in [(0, 2), (1, 1), (1, 2), (1, 3), (3, 2), (15, 1)] {
            let before = value[at];
            value[at] = byte;
            assert_eq!(Map::parse(&value), Ok(None), "byte {at}");
            value[at] = before;
        }
        assert_eq!(Map::parse(&value[1..]), Ok(None));
        assert_eq!(Live::parse(&[1, 0, 1, 0, 1, 0], 8), None);
        assert_eq!(Live::parse(&[1, 0, 2, 0, 1], 8), None);
        assert_eq!(Live::parse(&[1, 0, 1, 0, 0x10], 4), None);
        assert!(Live::parse(&[1, 0, 1, 0, 0x08], 4).is_some());
        assert_eq!(parse_hashes(&[2], 8), None);
        assert_eq!(parse_hashes(&[1, 1, 2, 3], 8), None);
        assert_eq!(parse_hashes(&[1; 1 + 17 * 8], 8), None);
        assert_eq!(parse_hashes(&[1; 1 + 16 * 8], 8), Some(&[1; 16 * 8][..]));
        assert_eq!(Owner::parse(&[1; 24]), None);
        assert_eq!(Owner::parse(&[0; 24]), None);
    }

    proptest! {
        #[test]
        fn live_blocks_are_a_set(steps in proptest::collection::vec((any::<bool>(), 0usize..256, 0usize..256), 0..20), blocks in 1usize..257) {
            let mut live = Live::default();
            let mut model = [false; 256];
            for (on, first, count) in steps {
                let (first, count) = (first.min(blocks - 1), count.min(blocks - first.min(blocks - 1)));
                if on { live.set(first, count) } else { live.clear(first, count) }
                model[first..first + count].fill(on);
            }
            prop_assert_eq!(live.count(), model.iter().filter(|m| **m).count());
            for (n, is) in model.iter().enumerate() {
                prop_assert_eq!(live.has(n), *is);
            }
            prop_assert_eq!(Live::parse(&live.encode(blocks).unwrap(), blocks), Some(live));
        }
    }
}
