// SPDX-License-Identifier: GPL-2.0

//! Free space: nothing is given out twice, nothing too early, and the tree's items say what is used.

use super::*;
use crate::format::geometry::Geometry;
use crate::format::stripe::Totals;
use crate::tree::change::Change;
use crate::tree::Changes as _;
use proptest::prelude::*;
use std::vec::Vec as StdVec;

const BLOCKS: u64 = GROUP + 5000;

fn slot(n: usize) -> Slot {
    Slot::new(n).unwrap()
}

fn managed() -> [Managed<'static>; 2] {
    [0, 1].map(|n| Managed {
        slot: slot(n),
        blocks: Blocks(BLOCKS),
        fixed: &[(Blocks(0), Blocks(256)), (Blocks(2048), Blocks(256))],
        present: true,
        domain: 0,
    })
}

fn items(delta: &Delta) -> StdVec<(Key, StdVec<u8>)> {
    let mut all = StdVec::new();
    let mut from = Some(Key::MIN);
    while let Some((key, Change::Set(value))) = from.and_then(|k| delta.at_or_after(k)) {
        all.push((key, value.to_vec()));
        from = key.next();
    }
    all
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(usize, u64, bool),
    Free(usize),
    Root,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..2, 1u64..3000, any::<bool>()).prop_map(|(d, n, keep)| Step::Allocate(d, n, keep)),
        3 => any::<usize>().prop_map(Step::Free),
        2 => Just(Step::Root),
    ]
}

proptest! {
    #[test]
    fn given_out_once_and_not_too_early(steps in proptest::collection::vec(step(), 1..120)) {
        let space = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
        let mut tree: std::collections::BTreeMap<Key, StdVec<u8>> = Default::default();
        let mut held: StdVec<Extent> = StdVec::new();
        // What a root that may still be mounted needs: freed, with the first generation without it.
        let mut needed: StdVec<(u64, Extent)> = StdVec::new();
        let mut next = 2u64;
        for step in steps {
            match step {
                Step::Allocate(d, most, keep) => {
                    let Some(e) = space.allocate(slot(d), Blocks(1), Blocks(most)) else { continue };
                    let fixed = [(0, 256), (2048, 2304)];
                    let end = e.start.0 + e.blocks.0;
                    prop_assert!(end <= BLOCKS && e.blocks.0 <= most);
                    let others = held.iter().chain(needed.iter().map(|(_, e)| e)).filter(|o| o.device == e.device);
                    for (from, to) in others.map(|o| (o.start.0, o.start.0 + o.blocks.0)).chain(fixed) {
                        prop_assert!(end <= from || to <= e.start.0, "{e:?} lies on {from}..{to}");
                    }
                    if keep {
                        space.take(e).unwrap();
                        held.push(e);
                    } else {
                        space.give_back(e);
                    }
                }
                Step::Free(n) => {
                    if held.is_empty() { continue }
                    let e = held.swap_remove(n % held.len());
                    space.announce(&[e]).unwrap();
                    space.free(e).unwrap();
                    needed.push((next, e));
                    prop_assert!(space.free(e).is_err(), "freed twice");
                }
                Step::Root => {
                    tree.extend(items(&space.freeze(Generation(next)).unwrap()));
                    space.durable(Generation(next));
                    needed.retain(|(first_without, _)| *first_without >= next);
                    next += 1;
                }
            }
        }
        tree.extend(items(&space.freeze(Generation(next)).unwrap()));
        let again = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
        for (key, value) in &tree {
            again.load(*key, value).unwrap();
        }
        for d in 0..2 {
            let used: u64 = held.iter().filter(|e| e.device == slot(d)).map(|e| e.blocks.0).sum();
            let pending: u64 = needed.iter().filter(|(_, e)| e.device == slot(d)).map(|(_, e)| e.blocks.0).sum();
            let unused = Blocks(BLOCKS - 512 - used);
            let (room, reloaded) = (space.room(slot(d)), again.room(slot(d)));
            prop_assert_eq!(room.free.0 + room.claimed.0, unused.0 - pending);
            prop_assert_eq!((room.unused, room.pending), (unused, Blocks(pending)));
            prop_assert_eq!(reloaded, Room { free: unused, claimed: Blocks(0), unused, pending: Blocks(0) });
        }
    }

    #[test]
    fn any_item_is_taken_or_refused(a in 0u64..70, b in 0u64..4, value in proptest::collection::vec(any::<u8>(), 0..50), kind in 0u8..3) {
        let space = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
        let mut value = value;
        if let Some(first) = value.first_mut() { *first = kind }
        let _ = space.load(Key([a, b, 0]), &value);
        let Room { free, unused, .. } = space.room(slot(0));
        prop_assert!(free == unused && free.0 <= BLOCKS - 512);
    }
}

