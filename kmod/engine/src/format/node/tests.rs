// SPDX-License-Identifier: GPL-2.0

//! Nodes there and back, and bytes that are not nodes.

use super::*;
use crate::format::member::Slot;
use crate::format::pointer::Place;
use crate::hash::Scalar;
use crate::units::Blocks;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec as StdVec;

const VOLUME: Uuid = Uuid([3; 16]);
const SIZE: usize = 1024;

fn places(block: u64) -> Places {
    let place = |device| Place {
        device: Slot::new(device).unwrap(),
        block: Blocks(block),
    };
    Places::new(&[place(2), place(9)]).unwrap()
}

fn stamp(level: u8) -> Stamp {
    Stamp {
        volume: VOLUME,
        epoch: EpochId([4; 16]),
        generation: Generation(7),
        tree: TreeId(1),
        level: Level(level),
        places: places(5000),
    }
}

fn leaf(entries: &[(Key, &[u8])]) -> Result<Node, BadNode> {
    Node::leaf(&Scalar, SIZE, &stamp(0), entries.iter().copied())
}

fn child(n: u64) -> (Key, Pointer) {
    let pointer = Pointer {
        generation: Generation(n),
        hash: [n as u8; 16],
        places: places(n),
    };
    (Key([n, 0, 0]), pointer)
}

fn inner(children: &[(Key, Pointer)], last: Key) -> Result<Node, BadNode> {
    Node::inner(&Scalar, SIZE, &stamp(2), children.iter().copied(), last)
}

fn parse(bytes: &[u8]) -> Result<Node, BadNode> {
    Node::parse(&Scalar, Vec::try_from_slice(bytes).unwrap(), VOLUME)
}

#[test]
fn children_and_their_ranges() {
    let children: StdVec<_> = [2, 5, 7].map(child).to_vec();
    let node = inner(&children, Key([9, 9, 9])).unwrap();
    let node = parse(node.bytes()).unwrap();
    assert_eq!(node.count(), 3);
    assert_eq!(node.used(), 3 * INNER_ENTRY);
    assert_eq!(node.at_or_before(Key([1, 9, 9])), None);
    assert_eq!(node.at_or_before(Key([5, 0, 0])), Some(1));
    let ranges: StdVec<_> = (0..4).filter_map(|i| node.child(i)).collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[1].pointer, children[1].1);
    let expected = Range {
        first: Key([5, 0, 0]),
        last: Key([6, u64::MAX, u64::MAX]),
    };
    assert_eq!(ranges[1].range, expected);
    assert_eq!(ranges[2].range.last, Key([9, 9, 9]));
    assert_eq!(node.entry(0), None);
    assert!(node.is_at(&node.pointer()));
}

#[test]
fn what_cannot_be_is_not_made() {
    let key = |n| Key([n, 0, 0]);
    assert_eq!(leaf(&[]).err(), Some(BadNode::Field));
    assert_eq!(
        leaf(&[(key(2), b"x"), (key(2), b"y")]).err(),
        Some(BadNode::Keys)
    );
    assert_eq!(
        leaf(&[(key(2), b"x"), (key(1), b"y")]).err(),
        Some(BadNode::Keys)
    );
    let long = [0u8; SIZE];
    let fits = max_value(SIZE);
    assert!(leaf(&[(key(1), &long[..fits])]).is_ok());
    assert_eq!(
        leaf(&[(key(1), &long[..fits + 1])]).err(),
        Some(BadNode::Values)
    );
    assert!(leaf(&[1, 2, 3, 4].map(|n| (key(n), &long[..fits]))).is_err());
    let three = leaf(&[1, 2, 3].map(|n| (key(n), &long[..fits]))).unwrap();
    assert!(three.used() <= room(SIZE));
    assert_eq!(
        inner(&[child(5), child(6)], key(5)).err(),
        Some(BadNode::Keys)
    );
    // Newer than its parent.
    assert_eq!(
        inner(&[child(5), child(8)], key(9)).err(),
        Some(BadNode::Child)
    );
}

