// SPDX-License-Identifier: GPL-2.0

//! A checkpoint: what was committed up to some moment goes from memory to new nodes on disk, and a new root names them. Then the
//! journal before that moment, and the nodes that were replaced, are not needed any more; they are used again once the root after
//! this one is durable.

use crate::env::write_patiently;
use crate::env::Environment as _;
use crate::env::Write;
use crate::error::NoMem;
use crate::format::journal::Behind;
use crate::format::journal::End;
use crate::format::journal::Extent;
use crate::format::journal::Gap;
use crate::format::journal::Record;
use crate::format::journal::MAX_EXTENT;
use crate::format::layout;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::node::Node;
use crate::format::node::NODE_SIZE;
use crate::format::pointer::Place;
use crate::format::pointer::Places;
use crate::format::pointer::Pointer;
use crate::format::pointer::COPIES;
use crate::format::root::Root;
use crate::journal::Journal;
use crate::space::Remedy;
use crate::tree::delta::Delta;
use crate::tree::merge;
use crate::tree::merge::Edition;
use crate::tree::merge::Sink;
use crate::tree::Base;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::Generation;
use crate::units::Sequence;
use crate::units::BLOCK_SIZE;
use crate::volume::errand::Errand;
use crate::volume::members::Records;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::SPACE;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::Vec;

const NODE_BLOCKS: Blocks = Blocks((NODE_SIZE / BLOCK_SIZE) as u64);

/// Bytes of a record of a node.
const NODE_RECORD: u64 = 28;

/// What checkpoints know from one to the next.
#[derive(Debug)]
pub struct Checkpoints {
    /// The newest durable root.
    generation: Generation,
    /// The first root that named its trees.
    made: Generation,
    /// The last group that tells of the nodes of its trees.
    told: Sequence,
    /// What of the journal lies behind it.
    behind: Behind,
    /// The changes of the next root are frozen as of here. It stays so until they are in a root, however often that fails.
    frozen: Option<End>,
    /// Bases that were replaced, by the generation of their successor. Readers may still hold them.
    retired: Vec<(Generation, Arc<Base>)>,
    /// None where nothing is ever written.
    records: Option<Box<Records>>,
    /// How many copies data had when that was told last.
    copies: Option<usize>,
}

impl Checkpoints {
    /// Of a volume whose newest root this is.
    pub(super) fn new(root: &Root, records: Option<Box<Records>>) -> Self {
        Checkpoints {
            generation: root.generation,
            made: root.made,
            told: root.told,
            behind: root.journal.behind,
            frozen: None,
            retired: Vec::new(),
            records,
            copies: None,
        }
    }

    /// The roots to come say that this is no part of the journal.
    pub(super) fn leave_out(&mut self, gap: Option<Gap>) {
        self.behind.gap = gap;
    }

    pub(super) fn told(&mut self, copies: usize) {
        self.copies = Some(copies);
    }

    /// The newest durable root.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The first group of the journal that is needed.
    pub(super) fn first(&self) -> Sequence {
        self.behind.next.next
    }

    pub(super) fn records(&mut self) -> Option<&mut Records> {
        self.records.as_deref_mut()
    }
}

/// How old a root and its trees are.
#[derive(Clone, Copy)]
struct Age {
    generation: Generation,
    made: Generation,
    told: Sequence,
}

impl<M: Machine> Mounted<M> {
    /// Whether a worker in the background should make a [checkpoint](Self::checkpoint) now. Whoever commits makes one himself only
    /// where it is put off for too long.
    pub fn checkpoint_due(&self) -> bool {
        self.is_checkpoint_due(4) || self.space.is_tight()
    }

    /// Whether so many eighths of a ring are taken, or as much more memory than planned.
    fn is_checkpoint_due(&self, eighths: u64) -> bool {
        let memory = (self.memory / 4).saturating_mul(eighths as usize);
        self.journal
            .as_ref()
            .is_some_and(|j| j.is_filled(0, eighths, 8) || self.dirty_bytes() > memory)
    }

