// SPDX-License-Identifier: GPL-2.0

//! Engrams: lasting identities of what files hold. Their tree says where an engram's blocks lie, what their hashes are, which of
//! them live, and whose they are. An engram lies in whole copies on several devices, or in stripes. All of one engram was written by one
//! file; others may name its blocks as well since then, which is counted in the tree of references.
//!
//! Nothing here knows what lies where in a file, and nothing here reads or writes the blocks themselves.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod edits;
mod number;
mod shares;

pub(crate) use edits::cost_of_new;
pub(crate) use edits::cost_of_part;
pub(crate) use edits::create;
pub(crate) use edits::learn;
pub(crate) use edits::Edits;
pub use number::Numbers;

use crate::format::engram::key;
use crate::format::engram::parse_hashes;
use crate::format::engram::Kind;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Owner;
use crate::format::engram::HASHES;
use crate::format::journal::Extent;
use crate::format::layout;
use crate::format::reference;
use crate::format::reference::Of;
use crate::format::reference::Tally;
use crate::names::Error;
use crate::names::Wrong;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::REFERENCES;
use embr_rt::Vec;

impl<M: Machine> Mounted<M> {
    /// Where an engram lies.
    pub(crate) fn map(&self, engram: EngramId) -> Result<Map, Error> {
        let value = self.get(ENGRAMS, key(engram, Kind::Map, 0), Map::parse)?;
        let map = value.ok_or(Error::Engram(engram, Wrong::Missing))??;
        let map = map.ok_or(Error::Engram(engram, Wrong::Senseless))?;
        if !(map.extents(0, map.blocks)).all(|extent| self.may_hold(extent)) {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        }
        Ok(map)
    }

    /// Which blocks of an engram live.
    pub(crate) fn live(&self, engram: EngramId, blocks: usize) -> Result<Live, Error> {
        let key = key(engram, Kind::Live, 0);
        let value = self.get(ENGRAMS, key, |value| Live::parse(value, blocks))?;
        let live = value.ok_or(Error::Engram(engram, Wrong::Missing))?;
        live.ok_or(Error::Engram(engram, Wrong::Senseless))
    }

    /// How often blocks of an engram are named, or by one file; none where nothing is said of it.
    #[inline(never)]
    pub fn tally(&self, engram: EngramId, of: Of) -> Result<Option<Tally>, Error> {
        let key = reference::key(engram, of);
        match self.get(REFERENCES, key, |value| Tally::parse(value, of))? {
            Some(tally) => {
                let bad = Error::Engram(engram, Wrong::Senseless);
                Ok(Some(tally?.ok_or(bad)?))
            }
            None => Ok(None),
        }
    }

    /// The files that name a block of an engram that lives, at most so many; each once.
    pub fn users(
        &self,
        engram: EngramId,
        block: usize,
        most: usize,
    ) -> Result<Vec<InodeNo>, Error> {
        let mut users = Vec::new();
        let mut scan = self.scan(REFERENCES, reference::users(engram));
        while let Some(scan) = scan.as_mut().filter(|_| users.len() < most) {
            let Some((at, value)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let bad = Error::Engram(engram, Wrong::Senseless);
            let Some((_, of @ Of::User(inode))) = reference::parse_key(at) else {
                return Err(bad);
            };
            if Tally::parse(&value, of)?.ok_or(bad)?.number(block) != 0 {
                users.push(inode)?;
            }
        }
        if !users.is_empty() || most == 0 {
            return Ok(users);
        }
        // It was never shared: then its owner is who has it.
        let range = Range {
            first: key(engram, Kind::Owner, 0),
            last: key(engram, Kind::Owner, block),
        };
        let mut scan = self.scan_back(ENGRAMS, range);
        let last = match &mut scan {
            Some(scan) => scan.next().map_err(Fault::from)?,
            None => None,
        };
        if let Some((at, value)) = last {
            let bad = Error::Engram(engram, Wrong::Senseless);
            let owner = Owner::parse(&value).ok_or(bad)?;
            let first = crate::format::engram::sub(at) as usize;
            if block < first.saturating_add(owner.blocks) {
                users.push(owner.inode)?;
            }
        }
        Ok(users)
    }

    /// Adds the hashes of so many blocks of an engram to `out`, each as long as this volume keeps them.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn hashes(
        &self,
        engram: EngramId,
        first: usize,
        blocks: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let size = self.hash_size();
        let wanted = out.len().saturating_add(blocks.saturating_mul(size));
        let end = first.saturating_add(blocks);
        let range = Range {
            first: key(engram, Kind::Hashes, first / HASHES),
            last: key(engram, Kind::Hashes, end.saturating_sub(1) / HASHES),
        };
        let Some(mut scan) = self.scan(ENGRAMS, range) else {
            return Err(Error::Engram(engram, Wrong::Missing));
        };
        let mut at = first;
        while let Some((key, value)) = scan.next().map_err(Fault::from)? {
            let bad = Error::Engram(engram, Wrong::Senseless);
            let hashes = parse_hashes(&value, size).ok_or(bad)?;
            let group = crate::format::engram::sub(key) as usize;
            if group != at / HASHES {
                break;
            }
            let begin = group.saturating_mul(HASHES);
            let from = at.saturating_sub(begin).saturating_mul(size);
            let to = end
                .saturating_sub(begin)
                .saturating_mul(size)
                .min(hashes.len());
            out.try_extend_from_slice(hashes.get(from..to).unwrap_or_default())?;
            at = begin.saturating_add(HASHES);
        }
        match out.len() == wanted {
            true => Ok(()),
            false => Err(Error::Engram(engram, Wrong::Missing)),
        }
    }

    /// Whether data may lie there, as far as is known of the device: nothing that an image claims makes anybody write elsewhere.
    pub(crate) fn may_hold(&self, extent: Extent) -> bool {
        let Some(part) = self.parts().iter().find(|p| p.slot == extent.device) else {
            return true;
        };
        let end = extent.start.0.saturating_add(extent.blocks.0);
        let clear_of = |start: Blocks, blocks: Blocks| {
            end <= start.0 || extent.start.0 >= start.0.saturating_add(blocks.0)
        };
        let area = layout::AREA_SIZE.whole_blocks();
        end <= part.size.whole_blocks().0
            && clear_of(part.journal.start, part.journal.blocks)
            && layout::areas(part.size).all(|(_, at)| clear_of(at.whole_blocks(), area))
    }
}
