// SPDX-License-Identifier: GPL-2.0

//! A mounted volume: its trees, its free space, its journal, and the one front door for changes, [`Mounted::begin`].
//!
//! Locks, from the first taken to the last: errands, discards, the checkpoint, the order of commits, the journal, the layers of a tree, free space,
//! the members. `embr_rt` checks the order in userspace whenever two are held, lockdep in the kernel.

use crate::env::Devices;
use crate::env::Environment;
use crate::error::NoMem;
use crate::format::epoch::Epoch;
use crate::format::features::Unknown;
use crate::format::geometry::Geometry;
use crate::format::journal::Extent;
use crate::format::layout;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::COPIES;
use crate::format::root;
use crate::format::superblock::BlockHash;
use crate::journal::Halt;
use crate::journal::Journal;
use crate::rebundle::Refusals;
use crate::space::promise::Promise;
use crate::space::Ledger;
use crate::space::Purpose;
use crate::space::Room;
use crate::space::Space;
use crate::space::SpaceError;
use crate::space::Usage;
use crate::tree::layered::Scan;
use crate::tree::nodes;
use crate::tree::nodes::Events;
use crate::tree::Base;
use crate::tree::First;
use crate::tree::Key;
use crate::tree::Layered;
use crate::tree::Nodes;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::Generation;
use crate::units::Sequence;
use crate::units::TreeId;
use crate::units::Uuid;
use crate::volume::checkpoint::Checkpoints;
use crate::volume::errand::Errand;
use crate::volume::errand::Errands;
use crate::volume::members::Roll;
use crate::volume::relief::Patience;
use core::fmt;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::Mutex;
use embr_rt::Vec;

/// The tree of free space, which transactions change by taking and freeing blocks only.
pub const SPACE: TreeId = TreeId(1);
/// Every tree of a volume. What is not among them is of a newer embrfs, which says so with a feature bit.
pub const TREES: [TreeId; 6] = [SPACE, NAMES, ENGRAMS, STRIPES, REFERENCES, SNAPSHOTS];
/// Inodes, directories, attributes, extents.
pub const NAMES: TreeId = TreeId(2);

/// Engrams: where what files hold lies, its hashes, what of it lives, and whose it is.
pub const ENGRAMS: TreeId = TreeId(3);
/// Stripes: how each is cut, where its fragments lie, and what it holds.
pub const STRIPES: TreeId = TreeId(4);
/// References: how often blocks of engrams are named that are named more than once, and by whom.
pub const REFERENCES: TreeId = TreeId(5);
/// Snapshots: what each grew from, and what was touched in it.
pub const SNAPSHOTS: TreeId = TreeId(6);

/// The host of a mounted volume.
pub trait Machine {
    /// The devices, by slot.
    type Devices: Devices;
    /// Hashing, time and chance.
    type Environment: Environment;
    /// Who hears of damage.
    type Events: Events;
    /// Whether stacks are so small that a thread of the host's makes the checkpoints that others wait for, by [`Mounted::serve`].
    const CHECKPOINTS_APART: bool = false;
    /// The devices.
    fn devices(&self) -> &Self::Devices;
    /// Hashing, time and chance.
    fn environment(&self) -> &Self::Environment;
    /// Who hears of damage.
    fn events(&self) -> &Self::Events;
}

