// SPDX-License-Identifier: GPL-2.0

//! What files hold, through the page cache.

use crate::{
    attributes::{
        get_attributes,
        set_attributes, //
    },
    bindings,
    file::{
        ioctl,
        sync, //
    },
    file_system::FileSystem,
    inode::Inode,
    names::Names, //
};
use core::marker::PhantomData;
use kernel::{
    bindings as kb,
    prelude::*, //
};

/// What files hold, as a file system keeps it.
pub trait FileData: FileSystem {
    /// A file is to have this size from now on.
    fn resize(file: &Inode<Self>, size: i64) -> Result;
}

pub(crate) struct FileTable<T>(PhantomData<T>);

impl<T: Names + FileData> FileTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        getattr: Some(get_attributes::<T>),
        setattr: Some(set_attributes::<T>),
        ..pin_init::zeroed()
    };

    const FILE_OPERATIONS: kb::file_operations = kb::file_operations {
        llseek: Some(kb::generic_file_llseek),
        unlocked_ioctl: Some(ioctl::<T>),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: kb::compat_ptr_ioctl,
        fsync: Some(sync::<T>),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    /// Makes an inode a file with bytes.
    ///
    /// # Safety
    ///
    /// The inode is of `T`, and nobody else can use it yet.
    pub(crate) unsafe fn put(inode: *mut kb::inode) {
        // SAFETY: As the caller says.
        unsafe {
            (*inode).i_op = &Self::INODE_OPERATIONS;
            bindings::embr_inode_set_fop(inode, &Self::FILE_OPERATIONS);
        }
    }
}
