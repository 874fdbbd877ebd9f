// SPDX-License-Identifier: GPL-2.0

//! Lack of memory at every point of a transaction, a checkpoint, a recovery: nothing is lost, nothing leaks, and going on works.

use embr_engine::check::Depth;
use embr_engine::format::geometry::Geometry;
use embr_engine::space::Ledger;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::tale;
use embrfs_sim::tale::Left;

fn key(n: u64) -> Key {
    Key([n, 0, 0])
}

/// A volume, some of it in its trees and some in its journal; full but for so many blocks.
fn stage(parity: u8, spare: u64) -> (Fleet, Mounted<Simulated>, Left) {
    let fleet = Fleet::new(7, &vec![Bytes(32 << 20); usize::from(parity) + 1]);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(7, &fleet, geometry).expect("made");
    let mounted = machine::mount(7, &fleet, machine::READ_WRITE).expect("mounts");
    let mut left = Left::default();
    let filler = tale::take_all_but(&mounted, spare).expect("healthy drives");
    left.filler = filler.into();
    for n in 0..40 {
        let mut txn = mounted.begin_freeing().expect("writable");
        let value = vec![n as u8; 100 + n as usize * 20];
        txn.set(NAMES, key(n), &value).expect("memory");
        txn.commit().expect("room");
        left.keys.insert(key(n), value.into());
        if n == 30 {
            mounted.checkpoint().expect("healthy drives");
        }
    }
    (fleet, mounted, left)
}

fn audit(mounted: &Mounted<Simulated>, fleet: &Fleet, left: &Left, when: &str) {
    tale::audit(mounted, fleet, left, Depth::Tree).unwrap_or_else(|why| panic!("{when}: {why}"));
}

/// One of everything that a transaction can do; what it leaves.
fn transact(mounted: &Mounted<Simulated>, before: &Left) -> Result<Left, Fault> {
    let mut left = before.clone();
    let mut promise = mounted.promise(Blocks(20))?;
    let mut spared = promise.split(Blocks(5));
    let mut txn = mounted.begin()?;
    let mut taken = left.filler.to_vec();
    while promise.blocks().0 != 0 {
        let mut copies = embr_rt::Vec::new();
        mounted.allocate_promised(&mut promise, Blocks(8), &mut copies)?;
        txn.take_promised(&mut promise, &copies)?;
        taken.extend(copies.iter().copied());
    }
    txn.free(taken.remove(0))?;
    left.filler = taken.into();
    txn.set(NAMES, key(100), &[1; 3000])?;
    left.keys.insert(key(100), vec![1; 3000].into());
    txn.remove(NAMES, key(3))?;
    left.keys.remove(&key(3));
    let range = Range {
        first: key(10),
        last: key(12),
    };
    txn.remove_range(NAMES, range)?;
    left.keys.retain(|key, _| !range.has(*key));
    spared.merge(promise);
    txn.commit_under(&mut spared)?;
    Ok(left)
}

/// What must be as before when nothing happened.
fn books(mounted: &Mounted<Simulated>) -> (Ledger, Vec<u64>) {
    let parts = mounted.parts().iter();
    (
        mounted.ledger(),
        parts.map(|p| mounted.room(p.slot).free.0).collect(),
    )
}

#[test]
fn a_transaction_without_memory_never_was() {
    for parity in [0, 1] {
        let (fleet, mounted, left) = stage(parity, 2000);
        let mut failures = 0;
        let after = loop {
            let before = books(&mounted);
            failpoint::fail_nth(failures + 1);
            let done = transact(&mounted, &left);
            let failed = failpoint::off().failed;
            match done {
                Ok(after) if failed == 0 => break after,
                Ok(_) => panic!("allocation {failures} failed and nobody noticed"),
                Err(why) => assert_eq!(why, Fault::NoMemory, "allocation {failures}"),
            }
            assert_eq!(books(&mounted), before, "allocation {failures}");
            audit(
                &mounted,
                &fleet,
                &left,
                "after a transaction without memory",
            );
            failures += 1;
        };
        assert!(failures > 10, "only {failures}");
        audit(&mounted, &fleet, &after, "after the transaction");
    }
}

