// SPDX-License-Identifier: GPL-2.0

//! A host whose time stands still and whose chance is a seed.

use embr_engine::env::Environment;
use embr_engine::env::Hash256;
use embr_engine::env::Hasher;
use embr_engine::units::Timestamp;
use embrfs_host::Simd;
use embrfs_host::Tables;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// The seed that EMBRFS_SEED says, or another one in each run. It is printed, so that what fails can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("EMBRFS_SEED").ok();
    let seed = match given.filter(|seed| !seed.is_empty()) {
        Some(seed) => seed.parse().expect("EMBRFS_SEED is a number"),
        None => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("a clock").as_nanos() as u64
        }
    };
    println!("EMBRFS_SEED={seed}");
    seed
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Debug)]
pub struct Chance(AtomicU64);

impl Chance {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Self {
        Chance(AtomicU64::new(seed))
    }

    /// From now on the sequence of this seed.
    pub fn restart(&self, seed: u64) {
        self.0.store(seed, Ordering::Relaxed);
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = (self.0.load(Ordering::Relaxed)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.store(state, Ordering::Relaxed);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `choices`, which are not none.
    pub fn one<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// So many bytes are copied together: the chunks of one piece are hashed side by side, those of several are not.
const TOGETHER: Range<usize> = 2048..20 << 10;

/// The same hashes as of [`Simd`], sooner for what comes in parts.
#[derive(Debug)]
pub struct Joined(Simd);

impl Hasher for Joined {
    fn hash(&self, parts: &[&[u8]]) -> Hash256 {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        match TOGETHER.contains(&length) {
            true => self.0.hash(&[&parts.concat()]),
            false => self.0.hash(parts),
        }
    }

    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]) {
        self.0.hash_blocks(blocks, out);
    }
}

/// A host for one seed.
#[derive(Debug)]
pub struct Host {
    chance: Chance,
    hasher: Joined,
}

impl Host {
    /// The host of this seed.
    pub fn new(seed: u64) -> Self {
        Host {
            chance: Chance::new(seed),
            hasher: Joined(Simd::new()),
        }
    }
}

impl Environment for Host {
    type Hasher = Joined;
    type Field = Tables;

    fn hasher(&self) -> &Joined {
        &self.hasher
    }

    fn field(&self) -> &Tables {
        &Tables
    }

    fn now(&self) -> Timestamp {
        Timestamp {
            seconds: 1_800_000_000,
            nanos: 5,
        }
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chance.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.chance.next().to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_as_they_do_one_by_one() {
        let bytes: Vec<u8> = (0..60_000).map(|n| (n % 251) as u8).collect();
        for cuts in [
            [0, 5],
            [5, 5],
            [40, 4136],
            [1024, 16_424],
            [7, 20 << 10],
            [9, 50_000],
        ] {
            let [a, b] = cuts;
            for end in [b, b + 1, b + 4096] {
                let parts = [&bytes[..a], &bytes[a..b], &bytes[b..end]];
                let simd = Simd::new();
                assert_eq!(
                    Joined(Simd::new()).hash(&parts),
                    simd.hash(&parts),
                    "{cuts:?}"
                );
            }
        }
    }
}
