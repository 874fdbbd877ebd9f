// SPDX-License-Identifier: GPL-2.0

//! Block devices: looked at, or claimed for a superblock; read and written, any range of bytes from and to any memory.

use crate::{
    bindings,
    transfer,
    transfer::Piece, //
};
use core::{
    fmt,
    ptr::NonNull, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    bindings as kb,
    error::from_err_ptr,
    page::PAGE_SIZE,
    prelude::*, //
};

const SECTOR: u64 = 512;

/// The most that is read at once: an allocation that succeeds on any machine that is not out of memory.
const BOUNCE_MAX: usize = 32 * 1024;

/// A device's number, as stat(2) shows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber(pub u32);

impl DeviceNumber {
    /// # Safety
    ///
    /// `bdev` is valid.
    pub(crate) unsafe fn of(bdev: *mut kb::block_device) -> Self {
        // SAFETY: As the caller says.
        DeviceNumber(unsafe { bindings::embr_bdev_number(bdev) })
    }
}

/// A device's short name, as in the kernel's log.
#[derive(Clone, Copy)]
pub struct DeviceName([u8; 32]);

impl DeviceName {
    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|b| *b == 0).next().unwrap_or(&[])
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_bytes().escape_ascii(), f)
    }
}

/// Why a device could not be read or written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum IoError {
    /// The range lies beyond the device's end.
    BeyondEnd,
    /// No memory.
    NoMemory,
    /// The device failed.
    Failed,
}

/// What a device is claimed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It is never written.
    ReadOnly,
    /// It may be written.
    ReadWrite,
}

/// An open block device.
pub struct BlockDevice {
    /// Invariant: a block device's file, open for reading and, if it was claimed so, for writing, whose reference is ours.
    file: NonNull<kb::file>,
    /// The superblock that it is claimed for. The claim keeps the superblock's memory.
    claimed_for: Option<NonNull<kb::super_block>>,
}

// SAFETY: A file reference may be used and released by any thread.
unsafe impl Send for BlockDevice {}
// SAFETY: Reading and writing submit requests, which any number of threads may do at once.
unsafe impl Sync for BlockDevice {}

impl BlockDevice {
    /// Opens a device to look at, whoever uses it.
    pub fn open(path: &CStr) -> Result<Self> {
        // SAFETY: The path is terminated; no holder, so no holder's operations.
        let file = from_err_ptr(unsafe {
            kb::bdev_file_open_by_path(
                path.as_char_ptr(),
                bindings::EMBR_CONST_BLK_OPEN_READ,
                core::ptr::null_mut(),
                core::ptr::null(),
            )
        })?;
        Self::of(file, None)
    }

    /// # Safety
    ///
    /// `sb` is valid, and made by sget_fc.
    pub(crate) unsafe fn claim(
        path: &CStr,
        access: Access,
        sb: *mut kb::super_block,
    ) -> Result<Self> {
        let write = match access {
            Access::ReadOnly => 0,
            Access::ReadWrite => bindings::EMBR_CONST_BLK_OPEN_WRITE,
        };
        // SAFETY: The path is terminated; the superblock is its own holder.
        let file = from_err_ptr(unsafe {
            kb::fs_bdev_file_open_by_path(
                path.as_char_ptr(),
                bindings::EMBR_CONST_BLK_OPEN_READ
                    | bindings::EMBR_CONST_BLK_OPEN_RESTRICT_WRITES
                    | write,
                sb.cast(),
                sb,
            )
        })?;
        Self::of(file, NonNull::new(sb))
    }

    fn of(file: *mut kb::file, claimed_for: Option<NonNull<kb::super_block>>) -> Result<Self> {
        Ok(BlockDevice {
            file: NonNull::new(file).ok_or(ENXIO)?,
            claimed_for,
        })
    }

    pub(crate) fn raw(&self) -> *mut kb::block_device {
        // SAFETY: By the type's invariant.
        unsafe { kb::file_bdev(self.file.as_ptr()) }
    }

