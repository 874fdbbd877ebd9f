// SPDX-License-Identifier: GPL-2.0

//! Locks in userspace: std's own, waited for through the scheduler when the caller is a task of a simulated world.
//!
//! In a world, too, the data is guarded by std's lock. Only one task runs at a time, so a failed attempt means that
//! some task that does not run holds it, and the scheduler is told to wait for that.

use super::order;
use super::Wake;
use crate::alloc::admit;
use crate::alloc::NoMem;
use crate::sim;
use crate::sim::Op;
use crate::sim::Resource;
use crate::time::Duration;
use core::fmt;
use core::panic::Location;
use std::sync;
use std::sync::PoisonError;
use std::sync::TryLockError;

/// What lock-order checkers and reports know a lock by. Made by [`lock_class!`](crate::lock_class).
#[derive(Debug)]
pub struct LockClass {
    name: &'static str,
    file: &'static str,
    line: u32,
}

impl LockClass {
    #[doc(hidden)]
    pub const fn new_static(name: &'static str, file: &'static str, line: u32) -> Self {
        LockClass { name, file, line }
    }

    /// The name given where the class was declared.
    pub fn name(&'static self) -> &'static str {
        // The kernel wants it terminated.
        self.name.trim_end_matches('\0')
    }
}

impl fmt::Display for LockClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.trim_end_matches('\0');
        write!(f, "\"{name}\" (declared at {}:{})", self.file, self.line)
    }
}

/// None if it is taken. A panic of an earlier holder says nothing about the data here: tests look at what is left.
fn unless_taken<G>(attempt: sync::TryLockResult<G>) -> Option<G> {
    match attempt {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(guard)) => Some(guard.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Which lock it is, for the scheduler: its address. It cannot move while somebody waits or holds.
fn resource<T>(lock: &T) -> Resource {
    Resource::Lock(core::ptr::from_ref(lock).addr())
}

/// Takes a lock by whichever way the calling thread must go.
#[track_caller]
fn acquire<'a, L, G>(
    lock: &'a L,
    class: &'static LockClass,
    attempt: impl Fn(&'a L) -> sync::TryLockResult<G>,
    wait: impl FnOnce(&'a L) -> sync::LockResult<G>,
) -> G {
    let place = Location::caller();
    order::about_to_take(class, place);
    let guard = match sim::current() {
        None => wait(lock).unwrap_or_else(PoisonError::into_inner),
        Some(task) => {
            task.point(Op::Lock, class.name());
            loop {
                if let Some(guard) = unless_taken(attempt(lock)) {
                    task.note_taken(resource(lock), class.name(), place);
                    break guard;
                }
                let _ = task.block(resource(lock), class.name(), place, None);
            }
        }
    };
    order::taken(class, place);
    guard
}

#[track_caller]
fn try_acquire<'a, L, G>(
    lock: &'a L,
    class: &'static LockClass,
    attempt: impl Fn(&'a L) -> sync::TryLockResult<G>,
) -> Option<G> {
    let place = Location::caller();
    let task = sim::current();
    if let Some(task) = &task {
        task.point(Op::TryLock, class.name());
    }
    let guard = unless_taken(attempt(lock))?;
    if let Some(task) = &task {
        task.note_taken(resource(lock), class.name(), place);
    }
    order::taken(class, place);
    Some(guard)
}

/// To be called after the lock was released.
fn note_release<L>(lock: &L, class: &'static LockClass) {
    order::released(class);
    if let Some(task) = sim::current() {
        task.note_released(resource(lock), class.name());
    }
}

// A guard's std guard is only ever absent inside `CondVar::wait_for`, while the caller's borrow keeps all others out.
const HELD: &str = "a guard holds its lock";

pub(super) struct Mutex<T> {
    class: &'static LockClass,
    lock: sync::Mutex<T>,
}

impl<T> Mutex<T> {
    pub(super) fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        admit()?;
        let lock = sync::Mutex::new(value);
        Ok(Mutex { class, lock })
    }

    #[track_caller]
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        let held = acquire(
            &self.lock,
            self.class,
            sync::Mutex::try_lock,
            sync::Mutex::lock,
        );
        MutexGuard {
            owner: self,
            held: Some(held),
        }
    }

    #[track_caller]
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let held = try_acquire(&self.lock, self.class, sync::Mutex::try_lock)?;
        Some(MutexGuard {
            owner: self,
            held: Some(held),
        })
    }
}

pub(super) struct MutexGuard<'a, T> {
    owner: &'a Mutex<T>,
    held: Option<sync::MutexGuard<'a, T>>,
}

impl<T> MutexGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.held.as_mut().expect(HELD)
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        if self.held.take().is_some() {
            note_release(&self.owner.lock, self.owner.class);
        }
    }
}

