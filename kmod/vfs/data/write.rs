// SPDX-License-Identifier: GPL-2.0

//! From programs into the page cache: write(2), and stores through mappings. A block gets room on the volume before it becomes
//! dirty, with its folio locked, so that a lack of it is told here and never later. Nothing here asks for places on devices.

use super::{
    read::ReadTable,
    size::{
        clear_tail,
        forget_behind, //
    },
    state::{
        blocks,
        Changing,
        DataFile, //
    },
    FileData,
    IoMap, //
};
use crate::bindings;
use core::marker::PhantomData;
use kernel::{
    bindings as kb,
    error::from_err_ptr,
    prelude::*, //
};

pub(super) struct WriteTable<T>(PhantomData<T>);

impl<T: FileData> WriteTable<T> {
    const OPERATIONS: bindings::iomap_write_ops = bindings::iomap_write_ops {
        get_folio: Some(Self::get_folio),
        put_folio: Some(Self::put_folio),
        // Its mappings say nothing that could become untrue.
        iomap_valid: None,
        read_folio_range: Some(ReadTable::<T>::read_for_write),
    };

    pub(super) const fn operations() -> &'static bindings::iomap_write_ops {
        &Self::OPERATIONS
    }

    /// # Safety
    ///
    /// Called by iomap for a file of `T`.
    unsafe extern "C" fn get_folio(
        iteration: *mut bindings::iomap_iter,
        at: kb::loff_t,
        len: c_uint,
    ) -> *mut kb::folio {
        // SAFETY: As the caller says. The folio comes locked, referenced, and not under writeback.
        unsafe {
            let file = DataFile::<T>::from_raw((*iteration).inode);
            let folio = bindings::iomap_get_folio(iteration, at, len as usize);
            if from_err_ptr(folio).is_err() {
                return folio;
            }
            let end =
                bindings::embr_folio_pos(folio) as u64 + bindings::embr_folio_size(folio) as u64;
            let at = at as u64;
            match file.reserve(blocks(at..end.min(at + u64::from(len)))) {
                Ok(()) => folio,
                Err(error) => {
                    bindings::embr_folio_put_locked(folio);
                    error.to_ptr()
                }
            }
        }
    }

    /// # Safety
    ///
    /// Called by iomap for a folio from `get_folio`, when so many bytes were written to it.
    unsafe extern "C" fn put_folio(
        inode: *mut kb::inode,
        at: kb::loff_t,
        copied: c_uint,
        folio: *mut kb::folio,
    ) {
        // SAFETY: As the caller says; the reference and the lock are ours.
        unsafe {
            let file = DataFile::<T>::from_raw(inode);
            let at = at as u64;
            file.settle(match copied {
                0 => 0..0,
                _ => blocks(at..at + u64::from(copied)),
            });
            bindings::embr_folio_put_locked(folio);
        }
    }

    /// # Safety
    ///
    /// Called by the VFS.
    pub(super) unsafe extern "C" fn write_iter(
        iocb: *mut kb::kiocb,
        from: *mut kb::iov_iter,
    ) -> isize {
        // SAFETY: An open file holds a reference to its inode.
        let file = unsafe { DataFile::<T>::from_raw((*(*iocb).ki_filp).f_inode) };
        let mut tries = 0;
        let written = loop {
            // SAFETY: Both are valid for the call.
            let result = unsafe { Self::write_locked(file, iocb, from) };
            if result != Err(ENOSPC) || tries == T::MAKE_ROOM_TRIES {
                break result;
            }
            tries += 1;
            Self::make_room(file);
        };
        match written {
            // SAFETY: So many bytes were written just now.
            Ok(count) if count > 0 => unsafe { bindings::embr_write_sync(iocb, count) },
            Ok(count) => count,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Both are valid.
    unsafe fn write_locked(
        file: DataFile<'_, T>,
        iocb: *mut kb::kiocb,
        from: *mut kb::iov_iter,
    ) -> Result<isize> {
        T::may_change(file.0)?;
        let inode = file.inode();
        // SAFETY: Both are valid, says the caller; the lock is given back below.
        let written = unsafe {
            bindings::embr_inode_lock(inode);
            let mut written = kb::generic_write_checks(iocb, from);
            if written > 0 {
                written = match Self::prepare(file, iocb) {
                    Ok(()) => bindings::iomap_file_buffered_write(
                        iocb,
                        from,
                        IoMap::<T>::operations(),
                        Self::operations(),
                        core::ptr::null_mut(),
                    ),
                    Err(error) => error.to_errno() as isize,
                };
            }
            bindings::embr_inode_unlock(inode);
            written
        };
        if written < 0 {
            return Err(Error::from_errno(written as c_int));
        }
        Ok(written)
    }

    /// # Safety
    ///
    /// The request is valid and its inode locked.
    unsafe fn prepare(file: DataFile<'_, T>, iocb: *mut kb::kiocb) -> Result {
        // SAFETY: As the caller says.
        unsafe {
            kernel::error::to_result(kb::kiocb_modified(iocb))?;
            let size = file.size();
            if (*iocb).ki_pos as u64 > size {
                clear_tail(file, size);
                forget_behind(file, size)?;
            }
        }
        Ok(())
    }

    /// Frees room: all that is dirty is written, which may need less than was set aside for it.
    fn make_room(file: DataFile<'_, T>) {
        file.0.write_all_and_wait();
        let _changing = Changing::new(&file);
        // If it fails, so will the next try.
        let _ = T::make_room(file.0.volume());
    }

    /// # Safety
    ///
    /// Called by the page fault handler before the first store to a page of a file of `T`.
    pub(super) unsafe extern "C" fn page_mkwrite(fault: *mut kb::vm_fault) -> kb::vm_fault_t {
        // SAFETY: As the caller says; locks and protection are given back in order.
        unsafe {
            let opened = bindings::embr_fault_file(fault);
            let file = DataFile::<T>::from_raw((*opened).f_inode);
            if T::may_change(file.0).is_err() {
                return kb::vm_fault_reason_VM_FAULT_SIGBUS;
            }
            let sb = (*file.inode()).i_sb;
            bindings::embr_sb_start_pagefault(sb);
            kb::file_update_time(opened);
            let mut tries = 0;
            let result = loop {
                bindings::embr_invalidate_lock_shared(file.mapping());
                let result = bindings::iomap_page_mkwrite(
                    fault,
                    IoMap::<T>::fault_operations(),
                    bindings::embr_fault_folio(fault).cast(),
                );
                bindings::embr_invalidate_unlock_shared(file.mapping());
                let failed = result == kb::vm_fault_reason_VM_FAULT_SIGBUS;
                if !failed || !file.was_short() || tries == T::MAKE_ROOM_TRIES {
                    break result;
                }
                tries += 1;
                // What becomes of this file's dirty bytes is told to who waits for them.
                let _ = kb::filemap_write_and_wait_range(file.mapping(), 0, i64::MAX);
                let _changing = Changing::new(&file);
                // If it fails, so will the next try.
                let _ = T::make_room(file.0.volume());
            };
            bindings::embr_sb_end_pagefault(sb);
            result
        }
    }
}
