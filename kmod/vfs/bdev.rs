// SPDX-License-Identifier: GPL-2.0

//! Block devices: looked at, or claimed for a superblock; read synchronously, any range of bytes into any memory.

use crate::bindings;
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

/// Why a device could not be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadError {
    /// The range lies beyond the device's end.
    BeyondEnd,
    /// No memory.
    NoMemory,
    /// The device failed.
    Failed,
}

/// An open block device.
pub struct BlockDevice {
    /// Invariant: a block device's file, open for reading, whose reference is ours.
    file: NonNull<kb::file>,
    /// The superblock that it is claimed for. The claim keeps the superblock's memory.
    claimed_for: Option<NonNull<kb::super_block>>,
}

// SAFETY: A file reference may be used and released by any thread.
unsafe impl Send for BlockDevice {}
// SAFETY: Reading submits requests, which any number of threads may do at once.
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
    pub(crate) unsafe fn claim(path: &CStr, sb: *mut kb::super_block) -> Result<Self> {
        // SAFETY: The path is terminated; the superblock is its own holder.
        let file = from_err_ptr(unsafe {
            kb::fs_bdev_file_open_by_path(
                path.as_char_ptr(),
                bindings::EMBR_CONST_BLK_OPEN_READ | bindings::EMBR_CONST_BLK_OPEN_RESTRICT_WRITES,
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

    fn raw(&self) -> *mut kb::block_device {
        // SAFETY: By the type's invariant.
        unsafe { kb::file_bdev(self.file.as_ptr()) }
    }

    /// Bytes on the device.
    pub fn size(&self) -> u64 {
        // SAFETY: The device is open.
        unsafe { bindings::embr_bdev_size(self.raw()) }
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
    pub fn read(&self, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let end = at
            .checked_add(into.len() as u64)
            .ok_or(ReadError::BeyondEnd)?;
        if end > self.size() {
            return Err(ReadError::BeyondEnd);
        }
        // SAFETY: The device is open.
        let block = (unsafe { bindings::embr_bdev_logical_block_size(self.raw()) } as usize)
            .max(SECTOR as usize);
        let mut bounce = Bounce::new(into.len(), block)?;
        let mut at = at;
        let mut rest = into;
        while !rest.is_empty() {
            let skip = (at % block as u64) as usize;
            let take = rest.len().min(bounce.len() - skip);
            let whole = (skip + take).next_multiple_of(block);
            let first = at - skip as u64;
            // The last block may stick out beyond a device whose size is not a multiple of it.
            let bytes = bounce.fill(self, first, whole)?;
            let from = bytes.get(skip..skip + take).ok_or(ReadError::Failed)?;
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(from);
            rest = later;
            at += take as u64;
        }
        Ok(())
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

/// Memory that a device can read into: physically contiguous, aligned to its own size.
struct Bounce(KVec<u8>);

impl Bounce {
    /// Memory for reading `wanted` bytes in blocks of `block`, or for a part of them.
    fn new(wanted: usize, block: usize) -> Result<Self, ReadError> {
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
        Err(ReadError::NoMemory)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads whole blocks, at most as much as there is room for.
    fn fill(&mut self, device: &BlockDevice, at: u64, len: usize) -> Result<&[u8], ReadError> {
        let into = self.0.get_mut(..len).ok_or(ReadError::Failed)?;
        // SAFETY: The device is open. The memory is kmalloc's, not vmalloc's, and exclusively borrowed until the read is
        // done; kmalloc aligns a power of two to itself.
        let done = unsafe {
            kb::bdev_rw_virt(
                device.raw(),
                at / SECTOR,
                into.as_mut_ptr().cast(),
                len,
                kb::req_op_REQ_OP_READ,
            )
        };
        match done {
            0 => Ok(into),
            e if e == ENOMEM.to_errno() => Err(ReadError::NoMemory),
            _ => Err(ReadError::Failed),
        }
    }
}
