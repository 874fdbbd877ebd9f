// SPDX-License-Identifier: GPL-2.0

//! What a fragment holds, from others of its stripe. Each block that is used is verified first: a bad one counts as missing, and any m
//! of a row may.

use super::code::unbind;
use super::known;
use super::Recipe;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Vec;

impl<M: Machine> Mounted<M> {
    /// Fills `into` with a block of a fragment of which this hash is known, from other fragments; says whether there were enough.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn rebuild(
        &self,
        stripe: StripeId,
        layout: &Layout,
        (fragment, row): (usize, usize),
        hash: &[u8],
        into: &mut [u8],
    ) -> Result<bool, Error> {
        let shape = &layout.shape;
        let mut there = known::ended(layout, row);
        let mut blocks: Vec<(usize, Vec<u8>)> = Vec::new();
        let others = |here: bool| {
            let is_there = move |f: &usize| {
                let place = layout.place(*f);
                *f != fragment && place.is_some_and(|p| self.present().has(p.device) == here)
            };
            shape.in_row(row).iter().filter(is_there)
        };
        let mut others = others(true).chain(others(false));
        loop {
            if let Some(recipe) = Recipe::new(shape, there, fragment) {
                let of = |f| blocks.iter().find(|(own, _)| *own == f);
                let of = |f| of(f).map_or(&[][..], |(_, block)| block.as_slice());
                unbind(self.field(), &recipe, of, into);
                return Ok(self.is_block(into, hash));
            }
            let Some(other) = others.next() else {
                return Ok(false);
            };
            if let Some(block) = self.row(stripe, layout, (other, row))? {
                blocks.push((other, block))?;
                there = there.with(other);
            }
        }
    }

    /// One block of a fragment, if it can be read and is sound.
    #[inline(never)] // Its frame is large enough alone.
    fn row(
        &self,
        stripe: StripeId,
        layout: &Layout,
        (fragment, row): (usize, usize),
    ) -> Result<Option<Vec<u8>>, Error> {
        let mut hash = Vec::new();
        match self.row_hash(stripe, layout, (fragment, row), &mut hash) {
            Ok(()) => {}
            Err(why) if why.is_damage() => return Ok(None),
            Err(why) => return Err(why),
        }
        let place = known::extent(layout, fragment, row, 1);
        let Some((place, at)) = place.and_then(|p| Some((p, p.start.bytes()?))) else {
            return Ok(None);
        };
        let mut block = Vec::zeroed(BLOCK_SIZE)?;
        match self.devices().read(place.device, at, &mut block) {
            Ok(()) => Ok(self.is_block(&block, &hash).then_some(block)),
            Err(DeviceError::NoMemory) => Err(Error::Fault(Fault::NoMemory)),
            Err(_) => Ok(None),
        }
    }

    /// Whether a block has this hash.
    #[inline(never)] // Its frame is large enough alone.
    fn is_block(&self, block: &[u8], kept: &[u8]) -> bool {
        let mut hash = [Hash256::default()];
        self.hasher().hash_blocks(block, &mut hash);
        let [Hash256(hash)] = hash;
        !kept.is_empty() && hash.starts_with(kept)
    }
}
