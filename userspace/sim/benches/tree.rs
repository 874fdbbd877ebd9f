// SPDX-License-Identifier: GPL-2.0

//! How fast a tree in memory is: looking keys up, walking, and merging changes; and what a merge writes for each change.

#![allow(missing_docs)] // What the macros below define.

use criterion::criterion_group;
use criterion::criterion_main;
use criterion::Criterion;
use criterion::Throughput;
use embr_engine::format::member::Members;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::tree::merge;
use embr_engine::tree::nodes::Nodes;
use embr_engine::tree::Base;
use embr_engine::tree::Change;
use embr_engine::tree::Changes;
use embr_engine::tree::Cursor;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embrfs_host::Simd;
use embrfs_sim::host::Chance;
use embrfs_sim::nodes::Delta;
use embrfs_sim::nodes::Shelf;
use embrfs_sim::nodes::Space;
use embrfs_sim::nodes::EDITION;
use std::hint::black_box;
use std::time::Instant;

const VALUE: [u8; 32] = [0x5a; 32];
/// Keys in a tree to look things up in.
const MANY: u64 = 10_000_000;
/// Keys in a tree to merge into.
const SOME: u64 = 2_000_000;

/// The number of a key among its like: files of a thousand items, with a gap behind each item.
fn key(n: u64) -> Key {
    Key([n / 1000, 7, 2 * (n % 1000)])
}

/// So many keys, set.
struct Rows(u64);

impl Changes for Rows {
    fn at_or_after(&self, from: Key) -> Option<(Key, Change<'_>)> {
        // The merge asks for the first, and then for what follows one that it was given.
        let [file, _, item] = from.0;
        let n = file * 1000 + (item + 1) / 2;
        (n < self.0).then(|| (key(n), Change::Set(&VALUE)))
    }

    fn gone_at_or_after(&self, _from: Key) -> Option<Range> {
        None
    }
}

struct Tree {
    nodes: Nodes<Shelf<Simd>>,
    space: Space<Simd>,
    base: Base,
}

fn tree(size: usize, keys: u64) -> Tree {
    let shelf = Shelf::new(Simd::new(), Members(0xff), true);
    let mut tree = Tree {
        nodes: shelf.nodes(size, Bytes(3 << 30)),
        space: Space::new(&shelf, 1),
        base: Base::empty(TreeId(1)),
    };
    tree.merge(&Rows(keys));
    tree
}

impl Tree {
    fn merge(&mut self, changes: &impl Changes) {
        self.space.written = 0;
        self.base = merge(&self.nodes, &self.base, changes, EDITION, &mut self.space)
            .expect("a sound tree");
    }
}

fn lookups(c: &mut Criterion) {
    let tree = tree(NODE_SIZE, MANY);
    let chance = Chance::new(1);
    let mut group = c.benchmark_group("10 million keys in the cache");
    group.sample_size(20);
    group.throughput(Throughput::Elements(1));
    group.bench_function("random lookup", |b| {
        b.iter(|| {
            let key = key(chance.next() % MANY);
            tree.base
                .get(&tree.nodes, black_box(key), |v| v[0])
                .expect("a sound tree")
                .expect("a key that is there")
        })
    });
    let mut cursor = Cursor::new(&tree.nodes, &tree.base, Range::ALL);
    group.bench_function("next entry", |b| {
        b.iter(|| match cursor.next().expect("a sound tree") {
            Some((key, _)) => key,
            None => {
                cursor = Cursor::new(&tree.nodes, &tree.base, Range::ALL);
                Key::MIN
            }
        })
    });
    group.bench_function("seek and 10 entries", |b| {
        b.iter(|| {
            let mut cursor = Cursor::new(&tree.nodes, &tree.base, Range::ALL);
            let _ = cursor.seek(key(chance.next() % MANY));
            for _ in 0..10 {
                let _ = black_box(cursor.next());
            }
        })
    });
    group.finish();
}

fn merges(_: &mut Criterion) {
    println!(
        "{:>6} {:34} {:>12} {:>14} {:>8}",
        "node", "changes into 2 million keys", "changes/s", "bytes/change", "filled"
    );
    for size in [4096, 16384, 65536] {
        let mut tree = tree(size, SOME);
        let chance = Chance::new(2);
        for (name, count) in [
            ("0.1 %", SOME / 1000),
            ("1 %", SOME / 100),
            ("10 %", SOME / 10),
        ] {
            let mut over = Delta::default();
            let mut fresh = Delta::default();
            for _ in 0..count {
                over.keys
                    .insert(key(chance.next() % SOME), Some(VALUE.to_vec()));
                let Key([file, b, item]) = key(chance.next() % SOME);
                fresh
                    .keys
                    .insert(Key([file, b, item + 1]), Some(VALUE.to_vec()));
            }
            measure(
                &mut tree,
                size,
                &format!("{name} overwritten at random"),
                &over,
            );
            measure(
                &mut tree,
                size,
                &format!("{name} inserted at random"),
                &fresh,
            );
        }
        let mut row = Delta::default();
        for n in 0..SOME / 10 {
            row.keys.insert(key(SOME + n), Some(VALUE.to_vec()));
        }
        measure(&mut tree, size, "10 % appended in a row", &row);
    }
}

fn measure(tree: &mut Tree, size: usize, name: &str, delta: &Delta) {
    let begin = Instant::now();
    tree.merge(delta);
    let seconds = begin.elapsed().as_secs_f64();
    let count = delta.keys.len() as f64;
    println!(
        "{:>6} {:34} {:>12.0} {:>14.1} {:>7.0}%",
        size,
        name,
        count / seconds,
        (tree.space.written * size) as f64 / count,
        filled(tree),
    );
}

/// How full the leaves are.
fn filled(tree: &Tree) -> f64 {
    let mut entries = 0usize;
    let mut cursor = Cursor::new(&tree.nodes, &tree.base, Range::ALL);
    while let Ok(Some(_)) = cursor.next() {
        entries += 1;
    }
    100.0 * (entries * 58) as f64 / (tree.space.live.len() * tree.nodes.size()) as f64
}

criterion_group!(benches, lookups, merges);
criterion_main!(benches);
