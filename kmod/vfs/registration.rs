// SPDX-License-Identifier: GPL-2.0

//! Making a file system known to the kernel, for as long as the module is loaded.

use crate::{
    context::ContextTable,
    file_system::FileSystem,
    super_ops::SuperTable, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData, //
};
use kernel::{
    bindings as kb,
    error::to_result,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full, //
    },
};

/// The kernel's record of a file system. It holds lock classes, so it has to be a `static`.
pub struct FileSystemType<T> {
    raw: UnsafeCell<kb::file_system_type>,
    taken: Atomic<bool>,
    _file_system: PhantomData<fn() -> T>,
}

// SAFETY: `raw` is written once, by the one `register` call that wins `taken`, before the kernel sees it; from then on the
// kernel synchronises access to it.
unsafe impl<T> Sync for FileSystemType<T> {}

impl<T: FileSystem> FileSystemType<T> {
    /// A file system that is not registered yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        FileSystemType {
            raw: UnsafeCell::new(pin_init::zeroed()),
            taken: Atomic::new(false),
            _file_system: PhantomData,
        }
    }

    /// Registers the file system on behalf of `module`, which stays loaded as long as a mount exists.
    pub fn register(&'static self, module: &'static ThisModule) -> Result<Registration> {
        if self.taken.xchg(true, Full) {
            return Err(EBUSY);
        }
        let raw = self.raw.get();
        // SAFETY: `taken` was false, so nobody but us has or will ever have access before the kernel does.
        unsafe {
            (*raw).name = T::NAME.as_char_ptr();
            (*raw).fs_flags = T::FLAGS.0 as c_int;
            (*raw).owner = module.as_ptr();
            (*raw).init_fs_context = Some(ContextTable::<T>::init_fs_context);
            (*raw).parameters = T::parameters().as_ptr().cast();
            (*raw).kill_sb = Some(SuperTable::<T>::kill_sb);
        }
        // SAFETY: The record is complete and static. Its functions outlive it: they are in the module that owns it.
        to_result(unsafe { kb::register_filesystem(raw) })?;
        Ok(Registration { raw })
    }
}

/// A registered file system; dropping it takes it away. No mount can exist then, for each holds the module.
pub struct Registration {
    raw: *mut kb::file_system_type,
}

// SAFETY: The kernel's list of file systems has a lock of its own.
unsafe impl Send for Registration {}
// SAFETY: Nothing can be done through a shared reference.
unsafe impl Sync for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: Registered by `register`, and only once.
        unsafe { kb::unregister_filesystem(self.raw) };
        // SAFETY: May sleep here; waits for callbacks that may still run code of this module.
        unsafe { kb::rcu_barrier() };
    }
}
