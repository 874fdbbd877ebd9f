// SPDX-License-Identifier: GPL-2.0

//! A fixed number of bits, one per block of a group.

use crate::error::NoMem;
use embr_rt::Vec;

const WORD: u64 = 64;
/// Blocks of a slot: as many as a node takes, and it begins at a multiple of them.
pub const SLOT: u64 = 4;
const SLOT_MASK: u64 = SLOT - 1;
const WORD_MASK: u64 = WORD - 1;
/// The lowest bit of every slot of a word.
const LOWEST: u64 = 0x1111_1111_1111_1111;

/// Which blocks a search passes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Search {
    /// Those that are set.
    Anywhere,
    /// Those too that lie in a slot of which none is set.
    InBrokenSlots,
    /// All but those that are not set alone in their slot.
    LastOfSlots,
}

/// The lowest bit of each slot in which no bit is set.
fn whole(word: u64) -> u64 {
    let pairs = word | word.wrapping_shr(1);
    let any = pairs | pairs.wrapping_shr(2);
    !any & LOWEST
}

/// The bits that are not set alone in their slot.
fn last(word: u64) -> u64 {
    let clear = !word;
    let pairs =
        (clear & 0x5555_5555_5555_5555).wrapping_add(clear.wrapping_shr(1) & 0x5555_5555_5555_5555);
    let of_slots =
        (pairs & 0x3333_3333_3333_3333).wrapping_add(pairs.wrapping_shr(2) & 0x3333_3333_3333_3333);
    let one = whole(of_slots ^ LOWEST);
    clear & one.wrapping_mul(0xf)
}

/// So many bits.
#[derive(Debug)]
pub struct Bits {
    words: Vec<u64>,
    length: u64,
}

/// The bits of one word from `from` to below `to`, which are at most 64.
fn mask(from: u64, to: u64) -> u64 {
    let count = to.saturating_sub(from).min(WORD);
    let ones = match count {
        WORD => u64::MAX,
        n => 1u64.wrapping_shl(n as u32).wrapping_sub(1),
    };
    ones.wrapping_shl(from as u32)
}

impl Bits {
    /// So many bits, none of them set.
    pub fn try_new(length: u64) -> Result<Self, NoMem> {
        let words = usize::try_from(length.div_ceil(WORD)).map_err(|_| NoMem)?;
        Ok(Bits {
            words: Vec::try_from_elem(0, words)?,
            length,
        })
    }

    /// How many there are.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Calls `f` with each word that the range touches and the range's bits in it.
    fn each(&mut self, from: u64, count: u64, mut f: impl FnMut(&mut u64, u64)) {
        let end = from.saturating_add(count).min(self.length);
        let mut at = from;
        while at < end {
            let word = at / WORD;
            let base = word.saturating_mul(WORD);
            let to = end.min(base.saturating_add(WORD));
            if let Some(w) = self.words.get_mut(word as usize) {
                f(w, mask(at.saturating_sub(base), to.saturating_sub(base)));
            }
            at = to;
        }
    }

    /// Sets the bits of a range; says how many were not set before.
    pub fn set(&mut self, from: u64, count: u64) -> u64 {
        let mut changed = 0u64;
        self.each(from, count, |word, mask| {
            changed = changed.saturating_add(u64::from((mask & !*word).count_ones()));
            *word |= mask;
        });
        changed
    }

    /// Clears the bits of a range; says how many were set before.
    pub fn clear(&mut self, from: u64, count: u64) -> u64 {
        let mut changed = 0u64;
        self.each(from, count, |word, mask| {
            changed = changed.saturating_add(u64::from((mask & *word).count_ones()));
            *word &= !mask;
        });
        changed
    }

    /// Sets every bit that is set in `other`, which is as long.
    pub fn set_as(&mut self, other: &Bits) {
        for (word, more) in self.words.iter_mut().zip(other.words.iter()) {
            *word |= *more;
        }
    }

    /// Clears those bits of a range that are not set in `other`, which is as long; says how many were set before.
    pub fn clear_unless(&mut self, other: &Bits, from: u64, count: u64) -> u64 {
        let mut changed = 0u64;
        let mut words = other.words.iter().skip((from / WORD) as usize);
        self.each(from, count, |word, mask| {
            let kept = words.next().copied().unwrap_or(u64::MAX);
            let gone = *word & mask & !kept;
            changed = changed.saturating_add(u64::from(gone.count_ones()));
            *word &= !gone;
        });
        changed
    }

