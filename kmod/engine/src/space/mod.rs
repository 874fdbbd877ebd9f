// SPDX-License-Identifier: GPL-2.0

//! Which blocks of which device are free, and who was promised what of them. The tree of free space holds what transactions made of
//! it; in memory there are also the blocks that must not be given out although they are free: those given to a transaction that
//! has not committed, and those freed so lately that a root which may still be mounted needs them.
//!
//! Nobody is given what another was promised. It never forces a root to get space back: its callers do.
//!
//! There is a bit for every block of a device that takes part, so it must really have them; memory for others goes with what is
//! said of them. A mount that never writes does not know what is free, and needs no memory for it.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod away;
pub mod bits;
mod claims;
mod device;
mod discard;
pub mod promise;
pub mod reserve;
mod share;
pub(crate) mod slots;
mod stripes;
mod usage;

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::format::pointer::COPIES;
use crate::tree::delta::Delta;
use crate::tree::Key;
use crate::units::Blocks;
use crate::units::Generation;
use away::Away;
use bits::Bits;
pub(crate) use bits::SLOT;
pub use claims::Granted;
use device::Device;
use discard::Discards;
use discard::Stage;
use embr_rt::lock_class;
use embr_rt::Mutex;
use embr_rt::Vec;
use reserve::Change;
use reserve::Reserve;
use share::Copies;

/// Blocks of a device that one item of the tree describes.
pub const GROUP: u64 = 32768;

/// In a group's item: a bit per block follows.
const BITMAP: u8 = 0;
/// In a group's item: pairs of 16-bit numbers follow, the begin of a run of used blocks and its length less one.
const RUNS: u8 = 1;
/// More runs than this are shorter as bits.
const MOST_RUNS: usize = 1000;

/// A device whose space is managed.
#[derive(Debug)]
pub struct Managed<'a> {
    /// Its place in the device table.
    pub slot: Slot,
    /// Its size.
    pub blocks: Blocks,
    /// What is never free: begin and length.
    pub fixed: &'a [(Blocks, Blocks)],
    /// Whether it takes part. Nothing of a device that does not is given out, but what is freed of it is remembered.
    pub present: bool,
    /// Devices that fail together have the same number; zero for one that fails alone.
    pub domain: u32,
}

/// An item of the tree, or a record of the journal, that cannot be: of a device or blocks that do not exist, or blocks taken twice
/// or freed twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    /// Memory could not be had.
    NoMemory,
    /// An item of the tree of free space makes no sense.
    Item(Key),
    /// These blocks do not exist, were taken although they were not free, or freed although they were.
    Extent(Extent),
}

impl From<NoMem> for SpaceError {
    fn from(_: NoMem) -> Self {
        SpaceError::NoMemory
    }
}

/// How much room a device has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Blocks that can be given out now, to whoever comes.
    pub free: Blocks,
    /// Blocks that can be given out now, but only to those that they were promised to.
    pub claimed: Blocks,
    /// Blocks that no transaction which committed holds.
    pub unused: Blocks,
    /// Blocks that are not used, but that a root which may still be mounted needs.
    pub pending: Blocks,
}

#[derive(Debug)]
struct Pending {
    /// The first root that does not need the blocks.
    generation: Generation,
    extent: Extent,
    stage: Stage,
}

impl Pending {
    /// The first block, and the one behind the last.
    fn bounds(&self) -> (u64, u64) {
        let start = self.extent.start.0;
        (start, start.saturating_add(self.extent.blocks.0))
    }
}

#[derive(Debug)]
struct State {
    devices: Vec<Device>,
    /// Stripes that were given places: the next one begins with another device.
    turn: usize,
    away: Away,
    pending: Vec<Pending>,
    /// Frees that were announced: there is room in `pending` for them.
    announced: usize,
    discards: Discards,
    /// The generation of the next root.
    next: Generation,
    claims: Claims,
}