    /// Bytes on the device.
    pub fn size(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { bindings::embr_bdev_size(self.raw()) }
    }

    /// The least that it reads or writes.
    pub(crate) fn logical_block_size(&self) -> u64 {
        // SAFETY: The device is open.
        u64::from(unsafe { bindings::embr_bdev_logical_block_size(self.raw()) }).max(SECTOR)
    }

    /// Its number.
    pub fn number(&self) -> DeviceNumber {
        // SAFETY: The device is open.
        unsafe { DeviceNumber::of(self.raw()) }
    }

    /// Its name.
    pub fn name(&self) -> DeviceName {
        let mut name = [0u8; 32];
        // SAFETY: The device is open; the name is as long as said, and comes out terminated.
        unsafe { bindings::embr_bdev_name(self.raw(), name.as_mut_ptr(), name.len()) };
        DeviceName(name)
    }

    /// Fills `into` from the bytes at `at`.
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), IoError> {
        if let Some(piece) = Piece::read(self, at, into) {
            let mut pieces = [Some(piece)];
            // SAFETY: Made by `Piece::read`.
            unsafe { transfer::read_all(&mut pieces) };
            let failed = pieces.iter().flatten().any(Piece::failed);
            return if failed { Err(IoError::Failed) } else { Ok(()) };
        }
        let mut parts = Parts::new(self, at, into.len())?;
        let mut rest = into;
        while let Some(part) = parts.next(rest.len()) {
            let from = parts.bounce.read(self, part.at, part.whole)?;
            let from = from.get(part.skip..part.skip + part.take);
            let (now, later) = rest.split_at_mut(part.take);
            now.copy_from_slice(from.ok_or(IoError::Failed)?);
            rest = later;
        }
        Ok(())
    }

    /// Writes `from` at `at`, whole blocks of the device. Many writes at once go by [`transfer::write_all`].
    pub fn write(&self, at: u64, from: &[u8]) -> Result<(), IoError> {
        if let Some(piece) = Piece::write(self, at, from) {
            let mut pieces = [Some(piece)];
            transfer::write_all(&mut pieces);
            let failed = pieces.iter().flatten().any(Piece::failed);
            return if failed { Err(IoError::Failed) } else { Ok(()) };
        }
        let mut parts = Parts::new(self, at, from.len())?;
        let mut rest = from;
        while let Some(part) = parts.next(rest.len()) {
            if part.skip != 0 || part.whole != part.take {
                return Err(IoError::Failed);
            }
            let (now, later) = rest.split_at(part.take);
            parts.bounce.write(self, part.at, now)?;
            rest = later;
        }
        Ok(())
    }

    /// Whether it can be told what nobody needs any more.
    pub fn can_discard(&self) -> bool {
        // SAFETY: The device is open.
        unsafe { bindings::embr_bdev_max_discard_sectors(self.raw()) != 0 }
    }

    /// Tells it that nobody needs these whole blocks of the device any more; what they read as afterwards, nobody knows. Says whether
    /// it did as it was told.
    pub fn discard(&self, at: u64, length: u64) -> bool {
        let block = self.logical_block_size();
        let end = at.checked_add(length).filter(|end| *end <= self.size());
        if end.is_none() || at % block != 0 || length % block != 0 || !self.can_discard() {
            return false;
        }
        // SAFETY: The device is open, and the range lies on it.
        let done = unsafe {
            kb::blkdev_issue_discard(
                self.raw(),
                at / SECTOR,
                length / SECTOR,
                bindings::EMBR_CONST_GFP_NOIO,
            )
        };
        done == 0
    }

    /// Returns once all that was written before is durable.
    pub fn flush(&self) -> Result<(), IoError> {
        // SAFETY: The device is open.
        match unsafe { kb::blkdev_issue_flush(self.raw()) } {
            0 => Ok(()),
            _ => Err(IoError::Failed),
        }
    }
}

