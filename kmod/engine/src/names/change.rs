// SPDX-License-Identifier: GPL-2.0

//! A change of names in the making: the transaction, and the inodes that it changes, each written once when it commits.

use crate::file::edit::Batch;
use crate::file::edit::PER_GONE;
use crate::format::inode::Inode;
use crate::format::snapshot;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::view::walk;
use crate::names::view::Now;
use crate::names::view::GONE;
use crate::names::Done;
use crate::names::Files;
use crate::space::promise::Promise;
use crate::tree::Key;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;
use core::ops::Deref;
use core::ops::DerefMut;
use embr_rt::Box;
use embr_rt::MutexGuard;
use embr_rt::Vec;

/// Items that are removed together where a volume is full.
const SMALL: usize = 8;

struct Loaded {
    number: InodeNo,
    inode: Inode,
    changed: bool,
}

/// A change of names in the making, on the heap: it is handed on often, and stacks are small.
pub(crate) struct Begun<'n, M: Machine>(Box<Change<'n, M>>);

impl<'n, M: Machine> Deref for Begun<'n, M> {
    type Target = Change<'n, M>;

    fn deref(&self) -> &Change<'n, M> {
        &self.0
    }
}

impl<'n, M: Machine> DerefMut for Begun<'n, M> {
    fn deref_mut(&mut self) -> &mut Change<'n, M> {
        &mut self.0
    }
}

/// A change of names.
pub(crate) struct Change<'n, M: Machine> {
    pub(crate) files: Files<'n, M>,
    txn: Transaction<'n, M>,
    inodes: Vec<Loaded>,
    /// A file without a name that nobody uses, and that holds too much to go with it.
    left: Option<InodeNo>,
    /// A file in which nothing moves any more once this has happened.
    pub(crate) still: Option<InodeNo>,
    /// Blocks that were promised room and found it elsewhere.
    pub(crate) spent: Blocks,
    /// When it happens.
    pub(crate) now: Timestamp,
    /// What the view shows: nothing changes that meanwhile.
    pub(crate) lineage: Now<'n>,
    /// Inodes of which all is known to be touched in this snapshot.
    whole: Vec<InodeNo>,
    /// Nobody else changes items meanwhile.
    _alone: MutexGuard<'n, ()>,
}

impl<M: Machine> Files<'_, M> {
    /// The inode with this number.
    #[inline(never)]
    pub fn inode(&self, number: InodeNo) -> Result<Inode, Error> {
        let item = Item::inode(number);
        let value = self.view.get(self.mounted, item)?;
        let value = value.ok_or(Error::NotFound)?;
        Inode::parse(&value).map_err(|why| Error::damaged(item, Wrong::Inode(why)))
    }

    /// The directory with this number.
    #[inline(never)]
    pub(crate) fn directory(&self, number: InodeNo) -> Result<Inode, Error> {
        let inode = self.inode(number)?;
        match inode.is_directory() {
            true => Ok(inode),
            false => Err(Error::NotDirectory),
        }
    }
}

impl<'n, M: Machine> Change<'n, M> {
    #[inline(never)]
    pub(crate) fn begin(files: Files<'n, M>, now: Timestamp) -> Result<Begun<'n, M>, Error> {
        let alone = files.names.changing.lock();
        let lineage = files.view.now();
        if lineage.is_kept() {
            return Err(Error::Fault(Fault::ReadOnly));
        }
        Ok(Begun(Box::try_new(Change {
            files,
            _alone: alone,
            lineage,
            whole: Vec::new(),
            txn: files.mounted.begin()?,
            inodes: Vec::new(),
            left: None,
            still: None,
            spent: Blocks(0),
            now,
        })?))
    }

    /// As [`Self::begin`], for what frees more than it takes: it works on a full volume.
    pub(crate) fn begin_freeing(
        files: Files<'n, M>,
        now: Timestamp,
    ) -> Result<Begun<'n, M>, Error> {
        let mut change = Change::begin(files, now)?;
        change.frees();
        Ok(change)
    }

