// SPDX-License-Identifier: GPL-2.0

//! What is discarded of free space, and kept from being given out until that is done. Blocks that were freed are *due* once they
//! could be given out; whoever discards takes some of them, or some that have been free for long, and says when he is done. Whoever
//! lacks space gets back what is due as it is. It never talks to a device.

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::space::bits::Search;
use crate::space::bits::SLOT;
use crate::space::device::Device;
use crate::space::Pending;
use crate::space::Space;
use crate::space::State;
use crate::space::GROUP;
use crate::units::Blocks;
use crate::units::Generation;
use embr_rt::Vec;

/// Runs that are discarded before somebody else comes to his turn.
const RUNS: usize = 256;
/// The same in blocks: 64 MiB. One run may have more.
const BLOCKS: u64 = 16384;
/// With fewer to spare, free space is left as it is: it would be gone through in crumbs.
const ENOUGH: u64 = 256;
/// More than so many runs do not wait to be discarded: they are remembered one by one.
const MOST_DUE: usize = 32768;

/// How far blocks are that were freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// A root that may be mounted needs them, or a reader does.
    Needed,
    /// Nobody does: they are to be discarded.
    Due,
    /// They are being discarded.
    Going,
}

/// What is wanted of discards, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Discards {
    /// The shortest run that is worth it, in blocks; none where nothing is to be discarded.
    least: Option<u64>,
    /// How often space that waited came back.
    returned: u64,
}

/// Runs of free blocks that nobody is given until they are discarded.
#[derive(Debug)]
pub struct Taken {
    /// In the order in which they lie.
    pub runs: Vec<Extent>,
    /// Where to look for more.
    pub next: Blocks,
}

impl Device {
    /// The longest run that breaks no slot which a node was promised, and takes nothing that data were.
    fn spare(&self) -> u64 {
        let slots = self.whole.saturating_sub(self.slots);
        let unbroken = slots.saturating_mul(SLOT).saturating_sub(SLOT - 1);
        self.unclaimed().min(unbroken)
    }

    /// The first free run of so many blocks between these two places.
    fn spare_run(&mut self, from: u64, end: u64, least: u64, most: u64) -> Option<(u64, u64)> {
        let most = most.min(self.spare());
        let mut at = from;
        while at < end && most >= least {
            let group = self.groups.get(usize::try_from(at / GROUP).ok()?)?;
            let base = at.saturating_sub(at % GROUP);
            let run = group.busy.run(Search::Anywhere, at % GROUP, least, most);
            if let Some((begin, length)) = run {
                let start = base.saturating_add(begin);
                let length = length.min(end.saturating_sub(start));
                if length < least {
                    return None;
                }
                self.occupy(start, length)?;
                return Some((start, length));
            }
            at = base.saturating_add(GROUP);
        }
        None
    }
}

impl State {
    pub(super) fn is_any(&self, stage: Stage) -> bool {
        self.pending.iter().any(|p| p.stage == stage)
    }

    /// The root of `generation` is durable: what the one before it did not need is due, or can be given out.
    pub(super) fn make_due(&mut self, generation: Generation) {
        let State {
            devices,
            pending,
            discards,
            ..
        } = self;
        let mut room = match discards.least {
            Some(_) => MOST_DUE,
            None => 0,
        };
        let waiting = pending.iter().filter(|p| p.stage == Stage::Due).count();
        room = room.saturating_sub(waiting);
        let before = pending.len();
        pending.retain_mut(|p| {
            if p.stage != Stage::Needed || p.generation >= generation {
                return true;
            }
            let Some(device) = devices.iter_mut().find(|d| d.slot == p.extent.device) else {
                return false;
            };
            if device.present && room != 0 {
                p.stage = Stage::Due;
                room = room.saturating_sub(1);
                return true;
            }
            device.vacate(p.extent.start.0, p.extent.blocks.0);
            false
        });
        if pending.len() != before {
            discards.returned = discards.returned.wrapping_add(1);
        }
    }

    /// What is at this stage can be given out. Says whether there was any.
    fn let_go(&mut self, stage: Stage) -> bool {
        let State {
            devices,
            pending,
            discards,
            ..
        } = self;
        let before = pending.len();
        pending.retain(|p| {
            if p.stage != stage {
                return true;
            }
            if let Some(device) = devices.iter_mut().find(|d| d.slot == p.extent.device) {
                device.vacate(p.extent.start.0, p.extent.blocks.0);
            }
            false
        });
        let any = pending.len() != before;
        if any {
            discards.returned = discards.returned.wrapping_add(1);
        }
        any
    }

    /// What is due is not discarded. Says whether anything was.
    pub(super) fn spare_due(&mut self) -> bool {
        self.let_go(Stage::Due)
    }
}

impl Space {
    /// From now on, what is freed is discarded before it is given out again, where at least so many blocks lie together; without a
    /// number nothing is.
    pub fn set_discard(&self, least: Option<Blocks>) {
        let mut state = self.state.lock();
        state.discards.least = least.map(|n| n.0.max(1));
        if least.is_none() && state.spare_due() {
            state.fill_reserve();
        }
    }

