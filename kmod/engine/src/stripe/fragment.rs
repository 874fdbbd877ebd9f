// SPDX-License-Identifier: GPL-2.0

//! All of one fragment of a stripe, each block as its hash says: from where it lies, or from others.

use super::known;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use embr_rt::Vec;

impl<M: Machine> Mounted<M> {
    /// Reads a fragment. What lies where it is said to and is bad is not put right there.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn read_fragment(
        &self,
        stripe: StripeId,
        layout: &Layout,
        fragment: usize,
    ) -> Result<Vec<u8>, Error> {
        let rows = layout.shape.length(fragment);
        let mut hashes = Vec::new();
        self.fragment_hashes(stripe, layout, fragment, &mut hashes)?;
        let mut bytes = Vec::zeroed(rows.saturating_mul(BLOCK_SIZE))?;
        let mut real = Vec::try_from_elem(Hash256::default(), rows)?;
        let place = known::extent(layout, fragment, 0, rows);
        let place = place.filter(|place| self.present().has(place.device));
        let is_read = match place.and_then(|p| Some((p.device, p.start.bytes()?))) {
            Some((device, at)) => match self.devices().read(device, at, &mut bytes) {
                Ok(()) => true,
                Err(DeviceError::NoMemory) => return Err(Error::Fault(Fault::NoMemory)),
                Err(_) => false,
            },
            None => false,
        };
        if is_read {
            self.hasher().hash_blocks(&bytes, &mut real);
        }
        let blocks = bytes.chunks_exact_mut(BLOCK_SIZE).zip(real.iter());
        let kept = hashes.chunks_exact(self.hash_size().max(1));
        for (row, ((block, hash), kept)) in blocks.zip(kept).enumerate() {
            let is_sound = is_read && hash.0.starts_with(kept);
            if !is_sound && !self.rebuild(stripe, layout, (fragment, row), kept, block)? {
                // Whose it is is not known here.
                return Err(Error::Lost(InodeNo::NONE, FileBlock(0)));
            }
        }
        Ok(bytes)
    }
}
