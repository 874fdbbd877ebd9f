// SPDX-License-Identifier: GPL-2.0

//! How the payload of a stripe is cut: data fragments one after the other, all as long as the parity but for the last, which has the
//! rest. What a shorter one lacks counts as zeros and lies nowhere. Row r of all fragments together is one word of the code.

use crate::format::geometry::Geometry;
use crate::format::geometry::MAX_DATA;
use crate::format::geometry::MAX_PARITY;
use crate::format::stripe::GRADES;

/// Blocks of a fragment, at most.
pub const MAX_ROWS: usize = 256;
/// Fragments of a stripe, at most.
pub const MAX_FRAGMENTS: usize = MAX_DATA as usize + MAX_PARITY as usize;

/// A set of fragments of a stripe: those of data first, then those of parity.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Fragments(u32);

impl Fragments {
    /// The first so many.
    pub fn first(count: usize) -> Self {
        (0..count).collect()
    }

    /// With this one.
    #[must_use]
    pub fn with(self, fragment: usize) -> Self {
        Fragments(self.0 | 1u32.wrapping_shl(fragment as u32))
    }

    /// Without this one.
    #[must_use]
    pub fn without(self, fragment: usize) -> Self {
        Fragments(self.0 & !1u32.wrapping_shl(fragment as u32))
    }

    /// Whether it is one of them.
    pub fn has(self, fragment: usize) -> bool {
        fragment < MAX_FRAGMENTS && self.0.wrapping_shr(fragment as u32) & 1 != 0
    }

    /// How many they are.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Each of them, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> + Clone {
        (0..MAX_FRAGMENTS).filter(move |n| self.has(*n))
    }
}

impl FromIterator<usize> for Fragments {
    fn from_iter<I: IntoIterator<Item = usize>>(fragments: I) -> Self {
        let all = fragments.into_iter().filter(|n| *n < MAX_FRAGMENTS);
        all.fold(Fragments::default(), Fragments::with)
    }
}

/// How a payload of some blocks is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    geometry: Geometry,
    rows: usize,
    blocks: usize,
}

impl Shape {
    /// Cuts so many blocks into at most the data fragments of `geometry`, and no more than are needed: few blocks make a narrow stripe,
    /// not a padded one. None where there are no blocks, or more than fit.
    pub fn cut(geometry: Geometry, blocks: usize) -> Option<Self> {
        let most = usize::from(geometry.data());
        let rows = blocks.checked_next_multiple_of(most)?.checked_div(most)?;
        let data = u8::try_from(blocks.checked_div(rows)?).ok()?;
        let rest = u8::from(blocks.checked_rem(rows)? != 0);
        let geometry = Geometry::new(data.checked_add(rest)?, geometry.parity()).ok()?;
        Self::new(geometry, rows, blocks)
    }

    /// So many blocks in as many fragments as `geometry` says, of at most so many rows; none where that cannot be.
    pub fn new(geometry: Geometry, rows: usize, blocks: usize) -> Option<Self> {
        let before_last = usize::from(geometry.data()).checked_sub(1)?;
        let least = before_last.checked_mul(rows)?;
        let fits = rows <= MAX_ROWS && least < blocks && blocks <= least.checked_add(rows)?;
        fits.then_some(Shape {
            geometry,
            rows,
            blocks,
        })
    }

    /// k and m of this stripe.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Fragments of data.
    pub fn data(&self) -> usize {
        usize::from(self.geometry.data())
    }

    /// Fragments of parity.
    pub fn parity(&self) -> usize {
        usize::from(self.geometry.parity())
    }

    /// Fragments in all.
    pub fn width(&self) -> usize {
        usize::from(self.geometry.width())
    }

    /// Blocks of the longest fragment.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Blocks of payload.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Blocks that it takes on devices.
    pub fn taken(&self) -> usize {
        // At most MAX_PARITY * MAX_ROWS are parity.
        self.blocks
            .saturating_add(self.parity().saturating_mul(self.rows))
    }

    /// In how many parts of [`GRADES`] of what it takes there would be room for so many blocks in full stripes of a geometry, with as much
    /// parity as this one; none where it is full enough.
    pub fn grade(&self, live: usize, geometry: Geometry) -> Option<usize> {
        let width = usize::from(geometry.data()).saturating_add(self.parity());
        let needed = live
            .saturating_mul(width)
            .div_ceil(usize::from(geometry.data()).max(1));
        let parts = needed.saturating_mul(GRADES).checked_div(self.taken())?;
        (parts < GRADES).then_some(parts)
    }

