// SPDX-License-Identifier: GPL-2.0

//! Crash after crash while a volume is being mounted: what the mounts that came to nothing left in the journal never gets in the way.

use embr_engine::check::Depth;
use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::root::Root;
use embr_engine::hash::Scalar;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::Generation;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::inspector;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::recording::State;
use embrfs_sim::roots;

const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};
/// Its journal has 1024 blocks.
const SIZE: Bytes = Bytes(32 << 20);
const GROUPS: u64 = 300;

fn key(n: u64) -> Key {
    Key([n, 0, 0])
}

/// Puts a key into a group of its own, durably.
fn put(mounted: &Mounted<Simulated>, n: u64) {
    let mut txn = mounted.begin().expect("writable");
    txn.set(NAMES, key(n), &[n as u8; 3000]).expect("memory");
    txn.commit().expect("room");
    mounted.sync().expect("healthy drives");
}

fn is_whole(mounted: &Mounted<Simulated>, keys: u64) -> bool {
    (0..keys).all(|n| {
        let found = mounted.get(NAMES, key(n), |value| value == [n as u8; 3000]);
        found.expect("readable") == Some(true)
    })
}

/// Which trees the newest root of the first drive has.
fn made(fleet: &Fleet) -> Generation {
    let drive = fleet.drives().into_iter().next().expect("a drive");
    probe(&drive, &Scalar).expect("a member").root.made
}

/// A volume with groups that no root has.
fn stage(drives: u8) -> Fleet {
    let fleet = Fleet::new(21, &vec![SIZE; usize::from(drives)]);
    let geometry = Geometry::new(1, drives - 1).expect("a geometry");
    machine::make(21, &fleet, geometry).expect("made");
    let mounted = machine::mount(21, &fleet, READ_WRITE).expect("mounted");
    (0..GROUPS).for_each(|n| put(&mounted, n));
    fleet
}

/// Mounts, and crashes with all that the drives were given but the new root on any of them.
fn crash_before_the_root(seed: u64, fleet: &Fleet) -> Fleet {
    let before = made(fleet);
    fleet.record();
    let mounted = machine::mount(seed, fleet, READ_WRITE).expect("it mounts every time");
    drop(mounted);
    let recording = fleet.recorded();
    let drives = fleet.drives().len() as u64;
    // It ends with a write to each of two rings on each drive, and a flush of each.
    let state = State::new(recording.end() - 3 * drives, Survival::All);
    let after = Fleet::start(seed, &recording.at(&state).expect("it exists"));
    assert_eq!(made(&after), before, "before the root");
    assert_ne!(made(fleet), before);
    after
}

#[test]
fn the_journal_never_fills() {
    for drives in 1..=2 {
        let mut fleet = stage(drives);
        for round in 0..800 {
            fleet = crash_before_the_root(round, &fleet);
            if round % 50 == 0 {
                let looked = machine::mount(round, &fleet, READ_ONLY).expect("it mounts");
                assert!(is_whole(&looked, GROUPS) && looked.cut().is_none());
            }
        }
        let mounted = machine::mount(1000, &fleet, READ_WRITE).expect("it mounts at last");
        assert!(is_whole(&mounted, GROUPS));
        (GROUPS..2 * GROUPS).for_each(|n| put(&mounted, n));
        drop(mounted);
        let mounted = machine::mount(1001, &fleet, READ_WRITE).expect("it mounts again");
        assert!(is_whole(&mounted, 2 * GROUPS));
    }
}

/// What was left out was written over: who goes on from the root before the newest one has to know of it.
#[test]
fn the_root_before_knows_what_was_left_out() {
    let fleet = crash_before_the_root(1, &stage(1));
    let mounted = machine::mount(2, &fleet, READ_WRITE).expect("mounted");
    (GROUPS..GROUPS + 20).for_each(|n| put(&mounted, n));
    let base = mounted.bases().find(|b| b.tree == NAMES);
    let top = base.and_then(|b| b.top).expect("an item");
    drop(mounted);
    for place in top.pointer.places.iter() {
        let at = place.block.bytes().expect("a place");
        fleet.rot(place.device, Bytes(at.0 + 300), 4);
    }
    let mounted = machine::mount(3, &fleet, READ_ONLY).expect("mounted");
    assert!(matches!(mounted.cut(), Some(Fault::RootBefore(_))));
    assert!(is_whole(&mounted, GROUPS + 20));
}

/// The journal goes round and round; whenever the newest root is lost, all that the one before it needs is still there.
#[test]
fn the_root_before_has_its_journal() {
    const KEYS: u64 = 50;
    let fleet = Fleet::new(22, &[SIZE]);
    let geometry = Geometry::new(1, 0).expect("a geometry");
    machine::make(22, &fleet, geometry).expect("made");
    let mounted = machine::mount(22, &fleet, READ_WRITE).expect("mounted");
    let value = |n: u64| [n.to_le_bytes(); 400].concat();
    let mut roots = std::collections::BTreeSet::new();
    for n in 0..4000 {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n % KEYS), &value(n)).expect("memory");
        txn.commit().expect("room");
        mounted.sync().expect("healthy drives");
        roots.insert(mounted.generation());
        if n % 20 != 0 {
            continue;
        }
        let copy = Fleet::start(n, &fleet.snapshot());
        assert_eq!(roots::lose_newest(&copy, n), Ok(true));
        let again = machine::mount(n, &copy, READ_WRITE).expect("mounted from the root before");
        for n in (n + 1).saturating_sub(KEYS)..=n {
            let found = again.get(NAMES, key(n % KEYS), |found| found == value(n));
            assert_eq!(found.expect("readable"), Some(true), "put {n}");
        }
    }
    assert!(roots.len() > 4, "the journal was never full");
}

/// Writes the newest root of each drive once more, with the next generation, as who loses a member does; but with no gap in the journal.
fn repeat_root(fleet: &Fleet) {
    for drive in fleet.drives() {
        let mut root = probe(&drive, &Scalar).expect("a member").root;
        let at = |ring, root: &Root| {
            let slot = layout::ring_slot(root.generation);
            layout::slot_at(ring, slot).expect("a slot")
        };
        let mut bytes = [0; layout::ROOT_SIZE];
        let ring = layout::rings(SIZE).next().expect("a ring");
        drive.read(at(ring, &root), &mut bytes).expect("read");
        let trees: Vec<_> = Root::trees(&bytes).collect();
        root.generation = Generation(root.generation.0 + 1);
        for ring in layout::rings(SIZE) {
            root.encode(&trees, &Scalar, at(ring, &root), &mut bytes);
            drive.write(at(ring, &root), &bytes).expect("written");
        }
        drive.flush().expect("flushed");
    }
}

/// The journal speaks of nodes of a checkpoint that never came about; a root that only repeats the one before it has their generation.
#[test]
fn a_repeated_root_does_not_have_the_nodes_of_its_generation() {
    let fleet = crash_before_the_root(1, &stage(1));
    repeat_root(&fleet);
    let mounted = machine::mount(2, &fleet, READ_WRITE).expect("mounted");
    assert!(is_whole(&mounted, GROUPS));
    let how = (Depth::Tree, Copies::All);
    inspector::check_but(&mounted, None, how, &[]).expect("nothing is lost and nothing kept");
}
