// SPDX-License-Identifier: GPL-2.0

use super::has_stood_still;
use super::random;
use super::stand_still;
use super::trace;
use super::Kind;
use super::World;
use crate::failpoint;
use crate::lock_class;
use crate::time;
use crate::time::Duration;
use crate::time::Instant;
use crate::work;
use crate::work::Queue;
use crate::work::Worker;
use crate::Arc;
use crate::Box;
use crate::CondVar;
use crate::Mutex;
use std::collections::BTreeSet;
use std::vec::Vec;

fn start(job: impl FnOnce() + Send + 'static) -> Worker {
    Worker::try_spawn(lock_class!("test worker"), job).unwrap()
}

/// Four tasks write their numbers down, in whatever order they come.
fn interleave() -> Vec<u32> {
    let log = Arc::try_new(Mutex::try_new(Vec::new(), lock_class!("log")).unwrap()).unwrap();
    let queue = Queue::try_new(lock_class!("queue"), 2).unwrap();
    let workers: Vec<Worker> = (0..2)
        .map(|me| {
            let log = log.clone();
            start(move || {
                for _ in 0..5 {
                    log.lock().push(me);
                    time::sleep(Duration::from_nanos(random().unwrap() % 3));
                }
            })
        })
        .collect();
    for me in 2..4 {
        let log = log.clone();
        let job = move || {
            for _ in 0..5 {
                log.lock().push(me);
                work::yield_now();
            }
        };
        queue.try_spawn(job).unwrap();
    }
    drop(workers);
    drop(queue);
    let written = log.lock().clone();
    written
}

#[test]
fn one_seed_is_one_schedule() {
    let mut traces = BTreeSet::new();
    let mut orders = BTreeSet::new();
    for seed in 0..100 {
        let a = World::new(seed).run(interleave).unwrap();
        let b = World::new(seed).run(interleave).unwrap();
        assert_eq!(
            (a.trace, a.steps, a.elapsed_ns, &a.value),
            (b.trace, b.steps, b.elapsed_ns, &b.value)
        );
        assert_eq!(a.value.len(), 20);
        traces.insert(a.trace);
        orders.insert(a.value);
    }
    assert_eq!(traces.len(), 100);
    // Some chance is left to coincide, but not much.
    assert!(
        orders.len() > 90,
        "only {} orders from 100 seeds",
        orders.len()
    );
}

#[test]
fn worlds_side_by_side_do_not_disturb_each_other() {
    let alone: Vec<u64> = (0..8)
        .map(|s| World::new(s).run(interleave).unwrap().trace)
        .collect();
    let threads: Vec<_> = (0..8)
        .map(|s| std::thread::spawn(move || World::new(s).run(interleave).unwrap().trace))
        .collect();
    let together: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    assert_eq!(alone, together);
}