#[test]
fn scattered_blocks_become_a_bitmap() {
    let space = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
    for at in (4000..4000 + 2 * 1500).step_by(2) {
        let e = Extent {
            device: slot(1),
            start: Blocks(at),
            blocks: Blocks(1),
        };
        space.take(e).unwrap();
    }
    let frozen = items(&space.freeze(Generation(2)).unwrap());
    assert_eq!(frozen.len(), 1);
    assert_eq!(frozen[0].1.len(), 1 + GROUP as usize / 8);
    let again = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
    again.load(frozen[0].0, &frozen[0].1).unwrap();
    assert!(again.is_used(slot(1), Blocks(4002)) && !again.is_used(slot(1), Blocks(4003)));
    assert_eq!(again.room(slot(1)).unused, space.room(slot(1)).unused);
}

/// Memory that runs out while freezing leaves everything to be frozen again.
#[test]
fn freeze_without_memory() {
    let space = Space::try_new(&managed(), Generation(2), 1, 1).unwrap();
    space
        .take(Extent {
            device: slot(0),
            start: Blocks(300),
            blocks: Blocks(5),
        })
        .unwrap();
    space
        .take(Extent {
            device: slot(1),
            start: Blocks(GROUP),
            blocks: Blocks(5),
        })
        .unwrap();
    let mut failures = 0;
    let frozen = loop {
        embr_rt::failpoint::fail_nth(failures + 1);
        let result = space.freeze(Generation(2));
        let failed = embr_rt::failpoint::off().failed;
        match result {
            Ok(delta) if failed == 0 => break delta,
            Ok(_) => panic!("a failed allocation went unnoticed"),
            Err(NoMem) => failures += 1,
        }
    };
    assert!(failures > 2);
    assert_eq!(items(&frozen).len(), 2);
}

/// One device that takes part, and one of which this is said.
fn with_second(present: bool) -> Space {
    let [first, second] = managed();
    let second = Managed { present, ..second };
    Space::try_new(&[first, second], Generation(2), 1, 1).unwrap()
}