    /// It has turned out to free more than it takes.
    pub(super) fn frees(&mut self) {
        self.txn.frees();
    }

    /// It has turned out to free nothing.
    pub(crate) fn takes(&mut self) {
        self.txn.takes();
    }

    #[inline(never)]
    fn loaded(&mut self, number: InodeNo) -> Result<&mut Loaded, Error> {
        let known = self.inodes.iter().position(|l| l.number == number);
        let at = match known {
            Some(at) => at,
            None => {
                let inode = self.files.inode(number)?;
                self.hold(number, inode, false)?
            }
        };
        self.inodes.get_mut(at).ok_or(Error::NotFound)
    }

    #[inline(never)]
    fn hold(&mut self, number: InodeNo, inode: Inode, changed: bool) -> Result<usize, Error> {
        let at = self.inodes.len();
        self.inodes.push(Loaded {
            number,
            inode,
            changed,
        })?;
        Ok(at)
    }

    /// An inode as it is after this.
    pub(crate) fn inode(&mut self, number: InodeNo) -> Result<&Inode, Error> {
        Ok(&self.loaded(number)?.inode)
    }

    /// A file holds so many blocks more, and so many less.
    #[inline(never)]
    pub(crate) fn count_blocks(
        &mut self,
        file: InodeNo,
        more: u64,
        less: u64,
    ) -> Result<(), Error> {
        let inode = self.inode_mut(file)?;
        // A wrong count is for fsck: it keeps nobody from writing or removing the file.
        inode.entries = inode.entries.saturating_add(more).saturating_sub(less);
        Ok(())
    }

    /// An inode, to change.
    pub(crate) fn inode_mut(&mut self, number: InodeNo) -> Result<&mut Inode, Error> {
        let loaded = self.loaded(number)?;
        loaded.changed = true;
        Ok(&mut loaded.inode)
    }

    /// An inode that an item names, so that it must be there.
    pub(crate) fn named(&mut self, number: InodeNo) -> Result<&mut Inode, Error> {
        self.inode_mut(number).map_err(|why| match why {
            Error::NotFound => Error::damaged(Item::inode(number), Wrong::Missing),
            why => why,
        })
    }

    /// A directory that takes new names.
    pub(crate) fn open_directory(&mut self, number: InodeNo) -> Result<&mut Inode, Error> {
        let inode = self.inode_mut(number)?;
        if !inode.is_directory() {
            return Err(Error::NotDirectory);
        }
        if inode.nlink == 0 {
            return Err(Error::NotFound);
        }
        Ok(inode)
    }

    /// A new inode.
    #[inline(never)]
    pub(crate) fn add_inode(&mut self, number: InodeNo, inode: Inode) -> Result<(), Error> {
        self.mark_all(number)?;
        self.hold(number, inode, true).map(|_| ())
    }

    /// An inode that nobody uses is not there any more, nor any item of it. If it holds too much for one transaction, it is without
    /// a name at first, and the rest follows when this has committed.
    pub(crate) fn erase_or_leave(&mut self, number: InodeNo) -> Result<(), Error> {
        if !self.erase(number, Batch::Small)? {
            self.add_orphan(number)?;
            self.left = Some(number);
        }
        Ok(())
    }

    /// An inode is not there any more, nor any item of it. If it holds too much, only part of that is gone, and this says no.
    #[inline(never)]
    pub(crate) fn erase(&mut self, number: InodeNo, batch: Batch) -> Result<bool, Error> {
        if !self.give_up(number, batch)? || !self.give_up_attributes(number, batch)? {
            return Ok(false);
        }
        if self.lineage.is_alone() {
            self.inodes.retain(|l| l.number != number);
            let range = Item::all(number);
            self.txn.remove_range(NAMES, range)?;
            return Ok(true);
        }
        // What is its own goes. What ancestors have is hidden behind the inode.
        if !self.erase_own(number, None, batch)? {
            return Ok(false);
        }
        self.forget_parents(number)?;
        self.inodes.retain(|l| l.number != number);
        self.mark_all(number)?;
        self.remove(Item::inode(number))?;
        Ok(true)
    }

