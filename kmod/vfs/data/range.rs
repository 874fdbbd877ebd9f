// SPDX-License-Identifier: GPL-2.0

//! fallocate(2): room for a range, holes, zeros, and ranges cut out or pushed in. What is dirty in a range, and all behind one that
//! moves, is written back first; then the page cache forgets it, and the file system does it.

use super::{
    map::IoMap,
    size::{
        clear_tail,
        Alone, //
    },
    state::{
        Changing,
        DataFile,
        BLOCK, //
    },
    write::WriteTable,
    writeback::make_known,
    Allocation,
    FileData, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings as kb,
    error::to_result,
    prelude::*, //
};

pub(super) struct RangeTable<T>(PhantomData<T>);

/// What fallocate(2) is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Allocate,
    Punch,
    Zero,
    Collapse,
    Insert,
}

impl Mode {
    /// The mode of these flags, and whether the size stays.
    fn of(flags: u32) -> Option<(Mode, bool)> {
        let keep = flags & bindings::FALLOC_FL_KEEP_SIZE != 0;
        match flags & !bindings::FALLOC_FL_KEEP_SIZE {
            0 => Some((Mode::Allocate, keep)),
            bindings::FALLOC_FL_PUNCH_HOLE if keep => Some((Mode::Punch, keep)),
            bindings::FALLOC_FL_ZERO_RANGE => Some((Mode::Zero, keep)),
            bindings::FALLOC_FL_COLLAPSE_RANGE if !keep => Some((Mode::Collapse, keep)),
            bindings::FALLOC_FL_INSERT_RANGE if !keep => Some((Mode::Insert, keep)),
            _ => None,
        }
    }
}

impl<T: FileData> RangeTable<T> {
    /// # Safety
    ///
    /// Called by the VFS for a file of `T` that is open for writing, with a range within what a file may have.
    pub(super) unsafe extern "C" fn fallocate(
        opened: *mut kb::file,
        flags: c_int,
        offset: kb::loff_t,
        len: kb::loff_t,
    ) -> c_long {
        let Some((mode, keep)) = Mode::of(flags as u32) else {
            return EOPNOTSUPP.to_errno() as c_long;
        };
        let range = offset as u64..offset as u64 + len as u64;
        // SAFETY: As the caller says; the lock is given back.
        let result = unsafe {
            let file = DataFile::<T>::from_raw((*opened).f_inode);
            bindings::embr_inode_lock(file.inode());
            let result = Self::locked(file, opened, mode, keep, range);
            bindings::embr_inode_unlock(file.inode());
            result
        };
        result.err().map_or(0, |e| e.to_errno() as c_long)
    }

    /// # Safety
    ///
    /// The inode is that of the opened file, and locked.
    unsafe fn locked(
        file: DataFile<'_, T>,
        opened: *mut kb::file,
        mode: Mode,
        keep: bool,
        range: Range<u64>,
    ) -> Result {
        T::may_change(file.0)?;
        let _alone = Alone::new(&file);
        // SAFETY: As the caller says.
        unsafe {
            to_result(kb::file_modified(opened))?;
            match mode {
                Mode::Allocate => Self::allocate(file, range, keep),
                Mode::Punch => Self::punch(file, range),
                Mode::Zero => Self::zero(file, range, keep),
                Mode::Collapse | Mode::Insert => Self::shift(file, mode, range),
            }
        }
    }

    /// Makes a file as large as the end of a range, if it is smaller and that is wanted. The new size.
    fn grown(file: DataFile<'_, T>, end: u64, keep: bool) -> Result<Option<u64>> {
        if keep || end <= file.size() {
            return Ok(None);
        }
        // SAFETY: The inode is valid.
        to_result(unsafe { kb::inode_newsize_ok(file.inode(), end as i64) })?;
        // What the volume does not know yet would be zeros there.
        make_known(file, file.size())?;
        Ok(Some(end))
    }

    /// Lets the file system do it; the file has another size from then on.
    ///
    /// # Safety
    ///
    /// The inode is locked, and its mapping against those who would fill the page cache.
    unsafe fn carry_out(
        file: DataFile<'_, T>,
        what: Allocation,
        blocks: Range<u64>,
        size: Option<u64>,
    ) -> Result {
        let old = file.size();
        // SAFETY: As the caller says.
        unsafe {
            if size.is_some_and(|size| size > old) {
                clear_tail(file, old);
            }
            let _changing = Changing::new(&file);
            let mut known = file.known();
            T::allocate(file.0, what, blocks, size)?;
            if let Some(size) = size {
                known.size = size;
                bindings::embr_i_size_write(file.inode(), size as i64);
            }
        }
        if let Some(size) = size.filter(|size| *size > old) {
            // SAFETY: As the caller says.
            unsafe { kb::pagecache_isize_extended(file.inode(), old as i64, size as i64) };
        }
        Ok(())
    }

    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn allocate(file: DataFile<'_, T>, range: Range<u64>, keep: bool) -> Result {
        let size = Self::grown(file, range.end, keep)?;
        // SAFETY: As the caller says.
        unsafe { Self::carry_out(file, Allocation::Reserve, outer(&range), size) }
    }

