// SPDX-License-Identifier: GPL-2.0

//! The memory of inodes: the kernel's structure and, behind it, what the file system keeps with each.

use crate::{
    bindings,
    file_system::FileSystem,
    inode::Time,
    registration::FileSystemType, //
};
use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem::MaybeUninit,
    ptr, //
};
use kernel::{
    bindings as kb,
    prelude::*, //
};

/// An inode with all that belongs to it.
#[repr(C)]
pub(crate) struct Node<T: FileSystem> {
    /// The kernel's part. It is set up once for all files that this memory will be.
    raw: MaybeUninit<kb::inode>,
    /// When the file was made. Written before anybody else sees the inode.
    pub(crate) born: UnsafeCell<Time>,
    /// Where a symbolic link leads, with a zero behind it. Written like that, too; lives as long as the memory.
    pub(crate) link: UnsafeCell<Option<KVec<u8>>>,
    /// Where this memory goes back to. By then the superblock, which knows it too, may be gone.
    cache: *mut kb::kmem_cache,
    /// The file system's part.
    pub(crate) state: T::InodeState,
}

impl<T: FileSystem> Node<T> {
    /// # Safety
    ///
    /// `raw` was made by [`InodeTable::alloc`] for `T`, and stays for `'a`.
    pub(crate) unsafe fn of<'a>(raw: *mut kb::inode) -> &'a Self {
        // SAFETY: The inode is the first field. What changes in it is behind `UnsafeCell` or `MaybeUninit`, and the kernel's part
        // is never looked at through this reference.
        unsafe { &*raw.cast() }
    }
}

/// Where the memory comes from.
pub(crate) struct InodeCache {
    raw: *mut kb::kmem_cache,
}

// SAFETY: The kernel's allocator has locks of its own.
unsafe impl Send for InodeCache {}
// SAFETY: As above.
unsafe impl Sync for InodeCache {}

impl InodeCache {
    pub(crate) fn new<T: FileSystem>() -> Result<Self> {
        // SAFETY: The name is terminated and static; the constructor sets up what the size has room for.
        let raw = unsafe {
            bindings::embr_inode_cache(
                T::NAME.as_char_ptr(),
                size_of::<Node<T>>() as u32,
                align_of::<Node<T>>() as u32,
                Some(construct),
            )
        };
        if raw.is_null() {
            return Err(ENOMEM);
        }
        Ok(InodeCache { raw })
    }

    pub(crate) fn as_ptr(&self) -> *mut kb::kmem_cache {
        self.raw
    }
}

impl Drop for InodeCache {
    fn drop(&mut self) {
        // SAFETY: No superblock is left, so neither is an inode but those that wait to be freed.
        unsafe {
            kb::rcu_barrier();
            kb::kmem_cache_destroy(self.raw);
        }
    }
}

/// # Safety
///
/// Called by the allocator with memory for a `Node`.
unsafe extern "C" fn construct(node: *mut c_void) {
    // SAFETY: The inode is the first field.
    unsafe { kb::inode_init_once(node.cast()) };
}

pub(crate) struct InodeTable<T>(PhantomData<T>);

impl<T: FileSystem> InodeTable<T> {
    /// # Safety
    ///
    /// Called by the VFS for a superblock of `T`.
    pub(crate) unsafe extern "C" fn alloc(sb: *mut kb::super_block) -> *mut kb::inode {
        let Ok(state) = T::new_inode_state() else {
            return ptr::null_mut();
        };
        // SAFETY: The superblock is of `T`'s type, which is registered.
        let (cache, node) = unsafe {
            let cache = FileSystemType::<T>::cache_of((*sb).s_type);
            (cache, bindings::embr_inode_alloc(cache, sb))
        };
        if node.is_null() {
            return ptr::null_mut();
        }
        let node: *mut Node<T> = node.cast();
        // SAFETY: The memory is ours, and large enough. The kernel's part is set up already.
        unsafe {
            (&raw mut (*node).born).write(UnsafeCell::new(Time::default()));
            (&raw mut (*node).link).write(UnsafeCell::new(None));
            (&raw mut (*node).cache).write(cache);
            (&raw mut (*node).state).write(state);
        }
        node.cast()
    }

    /// # Safety
    ///
    /// Called by the VFS when nobody can reach the inode any more; in any context that may not sleep.
    pub(crate) unsafe extern "C" fn free(raw: *mut kb::inode) {
        let node: *mut Node<T> = raw.cast();
        // SAFETY: Made by `alloc`; nobody else has it. The kernel's part stays set up for the next.
        unsafe {
            ptr::drop_in_place(&raw mut (*node).link);
            ptr::drop_in_place(&raw mut (*node).state);
            kb::kmem_cache_free((*node).cache, raw.cast());
        }
    }
}
