// SPDX-License-Identifier: GPL-2.0

//! Blocks of engrams that are named more than once, as a transaction leaves them: how often in all, and how often by the files that it
//! is about. Both change together. A block that is named once is not counted; but a file's part of it may still be there from when it
//! was, so that nobody has to look for who is left.

use crate::format::engram::Live;
use crate::format::reference::key;
use crate::format::reference::Of;
use crate::format::reference::Tally;
use crate::format::reference::GROWTH;
use crate::names::Error;
use crate::names::Wrong;
use crate::txn::Transaction;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::REFERENCES;
use embr_rt::Box;
use embr_rt::Vec;

/// Bytes of the journal that an item takes beside its value, at most.
const PER_ITEM: usize = 40;

/// A tally as the transaction leaves it.
struct Known {
    of: Of,
    /// None where all are zero.
    tally: Option<Tally>,
    /// Whether there is an item of it.
    is_there: bool,
    changed: bool,
}

impl Known {
    fn number(&self, block: usize) -> u32 {
        self.tally.as_ref().map_or(0, |tally| tally.number(block))
    }

    fn set(&mut self, block: usize, number: u32) -> Result<(), Error> {
        let tally = match &mut self.tally {
            Some(tally) => tally,
            none => none.insert(Tally::try_new()?),
        };
        tally.set(block, number);
        self.changed = true;
        Ok(())
    }

    fn size(&self) -> usize {
        let value = self.tally.as_ref().map_or(0, Tally::size);
        value.saturating_add(PER_ITEM)
    }
}

/// What is shared of an engram.
struct Share {
    engram: EngramId,
    /// First of all files together.
    known: Vec<Known>,
    /// What of it lives, where it was asked for.
    live: Option<Live>,
}

impl Share {
    fn known(&mut self, of: Of) -> Result<&mut Known, Error> {
        let missing = Error::Engram(self.engram, Wrong::Missing);
        let known = self.known.iter_mut().find(|known| known.of == of);
        known.ok_or(missing)
    }

    fn number(&mut self, of: Of, block: usize) -> Result<u32, Error> {
        Ok(self.known(of)?.number(block))
    }

    fn set(&mut self, of: Of, block: usize, number: u32) -> Result<(), Error> {
        self.known(of)?.set(block, number)
    }

    /// Looks up what is said of a file, or of all.
    #[inline(never)] // Its frame is large enough alone.
    fn load<M: Machine>(&mut self, mounted: &Mounted<M>, of: Of) -> Result<(), Error> {
        if self.known.iter().any(|known| known.of == of) {
            return Ok(());
        }
        let tally = mounted.tally(self.engram, of)?;
        self.known.push(Known {
            of,
            is_there: tally.is_some(),
            tally,
            changed: false,
        })?;
        Ok(())
    }

    /// Nobody may name what is dead.
    #[inline(never)]
    fn lives<M: Machine>(&mut self, mounted: &Mounted<M>, block: usize) -> Result<(), Error> {
        let live = match self.live {
            Some(live) => live,
            None => {
                let map = mounted.map(self.engram)?;
                let live = mounted.live(self.engram, map.blocks)?;
                self.live = Some(live);
                live
            }
        };
        match live.has(block) {
            true => Ok(()),
            false => Err(Error::Engram(self.engram, Wrong::Disagrees)),
        }
    }

    /// One more names a block: `to`, which has it from `from`.
    #[inline(never)]
    fn add(&mut self, block: usize, from: InodeNo, to: InodeNo) -> Result<(), Error> {
        let (from, to) = (Of::User(from), Of::User(to));
        let bad = Error::Engram(self.engram, Wrong::Disagrees);
        let all = self.number(Of::All, block)?.max(1);
        match (all, self.number(from, block)?) {
            // It had it alone.
            (1, 0) => self.set(from, block, 1)?,
            (1, 1) | (2.., 1..) => {}
            _ => return Err(bad),
        }
        let own = self.number(to, block)?.saturating_add(1);
        let all = all.checked_add(1).ok_or(Error::TooManyLinks)?;
        self.set(to, block, own)?;
        self.set(Of::All, block, all)
    }

