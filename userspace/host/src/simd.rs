// SPDX-License-Identifier: GPL-2.0

//! BLAKE3 by the `blake3` crate. Many blocks are hashed side by side, one block per SIMD lane: all first chunks, then all
//! second ones, and so on, then their parents. Within one 4 KiB block there are only four chunks, so a wide machine hashing
//! one block at a time leaves most of its lanes empty.

use blake3::platform::Platform;
use blake3::IncrementCounter;
use embr_engine::env::Hash256;
use embr_engine::env::Hasher;
use embr_engine::units::BLOCK_SIZE;

/// Lanes of the widest machine; narrower ones take several turns.
const LANES: usize = 16;
const CHUNK: usize = 1024;
const CHUNKS: usize = BLOCK_SIZE / CHUNK;
const OUT: usize = 32;

// From BLAKE3's specification.
const IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;

/// BLAKE3 with the widest vectors this machine has.
#[derive(Clone, Copy, Debug)]
pub struct Simd {
    platform: Platform,
}

impl Simd {
    /// Looks at the processor once.
    pub fn new() -> Self {
        Simd {
            platform: Platform::detect(),
        }
    }

    /// Blocks that are hashed side by side on this machine.
    pub fn lanes(&self) -> usize {
        self.platform.simd_degree()
    }

    /// Hashes up to [`LANES`] blocks side by side.
    fn hash_group(&self, blocks: &[u8], out: &mut [Hash256]) {
        let mut chains = [[[0u8; OUT]; CHUNKS]; LANES];
        let mut level = [0u8; LANES * OUT];
        for chunk in 0..CHUNKS {
            let mut inputs = [&[0u8; CHUNK]; LANES];
            let mut lanes = 0;
            for (input, block) in inputs.iter_mut().zip(blocks.chunks_exact(BLOCK_SIZE)) {
                if let Some(bytes) = block
                    .get(chunk * CHUNK..)
                    .and_then(<[u8]>::first_chunk::<CHUNK>)
                {
                    *input = bytes;
                    lanes += 1;
                }
            }
            let inputs = inputs.get(..lanes).unwrap_or_default();
            self.platform.hash_many(
                inputs,
                &IV,
                chunk as u64,
                IncrementCounter::No,
                0,
                CHUNK_START,
                CHUNK_END,
                &mut level,
            );
            for (chain, hash) in chains.iter_mut().zip(level.chunks_exact(OUT)).take(lanes) {
                if let Some(place) = chain.get_mut(chunk) {
                    place.copy_from_slice(hash);
                }
            }
        }
        let lanes = out.len().min(LANES);
        let mut above = [[[0u8; OUT]; 2]; LANES];
        for pair in 0..2 {
            self.parents(
                chains
                    .iter()
                    .take(lanes)
                    .map(|c| c.get(2 * pair..2 * pair + 2).unwrap_or_default()),
                PARENT,
                &mut level,
            );
            for (place, hash) in above.iter_mut().zip(level.chunks_exact(OUT)).take(lanes) {
                if let Some(place) = place.get_mut(pair) {
                    place.copy_from_slice(hash);
                }
            }
        }
        self.parents(
            above.iter().take(lanes).map(|c| c.as_slice()),
            PARENT | ROOT,
            &mut level,
        );
        for (hash, bytes) in out.iter_mut().zip(level.chunks_exact(OUT)) {
            hash.0.copy_from_slice(bytes);
        }
    }

    /// One level of the tree in every lane.
    fn parents<'a>(&self, pairs: impl Iterator<Item = &'a [[u8; OUT]]>, flags: u8, out: &mut [u8]) {
        let mut inputs = [&[0u8; 2 * OUT]; LANES];
        let mut lanes = 0;
        for (input, pair) in inputs.iter_mut().zip(pairs) {
            if let Some(bytes) = pair.as_flattened().first_chunk() {
                *input = bytes;
                lanes += 1;
            }
        }
        let inputs = inputs.get(..lanes).unwrap_or_default();
        self.platform
            .hash_many(inputs, &IV, 0, IncrementCounter::No, flags, 0, 0, out);
    }
}

impl Default for Simd {
    fn default() -> Self {
        Self::new()
    }
}

impl Hasher for Simd {
    fn hash(&self, parts: &[&[u8]]) -> Hash256 {
        let mut state = blake3::Hasher::new();
        for part in parts {
            state.update(part);
        }
        Hash256(*state.finalize().as_bytes())
    }

    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]) {
        debug_assert_eq!(blocks.len(), out.len() * BLOCK_SIZE);
        for (group, hashes) in blocks.chunks(LANES * BLOCK_SIZE).zip(out.chunks_mut(LANES)) {
            self.hash_group(group, hashes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embr_engine::hash::Scalar;
    use proptest::prelude::*;

    fn noise(len: usize, seed: u64) -> Vec<u8> {
        let mut x = seed | 1;
        (0..len)
            .map(|_| {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                (x >> 32) as u8
            })
            .collect()
    }

    fn platforms() -> Vec<Simd> {
        let mut all = vec![
            Simd::new(),
            Simd {
                platform: Platform::portable(),
            },
        ];
        #[cfg(target_arch = "x86_64")]
        all.extend(
            [Platform::sse2(), Platform::sse41(), Platform::avx2()]
                .into_iter()
                .flatten()
                .map(|platform| Simd { platform }),
        );
        all
    }

    #[test]
    fn equals_scalar_for_any_number_of_blocks() {
        for simd in platforms() {
            for count in 0..=40 {
                let data = noise(count * BLOCK_SIZE, count as u64 + 1);
                let mut ours = vec![Hash256::default(); count];
                let mut theirs = vec![Hash256([1; 32]); count];
                simd.hash_blocks(&data, &mut ours);
                Scalar.hash_blocks(&data, &mut theirs);
                assert_eq!(ours, theirs, "{count} blocks on {:?}", simd.platform);
            }
        }
    }

    proptest! {
        #[test]
        fn equals_scalar_for_parts(data in prop::collection::vec(any::<u8>(), 0..9000), cut in any::<prop::sample::Index>()) {
            let (a, b) = data.split_at(cut.index(data.len() + 1));
            prop_assert_eq!(Simd::new().hash(&[a, b]), Scalar.hash(&[&data]));
        }
    }
}