impl Drop for BlockDevice {
    fn drop(&mut self) {
        match self.claimed_for {
            // SAFETY: The reference is ours, claimed for that superblock, whose memory the claim keeps until here.
            Some(sb) => unsafe { kb::fs_bdev_file_release(self.file.as_ptr(), sb.as_ptr()) },
            // SAFETY: The reference is ours.
            None => unsafe { kb::bdev_fput(self.file.as_ptr()) },
        }
    }
}

/// A range of bytes in parts that a bounce buffer takes.
struct Parts {
    bounce: Bounce,
    block: u64,
    at: u64,
}

/// One part: `take` bytes behind the first `skip` of the `whole` that are moved.
struct Part {
    at: u64,
    skip: usize,
    take: usize,
    whole: usize,
}

impl Parts {
    fn new(device: &BlockDevice, at: u64, len: usize) -> Result<Self, IoError> {
        let end = at.checked_add(len as u64).ok_or(IoError::BeyondEnd)?;
        if end > device.size() {
            return Err(IoError::BeyondEnd);
        }
        let block = device.logical_block_size();
        Ok(Parts {
            bounce: Bounce::new(len, block as usize)?,
            block,
            at,
        })
    }

    fn next(&mut self, rest: usize) -> Option<Part> {
        if rest == 0 {
            return None;
        }
        let skip = (self.at % self.block) as usize;
        let take = rest.min(self.bounce.0.len() - skip);
        let part = Part {
            at: self.at - skip as u64,
            skip,
            take,
            // The last block may stick out beyond a device whose size is not a multiple of it.
            whole: (skip + take).next_multiple_of(self.block as usize),
        };
        self.at += take as u64;
        Some(part)
    }
}

/// Memory that a device can read into and write from: physically contiguous, aligned to its own size.
struct Bounce(KVec<u8>);

impl Bounce {
    /// Memory for reading `wanted` bytes in blocks of `block`, or for a part of them.
    fn new(wanted: usize, block: usize) -> Result<Self, IoError> {
        let least = PAGE_SIZE.max(block);
        // One block more than asked: the range may begin in the middle of one.
        let most = wanted
            .saturating_add(block)
            .min(BOUNCE_MAX)
            .next_power_of_two()
            .max(least);
        for size in [most, least] {
            if let Ok(memory) = KVec::zeroed(size, GFP_KERNEL | __GFP_NOWARN) {
                return Ok(Bounce(memory));
            }
        }
        Err(IoError::NoMemory)
    }

    /// Reads whole blocks, at most as much as there is room for.
    fn read(&mut self, device: &BlockDevice, at: u64, len: usize) -> Result<&[u8], IoError> {
        self.go(device, at, len, kb::req_op_REQ_OP_READ)?;
        self.0.get(..len).ok_or(IoError::Failed)
    }

    /// Writes whole blocks, at most as much as there is room for.
    fn write(&mut self, device: &BlockDevice, at: u64, from: &[u8]) -> Result<(), IoError> {
        let into = self.0.get_mut(..from.len()).ok_or(IoError::Failed)?;
        into.copy_from_slice(from);
        self.go(device, at, from.len(), kb::req_op_REQ_OP_WRITE)
    }

    fn go(
        &mut self,
        device: &BlockDevice,
        at: u64,
        len: usize,
        operation: kb::req_op,
    ) -> Result<(), IoError> {
        let memory = self.0.get_mut(..len).ok_or(IoError::Failed)?;
        // SAFETY: The device is open. The memory is kmalloc's, not vmalloc's, and exclusively borrowed until it is done;
        // kmalloc aligns a power of two to itself.
        let done = unsafe {
            kb::bdev_rw_virt(
                device.raw(),
                at / SECTOR,
                memory.as_mut_ptr().cast(),
                len,
                operation,
            )
        };
        match done {
            0 => Ok(()),
            e if e == ENOMEM.to_errno() => Err(IoError::NoMemory),
            _ => Err(IoError::Failed),
        }
    }
}
