// SPDX-License-Identifier: GPL-2.0

use super::Queue;
use super::Worker;
use crate::failpoint;
use crate::lock_class;
use crate::sim::Kind;
use crate::sim::World;
use crate::time;
use crate::time::Duration;
use crate::Arc;
use crate::CondVar;
use crate::Mutex;
use crate::NoMem;
use std::panic::catch_unwind;
use std::panic::AssertUnwindSafe;

fn everywhere<R: PartialEq + core::fmt::Debug + Send + 'static>(expected: R, test: fn() -> R) {
    assert_eq!(test(), expected, "std");
    for seed in 0..50 {
        assert_eq!(
            World::new(seed).run(test).unwrap().value,
            expected,
            "seed {seed}"
        );
    }
}

fn counter() -> Arc<Mutex<u32>> {
    Arc::try_new(Mutex::try_new(0, lock_class!("counter")).unwrap()).unwrap()
}

#[test]
fn flush_waits_for_what_was_queued() {
    everywhere([10, 25], || {
        let queue = Queue::try_new(lock_class!("flushed"), 3).unwrap();
        let done = counter();
        let mut seen = [0; 2];
        for (seen, jobs) in seen.iter_mut().zip([10, 15]) {
            for _ in 0..jobs {
                let done = done.clone();
                let job = move || {
                    time::sleep(Duration::from_micros(10));
                    *done.lock() += 1;
                };
                queue.try_spawn(job).unwrap();
            }
            queue.flush();
            *seen = *done.lock();
        }
        seen
    });
}

#[test]
fn shutdown_runs_what_is_left() {
    everywhere(20, || {
        let queue = Queue::try_new(lock_class!("shut down"), 2).unwrap();
        let done = counter();
        for _ in 0..20 {
            let done = done.clone();
            queue.try_spawn(move || *done.lock() += 1).unwrap();
        }
        queue.shutdown();
        let n = *done.lock();
        n
    });
}

#[test]
fn one_at_a_time_runs_in_order() {
    everywhere(true, || {
        let queue = Queue::try_new(lock_class!("in order"), 1).unwrap();
        let last = counter();
        let order_kept =
            Arc::try_new(Mutex::try_new(true, lock_class!("order kept")).unwrap()).unwrap();
        for n in 1..=20 {
            let (last, order_kept) = (last.clone(), order_kept.clone());
            let job = move || {
                let mut last = last.lock();
                *order_kept.lock() &= *last + 1 == n;
                *last = n;
            };
            queue.try_spawn(job).unwrap();
        }
        queue.shutdown();
        let kept = *order_kept.lock();
        kept
    });
}

#[test]
fn each_kick_is_followed_by_a_run_and_runs_do_not_overlap() {
    everywhere((true, true, false), || {
        let queue = Queue::try_new(lock_class!("kicked"), 4).unwrap();
        let wanted = counter();
        let seen = counter();
        let inside = counter();
        let alone = Arc::try_new(Mutex::try_new(true, lock_class!("alone")).unwrap()).unwrap();
        let item = {
            let (wanted, seen, inside, alone) =
                (wanted.clone(), seen.clone(), inside.clone(), alone.clone());
            queue.try_item(move || {
                *inside.lock() += 1;
                let now_wanted = *wanted.lock();
                *seen.lock() = now_wanted;
                time::sleep(Duration::from_micros(1));
                if *inside.lock() != 1 {
                    *alone.lock() = false;
                }
                *inside.lock() -= 1;
            })
        };
        let item = item.unwrap();
        failpoint::fail_from(1);
        for _ in 0..50 {
            *wanted.lock() += 1;
            item.kick();
        }
        assert_eq!(failpoint::off().asked, 0, "a kick needs no memory");
        queue.flush();
        let all_seen = *seen.lock() == 50;
        queue.shutdown();
        let was_alone = *alone.lock();
        (all_seen, was_alone, item.kick())
    });
}

