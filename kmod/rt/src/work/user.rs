// SPDX-License-Identifier: GPL-2.0

//! Work in userspace: threads, or tasks of a simulated world. Queues are made of this crate's own locks, so that the
//! scheduler sees all that happens in them.

use super::Repeatable;
use crate::alloc::admit;
use crate::alloc::NoMem;
use crate::lock_class;
use crate::sim;
use crate::sync::order;
use crate::Box;
use crate::CondVar;
use crate::LockClass;
use crate::Mutex;
use core::panic::Location;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::panic::AssertUnwindSafe;
use std::string::ToString;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

type Panic = std::boxed::Box<dyn Any + Send>;

/// A thread of whichever kind the calling thread is.
enum Thread {
    Std(thread::JoinHandle<()>),
    Simulated(sim::TaskId),
}

impl Thread {
    fn start(
        class: &'static LockClass,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<Self, NoMem> {
        match sim::current() {
            Some(task) => sim::spawn(&task, class.name(), body).map(Thread::Simulated),
            None => thread::Builder::new()
                .name(class.name().to_string())
                .spawn(body)
                .ok()
                .map(Thread::Std),
        }
        .ok_or(NoMem)
    }

    /// Waits for its end; what it panicked with, if it did. In a world, a panic has ended the world already.
    #[track_caller]
    fn join(self) -> Result<(), Panic> {
        match self {
            Thread::Std(thread) => thread.join(),
            Thread::Simulated(id) => {
                if let Some(task) = sim::current() {
                    task.join(id);
                }
                Ok(())
            }
        }
    }
}

/// Passes on a panic of the background, unless this thread has one of its own.
fn pass_on(result: Result<(), Panic>) {
    if let Err(panic) = result {
        if !thread::panicking() {
            resume_unwind(panic);
        }
    }
}

/// Tells the lock-order checker that the caller waits for something of this class.
fn as_if_taken(class: &'static LockClass, place: &'static Location<'static>) {
    order::about_to_take(class, place);
}

/// Tells the lock-order checker that what `f` does is done "under" this class.
fn under<R>(class: &'static LockClass, f: impl FnOnce() -> R) -> R {
    struct Under(&'static LockClass);
    impl Drop for Under {
        fn drop(&mut self) {
            order::released(self.0);
        }
    }
    order::taken(class, Location::caller());
    let _under = Under(class);
    f()
}

struct ItemInner {
    job: Box<Repeatable>,
}

enum Job {
    Once(std::boxed::Box<dyn FnOnce() + Send>),
    Item(Arc<ItemInner>),
}

impl Job {
    fn is(&self, item: &Arc<ItemInner>) -> bool {
        matches!(self, Job::Item(i) if Arc::ptr_eq(i, item))
    }
}

struct Running {
    number: u64,
    /// The item's address, to tell it from others. Not an owner: what a job owns ends in [`Shared::run`], outside of
    /// the queue's lock.
    item: Option<usize>,
}

struct State {
    /// With the number that each got when it was queued. Always has room for each item once.
    waiting: VecDeque<(u64, Job)>,
    /// Always has room for as many as there are threads.
    running: Vec<Running>,
    next_number: u64,
    items: usize,
    ending: bool,
    panic: Option<Panic>,
}

impl State {
    /// Room for one more job, beside one of each item.
    fn reserve(&mut self) -> Result<(), NoMem> {
        let room = self.items + 1;
        if self.waiting.capacity() - self.waiting.len() < room {
            admit()?;
            self.waiting.try_reserve(room).map_err(|_| NoMem)?;
        }
        Ok(())
    }

    fn push(&mut self, job: Job) {
        self.waiting.push_back((self.next_number, job));
        self.next_number += 1;
    }

    /// The first job that may run: an item that runs just now has to wait for itself.
    fn take(&mut self) -> Option<(u64, Job)> {
        let runs = |item: &Arc<ItemInner>| {
            let address = Some(Arc::as_ptr(item).addr());
            self.running.iter().any(|r| r.item == address)
        };
        let i = self.waiting.iter().position(|(_, job)| match job {
            Job::Once(_) => true,
            Job::Item(item) => !runs(item),
        })?;
        self.waiting.remove(i)
    }

    fn done_before(&self, number: u64) -> bool {
        self.waiting.iter().all(|&(n, _)| n >= number)
            && self.running.iter().all(|r| r.number >= number)
    }
}

struct Shared {
    class: &'static LockClass,
    state: Mutex<State>,
    /// There is something to do, or nothing more ever.
    todo: CondVar,
    /// A job has ended.
    ended: CondVar,
}

impl Shared {
    /// What each of the queue's threads does.
    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            let Some((number, job)) = state.take() else {
                if state.ending {
                    // What may be left are items that run just now; whoever runs them takes them next.
                    return;
                }
                self.todo.wait_idle(&mut state);
                continue;
            };
            let item = match &job {
                Job::Once(_) => None,
                Job::Item(item) => Some(Arc::as_ptr(item).addr()),
            };
            state.running.push(Running { number, item });
            drop(state);
            let result = self.run(job);
            state = self.state.lock();
            state.running.retain(|r| r.number != number);
            if let Err(panic) = result {
                state.panic.get_or_insert(panic);
            }
            self.ended.notify_all();
            // A kick may have come for the very item that kept everybody else from taking it.
            if !state.waiting.is_empty() || state.ending {
                self.todo.notify_all();
            }
        }
    }

    fn run(&self, job: Job) -> Result<(), Panic> {
        let body = || {
            under(self.class, || match job {
                Job::Once(job) => job(),
                Job::Item(item) => (item.job)(),
            })
        };
        if sim::is_simulated() {
            // The world wants to see the panic where it happens.
            body();
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(body))
    }

    fn end(&self) {
        self.state.lock().ending = true;
        self.todo.notify_all();
    }
}

