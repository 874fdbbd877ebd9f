// SPDX-License-Identifier: GPL-2.0

//! Taking snapshots, letting something grow from them, deleting them.

use super::shelf::room_for_all;
use super::Listed;
use super::Shelf;
use crate::format::snapshot;
use crate::format::snapshot::Node;
use crate::format::snapshot::State;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::tree::Key;
use crate::txn::Transaction;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::SNAPSHOTS;
use crate::volume::relief::Patience;
use embr_rt::Arc;
use embr_rt::Vec;

/// Whether something can have this name.
fn is_name(name: &[u8]) -> Result<(), Error> {
    match name {
        name if name.len() > snapshot::MAX_NAME => Err(Error::NameTooLong),
        name if crate::format::name::Name::new(name).is_none() => Err(Error::Invalid),
        _ => Ok(()),
    }
}

impl Names {
    /// Everything that there is.
    pub fn snapshots<M: Machine>(&self, mounted: &Mounted<M>) -> Result<Vec<Listed>, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let mut listed = Vec::new();
        for known in shelf.nodes().filter(|k| k.node.state != State::Deleted) {
            listed.push(Listed {
                id: known.id,
                name: known.node.name.try_clone()?,
                is_head: known.node.state == State::Head,
                made: known.node.made,
            })?;
        }
        Ok(listed)
    }

    /// A view of the snapshot or head with this name, or of the head that the volume shows by itself, which has none. As long as
    /// somebody has it, it is not deleted.
    pub fn open<M: Machine>(&self, mounted: &Mounted<M>, name: &[u8]) -> Result<Arc<View>, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let id = shelf.named(name).ok_or(Error::NotFound)?;
        shelf.open(id)
    }

    /// A head that grows from a snapshot.
    pub fn grow<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        from: &[u8],
        name: &[u8],
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        is_name(name)?;
        with_relief(mounted, || self.grow_once(mounted, from, name, now))
    }

    #[inline(never)]
    fn grow_once<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        from: &[u8],
        name: &[u8],
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let parent = shelf.named(from).ok_or(Error::NotFound)?;
        if shelf
            .node(parent)
            .is_none_or(|n| n.state != State::Snapshot)
        {
            return Err(Error::Invalid);
        }
        if shelf.named(name).is_some() {
            return Err(Error::Exists);
        }
        let id = shelf.next;
        let node = Node {
            state: State::Head,
            parent,
            made: now,
            cursor: Key::MIN,
            room: room_for_all(mounted),
            own: Vec::try_from_slice(&[(id, id)])?,
            name: Vec::try_from_slice(name)?,
        };
        let _alone = self.changing.lock();
        let mut txn = mounted.begin()?;
        put(&mut txn, id, &node)?;
        number(&mut txn, &mut shelf)?;
        shelf.add(id, node)?;
        let done = commit_with_room(txn, &shelf);
        if done.is_err() {
            shelf.remove(id);
            shelf.keep_room(mounted, false)?;
        }
        done
    }

    /// Deletes a snapshot, or a head that nobody uses. What it alone has is given back by [sweeping](Names::sweep).
    #[inline(never)]
    pub fn delete<M: Machine>(&self, mounted: &Mounted<M>, name: &[u8]) -> Result<Done<()>, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let id = shelf.named(name).ok_or(Error::NotFound)?;
        if name.is_empty() {
            return Err(Error::NotPermitted);
        }
        if !shelf.is_unused(id) {
            return Err(Error::Busy);
        }
        let _alone = self.changing.lock();
        let mut txn = mounted.begin_freeing()?;
        let missing = Error::Snapshot(id, Wrong::Missing);
        let old = shelf.node(id).ok_or(missing)?.try_clone()?;
        let node = shelf.node_mut(id).ok_or(missing)?;
        node.state = State::Deleted;
        node.cursor = Key::MIN;
        node.name.clear();
        let done = put(&mut txn, id, node).and_then(|()| commit(txn, &shelf));
        if let (Err(_), Some(node)) = (&done, shelf.node_mut(id)) {
            *node = old;
        }
        done
    }
}

/// Commits, and lets heads show what they do then.
pub(super) fn commit<M: Machine>(
    txn: Transaction<'_, M>,
    shelf: &Shelf,
) -> Result<Done<()>, Error> {
    let turns = shelf.turns()?;
    let room = shelf.room()?;
    let mounted = txn.mounted();
    let group = txn.commit()?;
    // From here on nothing fails.
    mounted.space.keep_less_for_removal(room);
    for (view, lineage) in turns {
        view.turn_to(lineage);
    }
    Ok(Done { what: (), group })
}

