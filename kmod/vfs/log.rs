// SPDX-License-Identifier: GPL-2.0

//! What a mount says to whoever asked for it: into the context's log, from which mount(8) reads, and into the kernel's.

use crate::bindings;
use core::{
    fmt,
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings as kb,
    prelude::*, //
};

/// The log of one mount or remount.
pub struct Log<'a> {
    /// Invariant: valid for `'a`, with a terminated prefix.
    raw: *const bindings::p_log,
    _context: PhantomData<&'a ()>,
}

impl<'a> Log<'a> {
    /// # Safety
    ///
    /// `fc` is valid for `'a`, and its log is used by nobody else meanwhile.
    pub(crate) unsafe fn from_raw(fc: *mut bindings::fs_context) -> Self {
        Log {
            // SAFETY: `fc` is valid, says the caller.
            raw: unsafe { &raw const (*fc).log },
            _context: PhantomData,
        }
    }

    /// What stands in the way.
    pub fn error(&self, args: fmt::Arguments<'_>) {
        self.say(b'e', c"\x013%s: %pA\n", args);
    }

    /// What is not as it should be.
    pub fn warn(&self, args: fmt::Arguments<'_>) {
        self.say(b'w', c"\x014%s: %pA\n", args);
    }

    /// What is worth knowing.
    pub fn info(&self, args: fmt::Arguments<'_>) {
        self.say(b'i', c"\x016%s: %pA\n", args);
    }

    fn say(&self, level: u8, printk: &'static CStr, args: fmt::Arguments<'_>) {
        let args = ptr::from_ref(&args).cast::<c_void>();
        // SAFETY: By the type's invariant. `%pA` takes a pointer to `Arguments`, which lives through the calls; `%s` a
        // terminated string, which the prefix (the file system's name) is.
        unsafe {
            let log = (*self.raw).log;
            let prefix = (*self.raw).prefix;
            // Without a log (mount(2) of old), logfc goes to the kernel's by itself.
            bindings::logfc(log, prefix, level, c"%pA".as_char_ptr(), args);
            if !log.is_null() {
                kb::_printk(printk.as_char_ptr(), prefix, args);
            }
        }
    }
}
