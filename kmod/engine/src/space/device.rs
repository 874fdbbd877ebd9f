// SPDX-License-Identifier: GPL-2.0

//! The space of one device: what is used, what must not be given out, and how much of the rest is spoken for. A node takes a
//! *slot*, four blocks that begin at a multiple of four; slots that are wholly free are counted, and data breaks into one only
//! while there are more of them than nodes were promised. It knows nothing of who was promised what.

use crate::error::NoMem;
use crate::format::member::Slot;
use crate::space::bits::Bits;
use crate::space::bits::Search;
use crate::space::bits::SLOT;
use crate::space::SpaceError;
use crate::space::GROUP;
use crate::units::Blocks;
use embr_rt::Vec;

/// In so many groups is looked for a place in broken slots where there are others as well.
const NEARBY: u64 = 4;
/// With fewer whole slots than one in so many, what is written goes where others are broken.
const SHORT_IN: u64 = 16;

/// So many blocks that one item of the tree describes.
#[derive(Debug)]
pub(super) struct Group {
    /// What the tree says, with all transactions that committed.
    pub(super) used: Bits,
    /// Used, or not to be given out.
    pub(super) busy: Bits,
    /// Whether `used` differs from what the tree was given last.
    pub(super) dirty: bool,
    /// Blocks that are not busy.
    free: u64,
    /// Slots of which no block is busy.
    whole: u64,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) slot: Slot,
    /// Devices that fail together have the same number; zero for one that fails alone.
    pub(super) domain: u32,
    /// Whether it takes part: of one that does not, it is only remembered what is used.
    pub(super) present: bool,
    /// Whether it never took part in this mount: what is used of it is [elsewhere](super::away::Away).
    pub(super) away: bool,
    pub(super) groups: Vec<Group>,
    pub(super) blocks: u64,
    /// What is never free: begin and length.
    pub(super) fixed: Vec<(Blocks, Blocks)>,
    /// Blocks that are not fixed.
    pub(super) managed: u64,
    /// Where the last allocation ended.
    cursor: u64,
    /// The same of those in broken slots.
    broken_cursor: u64,
    /// Blocks that are not busy.
    pub(super) free: u64,
    /// Slots of which no block is busy.
    pub(super) whole: u64,
    /// Blocks that are not used.
    pub(super) unused: u64,
    /// Slots that are promised to nodes.
    pub(super) slots: u64,
    /// Blocks that are promised to data.
    pub(super) promised: u64,
    /// The device's part of what is being promised, taken back or counted.
    pub(super) share: u64,
    /// What was promised of it before all was divided anew: slots and blocks.
    pub(super) before: (u64, u64),
}

impl Group {
    /// A block that is free in a slot of which others are used: what is only pending goes by itself.
    fn hole(&self, search: Search, from: u64) -> Option<(u64, u64)> {
        let mut from = from;
        loop {
            let (at, blocks) = self.busy.run(search, from, 1, 1)?;
            let slot = (at / SLOT).saturating_mul(SLOT);
            if (slot..slot.saturating_add(SLOT)).any(|n| self.used.is_set(n)) {
                return Some((at, blocks));
            }
            from = slot.saturating_add(SLOT);
        }
    }

    fn try_new(length: u64) -> Result<Self, NoMem> {
        let busy = Bits::try_new(length)?;
        Ok(Group {
            used: Bits::try_new(length)?,
            dirty: false,
            free: length,
            whole: busy.slots_at(0, length),
            busy,
        })
    }

    /// Its item is to be written. Says whether it was not before, as a number.
    pub(super) fn touch(&mut self) -> u64 {
        u64::from(!core::mem::replace(&mut self.dirty, true))
    }

    /// Changes busy bits by `change`, which says how many; the counts follow.
    fn change(&mut self, at: u64, n: u64, change: impl FnOnce(&mut Self) -> u64) -> Changed {
        let before = self.busy.slots_at(at, n);
        let blocks = change(self);
        let after = self.busy.slots_at(at, n);
        self.whole = self.whole.saturating_sub(before).saturating_add(after);
        Changed {
            blocks,
            before,
            after,
        }
    }
}

/// What a change of busy bits came to.
struct Changed {
    blocks: u64,
    before: u64,
    after: u64,
}

