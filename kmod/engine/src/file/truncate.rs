// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size, and giving back what a file holds that is gone.

use super::edit::Batch;
use super::edit::Clear;
use super::edit::Edit;
use super::regular;
use super::END;
use super::MAX_SIZE;
use crate::format::inode::FileType;
use crate::format::intent::Intent;
use crate::format::intent::Operation;
use crate::names::change::Begun;
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
    /// Gives a file another size. What it had behind the smaller of the two sizes is gone; but if it grows, places that were set
    /// aside stay.
    pub fn truncate(&self, file: InodeNo, size: Bytes, now: Timestamp) -> Result<Done<()>, Error> {
        self.settle(file)?;
        self.thin_out_at(file, size)?;
        let done = match self.truncate_by(file, size, now, Batch::Large) {
            Err(Error::NoSpace) => self.truncate_by(file, size, now, Batch::Small)?,
            done => done?,
        };
        // What did not fit into one transaction.
        self.settle_or_later(file);
        Ok(done)
    }

    /// Gives back what lies behind the end of a file, but for places that were set aside. Nothing of it can be seen.
    #[inline(never)]
    pub(super) fn clear_behind(&self, file: InodeNo) -> Result<(), Error> {
        self.thin_out_at(file, MAX_SIZE)?;
        let mut batch = Batch::Large;
        loop {
            match self.clear_some_behind(file, batch) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::NoSpace) if batch == Batch::Large => batch = Batch::Small,
                Err(why) => return Err(why),
            }
        }
    }

    /// Before blocks are changed of which there may be more versions of the file's own than two: those that nobody sees go, in transactions
    /// of their own. So the change is not larger than if there were none.
    #[inline(never)]
    pub(super) fn thin_out(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<(), Error> {
        let (mut at, mut batch) = (from, Batch::Large);
        while at < to && self.view.now().is_deep() {
            match self.thin_some(file, (at, to), batch) {
                Ok(None) => break,
                Ok(Some(rest)) => at = rest,
                Err(Error::NoSpace) if batch == Batch::Large => batch = Batch::Small,
                // The change itself may find room.
                Err(Error::NoSpace) => break,
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// As [`Self::thin_out`], for the block with this byte, or with the end of the file if that is before.
    #[inline(never)]
    pub(super) fn thin_out_at(&self, file: InodeNo, byte: Bytes) -> Result<(), Error> {
        if !self.view.now().is_deep() {
            return Ok(());
        }
        let block = FileBlock::of(self.size(file)?.min(byte));
        self.thin_out(file, block, block.plus(1))
    }

    /// Says from where on there is more.
    #[inline(never)]
    fn thin_some(
        &self,
        file: InodeNo,
        (from, to): (FileBlock, FileBlock),
        batch: Batch,
    ) -> Result<Option<FileBlock>, Error> {
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        let mut edit = Edit::new(&mut change, file).unseen().sized(batch);
        let rest = edit.clear(from, to, Clear::Hidden)?;
        let is_idle = edit.is_idle();
        edit.finish()?;
        if !is_idle {
            change.commit_alone(())?;
        }
        Ok(rest)
    }

    #[inline(never)]
    fn clear_some_behind(&self, file: InodeNo, batch: Batch) -> Result<bool, Error> {
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        let size = change.inode(file)?.size;
        let from = FileBlock::from(size);
        let mut edit = Edit::new(&mut change, file).sized(batch);
        edit.clear_bytes(size, from.start())?;
        let rest = edit.clear(from, END, Clear::Written)?;
        edit.finish()?;
        change.commit_alone(())?;
        Ok(rest.is_none())
    }

    #[inline(never)]
    fn truncate_by(
        &self,
        file: InodeNo,
        size: Bytes,
        now: Timestamp,
        batch: Batch,
    ) -> Result<Done<()>, Error> {
        loop {
            let mut change = Change::begin_freeing(*self, now)?;
            let inode = change.inode(file)?;
            regular(inode)?;
            if size > MAX_SIZE {
                return Err(Error::TooBig);
            }
            let kept = inode.size.min(size);
            let how = match size < inode.size {
                true => Clear::All,
                false => Clear::Written,
            };
            let from = FileBlock::from(kept);
            let mut edit = Edit::new(&mut change, file).sized(batch);
            edit.clear_bytes(kept, from.start())?;
            let rest = edit.clear(from, END, how)?;
            edit.finish()?;
            let Some(cursor) = rest else {
                return change.resize(file, size);
            };
            if how == Clear::Written {
                // Nobody sees what lies behind the end: the size changes when all of it is gone.
                change.commit_alone(())?;
                continue;
            }
            change.intend(&Intent {
                operation: Operation::Clear,
                inode: file,
                from,
                to: END,
                cursor,
            })?;
            return change.resize(file, size);
        }
    }
}

impl<M: Machine> Begun<'_, M> {
    /// Commits with this size and time of change.
    #[inline(never)]
    pub(super) fn resize(mut self, file: InodeNo, size: Bytes) -> Result<Done<()>, Error> {
        let now = self.now;
        let inode = self.inode_mut(file)?;
        inode.size = size;
        inode.modified = now;
        inode.changed = now;
        self.commit_alone(())
    }
}

impl<M: Machine> Change<'_, M> {
    /// Gives back what a file holds that is to be removed, as much as fits; says whether that was all.
    #[inline(never)]
    pub(crate) fn give_up(&mut self, file: InodeNo, batch: Batch) -> Result<bool, Error> {
        if self.inode(file)?.kind != FileType::Regular {
            return Ok(true);
        }
        let mut edit = Edit::new(self, file).sized(batch);
        let rest = edit.clear(FileBlock(0), END, Clear::Gone)?;
        edit.finish()?;
        if rest.is_none() {
            self.forget_intent(file)?;
        }
        Ok(rest.is_none())
    }
}
