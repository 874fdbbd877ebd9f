// SPDX-License-Identifier: GPL-2.0

//! Places for stripes: each fragment on a device of its own, those with most room first, and as few in one failure domain as can be.
//! What is to be written was promised room as copies, which is more. The stripe takes its places out of that; the rest stays promised
//! until a transaction has taken the stripe, and where it comes to nothing, its places are what was promised again.

use super::Device;
use super::Space;
use super::State;
use crate::error::NoMem;
use crate::format::geometry::Geometry;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::space::promise::Promise;
use crate::space::share;
use crate::stripe::Shape;
use crate::units::Blocks;
use embr_rt::Vec;

impl State {
    /// How many of what was placed lie on devices that fail together with those of this domain.
    pub(super) fn in_domain(&self, domain: u32, placed: &[Extent]) -> usize {
        let same = |slot| {
            let mut devices = self.devices.iter();
            domain != 0 && devices.any(|d| d.slot == slot && d.domain == domain)
        };
        placed.iter().filter(|e| same(e.device)).count()
    }

    /// The device for another fragment of so many blocks, with what was placed in `out` from `before` on.
    fn roomiest(
        &self,
        blocks: u64,
        avoid: Members,
        (out, before): (&[Extent], usize),
    ) -> Option<usize> {
        let chosen = || out.iter().skip(before).map(|e| e.device);
        let placed = out.get(before..).unwrap_or_default();
        let suits = |d: &Device| {
            d.unclaimed() >= blocks && !avoid.has(d.slot) && chosen().all(|slot| slot != d.slot)
        };
        let all = self.devices.iter().enumerate();
        let best = all.filter(|(_, d)| suits(d)).min_by_key(|(_, d)| {
            let domain = self.in_domain(d.domain, placed);
            (domain, core::cmp::Reverse(d.free))
        });
        best.map(|(n, _)| n)
    }

    /// So many blocks together for a fragment beside those that were placed in `out` from `before` on. Devices on which what is free is in
    /// smaller pieces come among those to `avoid`.
    fn place_beside(
        &mut self,
        blocks: u64,
        avoid: &mut Members,
        others: (&[Extent], usize),
    ) -> Option<Extent> {
        loop {
            let at = self.roomiest(blocks, *avoid, others)?;
            let device = self.devices.get_mut(at)?;
            if let Some((start, blocks)) = device.allocate(blocks, blocks, 0) {
                return Some(Extent {
                    device: device.slot,
                    start: Blocks(start),
                    blocks: Blocks(blocks),
                });
            }
            *avoid = avoid.with(device.slot);
        }
    }

    /// Places for all fragments of a stripe, appended to `out`, in which there is room; or for none.
    fn place_stripe(&mut self, shape: &Shape, avoid: Members, out: &mut Vec<Extent>) -> bool {
        let (before, mut avoid) = (out.len(), avoid);
        let width = shape.width();
        for n in 0..width {
            // Not always the same devices have the parity.
            let fragment = n
                .saturating_add(self.turn)
                .checked_rem(width)
                .unwrap_or_default();
            let blocks = shape.length(fragment) as u64;
            let placed = self.place_beside(blocks, &mut avoid, (out, before));
            if placed.is_none_or(|place| out.push_within_capacity(place).is_err()) {
                for place in out.iter().skip(before) {
                    self.give_back(*place);
                }
                out.truncate(before);
                return false;
            }
        }
        if let Some(places) = out.get_mut(before..) {
            places.rotate_right(self.turn.checked_rem(width).unwrap_or_default());
        }
        self.turn = self.turn.wrapping_add(1);
        true
    }

    fn allocate_stripe(
        &mut self,
        geometry: Geometry,
        (most, rows): (usize, usize),
        (avoid, least): (Members, u8),
        out: &mut Vec<Extent>,
        will_do: impl Fn(&mut Self, &Shape, &[Extent]) -> bool,
    ) -> Option<Shape> {
        let first = out.len();
        // Where devices are missing, fewer data fragments, but no less parity.
        for data in (least..=geometry.data()).rev() {
            let geometry = Geometry::new(data, geometry.parity()).ok()?;
            let whole = most.checked_next_multiple_of(usize::from(data))?;
            let full = whole.checked_div(usize::from(data))?.min(rows);
            let copies = (self.claims.data.count as usize).max(1);
            let even = most.checked_div(usize::from(data))?.min(rows);
            let even = even.saturating_sub(even.checked_rem(copies)?);
            let mut before = 0;
            // One that is paid to the block where there is nothing beside the promise; shorter ones where what is free is in pieces.
            for rows in [full, even, full / 8, 1] {
                if rows == 0 || rows == before {
                    continue;
                }
                before = rows;
                let blocks = rows.saturating_mul(usize::from(data)).min(most);
                let shape = Shape::cut(geometry, blocks)?;
                if shape.data() < least.into() {
                    return None;
                }
                if !self.place_stripe(&shape, avoid, out) {
                    continue;
                }
                let places = out.get(first..).unwrap_or_default();
                if will_do(self, &shape, places) {
                    return Some(shape);
                }
                for place in places {
                    self.give_back(*place);
                }
                out.truncate(first);
            }
        }
        None
    }