impl Device {
    /// One of which nothing is given out.
    fn without_groups(slot: Slot, blocks: u64) -> Self {
        Device {
            slot,
            domain: 0,
            present: true,
            away: false,
            groups: Vec::new(),
            blocks,
            fixed: Vec::new(),
            managed: 0,
            cursor: 0,
            broken_cursor: 0,
            free: 0,
            whole: 0,
            unused: blocks,
            slots: 0,
            promised: 0,
            share: 0,
            before: (0, 0),
        }
    }

    /// One that does not take part.
    pub(super) fn away(slot: Slot, blocks: u64) -> Self {
        Device {
            present: false,
            away: true,
            ..Self::without_groups(slot, blocks)
        }
    }

    /// One of which it is not known what is used, besides what is never free, in the counts as if nothing were.
    pub(super) fn uncharted(slot: Slot, blocks: u64, fixed: &[(Blocks, Blocks)]) -> Self {
        let mut device = Self::without_groups(slot, blocks);
        (device.free, device.whole) = (blocks, blocks / SLOT);
        for (start, count) in fixed {
            // What only is read may be said to lie beyond the end.
            let end = start.0.saturating_add(count.0).min(blocks);
            let start = start.0.min(end);
            let slots = end.div_ceil(SLOT).saturating_sub(start / SLOT);
            device.free = device.free.saturating_sub(end.saturating_sub(start));
            device.whole = device.whole.saturating_sub(slots);
        }
        device.managed = device.free;
        device
    }

    /// Whether something of these blocks is never free, whoever says that it is.
    pub(super) fn is_fixed(&self, start: u64, count: u64) -> bool {
        let end = start.saturating_add(count);
        let touches =
            |(from, n): &(Blocks, Blocks)| start < from.0.saturating_add(n.0) && from.0 < end;
        self.fixed.iter().any(touches)
    }

    /// Nothing of it is given out, for it is not known what is free.
    pub(super) fn close(&mut self) {
        (self.free, self.whole, self.unused) = (0, 0, 0);
    }

    pub(super) fn try_new(slot: Slot, blocks: u64) -> Result<Self, SpaceError> {
        let mut device = Device {
            managed: blocks,
            free: blocks,
            ..Self::without_groups(slot, blocks)
        };
        for start in (0..blocks).step_by(GROUP as usize) {
            let group = Group::try_new(blocks.saturating_sub(start).min(GROUP))?;
            device.whole = device.whole.saturating_add(group.whole);
            device.groups.push(group)?;
        }
        Ok(device)
    }

    /// Calls `f` with the groups that the blocks lie in, and where in them; no blocks beyond the end.
    pub(super) fn each(
        &mut self,
        start: u64,
        count: u64,
        mut f: impl FnMut(&mut Group, u64, u64) -> u64,
    ) -> Option<u64> {
        let end = start.checked_add(count).filter(|end| *end <= self.blocks)?;
        let mut changed = 0u64;
        let mut at = start;
        while at < end {
            let within = at % GROUP;
            let n = end.saturating_sub(at).min(GROUP.saturating_sub(within));
            let group = self.groups.get_mut(usize::try_from(at / GROUP).ok()?)?;
            changed = changed.saturating_add(f(group, within, n));
            at = at.saturating_add(n);
        }
        Some(changed)
    }

    fn change_busy(
        &mut self,
        start: u64,
        count: u64,
        mut f: impl FnMut(&mut Group, u64, u64) -> u64,
    ) -> Option<Changed> {
        let mut sum = Changed {
            blocks: 0,
            before: 0,
            after: 0,
        };
        self.each(start, count, |group, at, n| {
            let changed = group.change(at, n, |group| f(group, at, n));
            sum.blocks = sum.blocks.saturating_add(changed.blocks);
            sum.before = sum.before.saturating_add(changed.before);
            sum.after = sum.after.saturating_add(changed.after);
            0
        })?;
        self.whole = self
            .whole
            .saturating_sub(sum.before)
            .saturating_add(sum.after);
        Some(sum)
    }

    /// From now on these blocks are not given out; says how many were not so before.
    pub(super) fn occupy(&mut self, start: u64, count: u64) -> Option<u64> {
        let changed = self.change_busy(start, count, |group, at, n| {
            let blocks = group.busy.set(at, n);
            group.free = group.free.saturating_sub(blocks);
            blocks
        })?;
        self.free = self.free.saturating_sub(changed.blocks);
        Some(changed.blocks)
    }

