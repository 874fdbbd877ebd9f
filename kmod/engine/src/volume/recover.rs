// SPDX-License-Identifier: GPL-2.0

//! Mounting: from the newest root and the journal behind it to what was last committed. A read-only mount keeps the result in
//! memory and writes nothing; any other makes it durable, as a new root, before it serves. What is free only a mount needs that
//! writes, and fsck.

use crate::env::Devices as _;
use crate::env::Environment as _;
use crate::env::Hasher;
use crate::error::NoMem;
use crate::format::journal::End;
use crate::format::journal::Extent;
use crate::format::journal::Gap;
use crate::format::journal::Record;
use crate::format::layout;
use crate::format::member::Entry;
use crate::format::member::Members;
use crate::format::node::Node;
use crate::format::node::NODE_SIZE;
use crate::format::pointer::Pointer;
use crate::format::root;
use crate::format::root::Root;
use crate::journal::ring::Ring;
use crate::journal::scan::Found;
use crate::journal::scan::Scan;
use crate::journal::scan::ScanError;
use crate::journal::scan::Source;
use crate::journal::Copy;
use crate::journal::Journal;
use crate::journal::Writer;
use crate::rebundle::Refusals;
use crate::space::reserve::Change;
use crate::space::Managed;
use crate::space::Space;
use crate::space::SpaceError;
use crate::tree::check;
use crate::tree::check::Depth;
use crate::tree::check::Visitor;
use crate::tree::Base;
use crate::tree::Layered;
use crate::tree::Nodes;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::Generation;
use crate::units::Sequence;
use crate::units::SessionId;
use crate::units::TreeId;
use crate::volume::assemble::Standing;
use crate::volume::assemble::Volume;
use crate::volume::checkpoint::Checkpoints;
use crate::volume::errand::Errands;
use crate::volume::members::Records;
use crate::volume::members::Roll;
use crate::volume::mounted::fixed;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Inside;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::Part;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::REFERENCES;
use crate::volume::mounted::SPACE;
use crate::volume::mounted::STRIPES;
use crate::volume::mounted::TREES;
use crate::volume::probe::Member;
use embr_rt::lock_class;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::Mutex;
use embr_rt::Vec;

/// How to mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Write nothing at all.
    pub read_only: bool,
    /// Write although most of the members are not here or missed something.
    pub degraded: bool,
    /// Bytes of nodes to keep in memory.
    pub cache: Bytes,
    /// Bytes of changes in memory at which a checkpoint is due.
    pub dirty: Bytes,
}

impl From<ScanError> for Fault {
    fn from(why: ScanError) -> Self {
        match why {
            ScanError::NoMemory => Fault::NoMemory,
            ScanError::Lost(group) => Fault::JournalLost(group),
            ScanError::Record(group) => Fault::JournalRecord(group),
            ScanError::Unread(group) => Fault::JournalUnread(group),
        }
    }
}

/// The members that are here and current.
#[inline(never)]
fn parts(volume: &Volume, members: &[Member]) -> Result<Vec<Part>, NoMem> {
    let mut parts = Vec::new();
    for seat in volume.seats() {
        let Standing::Current(index) = seat.standing else {
            continue;
        };
        if let Some(member) = members.get(index) {
            parts.push(Part {
                slot: seat.entry.slot,
                id: seat.entry.id,
                domain: seat.entry.failure_domain,
                // Another device may have said that there is more of it.
                size: seat.entry.bytes().min(member.size),
                journal: member.root.journal,
            })?;
        }
    }
    Ok(parts)
}

/// The members that are here and missed something, if they are as large as they should be and have their journal where a new one has it.
#[inline(never)]
fn stale_parts(volume: &Volume, members: &[Member]) -> Result<Vec<Part>, NoMem> {
    let mut parts = Vec::new();
    for seat in volume.seats() {
        let Standing::Stale(index) = seat.standing else {
            continue;
        };
        let size = seat.entry.bytes();
        let journal = root::Journal::of_new(size);
        let is_as_made = |member: &&Member| {
            let root::Journal { start, blocks, .. } = member.root.journal;
            member.size >= size && (start, blocks) == (journal.start, journal.blocks)
        };
        if members.get(index).filter(is_as_made).is_some() {
            parts.push(Part {
                slot: seat.entry.slot,
                id: seat.entry.id,
                domain: seat.entry.failure_domain,
                size,
                journal,
            })?;
        }
    }
    Ok(parts)
}

