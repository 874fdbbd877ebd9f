// SPDX-License-Identifier: GPL-2.0

//! Drives that cannot be read where what was acknowledged last may lie: a mount that writes has all of it or is refused; one that does
//! not write says what it may be without.

use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::Generation;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::ReadFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use std::ops::Range;

const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};
const SIZE: Bytes = Bytes(32 << 20);
const GROUPS: u64 = 6;

fn key(n: u64) -> Key {
    Key([n, 0, 0])
}

/// Puts every key into a group of its own, durably.
fn fill(mounted: &Mounted<Simulated>) {
    for n in 0..GROUPS {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n), &[n as u8; 3000]).expect("memory");
        txn.commit().expect("room");
        mounted.sync().expect("healthy drives");
    }
}

fn is_whole(mounted: &Mounted<Simulated>) -> bool {
    (0..GROUPS).all(|n| {
        let found = mounted.get(NAMES, key(n), |value| value == [n as u8; 3000]);
        found.expect("readable") == Some(true)
    })
}

/// A volume on so many drives, of which as many may fail but one, with groups that no root has.
fn stage(drives: u8) -> Fleet {
    let fleet = Fleet::new(11, &vec![SIZE; usize::from(drives)]);
    let geometry = Geometry::new(1, drives - 1).expect("a geometry");
    machine::make(11, &fleet, geometry).expect("made");
    let mounted = machine::mount(11, &fleet, READ_WRITE).expect("mounted");
    fill(&mounted);
    fleet
}

/// Mounts a copy of the volume of which these ranges cannot be read on these drives. Whether a mount that writes was refused.
fn refused(fleet: &Fleet, drives: Range<usize>, ranges: &[Range<Bytes>]) -> bool {
    let unread = || {
        let copy = Fleet::start(12, &fleet.snapshot());
        for slot in drives.clone().filter_map(Slot::new) {
            for range in ranges {
                copy.expect(
                    slot,
                    Fault::Read(When::Within(range.clone()), ReadFault::Fail),
                );
            }
        }
        copy
    };
    let looked = machine::mount(12, &unread(), READ_ONLY).expect("mounted");
    assert!(is_whole(&looked) || looked.cut().is_some(), "{ranges:?}");
    match machine::mount(12, &unread(), READ_WRITE) {
        Ok(mounted) => {
            assert!(is_whole(&mounted), "{ranges:?}");
            assert_eq!(looked.cut(), None, "{ranges:?}");
            false
        }
        Err(why) => {
            let said = ["cannot be read where", "was durable once"];
            assert!(said.iter().any(|s| why.contains(s)), "{why}");
            assert!(looked.cut().is_some(), "{ranges:?}");
            true
        }
    }
}

fn block(number: u64) -> Range<Bytes> {
    let size = BLOCK_SIZE as u64;
    Bytes(number * size)..Bytes((number + 1) * size)
}

#[test]
fn of_the_journal() {
    let (start, blocks) = layout::journal(SIZE);
    for drives in 1..=2u8 {
        let fleet = stage(drives);
        let each = (start.0..start.0 + 40).chain([start.0 + blocks.0 - 1]);
        let mut count = 0;
        for number in each {
            count += usize::from(refused(&fleet, 0..usize::from(drives), &[block(number)]));
            // While one drive is sound, it does no harm.
            assert!(drives == 1 || !refused(&fleet, 0..1, &[block(number)]));
        }
        // Those of the groups that are there, and of the one that might be.
        assert!((GROUPS as usize..30).contains(&count), "{count} refused");
    }
}

/// Drives whose rings have no groups of the journal are not asked where it ends.
#[test]
fn of_rings_that_are_not_used() {
    let fleet = Fleet::new(13, &[SIZE; 3]);
    let geometry = Geometry::new(1, 1).expect("a geometry");
    machine::make(13, &fleet, geometry).expect("made");
    let mounted = machine::mount(13, &fleet, READ_WRITE).expect("mounted");
    fill(&mounted);
    drop(mounted);
    let (start, blocks) = layout::journal(SIZE);
    let first = start.0..start.0 + 40;
    let last = start.0 + blocks.0 - 1;
    assert!(!refused(&fleet, 0..3, &[block(last)]));
    for number in first {
        assert!(!refused(&fleet, 2..3, &[block(number), block(last)]));
        assert!(!refused(&fleet, 1..3, &[block(number), block(last)]));
    }
    // A ring without groups says nothing of where those of the others end.
    let each = (start.0..start.0 + 40).filter(|n| refused(&fleet, 0..2, &[block(*n)]));
    let count = each.count();
    assert!((GROUPS as usize..30).contains(&count), "{count} refused");
}

/// A group that only one drive took is not passed over because the others can be read.
#[test]
fn of_the_only_copy() {
    let fleet = Fleet::new(14, &[SIZE; 2]);
    let geometry = Geometry::new(1, 1).expect("a geometry");
    machine::make(14, &fleet, geometry).expect("made");
    let mounted = machine::mount(14, &fleet, READ_WRITE).expect("mounted");
    let slot = Slot::new(0).expect("a slot");
    fleet.expect(slot, Fault::Write(When::After(2), WriteFault::Fail));
    fill(&mounted);
    drop(mounted);
    let (start, _) = layout::journal(SIZE);
    let each = start.0..start.0 + 40;
    let count = each.filter(|number| refused(&fleet, 1..2, &[block(*number)]));
    assert!(count.count() > 0, "there were two copies");
}

#[test]
fn of_the_roots() {
    for drives in 1..=2u8 {
        let fleet = stage(drives);
        let mounted = machine::mount(11, &fleet, READ_WRITE).expect("mounted");
        mounted.checkpoint().expect("healthy drives");
        let newest = mounted.generation();
        drop(mounted);
        let slots = |generation: Generation| -> Vec<Range<Bytes>> {
            let slot = layout::ring_slot(generation);
            let at = layout::rings(SIZE).filter_map(|ring| layout::slot_at(ring, slot));
            at.map(|at| block(at.whole_blocks().0)).collect()
        };
        for (generation, expected) in [
            (newest, true),
            (Generation(newest.0 + 1), true),
            (Generation(newest.0 + 2), false),
        ] {
            let ranges = slots(generation);
            let all = usize::from(drives);
            assert_eq!(refused(&fleet, 0..all, &ranges), expected, "{generation:?}");
            assert!(!refused(&fleet, 0..all, &ranges[..1]), "one of two copies");
            assert!(
                drives == 1 || !refused(&fleet, 0..1, &ranges),
                "one of two drives"
            );
        }
    }
}
