// SPDX-License-Identifier: GPL-2.0

//! A few items that change together, in one transaction. It frees nothing: what nothing uses any more is found so by the check.

use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::inode::Inode;
use crate::names::Item;
use crate::repair::Deed;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::InodeNo;
use crate::units::TreeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

enum Change {
    Set(TreeId, Key, Vec<u8>),
    Gone(TreeId, Key),
    RangeGone(TreeId, Range),
}

/// Items that change together.
pub(super) struct Patch {
    changes: Vec<Change>,
    inodes: Vec<(InodeNo, Inode)>,
}

impl Patch {
    pub(super) fn new() -> Self {
        Patch {
            changes: Vec::new(),
            inodes: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.inodes.is_empty()
    }

    pub(super) fn set(&mut self, tree: TreeId, key: Key, value: &[u8]) -> Result<(), Ended> {
        let value = Vec::try_from_slice(value)?;
        Ok(self.changes.push(Change::Set(tree, key, value))?)
    }

    pub(super) fn remove(&mut self, tree: TreeId, key: Key) -> Result<(), Ended> {
        Ok(self.changes.push(Change::Gone(tree, key))?)
    }

    pub(super) fn remove_range(&mut self, tree: TreeId, range: Range) -> Result<(), Ended> {
        Ok(self.changes.push(Change::RangeGone(tree, range))?)
    }
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    pub(super) fn key(&self, item: Item) -> Key {
        item.at(self.files.view.current())
    }

    pub(super) fn put(&self, patch: &mut Patch, item: Item, value: &[u8]) -> Result<(), Ended> {
        patch.set(NAMES, self.key(item), value)
    }

    pub(super) fn take_away(&self, patch: &mut Patch, item: Item) -> Result<(), Ended> {
        patch.remove(NAMES, self.key(item))
    }

    /// The inode, as the patch has it, to be changed by `change`; false where there is none.
    pub(super) fn with_inode(
        &self,
        patch: &mut Patch,
        number: InodeNo,
        change: impl FnOnce(&mut Inode),
    ) -> Result<bool, Ended> {
        if !patch.inodes.iter().any(|(n, _)| *n == number) {
            match look(self.files.inode(number).map(Some))? {
                Look::There(inode) => patch.inodes.push((number, inode))?,
                _ => return Ok(false),
            }
        }
        let mut all = patch.inodes.iter_mut();
        let Some((_, inode)) = all.find(|(n, _)| *n == number) else {
            return Ok(false);
        };
        change(inode);
        Ok(true)
    }

    /// Tells, and does it.
    #[inline(never)]
    pub(super) fn act(&mut self, found: &Finding, deed: &Deed, patch: Patch) -> Result<(), Ended> {
        self.tell(found, deed);
        self.commit(patch)
    }

    /// Does what was told.
    #[inline(never)]
    pub(super) fn commit(&mut self, patch: Patch) -> Result<(), Ended> {
        if self.options.dry_run || patch.is_empty() {
            return Ok(());
        }
        // Where the volume is full, this is for its sake.
        let mut txn = self.mounted.begin_freeing()?;
        for change in patch.changes.iter() {
            match change {
                Change::Set(tree, key, value) => txn.set(*tree, *key, value)?,
                Change::Gone(tree, key) => txn.remove(*tree, *key)?,
                Change::RangeGone(tree, range) => txn.remove_range(*tree, *range)?,
            }
        }
        for (number, inode) in patch.inodes.iter() {
            let value = inode.encode()?;
            txn.set(NAMES, self.key(Item::inode(*number)), &value)?;
        }
        txn.commit()?;
        Ok(())
    }

    pub(super) fn tell(&mut self, found: &Finding, deed: &Deed) {
        self.deeds = self.deeds.saturating_add(1);
        self.observer.does(found, deed);
    }
}
