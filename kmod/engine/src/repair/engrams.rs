// SPDX-License-Identifier: GPL-2.0

//! What lives of an engram is what files name, and it is theirs. Engrams are gone through in order of their numbers, as many at a time as
//! there is memory for what files name of them.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::data;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Defect;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::engram;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Owner;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::reference::Of;
use crate::names::Item;
use crate::names::Kind;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::STRIPES;
use embr_rt::Vec;

/// As many at a time, at least.
const LEAST: u64 = 1024;
const MAX_SUB: usize = (1 << 56) - 1;

/// Whether an item of the tree of engrams says what follows from files.
pub(super) fn is_derived(key: Key) -> bool {
    let engram = EngramId(key.0[0]);
    let is_live = key == engram::key(engram, engram::Kind::Live, 0);
    engram != EngramId::NONE && (is_live || data::is(key, engram::Kind::Owner, engram))
}

/// Blocks of an engram that a file names.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub(super) engram: EngramId,
    pub(super) first: usize,
    blocks: usize,
    pub(super) inode: InodeNo,
    pub(super) at: FileBlock,
    /// By this version.
    pub(super) version: SnapshotId,
    /// It was set aside, and nothing was written to it.
    pub(super) is_unwritten: bool,
}

impl Named {
    pub(super) fn blocks(&self) -> core::ops::Range<usize> {
        self.first..self.first.saturating_add(self.blocks)
    }

    /// Which block of the file one of the engram is.
    pub(super) fn block(&self, block: usize) -> FileBlock {
        self.at.plus(block.saturating_sub(self.first) as u64)
    }

    pub(super) fn has(&self, block: usize) -> bool {
        self.blocks().contains(&block)
    }
}

/// All that files name of some engrams.
pub(super) struct Window {
    pub(super) named: Vec<Named>,
    /// The engrams are below this; none where they are all that are left.
    pub(super) end: Option<EngramId>,
    /// Something may be named that is not known.
    pub(super) is_torn: bool,
}

impl Window {
    /// Keeps so many, of whole engrams, the lowest.
    fn trim(&mut self, most: usize) {
        self.named
            .sort_unstable_by_key(|n| (n.engram, n.first, n.inode, n.at));
        let (Some(first), Some(cut)) = (self.named.first(), self.named.get(most)) else {
            return;
        };
        let end = match cut.engram == first.engram {
            true => EngramId(cut.engram.0.saturating_add(1)),
            false => cut.engram,
        };
        self.end = Some(end);
        self.named.retain(|n| n.engram < end);
    }
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// What lives of some engram, or whose it is, is wrong: all of them are looked at, once in a round.
    pub(super) fn engrams(&mut self, _found: &Finding) -> Result<(), Ended> {
        if core::mem::replace(&mut self.swept, true) {
            return Ok(());
        }
        let most = self.most_named();
        let mut from = EngramId(1);
        loop {
            let window = self.window(from, most)?;
            self.each(from, &window)?;
            match window.end {
                Some(end) => from = end,
                None => return Ok(()),
            }
        }
    }

    /// How much of what files name is gathered at a time.
    pub(super) fn most_named(&self) -> usize {
        let size = size_of::<Named>() as u64;
        let most = (self.options.check.memory.0 / 8).checked_div(size);
        usize::try_from(most.unwrap_or(0).max(LEAST)).unwrap_or(usize::MAX)
    }

