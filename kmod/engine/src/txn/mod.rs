// SPDX-License-Identifier: GPL-2.0

//! A transaction: changes of several trees and of free space that happen wholly or not at all. It keeps them to itself until it
//! commits; then they get their place in the one order of all changes, go to the journal, and are seen.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::format::journal::Extent;
use crate::format::journal::Record;
use crate::format::journal::MAX_EXTENT;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::node::MAX_VALUE;
use crate::journal::Journal;
use crate::space::promise::Promise;
use crate::space::reserve;
use crate::space::Purpose;
use crate::tree::Changing;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::Sequence;
use crate::units::TreeId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::TREES;
use crate::volume::relief::Patience;
use embr_rt::Vec;

enum Change {
    /// And whether the key is one of a new object's.
    Set(TreeId, Key, Vec<u8>, bool),
    Gone(TreeId, Key),
    RangeGone(TreeId, Range),
}

impl Change {
    fn tree(&self) -> TreeId {
        match self {
            Change::Set(tree, ..) | Change::Gone(tree, _) | Change::RangeGone(tree, _) => *tree,
        }
    }

    /// Whether it and a change of this key touch the same leaf but for what these make the tree grow. No other key lies between those of
    /// a new object, nor between those of two whose numbers follow each other.
    fn is_beside(&self, tree: TreeId, key: Key, is_new: bool) -> bool {
        let Change::Set(t, k, _, n) = self else {
            return false;
        };
        let (Key([own, ..]), Key([number, ..])) = (*k, key);
        let follows = own == number || own.checked_add(1) == Some(number);
        *t == tree && (*k == key || is_new && *n && follows)
    }
}

/// A change in the making.
pub struct Transaction<'m, M: Machine> {
    mounted: &'m Mounted<M>,
    changes: Vec<Change>,
    taken: Vec<Extent>,
    /// Which of them, from one to before the other, were given out of a promise: all copies of a run, or a stripe for which so many blocks
    /// of it were paid.
    runs: Vec<(usize, usize, Option<Blocks>)>,
    freed: Vec<Extent>,
    /// The same as records.
    records: Vec<u8>,
    count: u32,
    /// Devices that hold data which this names.
    named: Members,
    purpose: Purpose,
    /// A smaller one is tried if this finds no room.
    is_divisible: bool,
    /// What it makes a checkpoint write.
    change: reserve::Change,
}

impl<'m, M: Machine> Transaction<'m, M> {
    pub(crate) fn new(mounted: &'m Mounted<M>, purpose: Purpose) -> Self {
        Transaction {
            mounted,
            purpose,
            is_divisible: false,
            change: reserve::Change::default(),
            changes: Vec::new(),
            taken: Vec::new(),
            runs: Vec::new(),
            freed: Vec::new(),
            records: Vec::new(),
            count: 0,
            named: Members::default(),
        }
    }

    /// The volume.
    pub fn mounted(&self) -> &'m Mounted<M> {
        self.mounted
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the journal that it takes.
    pub fn size(&self) -> usize {
        self.records.len()
    }

    /// Bytes of the journal that a transaction may take at all.
    fn most(&self) -> usize {
        let journal = self.mounted.journal.as_ref();
        journal.map_or(0, |j| j.max_records())
    }

    /// Bytes of the journal beyond which nothing more should be added: what is larger is done in several, under an intent. What cannot
    /// be divided, such as a new file with all its attributes, may take twice that.
    pub fn limit(&self) -> usize {
        self.most() / 2
    }

    /// It turns out to free space, as if [begun so](Mounted::begin_freeing).
    pub fn frees(&mut self) {
        self.purpose = Purpose::Freeing;
    }

    /// It turns out to free nothing, as if it had not been [begun so](Mounted::begin_freeing).
    pub(crate) fn takes(&mut self) {
        self.purpose = Purpose::Taking;
    }

    /// Says whether a smaller one is tried if this finds no room: then it does not wait for readers for long.
    pub(crate) fn set_divisible(&mut self, is_divisible: bool) {
        self.is_divisible = is_divisible;
    }