    /// Whether the journal has no room for so many bytes of records: the last part of it is for checkpoints alone.
    pub(crate) fn is_short_of_journal(&self, bytes: usize) -> bool {
        let Some(journal) = &self.journal else {
            return false;
        };
        journal.is_filled(bytes, 3, 4) || !journal.has_room(bytes, self.records_to_come())
    }

    /// Bytes that the checkpoint to come may have to note of its nodes, with a third more for what is lost at the ends of groups and
    /// of the ring. However many that would be in theory, an empty ring has room for a transaction too.
    fn records_to_come(&self) -> u64 {
        let copies = self.space.node_copies();
        // Each node that is written, and as many that are not needed any more.
        let records = self
            .space
            .granted()
            .saturating_mul(copies)
            .saturating_mul(2);
        let ring = self.journal.as_ref().map_or(0, Journal::ring_bytes);
        (records.saturating_mul(NODE_RECORD) / 3)
            .saturating_mul(4)
            .min(ring / 2)
    }

    /// Sees to it that a transaction with so many bytes of records finds room. Called with no lock held.
    pub(crate) fn make_room(&self, bytes: usize) -> Result<(), Fault> {
        if self.is_short_of_journal(bytes) {
            self.ask(Errand::Room(bytes))
        } else if !self.is_checkpoint_due(5) {
            Ok(())
        } else if M::CHECKPOINTS_APART {
            self.wake();
            Ok(())
        } else {
            self.checkpoint_if_idle()
        }
    }

    fn checkpoint_if_idle(&self) -> Result<(), Fault> {
        let done = self
            .checkpoints
            .try_lock()
            .map(|mut checkpoints| self.checkpoint_with(&mut checkpoints));
        match done {
            // It is tried again later; who needs the room hears of it.
            Some(Err(Fault::NoMemory | Fault::NoSpace) | Ok(())) | None => {}
            Some(Err(why)) => return Err(why),
        }
        self.discard_after();
        Ok(())
    }

    /// Does what is wanted of a checkpoint.
    #[inline(never)]
    pub(super) fn run(&self, errand: Errand) -> Result<(), Fault> {
        let done = self.run_with(&mut self.checkpoints.lock(), errand);
        self.discard_after();
        done
    }

    #[inline(never)]
    fn run_with(&self, checkpoints: &mut Checkpoints, errand: Errand) -> Result<(), Fault> {
        match errand {
            Errand::Root => self.checkpoint_with(checkpoints)?,
            Errand::Members => self.lose(checkpoints)?,
            Errand::Room(bytes) => {
                if self.is_short_of_journal(bytes) {
                    self.checkpoint_with(checkpoints)?;
                }
                // Room comes back when the second root after is durable.
                if self.is_short_of_journal(bytes) {
                    self.repeat_root(checkpoints)?;
                }
            }
            // Somebody else did it.
            Errand::Space(_, before) if checkpoints.generation != before => {}
            Errand::Space(Remedy::Checkpoint, _) => self.checkpoint_with(checkpoints)?,
            Errand::Space(Remedy::Root, _) => self.repeat_root(checkpoints)?,
            Errand::Space(Remedy::Wait, _) => self.release_old(checkpoints),
            Errand::Space(Remedy::Nothing, _) => {}
        }
        Ok(())
    }

    /// Writes a root that has everything that committed before.
    pub fn checkpoint(&self) -> Result<(), Fault> {
        let done = self.checkpoint_with(&mut self.checkpoints.lock());
        self.discard_after();
        done
    }

    #[inline(never)]
    pub(super) fn checkpoint_with(&self, checkpoints: &mut Checkpoints) -> Result<(), Fault> {
        loop {
            self.lose(checkpoints)?;
            match self.checkpoint_once(checkpoints) {
                Err(Fault::Members) => {}
                done => return done,
            }
        }
    }

