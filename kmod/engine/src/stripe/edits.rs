// SPDX-License-Identifier: GPL-2.0

//! What a transaction does to stripes, gathered so that each item is written once: blocks of their payload die, and a stripe of which
//! nothing lives is gone, with its places and with what engrams still say of it. Until then dead blocks stay where they are: others
//! are computed from them. One that held blocks of many engrams is left dead, to be given up when room is wanted: on a full volume only
//! small transactions are sure to find some.

use super::books;
use super::books::Sums;
use super::known;
use crate::format::engram;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::stripe;
use crate::format::stripe::encode_live;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::names::Wrong;
use crate::stripe::shape::MAX_FRAGMENTS;
use crate::txn::Transaction;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Box;
use embr_rt::Vec;

/// Bytes of the journal that a stripe of which blocks die takes: how many of it live, and where it is listed.
const PER_STRIPE: usize = 40 + books::COST;
/// What one that is gone takes beside that: its items, and its places.
const PER_GONE: usize = 64 + MAX_FRAGMENTS * 24;
/// A stripe with blocks of no more engrams than these is given up at once.
const FEW: usize = 2;
/// What each of its engrams takes at most: a map with as many pieces as there can be, or all its items gone.
const PER_ENGRAM: usize = 40 + 8 + engram::MAX_BLOCKS * 12;

/// A stripe of which blocks die.
struct Edit {
    stripe: StripeId,
    layout: Box<Layout>,
    /// Blocks that lived.
    before: usize,
    /// Blocks that live by now.
    live: usize,
    /// Where none does and it is given up at once: the engrams that it held blocks of, each once.
    engrams: Vec<EngramId>,
}

/// What a transaction does to stripes.
#[derive(Default)]
pub(crate) struct Edits {
    edits: Vec<Edit>,
}

impl Edits {
    /// Items that all this touches, at most.
    pub(crate) fn items(&self) -> usize {
        let each = books::ITEMS.saturating_add(1);
        let sums = usize::from(!self.edits.is_empty());
        self.sum(each, 2, 2).saturating_add(sums)
    }

    /// Bytes of the journal that all this takes, at most.
    pub(crate) fn cost(&self) -> usize {
        let own = self.sum(PER_STRIPE, PER_GONE, PER_ENGRAM);
        own.saturating_add(books::SUMS)
    }

    /// The sum of so much for each stripe, for each that is gone, and for each engram that has something in these.
    fn sum(&self, each: usize, gone: usize, engram: usize) -> usize {
        self.edits.iter().fold(0, |sum: usize, edit| {
            let gone = if edit.is_gone() { gone } else { 0 };
            let engrams = edit.engrams.len().saturating_mul(engram);
            let own = each.saturating_add(gone).saturating_add(engrams);
            sum.saturating_add(own)
        })
    }

    /// So many blocks of a stripe that lived do not any more.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn kill<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        stripe: StripeId,
        blocks: usize,
    ) -> Result<(), Error> {
        let at = match self.edits.binary_search_by_key(&stripe, |e| e.stripe) {
            Ok(at) => at,
            Err(at) => {
                let live = mounted.stripe_live(stripe)?;
                let edit = Edit {
                    stripe,
                    layout: mounted.layout(stripe)?,
                    before: live,
                    live,
                    engrams: Vec::new(),
                };
                self.edits.insert(at, edit)?;
                at
            }
        };
        let bad = Error::Stripe(stripe, Wrong::Disagrees);
        let edit = self.edits.get_mut(at).ok_or(bad)?;
        edit.live = edit.live.checked_sub(blocks).ok_or(bad)?;
        if edit.live == 0 {
            edit.engrams = edit.held(mounted)?;
            if edit.engrams.len() > FEW {
                edit.engrams.clear();
            }
        }
        Ok(())
    }

    /// Puts it all into the transaction.
    pub(crate) fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        let mut sums = Sums::default();
        for edit in self.edits.iter() {
            edit.finish(txn)?;
            let now = (!edit.is_gone()).then_some(edit.live);
            let of = (edit.stripe, &edit.layout.shape);
            sums.change(txn, of, Some(edit.before), now)?;
        }
        sums.finish(txn)
    }
}

impl Edit {
    /// Whether it is given up.
    fn is_gone(&self) -> bool {
        !self.engrams.is_empty()
    }

    /// The engrams that it holds blocks of, living or not.
    fn held<M: Machine>(&self, mounted: &Mounted<M>) -> Result<Vec<EngramId>, Error> {
        let mut engrams: Vec<EngramId> = Vec::new();
        for fragment in 0..self.layout.shape.data() {
            for held in mounted
                .contents(self.stripe, &self.layout, fragment)?
                .iter()
            {
                if let Err(at) = engrams.binary_search(&held.engram) {
                    engrams.insert(at, held.engram)?;
                }
            }
        }
        Ok(engrams)
    }

    fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        if !self.is_gone() {
            let key = stripe::key(self.stripe, Kind::Live, 0);
            return Ok(txn.set(STRIPES, key, &encode_live(self.live))?);
        }
        for extent in known::extents(&self.layout) {
            txn.free(extent)?;
        }
        txn.remove_range(STRIPES, stripe::all(self.stripe))?;
        for engram in self.engrams.iter() {
            self.forget(txn, *engram)?;
        }
        Ok(())
    }

    /// What an engram has in the stripe is given up; with nothing left, the engram.
    #[inline(never)] // Its frame is large enough alone.
    fn forget<M: Machine>(
        &self,
        txn: &mut Transaction<'_, M>,
        engram: EngramId,
    ) -> Result<(), Error> {
        let bad = Error::Engram(engram, Wrong::Disagrees);
        let key = engram::key(engram, engram::Kind::Map, 0);
        let map = txn.get(ENGRAMS, key, Map::parse)?;
        let mut map = map.ok_or(bad)??.ok_or(bad)?;
        let Lies::Stripes(pieces) = &mut map.lies else {
            return Err(bad);
        };
        pieces.retain(|piece| piece.stripe != self.stripe);
        if pieces.is_empty() {
            return Ok(txn.remove_range(ENGRAMS, engram::all(engram))?);
        }
        Ok(txn.set(ENGRAMS, key, &map.encode()?)?)
    }
}