    /// What is used in a group is not given out.
    pub(super) fn occupy_used(&mut self, index: usize) {
        let Some(group) = self.groups.get_mut(index) else {
            return;
        };
        let (free, whole) = (group.free, group.whole);
        group.busy.set_as(&group.used);
        let length = group.busy.length();
        group.free = length.saturating_sub(group.busy.count());
        group.whole = group.busy.slots_at(0, length);
        let (less_free, less_whole) = (
            free.saturating_sub(group.free),
            whole.saturating_sub(group.whole),
        );
        self.free = self.free.saturating_sub(less_free);
        self.whole = self.whole.saturating_sub(less_whole);
    }

    /// Those of the blocks that are not used can be given out again.
    pub(super) fn vacate(&mut self, start: u64, count: u64) -> Option<u64> {
        let changed = self.change_busy(start, count, |group, at, n| {
            let blocks = group.busy.clear_unless(&group.used, at, n);
            group.free = group.free.saturating_add(blocks);
            blocks
        })?;
        self.free = self.free.saturating_add(changed.blocks);
        Some(changed.blocks)
    }

    /// Blocks that can be given out and are promised to nobody.
    pub(super) fn unclaimed(&self) -> u64 {
        if !self.present {
            return 0;
        }
        let nodes = self.slots.saturating_mul(SLOT);
        self.free
            .saturating_sub(nodes)
            .saturating_sub(self.promised)
    }

    /// Blocks that are used, but for what is fixed.
    pub(super) fn used(&self) -> u64 {
        let fixed = self.fixed.iter().map(|(_, blocks)| blocks.0);
        let idle = fixed.fold(self.unused, u64::saturating_add);
        self.blocks.saturating_sub(idle)
    }

    /// Slots that can be promised to nodes, those that are among them.
    pub(super) fn room_for_slots(&self) -> u64 {
        if !self.present {
            return 0;
        }
        let blocks = self.free.saturating_sub(self.promised);
        self.whole.min(blocks / SLOT)
    }

    /// Blocks that can be promised to data, those that are among them.
    pub(super) fn room_for_data(&self) -> u64 {
        if !self.present {
            return 0;
        }
        self.free.saturating_sub(self.slots.saturating_mul(SLOT))
    }

    /// Gives out from `least` to `most` blocks for data: of those that nobody was promised, and of `own` that were promised to the
    /// caller.
    pub(super) fn allocate(&mut self, least: u64, most: u64, own: u64) -> Option<(u64, u64)> {
        let most = most.min(self.unclaimed().saturating_add(own));
        // So many slots at most does a run of that length break.
        let spare = self.whole.saturating_sub(self.slots);
        let unbroken = spare.saturating_mul(SLOT).saturating_sub(SLOT - 1);
        if most < least {
            return None;
        }
        if unbroken >= least {
            let found = match () {
                // Whoever was promised blocks takes them in any pieces.
                () if own != 0 && self.is_short() => self.find_nearby_in_broken(1, most),
                () if most < SLOT && self.saves_slots() => self.find_nearby_in_broken(most, most),
                () => None,
            };
            return found.or_else(|| self.find(Search::Anywhere, least, most.min(unbroken)));
        }
        self.find(Search::InBrokenSlots, least, most)
    }

    /// Whether so much of the device is used or broken that nodes may run short of slots while there is room for data.
    fn saves_slots(&self) -> bool {
        self.whole.saturating_mul(2 * SLOT) < self.managed
    }

    /// Whether so few slots are whole, beside those that were promised, that nodes run short of them soon.
    pub(super) fn is_short(&self) -> bool {
        let spare = self.whole.saturating_sub(self.slots);
        spare.saturating_mul(SHORT_IN * SLOT) < self.managed
    }

    /// Blocks that can be given out in slots of which others cannot, group by group, where there are any.
    pub(super) fn broken(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let broken = |g: &Group| g.free.saturating_sub(g.whole.saturating_mul(SLOT));
        let all = (0..)
            .zip(self.groups.iter())
            .map(move |(n, g)| (n, broken(g)));
        all.filter(|(_, blocks)| *blocks != 0)
    }