/// Nodes and blocks that are promised. How many that is on each device, the devices know.
#[derive(Debug)]
struct Claims {
    /// Copies of a node.
    nodes: Copies,
    /// Copies of a block of data.
    data: Copies,
    /// Both, as they are where there is room.
    wanted: (Copies, Copies),
    reserve: Reserve,
    /// Nodes in the reserve.
    kept: u64,
    /// Nodes of all trees in the newest root.
    there: u64,
    /// Nodes that the transactions which committed since the last freeze may need.
    active: u64,
    /// What these change, and for how many of the nodes that are there.
    changed: (Change, u64),
    /// The same of those before it, whose checkpoint has not come about.
    frozen: u64,
    /// Items of free space that the next checkpoint writes, and that the one before it does if it has not come about.
    items: (u64, u64),
    /// Nodes that the checkpoint has taken so far: of those, and of the reserve.
    built: (u64, u64),
    /// The most that a checkpoint ever took of the reserve.
    overdrawn: u64,
    /// Blocks that are promised to data, each once; those that are kept for cleaning are among them.
    blocks: u64,
    /// Blocks that are kept for what has to be moved before more can be written, and how many there should be.
    cleaning: (u64, u64),
    /// Nodes that are promised with them.
    promised: u64,
}

/// Who wants space for nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// It takes space: the reserve is not for it.
    Taking,
    /// It frees space, or its data were promised room: it may use the reserve.
    Freeing,
}

impl Claims {
    fn new(nodes: Copies, data: Copies, reserve: Reserve) -> Self {
        Claims {
            nodes,
            data,
            wanted: (nodes, data),
            reserve,
            kept: 0,
            there: 0,
            active: 0,
            changed: (Change::default(), 0),
            frozen: 0,
            items: (0, 0),
            built: (0, 0),
            overdrawn: 0,
            blocks: 0,
            cleaning: (0, 0),
            promised: 0,
        }
    }

    /// Nodes that transactions which change this as well need more than those that committed since the last freeze: those by which
    /// nodes that are there are replaced, and those that are new.
    fn needed(&self, change: Change) -> (u64, u64) {
        // The checkpoint that is being made may leave as many more.
        let there = self
            .there
            .saturating_add(self.frozen)
            .saturating_add(self.built.0)
            .saturating_add(self.reserve.floor);
        let (before, granted) = self.changed;
        let all = before.and(change);
        // Small changes fill nodes together.
        let new = all.by_bytes().saturating_sub(before.by_bytes());
        (all.by_keys(there).saturating_sub(granted), new)
    }
}

/// What would bring space back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// A root with everything in it.
    Checkpoint,
    /// Any root.
    Root,
    /// Readers of old nodes have to end.
    Wait,
    /// Nothing: the volume is full.
    Nothing,
}

/// How much room a volume has for data, in blocks as a file has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// What fits on it when it is empty.
    pub total: Blocks,
    /// What is not used.
    pub free: Blocks,
    /// What can still be written, without what is promised.
    pub available: Blocks,
}

/// What is promised, to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ledger {
    /// What is kept back on this volume.
    pub reserve: Reserve,
    /// Nodes in the reserve.
    pub kept: u64,
    /// Nodes that transactions were granted and that are not in a root yet.
    pub granted: u64,
    /// Blocks of data that are promised, and nodes with them.
    pub promised: (Blocks, u64),
    /// The most that a checkpoint ever took of the reserve.
    pub overdrawn: u64,
    /// Whether the devices' books agree with this, and all of it can be had from them. Not while a checkpoint is being made.
    pub balanced: bool,
}

/// The free space of a mounted volume.
pub struct Space {
    state: Mutex<State>,
    /// Whether it is known what is free.
    is_charted: bool,
}

/// Items that a run of blocks touches at most, where nobody counts which of them were touched before.
const AWAY_ITEMS: u64 = 2;

impl State {
    fn device(&mut self, slot: Slot) -> Option<&mut Device> {
        self.devices.iter_mut().find(|d| d.slot == slot)
    }

    fn is_present(&self, slot: Slot) -> bool {
        self.devices.iter().any(|d| d.slot == slot && d.present)
    }

    /// Says how many of the blocks were not busy.
    fn take(&mut self, e: Extent) -> Result<u64, SpaceError> {
        let bad = SpaceError::Extent(e);
        let State {
            devices,
            away,
            claims,
            ..
        } = self;
        let device = devices.iter_mut().find(|d| d.slot == e.device);
        let device = device.ok_or(bad)?;
        let items = &mut claims.items.0;
        let (used, fresh) = match device.away {
            true => {
                *items = items.saturating_add(AWAY_ITEMS);
                (away.take(device.blocks, e)?, e.blocks.0)
            }
            false => {
                let used = device.each(e.start.0, e.blocks.0, |g, at, n| {
                    *items = items.saturating_add(g.touch());
                    g.used.set(at, n)
                });
                let used = used.ok_or(bad)?;
                (used, device.occupy(e.start.0, e.blocks.0).ok_or(bad)?)
            }
        };
        device.unused = device.unused.saturating_sub(used);
        (used == e.blocks.0).then_some(fresh).ok_or(bad)
    }

