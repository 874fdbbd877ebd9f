// SPDX-License-Identifier: GPL-2.0

//! The size of a file, and making what it holds durable.

use super::{
    state::{
        Changing,
        DataFile,
        BLOCK, //
    },
    writeback::make_known,
    FileData,
    Holds, //
};
use crate::{
    attributes,
    bindings,
    inode::Inode,
    nofs::NoFs, //
};
use kernel::{
    bindings as kb,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// In what stat(2) counts.
const SECTOR: u64 = 512;

/// As for other files, and how much of the volume the file takes: blocks that were overwritten and await writeback count twice, so
/// that nobody takes a file of which something was written for one that holds nothing.
///
/// # Safety
///
/// Called by the VFS for a file of `T`.
pub(super) unsafe extern "C" fn get_attributes<T: FileData>(
    idmap: *mut kb::mnt_idmap,
    path: *const kb::path,
    stat: *mut kb::kstat,
    request_mask: u32,
    flags: c_uint,
) -> c_int {
    // SAFETY: As the caller says.
    let told = unsafe { attributes::get_attributes::<T>(idmap, path, stat, request_mask, flags) };
    if told == 0 {
        // SAFETY: The path holds its dentry, which has this inode.
        let file = unsafe { DataFile::<T>::from_raw((*(*path).dentry).d_inode) };
        // First: what is written meanwhile is not missed then.
        let awaiting = file.awaiting().total();
        let held = T::held(file.0);
        let blocks = held.map_or(file.size().div_ceil(BLOCK), |held| {
            held.saturating_add(awaiting)
        });
        // SAFETY: As the caller says.
        unsafe { (*stat).blocks = blocks.saturating_mul(BLOCK / SECTOR) };
    }
    told
}

/// Fills with zeros what a mapping may have left between the file's end and its last block's, before that becomes a part of it.
/// Whole pages behind the end hold zeros, for no mapping reaches them.
///
/// # Safety
///
/// The inode is locked, and this is its size.
pub(super) unsafe fn clear_tail<T: FileData>(file: DataFile<'_, T>, size: u64) {
    if size % BLOCK == 0 {
        return;
    }
    // SAFETY: The inode is valid. The folio comes locked and referenced, or not at all.
    unsafe {
        let folio = bindings::embr_lock_cached_folio(file.mapping(), size as i64);
        if from_err_ptr(folio).is_ok() {
            let begin = bindings::embr_folio_pos(folio) as u64;
            let end = size.next_multiple_of(BLOCK);
            bindings::embr_folio_zero_segment(
                folio,
                (size - begin) as usize,
                (end - begin) as usize,
            );
            bindings::embr_folio_put_locked(folio);
        }
    }
}

/// Sees to it that nothing is behind a file's end on the volume that would become a part of it when somebody writes further on.
///
/// # Safety
///
/// The inode is locked, and this is its size.
#[inline(never)]
pub(super) unsafe fn forget_behind<T: FileData>(file: DataFile<'_, T>, size: u64) -> Result {
    if file.known().clean {
        return Ok(());
    }
    let mut at = size.next_multiple_of(BLOCK);
    loop {
        let most = (i64::MAX as u64).saturating_sub(at) / BLOCK;
        let (holds, blocks) = {
            let _scope = NoFs::new();
            T::holds(file.0, at, most)?
        };
        match holds {
            Holds::Bytes | Holds::Dirty => {
                make_known(file, size)?;
                let _changing = Changing::new(&file);
                let mut known = file.known();
                T::truncate(file.0, size)?;
                known.clean = true;
                return Ok(());
            }
            _ if blocks >= most => break,
            _ => at += blocks.max(1) * BLOCK,
        }
    }
    file.known().clean = true;
    Ok(())
}

/// Holds off those who would fill the page cache.
pub(super) struct Alone<'a> {
    mapping: *mut kb::address_space,
    _file: core::marker::PhantomData<&'a ()>,
}

impl<'a> Alone<'a> {
    pub(super) fn new<T: FileData>(file: &DataFile<'a, T>) -> Self {
        let mapping = file.mapping();
        // SAFETY: The mapping is the inode's, which is valid.
        unsafe { bindings::embr_invalidate_lock(mapping) };
        Alone {
            mapping,
            _file: core::marker::PhantomData,
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // SAFETY: Taken by `new`.
        unsafe { bindings::embr_invalidate_unlock(self.mapping) };
    }
}

/// Gives a file another size. What lay behind it is gone; what is new reads as zeros.
///
/// # Safety
///
/// The inode is a regular file's, and locked.
pub(crate) unsafe fn resize<T: FileData>(inode: &Inode<T>, size: i64) -> Result {
    let file = DataFile(inode);
    // SAFETY: As the caller says.
    to_result(unsafe { kb::inode_newsize_ok(file.inode(), size) })?;
    let alone = Alone::new(&file);
    // SAFETY: As the caller says.
    unsafe { set_size(file, size as u64, &alone) }
}

/// # Safety
///
/// The inode is locked, and so is its mapping: against those who would fill the page cache.
pub(super) unsafe fn set_size<T: FileData>(
    file: DataFile<'_, T>,
    size: u64,
    _alone: &Alone<'_>,
) -> Result {
    let old = file.size();
    // What the volume does not know yet would be zeros there.
    make_known(file, old.min(size))?;
    // SAFETY: As the caller says.
    unsafe {
        if size > old {
            clear_tail(file, old);
        }
        {
            let _changing = Changing::new(&file);
            let mut known = file.known();
            if size != old {
                bindings::embr_inode_touch(file.inode());
            }
            T::truncate(file.0, size)?;
            known.size = size;
            bindings::embr_i_size_write(file.inode(), size as i64);
        }
        if size < old {
            kb::truncate_pagecache(file.inode(), size as i64);
        } else {
            kb::pagecache_isize_extended(file.inode(), old as i64, size as i64);
        }
    }
    Ok(())
}

/// # Safety
///
/// Called by the VFS.
pub(super) unsafe extern "C" fn sync<T: FileData>(
    opened: *mut kb::file,
    from: kb::loff_t,
    to: kb::loff_t,
    data_only: c_int,
) -> c_int {
    from_result(|| {
        // SAFETY: An open file holds a reference to its inode.
        unsafe {
            let file = DataFile::<T>::from_raw((*opened).f_inode);
            let wanted = (to as u64).saturating_add(1).min(file.size());
            // Bytes become known to the volume in their order.
            let from = match file.known().size {
                known if known < wanted => from.min(known as i64),
                _ => from,
            };
            to_result(kb::file_write_and_wait_range(opened, from, to))?;
            make_known(file, wanted)?;
            if data_only == 0 && bindings::embr_inode_is_dirty(file.inode()) {
                to_result(kb::sync_inode_metadata(file.inode(), 1))?;
            }
            T::sync_file(file.0, data_only != 0)?;
        }
        Ok(0)
    })
}
