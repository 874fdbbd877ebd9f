// SPDX-License-Identifier: GPL-2.0

//! Slots of which some blocks are used and others free: nodes cannot have them. Who moves the used ones elsewhere, block by block, holds the
//! free ones meanwhile, so that nobody is given them.

use super::Space;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::space::discard::Stage;
use crate::space::Pending;
use crate::units::Blocks;
use embr_rt::Vec;

/// The blocks of one item of the tree of free space, on a device, and how many of them lie free in slots of which others do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Broken {
    pub(crate) device: Slot,
    pub(crate) group: u64,
    pub(crate) free: u64,
}

impl Space {
    /// Where slots are broken, on devices that run short of whole ones.
    pub(crate) fn broken(&self) -> Result<Vec<Broken>, crate::error::NoMem> {
        let state = self.state.lock();
        let mut all = Vec::new();
        for device in state.devices.iter().filter(|d| d.present && d.is_short()) {
            for (group, free) in device.broken() {
                let device = device.slot;
                all.push(Broken {
                    device,
                    group,
                    free,
                })?;
            }
        }
        Ok(all)
    }

    /// How many blocks of a slot are used, by what committed.
    pub(crate) fn used_in(&self, device: Slot, slot: u64) -> u64 {
        let mut state = self.state.lock();
        let device = state.device(device);
        device.map_or(super::SLOT, |device| device.used_in(slot))
    }

    /// What is free of a slot is given to nobody until it [goes back](Self::give_back), or goes [with what else is freed](Self::free_with).
    /// None where that cannot be spared. Room for all of it must be there in `held`.
    pub(crate) fn hold(&self, device: Slot, slot: u64, held: &mut Vec<Extent>) -> Option<()> {
        let mut state = self.state.lock();
        let all = state.device(device)?.hold(slot)?;
        for start in all.into_iter().flatten() {
            let _ = held.push_within_capacity(Extent {
                device,
                start: Blocks(start),
                blocks: Blocks(1),
            });
        }
        Some(())
    }

    /// Gives out one block where others of its slot are used, on a device. Whoever gets it commits or gives it back.
    pub(crate) fn allocate_hole(&self, device: Slot) -> Option<Extent> {
        let mut state = self.state.lock();
        // No node could lie there.
        let start = state.device(device)?.allocate_hole()?;
        Some(Extent {
            device,
            start: Blocks(start),
            blocks: Blocks(1),
        })
    }

    /// What is held of a slot can be given out once that can be which a transaction just freed of it.
    pub(crate) fn free_with(&self, held: Extent) {
        let mut state = self.state.lock();
        let announced = state.announced.saturating_add(1);
        if state.pending.try_reserve(announced).is_err() {
            return state.give_back(held);
        }
        let generation = state.next;
        let _ = state.pending.push_within_capacity(Pending {
            generation,
            extent: held,
            stage: Stage::Needed,
        });
    }
}
