// SPDX-License-Identifier: GPL-2.0

//! Worlds in which everything that the engine waits for happens in an order drawn from one seed.
//!
//! A world's tasks are threads of the operating system that pass one baton: exactly one runs, all others sleep. At each
//! *point* (before a lock is taken, after one is released, at waits, notifications, sleeps, the start of a task, an
//! explicit yield) the seed decides who goes on. Nothing else decides anything, so the same seed gives the same
//! schedule; [`Outcome::trace`] is a hash of every step taken and proves it. How eagerly a world switches between tasks
//! is drawn from the seed as well: some seeds run tasks for long, others interleave at almost every point.
//!
//! Time is virtual. It stands still while any task can run, and then jumps to the next deadline. If there is none, and
//! tasks are left, they can never go on: the run ends with a report of who waits for what, and who holds it. A run
//! is only over when all its tasks are, so a worker that nobody stops is reported, too.
//!
//! Where chance finds the moment that matters too rarely, a world is told to be [calm](World::calm), and a task to stand
//! still at one point: a test that has it do so at each of its points in turn has tried them all.
//!
//! A world repeats only if its tasks do: they must not ask std for time, hash maps with random seeds, threads, or
//! addresses. [`random`] gives them chance that repeats.
//!
//! A run that fails leaves its threads asleep for ever, since they cannot be unwound in a sensible order.

mod scheduler;
mod state;

use scheduler::Scheduler;
use std::fmt;
use std::string::String;
use std::sync::Arc;

pub(crate) use scheduler::current;
pub(crate) use scheduler::is_simulated;
pub(crate) use state::Op;
pub(crate) use state::Resource;
pub(crate) use state::TaskId;

/// What the wall clock shows when a world begins: 2030-01-01, so that it is never mistaken for the real one.
pub(crate) const WALL_CLOCK_AT_START: u64 = 1_893_456_000_000_000_000;

/// A world to be run once.
#[derive(Debug, Clone)]
#[must_use]
pub struct World {
    seed: u64,
    step_limit: u64,
    holds: bool,
    is_calm: bool,
    spurious_one_in: u64,
}

/// What came of a run that ended well.
#[derive(Debug)]
pub struct Outcome<R> {
    /// What the first task returned.
    pub value: R,
    /// A hash of every step that was taken, in order.
    pub trace: u64,
    /// How many steps that were.
    pub steps: u64,
    /// How much virtual time went by, in nanoseconds.
    pub elapsed_ns: u64,
}

/// Why a run did not end well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Tasks are left, none can run, and none waits for time to pass.
    Deadlock,
    /// A task panicked; a lock order inversion does that as well.
    Panic,
    /// The limit of steps was reached: two tasks wait for each other by polling, or the limit is too low.
    StepLimit,
}

/// A run that did not end well.
pub struct Failure {
    /// In which way.
    pub kind: Kind,
    /// The seed with which it happens again.
    pub seed: u64,
    /// A hash of every step that was taken, in order.
    pub trace: u64,
    /// Who waits for what, and the last steps, for people.
    pub report: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} with seed {}: {}",
            self.kind, self.seed, self.report
        )
    }
}

// What `unwrap` prints: the report should keep its lines.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

impl World {
    /// A world in which all chance comes from `seed`.
    pub fn new(seed: u64) -> Self {
        World {
            seed,
            step_limit: 1 << 24,
            holds: false,
            is_calm: false,
            spurious_one_in: 0,
        }
    }

    /// Ends the run with [`Kind::StepLimit`] after so many steps.
    pub fn step_limit(mut self, steps: u64) -> Self {
        self.step_limit = steps;
        self
    }

    /// In half of all worlds, tasks are held back now and then, while the others take up to thousands of steps.
    pub fn holding(mut self) -> Self {
        self.holds = true;
        self
    }

    /// A task that could go on does so, unless it yields or [stands still](stand_still), as one that is started does before
    /// anything else.
    pub fn calm(mut self) -> Self {
        self.is_calm = true;
        self
    }

    /// At about one in `n` points, one task that waits for a condition is woken for no reason, as the kernel may do.
    ///
    /// Off unless asked for: such wake-ups expose code that does not look at its condition again, but they hide
    /// notifications that went lost.
    pub fn spurious_wakeups(mut self, n: u64) -> Self {
        self.spurious_one_in = n;
        self
    }

    /// Runs `first` as the first task, and everything that it starts, until all tasks have ended.
    pub fn run<R, F>(self, first: F) -> Result<Outcome<R>, Failure>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        Scheduler::run(&self, first)
    }
}

/// Whether the calling thread is a task of a simulated world.
pub fn active() -> bool {
    is_simulated()
}

/// The next number of the world's own chance.
///
/// None outside of a world.
pub fn random() -> Option<u64> {
    current().map(|task| task.random())
}

/// At its `n`-th point from here, counted from zero, the calling task stands still until all others have ended, wait for more
/// than time, or began to stand still later.
pub fn stand_still(n: u64) {
    if let Some(task) = current() {
        task.stand_still(n);
    }
}

/// Whether the calling task has stood still since it was told to; if it has not, it does not any more.
pub fn has_stood_still() -> bool {
    current().is_some_and(|task| task.has_stood_still())
}

/// Makes `value` part of the trace, so that two runs that differ in it are told apart.
pub fn trace(value: u64) {
    if let Some(task) = current() {
        task.trace(value);
    }
}

/// Spreads what distinguishes two numbers over all bits (the finisher of splitmix64).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Starts a task in the world of the calling task.
pub(crate) fn spawn(
    parent: &scheduler::Current,
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Option<TaskId> {
    let world: &Arc<Scheduler> = parent.world();
    let id = world.start(name, body)?;
    parent.point(Op::Spawn, name);
    Some(id)
}

#[cfg(test)]
mod tests;