    /// What files name of engrams from this number on.
    pub(super) fn window(&self, from: EngramId, most: usize) -> Result<Window, Ended> {
        let mut window = Window {
            named: Vec::new(),
            end: None,
            is_torn: false,
        };
        let mut full = most.saturating_mul(2);
        let is_lost = data::items(self.mounted, NAMES, &mut |key, value| {
            let (item, version) = Item::of(key);
            // Of other snapshots too, which nobody sees: what they name stays.
            if item.kind() != Kind::EXTENTS || value.is_empty() {
                return Ok(());
            }
            let Some(all) = extent::parse(value) else {
                window.is_torn = true;
                return Ok(());
            };
            let base = item.sub().saturating_mul(extent::WINDOW as u64);
            for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
                let is_here = run.engram >= from && window.end.is_none_or(|end| run.engram < end);
                if !is_here {
                    continue;
                }
                window.named.push(Named {
                    engram: run.engram,
                    first: run.block(),
                    blocks: run.blocks,
                    inode: item.owner(),
                    at: FileBlock(base.saturating_add(run.first as u64)),
                    version,
                    is_unwritten: run.encoding == Encoding::Unwritten,
                })?;
            }
            if window.named.len() >= full {
                window.trim(most);
                // One engram may be named by more than that.
                full = window.named.len().max(most).saturating_mul(2);
            }
            Ok(())
        })?;
        window.is_torn |= is_lost;
        window.trim(most);
        Ok(window)
    }

    fn each(&mut self, from: EngramId, window: &Window) -> Result<(), Ended> {
        let mut at = from;
        let last = window.end.map_or(u64::MAX, |end| end.0.saturating_sub(1));
        loop {
            let range = Range {
                first: Key([at.0, 0, 0]),
                last: Key([last, u64::MAX, u64::MAX]),
            };
            // Nothing commits while somebody goes through a tree.
            let next = match self.mounted.scan(ENGRAMS, range) {
                Some(mut scan) => scan.next()?.map(|(key, _)| EngramId(key.0[0])),
                None => None,
            };
            let Some(engram) = next else {
                return Ok(());
            };
            let first = window.named.partition_point(|n| n.engram < engram);
            let end = window.named.partition_point(|n| n.engram <= engram);
            let named = window.named.get(first..end).unwrap_or_default();
            self.engram(engram, named, window.is_torn)?;
            match engram.0.checked_add(1).filter(|next| *next <= last) {
                Some(next) => at = EngramId(next),
                None => return Ok(()),
            }
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn engram(&mut self, engram: EngramId, named: &[Named], is_torn: bool) -> Result<(), Ended> {
        let map = match look(self.mounted.map(engram).map(Some))? {
            Look::There(map) => map,
            _ => return self.without_map(engram, named, is_torn),
        };
        let said = look(self.mounted.live(engram, map.blocks).map(Some))?;
        let said = match said {
            Look::There(live) => Some(live),
            _ => None,
        };
        let mut live = wanted(&map, named);
        if is_torn {
            // What is said to live may be named where that cannot be known; where nothing is said, all of it.
            let mut all = Live::default();
            all.set(0, map.blocks);
            for (first, blocks) in said.unwrap_or(all).runs(0, map.blocks) {
                live.set(first, blocks);
            }
        }
        let owners = self.owners(engram)?;
        if said == Some(live) {
            let is_right = |told| are_right(&owners, &live, named, (told, is_torn));
            if is_right(Live::default()) || is_right(self.told(engram, named)?) {
                return Ok(());
            }
        }
        let before = said.unwrap_or_default();
        let gone = (0..map.blocks).find(|b| before.has(*b) && !live.has(*b));
        let whose = gone.and_then(|block| {
            let owner = owners.iter().find(|(first, owner)| {
                let end = first.saturating_add(owner.map_or(0, |o| o.blocks));
                (*first..end).contains(&block)
            });
            let (first, owner) = owner?;
            let at = (*owner)?.at.plus(block.saturating_sub(*first) as u64);
            Some(((*owner)?.inode, at))
        });
        let count = |is: &dyn Fn(usize) -> bool| (0..map.blocks).filter(|b| is(*b)).count();
        let more = count(&|b| live.has(b) && !before.has(b));
        let fewer = count(&|b| before.has(b) && !live.has(b));
        let defect = match said {
            None => Defect::NoLive,
            Some(_) if live.count() == 0 => Defect::Dead,
            Some(_) => Defect::Unowned,
        };
        let found = Finding::Engram(engram, defect);
        let mut patch = Patch::new();
        if live.count() == 0 && map.is_copied() {
            patch.remove_range(ENGRAMS, engram::all(engram))?;
            let deed = match whose {
                Some(_) => Deed::Engram(0, fewer, whose),
                None => Deed::EngramRemoved,
            };
            return self.act(&found, &deed, patch);
        }
        let key = engram::key(engram, engram::Kind::Live, 0);
        patch.set(ENGRAMS, key, &live.encode(map.blocks)?)?;
        let all = Range {
            first: engram::key(engram, engram::Kind::Owner, 0),
            last: engram::key(engram, engram::Kind::Owner, MAX_SUB),
        };
        patch.remove_range(ENGRAMS, all)?;
        let right = own(&owners, &live, named)?;
        // Where not all can be known, nothing better may come of it.
        let same = |(old, new): (&(usize, Option<Owner>), &(usize, Owner))| {
            old.0 == new.0 && old.1 == Some(new.1)
        };
        let is_same = owners.len() == right.len() && owners.iter().zip(right.iter()).all(same);
        if said == Some(live) && is_same {
            return Ok(());
        }
        for (first, owner) in right.iter() {
            let key = engram::key(engram, engram::Kind::Owner, *first);
            patch.set(ENGRAMS, key, &owner.encode())?;
        }
        self.act(&found, &Deed::Engram(more, fewer, whose), patch)
    }

    /// Nothing says where it lies. If nobody names it, and no stripe can need its hashes, it goes.
    fn without_map(
        &mut self,
        engram: EngramId,
        named: &[Named],
        is_torn: bool,
    ) -> Result<(), Ended> {
        let key = engram::key(engram, engram::Kind::Map, 0);
        let has_map = self.mounted.get(ENGRAMS, key, |_| ())?.is_some();
        let stripes = self.mounted.scan(STRIPES, Range::ALL);
        let has_stripes = match stripes {
            Some(mut scan) => scan.next()?.is_some(),
            None => false,
        };
        if has_map || has_stripes || is_torn || !named.is_empty() {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.remove_range(ENGRAMS, engram::all(engram))?;
        let found = Finding::Engram(engram, Defect::NoMap);
        self.act(&found, &Deed::EngramRemoved, patch)
    }

    /// Blocks of which references say who has them: their owners may have gone.
    #[inline(never)]
    fn told(&self, engram: EngramId, named: &[Named]) -> Result<Live, Ended> {
        let mut told = Live::default();
        for named in named.iter().filter(|n| n.inode != InodeNo::NONE) {
            let of = Of::User(named.inode);
            if let Look::There(tally) = look(self.mounted.tally(engram, of))? {
                for block in named.blocks().filter(|b| tally.number(*b) != 0) {
                    told.set(block, 1);
                }
            }
        }
        Ok(told)
    }

    /// The owners that an engram has: where each begins; nothing where it makes no sense.
    fn owners(&self, engram: EngramId) -> Result<Vec<(usize, Option<Owner>)>, Ended> {
        let range = Range {
            first: engram::key(engram, engram::Kind::Owner, 0),
            last: engram::key(engram, engram::Kind::Owner, MAX_SUB),
        };
        let mut owners = Vec::new();
        let Some(mut scan) = self.mounted.scan(ENGRAMS, range) else {
            return Ok(owners);
        };
        while let Some((key, value)) = scan.next()? {
            let first = engram::sub(key) as usize;
            let owner = Owner::parse(&value).filter(|_| first < engram::MAX_BLOCKS);
            owners.push((first, owner))?;
        }
        Ok(owners)
    }
}

/// What has to live, as these name it.
pub(super) fn wanted(map: &Map, named: &[Named]) -> Live {
    let mut live = Live::default();
    for named in named {
        let end = named.first.saturating_add(named.blocks).min(map.blocks);
        for block in named.first..end {
            if map.part(block).is_some() || map.piece(block).is_some() {
                live.set(block, 1);
            }
        }
    }
    live
}

/// Whether each block that lives has one owner, who names it unless it is told who does, and no other has any.
fn are_right(
    owners: &[(usize, Option<Owner>)],
    live: &Live,
    named: &[Named],
    (told, is_torn): (Live, bool),
) -> bool {
    let mut owned = Live::default();
    for (first, owner) in owners {
        let Some(owner) = owner else {
            return false;
        };
        for block in *first..first.saturating_add(owner.blocks) {
            let is_theirs = |n: &Named| n.inode == owner.inode && n.has(block);
            let is_known = is_torn || told.has(block) || named.iter().any(is_theirs);
            if owned.has(block) || !live.has(block) || !is_known {
                return false;
            }
            owned.set(block, 1);
        }
    }
    owned == *live
}

/// Whose what lives is: theirs who name it; what nobody is known to name keeps its owner.
fn own(
    owners: &[(usize, Option<Owner>)],
    live: &Live,
    named: &[Named],
) -> Result<Vec<(usize, Owner)>, Ended> {
    let mut left = *live;
    let mut right = Vec::new();
    let old = owners
        .iter()
        .filter_map(|(first, owner)| Some((*first, (*owner)?)));
    let new = named.iter().map(|n| {
        let owner = Owner {
            blocks: n.blocks,
            inode: n.inode,
            at: n.at,
        };
        (n.first, owner)
    });
    for (first, owner) in new.chain(old) {
        for (begin, blocks) in left.runs(first, owner.blocks) {
            let part = Owner {
                blocks,
                at: owner.at.plus(begin.saturating_sub(first) as u64),
                ..owner
            };
            right.push((begin, part))?;
        }
        left.clear(first, owner.blocks);
    }
    right.sort_unstable_by_key(|(first, _)| *first);
    Ok(right)
}
