// SPDX-License-Identifier: GPL-2.0

//! Locks in the kernel: `struct mutex`, `struct rw_semaphore` and wait queues, each in a pinned allocation of its own
//! together with the data it guards, so that what the engine holds can be moved.
//!
//! Not `kernel::sync::CondVar`: its waits without an end count as hung tasks, and those with one end on signals.

use super::Wake;
use crate::alloc::NoMem;
use crate::time;
use crate::time::Duration;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use kernel::alloc::flags::GFP_KERNEL;
use kernel::bindings;
use kernel::ffi;
use kernel::prelude::*;
use kernel::sync::lock::mutex::MutexBackend;
use kernel::sync::lock::Backend;
use kernel::sync::LockClassKey;
use kernel::types::NotThreadSafe;
use kernel::types::Opaque;

/// What lockdep and reports know a lock by. Made by [`lock_class!`](crate::lock_class).
pub struct LockClass {
    name: &'static CStr,
    // Never dropped: dropping would tell lockdep to forget a key that was not registered dynamically.
    key: ManuallyDrop<LockClassKey>,
}

impl LockClass {
    #[doc(hidden)]
    pub const fn new_static(name: &'static str, _file: &'static str, _line: u32) -> Self {
        let name = match CStr::from_bytes_with_nul(name.as_bytes()) {
            Ok(name) => name,
            // Inside of the name there is a NUL as well.
            Err(_) => c"unnamed",
        };
        LockClass {
            name,
            // SAFETY: The key is only ever used through a `&'static LockClass`, so it does not move or end, and
            // `ManuallyDrop` keeps it from being dropped.
            key: ManuallyDrop::new(unsafe { LockClassKey::new_static() }),
        }
    }

    /// The name given where the class was declared.
    pub fn name(&'static self) -> &'static str {
        self.name.to_str().unwrap_or("unnamed")
    }

    pub(crate) fn c_str(&'static self) -> &'static CStr {
        self.name
    }

    pub(crate) fn key(&'static self) -> Pin<&'static LockClassKey> {
        Pin::static_ref(&self.key)
    }
}

/// A C object that must not move, and Rust data beside it.
#[pin_data]
struct Cell<R, T> {
    #[pin]
    raw: Opaque<R>,
    data: UnsafeCell<T>,
}

impl<R, T> Cell<R, T> {
    /// # Safety
    ///
    /// `init` must initialise the object that its argument points to.
    unsafe fn try_new(value: T, init: impl FnOnce(*mut R)) -> Result<Pin<KBox<Self>>, NoMem> {
        let cell = KBox::pin_init(
            pin_init!(Cell {
                raw <- Opaque::ffi_init(init),
                data: UnsafeCell::new(value),
            }),
            GFP_KERNEL,
        );
        cell.map_err(|_| NoMem)
    }
}

/// # Invariants
///
/// `cell.raw` is an initialised mutex.
pub(super) struct Mutex<T> {
    cell: Pin<KBox<Cell<bindings::mutex, T>>>,
}

// SAFETY: A mutex may be moved to another thread if its data may; the C object does not care.
unsafe impl<T: Send> Send for Mutex<T> {}

// SAFETY: It lets one thread at a time at the data, so the data need only be `Send`.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    pub(super) fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        let init = |slot| {
            // SAFETY: `slot` is valid for writes, name and key live for ever.
            unsafe { MutexBackend::init(slot, class.c_str().as_char_ptr(), class.key().as_ptr()) }
        };
        // INVARIANT: `init` initialises it.
        // SAFETY: As above.
        let cell = unsafe { Cell::try_new(value, init) }?;
        Ok(Mutex { cell })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        // SAFETY: By the type invariant the mutex is initialised.
        let () = unsafe { MutexBackend::lock(self.cell.raw.get()) };
        // INVARIANT: It was just taken.
        MutexGuard {
            owner: self,
            _not_send: NotThreadSafe,
        }
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        // SAFETY: By the type invariant the mutex is initialised.
        unsafe { MutexBackend::try_lock(self.cell.raw.get()) }?;
        // INVARIANT: It was just taken.
        Some(MutexGuard {
            owner: self,
            _not_send: NotThreadSafe,
        })
    }
}