    /// This change need not say that names of an inode are gone: the inode is.
    #[inline(never)]
    fn forget_parents(&mut self, number: InodeNo) -> Result<(), Error> {
        let at = |sub| Item::new(number, Kind::PARENT, sub);
        let Some(mut scan) = walk(self.files.mounted, at(0).to(at(MAX_SUB)))? else {
            return Ok(());
        };
        let mut last = None;
        while let Some((key, _)) = scan.next().map_err(Fault::from)? {
            let (item, id) = Item::of(key);
            if last != Some(item) && self.lineage.sees(id) {
                last = Some(item);
                let current = self.lineage.current();
                self.txn.remove(NAMES, item.at(current))?;
            }
        }
        Ok(())
    }

    /// Removes all items of an inode that are the snapshot's own, but for one, as many as fit; says whether that was all.
    #[inline(never)]
    pub(crate) fn erase_own(
        &mut self,
        number: InodeNo,
        spared: Option<Key>,
        batch: Batch,
    ) -> Result<bool, Error> {
        let limit = self.txn.limit() / 2;
        let mut count = 0usize;
        // The inode's newest own item is what finds all others, and goes with the last.
        let own = Item::inode(number);
        let versions = self.lineage.own_versions(self.files.mounted, own)?;
        let newest = versions.first().map(|(id, _)| own.at(*id));
        let mut scan = self.files.mounted.scan(NAMES, Item::all(number));
        while let Some(scan) = &mut scan {
            let Some((key, _)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let stays = [spared, newest].contains(&Some(key));
            if !self.lineage.owns(Item::of(key).1) || stays {
                continue;
            }
            let is_large = self.txn.size().saturating_add(PER_GONE) > limit;
            if is_large || (batch == Batch::Small && count >= SMALL) {
                return Ok(false);
            }
            self.txn.remove(NAMES, key)?;
            count = count.saturating_add(1);
        }
        if let Some(key) = newest.filter(|_| newest != spared) {
            self.txn.remove(NAMES, key)?;
        }
        Ok(true)
    }

    /// An item's value as it is after this.
    pub(crate) fn get(&self, item: Item) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.files.view.get_in(&self.txn, item)?)
    }

    /// Gives an item a value.
    pub(crate) fn set(&mut self, item: Item, value: &[u8]) -> Result<(), Error> {
        self.remove_older(item)?;
        self.set_part(item, value)
    }

    /// Gives an item a value of the current version, beside which older ones that are the snapshot's own may say something, too.
    pub(crate) fn set_part(&mut self, item: Item, value: &[u8]) -> Result<(), Error> {
        self.mark(item)?;
        let key = item.at(self.lineage.current());
        Ok(self.txn.set(NAMES, key, value)?)
    }

    /// Removes the older version of an item that is the snapshot's own. Where there are several, some are still to be swept before those
    /// who know what the snapshot touched come by: they do all, which may be more than there is room for here. Says whether it is so.
    #[inline(never)]
    fn remove_older(&mut self, item: Item) -> Result<bool, Error> {
        let older = self.lineage.own_older(self.files.mounted, item)?;
        match older.as_slice() {
            [] => Ok(false),
            [id] => {
                self.txn.remove(NAMES, item.at(*id))?;
                Ok(false)
            }
            _ => {
                self.mark_always(item)?;
                Ok(true)
            }
        }
    }

    /// All of an inode may be touched in this snapshot.
    #[inline(never)]
    fn mark_all(&mut self, inode: InodeNo) -> Result<(), Error> {
        if !self.lineage.is_alone() && !self.whole.contains(&inode) {
            let key = snapshot::touched(self.lineage.current(), inode, 0);
            self.txn.set(SNAPSHOTS, key, &snapshot::TOUCHED)?;
            self.whole.push(inode)?;
        }
        Ok(())
    }

    /// Notes that an item is touched in this snapshot, if it is not the only one.
    fn mark(&mut self, item: Item) -> Result<(), Error> {
        match self.lineage.is_alone() {
            true => Ok(()),
            false => self.mark_always(item),
        }
    }

    #[inline(never)]
    fn mark_always(&mut self, item: Item) -> Result<(), Error> {
        let inode = item.owner();
        if self.whole.contains(&inode) {
            return Ok(());
        }
        let id = self.lineage.current();
        let whole = snapshot::touched(id, inode, 0);
        let is_known = |_: &[u8]| ();
        if inode != InodeNo::NONE && self.txn.get(SNAPSHOTS, whole, is_known)?.is_some() {
            return Ok(self.whole.push(inode)?);
        }
        let key = snapshot::touched(id, inode, item.group().0.place());
        if self.txn.get(SNAPSHOTS, key, is_known)?.is_none() {
            self.txn.set(SNAPSHOTS, key, &snapshot::TOUCHED)?;
        }
        Ok(())
    }

    /// Removes an item.
    pub(crate) fn remove(&mut self, item: Item) -> Result<(), Error> {
        let are_left = self.remove_older(item)?;
        match self.lineage.inherited(self.files.mounted, item)? {
            Some(_) => self.set_part(item, GONE),
            None if are_left => self.set_part(item, GONE),
            None => Ok(self.txn.remove(NAMES, item.at(self.lineage.current()))?),
        }
    }

    /// Sets an item that is of no snapshot.
    pub(crate) fn set_common(&mut self, item: Item, value: &[u8]) -> Result<(), Error> {
        let key = item.at(crate::units::SnapshotId::NONE);
        Ok(self.txn.set(NAMES, key, value)?)
    }

    /// What it came to so far, without the inodes.
    pub(crate) fn txn(&mut self) -> &mut Transaction<'n, M> {
        &mut self.txn
    }

    fn put_inodes(&mut self) -> Result<(), Error> {
        for loaded in core::mem::take(&mut self.inodes) {
            if loaded.changed {
                self.set(Item::inode(loaded.number), &loaded.inode.encode()?)?;
            }
        }
        Ok(())
    }
}