    #[inline(never)]
    fn checkpoint_once(&self, checkpoints: &mut Checkpoints) -> Result<(), Fault> {
        let Some(journal) = &self.journal else {
            return Err(Fault::ReadOnly);
        };
        let generation = Generation(checkpoints.generation.0.saturating_add(1));
        let end = match checkpoints.frozen {
            Some(end) => end,
            None => self.freeze(journal, generation)?,
        };
        checkpoints.frozen = Some(end);
        let behind = Behind::all(end);

        let mut building = Building::new(self);
        let merged = building.merge_all(generation);
        let bases = merged.map_err(|why| match journal.failing() {
            // Without that device it may go well.
            Ok(failing) if failing.count() != 0 => Fault::Members,
            _ => why,
        })?;
        // From here on nothing needs memory.
        checkpoints.retired.try_reserve(bases.len())?;
        let mut kept: Vec<Base> = Vec::try_with_capacity(self.trees.len())?;
        for (id, tree) in self.trees.iter() {
            let new = bases.iter().find(|b| b.tree == *id).map(|b| **b);
            kept.push(new.unwrap_or(*tree.frozen().1))?;
        }
        let nodes = self.space.nodes_after(building.replaced);
        let records = self.node_records(journal, generation, &building)?;
        let mut buffer = Vec::zeroed(layout::ROOT_SIZE)?;
        // Nothing names the nodes while somebody is a member who did not flush them.
        journal.flush(self.devices(), building.written);
        let order = self.order.lock();
        self.finish_groups(journal)?;
        self.space.announce(&building.freed)?;
        // A device that fails from here on is given up afterwards: the journal speaks of this root, and what both name is durable.
        let appended = self.append_records(journal, &records);
        let told = journal.newest();
        drop(order);
        let published = appended
            .and_then(|()| self.apply_nodes(generation, &mut building))
            .and_then(|()| {
                let age = Age {
                    generation,
                    made: generation,
                    told,
                };
                self.write_roots(age, behind, (&kept, nodes), &mut buffer)
            });
        match published {
            Ok(failed) => self.report(failed),
            Err(why) => {
                // That may or may not be there: nothing may come behind it.
                journal.stop();
                return Err(why);
            }
        }

        for base in bases {
            if let Some(tree) = self.tree(base.tree) {
                let old = tree.replace(base);
                checkpoints.retired.push((generation, old))?;
            }
        }
        checkpoints.frozen = None;
        checkpoints.made = generation;
        checkpoints.told = told;
        self.space.settle(nodes);
        journal.confirm();
        self.rooted(checkpoints, journal, generation, behind)
    }

    /// Writes the newest root once more, as the next one: so there are two that do not need what it does not. It needs no node and
    /// no record, so it is possible however full the volume is.
    #[inline(never)]
    fn repeat_root(&self, checkpoints: &mut Checkpoints) -> Result<(), Fault> {
        let Some(journal) = &self.journal else {
            return Err(Fault::ReadOnly);
        };
        self.lose(checkpoints)?;
        if checkpoints.frozen.is_some() {
            // What is frozen has the next generation.
            return self.checkpoint_with(checkpoints);
        }
        self.write_again(checkpoints, journal)
    }

    /// Does that where nothing is frozen.
    #[inline(never)]
    pub(super) fn write_again(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
    ) -> Result<(), Fault> {
        let generation = Generation(checkpoints.generation.0.saturating_add(1));
        let behind = checkpoints.behind;
        self.space.skip(generation);
        let failed = self.write_newest(checkpoints, generation);
        self.report(failed.inspect_err(|_| journal.stop())?);
        self.rooted(checkpoints, journal, generation, behind)
    }

