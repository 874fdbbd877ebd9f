// SPDX-License-Identifier: GPL-2.0

//! What a mounted volume knows of its stripes.

use super::shape::MAX_FRAGMENTS;
use super::Fragments;
use crate::error::NoMem;
use crate::format::engram::parse_hashes;
use crate::format::journal::Extent;
use crate::format::stripe;
use crate::format::stripe::hashes_sub;
use crate::format::stripe::key;
use crate::format::stripe::parse_contents;
use crate::format::stripe::parse_live;
use crate::format::stripe::Held;
use crate::format::stripe::Kind;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::names::Wrong;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::StripeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::STRIPES;
use embr_rt::Box;
use embr_rt::Vec;

/// Rows of a fragment of a stripe, where the fragment lies somewhere.
pub(crate) fn extent(layout: &Layout, fragment: usize, row: usize, rows: usize) -> Option<Extent> {
    let place = layout.place(fragment)?;
    Some(Extent {
        device: place.device,
        start: Blocks(place.block.0.saturating_add(row as u64)),
        blocks: Blocks(rows as u64),
    })
}

/// All that a stripe takes of devices: each of its fragments that lies somewhere.
pub(crate) fn extents(layout: &Layout) -> impl Iterator<Item = Extent> + '_ {
    let shape = layout.shape;
    (0..shape.width()).filter_map(move |f| extent(layout, f, 0, shape.length(f)))
}

#[inline(never)] // Layouts are large.
fn boxed(value: &[u8]) -> Option<Result<Box<Layout>, NoMem>> {
    Layout::parse(value).map(Box::try_new)
}

impl<M: Machine> Mounted<M> {
    /// How a stripe is cut, and where its fragments lie.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn layout(&self, stripe: StripeId) -> Result<Box<Layout>, Error> {
        let key = key(stripe, Kind::Layout, 0);
        let value = self.get(STRIPES, key, boxed)?;
        let layout = value.ok_or(Error::Stripe(stripe, Wrong::Missing))?;
        let layout = layout.ok_or(Error::Stripe(stripe, Wrong::Senseless))??;
        if !extents(&layout).all(|extent| self.may_hold(extent)) {
            return Err(Error::Stripe(stripe, Wrong::Disagrees));
        }
        Ok(layout)
    }

    /// How many blocks of a stripe live.
    pub(crate) fn stripe_live(&self, stripe: StripeId) -> Result<usize, Error> {
        let value = self.get(STRIPES, key(stripe, Kind::Live, 0), parse_live)?;
        let live = value.ok_or(Error::Stripe(stripe, Wrong::Missing))?;
        live.ok_or(Error::Stripe(stripe, Wrong::Senseless))
    }

    /// What a data fragment of a stripe holds.
    pub(crate) fn contents(
        &self,
        stripe: StripeId,
        layout: &Layout,
        fragment: usize,
    ) -> Result<Vec<Held>, Error> {
        let key = key(stripe, Kind::Contents, fragment);
        let blocks = layout.shape.length(fragment);
        let value = self.get(STRIPES, key, |value| {
            parse_contents(value, blocks).map(Vec::try_from_iter)
        })?;
        let held = value.ok_or(Error::Stripe(stripe, Wrong::Missing))?;
        Ok(held.ok_or(Error::Stripe(stripe, Wrong::Senseless))??)
    }

    /// Adds what is kept of the hashes of all blocks of a fragment to `out`.
    pub(crate) fn fragment_hashes(
        &self,
        stripe: StripeId,
        layout: &Layout,
        fragment: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let Some(parity) = fragment.checked_sub(layout.shape.data()) else {
            for held in self.contents(stripe, layout, fragment)?.iter() {
                self.hashes(held.engram, held.first, held.blocks, out)?;
            }
            return Ok(());
        };
        let size = self.hash_size();
        let rows = layout.shape.length(fragment);
        for first in (0..rows).step_by(stripe::HASHES) {
            let key = key(stripe, Kind::Hashes, hashes_sub(parity, first));
            let count = rows.saturating_sub(first).min(stripe::HASHES);
            let found = self.get(STRIPES, key, |value| {
                let hashes = parse_hashes(value, size)?;
                let whole = hashes.len() == count.saturating_mul(size);
                whole.then(|| out.try_extend_from_slice(hashes))
            })?;
            let found = found.ok_or(Error::Stripe(stripe, Wrong::Missing))?;
            found.ok_or(Error::Stripe(stripe, Wrong::Senseless))??;
        }
        Ok(())
    }

    /// What is kept of the hash of one block of a fragment.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn row_hash(
        &self,
        stripe: StripeId,
        layout: &Layout,
        (fragment, row): (usize, usize),
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if let Some(parity) = fragment.checked_sub(layout.shape.data()) {
            return self.parity_hash(stripe, (parity, row), out);
        }
        let (engram, block) = self.payload_at(stripe, layout, (fragment, row))?;
        self.hashes(engram, block, 1, out)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn parity_hash(
        &self,
        stripe: StripeId,
        (parity, row): (usize, usize),
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let size = self.hash_size();
        let key = key(stripe, Kind::Hashes, hashes_sub(parity, row));
        let at = (row % stripe::HASHES).saturating_mul(size);
        let found = self.get(STRIPES, key, |value| {
            let hashes = parse_hashes(value, size)?;
            let hash = hashes.get(at..at.saturating_add(size))?;
            Some(out.try_extend_from_slice(hash))
        })?;
        let found = found.ok_or(Error::Stripe(stripe, Wrong::Missing))?;
        Ok(found.ok_or(Error::Stripe(stripe, Wrong::Senseless))??)
    }

    /// Which block of which engram lies in a row of a data fragment.
    #[inline(never)] // Its frame is large enough alone.
    fn payload_at(
        &self,
        stripe: StripeId,
        layout: &Layout,
        (fragment, row): (usize, usize),
    ) -> Result<(EngramId, usize), Error> {
        let mut before = 0usize;
        for held in self.contents(stripe, layout, fragment)?.iter() {
            let within = row.saturating_sub(before);
            if within < held.blocks {
                return Ok((held.engram, held.first.saturating_add(within)));
            }
            before = before.saturating_add(held.blocks);
        }
        Err(Error::Stripe(stripe, Wrong::Disagrees))
    }
}

/// The fragments of which this row says nothing, as they end before it: zeros, and as good as there.
pub(crate) fn ended(layout: &Layout, row: usize) -> Fragments {
    let in_row = layout.shape.in_row(row);
    let all = 0..layout.shape.width().min(MAX_FRAGMENTS);
    all.filter(|f| !in_row.has(*f)).collect()
}
