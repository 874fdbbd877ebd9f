// SPDX-License-Identifier: GPL-2.0

//! How fast 4 KiB blocks are hashed on one core: plain arithmetic against vectors, one block a call against many.

#![allow(missing_docs)] // What the macros below define.

use criterion::criterion_group;
use criterion::criterion_main;
use criterion::Criterion;
use criterion::Throughput;
use embr_engine::env::Hash256;
use embr_engine::env::Hasher;
use embr_engine::hash::Scalar;
use embr_engine::units::BLOCK_SIZE;
use embrfs_host::Simd;
use std::hint::black_box;

/// Fits the second-level cache: hashing is measured, not memory.
const BLOCKS: usize = 64;

fn hashes(c: &mut Criterion) {
    let data: Vec<u8> = (0..BLOCKS * BLOCK_SIZE).map(|i| (i / 7) as u8).collect();
    let mut out = vec![Hash256::default(); BLOCKS];
    let simd = Simd::new();
    let mut group = c.benchmark_group("hash 4 KiB blocks");
    group.throughput(Throughput::Bytes(data.len() as u64));
    let one_by_one = |hasher: &dyn Fn(&[u8]) -> Hash256, out: &mut [Hash256]| {
        for (block, hash) in black_box(&data).chunks_exact(BLOCK_SIZE).zip(out) {
            *hash = hasher(block);
        }
    };
    group.bench_function("scalar, one block per call", |b| {
        b.iter(|| one_by_one(&|x| Scalar.hash(&[x]), &mut out))
    });
    group.bench_function("scalar, many blocks per call", |b| {
        b.iter(|| Scalar.hash_blocks(black_box(&data), &mut out))
    });
    group.bench_function("SIMD, one block per call", |b| {
        b.iter(|| one_by_one(&|x| simd.hash(&[x]), &mut out))
    });
    group.bench_function("SIMD, many blocks per call", |b| {
        b.iter(|| simd.hash_blocks(black_box(&data), &mut out))
    });
    let mut copy = vec![0u8; data.len()];
    group.bench_function("memcpy", |b| {
        b.iter(|| black_box(&mut copy).copy_from_slice(black_box(&data)))
    });
    group.finish();
    println!("{} blocks side by side on this machine", simd.lanes());
}

criterion_group!(benches, hashes);
criterion_main!(benches);
