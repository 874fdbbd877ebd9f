// SPDX-License-Identifier: GPL-2.0

//! How much of a stripe lives, where that lists it, and the sums of all stripes: as the engrams say that lie in them.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Flaw;
use crate::format::stripe;
use crate::format::stripe::encode_live;
use crate::format::stripe::key;
use crate::format::stripe::parse_wasteful;
use crate::format::stripe::wasteful;
use crate::format::stripe::Held;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::format::stripe::GRADES;
use crate::format::stripe::VERSION;
use crate::tree::Key;
use crate::units::StripeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::STRIPES;
use embr_rt::Box;

/// Whether an item of the tree of stripes says what follows from others.
pub(super) fn is_derived(at: Key) -> bool {
    at == key(StripeId::NONE, Kind::Totals, 0) || parse_wasteful(at).is_some()
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// How much of a stripe lives, or where it is listed, is wrong.
    pub(super) fn stripe(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Stripe(number, flaw) = found else {
            return Ok(());
        };
        if let Flaw::Senseless(at) = flaw {
            let is_there = self.mounted.get(STRIPES, *at, |_| ())?.is_some();
            if !is_there {
                return Ok(());
            }
            // What it should say is found in the next round.
            let mut patch = Patch::new();
            patch.remove(STRIPES, *at)?;
            return self.act(found, &Deed::Dropped, patch);
        }
        let mut patch = Patch::new();
        let layout = match look(self.mounted.layout(*number).map(Some))? {
            Look::There(layout) => layout,
            _ => {
                let at = key(*number, Kind::Layout, 0);
                if self.mounted.get(STRIPES, at, |_| ())?.is_none() {
                    self.list(&mut patch, *number, None)?;
                }
                return self.act_if(found, &Deed::StripeListed, patch);
            }
        };
        let said = match look(self.mounted.stripe_live(*number).map(Some))? {
            Look::There(live) => Some(live),
            _ => None,
        };
        let Some(live) = self.lives_of(*number, &layout)?.or(said) else {
            return Ok(());
        };
        self.list(
            &mut patch,
            *number,
            layout.shape.grade(live, self.mounted.geometry()),
        )?;
        if said == Some(live) {
            return self.act_if(found, &Deed::StripeListed, patch);
        }
        patch.set(STRIPES, key(*number, Kind::Live, 0), &encode_live(live))?;
        self.act(found, &Deed::StripeLives(live), patch)
    }

    fn act_if(&mut self, found: &Finding, deed: &Deed, patch: Patch) -> Result<(), Ended> {
        match patch.is_empty() {
            true => Ok(()),
            false => self.act(found, deed, patch),
        }
    }

    /// How many blocks of a stripe live, by what lies in it; nothing where that cannot be known.
    fn lives_of(&self, number: StripeId, layout: &Box<Layout>) -> Result<Option<usize>, Ended> {
        let mut alive = 0usize;
        for fragment in 0..layout.shape.data() {
            let held = look(self.mounted.contents(number, layout, fragment).map(Some))?;
            let Look::There(held) = held else {
                return Ok(None);
            };
            let mut at = layout.shape.begin(fragment);
            for held in held.iter() {
                let Some(live) = self.lives_here(number, held, at)? else {
                    return Ok(None);
                };
                alive = alive.saturating_add(live);
                at = at.saturating_add(held.blocks);
            }
        }
        Ok(Some(alive))
    }

    #[inline(never)] // Its frame is large enough alone.
    fn lives_here(&self, number: StripeId, held: &Held, at: usize) -> Result<Option<usize>, Ended> {
        let Look::There(map) = look(self.mounted.map(held.engram).map(Some))? else {
            return Ok(None);
        };
        let Look::There(live) = look(self.mounted.live(held.engram, map.blocks).map(Some))? else {
            return Ok(None);
        };
        let mut count = 0usize;
        for (block, at) in (held.first..held.first.saturating_add(held.blocks)).zip(at..) {
            let lies = map.piece(block).is_some_and(|p| {
                let within = block.saturating_sub(p.first);
                p.stripe == number && p.at.saturating_add(within) == at
            });
            if !lies {
                return Ok(None);
            }
            count = count.saturating_add(usize::from(live.has(block)));
        }
        Ok(Some(count))
    }

    /// Lists a stripe under its grade alone.
    fn list(&self, patch: &mut Patch, number: StripeId, right: Option<usize>) -> Result<(), Ended> {
        for grade in 0..GRADES {
            let at = wasteful(grade, number);
            let is_there = self.mounted.get(STRIPES, at, |_| ())?.is_some();
            match (is_there, right == Some(grade)) {
                (true, false) => patch.remove(STRIPES, at)?,
                (false, true) => patch.set(STRIPES, at, &[VERSION])?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The sums are not those of all stripes.
    pub(super) fn totals(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Stripe(_, Flaw::Totals(_, are)) = found else {
            return Ok(());
        };
        let mut patch = Patch::new();
        let at = key(StripeId::NONE, stripe::Kind::Totals, 0);
        patch.set(STRIPES, at, &are.encode())?;
        self.act(found, &Deed::Totals, patch)
    }
}
