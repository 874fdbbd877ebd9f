// SPDX-License-Identifier: GPL-2.0

//! What is promised of free space: to the nodes that transactions will make necessary, to the checkpoint that writes them, to data
//! that wait to be written.

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::pointer::COPIES;
use crate::space::bits::SLOT;
use crate::space::discard::Stage;
use crate::space::promise::Promise;
use crate::space::reserve::Change;
use crate::space::reserve::Reserve;
use crate::space::share;
use crate::space::Ledger;
use crate::space::Purpose;
use crate::space::Remedy;
use crate::space::Space;
use crate::space::State;
use crate::units::Blocks;
use crate::units::Generation;
use embr_rt::Arc;
use embr_rt::Vec;

/// Nodes that a transaction which commits was given: from its promise, and from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Granted {
    promised: u64,
    other: u64,
    /// What had been changed before, and for how many of the nodes that are there.
    before: (Change, u64),
}

impl State {
    /// The device for another copy beside those that were placed, where so many are left to be placed: one with the highest share, in a
    /// failure domain that has the fewest of them if the shares allow it. It must have `least`, and after that nobody more than `most`.
    pub(super) fn next_copy(
        &self,
        (placed, left): (&[Extent], u64),
        (least, most): (u64, u64),
        share: impl Fn(&super::Device) -> u64,
    ) -> Option<usize> {
        let fresh = |d: &super::Device| placed.iter().all(|e| e.device != d.slot);
        let all = || {
            let all = self.devices.iter().enumerate();
            all.filter(|(_, d)| fresh(d) && share(d) != 0)
        };
        let full = all().filter(|(_, d)| share(d) > most).count() as u64;
        let free = all().filter(|(_, d)| share(d) >= least && full < left);
        let best = free.min_by_key(|(_, d)| {
            let together = self.in_domain(d.domain, placed);
            (together, core::cmp::Reverse(share(d)))
        });
        let best = best.or_else(|| all().max_by_key(|(_, d)| share(d)));
        best.map(|(at, _)| at)
    }

    /// Places for one run of blocks of each copy of what was promised: how many blocks, from one to `most`.
    fn allocate_promised(&mut self, most: u64, out: &mut Vec<Extent>) -> Option<u64> {
        let count = self.claims.data.count;
        let before = out.len();
        let mut blocks = most;
        for n in 0..count {
            let placed = out.get(before..).unwrap_or_default();
            // Runs do not get much shorter for the sake of failure domains.
            let least = (blocks / 4).max(1);
            let most = self.claims.blocks.saturating_sub(least);
            let left = count.saturating_sub(n);
            let at = self.next_copy((placed, left), (least, most), |d| d.promised)?;
            let device = self.devices.get(at)?;
            let (slot, promised) = (device.slot, device.promised);
            let place = Extent {
                device: slot,
                start: Blocks(0),
                blocks: Blocks(0),
            };
            blocks = blocks.min(promised);
            out.push_within_capacity(place).ok()?;
        }
        // What the other devices have must still be enough for what remains.
        let placed = out.get(before..).unwrap_or_default();
        let others = (self.devices.iter()).filter(|d| placed.iter().all(|e| e.device != d.slot));
        let beyond = others.map(|d| d.promised).max().unwrap_or(0);
        blocks = blocks.min(self.claims.blocks.saturating_sub(beyond));
        for place in out.iter_mut().skip(before) {
            let device = self.devices.iter_mut().find(|d| d.slot == place.device)?;
            // As long a run as there is, within reason.
            let tries = [blocks, blocks / 8, 1];
            let found =
                (tries.iter()).find_map(|least| device.allocate((*least).max(1), blocks, blocks));
            let (start, length) = found?;
            place.start = Blocks(start);
            place.blocks = Blocks(length);
            blocks = blocks.min(length);
        }
        for place in out.iter_mut().skip(before) {
            let device = self.devices.iter_mut().find(|d| d.slot == place.device)?;
            let surplus = place.blocks.0.saturating_sub(blocks);
            device.vacate(place.start.0.saturating_add(blocks), surplus);
            device.promised = device.promised.saturating_sub(blocks);
            place.blocks = Blocks(blocks);
        }
        self.claims.blocks = self.claims.blocks.saturating_sub(blocks);
        Some(blocks)
    }

    /// Fills what is kept for cleaning as far as there is room. Says whether it is full.
    pub(super) fn fill_cleaning(&mut self) -> bool {
        let State {
            devices, claims, ..
        } = self;
        let (kept, wanted) = claims.cleaning;
        let missing = wanted.saturating_sub(kept);
        let mut more = missing;
        while more != 0 && !share::claim_blocks(devices, claims.data, claims.blocks, more) {
            more /= 2;
        }
        claims.blocks = claims.blocks.saturating_add(more);
        claims.cleaning.0 = kept.saturating_add(more);
        more == missing
    }

