// SPDX-License-Identifier: GPL-2.0

//! Whether there are as many copies of a thing as the volume promises, each on a device of its own.

use super::Check;
use super::Finding;
use super::Observer;
use super::Use;
use crate::format::member::Members;
use crate::format::pointer::Places;
use crate::volume::mounted::Machine;

/// The number of a volume's first epoch: its members never changed.
const FIRST_EPOCH: u64 = 1;

impl<M: Machine, O: Observer> Check<'_, M, O> {
    /// Looks at where the copies are of a thing that is to survive so many losses.
    pub(super) fn copies(&mut self, what: Use, places: &Places, losses: u8) {
        let wanted = usize::from(losses).saturating_add(1);
        let never_changed = self.mounted.epoch().number == FIRST_EPOCH;
        let mut on = Members::default();
        let mut together = None;
        for place in places.iter() {
            if on.has(place.device) {
                together = Some(place.device);
            }
            // A device that the volume does not have is a finding of its own.
            if self.mounted.nodes().has_member(place.device) {
                on = on.with(place.device);
            }
        }
        let has = on.count() as usize;
        // Nodes have two places always, on one device if there is no other.
        let is_alone = has == 1 && matches!(what, Use::Node(..));
        let is_right = wanted == 1 || is_alone && !never_changed;
        if let Some(device) = together.filter(|_| !is_right) {
            self.found(Finding::Together(what, device));
        }
        self.enough(what, has, losses);
    }

    /// So many devices would all have to be lost for this to be lost: whether that is as many as it should be.
    pub(super) fn enough(&mut self, what: Use, has: usize, losses: u8) {
        let wanted = usize::from(losses).saturating_add(1);
        let never_changed = self.mounted.epoch().number == FIRST_EPOCH;
        if has < wanted {
            // What a device does not take of a file has fewer copies, and that may be known before the device is given up.
            let is_data = matches!(what, Use::Engram(_) | Use::Stripe(_));
            self.found(match never_changed && !is_data {
                true => Finding::TooFew(what, has, wanted),
                false => Finding::Fewer(what, has, wanted),
            });
        }
    }
}
