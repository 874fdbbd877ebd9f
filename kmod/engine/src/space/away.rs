// SPDX-License-Identifier: GPL-2.0

//! What is used of devices that do not take part. Nothing of them is given out, so it is kept as the tree has it, item by item:
//! memory goes with what items say, not with how large a device that nobody sees is said to be. Only where frees were announced,
//! which must not fail, there are bits.

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::space::bits::Bits;
use crate::space::encode;
use crate::space::parse;
use crate::space::SpaceError;
use crate::space::GROUP;
use crate::tree::change::Change;
use crate::tree::delta::Delta;
use crate::tree::delta::Known;
use crate::tree::Changes as _;
use crate::tree::Key;
use embr_rt::Vec;

/// A group with room to be changed.
#[derive(Debug)]
struct Open {
    key: Key,
    used: Bits,
    dirty: bool,
}

/// What is used of devices that do not take part.
#[derive(Debug)]
pub(super) struct Away {
    /// Groups of which something is used, but for the open ones.
    items: Delta,
    /// Those of them that are not as the tree was given them last.
    dirty: Delta,
    /// In order of their keys.
    open: Vec<Open>,
}

/// The key of a group's item.
pub(super) fn key(device: Slot, group: u64) -> Key {
    Key([device.index() as u64, group, 0])
}

/// The groups that these blocks lie in: for each, its number, the first block in it, and how many.
fn pieces(e: Extent) -> impl Iterator<Item = (u64, u64, u64)> {
    let end = e.start.0.saturating_add(e.blocks.0);
    let mut at = e.start.0;
    core::iter::from_fn(move || {
        let within = at.checked_rem(GROUP)?;
        let n = end.saturating_sub(at).min(GROUP.saturating_sub(within));
        let piece = (at / GROUP, within, n);
        at = at.saturating_add(n);
        (n != 0).then_some(piece)
    })
}

/// Blocks of a group of a device that has so many.
fn length(blocks: u64, group: u64) -> u64 {
    blocks
        .saturating_sub(group.saturating_mul(GROUP))
        .min(GROUP)
}

impl Away {
    /// Nothing is used.
    pub(super) fn new() -> Self {
        Away {
            items: Delta::new(),
            dirty: Delta::new(),
            open: Vec::new(),
        }
    }

    fn find(&self, key: Key) -> Result<usize, usize> {
        self.open.binary_search_by(|o| o.key.cmp(&key))
    }

    /// A copy of what is used in a group of so many blocks.
    pub(super) fn used(&self, key: Key, length: u64) -> Result<Bits, NoMem> {
        if let Some(open) = self.find(key).ok().and_then(|at| self.open.get(at)) {
            // Without nothing: a copy.
            return open.used.without(&Bits::try_new(0)?);
        }
        let parsed = match self.items.get(key) {
            Known::Set(value) => parse(value, length)?,
            _ => None,
        };
        match parsed {
            Some(used) => Ok(used),
            None => Bits::try_new(length),
        }
    }

    /// Whether a block of a device of so many is used; those beyond the end are.
    pub(super) fn is_used(&self, device: Slot, blocks: u64, block: u64) -> bool {
        let group = block / GROUP;
        let used = self.used(key(device, group), length(blocks, group));
        used.map_or(true, |used| used.is_set(block % GROUP))
    }

    fn put(&mut self, key: Key, used: &Bits) -> Result<(), NoMem> {
        let value = encode(used)?;
        self.items.reserve(1, 0)?;
        self.items.set(key, value)
    }

    /// Learns a group of a device of so many blocks from its item; says how many are used that were not known to be.
    pub(super) fn load(&mut self, key: Key, blocks: u64, value: &[u8]) -> Result<u64, SpaceError> {
        let bad = SpaceError::Item(key);
        let [_, group, zero] = key.0;
        let length = length(blocks, group);
        if length == 0 || zero != 0 {
            return Err(bad);
        }
        let more = parse(value, length)?.ok_or(bad)?;
        let mut used = self.used(key, length)?;
        let before = used.count();
        used.set_as(&more);
        let changed = used.count().saturating_sub(before);
        if changed != 0 {
            self.put(key, &used)?;
        }
        Ok(changed)
    }

