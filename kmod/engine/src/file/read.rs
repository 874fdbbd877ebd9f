// SPDX-License-Identifier: GPL-2.0

//! Reading what a file holds.

use super::inline;
use super::END;
use crate::format::inline::parse;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;

impl<M: Machine> Files<'_, M> {
    /// Fills `into`, which is whole blocks, with what the file holds from this block on: zeros in holes, in what was never
    /// written and behind its end.
    pub fn read(&self, file: InodeNo, at: FileBlock, into: &mut [u8]) -> Result<(), Error> {
        if into.len() % BLOCK_SIZE != 0 {
            return Err(Error::Invalid);
        }
        into.fill(0);
        let blocks = (into.len() / BLOCK_SIZE) as u64;
        let end = at.plus(blocks).min(END);
        if at >= end {
            return Ok(());
        }
        let last = inline(file, FileBlock(end.0.saturating_sub(1)));
        let mut items = self.view.items(self.mounted, inline(file, at), last);
        while let Some((item, value)) = items.next()? {
            let bytes = parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            let index = usize::try_from(item.sub().saturating_sub(at.0)).unwrap_or(usize::MAX);
            let block = into.chunks_exact_mut(BLOCK_SIZE).nth(index);
            for (to, from) in block.into_iter().flatten().zip(bytes) {
                *to = *from;
            }
        }
        Ok(())
    }
}
