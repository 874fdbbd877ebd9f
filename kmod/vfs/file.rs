// SPDX-License-Identifier: GPL-2.0

//! What can be asked of an open file or directory beside its contents.

use crate::{
    bindings,
    file_system::FileSystem,
    inode::Inode, //
};
use kernel::{
    bindings as kb,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// The generic `FS_IOC_SHUTDOWN`; its argument is a pointer to a u32.
pub const SHUTDOWN: u32 = bindings::EMBR_CONST_FS_IOC_SHUTDOWN;

/// Flags of [`SHUTDOWN`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Flush everything first.
    Default,
    /// Flush the log, not the data.
    LogFlush,
    /// Flush nothing.
    NoLogFlush,
}

impl ShutdownMode {
    /// The mode of that number.
    pub fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            kb::FS_SHUTDOWN_FLAGS_DEFAULT => Some(ShutdownMode::Default),
            kb::FS_SHUTDOWN_FLAGS_LOGFLUSH => Some(ShutdownMode::LogFlush),
            kb::FS_SHUTDOWN_FLAGS_NOLOGFLUSH => Some(ShutdownMode::NoLogFlush),
            _ => None,
        }
    }
}

/// An ioctl(2).
#[derive(Clone, Copy)]
pub struct Command {
    /// Which.
    pub number: u32,
    argument: usize,
}

impl Command {
    /// The caller's memory that the argument points to.
    pub fn memory(&self, len: usize) -> UserSlice {
        UserSlice::new(UserPtr::from_addr(self.argument), len)
    }
}

/// # Safety
///
/// Called by the VFS.
pub(crate) unsafe extern "C" fn ioctl<T: FileSystem>(
    file: *mut kb::file,
    number: c_uint,
    argument: c_ulong,
) -> c_long {
    let command = Command { number, argument };
    // SAFETY: An open file holds a reference to its inode.
    let inode = unsafe { Inode::<T>::from_raw((*file).f_inode) };
    match T::ioctl(inode, command) {
        Ok(done) => done,
        Err(error) => error.to_errno() as c_long,
    }
}

/// # Safety
///
/// Called by the VFS.
pub(crate) unsafe extern "C" fn sync<T: FileSystem>(
    file: *mut kb::file,
    from: kb::loff_t,
    to: kb::loff_t,
    data_only: c_int,
) -> c_int {
    from_result(|| {
        // SAFETY: An open file holds a reference to its inode.
        unsafe {
            let inode = (*file).f_inode;
            to_result(kb::file_write_and_wait_range(file, from, to))?;
            // Times and the like; they join what is made durable below.
            to_result(kb::sync_inode_metadata(inode, 1))?;
            T::sync_file(Inode::from_raw(inode), data_only != 0)?;
        }
        Ok(0)
    })
}
