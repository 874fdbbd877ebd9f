// SPDX-License-Identifier: GPL-2.0

//! What a transaction does to engrams, gathered so that each item is written once: blocks that nobody names any more die and are given
//! back, and an engram of which nothing lives is gone. And new engrams.

use super::shares::Shares;
use crate::format::engram::all;
use crate::format::engram::key;
use crate::format::engram::sub;
use crate::format::engram::Kind;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Owner;
use crate::format::engram::HASHES;
use crate::format::engram::MAX_BLOCKS;
use crate::format::engram::VERSION;
use crate::format::pointer::COPIES;
use crate::names::Error;
use crate::names::Wrong;
use crate::stripe;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use embr_rt::Vec;

/// Bytes of the journal that an engram takes at most, beside what each run of dead blocks takes.
const PER_ENGRAM: usize = 200;
/// Bytes of the journal for a run of dead blocks: two items of owners; and for what is freed in one place on one device.
const PER_RUN: usize = 2 * 56;
const PER_FREED: usize = 24;

/// An engram of which blocks die.
struct Edit {
    engram: EngramId,
    map: Map,
    live: Live,
    /// Runs: first block and how many.
    dead: Vec<(usize, usize)>,
}

/// What a transaction does to engrams.
#[derive(Default)]
pub(crate) struct Edits {
    /// By their engrams.
    edits: Vec<Edit>,
    runs: u32,
    /// Places that are given back.
    freed: usize,
    /// Whether others go on naming what was named here.
    leaves_others: bool,
    stripes: stripe::Edits,
    shares: Shares,
}

impl Edits {
    /// Items that all this touches, at most.
    pub(crate) fn items(&self) -> usize {
        let runs = (self.runs as usize).saturating_mul(2);
        let items = self.edits.len().saturating_mul(2).saturating_add(runs);
        let shares = self.shares.items();
        items
            .saturating_add(self.stripes.items())
            .saturating_add(shares)
    }

    /// Bytes of the journal that all this takes, at most.
    pub(crate) fn cost(&self) -> usize {
        let engrams = self.edits.len().saturating_mul(PER_ENGRAM);
        let runs = (self.runs as usize).saturating_mul(PER_RUN);
        let freed = self.freed.saturating_mul(PER_FREED);
        let own = engrams.saturating_add(runs).saturating_add(freed);
        own.saturating_add(self.stripes.cost())
            .saturating_add(self.shares.cost())
    }

    /// Whether it takes names away, and gives nothing back: others have it.
    pub(crate) fn frees_nothing(&self) -> bool {
        self.leaves_others && self.edits.is_empty()
    }

