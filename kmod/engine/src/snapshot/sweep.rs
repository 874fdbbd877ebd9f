// SPDX-License-Identifier: GPL-2.0

//! Giving back what nobody sees after a snapshot was deleted. If one thing grew from it, the versions of both are that one's own, and of
//! several versions of an item only the newest is seen: those who go through what was touched in the younger one meet all that
//! there may be. If nothing grew from it, all that was touched in it goes.
//!
//! Whoever changes something meanwhile does the same for what he touches. So at the end no item has two versions that are one's own,
//! and none says that something is gone which would not be there anyway.

use super::change::commit;
use super::change::put;
use super::shelf::first;
use super::Shelf;
use crate::file::edit::Batch;
use crate::file::edit::Clear;
use crate::file::edit::Edit;
use crate::file::WINDOW_BLOCKS;
use crate::format::snapshot;
use crate::format::snapshot::Node;
use crate::format::snapshot::State;
use crate::format::snapshot::MAX_SPANS;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::view::walk;
use crate::names::view::Ids;
use crate::names::Done;
use crate::names::Error;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::tree::Key;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::Timestamp;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;

/// Bytes of the journal that the node takes.
const PER_NODE: usize = 4300;
/// Items that are removed together where a volume is full.
const SMALL: usize = 8;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    /// Nothing grew from a snapshot.
    Drop(SnapshotId),
    /// One thing grew from a snapshot: that one.
    Join(SnapshotId, SnapshotId),
}