pub(super) struct Queue {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
}

impl Queue {
    pub(super) fn try_new(class: &'static LockClass, at_once: u16) -> Result<Self, NoMem> {
        let state = State {
            waiting: VecDeque::new(),
            running: Vec::with_capacity(usize::from(at_once)),
            next_number: 0,
            items: 0,
            ending: false,
            panic: None,
        };
        let mut queue = Queue {
            shared: Arc::new(Shared {
                class,
                state: Mutex::try_new(state, lock_class!("work queue"))?,
                todo: CondVar::try_new(lock_class!("work queue: todo"))?,
                ended: CondVar::try_new(lock_class!("work queue: ended"))?,
            }),
            threads: Vec::new(),
        };
        for _ in 0..at_once {
            let shared = queue.shared.clone();
            // If one cannot be started, dropping the queue ends those that were.
            queue
                .threads
                .push(Thread::start(class, move || shared.serve())?);
        }
        Ok(queue)
    }

    pub(super) fn try_spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), NoMem> {
        let job = Job::Once(std::boxed::Box::new(job));
        let mut state = self.shared.state.lock();
        state.reserve()?;
        state.push(job);
        drop(state);
        self.shared.todo.notify_one();
        Ok(())
    }

    pub(super) fn try_item(&self, job: Box<Repeatable>) -> Result<Item, NoMem> {
        let mut state = self.shared.state.lock();
        state.reserve()?;
        state.items += 1;
        drop(state);
        Ok(Item {
            shared: self.shared.clone(),
            inner: Arc::new(ItemInner { job }),
        })
    }

    #[track_caller]
    pub(super) fn flush(&self) {
        as_if_taken(self.shared.class, Location::caller());
        let mut state = self.shared.state.lock();
        let until = state.next_number;
        self.shared
            .ended
            .wait_while(&mut state, |s| !s.done_before(until));
        let panic = state.panic.take();
        drop(state);
        pass_on(panic.map_or(Ok(()), Err));
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        as_if_taken(self.shared.class, Location::caller());
        self.shared.end();
        for thread in self.threads.drain(..) {
            pass_on(thread.join());
        }
        let panic = self.shared.state.lock().panic.take();
        pass_on(panic.map_or(Ok(()), Err));
    }
}

pub(super) struct Item {
    shared: Arc<Shared>,
    inner: Arc<ItemInner>,
}

impl Item {
    pub(super) fn kick(&self) -> bool {
        let mut state = self.shared.state.lock();
        if state.ending || state.waiting.iter().any(|(_, job)| job.is(&self.inner)) {
            return false;
        }
        state.push(Job::Item(self.inner.clone()));
        drop(state);
        self.shared.todo.notify_one();
        true
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        self.shared.state.lock().items -= 1;
    }
}

pub(super) struct Worker {
    class: &'static LockClass,
    thread: Option<Thread>,
}

impl Worker {
    pub(super) fn try_spawn(
        class: &'static LockClass,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<Self, NoMem> {
        let thread = Thread::start(class, move || under(class, job))?;
        Ok(Worker {
            class,
            thread: Some(thread),
        })
    }

    pub(super) fn join(&mut self) {
        as_if_taken(self.class, Location::caller());
        if let Some(thread) = self.thread.take() {
            pass_on(thread.join());
        }
    }
}

pub(super) fn yield_now() {
    match sim::current() {
        Some(task) => task.yield_now(),
        None => thread::yield_now(),
    }
}
