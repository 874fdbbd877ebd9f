// SPDX-License-Identifier: GPL-2.0

//! Hashing that is always there: scalar BLAKE3, the yardstick for every faster one.

mod scalar;

use crate::env::Hash256;
use crate::env::Hasher;
use crate::units::BLOCK_SIZE;

/// Scalar hashing, for hosts without anything better.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scalar;

impl Hasher for Scalar {
    fn hash(&self, parts: &[&[u8]]) -> Hash256 {
        let mut state = scalar::State::new();
        for part in parts {
            state.update(part);
        }
        Hash256(state.finish())
    }

    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]) {
        debug_assert_eq!(blocks.len(), out.len() * BLOCK_SIZE);
        for (block, hash) in blocks.chunks_exact(BLOCK_SIZE).zip(out) {
            *hash = self.hash(&[block]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn equals_the_reference_at_every_edge() {
        let all = pattern(300_000);
        let mut lengths: Vec<usize> = (0..=130).collect();
        for chunks in [
            1usize, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 63, 64, 65, 127, 128, 255, 256, 292,
        ] {
            for d in [-65i64, -64, -63, -1, 0, 1, 63, 64, 65] {
                lengths.push((chunks as i64 * 1024 + d) as usize);
            }
        }
        for len in lengths {
            let data = &all[..len];
            assert_eq!(
                Scalar.hash(&[data]).0,
                *blake3::hash(data).as_bytes(),
                "length {len}"
            );
        }
    }

    #[test]
    fn blocks_are_hashed_each_by_itself() {
        let data = pattern(5 * BLOCK_SIZE);
        let mut out = vec![Hash256::default(); 5];
        Scalar.hash_blocks(&data, &mut out);
        for (i, block) in data.chunks(BLOCK_SIZE).enumerate() {
            assert_eq!(out[i].0, *blake3::hash(block).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn parts_make_no_difference(data in prop::collection::vec(any::<u8>(), 0..20_000), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5)) {
            let mut at: Vec<usize> = cuts.iter().map(|c| c.index(data.len() + 1)).collect();
            at.push(0);
            at.push(data.len());
            at.sort_unstable();
            let parts: Vec<&[u8]> = at.windows(2).map(|w| &data[w[0]..w[1]]).collect();
            prop_assert_eq!(Scalar.hash(&parts).0, *blake3::hash(&data).as_bytes());
        }
    }
}