    /// How long it waits for space that readers hold. What frees space, and what was accepted, is not refused because of them.
    fn patience(&self, is_promised: bool) -> Patience {
        match self.purpose {
            Purpose::Freeing if is_promised || !self.is_divisible => Patience::endless(),
            _ => Patience::short(),
        }
    }

    /// Whether it is so large that nothing more should be added: beyond this, one that frees space or takes what was promised may not
    /// find room on a full volume.
    pub fn is_large(&self) -> bool {
        self.change.nodes() >= self.mounted.space.reserve().largest
    }

    fn record(&mut self, record: Record<'_>) -> Result<(), Fault> {
        let too_long = |e: &Extent| e.blocks.0 > MAX_EXTENT;
        if matches!(&record, Record::Take(e) | Record::Free(e) if too_long(e)) {
            return Err(Fault::TooLarge);
        }
        if self.records.len().saturating_add(record.size()) > self.most() {
            return Err(Fault::TooLarge);
        }
        let before = self.records.len();
        if let Err(why) = record.encode(&mut self.records) {
            self.records.truncate(before);
            return Err(why.into());
        }
        self.count = self.count.saturating_add(1);
        self.change = self.change.and(reserve::Change::of(&record));
        Ok(())
    }

    /// Gives the key a value.
    pub fn set(&mut self, tree: TreeId, key: Key, value: &[u8]) -> Result<(), Fault> {
        self.put(tree, key, value, false)
    }

    /// Gives the key a value, which begins with the number of an object that this transaction makes.
    pub(crate) fn set_new(&mut self, tree: TreeId, key: Key, value: &[u8]) -> Result<(), Fault> {
        self.put(tree, key, value, true)
    }

    fn put(&mut self, tree: TreeId, key: Key, value: &[u8], is_new: bool) -> Result<(), Fault> {
        if value.len() > MAX_VALUE {
            return Err(Fault::TooLarge);
        }
        let copy = Vec::try_from_slice(value)?;
        self.changes.try_reserve(1)?;
        self.record(Record::Set(tree, key, value))?;
        let mut before = self.changes.iter().rev();
        if before.any(|c| c.is_beside(tree, key, is_new)) {
            self.change = self.change.beside();
        }
        let change = Change::Set(tree, key, copy, is_new);
        Ok(self.changes.push(change)?)
    }

    /// Removes the key.
    pub fn remove(&mut self, tree: TreeId, key: Key) -> Result<(), Fault> {
        self.changes.try_reserve(1)?;
        self.record(Record::Gone(tree, key))?;
        Ok(self.changes.push(Change::Gone(tree, key))?)
    }

    /// Removes every key of the range.
    pub fn remove_range(&mut self, tree: TreeId, range: Range) -> Result<(), Fault> {
        self.changes.try_reserve(1)?;
        self.record(Record::RangeGone(tree, range))?;
        Ok(self.changes.push(Change::RangeGone(tree, range))?)
    }

    /// Takes blocks that were [given out](Mounted::allocate); they go back if this fails or never commits. What they hold is made
    /// durable before this is.
    pub fn take(&mut self, extent: Extent) -> Result<(), Fault> {
        let room = self.taken.try_reserve(1).map_err(Fault::from);
        if let Err(why) = room.and_then(|()| self.record(Record::Take(extent))) {
            self.mounted.space.give_back(extent);
            return Err(why);
        }
        self.named = self.named.with(extent.device);
        Ok(self.taken.push(extent)?)
    }

    /// What this device was given before is made durable before this is.
    pub fn rely_on(&mut self, device: Slot) {
        self.named = self.named.with(device);
    }

    /// Takes all copies of a run that was [given out of a promise](Mounted::allocate_promised), for this to
    /// [commit under](Self::commit_under) that promise; if it fails they are promised again. What they hold is made durable before
    /// this is.
    pub fn take_promised(&mut self, promise: &mut Promise, copies: &[Extent]) -> Result<(), Fault> {
        let taken = self.take_all(copies, None);
        if taken.is_err() {
            self.mounted.space.give_back_to(promise, copies);
        }
        taken
    }

