// SPDX-License-Identifier: GPL-2.0

//! All nodes of the tree that snapshots make, in memory: what grew from what, who sees which versions, and what is in use.

use crate::format::snapshot;
use crate::format::snapshot::Node;
use crate::format::snapshot::State;
use crate::names::view::Ids;
use crate::names::view::Lineage;
use crate::names::Error;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::space::reserve;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::SnapshotId;
use crate::units::Timestamp;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;
use embr_rt::Arc;
use embr_rt::NoMem;
use embr_rt::Vec;

/// A snapshot or a head, as it is listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its number. That of a head changes with every snapshot that is taken of it.
    pub id: SnapshotId,
    /// Its name; none of the head that a volume shows by itself.
    pub name: Vec<u8>,
    /// Whether it goes on.
    pub is_head: bool,
    /// When it was taken, or made.
    pub made: Timestamp,
}

/// A view, and what it shows from a commit on.
pub(super) type Turn = (Arc<View>, Arc<Lineage>);

/// What a node sees, for who checks it.
pub(crate) struct Seen {
    /// Its own versions alone.
    pub(crate) own: Ids,
    lineage: Lineage,
    pub(crate) state: State,
    is_swept: bool,
}

impl Seen {
    /// Whether a version is the node's.
    pub(crate) fn has(&self, id: SnapshotId) -> bool {
        self.own.has(id)
    }

    /// Whether what was touched in it is noted.
    pub(crate) fn is_noted(&self) -> bool {
        self.lineage.has_below()
    }

    /// Whether nothing of it awaits being given back.
    pub(crate) fn is_swept(&self) -> bool {
        self.is_swept
    }

    /// What it sees.
    pub(crate) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// A view of it, if it is to be seen.
    pub(crate) fn into_view(self) -> Option<View> {
        (self.state != State::Deleted).then(|| View::of(self.lineage))
    }
}

impl Names {
    /// All nodes, and what they see.
    pub(crate) fn seen<M: Machine>(&self, mounted: &Mounted<M>) -> Result<Vec<Seen>, Error> {
        let mut shelf = self.shelf.lock();
        shelf.load(mounted)?;
        let mut all = Vec::new();
        for Known { id, node } in shelf.nodes.iter() {
            // What passed on what it has, or goes.
            let awaits = |id| {
                let is_deleted = shelf.node(id).is_some_and(|n| n.state == State::Deleted);
                is_deleted && shelf.children(id).count() < 2
            };
            all.push(Seen {
                own: Ids::of(&node.own)?,
                lineage: shelf.lineage(*id)?,
                state: node.state,
                is_swept: !awaits(*id) && !awaits(node.parent),
            })?;
        }
        Ok(all)
    }
}

/// Nodes that removing all names as they are now may take, while others see them.
pub(super) fn room_for_all<M: Machine>(mounted: &Mounted<M>) -> u64 {
    mounted.tree(NAMES).map_or(0, |names| {
        let (frozen, base) = names.frozen();
        let frozen = frozen.map_or(0, |delta| delta.bytes());
        let in_memory = names.active_bytes().saturating_add(frozen);
        let to_come = reserve::of_moved(in_memory as u64);
        reserve::of_removed(base.nodes.saturating_add(to_come))
    })
}

/// A node and its number.
pub(super) struct Known {
    pub(super) id: SnapshotId,
    pub(super) node: Node,
}

/// All snapshots of a mounted volume.
#[derive(Default)]
pub(crate) struct Shelf {
    /// By their numbers; none before they are read.
    nodes: Vec<Known>,
    /// Above all numbers that there ever were.
    pub(super) next: SnapshotId,
    /// What somebody may look at.
    open: Vec<(SnapshotId, Arc<View>)>,
}

