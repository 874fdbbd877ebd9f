// SPDX-License-Identifier: GPL-2.0

//! From the page cache to the volume. Each call gathers dirty ranges of one file, hands them on as often as they are many enough
//! and at its end, and returns when they are done: nobody waits for what was gathered and waits for nobody.
//!
//! The size on the volume follows here: it never passes a byte beyond the old one that awaits its first writeback.

use super::{
    gather::{
        Part,
        Taken,
        FOLIOS, //
    },
    state::{
        blocks,
        Changing,
        DataFile,
        Known,
        BLOCK, //
    },
    Dirty,
    FileData,
    Written, //
};
use crate::{
    bindings,
    inode::Time, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings as kb,
    error::to_result,
    prelude::*,
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// Ranges that are handed on at once.
const RANGES: usize = Dirty::RANGES;
/// How long to wait for others who are about to write, before looking again.
const PATIENCE: Delta = Delta::from_millis(10);
/// How often to do so: half a minute.
const IDLE_ROUNDS: u32 = 3000;

/// What was gathered of a file.
#[repr(C)]
struct Gather<'a, T: FileData> {
    /// First: iomap gives us back a pointer to it.
    context: bindings::iomap_writepage_ctx,
    file: DataFile<'a, T>,
    bytes: &'a mut [u8],
    parts: &'a mut KVec<Part>,
    /// Where in the file what was gathered lies, in the order of the bytes.
    ranges: [Range<u64>; RANGES],
    count: usize,
    filled: usize,
    /// Room was set aside for all of it. What became dirty without must not use up what others were promised.
    promised: bool,
    /// Somebody waits for it to be durable.
    urgent: bool,
    /// Something was handed on before.
    more: bool,
    error: Result,
}

pub(super) struct WritebackTable<T>(PhantomData<T>);

impl<T: FileData> WritebackTable<T> {
    const OPERATIONS: bindings::iomap_writeback_ops = bindings::iomap_writeback_ops {
        writeback_range: Some(Self::range),
        writeback_submit: Some(Self::submit),
    };

    /// # Safety
    ///
    /// Called by the VFS for a file of `T`, with no folio locked.
    pub(super) unsafe extern "C" fn writepages(
        mapping: *mut kb::address_space,
        control: *mut kb::writeback_control,
    ) -> c_int {
        // SAFETY: As the caller says.
        let file = unsafe { DataFile::<T>::of_mapping(mapping) };
        // Taken before any folio is locked: who has it may wait for folios.
        let Some(memory) = T::memory(file.0.volume()) else {
            return EROFS.to_errno();
        };
        let mut taken = memory.take();
        // SAFETY: As the caller says.
        let urgent = unsafe {
            (*control).sync_mode == kb::writeback_sync_modes_WB_SYNC_ALL
                && (*control).for_sync() == 0
        };
        let result = Self::write_back(file, control, &mut taken, urgent);
        // Not from within: both go deep.
        let published = publish(file);
        if let Err(error) = published {
            // SAFETY: The mapping is valid.
            unsafe { bindings::embr_mapping_set_error(mapping, error.to_errno()) };
        }
        let result = result.and(published);
        result.err().map_or(0, |error| error.to_errno())
    }

    #[inline(never)]
    fn write_back(
        file: DataFile<'_, T>,
        control: *mut kb::writeback_control,
        taken: &mut Taken<'_>,
        urgent: bool,
    ) -> Result {
        let (bytes, parts) = taken.split();
        let mut gather = Gather::<T> {
            context: bindings::iomap_writepage_ctx {
                inode: file.inode(),
                wbc: control,
                ops: &Self::OPERATIONS,
                ..pin_init::zeroed()
            },
            file,
            bytes,
            parts,
            ranges: [const { 0..0 }; RANGES],
            count: 0,
            filled: 0,
            promised: false,
            urgent,
            more: false,
            error: Ok(()),
        };
        // What is not a hole is written back.
        gather.context.iomap.type_ = bindings::IOMAP_MAPPED as u16;
        let own = &raw mut gather;
        // SAFETY: `gather` outlives the call; only its functions use it meanwhile.
        unsafe {
            (*own).context.wb_ctx = own.cast();
            let result = to_result(bindings::iomap_writepages(&raw mut (*own).context));
            result.and((*own).error)
        }
    }

