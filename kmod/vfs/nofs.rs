// SPDX-License-Identifier: GPL-2.0

//! Scopes in which allocating memory never calls back into a file system.

use crate::bindings;
use kernel::types::NotThreadSafe;

/// While it lives, allocations of this thread do not enter file systems. Scopes nest.
#[must_use = "the scope ends when this is dropped"]
pub struct NoFs {
    before: u32,
    /// The flag is the thread's.
    _here: NotThreadSafe,
}

impl NoFs {
    /// Begins a scope.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        NoFs {
            // SAFETY: Sets a flag of the current thread; `drop` puts it back.
            before: unsafe { bindings::embr_memalloc_nofs_save() },
            _here: kernel::types::NotThreadSafe,
        }
    }
}

impl Drop for NoFs {
    fn drop(&mut self) {
        // SAFETY: On the thread that began the scope. Scopes that end out of order leave the flag set too long at worst.
        unsafe { bindings::embr_memalloc_nofs_restore(self.before) };
    }
}