    /// Changes what is used in the groups that these blocks of a device of so many lie in.
    fn change(
        &mut self,
        blocks: u64,
        e: Extent,
        change: impl Fn(&mut Bits, u64, u64) -> u64,
    ) -> Result<u64, SpaceError> {
        let end = e.start.0.checked_add(e.blocks.0);
        if end.is_none_or(|end| end > blocks) || e.blocks.0 > GROUP {
            return Err(SpaceError::Extent(e));
        }
        let mut sum = 0u64;
        for (group, at, n) in pieces(e) {
            let key = key(e.device, group);
            if let Some(open) = self.find(key).ok().and_then(|at| self.open.get_mut(at)) {
                open.dirty = true;
                sum = sum.saturating_add(change(&mut open.used, at, n));
                continue;
            }
            let mut used = self.used(key, length(blocks, group))?;
            let changed = change(&mut used, at, n);
            sum = sum.saturating_add(changed);
            if changed != 0 {
                self.dirty.reserve(1, 0)?;
                self.put(key, &used)?;
                self.dirty.set(key, Vec::new())?;
            }
        }
        Ok(sum)
    }

    /// These blocks are used; says how many were not. Not more than a group has.
    pub(super) fn take(&mut self, blocks: u64, e: Extent) -> Result<u64, SpaceError> {
        self.change(blocks, e, Bits::set)
    }

    /// These blocks are not used; says how many were. Not more than a group has. Needs no memory for what was announced.
    pub(super) fn clear(&mut self, blocks: u64, e: Extent) -> Result<u64, SpaceError> {
        self.change(blocks, e, Bits::clear)
    }

    /// These blocks are not to be told to the tree: it never has them free, whatever its items say.
    pub(super) fn fix(&mut self, blocks: u64, e: Extent) -> Result<u64, SpaceError> {
        let done = self.take(blocks, e);
        self.clean();
        done
    }

    /// To free these blocks of a device of so many will not fail.
    pub(super) fn open(&mut self, blocks: u64, e: Extent) -> Result<(), NoMem> {
        for (group, _, _) in pieces(e).take(2) {
            let key = key(e.device, group);
            let Err(at) = self.find(key) else { continue };
            if !matches!(self.items.get(key), Known::Set(_)) {
                continue;
            }
            let used = self.used(key, length(blocks, group))?;
            self.open.try_reserve(1)?;
            self.dirty.reserve(1, 0)?;
            self.items.reserve(1, 0)?;
            let dirty = self.is_dirty(key);
            self.open.insert(at, Open { key, used, dirty })?;
            self.items.remove(key)?;
            if dirty {
                self.dirty.remove(key)?;
            }
        }
        Ok(())
    }

    fn is_dirty(&self, key: Key) -> bool {
        matches!(self.dirty.get(key), Known::Set(_))
    }

    /// Items that are not as the tree was given them last, but for the open ones.
    fn changed(&self) -> impl Iterator<Item = Key> + '_ {
        let mut from = Some(Key::MIN);
        core::iter::from_fn(move || loop {
            let (key, change) = self.dirty.at_or_after(from?)?;
            from = key.next();
            if let Change::Set(_) = change {
                return Some(key);
            }
        })
    }

    /// The tree is to be given this item again. Says whether it was not to be.
    pub(super) fn touch(&mut self, key: Key) -> Result<bool, NoMem> {
        if let Some(open) = self.find(key).ok().and_then(|at| self.open.get_mut(at)) {
            return Ok(!core::mem::replace(&mut open.dirty, true));
        }
        let is_new = !self.is_dirty(key) && matches!(self.items.get(key), Known::Set(_));
        if is_new {
            self.dirty.reserve(1, 0)?;
            self.dirty.set(key, Vec::new())?;
        }
        Ok(is_new)
    }

    /// Whether the tree has to be given anything.
    pub(super) fn any_dirty(&self) -> bool {
        self.changed().next().is_some() || self.open.iter().any(|o| o.dirty)
    }

    /// What the tree has to be given.
    pub(super) fn give(&self, delta: &mut Delta) -> Result<(), NoMem> {
        for key in self.changed() {
            if let Known::Set(value) = self.items.get(key) {
                delta.reserve(1, 0)?;
                delta.set(key, Vec::try_from_slice(value)?)?;
            }
        }
        for open in self.open.iter().filter(|o| o.dirty) {
            delta.reserve(1, 0)?;
            delta.set(open.key, encode(&open.used)?)?;
        }
        Ok(())
    }

    /// The tree was given everything.
    pub(super) fn clean(&mut self) {
        self.dirty = Delta::new();
        for open in self.open.iter_mut() {
            open.dirty = false;
        }
    }
}