    /// These blocks are used again: they do not become free with what else was freed when they were.
    fn forget_pending(&mut self, e: Extent) -> Result<(), NoMem> {
        let end = e.start.0.saturating_add(e.blocks.0);
        let mut behind: Vec<Pending> = Vec::new();
        for pending in self.pending.iter_mut() {
            let (from, to) = pending.bounds();
            if pending.extent.device != e.device || end <= from || to <= e.start.0 {
                continue;
            }
            pending.extent.blocks = Blocks(e.start.0.saturating_sub(from));
            if end < to {
                behind.push(Pending {
                    extent: Extent {
                        device: e.device,
                        start: Blocks(end),
                        blocks: Blocks(to.saturating_sub(end)),
                    },
                    ..*pending
                })?;
            }
        }
        self.pending.retain(|p| p.extent.blocks.0 != 0);
        for pending in behind {
            self.pending.push(pending)?;
        }
        Ok(())
    }

    /// Says whether the device takes part, or did.
    fn clear(&mut self, e: Extent) -> Result<bool, SpaceError> {
        let bad = SpaceError::Extent(e);
        let State {
            devices,
            away,
            claims,
            ..
        } = self;
        let device = devices.iter_mut().find(|d| d.slot == e.device);
        let device = device.ok_or(bad)?;
        if device.is_fixed(e.start.0, e.blocks.0) {
            return Err(bad);
        }
        let items = &mut claims.items.0;
        let freed = match device.away {
            true => {
                *items = items.saturating_add(AWAY_ITEMS);
                away.clear(device.blocks, e)?
            }
            false => {
                let freed = device.each(e.start.0, e.blocks.0, |g, at, n| {
                    *items = items.saturating_add(g.touch());
                    g.used.clear(at, n)
                });
                freed.ok_or(bad)?
            }
        };
        device.unused = device.unused.saturating_add(freed);
        (freed == e.blocks.0).then_some(!device.away).ok_or(bad)
    }

    /// There must be room to remember it.
    fn free(&mut self, e: Extent, generation: Generation) -> Result<(), SpaceError> {
        // What is never given out need not be kept back.
        if self.clear(e)? {
            self.pending.push(Pending {
                generation,
                extent: e,
                stage: Stage::Needed,
            })?;
        }
        Ok(())
    }

    fn give_back(&mut self, e: Extent) {
        if let Some(device) = self.device(e.device) {
            device.vacate(e.start.0, e.blocks.0);
        }
    }

    /// Fills the reserve as far as there is room.
    fn fill_reserve(&mut self) -> bool {
        let claims = &mut self.claims;
        let missing = claims.reserve.full.saturating_sub(claims.kept);
        if missing != 0 {
            let nodes = share::claimable_nodes(&self.devices, claims.nodes, missing);
            if share::claim_nodes(&mut self.devices, claims.nodes, nodes) {
                claims.kept = claims.kept.saturating_add(nodes);
            }
        }
        claims.kept >= claims.reserve.full
    }

    /// Gives back what is in the reserve beyond what is kept.
    fn lend_reserve(&mut self) {
        let claims = &mut self.claims;
        let more = claims.kept.saturating_sub(claims.reserve.full);
        if more != 0 {
            share::release_nodes(&mut self.devices, claims.nodes, more);
            claims.kept = claims.kept.saturating_sub(more);
        }
    }

    /// Takes so many nodes from what nobody has and, where `purpose` allows it, from the reserve.
    fn claim(&mut self, nodes: u64, purpose: Purpose) -> bool {
        let is_full = self.fill_reserve();
        let claims = &mut self.claims;
        match purpose {
            Purpose::Taking => {
                is_full && share::claim_nodes(&mut self.devices, claims.nodes, nodes)
            }
            Purpose::Freeing => {
                let found = share::claimable_nodes(&self.devices, claims.nodes, nodes);
                let rest = nodes.saturating_sub(found);
                let left = claims.kept.checked_sub(rest);
                if rest != 0 && left.is_none_or(|left| left < claims.reserve.floor) {
                    return false;
                }
                let is_there =
                    found == 0 || share::claim_nodes(&mut self.devices, claims.nodes, found);
                if let Some(left) = left.filter(|_| is_there && rest != 0) {
                    claims.kept = left;
                }
                is_there
            }
        }
    }

