// SPDX-License-Identifier: GPL-2.0

//! New nodes of one level under construction: what lies between two untouched neighbours, gathered until it is known how to
//! divide it. It decides how full nodes get and writes nothing.
//!
//! A pile gives off a node only when what stays behind is enough for another. So whatever was given off, the rest can always
//! be closed without a node that is under-full.

use crate::format::node;
use crate::format::node::INNER_ENTRY;
use crate::format::node::LEAF_ENTRY;
use crate::format::pointer::Pointer;
use crate::tree::Key;
use embr_rt::NoMem;
use embr_rt::Vec;

/// How full a node gets where many are written one after the other, in percent.
const WELL_FILLED: usize = 90;

/// Bytes of entries in a node.
#[derive(Clone, Copy)]
pub(super) struct Fill {
    /// What fits.
    pub(super) room: usize,
    /// What is aimed at in a row of nodes.
    target: usize,
    /// Below this a node is under-full.
    pub(super) least: usize,
}

impl Fill {
    /// For nodes of this size.
    pub(super) fn new(size: usize) -> Self {
        let room = node::room(size);
        Fill {
            room,
            target: room * WELL_FILLED / 100,
            least: least(size),
        }
    }
}

/// Bytes of entries below which a node is under-full.
pub(super) fn least(size: usize) -> usize {
    node::room(size) / 4
}

/// Something with a place in a node.
pub(super) trait Item: Copy {
    /// Bytes of a node that it takes.
    fn weight(&self) -> usize;
    /// Whether there was nothing at its key before.
    fn fresh(&self) -> bool;
}

/// An entry of a leaf; its value lies with the pile.
#[derive(Clone, Copy)]
pub(super) struct LeafItem {
    pub(super) key: Key,
    begin: usize,
    length: usize,
    fresh: bool,
}

/// A child of an inner node.
#[derive(Clone, Copy)]
pub(super) struct InnerItem {
    /// Its first key.
    pub(super) first: Key,
    /// The highest key that it may hold.
    pub(super) last: Key,
    /// Where it is.
    pub(super) pointer: Pointer,
    /// Whether it is a node of the old base.
    pub(super) kept: bool,
    /// Whether there was nothing at its first key before.
    pub(super) fresh: bool,
}

impl Item for LeafItem {
    fn weight(&self) -> usize {
        LEAF_ENTRY + self.length
    }

    fn fresh(&self) -> bool {
        self.fresh
    }
}

impl Item for InnerItem {
    fn weight(&self) -> usize {
        INNER_ENTRY
    }

    fn fresh(&self) -> bool {
        self.fresh
    }
}

/// Items in order, and what they weigh.
pub(super) struct Pile<T> {
    items: Vec<T>,
    weight: usize,
}

impl<T: Item> Pile<T> {
    pub(super) fn new() -> Self {
        Pile {
            items: Vec::new(),
            weight: 0,
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    pub(super) fn push(&mut self, item: T) -> Result<(), NoMem> {
        self.items.push(item)?;
        self.weight += item.weight();
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.items.pop()?;
        self.weight -= item.weight();
        Some(item)
    }

    /// Takes off the first so many.
    fn advance(&mut self, count: usize) {
        let count = count.min(self.items.len());
        for item in self.items.iter().take(count) {
            self.weight -= item.weight();
        }
        self.items.copy_within(count.., 0);
        let left = self.items.len() - count;
        self.items.truncate(left);
    }

    /// How many items weigh no more than `limit`, and what they weigh; at least one.
    fn within(&self, limit: usize) -> (usize, usize) {
        let mut weight = 0;
        for (count, item) in self.items.iter().enumerate() {
            if count != 0 && weight + item.weight() > limit {
                return (count, weight);
            }
            weight += item.weight();
        }
        (self.items.len(), weight)
    }

    /// How many items the next node gets, once enough lies here for it and for another one.
    pub(super) fn surplus(&self, fill: &Fill) -> Option<usize> {
        if self.weight < fill.target + fill.room / 2 {
            return None;
        }
        let (count, weight) = self.within(fill.target);
        // Long values leave gaps: rather fuller than planned than half empty.
        if weight < fill.room / 4 * 3 {
            return Some(self.within(fill.room).0);
        }
        Some(count)
    }

    /// How many items the next node gets when nothing is to stay.
    pub(super) fn rest(&self, fill: &Fill) -> usize {
        if self.weight <= fill.room {
            return self.items.len();
        }
        let appended = self.items.last().is_some_and(Item::fresh);
        if appended {
            // More is likely to come behind: the first node is done, the second has room.
            let spared = self.weight.saturating_sub(fill.least);
            return self.within(fill.target.min(spared)).0;
        }
        let half = self.weight / 2;
        let (count, weight) = self.within(half);
        let next = self.items.get(count).map_or(0, Item::weight);
        // Whichever cut is nearer to the middle.
        let beyond = (weight + next).saturating_sub(half);
        count + usize::from(beyond < half.saturating_sub(weight))
    }
}

/// The pile of the leaves.
pub(super) struct Leaves {
    pub(super) pile: Pile<LeafItem>,
    values: Vec<u8>,
}

impl Leaves {
    pub(super) fn new() -> Self {
        Leaves {
            pile: Pile::new(),
            values: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, key: Key, value: &[u8], fresh: bool) -> Result<(), NoMem> {
        let item = LeafItem {
            key,
            begin: self.values.len(),
            length: value.len(),
            fresh,
        };
        self.values.try_extend_from_slice(value)?;
        self.pile.push(item)
    }

    /// The first so many entries.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = (Key, &[u8])> + Clone {
        self.pile.items.iter().take(count).map(|item| {
            let value = self.values.get(item.begin..item.begin + item.length);
            (item.key, value.unwrap_or_default())
        })
    }

    /// All of it, with whether each is fresh.
    pub(super) fn all(&self) -> impl Iterator<Item = (Key, &[u8], bool)> {
        let fresh = self.pile.items.iter().map(|item| item.fresh);
        let entries = self.first(self.pile.items.len());
        entries
            .zip(fresh)
            .map(|((key, value), fresh)| (key, value, fresh))
    }

    /// Takes off the first so many.
    pub(super) fn advance(&mut self, count: usize) {
        self.pile.advance(count);
        let begin = match self.pile.items.first() {
            Some(item) => item.begin,
            None => self.values.len(),
        };
        for item in self.pile.items.iter_mut() {
            item.begin -= begin;
        }
        self.values.copy_within(begin.., 0);
        let left = self.values.len() - begin;
        self.values.truncate(left);
    }
}

impl Pile<InnerItem> {
    /// The first so many children.
    pub(super) fn first(&self, count: usize) -> impl Iterator<Item = (Key, Pointer)> + Clone + '_ {
        let items = self.items.iter().take(count);
        items.map(|item| (item.first, item.pointer))
    }

    /// Takes off the first so many.
    pub(super) fn drop_first(&mut self, count: usize) {
        self.advance(count);
    }
}