    /// The shortest run that is discarded when it was freed; none where nothing is.
    pub fn discard(&self) -> Option<Blocks> {
        self.state.lock().discards.least.map(Blocks)
    }

    /// Whether anything waits to be discarded.
    pub fn is_due(&self) -> bool {
        self.state.lock().is_any(Stage::Due)
    }

    /// Gives back what waits to be discarded as it is. Says whether there was any.
    pub fn spare_due(&self) -> bool {
        let mut state = self.state.lock();
        let any = state.spare_due();
        if any {
            state.fill_reserve();
        }
        any
    }

    /// Whether anything is being discarded, and a number that changes whenever space comes back that nobody could be given.
    pub fn returning(&self) -> (bool, u64) {
        let state = self.state.lock();
        (state.is_any(Stage::Going), state.discards.returned)
    }

    /// Some of what waits to be discarded, joined where it lies together, as long runs as are wanted; shorter ones go with them and are
    /// just given back. Nobody is given any of it before [`Self::discarded`] is called, once for each time that this gave something.
    pub fn take_due(&self) -> Result<Option<Vec<Extent>>, NoMem> {
        let mut runs = Vec::try_with_capacity(RUNS)?;
        let mut state = self.state.lock();
        let least = state.discards.least.unwrap_or(u64::MAX);
        let mut blocks = 0u64;
        for p in state.pending.iter_mut().filter(|p| p.stage == Stage::Due) {
            if blocks >= BLOCKS || runs.push_within_capacity(p.extent).is_err() {
                break;
            }
            blocks = blocks.saturating_add(p.extent.blocks.0);
            p.stage = Stage::Going;
        }
        drop(state);
        if runs.is_empty() {
            return Ok(None);
        }
        join(&mut runs);
        runs.retain(|e| e.blocks.0 >= least);
        Ok(Some(runs))
    }

    /// Takes some of the runs of at least so many blocks that are free between these places of a device, and that nobody needs for a
    /// moment; a run ends where a group does. As with [`Self::take_due`], nobody is given any of it before
    /// [`Self::discarded`] is called.
    pub fn take_free(
        &self,
        device: Slot,
        (from, end): (Blocks, Blocks),
        least: Blocks,
    ) -> Result<Taken, NoMem> {
        let mut runs = Vec::try_with_capacity(RUNS)?;
        let mut next = from.0;
        let least = least.0.max(1);
        let mut state = self.state.lock();
        // Who wants space meanwhile finds as much as is taken.
        let spare = state.device(device).map_or(0, |d| d.spare() / 2);
        let mut left = match spare {
            ENOUGH.. => BLOCKS.max(least).min(spare),
            _ => 0,
        };
        while runs.len() < RUNS {
            // Frees that were announced have their room.
            let room = state.announced.saturating_add(1);
            if state.pending.try_reserve(room).is_err() {
                break;
            }
            let place = state.device(device).filter(|d| d.present);
            let run = place.and_then(|d| d.spare_run(next, end.0, least, left));
            let Some((start, blocks)) = run else {
                // Once these are given back there may be more to spare.
                if runs.is_empty() {
                    next = end.0;
                }
                break;
            };
            let extent = Extent {
                device,
                start: Blocks(start),
                blocks: Blocks(blocks),
            };
            next = start.saturating_add(blocks);
            left = left.saturating_sub(blocks);
            // There is room for both.
            let pending = Pending {
                generation: Generation(0),
                extent,
                stage: Stage::Going,
            };
            let _ = state.pending.push_within_capacity(pending);
            let _ = runs.push_within_capacity(extent);
        }
        drop(state);
        if runs.is_empty() && next != end.0 {
            return Err(NoMem);
        }
        let next = Blocks(next);
        Ok(Taken { runs, next })
    }

    /// All that was taken to be discarded can be given out again.
    pub fn discarded(&self) {
        let mut state = self.state.lock();
        if state.let_go(Stage::Going) {
            state.fill_reserve();
        }
    }
}

/// Puts runs in order, and those that lie together into one.
fn join(runs: &mut Vec<Extent>) {
    runs.sort_unstable_by_key(|e| (e.device, e.start.0));
    let mut last: Option<Extent> = None;
    // From the end on, so that each is joined with all that follows it.
    for run in runs.iter_mut().rev() {
        let end = run.start.0.saturating_add(run.blocks.0);
        if let Some(next) = last.filter(|n| n.device == run.device && n.start.0 == end) {
            run.blocks = Blocks(run.blocks.0.saturating_add(next.blocks.0));
        }
        last = Some(*run);
    }
    let mut reached: Option<(Slot, u64)> = None;
    runs.retain(|run| {
        let end = run.start.0.saturating_add(run.blocks.0);
        let within = reached.is_some_and(|(d, to)| d == run.device && run.start.0 < to);
        if !within {
            reached = Some((run.device, end));
        }
        !within
    });
}