#[test]
fn what_is_traced_counts() {
    let run = |n| World::new(7).run(move || trace(n)).unwrap().trace;
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn time_passes_only_when_nobody_can_run() {
    let outcome = World::new(0)
        .run(|| {
            let begun = Instant::now();
            for _ in 0..1000 {
                work::yield_now();
            }
            let busy = begun.elapsed();
            let sleepers: Vec<Worker> = [30u64, 10, 20]
                .map(|s| start(move || time::sleep(Duration::from_secs(s))))
                .into_iter()
                .collect();
            drop(sleepers);
            (busy, begun.elapsed(), time::wall_clock_ns())
        })
        .unwrap();
    let (busy, slept, wall) = outcome.value;
    assert_eq!(busy, Duration::ZERO);
    assert_eq!(slept, Duration::from_secs(30));
    assert_eq!(outcome.elapsed_ns, slept.as_nanos());
    assert_eq!(wall, super::WALL_CLOCK_AT_START + slept.as_nanos());
}

#[test]
fn a_deadlock_says_who_waits_for_whom() {
    // No two locks are taken in two orders here: what never comes is a notification.
    fn cross(seed: u64) -> Result<super::Outcome<()>, super::Failure> {
        World::new(seed).run(|| {
            let left = Arc::try_new(Mutex::try_new((), lock_class!("left")).unwrap()).unwrap();
            let flag = Arc::try_new(Mutex::try_new(false, lock_class!("flag")).unwrap()).unwrap();
            let raised = Arc::try_new(CondVar::try_new(lock_class!("raised")).unwrap()).unwrap();
            let (l, f, r) = (left.clone(), flag.clone(), raised.clone());
            let worker = start(move || {
                drop(l.lock());
                *f.lock() = true;
                r.notify_all();
            });
            {
                let _left = left.lock();
                let mut flag = flag.lock();
                raised.wait_while(&mut flag, |flag| !*flag);
            }
            worker.join();
        })
    }
    let mut told = 0;
    for seed in 0..50 {
        let Err(failure) = cross(seed) else { continue };
        assert_eq!(failure.kind, Kind::Deadlock, "{failure}");
        assert!(
            failure.report.contains("waits for the lock \"left\""),
            "{failure}"
        );
        assert!(
            failure.report.contains("held by task 0 \"first\""),
            "{failure}"
        );
        assert!(
            failure
                .report
                .contains("waits for a notification of \"raised\""),
            "{failure}"
        );
        let again = cross(seed).unwrap_err();
        assert_eq!((again.trace, again.report), (failure.trace, failure.report));
        told += 1;
    }
    assert!((1..50).contains(&told), "{told} of 50");
}

/// A mailbox with a planted defect: the receiver looks without the lock that it then waits under.
fn lost_wakeup(careful: bool) {
    struct Mailbox {
        full: Mutex<bool>,
        filled: CondVar,
    }
    let mailbox = Arc::try_new(Mailbox {
        full: Mutex::try_new(false, lock_class!("full")).unwrap(),
        filled: CondVar::try_new(lock_class!("filled")).unwrap(),
    })
    .unwrap();
    let theirs = mailbox.clone();
    let sender = start(move || {
        *theirs.full.lock() = true;
        theirs.filled.notify_one();
    });
    if careful {
        let mut full = mailbox.full.lock();
        mailbox.filled.wait_while(&mut full, |full| !*full);
    } else {
        let empty = !*mailbox.full.lock();
        if empty {
            let mut full = mailbox.full.lock();
            mailbox.filled.wait(&mut full);
        }
    }
    sender.join();
}

#[test]
fn a_lost_wakeup_is_found_by_trying_seeds() {
    let found = (0..1000).find_map(|seed| World::new(seed).run(|| lost_wakeup(false)).err());
    let failure = found.expect("1000 seeds, and not one lost the wake-up");
    assert_eq!(failure.kind, Kind::Deadlock, "{failure}");
    assert!(
        failure
            .report
            .contains("waits for a notification of \"filled\""),
        "{failure}"
    );
    let again = World::new(failure.seed)
        .run(|| lost_wakeup(false))
        .unwrap_err();
    assert_eq!(again.trace, failure.trace);
    for seed in 0..1000 {
        World::new(seed).run(|| lost_wakeup(true)).unwrap();
    }
}

#[test]
fn a_lost_wakeup_is_found_by_standing_still_at_each_point() {
    let world = |n, careful| {
        World::new(n).calm().run(move || {
            stand_still(n);
            lost_wakeup(careful);
            has_stood_still()
        })
    };
    let careful = |n| world(n, true).unwrap().value;
    let points = (0..).take_while(|n| careful(*n)).count() as u64;
    let failed: Vec<super::Failure> = (0..points).filter_map(|n| world(n, false).err()).collect();
    assert!(!failed.is_empty(), "{points} points");
    assert!(failed.iter().all(|f| f.kind == Kind::Deadlock));
}

/// Two write down what they do next to each other; one stands still at one point, the other at another.
#[test]
fn who_stood_still_first_goes_on_first() {
    fn orders(one: u64, other: u64) -> Vec<u32> {
        let world = World::new(one ^ other).calm().run(move || {
            let log =
                Arc::try_new(Mutex::try_new(Vec::new(), lock_class!("log")).unwrap()).unwrap();
            let write = |log: &Mutex<Vec<u32>>, n: u32| (0..2).for_each(|i| log.lock().push(n + i));
            let theirs = log.clone();
            let worker = start(move || {
                stand_still(other);
                write(&theirs, 10);
            });
            stand_still(one);
            write(&log, 0);
            worker.join();
            let written = log.lock().clone();
            written
        });
        world.unwrap().value
    }
    // Each takes a lock and releases it, twice.
    assert_eq!(orders(9, 9), [0, 1, 10, 11]);
    assert_eq!(orders(0, 9), [10, 11, 0, 1]);
    assert_eq!(orders(2, 9), [0, 10, 11, 1]);
    assert_eq!(orders(0, 2), [10, 0, 1, 11]);
    assert_eq!(orders(2, 0), [0, 1, 10, 11]);
    assert_eq!(orders(2, 2), [0, 10, 1, 11]);
}

#[test]
fn a_condition_looked_at_once_is_found_by_spurious_wakeups() {
    fn once() -> bool {
        let ready = Arc::try_new(Mutex::try_new(false, lock_class!("ready")).unwrap()).unwrap();
        let changed = Arc::try_new(CondVar::try_new(lock_class!("changed")).unwrap()).unwrap();
        let (r, c) = (ready.clone(), changed.clone());
        let _worker = start(move || {
            for _ in 0..5 {
                work::yield_now();
            }
            *r.lock() = true;
            c.notify_one();
        });
        let mut guard = ready.lock();
        if !*guard {
            changed.wait(&mut guard);
        }
        *guard
    }
    let wrong = |world: World| {
        (0..300)
            .filter(|&s| {
                !World {
                    seed: s,
                    ..world.clone()
                }
                .run(once)
                .unwrap()
                .value
            })
            .count()
    };
    assert_eq!(wrong(World::new(0)), 0);
    assert!(wrong(World::new(0).spurious_wakeups(3)) > 0);
}

#[test]
fn polling_for_ever_is_ended() {
    let failure = World::new(0)
        .step_limit(1000)
        .run(|| loop {
            work::yield_now();
        })
        .map(|o: super::Outcome<()>| o.value)
        .unwrap_err();
    assert_eq!(failure.kind, Kind::StepLimit);
}

#[test]
fn the_allocations_of_a_world_share_one_count() {
    let failed = World::new(0).run(|| {
        failpoint::fail_nth(5);
        let workers: Vec<bool> = (0..4)
            .map(|_| Worker::try_spawn(lock_class!("allocating"), || drop(Box::try_new(1))).is_ok())
            .collect();
        (workers, failpoint::off())
    });
    let (workers, tally) = failed.unwrap().value;
    assert_eq!(workers.len(), 4);
    assert_eq!(
        tally.asked,
        8 - workers.iter().filter(|&&w| !w).count() as u64
    );
    assert_eq!(tally.failed, 1);
}

#[test]
fn outside_of_worlds_there_is_none() {
    assert!(!super::active());
    assert_eq!(random(), None);
    assert!(World::new(0).run(super::active).unwrap().value);
    assert!(!super::active());
}