    /// Takes a stripe, for which so many blocks of a promise were paid, or nothing of it.
    pub(crate) fn take_stripe(&mut self, places: &[Extent], paid: Blocks) -> Result<(), Fault> {
        self.take_all(places, Some(paid))
    }

    fn take_all(&mut self, places: &[Extent], paid: Option<Blocks>) -> Result<(), Fault> {
        let (length, count) = (self.records.len(), self.count);
        let room = self.taken.try_reserve(places.len());
        let room = room.and_then(|()| self.runs.try_reserve(1));
        let mut recorded = room.map_err(Fault::from);
        for extent in places {
            recorded = recorded.and_then(|()| self.record(Record::Take(*extent)));
        }
        if let Err(why) = recorded {
            self.records.truncate(length);
            self.count = count;
            return Err(why);
        }
        let first = self.taken.len();
        for extent in places {
            self.named = self.named.with(extent.device);
            self.taken.push(*extent)?;
        }
        Ok(self.runs.push((first, self.taken.len(), paid))?)
    }

    /// Frees blocks.
    pub fn free(&mut self, extent: Extent) -> Result<(), Fault> {
        self.freed.try_reserve(1)?;
        self.record(Record::Free(extent))?;
        Ok(self.freed.push(extent)?)
    }

    /// Whether it removes a key.
    pub(crate) fn removes(&self, tree: TreeId, key: Key) -> bool {
        let mut latest = self.changes.iter().rev();
        let about = latest.find_map(|change| match change {
            Change::Set(t, k, ..) => (*t == tree && *k == key).then_some(false),
            Change::Gone(t, k) => (*t == tree && *k == key).then_some(true),
            Change::RangeGone(t, range) => (*t == tree && range.has(key)).then_some(true),
        });
        about == Some(true)
    }

