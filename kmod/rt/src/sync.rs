// SPDX-License-Identifier: GPL-2.0

//! Locks that sleep, and waiting for a condition.
//!
//! Every lock belongs to a *class*, named where it is made. The kernel's lockdep, and in userspace the checker in
//! `order`, learn which class is taken while which other is held, and complain as soon as two places disagree, whether
//! or not a deadlock came of it. Taking a second lock of the same class counts as disagreement: classes are made finer
//! (one for each level of a tree, say) rather than nested.
//!
//! None of this may be used in atomic context. Locks are not recursive; a reader must not take the same lock for
//! reading again either, because a writer may have queued up between. Panics in userspace do not poison a lock.

use crate::alloc::NoMem;
use crate::time::Duration;
use core::fmt;
use core::ops::Deref;
use core::ops::DerefMut;

#[cfg(embr_kernel)]
#[path = "sync/kernel.rs"]
mod imp;

#[cfg(not(embr_kernel))]
pub(crate) mod order;

#[cfg(not(embr_kernel))]
#[path = "sync/user.rs"]
mod imp;

pub use imp::LockClass;

/// The class of a lock: `lock_class!("journal")`, a `&'static LockClass`. Every use of the macro is a class of its own.
#[macro_export]
macro_rules! lock_class {
    ($name:literal) => {{
        static CLASS: $crate::LockClass = $crate::LockClass::new_static(
            ::core::concat!($name, "\0"),
            ::core::file!(),
            ::core::line!(),
        );
        &CLASS
    }};
}

/// A lock that lets one holder at a time at its data.
pub struct Mutex<T>(imp::Mutex<T>);

impl<T> Mutex<T> {
    /// A lock round `value`. It can be moved: what the kernel must not move lies on the heap.
    pub fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        imp::Mutex::try_new(value, class).map(Mutex)
    }

    /// Waits until the lock is free and takes it.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock();
        MutexGuard { held }
    }

    /// Takes the lock if it is free.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = self.0.try_lock()?;
        Some(MutexGuard { held })
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex { .. }")
    }
}

/// Holds a [`Mutex`] and gives access to its data.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct MutexGuard<'a, T> {
    held: imp::MutexGuard<'a, T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.get()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.get_mut()
    }
}

/// A lock that lets many readers or one writer at its data.
pub struct RwLock<T>(imp::RwLock<T>);

impl<T> RwLock<T> {
    /// A lock round `value`. It can be moved: what the kernel must not move lies on the heap.
    pub fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        imp::RwLock::try_new(value, class).map(RwLock)
    }

    /// Waits until nobody writes, and takes the lock for reading.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn read(&self) -> ReadGuard<'_, T> {
        let held = self.0.read();
        ReadGuard { held }
    }

    /// Takes the lock for reading if nobody writes or waits for writing.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let held = self.0.try_read()?;
        Some(ReadGuard { held })
    }

    /// Waits until the lock is free and takes it for writing.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn write(&self) -> WriteGuard<'_, T> {
        let held = self.0.write();
        WriteGuard { held }
    }

    /// Takes the lock for writing if it is free.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        let held = self.0.try_write()?;
        Some(WriteGuard { held })
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock { .. }")
    }
}

/// Holds a [`RwLock`] for reading.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ReadGuard<'a, T> {
    held: imp::ReadGuard<'a, T>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.get()
    }
}

/// Holds a [`RwLock`] for writing.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct WriteGuard<'a, T> {
    held: imp::WriteGuard<'a, T>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.held.get()
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.held.get_mut()
    }
}

/// How a wait with a time limit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Wake {
    /// Somebody notified, or the wait ended for no reason, which may always happen.
    Notified,
    /// The time was up.
    TimedOut,
}

/// A place to wait for a change of what a [`Mutex`] guards.
///
/// The condition must be looked at under that very lock, and again after each wake-up, for a wake-up promises nothing:
/// [`CondVar::wait_while`] does both.
pub struct CondVar(imp::CondVar);

impl CondVar {
    /// A place where nobody waits yet. Its class names it in reports.
    pub fn try_new(class: &'static LockClass) -> Result<Self, NoMem> {
        imp::CondVar::try_new(class).map(CondVar)
    }

    /// Releases the lock, waits for a notification, and takes the lock again. A wait that is sure to end soon: the
    /// kernel complains about a task that sits here for minutes.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait(&mut guard.held);
    }

    /// As [`CondVar::wait`], for a background worker that has nothing to do and may wait for hours.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn wait_idle<T>(&self, guard: &mut MutexGuard<'_, T>) {
        self.0.wait_idle(&mut guard.held);
    }

    /// As [`CondVar::wait_idle`], but for no longer than `limit`.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn wait_timeout<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> Wake {
        self.0.wait_timeout(&mut guard.held, limit)
    }

    /// Waits as long as `condition` holds.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn wait_while<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        mut condition: impl FnMut(&mut T) -> bool,
    ) {
        while condition(guard) {
            self.wait(guard);
        }
    }

    /// Wakes one of those who wait. In the kernel that may be done in atomic context too.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    /// Wakes all who wait. In the kernel that may be done in atomic context too.
    #[cfg_attr(not(embr_kernel), track_caller)]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl fmt::Debug for CondVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CondVar { .. }")
    }
}

#[cfg(all(test, not(embr_kernel)))]
mod tests;