/// Why something could not be done on a mounted volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Memory could not be had.
    NoMemory,
    /// There is no space left.
    NoSpace,
    /// The volume is mounted read-only.
    ReadOnly,
    /// The volume stopped taking changes, because none of its devices takes them.
    Stopped,
    /// More than one transaction can hold.
    TooLarge,
    /// Most of the devices that belong to the volume are not here, or missed something.
    Degraded,
    /// A device failed, and the volume has not gone on without it yet.
    Members,
    /// No root could be read.
    NoRoot,
    /// A tree could not be read or written.
    Tree(TreeError),
    /// Blocks that were taken twice or freed twice: memory or the volume is damaged.
    Space(Extent),
    /// An item of the tree of free space makes no sense.
    SpaceItem(Key),
    /// A group of the journal that was durable is lost on all devices that had it.
    JournalLost(Sequence),
    /// A sound group of the journal holds a record that makes no sense.
    JournalRecord(Sequence),
    /// Devices cannot be read where this group of the journal would lie, so that it is not known whether there is one.
    JournalUnread(Sequence),
    /// Devices cannot be read where a newer root would lie, so that it is not known whether there is one.
    RootUnread,
    /// A tree of the newest root cannot be entered: this is the root before it, of this generation, with the journal behind it.
    RootBefore(Generation),
    /// What is free is not known, for a node that says so is lost.
    SpaceLost(TreeError),
    /// The volume has features that forbid to write it without knowing them.
    Features(Unknown),
    /// The newest root has a tree that is not known here, and would be lost with the next one.
    UnknownTree(TreeId),
    /// A device has fewer bytes than the volume says that it uses of it.
    Shrunk(Slot),
    /// The device table is not that of the volume's epoch: with it, none could begin.
    DeviceTable,
}

impl Fault {
    /// A node of the tree of free space cannot be had.
    pub(super) fn of_space(why: TreeError) -> Self {
        match why {
            TreeError::NoMemory => Fault::NoMemory,
            why => Fault::SpaceLost(why),
        }
    }
}

impl From<NoMem> for Fault {
    fn from(_: NoMem) -> Self {
        Fault::NoMemory
    }
}

impl From<Halt> for Fault {
    fn from(why: Halt) -> Self {
        match why {
            Halt::Stopped => Fault::Stopped,
            Halt::Failed => Fault::Members,
        }
    }
}

impl From<TreeError> for Fault {
    fn from(why: TreeError) -> Self {
        match why {
            TreeError::NoMemory => Fault::NoMemory,
            TreeError::NoSpace => Fault::NoSpace,
            why => Fault::Tree(why),
        }
    }
}

impl From<SpaceError> for Fault {
    fn from(why: SpaceError) -> Self {
        match why {
            SpaceError::NoMemory => Fault::NoMemory,
            SpaceError::Item(key) => Fault::SpaceItem(key),
            SpaceError::Extent(extent) => Fault::Space(extent),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoMemory => f.write_str("out of memory"),
            Fault::NoSpace => f.write_str("no space left"),
            Fault::ReadOnly => f.write_str("the volume is mounted read-only"),
            Fault::Stopped => f.write_str(
                "no device takes changes any more; the volume is read-only at its last commit: check the devices and mount again",
            ),
            Fault::TooLarge => f.write_str("more changes than one transaction can hold"),
            Fault::Degraded => f.write_str(
                "most devices of the volume are not here or missed something: attach them, mount read-only, or mount with the option degraded",
            ),
            Fault::Members => {
                f.write_str("a device failed just now: try again; embrfs-admin status says which")
            }
            Fault::NoRoot => f.write_str("no device gives back the volume's newest root; run fsck.embrfs"),
            Fault::Tree(why) => why.fmt(f),
            Fault::Space(e) => write!(
                f,
                "blocks {} to {} of the device in slot {} were taken or freed twice: mount read-only, and run fsck.embrfs; embrfs-admin dump block {} says whose they are",
                e.start,
                e.start.0.saturating_add(e.blocks.0).saturating_sub(1),
                e.device.index(),
                e.start
            ),
            Fault::SpaceItem(key) => write!(
                f,
                "the item {key} of the tree of free space makes no sense: mount read-only, and run fsck.embrfs"
            ),
            Fault::JournalLost(n) => write!(
                f,
                "group {n} of the journal was durable once, and no copy of it is left: what was acknowledged since then is lost; mount read-only for what was before"
            ),
            Fault::JournalRecord(n) => write!(
                f,
                "group {n} of the journal holds a record that makes no sense: mount read-only for what was before, and run fsck.embrfs"
            ),
            Fault::JournalUnread(n) => write!(
                f,
                "the journal cannot be read where its group {n} would lie: what was acknowledged last may be there; repair the device, or mount read-only"
            ),
            Fault::RootUnread => f.write_str(
                "too many devices cannot be read where a newer root would lie: what was acknowledged last may be there; repair them, or mount read-only",
            ),
            Fault::RootBefore(generation) => write!(
                f,
                "a tree of the newest root cannot be read; this is the root before it, of generation {generation}, with the journal behind it: copy the files to another volume, and run fsck.embrfs"
            ),
            Fault::SpaceLost(why) => write!(
                f,
                "{why}; it is not known what is free, and nothing can be written: mount read-only, and run fsck.embrfs"
            ),
            Fault::Features(unknown) => write!(
                f,
                "the volume uses features that this embrfs does not know ({unknown}) and that forbid it to write: mount read-only, or use a newer embrfs"
            ),
            Fault::UnknownTree(tree) => write!(
                f,
                "the volume has a tree {tree}, which this embrfs does not know and would lose by writing: mount read-only, or use a newer embrfs"
            ),
            Fault::Shrunk(slot) => write!(
                f,
                "the device in slot {} is smaller than the volume says: mount read-only, and run fsck.embrfs",
                slot.index()
            ),
            Fault::DeviceTable => f.write_str(
                "the device table has other members than the volume's newest epoch: mount read-only, and copy the files to another volume",
            ),
        }
    }
}