    /// This file names a block once less. Says whether nobody does any more.
    #[inline(never)]
    fn release(&mut self, block: usize, user: InodeNo) -> Result<bool, Error> {
        let user = Of::User(user);
        let bad = Error::Engram(self.engram, Wrong::Disagrees);
        match (self.number(Of::All, block)?, self.number(user, block)?) {
            (0, 0) => Ok(true),
            (0, 1) => self.set(user, block, 0).map(|()| true),
            (0 | 1, _) | (_, 0) => Err(bad),
            (all, own) => {
                self.set(user, block, own.saturating_sub(1))?;
                let rest = all.saturating_sub(1);
                // What is named once is not counted.
                let rest = if rest == 1 { 0 } else { rest };
                self.set(Of::All, block, rest).map(|()| false)
            }
        }
    }

    #[inline(never)]
    fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        for known in self.known.iter().filter(|known| known.changed) {
            let key = key(self.engram, known.of);
            let value = match &known.tally {
                Some(tally) => tally.encode()?,
                None => None,
            };
            match value {
                Some(value) => txn.set(REFERENCES, key, &value)?,
                None if known.is_there => txn.remove(REFERENCES, key)?,
                None => {}
            }
        }
        Ok(())
    }
}

/// What of all engrams is shared that the transaction is about. On the heap: few transactions have any, and stacks are small.
#[derive(Default)]
pub(super) struct Shares(Option<Box<Vec<Share>>>);

impl Shares {
    fn iter(&self) -> impl Iterator<Item = &Share> {
        self.0.iter().flat_map(|all| all.iter())
    }

    /// What is shared of an engram, with this file's part of it.
    #[inline(never)]
    fn of<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
        user: InodeNo,
    ) -> Result<&mut Share, Error> {
        let all = match &mut self.0 {
            Some(all) => all,
            none => none.insert(Box::try_new(Vec::new())?),
        };
        let at = match all.binary_search_by_key(&engram, |share| share.engram) {
            Ok(at) => at,
            Err(at) => {
                let share = Share {
                    engram,
                    known: Vec::new(),
                    live: None,
                };
                all.insert(at, share)?;
                at
            }
        };
        let missing = Error::Engram(engram, Wrong::Missing);
        let share = all.get_mut(at).ok_or(missing)?;
        share.load(mounted, Of::All)?;
        share.load(mounted, Of::User(user))?;
        Ok(share)
    }

    #[inline(never)]
    pub(super) fn add<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        (engram, block): (EngramId, usize),
        (from, to): (InodeNo, InodeNo),
    ) -> Result<(), Error> {
        let share = self.of(mounted, engram, from)?;
        share.load(mounted, Of::User(to))?;
        share.lives(mounted, block)?;
        share.add(block, from, to)
    }

    #[inline(never)]
    pub(super) fn release<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        (engram, block): (EngramId, usize),
        user: InodeNo,
    ) -> Result<bool, Error> {
        self.of(mounted, engram, user)?.release(block, user)
    }

    /// Bytes of the journal that it takes at most if this file names less of an engram; nothing where nothing of it is shared.
    #[inline(never)]
    pub(super) fn weight<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        engram: EngramId,
        user: InodeNo,
    ) -> Result<usize, Error> {
        let share = self.of(mounted, engram, user)?;
        let shared = share.known.iter().filter(|known| known.tally.is_some());
        Ok(shared.fold(0, |n: usize, known| {
            n.saturating_add(known.size()).saturating_add(GROWTH)
        }))
    }

    fn sum(&self, each: impl Fn(&Known) -> usize) -> usize {
        let all = self.iter().flat_map(|share| share.known.iter());
        let changed = all.filter(|known| known.changed);
        changed.fold(0, |n: usize, known| n.saturating_add(each(known)))
    }

    /// Items that all this touches.
    pub(super) fn items(&self) -> usize {
        self.sum(|_| 1)
    }

    /// Bytes of the journal that all this takes, at most.
    pub(super) fn cost(&self) -> usize {
        self.sum(Known::size)
    }

    /// Puts it all into the transaction.
    #[inline(never)]
    pub(super) fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        for share in self.iter() {
            share.finish(txn)?;
        }
        Ok(())
    }
}