impl Shelf {
    /// Reads all nodes, if that was not done.
    #[inline(never)]
    pub(super) fn load<M: Machine>(&mut self, mounted: &Mounted<M>) -> Result<(), Error> {
        if !self.nodes.is_empty() {
            return Ok(());
        }
        let mut nodes = Vec::new();
        let mut scan = mounted.scan(SNAPSHOTS, snapshot::NODES);
        while let Some(scan) = &mut scan {
            let Some((key, value)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let id = snapshot::parse_node(key).unwrap_or(SnapshotId::NONE);
            let node = Node::parse(id, &value)?.ok_or(Error::Snapshot(id, Wrong::Senseless))?;
            nodes.push(Known { id, node })?;
        }
        let next = mounted.get(SNAPSHOTS, snapshot::NUMBERS, snapshot::parse_number)?;
        let next = match next {
            None if nodes.is_empty() => SnapshotId(SnapshotId::FIRST.0.saturating_add(1)),
            None => return Err(Error::Snapshot(SnapshotId::NONE, Wrong::Missing)),
            Some(next) => next.ok_or(Error::Snapshot(SnapshotId::NONE, Wrong::Senseless))?,
        };
        if nodes.is_empty() {
            nodes.push(Known {
                id: SnapshotId::FIRST,
                node: lone()?,
            })?;
        }
        let loaded = Shelf {
            nodes,
            next,
            open: core::mem::take(&mut self.open),
        };
        loaded.check()?;
        *self = loaded;
        self.keep_room(mounted, false)?;
        Ok(())
    }

    /// Keeps the room for removing that each head was promised. Says whether there is that much, if it `must` be.
    pub(super) fn keep_room<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        must: bool,
    ) -> Result<bool, Error> {
        Ok(mounted.space.keep_for_removal(self.room()?, must))
    }

    /// How many nodes are to be kept for removing, of all heads of which others see something.
    pub(super) fn room(&self) -> Result<u64, Error> {
        let mut all = 0u64;
        for known in self.nodes.iter() {
            if known.node.state == State::Head && self.lineage(known.id)?.has_below() {
                all = all.saturating_add(known.node.room);
            }
        }
        Ok(all)
    }

    /// Whether the nodes make one tree, of which each version is one's own.
    fn check(&self) -> Result<(), Error> {
        let mut roots = 0usize;
        let mut mains = 0usize;
        let mut spans: Vec<(SnapshotId, SnapshotId)> = Vec::new();
        for Known { id, node } in self.nodes.iter() {
            let bad = Error::Snapshot(*id, Wrong::Disagrees);
            match self.node(node.parent) {
                None if node.parent == SnapshotId::NONE => roots = roots.saturating_add(1),
                Some(parent) if parent.state != State::Head => {}
                _ => return Err(bad),
            }
            let is_main = node.state == State::Head && node.name.is_empty();
            mains = mains.saturating_add(usize::from(is_main));
            if *id >= self.next || (node.state == State::Snapshot && node.name.is_empty()) {
                return Err(bad);
            }
            for span in node.own.iter() {
                spans.push(*span)?;
            }
        }
        spans.sort_unstable_by_key(|(first, _)| first.0);
        let pairs = spans.iter().zip(spans.iter().skip(1));
        let overlap = pairs
            .filter(|((_, last), (first, _))| last >= first)
            .map(|(_, (first, _))| *first);
        let bad = overlap.min();
        match bad {
            Some(id) => Err(Error::Snapshot(id, Wrong::Disagrees)),
            None if roots != 1 || mains != 1 => {
                Err(Error::Snapshot(SnapshotId::NONE, Wrong::Disagrees))
            }
            None => Ok(()),
        }
    }

    fn place(&self, id: SnapshotId) -> Option<usize> {
        self.nodes.binary_search_by_key(&id, |k| k.id).ok()
    }

    /// The node with this number.
    pub(super) fn node(&self, id: SnapshotId) -> Option<&Node> {
        self.nodes.get(self.place(id)?).map(|k| &k.node)
    }

    /// The same, to change.
    pub(super) fn node_mut(&mut self, id: SnapshotId) -> Option<&mut Node> {
        let place = self.place(id)?;
        self.nodes.get_mut(place).map(|k| &mut k.node)
    }