    /// One more file names a block of an engram: `to`, as `from` does.
    pub(crate) fn share<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        at: (EngramId, usize),
        (from, to): (InodeNo, InodeNo),
    ) -> Result<(), Error> {
        self.shares.add(mounted, at, (from, to))
    }

    /// A file names a block of an engram once less. Says whether nobody names it any more: then it has to be [killed](Self::kill).
    pub(crate) fn release<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        at: (EngramId, usize),
        user: InodeNo,
    ) -> Result<bool, Error> {
        let is_last = self.shares.release(mounted, at, user)?;
        self.leaves_others |= !is_last;
        Ok(is_last)
    }

    /// Bytes of the journal that it takes, beside others, that a file names less of an engram.
    pub(crate) fn weight<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
        user: InodeNo,
    ) -> Result<usize, Error> {
        self.shares.weight(mounted, engram, user)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn of<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
    ) -> Result<&mut Edit, Error> {
        let at = match self.edits.binary_search_by_key(&engram, |e| e.engram) {
            Ok(at) => at,
            Err(at) => {
                let map = mounted.map(engram)?;
                let edit = Edit {
                    engram,
                    live: mounted.live(engram, map.blocks)?,
                    map,
                    dead: Vec::new(),
                };
                self.edits.insert(at, edit)?;
                at
            }
        };
        self.edits
            .get_mut(at)
            .ok_or(Error::Engram(engram, Wrong::Missing))
    }

    /// Nobody names these blocks of an engram any more.
    pub(crate) fn kill<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
        first: usize,
        blocks: usize,
    ) -> Result<(), Error> {
        let edit = self.of(mounted, engram)?;
        let mut range = first..first.saturating_add(blocks);
        if !range.all(|block| edit.live.has(block)) {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        }
        edit.live.clear(first, blocks);
        let mut freed = match edit.map.is_copied() {
            true => edit.map.extents(first, blocks).count(),
            false => COPIES,
        };
        let last = edit.dead.last_mut();
        match last.filter(|(at, n)| at.saturating_add(*n) == first) {
            Some((_, n)) => {
                *n = n.saturating_add(blocks);
                freed = freed.saturating_sub(edit.freed_before(first));
            }
            None => {
                edit.dead.push((first, blocks))?;
                self.runs = self.runs.saturating_add(1);
            }
        }
        self.freed = self.freed.saturating_add(freed);
        self.kill_in_stripes(mounted, engram, (first, blocks))
    }

    #[inline(never)] // Its frame is large enough alone.
    fn kill_in_stripes<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
        (first, blocks): (usize, usize),
    ) -> Result<(), Error> {
        let Edits { edits, stripes, .. } = self;
        let at = edits.binary_search_by_key(&engram, |edit| edit.engram);
        let known = at.ok().and_then(|at| edits.get(at));
        let Some(map) = known.map(|edit| &edit.map) else {
            return Ok(());
        };
        if map.is_copied() {
            return Ok(());
        }
        let end = first.saturating_add(blocks);
        let mut at = first;
        while at < end {
            let piece = map
                .piece(at)
                .ok_or(Error::Engram(engram, Wrong::Disagrees))?;
            let to = piece.end().min(end);
            stripes.kill(mounted, piece.stripe, to.saturating_sub(at))?;
            at = to;
        }
        Ok(())
    }

    /// Puts it all into the transaction.
    pub(crate) fn finish<M: Machine>(self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        for edit in self.edits.iter() {
            edit.finish(txn)?;
        }
        self.shares.finish(txn)?;
        // What goes with a stripe goes after all else that is done to it.
        self.stripes.finish(txn)
    }
}

impl Edit {
    /// Of the places that are given back of blocks from here on, those that go with what is dead right before.
    fn freed_before(&self, first: usize) -> usize {
        if !self.map.is_copied() {
            return COPIES;
        }
        let before = first.checked_sub(1).and_then(|at| self.map.part(at));
        before
            .filter(|part| part.end() > first)
            .map_or(0, |part| part.extents(part.first, part.blocks).count())
    }

    fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        if self.map.is_copied() {
            for (first, blocks) in self.dead.iter() {
                for extent in self.map.extents(*first, *blocks) {
                    txn.free(extent)?;
                }
            }
            if self.live.count() == 0 {
                return Ok(txn.remove_range(ENGRAMS, all(self.engram))?);
            }
        }
        let live = self.live.encode(self.map.blocks)?;
        txn.set(ENGRAMS, key(self.engram, Kind::Live, 0), &live)?;
        self.disown(txn)
    }

    /// Owners keep what lives.
    #[inline(never)] // Its frame is large enough alone.
    fn disown<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        let range = Range {
            first: key(self.engram, Kind::Owner, 0),
            last: key(self.engram, Kind::Owner, MAX_BLOCKS),
        };
        let mut scan = txn.mounted().scan(ENGRAMS, range);
        while let Some(scan) = &mut scan {
            let Some((at, value)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let bad = Error::Engram(self.engram, Wrong::Senseless);
            let owner = Owner::parse(&value).ok_or(bad)?;
            let first = sub(at) as usize;
            let mut kept = false;
            for (begin, blocks) in self.live.runs(first, owner.blocks) {
                kept |= begin == first;
                if blocks == owner.blocks {
                    continue;
                }
                let part = Owner {
                    blocks,
                    at: owner.at.plus(begin.saturating_sub(first) as u64),
                    ..owner
                };
                let key = key(self.engram, Kind::Owner, begin);
                txn.set(ENGRAMS, key, &part.encode())?;
            }
            if !kept {
                txn.remove(ENGRAMS, at)?;
            }
        }
        Ok(())
    }
}