    /// Divides what is promised to data among the devices; in fewer copies where a device was lost, and the others have not the room.
    pub(super) fn divide_data_anew(&mut self) {
        let State {
            devices, claims, ..
        } = self;
        while !share::claim_blocks(devices, claims.data, claims.blocks, 0) {
            let Some(fewer) = claims.data.count.checked_sub(1).filter(|n| *n != 0) else {
                break;
            };
            claims.data.count = fewer;
        }
    }

    /// What is kept for cleaning is nobody's for the moment.
    pub(super) fn lend_cleaning(&mut self) {
        let State {
            devices, claims, ..
        } = self;
        let kept = core::mem::take(&mut claims.cleaning.0);
        share::release_blocks(devices, claims.data, claims.blocks, kept);
        claims.blocks = claims.blocks.saturating_sub(kept);
    }
}

impl Space {
    /// From now on so many blocks are kept for cleaning, beside what is promised, once there is room.
    pub fn keep_for_cleaning(&self, blocks: Blocks) {
        let mut state = self.state.lock();
        state.claims.cleaning.1 = blocks.0;
        state.fill_cleaning();
    }

    /// Whether more than what is kept for cleaning is left, to whoever comes.
    pub fn is_roomy(&self) -> bool {
        let state = self.state.lock();
        let (kept, wanted) = state.claims.cleaning;
        let unclaimed = state
            .devices
            .iter()
            .fold(0u64, |n, d| n.saturating_add(d.unclaimed()));
        let copies = state.claims.data.count;
        kept >= wanted && unclaimed > wanted.saturating_mul(copies)
    }

    /// Gives a transaction that is about to commit the nodes that its checkpoint may need. Its promise gives only what is not there
    /// otherwise: most of them come back with the checkpoint, to whoever asks first, and the next one under that promise needs some too.
    pub fn grant(
        &self,
        change: Change,
        purpose: Purpose,
        promise: Option<&mut Promise>,
    ) -> Option<Granted> {
        let mut state = self.state.lock();
        let before = state.claims.changed;
        let (replaced, new) = state.claims.needed(change);
        let nodes = replaced.saturating_add(new);
        let promised = match &promise {
            Some(promise) => promise.nodes.min(state.missing(nodes)),
            None => 0,
        };
        let other = nodes.saturating_sub(promised);
        if !state.claim(other, purpose) {
            return None;
        }
        if let Some(promise) = promise {
            promise.nodes = promise.nodes.saturating_sub(promised);
            state.claims.promised = state.claims.promised.saturating_sub(promised);
        }
        state.claims.active = state.claims.active.saturating_add(nodes);
        state.claims.changed = (before.0.and(change), before.1.saturating_add(replaced));
        Some(Granted {
            promised,
            other,
            before,
        })
    }

    /// The transaction did not commit; no other one was granted anything since.
    pub fn revoke(&self, granted: Granted, promise: Option<&mut Promise>) {
        let mut state = self.state.lock();
        let mut all = granted.other;
        state.claims.changed = granted.before;
        match promise {
            Some(promise) => {
                promise.nodes = promise.nodes.saturating_add(granted.promised);
                let claims = &mut state.claims;
                claims.promised = claims.promised.saturating_add(granted.promised);
            }
            None => all = all.saturating_add(granted.promised),
        }
        let granted = granted.promised.saturating_add(granted.other);
        state.claims.active = state.claims.active.saturating_sub(granted);
        state.release(all);
    }

    /// Mounting, when it is known what is free: the reserve is filled, and gets the nodes that what was replayed may need. They were promised
    /// before the crash, so that they are there.
    pub fn adopt(&self, change: Change) {
        let mut state = self.state.lock();
        state.fill_at_first();
        let claims = &state.claims;
        let (replaced, new) = claims.needed(change);
        let nodes = replaced.saturating_add(new);
        let nodes = share::claimable_nodes(&state.devices, claims.nodes, nodes);
        let State {
            devices, claims, ..
        } = &mut *state;
        if share::claim_nodes(devices, claims.nodes, nodes) {
            claims.active = claims.active.saturating_add(nodes);
            claims.changed = (change, replaced);
        }
    }

    /// Promises room for so many blocks of data and what comes of them, if it is there.
    pub fn promise(this: &Arc<Self>, blocks: Blocks) -> Option<Promise> {
        Self::promise_both(this, blocks, Promise::nodes_for(blocks))
    }

    /// Promises room for so many nodes by which trees may grow, if it is there.
    pub fn promise_nodes(this: &Arc<Self>, nodes: u64) -> Option<Promise> {
        Self::promise_both(this, Blocks(0), nodes)
    }