    /// Writes the newest root once more, as that of this generation. Says who did not take it.
    #[inline(never)]
    pub(super) fn write_newest(
        &self,
        checkpoints: &mut Checkpoints,
        generation: Generation,
    ) -> Result<Members, Fault> {
        let behind = checkpoints.behind;
        let age = Age {
            generation,
            made: checkpoints.made,
            told: checkpoints.told,
        };
        let Some(records) = checkpoints.records() else {
            return Err(Fault::ReadOnly);
        };
        let Records { bases, root, .. } = records;
        bases.clear();
        for (_, tree) in self.trees.iter() {
            // There is room for all of them.
            let _ = bases.push_within_capacity(*tree.frozen().1);
        }
        let trees = (&bases[..], self.space.nodes());
        let failed = self.write_roots(age, behind, trees, root);
        // Wherever it is by now, no other one may be of this generation.
        checkpoints.generation = generation;
        failed
    }

    /// A root is durable.
    #[inline(never)]
    fn rooted(
        &self,
        checkpoints: &mut Checkpoints,
        journal: &Journal,
        generation: Generation,
        behind: Behind,
    ) -> Result<(), Fault> {
        let before = core::mem::replace(&mut checkpoints.behind, behind);
        checkpoints.generation = generation;
        // Nothing may rely on it while somebody is a member who has it not.
        self.lose(checkpoints)?;
        // After a loss they may have become fewer, or as many again as are wanted.
        let copies = self.space.copies();
        if *checkpoints.copies.get_or_insert(copies) != copies {
            self.tell_members(checkpoints, copies);
        }
        // The root before this one may be needed still, should this one become unreadable.
        journal.release(before.next.next);
        self.release_old(checkpoints);
        Ok(())
    }

    /// What neither the newest two roots nor a reader needs can be given out again.
    pub(super) fn release_old(&self, checkpoints: &mut Checkpoints) {
        // A base that a reader holds keeps its nodes, and all that were freed later.
        checkpoints
            .retired
            .retain_mut(|(_, base)| !Arc::is_unique(base));
        let held = checkpoints.retired.iter().map(|(g, _)| *g).min();
        let newest = checkpoints.generation;
        self.space
            .durable(held.map_or(newest, |held| held.min(newest)));
    }

    /// Between two transactions: everything that committed so far is in closed groups and frozen deltas.
    #[inline(never)]
    fn freeze(&self, journal: &Journal, generation: Generation) -> Result<End, Fault> {
        let mut cells = Vec::try_with_capacity(self.trees.len())?;
        for _ in self.trees.iter() {
            cells.push(Arc::try_new(Delta::new())?)?;
        }
        let _order = self.order.lock();
        journal.sync(self.devices(), self.hasher(), journal.newest())?;
        let end = journal.end().ok_or(Fault::Stopped)?;
        let mut cell = Arc::try_new(Delta::new())?;
        let space = self.space.freeze(generation)?;
        if let Some(place) = Arc::get_mut(&mut cell) {
            *place = space;
        }
        for ((id, tree), empty) in self.trees.iter().zip(cells) {
            if *id != SPACE {
                tree.freeze(empty);
            } else if !cell.is_empty() {
                tree.freeze_as(cell.clone());
            }
        }
        Ok(end)
    }

    /// Where the new root's nodes are, and where those were that it does not need: records, as many in a piece as a group takes.
    #[inline(never)]
    fn node_records(
        &self,
        journal: &Journal,
        generation: Generation,
        building: &Building<'_, M>,
    ) -> Result<Vec<(Vec<u8>, u32)>, NoMem> {
        let taken = building
            .taken
            .iter()
            .map(|e| Record::NodesTaken(generation, *e));
        let freed = building
            .freed
            .iter()
            .map(|e| Record::NodesFreed(generation, *e));
        let mut pieces: Vec<(Vec<u8>, u32)> = Vec::new();
        for record in taken.chain(freed) {
            let room = |p: &&mut (Vec<u8>, u32)| {
                p.0.len().saturating_add(record.size()) <= journal.max_records()
            };
            if pieces.last_mut().filter(room).is_none() {
                pieces.push((Vec::new(), 0))?;
            }
            if let Some((bytes, count)) = pieces.last_mut() {
                record.encode(bytes)?;
                *count = count.saturating_add(1);
            }
        }
        Ok(pieces)
    }