/// Blocks of a device's journal that lie on it: it may be said to have more, more even than there is time and memory to look for.
fn journal_inside(part: &Part) -> Blocks {
    let room = (part.size.whole_blocks().0).saturating_sub(part.journal.start.0);
    part.journal.blocks.min(Blocks(room))
}

/// Whether all is known that has to be known by who writes.
#[inline(never)]
fn may_be_written(volume: &Volume, parts: &[Part]) -> Result<(), Fault> {
    if volume.unknown_read_only().any() {
        return Err(Fault::Features(volume.unknown_read_only()));
    }
    if volume.is_doubtful() {
        return Err(Fault::RootUnread);
    }
    if !volume.has_its_table() {
        return Err(Fault::DeviceTable);
    }
    for part in parts {
        let mut seats = volume.seats().iter();
        if seats.any(|s| s.entry.slot == part.slot && s.entry.bytes() > part.size) {
            return Err(Fault::Shrunk(part.slot));
        }
    }
    Ok(())
}

/// What is at this place, if it is the newest epoch's root of this generation.
#[inline(never)]
fn wanted_root(
    hasher: &impl Hasher,
    (volume, generation): (&Volume, Generation),
    part: &Part,
    at: Bytes,
    bytes: &[u8],
) -> Option<Root> {
    let slot = layout::ring_slot(generation);
    let root = Root::parse(hasher, bytes, at, slot, volume.uuid(), part.id).ok()?;
    let is_it = root.epoch == volume.epoch().id && root.generation == generation;
    is_it.then_some(root)
}

/// The trees that a root names.
#[inline(never)]
fn bases(root: &[u8]) -> Result<Vec<Base>, NoMem> {
    Vec::try_from_iter(Root::trees(root))
}

/// The newest epoch's root of this generation with its trees, from the first member that gives it back.
#[inline(never)]
fn root_of<M: Machine>(
    machine: &M,
    hasher: &impl Hasher,
    (volume, generation): (&Volume, Generation),
    parts: &[Part],
) -> Result<(Root, Vec<Base>), Fault> {
    let mut bytes = Vec::zeroed(layout::ROOT_SIZE)?;
    let slot = layout::ring_slot(generation);
    for part in parts {
        for ring in layout::rings(part.size) {
            let Some(at) = layout::slot_at(ring, slot) else {
                continue;
            };
            if machine.devices().read(part.slot, at, &mut bytes).is_err() {
                continue;
            }
            if let Some(root) = wanted_root(hasher, (volume, generation), part, at, &bytes) {
                return Ok((root, bases(&bytes)?));
            }
        }
    }
    Err(Fault::NoRoot)
}

/// A volume as its newest root says, that root, and some random bytes. It is on the heap: it is large, and stacks are small.
struct AtRoot<M>(Box<Mounted<M>>, Root, [u8; 16]);

impl<M: Machine> Mounted<M> {
    /// Mounts the volume that was assembled from these members. Where [`Machine::CHECKPOINTS_APART`] is set, the thread that serves has
    /// to make [a checkpoint](Self::checkpoint_apart) before anything else is done.
    #[inline(never)]
    pub fn open(
        machine: M,
        volume: &Volume,
        members: &[Member],
        options: Options,
    ) -> Result<Box<Self>, Fault> {
        let charted = !options.read_only;
        let mut mounted = Self::at_root(machine, volume, members, (options, charted))?;
        if options.read_only {
            let AtRoot(mounted, root, _) = &mut mounted;
            mounted.step_back(volume, root)?;
            mounted.continue_read_only(volume, root)?;
        } else {
            mounted.0.load_space()?;
            Self::continue_journal(&mut mounted, volume, &mut Err, &mut |_| Ok(()))?;
            mounted.0.keep_for_cleaning();
        }
        if !options.read_only && !M::CHECKPOINTS_APART {
            mounted.0.checkpoint()?;
        }
        Ok(mounted.0)
    }

