// SPDX-License-Identifier: GPL-2.0

//! The books of free space by themselves: what comes back when, and what it may not cost.

use embr_engine::format::journal::Extent;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::space::promise::Promise;
use embr_engine::space::Managed;
use embr_engine::space::Space;
use embr_engine::units::Blocks;
use embr_engine::units::Generation;
use embr_rt::Arc;

const BLOCKS: u64 = 8192;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// So many devices without anything on them, of which one may be lost.
fn devices(count: usize) -> Arc<Space> {
    let managed: Vec<Managed<'_>> = (0..count)
        .map(|n| Managed {
            slot: slot(n),
            blocks: Blocks(BLOCKS),
            fixed: &[],
            present: true,
        })
        .collect();
    let space = Space::try_new(&managed, Generation(1), 1, 2).expect("sound");
    Arc::try_new(space).expect("memory")
}

/// Blocks that lay there, were freed, and were given out again, all before a crash; and are freed again after it.
#[test]
fn what_was_given_out_again_before_a_crash_is_not_free_early() {
    let space = devices(2);
    let extent = Extent {
        device: slot(0),
        start: Blocks(4000),
        blocks: Blocks(8),
    };
    let idle = || {
        let room = space.room(slot(0));
        room.free.0 + room.claimed.0
    };
    space.take_again(extent).expect("free");
    space.free_again(extent, None).expect("used");
    space.take_again(extent).expect("freed");
    space.freeze(Generation(1)).expect("memory");
    space.announce(&[extent]).expect("memory");
    space.free(extent).expect("used");
    let before = idle();
    space.durable(Generation(1));
    assert_eq!(idle(), before);
    // The root before this one has them.
    space.durable(Generation(2));
    assert_eq!(idle(), before);
    space.durable(Generation(3));
    assert_eq!(idle(), before + 8);
}

/// A third device is lost while so many blocks are promised.
fn bereft(blocks: u64) -> (Arc<Space>, Promise) {
    let space = devices(3);
    let promise = Space::promise(&space, Blocks(blocks)).expect("room on three");
    space.lose(Members::default().with(slot(2)), 1);
    (space, promise)
}

#[test]
fn copies_do_not_come_back_at_the_cost_of_the_reserve() {
    // As many as just do not fit twice on the two that are left.
    let fits = |blocks: u64| bereft(blocks).0.copies() == 2;
    let (mut low, mut high) = (1, BLOCKS);
    while high - low > 1 {
        let middle = (low + high) / 2;
        match fits(middle) {
            true => low = middle,
            false => high = middle,
        }
    }
    assert!(fits(low) && !fits(high));
    let (space, promise) = bereft(high);
    let kept = space.ledger().kept;
    assert!(kept > space.ledger().reserve.floor);
    space.durable(Generation(1));
    assert_eq!((space.ledger().kept, space.copies()), (kept, 1));
    assert!(space.ledger().balanced);
    // With room for them they do.
    drop(promise);
    space.durable(Generation(2));
    assert_eq!((space.ledger().kept, space.copies()), (kept, 2));
}
