// SPDX-License-Identifier: GPL-2.0

//! What the tree of stripes holds of each: how its payload is cut and where its fragments lie, which engrams' blocks are its payload,
//! how many of these live, and the hashes of its parity. (Those of data are the engrams'.)

use crate::error::NoMem;
use crate::format::engram::sub;
use crate::format::engram::MAX_BLOCKS;
use crate::format::engram::SUB_BITS;
use crate::format::geometry::Geometry;
use crate::format::pointer::Place;
use crate::stripe::shape::MAX_FRAGMENTS;
use crate::stripe::shape::MAX_ROWS;
use crate::stripe::Shape;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::Generation;
use crate::units::StripeId;
use embr_rt::Vec;
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

/// The version of such items.
pub const VERSION: u8 = 1;
/// Rows whose hashes of one parity fragment lie in one item.
pub const HASHES: usize = crate::format::engram::HASHES;
/// In so many parts it is told how much of what a stripe takes it needs.
pub const GRADES: usize = 16;

/// What an item of a stripe is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Kind {
    /// How it is cut, and where its fragments lie.
    Layout = 0x01,
    /// Which blocks of which engrams a data fragment holds.
    Contents = 0x02,
    /// How many of them live.
    Live = 0x03,
    /// Hashes of 16 rows of a parity fragment.
    Hashes = 0x04,
    /// Under no stripe: which of them take more room than what lives of them needs, those that need least of theirs first.
    Wasteful = 0xf0,
    /// Under no stripe: what all of them take, and what of it lives.
    Totals = 0xf1,
    /// Under no stripe: a number above that of every stripe there ever was.
    Numbers = 0xf2,
}

/// The key of an item.
pub fn key(stripe: StripeId, kind: Kind, sub: usize) -> Key {
    let kind = (kind as u64).wrapping_shl(SUB_BITS);
    Key([stripe.0, kind | (sub as u64), 0])
}

/// What tells the hashes of a parity fragment apart, from this row on.
pub fn hashes_sub(parity: usize, row: usize) -> usize {
    let groups = MAX_ROWS / HASHES;
    parity.saturating_mul(groups).saturating_add(row / HASHES)
}

/// The key that says of a stripe that what lives of it needs so many parts in [`GRADES`] of what it takes. The value is the version.
pub fn wasteful(grade: usize, stripe: StripeId) -> Key {
    let Key([none, kind, _]) = key(StripeId::NONE, Kind::Wasteful, grade);
    Key([none, kind, stripe.0])
}

/// What such a key says.
pub fn parse_wasteful(at: Key) -> Option<(usize, StripeId)> {
    let stripe = StripeId(at.0[2]);
    let grade = sub(at) as usize;
    let sound = grade < GRADES && stripe != StripeId::NONE && at == wasteful(grade, stripe);
    sound.then_some((grade, stripe))
}

/// All of these keys.
pub fn all_wasteful() -> Range {
    Range {
        first: wasteful(0, StripeId::NONE),
        last: wasteful(GRADES, StripeId::NONE),
    }
}

/// What all stripes together are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Totals {
    /// Blocks that they take on devices.
    pub taken: Blocks,
    /// Blocks of payload that live.
    pub live: Blocks,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTotals {
    version: u8,
    taken: U64,
    live: U64,
}

impl Totals {
    /// Checks the item's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let raw = RawTotals::read_from_bytes(value).ok()?;
        (raw.version == VERSION).then(|| Totals {
            taken: Blocks(raw.taken.get()),
            live: Blocks(raw.live.get()),
        })
    }

    /// The item's value.
    pub fn encode(&self) -> [u8; 17] {
        let raw = RawTotals {
            version: VERSION,
            taken: self.taken.0.into(),
            live: self.live.0.into(),
        };
        zerocopy::transmute!(raw)
    }
}

/// Every key of a stripe.
pub fn all(stripe: StripeId) -> Range {
    Range {
        first: Key([stripe.0, 0, 0]),
        last: Key([stripe.0, u64::MAX, u64::MAX]),
    }
}