    /// Mounts the volume to be written to, although what is said of its free space may be wrong: `note` decides whether it goes on without
    /// what cannot be. Before anything is written, `chart` puts that right.
    #[cfg(not(embr_kernel))]
    #[inline(never)]
    pub(crate) fn open_uncharted(
        machine: M,
        volume: &Volume,
        members: &[Member],
        options: Options,
        note: &mut dyn FnMut(Fault) -> Result<(), Fault>,
        chart: &mut dyn FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<Box<Self>, Fault> {
        let mut mounted = Self::at_root(machine, volume, members, (options, true))?;
        mounted.0.load_what_is_left(&mut |why| {
            let _ = note(why);
        })?;
        Self::continue_journal(&mut mounted, volume, note, chart)?;
        mounted.0.keep_for_cleaning();
        mounted.0.checkpoint()?;
        Ok(mounted.0)
    }

    /// Learns what is free from those nodes and items that can be had.
    #[inline(never)]
    fn load_what_is_left(&self, tell: &mut dyn FnMut(Fault)) -> Result<(), Fault> {
        for base in self.bases().filter(|b| b.tree == SPACE) {
            let mut loading = Loading {
                space: &self.space,
                tell: &mut *tell,
            };
            check::check(&self.nodes, &base, Depth::Tree, &mut loading)?;
        }
        Ok(())
    }

    /// The next checkpoint writes the whole tree of free space, and needs nothing of what there is of it. Who calls this says how many
    /// nodes the other trees have.
    #[cfg(not(embr_kernel))]
    #[inline(never)]
    pub(crate) fn leave_space_tree(&mut self) -> Result<(), Fault> {
        let bases = self.bases().map(|b| match b.tree {
            SPACE => Base::empty(SPACE),
            _ => b,
        });
        let bases = Vec::try_from_iter(bases)?;
        for (tree, base) in self.trees.iter_mut().zip(bases.iter()) {
            if base.tree == SPACE {
                let class = lock_class!("tree of free space");
                tree.1 = Layered::try_new(*base, class)?;
            }
        }
        self.space.touch_all();
        Ok(())
    }

    /// Where a tree of the newest root cannot be entered, goes on from the root before it, if that can. Nothing is lost by it: neither what
    /// that root needs nor the journal behind it is written over yet.
    #[inline(never)]
    fn step_back(&mut self, volume: &Volume, root: &mut Root) -> Result<(), Fault> {
        let before = Generation(root.generation.0.saturating_sub(1));
        if self.can_be_entered()? {
            return Ok(());
        }
        let found = root_of(self.machine(), self.hasher(), (volume, before), &self.parts);
        let Ok((older, bases)) = found else {
            return Ok(());
        };
        let newest = core::mem::replace(&mut self.trees, layers(&bases)?);
        if self.can_be_entered()? {
            *root = older;
            self.cut = Some(Fault::RootBefore(before));
        } else {
            self.trees = newest;
        }
        Ok(())
    }

    /// Whether the way to the first key can be read in every tree that is known here.
    #[inline(never)]
    fn can_be_entered(&self) -> Result<bool, Fault> {
        for (id, _) in self.trees.iter().filter(|(id, _)| *id != SPACE) {
            match self.get(*id, Range::ALL.first, |_| ()) {
                Err(Fault::Tree(TreeError::NoMemory) | Fault::NoMemory) => {
                    return Err(Fault::NoMemory)
                }
                Err(_) => return Ok(false),
                Ok(_) => {}
            }
        }
        Ok(true)
    }

    /// Makes every change of keys again that was committed after the root, as far as they can be known.
    #[inline(never)]
    fn continue_read_only(&mut self, volume: &Volume, root: &Root) -> Result<(), Fault> {
        let mut replayed = self.replay(volume, root, None, &mut Err);
        let senseless = match replayed {
            Err(Fault::JournalRecord(group)) => Some(group),
            _ => None,
        };
        if senseless.is_some() {
            // A part of that group was made again, which must not be seen alone.
            self.trees = layers(&Vec::try_from_iter(self.bases())?)?;
            replayed = self.replay(volume, root, senseless, &mut Err);
        }
        match replayed {
            Err(
                why @ (Fault::JournalLost(_) | Fault::JournalUnread(_) | Fault::JournalRecord(_)),
            ) => {
                // What was made again up to there is as good as a root.
                self.cut = Some(why);
                Ok(())
            }
            replayed => {
                let next = replayed?.end.next;
                let is_cut_off = |part: &Part| journal_inside(part) < part.journal.blocks;
                if self.present_parts().any(is_cut_off) && self.cut.is_none() {
                    self.cut = Some(Fault::JournalUnread(next));
                }
                Ok(())
            }
        }
    }

    /// Makes every change again that was committed after the root, and goes on behind it.
    #[inline(never)]
    fn continue_journal(
        at: &mut AtRoot<M>,
        volume: &Volume,
        note: &mut dyn FnMut(Fault) -> Result<(), Fault>,
        chart: &mut dyn FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let AtRoot(mounted, root, random) = at;
        let Replayed {
            end,
            mut found,
            idle,
        } = mounted.replay(volume, root, None, note)?;
        chart(mounted)?;
        let mut behind = root.journal.behind;
        if let Some(gap) = idle {
            // Nothing else keeps what mounts leave there that end before their first root from filling the journal.
            found.retain(|f| f.sequence < gap.first);
            behind.gap = Some(gap);
        }
        let writer = Writer {
            volume: mounted.volume,
            epoch: mounted.epoch().id,
            session: SessionId(*random),
        };
        let before = Sequence(behind.next.next.0.saturating_sub(1));
        let said = found.iter().map(|f| f.durable);
        let known = said.fold(before, Sequence::max);
        let copies = mounted.journal_copies(&found)?;
        let most = mounted.copies();
        mounted.journal = Some(Journal::try_new(writer, copies, most, end, known)?);
        let mut checkpoints = mounted.checkpoints.lock();
        checkpoints.leave_out(behind.gap);
        if let Some(journal) = &mounted.journal {
            if mounted.present() != volume.epoch().present {
                mounted.renew(&mut checkpoints, journal)?;
            }
            // What is left out is written over when no root needs it that may be mounted. Of one that says so there may not be a second yet.
            let again = match (idle, behind.gap) {
                (Some(_), _) => 2,
                (None, Some(_)) => 1,
                (None, None) => 0,
            };
            for _ in 0..again {
                mounted.write_again(&mut checkpoints, journal)?;
            }
        }
        Ok(())
    }

    /// Mounts a volume to be looked at, read-only, whatever is wrong with its free space and its journal: `tell` hears of that, and it
    /// goes on without. Nodes that are lost are not told here.
    pub fn inspect(
        machine: M,
        volume: &Volume,
        members: &[Member],
        cache: Bytes,
        tell: &mut dyn FnMut(Fault),
    ) -> Result<Box<Self>, Fault> {
        let options = Options {
            read_only: true,
            degraded: false,
            cache,
            dirty: Bytes(u64::MAX),
        };
        let AtRoot(mounted, root, _) = Self::at_root(machine, volume, members, (options, true))?;
        mounted.load_what_is_left(tell)?;
        let mut note = |why| match why {
            Fault::Space(_) | Fault::JournalRecord(_) => {
                tell(why);
                Ok(())
            }
            why => Err(why),
        };
        match mounted.replay(volume, &root, None, &mut note) {
            Err(
                why @ (Fault::JournalLost(_) | Fault::JournalRecord(_) | Fault::JournalUnread(_)),
            ) => tell(why),
            other => {
                other?;
            }
        }
        Ok(mounted)
    }

    /// The volume as its newest root says, and that root; and some random bytes.
    #[inline(never)]
    fn at_root(
        machine: M,
        volume: &Volume,
        members: &[Member],
        (options, charted): (Options, bool),
    ) -> Result<AtRoot<M>, Fault> {
        let mut parts = parts(volume, members)?;
        let present: Members = parts.iter().map(|p| p.slot).collect();
        if !options.read_only {
            may_be_written(volume, &parts)?;
            // What was read may be in volatile caches still: nothing may be built on it before it is durable.
            let refused = machine.devices().flush(present);
            parts.retain(|p| !refused.has(p.slot));
            let absent = volume.seats().len().saturating_sub(parts.len());
            if parts.is_empty() || absent > usize::from(volume.geometry().parity()) {
                return Err(Fault::Stopped);
            }
            if !options.degraded && absent >= parts.len() {
                return Err(Fault::Degraded);
            }
        }
        let newest = (volume, volume.generation());
        let (root, bases) = root_of(&machine, machine.environment().hasher(), newest, &parts)?;
        let unknown = bases.iter().find(|b| !TREES.contains(&b.tree));
        if let Some(unknown) = unknown.filter(|_| !options.read_only) {
            return Err(Fault::UnknownTree(unknown.tree));
        }
        let random = machine.environment().random();
        let records = match (options.read_only, members.get(volume.speaker())) {
            (false, Some(speaker)) => {
                let said = &speaker.superblock;
                Some(Records::try_new(said, members, volume.epoch())?)
            }
            _ => None,
        };
        let stale = match options.read_only {
            true => Vec::new(),
            false => stale_parts(volume, members)?,
        };
        let found = (&root, &bases[..], records);
        let parts = (parts, stale);
        let mounted = Self::around(machine, volume, parts, found, (options, charted))?;
        Ok(AtRoot(mounted, root, random))
    }

    #[inline(never)]
    fn around(
        machine: M,
        volume: &Volume,
        parts: (Vec<Part>, Vec<Part>),
        (root, bases, records): (&Root, &[Base], Option<Box<Records>>),
        (options, charted): (Options, bool),
    ) -> Result<Box<Self>, Fault> {
        let present: Members = parts.0.iter().map(|p| p.slot).collect();
        let roll = Roll::try_new(*volume.epoch(), present)?;
        let (space, parts) = all_managed(volume, root, parts, charted)?;
        Ok(Box::try_new(Mounted {
            volume: volume.uuid(),
            all: volume.seats().iter().map(|s| s.entry.slot).collect(),
            parity: volume.geometry().parity(),
            geometry: volume.geometry(),
            block_hash: volume.block_hash(),
            trees: layers(bases)?,
            space,
            journal: None,
            order: Mutex::try_new((), lock_class!("order of commits"))?,
            checkpoints: checkpoints(root, records)?,
            errands: Errands::try_new()?,
            discards: Mutex::try_new((), lock_class!("discards"))?,
            refused: refusals()?,
            memory: usize::try_from(options.dirty.0).unwrap_or(usize::MAX),
            cut: volume.is_doubtful().then_some(Fault::RootUnread),
            nodes: Nodes::new(
                Inside::new(machine, roll, options.read_only),
                volume.uuid(),
                NODE_SIZE,
                volume.seats().iter().map(|s| &s.entry),
                options.cache,
            )?,
            parts,
        })?)
    }

    /// Learns from the tree what is free.
    #[inline(never)]
    fn load_space(&self) -> Result<(), Fault> {
        let Some(mut scan) = self.scan(SPACE, Range::ALL) else {
            return Ok(());
        };
        while let Some((key, value)) = scan.next().map_err(Fault::of_space)? {
            self.space.load(key, &value)?;
        }
        Ok(())
    }

    /// Makes every change again that was committed after the root, or those before the group `until`. `note` decides whether it goes on
    /// when one cannot be made.
    #[inline(never)]
    fn replay(
        &self,
        volume: &Volume,
        root: &Root,
        until: Option<Sequence>,
        note: &mut dyn FnMut(Fault) -> Result<(), Fault>,
    ) -> Result<Replayed, Fault> {
        let mut sources = Vec::new();
        for part in self.present_parts() {
            sources.push(Source {
                slot: part.slot,
                id: part.id,
                start: part.journal.start,
                blocks: journal_inside(part),
            })?;
        }
        let behind = root.journal.behind;
        // The journal goes on from one epoch to the next that somebody who was there before begins.
        let mut lineage = Vec::new();
        for epoch in volume.lineage() {
            lineage.push(epoch)?;
        }
        let mut change = Change::default();
        let scan = Scan::read(
            self.devices(),
            self.hasher(),
            self.volume,
            sources,
            behind.next.next,
        )?;
        let mut idle = behind.next.next;
        let (end, found) = scan.follow(
            self.devices(),
            self.hasher(),
            behind,
            self.copies(),
            |epoch| lineage.contains(&epoch),
            |group, record| {
                if until == Some(group) {
                    return Err(Fault::JournalRecord(group));
                }
                change = change.and(Change::of(&record));
                if !is_of_no_root(root.made, &record) {
                    idle = Sequence(group.0.saturating_add(1));
                }
                self.redo(root.made, group, record).or_else(&mut *note)
            },
        )?;
        if end.next <= root.told {
            // That nobody says of it that it was durable is because nothing came behind it.
            return Err(Fault::JournalLost(end.next));
        }
        self.space.adopt(change);
        let mut before = found.iter().rev();
        let before = before.find(|f| f.sequence.0.saturating_add(1) == idle.0);
        let before = before.map_or(behind.next.identity, |f| f.identity);
        let gap = Gap {
            first: idle,
            after: Gap::behind(before),
            resume: end,
        };
        // Where there is one already, only what follows it at once can be left out too.
        let is_one = |before: Gap| idle <= before.first;
        let is_new = idle < end.next && behind.gap != Some(gap);
        let idle = is_new && behind.gap.is_none_or(is_one);
        Ok(Replayed {
            end,
            found,
            idle: idle.then_some(gap),
        })
    }

    #[inline(never)]
    fn redo(&self, made: Generation, group: Sequence, record: Record<'_>) -> Result<(), Fault> {
        let changed = |tree: TreeId, changes, ranges| -> Result<&Layered, Fault> {
            let tree = self.tree(tree).ok_or(Fault::JournalRecord(group))?;
            tree.reserve(changes, ranges)?;
            Ok(tree)
        };
        match record {
            Record::Set(tree, key, value) => {
                let value = Vec::try_from_slice(value)?;
                changed(tree, 1, 0)?.change().set(key, value)?;
            }
            Record::Gone(tree, key) => changed(tree, 1, 0)?.change().remove(key)?,
            Record::RangeGone(tree, range) => changed(tree, 0, 1)?.change().remove_range(range)?,
            Record::Take(_) | Record::Free(_) | Record::NodesTaken(..) | Record::NodesFreed(..)
                if !self.space.is_charted() => {}
            Record::Take(extent) => self.redo_take(extent)?,
            Record::Free(extent) => self.space.free_again(extent, None)?,
            // A root that never came about needs no nodes, and gave none up; nor did one that names older trees.
            record if is_of_no_root(made, &record) => {}
            Record::NodesTaken(_, extent) => self.redo_take(extent)?,
            // The root before this one does not need them either.
            Record::NodesFreed(generation, extent) if generation < made => {
                self.space.free_at_once(extent)?;
            }
            Record::NodesFreed(generation, extent) => {
                self.space.free_again(extent, Some(generation))?;
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn redo_take(&self, extent: Extent) -> Result<(), Fault> {
        Ok(self.space.take_again(extent)?)
    }

    /// Those of the members that are here which are up to date.
    fn present_parts(&self) -> impl Iterator<Item = &Part> + '_ {
        let present = self.present();
        self.parts.iter().filter(move |p| present.has(p.slot))
    }

    /// The devices that the journal goes to from now on, and what of it they hold.
    #[inline(never)]
    fn journal_copies(&self, found: &[Found]) -> Result<Vec<Copy>, NoMem> {
        let mut copies = Vec::new();
        let spare = usize::from(self.parity);
        let all = self.copies().saturating_add(spare);
        for part in self.present_parts().take(all) {
            let mut ring = Ring::try_new(part.journal.start, part.journal.blocks)?;
            for group in found.iter().filter(|f| f.slot == part.slot) {
                ring.found(group.sequence, group.at, group.blocks)?;
            }
            copies.push(Copy {
                slot: part.slot,
                id: part.id,
                ring,
            })?;
        }
        Ok(copies)
    }

    /// Writes a last root, so that the next mount finds nothing to do.
    pub fn close(self) -> Result<(), Fault> {
        if self.is_read_only() {
            return Ok(());
        }
        self.checkpoint()
    }
}

/// Whether this speaks of the nodes of a root that never came about, or of one that named older trees.
fn is_of_no_root(made: Generation, record: &Record<'_>) -> bool {
    match record {
        Record::NodesTaken(generation, _) | Record::NodesFreed(generation, _) => *generation > made,
        _ => false,
    }
}

/// What of the journal was made again.
struct Replayed {
    end: End,
    /// The copies of its groups.
    found: Vec<Found>,
    /// Groups at its end that say nothing.
    idle: Option<Gap>,
}

/// Learns what is free from one node after the other.
struct Loading<'l> {
    space: &'l Space,
    tell: &'l mut dyn FnMut(Fault),
}

impl Visitor for Loading<'_> {
    fn node(&mut self, _: &Pointer, node: &Node) -> Result<(), TreeError> {
        for (key, value) in (0..node.count()).filter_map(|n| node.entry(n)) {
            match self.space.load(key, value) {
                Err(SpaceError::NoMemory) => return Err(TreeError::NoMemory),
                Err(why) => (self.tell)(why.into()),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn lost(&mut self, _: &TreeError, _: Range) -> Result<(), TreeError> {
        Ok(())
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

#[inline(never)] // They are large.
fn checkpoints(
    root: &Root,
    records: Option<Box<Records>>,
) -> Result<Box<Mutex<Checkpoints>>, NoMem> {
    let checkpoints = Checkpoints::new(root, records);
    Box::try_new(Mutex::try_new(checkpoints, lock_class!("checkpoint"))?)
}

#[inline(never)]
fn refusals() -> Result<Box<Mutex<Refusals>>, NoMem> {
    let none = Refusals::default();
    Box::try_new(Mutex::try_new(none, lock_class!("refused repairs"))?)
}

#[inline(never)]
fn layers(bases: &[Base]) -> Result<Vec<(TreeId, Layered)>, Fault> {
    let mut trees = Vec::new();
    for id in TREES {
        let base = bases.iter().find(|b| b.tree == id);
        let class = match id {
            SPACE => lock_class!("tree of free space"),
            NAMES => lock_class!("tree of names"),
            ENGRAMS => lock_class!("tree of engrams"),
            STRIPES => lock_class!("tree of stripes"),
            REFERENCES => lock_class!("tree of references"),
            _ => lock_class!("tree of snapshots"),
        };
        let layered = Layered::try_new(base.copied().unwrap_or(Base::empty(id)), class)?;
        trees.push((id, layered))?;
    }
    Ok(trees)
}

/// The space of all parts, those that missed something among them, and the parts.
#[inline(never)] // Its frame is large enough alone.
fn all_managed(
    volume: &Volume,
    root: &Root,
    (mut parts, stale): (Vec<Part>, Vec<Part>),
    charted: bool,
) -> Result<(Arc<Space>, Vec<Part>), Fault> {
    let space = managed(
        (volume, &parts, charted),
        Generation(root.generation.0.saturating_add(1)),
        root.nodes,
    )?;
    for part in stale {
        chart(&space, &part)?;
        parts.push(part)?;
    }
    parts.sort_unstable_by_key(|part| part.slot);
    Ok((space, parts))
}

#[inline(never)]
fn managed(
    (volume, parts, charted): (&Volume, &[Part], bool),
    next: Generation,
    nodes: u64,
) -> Result<Arc<Space>, Fault> {
    let mut all = Vec::new();
    for seat in volume.seats() {
        let Entry { slot, id, .. } = seat.entry;
        let size = seat.entry.bytes();
        let here = parts.iter().find(|p| p.slot == slot);
        // Where a member that is not here has its journal is not known, but it is where mkfs puts it.
        let part = here.copied().unwrap_or(Part {
            slot,
            id,
            domain: seat.entry.failure_domain,
            size,
            journal: root::Journal::of_new(size),
        });
        all.push((part, fixed(&part)?, here.is_some()))?;
    }
    let mut managed = Vec::new();
    for (part, fixed, present) in all.iter() {
        managed.push(Managed {
            slot: part.slot,
            blocks: part.size.whole_blocks(),
            fixed,
            present: *present,
            domain: part.domain,
        })?;
    }
    let others = TREES.len().saturating_sub(1);
    let parity = volume.geometry().parity();
    let space = match charted {
        true => Space::try_new(&managed, next, parity, others)?,
        false => Space::uncharted(&managed, next, parity, others)?,
    };
    space.begin(nodes);
    Ok(Arc::try_new(space)?)
}

/// It is to be known of this device what is free, although it does not take part.
#[inline(never)]
fn chart(space: &Space, part: &Part) -> Result<(), Fault> {
    Ok(space.chart(&Managed {
        slot: part.slot,
        blocks: part.size.whole_blocks(),
        fixed: &fixed(part)?,
        present: false,
        domain: part.domain,
    })?)
}
