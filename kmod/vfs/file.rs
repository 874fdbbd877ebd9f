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

/// The generic `FITRIM`; its argument is a pointer to a [`TrimRange`].
pub const TRIM: u32 = bindings::EMBR_CONST_FITRIM;

/// `struct fstrim_range`: what is to be discarded. Afterwards, its length says how much was.
#[derive(Clone, Copy, Debug)]
pub struct TrimRange {
    /// Where to begin, in bytes.
    pub start: u64,
    /// How many bytes to go through.
    pub length: u64,
    /// The shortest run that is discarded, in bytes.
    pub least: u64,
}

const _: () = assert!(size_of::<kb::fstrim_range>() == TrimRange::SIZE);

impl TrimRange {
    /// Bytes of it.
    pub const SIZE: usize = 24;

    /// Of these bytes.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [start, length, least] = [0, 8, 16].map(|at| {
            let mut field = [0; 8];
            let here = bytes.iter().skip(at);
            field
                .iter_mut()
                .zip(here)
                .for_each(|(to, from)| *to = *from);
            u64::from_ne_bytes(field)
        });
        TrimRange {
            start,
            length,
            least,
        }
    }

    /// As bytes.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let fields = [self.start, self.length, self.least];
        let all = fields.into_iter().flat_map(u64::to_ne_bytes);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = from);
        bytes
    }
}

/// Whether the caller got a signal, so that it is time to return.
pub fn is_interrupted() -> bool {
    kernel::current!().signal_pending()
}

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