    /// Blocks of a fragment; none of one that there is not.
    pub fn length(&self, fragment: usize) -> usize {
        let begin = fragment.saturating_mul(self.rows);
        match fragment < self.data() {
            true => self.blocks.saturating_sub(begin).min(self.rows),
            false if fragment < self.width() => self.rows,
            false => 0,
        }
    }

    /// The first block of payload that a data fragment holds.
    pub fn begin(&self, fragment: usize) -> usize {
        fragment.saturating_mul(self.rows)
    }

    /// Which fragment a block of payload is in, and in which row.
    pub fn place(&self, block: usize) -> (usize, usize) {
        let fragment = block.checked_div(self.rows).unwrap_or(0);
        (
            fragment,
            block.saturating_sub(fragment.saturating_mul(self.rows)),
        )
    }

    /// The fragments that have a block in this row. Of others it counts as zeros.
    pub fn in_row(&self, row: usize) -> Fragments {
        (0..self.width())
            .filter(|f| row < self.length(*f))
            .collect()
    }

    /// Blocks that it takes on all devices together.
    pub fn cost(&self) -> usize {
        let parity = self.parity().saturating_mul(self.rows);
        self.blocks.saturating_add(parity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn few_blocks_make_narrow_stripes() {
        let four = Geometry::new(4, 2).unwrap();
        for (blocks, data, rows, last, cost) in [
            (1, 1, 1, 1, 3),
            (2, 2, 1, 1, 4),
            (4, 4, 1, 1, 6),
            (5, 3, 2, 1, 9),
            (6, 3, 2, 2, 10),
            (7, 4, 2, 1, 11),
            (9, 3, 3, 3, 15),
            (256, 4, 64, 64, 384),
        ] {
            let shape = Shape::cut(four, blocks).unwrap();
            assert_eq!(
                (shape.data(), shape.rows(), shape.length(shape.data() - 1)),
                (data, rows, last),
                "{blocks}"
            );
            assert_eq!(shape.cost(), cost, "{blocks}");
        }
        assert_eq!(Shape::cut(four, 0), None);
        assert_eq!(Shape::cut(four, 4 * MAX_ROWS + 1), None);
        assert!(Shape::cut(four, 4 * MAX_ROWS).is_some());
    }

    #[test]
    fn no_fragment_is_empty() {
        let four = Geometry::new(4, 2).unwrap();
        assert_eq!(Shape::new(four, 2, 6), None);
        assert!(Shape::new(four, 2, 7).is_some());
        assert!(Shape::new(four, 2, 8).is_some());
        assert_eq!(Shape::new(four, 2, 9), None);
        assert_eq!(Shape::new(four, 0, 0), None);
        assert_eq!(Shape::new(four, usize::MAX, 4), None);
        assert_eq!(Shape::new(four, MAX_ROWS + 1, 4 * MAX_ROWS + 4), None);
    }

    proptest! {
        #[test]
        fn every_block_has_one_place(k in 1u8..17, m in 0u8..5, blocks in 1usize..5000) {
            let geometry = Geometry::new(k, m).unwrap();
            let Some(shape) = Shape::cut(geometry, blocks) else {
                prop_assert!(blocks > usize::from(k) * MAX_ROWS);
                return Ok(());
            };
            prop_assert!(shape.data() <= usize::from(k));
            prop_assert_eq!(shape.parity(), usize::from(m));
            let data = 0..shape.data();
            prop_assert_eq!(data.clone().map(|f| shape.length(f)).sum::<usize>(), blocks);
            prop_assert!(data.clone().all(|f| shape.length(f) > 0));
            prop_assert!((shape.data()..shape.width()).all(|f| shape.length(f) == shape.rows()));
            prop_assert_eq!((0..shape.width()).map(|f| shape.length(f)).sum::<usize>(), shape.cost());
            for block in 0..blocks {
                let (fragment, row) = shape.place(block);
                prop_assert!(row < shape.length(fragment));
                prop_assert_eq!(shape.begin(fragment) + row, block);
                prop_assert!(shape.in_row(row).has(fragment));
            }
        }
    }
}
