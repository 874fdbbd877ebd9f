// SPDX-License-Identifier: GPL-2.0

//! What a checkpoint merges into a base: an ordered set of changes, whoever holds them.

use crate::tree::key::Key;

/// What happened to one key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// It has this value now.
    Set(&'a [u8]),
    /// It is gone.
    Gone,
}

/// The keys from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// The lowest key in it.
    pub first: Key,
    /// The highest.
    pub last: Key,
}

impl Range {
    /// Every key there is.
    pub const ALL: Range = Range {
        first: Key::MIN,
        last: Key::MAX,
    };

    /// Whether the key lies in it.
    pub fn has(&self, key: Key) -> bool {
        self.first <= key && key <= self.last
    }

    /// Whether the two have a key in common.
    pub fn overlaps(&self, other: &Range) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether every key of `other` is in this one.
    pub fn covers(&self, other: &Range) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Where in a row of `of` keys the key would lie, if they were spread evenly over the range.
    pub fn guess(&self, key: Key, of: usize) -> usize {
        let ends = self.first.0.iter().zip(self.last.0);
        let mut words = ends.zip(key.0);
        // What is before the first word in which the ends differ, all keys between them have in common.
        let Some(((first, last), word)) = words.find(|((a, b), _)| **a != *b) else {
            return 0;
        };
        let span = last.saturating_sub(*first);
        let part = word.saturating_sub(*first).min(span);
        // To 47 bits, so that the product with the number of keys in a node fits.
        let shift = 17u32.saturating_sub(span.leading_zeros());
        let span = span.wrapping_shr(shift).max(1);
        let place = (part.wrapping_shr(shift).saturating_mul(of as u64)).checked_div(span);
        usize::try_from(place.unwrap_or(0)).unwrap_or(of).min(of)
    }
}

/// Changes in order of their keys. Ranges are older than changes of keys within them: a key that was set in a range that is gone
/// is set.
pub trait Changes {
    /// The change with the lowest key that is not below `from`.
    fn at_or_after(&self, from: Key) -> Option<(Key, Change<'_>)>;
    /// The lowest range that is gone and does not end below `from`. Ranges neither overlap nor touch.
    fn gone_at_or_after(&self, from: Key) -> Option<Range>;
}