/// Where its payload comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// It was written lately.
    Fresh = 0,
    /// It lived on when a stripe that it was in before did not.
    Moved = 1,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawLayout {
    version: u8,
    data: u8,
    parity: u8,
    class: u8,
    rows: U16,
    blocks: U16,
    sealed: U64,
    revision: U32,
    zero: [u8; 4],
}

/// How a stripe is cut, and where its fragments lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// How it is cut.
    pub shape: Shape,
    /// Where its payload comes from.
    pub class: Class,
    /// The generation of the next root when it was sealed: how old it is.
    pub sealed: Generation,
    /// How often a part of it was written anew.
    pub revision: u32,
    places: [u64; MAX_FRAGMENTS],
}

impl Layout {
    /// A stripe whose fragments lie at these places, in order. None where that cannot be.
    pub fn new(
        shape: Shape,
        class: Class,
        sealed: Generation,
        places: impl Iterator<Item = Place>,
    ) -> Option<Self> {
        let mut layout = Layout {
            shape,
            class,
            sealed,
            revision: 0,
            places: [0; MAX_FRAGMENTS],
        };
        let mut count = 0;
        for (to, place) in layout.places.iter_mut().zip(places) {
            *to = place.packed()?;
            count = usize::saturating_add(count, 1);
        }
        (count == shape.width() && layout.is_possible()).then_some(layout)
    }

    /// Enough fragments are somewhere, each on a device of its own.
    fn is_possible(&self) -> bool {
        let mut devices = crate::format::member::Members::default();
        for place in (0..self.shape.width()).filter_map(|f| self.place(f)) {
            if devices.has(place.device) {
                return false;
            }
            devices = devices.with(place.device);
        }
        devices.count() as usize >= self.shape.data()
    }

    /// Where a fragment lies, if it does.
    pub fn place(&self, fragment: usize) -> Option<Place> {
        Place::unpacked(*self.places.get(fragment)?)
    }

    /// The same stripe with this fragment elsewhere.
    pub fn with_place(mut self, fragment: usize, place: Option<Place>) -> Option<Self> {
        let packed = place.map_or(Some(0), Place::packed)?;
        if fragment >= self.shape.width() {
            return None;
        }
        *self.places.get_mut(fragment)? = packed;
        self.is_possible().then_some(self)
    }

    /// The same stripe, of which a part was written anew, with its fragments at these places, in order.
    pub fn revised(&self, places: impl Iterator<Item = Place>) -> Option<Self> {
        let revised = Layout::new(self.shape, self.class, self.sealed, places)?;
        Some(Layout {
            revision: self.revision.checked_add(1)?,
            ..revised
        })
    }

    /// Checks an item's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (raw, places) = RawLayout::ref_from_prefix(value).ok()?;
        let geometry = Geometry::new(raw.data, raw.parity).ok()?;
        let (rows, blocks) = (usize::from(raw.rows.get()), usize::from(raw.blocks.get()));
        let mut layout = Layout {
            shape: Shape::new(geometry, rows, blocks)?,
            class: match raw.class {
                0 => Class::Fresh,
                1 => Class::Moved,
                _ => return None,
            },
            sealed: Generation(raw.sealed.get()),
            revision: raw.revision.get(),
            places: [0; MAX_FRAGMENTS],
        };
        let places = <[U64]>::ref_from_bytes(places).ok()?;
        if raw.version != VERSION || places.len() != layout.shape.width() {
            return None;
        }
        for (to, place) in layout.places.iter_mut().zip(places) {
            *to = place.get();
            if *to != 0 {
                Place::unpacked(*to)?;
            }
        }
        layout.is_possible().then_some(layout)
    }

    /// The item's value.
    pub fn encode(&self) -> Result<Vec<u8>, NoMem> {
        let raw = RawLayout {
            version: VERSION,
            data: self.shape.geometry().data(),
            parity: self.shape.geometry().parity(),
            class: self.class as u8,
            rows: (self.shape.rows() as u16).into(),
            blocks: (self.shape.blocks() as u16).into(),
            sealed: self.sealed.0.into(),
            revision: self.revision.into(),
            zero: [0; 4],
        };
        let mut value = Vec::try_from_slice(raw.as_bytes())?;
        for place in self.places.iter().take(self.shape.width()) {
            value.try_extend_from_slice(&place.to_le_bytes())?;
        }
        Ok(value)
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawHeld {
    engram: U64,
    first: u8,
    last: u8,
}

/// Blocks of an engram that lie together in a fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The engram.
    pub engram: EngramId,
    /// Its first block of these.
    pub first: usize,
    /// How many, not none.
    pub blocks: usize,
}