    /// How many blocks of a slot are used, by what committed.
    pub(super) fn used_in(&self, slot: u64) -> u64 {
        let first = slot.saturating_mul(SLOT);
        let group = self.groups.get((first / GROUP) as usize);
        let is_used = |n: &u64| {
            let at = first.saturating_add(*n) % GROUP;
            group.is_none_or(|g| g.used.is_set(at))
        };
        (0..SLOT).filter(is_used).count() as u64
    }

    /// What can be given out of a slot is not given out any more. Says what that was, if there is enough beside what was promised.
    pub(super) fn hold(&mut self, slot: u64) -> Option<[Option<u64>; SLOT as usize]> {
        let mut held = [None; SLOT as usize];
        if !self.present || self.unclaimed() < SLOT {
            return None;
        }
        for (n, held) in (0..).zip(held.iter_mut()) {
            let at = slot.saturating_mul(SLOT).saturating_add(n);
            if self.occupy(at, 1) == Some(1) {
                *held = Some(at);
            }
        }
        Some(held)
    }

    /// Gives out a block in a slot of which others cannot be given out, the last such of its slot if there is one.
    pub(super) fn allocate_hole(&mut self) -> Option<u64> {
        if self.unclaimed() == 0 {
            return None;
        }
        for search in [Search::LastOfSlots, Search::InBrokenSlots] {
            let found = self.search(self.broken_cursor, |group, from| {
                let broken = group.free > group.whole.saturating_mul(SLOT);
                broken.then(|| group.hole(search, from))?
            });
            if let Some((start, _)) = found {
                self.occupy(start, 1)?;
                self.broken_cursor = start.saturating_add(1);
                return Some(start);
            }
        }
        None
    }

    fn find(&mut self, search: Search, least: u64, most: u64) -> Option<(u64, u64)> {
        let from = self.cursor;
        let (start, length) = self.search(from, |group, from| {
            let enough = group.free >= least;
            enough.then(|| group.busy.run(search, from, least, most))?
        })?;
        self.occupy(start, length)?;
        self.cursor = start.saturating_add(length);
        Some((start, length))
    }

    /// From `least` to `most` blocks in broken slots, if there are any in the next groups.
    fn find_nearby_in_broken(&mut self, least: u64, most: u64) -> Option<(u64, u64)> {
        let from = self.broken_cursor;
        let mut looked = 0u64;
        let found = self.search(from, |group, from| {
            let broken = group.free.saturating_sub(group.whole.saturating_mul(SLOT));
            if broken < least || looked >= NEARBY {
                return None;
            }
            looked = looked.saturating_add(1);
            group.busy.run(Search::InBrokenSlots, from, least, most)
        });
        let Some((start, length)) = found else {
            // Others look elsewhere.
            let further = from.saturating_add(NEARBY.saturating_mul(GROUP));
            self.broken_cursor = further.checked_rem(self.blocks).unwrap_or(0);
            return None;
        };
        self.occupy(start, length)?;
        self.broken_cursor = start.saturating_add(length);
        Some((start, length))
    }

    /// Gives out a slot for a node; if `far` from a place, then beginning the search half a device behind it.
    pub(super) fn allocate_slot(&mut self, far: Option<u64>) -> Option<u64> {
        let half = self.blocks / 2;
        let from = match far {
            Some(at) if at < half => at.saturating_add(half),
            Some(at) => at.saturating_sub(half),
            None => self.cursor,
        };
        let (start, _) = self.search(from, |group, from| {
            (group.whole != 0).then(|| group.busy.slot(from).map(|at| (at, SLOT)))?
        })?;
        self.occupy(start, SLOT)?;
        if far.is_none() {
            self.cursor = start.saturating_add(SLOT);
        }
        Some(start)
    }

    /// What `look` finds first from a block on, round the device. A group's answer is counted from its begin.
    fn search(
        &self,
        from: u64,
        mut look: impl FnMut(&Group, u64) -> Option<(u64, u64)>,
    ) -> Option<(u64, u64)> {
        let count = self.groups.len();
        let first = usize::try_from(from / GROUP).ok()?;
        // The group of the beginning comes twice: from there on, and at last its own begin.
        for n in 0..=count {
            let index = first.saturating_add(n).checked_rem(count)?;
            let within = if n == 0 { from % GROUP } else { 0 };
            let group = self.groups.get(index)?;
            if let Some((begin, length)) = look(group, within) {
                let start = (index as u64).saturating_mul(GROUP).saturating_add(begin);
                return Some((start, length));
            }
        }
        None
    }
}