/// A member that is here.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its place in the device table.
    pub slot: Slot,
    /// Its number.
    pub id: DeviceId,
    /// Devices that fail together have the same number; zero for one that fails alone.
    pub domain: u32,
    /// Bytes that the volume uses of it.
    pub size: Bytes,
    /// Where its journal lies.
    pub journal: root::Journal,
}

/// What reading nodes needs to know of the mount.
pub struct Inside<M> {
    machine: M,
    roll: Roll,
    read_only: bool,
}

impl<M> Inside<M> {
    pub(super) fn new(machine: M, roll: Roll, read_only: bool) -> Self {
        Inside {
            machine,
            roll,
            read_only,
        }
    }
}

impl<M: Machine> nodes::Host for Inside<M> {
    type Devices = M::Devices;
    type Hasher = <M::Environment as Environment>::Hasher;
    type Events = M::Events;

    fn devices(&self) -> &Self::Devices {
        self.machine.devices()
    }

    fn hasher(&self) -> &Self::Hasher {
        self.machine.environment().hasher()
    }

    fn events(&self) -> &Self::Events {
        self.machine.events()
    }

    fn present(&self) -> Members {
        self.roll.present()
    }

    fn may_repair(&self) -> bool {
        !self.read_only && !self.roll.is_resting()
    }

    fn failed(&self, device: Slot) {
        self.roll.suspect(device);
    }
}