impl Held {
    fn parse(raw: &RawHeld) -> Option<Self> {
        let (first, last) = (usize::from(raw.first), usize::from(raw.last));
        let sound = raw.engram.get() != 0 && first <= last;
        sound.then(|| Held {
            engram: EngramId(raw.engram.get()),
            first,
            blocks: last.saturating_sub(first).saturating_add(1),
        })
    }
}

/// What a data fragment of so many blocks holds, in its order; none where the value makes no sense.
pub fn parse_contents(
    value: &[u8],
    blocks: usize,
) -> Option<impl Iterator<Item = Held> + Clone + '_> {
    let (version, rest) = value.split_first()?;
    let all = <[RawHeld]>::ref_from_bytes(rest).ok()?;
    let mut sum = 0usize;
    for raw in all {
        sum = sum.saturating_add(Held::parse(raw)?.blocks);
    }
    let sound = *version == VERSION && sum == blocks;
    sound.then(|| all.iter().filter_map(Held::parse))
}

/// The item's value for a data fragment that holds this.
pub fn encode_contents(held: &[Held]) -> Result<Vec<u8>, NoMem> {
    let mut value = Vec::try_from_slice(&[VERSION])?;
    for held in held {
        let last = held.first.saturating_add(held.blocks).saturating_sub(1);
        debug_assert!(held.blocks != 0 && last < MAX_BLOCKS);
        let raw = RawHeld {
            engram: held.engram.0.into(),
            first: held.first as u8,
            last: last as u8,
        };
        value.try_extend_from_slice(raw.as_bytes())?;
    }
    Ok(value)
}

/// How many blocks of a stripe live; none where the value makes no sense.
pub fn parse_live(value: &[u8]) -> Option<usize> {
    let [VERSION, 0, low, high] = value else {
        return None;
    };
    Some(usize::from(u16::from_le_bytes([*low, *high])))
}

