// SPDX-License-Identifier: GPL-2.0

//! The delta beside a plain model: a map of changes, and the keys that are gone one by one.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::string::ToString as _;

/// Keys of the model are small numbers, spread over the three parts of a key so that carries happen.
fn key(n: u16) -> Key {
    match n % 3 {
        0 => Key([u64::from(n / 3), 0, 0]),
        1 => Key([u64::from(n / 3), 0, 1]),
        _ => Key([u64::from(n / 3), u64::MAX, u64::MAX]),
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set(u16, u8),
    Remove(u16),
    RemoveRange(u16, u16),
}

fn op(keys: u16) -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..keys, any::<u8>()).prop_map(|(k, v)| Op::Set(k, v)),
        2 => (0..keys).prop_map(Op::Remove),
        1 => (0..keys, 0..keys / 8).prop_map(move |(k, n)| Op::RemoveRange(k, (k + n).min(keys - 1))),
    ]
}

#[derive(Default)]
struct Model {
    entries: BTreeMap<u16, Option<u8>>,
    gone: BTreeSet<u16>,
}

fn apply(delta: &mut Delta, model: &mut Model, op: &Op) {
    apply_at(delta, model, op, key);
}

/// Applies with every allocation failing, once room is reserved.
fn apply_at(delta: &mut Delta, model: &mut Model, op: &Op, key: impl Fn(u16) -> Key) {
    delta.reserve(1, 1).expect("memory");
    let value = match op {
        Op::Set(_, v) => Vec::try_from_slice(v.to_string().as_bytes()).expect("memory"),
        _ => Vec::new(),
    };
    embr_rt::failpoint::fail_from(1);
    let result = match op {
        Op::Set(k, v) => {
            model.entries.insert(*k, Some(*v));
            delta.set(key(*k), value)
        }
        Op::Remove(k) => {
            model.entries.insert(*k, None);
            delta.remove(key(*k))
        }
        Op::RemoveRange(a, b) => {
            for k in *a..=*b {
                model.entries.remove(&k);
                model.gone.insert(k);
            }
            delta.remove_range(Range {
                first: key(*a),
                last: key(*b),
            })
        }
    };
    embr_rt::failpoint::off();
    result.expect("room is reserved");
}

fn expected(model: &Model, k: u16) -> Option<Option<u8>> {
    match model.entries.get(&k) {
        Some(change) => Some(*change),
        None if model.gone.contains(&k) => Some(None),
        None => None,
    }
}

fn check(delta: &Delta, model: &Model, keys: u16) {
    for k in 0..keys {
        let known = match delta.get(key(k)) {
            Known::Set(v) => Some(Some(std::str::from_utf8(v).unwrap().parse::<u8>().unwrap())),
            Known::Gone => Some(None),
            Known::Nothing => None,
        };
        assert_eq!(known, expected(model, k), "key {k}");
        let next = model
            .entries
            .range(k..)
            .next()
            .map(|(n, v)| (key(*n), v.is_some()));
        let found = delta
            .at_or_after(key(k))
            .map(|(n, c)| (n, matches!(c, Change::Set(_))));
        assert_eq!(found, next, "at or after {k}");
        let previous = model
            .entries
            .range(..=k)
            .next_back()
            .map(|(n, v)| (key(*n), v.is_some()));
        let found = delta
            .at_or_before(key(k))
            .map(|(n, c)| (n, matches!(c, Change::Set(_))));
        assert_eq!(found, previous, "at or before {k}");
        assert_eq!(delta.is_gone(key(k)), model.gone.contains(&k), "gone {k}");
    }
    assert_eq!(delta.entries(), model.entries.len());
    let mut end: Option<Key> = None;
    let mut from = Key::MIN;
    while let Some(range) = delta.gone_at_or_after(from) {
        assert!(range.first <= range.last);
        if let Some(end) = end {
            assert!(end.next() < Some(range.first), "ranges touch");
        }
        end = Some(range.last);
        let Some(next) = range.last.next() else { break };
        from = next;
    }
}

proptest! {
    #[test]
    fn like_the_model(ops in vec(op(900), 0..700)) {
        let (mut delta, mut model) = (Delta::new(), Model::default());
        for op in &ops {
            apply(&mut delta, &mut model, op);
        }
        check(&delta, &model, 900);
    }
}

/// Enough keys for many branches, in rising, falling and mixed order.
#[test]
fn large_in_any_order() {
    for stride in [1u32, 65_535, 30_011] {
        let (mut delta, mut model) = (Delta::new(), Model::default());
        for n in 0..65_536u32 {
            let k = (n.wrapping_mul(stride) % 65_536) as u16;
            apply(&mut delta, &mut model, &Op::Set(k, k as u8));
        }
        check(&delta, &model, 65_535);
        apply(&mut delta, &mut model, &Op::RemoveRange(100, 64_000));
        check(&delta, &model, 65_535);
    }
}

/// What a delta counts is what it holds: nothing is left when everything went.
#[test]
fn bytes_return_to_nothing() {
    let mut delta = Delta::new();
    delta.reserve(1000, 1).expect("memory");
    for n in 0..1000u16 {
        delta
            .set(key(n), Vec::zeroed(100).expect("memory"))
            .expect("reserved");
        delta
            .set(key(n), Vec::zeroed(10).expect("memory"))
            .expect("reserved");
    }
    assert!(delta.bytes() >= 1000 * (10 + ENTRY_BYTES));
    delta.remove_range(Range::ALL).expect("reserved");
    assert_eq!(delta.bytes(), core::mem::size_of::<Range>());
    assert_eq!(delta.entries(), 0);
}