impl Work {
    /// Something that was deleted, and can be done with.
    fn find(shelf: &Shelf) -> Result<Option<Work>, Error> {
        let deleted = shelf.nodes().filter(|k| k.node.state == State::Deleted);
        for known in deleted {
            let mut children = shelf.children(known.id);
            match (children.next(), children.next()) {
                (None, _) => return Ok(Some(Work::Drop(known.id))),
                (Some(child), None) => {
                    if fits(shelf, &known.node, child)? {
                        return Ok(Some(Work::Join(known.id, child)));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// What was deleted.
    fn deleted(self) -> SnapshotId {
        match self {
            Work::Drop(id) | Work::Join(id, _) => id,
        }
    }

    /// In which what was touched is gone through.
    fn gone_through(self) -> SnapshotId {
        match self {
            Work::Drop(id) | Work::Join(_, id) => id,
        }
    }
}

impl Names {
    /// Gives back part of what nobody sees since a snapshot was deleted. Says whether there may be more.
    #[inline(never)]
    pub fn sweep<M: Machine>(&self, mounted: &Mounted<M>) -> Result<bool, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let Some(work) = Work::find(&shelf)? else {
            return Ok(false);
        };
        match self.sweep_some(mounted, &mut shelf, work, Batch::Large) {
            Err(Error::NoSpace) => self.sweep_some(mounted, &mut shelf, work, Batch::Small)?,
            done => done?,
        };
        Ok(true)
    }

    #[inline(never)]
    fn sweep_some<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        shelf: &mut Shelf,
        work: Work,
        batch: Batch,
    ) -> Result<(), Error> {
        let lineage = match work {
            Work::Drop(id) => {
                let missing = Error::Snapshot(id, Wrong::Missing);
                let own = Ids::of(&shelf.node(id).ok_or(missing)?.own)?;
                crate::names::view::Lineage::new(own, &Ids::default(), false)?.ok_or(missing)?
            }
            Work::Join(_, id) => shelf.lineage(id)?,
        };
        let view = View::of(lineage.swept());
        let files = self.of(mounted, &view);
        let mut sweep = Sweep {
            change: Change::begin_freeing(files, Timestamp::default())?,
            work,
            batch,
            count: 0,
            has_edited: false,
        };
        let missing = Error::Snapshot(work.deleted(), Wrong::Missing);
        let cursor = shelf.node(work.deleted()).ok_or(missing)?.cursor;
        let through = shelf.node(work.gone_through()).ok_or(missing)?;
        let rest = sweep.go_through(&through.own, cursor)?;
        // What there was to be done is done first.
        let more = !sweep.change.txn().is_empty();
        match rest.or(more.then_some(Key::MAX)) {
            Some(cursor) => {
                let mut node = shelf.node(work.deleted()).ok_or(missing)?.try_clone()?;
                node.cursor = cursor;
                put(sweep.change.txn(), work.deleted(), &node)?;
                sweep.change.commit_alone(())?;
                if let Some(known) = shelf.node_mut(work.deleted()) {
                    *known = node;
                }
                Ok(())
            }
            None => {
                drop(sweep);
                self.end(mounted, shelf, work).map(drop)
            }
        }
    }

    /// All that had to be gone through was.
    #[inline(never)]
    fn end<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        shelf: &mut Shelf,
        work: Work,
    ) -> Result<Done<()>, Error> {
        let _alone = self.changing.lock();
        let mut txn = mounted.begin_freeing()?;
        let deleted = work.deleted();
        let missing = Error::Snapshot(deleted, Wrong::Missing);
        let gone = shelf.node(deleted).ok_or(missing)?.try_clone()?;
        let mut child = None;
        match work {
            Work::Drop(_) => {
                txn.remove(SNAPSHOTS, snapshot::node(deleted))?;
                forget(&mut txn, &Ids::of(&gone.own)?)?;
                shelf.remove(deleted);
            }
            Work::Join(_, id) => {
                txn.remove(SNAPSHOTS, snapshot::node(deleted))?;
                shelf.remove(deleted);
                match joined(&mut txn, shelf, id, &gone) {
                    Ok(node) => {
                        let known = shelf.node_mut(id).map(|n| core::mem::replace(n, node));
                        child = known.map(|old| (id, old));
                    }
                    Err(why) => {
                        shelf.put_back(deleted, gone)?;
                        return Err(why);
                    }
                }
            }
        }
        let done = commit(txn, shelf);
        if done.is_err() {
            if let Some((id, old)) = child {
                if let Some(known) = shelf.node_mut(id) {
                    *known = old;
                }
            }
            shelf.put_back(deleted, gone)?;
        }
        done
    }
}

/// Whether the numbers of one that is gone and of what grew from it are no more spans than a node can have.
fn fits(shelf: &Shelf, gone: &Node, id: SnapshotId) -> Result<bool, Error> {
    let Some(node) = shelf.node(id) else {
        return Ok(false);
    };
    let most = gone.own.len().saturating_add(node.own.len());
    Ok(most <= MAX_SPANS || together(shelf, node, gone)?.len() <= MAX_SPANS)
}

/// The numbers of one that is gone and of what grew from it.
fn together(shelf: &Shelf, node: &Node, gone: &Node) -> Result<Ids, Error> {
    let mut own = Ids::of(&node.own)?;
    own.add(&Ids::of(&gone.own)?)?;
    own.join(|above, below| shelf.is_used(above, below));
    Ok(own)
}

/// What grew from one that is gone, with what that had.
#[inline(never)]
fn joined<M: Machine>(
    txn: &mut Transaction<'_, M>,
    shelf: &Shelf,
    id: SnapshotId,
    gone: &Node,
) -> Result<Node, Error> {
    let missing = Error::Snapshot(id, Wrong::Missing);
    let mut node = shelf.node(id).ok_or(missing)?.try_clone()?;
    let own = together(shelf, &node, gone)?;
    node.parent = gone.parent;
    // More is its own now than when it was gone through.
    node.cursor = Key::MIN;
    node.own.clear();
    for span in own.spans() {
        node.own.push(span)?;
    }
    put(txn, id, &node)?;
    if node.parent == SnapshotId::NONE {
        // Who is deleted with nothing before him passes all that he has on.
        forget(txn, &own)?;
    }
    Ok(node)
}

/// What was touched in these versions is of no interest any more.
fn forget<M: Machine>(txn: &mut Transaction<'_, M>, own: &Ids) -> Result<(), Error> {
    for (first, last) in own.spans() {
        txn.remove_range(SNAPSHOTS, snapshot::all_touched(first, last))?;
    }
    Ok(())
}

struct Sweep<'n, M: Machine> {
    change: Begun<'n, M>,
    work: Work,
    batch: Batch,
    /// Items that were removed.
    count: usize,
    /// Whether what files hold was changed.
    has_edited: bool,
}

impl<M: Machine> Sweep<'_, M> {
    /// Goes through what was touched in these versions, from a key on; says where to go on if there is more.
    #[inline(never)]
    fn go_through(
        &mut self,
        own: &[(SnapshotId, SnapshotId)],
        cursor: Key,
    ) -> Result<Option<Key>, Error> {
        let mounted = self.change.files.mounted;
        for (from, to) in own {
            let Range { first: begin, last } = snapshot::all_touched(*from, *to);
            let mut at = begin.max(cursor);
            while at <= last {
                let Some((key, _)) = first(mounted, Range { first: at, last })? else {
                    break;
                };
                let Some(next) = key.next() else {
                    break;
                };
                let Some((_, inode, place)) = snapshot::parse_touched(key) else {
                    at = next;
                    continue;
                };
                if !self.has_room() {
                    return Ok(Some(key));
                }
                let item = Item::from_place(inode, place);
                // What says that an inode is gone goes after all that it had, whichever note comes first.
                let is_whole = match item.kind() {
                    _ if place == 0 => true,
                    Kind::INODE => self.is_gone(item)?,
                    _ => false,
                };
                let done = match (is_whole, item.kind()) {
                    // Engrams are changed once in a transaction.
                    (true, _) | (_, Kind::EXTENTS) if self.has_edited => false,
                    (true, _) => self.whole(inode)?,
                    (_, Kind::EXTENTS) => self.windows(item)?,
                    _ => self.items(item)?,
                };
                if !done {
                    return Ok(Some(key));
                }
                at = next;
            }
        }
        Ok(None)
    }

