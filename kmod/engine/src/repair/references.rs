// SPDX-License-Identifier: GPL-2.0

//! What is said of blocks that are named more than once is how often files name them. Engrams are gone through in order of their
//! numbers, as many at a time as there is memory for what files name of them; of each, file by file. Where that takes several
//! transactions, what is said of all comes first.

use super::engrams::wanted;
use super::engrams::Named;
use super::engrams::Window;
use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Miscount;
use crate::check::Span;
use crate::check::Trouble;
use crate::format::engram::Live;
use crate::format::engram::MAX_BLOCKS;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::extent::Run;
use crate::format::reference;
use crate::format::reference::Of;
use crate::format::reference::Tally;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::names::Wrong;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::REFERENCES;
use embr_rt::Vec;

const WINDOW_BLOCKS: u64 = extent::WINDOW as u64;
/// Items that change in one transaction, at most: as many as find room on a full volume.
const MOST: usize = 12;

/// Whether an item of the tree of references says what follows from files.
pub(super) fn is_derived(key: Key) -> bool {
    reference::parse_key(key).is_some()
}

/// What is said.
enum Said {
    Nothing,
    Senseless,
    Tally(Tally),
}

impl Said {
    fn number(&self, block: usize) -> u32 {
        match self {
            Said::Tally(tally) => tally.number(block),
            _ => 0,
        }
    }

    fn parse(value: &[u8], of: Of) -> Result<Said, Ended> {
        Ok(Tally::parse(value, of)?.map_or(Said::Senseless, Said::Tally))
    }

    /// The first blocks of which it does not say so.
    fn differs(&self, from: &Tally) -> Option<(Span, u64, u64)> {
        let pair = |block| (self.number(block), from.number(block));
        let differs = |block: &usize| pair(*block).0 != pair(*block).1;
        let first = (0..MAX_BLOCKS).find(differs)?;
        let alike = (first..MAX_BLOCKS).take_while(|block| pair(*block) == pair(first));
        let last = alike.last().unwrap_or(first);
        let (said, are) = pair(first);
        Some((Span { first, last }, said.into(), are.into()))
    }
}

/// How often blocks of an engram are named.
struct Counts<'c> {
    engram: EngramId,
    /// By their inodes.
    named: &'c [Named],
    /// What of it can be named at all.
    can: Live,
    /// By all together.
    sums: Vec<u32>,
    /// Blocks that one has written and another set aside, or several set aside.
    contested: Live,
    /// Who keeps those that nobody has written.
    keepers: Vec<Option<(InodeNo, FileBlock, SnapshotId)>>,
    /// Something may be named that is not known.
    is_torn: bool,
}

impl<'c> Counts<'c> {
    fn of(
        engram: EngramId,
        named: &'c mut [Named],
        can: Live,
        is_torn: bool,
    ) -> Result<Self, Ended> {
        named.sort_unstable_by_key(|n| (n.inode, n.at, n.version));
        let mut counts = Counts {
            engram,
            named,
            can,
            sums: Vec::try_from_elem(0, MAX_BLOCKS)?,
            contested: Live::default(),
            keepers: Vec::try_from_elem(None, MAX_BLOCKS)?,
            is_torn,
        };
        counts.add_up();
        if !is_torn {
            counts.leave_places();
        }
        Ok(counts)
    }

    fn add_up(&mut self) {
        let mut sums = core::mem::take(&mut self.sums);
        sums.iter_mut().for_each(|sum| *sum = 0);
        for named in self.named {
            for block in named.blocks().filter(|b| self.counts(named, *b)) {
                if let Some(sum) = sums.get_mut(block) {
                    *sum = sum.saturating_add(1);
                }
            }
        }
        self.sums = sums;
    }

    /// Whether this counts: what was set aside is left where somebody else has it.
    fn counts(&self, named: &Named, block: usize) -> bool {
        let keeper = self.keepers.get(block).copied().flatten();
        let is_keeper = || keeper == Some((named.inode, named.block(block), named.version));
        self.can.has(block) && (!named.is_unwritten || !self.contested.has(block) || is_keeper())
    }

