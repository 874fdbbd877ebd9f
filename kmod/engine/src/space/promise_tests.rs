// SPDX-License-Identifier: GPL-2.0

//! Promises of space in any order: each can be kept, nothing lies on anything else, and in the end nothing is missing.

use super::promise::Promise;
use super::*;
use embr_rt::Arc;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec as StdVec;

#[derive(Debug, Clone)]
enum Step {
    Promise(u64),
    Split(usize, u64),
    Merge(usize, usize),
    Drop(usize),
    /// Gives out of a promise; keeps it or returns it.
    Allocate(usize, u64, bool),
    /// Gives out to whoever comes.
    Take(usize, u64),
    Free(usize),
    /// A transaction commits, with a promise or without.
    Grant(usize, Purpose, Option<usize>),
    /// One takes back what it was granted.
    Revoke(usize),
    /// A checkpoint that places all that was granted and some of the reserve, and comes about or not.
    Checkpoint(u64, bool),
    Root,
}

fn step() -> impl Strategy<Value = Step> {
    let purpose = prop_oneof![Just(Purpose::Taking), Just(Purpose::Freeing)];
    prop_oneof![
        4 => (1u64..1500).prop_map(Step::Promise),
        2 => (any::<usize>(), 0u64..900).prop_map(|(n, blocks)| Step::Split(n, blocks)),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Step::Merge(a, b)),
        2 => any::<usize>().prop_map(Step::Drop),
        8 => (any::<usize>(), 1u64..200, any::<bool>()).prop_map(|(n, most, keep)| Step::Allocate(n, most, keep)),
        4 => (0usize..5, 1u64..800).prop_map(|(d, most)| Step::Take(d, most)),
        4 => any::<usize>().prop_map(Step::Free),
        5 => (1usize..9, purpose, prop::option::of(any::<usize>())).prop_map(|(n, p, with)| Step::Grant(n, p, with)),
        1 => (1usize..9).prop_map(Step::Revoke),
        2 => (0u64..12, any::<bool>()).prop_map(|(n, well)| Step::Checkpoint(n, well)),
        2 => Just(Step::Root),
    ]
}

fn change(keys: usize) -> Change {
    (0..keys).fold(Change::default(), |sum, n| sum.and(Change::set(n * 500)))
}

/// What is held of the space, in the test's own books.
#[derive(Default)]
struct Held {
    extents: StdVec<Extent>,
    /// Freed, with the first generation without it.
    needed: StdVec<(u64, Extent)>,
}

impl Held {
    fn is_clear(&self, e: Extent) -> bool {
        let all = self
            .extents
            .iter()
            .chain(self.needed.iter().map(|(_, e)| e));
        let end = |e: &Extent| e.start.0 + e.blocks.0;
        all.filter(|o| o.device == e.device)
            .all(|o| end(&e) <= o.start.0 || end(o) <= e.start.0)
    }
}

/// Whoever commits often is not granted more than who commits once.
#[test]
fn many_small_changes_need_what_a_large_one_needs() {
    let device = || Managed {
        slot: Slot::new(0).unwrap(),
        blocks: Blocks(1 << 22),
        fixed: &[],
        present: true,
        domain: 0,
    };
    for (there, count) in [(10, 5000), (100_000, 5000), (100_000, 1)] {
        let granted = |changes: &[Change]| {
            let space = Space::try_new(&[device()], Generation(2), 0, 1).unwrap();
            space.settle(there);
            for change in changes {
                assert!(space.grant(*change, Purpose::Taking, None).is_some());
            }
            space.ledger().granted
        };
        let each: StdVec<Change> = (0..count).map(|n| Change::set(n % 300)).collect();
        let all = each.iter().fold(Change::default(), |sum, c| sum.and(*c));
        assert_eq!(granted(&each), granted(&[all]));
        assert!(granted(&each) >= all.by_keys(there) + all.by_bytes());
    }
}

