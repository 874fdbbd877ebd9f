// SPDX-License-Identifier: GPL-2.0

//! A set of inodes: a bit for each, as their numbers lie close together.

use embr_engine::units::InodeNo;
use std::collections::BTreeMap;

const BITS: u64 = u64::BITS as u64;
/// Words that lie together.
const WORDS: u64 = 16;

/// Inodes that were seen.
#[derive(Default, Debug)]
pub(super) struct Seen(BTreeMap<u64, [u64; WORDS as usize]>);

fn place(number: InodeNo) -> (u64, usize, u64) {
    let word = number.0 / BITS;
    (
        word / WORDS,
        (word % WORDS) as usize,
        1 << (number.0 % BITS),
    )
}

impl Seen {
    /// Whether it is among them.
    pub(super) fn has(&self, number: InodeNo) -> bool {
        let (chunk, word, bit) = place(number);
        let word = self.0.get(&chunk).and_then(|words| words.get(word));
        word.is_some_and(|word| word & bit != 0)
    }

    /// It is from now on.
    pub(super) fn insert(&mut self, number: InodeNo) {
        let (chunk, word, bit) = place(number);
        let words = self.0.entry(chunk).or_default();
        if let Some(word) = words.get_mut(word) {
            *word |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_its_own() {
        let mut seen = Seen::default();
        let numbers = [1, 63, 64, 1023, 1024, u64::MAX];
        for number in numbers {
            assert!(!seen.has(InodeNo(number)));
            seen.insert(InodeNo(number));
            assert!(seen.has(InodeNo(number)));
        }
        for number in [0, 2, 62, 65, 1022, 1025, u64::MAX - 1] {
            assert!(!seen.has(InodeNo(number)), "{number}");
        }
    }
}
