// SPDX-License-Identifier: GPL-2.0

//! Discards: only of what nobody needs, not before the second root, and nobody is given it meanwhile; and space always comes back.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::vec::Vec as StdVec;

const BLOCKS: u64 = 12000;
const FIXED: [(Blocks, Blocks); 1] = [(Blocks(0), Blocks(256))];

fn slot(n: usize) -> Slot {
    Slot::new(n).unwrap()
}

fn space(first: u64) -> Space {
    let devices = [0, 1].map(|n| Managed {
        slot: slot(n),
        blocks: Blocks(BLOCKS),
        fixed: &FIXED,
        present: true,
        domain: 0,
    });
    Space::try_new(&devices, Generation(first), 1, 1).unwrap()
}

fn blocks(e: Extent) -> impl Iterator<Item = (usize, u64)> {
    (0..e.blocks.0).map(move |n| (e.device.index(), e.start.0 + n))
}

/// What a block is to those who use it; the others are free, or to be discarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Held,
    /// Freed, with the first root that does not need it.
    Freed(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize, u64),
    Free(usize),
    Root,
    TakeDue,
    TakeFree(usize, u64, u64),
    Discarded,
    Spare,
    Want(Option<u64>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..2, 1u64..1500).prop_map(|(d, n)| Step::Allocate(d, n)),
        5 => any::<usize>().prop_map(Step::Free),
        4 => Just(Step::Root),
        3 => Just(Step::TakeDue),
        2 => (0usize..2, 0..BLOCKS, 1u64..300).prop_map(|(d, at, n)| Step::TakeFree(d, at, n)),
        4 => Just(Step::Discarded),
        1 => Just(Step::Spare),
        1 => proptest::option::of(1u64..300).prop_map(Step::Want),
    ]
}

proptest! {
    #[test]
    fn only_what_nobody_needs(steps in proptest::collection::vec(step(), 1..150)) {
        let space = space(2);
        space.set_discard(Some(Blocks(1)));
        let mut least = Some(1);
        let mut held: StdVec<Extent> = StdVec::new();
        let mut state: BTreeMap<(usize, u64), State> = BTreeMap::new();
        let mut going: StdVec<Extent> = StdVec::new();
        let mut next = 2u64;
        for step in steps {
            match step {
                Step::Allocate(d, most) => {
                    let Some(e) = space.allocate(slot(d), Blocks(1), Blocks(most)) else { continue };
                    for block in blocks(e) {
                        prop_assert_eq!(state.insert(block, State::Held), None);
                        let taken = going.iter().any(|g| blocks(*g).any(|b| b == block));
                        prop_assert!(!taken, "{:?} is being discarded", block);
                    }
                    space.take(e).unwrap();
                    held.push(e);
                }
                Step::Free(n) => {
                    if held.is_empty() { continue }
                    let e = held.swap_remove(n % held.len());
                    space.announce(&[e]).unwrap();
                    space.free(e).unwrap();
                    state.extend(blocks(e).map(|b| (b, State::Freed(next))));
                }
                Step::Root => {
                    space.freeze(Generation(next)).unwrap();
                    space.durable(Generation(next));
                    state.retain(|_, s| !matches!(s, State::Freed(first) if *first < next));
                    next += 1;
                }
                Step::TakeDue if going.is_empty() => {
                    if let Some(runs) = space.take_due().unwrap() {
                        for e in runs.iter() {
                            prop_assert!(least.is_some_and(|n| e.blocks.0 >= n));
                        }
                        going = runs.iter().copied().collect();
                    }
                }
                Step::TakeFree(d, from, n) if going.is_empty() => {
                    let range = (Blocks(from), Blocks(BLOCKS));
                    let taken = space.take_free(slot(d), range, Blocks(n)).unwrap();
                    prop_assert!(taken.next.0 <= BLOCKS);
                    prop_assert!(taken.runs.iter().all(|e| e.blocks.0 >= n && e.start.0 >= from));
                    going = taken.runs.iter().copied().collect();
                }
                Step::Discarded => {
                    space.discarded();
                    going.clear();
                }
                Step::Spare => { space.spare_due(); }
                Step::Want(n) => {
                    space.set_discard(n.map(Blocks));
                    least = n;
                }
                _ => {}
            }
            for e in &going {
                for block in blocks(*e) {
                    prop_assert_eq!(state.get(&block), None, "{:?} is needed", block);
                    prop_assert!(block.1 >= 256);
                }
            }
            prop_assert!(space.ledger().balanced);
            for d in 0..2 {
                let room = space.room(slot(d));
                prop_assert_eq!(room.unused.0, room.free.0 + room.claimed.0 + room.pending.0);
            }
        }
        // In the end all that nobody needs is there again.
        space.discarded();
        space.spare_due();
        prop_assert_eq!(space.returning().0, false);
        for d in 0..2 {
            let needed = state.keys().filter(|(device, _)| *device == d).count() as u64;
            let room = space.room(slot(d));
            prop_assert_eq!(room.free.0 + room.claimed.0, BLOCKS - 256 - needed);
        }
    }
}

