// SPDX-License-Identifier: GPL-2.0

//! Inodes. One that the VFS has just made is locked and a [`NewInode`]: it is finished, or it fails, exactly once.

use crate::{
    bindings,
    dir::DirectoryTable,
    file_system::FileSystem,
    superblock::{
        Known,
        SuperBlock, //
    },
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings as kb,
    prelude::*,
    types::Opaque, //
};

/// An inode of file system `T` that is in use.
#[repr(transparent)]
pub struct Inode<T> {
    raw: Opaque<kb::inode>,
    _file_system: PhantomData<T>,
}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `raw` is an inode of `T`, finished and referenced for `'a`.
    pub(crate) unsafe fn from_raw<'a>(raw: *mut kb::inode) -> &'a Self {
        // SAFETY: As the caller says; the layouts are the same.
        unsafe { &*raw.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut kb::inode {
        self.raw.get()
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        // SAFETY: Set before anyone could see the inode, and not changed since.
        unsafe { (*self.as_ptr()).i_ino }
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        // SAFETY: The type of an inode does not change.
        u32::from(unsafe { (*self.as_ptr()).i_mode }) & kb::S_IFMT == kb::S_IFDIR
    }

    /// The superblock that it belongs to. Inodes are there before the root is set, so that is not a live one.
    pub fn super_block(&self) -> SuperBlock<'_, T, Known> {
        // SAFETY: An inode keeps its superblock; that it can be seen means that the superblock has its volume.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// The volume that it belongs to.
    pub fn volume(&self) -> &T::Volume {
        self.super_block().volume()
    }
}

/// A reference to an inode. It cannot outlive the superblock's `'sb`, so a volume cannot keep one.
pub struct InodeRef<'sb, T: FileSystem> {
    /// Invariant: a finished inode with a reference that is ours.
    raw: NonNull<kb::inode>,
    _super_block: PhantomData<&'sb T>,
}

impl<T: FileSystem> InodeRef<'_, T> {
    pub(crate) fn into_raw(self) -> *mut kb::inode {
        ManuallyDrop::new(self).raw.as_ptr()
    }
}

impl<T: FileSystem> Deref for InodeRef<'_, T> {
    type Target = Inode<T>;

    fn deref(&self) -> &Inode<T> {
        // SAFETY: By the type's invariant.
        unsafe { Inode::from_raw(self.raw.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for InodeRef<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe { kb::iput(self.raw.as_ptr()) };
    }
}

/// What a search by number gives.
pub enum Found<'sb, T: FileSystem> {
    /// The inode was in memory.
    Cached(InodeRef<'sb, T>),
    /// It was not: fill it in.
    New(NewInode<'sb, T>),
}

impl<T: FileSystem> Found<'_, T> {
    /// # Safety
    ///
    /// `raw` came from iget_locked, for a superblock of `T`.
    pub(crate) unsafe fn from_raw(raw: *mut kb::inode) -> Self {
        // SAFETY: iget_locked does not return null here: the caller looked.
        let inode = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: The inode is valid.
        if unsafe { bindings::embr_inode_is_new(raw) } {
            Found::New(NewInode {
                raw: inode,
                _super_block: PhantomData,
            })
        } else {
            Found::Cached(InodeRef {
                raw: inode,
                _super_block: PhantomData,
            })
        }
    }
}

/// A moment.
#[derive(Clone, Copy)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    fn raw(self) -> kb::timespec64 {
        kb::timespec64 {
            tv_sec: self.seconds,
            tv_nsec: self.nanos as c_long,
        }
    }
}

/// What an inode is filled with.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Bytes.
    pub size: i64,
    /// Last access.
    pub accessed: Time,
    /// Last change of attributes.
    pub changed: Time,
    /// Last change of contents.
    pub modified: Time,
}

/// An inode that is locked and that nobody else can use yet. Dropped, it fails and goes away.
pub struct NewInode<'sb, T: FileSystem> {
    /// Invariant: locked and new, with a reference that is ours.
    raw: NonNull<kb::inode>,
    _super_block: PhantomData<&'sb T>,
}

impl<'sb, T: FileSystem> NewInode<'sb, T> {
    /// Makes it a directory and lets others use it.
    pub fn finish_directory(self, attributes: &Attributes) -> InodeRef<'sb, T> {
        let inode = ManuallyDrop::new(self).raw;
        let raw = inode.as_ptr();
        // SAFETY: The inode is new and ours alone; the tables are those of `T`.
        unsafe {
            (*raw).i_mode = (kb::S_IFDIR as u16) | (attributes.permissions & 0o7777);
            (*raw).i_size = attributes.size;
            (*raw).i_op = DirectoryTable::<T>::inode_operations();
            bindings::embr_inode_set_fop(raw, DirectoryTable::<T>::file_operations());
            bindings::embr_inode_set_owner(raw, attributes.uid, attributes.gid);
            kb::set_nlink(raw, attributes.links);
            bindings::embr_inode_set_times(
                raw,
                &attributes.accessed.raw(),
                &attributes.changed.raw(),
                &attributes.modified.raw(),
            );
            kb::unlock_new_inode(raw);
        }
        InodeRef {
            raw: inode,
            _super_block: PhantomData,
        }
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant; gives up the reference too.
        unsafe { kb::iget_failed(self.raw.as_ptr()) };
    }
}
