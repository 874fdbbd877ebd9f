// SPDX-License-Identifier: GPL-2.0

//! A few items that change together, in one transaction. It frees nothing: what nothing uses any more is found so by the check.

use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::inode::Inode;
use crate::format::snapshot;
use crate::names::view::Now;
use crate::names::view::GONE;
use crate::names::Item;
use crate::repair::Deed;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::InodeNo;
use crate::units::TreeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;
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
    /// Gives an item a value of the head's current version, and notes that; of its own there is no older one then.
    pub(super) fn put(&self, patch: &mut Patch, item: Item, value: &[u8]) -> Result<(), Ended> {
        let now = self.files.view.now();
        self.remove_older(patch, &now, item)?;
        self.note(patch, &now, item, item.group().0.place())?;
        patch.set(NAMES, item.at(now.current()), value)
    }

    /// The head has no such item then, whoever else has.
    pub(super) fn take_away(&self, patch: &mut Patch, item: Item) -> Result<(), Ended> {
        let now = self.files.view.now();
        self.remove_older(patch, &now, item)?;
        match now.inherited(self.mounted, item)? {
            Some(_) => {
                self.note(patch, &now, item, item.group().0.place())?;
                patch.set(NAMES, item.at(now.current()), GONE)
            }
            None => patch.remove(NAMES, item.at(now.current())),
        }
    }

    fn remove_older(&self, patch: &mut Patch, now: &Now<'_>, item: Item) -> Result<(), Ended> {
        for id in now.own_older(self.mounted, item)? {
            patch.remove(NAMES, item.at(id))?;
        }
        Ok(())
    }

    /// Notes that something at this place of an inode is touched; at 0, all of it is.
    pub(super) fn note(
        &self,
        patch: &mut Patch,
        now: &Now<'_>,
        item: Item,
        place: u64,
    ) -> Result<(), Ended> {
        if now.is_alone() {
            return Ok(());
        }
        let key = snapshot::touched(now.current(), item.owner(), place);
        patch.set(SNAPSHOTS, key, &snapshot::TOUCHED)
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
    pub(super) fn commit(&mut self, mut patch: Patch) -> Result<(), Ended> {
        if self.options.dry_run || patch.is_empty() {
            return Ok(());
        }
        for (number, inode) in core::mem::take(&mut patch.inodes) {
            self.put(&mut patch, Item::inode(number), &inode.encode()?)?;
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
        txn.commit()?;
        Ok(())
    }

    pub(super) fn tell(&mut self, found: &Finding, deed: &Deed) {
        self.deeds = self.deeds.saturating_add(1);
        self.observer.does(found, deed);
    }
}
