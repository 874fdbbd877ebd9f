// SPDX-License-Identifier: GPL-2.0

//! A tree in its three layers beside a plain map: lookups and walks in both directions see what was changed last, before, while and
//! after a checkpoint merges; and a reader that began before it goes on unharmed.

use embr_engine::env::Hasher;
use embr_engine::format::member::Members;
use embr_engine::hash::Scalar;
use embr_engine::tree::delta::Delta;
use embr_engine::tree::merge;
use embr_engine::tree::Base;
use embr_engine::tree::First;
use embr_engine::tree::Key;
use embr_engine::tree::Layered;
use embr_engine::tree::Nodes;
use embr_engine::tree::Range;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_rt::lock_class;
use embr_rt::Arc;
use embrfs_sim::host::Chance;
use embrfs_sim::nodes::Shelf;
use embrfs_sim::nodes::Space;
use embrfs_sim::nodes::EDITION;
use std::collections::BTreeMap;

type Model = BTreeMap<Key, Vec<u8>>;

fn key(n: u64) -> Key {
    Key([n / 9, n % 9 / 3, n % 3])
}

fn copied(bytes: &[u8]) -> embr_rt::Vec<u8> {
    embr_rt::Vec::try_from_slice(bytes).expect("memory")
}

fn change(chance: &Chance, tree: &Layered, model: &mut Model, keys: u64) {
    tree.reserve(1, 1).expect("memory");
    let at = chance.next() % keys;
    match chance.below(8) {
        0 => {
            let last = (at + chance.next() % (keys / 3)).min(keys);
            let range = Range {
                first: key(at),
                last: key(last),
            };
            tree.change().remove_range(range).expect("room");
            model.retain(|k, _| !range.has(*k));
        }
        1 | 2 => {
            tree.change().remove(key(at)).expect("room");
            model.remove(&key(at));
        }
        _ => {
            let value = chance.next().to_le_bytes();
            tree.change().set(key(at), copied(&value)).expect("room");
            model.insert(key(at), value.to_vec());
        }
    }
}

fn walked<H: Hasher + Clone>(
    tree: &Layered,
    nodes: &Nodes<Shelf<H>>,
    range: Range,
    down: bool,
) -> Vec<(Key, Vec<u8>)> {
    let mut scan = if down {
        tree.scan_back(nodes, range)
    } else {
        tree.scan(nodes, range)
    };
    let mut all = Vec::new();
    while let Some((key, value)) = scan.next().expect("sound") {
        all.push((key, value.to_vec()));
    }
    if down {
        all.reverse();
    }
    all
}

fn check(chance: &Chance, tree: &Layered, nodes: &Nodes<Shelf>, model: &Model, keys: u64) {
    for n in 0..keys {
        let found = tree.get(nodes, key(n), |v| v.to_vec()).expect("sound");
        assert_eq!(found.as_ref(), model.get(&key(n)), "key {}", key(n));
        let range = Range {
            first: key(n),
            last: key(n + chance.next() % 5),
        };
        let wanted = model.range(range.first..=range.last).next();
        match tree.first(nodes, range).expect("sound") {
            First::Found((key, value)) => assert_eq!(wanted, Some((&key, &value.to_vec()))),
            First::Nothing => assert_eq!(wanted, None, "from {}", range.first),
            First::Unclear => {}
        }
    }
    for _ in 0..4 {
        let (a, b) = (key(chance.next() % keys), key(chance.next() % keys));
        let range = Range {
            first: a.min(b),
            last: a.max(b),
        };
        let expected: Vec<_> = model
            .range(range.first..=range.last)
            .map(|(k, v)| (*k, v.clone()))
            .collect();
        assert_eq!(
            walked(tree, nodes, range, false),
            expected,
            "upwards in {range:?}"
        );
        assert_eq!(
            walked(tree, nodes, range, true),
            expected,
            "downwards in {range:?}"
        );
    }
}

#[test]
fn the_newest_layer_counts() {
    for seed in 0..120 {
        let chance = Chance::new(seed);
        let keys = chance.one(&[12, 60, 300]);
        let shelf = Shelf::new(Scalar, Members(0xff), true);
        let nodes = shelf.nodes(1024, Bytes(1 << 20));
        let mut space = Space::new(&shelf, 1);
        let tree = Layered::try_new(Base::empty(TreeId(3)), lock_class!("tree")).expect("memory");
        let mut model = Model::new();
        for _ in 0..8 {
            for _ in 0..chance.below(keys as usize) {
                change(&chance, &tree, &mut model, keys);
            }
            check(&chance, &tree, &nodes, &model, keys);
            let before = model.clone();
            tree.freeze(Arc::try_new(Delta::new()).expect("memory"));
            for _ in 0..chance.below(keys as usize / 2) {
                change(&chance, &tree, &mut model, keys);
            }
            check(&chance, &tree, &nodes, &model, keys);
            let (Some(frozen), base) = tree.frozen() else {
                continue;
            };
            let new = merge(&nodes, &base, &*frozen, EDITION, &mut space).expect("sound");
            // A walk that began before the checkpoint ended goes on.
            let mut scan = tree.scan(&nodes, Range::ALL);
            let first = scan.next().expect("sound");
            let old = tree.replace(Arc::try_new(new).expect("memory"));
            assert!(Arc::ptr_eq(&old, &base));
            let mut rest = Vec::from_iter(first.map(|(k, _)| k));
            while let Some((key, _)) = scan.next().expect("sound") {
                rest.push(key);
            }
            assert_eq!(rest, Vec::from_iter(model.keys().copied()), "seed {seed}");
            check(&chance, &tree, &nodes, &model, keys);
            // What was frozen is in the base, and nothing else.
            let alone = Layered::try_new(new, lock_class!("tree of a base")).expect("memory");
            assert_eq!(
                walked(&alone, &nodes, Range::ALL, false),
                Vec::from_iter(before),
                "seed {seed}"
            );
        }
    }
}
