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
}

/// Changes in order of their keys. Ranges are older than changes of keys within them: a key that was set in a range that is gone
/// is set.
pub trait Changes {
    /// The change with the lowest key that is not below `from`.
    fn at_or_after(&self, from: Key) -> Option<(Key, Change<'_>)>;
    /// The lowest range that is gone and does not end below `from`. Ranges neither overlap nor touch.
    fn gone_at_or_after(&self, from: Key) -> Option<Range>;
}