/// A checkpoint that failed is tried again; syncing needs no memory at all.
#[test]
fn a_checkpoint_without_memory_is_made_later() {
    for (parity, spare) in [(0, 2000), (1, 0)] {
        let mut failures = 0;
        loop {
            let (fleet, mounted, mut left) = stage(parity, spare);
            failpoint::fail_nth(1);
            mounted.sync().expect("syncing takes no memory");
            assert_eq!(failpoint::off().asked, 0);
            failpoint::fail_nth(failures + 1);
            let done = mounted.checkpoint();
            let failed = failpoint::off().failed;
            if failed == 0 {
                done.expect("nothing failed");
                break;
            }
            assert_eq!(done, Err(Fault::NoMemory), "allocation {failures}");
            failures += 1;
            audit(&mounted, &fleet, &left, "after a checkpoint without memory");
            // It goes on: what was frozen, and what comes now.
            let mut txn = mounted.begin_freeing().expect("writable");
            txn.remove(NAMES, key(5)).expect("memory");
            txn.commit().expect("room");
            left.keys.remove(&key(5));
            audit(&mounted, &fleet, &left, "after going on");
            let crashed = Fleet::start(failures, &fleet.snapshot());
            mounted.checkpoint().expect("there is memory now");
            mounted.checkpoint().expect("there is memory now");
            audit(&mounted, &fleet, &left, "after a later checkpoint");
            let ledger = mounted.ledger();
            assert_eq!((ledger.granted, ledger.promised), (0, (Blocks(0), 0)));
            // All drives lost their caches: it was not durable, or it was.
            let again = machine::mount(failures, &crashed, machine::READ_WRITE).expect("mounts");
            tale::audit_promises(&again).expect("promises are kept");
        }
        assert!(failures > 20, "only {failures}");
        println!("{failures} allocations in a checkpoint");
    }
}

#[test]
fn a_recovery_without_memory_is_made_later() {
    for (parity, spare) in [(0, 2000), (1, 0)] {
        let (fleet, mounted, left) = stage(parity, spare);
        mounted.sync().expect("healthy drives");
        let crashed = fleet.snapshot();
        drop(mounted);
        let mut failures = 0;
        loop {
            let fleet = Fleet::start(failures, &crashed);
            failpoint::fail_nth(failures + 1);
            let done = machine::mount(failures, &fleet, machine::READ_WRITE);
            let failed = failpoint::off().failed;
            match done {
                Ok(mounted) => audit(&mounted, &fleet, &left, "mounted"),
                Err(why) => assert!(failed != 0, "{why}"),
            }
            if failed == 0 {
                break;
            }
            let mounted = machine::mount(failures, &fleet, machine::READ_WRITE).expect("mounts");
            audit(&mounted, &fleet, &left, "mounted at the second try");
            failures += 1;
        }
        assert!(failures > 50, "only {failures}");
        println!("{failures} allocations in a recovery");
    }
}

/// On a volume that is full, whatever fails for lack of memory: with memory, deleting works.
#[test]
fn deleting_without_memory_on_a_full_volume() {
    let (fleet, mounted, mut left) = stage(0, 0);
    let mut failures = 0;
    for n in 0..30 {
        failpoint::fail_nth(failures + 1);
        let delete = || {
            let mut txn = mounted.begin_freeing()?;
            txn.remove(NAMES, key(n))?;
            for far in 0..12 {
                txn.remove(NAMES, key(1000 * far + n))?;
            }
            txn.commit()
        };
        let done = delete();
        let failed = failpoint::off().failed;
        match done {
            Ok(_) => failures = if failed == 0 { 0 } else { failures + 1 },
            Err(why) => {
                assert_eq!(why, Fault::NoMemory);
                audit(&mounted, &fleet, &left, "nothing was deleted");
                delete().expect("there is memory now");
                failures += 1;
            }
        }
        left.keys.remove(&key(n));
        audit(&mounted, &fleet, &left, "deleted");
    }
}
