// SPDX-License-Identifier: GPL-2.0

//! What iomap asks about ranges of a file. Reads and writes are told that everything is there: the file system finds out when it
//! reads, and gives zeros for what is not. Only who asks for holes is told of them.

use super::{
    state::{
        blocks,
        DataFile,
        BLOCK,
        BLOCK_SHIFT, //
    },
    FileData,
    Holds, //
};
use crate::{
    bindings,
    nofs::NoFs, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings as kb,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// iomap's word for a range that lies nowhere.
const NO_ADDRESS: u64 = u64::MAX;

pub(super) struct IoMap<T>(PhantomData<T>);

impl<T: FileData> IoMap<T> {
    const OPERATIONS: bindings::iomap_ops = bindings::iomap_ops {
        iomap_begin: Some(Self::begin),
        ..pin_init::zeroed()
    };
    const REPORT: bindings::iomap_ops = bindings::iomap_ops {
        iomap_begin: Some(Self::begin_report),
        ..pin_init::zeroed()
    };
    const FAULT: bindings::iomap_ops = bindings::iomap_ops {
        iomap_next: Some(Self::next_fault),
        ..pin_init::zeroed()
    };

    pub(super) const fn operations() -> &'static bindings::iomap_ops {
        &Self::OPERATIONS
    }

    pub(super) const fn report_operations() -> &'static bindings::iomap_ops {
        &Self::REPORT
    }

    pub(super) const fn fault_operations() -> &'static bindings::iomap_ops {
        &Self::FAULT
    }

    /// # Safety
    ///
    /// Called by iomap.
    unsafe extern "C" fn begin(
        _inode: *mut kb::inode,
        at: kb::loff_t,
        len: kb::loff_t,
        _flags: c_uint,
        map: *mut bindings::iomap,
        _source: *mut bindings::iomap,
    ) -> c_int {
        // SAFETY: Valid for the call.
        unsafe {
            put(
                map,
                bindings::IOMAP_MAPPED,
                at as u64..at as u64 + len as u64,
            )
        };
        0
    }

    /// # Safety
    ///
    /// Called by iomap for a file of `T`.
    unsafe extern "C" fn begin_report(
        inode: *mut kb::inode,
        at: kb::loff_t,
        len: kb::loff_t,
        flags: c_uint,
        map: *mut bindings::iomap,
        _source: *mut bindings::iomap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Both are valid for the call.
            unsafe {
                let file = DataFile::<T>::from_raw(inode);
                let (holds, range) = find(file, at as u64..at as u64 + len as u64)?;
                let kind = match holds {
                    Holds::Nothing => bindings::IOMAP_HOLE,
                    // Zeros are written over what is there, whatever that is.
                    _ if flags & bindings::IOMAP_ZERO != 0 => bindings::IOMAP_MAPPED,
                    Holds::Room => bindings::IOMAP_UNWRITTEN,
                    Holds::Bytes => bindings::IOMAP_MAPPED,
                    Holds::Dirty => bindings::IOMAP_DELALLOC,
                };
                put(map, kind, range);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by iomap for a locked folio, which the iteration names, that a program is about to store to.
    unsafe extern "C" fn next_fault(
        iteration: *const bindings::iomap_iter,
        map: *mut bindings::iomap,
        source: *mut bindings::iomap,
    ) -> c_int {
        from_result(|| {
            // SAFETY: All are valid for the call.
            unsafe {
                if (*map).length != 0 {
                    return Ok(bindings::iomap_iter_continue(iteration, map, source, 0));
                }
                // What is being written counts as dirty until it is done, and only then gives its room back.
                kb::folio_wait_writeback((*iteration).private.cast());
                let file = DataFile::<T>::from_raw((*iteration).inode);
                let range = (*iteration).pos as u64..(*iteration).pos as u64 + (*iteration).len;
                file.reserve_for_good(blocks(range.clone()))?;
                put(map, bindings::IOMAP_MAPPED, range);
            }
            Ok(1)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS for an open file of `T`.
    pub(super) unsafe extern "C" fn seek(
        opened: *mut kb::file,
        offset: kb::loff_t,
        whence: c_int,
    ) -> kb::loff_t {
        let whence = whence as u32;
        if whence != kb::SEEK_DATA && whence != kb::SEEK_HOLE {
            // SAFETY: The file is open.
            return unsafe { kb::generic_file_llseek(opened, offset, whence as c_int) };
        }
        // SAFETY: The file is open; the lock is given back.
        unsafe {
            let inode = (*opened).f_inode;
            let find = match whence == kb::SEEK_DATA {
                true => bindings::iomap_seek_data,
                false => bindings::iomap_seek_hole,
            };
            bindings::embr_inode_lock_shared(inode);
            let found = find(inode, offset, Self::report_operations());
            bindings::embr_inode_unlock_shared(inode);
            match found < 0 {
                true => found,
                false => kb::vfs_setpos(opened, found, (*(*inode).i_sb).s_maxbytes),
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS for a file of `T`.
    pub(super) unsafe extern "C" fn fiemap(
        inode: *mut kb::inode,
        info: *mut kb::fiemap_extent_info,
        from: u64,
        len: u64,
    ) -> c_int {
        from_result(|| {
            // SAFETY: Both are valid for the call; the lock is given back.
            unsafe {
                bindings::embr_inode_lock_shared(inode);
                let found =
                    bindings::iomap_fiemap(inode, info, from, len, Self::report_operations());
                bindings::embr_inode_unlock_shared(inode);
                to_result(found)?;
            }
            Ok(0)
        })
    }
}

/// # Safety
///
/// `map` is valid and ours.
unsafe fn put(map: *mut bindings::iomap, kind: u32, range: Range<u64>) {
    // SAFETY: As the caller says.
    unsafe {
        (*map).type_ = kind as u16;
        (*map).flags = 0;
        (*map).addr = NO_ADDRESS;
        (*map).offset = range.start as i64;
        (*map).length = range.end - range.start;
    }
}

/// What a file holds at the beginning of a range, and how far that goes.
fn find<T: FileData>(file: DataFile<'_, T>, range: Range<u64>) -> Result<(Holds, Range<u64>)> {
    let _scope = NoFs::new();
    let all = blocks(range.clone());
    // Looked at first: what is written meanwhile is found in one of the two.
    let (dirty, dirty_end) = {
        let awaiting = file.awaiting();
        let first = awaiting.first(all.start).unwrap_or(u64::MAX);
        (first, awaiting.run_end(first.min(i64::MAX as u64)))
    };
    let (holds, end) = match dirty == all.start {
        true => (Holds::Dirty, dirty_end),
        false => {
            let (holds, count) = T::holds(file.0, all.start << BLOCK_SHIFT, all.end - all.start)?;
            (holds, dirty.min(all.start + count.max(1)))
        }
    };
    let end = end.min(all.end).saturating_mul(BLOCK).min(range.end);
    Ok((holds, range.start..end.max(range.start + 1)))
}
