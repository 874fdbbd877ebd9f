// SPDX-License-Identifier: GPL-2.0

//! A host whose time stands still and whose chance is a seed.

use embr_engine::env::Environment;
use embr_engine::units::Timestamp;
use embrfs_host::Simd;
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

/// A host for one seed.
#[derive(Debug)]
pub struct Host {
    chance: Chance,
    hasher: Simd,
}

impl Host {
    /// The host of this seed.
    pub fn new(seed: u64) -> Self {
        Host {
            chance: Chance::new(seed),
            hasher: Simd::new(),
        }
    }
}

impl Environment for Host {
    type Hasher = Simd;

    fn hasher(&self) -> &Simd {
        &self.hasher
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
