// SPDX-License-Identifier: GPL-2.0

//! Work in the kernel: workqueues of our own, unbound and with a rescuer.

use super::Repeatable;
use crate::alloc::NoMem;
use crate::Arc;
use crate::Box;
use crate::LockClass;
use core::ptr::NonNull;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::bindings;
use kernel::ffi;
use kernel::prelude::*;
use kernel::sync;
use kernel::sync::atomic::Acquire;
use kernel::sync::atomic::Atomic;
use kernel::sync::atomic::Full;
use kernel::workqueue;
use kernel::workqueue::impl_has_work;
use kernel::workqueue::Work;
use kernel::workqueue::WorkItem;

/// Keeps a workqueue alive while somebody puts something on it, without a lock, for that may happen in any context.
///
/// The lower bits count those who are just inside; [`Gate::CLOSED`] says that nobody may come in any more.
struct Gate(Atomic<i32>);

impl Gate {
    const CLOSED: i32 = 1 << 30;

    /// Does `f` if the gate is open.
    fn pass<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        let before = self.0.fetch_add(1, Full);
        let result = if before & Gate::CLOSED == 0 {
            Some(f())
        } else {
            None
        };
        self.0.fetch_sub(1, Full);
        result
    }

    /// Closes the gate and waits until nobody is inside. Only its owner calls this, once.
    fn close(&self) {
        self.0.fetch_add(Gate::CLOSED, Full);
        while self.0.load(Acquire) != Gate::CLOSED {
            // Those inside are about to leave: they only put something on a queue.
            // SAFETY: This is process context.
            unsafe { bindings::schedule_timeout_idle(1) };
        }
    }
}

/// # Invariants
///
/// `queue` is a workqueue until the gate is closed and `Queue::drop` destroys it.
struct Shared {
    class: &'static LockClass,
    queue: NonNull<bindings::workqueue_struct>,
    gate: Gate,
}

// SAFETY: Workqueues may be used by any thread.
unsafe impl Send for Shared {}

// SAFETY: As above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Does something with the queue, if it has not ended.
    fn with<R>(&self, f: impl FnOnce(&workqueue::Queue) -> R) -> Option<R> {
        self.gate.pass(|| {
            // SAFETY: By the type invariant the queue lives while the gate is open, and closing it waits for us.
            f(unsafe { workqueue::Queue::from_raw(self.queue.as_ptr()) })
        })
    }
}

pub(super) struct Queue {
    shared: Arc<Shared>,
}

impl Queue {
    pub(super) fn try_new(class: &'static LockClass, at_once: u16) -> Result<Self, NoMem> {
        let flags = bindings::wq_flags_WQ_UNBOUND | bindings::wq_flags_WQ_MEM_RECLAIM;
        // SAFETY: The format and its one argument are terminated strings; the name is copied.
        let queue = unsafe {
            bindings::alloc_workqueue_noprof(
                c"embr-%s".as_char_ptr(),
                flags,
                ffi::c_int::from(at_once),
                class.c_str().as_char_ptr(),
            )
        };
        let queue = NonNull::new(queue).ok_or(NoMem)?;
        // INVARIANT: It was just made.
        let shared = Arc::try_new(Shared {
            class,
            queue,
            gate: Gate(Atomic::new(0)),
        });
        if shared.is_err() {
            // SAFETY: It was made above and nobody else knows it.
            unsafe { bindings::destroy_workqueue(queue.as_ptr()) };
        }
        Ok(Queue { shared: shared? })
    }

    pub(super) fn try_spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), NoMem> {
        let class = self.shared.class;
        let init = pin_init!(Once {
            work <- Work::new(class.c_str(), class.key()),
            job: Some(job),
        });
        let once = KBox::pin_init(init, GFP_KERNEL).map_err(|_| NoMem)?;
        // The gate is open as long as this exists.
        self.shared.with(|queue| queue.enqueue(once));
        Ok(())
    }

    pub(super) fn try_item(&self, job: Box<Repeatable>) -> Result<Item, NoMem> {
        let class = self.shared.class;
        let init = pin_init!(ItemInner {
            work <- Work::new(class.c_str(), class.key()),
            job,
        });
        let inner = sync::Arc::pin_init(init, GFP_KERNEL).map_err(|_| NoMem)?;
        Ok(Item {
            shared: self.shared.clone(),
            inner,
        })
    }

    pub(super) fn flush(&self) {
        // SAFETY: By the invariant of `Shared` the queue lives: only dropping `self` ends it.
        unsafe { bindings::__flush_workqueue(self.shared.queue.as_ptr()) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.shared.gate.close();
        // SAFETY: By the invariant of `Shared` the queue lives until here, and nobody gets at it through the gate any
        // more. This waits for all that is on it.
        unsafe { bindings::destroy_workqueue(self.shared.queue.as_ptr()) };
    }
}

/// A job that runs once.
///
/// Not `workqueue::Queue::try_spawn`: there all jobs of all queues are one class to lockdep, so that a flush of one
/// queue would seem to wait for the jobs of another.
#[pin_data]
struct Once<F> {
    #[pin]
    work: Work<Once<F>>,
    job: Option<F>,
}

impl_has_work! {
    impl{F} HasWork<Self> for Once<F> { self.work }
}

impl<F: FnOnce() + Send + 'static> WorkItem for Once<F> {
    type Pointer = Pin<KBox<Once<F>>>;

    fn run(mut this: Pin<KBox<Once<F>>>) {
        if let Some(job) = this.as_mut().project().job.take() {
            job();
        }
    }
}

#[pin_data]
struct ItemInner {
    #[pin]
    work: Work<ItemInner>,
    job: Box<Repeatable>,
}

impl_has_work! {
    impl HasWork<Self> for ItemInner { self.work }
}

impl WorkItem for ItemInner {
    type Pointer = sync::Arc<ItemInner>;

    fn run(this: sync::Arc<ItemInner>) {
        (this.job)();
    }
}

pub(super) struct Item {
    shared: Arc<Shared>,
    inner: sync::Arc<ItemInner>,
}

impl Item {
    pub(super) fn kick(&self) -> bool {
        let kicked = self
            .shared
            .with(|queue| queue.enqueue(self.inner.clone()).is_ok());
        kicked.unwrap_or(false)
    }
}

/// A queue with one job.
pub(super) struct Worker(Option<Queue>);

impl Worker {
    pub(super) fn try_spawn(
        class: &'static LockClass,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<Self, NoMem> {
        let queue = Queue::try_new(class, 1)?;
        queue.try_spawn(job)?;
        Ok(Worker(Some(queue)))
    }

    pub(super) fn join(&mut self) {
        self.0 = None;
    }
}

pub(super) fn yield_now() {
    // SAFETY: This is process context, and the task stays runnable.
    unsafe { bindings::schedule() };
}
