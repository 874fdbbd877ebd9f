// SPDX-License-Identifier: GPL-2.0

//! How fast keys are looked up and changed on a mounted volume, one transaction for each change, beside a map of the standard library;
//! on a tree that fits the processor's caches, so that it is the engine's own work that shows. `engine` measures large ones.

#![allow(missing_docs)] // What the macros below define.

mod ram;

use criterion::criterion_group;
use criterion::criterion_main;
use criterion::Criterion;
use criterion::Throughput;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Mounted;
use embrfs_sim::host::Chance;
use ram::Ram;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

const VALUE: [u8; 32] = [0x5a; 32];
const COUNT: u64 = 50_000;
const DIRTY: Bytes = Bytes(16 << 20);

fn key(n: u64) -> Key {
    Key([n / 1000, 7, n % 1000])
}

fn set(mounted: &Mounted<Ram>, key: Key) {
    let mut txn = mounted.begin().expect("begun");
    txn.set(NAMES, key, &VALUE).expect("set");
    txn.commit().expect("committed");
}

fn rates(c: &mut Criterion) {
    let mounted = Ram::new(Bytes(1 << 30), 1)
        .make()
        .mount(Bytes(64 << 20), DIRTY);
    let plain = RefCell::new(BTreeMap::new());
    for n in 0..COUNT {
        set(&mounted, key(n));
        plain.borrow_mut().insert(key(n).0, VALUE);
    }
    mounted.checkpoint().expect("a checkpoint");
    let chance = Chance::new(1);
    let drawn = || key(chance.next() % COUNT);
    let look_up = |key: Key| mounted.get(NAMES, key, |v| v[0]).expect("a sound tree");
    let mut group = c.benchmark_group("50,000 keys on a volume");
    group.sample_size(10);
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::Elements(1));
    group.bench_function("random lookup", |b| {
        b.iter(|| black_box(look_up(drawn())).expect("a key that is there"))
    });
    group.bench_function("random lookup, BTreeMap", |b| {
        b.iter(|| black_box(plain.borrow().get(&drawn().0).map(|v| v[0])))
    });
    group.bench_function("lookup of what is not there", |b| {
        b.iter(|| assert_eq!(black_box(look_up(Key([chance.next(), 8, 0]))), None))
    });
    group.bench_function("overwriting at random", |b| {
        b.iter(|| set(&mounted, drawn()))
    });
    group.bench_function("overwriting at random, BTreeMap", |b| {
        b.iter(|| plain.borrow_mut().insert(drawn().0, VALUE))
    });
    group.bench_function("ten keys in a transaction", |b| {
        b.iter(|| {
            let mut txn = mounted.begin().expect("begun");
            for _ in 0..10 {
                txn.set(NAMES, drawn(), &VALUE).expect("set");
            }
            txn.commit().expect("committed")
        })
    });
    group.finish();
}

criterion_group!(benches, rates);
criterion_main!(benches);
