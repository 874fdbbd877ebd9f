// SPDX-License-Identifier: GPL-2.0

//! Every test that can is run by std and by worlds, and must show the same.

use crate::lock_class;
use crate::sim::Kind;
use crate::sim::World;
use crate::time;
use crate::time::Duration;
use crate::time::Instant;
use crate::work::Worker;
use crate::Arc;
use crate::CondVar;
use crate::LockClass;
use crate::Mutex;
use crate::RwLock;
use crate::Vec;
use crate::Wake;
use std::panic::catch_unwind;
use std::string::String;

/// By std once, and by worlds of some seeds.
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

fn mutex<T>(value: T, class: &'static LockClass) -> Arc<Mutex<T>> {
    Arc::try_new(Mutex::try_new(value, class).unwrap()).unwrap()
}

fn start(job: impl FnOnce() + Send + 'static) -> Worker {
    Worker::try_spawn(lock_class!("test worker"), job).unwrap()
}

#[test]
fn a_mutex_lets_one_in() {
    everywhere((4, 400), || {
        let count = mutex((0, 0), lock_class!("count"));
        let workers = Vec::try_from_iter((0..4).map(|_| {
            let count = count.clone();
            start(move || {
                for _ in 0..100 {
                    let mut c = count.lock();
                    let old = c.1;
                    time::sleep(Duration::from_nanos(1));
                    c.1 = old + 1;
                }
                count.lock().0 += 1;
            })
        }));
        drop(workers);
        let c = count.lock();
        (c.0, c.1)
    });
}

#[test]
fn what_is_taken_cannot_be_tried() {
    everywhere([true, false, true, false, true, false, false, true], || {
        let m = mutex((), lock_class!("tried"));
        let rw = RwLock::try_new((), lock_class!("tried rw")).unwrap();
        let mut seen = [false; 8];
        seen[0] = m.try_lock().is_some();
        let guard = m.lock();
        seen[1] = m.try_lock().is_some();
        drop(guard);
        seen[2] = m.try_lock().is_some();
        let reader = rw.read();
        seen[3] = rw.try_write().is_some();
        seen[4] = rw.try_read().is_some();
        drop(reader);
        let writer = rw.write();
        seen[5] = rw.try_read().is_some();
        seen[6] = rw.try_write().is_some();
        drop(writer);
        seen[7] = rw.try_write().is_some();
        seen
    });
}

#[test]
fn readers_never_see_half_of_a_write() {
    everywhere(true, || {
        let pair = Arc::try_new(RwLock::try_new((0, 0), lock_class!("pair")).unwrap()).unwrap();
        let writers = Vec::try_from_iter((0..2).map(|_| {
            let pair = pair.clone();
            start(move || {
                for _ in 0..20 {
                    let mut p = pair.write();
                    p.0 += 1;
                    time::sleep(Duration::from_nanos(1));
                    p.1 += 1;
                }
            })
        }));
        let mut whole = true;
        for _ in 0..20 {
            let p = pair.read();
            whole &= p.0 == p.1;
        }
        drop(writers);
        let p = pair.read();
        whole && *p == (40, 40)
    });
}

#[test]
fn a_notified_wait_ends() {
    everywhere(30, || {
        let turn = mutex(0, lock_class!("turn"));
        let changed = Arc::try_new(CondVar::try_new(lock_class!("turn changed")).unwrap()).unwrap();
        let workers = Vec::try_from_iter((0..3).map(|me| {
            let (turn, changed) = (turn.clone(), changed.clone());
            start(move || {
                for _ in 0..10 {
                    let mut t = turn.lock();
                    changed.wait_while(&mut t, |t| *t % 3 != me);
                    *t += 1;
                    changed.notify_all();
                }
            })
        }));
        drop(workers);
        let t = *turn.lock();
        t
    });
}

#[test]
fn a_wait_with_a_limit_ends_by_itself() {
    everywhere((Wake::TimedOut, true), || {
        let m = mutex((), lock_class!("limit"));
        let never = CondVar::try_new(lock_class!("never")).unwrap();
        let before = Instant::now();
        let mut guard = m.lock();
        let limit = Duration::from_millis(2);
        // A wake-up for no reason is allowed; the limit then still has not passed.
        let mut wake = never.wait_timeout(&mut guard, limit);
        while wake == Wake::Notified {
            wake = never.wait_timeout(&mut guard, limit);
        }
        (wake, before.elapsed() >= limit)
    });
}

fn panic_text(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    match catch_unwind(f) {
        Ok(()) => String::new(),
        Err(p) => p.downcast_ref::<String>().cloned().unwrap_or_default(),
    }
}

fn invert() {
    let a = Mutex::try_new((), lock_class!("class A")).unwrap();
    let b = RwLock::try_new((), lock_class!("class B")).unwrap();
    let c = Mutex::try_new((), lock_class!("class C")).unwrap();
    {
        let _a = a.lock();
        let _b = b.read();
    }
    {
        let _b = b.write();
        let _c = c.lock();
    }
    let _c = c.lock();
    // C before A, although A before B before C. No deadlock ever comes of it in one thread.
    let _a = a.lock();
}

#[test]
fn an_inversion_is_told_though_nothing_hangs() {
    let failure = World::new(1).run(invert).unwrap_err();
    assert_eq!(failure.kind, Kind::Panic);
    for report in [failure.report, panic_text(invert)] {
        assert!(report.contains("lock order inversion"), "{report}");
        for class in ["class A", "class B", "class C"] {
            assert!(report.contains(class), "{report}");
        }
        assert!(report.contains("sync/tests.rs"), "{report}");
    }
}

#[test]
fn two_locks_of_one_class_are_told() {
    fn twice() {
        let [a, b] = [1, 2]
            .map(|n| (n, lock_class!("level")))
            .map(|(n, class)| Mutex::try_new(n, class).unwrap());
        let _a = a.lock();
        let _b = b.lock();
    }
    let failure = World::new(1).run(twice).unwrap_err();
    assert!(
        failure.report.contains("two locks of one class"),
        "{failure}"
    );
    assert!(panic_text(twice).contains("two locks of one class"));
}

#[test]
fn a_consistent_order_is_not_told() {
    everywhere((), || {
        let a = Mutex::try_new((), lock_class!("first")).unwrap();
        let b = Mutex::try_new((), lock_class!("second")).unwrap();
        for _ in 0..3 {
            let first = a.lock();
            let second = b.lock();
            // Released in another order than taken.
            drop(first);
            drop(second);
        }
        let _b = b.lock();
        // Trying cannot deadlock.
        assert!(a.try_lock().is_some());
    });
}

#[test]
fn a_lock_survives_a_panic() {
    let m = mutex(1, lock_class!("survivor"));
    let other = m.clone();
    let panicked = std::thread::spawn(move || {
        let _held = other.lock();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(*m.lock(), 1);
}

#[test]
fn locks_need_memory() {
    use crate::failpoint;
    failpoint::fail_from(1);
    assert!(Mutex::try_new((), lock_class!("m")).is_err());
    assert!(RwLock::try_new((), lock_class!("rw")).is_err());
    assert!(CondVar::try_new(lock_class!("c")).is_err());
    assert_eq!(failpoint::off().failed, 3);
}
