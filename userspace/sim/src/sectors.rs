// SPDX-License-Identifier: GPL-2.0

//! Which sectors of a write arrived: drives tear writes at 512 bytes, and nowhere else.

use crate::host::Chance;
use crate::image::BLOCK_SECTORS;
use std::fmt;
use std::str::FromStr;

/// A set of a write's sectors. As text `0-3.7`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Sectors(Vec<u8>);

impl Sectors {
    /// Those below `count` that are wanted.
    pub fn those(count: usize, wanted: impl Fn(usize) -> bool) -> Self {
        let mut bits = vec![0; count.div_ceil(BLOCK_SECTORS)];
        for n in (0..count).filter(|n| wanted(*n)) {
            bits[n / BLOCK_SECTORS] |= 1 << (n % BLOCK_SECTORS);
        }
        while bits.last() == Some(&0) {
            bits.pop();
        }
        Sectors(bits)
    }

    /// Some of `count` sectors, in one of the ways in which drives tear: a first or last part, or anything.
    pub fn some(count: usize, chance: &Chance) -> Self {
        let at = chance.below(count + 1);
        match chance.below(4) {
            0 => Sectors::those(count, |n| n < at),
            1 => Sectors::those(count, |n| n >= at),
            2 => Sectors::those(count, |_| chance.below(2) == 0),
            _ => Sectors::those(count, |n| n != at),
        }
    }

    /// Ways to tear a write of `count` sectors: at each sector if it is one block, else at those where code is likely to err.
    pub fn tears(count: usize) -> Vec<Self> {
        let cuts: Vec<usize> = if count <= BLOCK_SECTORS {
            (1..count).collect()
        } else {
            vec![
                1,
                BLOCK_SECTORS,
                count / 2,
                count - BLOCK_SECTORS,
                count - 1,
            ]
        };
        let mut tears = Vec::new();
        let halves = cuts.iter().flat_map(|at| {
            [
                Sectors::those(count, |n| n < *at),
                Sectors::those(count, |n| n >= *at),
            ]
        });
        for tear in halves.chain([Sectors::those(count, |n| n % 2 == 1)]) {
            if count > 1 && !tears.contains(&tear) {
                tears.push(tear);
            }
        }
        tears
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.iter().map(|b| b.count_ones() as usize).sum()
    }

    /// The first sector beyond all of them.
    pub fn end(&self) -> usize {
        self.0.last().map_or(0, |last| {
            self.0.len() * BLOCK_SECTORS - last.leading_zeros() as usize
        })
    }

    /// Whether this one is among them.
    pub(crate) fn has(&self, n: usize) -> bool {
        self.of_block(n / BLOCK_SECTORS) & (1 << (n % BLOCK_SECTORS)) != 0
    }

    /// Those of the write's block `n`, a bit each.
    pub(crate) fn of_block(&self, n: usize) -> u8 {
        self.0.get(n).copied().unwrap_or(0)
    }
}

impl fmt::Display for Sectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = 0;
        let mut between = "";
        while let Some(from) = (next..self.end()).find(|n| self.has(*n)) {
            next = (from..).find(|n| !self.has(*n)).unwrap_or(self.end());
            match next - from {
                1 => write!(f, "{between}{from}")?,
                _ => write!(f, "{between}{from}-{}", next - 1)?,
            }
            between = ".";
        }
        Ok(())
    }
}

/// Text that names no state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadText;

impl fmt::Display for BadText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not the description of a state")
    }
}

impl std::error::Error for BadText {}

impl FromStr for Sectors {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let mut ranges = Vec::new();
        for part in text.split('.').filter(|p| !p.is_empty()) {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (usize, usize) = (
                from.parse().map_err(|_| BadText)?,
                to.parse().map_err(|_| BadText)?,
            );
            if to < from || to > 1 << 20 {
                return Err(BadText);
            }
            ranges.push(from..=to);
        }
        let count = ranges.iter().map(|r| r.end() + 1).max().unwrap_or(0);
        Ok(Sectors::those(count, |n| {
            ranges.iter().any(|r| r.contains(&n))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tears_are_distinct_and_neither_nothing_nor_everything() {
        assert!(Sectors::tears(1).is_empty());
        for count in [2, 7, 8, 9, 16, 40, 2048] {
            let tears = Sectors::tears(count);
            assert!(tears.len() >= 2);
            for (n, tear) in tears.iter().enumerate() {
                assert!((1..count).contains(&tear.count()), "{count}: {tear}");
                assert!(
                    tear.end() <= count && !tears[..n].contains(tear),
                    "{count}: {tear}"
                );
            }
        }
        assert_eq!(Sectors::tears(8).len(), 15);
    }
}
