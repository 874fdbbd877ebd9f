// SPDX-License-Identifier: GPL-2.0

//! From the volume into the page cache. Folios that lie together are read at once; where a block among them cannot be read, only
//! that one fails.

use super::{
    state::{
        DataFile,
        BLOCK, //
    },
    FileData,
    IoMap, //
};
use crate::{
    bindings,
    nofs::NoFs, //
};
use core::{
    marker::PhantomData,
    slice, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings as kb,
    error::from_result,
    prelude::*, //
};

/// Folios that are read at once.
const PARTS: usize = 32;
/// Bytes that are read at once, unless they lie in one folio.
const TOGETHER: usize = 128 * 1024;

/// A range of a locked folio that nobody has read yet, so nobody looks at it.
struct Part {
    folio: *mut kb::folio,
    offset: usize,
    len: usize,
}

impl Part {
    /// # Safety
    ///
    /// The folio is still locked, and the range not read yet.
    unsafe fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: As the caller says: nobody else touches the range. Folios lie in one piece: memory is never high here.
        unsafe {
            let start: *mut u8 = bindings::embr_folio_address(self.folio, self.offset).cast();
            slice::from_raw_parts_mut(start, self.len)
        }
    }

    /// # Safety
    ///
    /// Only once for each part, at last.
    unsafe fn finish(self, offset: usize, len: usize, result: Result) {
        let error = result.err().map_or(0, |e| e.to_errno());
        // SAFETY: As the caller says.
        unsafe { bindings::iomap_finish_folio_read(self.folio, self.offset + offset, len, error) };
    }
}

#[cfg(CONFIG_HIGHMEM)]
compile_error!("folios are reached through their addresses");

/// What is gathered while the page cache names the folios that it wants.
struct Batch<T> {
    parts: KVec<Part>,
    /// Where the first of them begins in the file, and where the last ends.
    from: u64,
    to: u64,
    bounce: KVVec<u8>,
    _file_system: PhantomData<T>,
}

impl<T: FileData> Batch<T> {
    fn new() -> Result<Self> {
        Ok(Batch {
            parts: KVec::with_capacity(PARTS, GFP_KERNEL | __GFP_NOWARN)?,
            from: 0,
            to: 0,
            bounce: KVVec::new(),
            _file_system: PhantomData,
        })
    }

    /// Takes over a range of a folio.
    fn add(&mut self, file: DataFile<'_, T>, at: u64, part: Part) {
        let len = part.len as u64;
        let together = self.to + len - self.from;
        if self.parts.len() == PARTS || at != self.to || together > TOGETHER as u64 {
            self.read(file);
        }
        if self.parts.is_empty() {
            self.from = at;
        }
        self.to = at + len;
        // There is room: `read` leaves none there, and the vector was made with as much.
        let _ = self.parts.push_within_capacity(part);
    }

    /// Reads what was gathered.
    fn read(&mut self, file: DataFile<'_, T>) {
        if self.parts.len() > 1 && self.read_together(file).is_ok() {
            return;
        }
        let mut at = self.from;
        for part in self.parts.drain_all() {
            let len = part.len as u64;
            // SAFETY: Its folio is locked since it was gathered.
            unsafe { read_alone(file, at, part) };
            at += len;
        }
    }

    /// Reads all in one piece. Where that fails, nothing happened.
    fn read_together(&mut self, file: DataFile<'_, T>) -> Result {
        let len = (self.to - self.from) as usize;
        if self.bounce.len() < len {
            self.bounce = KVVec::zeroed(TOGETHER, GFP_KERNEL | __GFP_NOWARN)?;
        }
        let bytes = self.bounce.get_mut(..len).ok_or(EINVAL)?;
        T::read(file.0, self.from, bytes)?;
        let mut rest: &[u8] = bytes;
        for mut part in self.parts.drain_all() {
            let len = part.len;
            let (now, later) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            // SAFETY: Its folio is locked since it was gathered; finished here, once.
            unsafe {
                part.bytes().copy_from_slice(now);
                part.finish(0, len, Ok(()));
            }
            rest = later;
        }
        Ok(())
    }
}

