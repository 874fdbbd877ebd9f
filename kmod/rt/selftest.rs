// SPDX-License-Identifier: GPL-2.0

//! Runs the kernel back end of `embr_rt` once, when the module is loaded; loading fails if anything is wrong.
//!
//! With the parameter `invert=1` it takes two locks in both orders, which lockdep must report by their classes' names.
//! Never part of the filesystem's module.

#![forbid(unsafe_code)]

use embr_rt::lock_class;
use embr_rt::time::sleep;
use embr_rt::time::Duration;
use embr_rt::time::Instant;
use embr_rt::work;
use embr_rt::work::Queue;
use embr_rt::work::Worker;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::CondVar;
use embr_rt::Mutex;
use embr_rt::NoMem;
use embr_rt::RwLock;
use embr_rt::Vec;
use embr_rt::Wake;
use kernel::prelude::pr_err;
use kernel::prelude::pr_info;
use kernel::prelude::ThisModule;
use kernel::prelude::EINVAL;
use kernel::prelude::ENOMEM;

kernel::prelude::module! {
    type: SelfTest,
    name: "embr_rt_selftest",
    authors: ["the embrfs authors"],
    description: "Self-test of embr_rt",
    license: "GPL",
    params: {
        invert: u8 {
            default: 0,
            description: "take two locks in both orders, for lockdep to see",
        },
    },
}

struct SelfTest;

/// Why a test did not pass.
enum Flaw {
    Memory,
    Wrong(&'static str, u32),
}

impl From<NoMem> for Flaw {
    fn from(_: NoMem) -> Self {
        Flaw::Memory
    }
}

type Outcome = Result<(), Flaw>;
type Test = fn() -> Outcome;

macro_rules! check {
    ($what:expr) => {
        if !$what {
            return Err(Flaw::Wrong(stringify!($what), line!()));
        }
    };
}

fn containers() -> Outcome {
    let mut v = Vec::try_from_iter(0..1000u32)?;
    v.retain(|x| x % 2 == 0);
    v.insert(0, 7)?;
    check!(v.remove(0) == Some(7));
    check!(v.remove(5000).is_none());
    let tail = v.try_split_off(100)?;
    check!(v.len() == 100 && tail.len() == 400 && tail.first() == Some(&200));
    v.sort_unstable_by(|a, b| b.cmp(a));
    check!(v.iter().copied().eq((0..100).rev().map(|x| x * 2)));

    let zeroes = Vec::zeroed(1 << 20)?;
    check!(zeroes.iter().all(|&b| b == 0));
    let mut mixed = Vec::new();
    mixed.try_resize(100_000, 3u8)?;
    mixed.try_extend_from_slice(&zeroes)?;
    check!(mixed.into_iter().filter(|&b| b == 3).count() == 100_000);

    let a = Arc::try_new(5u32)?;
    let b = a.clone();
    check!(Arc::ptr_eq(&a, &b) && !Arc::is_unique(&a));
    check!(Arc::into_inner(a).is_none());
    check!(Arc::is_unique(&b));
    check!(Arc::into_inner(b) == Some(5));

    let add = Box::try_new(|x: u32| x + 1)?.unsize::<dyn Fn(u32) -> u32>(|raw| raw);
    check!(add(1) == 2);
    Ok(())
}

fn locks() -> Outcome {
    let mutex = Mutex::try_new(0, lock_class!("selftest mutex"))?;
    let rwlock = RwLock::try_new(0, lock_class!("selftest rwlock"))?;
    let never = CondVar::try_new(lock_class!("selftest never"))?;
    let mut held = mutex.lock();
    check!(mutex.try_lock().is_none());
    check!(rwlock.try_write().is_some());
    let reader = rwlock.read();
    check!(rwlock.try_write().is_none());
    drop(reader);
    *rwlock.write() += 1;
    check!(*rwlock.read() == 1);

    let begun = Instant::now();
    let limit = Duration::from_millis(20);
    check!(never.wait_timeout(&mut held, limit) == Wake::TimedOut);
    sleep(Duration::from_millis(30));
    sleep(Duration::from_micros(50));
    // Not how long it took, but that it did not end early.
    check!(begun.elapsed() >= Duration::from_millis(50));
    Ok(())
}

struct Shared {
    done: Mutex<u32>,
    changed: CondVar,
    seen: RwLock<Vec<u32>>,
    stop: Mutex<bool>,
}

fn background() -> Outcome {
    const JOBS: u32 = 200;
    let shared = Arc::try_new(Shared {
        done: Mutex::try_new(0, lock_class!("selftest done"))?,
        changed: CondVar::try_new(lock_class!("selftest changed"))?,
        seen: RwLock::try_new(Vec::new(), lock_class!("selftest seen"))?,
        stop: Mutex::try_new(false, lock_class!("selftest stop"))?,
    })?;
    shared.seen.write().try_reserve(JOBS as usize)?;
    let queue = Queue::try_new(lock_class!("selftest queue"), 4)?;
    for n in 0..JOBS {
        let shared = shared.clone();
        queue.try_spawn(move || {
            // Room was reserved; were it not, the count below would tell.
            let _ = shared.seen.write().push_within_capacity(n);
            *shared.done.lock() += 1;
            shared.changed.notify_all();
        })?;
    }
    let mut done = shared.done.lock();
    shared.changed.wait_while(&mut done, |n| *n < JOBS);
    drop(done);
    queue.flush();
    shared.seen.write().sort_unstable();
    check!(shared.seen.read().iter().copied().eq(0..JOBS));

    let theirs = shared.clone();
    let item = queue.try_item(move || *theirs.done.lock() += 1)?;
    let kicked = (0..1000).filter(|_| item.kick()).count() as u32;
    queue.flush();
    check!(*shared.done.lock() == JOBS + kicked);

    let theirs = shared.clone();
    let worker = Worker::try_spawn(lock_class!("selftest worker"), move || {
        let mut stop = theirs.stop.lock();
        while !*stop {
            theirs.changed.wait_idle(&mut stop);
        }
    })?;
    work::yield_now();
    *shared.stop.lock() = true;
    shared.changed.notify_all();
    worker.join();
    queue.shutdown();
    check!(!item.kick());
    drop(item);
    check!(Arc::is_unique(&shared));
    Ok(())
}

fn invert() -> Outcome {
    let a = Mutex::try_new((), lock_class!("selftest class A"))?;
    let b = RwLock::try_new((), lock_class!("selftest class B"))?;
    {
        let _a = a.lock();
        let _b = b.read();
    }
    let _b = b.write();
    let _a = a.lock();
    Ok(())
}

impl kernel::Module for SelfTest {
    fn init(_module: &'static ThisModule) -> kernel::error::Result<Self> {
        let mut tests = Vec::new();
        let mut add = |name, test: Test| tests.push((name, test)).map_err(|_| ENOMEM);
        add("containers", containers)?;
        add("locks", locks)?;
        add("background", background)?;
        if module_parameters::invert.value() != 0 {
            add("invert", invert)?;
        }
        for (name, test) in tests {
            match test() {
                Ok(()) => pr_info!("{name}: ok\n"),
                Err(Flaw::Memory) => return Err(ENOMEM),
                Err(Flaw::Wrong(what, line)) => {
                    pr_err!("{name}: line {line}: not so: {what}\n");
                    return Err(EINVAL);
                }
            }
        }
        Ok(SelfTest)
    }
}
