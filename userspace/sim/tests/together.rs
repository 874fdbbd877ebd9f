// SPDX-License-Identifier: GPL-2.0

//! Several tasks at once on one volume, in simulated worlds: transactions, syncs, checkpoints and readers in every order that a seed
//! draws. Then a crash: each task's durable work is there, and what is there is a prefix of one order that all tasks agree with.

use embr_engine::format::geometry::Geometry;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording::Recording;
use embrfs_sim::states::Plan;
use embrfs_sim::tale;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::sync::Mutex;

const TASKS: u64 = 3;
const STEPS: u64 = 12;

/// What tasks saw happen, in the order in which it did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    /// The task is about to commit its transaction with this number.
    Begins(u64, u64),
    /// It committed.
    Committed(u64, u64),
    /// All that the task committed up to this number was made durable.
    Durable(u64, u64),
}

struct Stage {
    mounted: Mounted<Simulated>,
    fleet: Fleet,
    events: Mutex<Vec<Event>>,
}

impl Stage {
    /// The recording knows an event by its place in the list.
    fn say(&self, event: Event) {
        let mut events = self.events.lock().expect("no task panicked");
        events.push(event);
        self.fleet.note(events.len() as u64 - 1);
    }
}

fn counter(task: u64) -> Key {
    Key([task, u64::MAX, 0])
}

/// Each transaction of a task moves a value from one of its keys to the next: there is always exactly one.
fn place(task: u64, number: u64) -> Key {
    Key([task, number % 5, 0])
}

fn work(stage: &Stage, task: u64, seed: u64) {
    let chance = Chance::new(seed ^ task);
    for number in 1..=STEPS {
        let mut txn = stage.mounted.begin().expect("writable");
        txn.remove(NAMES, place(task, number - 1)).expect("room");
        let value = vec![number as u8; chance.below(3000)];
        txn.set(NAMES, place(task, number), &value).expect("room");
        txn.set(NAMES, counter(task), &number.to_le_bytes())
            .expect("room");
        stage.say(Event::Begins(task, number));
        let group = txn.commit().expect("healthy drives");
        stage.say(Event::Committed(task, number));
        match chance.below(6) {
            0 => {
                stage.mounted.sync_to(group).expect("healthy drives");
                stage.say(Event::Durable(task, number));
            }
            1 => {
                stage.mounted.checkpoint().expect("healthy drives");
                stage.say(Event::Durable(task, number));
            }
            2 => {
                // Of one's own keys, which nobody else changes, exactly one is there at any time.
                let own = Range {
                    first: Key([task, 0, 0]),
                    last: Key([task, 4, 0]),
                };
                let mut scan = stage.mounted.scan(NAMES, own).expect("a tree");
                let (found, _) = scan.next().expect("sound").expect("one is there");
                assert_eq!(found, place(task, number));
                assert!(scan.next().expect("sound").is_none());
            }
            _ => {}
        }
    }
}