    /// # Safety
    ///
    /// Called by iomap with the context of a [`Gather`], and a range of a locked folio under writeback.
    unsafe extern "C" fn range(
        context: *mut bindings::iomap_writepage_ctx,
        folio: *mut kb::folio,
        at: u64,
        len: c_uint,
        _end: u64,
    ) -> isize {
        // SAFETY: As the caller says; the folio's bytes do not change under writeback.
        unsafe {
            let gather: &mut Gather<'_, T> = &mut *(*context).wb_ctx.cast();
            let offset = (at - bindings::embr_folio_pos(folio) as u64) as usize;
            let start: *const u8 = bindings::embr_folio_address(folio, offset).cast();
            gather.add(folio, at, core::slice::from_raw_parts(start, len as usize)) as isize
        }
    }

    /// # Safety
    ///
    /// Called by iomap at the end, with the context of a [`Gather`].
    unsafe extern "C" fn submit(
        context: *mut bindings::iomap_writepage_ctx,
        error: c_int,
    ) -> c_int {
        // SAFETY: As the caller says.
        let gather: &mut Gather<'_, T> = unsafe { &mut *(*context).wb_ctx.cast() };
        gather.hand_on(true);
        error
    }
}

impl<T: FileData> Gather<'_, T> {
    /// Takes what there is room for of a range. How much that was.
    fn add(&mut self, folio: *mut kb::folio, at: u64, bytes: &[u8]) -> usize {
        let joins = self.joins(at);
        let (promised, alike) = promised(self.file, at);
        if self.filled == self.bytes.len()
            || self.parts.len() == FOLIOS
            || (!joins && self.count == RANGES)
            || promised != self.promised
        {
            self.hand_on(false);
        }
        self.promised = promised;
        let joins = self.joins(at);
        let room = self.bytes.get_mut(self.filled..).unwrap_or(&mut []);
        let len = room.len().min(bytes.len()).min(alike);
        if let (Some(to), Some(from)) = (room.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        let end = at + len as u64;
        if joins {
            if let Some(last) = self.ranges.get_mut(self.count - 1) {
                last.end = end;
            }
        } else if let Some(next) = self.ranges.get_mut(self.count) {
            *next = at..end;
            self.count += 1;
        }
        self.filled += len;
        // The vector was made with room for as many.
        let _ = self.parts.push_within_capacity(Part { folio, len });
        len
    }

    fn joins(&self, at: u64) -> bool {
        let last = self.count.checked_sub(1).and_then(|n| self.ranges.get(n));
        last.is_some_and(|range| range.end == at)
    }

    /// Writes what was gathered, and ends its writeback.
    #[inline(never)]
    fn hand_on(&mut self, last: bool) {
        if self.count > 0 {
            let done = self.write(last);
            self.error = self.error.and(done);
            self.more = true;
            let error = done.err().map_or(0, |error| error.to_errno());
            if error != 0 {
                self.report(error);
            }
            // SAFETY: These folios are under writeback because of us; each part is ended once.
            unsafe {
                bindings::embr_mapping_set_error(self.file.mapping(), error);
                for part in self.parts.drain_all() {
                    bindings::iomap_finish_folio_write(self.file.inode(), part.folio, part.len);
                }
            }
        }
        self.count = 0;
        self.filled = 0;
    }

    #[inline(never)]
    fn write(&mut self, last: bool) -> Result {
        let _changing = Changing::new(&self.file);
        let mut known = self.file.known();
        let size = self.file.size();
        let limit = limit(self.file, &known, size, self.ranges());
        let room = {
            let awaiting = self.file.awaiting();
            let ranges = self.ranges().iter();
            ranges.map(|r| awaiting.count(blocks(r.clone()))).sum()
        };
        let written = Written {
            size: (limit > known.size).then_some(limit),
            room,
            at_once: self.urgent && last && !self.more,
            ..times(self.file)
        };
        self.clear_tail(size);
        let dirty = Dirty {
            ranges: self.ranges(),
            bytes: self.bytes,
            end: size.next_multiple_of(BLOCK),
        };
        let result = T::write(self.file.0, dirty, &written);
        {
            let mut awaiting = self.file.awaiting();
            for range in self.ranges() {
                awaiting.remove(blocks(range.clone()));
            }
        }
        if result.is_ok() {
            known.size = written.size.unwrap_or(known.size);
        }
        result
    }

    /// Tells who watches for errors.
    fn report(&self, error: c_int) {
        for range in self.ranges() {
            let len = range.end - range.start;
            // SAFETY: The inode is valid.
            unsafe {
                bindings::embr_report_write_error(
                    self.file.inode(),
                    range.start as i64,
                    len,
                    error,
                );
            }
        }
    }

    fn ranges(&self) -> &[Range<u64>] {
        self.ranges.get(..self.count).unwrap_or(&[])
    }

    /// The file may have been cut within a block since that was gathered.
    fn clear_tail(&mut self, size: u64) {
        let mut begin = 0;
        for range in self.ranges.iter().take(self.count) {
            let len = (range.end - range.start) as usize;
            if range.contains(&size) {
                let from = begin + (size - range.start) as usize;
                let to = begin + (size.next_multiple_of(BLOCK) - range.start) as usize;
                if let Some(tail) = self.bytes.get_mut(from..to) {
                    tail.fill(0);
                }
            }
            begin += len;
        }
    }
}