    /// How many of so many nodes are not there for who frees space.
    fn missing(&mut self, nodes: u64) -> u64 {
        self.fill_reserve();
        let claims = &self.claims;
        let found = share::claimable_nodes(&self.devices, claims.nodes, nodes);
        let kept = claims.kept.saturating_sub(claims.reserve.floor);
        nodes.saturating_sub(found).saturating_sub(kept)
    }

    /// Divides all that is promised, and of the reserve so many nodes, among the devices that are present; says whether there is room
    /// for so many copies. Not while a checkpoint is being made.
    fn divide_anew(&mut self, nodes: Copies, data: Copies, kept: u64) -> bool {
        let State {
            devices, claims, ..
        } = self;
        let all = kept
            .saturating_add(claims.active)
            .saturating_add(claims.frozen)
            .saturating_add(claims.promised);
        let fits = share::divide_all(devices, (nodes, all), (data, claims.blocks));
        if fits {
            (claims.nodes, claims.data, claims.kept) = (nodes, data, kept);
        }
        fits
    }

    /// Fills the reserve for the first time.
    fn fill_at_first(&mut self) {
        if !self.fill_reserve() {
            self.keep_one_removal();
        }
    }

    /// What is kept back is at least enough for one transaction that frees space, and in fewer copies if there is not the room for it.
    fn keep_one_removal(&mut self) {
        let claims = &self.claims;
        let granted = claims.active.saturating_add(claims.frozen);
        let least = claims.reserve.one_removal();
        if claims.kept.saturating_add(granted) < least {
            self.divide_in_fewer(least);
            self.fill_reserve();
        }
    }

    /// The same in as many copies as there is room for, but no more than are wanted, with so much of the reserve: what was accepted is
    /// written by means of it, and is rather in fewer copies than lost.
    fn divide_in_fewer(&mut self, kept: u64) {
        self.lend_cleaning();
        let (nodes, data) = self.claims.wanted;
        let fewer = (1..data.count)
            .rev()
            .map(|count| Copies { count, apart: true });
        let fewer = fewer.map(|copies| match copies.count {
            1 => (TWO_PLACES, copies),
            _ => (copies, copies),
        });
        let one = Copies {
            count: 1,
            apart: true,
        };
        let floor = kept.min(self.claims.reserve.floor);
        // One copy of each fits where there were more, on a device of its own.
        let mut all = core::iter::once((nodes, data, kept))
            .chain(fewer.map(|(nodes, data)| (nodes, data, kept)))
            .chain([(one, one, kept), (one, one, floor)]);
        let _ = all.any(|(nodes, data, kept)| self.divide_anew(nodes, data, kept));
    }

    /// After space came back, and while no checkpoint is being made: makes good what there was no room for. Says whether there is now.
    fn make_good(&mut self) -> bool {
        let (nodes, data) = self.claims.wanted;
        let as_wanted = (self.claims.nodes, self.claims.data) == (nodes, data);
        let kept = self.claims.kept.max(self.claims.reserve.one_removal());
        let as_wanted = as_wanted || self.divide_anew(nodes, data, kept);
        let is_full = self.fill_reserve();
        if self.devices.iter().any(|d| !d.present) {
            self.keep_one_removal();
        }
        self.fill_cleaning();
        is_full && as_wanted
    }

    fn release(&mut self, nodes: u64) {
        share::release_nodes(&mut self.devices, self.claims.nodes, nodes);
        self.fill_reserve();
    }

    /// A place for each copy of a node, on the devices that were promised the most nodes.
    fn place(&mut self, out: &mut Vec<Extent>) -> Option<()> {
        let Copies { count, apart } = self.claims.nodes;
        let before = out.len();
        let slots = |n: u64, d: &Device| n.saturating_add(d.slots);
        let things = self.devices.iter().fold(0, slots).checked_div(count)?;
        for n in 0..count {
            let placed = out.get(before..).unwrap_or_default();
            // Who has a copy of each thing that is left must get one of this, too.
            let most = things.saturating_sub(u64::from(apart));
            let left = count.saturating_sub(n);
            let best = self.next_copy((placed, left), (1, most), |d| d.slots);
            let (at, far) = match best {
                Some(at) => (at, None),
                None if apart => return None,
                None => {
                    let all = self.devices.iter().enumerate();
                    let best = all.filter(|(_, d)| d.slots != 0);
                    let (at, device) = best.max_by_key(|(_, d)| d.slots)?;
                    let before = out.iter().rev().find(|e| e.device == device.slot);
                    (at, before.map(|e| e.start.0))
                }
            };
            let device = self.devices.get_mut(at)?;
            let start = device.allocate_slot(far)?;
            device.slots = device.slots.saturating_sub(1);
            let place = Extent {
                device: device.slot,
                start: Blocks(start),
                blocks: Blocks(SLOT),
            };
            out.push_within_capacity(place).ok()?;
        }
        Some(())
    }

