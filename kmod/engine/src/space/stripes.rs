// SPDX-License-Identifier: GPL-2.0

//! Places for stripes: each fragment on a device of its own, those with most room first, and as few in one failure domain as can be.
//! They come from what is promised to nobody. What is to be written was promised room as copies; that promise stays until a
//! transaction has taken the stripe, so that it is kept also where the stripe comes to nothing.

use super::Device;
use super::Space;
use super::State;
use crate::error::NoMem;
use crate::format::geometry::Geometry;
use crate::format::journal::Extent;
use crate::format::member::Members;
use crate::stripe::Shape;
use crate::units::Blocks;
use embr_rt::Vec;

impl State {
    /// The device for another fragment of so many blocks, with what was placed in `out` from `before` on.
    fn roomiest(
        &self,
        blocks: u64,
        avoid: Members,
        (out, before): (&[Extent], usize),
    ) -> Option<usize> {
        let chosen = || out.iter().skip(before).map(|e| e.device);
        let in_domain = |domain: u32| {
            let same = |slot| {
                let mut devices = self.devices.iter();
                domain != 0 && devices.any(|d| d.slot == slot && d.domain == domain)
            };
            chosen().filter(|slot| same(*slot)).count()
        };
        let suits = |d: &Device| {
            d.unclaimed() >= blocks && !avoid.has(d.slot) && chosen().all(|slot| slot != d.slot)
        };
        let all = self.devices.iter().enumerate();
        let best = all
            .filter(|(_, d)| suits(d))
            .min_by_key(|(_, d)| (in_domain(d.domain), core::cmp::Reverse(d.unclaimed())));
        best.map(|(n, _)| n)
    }

    /// Places for all fragments of a stripe, appended to `out`, in which there is room; or for none.
    fn place_stripe(&mut self, shape: &Shape, avoid: Members, out: &mut Vec<Extent>) -> bool {
        let before = out.len();
        let width = shape.width();
        for n in 0..width {
            // Not always the same devices have the parity.
            let fragment = n
                .saturating_add(self.turn)
                .checked_rem(width)
                .unwrap_or_default();
            let blocks = shape.length(fragment) as u64;
            let device = self.roomiest(blocks, avoid, (out, before));
            let device = device.and_then(|at| self.devices.get_mut(at));
            let found = device.and_then(|d| Some((d.slot, d.allocate(blocks, blocks, 0)?)));
            let placed = found.is_some_and(|(device, (start, blocks))| {
                let place = Extent {
                    device,
                    start: Blocks(start),
                    blocks: Blocks(blocks),
                };
                out.push_within_capacity(place).is_ok()
            });
            if !placed {
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
    ) -> Option<Shape> {
        // Where devices are missing, fewer data fragments, but no less parity.
        for data in (least..=geometry.data()).rev() {
            let geometry = Geometry::new(data, geometry.parity()).ok()?;
            let whole = most.checked_next_multiple_of(usize::from(data))?;
            let full = whole.checked_div(usize::from(data))?.min(rows);
            let mut before = 0;
            // Shorter ones where what is free is in pieces.
            for rows in [full, full / 8, 1] {
                if rows == 0 || rows == before {
                    continue;
                }
                before = rows;
                let blocks = rows.saturating_mul(usize::from(data)).min(most);
                let shape = Shape::cut(geometry, blocks)?;
                if shape.data() < least.into() {
                    return None;
                }
                if self.place_stripe(&shape, avoid, out) {
                    return Some(shape);
                }
            }
        }
        None
    }
}

impl Space {
    /// Gives out places for a stripe of at most so many blocks and rows, of what is promised to nobody: for its fragments in order,
    /// appended to `out`. None where there is no room for one with two data fragments on devices that are not among `avoid`. Whoever
    /// gets them commits or gives them back.
    pub fn allocate_stripe(
        &self,
        geometry: Geometry,
        most: (usize, usize),
        avoid: Members,
        out: &mut Vec<Extent>,
    ) -> Result<Option<Shape>, NoMem> {
        out.try_reserve(usize::from(geometry.width()))?;
        // Without parity nothing is gained by it, and of copies each block is given back by itself.
        if geometry.data() < 2 || geometry.parity() == 0 || most.0 < 2 {
            return Ok(None);
        }
        let mut state = self.state.lock();
        if !state.fill_reserve() {
            return Ok(None);
        }
        Ok(state.allocate_stripe(geometry, most, (avoid, 2), out))
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
        let found = state.allocate_stripe(geometry, most, (avoid, 1), out);
        state.fill_cleaning();
        Ok(found)
    }
}
