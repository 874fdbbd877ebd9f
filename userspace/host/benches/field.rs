// SPDX-License-Identifier: GPL-2.0

//! How fast parity is computed and lost fragments are given back on one core, in bytes of payload, against copying them.

#![allow(missing_docs)] // What the macros below define.

use criterion::criterion_group;
use criterion::criterion_main;
use criterion::Criterion;
use criterion::Throughput;
use embr_engine::env::Field;
use embr_engine::field::Scalar;
use embr_engine::format::geometry::Geometry;
use embr_engine::stripe::code::unbind;
use embr_engine::stripe::Recipe;
use embr_engine::stripe::Shape;
use embrfs_host::Tables;
use std::hint::black_box;

/// Bytes of a fragment.
const LENGTH: usize = 16384;

fn parity(c: &mut Criterion) {
    for (k, m) in [(4, 2), (8, 3), (16, 4)] {
        let shape = Shape::new(Geometry::new(k, m).unwrap(), 1, usize::from(k)).unwrap();
        let mut group = c.benchmark_group(format!("{k}+{m}"));
        group.throughput(Throughput::Bytes((usize::from(k) * LENGTH) as u64));
        let mut all: Vec<Vec<u8>> = (0..shape.width())
            .map(|f| (0..LENGTH).map(|n| (n * 7 + f * 31) as u8).collect())
            .collect();
        let copy = all.clone();
        group.bench_function("copy", |b| {
            b.iter(|| {
                for (to, from) in all.iter_mut().zip(&copy).take(shape.data()) {
                    black_box(to).copy_from_slice(black_box(from));
                }
            })
        });
        group.bench_function("encode", |b| {
            b.iter(|| {
                let (data, parity) = all.split_at_mut(shape.data());
                let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
                let mut parity: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
                Scalar.bundle(black_box(&data), black_box(&mut parity));
            })
        });
        // As many data fragments as may be are lost.
        let lost = 0..shape.parity();
        let there = (lost.end..shape.width()).collect();
        let mut back = vec![0; LENGTH];
        for (name, tables) in [("decode by tables", true), ("decode by doubling", false)] {
            group.bench_function(name, |b| {
                b.iter(|| {
                    for wanted in lost.clone() {
                        let recipe = Recipe::new(&shape, there, wanted).unwrap();
                        let of = |f: usize| all[f].as_slice();
                        match tables {
                            true => unbind(&Tables, &recipe, of, black_box(&mut back)),
                            false => unbind(&Scalar, &recipe, of, black_box(&mut back)),
                        }
                    }
                })
            });
        }
        group.finish();
    }
}

criterion_group!(benches, parity);
criterion_main!(benches);