    /// What `read` makes of a key's value, as it is after this transaction.
    pub fn get<R>(
        &self,
        tree: TreeId,
        key: Key,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Fault> {
        for change in self.changes.iter().rev() {
            match change {
                Change::Set(t, k, value, _) if *t == tree && *k == key => {
                    return Ok(Some(read(value)))
                }
                Change::Gone(t, k) if *t == tree && *k == key => return Ok(None),
                Change::RangeGone(t, range) if *t == tree && range.has(key) => return Ok(None),
                _ => {}
            }
        }
        self.mounted.get(tree, key, read)
    }

    /// Makes it happen. It is durable once the group that this returns is.
    pub fn commit(mut self) -> Result<Sequence, Fault> {
        self.commit_in_place(None)
    }

    /// As [`Self::commit`], with what was promised: all that it takes was given out of this promise, and the nodes that come of it are
    /// covered by it. If it fails, all of that is promised again.
    pub fn commit_under(mut self, promise: &mut Promise) -> Result<Sequence, Fault> {
        let done = self.commit_in_place(Some(&mut *promise));
        if done.is_err() {
            self.return_to(promise);
        }
        done
    }

    /// It does not happen: what it took is promised again.
    pub(crate) fn return_to(&mut self, promise: &mut Promise) {
        let taken = core::mem::take(&mut self.taken);
        let give_back = |from: usize, to: usize| {
            for extent in taken.get(from..to).unwrap_or_default() {
                self.mounted.space.give_back(*extent);
            }
        };
        let mut at = 0;
        for (first, end, paid) in core::mem::take(&mut self.runs) {
            // What is between was not given out of the promise.
            give_back(at, first);
            let places = taken.get(first..end).unwrap_or_default();
            match paid {
                Some(paid) => (self.mounted.space).give_back_stripe(promise, places, paid),
                None => self.mounted.space.give_back_to(promise, places),
            }
            at = end;
        }
        give_back(at, taken.len());
    }

    /// Makes it happen, under a promise if there is one; it is not to be used any more but for [`Self::return_to`].
    pub(crate) fn commit_in_place(
        &mut self,
        mut promise: Option<&mut Promise>,
    ) -> Result<Sequence, Fault> {
        let mounted = self.mounted;
        if promise.is_some() {
            self.purpose = Purpose::Freeing;
        }
        let Some(journal) = &mounted.journal else {
            return Err(Fault::ReadOnly);
        };
        if self.is_empty() {
            return Ok(journal.newest());
        }
        let mut patience = self.patience(promise.is_some());
        loop {
            match mounted.make_room(self.records.len()) {
                // The checkpoint for it found none.
                Err(Fault::NoSpace) if mounted.relieve(&mut patience)? => continue,
                done => done?,
            }
            let order = mounted.order.lock();
            if !journal.fits(self.records.len()) {
                drop(order);
                mounted.sync_to(journal.newest())?;
                continue;
            }
            if mounted.is_short_of_journal(self.records.len()) {
                continue;
            }
            let space = &mounted.space;
            let Some(granted) = space.grant(self.change, self.purpose, promise.as_deref_mut())
            else {
                drop(order);
                if mounted.relieve(&mut patience)? {
                    continue;
                }
                return Err(Fault::NoSpace);
            };
            let group = match self.prepare(journal) {
                Ok(group) => group,
                Err(why) => {
                    space.revoke(granted, promise);
                    return Err(why);
                }
            };
            if let Err(why) = self.apply() {
                journal.stop();
                return Err(why);
            }
            drop(order);
            return Ok(group);
        }
    }

    /// With the order of commits held: makes room for every effect, and puts the records in the journal.
    fn prepare(&mut self, journal: &Journal) -> Result<Sequence, Fault> {
        let mounted = self.mounted;
        for (id, tree) in mounted.trees.iter() {
            let of_tree = || self.changes.iter().filter(|c| c.tree() == *id);
            let ranges = of_tree()
                .filter(|c| matches!(c, Change::RangeGone(..)))
                .count();
            let changes = of_tree().count().saturating_sub(ranges);
            if changes.saturating_add(ranges) != 0 {
                tree.reserve(changes, ranges)?;
            }
        }
        mounted.space.announce(&self.freed)?;
        let appended = journal.append(&self.records, self.count, self.named);
        if appended.is_err() {
            mounted.space.renounce(self.freed.len());
        }
        Ok(appended?)
    }

    /// With the order of commits still held: lets the effects be seen. There is room, so this fails only where what is in memory
    /// makes no sense.
    fn apply(&mut self) -> Result<(), Fault> {
        let mounted = self.mounted;
        // Of several trees, nobody sees one changed and another not yet.
        let mut trees: [Option<Changing<'_>>; TREES.len()] = Default::default();
        for (changing, (id, tree)) in trees.iter_mut().zip(mounted.trees.iter()) {
            if self.changes.iter().any(|c| c.tree() == *id) {
                *changing = Some(tree.change());
            }
        }
        for change in core::mem::take(&mut self.changes) {
            let index = mounted
                .trees
                .iter()
                .position(|(id, _)| *id == change.tree());
            let Some(Some(tree)) = index.and_then(|n| trees.get_mut(n)) else {
                continue;
            };
            match change {
                Change::Set(_, key, value, _) => tree.set(key, value)?,
                Change::Gone(_, key) => tree.remove(key)?,
                Change::RangeGone(_, range) => tree.remove_range(range)?,
            }
        }
        drop(trees);
        for extent in core::mem::take(&mut self.taken) {
            mounted.space.take(extent)?;
        }
        for extent in core::mem::take(&mut self.freed) {
            mounted.space.free(extent)?;
        }
        Ok(())
    }
}

impl<M: Machine> Drop for Transaction<'_, M> {
    fn drop(&mut self) {
        for extent in self.taken.iter() {
            self.mounted.space.give_back(*extent);
        }
    }
}