    fn unplace(&mut self, extent: Extent) {
        self.give_back(extent);
        if let Some(device) = self.device(extent.device) {
            device.slots = device.slots.saturating_add(extent.blocks.0 / SLOT);
        }
    }
}

/// Nodes have two places wherever that is possible.
const TWO_PLACES: Copies = Copies {
    count: 2,
    apart: false,
};

/// How many copies of nodes and of data there are on so many devices of which so many may be lost: one more than that. Nodes have
/// two where none may be lost, on one device if need be.
fn copies(parity: u8, present: usize) -> (Copies, Copies) {
    let count = usize::from(parity).saturating_add(1).min(COPIES);
    let count = count.min(present).max(1) as u64;
    let data = Copies { count, apart: true };
    match count {
        1 => (TWO_PLACES, data),
        _ => (data, data),
    }
}

impl Space {
    /// All of these devices free, but for what is fixed, on a volume that survives the loss of `parity` of them and has so many
    /// trees besides the one of free space. `next` is the generation of the next root.
    pub fn try_new(
        devices: &[Managed<'_>],
        next: Generation,
        parity: u8,
        trees: usize,
    ) -> Result<Self, SpaceError> {
        let mut away = Away::new();
        let mut all = Vec::new();
        for managed in devices {
            all.push(match managed.present {
                true => charted(managed)?,
                false => absent(managed, &mut away)?,
            })?;
        }
        Self::of((all, away, true), next, parity, trees)
    }

    /// The same for a mount that never writes: nothing is free, for it is not known what is. Its size is known.
    pub fn uncharted(
        devices: &[Managed<'_>],
        next: Generation,
        parity: u8,
        trees: usize,
    ) -> Result<Self, SpaceError> {
        let mut all = Vec::new();
        for managed in devices {
            let mut device = Device::uncharted(managed.slot, managed.blocks.0, managed.fixed);
            device.present = managed.present;
            all.push(device)?;
        }
        let space = Self::of((all, Away::new(), false), next, parity, trees)?;
        let mut state = space.state.lock();
        state.devices.iter_mut().for_each(Device::close);
        drop(state);
        Ok(space)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn of(
        (all, away, is_charted): (Vec<Device>, Away, bool),
        next: Generation,
        parity: u8,
        trees: usize,
    ) -> Result<Self, SpaceError> {
        let groups = all
            .iter()
            .fold(0u64, |n, d| n.saturating_add(d.blocks.div_ceil(GROUP)));
        let devices = &all;
        let present = devices.iter().filter(|d| d.present).count();
        let (nodes, data) = copies(parity, present);
        let most = share::claimable_nodes(&all, nodes, u64::MAX / 8);
        let reserve = Reserve::new(most, groups, trees as u64);
        let claims = Claims::new(nodes, data, reserve);
        Ok(Space {
            state: Mutex::try_new(
                State {
                    devices: all,
                    turn: 0,
                    away,
                    pending: Vec::new(),
                    announced: 0,
                    discards: Discards::default(),
                    next,
                    claims,
                },
                lock_class!("free space"),
            )?,
            is_charted,
        })
    }

    /// Whether it is known what is free.
    pub fn is_charted(&self) -> bool {
        self.is_charted
    }

    /// Learns a group from its item, while mounting. Items of devices that are not managed are left alone.
    pub fn load(&self, key: Key, value: &[u8]) -> Result<(), SpaceError> {
        let bad = SpaceError::Item(key);
        let [slot, index, zero] = key.0;
        let mut state = self.state.lock();
        let slot = usize::try_from(slot).ok().and_then(Slot::new).ok_or(bad)?;
        let State { devices, away, .. } = &mut *state;
        let Some(device) = devices.iter_mut().find(|d| d.slot == slot) else {
            return Ok(());
        };
        if device.away {
            let more = away.load(key, device.blocks, value)?;
            device.unused = device.unused.saturating_sub(more);
            return Ok(());
        }
        let index = usize::try_from(index).map_err(|_| bad)?;
        let group = device.groups.get_mut(index).ok_or(bad)?;
        if zero != 0 {
            return Err(bad);
        }
        let used = parse(value, group.used.length())?.ok_or(bad)?;
        let before = group.used.count();
        for (begin, length) in used.runs() {
            group.used.set(begin, length);
        }
        let more = group.used.count().saturating_sub(before);
        device.unused = device.unused.saturating_sub(more);
        device.occupy_used(index);
        Ok(())
    }

    /// Gives out from `least` to `most` blocks that lie together on one device. Whoever gets them commits or gives them back.
    pub fn allocate(&self, device: Slot, least: Blocks, most: Blocks) -> Option<Extent> {
        let mut state = self.state.lock();
        if !state.fill_reserve() {
            return None;
        }
        let (start, blocks) = state.device(device)?.allocate(least.0, most.0, 0)?;
        Some(Extent {
            device,
            start: Blocks(start),
            blocks: Blocks(blocks),
        })
    }

    /// Takes back what was given out and never committed.
    pub fn give_back(&self, extent: Extent) {
        self.state.lock().give_back(extent);
    }

    /// Makes room to free these blocks: that will not fail.
    pub fn announce(&self, frees: &[Extent]) -> Result<(), NoMem> {
        let mut state = self.state.lock();
        let State { devices, away, .. } = &mut *state;
        for free in frees {
            let is_it = |d: &&Device| d.slot == free.device && d.away;
            if let Some(device) = devices.iter().find(is_it) {
                away.open(device.blocks, *free)?;
            }
        }
        let announced = state.announced.saturating_add(frees.len());
        state.pending.try_reserve(announced)?;
        state.announced = announced;
        Ok(())
    }

    /// So many frees that were announced do not come.
    pub fn renounce(&self, frees: usize) {
        let mut state = self.state.lock();
        state.announced = state.announced.saturating_sub(frees);
    }

    /// A transaction that takes these blocks commits.
    pub fn take(&self, extent: Extent) -> Result<(), SpaceError> {
        self.state.lock().take(extent).map(|_| ())
    }

    /// As [`Self::take`], while mounting: the blocks may have been freed after the root that is mounted, and given out again.
    pub fn take_again(&self, extent: Extent) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        let fresh = state.take(extent)?;
        if fresh != extent.blocks.0 {
            state.forget_pending(extent)?;
        }
        Ok(())
    }

    /// A transaction that frees these blocks commits; it must be [announced](Self::announce).
    pub fn free(&self, extent: Extent) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        let generation = state.next;
        state.free(extent, generation)?;
        state.announced = state.announced.saturating_sub(1);
        Ok(())
    }

    /// As [`Self::free`] or [`Self::free_as_of`], while mounting: it was not announced.
    pub fn free_again(&self, extent: Extent, as_of: Option<Generation>) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        let announced = state.announced.saturating_add(1);
        state.pending.try_reserve(announced)?;
        let generation = as_of.unwrap_or(state.next);
        state.free(extent, generation)
    }