/// Whether room was set aside for the block at `at`, and for how many bytes from there on it is the same.
fn promised<T: FileData>(file: DataFile<'_, T>, at: u64) -> (bool, usize) {
    let awaiting = file.awaiting();
    let block = at / BLOCK;
    let (promised, end) = match awaiting.first(block) {
        Some(first) if first == block => (true, awaiting.run_end(block)),
        first => (false, first.unwrap_or(u64::MAX)),
    };
    (promised, (end - block).saturating_mul(BLOCK) as usize)
}

/// How large the file may be on the volume once these ranges are written: no byte beyond its size there awaits its first
/// writeback below.
fn limit<T: FileData>(
    file: DataFile<'_, T>,
    known: &Known,
    size: u64,
    ranges: &[Range<u64>],
) -> u64 {
    let awaiting = file.awaiting();
    let mut from = known.size / BLOCK;
    while let Some(block) = awaiting.first(from) {
        let at = block * BLOCK;
        match ranges.iter().find(|range| range.contains(&at)) {
            Some(range) => from = range.end.div_ceil(BLOCK),
            None => return size.min(at),
        }
    }
    size
}

fn times<T: FileData>(file: DataFile<'_, T>) -> Written {
    let (mut changed, mut modified) = (
        pin_init::zeroed::<kb::timespec64>(),
        pin_init::zeroed::<kb::timespec64>(),
    );
    // SAFETY: The inode is valid.
    unsafe { bindings::embr_data_times(file.inode(), &mut changed, &mut modified) };
    Written {
        size: None,
        changed: Time::of(changed),
        modified: Time::of(modified),
        room: 0,
        at_once: false,
    }
}

/// Lets the volume know of as much of the file as it may.
pub(super) fn publish<T: FileData>(file: DataFile<'_, T>) -> Result {
    if file.known().size >= file.size() {
        return Ok(());
    }
    let _changing = Changing::new(&file);
    let mut known = file.known();
    let limit = limit(file, &known, file.size(), &[]);
    if limit > known.size {
        let written = Written {
            size: Some(limit),
            ..times(file)
        };
        T::write(file.0, Dirty::NONE, &written)?;
        known.size = limit;
    }
    Ok(())
}

/// Writes back until the volume knows that the file has so many bytes, or as many as are left of them.
pub(super) fn make_known<T: FileData>(file: DataFile<'_, T>, size: u64) -> Result {
    let mut before = None;
    let mut idle = 0;
    loop {
        publish(file)?;
        let known = file.known().size;
        let wanted = size.min(file.size());
        if known >= wanted {
            return Ok(());
        }
        // Each round writes the block at which the size stands, unless somebody is about to write to it.
        if before == Some(known) {
            if idle == IDLE_ROUNDS {
                return Err(EIO);
            }
            idle += 1;
            fsleep(PATIENCE);
        }
        before = Some(known);
        // SAFETY: The inode is valid.
        to_result(unsafe {
            kb::filemap_write_and_wait_range(file.mapping(), known as i64, wanted as i64 - 1)
        })?;
    }
}