    /// Zeroes what lies in a range but not in whole blocks of it; writes back and forgets the rest.
    ///
    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn clear(file: DataFile<'_, T>, range: &Range<u64>) -> Result {
        let whole = inner(range);
        // SAFETY: As the caller says.
        unsafe {
            match whole.is_empty() {
                true => Self::zero_bytes(file, range.clone())?,
                false => {
                    Self::zero_bytes(file, range.start..whole.start)?;
                    Self::zero_bytes(file, whole.end..range.end)?;
                }
            }
            if !whole.is_empty() {
                let (first, last) = (whole.start as i64, whole.end as i64 - 1);
                to_result(kb::filemap_write_and_wait_range(
                    file.mapping(),
                    first,
                    last,
                ))?;
                kb::truncate_pagecache_range(file.inode(), first, last);
            }
        }
        Ok(())
    }

    /// Zeroes bytes in the page cache, as far as the file has them.
    ///
    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn zero_bytes(file: DataFile<'_, T>, range: Range<u64>) -> Result {
        let end = range.end.min(file.size());
        if range.start >= end {
            return Ok(());
        }
        // SAFETY: As the caller says.
        to_result(unsafe {
            bindings::iomap_zero_range(
                file.inode(),
                range.start as i64,
                (end - range.start) as i64,
                core::ptr::null_mut(),
                IoMap::<T>::report_operations(),
                WriteTable::<T>::operations(),
                core::ptr::null_mut(),
            )
        })
    }

    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn punch(file: DataFile<'_, T>, range: Range<u64>) -> Result {
        // SAFETY: As the caller says.
        unsafe {
            Self::clear(file, &range)?;
            match inner(&range) {
                whole if whole.is_empty() => Ok(()),
                whole => Self::carry_out(file, Allocation::Punch, whole, None),
            }
        }
    }

    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn zero(file: DataFile<'_, T>, range: Range<u64>, keep: bool) -> Result {
        // SAFETY: As the caller says.
        unsafe {
            Self::clear(file, &range)?;
            let size = Self::grown(file, range.end, keep)?;
            let whole = inner(&range);
            if whole.is_empty() && size.is_none() {
                return Ok(());
            }
            Self::carry_out(file, Allocation::Zero, whole, size)
        }
    }

    /// # Safety
    ///
    /// As [`Self::carry_out`].
    unsafe fn shift(file: DataFile<'_, T>, mode: Mode, range: Range<u64>) -> Result {
        let size = file.size();
        if inner(&range) != range {
            return Err(EINVAL);
        }
        let len = range.end - range.start;
        let (what, size) = match mode {
            Mode::Collapse if range.end < size => (Allocation::Collapse, size - len),
            Mode::Insert if range.start < size => {
                let size = size.checked_add(len).ok_or(EFBIG)?;
                let signed = i64::try_from(size).map_err(|_| EFBIG)?;
                // SAFETY: The inode is valid.
                to_result(unsafe { kb::inode_newsize_ok(file.inode(), signed) })?;
                (Allocation::Insert, size)
            }
            _ => return Err(EINVAL),
        };
        // What is before it stays; the volume has to know all of it to move what is behind.
        make_known(file, file.size())?;
        // SAFETY: As the caller says.
        unsafe {
            to_result(kb::filemap_write_and_wait_range(
                file.mapping(),
                range.start as i64,
                i64::MAX,
            ))?;
            kb::truncate_pagecache_range(file.inode(), range.start as i64, -1);
            Self::carry_out(file, what, range, Some(size))
        }
    }
}

/// The whole blocks that touch a range.
fn outer(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK * BLOCK..range.end.next_multiple_of(BLOCK)
}

/// The whole blocks within a range; empty where there is none.
fn inner(range: &Range<u64>) -> Range<u64> {
    let start = range.start.next_multiple_of(BLOCK);
    start..(range.end / BLOCK * BLOCK).max(start)
}