pub(super) struct RwLock<T> {
    class: &'static LockClass,
    lock: sync::RwLock<T>,
}

impl<T> RwLock<T> {
    pub(super) fn try_new(value: T, class: &'static LockClass) -> Result<Self, NoMem> {
        admit()?;
        let lock = sync::RwLock::new(value);
        Ok(RwLock { class, lock })
    }

    #[track_caller]
    pub(super) fn read(&self) -> ReadGuard<'_, T> {
        let held = acquire(
            &self.lock,
            self.class,
            sync::RwLock::try_read,
            sync::RwLock::read,
        );
        ReadGuard {
            owner: self,
            held: Some(held),
        }
    }

    #[track_caller]
    pub(super) fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        let held = try_acquire(&self.lock, self.class, sync::RwLock::try_read)?;
        Some(ReadGuard {
            owner: self,
            held: Some(held),
        })
    }

    #[track_caller]
    pub(super) fn write(&self) -> WriteGuard<'_, T> {
        let held = acquire(
            &self.lock,
            self.class,
            sync::RwLock::try_write,
            sync::RwLock::write,
        );
        WriteGuard {
            owner: self,
            held: Some(held),
        }
    }

    #[track_caller]
    pub(super) fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        let held = try_acquire(&self.lock, self.class, sync::RwLock::try_write)?;
        Some(WriteGuard {
            owner: self,
            held: Some(held),
        })
    }
}

pub(super) struct ReadGuard<'a, T> {
    owner: &'a RwLock<T>,
    held: Option<sync::RwLockReadGuard<'a, T>>,
}

impl<T> ReadGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.held = None;
        note_release(&self.owner.lock, self.owner.class);
    }
}

pub(super) struct WriteGuard<'a, T> {
    owner: &'a RwLock<T>,
    held: Option<sync::RwLockWriteGuard<'a, T>>,
}

impl<T> WriteGuard<'_, T> {
    pub(super) fn get(&self) -> &T {
        self.held.as_ref().expect(HELD)
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.held.as_mut().expect(HELD)
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.held = None;
        note_release(&self.owner.lock, self.owner.class);
    }
}

pub(super) struct CondVar {
    class: &'static LockClass,
    var: sync::Condvar,
}

impl CondVar {
    pub(super) fn try_new(class: &'static LockClass) -> Result<Self, NoMem> {
        admit()?;
        let var = sync::Condvar::new();
        Ok(CondVar { class, var })
    }

    fn resource(&self) -> Resource {
        Resource::Cond(core::ptr::from_ref(&self.var).addr())
    }

    #[track_caller]
    fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Option<Duration>) -> Wake {
        let place = Location::caller();
        let owner = guard.owner;
        if let Some(task) = sim::current() {
            guard.held = None;
            order::released(owner.class);
            // No other task runs between the release above and the wait below, so no notification falls between.
            task.note_released_quietly(resource(&owner.lock));
            let deadline = limit.map(|l| task.now().saturating_add(l.as_nanos()));
            let wake = task.block(self.resource(), self.class.name(), place, deadline);
            guard.held = owner.lock().held.take();
            return wake;
        }
        order::released(owner.class);
        let held = guard.held.take().expect(HELD);
        let wake = match limit {
            None => {
                guard.held = Some(self.var.wait(held).unwrap_or_else(PoisonError::into_inner));
                Wake::Notified
            }
            Some(limit) => {
                let limit = std::time::Duration::from_nanos(limit.as_nanos());
                let (held, result) = self
                    .var
                    .wait_timeout(held, limit)
                    .unwrap_or_else(PoisonError::into_inner);
                guard.held = Some(held);
                if result.timed_out() {
                    Wake::TimedOut
                } else {
                    Wake::Notified
                }
            }
        };
        order::about_to_take(owner.class, place);
        order::taken(owner.class, place);
        wake
    }

    #[track_caller]
    pub(super) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        // Without a limit there is nothing to tell.
        let _ = self.wait_for(guard, None);
    }

    #[track_caller]
    pub(super) fn wait_idle<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let _ = self.wait_for(guard, None);
    }

    #[track_caller]
    pub(super) fn wait_timeout<T>(&self, guard: &mut MutexGuard<'_, T>, limit: Duration) -> Wake {
        self.wait_for(guard, Some(limit))
    }

    pub(super) fn notify_one(&self) {
        match sim::current() {
            Some(task) => task.notify(self.resource(), self.class.name(), false),
            None => self.var.notify_one(),
        }
    }

    pub(super) fn notify_all(&self) {
        match sim::current() {
            Some(task) => task.notify(self.resource(), self.class.name(), true),
            None => self.var.notify_all(),
        }
    }
}