    /// With the order of commits held: all that committed is in groups that are durable, and no device failed. So the groups that follow
    /// name nothing that is yet to be flushed, and need not wait until a device is given up.
    #[inline(never)]
    fn finish_groups(&self, journal: &Journal) -> Result<(), Fault> {
        journal.sync(self.devices(), self.hasher(), journal.newest())?;
        match journal.failing()?.count() {
            0 => Ok(()),
            _ => Err(Fault::Members),
        }
    }

    /// With the order of commits held: writes the records of nodes, which are durable, in groups of their own.
    #[inline(never)]
    fn append_records(&self, journal: &Journal, pieces: &[(Vec<u8>, u32)]) -> Result<(), Fault> {
        let write = || journal.write(self.devices(), self.hasher(), journal.newest());
        for (records, count) in pieces {
            if !journal.fits(records.len()) {
                write()?;
            }
            journal.append(records, *count, Members::default())?;
        }
        Ok(write()?)
    }

    #[inline(never)]
    fn apply_nodes(
        &self,
        generation: Generation,
        building: &mut Building<'_, M>,
    ) -> Result<(), Fault> {
        for extent in core::mem::take(&mut building.taken) {
            self.space.take(extent)?;
        }
        for extent in core::mem::take(&mut building.freed) {
            self.space.free_as_of(extent, generation)?;
        }
        Ok(())
    }

    /// The commit point: the root of this generation, on all members. Says which of them did not take it.
    fn write_roots(
        &self,
        Age {
            generation,
            made,
            told,
        }: Age,
        behind: Behind,
        (trees, nodes): (&[Base], u64),
        bytes: &mut [u8],
    ) -> Result<Members, Fault> {
        let slot = layout::ring_slot(generation);
        let (epoch, present) = (self.epoch(), self.present());
        let Some(journal) = &self.journal else {
            return Err(Fault::ReadOnly);
        };
        let mut failed = Members(journal.failing()?.0 & present.0);
        if !self.can_do_with(Members(present.0 & !failed.0)) {
            return Err(Fault::Stopped);
        }
        for part in self.parts.iter().filter(|p| present.has(p.slot)) {
            let mut journal = part.journal;
            journal.behind = behind;
            let root = Root {
                volume: self.volume,
                epoch: epoch.id,
                generation,
                device: part.id,
                written: self.machine().environment().now(),
                journal,
                nodes,
                made,
                told,
            };
            for ring in layout::rings(part.size) {
                let at = layout::slot_at(ring, slot).filter(|_| !failed.has(part.slot));
                let Some(at) = at else {
                    continue;
                };
                root.encode(trees, self.hasher(), at, bytes);
                let mut write = [Write::new(part.slot, at, bytes)];
                write_patiently(self.devices(), &mut write);
                let [Write { outcome, .. }] = write;
                if outcome.is_err() {
                    failed = failed.with(part.slot);
                }
            }
        }
        let refused = journal.flush(self.devices(), Members(present.0 & !failed.0));
        failed = Members(failed.0 | refused.0);
        let good = Members(present.0 & !failed.0);
        // What a device holds that did not flush is in doubt, not this root alone.
        let enough = refused.count() == 0 && good.count() as usize >= self.copies();
        if !enough && !self.can_do_with(good) {
            return Err(Fault::Stopped);
        }
        Ok(failed)
    }
}

/// The nodes of a root that is being made. What was given out for them goes back unless the root comes about.
struct Building<'m, M: Machine> {
    mounted: &'m Mounted<M>,
    taken: Vec<Extent>,
    freed: Vec<Extent>,
    /// Nodes that were freed.
    replaced: u64,
    written: Members,
}