#[test]
fn a_worker_lives_until_it_is_told() {
    everywhere(5, || {
        struct Shared {
            state: Mutex<(u32, bool)>,
            changed: CondVar,
        }
        let shared = Arc::try_new(Shared {
            state: Mutex::try_new((0, false), lock_class!("state")).unwrap(),
            changed: CondVar::try_new(lock_class!("changed")).unwrap(),
        })
        .unwrap();
        let theirs = shared.clone();
        let worker = Worker::try_spawn(lock_class!("worker"), move || {
            let mut state = theirs.state.lock();
            while !state.1 {
                theirs.changed.wait_idle(&mut state);
            }
            state.0 += 5;
        })
        .unwrap();
        time::sleep(Duration::from_micros(5));
        shared.state.lock().1 = true;
        shared.changed.notify_all();
        worker.join();
        let n = shared.state.lock().0;
        n
    });
}

#[test]
fn a_worker_that_nobody_stops_is_reported() {
    let failure = World::new(3)
        .run(|| {
            let worker = Worker::try_spawn(lock_class!("forgotten"), || {
                let m = Mutex::try_new((), lock_class!("idle lock")).unwrap();
                let c = CondVar::try_new(lock_class!("idle place")).unwrap();
                let mut guard = m.lock();
                c.wait_idle(&mut guard);
            });
            core::mem::forget(worker);
        })
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Deadlock);
    assert!(
        failure.report.contains("forgotten") && failure.report.contains("idle place"),
        "{failure}"
    );
}

#[test]
fn a_flush_under_a_lock_that_jobs_take_is_told() {
    fn flush_under_lock() {
        let queue = Queue::try_new(lock_class!("the queue"), 1).unwrap();
        let done = counter();
        let theirs = done.clone();
        queue.try_spawn(move || *theirs.lock() += 1).unwrap();
        queue.flush();
        let _held = done.lock();
        queue.flush();
    }
    let failure = World::new(1).run(flush_under_lock).unwrap_err();
    assert!(failure.report.contains("lock order inversion"), "{failure}");
    assert!(
        failure.report.contains("the queue") && failure.report.contains("counter"),
        "{failure}"
    );
    if cfg!(debug_assertions) {
        assert!(catch_unwind(flush_under_lock).is_err());
    }
}

#[test]
fn without_memory_no_job_is_half_queued() {
    let queue = Queue::try_new(lock_class!("short"), 1).unwrap();
    let done = counter();
    for n in 1.. {
        let theirs = done.clone();
        failpoint::fail_nth(n);
        let result = queue.try_spawn(move || *theirs.lock() += 1);
        if failpoint::off().failed == 0 {
            assert_eq!(result, Ok(()));
            break;
        }
        assert_eq!(result, Err(NoMem));
    }
    queue.flush();
    assert_eq!(*done.lock(), 1);
    for n in 1.. {
        failpoint::fail_nth(n);
        let queue =
            Queue::try_new(lock_class!("not made"), 2).map(|q| q.try_item(|| ()).map(|i| i.kick()));
        if failpoint::off().failed == 0 {
            assert_eq!(queue, Ok(Ok(true)));
            break;
        }
        assert!(queue != Ok(Ok(true)));
    }
}

#[test]
fn a_panic_of_a_job_is_passed_on() {
    let queue = Queue::try_new(lock_class!("panics"), 1).unwrap();
    queue.try_spawn(|| panic!("on purpose")).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| queue.flush())).is_err());
    queue.try_spawn(|| ()).unwrap();
    queue.flush();

    let failure = World::new(0)
        .run(|| {
            let queue = Queue::try_new(lock_class!("panics"), 1).unwrap();
            queue.try_spawn(|| panic!("on purpose")).unwrap();
            queue.flush();
        })
        .unwrap_err();
    assert_eq!(failure.kind, Kind::Panic);
    assert!(failure.report.contains("on purpose"), "{failure}");
}
