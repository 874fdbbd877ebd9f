// SPDX-License-Identifier: GPL-2.0

//! Where groups lie on one device: a ring of blocks, of which the oldest are used again once no root needs their groups. A group
//! never lies across the ring's end.

use crate::error::NoMem;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::Sequence;
use embr_rt::Vec;

/// Blocks that a group takes, as places in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Span {
    sequence: Sequence,
    begin: u64,
    end: u64,
}

/// The ring of one device.
#[derive(Debug)]
pub struct Ring {
    start: Blocks,
    blocks: u64,
    /// Groups that are needed, in the order in which they were written.
    spans: Vec<Span>,
    /// Where the next group goes if there is room.
    head: u64,
}

impl Ring {
    /// An empty ring of these blocks of a device. Never needs memory again.
    pub fn try_new(start: Blocks, blocks: Blocks) -> Result<Self, NoMem> {
        let most = usize::try_from(blocks.0).map_err(|_| NoMem)?;
        Ok(Ring {
            start,
            blocks: blocks.0,
            spans: Vec::try_with_capacity(most)?,
            head: 0,
        })
    }

    /// How large it is.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks that cannot be used now, also those left out at its end.
    pub fn taken(&self) -> u64 {
        match self.spans.first() {
            None => 0,
            Some(oldest) if oldest.begin < self.head => self.head.saturating_sub(oldest.begin),
            Some(oldest) => self
                .blocks
                .saturating_sub(oldest.begin)
                .saturating_add(self.head),
        }
    }

    fn place(&self, blocks: u64) -> Option<u64> {
        let end = self.head.checked_add(blocks)?;
        match self.spans.first() {
            None => {
                (blocks <= self.blocks).then_some(if end <= self.blocks { self.head } else { 0 })
            }
            Some(oldest) if oldest.begin < self.head => {
                if end <= self.blocks {
                    Some(self.head)
                } else {
                    (blocks <= oldest.begin).then_some(0)
                }
            }
            Some(oldest) => (end <= oldest.begin).then_some(self.head),
        }
    }

    /// Takes room for a group of so many blocks; none where there is not enough.
    pub fn take(&mut self, sequence: Sequence, blocks: u64) -> Option<Bytes> {
        let begin = self.place(blocks)?;
        let end = begin.saturating_add(blocks);
        let span = Span {
            sequence,
            begin,
            end,
        };
        // Groups have a block at least, so there are never more of them than there is room for.
        self.spans.push_within_capacity(span).ok()?;
        self.head = end;
        Blocks(self.start.0.saturating_add(begin)).bytes()
    }

    /// Says that a group found on the device lies here: it is needed until it is released. Groups come in their order.
    pub fn found(&mut self, sequence: Sequence, at: Blocks, blocks: u64) -> Result<(), NoMem> {
        let begin = at.0.saturating_sub(self.start.0);
        let end = begin.saturating_add(blocks);
        self.spans.push(Span {
            sequence,
            begin,
            end,
        })?;
        self.head = end;
        Ok(())
    }

    /// Groups before `first` are not needed any more.
    pub fn release(&mut self, first: Sequence) {
        self.spans.retain(|s| s.sequence >= first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        /// No group lies on one that is needed, or over the end; what is taken is told; a ring that is half empty takes a group.
        #[test]
        fn groups_never_overlap(steps in proptest::collection::vec((1u64..9, any::<bool>()), 1..400)) {
            let mut ring = Ring::try_new(Blocks(100), Blocks(64)).unwrap();
            let mut needed: VecDeque<(u64, u64, u64)> = VecDeque::new();
            for (n, (blocks, release)) in steps.into_iter().enumerate() {
                let sequence = n as u64 + 1;
                let taken = ring.taken();
                match ring.take(Sequence(sequence), blocks) {
                    Some(at) => {
                        let begin = at.whole_blocks().0;
                        prop_assert!(begin >= 100 && begin + blocks <= 164);
                        for (_, b, e) in &needed {
                            prop_assert!(begin + blocks <= *b || *e <= begin);
                        }
                        needed.push_back((sequence, begin, begin + blocks));
                    }
                    None => prop_assert!(taken + 2 * blocks > 64, "{taken} of 64 taken, {blocks} refused"),
                }
                prop_assert!(ring.taken() >= needed.iter().map(|(_, b, e)| e - b).sum::<u64>());
                prop_assert!(ring.taken() <= 64);
                if release {
                    needed.pop_front();
                    ring.release(Sequence(needed.front().map_or(sequence + 1, |(s, ..)| *s)));
                }
            }
        }
    }
}
