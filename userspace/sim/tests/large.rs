// SPDX-License-Identifier: GPL-2.0

//! Volumes of many TiB take changes as small ones do, and so do those with checkpoints of many nodes, and with roots that claim so.

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
use embr_rt::sim::World;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::put;

/// Commits, makes checkpoints, and finds all of it after the next mount.
fn takes_changes(drives: usize, gib: u64, parity: u8) {
    let fleet = Fleet::new(5, &vec![Bytes(gib << 30); drives]);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(5, &fleet, geometry).expect("made");
    let mounted = machine::mount(6, &fleet, machine::READ_WRITE).expect("mounts");
    for n in 1..=30 {
        put(&mounted, n).expect("room");
        if n % 10 == 0 {
            mounted.checkpoint().expect("healthy drives");
        }
    }
    drop(mounted);
    let mounted = machine::mount(7, &fleet, machine::READ_WRITE).expect("mounts again");
    assert_eq!(last(&mounted), Ok(30));
}

#[test]
fn one_drive() {
    takes_changes(1, 4096, 0);
}

#[test]
fn six_drives_of_which_two_may_be_lost() {
    takes_changes(6, 512, 2);
}

fn key(n: u64) -> Key {
    Key([n, 0, 0])
}

/// One checkpoint writes more nodes beside each other, and frees more, than one record can tell of.
#[test]
fn a_checkpoint_of_very_many_nodes() {
    const KEYS: u64 = 80_000;
    let fleet = Fleet::new(8, &[Bytes(4 << 30)]);
    machine::make(8, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("made");
    let options = Options {
        dirty: Bytes(u64::MAX),
        ..machine::READ_WRITE
    };
    let mounted = machine::mount(8, &fleet, options).expect("mounts");
    for n in 0..KEYS {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n), &[n as u8; 3000]).expect("memory");
        txn.commit().expect("room");
    }
    for round in 0..2 {
        mounted.checkpoint().expect("healthy drives");
        // Something in each node.
        for n in (0..KEYS).step_by(3) {
            let mut txn = mounted.begin().expect("writable");
            txn.set(NAMES, key(n), &[round; 10]).expect("memory");
            txn.commit().expect("room");
        }
    }
    mounted.checkpoint().expect("healthy drives");
    put(&mounted, 1).expect("room");
    mounted.sync().expect("healthy drives");
    drop(mounted);
    let mounted = machine::mount(9, &fleet, machine::READ_WRITE).expect("mounts again");
    assert_eq!(last(&mounted), Ok(1));
}

/// Writes the newest root again, as `change` makes it, in both rings of the only drive.
fn craft(fleet: &Fleet, change: impl Fn(&mut Root)) {
    let drive = fleet.drives().into_iter().next().expect("a drive");
    let newest = probe(&drive, &Scalar).expect("a member");
    let (volume, size) = (newest.superblock.volume, drive.size());
    for ring in layout::rings(size) {
        let slot = layout::ring_slot(newest.root.generation);
        let at = layout::slot_at(ring, slot).expect("a slot");
        let mut bytes = vec![0; layout::ROOT_SIZE];
        drive.read(at, &mut bytes).expect("readable");
        let mut root =
            Root::parse(&Scalar, &bytes, at, slot, volume, newest.root.device).expect("a root");
        let trees: Vec<_> = Root::trees(&bytes).collect();
        change(&mut root);
        let at = layout::slot_at(ring, layout::ring_slot(root.generation)).expect("a slot");
        root.encode(&trees, &Scalar, at, &mut bytes);
        drive.write(at, &bytes).expect("writable");
    }
}

/// A root that says there are more nodes than there can be, on a drive with a small journal: a transaction ends in some way.
#[test]
fn a_root_that_claims_too_many_nodes() {
    let fleet = Fleet::new(10, &[Bytes(1 << 39)]);
    machine::make(10, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("made");
    craft(&fleet, |root| {
        root.nodes = 1 << 60;
        root.journal.blocks = layout::MIN_JOURNAL;
    });
    let world = World::new(10).step_limit(1 << 20);
    let outcome = world.run(move || {
        let mounted = machine::mount(10, &fleet, machine::READ_WRITE).expect("mounts");
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(1), &[1; 100]).expect("memory");
        txn.commit().is_ok()
    });
    assert!(outcome.unwrap_or_else(|failure| panic!("{failure}")).value);
}

/// The last generation there can be has none behind it.
#[test]
fn a_root_of_the_last_generation_is_no_root() {
    let fleet = Fleet::new(11, &[Bytes(64 << 20)]);
    machine::make(11, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("made");
    craft(&fleet, |root| root.generation = Generation(u64::MAX));
    assert!(machine::mount(11, &fleet, machine::READ_WRITE).is_err());
}
