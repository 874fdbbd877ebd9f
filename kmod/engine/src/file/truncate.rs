// SPDX-License-Identifier: GPL-2.0

//! Changing a file's size.

use super::inline;
use super::regular;
use super::END;
use super::MAX_SIZE;
use crate::format::inline::encode;
use crate::format::inode::Inode;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

impl<M: Machine> Files<'_, M> {
    /// Gives a file another size. What it had behind the smaller of the two sizes is gone.
    pub fn truncate(
        &self,
        file: InodeNo,
        size: Bytes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        let mut change = Change::begin(*self, now)?;
        let inode = change.inode(file)?;
        regular(inode)?;
        if size > MAX_SIZE {
            return Err(Error::TooBig);
        }
        let kept = inode.size.min(size);
        change.clear(file, FileBlock::from(kept), END)?;
        change.clear_bytes(file, kept, FileBlock::from(kept).start())?;
        change.resize(file, size)
    }
}

impl<M: Machine> Change<'_, M> {
    /// Commits with this size and time of change.
    pub(super) fn resize(mut self, file: InodeNo, size: Bytes) -> Result<Done<Inode>, Error> {
        let now = self.now;
        let inode = self.inode_mut(file)?;
        inode.size = size;
        inode.modified = now;
        inode.changed = now;
        let inode = inode.try_clone()?;
        self.commit(inode)
    }

    /// The blocks from `from` to before `to` become a hole.
    pub(super) fn clear(
        &mut self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<(), Error> {
        let Some(last) = to.0.checked_sub(1).filter(|last| *last >= from.0) else {
            return Ok(());
        };
        let (first, last) = (inline(file, from), inline(file, FileBlock(last)));
        let Files { mounted, view, .. } = self.files;
        if view.is_alone() {
            return Ok(self.txn().remove_range(NAMES, first.to(last))?);
        }
        let mut items = view.items(mounted, first, last);
        while let Some((item, _)) = items.next()? {
            self.remove(item)?;
        }
        Ok(())
    }

    /// The bytes from `from` to before `to`, of one block, become zeros.
    pub(super) fn clear_bytes(
        &mut self,
        file: InodeNo,
        from: Bytes,
        to: Bytes,
    ) -> Result<(), Error> {
        let at = FileBlock::of(from);
        let within = |byte: Bytes| byte.0.saturating_sub(at.start().0) as usize;
        let mut block = Vec::zeroed(BLOCK_SIZE)?;
        self.files.read(file, at, &mut block)?;
        let zeroed = block.get_mut(within(from)..within(to)).unwrap_or_default();
        if zeroed.iter().all(|b| *b == 0) {
            return Ok(());
        }
        zeroed.fill(0);
        self.set(inline(file, at), &encode(&block)?)
    }
}