    /// Blocks that no root which may be mounted needs are not used any more.
    pub fn free_at_once(&self, extent: Extent) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        let freed = state.clear(extent);
        state.give_back(extent);
        freed.map(|_| ())
    }

    /// As [`Self::free`], for what the root of `generation` is the first not to need.
    pub fn free_as_of(&self, extent: Extent, generation: Generation) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        state.free(extent, generation)?;
        state.announced = state.announced.saturating_sub(1);
        Ok(())
    }

    /// The changes of the tree since the last call, as of now. What is freed from now on belongs to the root after `next`.
    pub fn freeze(&self, next: Generation) -> Result<Delta, NoMem> {
        let mut state = self.state.lock();
        let mut delta = Delta::new();
        for device in state.devices.iter() {
            for (index, group) in device.groups.iter().enumerate() {
                if group.dirty {
                    delta.reserve(1, 0)?;
                    delta.set(away::key(device.slot, index as u64), encode(&group.used)?)?;
                }
            }
        }
        state.away.give(&mut delta)?;
        state.away.clean();
        for device in state.devices.iter_mut() {
            for group in device.groups.iter_mut() {
                group.dirty = false;
            }
        }
        state.next = Generation(next.0.saturating_add(1));
        let claims = &mut state.claims;
        claims.frozen = claims.frozen.saturating_add(claims.active);
        claims.active = 0;
        let (items, frozen) = claims.items;
        claims.items = (0, frozen.saturating_add(items));
        claims.changed = (Change::default(), 0);
        Ok(delta)
    }

    /// All items of the tree are to be written, whatever the tree has.
    pub fn touch_all(&self) {
        let mut state = self.state.lock();
        let State {
            devices, claims, ..
        } = &mut *state;
        for group in devices.iter_mut().flat_map(|d| d.groups.iter_mut()) {
            claims.items.0 = claims.items.0.saturating_add(group.touch());
        }
    }

    /// A root of `generation` comes that has nothing new, whatever is frozen: what was to be freed by it, or later, is freed by the
    /// root after that.
    pub fn skip(&self, generation: Generation) {
        let mut state = self.state.lock();
        let after = |g: Generation| Generation(g.0.saturating_add(1));
        state.next = after(state.next);
        for pending in state.pending.iter_mut() {
            if pending.generation >= generation {
                pending.generation = after(pending.generation);
            }
        }
    }

    /// These devices do not take part any more, on a volume that survives the loss of `parity`. What was promised is promised of the
    /// others; where they have not the room, in fewer copies. Called while no checkpoint is being made. Says how many copies data
    /// have from now on.
    pub fn lose(&self, lost: Members, parity: u8) -> usize {
        let mut state = self.state.lock();
        // They are to take the place of what is lost.
        state.spare_due();
        for device in state.devices.iter_mut().filter(|d| lost.has(d.slot)) {
            device.present = false;
        }
        let present = state.devices.iter().filter(|d| d.present).count();
        state.claims.wanted = copies(parity, present);
        let kept = state.claims.kept;
        state.divide_in_fewer(kept);
        state.claims.data.count as usize
    }

    /// Of this device, which does not take part, it is to be known block by block what is free. Before anything is loaded.
    pub fn chart(&self, managed: &Managed<'_>) -> Result<(), SpaceError> {
        let mut device = charted(managed)?;
        device.present = false;
        if let Some(place) = self.state.lock().device(managed.slot) {
            *place = device;
        }
        Ok(())
    }

    /// These devices take part from now on, if it is known of them what is free. Things have as many copies again as there is room for.
    /// Called while no checkpoint is being made. Says how many copies data have.
    pub fn join(&self, joining: Members, parity: u8) -> usize {
        let mut state = self.state.lock();
        for device in state.devices.iter_mut() {
            device.present |= joining.has(device.slot) && !device.away;
        }
        let present = state.devices.iter().filter(|d| d.present).count();
        state.claims.wanted = copies(parity, present);
        state.make_good();
        state.claims.data.count as usize
    }

    /// The item with this key is written with the next root, though nothing of it changed.
    pub fn touch(&self, key: Key) -> Result<(), NoMem> {
        let mut state = self.state.lock();
        let State {
            devices,
            away,
            claims,
            ..
        } = &mut *state;
        let [slot, group, _] = key.0;
        let slot = usize::try_from(slot).ok().and_then(Slot::new);
        let device = devices.iter_mut().find(|d| Some(d.slot) == slot);
        let items = &mut claims.items.0;
        match device {
            Some(device) if device.away => {
                *items = items.saturating_add(u64::from(away.touch(key)?));
            }
            Some(device) => {
                let group = usize::try_from(group).ok();
                let group = group.and_then(|group| device.groups.get_mut(group));
                *items = items.saturating_add(group.map_or(0, device::Group::touch));
            }
            None => {}
        }
        Ok(())
    }

    /// The generation of the next root.
    pub fn next(&self) -> Generation {
        self.state.lock().next
    }

    /// The root of `generation` is durable: what the one before it did not need can be given out, or discarded before.
    pub fn durable(&self, generation: Generation) {
        let mut state = self.state.lock();
        state.make_due(generation);
        if !state.make_good() {
            // There is no time for it.
            state.spare_due();
            state.make_good();
        }
    }

    /// How much room a device has.
    pub fn room(&self, device: Slot) -> Room {
        let mut state = self.state.lock();
        let of_device = state.pending.iter().filter(|p| p.extent.device == device);
        let pending = of_device.fold(0u64, |n, p| n.saturating_add(p.extent.blocks.0));
        state.device(device).map_or_else(Room::default, |d| Room {
            free: Blocks(d.unclaimed()),
            claimed: Blocks(d.free.saturating_sub(d.unclaimed())),
            unused: Blocks(d.unused),
            pending: Blocks(pending),
        })
    }

    /// Whether the tree has to be given anything.
    pub fn is_dirty(&self) -> bool {
        let state = self.state.lock();
        let is_dirty = |d: &Device| d.groups.iter().any(|g| g.dirty);
        state.devices.iter().any(is_dirty) || state.away.any_dirty()
    }

    /// Which blocks of a group are used; none where that is not known bit by bit.
    pub fn used_of(&self, device: Slot, group: u64) -> Result<Option<Bits>, NoMem> {
        let mut state = self.state.lock();
        let groups = state.device(device).map(|d| &d.groups);
        let group = groups.and_then(|g| g.get(usize::try_from(group).ok()?));
        match group {
            // Without nothing: a copy.
            Some(group) => Ok(Some(group.used.without(&Bits::try_new(0)?)?)),
            None => Ok(None),
        }
    }

    /// Whether a block is used.
    pub fn is_used(&self, device: Slot, block: Blocks) -> bool {
        let mut state = self.state.lock();
        let State { devices, away, .. } = &mut *state;
        let Some(device) = devices.iter().find(|d| d.slot == device) else {
            return true;
        };
        if device.away {
            return away.is_used(device.slot, device.blocks, block.0);
        }
        let group = device.groups.get((block.0 / GROUP) as usize);
        group.is_none_or(|g| g.used.is_set(block.0 % GROUP))
    }
}