#[test]
fn every_bit_counts() {
    let node = leaf(&[(Key([1, 2, 3]), b"abc"), (Key([1, 2, 4]), b"")]).unwrap();
    let mut bytes = node.bytes().to_vec();
    for bit in 0..SIZE * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(parse(&bytes).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(parse(&bytes).is_ok());
    for length in 0..SIZE {
        assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_right_seal_is_not_enough() {
    let key = |n| Key([n, 0, 0]);
    let leaf = leaf(&[(key(1), b"abc"), (key(2), b"de")]).unwrap();
    let inner = inner(&[2, 5].map(child), key(9)).unwrap();
    let values = HEADER_SIZE + 2 * KEY_SIZE;
    let cases: &[(&Node, usize, &[u8], BadNode)] = &[
        (&leaf, 8, &[2], BadNode::Version(2)),
        (&leaf, 12, &[1], BadNode::Field),
        (&leaf, 48, &[1], BadNode::Foreign),
        (&leaf, 64, &[0; 16], BadNode::Field),
        (&leaf, 80, &[0; 8], BadNode::Field),
        (&leaf, 88, &[0], BadNode::Field),
        (&leaf, 89, &[16], BadNode::Field),
        (&leaf, 89, &[1], BadNode::Field),
        (&leaf, 90, &[0, 0], BadNode::Field),
        (&leaf, 90, &[1], BadNode::Keys),
        (&leaf, 90, &[0xff, 0xff], BadNode::Keys),
        (&leaf, 92, &[6], BadNode::Values),
        (&leaf, 96, &[0; 8], BadNode::Field),
        (&leaf, 136, &[3], BadNode::Keys),
        (&leaf, HEADER_SIZE, &[2], BadNode::Keys),
        (&leaf, values, &[6], BadNode::Values),
        (&leaf, values, &[0xff, 0xff], BadNode::Values),
        (&inner, 89, &[0], BadNode::Keys),
        (&inner, 92, &[1], BadNode::Field),
        (&inner, 136, &[4], BadNode::Keys),
        (&inner, values, &[8], BadNode::Child),
        (&inner, values, &[0], BadNode::Child),
        (&inner, values + 24 + 7, &[64], BadNode::Child),
        (&inner, values + 64 + 24, &[0; 40], BadNode::Child),
    ];
    for (node, at, change, expected) in cases {
        let mut bytes = node.bytes().to_vec();
        bytes[*at..at + change.len()].copy_from_slice(change);
        apply_seal(&Scalar, &mut bytes);
        assert_eq!(parse(&bytes).err(), Some(*expected), "{change:?} at {at}");
    }
}

/// Few, many in a row, and the ends of what there is.
fn key_word() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..3, 100u64..160, any::<u64>(), Just(u64::MAX)]
}

proptest! {
    #[test]
    fn leaves_there_and_back(entries in prop::collection::btree_map(any::<[u8; 3]>(), prop::collection::vec(any::<u8>(), 0..30), 1..15), probe in any::<[u8; 3]>()) {
        let wide = |key: [u8; 3]| Key(key.map(u64::from));
        let model: BTreeMap<Key, StdVec<u8>> = entries.into_iter().map(|(k, v)| (wide(k), v)).collect();
        let list: StdVec<(Key, &[u8])> = model.iter().map(|(k, v)| (*k, &v[..])).collect();
        let node = leaf(&list).unwrap();
        let node = parse(node.bytes()).unwrap();
        prop_assert_eq!(node.stamp(), &stamp(0));
        let back: StdVec<(Key, &[u8])> = (0..).map_while(|i| node.entry(i)).collect();
        prop_assert_eq!(&back, &list);
        let used: usize = list.iter().map(|(_, v)| v.len() + LEAF_ENTRY).sum();
        prop_assert_eq!(node.used(), used);
        let probe = wide(probe);
        prop_assert_eq!(node.value(probe), model.get(&probe).map(|v| &v[..]));
        prop_assert_eq!(node.below(probe), model.range(..probe).count());
        prop_assert_eq!(node.at_or_before(probe), model.range(..=probe).count().checked_sub(1));
        let range = node.range();
        prop_assert_eq!((range.first, range.last), (list[0].0, list[list.len() - 1].0));
    }

    /// However keys are spread, and wherever one looks.
    #[test]
    fn keys_are_found(
        keys in prop::collection::btree_set(prop::array::uniform3(key_word()), 1..33),
        probes in prop::collection::vec(prop::array::uniform3(key_word()), 20),
        level in 0u8..2,
    ) {
        let keys: StdVec<Key> = keys.into_iter().map(Key).collect();
        let node = match level {
            0 => leaf(&keys.iter().map(|k| (*k, &b""[..])).collect::<StdVec<_>>()),
            _ => {
                let few = keys.iter().take(9);
                let children: StdVec<_> = few.map(|k| (*k, child(5).1)).collect();
                inner(&children, Key::MAX)
            }
        };
        let node = node.unwrap();
        let keys = &keys[..node.count()];
        let near = keys.iter().flat_map(|k| [Some(*k), k.next(), k.previous()]).flatten();
        for probe in near.chain(probes.into_iter().map(Key)) {
            let below = keys.iter().filter(|k| **k < probe).count();
            let up_to = keys.iter().filter(|k| **k <= probe).count();
            prop_assert_eq!(node.below(probe), below);
            prop_assert_eq!(node.at_or_before(probe), up_to.checked_sub(1));
            prop_assert!(node.range().guess(probe, keys.len()) <= keys.len());
        }
    }

    #[test]
    fn no_bytes_do_harm(mut bytes in prop::collection::vec(any::<u8>(), 0..2048), level in 0u8..3, count in 0u16..50) {
        if bytes.len() > HEADER_SIZE {
            let size = bytes.len() as u32;
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..12].copy_from_slice(&layout::VERSION.to_le_bytes());
            bytes[12..16].copy_from_slice(&size.to_le_bytes());
            bytes[48..64].copy_from_slice(&VOLUME.0);
            bytes[89] = level;
            bytes[90..92].copy_from_slice(&count.to_le_bytes());
            bytes[96..136].fill(0);
            bytes[96] = 9;
            apply_seal(&Scalar, &mut bytes);
        }
        if let Ok(node) = parse(&bytes) {
            for i in 0..=node.count() {
                let _ = (node.entry(i), node.child(i));
            }
        }
    }
}
