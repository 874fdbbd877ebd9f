// SPDX-License-Identifier: GPL-2.0

//! Volumes whose checkpoints a thread of the host's makes, as in the kernel, in simulated worlds: whoever commits waits for that thread,
//! on a journal that is too short, or on a volume that is nearly full, and nobody waits for ever.

use embr_engine::format::geometry::Geometry;
use embr_engine::hash::Scalar;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::volume::assemble;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::host::Host;
use embrfs_sim::machine;
use embrfs_sim::machine::Heard;
use embrfs_sim::machine::Simulated;
use embrfs_sim::tale;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;

/// A machine whose stacks are small.
struct Small(Simulated);

impl Machine for Small {
    type Devices = Fleet;
    type Environment = Host;
    type Events = Heard;
    const CHECKPOINTS_APART: bool = true;

    fn devices(&self) -> &Fleet {
        self.0.devices()
    }

    fn environment(&self) -> &Host {
        self.0.environment()
    }

    fn events(&self) -> &Heard {
        self.0.events()
    }
}

fn mount(seed: u64, fleet: &Fleet, dirty: Bytes) -> Mounted<Small> {
    let drives = fleet.drives();
    let members: Vec<_> = drives
        .iter()
        .map(|drive| probe(drive, &Scalar).expect("a member"))
        .collect();
    let volume = assemble(&members).expect("a volume");
    let options = Options {
        dirty,
        ..machine::READ_WRITE
    };
    let machine = Small(Simulated::new(seed, fleet));
    let mounted = Mounted::open(machine, &volume, &members, options);
    mounted.expect("mounted").into_inner()
}

type Left = BTreeMap<Key, Vec<u8>>;

struct Stage {
    mounted: Mounted<Small>,
    stop: AtomicBool,
    left: Mutex<Left>,
    refused: Mutex<u64>,
}

/// What the host's thread does; one that only serves leaves it to those who wait to say what is needed.
fn keep(stage: &Stage, looks_after: bool) {
    while !stage.stop.load(Ordering::Relaxed) {
        let woken = stage.mounted.serve(Duration::from_secs(5));
        if woken && looks_after && stage.mounted.checkpoint_due() {
            stage.mounted.checkpoint().expect("healthy drives");
        }
    }
    stage.mounted.end_service();
}

fn work(stage: &Stage, task: u64, seed: u64) {
    let chance = Chance::new(seed ^ task);
    for number in 0..30 {
        let keys: Vec<Key> = (0..1 + chance.below(20) as u64)
            .map(|n| Key([task, n, chance.next() % 4]))
            .collect();
        let value = vec![number; chance.below(4000)];
        let set = || -> Result<(), Fault> {
            let mut txn = stage.mounted.begin()?;
            for key in &keys {
                txn.set(NAMES, *key, &value)?;
            }
            txn.commit().map(|_| ())
        };
        match set() {
            Ok(()) => {
                let mut left = stage.left.lock().expect("no task panicked");
                left.extend(keys.into_iter().map(|key| (key, value.clone())));
            }
            Err(Fault::NoSpace) => {
                *stage.refused.lock().expect("no task panicked") += 1;
                let mut txn = stage.mounted.begin_freeing().expect("writable");
                txn.remove(NAMES, keys[0]).expect("room");
                txn.commit().expect("removing always works");
                let mut left = stage.left.lock().expect("no task panicked");
                left.remove(&keys[0]);
            }
            Err(why) => panic!("task {task}, transaction {number}: {why}"),
        }
        if chance.below(10) == 0 {
            stage.mounted.checkpoint_apart().expect("healthy drives");
        }
    }
}

/// Whether the volume holds what was left, and nothing else.
fn audit<M: Machine>(mounted: &Mounted<M>, left: &Left) {
    let all = embr_engine::tree::Range {
        first: Key([1, 0, 0]),
        last: Key([3, u64::MAX, u64::MAX]),
    };
    let mut scan = mounted.scan(NAMES, all).expect("a tree");
    let mut found = Left::new();
    while let Some((key, value)) = scan.next().expect("sound") {
        found.insert(key, value.to_vec());
    }
    assert!(found == *left, "{} and {} keys", found.len(), left.len());
}

/// How often there was no space.
fn play(seed: u64) -> u64 {
    let chance = Chance::new(seed);
    let fleet = Fleet::new(chance.next(), &[Bytes(32 << 20)]);
    let geometry = Geometry::new(1, 0).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("a volume");
    let is_full = chance.below(2) == 0;
    if is_full {
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounted");
        let spare = chance.one(&[0, 100, 400]);
        tale::take_all_but(&mounted, spare).expect("filled");
        mounted.close().expect("closed");
    }
    let dirty = chance.one(&[Bytes(0), Bytes(64 << 20)]);
    let looks_after = chance.below(2) == 0;
    let outcome = World::new(seed).run(move || {
        let stage = Arc::new(Stage {
            mounted: mount(seed, &fleet, dirty),
            stop: AtomicBool::new(false),
            left: Mutex::default(),
            refused: Mutex::default(),
        });
        let its = stage.clone();
        let keeper = Worker::try_spawn(lock_class!("keeper"), move || keep(&its, looks_after));
        let keeper = keeper.expect("a task");
        stage.mounted.checkpoint_apart().expect("a first root");
        let workers: Vec<Worker> = (1..=3)
            .map(|task| {
                let stage = stage.clone();
                Worker::try_spawn(lock_class!("task"), move || work(&stage, task, seed))
                    .expect("a task")
            })
            .collect();
        drop(workers);
        let before = stage.mounted.generation();
        stage.mounted.checkpoint_apart().expect("a root");
        assert!(stage.mounted.generation() > before);
        stage.stop.store(true, Ordering::Relaxed);
        stage.mounted.wake();
        drop(keeper);
        // Nobody serves: who asks is told so.
        assert_eq!(stage.mounted.checkpoint_apart(), Err(Fault::Stopped));
        let left = stage.left.lock().expect("no task panicked").clone();
        audit(&stage.mounted, &left);
        let refused = *stage.refused.lock().expect("no task panicked");
        (fleet, left, refused)
    });
    let (fleet, left, refused) = outcome.unwrap_or_else(|failure| panic!("{failure}")).value;
    let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounted again");
    audit(&mounted, &left);
    refused
}

#[test]
fn who_waits_for_the_thread_is_served() {
    let base = seed();
    let refused: u64 = (0..16).map(|n| play(base.wrapping_add(n))).sum();
    assert_ne!(refused, 0, "no volume was full");
}
