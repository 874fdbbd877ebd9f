// SPDX-License-Identifier: GPL-2.0

//! Making a file system known to the kernel, for as long as the module is loaded.

use crate::{
    context::ContextTable,
    file_system::FileSystem,
    inode_cache::InodeCache,
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
#[repr(C)]
pub struct FileSystemType<T> {
    /// First, for the kernel shows us this.
    raw: UnsafeCell<kb::file_system_type>,
    /// Where inodes come from, while it is registered.
    inodes: UnsafeCell<*mut kb::kmem_cache>,
    taken: Atomic<bool>,
    _file_system: PhantomData<fn() -> T>,
}

// SAFETY: `raw` and `inodes` are written once, by the one `register` call that wins `taken`, before the kernel sees it; from then on the
// kernel synchronises access to it.
unsafe impl<T> Sync for FileSystemType<T> {}

impl<T: FileSystem> FileSystemType<T> {
    /// A file system that is not registered yet.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        FileSystemType {
            raw: UnsafeCell::new(pin_init::zeroed()),
            inodes: UnsafeCell::new(core::ptr::null_mut()),
            taken: Atomic::new(false),
            _file_system: PhantomData,
        }
    }

    /// Registers the file system on behalf of `module`, which stays loaded as long as a mount exists.
    pub fn register(&'static self, module: &'static ThisModule) -> Result<Registration> {
        if self.taken.xchg(true, Full) {
            return Err(EBUSY);
        }
        let inodes = InodeCache::new::<T>()?;
        let raw = self.raw.get();
        // SAFETY: `taken` was false, so nobody but us has or will ever have access before the kernel does.
        unsafe {
            *self.inodes.get() = inodes.as_ptr();
            (*raw).name = T::NAME.as_char_ptr();
            (*raw).fs_flags = T::FLAGS.0 as c_int;
            (*raw).owner = module.as_ptr();
            (*raw).init_fs_context = Some(ContextTable::<T>::init_fs_context);
            (*raw).parameters = T::parameters().as_ptr().cast();
            (*raw).kill_sb = Some(SuperTable::<T>::kill_sb);
        }
        // SAFETY: The record is complete and static. Its functions outlive it: they are in the module that owns it.
        to_result(unsafe { kb::register_filesystem(raw) })?;
        Ok(Registration {
            raw,
            _inodes: inodes,
        })
    }

    /// Where the file system's inodes come from.
    ///
    /// # Safety
    ///
    /// `raw` is that of a registered `FileSystemType<T>`.
    pub(crate) unsafe fn cache_of(raw: *mut kb::file_system_type) -> *mut kb::kmem_cache {
        // SAFETY: It is the first field, and what is behind it was written before it was registered.
        unsafe { *(*raw.cast::<Self>()).inodes.get() }
    }
}

/// A registered file system; dropping it takes it away. No mount can exist then, for each holds the module.
pub struct Registration {
    raw: *mut kb::file_system_type,
    // Goes after the file system itself.
    _inodes: InodeCache,
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