/// # Invariants
///
/// The calling thread holds the owner's mutex.
pub(super) struct MutexGuard<'a, T> {
    owner: &'a Mutex<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: All that a shared guard gives is `&T`.
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> MutexGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        // SAFETY: The mutex is held, and `self` is borrowed, so nobody has the data exclusively.
        unsafe { &*self.owner.cell.data.get() }
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        // SAFETY: The mutex is held, and `self` is borrowed exclusively, so nobody else has the data.
        unsafe { &mut *self.owner.cell.data.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this thread holds it.
        unsafe { MutexBackend::unlock(self.owner.cell.raw.get(), &()) };
    }
}

/// # Invariants
///
/// `cell.raw` is an initialised semaphore.
pub(super) struct RwLock<T> {
    cell: Pin<KBox<Cell<bindings::rw_semaphore, T>>>,
}

// SAFETY: It may be moved to another thread if its data may; the C object does not care.
unsafe impl<T: Send> Send for RwLock<T> {}

// SAFETY: It gives `&T` to several threads at once and `&mut T` to one, hence both bounds.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    pub(super) fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        let init = |slot| {
            // SAFETY: `slot` is valid for writes, name and key live for ever.
            unsafe {
                bindings::__init_rwsem(slot, class.c_str().as_char_ptr(), class.key().as_ptr())
            }
        };
        // INVARIANT: `init` initialises it.
        // SAFETY: As above.
        let cell = unsafe { Cell::try_new(value, init) }?;
        Ok(RwLock { cell })
    }

    pub(super) fn read(&self) -> ReadGuard<'_, T> {
        // SAFETY: By the type invariant the semaphore is initialised.
        unsafe { bindings::down_read(self.cell.raw.get()) };
        // INVARIANT: It was just taken for reading.
        ReadGuard {
            owner: self,
            _not_send: NotThreadSafe,
        }
    }

    pub(super) fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        // SAFETY: By the type invariant the semaphore is initialised.
        if unsafe { bindings::down_read_trylock(self.cell.raw.get()) } == 0 {
            return None;
        }
        // INVARIANT: It was just taken for reading.
        Some(ReadGuard {
            owner: self,
            _not_send: NotThreadSafe,
        })
    }

    pub(super) fn write(&self) -> WriteGuard<'_, T> {
        // SAFETY: By the type invariant the semaphore is initialised.
        unsafe { bindings::down_write(self.cell.raw.get()) };
        // INVARIANT: It was just taken for writing.
        WriteGuard {
            owner: self,
            _not_send: NotThreadSafe,
        }
    }

    pub(super) fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        // SAFETY: By the type invariant the semaphore is initialised.
        if unsafe { bindings::down_write_trylock(self.cell.raw.get()) } == 0 {
            return None;
        }
        // INVARIANT: It was just taken for writing.
        Some(WriteGuard {
            owner: self,
            _not_send: NotThreadSafe,
        })
    }
}

/// # Invariants
///
/// The calling thread holds the owner's semaphore for reading.
pub(super) struct ReadGuard<'a, T> {
    owner: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: All that a shared guard gives is `&T`.
unsafe impl<T: Sync> Sync for ReadGuard<'_, T> {}

impl<T> ReadGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        // SAFETY: The semaphore is held for reading, so nobody has the data exclusively.
        unsafe { &*self.owner.cell.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this thread holds it for reading.
        unsafe { bindings::up_read(self.owner.cell.raw.get()) };
    }
}

/// # Invariants
///
/// The calling thread holds the owner's semaphore for writing.
pub(super) struct WriteGuard<'a, T> {
    owner: &'a RwLock<T>,
    _not_send: PhantomData<*mut ()>,
}

