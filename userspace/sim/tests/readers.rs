// SPDX-License-Identifier: GPL-2.0

//! A full volume of which a reader holds an old state, so that nothing that is freed can be used again before he lets go: what frees
//! space and what was accepted waits for him, however long; others are told that the volume is full.

use embr_engine::format::geometry::Geometry;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::time::Instant;
use embr_rt::work::Worker;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::tale;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const KEYS: u64 = 400;
/// Far longer than anybody waits who may be refused.
const LONG: Duration = Duration::from_secs(60);

fn key(n: u64) -> Key {
    Key([3, 1 + n % KEYS, 0])
}

/// A volume with many nodes that are to be replaced one by one, and little room.
fn full(seed: u64) -> Mounted<Simulated> {
    let fleet = Fleet::new(seed, &[Bytes(32 << 20)]);
    machine::make(seed, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("a volume");
    let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounts");
    for n in 0..KEYS {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n), &[1; 900]).expect("memory");
        txn.commit().expect("room");
    }
    tale::take_all_but(&mounted, 400).expect("healthy drives");
    mounted
}

/// Changes a value and makes that a root, so that nodes are freed which the reader holds.
fn free(mounted: &Mounted<Simulated>, n: u64) -> Result<(), Fault> {
    let mut txn = mounted.begin_freeing()?;
    txn.set(NAMES, key(n * 37), &[2; 900])?;
    txn.commit()?;
    mounted.checkpoint()
}

/// Writes one block of what was accepted.
fn write(mounted: &Mounted<Simulated>, promise: &mut embr_engine::space::promise::Promise) {
    let mut places = embr_rt::Vec::new();
    let given = mounted.allocate_promised(promise, Blocks(1), &mut places);
    assert_eq!(given, Ok(Blocks(1)));
    let mut txn = mounted.begin().expect("writable");
    txn.take_promised(promise, &places).expect("memory");
    txn.set(NAMES, key(places.len() as u64), &[3; 900])
        .expect("memory");
    txn.commit_under(promise).expect("it was accepted");
}

/// Who takes space is refused while the reader holds on, and waits no longer than he has to.
#[test]
fn who_takes_space_is_refused() {
    let mounted = full(seed());
    let mut scan = mounted.scan(NAMES, Range::ALL).expect("a tree");
    scan.next().expect("sound");
    let why = (0..10_000).find_map(|n| {
        let mut txn = mounted.begin().expect("writable");
        txn.set(NAMES, key(n * 37), &[2; 900]).expect("memory");
        txn.commit().err()
    });
    assert_eq!(why, Some(Fault::NoSpace));
    drop(scan);
    free(&mounted, 1).expect("nobody reads");
}

struct Stage {
    mounted: Mounted<Simulated>,
    at_work: AtomicUsize,
}

/// One task frees, one writes what was accepted, and the reader holds on. Says how long they waited.
fn play(seed: u64) -> Duration {
    let outcome = World::new(seed).run(move || {
        let mounted = full(seed);
        let mut promise = mounted.promise(Blocks(20)).expect("some room");
        let stage = Arc::new(Stage {
            mounted,
            at_work: AtomicUsize::new(2),
        });
        let mut scan = stage.mounted.scan(NAMES, Range::ALL).expect("a tree");
        scan.next().expect("sound");
        let begin = Instant::now();
        let its = stage.clone();
        let frees = Worker::try_spawn(lock_class!("frees"), move || {
            for n in 0..150 {
                free(&its.mounted, n).expect("freeing always works");
            }
            its.at_work.fetch_sub(1, Ordering::Relaxed);
        });
        let its = stage.clone();
        let writes = Worker::try_spawn(lock_class!("writes"), move || {
            for _ in 0..20 {
                write(&its.mounted, &mut promise);
                embr_rt::time::sleep(Duration::from_millis(1));
            }
            drop(promise);
            its.at_work.fetch_sub(1, Ordering::Relaxed);
        });
        embr_rt::time::sleep(LONG);
        let waiting = stage.at_work.load(Ordering::Relaxed);
        drop(scan);
        drop((frees.expect("a task"), writes.expect("a task")));
        let elapsed = begin.elapsed();
        assert_eq!(stage.at_work.load(Ordering::Relaxed), 0);
        tale::audit_promises(&stage.mounted).expect("promises are kept");
        (waiting, elapsed)
    });
    let (waiting, elapsed) = outcome.unwrap_or_else(|failure| panic!("{failure}")).value;
    assert_ne!(waiting, 0, "nobody had to wait");
    elapsed
}

#[test]
fn who_frees_or_was_promised_waits_for_readers() {
    let base = seed();
    for n in 0..6 {
        let elapsed = play(base.wrapping_add(n));
        println!("waited {elapsed:?}");
    }
}
