// SPDX-License-Identifier: GPL-2.0

//! Which blocks of which device are free. The tree of free space holds what transactions made of it; in memory there are also the
//! blocks that must not be given out although they are free: those promised to a transaction that has not committed, and those
//! freed so lately that a root which may still be mounted needs them.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod bits;

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::tree::delta::Delta;
use crate::tree::Key;
use crate::units::Blocks;
use crate::units::Generation;
use bits::Bits;
use embr_rt::lock_class;
use embr_rt::Mutex;
use embr_rt::Vec;

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
    /// Blocks that can be given out now.
    pub free: Blocks,
    /// Blocks that no transaction which committed holds.
    pub unused: Blocks,
    /// Blocks that are not used, but that a root which may still be mounted needs.
    pub pending: Blocks,
}

#[derive(Debug)]
struct Group {
    /// What the tree says, with all transactions that committed.
    used: Bits,
    /// Used, or not to be given out.
    busy: Bits,
    /// Whether `used` differs from what the tree was given last.
    dirty: bool,
}

#[derive(Debug)]
struct Device {
    slot: Slot,
    groups: Vec<Group>,
    /// Where the last allocation ended.
    cursor: u64,
    /// Blocks that can be given out.
    free: u64,
    /// Blocks that are not used.
    unused: u64,
}

#[derive(Debug)]
struct Pending {
    /// The first root that does not need the blocks.
    generation: Generation,
    extent: Extent,
}

#[derive(Debug)]
struct State {
    devices: Vec<Device>,
    pending: Vec<Pending>,
    /// The generation of the next root.
    next: Generation,
}

/// The free space of a mounted volume.
pub struct Space {
    state: Mutex<State>,
}

impl Device {
    /// Calls `f` with the groups that the blocks lie in, and where in them; no blocks beyond the end.
    fn each(
        &mut self,
        start: u64,
        count: u64,
        mut f: impl FnMut(&mut Group, u64, u64) -> u64,
    ) -> Option<u64> {
        let end = start.checked_add(count)?;
        let mut changed = 0u64;
        let mut at = start;
        while at < end {
            let within = at % GROUP;
            let n = end.saturating_sub(at).min(GROUP.saturating_sub(within));
            let group = self.groups.get_mut(usize::try_from(at / GROUP).ok()?)?;
            if within.saturating_add(n) > group.used.length() {
                return None;
            }
            changed = changed.saturating_add(f(group, within, n));
            at = at.saturating_add(n);
        }
        Some(changed)
    }

    fn allocate(&mut self, least: u64, most: u64) -> Option<(u64, u64)> {
        if self.free < least {
            return None;
        }
        let count = self.groups.len();
        let first = usize::try_from(self.cursor / GROUP).ok()?;
        // The group of the cursor comes twice: from the cursor on, and at last its begin.
        for n in 0..=count {
            let index = first.saturating_add(n).checked_rem(count)?;
            let from = if n == 0 { self.cursor % GROUP } else { 0 };
            let Some(group) = self.groups.get_mut(index) else {
                continue;
            };
            if let Some((begin, length)) = group.busy.run(from, least, most) {
                group.busy.set(begin, length);
                let start = (index as u64).saturating_mul(GROUP).saturating_add(begin);
                self.cursor = start.saturating_add(length);
                self.free = self.free.saturating_sub(length);
                return Some((start, length));
            }
        }
        None
    }
}

impl State {
    fn device(&mut self, slot: Slot) -> Option<&mut Device> {
        self.devices.iter_mut().find(|d| d.slot == slot)
    }

    fn take(&mut self, e: Extent) -> Option<()> {
        let device = self.device(e.device)?;
        let used = device.each(e.start.0, e.blocks.0, |g, at, n| {
            g.dirty = true;
            g.used.set(at, n)
        })?;
        let busy = device.each(e.start.0, e.blocks.0, |g, at, n| g.busy.set(at, n))?;
        device.free = device.free.saturating_sub(busy);
        device.unused = device.unused.saturating_sub(used);
        (used == e.blocks.0).then_some(())
    }

    fn free(&mut self, e: Extent, generation: Generation) -> Option<()> {
        let device = self.device(e.device)?;
        let freed = device.each(e.start.0, e.blocks.0, |g, at, n| {
            g.dirty = true;
            g.used.clear(at, n)
        })?;
        device.unused = device.unused.saturating_add(freed);
        if freed != e.blocks.0 {
            return None;
        }
        self.pending
            .push(Pending {
                generation,
                extent: e,
            })
            .ok()
    }
}