/// A device that takes part, free but for what is fixed.
#[inline(never)] // Their frames are large enough alone.
fn charted(managed: &Managed<'_>) -> Result<Device, SpaceError> {
    let mut device = Device::try_new(managed.slot, managed.blocks.0)?;
    device.fixed = Vec::try_from_slice(managed.fixed)?;
    for (start, blocks) in managed.fixed {
        let fixed = device.each(start.0, blocks.0, |g, at, n| g.used.set(at, n));
        // A journal that lies in a system area would be written over it.
        let fixed = fixed.filter(|fixed| *fixed == blocks.0);
        let fixed = fixed.and_then(|fixed| {
            device.unused = device.unused.saturating_sub(fixed);
            device.occupy(start.0, blocks.0)
        });
        fixed.ok_or(SpaceError::Extent(Extent {
            device: managed.slot,
            start: *start,
            blocks: *blocks,
        }))?;
    }
    device.managed = device.free;
    device.domain = managed.domain;
    Ok(device)
}

/// A device that does not, unused but for what is fixed.
#[inline(never)] // Their frames are large enough alone.
fn absent(managed: &Managed<'_>, away: &mut Away) -> Result<Device, SpaceError> {
    let mut device = Device::away(managed.slot, managed.blocks.0);
    device.fixed = Vec::try_from_slice(managed.fixed)?;
    for (start, blocks) in managed.fixed {
        let extent = Extent {
            device: managed.slot,
            start: *start,
            blocks: *blocks,
        };
        let fixed = away.fix(device.blocks, extent)?;
        device.unused = device.unused.saturating_sub(fixed);
    }
    Ok(device)
}

