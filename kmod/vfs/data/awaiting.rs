// SPDX-License-Identifier: GPL-2.0

//! Which blocks of a file await writeback: dirty in the page cache, or being written just now. For each of them room was set
//! aside, so the set says how much. It may hold a block for a moment that does not become dirty after all, never the reverse.

use core::ops::Range;
use kernel::{
    prelude::*,
    rbtree::RBTree, //
};

const WORD: u64 = u64::BITS as u64;
const WORDS: usize = 8;
/// Blocks of one node of the tree: no folio crosses its end.
pub(super) const CHUNK: u64 = WORD * WORDS as u64;

/// Blocks of a chunk.
#[derive(Clone, Copy, Default)]
struct Bits([u64; WORDS]);

impl Bits {
    /// These blocks, counted from the beginning of the chunk.
    fn of(range: Range<u64>) -> Self {
        let mut bits = Bits::default();
        for (word, first) in bits.0.iter_mut().zip((0..).step_by(WORD as usize)) {
            let from = range.start.clamp(first, first + WORD) - first;
            let to = range.end.clamp(first, first + WORD) - first;
            if from < to {
                *word = (u64::MAX >> (WORD - (to - from))) << from;
            }
        }
        bits
    }

    fn with(self, other: Bits, join: impl Fn(u64, u64) -> u64) -> Self {
        let mut both = self;
        for (a, b) in both.0.iter_mut().zip(other.0) {
            *a = join(*a, b);
        }
        both
    }

    fn count(self) -> u64 {
        self.0.iter().map(|w| u64::from(w.count_ones())).sum()
    }

    /// The first block at or behind `from`.
    fn first(self, from: u64) -> Option<u64> {
        let rest = self.with(Bits::of(from..CHUNK), |a, b| a & b);
        let (at, word) = (0..).zip(rest.0).find(|(_, word)| *word != 0)?;
        Some(at * WORD + u64::from(word.trailing_zeros()))
    }

    fn inverted(self) -> Self {
        self.with(self, |a, _| !a)
    }
}

/// What was added last by who writes to the file, to be taken back if it did not become dirty.
pub(super) struct Fresh {
    chunk: u64,
    bits: Bits,
}

/// The set.
pub(super) struct Awaiting {
    chunks: RBTree<u64, Bits>,
    /// How many blocks are in.
    total: u64,
    fresh: Option<Fresh>,
}

/// A range, cut where chunks end: each with its chunk's number.
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, Bits)> {
    let chunks = range.start / CHUNK..range.end.div_ceil(CHUNK);
    let empty = range.is_empty();
    chunks.filter(move |_| !empty).map(move |chunk| {
        let base = chunk * CHUNK;
        let from = range.start.max(base) - base;
        let to = range.end.min(base + CHUNK) - base;
        (chunk, Bits::of(from..to))
    })
}

impl Awaiting {
    pub(super) fn new() -> Self {
        Awaiting {
            chunks: RBTree::new(),
            total: 0,
            fresh: None,
        }
    }

    fn chunk(&self, chunk: u64) -> Bits {
        self.chunks.get(&chunk).copied().unwrap_or_default()
    }

    /// As [`Self::add`], until it is settled which of them did become dirty. One at a time, while others add theirs.
    pub(super) fn try_add(
        &mut self,
        range: Range<u64>,
        reserve: impl FnOnce(u64) -> Result,
    ) -> Result {
        self.fresh = None;
        self.fresh = self.add(range, reserve)?;
        Ok(())
    }

    /// Adds blocks of one folio. `reserve` sets aside room for so many that were not in the set; they are not added if it fails.
    pub(super) fn add(
        &mut self,
        range: Range<u64>,
        reserve: impl FnOnce(u64) -> Result,
    ) -> Result<Option<Fresh>> {
        let Some((chunk, wanted)) = pieces(range.clone()).next() else {
            return Ok(None);
        };
        if (range.end - 1) / CHUNK != chunk {
            return Err(EINVAL);
        }
        let old = self.chunk(chunk);
        let bits = wanted.with(old, |a, b| a & !b);
        let new = bits.count();
        if new == 0 {
            return Ok(None);
        }
        if self.chunks.get(&chunk).is_none() {
            self.chunks
                .try_create_and_insert(chunk, Bits::default(), GFP_KERNEL)?;
        }
        if let Err(error) = reserve(new) {
            self.drop_empty(chunk);
            return Err(error);
        }
        if let Some(there) = self.chunks.get_mut(&chunk) {
            *there = old.with(bits, |a, b| a | b);
            self.total += new;
        }
        Ok(Some(Fresh { chunk, bits }))
    }

    /// Of what was [added](Self::try_add) last, only these blocks became dirty. How many were taken back.
    pub(super) fn settle(&mut self, dirtied: Range<u64>) -> u64 {
        let Some(fresh) = self.fresh.take() else {
            return 0;
        };
        let kept = pieces(dirtied)
            .find(|(chunk, _)| *chunk == fresh.chunk)
            .map(|(_, bits)| bits)
            .unwrap_or_default();
        self.clear(fresh.chunk, fresh.bits.with(kept, |a, b| a & !b))
    }

    /// Takes blocks out. How many of them were in.
    pub(super) fn remove(&mut self, range: Range<u64>) -> u64 {
        pieces(range)
            .map(|(chunk, bits)| self.clear(chunk, bits))
            .sum()
    }

    fn clear(&mut self, chunk: u64, bits: Bits) -> u64 {
        let Some(there) = self.chunks.get_mut(&chunk) else {
            return 0;
        };
        let gone = there.with(bits, |a, b| a & b).count();
        *there = there.with(bits, |a, b| a & !b);
        self.total -= gone;
        self.drop_empty(chunk);
        gone
    }

    fn drop_empty(&mut self, chunk: u64) {
        if self.chunk(chunk).count() == 0 {
            self.chunks.remove(&chunk);
        }
    }

    /// Takes everything out. How much there was.
    pub(super) fn take_all(&mut self) -> u64 {
        self.chunks = RBTree::new();
        self.fresh = None;
        core::mem::take(&mut self.total)
    }

    /// How many blocks are in.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many of these blocks are in.
    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        pieces(range)
            .map(|(chunk, bits)| self.chunk(chunk).with(bits, |a, b| a & b).count())
            .sum()
    }

    /// The first block at or behind `from` that is in.
    pub(super) fn first(&self, from: u64) -> Option<u64> {
        let chunk = from / CHUNK;
        if let Some(at) = self.chunk(chunk).first(from % CHUNK) {
            return Some(chunk * CHUNK + at);
        }
        let cursor = self.chunks.cursor_lower_bound(&(chunk + 1))?;
        let (chunk, bits) = cursor.current();
        Some(chunk * CHUNK + bits.first(0)?)
    }

    /// The first block at or behind `from`, which is in, that is not; no further than its chunk's end.
    pub(super) fn run_end(&self, from: u64) -> u64 {
        let chunk = from / CHUNK;
        let out = self.chunk(chunk).inverted().first(from % CHUNK);
        chunk * CHUNK + out.unwrap_or(CHUNK)
    }
}