// SAFETY: All that a shared guard gives is `&T`.
unsafe impl<T: Sync> Sync for WriteGuard<'_, T> {}

impl<T> WriteGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        // SAFETY: The semaphore is held for writing, and `self` is borrowed, so nobody has the data exclusively.
        unsafe { &*self.owner.cell.data.get() }
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        // SAFETY: The semaphore is held for writing, and `self` is borrowed exclusively, so nobody else has the data.
        unsafe { &mut *self.owner.cell.data.get() }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this thread holds it for writing.
        unsafe { bindings::up_write(self.owner.cell.raw.get()) };
    }
}

/// # Invariants
///
/// `cell.raw` is an initialised wait queue.
pub(super) struct CondVar {
    cell: Pin<KBox<Cell<bindings::wait_queue_head, ()>>>,
}

// SAFETY: A wait queue may be used by any thread.
unsafe impl Send for CondVar {}

// SAFETY: A wait queue brings its own lock.
unsafe impl Sync for CondVar {}

impl CondVar {
    pub(super) fn try_new(class: &'static LockClass) -> Result<Self, NoMem> {
        let init = |slot| {
            // SAFETY: `slot` is valid for writes, name and key live for ever.
            unsafe {
                bindings::__init_waitqueue_head(
                    slot,
                    class.c_str().as_char_ptr(),
                    class.key().as_ptr(),
                )
            }
        };
        // INVARIANT: `init` initialises it.
        // SAFETY: As above.
        let cell = unsafe { Cell::try_new((), init) }?;
        Ok(CondVar { cell })
    }

    /// Waits in `state` for at most `ticks`; how many of them are left.
    fn wait_in<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        state: u32,
        ticks: ffi::c_long,
    ) -> ffi::c_long {
        let queue = self.cell.raw.get();
        let lock = guard.owner.cell.raw.get();
        let entry = Opaque::<bindings::wait_queue_entry>::uninit();
        // SAFETY: `entry` is valid for writes.
        unsafe { bindings::init_wait(entry.get()) };
        // SAFETY: Both are initialised, and `entry` stays where it is until `finish_wait`. The task is on the queue
        // before the lock is released, so no notification falls between.
        unsafe {
            bindings::prepare_to_wait_exclusive(queue, entry.get(), state as ffi::c_int);
        }
        // SAFETY: The guard says that this thread holds it. Until it is taken again below, `guard` is borrowed
        // exclusively by this function, which does not touch the data.
        unsafe { MutexBackend::unlock(lock, &()) };
        // SAFETY: This is process context, or the mutex could not have been taken.
        let left = unsafe { bindings::schedule_timeout(ticks) };
        // SAFETY: As for `prepare_to_wait_exclusive`; afterwards the queue does not know `entry` any more.
        unsafe { bindings::finish_wait(queue, entry.get()) };
        // SAFETY: The mutex is initialised. This restores the guard's invariant.
        let () = unsafe { MutexBackend::lock(lock) };
        left
    }

    pub(super) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_in(guard, bindings::TASK_UNINTERRUPTIBLE, ffi::c_long::MAX);
    }

    pub(super) fn wait_idle<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_in(guard, bindings::TASK_IDLE, ffi::c_long::MAX);
    }

    pub(super) fn wait_timeout<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> Wake {
        if self.wait_in(guard, bindings::TASK_IDLE, time::jiffies(limit)) == 0 {
            Wake::TimedOut
        } else {
            Wake::Notified
        }
    }

    fn notify(&self, how_many: ffi::c_int) {
        // SAFETY: By the type invariant the queue is initialised.
        unsafe {
            bindings::__wake_up(
                self.cell.raw.get(),
                bindings::TASK_NORMAL,
                how_many,
                core::ptr::null_mut(),
            )
        };
    }

    pub(super) fn notify_one(&self) {
        self.notify(1);
    }

    pub(super) fn notify_all(&self) {
        // Zero means all.
        self.notify(0);
    }
}