/// Which blocks of a group of so many are used, as its item says; none where that makes no sense.
pub fn parse(value: &[u8], length: u64) -> Result<Option<Bits>, NoMem> {
    let Some((kind, rest)) = value.split_first() else {
        return Ok(None);
    };
    let mut used = Bits::try_new(length)?;
    match *kind {
        BITMAP if rest.len() as u64 == length.div_ceil(8) => {
            for (n, byte) in (0u64..).zip(rest) {
                for bit in (0..8u64).filter(|bit| byte.wrapping_shr(*bit as u32) & 1 != 0) {
                    used.set(n.saturating_mul(8).saturating_add(bit), 1);
                }
            }
        }
        RUNS if rest.len() % 4 == 0 => {
            for pair in rest.chunks_exact(4) {
                let [a, b, c, d] = *pair else { return Ok(None) };
                let begin = u64::from(u16::from_le_bytes([a, b]));
                let count = u64::from(u16::from_le_bytes([c, d])).saturating_add(1);
                if begin.saturating_add(count) > length {
                    return Ok(None);
                }
                used.set(begin, count);
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(used))
}

fn encode(used: &Bits) -> Result<Vec<u8>, NoMem> {
    let mut out = Vec::new();
    if used.runs().take(MOST_RUNS.saturating_add(1)).count() > MOST_RUNS {
        out.try_reserve((used.length() / 8).saturating_add(2) as usize)?;
        out.push(BITMAP)?;
        out.try_extend(used.bytes())?;
        return Ok(out);
    }
    out.push(RUNS)?;
    for (begin, length) in used.runs() {
        out.try_extend_from_slice(&(begin as u16).to_le_bytes())?;
        out.try_extend_from_slice(&(length.saturating_sub(1) as u16).to_le_bytes())?;
    }
    Ok(out)
}

#[cfg(test)]
mod discard_tests;
#[cfg(test)]
mod promise_tests;
#[cfg(test)]
mod tests;
