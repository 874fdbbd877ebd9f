// SPDX-License-Identifier: GPL-2.0

//! Files in memory: stores go to the file.

use crate::step::BLOCK;
use rustix::mm::mmap;
use rustix::mm::msync;
use rustix::mm::munmap;
use rustix::mm::MapFlags;
use rustix::mm::MsyncFlags;
use rustix::mm::ProtFlags;
use std::fs::File;
use std::io;
use std::ptr;
use std::slice;

/// A range of a file in memory.
pub struct Map {
    /// Its first page.
    pub start: *mut u8,
    /// Bytes that were asked for, from there on.
    pub len: usize,
}

impl Map {
    /// Whole pages of a file, from the one in which `at` lies.
    pub fn new(file: &File, at: u64, len: u64) -> io::Result<Self> {
        let from = at / BLOCK * BLOCK;
        let len = (at + len - from) as usize;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: A new mapping at a place of the kernel's choice; nobody makes the file shorter while it is there.
        let start = unsafe {
            mmap(
                ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                file,
                from,
            )?
        };
        Ok(Map {
            start: start.cast(),
            len,
        })
    }

    /// What it holds.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: The mapping is ours alone; the file is at least so long.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Makes it durable.
    pub fn sync(&mut self) -> io::Result<()> {
        // SAFETY: The mapping is there.
        unsafe { msync(self.start.cast(), self.len, MsyncFlags::SYNC)? };
        Ok(())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: Made by `new`; nobody uses it any more.
        let _ = unsafe { munmap(self.start.cast(), self.len) };
    }
}