/// Reads a part straight into its folio; block by block if it cannot be read as a whole.
///
/// # Safety
///
/// The folio is locked and handed over.
unsafe fn read_alone<T: FileData>(file: DataFile<'_, T>, at: u64, mut part: Part) {
    let len = part.len;
    // SAFETY: As the caller says.
    let whole = T::read(file.0, at, unsafe { part.bytes() });
    if whole.is_ok() || len as u64 <= BLOCK {
        // SAFETY: As the caller says.
        unsafe { part.finish(0, len, whole) };
        return;
    }
    let (folio, start) = (part.folio, part.offset);
    let mut offset = 0;
    while offset < len {
        let mut block = Part {
            folio,
            offset: start + offset,
            len: (len - offset).min(BLOCK as usize),
        };
        let step = block.len;
        // SAFETY: As above. The folio stays locked until its last block is finished.
        unsafe {
            let done = T::read(file.0, at + offset as u64, block.bytes());
            block.finish(0, step, done);
        }
        offset += step;
    }
}

pub(super) struct ReadTable<T>(PhantomData<T>);

impl<T: FileData> ReadTable<T> {
    const OPERATIONS: bindings::iomap_read_ops = bindings::iomap_read_ops {
        read_folio_range: Some(Self::read_range),
        submit_read: Some(Self::submit),
        bio_set: core::ptr::null_mut(),
    };

    /// # Safety
    ///
    /// Called by iomap with a locked folio, of which the range from the iteration's position on is to be read.
    unsafe extern "C" fn read_range(
        iteration: *const bindings::iomap_iter,
        context: *mut bindings::iomap_read_folio_ctx,
        len: usize,
    ) -> c_int {
        // SAFETY: Both are valid for the call.
        unsafe {
            let folio = (*context).cur_folio;
            let file = DataFile::<T>::from_raw((*iteration).inode);
            let at = (*iteration).pos as u64;
            let offset = (at - bindings::embr_folio_pos(folio) as u64) as usize;
            let part = Part { folio, offset, len };
            let batch: *mut Batch<T> = (*context).read_ctx.cast();
            match batch.as_mut() {
                Some(batch) => batch.add(file, at, part),
                None => read_alone(file, at, part),
            }
        }
        0
    }

    /// # Safety
    ///
    /// Called by iomap when all folios were named.
    unsafe extern "C" fn submit(
        iteration: *const bindings::iomap_iter,
        context: *mut bindings::iomap_read_folio_ctx,
    ) {
        // SAFETY: Both are valid for the call; the batch is ours alone.
        unsafe {
            let batch: *mut Batch<T> = (*context).read_ctx.cast();
            (*batch).read(DataFile::from_raw((*iteration).inode));
        }
    }

    fn context() -> bindings::iomap_read_folio_ctx {
        bindings::iomap_read_folio_ctx {
            ops: &Self::OPERATIONS,
            ..pin_init::zeroed()
        }
    }

    /// # Safety
    ///
    /// Called by the page cache with a locked folio of a file of `T`.
    pub(super) unsafe extern "C" fn read_folio(
        _file: *mut kb::file,
        folio: *mut kb::folio,
    ) -> c_int {
        let _scope = NoFs::new();
        let mut context = Self::context();
        context.cur_folio = folio;
        // SAFETY: The folio is handed over; the tables are static.
        unsafe {
            bindings::iomap_read_folio(
                IoMap::<T>::operations(),
                &mut context,
                core::ptr::null_mut(),
            );
        }
        0
    }

    /// # Safety
    ///
    /// Called by the page cache with locked folios of a file of `T`.
    pub(super) unsafe extern "C" fn readahead(control: *mut kb::readahead_control) {
        let _scope = NoFs::new();
        let mut batch = Batch::<T>::new().ok();
        let mut context = Self::context();
        context.rac = control;
        context.read_ctx = batch
            .as_mut()
            .map_or(core::ptr::null_mut(), |batch| (&raw mut *batch).cast());
        // SAFETY: The folios are handed over; the batch outlives the call, and is read at its end.
        unsafe {
            bindings::iomap_readahead(
                IoMap::<T>::operations(),
                &mut context,
                core::ptr::null_mut(),
            );
        }
    }

    /// Fills a part of a locked folio that is to be written in part.
    ///
    /// # Safety
    ///
    /// Called by iomap.
    pub(super) unsafe extern "C" fn read_for_write(
        iteration: *const bindings::iomap_iter,
        folio: *mut kb::folio,
        at: kb::loff_t,
        len: usize,
    ) -> c_int {
        from_result(|| {
            let _scope = NoFs::new();
            // SAFETY: All are valid for the call; the folio is locked and the range not read yet.
            unsafe {
                let offset = (at - bindings::embr_folio_pos(folio)) as usize;
                let mut part = Part { folio, offset, len };
                let file = DataFile::<T>::from_raw((*iteration).inode);
                T::read(file.0, at as u64, part.bytes())?;
            }
            Ok(0)
        })
    }
}
