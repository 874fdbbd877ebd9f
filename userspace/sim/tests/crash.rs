// SPDX-License-Identifier: GPL-2.0

//! Tales of transactions and short sequences of operations, cut short by crashes of every kind, and drives that fail: what was acknowledged is there, and nothing is there in part.

use embr_engine::format::geometry::Geometry;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embrfs_sim::ace::Scene;
use embrfs_sim::campaign;
use embrfs_sim::campaign::Orders;
use embrfs_sim::deed;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::machine;
use embrfs_sim::states as kinds;

/// As many as a test run has time for; `make sim` goes on for as long as one likes.
#[test]
fn crashes_leave_a_prefix() {
    let seed = seed();
    let states = std::env::var("EMBRFS_STATES").map_or(20_000, |n| n.parse().expect("a number"));
    // Another slice of the short sequences in each run.
    let orders = Orders {
        seed,
        states,
        part: seed % campaign::PARTS,
        stride: 1,
        most: 1,
    };
    let report = campaign::run(orders, |_| ());
    println!(
        "{} tales, part {:?}: {}; {}; {}",
        report.tales, report.parts, report.states, report.deeds, report.storms.states
    );
    // Where a run that passes is to show what it looked at.
    if let Some(file) = std::env::var_os("EMBRFS_SAY") {
        let (states, violations) = (report.total(), report.violations.len());
        let said = format!("EMBRFS_SEED={seed}\n{states} crash states, {violations} violations\n");
        std::fs::write(file, said).expect("EMBRFS_SAY is a file");
    }
    if let Some(violation) = report.violations.first() {
        panic!("{violation}");
    }
    // Faults of drives are rarer than that they all come in few states.
    for kind in kinds::Kind::ALL {
        assert!(report.states.of(kind) > 0, "{kind:?} was never reached");
    }
    for kind in deed::Kind::ALL {
        assert!(report.deeds.of(kind) > 0, "{kind:?} was never reached");
    }
    assert!(report.crowds > 0 && report.storms.unallocated > 0);
    assert!(report.again > 0 && report.gone_on > 0);
    if states >= 20_000 {
        assert_eq!(report.never(), [""; 0]);
    }
}

/// Of volumes with stripes, without as many drives as they bear.
#[test]
fn drives_that_do_not_come_back_leave_a_prefix() {
    for (seed, (data, parity)) in (seed()..).zip([(4, 2), (2, 1), (3, 3)]) {
        let bundle = Geometry::new(data, parity).expect("a geometry");
        let report = campaign::bereft(seed, bundle, 1000, |_| ());
        assert!(report.total() >= 1000 || !report.violations.is_empty());
        if let Some(violation) = report.violations.first() {
            panic!("{violation}");
        }
    }
}

/// No group names what was written to places that had been set aside before that is durable.
#[test]
fn what_is_written_to_places_that_were_set_aside_is_durable_first() {
    let seed = seed();
    for scene in [
        Scene::furnished(1, 0),
        Scene::furnished(1, 1),
        Scene::furnished(2, 1),
    ] {
        let sequence = "allocate A/x 3; sync; write A/x 3".parse().expect("deeds");
        if let Err(violation) = campaign::replay(seed, scene, &sequence) {
            panic!("{violation}");
        }
    }
}

/// What a transaction had no room to take is free again, and so is all the rest once it is dropped.
#[test]
fn a_transaction_that_is_too_large_gives_back() {
    let fleet = Fleet::new(1, &[Bytes(32 << 20)]);
    machine::make(1, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("a volume");
    let mounted = machine::mount(1, &fleet, machine::READ_WRITE).expect("mounts");
    let slot = mounted.parts()[0].slot;
    let before = mounted.room(slot);
    let mut txn = mounted.begin().expect("writable");
    for n in 0.. {
        match txn.set(NAMES, Key([n, 0, 0]), &[1; 100]) {
            Ok(()) => {}
            Err(why) => {
                assert_eq!(why, Fault::TooLarge);
                break;
            }
        }
    }
    let mut taken = 0;
    loop {
        let extent = mounted.allocate(slot, Blocks(1), Blocks(1)).expect("space");
        match txn.take(extent) {
            Ok(()) => taken += 1,
            Err(why) => {
                assert_eq!(why, Fault::TooLarge);
                break;
            }
        }
    }
    assert_eq!(mounted.room(slot).free.0, before.free.0 - taken);
    drop(txn);
    assert_eq!(mounted.room(slot), before);
}
