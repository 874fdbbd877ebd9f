// SPDX-License-Identifier: GPL-2.0

//! Work in the background: queues of short jobs, and workers that live as long as what they serve.
//!
//! Dropping a queue or a worker waits until all that it was given has ended, so code and data that jobs use outlive
//! them, and a module can be unloaded. A queue must therefore not be dropped or flushed by one of its own jobs, nor by
//! someone who holds a lock that a job takes; both are told by the lock-order checkers, to which a running job "holds"
//! its queue's class and a flush "takes" it.
//!
//! Jobs run in process context and may sleep. They make progress under memory pressure (the kernel's queues have a
//! rescuer), as long as they themselves do not need memory for it.

use crate::alloc;
use crate::alloc::NoMem;
use crate::Box;
use crate::LockClass;
use core::fmt;

#[cfg(embr_kernel)]
#[path = "work/kernel.rs"]
mod imp;

#[cfg(not(embr_kernel))]
#[path = "work/user.rs"]
mod imp;

/// What an [`Item`] does.
type Repeatable = dyn Fn() + Send + Sync;

/// A queue of jobs that run in the background, several at a time, begun in the order in which they came.
pub struct Queue(imp::Queue);

impl Queue {
    /// A queue that runs at most `at_once` jobs at the same time (one is the least). Its class names it.
    pub fn try_new(class: &'static LockClass, at_once: u16) -> Result<Self, NoMem> {
        imp::Queue::try_new(class, at_once.max(1)).map(Queue)
    }

    /// Queues a job that runs once. When memory is short it is dropped without being run.
    pub fn try_spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), NoMem> {
        alloc::admit()?;
        self.0.try_spawn(job)
    }

    /// A job that can be queued again and again without needing memory, for what must not fail.
    pub fn try_item(&self, job: impl Fn() + Send + Sync + 'static) -> Result<Item, NoMem> {
        let job = Box::try_new(job)?.unsize::<Repeatable>(|raw| raw);
        self.0.try_item(job).map(Item)
    }

    /// Waits until every job that was queued before this call has ended.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn flush(&self) {
        self.0.flush();
    }

    /// Waits until all jobs have ended, and ends the queue. Dropping it does the same.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn shutdown(self) {
        drop(self);
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queue { .. }")
    }
}

/// A job that can be queued again and again; see [`Queue::try_item`].
pub struct Item(imp::Item);

impl Item {
    /// Sees to it that the job runs, from its beginning, after this call. It never runs twice at the same time, and
    /// kicks that come before a run has begun are one. In the kernel that may be done in atomic context.
    ///
    /// False if there is nothing to do because the job waits for its turn already, or because the queue has ended.
    pub fn kick(&self) -> bool {
        self.0.kick()
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item { .. }")
    }
}

/// A thread of its own for one long job, which must be told by other means to end.
pub struct Worker(imp::Worker);

impl Worker {
    /// Starts `job` in the background. Its class names it. When memory is short `job` is dropped without being run.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn try_spawn(
        class: &'static LockClass,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<Self, NoMem> {
        alloc::admit()?;
        imp::Worker::try_spawn(class, job).map(Worker)
    }

    /// Waits until the job has ended. Dropping the worker does the same.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn join(self) {
        drop(self);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.join();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Worker { .. }")
    }
}

/// Lets others forward, if somebody else wants to run. Long loops do so now and then.
pub fn yield_now() {
    imp::yield_now();
}

#[cfg(all(test, not(embr_kernel)))]
mod tests;