    /// What was set aside cannot be shared: it is left to who has written it, or to the first.
    fn leave_places(&mut self) {
        let named = self.named;
        if !named.iter().any(|n| n.is_unwritten) {
            return;
        }
        for block in 0..MAX_BLOCKS {
            let by = || named.iter().filter(|n| n.has(block));
            if self.sum(block) < 2 || by().all(|n| !n.is_unwritten) {
                continue;
            }
            self.contested.set(block, 1);
            let is_written = by().any(|n| !n.is_unwritten);
            if let Some(keeper) = self.keepers.get_mut(block).filter(|_| !is_written) {
                *keeper = by().next().map(|n| (n.inode, n.block(block), n.version));
            }
        }
        self.add_up();
    }

    fn sum(&self, block: usize) -> u32 {
        self.sums.get(block).copied().unwrap_or(0)
    }

    /// What is to be said of all.
    fn all(&self, said: &Said) -> Result<Tally, Ended> {
        let mut tally = Tally::try_new()?;
        for block in 0..MAX_BLOCKS {
            let sum = Some(self.sum(block)).filter(|sum| *sum > 1).unwrap_or(0);
            // Who names it may not be known.
            let least = if self.is_torn { said.number(block) } else { 0 };
            tally.set(block, sum.max(least));
        }
        Ok(tally)
    }

    /// What is to be said of a file.
    fn user(&self, inode: InodeNo, said: &Said) -> Result<Tally, Ended> {
        let mut tally = Tally::try_new()?;
        let first = self.named.partition_point(|n| n.inode < inode);
        let end = self.named.partition_point(|n| n.inode <= inode);
        for named in self.named.get(first..end).unwrap_or_default() {
            for block in named.blocks().filter(|b| self.counts(named, *b)) {
                tally.set(block, tally.number(block).saturating_add(1));
            }
        }
        for block in 0..MAX_BLOCKS {
            let (seen, is_said) = (tally.number(block), said.number(block));
            if self.is_torn {
                tally.set(block, seen.max(is_said));
            } else if self.sum(block) == 1 && is_said == 0 && !matches!(said, Said::Senseless) {
                // It has it alone; what was said when it had not stays.
                tally.set(block, 0);
            }
        }
        Ok(tally)
    }

    /// The first file from this one on that names anything.
    fn next(&self, from: InodeNo) -> Option<InodeNo> {
        let at = self.named.partition_point(|n| n.inode < from);
        self.named.get(at).map(|n| n.inode)
    }
}

/// What is wrong with what is said of files.
struct Users {
    patch: Patch,
    /// The first of it.
    wrong: Option<Miscount>,
    /// From where on there may be more.
    next: Option<InodeNo>,
}

fn put(patch: &mut Patch, key: Key, tally: &Tally) -> Result<(), Ended> {
    match tally.encode()? {
        Some(value) => patch.set(REFERENCES, key, &value),
        None => patch.remove(REFERENCES, key),
    }
}