impl Space {
    /// All of these devices free, but for what is fixed. `next` is the generation of the next root.
    pub fn try_new(devices: &[Managed<'_>], next: Generation) -> Result<Self, SpaceError> {
        let mut all = Vec::new();
        for managed in devices {
            let mut groups = Vec::new();
            for start in (0..managed.blocks.0).step_by(GROUP as usize) {
                let length = managed.blocks.0.saturating_sub(start).min(GROUP);
                groups.push(Group {
                    used: Bits::try_new(length)?,
                    busy: Bits::try_new(length)?,
                    dirty: false,
                })?;
            }
            let mut device = Device {
                slot: managed.slot,
                groups,
                cursor: 0,
                free: managed.blocks.0,
                unused: managed.blocks.0,
            };
            for (start, blocks) in managed.fixed {
                let fixed = device.each(start.0, blocks.0, |g, at, n| {
                    g.used.set(at, n);
                    g.busy.set(at, n)
                });
                let fixed = fixed.ok_or(SpaceError::Extent(Extent {
                    device: managed.slot,
                    start: *start,
                    blocks: *blocks,
                }))?;
                device.free = device.free.saturating_sub(fixed);
                device.unused = device.free;
            }
            all.push(device)?;
        }
        Ok(Space {
            state: Mutex::try_new(
                State {
                    devices: all,
                    pending: Vec::new(),
                    next,
                },
                lock_class!("free space"),
            )?,
        })
    }

    /// Learns a group from its item, while mounting. Items of devices that are not managed are left alone.
    pub fn load(&self, key: Key, value: &[u8]) -> Result<(), SpaceError> {
        let bad = SpaceError::Item(key);
        let [slot, index, zero] = key.0;
        let mut state = self.state.lock();
        let slot = usize::try_from(slot).ok().and_then(Slot::new).ok_or(bad)?;
        let Some(device) = state.device(slot) else {
            return Ok(());
        };
        let index = usize::try_from(index).map_err(|_| bad)?;
        let group = device.groups.get_mut(index).ok_or(bad)?;
        let (kind, rest) = value.split_first().ok_or(bad)?;
        if zero != 0 {
            return Err(bad);
        }
        let before = group.busy.count();
        match *kind {
            BITMAP if rest.len() as u64 == group.used.length().div_ceil(8) => {
                for (n, byte) in rest.iter().enumerate() {
                    for bit in 0..8u64 {
                        if byte.wrapping_shr(bit as u32) & 1 != 0 {
                            let at = (n as u64).saturating_mul(8).saturating_add(bit);
                            group.used.set(at, 1);
                            group.busy.set(at, 1);
                        }
                    }
                }
            }
            RUNS if rest.len() % 4 == 0 => {
                for pair in rest.chunks_exact(4) {
                    let [a, b, c, d] = *pair else { return Err(bad) };
                    let begin = u64::from(u16::from_le_bytes([a, b]));
                    let length = u64::from(u16::from_le_bytes([c, d])).saturating_add(1);
                    if begin.saturating_add(length) > group.used.length() {
                        return Err(bad);
                    }
                    group.used.set(begin, length);
                    group.busy.set(begin, length);
                }
            }
            _ => return Err(bad),
        }
        let more = group.busy.count().saturating_sub(before);
        device.free = device.free.saturating_sub(more);
        device.unused = device.unused.saturating_sub(more);
        Ok(())
    }

    /// Gives out from `least` to `most` blocks that lie together on one device. Whoever gets them commits or gives them back.
    pub fn allocate(&self, device: Slot, least: Blocks, most: Blocks) -> Option<Extent> {
        let mut state = self.state.lock();
        let (start, blocks) = state.device(device)?.allocate(least.0, most.0)?;
        Some(Extent {
            device,
            start: Blocks(start),
            blocks: Blocks(blocks),
        })
    }

    /// Gives out so many blocks on each of `copies` devices out of `among`, those with the most room first; all or none.
    pub fn allocate_copies(
        &self,
        among: Members,
        copies: usize,
        blocks: Blocks,
        out: &mut Vec<Extent>,
    ) -> Result<bool, NoMem> {
        out.try_reserve(copies)?;
        let mut state = self.state.lock();
        let mut chosen = Members::default();
        let first = out.len();
        while out.len().saturating_sub(first) < copies {
            let best = state
                .devices
                .iter_mut()
                .filter(|d| among.has(d.slot) && !chosen.has(d.slot))
                .max_by_key(|d| d.free);
            let Some(device) = best else { break };
            chosen = chosen.with(device.slot);
            let slot = device.slot;
            if let Some((start, length)) = device.allocate(blocks.0, blocks.0) {
                out.push(Extent {
                    device: slot,
                    start: Blocks(start),
                    blocks: Blocks(length),
                })?;
            }
        }
        if out.len().saturating_sub(first) == copies {
            return Ok(true);
        }
        for extent in out.iter().skip(first) {
            give_back(&mut state, *extent);
        }
        out.truncate(first);
        Ok(false)
    }

    /// Takes back what was given out and never committed.
    pub fn give_back(&self, extent: Extent) {
        give_back(&mut self.state.lock(), extent);
    }

    /// Makes room to remember so many frees more: they will not fail.
    pub fn reserve(&self, frees: usize) -> Result<(), NoMem> {
        self.state.lock().pending.try_reserve(frees)
    }

    /// A transaction that takes these blocks commits.
    pub fn take(&self, extent: Extent) -> Result<(), SpaceError> {
        self.state
            .lock()
            .take(extent)
            .ok_or(SpaceError::Extent(extent))
    }

    /// A transaction that frees these blocks commits; room must be [reserved](Self::reserve).
    pub fn free(&self, extent: Extent) -> Result<(), SpaceError> {
        let mut state = self.state.lock();
        let generation = state.next;
        state
            .free(extent, generation)
            .ok_or(SpaceError::Extent(extent))
    }

    /// As [`Self::free`], for what the root of `generation` is the first not to need.
    pub fn free_as_of(&self, extent: Extent, generation: Generation) -> Result<(), SpaceError> {
        self.state
            .lock()
            .free(extent, generation)
            .ok_or(SpaceError::Extent(extent))
    }

    /// The changes of the tree since the last call, as of now. What is freed from now on belongs to the root after `next`.
    pub fn freeze(&self, next: Generation) -> Result<Delta, NoMem> {
        let mut state = self.state.lock();
        let mut delta = Delta::new();
        let dirty = state
            .devices
            .iter()
            .flat_map(|d| d.groups.iter())
            .filter(|g| g.dirty)
            .count();
        delta.reserve(dirty, 0)?;
        for device in state.devices.iter() {
            for (index, group) in device.groups.iter().enumerate() {
                if group.dirty {
                    let key = Key([device.slot.index() as u64, index as u64, 0]);
                    delta.set(key, encode(&group.used)?)?;
                }
            }
        }
        for device in state.devices.iter_mut() {
            for group in device.groups.iter_mut() {
                group.dirty = false;
            }
        }
        state.next = Generation(next.0.saturating_add(1));
        Ok(delta)
    }

    /// The checkpoint for which [`Self::freeze`] was called did not come about: what it gave out is to be given out again.
    pub fn thaw(&self, next: Generation, frozen: &Delta) {
        use crate::tree::Changes as _;
        let mut state = self.state.lock();
        state.next = next;
        let mut from = Some(Key::MIN);
        while let Some((key, _)) = from.and_then(|k| frozen.at_or_after(k)) {
            let [slot, index, _] = key.0;
            let slot = usize::try_from(slot).ok().and_then(Slot::new);
            let device = slot.and_then(|s| state.device(s));
            if let Some(group) = device.and_then(|d| d.groups.get_mut(index as usize)) {
                group.dirty = true;
            }
            from = key.next();
        }
    }

    /// The root of `generation` is durable: what the one before it did not need can be given out.
    pub fn durable(&self, generation: Generation) {
        let mut state = self.state.lock();
        let State {
            devices, pending, ..
        } = &mut *state;
        pending.retain(|p| {
            if p.generation >= generation {
                return true;
            }
            if let Some(device) = devices.iter_mut().find(|d| d.slot == p.extent.device) {
                let freed = device.each(p.extent.start.0, p.extent.blocks.0, |g, at, n| {
                    g.busy.clear(at, n)
                });
                device.free = device.free.saturating_add(freed.unwrap_or(0));
            }
            false
        });
    }

    /// How much room a device has.
    pub fn room(&self, device: Slot) -> Room {
        let mut state = self.state.lock();
        let of_device = state.pending.iter().filter(|p| p.extent.device == device);
        let pending = of_device.fold(0u64, |n, p| n.saturating_add(p.extent.blocks.0));
        state.device(device).map_or_else(Room::default, |d| Room {
            free: Blocks(d.free),
            unused: Blocks(d.unused),
            pending: Blocks(pending),
        })
    }

    /// Whether the tree has to be given anything.
    pub fn is_dirty(&self) -> bool {
        let state = self.state.lock();
        state
            .devices
            .iter()
            .any(|d| d.groups.iter().any(|g| g.dirty))
    }

    /// Whether a block is used.
    pub fn is_used(&self, device: Slot, block: Blocks) -> bool {
        let mut state = self.state.lock();
        let group = state
            .device(device)
            .and_then(|d| d.groups.get((block.0 / GROUP) as usize));
        group.is_none_or(|g| g.used.is_set(block.0 % GROUP))
    }
}

fn give_back(state: &mut State, e: Extent) {
    if let Some(device) = state.device(e.device) {
        let freed = device.each(e.start.0, e.blocks.0, |g, at, n| g.busy.clear(at, n));
        device.free = device.free.saturating_add(freed.unwrap_or(0));
    }
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
mod tests;