proptest! {
    /// Of a device that is not here just as much is known as if it were.
    #[test]
    fn away_as_here(
        loaded in proptest::collection::vec((0u64..2, proptest::collection::vec((0u16..6000, 0u16..50), 0..4)), 0..2),
        steps in proptest::collection::vec((0u8..5, 0u64..6000, any::<bool>(), 1u64..300), 1..60),
    ) {
        let both = [with_second(true), with_second(false)];
        let key = |group| Key([1, group, 0]);
        let value = |runs: &StdVec<(u16, u16)>| -> StdVec<u8> {
            let pairs = runs.iter().flat_map(|(begin, more)| [*begin % 4900, *more]);
            core::iter::once(RUNS).chain(pairs.flat_map(u16::to_le_bytes)).collect()
        };
        let loaded: StdVec<(u64, StdVec<u8>)> = loaded.iter().map(|(g, runs)| (*g, value(runs))).collect();
        for (group, value) in &loaded {
            let [here, away] = both.each_ref().map(|s| s.load(key(*group), value));
            prop_assert_eq!(here, away);
        }
        let mut trees: [std::collections::BTreeMap<Key, StdVec<u8>>; 2] = Default::default();
        let e = |at: u64, second: bool, n| Extent {
            device: slot(1),
            start: Blocks(if second { GROUP - 1000 + at } else { at }),
            blocks: Blocks(n),
        };
        for (n, (step, at, second, blocks)) in (3u64..).zip(steps) {
            let e = e(at, second, blocks);
            let mut trees = trees.iter_mut();
            let [here, away] = both.each_ref().map(|s| match step {
                0 => s.take(e),
                1 => s.take_again(e),
                2 => s.announce(&[e]).map_err(SpaceError::from).and_then(|()| s.free(e)),
                3 => s.free_again(e, Some(Generation(2))),
                _ => {
                    let was_dirty = s.is_dirty();
                    let frozen = items(&s.freeze(Generation(n)).unwrap());
                    assert_eq!(was_dirty, !frozen.is_empty());
                    assert!(!s.is_dirty());
                    trees.next().unwrap().extend(frozen);
                    Ok(())
                }
            });
            prop_assert_eq!(here, away);
            let [here, away] = both.each_ref().map(|s| (s.room(slot(1)).unused, s.is_used(slot(1), e.start)));
            prop_assert_eq!(here, away);
        }
        for block in [0, 300, 2100, BLOCKS - 1, BLOCKS, u64::MAX] {
            let [here, away] = both.each_ref().map(|s| s.is_used(slot(1), Blocks(block)));
            prop_assert_eq!(here, away);
        }
        // What the tree was given says the same, for one that is mounted with both.
        let mut again = StdVec::new();
        for (space, mut tree) in both.iter().zip(trees) {
            tree.extend(items(&space.freeze(Generation(100)).unwrap()));
            let fresh = with_second(true);
            for (group, value) in &loaded {
                if !tree.contains_key(&key(*group)) {
                    fresh.load(key(*group), value).unwrap();
                }
            }
            for (key, value) in &tree {
                fresh.load(*key, value).unwrap();
            }
            for group in 0..2 {
                let used = fresh.used_of(slot(1), group).unwrap().unwrap();
                again.push((group, used.bytes().collect::<StdVec<u8>>()));
            }
        }
        prop_assert_eq!(&again[..2], &again[2..]);
    }
}

/// What was announced is freed without memory, whether the device is here or not.
#[test]
fn frees_that_were_announced_need_no_memory() {
    for present in [true, false] {
        let space = with_second(present);
        let e = |n: u64| Extent {
            device: slot(1),
            start: Blocks(GROUP - 40 + n * 16),
            blocks: Blocks(16),
        };
        for n in 0..6 {
            space.take(e(n)).unwrap();
        }
        let all = [0, 1, 2, 3, 4, 5].map(e);
        let mut failures = 0;
        loop {
            embr_rt::failpoint::fail_nth(failures + 1);
            let announced = space.announce(&all);
            if embr_rt::failpoint::off().failed == 0 {
                announced.unwrap();
                break;
            }
            assert_eq!(announced, Err(NoMem));
            failures += 1;
        }
        // A root between makes no difference.
        let first = items(&space.freeze(Generation(2)).unwrap());
        for e in all {
            embr_rt::failpoint::fail_nth(1);
            let freed = space.free(e);
            embr_rt::failpoint::off();
            freed.unwrap();
        }
        let second = items(&space.freeze(Generation(3)).unwrap());
        assert_eq!((first.len(), second.len()), (2, 2), "{present}");
        assert!(first
            .iter()
            .zip(&second)
            .all(|(a, b)| a.0 == b.0 && a.1 != b.1));
        assert!(!space.is_used(slot(1), Blocks(GROUP)));
    }
}