/// Whether a block is named by more than one of these.
fn is_named_twice(named: &[Named]) -> bool {
    let mut once = Live::default();
    named.iter().any(|n| {
        let is_again = n.blocks().any(|block| once.has(block));
        once.set(n.first, n.blocks().len());
        is_again
    })
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// What is said of who names blocks of some engram is wrong: all of them are looked at, once in a round.
    pub(super) fn references(&mut self, _found: &Finding) -> Result<(), Ended> {
        if core::mem::replace(&mut self.counted, true) {
            return Ok(());
        }
        let most = self.most_named();
        let mut from = EngramId(1);
        loop {
            let mut window = self.window(from, most)?;
            self.each_shared(from, &mut window)?;
            match window.end {
                Some(end) => from = end,
                None => return Ok(()),
            }
        }
    }

    /// The first engram from this one on of which anything is said.
    fn said_from(&self, from: EngramId, last: u64) -> Result<Option<EngramId>, Ended> {
        let range = Range {
            first: Key([from.0, 0, 0]),
            last: Key([last, u64::MAX, u64::MAX]),
        };
        Ok(match self.mounted.scan(REFERENCES, range) {
            Some(mut scan) => scan.next()?.map(|(key, _)| EngramId(key.0[0])),
            None => None,
        })
    }

    fn each_shared(&mut self, from: EngramId, window: &mut Window) -> Result<(), Ended> {
        let last = window.end.map_or(u64::MAX, |end| end.0.saturating_sub(1));
        let is_torn = window.is_torn;
        let mut at = from;
        let mut said = self.said_from(at, last)?;
        loop {
            if said.is_some_and(|engram| engram < at) {
                said = self.said_from(at, last)?;
            }
            let first = window.named.partition_point(|n| n.engram < at);
            let named = window.named.get(first).map(|n| n.engram);
            let Some(engram) = [said, named].into_iter().flatten().min() else {
                return Ok(());
            };
            let first = window.named.partition_point(|n| n.engram < engram);
            let end = window.named.partition_point(|n| n.engram <= engram);
            let named = window.named.get_mut(first..end).unwrap_or_default();
            if said == Some(engram) || is_named_twice(named) {
                self.shared(engram, named, is_torn)?;
            }
            match engram.0.checked_add(1).filter(|next| *next <= last) {
                Some(next) => at = EngramId(next),
                None => return Ok(()),
            }
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn shared(
        &mut self,
        engram: EngramId,
        named: &mut [Named],
        is_torn: bool,
    ) -> Result<(), Ended> {
        let can = match self.mounted.map(engram) {
            Ok(map) => wanted(&map, named),
            Err(Error::Fault(why @ (Fault::NoMemory | Fault::Stopped | Fault::ReadOnly))) => {
                return Err(why.into())
            }
            // Of what is not there nothing is shared.
            Err(Error::Engram(_, Wrong::Missing)) if !is_torn => Live::default(),
            Err(_) => {
                let mut all = Live::default();
                all.set(0, MAX_BLOCKS);
                all
            }
        };
        let mut counts = Counts::of(engram, named, can, is_torn)?;
        self.leave_places(&counts)?;
        if is_torn {
            self.add_unknown(&mut counts)?;
        }
        self.count_again(&counts)
    }

    /// Files of which not all can be known name at least what they are said to.
    fn add_unknown(&self, counts: &mut Counts<'_>) -> Result<(), Ended> {
        let range = reference::users(counts.engram);
        let Some(mut scan) = self.mounted.scan(REFERENCES, range) else {
            return Ok(());
        };
        while let Some((key, value)) = scan.next()? {
            let Some((_, of @ Of::User(inode))) = reference::parse_key(key) else {
                continue;
            };
            let said = Said::parse(&value, of)?;
            let seen = counts.user(inode, &Said::Nothing)?;
            for (block, sum) in counts.sums.iter_mut().enumerate() {
                let more = said.number(block).saturating_sub(seen.number(block));
                *sum = sum.saturating_add(more);
            }
        }
        Ok(())
    }

    /// Who has set aside what another has gives it up: it reads as zeros as before.
    fn leave_places(&mut self, counts: &Counts<'_>) -> Result<(), Ended> {
        if counts.contested.count() == 0 {
            return Ok(());
        }
        for named in counts.named.iter().filter(|n| n.is_unwritten) {
            let mut left = Live::default();
            let can = |block: &usize| counts.can.has(*block);
            let blocks = named.blocks().filter(can);
            for block in blocks.filter(|b| !counts.counts(named, *b)) {
                left.set(block, 1);
            }
            if left.count() != 0 {
                self.leave_place(counts.engram, named, left)?;
            }
        }
        Ok(())
    }

    #[inline(never)] // Its frame is large enough alone.
    fn leave_place(&mut self, engram: EngramId, named: &Named, left: Live) -> Result<(), Ended> {
        let window = named.at.0 / WINDOW_BLOCKS;
        let item = Item::new(named.inode, Kind::EXTENTS, window);
        let key = item.at(named.version);
        let value = self.mounted.get(NAMES, key, Vec::try_from_slice)?;
        let Some(value) = value.transpose()? else {
            return Ok(());
        };
        // With several versions, what older ones have there is not to be seen in its place.
        let is_single = self.is_single();
        let Some(all) = extent::parse(&value) else {
            return Ok(());
        };
        let mut runs: Vec<Run> = Vec::new();
        for run in all.iter() {
            let at = window
                .saturating_mul(WINDOW_BLOCKS)
                .saturating_add(run.first as u64);
            let is_it = (run.engram, run.encoding, at, run.block())
                == (engram, Encoding::Unwritten, named.at.0, named.first);
            if !is_it {
                runs.push(run)?;
                continue;
            }
            let end = run.block().saturating_add(run.blocks);
            let mut at = run.block();
            while at < end {
                let first = at;
                let is_left = left.has(first);
                let alike = |block: &usize| left.has(*block) == is_left;
                at = (first..end).find(|block| !alike(block)).unwrap_or(end);
                let blocks = at.saturating_sub(first);
                let place = run.first.saturating_add(first.saturating_sub(run.block()));
                match is_left {
                    true if is_single => {}
                    true => runs.push(Run::hole(place, blocks))?,
                    false => {
                        let encoding = Encoding::Unwritten;
                        runs.push(Run::plain(place, blocks, encoding, engram, first))?;
                    }
                }
            }
        }
        let mut patch = Patch::new();
        match runs.is_empty() {
            true => patch.remove(NAMES, key)?,
            false => patch.set(NAMES, key, &extent::encode(&runs)?)?,
        }
        let count = left.count();
        // Else the next round counts, for each who sees it.
        if is_single {
            self.with_inode(&mut patch, named.inode, |inode| {
                inode.entries = inode.entries.saturating_sub(count as u64);
            })?;
        }
        let found = Finding::Names(item, Trouble::SharedUnwritten(engram));
        self.act(&found, &Deed::PlacesLeft(count), patch)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn count_again(&mut self, counts: &Counts<'_>) -> Result<(), Ended> {
        let key = reference::key(counts.engram, Of::All);
        let value = self
            .mounted
            .get(REFERENCES, key, |value| Said::parse(value, Of::All))?;
        let said = value.unwrap_or(Ok(Said::Nothing))?;
        let all = counts.all(&said)?;
        let wrong = match &said {
            // It may be right for all that is known.
            Said::Senseless if counts.is_torn => None,
            Said::Senseless => Some(Miscount::Senseless(key)),
            said => (said.differs(&all))
                .map(|(span, said, _)| (span, said.max(1), counts.sum(span.first)))
                .map(|(span, said, are)| Miscount::All(span, said, are.into())),
        };
        let mut of_all = wrong.is_some().then_some(all);
        let mut is_told = false;
        let mut from = Some(InodeNo(1));
        while let Some(first) = from {
            let mut users = self.wrong_users(counts, first)?;
            from = users.next;
            // It comes first: where it is too low, blocks would be given back that somebody names.
            if let Some(all) = of_all.take() {
                put(&mut users.patch, key, &all)?;
            }
            if users.patch.is_empty() {
                continue;
            }
            if let Some(wrong) = wrong.or(users.wrong).filter(|_| !is_told) {
                let found = Finding::Reference(counts.engram, wrong);
                self.tell(&found, &Deed::References);
                is_told = true;
            }
            self.commit(users.patch)?;
        }
        Ok(())
    }

    /// What is wrong with what is said of files from this one on, as much of it as one transaction takes.
    #[inline(never)] // Its frame is large enough alone.
    fn wrong_users(&self, counts: &Counts<'_>, first: InodeNo) -> Result<Users, Ended> {
        let range = Range {
            first: reference::key(counts.engram, Of::User(first)),
            last: reference::users(counts.engram).last,
        };
        let mut scan = self.mounted.scan(REFERENCES, range);
        let mut users = Users {
            patch: Patch::new(),
            wrong: None,
            next: None,
        };
        let mut changed = 0usize;
        let mut at = first;
        let mut item = match &mut scan {
            Some(scan) => scan.next()?,
            None => None,
        };
        loop {
            let is_said = item.as_ref().map(|(key, _)| InodeNo(key.0[2]));
            let Some(inode) = [is_said, counts.next(at)].into_iter().flatten().min() else {
                return Ok(users);
            };
            if changed >= MOST {
                users.next = Some(inode);
                return Ok(users);
            }
            let of = Of::User(inode);
            let mut said = Said::Nothing;
            if let Some((_, value)) = item.as_ref().filter(|_| is_said == Some(inode)) {
                said = Said::parse(value, of)?;
                item = match &mut scan {
                    Some(scan) => scan.next()?,
                    None => None,
                };
            }
            let key = reference::key(counts.engram, of);
            let right = counts.user(inode, &said)?;
            let wrong = match &said {
                Said::Senseless if counts.is_torn => None,
                Said::Senseless => Some(Miscount::Senseless(key)),
                said => (said.differs(&right))
                    .map(|(span, said, are)| Miscount::User(inode, span, said, are)),
            };
            if wrong.is_some() {
                put(&mut users.patch, key, &right)?;
                users.wrong = users.wrong.or(wrong);
                changed = changed.saturating_add(1);
            }
            match inode.0.checked_add(1) {
                Some(next) => at = InodeNo(next),
                None => return Ok(users),
            }
        }
    }
}