    fn has_room(&mut self) -> bool {
        let limit = self.change.txn().limit() / 2;
        let size = self.change.txn().size().saturating_add(PER_NODE);
        size <= limit && (self.batch == Batch::Large || self.count < SMALL)
    }

    /// Items that are touched together; says whether that was all.
    #[inline(never)]
    fn items(&mut self, item: Item) -> Result<bool, Error> {
        let (first, last) = item.group();
        if first == last {
            return self.item(first);
        }
        let mounted = self.change.files.mounted;
        let mut scan = walk(mounted, first.to(last))?;
        let mut before = None;
        while let Some(scan) = &mut scan {
            let Some((key, _)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let (item, id) = Item::of(key);
            if before == Some(item) || !self.change.lineage.owns(id) {
                continue;
            }
            before = Some(item);
            if !self.has_room() || !self.item(item)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// An item: the newest version stays, if it says something; the oldest go first. Says whether that was all.
    #[inline(never)]
    fn item(&mut self, item: Item) -> Result<bool, Error> {
        let mounted = self.change.files.mounted;
        let versions = self.change.lineage.own_versions(mounted, item)?;
        let keeps = match (self.work, versions.first()) {
            (Work::Drop(_), _) | (_, None) => false,
            (_, Some((_, false))) => true,
            (_, Some((_, true))) => {
                let below = self.change.lineage.inherited(mounted, item)?;
                below.is_some()
            }
        };
        for (id, _) in versions.iter().skip(usize::from(keeps)).rev() {
            if !self.has_room() {
                return Ok(false);
            }
            self.change.txn().remove(NAMES, item.at(*id))?;
            self.count = self.count.saturating_add(1);
        }
        Ok(true)
    }

    /// Windows of a file that are touched together; says whether that was all.
    #[inline(never)]
    fn windows(&mut self, item: Item) -> Result<bool, Error> {
        let (first, last) = item.group();
        let block = |window: u64| FileBlock(window.saturating_mul(WINDOW_BLOCKS));
        let (from, to) = (block(first.sub()), block(last.sub().saturating_add(1)));
        let how = match self.work {
            Work::Drop(_) => Clear::Gone,
            Work::Join(..) => Clear::Hidden,
        };
        let mut edit = Edit::new(&mut self.change, item.owner())
            .unseen()
            .sized(self.batch);
        let rest = edit.clear(from, to, how)?;
        self.has_edited = !edit.is_idle();
        edit.finish()?;
        Ok(rest.is_none())
    }

    /// Whether an item is gone by its newest version.
    fn is_gone(&self, item: Item) -> Result<bool, Error> {
        let versions = (self.change.lineage).own_versions(self.change.files.mounted, item)?;
        Ok(versions.first().is_some_and(|(_, is_gone)| *is_gone))
    }

    /// An inode that was made or removed; says whether that was all.
    #[inline(never)]
    fn whole(&mut self, inode: InodeNo) -> Result<bool, Error> {
        let mounted = self.change.files.mounted;
        let own = Item::inode(inode);
        let versions = self.change.lineage.own_versions(mounted, own)?;
        let newest = versions.first().copied();
        let spared = match (self.work, newest) {
            (Work::Drop(_), _) => None,
            // It was made, so nothing older has anything of it.
            (_, None | Some((_, false))) => return Ok(true),
            (_, Some((id, true))) => {
                let below = self.change.lineage.inherited(mounted, own)?;
                below.map(|_| own.at(id))
            }
        };
        let mut edit = Edit::new(&mut self.change, inode)
            .unseen()
            .sized(self.batch);
        let rest = edit.clear(FileBlock(0), crate::file::END, Clear::Gone)?;
        self.has_edited = !edit.is_idle();
        edit.finish()?;
        if rest.is_some() {
            return Ok(false);
        }
        self.change.erase_own(inode, spared, self.batch)
    }
}