/// While it is held, what is freed after it was made is not used again.
pub(crate) struct Pin(#[allow(dead_code)] [Option<Arc<Base>>; 2]);

/// A mounted volume.
pub struct Mounted<M> {
    pub(super) nodes: Nodes<Inside<M>>,
    pub(super) volume: Uuid,
    /// All members, here or not.
    pub(super) all: Members,
    /// Members that were here when it was mounted, in order of their slots; those that missed something, if it is written to.
    pub(super) parts: Vec<Part>,
    /// How many members may be lost.
    pub(super) parity: u8,
    /// Data and parity fragments of a stripe, where nothing is missing.
    pub(super) geometry: Geometry,
    /// How much of a block's hash is kept.
    pub(super) block_hash: BlockHash,
    pub(crate) trees: Vec<(TreeId, Layered)>,
    pub(crate) space: Arc<Space>,
    /// None where the mount is read-only.
    pub(crate) journal: Option<Journal>,
    /// Whoever holds it gives transactions their place in the order.
    pub(crate) order: Mutex<()>,
    pub(super) checkpoints: Box<Mutex<Checkpoints>>,
    pub(super) errands: Errands,
    /// Whoever holds it discards.
    pub(super) discards: Mutex<()>,
    /// What a device did not let itself be repaired of. Nobody waits for anything while he holds it.
    pub(crate) refused: Box<Mutex<Refusals>>,
    /// Bytes of changes in memory at which a checkpoint is due.
    pub(super) memory: usize,
    /// Why a read-only mount does not have all that was acknowledged.
    pub(super) cut: Option<Fault>,
}

impl<M: Machine> Mounted<M> {
    /// Why this may not be all that was acknowledged: a read-only mount goes as far as it can.
    pub fn cut(&self) -> Option<Fault> {
        self.cut
    }

    /// The host.
    pub fn machine(&self) -> &M {
        &self.nodes.host().machine
    }

    pub(crate) fn devices(&self) -> &M::Devices {
        self.machine().devices()
    }

    pub(crate) fn hasher(&self) -> &<M::Environment as Environment>::Hasher {
        self.machine().environment().hasher()
    }

    pub(crate) fn field(&self) -> &<M::Environment as Environment>::Field {
        self.machine().environment().field()
    }

    /// Data and parity fragments of a stripe, where nothing is missing.
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The volume's UUID.
    pub fn volume(&self) -> Uuid {
        self.volume
    }

    pub(super) fn roll(&self) -> &Roll {
        &self.nodes.host().roll
    }

    /// The epoch that it is at.
    pub fn epoch(&self) -> Epoch {
        self.roll().epoch()
    }

    /// Members that are here and current.
    pub fn present(&self) -> Members {
        self.roll().present()
    }

    /// Whether nothing is ever written.
    pub fn is_read_only(&self) -> bool {
        self.journal.is_none()
    }

    /// From now on nothing is written that nobody asked for: no repair, no checkpoint by whoever serves, no discard. Or no longer so.
    /// Called with no lock held.
    pub fn rest(&self, resting: bool) {
        self.roll().rest(resting);
        // What is being discarded is done then, and nothing more begins.
        drop(self.discards.lock());
    }

    /// Whether it [rests](Self::rest).
    pub fn is_resting(&self) -> bool {
        self.roll().is_resting()
    }

    /// Whether nothing can be changed any more, because no device takes it.
    pub fn has_stopped(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::has_stopped)
    }

    /// The tree with this number.
    pub(crate) fn tree(&self, tree: TreeId) -> Option<&Layered> {
        self.trees
            .iter()
            .find(|(id, _)| *id == tree)
            .map(|(_, t)| t)
    }

    /// What `read` makes of a key's value.
    pub fn get<R>(
        &self,
        tree: TreeId,
        key: Key,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, Fault> {
        match self.tree(tree) {
            Some(layered) => Ok(layered.get(&self.nodes, key, read)?),
            None => Ok(None),
        }
    }

    /// The first key of a range and its value, where it takes no scan to find that.
    pub fn first(&self, tree: TreeId, range: Range) -> Result<First<(Key, Vec<u8>)>, Fault> {
        match self.tree(tree) {
            Some(layered) => Ok(layered.first(&self.nodes, range)?),
            None => Ok(First::Nothing),
        }
    }

    /// How often something was removed from a tree.
    pub(crate) fn removals(&self, tree: TreeId) -> u64 {
        self.tree(tree).map_or(0, Layered::removals)
    }

    /// How often something was changed in a tree of which the keys begin with this word, and of some others.
    pub(crate) fn changes(&self, tree: TreeId, first: u64) -> u64 {
        self.tree(tree).map_or(0, |layered| layered.changes(first))
    }

    /// Goes through the keys of a range, upwards; none where there is no such tree. Who holds it commits nothing meanwhile: that may
    /// wait until it is let go.
    pub fn scan(&self, tree: TreeId, range: Range) -> Option<Scan<'_, Inside<M>>> {
        self.tree(tree).map(|t| t.scan(&self.nodes, range))
    }

    /// Goes through the keys of a range, downwards; none where there is no such tree.
    pub fn scan_back(&self, tree: TreeId, range: Range) -> Option<Scan<'_, Inside<M>>> {
        self.tree(tree).map(|t| t.scan_back(&self.nodes, range))
    }

    /// Begins a change. Nothing of it is seen before it commits; dropped, it never was.
    pub fn begin(&self) -> Result<Transaction<'_, M>, Fault> {
        self.begin_for(Purpose::Taking)
    }

    /// As [`Self::begin`], for a change that frees space, or is on the way to it: it finds room when the volume is full. It must not
    /// [become large](Transaction::is_large), nor make the volume grow for good.
    pub fn begin_freeing(&self) -> Result<Transaction<'_, M>, Fault> {
        self.begin_for(Purpose::Freeing)
    }

    fn begin_for(&self, purpose: Purpose) -> Result<Transaction<'_, M>, Fault> {
        match self.journal {
            Some(_) => Ok(Transaction::new(self, purpose)),
            None => Err(Fault::ReadOnly),
        }
    }

    /// Gives out from `least` to `most` blocks that lie together on a device, for a transaction to [take](Transaction::take). May wait
    /// for a checkpoint.
    pub fn allocate(&self, device: Slot, least: Blocks, most: Blocks) -> Result<Extent, Fault> {
        self.until_found(|| self.space.allocate(device, least, most))
    }

    /// Promises that so many blocks of data will find room, in as many copies as the volume keeps and however they come to lie, and so
    /// will all that must be noted of them. May wait for a checkpoint.
    pub fn promise(&self, blocks: Blocks) -> Result<Promise, Fault> {
        if self.is_read_only() {
            return Err(Fault::ReadOnly);
        }
        self.until_found(|| Space::promise(&self.space, blocks))
    }

    /// Gives out blocks of a promise: appends to `out` one run of at least one block and at most `most` for each copy, all as long
    /// and each on a device of its own, and says how long. They are for a transaction to [take](Transaction::take_promised) that
    /// commits under this promise. Fails for want of space only where nothing is left of the promise.
    pub fn allocate_promised(
        &self,
        promise: &mut Promise,
        most: Blocks,
        out: &mut Vec<Extent>,
    ) -> Result<Blocks, Fault> {
        let found = self.space.allocate_promised(promise, most, out)?;
        found.ok_or(Fault::NoSpace)
    }

    /// Takes back all copies of a run that was given out of a promise and not taken: it is promised again.
    pub fn give_back_to(&self, promise: &mut Promise, copies: &[Extent]) {
        self.space.give_back_to(promise, copies);
    }

    /// Takes back what was given out and not taken.
    pub fn give_back(&self, extent: Extent) {
        self.space.give_back(extent);
    }

    /// How much room there is for data, what is kept back not counted. A mount that never writes knows only how much there is in all:
    /// nothing of it is free.
    pub fn statfs(&self) -> Usage {
        let totals = self.stripe_totals().unwrap_or_default();
        self.space.usage(self.geometry, totals)
    }

    /// Nodes of all trees in the newest root, as it counts them.
    pub fn node_count(&self) -> u64 {
        self.space.nodes()
    }

    /// What is promised of the space, to look at.
    pub fn ledger(&self) -> Ledger {
        self.space.ledger()
    }

    /// Asks until something is found, or nothing brings space back any more.
    fn until_found<T>(&self, ask: impl Fn() -> Option<T>) -> Result<T, Fault> {
        self.until_found_by(&mut Patience::short(), ask)
    }

    /// The same, by who has waited before.
    pub(crate) fn until_found_by<T>(
        &self,
        patience: &mut Patience,
        ask: impl Fn() -> Option<T>,
    ) -> Result<T, Fault> {
        loop {
            if let Some(found) = ask() {
                return Ok(found);
            }
            if !self.relieve(patience)? {
                return Err(Fault::NoSpace);
            }
        }
    }

    /// How much room a device has.
    pub fn room(&self, device: Slot) -> Room {
        self.space.room(device)
    }

    /// Whether a block is used.
    pub fn is_used(&self, device: Slot, block: Blocks) -> bool {
        self.space.is_used(device, block)
    }

    /// The nodes of its trees, to look at.
    pub fn nodes(&self) -> &Nodes<Inside<M>> {
        &self.nodes
    }

    /// What every tree is on disk, without what was committed since the newest root.
    pub fn bases(&self) -> impl Iterator<Item = Base> + '_ {
        self.trees.iter().map(|(_, tree)| *tree.frozen().1)
    }

    /// The members that were here when it was mounted; those that missed something, if it is written to.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// How many copies there are of nodes, of groups, and of what files hold.
    pub fn copies(&self) -> usize {
        Self::copies_for(self.parity, self.present().count() as usize)
    }

    /// How many there should be, of what was written while all members were here.
    pub fn full_copies(&self) -> usize {
        Self::copies_for(self.parity, COPIES)
    }

    /// Bytes that are kept of each block's hash.
    pub fn hash_size(&self) -> usize {
        usize::from(self.block_hash.size())
    }

    /// Keeps what is freed from now on from being used again while the result is held. Who holds it commits nothing meanwhile:
    /// that may wait until it is let go.
    pub(crate) fn pin(&self) -> Pin {
        // What is freed changes one of these.
        Pin([ENGRAMS, STRIPES].map(|tree| self.tree(tree).map(|tree| tree.frozen().1)))
    }

    /// Returns once everything that committed before is durable.
    pub fn sync(&self) -> Result<(), Fault> {
        match &self.journal {
            Some(journal) => self.sync_to(journal.newest()),
            None => Ok(()),
        }
    }

    /// As [`Self::sync`], for the thread that serves. Devices that failed are no members any more afterwards, whatever else there was.
    pub fn sync_serving(&self) -> Result<(), Fault> {
        while let Some(journal) = &self.journal {
            self.run(Errand::Members)?;
            match journal.sync(self.devices(), self.hasher(), journal.newest()) {
                Err(Halt::Failed) => {}
                done => return Ok(done?),
            }
        }
        Ok(())
    }

    /// Returns once the transactions up to this group are durable. Called with no lock held.
    pub fn sync_to(&self, group: Sequence) -> Result<(), Fault> {
        while let Some(journal) = &self.journal {
            match journal.sync(self.devices(), self.hasher(), group) {
                Err(Halt::Failed) => self.ask(Errand::Members)?,
                done => return Ok(done?),
            }
        }
        Ok(())
    }

    /// The newest durable root.
    pub fn generation(&self) -> Generation {
        self.checkpoints.lock().generation()
    }

    /// How many copies there are of what must outlive m devices: one on each of m + 1.
    pub(super) fn copies_for(parity: u8, present: usize) -> usize {
        usize::from(parity)
            .saturating_add(1)
            .min(COPIES)
            .min(present)
            .max(1)
    }

    pub(super) fn dirty_bytes(&self) -> usize {
        self.trees
            .iter()
            .fold(0, |n: usize, (_, t)| n.saturating_add(t.active_bytes()))
    }
}

/// What is never free on a device: system areas and the journal. Begin and length.
pub(super) fn fixed(part: &Part) -> Result<Vec<(Blocks, Blocks)>, NoMem> {
    let mut fixed = Vec::new();
    for (_, at) in layout::areas(part.size) {
        fixed.push((at.whole_blocks(), layout::AREA_SIZE.whole_blocks()))?;
    }
    fixed.push((part.journal.start, part.journal.blocks))?;
    Ok(fixed)
}