/// So many keys one behind the other, from this one on.
fn row(from: Key, count: usize) -> std::vec::Vec<Key> {
    std::iter::successors(Some(from), |key| key.next())
        .take(count)
        .collect()
}

/// All ranges that are gone.
fn gone(delta: &Delta) -> std::vec::Vec<(Key, Key)> {
    let mut all = std::vec::Vec::new();
    let mut from = Some(Key::MIN);
    while let Some(range) = from.and_then(|from| delta.gone_at_or_after(from)) {
        all.push((range.first, range.last));
        from = range.last.next();
    }
    all
}

/// The same of a model: its points in as few runs as possible.
fn runs(gone: &BTreeSet<u16>, row: &[Key]) -> std::vec::Vec<(Key, Key)> {
    let mut all: std::vec::Vec<(u16, u16)> = std::vec::Vec::new();
    for n in gone {
        match all.last_mut().filter(|(_, last)| last + 1 == *n) {
            Some((_, last)) => *last = *n,
            None => all.push((*n, *n)),
        }
    }
    let at = |n: u16| row[usize::from(n)];
    all.into_iter().map(|(a, b)| (at(a), at(b))).collect()
}

const ROW: u16 = 160;

/// Ranges that are short and many: apart, touching, overlapping, nested and equal; now and then one that swallows many.
fn range_op() -> impl Strategy<Value = Op> {
    let range = |a: u16, n: u16| Op::RemoveRange(a, (a + n).min(ROW - 1));
    prop_oneof![
        8 => (0..ROW, 0..4u16).prop_map(move |(a, n)| range(a, n)),
        1 => (0..ROW, 4..60u16).prop_map(move |(a, n)| range(a, n)),
        3 => (0..ROW, any::<u8>()).prop_map(|(k, v)| Op::Set(k, v)),
        1 => (0..ROW).prop_map(Op::Remove),
    ]
}

proptest! {
    /// Every key that was removed with a range is in exactly one range of as few as possible, wherever the keys lie: at the begin, at
    /// the end, and where the parts of a key carry.
    #[test]
    fn ranges_are_as_few_as_possible(ops in vec(range_op(), 0..120), place in 0..3usize) {
        let from = [
            Key::MIN,
            Key([5, u64::MAX, u64::MAX - u64::from(ROW / 2)]),
            Key([u64::MAX, u64::MAX, u64::MAX - u64::from(ROW - 1)]),
        ][place];
        let row = row(from, usize::from(ROW));
        prop_assert_eq!(row.len(), usize::from(ROW));
        let (mut delta, mut model) = (Delta::new(), Model::default());
        for op in &ops {
            apply_at(&mut delta, &mut model, op, |n| row[usize::from(n)]);
            prop_assert_eq!(gone(&delta), runs(&model.gone, &row));
        }
        for (n, key) in (0..ROW).zip(&row) {
            let known = match delta.get(*key) {
                Known::Set(v) => Some(Some(std::str::from_utf8(v).unwrap().parse::<u8>().unwrap())),
                Known::Gone => Some(None),
                Known::Nothing => None,
            };
            prop_assert_eq!(known, expected(&model, n));
        }
        prop_assert_eq!(delta.entries(), model.entries.len());
    }
}

/// Many ranges, each of which lies alone, touches, or joins two.
#[test]
fn many_ranges_in_any_order() {
    for stride in [1u32, 65_535, 30_011] {
        let (mut delta, mut points) = (Delta::new(), BTreeSet::new());
        let row = row(Key([7, 0, u64::MAX - 9_000]), 1 << 16);
        for n in 0..60_000u32 {
            let k = (n.wrapping_mul(stride) % 65_536) as u16;
            delta.reserve(0, 1).expect("memory");
            delta
                .remove_range(Range {
                    first: row[usize::from(k)],
                    last: row[usize::from(k)],
                })
                .expect("reserved");
            points.insert(k);
            if n % 6_000 == 0 {
                assert_eq!(gone(&delta), runs(&points, &row));
            }
        }
        assert_eq!(gone(&delta), runs(&points, &row));
    }
}

/// Without room, a range is not removed in part.
#[test]
fn without_memory_nothing_is_removed() {
    let (mut delta, mut refused) = (Delta::new(), 0);
    for n in (0..2_000u16).step_by(2) {
        let k = Key([0, 0, u64::from(n)]);
        delta.reserve(1, 0).expect("memory");
        delta.set(k, Vec::new()).expect("reserved");
        let (entries, bytes) = (delta.entries(), delta.bytes());
        let range = Range { first: k, last: k };
        embr_rt::failpoint::fail_from(1);
        let result = delta.remove_range(range);
        embr_rt::failpoint::off();
        if result.is_err() {
            refused += 1;
            assert_eq!((delta.entries(), delta.bytes()), (entries, bytes));
            assert_eq!(delta.get(k), Known::Set(&[]));
            assert!(!delta.is_gone(k));
            delta.remove_range(range).expect("memory");
        }
        assert_eq!(delta.get(k), Known::Gone);
    }
    assert!(refused > 3);
}
