// SPDX-License-Identifier: GPL-2.0

//! Scopes in which allocations wait for memory instead of failing, for what may not be lost because memory is short: writeback,
//! checkpoints. An operation of many allocations that begins anew each time one of them fails may never end.
//!
//! In userspace the scope means nothing: what fails there does so because a test wants it.

#[cfg(embr_kernel)]
mod imp {
    use crate::time::sleep;
    use crate::time::Duration;
    use core::ffi::c_void;
    use core::ptr;
    use kernel::bindings;
    use kernel::current;
    use kernel::types::NotThreadSafe;

    /// How long to wait before asking again.
    const PAUSE: Duration = Duration::from_millis(5);
    /// How often. Then the operation hears of it and begins anew, having let go of what others need to give memory back.
    const TRIES: u32 = 100;
    /// Its address is what a patient thread has for its file system's notes.
    static MARK: u8 = 0;

    fn mark() -> *mut c_void {
        ptr::from_ref(&MARK).cast_mut().cast()
    }

    /// Where the running thread's file system keeps a note while it is at work.
    fn note() -> *mut *mut c_void {
        let task: *mut bindings::task_struct = current!().as_ptr();
        // SAFETY: The running thread exists.
        unsafe { &raw mut (*task).journal_info }
    }

    pub(super) struct Patience {
        before: *mut c_void,
        _here: NotThreadSafe,
    }

    impl Patience {
        pub(super) fn new() -> Self {
            let note = note();
            // SAFETY: Only the running thread uses its own note, and whoever else does so on it finds it as it was, later: nobody
            // else's file system is entered meanwhile, for such threads are in a nofs scope.
            unsafe {
                let before = *note;
                *note = mark();
                Patience {
                    before,
                    _here: kernel::types::NotThreadSafe,
                }
            }
        }
    }

    impl Drop for Patience {
        fn drop(&mut self) {
            // SAFETY: On the thread that `new` ran on.
            unsafe { *note() = self.before };
        }
    }

    /// Asks for memory; a patient thread does so again and again.
    pub(crate) fn ask<R, E>(mut f: impl FnMut() -> Result<R, E>) -> Result<R, E> {
        for _ in 0..TRIES {
            match f() {
                // SAFETY: Only the running thread uses its own note.
                Err(_) if unsafe { *note() } == mark() => sleep(PAUSE),
                done => return done,
            }
        }
        f()
    }
}

#[cfg(not(embr_kernel))]
mod imp {
    pub(super) struct Patience {}

    impl Patience {
        pub(super) fn new() -> Self {
            Patience {}
        }
    }
}

#[cfg(embr_kernel)]
pub(crate) use imp::ask;

/// While it lives, this thread's allocations wait for memory, half a second each at most. Scopes nest. The thread is in a scope in which memory is not had by
/// way of file systems.
#[must_use = "the scope ends when this is dropped"]
pub struct Patience {
    _scope: imp::Patience,
}

impl Patience {
    /// Begins a scope.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Patience {
            _scope: imp::Patience::new(),
        }
    }
}