    fn promise_both(this: &Arc<Self>, blocks: Blocks, nodes: u64) -> Option<Promise> {
        let mut state = this.state.lock();
        if blocks.0 != 0 && !state.fill_cleaning() || !state.claim(nodes, Purpose::Taking) {
            return None;
        }
        let State {
            devices, claims, ..
        } = &mut *state;
        if !share::claim_blocks(devices, claims.data, claims.blocks, blocks.0) {
            state.release(nodes);
            return None;
        }
        claims.blocks = claims.blocks.saturating_add(blocks.0);
        claims.promised = claims.promised.saturating_add(nodes);
        Some(Promise {
            space: this.clone(),
            blocks: blocks.0,
            nodes,
        })
    }

    /// Takes back what is left of a promise.
    pub(super) fn forgo(&self, blocks: u64, nodes: u64) {
        let mut state = self.state.lock();
        let State {
            devices, claims, ..
        } = &mut *state;
        share::release_blocks(devices, claims.data, claims.blocks, blocks);
        claims.blocks = claims.blocks.saturating_sub(blocks);
        claims.promised = claims.promised.saturating_sub(nodes);
        state.release(nodes);
    }

    /// Gives out blocks of a promise: one run of so many blocks, at least one and at most `most`, for each copy, each on a device of
    /// its own. None only where nothing is left of the promise. Whoever gets them commits or [returns](Self::give_back_to) them.
    pub fn allocate_promised(
        &self,
        promise: &mut Promise,
        most: Blocks,
        out: &mut Vec<Extent>,
    ) -> Result<Option<Blocks>, NoMem> {
        out.try_reserve(COPIES)?;
        let most = most.0.min(promise.blocks);
        if most == 0 {
            return Ok(None);
        }
        let mut state = self.state.lock();
        let blocks = state.allocate_promised(most, out);
        promise.blocks = promise.blocks.saturating_sub(blocks.unwrap_or(0));
        Ok(blocks.map(Blocks))
    }

    /// Takes back what was given out of a promise, all copies of a run, and never committed: it is promised again.
    pub fn give_back_to(&self, promise: &mut Promise, copies: &[Extent]) {
        let mut state = self.state.lock();
        for extent in copies {
            state.give_back(*extent);
        }
        let blocks = copies.first().map_or(0, |e| e.blocks.0);
        state.claims.blocks = state.claims.blocks.saturating_add(blocks);
        promise.blocks = promise.blocks.saturating_add(blocks);
        let as_before = copies.len() as u64 == state.claims.data.count
            && copies.iter().all(|e| state.is_present(e.device));
        if as_before {
            for extent in copies {
                if let Some(device) = state.device(extent.device) {
                    device.promised = device.promised.saturating_add(extent.blocks.0);
                }
            }
        } else {
            // A device was lost since they were given out.
            state.divide_data_anew();
        }
    }

    /// Gives a checkpoint places for one node, from what its transactions were granted and then from the reserve. Room in `out` for
    /// all copies must be there.
    pub fn place(&self, out: &mut Vec<Extent>) -> bool {
        let mut state = self.state.lock();
        let claims = &mut state.claims;
        let (frozen, kept) = &mut claims.built;
        if let Some(left) = claims.frozen.checked_sub(1) {
            claims.frozen = left;
            *frozen = frozen.saturating_add(1);
        } else if let Some(left) = claims.kept.checked_sub(1) {
            claims.kept = left;
            *kept = kept.saturating_add(1);
        } else {
            return false;
        }
        state.place(out).is_some()
    }

    /// The checkpoint came to nothing: its places are free, and promised to it as before.
    pub fn unplace(&self, places: &[Extent]) {
        let mut state = self.state.lock();
        for extent in places {
            state.unplace(*extent);
        }
        let claims = &mut state.claims;
        let (frozen, kept) = core::mem::take(&mut claims.built);
        claims.frozen = claims.frozen.saturating_add(frozen);
        claims.kept = claims.kept.saturating_add(kept);
    }

    /// Nodes of all trees in the newest root.
    pub fn nodes(&self) -> u64 {
        self.state.lock().claims.there
    }

    /// Nodes that there are once those that the checkpoint has placed have taken the place of so many.
    pub fn nodes_after(&self, replaced: u64) -> u64 {
        let state = self.state.lock();
        let (frozen, kept) = state.claims.built;
        let all = state
            .claims
            .there
            .saturating_add(frozen)
            .saturating_add(kept);
        all.saturating_sub(replaced)
    }

    /// Mounting: there are so many nodes. What is kept back is filled once it is known [what is free](Self::adopt).
    pub fn begin(&self, nodes: u64) {
        self.state.lock().claims.there = nodes;
    }