impl<'m, M: Machine> Building<'m, M> {
    fn new(mounted: &'m Mounted<M>) -> Self {
        Building {
            mounted,
            taken: Vec::new(),
            freed: Vec::new(),
            replaced: 0,
            written: Members::default(),
        }
    }

    /// Merges every frozen delta. The bases are on the heap already, so that taking them over cannot fail.
    #[inline(never)]
    fn merge_all(&mut self, generation: Generation) -> Result<Vec<Arc<Base>>, Fault> {
        let mounted = self.mounted;
        let edition = Edition {
            epoch: mounted.epoch().id,
            generation,
        };
        let mut bases = Vec::try_with_capacity(mounted.trees.len())?;
        for (_, tree) in mounted.trees.iter() {
            if let (Some(frozen), base) = tree.frozen() {
                let new = merge(&mounted.nodes, &base, &*frozen, edition, self)?;
                bases.push(Arc::try_new(new)?)?;
            }
        }
        Ok(bases)
    }
}

/// Adds blocks to a list, joined with what lies before them if that came lately and one record can tell of both.
fn gather(list: &mut Vec<Extent>, extent: Extent) -> Result<(), NoMem> {
    let follows = |e: &&mut Extent| {
        e.device == extent.device
            && e.start.0.saturating_add(e.blocks.0) == extent.start.0
            && e.blocks.0.saturating_add(extent.blocks.0) <= MAX_EXTENT
    };
    if let Some(last) = list.iter_mut().rev().take(COPIES).find(follows) {
        last.blocks = Blocks(last.blocks.0.saturating_add(extent.blocks.0));
        return Ok(());
    }
    list.push(extent)
}

impl<M: Machine> Sink for Building<'_, M> {
    fn place(&mut self) -> Result<Places, TreeError> {
        self.taken.try_reserve(COPIES)?;
        let mut extents = Vec::try_with_capacity(COPIES)?;
        let complete = self.mounted.space.place(&mut extents);
        let mut places = [Place {
            device: Slot::FIRST,
            block: Blocks(0),
        }; COPIES];
        for (place, extent) in places.iter_mut().zip(extents.iter()) {
            *place = Place {
                device: extent.device,
                block: extent.start,
            };
            gather(&mut self.taken, *extent)?;
        }
        if !complete {
            return Err(TreeError::NoSpace);
        }
        let places = places.get(..extents.len()).and_then(Places::new);
        places.ok_or(TreeError::NoSpace)
    }

    fn write(&mut self, node: &Arc<Node>) -> Result<(), TreeError> {
        let pointer = node.pointer();
        let mut writes: [Write<'_>; COPIES] =
            core::array::from_fn(|_| Write::new(Slot::FIRST, Bytes(0), &[]));
        for (write, place) in writes.iter_mut().zip(pointer.places.iter()) {
            *write = Write::new(
                place.device,
                place.block.bytes().unwrap_or_default(),
                node.bytes(),
            );
            self.written = self.written.with(place.device);
        }
        let writes = writes.get_mut(..pointer.places.count()).unwrap_or_default();
        write_patiently(self.mounted.devices(), writes);
        for write in writes.iter() {
            if let Err(why) = write.outcome {
                self.mounted.report(Members::default().with(write.device));
                return Err(TreeError::Write(write.device, write.at, why));
            }
        }
        Ok(())
    }

    fn free(&mut self, node: &Pointer) -> Result<(), TreeError> {
        for place in node.places.iter() {
            let extent = Extent {
                device: place.device,
                start: place.block,
                blocks: NODE_BLOCKS,
            };
            gather(&mut self.freed, extent)?;
        }
        self.replaced = self.replaced.saturating_add(1);
        Ok(())
    }
}

impl<M: Machine> Drop for Building<'_, M> {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.mounted.space.unplace(&self.taken);
        }
    }
}
