// SPDX-License-Identifier: GPL-2.0

//! A disk in memory, sparse: blocks never written read as zeros and take no room.

use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::WritableDevice;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// A disk in memory.
#[derive(Clone, Debug)]
pub struct Disk {
    size: Bytes,
    blocks: RefCell<BTreeMap<u64, Box<[u8]>>>,
    /// Reads that touch a byte from here on fail.
    broken_from: Option<Bytes>,
}

impl Disk {
    /// A disk of zeros.
    pub fn new(size: Bytes) -> Self {
        Disk {
            size,
            blocks: RefCell::default(),
            broken_from: None,
        }
    }

    /// Cuts the disk off, or lets it grow with zeros.
    pub fn resize(&mut self, size: Bytes) {
        self.size = size;
        self.blocks
            .borrow_mut()
            .retain(|n, _| (n + 1) * BLOCK_SIZE as u64 <= size.0);
    }

    /// From now on, reads beyond `at` fail.
    pub fn break_from(&mut self, at: Bytes) {
        self.broken_from = Some(at);
    }

    /// The blocks that are not zero, with their numbers.
    pub fn written(&self) -> Vec<(u64, Box<[u8]>)> {
        self.blocks
            .borrow()
            .iter()
            .map(|(n, b)| (*n, b.clone()))
            .collect()
    }

    fn check(&self, at: Bytes, length: usize) -> Result<u64, DeviceError> {
        let end =
            at.0.checked_add(length as u64)
                .ok_or(DeviceError::BeyondEnd)?;
        let whole = length % BLOCK_SIZE == 0 || (end == self.size.0 && length % 512 == 0);
        assert!(
            at.0 % BLOCK_SIZE as u64 == 0 && whole,
            "the engine asked for {length} bytes at {at}: not whole blocks"
        );
        if end > self.size.0 {
            return Err(DeviceError::BeyondEnd);
        }
        if self.broken_from.is_some_and(|from| end > from.0) {
            return Err(DeviceError::Io);
        }
        Ok(at.0 / BLOCK_SIZE as u64)
    }
}

impl Device for Disk {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        let first = self.check(at, into.len())?;
        let blocks = self.blocks.borrow();
        for (number, piece) in (first..).zip(into.chunks_mut(BLOCK_SIZE)) {
            match blocks.get(&number) {
                Some(block) => piece.copy_from_slice(&block[..piece.len()]),
                None => piece.fill(0),
            }
        }
        Ok(())
    }
}

impl WritableDevice for Disk {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let first = self.check(at, from.len())?;
        let mut blocks = self.blocks.borrow_mut();
        for (number, piece) in (first..).zip(from.chunks(BLOCK_SIZE)) {
            if piece.iter().all(|b| *b == 0) {
                blocks.remove(&number);
            } else {
                blocks.insert(number, piece.into());
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}