    /// What is left of so many promised blocks: as many less as took these places, but no more than lie there. Where little was promised for
    /// each, as devices were lost, the rest of the places has to be nobody's.
    fn without(&self, shape: &Shape, places: &[Extent], promised: u64) -> u64 {
        let taken = places
            .iter()
            .fold(0u64, |n, e| n.saturating_add(e.blocks.0));
        let paid = taken.checked_div(self.claims.data.count).unwrap_or(0);
        promised.saturating_sub(paid.min(shape.blocks() as u64))
    }

    /// Promises so many blocks of data beside what is promised.
    fn promise_again(&mut self, blocks: u64) -> bool {
        let State {
            devices, claims, ..
        } = self;
        let fits = share::claim_blocks(devices, claims.data, claims.blocks, blocks);
        if fits {
            claims.blocks = claims.blocks.saturating_add(blocks);
        }
        fits
    }
}

impl Space {
    /// Gives out places for a stripe of at most so many blocks and rows, of this promise and what is promised to nobody: for its
    /// fragments in order, appended to `out`. None where there is no room for one with two data fragments on devices that are not among
    /// `avoid`. What it takes is promised no more; whoever gets it commits or gives [all of that](Self::give_back_stripe) back.
    pub fn allocate_stripe(
        &self,
        geometry: Geometry,
        most: (usize, usize),
        avoid: Members,
        (promise, out): (&mut Promise, &mut Vec<Extent>),
    ) -> Result<Option<(Shape, Blocks)>, NoMem> {
        out.try_reserve(usize::from(geometry.width()))?;
        // Without parity nothing is gained by it, and of copies each block is given back by itself.
        if geometry.data() < 2 || geometry.parity() == 0 || most.0 < 2 {
            return Ok(None);
        }
        let mut state = self.state.lock();
        state.fill_reserve();
        let lent = promise.blocks;
        let State {
            devices, claims, ..
        } = &mut *state;
        share::release_blocks(devices, claims.data, claims.blocks, lent);
        claims.blocks = claims.blocks.saturating_sub(lent);
        let keeps_the_rest = |state: &mut State, shape: &Shape, places: &[Extent]| {
            let rest = state.without(shape, places, lent);
            state.promise_again(rest)
        };
        let before = out.len();
        let found = state.allocate_stripe(geometry, most, (avoid, 2), out, keeps_the_rest);
        let Some(shape) = found else {
            // All is as it was before.
            state.promise_again(lent);
            return Ok(None);
        };
        let places = out.get(before..).unwrap_or_default();
        promise.blocks = state.without(&shape, places, lent);
        let paid = Blocks(lent.saturating_sub(promise.blocks));
        Ok(Some((shape, paid)))
    }

    /// Takes back a stripe for which so many blocks of a promise were paid.
    pub fn give_back_stripe(&self, promise: &mut Promise, places: &[Extent], paid: Blocks) {
        let mut state = self.state.lock();
        for place in places {
            state.give_back(*place);
        }
        promise.blocks = promise.blocks.saturating_add(paid.0);
        state.claims.blocks = state.claims.blocks.saturating_add(paid.0);
        state.divide_data_anew();
    }

    /// Gives out so many blocks that lie together, for a fragment or a copy beside these: on a device that has none of them and is not
    /// among `avoid`, of those with most room, in another failure domain if there is one. Of what is promised to nobody.
    pub fn allocate_beside(
        &self,
        blocks: Blocks,
        avoid: Members,
        others: &[Extent],
    ) -> Option<Extent> {
        let mut state = self.state.lock();
        if !state.fill_reserve() {
            return None;
        }
        let mut avoid = avoid;
        state.place_beside(blocks.0, &mut avoid, (others, 0))
    }

    /// As [`Self::allocate_stripe`], for what lives in stripes that waste room: it gets what is kept for cleaning, too, and what is left
    /// over may be one block, with its parity.
    pub fn allocate_moved(
        &self,
        geometry: Geometry,
        most: (usize, usize),
        avoid: Members,
        out: &mut Vec<Extent>,
    ) -> Result<Option<Shape>, NoMem> {
        out.try_reserve(usize::from(geometry.width()))?;
        let mut state = self.state.lock();
        state.lend_cleaning();
        let found = state.allocate_stripe(geometry, most, (avoid, 1), out, |_, _, _| true);
        state.fill_cleaning();
        Ok(found)
    }
}