/// The item's value where so many live.
pub fn encode_live(blocks: usize) -> [u8; 4] {
    let [low, high] = (blocks as u16).to_le_bytes();
    [VERSION, 0, low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::member::Slot;
    use crate::units::Blocks;
    use std::vec;

    fn place(slot: usize, block: u64) -> Option<Place> {
        Some(Place {
            device: Slot::new(slot).unwrap(),
            block: Blocks(block),
        })
    }

    fn places(all: [(usize, u64); 3]) -> impl Iterator<Item = Place> {
        all.into_iter()
            .filter_map(|(slot, block)| place(slot, block))
    }

    fn layout() -> Layout {
        let shape = Shape::new(Geometry::new(2, 1).unwrap(), 3, 5).unwrap();
        let whole = places([(4, 5), (9, 9), (1, 0x123)]);
        let whole = Layout::new(shape, Class::Moved, Generation(9), whole).unwrap();
        whole.with_place(1, None).unwrap()
    }

    #[test]
    fn a_stripe_is_these_bytes() {
        let mut expected = vec![
            1, 2, 1, 1, 3, 0, 5, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        ];
        expected.extend([5, 0, 0, 0, 0, 0, 0, 4]);
        expected.extend([0; 8]);
        expected.extend([0x23, 1, 0, 0, 0, 0, 0, 1]);
        let layout = Layout {
            revision: 7,
            ..layout()
        };
        let value = layout.encode().unwrap();
        assert_eq!(&value[..], &expected[..]);
        assert_eq!(Layout::parse(&value), Some(layout));
        assert_eq!(key(StripeId(3), Kind::Live, 0), Key([3, 3 << 56, 0]));
        assert_eq!(hashes_sub(3, 255), 63);
        assert_eq!(hashes_sub(1, 17), 17);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut value = layout().encode().unwrap();
        // Version, k, m, class, rows, blocks; a device twice; a block beyond all devices; fewer places than fragments.
        for (at, byte) in [
            (0, 2),
            (1, 0),
            (1, 17),
            (2, 5),
            (3, 2),
            (4, 0),
            (4, 6),
            (6, 7),
            (47, 4),
            (30, 0xff),
        ] {
            let before = value[at];
            value[at] = byte;
            assert_eq!(Layout::parse(&value), None, "byte {at}");
            value[at] = before;
        }
        assert!(Layout::parse(&value).is_some());
        assert_eq!(Layout::parse(&value[..40]), None);
        assert_eq!(Layout::parse(&value[..value.len() - 1]), None);
        let layout = layout();
        // Of two data fragments and one of parity two must be somewhere, on two devices.
        assert_eq!(layout.with_place(0, None), None);
        assert_eq!(layout.with_place(1, place(4, 77)), None);
        assert_eq!(layout.with_place(3, place(5, 77)), None);
        let healed = layout.with_place(1, place(5, 77)).unwrap();
        assert_eq!(healed.place(1), place(5, 77));
        assert_eq!(healed.place(3), None);
    }

    #[test]
    fn what_is_said_of_all_is_these_bytes() {
        let at = wasteful(3, StripeId(9));
        assert_eq!(at, Key([0, (0xf0 << 56) | 3, 9]));
        assert_eq!(parse_wasteful(at), Some((3, StripeId(9))));
        assert!(all_wasteful().has(at) && all_wasteful().has(wasteful(15, StripeId(u64::MAX))));
        for bad in [
            wasteful(GRADES, StripeId(9)),
            wasteful(0, StripeId::NONE),
            key(StripeId::NONE, Kind::Numbers, 0),
            Key([1, at.0[1], 9]),
        ] {
            assert_eq!(parse_wasteful(bad), None, "{bad}");
        }
        assert!(!all_wasteful().has(key(StripeId::NONE, Kind::Totals, 0)));
        let totals = Totals {
            taken: Blocks(0x1234),
            live: Blocks(5),
        };
        let value = totals.encode();
        assert_eq!(value[..4], [1, 0x34, 0x12, 0]);
        assert_eq!(value[9], 5);
        assert_eq!(Totals::parse(&value), Some(totals));
        assert_eq!(Totals::parse(&value[1..]), None);
    }

    #[test]
    fn contents_add_up() {
        let held = [
            Held {
                engram: EngramId(5),
                first: 250,
                blocks: 6,
            },
            Held {
                engram: EngramId(1),
                first: 0,
                blocks: 2,
            },
        ];
        let value = encode_contents(&held).unwrap();
        assert_eq!(
            &value[..],
            &[1, 5, 0, 0, 0, 0, 0, 0, 0, 250, 255, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        let read = parse_contents(&value, 8).unwrap();
        assert!(read.eq(held));
        assert!(parse_contents(&value, 9).is_none());
        assert!(parse_contents(&value[..20], 8).is_none());
        // No engram; the last block before the first; another version.
        for (at, byte) in [(1, 0), (9, 1), (0, 2)] {
            let mut bad = encode_contents(&held[1..]).unwrap();
            bad[at] = byte;
            if at == 9 {
                bad[10] = 0;
            }
            assert!(parse_contents(&bad, 2).is_none(), "byte {at}");
        }
        assert_eq!(parse_live(&encode_live(4096)), Some(4096));
        assert_eq!(parse_live(&[1, 1, 0, 0]), None);
        assert_eq!(parse_live(&[1, 0, 0]), None);
    }
}