/// What is written under a promise in many transactions finds room for the nodes of each, whoever else takes what is left between them.
#[test]
fn a_promise_lasts_for_many_transactions() {
    let slot = Slot::new(0).unwrap();
    let device = Managed {
        slot,
        blocks: Blocks(9000),
        fixed: &[],
        present: true,
        domain: 0,
    };
    let space = Space::try_new(&[device], Generation(2), 0, 1).unwrap();
    let space = Arc::try_new(space).unwrap();
    space.settle(1000);
    let mut promise = Space::promise(&space, Blocks(4000)).unwrap();
    let growth = promise.nodes / 40;
    assert!(growth >= 2);
    let mut others = StdVec::new();
    let mut take_all = || {
        for nodes in [100, 10, 1] {
            while let Some(more) = Space::promise_nodes(&space, nodes) {
                others.push(more);
            }
        }
    };
    for generation in 2..42 {
        take_all();
        let granted = space.grant(change(16), Purpose::Freeing, Some(&mut promise));
        assert!(
            granted.is_some(),
            "{generation}: {promise:?} {:?}",
            space.ledger()
        );
        let mut left = 100;
        while left != 0 {
            let mut data = Vec::new();
            let most = Blocks(left);
            let given = space.allocate_promised(&mut promise, most, &mut data);
            left -= given.unwrap().unwrap().0;
            space.take(data[0]).unwrap();
        }
        // The trees grow; other new nodes take the place of old ones.
        let frozen = space.freeze(Generation(generation)).unwrap();
        let mut places = Vec::new();
        for _ in 0..growth {
            places.try_reserve(COPIES).unwrap();
            assert!(space.place(&mut places));
            space.take(*places.last().unwrap()).unwrap();
        }
        space.settle(1000);
        drop(frozen);
        space.durable(Generation(generation));
    }
    assert_eq!(promise.blocks(), Blocks(0));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_promise_can_be_kept(
        sizes in prop::collection::vec(3000u64..9000, 1..6),
        parity in 0u8..3,
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let slot = |n: usize| Slot::new(n).unwrap();
        let managed: StdVec<Managed<'_>> = (sizes.iter().enumerate())
            .map(|(n, blocks)| Managed { slot: slot(n), blocks: Blocks(*blocks), fixed: &[(Blocks(0), Blocks(257))], present: true, domain: n as u32 % 3 })
            .collect();
        let space = Arc::try_new(Space::try_new(&managed, Generation(2), parity, 1).unwrap()).unwrap();
        // A small number of nodes would bound what is granted.
        space.settle(1000);
        let copies = (usize::from(parity) + 1).min(sizes.len());
        prop_assert_eq!(space.copies(), copies);
        let mut held = Held::default();
        let mut promises: StdVec<Promise> = StdVec::new();
        let mut next = 2u64;
        for step in steps {
            match step {
                Step::Promise(blocks) => {
                    let before = space.ledger();
                    match Space::promise(&space, Blocks(blocks)) {
                        Some(promise) => {
                            prop_assert_eq!(promise.blocks(), Blocks(blocks));
                            prop_assert_eq!(before.kept.max(before.reserve.full), space.ledger().kept);
                            promises.push(promise);
                        }
                        None => prop_assert_eq!(space.ledger().promised, before.promised),
                    }
                }
                Step::Split(n, blocks) if !promises.is_empty() => {
                    let index = n % promises.len();
                    let before = (promises[index].blocks, promises[index].nodes);
                    let part = promises[index].split(Blocks(blocks));
                    let rest = &promises[index];
                    prop_assert_eq!((part.blocks + rest.blocks, part.nodes + rest.nodes), before);
                    promises.push(part);
                }
                Step::Merge(a, b) if promises.len() > 1 => {
                    let other = promises.swap_remove(a % promises.len());
                    let index = b % promises.len();
                    promises[index].merge(other);
                }
                Step::Drop(n) if !promises.is_empty() => {
                    promises.swap_remove(n % promises.len());
                }
                Step::Allocate(n, most, keep) if !promises.is_empty() => {
                    let index = n % promises.len();
                    let promise = &mut promises[index];
                    let before = promise.blocks;
                    let mut out = Vec::new();
                    let found = space.allocate_promised(promise, Blocks(most), &mut out).unwrap();
                    prop_assert_eq!(found.is_some(), before != 0, "a promise was not kept");
                    let Some(blocks) = found else { continue };
                    prop_assert!(blocks.0 >= 1 && blocks.0 <= most && promise.blocks == before - blocks.0);
                    let devices: Members = out.iter().map(|e| e.device).collect();
                    prop_assert_eq!((out.len(), devices.count() as usize), (copies, copies));
                    for extent in &out {
                        prop_assert_eq!(extent.blocks, blocks);
                        prop_assert!(held.is_clear(*extent));
                    }
                    if keep {
                        for extent in &out {
                            space.take(*extent).unwrap();
                            held.extents.push(*extent);
                        }
                    } else {
                        space.give_back_to(promise, &out);
                        prop_assert_eq!(promise.blocks, before);
                    }
                }
                Step::Take(d, most) => {
                    if let Some(e) = space.allocate(slot(d), Blocks(1), Blocks(most)) {
                        prop_assert!(held.is_clear(e) && e.blocks.0 <= most);
                        space.take(e).unwrap();
                        held.extents.push(e);
                    }
                }
                Step::Free(n) if !held.extents.is_empty() => {
                    let e = held.extents.swap_remove(n % held.extents.len());
                    space.announce(&[e]).unwrap();
                    space.free(e).unwrap();
                    held.needed.push((next, e));
                }
                Step::Grant(keys, purpose, with) => {
                    let count = promises.len();
                    let promise = with.filter(|_| count != 0).and_then(|n| promises.get_mut(n % count));
                    space.grant(change(keys), purpose, promise);
                    let ledger = space.ledger();
                    prop_assert!(ledger.kept >= ledger.reserve.floor || ledger.kept == 0 || ledger.granted == 0 || purpose == Purpose::Taking);
                }
                Step::Revoke(keys) => {
                    let before = space.ledger();
                    if let Some(granted) = space.grant(change(keys), Purpose::Freeing, None) {
                        space.revoke(granted, None);
                        let after = space.ledger();
                        prop_assert_eq!((after.granted, after.promised), (before.granted, before.promised));
                        prop_assert!(after.kept >= before.kept);
                    }
                }
                Step::Checkpoint(more, well) => {
                    let granted = space.ledger().granted;
                    let frozen = space.freeze(Generation(next)).unwrap();
                    let kept = space.ledger().kept;
                    let mut places = Vec::new();
                    for _ in 0..granted + more.min(kept) {
                        let before = places.len();
                        places.try_reserve(COPIES).unwrap();
                        prop_assert!(space.place(&mut places), "a checkpoint finds no room");
                        for place in places.iter().skip(before) {
                            prop_assert!(place.start.0 % SLOT == 0 && held.is_clear(*place));
                        }
                    }
                    if well {
                        for place in &places {
                            space.take(*place).unwrap();
                            held.extents.push(*place);
                        }
                        space.settle(1000);
                    } else {
                        space.unplace(&places);
                        prop_assert_eq!(space.ledger().granted, granted);
                        space.settle(1000);
                    }
                    drop(frozen);
                    space.durable(Generation(next));
                    held.needed.retain(|(first_without, _)| *first_without >= next);
                    next += 1;
                }
                Step::Root => {
                    space.skip(Generation(next));
                    for (first_without, _) in &mut held.needed {
                        if *first_without == next {
                            *first_without += 1;
                        }
                    }
                    space.durable(Generation(next));
                    held.needed.retain(|(first_without, _)| *first_without >= next);
                    next += 1;
                }
                _ => {}
            }
            let ledger = space.ledger();
            prop_assert!(ledger.balanced, "{ledger:?}");
        }
        promises.clear();
        space.freeze(Generation(next)).unwrap();
        space.settle(1000);
        let ledger = space.ledger();
        prop_assert_eq!((ledger.granted, ledger.promised), (0, (Blocks(0), 0)));
        for (n, blocks) in sizes.iter().enumerate() {
            let of_device = |e: &&Extent| e.device == slot(n);
            let used: u64 = held.extents.iter().filter(of_device).map(|e| e.blocks.0).sum();
            let pending: u64 = held.needed.iter().map(|(_, e)| e).filter(of_device).map(|e| e.blocks.0).sum();
            let room = space.room(slot(n));
            prop_assert_eq!((room.unused.0, room.pending.0), (blocks - 257 - used, pending));
            prop_assert_eq!(room.free.0 + room.claimed.0, room.unused.0 - room.pending.0);
        }
    }

    /// A promise is refused only if there is no room: what is refused here, no division among devices could give.
    #[test]
    fn a_promise_is_refused_only_for_want_of_room(
        sizes in prop::collection::vec(4000u64..20000, 1..6),
        parity in 0u8..3,
        takes in prop::collection::vec((0usize..5, 1u64..3000), 0..10),
        blocks in 1u64..20000,
    ) {
        let slot = |n: usize| Slot::new(n).unwrap();
        let managed: StdVec<Managed<'_>> = (sizes.iter().enumerate())
            .map(|(n, blocks)| Managed { slot: slot(n), blocks: Blocks(*blocks), fixed: &[], present: true, domain: n as u32 % 3 })
            .collect();
        let space = Arc::try_new(Space::try_new(&managed, Generation(2), parity, 1).unwrap()).unwrap();
        for (d, most) in takes {
            if let Some(e) = space.allocate(slot(d), Blocks(1), Blocks(most)) {
                space.take(e).unwrap();
            }
        }
        let rooms = || (0..sizes.len()).map(|n| space.room(slot(n)).free);
        let copies = crate::format::geometry::Geometry::new(1, space.copies() as u8 - 1).unwrap();
        let nodes = Promise::nodes_for(Blocks(blocks)) * space.node_copies() * SLOT;
        match Space::promise(&space, Blocks(blocks)) {
            Some(_promise) => prop_assert!(space.ledger().balanced),
            None => prop_assert!(copies.capacity(rooms()).0 < blocks + nodes || space.ledger().kept < space.ledger().reserve.full),
        }
        prop_assert!(space.ledger().balanced);
    }
}