/// A new engram: all of it lives.
pub(crate) fn create<M: Machine>(
    txn: &mut Transaction<'_, M>,
    engram: EngramId,
    map: &Map,
    hashes: &[u8],
    owners: &[(usize, Owner)],
) -> Result<(), Error> {
    let mut live = Live::default();
    live.set(0, map.blocks);
    txn.set_new(ENGRAMS, key(engram, Kind::Map, 0), &map.encode()?)?;
    txn.set_new(
        ENGRAMS,
        key(engram, Kind::Live, 0),
        &live.encode(map.blocks)?,
    )?;
    for (first, owner) in owners {
        txn.set_new(ENGRAMS, key(engram, Kind::Owner, *first), &owner.encode())?;
    }
    let group = HASHES.saturating_mul(txn.mounted().hash_size());
    let mut value = Vec::try_with_capacity(group.saturating_add(1))?;
    for (n, hashes) in hashes.chunks(group.max(1)).enumerate() {
        value.clear();
        value.push(VERSION)?;
        value.try_extend_from_slice(hashes)?;
        txn.set_new(ENGRAMS, key(engram, Kind::Hashes, n), &value)?;
    }
    Ok(())
}

/// Blocks of an engram that were set aside are written: these are their hashes.
pub(crate) fn learn<M: Machine>(
    txn: &mut Transaction<'_, M>,
    engram: EngramId,
    map: &Map,
    first: usize,
    hashes: &[u8],
) -> Result<(), Error> {
    let size = txn.mounted().hash_size();
    let mut at = first;
    let mut rest = hashes;
    while !rest.is_empty() {
        let group = at / HASHES;
        let begin = group.saturating_mul(HASHES);
        let room = map.blocks.saturating_sub(begin).min(HASHES);
        let key = key(engram, Kind::Hashes, group);
        let known = txn.get(ENGRAMS, key, Vec::try_from_slice)?;
        let mut value: Vec<u8> = known.unwrap_or_else(|| Ok(Vec::new()))?;
        value.try_resize(room.saturating_mul(size).saturating_add(1), 0)?;
        if let Some(version) = value.first_mut() {
            *version = VERSION;
        }
        let within = at.saturating_sub(begin);
        let count = room.saturating_sub(within).saturating_mul(size);
        if count == 0 {
            return Err(Error::Engram(engram, Wrong::Disagrees));
        }
        let (now, later) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        let begin_byte = within.saturating_mul(size).saturating_add(1);
        let places = value.iter_mut().skip(begin_byte);
        for (to, from) in places.zip(now) {
            *to = *from;
        }
        txn.set(ENGRAMS, key, &value)?;
        rest = later;
        at = begin.saturating_add(HASHES);
    }
    Ok(())
}

/// Bytes of the journal that a part of an engram takes, in so many copies: in the map, and what is taken for it.
pub(crate) fn cost_of_part(copies: usize) -> usize {
    copies.saturating_mul(8 + 24).saturating_add(4)
}

/// Bytes of the journal that a new engram takes, with so many owners.
pub(crate) fn cost_of_new(blocks: usize, hash_size: usize, owners: usize) -> usize {
    let hashes = blocks
        .div_ceil(HASHES)
        .saturating_mul(HASHES.saturating_mul(hash_size).saturating_add(32));
    hashes
        .saturating_add(PER_ENGRAM)
        .saturating_add(owners.saturating_mul(56))
        .saturating_add(COPIES.saturating_mul(24))
}