    /// All nodes.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &Known> {
        self.nodes.iter()
    }

    /// Adds a node with a number above all others'.
    pub(super) fn add(&mut self, id: SnapshotId, node: Node) -> Result<(), NoMem> {
        self.nodes.push(Known { id, node })
    }

    /// Puts a node back where it was.
    pub(super) fn put_back(&mut self, id: SnapshotId, node: Node) -> Result<(), NoMem> {
        let at = self.nodes.partition_point(|k| k.id < id);
        self.nodes.insert(at, Known { id, node })
    }

    /// Takes a node away.
    pub(super) fn remove(&mut self, id: SnapshotId) -> Option<Node> {
        let place = self.place(id)?;
        self.nodes.remove(place).map(|known| known.node)
    }

    /// The one with this name.
    pub(super) fn named(&self, name: &[u8]) -> Option<SnapshotId> {
        let is_it = |k: &&Known| k.node.state != State::Deleted && &k.node.name[..] == name;
        self.nodes.iter().find(is_it).map(|k| k.id)
    }

    /// What grew from a node.
    pub(super) fn children(&self, id: SnapshotId) -> impl Iterator<Item = SnapshotId> + '_ {
        let grew = move |k: &&Known| k.node.parent == id;
        self.nodes.iter().filter(grew).map(|k| k.id)
    }

    /// Whether what a node wrote is nobody's but that of the one which grew from it.
    fn is_passed_on(&self, id: SnapshotId) -> bool {
        let is_deleted = self.node(id).is_some_and(|n| n.state == State::Deleted);
        is_deleted && self.children(id).count() == 1
    }

    /// What a node sees, and what of it is its own.
    pub(super) fn lineage(&self, id: SnapshotId) -> Result<Lineage, Error> {
        let bad = Error::Snapshot(id, Wrong::Missing);
        let node = self.node(id).ok_or(bad)?;
        let mut own = Ids::of(&node.own)?;
        let mut below = Ids::default();
        let mut is_own = true;
        let mut unswept = 0usize;
        let mut at = node.parent;
        while at != SnapshotId::NONE {
            let parent = self.node(at).ok_or(Error::Snapshot(at, Wrong::Missing))?;
            is_own = is_own && self.is_passed_on(at);
            let spans = Ids::of(&parent.own)?;
            unswept = unswept.saturating_add(usize::from(is_own));
            match is_own {
                true => own.add(&spans)?,
                false => below.add(&spans)?,
            }
            at = parent.parent;
        }
        let is_kept = node.state != State::Head;
        let lineage = Lineage::new(own, &below, is_kept)?.ok_or(bad)?;
        Ok(lineage.after(unswept))
    }

    /// Nobody looks at it.
    pub(super) fn is_unused(&self, id: SnapshotId) -> bool {
        let here = |(open, view): &(SnapshotId, Arc<View>)| *open == id && !Arc::is_unique(view);
        !self.open.iter().any(here)
    }

    /// A view of a node.
    pub(super) fn open(&mut self, id: SnapshotId) -> Result<Arc<View>, Error> {
        self.open.retain(|(_, view)| !Arc::is_unique(view));
        let known = self.open.iter().find(|(open, _)| *open == id);
        if let Some((_, view)) = known {
            return Ok(view.clone());
        }
        let lineage = self.lineage(id)?;
        let view = match lineage.is_kept() {
            true => View::of(lineage),
            false => View::head(lineage)?,
        };
        let view = Arc::try_new(view)?;
        self.open.push((id, view.clone()))?;
        Ok(view)
    }

    /// Whether this is the view of a head that was given out.
    pub(super) fn is_open(&self, id: SnapshotId, view: &View) -> bool {
        let mut open = self.open.iter();
        open.any(|(open, known)| *open == id && core::ptr::eq(&**known, view))
    }

    /// The head that had one number has another.
    pub(super) fn renumber(&mut self, from: SnapshotId, to: SnapshotId) {
        for (id, _) in self.open.iter_mut().filter(|(id, _)| *id == from) {
            *id = to;
        }
    }

    /// What the heads that are looked at show by now.
    pub(super) fn turns(&self) -> Result<Vec<Turn>, Error> {
        let mut turns = Vec::new();
        // What nobody looks at is opened anew.
        let used = self.open.iter().filter(|(_, view)| !Arc::is_unique(view));
        for (id, view) in used {
            let lineage = self.lineage(*id)?;
            if !lineage.is_kept() {
                turns.push((view.clone(), Arc::try_new(lineage)?))?;
            }
        }
        Ok(turns)
    }

    /// Whether a version above one number and below another is somebody's.
    pub(super) fn is_used(&self, above: SnapshotId, below: SnapshotId) -> bool {
        let mut spans = self.nodes.iter().flat_map(|k| k.node.own.iter());
        spans.any(|(first, last)| *last > above && *first < below)
    }
}

/// What a volume begins with.
pub(super) fn lone() -> Result<Node, NoMem> {
    Ok(Node {
        state: State::Head,
        parent: SnapshotId::NONE,
        made: Timestamp::default(),
        cursor: Key::MIN,
        room: 0,
        own: Vec::try_from_slice(&[(SnapshotId::FIRST, SnapshotId::FIRST)])?,
        name: Vec::new(),
    })
}

/// The first item of a range.
#[inline(never)] // The scan is on the stack here, and only here.
pub(super) fn first<M: Machine>(
    mounted: &Mounted<M>,
    range: Range,
) -> Result<Option<(Key, Vec<u8>)>, Error> {
    match mounted.scan(SNAPSHOTS, range) {
        Some(mut scan) => Ok(scan.next().map_err(Fault::from)?),
        None => Ok(None),
    }
}
