// SPDX-License-Identifier: GPL-2.0

//! Where nodes lie: in two places where nothing else is redundant, on different drives where losses are survived.

use embr_engine::format::geometry::Geometry;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Pointer;
use embr_engine::tree::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine as _;
use embr_engine::volume::Mounted;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use std::collections::BTreeSet;

/// The places of every node.
#[derive(Default)]
struct Places(Vec<Vec<Place>>);

impl Visitor for Places {
    fn node(&mut self, pointer: &Pointer, _: &Node) -> Result<(), TreeError> {
        self.0.push(pointer.places.iter().collect());
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
        Err(*why)
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

fn key(n: u64) -> Key {
    Key([n, 0, 0])
}

const KEYS: u64 = 300;

/// A volume with something in its trees, all of it in its roots.
fn stage(drives: usize, parity: u8) -> (Fleet, Vec<Vec<Place>>) {
    let fleet = Fleet::new(3, &vec![Bytes(32 << 20); drives]);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(3, &fleet, geometry).expect("made");
    let mounted = machine::mount(3, &fleet, machine::READ_WRITE).expect("mounts");
    for n in 0..KEYS {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n), &[n as u8; 900]).expect("memory");
        txn.commit().expect("room");
    }
    mounted.checkpoint().expect("healthy drives");
    let mut places = Places::default();
    for base in mounted.bases() {
        check::check(mounted.nodes(), &base, Depth::Tree, &mut places).expect("sound");
    }
    mounted.close().expect("healthy drives");
    (fleet, places.0)
}

fn read_all(mounted: &Mounted<Simulated>) -> Result<(), Fault> {
    for n in 0..KEYS {
        let same = mounted.get(NAMES, key(n), |value| value == [n as u8; 900])?;
        assert_eq!(same, Some(true), "key {n}");
    }
    Ok(())
}

fn rot(fleet: &Fleet, place: &Place) {
    let at = place.block.bytes().expect("a place");
    fleet.rot(place.device, Bytes(at.0 + 300), 4);
}

#[test]
fn one_drive_has_every_node_twice_and_far_apart() {
    let (fleet, nodes) = stage(1, 0);
    assert!(nodes.len() > 15);
    for places in &nodes {
        assert_eq!(places.len(), 2);
        let apart = places[0].block.0.abs_diff(places[1].block.0);
        assert!(apart > 1000, "{places:?}");
    }
    for (n, places) in nodes.iter().enumerate() {
        rot(&fleet, &places[n % 2]);
    }
    let mounted = machine::mount(4, &fleet, machine::READ_WRITE).expect("mounts");
    read_all(&mounted).expect("the other copies are sound");
    // What lies first is read first; the others are found when somebody looks.
    let repaired = mounted.machine().events().repaired();
    assert!(repaired >= nodes.len() as u64 / 3, "{repaired}");
    for base in mounted.bases() {
        let mut places = Places::default();
        check::check(mounted.nodes(), &base, Depth::Copies, &mut places).expect("sound");
    }
    drop(mounted);
    // Now the others: each was made good before.
    for (n, places) in nodes.iter().enumerate() {
        rot(&fleet, &places[1 - n % 2]);
    }
    let mounted = machine::mount(5, &fleet, machine::READ_WRITE).expect("mounts");
    read_all(&mounted).expect("what was repaired is sound");
    assert_eq!(mounted.machine().events().lost(), 0);
}

#[test]
fn a_node_of_which_both_copies_rot_is_an_error() {
    let (fleet, nodes) = stage(1, 0);
    for places in &nodes {
        places.iter().for_each(|place| rot(&fleet, place));
    }
    let read_only = embr_engine::volume::recover::Options {
        read_only: true,
        ..machine::READ_WRITE
    };
    let failed = match machine::mount(4, &fleet, read_only) {
        Ok(mounted) => read_all(&mounted).is_err(),
        Err(_) => true,
    };
    assert!(failed);
}

#[test]
fn several_drives_share_the_copies() {
    for (drives, parity, copies) in [(2, 0, 2), (3, 0, 2), (2, 1, 2), (3, 1, 2), (5, 2, 3)] {
        let (_, nodes) = stage(drives, parity);
        let mut all = BTreeSet::new();
        for places in &nodes {
            let devices: BTreeSet<usize> = places.iter().map(|p| p.device.index()).collect();
            assert_eq!(
                (places.len(), devices.len()),
                (copies, copies),
                "{places:?}"
            );
            all.extend(devices);
        }
        assert_eq!(all.len(), drives, "no drive is left out");
    }
}
