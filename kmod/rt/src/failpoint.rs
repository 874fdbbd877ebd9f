// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail on purpose, so that every "out of memory" path can be walked in a test.
//!
//! Inside a simulated world the counter belongs to the world, all its tasks share it, and it repeats with the seed.
//! Elsewhere it belongs to the calling thread, so that tests that run side by side do not disturb each other.
//!
//! The usual shape of a test: let allocation 1 fail, then 2, and so on, until a run ends in which none failed.
//!
//! ```
//! use embr_rt::failpoint;
//! use embr_rt::Vec;
//!
//! for n in 1.. {
//!     failpoint::fail_nth(n);
//!     let result = Vec::try_from_slice(&[1, 2, 3]);
//!     if failpoint::off().failed == 0 {
//!         assert!(result.is_ok());
//!         break;
//!     }
//!     assert!(result.is_err());
//! }
//! ```

use crate::alloc::NoMem;
use crate::sim;
use core::cell::Cell;

/// What happened since a plan was armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Allocations that were asked for.
    pub asked: u64,
    /// Those of them that were made to fail.
    pub failed: u64,
}

/// Which allocations fail.
#[derive(Debug, Clone, Copy)]
enum Plan {
    Off,
    Nth(u64),
    From(u64),
    OneIn { n: u64, seed: u64 },
}

/// A plan and how far it has come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Injector {
    plan: Plan,
    tally: Tally,
}

impl Injector {
    pub(crate) const fn new() -> Self {
        Injector {
            plan: Plan::Off,
            tally: Tally {
                asked: 0,
                failed: 0,
            },
        }
    }

    pub(crate) fn fails(&mut self) -> bool {
        self.tally.asked += 1;
        let nth = self.tally.asked;
        let fails = match self.plan {
            Plan::Off => false,
            Plan::Nth(n) => nth == n,
            Plan::From(n) => nth >= n,
            // A hash of the number, not a stream: whether allocation 17 fails does not depend on 1 to 16.
            Plan::OneIn { n, seed } => n != 0 && sim::mix(seed ^ nth) % n == 0,
        };
        self.tally.failed += u64::from(fails);
        fails
    }
}

thread_local! {
    static OF_THREAD: Cell<Injector> = const { Cell::new(Injector::new()) };
}

fn with<R>(f: impl FnOnce(&mut Injector) -> R) -> R {
    if let Some(task) = sim::current() {
        return task.with_injector(f);
    }
    OF_THREAD.with(|cell| {
        let mut injector = cell.get();
        let r = f(&mut injector);
        cell.set(injector);
        r
    })
}

fn arm(plan: Plan) {
    with(|i| {
        *i = Injector {
            plan,
            ..Injector::new()
        }
    });
}

/// Lets the `n`th allocation from now on fail (the first is 1), and no other.
pub fn fail_nth(n: u64) {
    arm(Plan::Nth(n));
}

/// Lets the `n`th allocation from now on fail (the first is 1), and all that follow.
pub fn fail_from(n: u64) {
    arm(Plan::From(n));
}

/// Lets about one in `n` allocations fail; which ones follows from `seed`.
pub fn fail_one_in(n: u64, seed: u64) {
    arm(Plan::OneIn { n, seed });
}

/// Lets no more allocation fail, and tells what happened since the plan was armed.
pub fn off() -> Tally {
    with(|i| {
        let tally = i.tally;
        *i = Injector::new();
        tally
    })
}

/// What happened since the plan was armed.
pub fn tally() -> Tally {
    with(|i| i.tally)
}

pub(crate) fn admit() -> Result<(), NoMem> {
    if with(Injector::fails) {
        Err(NoMem)
    } else {
        Ok(())
    }
}