fn take(space: &Space, most: u64) -> Extent {
    let e = space.allocate(slot(0), Blocks(most), Blocks(most)).unwrap();
    space.take(e).unwrap();
    e
}

fn free(space: &Space, e: Extent) {
    space.announce(&[e]).unwrap();
    space.free(e).unwrap();
}

fn root(space: &Space, next: u64) {
    space.freeze(Generation(next)).unwrap();
    space.durable(Generation(next));
}

#[test]
fn due_with_the_second_root_and_joined() {
    let space = space(2);
    space.set_discard(Some(Blocks(8)));
    let e = take(&space, 20);
    let part = |at: u64, n: u64| Extent {
        start: Blocks(e.start.0 + at),
        blocks: Blocks(n),
        ..e
    };
    // In pieces, none of which is long enough; one stays, and one behind it is alone.
    for piece in [part(6, 5), part(0, 3), part(3, 3), part(16, 4)] {
        free(&space, piece);
    }
    root(&space, 2);
    assert!(!space.is_due() && space.take_due().unwrap().is_none());
    assert_eq!(space.room(slot(0)).pending, Blocks(15));
    root(&space, 3);
    assert!(space.is_due());
    let runs = space.take_due().unwrap().unwrap();
    assert_eq!(runs.as_slice(), [part(0, 11)]);
    assert_eq!(space.room(slot(0)).pending, Blocks(15));
    assert!(space.returning().0 && space.take_due().unwrap().is_none());
    space.discarded();
    assert_eq!(space.room(slot(0)).pending, Blocks(0));
}

#[test]
fn without_memory_space_comes_back_as_it_is() {
    let space = space(2);
    space.set_discard(Some(Blocks(1)));
    let e = take(&space, 20);
    free(&space, e);
    root(&space, 2);
    root(&space, 3);
    embr_rt::failpoint::fail_nth(1);
    let taken = space.take_due();
    assert_eq!(embr_rt::failpoint::off().failed, 1);
    assert!(taken.is_err());
    assert!(space.spare_due());
    assert_eq!(space.room(slot(0)).pending, Blocks(0));
    let whole = (Blocks(0), Blocks(BLOCKS));
    for nth in 1..=2 {
        embr_rt::failpoint::fail_nth(nth);
        let taken = space.take_free(slot(0), whole, Blocks(1));
        let failed = embr_rt::failpoint::off().failed;
        assert_eq!(taken.is_err(), failed == 1);
        space.discarded();
    }
    assert_eq!(space.room(slot(0)).pending, Blocks(0));
}

/// Where the reserve cannot be filled, nothing waits to be discarded.
#[test]
fn the_last_space_is_not_discarded() {
    let space = space(2);
    space.set_discard(Some(Blocks(1)));
    let mut all = StdVec::new();
    for device in [0, 1] {
        while let Some(e) = space.allocate(slot(device), Blocks(1), Blocks(100)) {
            space.take(e).unwrap();
            all.push(e);
        }
    }
    let change = reserve::Change::set(4000);
    assert!(space.grant(change, Purpose::Freeing, None).is_some());
    assert!(space.ledger().kept < space.reserve().full);
    free(&space, all[0]);
    root(&space, 2);
    assert_ne!(space.room(slot(0)).pending, Blocks(0));
    root(&space, 3);
    assert!(!space.is_due());
    assert_eq!(space.room(slot(0)).pending, Blocks(0));
}

#[test]
fn all_that_is_free_in_pieces() {
    let space = space(2);
    let held: StdVec<Extent> = [1, 70, 3, 500].map(|n| take(&space, n)).into();
    let mut from = Blocks(0);
    let mut seen = 0;
    while from.0 < BLOCKS {
        let range = (from, Blocks(BLOCKS));
        let taken = space.take_free(slot(0), range, Blocks(1)).unwrap();
        assert!(taken.next > from);
        seen += taken.runs.iter().map(|e| e.blocks.0).sum::<u64>();
        for run in taken.runs.iter() {
            let on = |e: &Extent| blocks(*e).any(|b| blocks(*run).any(|r| r == b));
            assert!(!held.iter().any(on));
        }
        from = taken.next;
        space.discarded();
    }
    assert_eq!(seen, BLOCKS - 256 - 574);
    assert_eq!(space.room(slot(0)).pending, Blocks(0));
}
