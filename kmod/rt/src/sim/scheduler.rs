// SPDX-License-Identifier: GPL-2.0

//! Who runs next. One mutex guards all of a world's state; whoever holds the baton is the only one to want it.

use super::state::Holding;
use super::state::Op;
use super::state::Place;
use super::state::Resource;
use super::state::State;
use super::state::Status;
use super::state::Task;
use super::state::TaskId;
use super::state::Waiting;
use super::Failure;
use super::Kind;
use super::Outcome;
use super::World;
use crate::failpoint::Injector;
use crate::sync::order;
use crate::sync::Wake;
use core::cell::Cell;
use core::cell::RefCell;
use core::panic::Location;
use std::any::Any;
use std::panic::catch_unwind;
use std::panic::AssertUnwindSafe;
use std::string::String;
use std::string::ToString;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::thread;

/// How a thread is told that it is its turn.
pub(super) struct Baton {
    mine: Mutex<bool>,
    given: Condvar,
}

impl Baton {
    fn give(&self) {
        *self.mine.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.given.notify_one();
    }

    fn take(&self) {
        let mut mine = self.mine.lock().unwrap_or_else(PoisonError::into_inner);
        while !*mine {
            mine = self
                .given
                .wait(mine)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *mine = false;
    }
}

/// A world while it runs.
pub(crate) struct Scheduler {
    state: Mutex<State>,
    /// Told when `State::over` is set.
    ended: Condvar,
}

impl Scheduler {
    pub(super) fn run<R, F>(world: &World, first: F) -> Result<Outcome<R>, Failure>
    where
        R: Send + 'static,
        F: FnOnce() -> R + Send + 'static,
    {
        let scheduler = Arc::new(Scheduler {
            state: Mutex::new(State::new(world)),
            ended: Condvar::new(),
        });
        let result = Arc::new(Mutex::new(None));
        let slot = result.clone();
        let started = scheduler.start("first", move || {
            let value = first();
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        let mut state = scheduler.lock();
        if started.is_none() {
            return Err(state.failure(Kind::Panic, "the operating system starts no thread"));
        }
        state.tasks[0].baton.give();
        let over = loop {
            match state.over.take() {
                Some(over) => break over,
                None => {
                    state = scheduler
                        .ended
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        };
        over?;
        let threads = core::mem::take(&mut state.threads);
        let (trace, steps, elapsed_ns) = (state.trace, state.steps, state.now);
        drop(state);
        for thread in threads {
            // A task's panic was caught in its thread.
            let _ = thread.join();
        }
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Outcome {
            value: value.expect("the first task has ended"),
            trace,
            steps,
            elapsed_ns,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock would be a defect of this file; the state says what led to it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a task; it first runs when it is chosen. None if the operating system refuses a thread.
    pub(super) fn start(
        self: &Arc<Self>,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> Option<TaskId> {
        let baton = Arc::new(Baton {
            mine: Mutex::new(false),
            given: Condvar::new(),
        });
        let mut state = self.lock();
        let me = state.tasks.len();
        let current = Current {
            world: self.clone(),
            me,
        };
        let my_baton = baton.clone();
        let thread = thread::Builder::new()
            .name(name.to_string())
            .spawn(move || current.live(&my_baton, body))
            .ok()?;
        state.threads.push(thread);
        state.add(Task::new(name, baton));
        Some(TaskId(me))
    }

    /// Ends the run. The calling thread, like all others of the world, never goes on: nobody gives it the baton.
    fn fail(&self, mut state: MutexGuard<'_, State>, kind: Kind, why: &str) -> ! {
        let failure = state.failure(kind, why);
        state.over = Some(Err(failure));
        self.ended.notify_all();
        drop(state);
        loop {
            thread::park();
        }
    }

    /// Gives the baton to whoever is chosen, and returns when the caller has it again; at once if the caller is done.
    fn switch(&self, mut state: MutexGuard<'_, State>, me: usize) {
        let Some(next) = state.choose() else {
            if state.tasks.iter().any(|t| t.status != Status::Done) {
                self.fail(state, Kind::Deadlock, "no task can ever go on");
            }
            state.over = Some(Ok(()));
            self.ended.notify_all();
            return;
        };
        if next == me {
            return;
        }
        let theirs = state.tasks[next].baton.clone();
        let mine = state.tasks[me].baton.clone();
        let done = state.tasks[me].status == Status::Done;
        drop(state);
        theirs.give();
        if !done {
            mine.take();
        }
    }
}

thread_local! {
    /// The one thing that code outside of any world pays for.
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// Whether the calling thread is a task of a world.
pub(crate) fn is_simulated() -> bool {
    IN_WORLD.get()
}

/// The calling task, if it is one.
#[inline]
pub(crate) fn current() -> Option<Current> {
    if IN_WORLD.get() {
        CURRENT.with_borrow(Clone::clone)
    } else {
        None
    }
}

/// A task, as seen by itself.
#[derive(Clone)]
pub(crate) struct Current {
    world: Arc<Scheduler>,
    me: usize,
}

fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else {
        "(no message)"
    }
}

impl Current {
    pub(super) fn world(&self) -> &Arc<Scheduler> {
        &self.world
    }

    /// A task's whole life, in its own thread.
    fn live(self, baton: &Baton, body: impl FnOnce()) {
        let Current { world, me } = self.clone();
        CURRENT.set(Some(self));
        IN_WORLD.set(true);
        baton.take();
        let result = catch_unwind(AssertUnwindSafe(body));
        let mut state = world.lock();
        if let Err(panic) = result {
            let why = std::format!(
                "task {me} \"{}\" panicked: {}",
                state.tasks[me].name,
                message(&*panic)
            );
            world.fail(state, Kind::Panic, &why);
        }
        state.step(me, Op::Exit, "");
        state.tasks[me].status = Status::Done;
        state.wake_all(Resource::Task(TaskId(me)));
        // What the thread still drops after its task's end must not come here again.
        IN_WORLD.set(false);
        CURRENT.set(None);
        world.switch(state, me);
    }

    fn stepped(&self, op: Op, name: &'static str) -> MutexGuard<'_, State> {
        let mut state = self.world.lock();
        if !state.step(self.me, op, name) {
            self.world.fail(state, Kind::StepLimit, "too many steps");
        }
        state
    }

    /// A place where another task may be let forward.
    pub(crate) fn point(&self, op: Op, name: &'static str) {
        let mut state = self.stepped(op, name);
        if state.stands_still(self.me) || state.lets_forward() {
            self.world.switch(state, self.me);
        }
    }

    /// A place where another task is let forward, if any can run.
    pub(crate) fn yield_now(&self) {
        let mut state = self.stepped(Op::Yield, "");
        state.stands_still(self.me);
        self.world.switch(state, self.me);
    }

    /// Waits until somebody wakes those who wait for `on`, or until the deadline.
    pub(crate) fn block(
        &self,
        on: Resource,
        name: &'static str,
        place: Place,
        deadline: Option<u64>,
    ) -> Wake {
        let mut state = self.stepped(Op::Block, name);
        let task = &mut state.tasks[self.me];
        task.status = Status::Blocked;
        task.waiting = Some(Waiting {
            on,
            name,
            place,
            deadline,
        });
        self.world.switch(state, self.me);
        self.world.lock().tasks[self.me].wake
    }

    #[track_caller]
    pub(crate) fn sleep(&self, ns: u64) {
        let place = Location::caller();
        let deadline = Some(self.now().saturating_add(ns));
        // It can only end one way.
        let _ = self.block(Resource::Time, "sleep", place, deadline);
    }

    /// Waits until the task has ended.
    #[track_caller]
    pub(crate) fn join(&self, task: TaskId) {
        let place = Location::caller();
        loop {
            let state = self.world.lock();
            if state.tasks[task.0].status == Status::Done {
                return;
            }
            let name = state.tasks[task.0].name;
            drop(state);
            let _ = self.block(Resource::Task(task), name, place, None);
        }
    }

    pub(crate) fn notify(&self, on: Resource, name: &'static str, all: bool) {
        let mut state = self.world.lock();
        if all {
            state.wake_all(on);
        } else {
            let candidates = state.waiters(|w| w.on == on);
            if !candidates.is_empty() {
                let id = candidates[state.below(candidates.len())];
                state.wake(id, Wake::Notified);
            }
        }
        drop(state);
        self.point(Op::Notify, name);
    }

    pub(crate) fn note_taken(&self, what: Resource, name: &'static str, place: Place) {
        let holding = Holding { what, name, place };
        self.world.lock().tasks[self.me].holding.push(holding);
    }

    /// Lets those forward who wait for this lock, but not before the caller next gives up the baton.
    pub(crate) fn note_released_quietly(&self, what: Resource) {
        let mut state = self.world.lock();
        let holding = &mut state.tasks[self.me].holding;
        if let Some(i) = holding.iter().rposition(|h| h.what == what) {
            holding.remove(i);
        }
        state.wake_all(what);
    }

    pub(crate) fn note_released(&self, what: Resource, name: &'static str) {
        self.note_released_quietly(what);
        // While a panic unwinds, nobody else should see what it leaves half done.
        if !thread::panicking() {
            self.point(Op::Release, name);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.world.lock().now
    }

    pub(crate) fn random(&self) -> u64 {
        self.world.lock().random()
    }

    pub(crate) fn stand_still(&self, n: u64) {
        self.world.lock().tasks[self.me].until_still = Some(n);
    }

    pub(crate) fn has_stood_still(&self) -> bool {
        self.world.lock().tasks[self.me]
            .until_still
            .take()
            .is_none()
    }

    pub(crate) fn trace(&self, value: u64) {
        let mut state = self.stepped(Op::Value, "");
        state.fold(value);
    }

    pub(crate) fn with_injector<R>(&self, f: impl FnOnce(&mut Injector) -> R) -> R {
        f(&mut self.world.lock().injector)
    }

    pub(crate) fn with_order<R>(&self, f: impl FnOnce(&mut order::Graph) -> R) -> R {
        f(&mut self.world.lock().order)
    }
}