    /// Whether a bit is set; those beyond the end are.
    pub fn is_set(&self, at: u64) -> bool {
        match self.words.get((at / WORD) as usize) {
            Some(word) if at < self.length => word.wrapping_shr((at % WORD) as u32) & 1 != 0,
            _ => true,
        }
    }

    /// How many are set.
    pub fn count(&self) -> u64 {
        self.words
            .iter()
            .fold(0, |n: u64, w| n.saturating_add(u64::from(w.count_ones())))
    }

    /// A word, with the bits behind the end set.
    fn word(&self, index: u64) -> Option<u64> {
        let word = self.words.get(usize::try_from(index).ok()?)?;
        let left = self.length.saturating_sub(index.saturating_mul(WORD));
        Some(*word | !mask(0, left))
    }

    /// How many of the slots that the range touches have no bit set.
    pub fn slots_at(&self, from: u64, count: u64) -> u64 {
        let end = from.saturating_add(count).saturating_add(SLOT_MASK) & !SLOT_MASK;
        let mut found = 0u64;
        let mut at = from & !SLOT_MASK;
        while at < end {
            let base = at & !WORD_MASK;
            let Some(word) = self.word(at / WORD) else {
                break;
            };
            let to = end.min(base.saturating_add(WORD));
            let here = mask(at.saturating_sub(base), to.saturating_sub(base));
            found = found.saturating_add(u64::from((whole(word) & here).count_ones()));
            at = to;
        }
        found
    }

    /// The first slot from `from` on in which no bit is set.
    pub fn slot(&self, from: u64) -> Option<u64> {
        let mut at = from.checked_add(SLOT_MASK)? & !SLOT_MASK;
        while at < self.length {
            let base = at & !WORD_MASK;
            let rest = whole(self.word(at / WORD)?)
                & u64::MAX.wrapping_shl(at.saturating_sub(base) as u32);
            if rest != 0 {
                return Some(base.saturating_add(u64::from(rest.trailing_zeros())));
            }
            at = base.saturating_add(WORD);
        }
        None
    }

    /// The first bit from `from` on that is set, or is not; the length where there is none.
    fn first(&self, from: u64, set: bool, search: Search) -> u64 {
        let mut at = from;
        while at < self.length {
            let base = (at / WORD).saturating_mul(WORD);
            let Some(word) = self.words.get((at / WORD) as usize) else {
                break;
            };
            let word = match search {
                Search::Anywhere => *word,
                Search::InBrokenSlots => {
                    let whole = whole(self.word(at / WORD).unwrap_or(u64::MAX));
                    // Each slot's lowest bit is spread over the slot.
                    *word | whole.wrapping_mul(0xf)
                }
                Search::LastOfSlots => !last(self.word(at / WORD).unwrap_or(u64::MAX)),
            };
            let wanted = if set { word } else { !word };
            let rest = wanted & u64::MAX.wrapping_shl(at.saturating_sub(base) as u32);
            if rest != 0 {
                let found = base.saturating_add(u64::from(rest.trailing_zeros()));
                return found.min(self.length);
            }
            at = base.saturating_add(WORD);
        }
        self.length
    }

    /// The first bit from `from` on that is set; the length where there is none.
    pub fn next_set(&self, from: u64) -> u64 {
        self.first(from, true, Search::Anywhere)
    }

    /// The first bit from `from` on that is clear; the length where there is none.
    pub fn next_clear(&self, from: u64) -> u64 {
        self.first(from, false, Search::Anywhere)
    }

    /// The bits that are set here and not there.
    pub fn without(&self, other: &Bits) -> Result<Bits, NoMem> {
        let mut words = Vec::try_with_capacity(self.words.len())?;
        let others = other.words.iter().copied().chain(core::iter::repeat(0));
        for (word, other) in self.words.iter().zip(others) {
            words.push(*word & !other)?;
        }
        Ok(Bits {
            words,
            length: self.length,
        })
    }

    /// The first run of clear bits from `from` on, as its begin and length: at least `least` long, cut at `most`.
    pub fn run(&self, search: Search, from: u64, least: u64, most: u64) -> Option<(u64, u64)> {
        let mut at = self.first(from, false, search);
        while at < self.length {
            let end = self.first(at, true, search);
            let length = end.saturating_sub(at);
            if length >= least {
                return Some((at, length.min(most)));
            }
            at = self.first(end, false, search);
        }
        None
    }

