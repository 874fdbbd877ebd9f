// SPDX-License-Identifier: GPL-2.0

//! Free space: nothing is given out twice, nothing too early, and the tree's items say what is used.

use super::*;
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
                    space.announce(1).unwrap();
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