    /// The checkpoint came about, and there are so many nodes: what it was granted and did not need goes back.
    pub fn settle(&self, nodes: u64) {
        let mut state = self.state.lock();
        state.claims.there = nodes;
        let (_, overdrawn) = core::mem::take(&mut state.claims.built);
        state.claims.overdrawn = state.claims.overdrawn.max(overdrawn);
        state.claims.items.1 = 0;
        let rest = core::mem::take(&mut state.claims.frozen);
        state.release(rest);
    }

    /// What would bring space back, if `newest` is the newest root.
    pub fn remedy(&self, newest: Generation) -> Remedy {
        let state = self.state.lock();
        let claims = &state.claims;
        let is_above = |p: &super::Pending| p.generation > newest;
        let is_newest = |p: &super::Pending| p.generation == newest;
        if claims.active != 0 || claims.frozen != 0 || state.pending.iter().any(is_above) {
            return Remedy::Checkpoint;
        }
        if state.pending.iter().any(is_newest) {
            return Remedy::Root;
        }
        match state.is_any(Stage::Needed) {
            true => Remedy::Wait,
            false => Remedy::Nothing,
        }
    }

    /// Whether readers of old nodes hold space that would be free otherwise, if `newest` is the newest root.
    pub fn is_held(&self, newest: Generation) -> bool {
        let state = self.state.lock();
        state.pending.iter().any(|p| p.generation < newest)
    }

    /// Whether what transactions were granted is more than what is left: a checkpoint gives most of it back.
    pub fn is_tight(&self) -> bool {
        let state = self.state.lock();
        let claims = &state.claims;
        let granted = claims.active.saturating_add(claims.frozen);
        granted != 0 && share::claimable_nodes(&state.devices, claims.nodes, granted) < granted
    }

    /// Nodes that the next checkpoints may write at most.
    pub fn granted(&self) -> u64 {
        let state = self.state.lock();
        let claims = &state.claims;
        let granted = claims.active.saturating_add(claims.frozen);
        let (items, frozen) = claims.items;
        let there = claims.there.saturating_add(granted).saturating_mul(2);
        let own = claims
            .reserve
            .own(items.saturating_add(frozen), there)
            .saturating_mul(2);
        granted.saturating_add(own)
    }

    /// How many copies of a node there are.
    pub fn node_copies(&self) -> u64 {
        self.state.lock().claims.nodes.count
    }

    /// How many copies of data there are.
    pub fn copies(&self) -> usize {
        self.state.lock().claims.data.count as usize
    }

    /// What is promised.
    pub fn ledger(&self) -> Ledger {
        let state = self.state.lock();
        let claims = &state.claims;
        let granted = claims.active.saturating_add(claims.frozen);
        let nodes = claims
            .kept
            .saturating_add(granted)
            .saturating_add(claims.promised);
        let is_there = |d: &super::Device| {
            let all = d.slots.saturating_mul(SLOT).saturating_add(d.promised);
            d.slots <= d.whole && all <= d.free
        };
        Ledger {
            reserve: claims.reserve,
            kept: claims.kept,
            granted,
            promised: (
                Blocks(claims.blocks.saturating_sub(claims.cleaning.0)),
                claims.promised,
            ),
            overdrawn: claims.overdrawn,
            balanced: state.devices.iter().all(is_there)
                && claims
                    .nodes
                    .holds(state.devices.iter().map(|d| d.slots), nodes)
                && claims
                    .data
                    .holds(state.devices.iter().map(|d| d.promised), claims.blocks),
        }
    }

    /// The reserve of this volume.
    pub fn reserve(&self) -> Reserve {
        self.state.lock().claims.reserve
    }

    /// From now on so many nodes are kept for removing what others see as well. If there is no room for that, and it `must` be, all stays as
    /// it was, and this says no.
    pub(crate) fn keep_for_removal(&self, nodes: u64, must: bool) -> bool {
        let mut state = self.state.lock();
        let before = state.claims.reserve;
        if must && nodes > before.most_removal() {
            return false;
        }
        state.claims.reserve = before.with_removal(nodes);
        let is_full = state.fill_reserve();
        if !is_full && must {
            state.claims.reserve = before;
        }
        state.lend_reserve();
        is_full || !must
    }

    /// No more nodes than these have to be kept for that from now on.
    pub(crate) fn keep_less_for_removal(&self, nodes: u64) {
        let mut state = self.state.lock();
        let before = state.claims.reserve;
        if nodes < before.removal {
            state.claims.reserve = before.with_removal(nodes);
            state.fill_reserve();
            state.lend_reserve();
        }
    }
}