/// What is said of a device that is not here costs as much as is said, however large it is said to be.
#[test]
fn a_size_costs_nothing() {
    let [first, second] = managed();
    let blocks = 1u64 << 50;
    let second = Managed {
        present: false,
        blocks: Blocks(blocks),
        ..second
    };
    // Whoever asks for memory this often is not given it.
    embr_rt::failpoint::fail_nth(1000);
    let space = Space::try_new(&[first, second], Generation(2), 1, 1).unwrap();
    let e = |start, n| Extent {
        device: slot(1),
        start: Blocks(start),
        blocks: Blocks(n),
    };
    space.take_again(e(blocks - 5, 5)).unwrap();
    assert!(space.take_again(e(blocks - 5, 6)).is_err());
    assert!(space.take_again(e(4096, GROUP + 1)).is_err());
    space
        .load(Key([1, (1 << 35) - 1, 0]), &[RUNS, 0, 0, 9, 0])
        .unwrap();
    assert!(space.load(Key([1, 1 << 35, 0]), &[RUNS]).is_err());
    assert_eq!(space.room(slot(1)).unused, Blocks(blocks - 512 - 15));
    let frozen = items(&space.freeze(Generation(2)).unwrap());
    embr_rt::failpoint::off();
    let runs = [RUNS, 0, 0, 9, 0, 0xfb, 0x7f, 4, 0];
    assert_eq!(frozen, [(Key([1, (1 << 35) - 1, 0]), runs.to_vec())]);
}

/// A volume that is only read is as large as one that is written.
#[test]
fn uncharted_is_as_large() {
    for present in [true, false] {
        let [first, second] = managed();
        let devices = [first, Managed { present, ..second }];
        let [known, unknown] = [Space::try_new, Space::uncharted].map(|f| {
            let space = f(&devices, Generation(2), 1, 1).unwrap();
            space.settle(1);
            space.usage(Geometry::new(1, 1).unwrap(), Totals::default())
        });
        assert_eq!(known.total, unknown.total);
        assert_eq!((unknown.free, unknown.available), (Blocks(0), Blocks(0)));
        assert!(known.free > Blocks(0));
    }
}

#[test]
fn what_is_never_free_is_not_freed_whoever_says_so() {
    for present in [true, false] {
        let devices = managed().map(|m| Managed { present, ..m });
        let space = Space::try_new(&devices, Generation(2), 1, 1).unwrap();
        for (start, blocks) in [
            (0, 1),
            (255, 1),
            (250, 10),
            (2040, 9),
            (2303, 40),
            (100, 32768),
        ] {
            let extent = Extent {
                device: slot(1),
                start: Blocks(start),
                blocks: Blocks(blocks),
            };
            let bad = Err(SpaceError::Extent(extent));
            assert_eq!(space.free(extent), bad);
            assert_eq!(space.free_again(extent, None), bad);
            assert_eq!(space.free_again(extent, Some(Generation(1))), bad);
            assert_eq!(space.free_at_once(extent), bad);
        }
    }
}

#[test]
fn a_journal_that_cannot_be_is_not_written_to() {
    let with = |journal| {
        let fixed = [(Blocks(0), Blocks(256)), journal];
        let device = Managed {
            slot: slot(0),
            blocks: Blocks(BLOCKS),
            fixed: &fixed,
            present: true,
            domain: 0,
        };
        let charted = Space::try_new(&[device], Generation(2), 0, 1).is_ok();
        let device = Managed {
            slot: slot(0),
            blocks: Blocks(BLOCKS),
            fixed: &fixed,
            present: true,
            domain: 0,
        };
        (
            charted,
            Space::uncharted(&[device], Generation(2), 0, 1).is_ok(),
        )
    };
    assert_eq!(with((Blocks(256), Blocks(1024))), (true, true));
    for (start, blocks) in [
        (255, 1024),
        (0, 1024),
        (BLOCKS, 1024),
        (BLOCKS - 1, 2),
        (1 << 50, 1024),
        (u64::MAX, 1024),
        (300, u64::MAX),
    ] {
        assert_eq!(with((Blocks(start), Blocks(blocks))), (false, true));
    }
}