fn play(seed: u64) -> (Recording, Vec<Event>) {
    let fleet = Fleet::new(seed, &[Bytes(32 << 20), Bytes(32 << 20)]);
    let geometry = Geometry::new(1, 1).expect("a geometry");
    machine::make(seed, &fleet, geometry).expect("a volume");
    fleet.record();
    let outcome = World::new(seed).run(move || {
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounts");
        let stage = Arc::new(Stage {
            mounted,
            fleet,
            events: Mutex::default(),
        });
        let workers: Vec<Worker> = (0..TASKS)
            .map(|task| {
                let stage = stage.clone();
                Worker::try_spawn(lock_class!("task"), move || work(&stage, task, seed))
                    .expect("a task")
            })
            .collect();
        drop(workers);
        let events = stage.events.lock().expect("no task panicked").clone();
        (stage.fleet.recorded(), events)
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}")).value
}

fn look(
    seed: u64,
    recording: &Recording,
    events: &[Event],
    state: &embrfs_sim::recording::State,
) -> Result<(), String> {
    let fleet = Fleet::start(seed, &recording.at(state).ok_or("no such state")?);
    let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
    let known = recording
        .notes(state.cut)
        .map(|n| n as usize + 1)
        .max()
        .unwrap_or(0);
    let events = events.get(..known).ok_or("more notes than events")?;
    let mut there = BTreeMap::new();
    for task in 0..TASKS {
        let read = |key, what: &str| {
            let value = mounted.get(NAMES, key, |v| v.to_vec());
            value.map_err(|why| format!("{what} of task {task}: {why}"))
        };
        let number = match read(counter(task), "counter")? {
            Some(bytes) => {
                u64::from_le_bytes(bytes.try_into().map_err(|_| "a counter is no number")?)
            }
            None => 0,
        };
        let durable = events.iter().filter_map(|e| match e {
            Event::Durable(t, n) if *t == task => Some(*n),
            _ => None,
        });
        let durable = durable.max().unwrap_or(0);
        if number < durable {
            return Err(format!(
                "task {task}: {durable} was durable, {number} is there"
            ));
        }
        for step in 0..5 {
            let found = read(Key([task, step, 0]), "key")?.is_some();
            if found != (number > 0 && place(task, number) == Key([task, step, 0])) {
                return Err(format!(
                    "task {task}: transaction {number} is there in part"
                ));
            }
        }
        there.insert(task, number);
    }
    // Whoever began after another had committed is there only if the other is.
    let mut committed: BTreeMap<u64, u64> = BTreeMap::new();
    for event in events {
        match event {
            Event::Committed(task, number) => {
                committed.insert(*task, *number);
            }
            Event::Begins(task, number) if there[task] >= *number => {
                if let Some((other, n)) = committed.iter().find(|(other, n)| there[*other] < **n) {
                    return Err(format!("{number} of task {task} is there, {n} of task {other}, which was before it, is not"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

#[test]
fn tasks_share_one_order() {
    let base = seed();
    for seed in (0..25).map(|n| base.wrapping_add(n)) {
        let (recording, events) = play(seed);
        let done = events
            .iter()
            .filter(|e| matches!(e, Event::Committed(..)))
            .count() as u64;
        assert_eq!(done, TASKS * STEPS);
        let plan = Plan {
            seed,
            subsets: 1,
            tears: 0,
            mixed: 10,
        };
        let chance = Chance::new(seed);
        for state in recording.states(plan).filter(|_| chance.below(12) == 0) {
            if let Err(why) = look(seed, &recording, &events, &state) {
                panic!("EMBRFS_SEED={seed}, state {state}: {why}");
            }
        }
    }
}

/// What keeps a full volume busy until all is done.
struct Brim {
    mounted: Mounted<Simulated>,
    at_work: AtomicUsize,
    checkpoints: AtomicUsize,
    refused: AtomicUsize,
}

const WRITERS: u64 = 3;

/// Adds until nothing fits, and removes again; removing always works.
fn press(brim: &Brim, task: u64, seed: u64) {
    let chance = Chance::new(seed ^ task);
    let mut own = 0;
    for number in 0..60 {
        let promise = match chance.below(4) {
            0 => brim
                .mounted
                .promise(Blocks(1 + chance.below(40) as u64))
                .ok(),
            _ => None,
        };
        let mut txn = brim.mounted.begin().expect("writable");
        for n in 0..4 {
            let value = vec![1; chance.below(4000)];
            let key = Key([task, own + n, chance.next() % 3]);
            txn.set(NAMES, key, &value).expect("memory");
        }
        match txn.commit() {
            Ok(_) => own += 4,
            Err(Fault::NoSpace) => {
                brim.refused.fetch_add(1, Ordering::Relaxed);
                let mut txn = brim.mounted.begin_freeing().expect("writable");
                let range = Range {
                    first: Key([task, own / 2, 0]),
                    last: Key([task, u64::MAX, 0]),
                };
                txn.remove_range(NAMES, range).expect("memory");
                txn.commit().expect("removing always works");
                own /= 2;
            }
            Err(why) => panic!("{why}"),
        }
        if number % 10 == 0 {
            brim.mounted.sync().expect("healthy drives");
        }
        drop(promise);
    }
    brim.at_work.fetch_sub(1, Ordering::Relaxed);
}

/// Whatever the order of tasks: with checkpoints in the background, with readers that dawdle and promises that are not kept, on a
/// volume that is full, all come to an end.
#[test]
fn nobody_waits_for_ever() {
    let base = std::env::var("EMBRFS_SEED").map_or(1, |s| s.parse().expect("a number"));
    println!("EMBRFS_SEED={base}");
    let (mut made, mut refused) = (0, 0);
    for seed in (0..12u64).map(|n| n.wrapping_add(base)) {
        let fleet = Fleet::new(seed, &[Bytes(32 << 20)]);
        machine::make(seed, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("a volume");
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounts");
        tale::take_all_but(&mounted, seed % 3 * 600).expect("healthy drives");
        mounted.close().expect("healthy drives");
        let outcome = World::new(seed).run(move || {
            let brim = Arc::new(Brim {
                mounted: machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounts"),
                at_work: AtomicUsize::new(WRITERS as usize),
                checkpoints: AtomicUsize::new(0),
                refused: AtomicUsize::new(0),
            });
            let spawn = |work: Box<dyn FnOnce(&Brim) + Send>| {
                let brim = brim.clone();
                Worker::try_spawn(lock_class!("brim"), move || work(&brim)).expect("a task")
            };
            let mut workers: Vec<Worker> = (0..WRITERS)
                .map(|task| spawn(Box::new(move |brim| press(brim, task, seed))))
                .collect();
            workers.push(spawn(Box::new(|brim| {
                while brim.at_work.load(Ordering::Relaxed) != 0 {
                    if brim.mounted.checkpoint_due() {
                        brim.mounted
                            .checkpoint()
                            .expect("there is always room for it");
                        brim.checkpoints.fetch_add(1, Ordering::Relaxed);
                    }
                    embr_rt::time::sleep(Duration::from_millis(3));
                }
            })));
            workers.push(spawn(Box::new(|brim| {
                while brim.at_work.load(Ordering::Relaxed) != 0 {
                    embr_rt::time::sleep(Duration::from_millis(1));
                    let mut scan = brim.mounted.scan(NAMES, Range::ALL).expect("a tree");
                    for _ in 0..10 {
                        if scan.next().expect("sound").is_none() {
                            break;
                        }
                        embr_rt::time::sleep(Duration::from_micros(700));
                    }
                }
            })));
            drop(workers);
            tale::audit_promises(&brim.mounted).expect("promises are kept");
            let ledger = brim.mounted.ledger();
            assert_eq!(ledger.promised, (Blocks(0), 0));
            (
                brim.checkpoints.load(Ordering::Relaxed),
                brim.refused.load(Ordering::Relaxed),
            )
        });
        let value = outcome
            .unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"))
            .value;
        made += value.0;
        refused += value.1;
    }
    println!("{made} checkpoints in the background, {refused} refused");
    assert!(made > 0 && refused > 0);
}

/// Keys of two trees that each transaction changes to its own number.
const SHARED: [(TreeId, Key); 4] = [
    (NAMES, Key([90, 0, 0])),
    (ENGRAMS, Key([91, 0, 0])),
    (NAMES, Key([92, 0, 0])),
    (ENGRAMS, Key([93, 0, 0])),
];

fn seen(mounted: &Mounted<Simulated>, (tree, key): (TreeId, Key)) -> u8 {
    let value = mounted.get(tree, key, |v| v.first().copied());
    value.expect("sound").flatten().unwrap_or(0)
}

/// Whoever reads one key after the other, and holds nothing, never sees the older state after the newer one.
fn nothing_is_seen_in_part(seed: u64) {
    let fleet = Fleet::new(seed, &[Bytes(32 << 20)]);
    machine::make(seed, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("a volume");
    let outcome = World::new(seed).run(move || {
        let mounted = Arc::new(machine::mount(seed, &fleet, machine::READ_WRITE).expect("mounts"));
        let reader = |task: u64| {
            let mounted = mounted.clone();
            let read = move || {
                let chance = Chance::new(seed ^ task);
                let (mut newest, mut reads) = (0, 0);
                while newest < STEPS as u8 && reads < 2000 {
                    let n = seen(&mounted, SHARED[chance.below(SHARED.len())]);
                    assert!(n >= newest, "{n} was seen after {newest}");
                    (newest, reads) = (n, reads + 1);
                }
            };
            Worker::try_spawn(lock_class!("reader"), read).expect("a task")
        };
        let readers = [1, 2].map(reader);
        for number in 1..=STEPS as u8 {
            let mut txn = mounted.begin().expect("writable");
            for (tree, key) in SHARED {
                txn.set(tree, key, &[number]).expect("room");
            }
            txn.commit().expect("room");
        }
        drop(readers);
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn readers_see_transactions_wholly() {
    let seed = seed();
    for n in 0..40 {
        nothing_is_seen_in_part(seed.wrapping_add(n));
    }
}