impl<M: Machine> Begun<'_, M> {
    /// Makes it happen.
    #[inline(never)]
    pub(crate) fn commit<T>(self, what: T) -> Result<Done<T>, Error> {
        let (files, left) = (self.files, self.left);
        let done = self.commit_alone(what)?;
        if let Some(number) = left {
            // What cannot be done now is done by the next mount.
            let _ = files.forget(number);
        }
        Ok(done)
    }

    /// As [`Self::commit`], of what leaves nothing to be done.
    #[inline(never)]
    pub(crate) fn commit_alone<T>(mut self, what: T) -> Result<Done<T>, Error> {
        self.put_inodes()?;
        let group = self.txn.commit_in_place(None)?;
        self.end_shift();
        Ok(Done { what, group })
    }

    /// As [`Self::commit_alone`], with room that was promised: all of it is promised still if this fails.
    #[inline(never)]
    pub(crate) fn commit_under<T>(
        mut self,
        what: T,
        promise: &mut Promise,
    ) -> Result<Done<T>, Error> {
        let put = self.put_inodes();
        let done = put.and_then(|()| Ok(self.txn.commit_in_place(Some(promise))?));
        match done {
            Ok(group) => {
                promise.spend(self.spent);
                self.end_shift();
                Ok(Done { what, group })
            }
            Err(why) => {
                self.give_up_under(promise);
                Err(why)
            }
        }
    }

    /// Before anybody can begin to move something in that file again.
    fn end_shift(&self) {
        if let Some(file) = self.still {
            let file = self.files.in_head(file);
            self.files.names.shifts.lock().end(file);
        }
    }

    /// It does not happen: what it took is promised again.
    pub(crate) fn give_up_under(mut self, promise: &mut Promise) {
        self.txn.return_to(promise);
    }
}