    /// Each run of set bits, as begin and length.
    pub fn runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut at = 0;
        core::iter::from_fn(move || {
            let begin = self.first(at, true, Search::Anywhere);
            let end = self.first(begin, false, Search::Anywhere);
            at = end;
            (begin < self.length).then_some((begin, end.saturating_sub(begin)))
        })
    }

    /// The bits as bytes, the first bit lowest in the first byte.
    pub fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        let count = self.length.div_ceil(8) as usize;
        self.words.iter().flat_map(|w| w.to_le_bytes()).take(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    proptest! {
        #[test]
        fn like_a_list_of_flags(
            length in 1u64..300,
            steps in proptest::collection::vec((any::<bool>(), 0u64..300, 0u64..200), 0..20),
            from in 0u64..300, least in 1u64..70, most in 1u64..70,
        ) {
            let mut bits = Bits::try_new(length).unwrap();
            let mut flags = vec![false; length as usize];
            for (set, from, count) in steps {
                let range = (from.min(length) as usize)..((from + count).min(length) as usize);
                let differ = flags[range.clone()].iter().filter(|f| **f != set).count() as u64;
                flags[range].fill(set);
                prop_assert_eq!(if set { bits.set(from, count) } else { bits.clear(from, count) }, differ);
            }
            for (n, flag) in flags.iter().enumerate() {
                prop_assert_eq!(bits.is_set(n as u64), *flag);
            }
            prop_assert!(bits.is_set(length));
            prop_assert_eq!(bits.count(), flags.iter().filter(|f| **f).count() as u64);
            let mut again = Bits::try_new(length).unwrap();
            for (begin, count) in bits.runs() {
                prop_assert_eq!(again.set(begin, count), count);
            }
            prop_assert!(again.bytes().eq(bits.bytes()));
            again.clear(from, least);
            let rest: std::vec::Vec<_> = bits.without(&again).unwrap().runs().collect();
            let flags_in = |at: u64| flags.get(at as usize).copied().unwrap_or(false);
            let expected: u64 = (from..from + least).filter(|at| flags_in(*at)).count() as u64;
            prop_assert_eq!(rest.iter().map(|(_, n)| n).sum::<u64>(), expected);
            prop_assert!(rest.iter().all(|(begin, n)| (*begin..begin + n).all(flags_in)));
            let most = most.max(least);
            let free = |at: u64| at < length && !flags[at as usize];
            let expected = (from..length)
                .filter(|at| free(*at) && (*at == from || !free(*at - 1)))
                .find_map(|at| {
                    let n = (at..=length).find(|e| !free(*e)).unwrap() - at;
                    (n >= least).then_some((at, n.min(most)))
                });
            prop_assert_eq!(bits.run(Search::Anywhere, from, least, most), expected);
            let is_whole = |slot: u64| slot % SLOT == 0 && (slot..slot + SLOT).all(free);
            for count in [0, least, most * 5] {
                let touched = (0..length + SLOT).filter(|s| s % SLOT == 0 && s + SLOT > from && *s < from + count);
                prop_assert_eq!(bits.slots_at(from, count), touched.filter(|s| is_whole(*s)).count() as u64);
            }
            prop_assert_eq!(bits.slot(from), (from..length).find(|s| is_whole(*s)));
            let in_broken = |at: u64| free(at) && !is_whole(at / SLOT * SLOT);
            let expected = (from..length)
                .filter(|at| in_broken(*at) && (*at == from || !in_broken(*at - 1)))
                .find_map(|at| {
                    let n = (at..=length).find(|e| !in_broken(*e)).unwrap() - at;
                    (n >= least).then_some((at, n.min(most)))
                });
            prop_assert_eq!(bits.run(Search::InBrokenSlots, from, least, most), expected);
            let is_last = |at: u64| {
                let slot = at / SLOT * SLOT;
                free(at) && (slot..slot + SLOT).filter(|at| free(*at)).count() == 1
            };
            let expected = (from..length).find(|at| is_last(*at));
            prop_assert_eq!(bits.run(Search::LastOfSlots, from, 1, 1), expected.map(|at| (at, 1)));
        }
    }
}
