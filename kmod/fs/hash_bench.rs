// SPDX-License-Identifier: GPL-2.0

//! How fast hashing is, measured where it will be done. Runs when the module is loaded with hash_bench=1.

use crate::{
    bench,
    hashing::Hasher, //
};
use embr_engine::{
    env::{
        Hash256,
        Hasher as _, //
    },
    hash::Scalar,
};
use embr_vfs::blake3::{
    BLOCK,
    LANES, //
};
use kernel::prelude::*;

/// Measures and prints.
pub(crate) fn run() -> Result {
    let mut blocks = KVVec::from_elem(0u8, LANES * BLOCK, GFP_KERNEL)?;
    for (number, byte) in blocks.iter_mut().enumerate() {
        *byte = (number % 251) as u8;
    }
    let mut out = KVec::from_elem(Hash256::default(), LANES, GFP_KERNEL)?;
    let hasher = Hasher::current();
    let name = hasher.name();

    let rate = rate(|| one_per_call(&Scalar, &blocks, &mut out));
    pr_info!("hash_bench: scalar, one block per call: {rate} MB/s\n");
    let rate = self::rate(|| Scalar.hash_blocks(&blocks, &mut out));
    pr_info!("hash_bench: scalar, {LANES} blocks per call: {rate} MB/s\n");
    if !hasher.is_simd() {
        return Ok(());
    }
    let rate = self::rate(|| one_per_call(&hasher, &blocks, &mut out));
    pr_info!("hash_bench: {name}, one block per call: {rate} MB/s\n");
    let rate = self::rate(|| hasher.hash_blocks(&blocks, &mut out));
    pr_info!("hash_bench: {name}, {LANES} blocks per call: {rate} MB/s\n");
    Ok(())
}

fn one_per_call(hasher: &impl embr_engine::env::Hasher, blocks: &[u8], out: &mut [Hash256]) {
    for (block, hash) in blocks.chunks_exact(BLOCK).zip(out) {
        *hash = hasher.hash(&[block]);
    }
}

/// Bytes per microsecond of something that hashes all the blocks once.
fn rate(round: impl FnMut()) -> u64 {
    bench::rate(LANES * BLOCK, round) / 1_000_000
}