/// As [`commit`], of what makes more seen by several: room for removing that is kept, or it does not happen.
fn commit_with_room<M: Machine>(txn: Transaction<'_, M>, shelf: &Shelf) -> Result<Done<()>, Error> {
    match shelf.keep_room(txn.mounted(), true)? {
        true => commit(txn, shelf),
        false => Err(Error::NoSpace),
    }
}

/// Does it again when space has come back that could not be given out yet.
fn with_relief<M: Machine, T>(
    mounted: &Mounted<M>,
    mut act: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut patience = Patience::short();
    loop {
        match act() {
            Err(Error::NoSpace) if mounted.relieve(&mut patience)? => {}
            done => return done,
        }
    }
}

/// Puts a node into a transaction.
pub(super) fn put<M: Machine>(
    txn: &mut Transaction<'_, M>,
    id: SnapshotId,
    node: &Node,
) -> Result<(), Error> {
    Ok(txn.set(SNAPSHOTS, snapshot::node(id), &node.encode()?)?)
}

/// Takes the next number. One that is not used in the end is never given again.
fn number<M: Machine>(txn: &mut Transaction<'_, M>, shelf: &mut Shelf) -> Result<(), Error> {
    let next = SnapshotId(shelf.next.0.checked_add(1).ok_or(Error::NoSpace)?);
    shelf.next = next;
    Ok(txn.set(SNAPSHOTS, snapshot::NUMBERS, &snapshot::encode_number(next))?)
}

impl<M: Machine> Files<'_, M> {
    /// Takes a snapshot of a head that was [opened](Names::open): all that is committed by then is in it.
    pub fn take_snapshot(&self, name: &[u8], now: Timestamp) -> Result<Done<()>, Error> {
        is_name(name)?;
        self.with_room(|| loop {
            match with_relief(self.mounted, || self.take_once(name, now))? {
                Some(done) => return Ok(done),
                None => self.carry_out_one()?,
            }
        })
    }

    /// What is being done with a file, if anything is.
    #[inline(never)]
    fn some_intent(&self) -> Result<Option<InodeNo>, Error> {
        let at = |sub| Item::new(InodeNo::NONE, Kind::INTENT, sub);
        let mut items = self.view.items(self.mounted, at(0), at(MAX_SUB));
        let Some((item, _)) = items.next()? else {
            return Ok(None);
        };
        Ok(Some(InodeNo(item.sub())))
    }

    /// Carries out what is being done with one file.
    fn carry_out_one(&self) -> Result<(), Error> {
        match self.some_intent()? {
            Some(file) => self.settle(file).map(drop),
            None => Ok(()),
        }
    }

    /// None if something is half done.
    #[inline(never)]
    fn take_once(&self, name: &[u8], now: Timestamp) -> Result<Option<Done<()>>, Error> {
        let (names, mounted) = (self.names, self.mounted);
        let mut shelf = names.shelf.lock();
        shelf.load(mounted)?;
        if shelf.named(name).is_some() {
            return Err(Error::Exists);
        }
        let _alone = names.changing.lock();
        if self.some_intent()?.is_some() {
            return Ok(None);
        }
        let old = self.view.current();
        if !shelf.is_open(old, self.view) {
            return Err(Error::Invalid);
        }
        let missing = Error::Snapshot(old, Wrong::Missing);
        let before = shelf.node(old).ok_or(missing)?;
        if before.state != State::Head {
            return Err(Error::Fault(crate::volume::mounted::Fault::ReadOnly));
        }
        let before = before.try_clone()?;
        let mut taken = before.try_clone()?;
        taken.state = State::Snapshot;
        taken.made = now;
        taken.name = Vec::try_from_slice(name)?;
        let new = shelf.next;
        let head = Node {
            state: State::Head,
            parent: old,
            made: before.made,
            cursor: Key::MIN,
            room: room_for_all(mounted),
            own: Vec::try_from_slice(&[(new, new)])?,
            name: before.name.try_clone()?,
        };
        let mut txn = mounted.begin()?;
        put(&mut txn, old, &taken)?;
        put(&mut txn, new, &head)?;
        number(&mut txn, &mut shelf)?;
        shelf.add(new, head)?;
        if let Some(node) = shelf.node_mut(old) {
            *node = taken;
        }
        shelf.renumber(old, new);
        let done = commit_with_room(txn, &shelf);
        if done.is_err() {
            shelf.renumber(new, old);
            shelf.remove(new);
            if let Some(node) = shelf.node_mut(old) {
                *node = before;
            }
            shelf.keep_room(mounted, false)?;
        }
        done.map(Some)
    }
}
