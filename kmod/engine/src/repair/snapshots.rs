// SPDX-License-Identifier: GPL-2.0

//! Versions: what is noted of them, and those that nobody sees. What a snapshot sees is never changed here.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::data::items;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Oddity;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::extent::Run;
use crate::format::snapshot;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::snapshot::Seen;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;
use embr_rt::Vec;

/// Items that are removed in one transaction, at most: as many as find room on a full volume.
const MOST: usize = 12;
/// Numbers of snapshots are below this.
const MOST_SNAPSHOTS: u64 = 1 << 56;

/// What is done with each version of each item; it ends where this says no.
type Each<'f> = &'f mut dyn FnMut(Item, SnapshotId, &[u8]) -> Result<bool, Ended>;

/// A version of an item.
pub(super) struct Version {
    pub(super) id: SnapshotId,
    /// The item is gone by it.
    pub(super) is_gone: bool,
}

/// Which blocks of a window these runs tell of.
fn told(runs: extent::Runs<'_>) -> u32 {
    let blocks = |run: Run| run.first..run.first.saturating_add(run.blocks);
    let all = runs.iter().flat_map(blocks);
    all.fold(0, |bits, n| bits | 1u32.wrapping_shl(n as u32))
}

/// These runs without those blocks; none if one is of a kind that cannot be cut.
fn without(runs: extent::Runs<'_>, hidden: u32) -> Result<Option<Vec<Run>>, Ended> {
    let mut left = Vec::new();
    for run in runs.iter() {
        let end = run.first.saturating_add(run.blocks);
        let is_left = |n: usize| hidden.wrapping_shr(n as u32) & 1 == 0;
        if (run.first..end).all(is_left) {
            left.push(run)?;
            continue;
        }
        let mut at = run.first;
        while let Some(first) = (at..end).find(|n| is_left(*n)) {
            at = (first..end).find(|n| !is_left(*n)).unwrap_or(end);
            let blocks = at.saturating_sub(first);
            let skipped = first.saturating_sub(run.first);
            left.push(match run.encoding {
                Encoding::Hole => Run::hole(first, blocks),
                Encoding::Raw | Encoding::Unwritten => {
                    let block = run.block().saturating_add(skipped);
                    Run::plain(first, blocks, run.encoding, run.engram, block)
                }
                _ => return Ok(None),
            })?;
        }
    }
    Ok(Some(left))
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// All versions of an item, the newest first.
    pub(super) fn versions(&self, item: Item) -> Result<Vec<Version>, Ended> {
        let mut versions = Vec::new();
        let Some(mut scan) = self.mounted.scan(NAMES, item.to(item)) else {
            return Ok(versions);
        };
        while let Some((key, value)) = scan.next()? {
            versions.push(Version {
                id: Item::of(key).1,
                is_gone: value.is_empty(),
            })?;
        }
        Ok(versions)
    }

    /// Whether there is one version of everything.
    pub(super) fn is_single(&self) -> bool {
        match self.states {
            Some([one]) => one.view.is_single(),
            _ => false,
        }
    }

    /// The newest version of an item that is seen.
    pub(super) fn newest(&self, item: Item) -> Result<Option<SnapshotId>, Ended> {
        let now = self.files.view.now();
        let versions = self.versions(item)?;
        let found = versions.iter().find(|v| now.sees(v.id));
        Ok(found.map(|v| v.id))
    }

    /// Calls `f` with all versions of all items of an inode until that says no.
    fn each_of(&self, number: InodeNo, f: Each<'_>) -> Result<(), Ended> {
        let Some(mut scan) = self.mounted.scan(NAMES, Item::all(number)) else {
            return Ok(());
        };
        while let Some((key, value)) = scan.next()? {
            let (item, id) = Item::of(key);
            if !f(item, id, &value)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether anything of an inode, beside itself, is there that nobody else sees.
    pub(super) fn has_own(&self, number: InodeNo) -> Result<bool, Ended> {
        let now = self.files.view.now();
        let mut found = false;
        self.each_of(number, &mut |item, id, value| {
            found |= item.kind() != Kind::INODE && now.owns(id) && !value.is_empty();
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Whether anything of an inode is seen that others have as well.
    pub(super) fn inherits(&self, number: InodeNo) -> Result<bool, Ended> {
        let now = self.files.view.now();
        let mut found = false;
        self.each_of(number, &mut |_, id, value| {
            found |= now.sees(id) && !now.owns(id) && !value.is_empty();
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Removes all of an inode that nobody else sees, but for itself.
    pub(super) fn remove_own(&mut self, number: InodeNo) -> Result<(), Ended> {
        loop {
            let mut patch = Patch::new();
            let mut count = 0usize;
            let view = self.files.view;
            self.each_of(number, &mut |item, id, _| {
                if view.owns(id) && item.kind() != Kind::INODE {
                    patch.remove(NAMES, item.at(id))?;
                    count = count.saturating_add(1);
                }
                Ok(count < MOST)
            })?;
            if patch.is_empty() || self.options.dry_run {
                return Ok(());
            }
            self.commit(patch)?;
        }
    }

    /// The block behind the last one that any version that is seen has of a file.
    pub(super) fn end_of(&self, number: InodeNo) -> Result<u64, Ended> {
        let now = self.files.view.now();
        let mut end = 0u64;
        self.each_of(number, &mut |item, id, value| {
            if !now.sees(id) || item.kind() != Kind::EXTENTS {
                return Ok(true);
            }
            let base = item.sub().saturating_mul(extent::WINDOW as u64);
            let Some(all) = extent::parse(value) else {
                return Ok(true);
            };
            for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
                end = end.max(base.saturating_add(run.end() as u64));
            }
            Ok(true)
        })?;
        Ok(end)
    }

    fn all_seen(&self) -> Result<Vec<Seen>, Ended> {
        Ok(match look(self.files.names.seen(self.mounted).map(Some))? {
            Look::There(seen) => seen,
            _ => Vec::new(),
        })
    }

    /// Something was touched in a snapshot, which is not noted; or a note makes no sense.
    pub(super) fn note_touched(&mut self, found: &Finding) -> Result<(), Ended> {
        let key = match found {
            Finding::Snapshot(id, Oddity::NotNoted(item)) => {
                snapshot::touched(*id, item.owner(), item.group().0.place())
            }
            Finding::Snapshot(_, Oddity::Senseless(key)) => {
                let seen = self.all_seen()?;
                let is_of_place =
                    snapshot::parse_touched(*key).is_some_and(|(id, inode, place)| {
                        let item = Item::from_place(inode, place);
                        let is_first = place == 0 || item.group().0 == item;
                        is_first && seen.iter().any(|s| s.has(id))
                    });
                match is_of_place {
                    true => *key,
                    false => return self.senseless(found),
                }
            }
            _ => return Ok(()),
        };
        let said = self.mounted.get(SNAPSHOTS, key, snapshot::is_touched)?;
        if said == Some(true) {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.set(SNAPSHOTS, key, &snapshot::TOUCHED)?;
        self.act(found, &Deed::Noted, patch)
    }

    /// A version that a newer one of the same snapshot hides, or that is behind an inode that this one has removed.
    pub(super) fn hidden(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Snapshot(id, Oddity::Hidden(item)) = found else {
            return Ok(());
        };
        let seen = self.all_seen()?;
        let Some(owner) = seen.iter().find(|s| s.has(*id) && s.is_swept()) else {
            return Ok(());
        };
        let key = item.at(*id);
        let value = self.mounted.get(NAMES, key, Vec::try_from_slice)?;
        let Some(value) = value.transpose()? else {
            return Ok(());
        };
        let mut patch = Patch::new();
        if self.is_behind(owner, *item)? {
            patch.remove(NAMES, key)?;
            return self.act(found, &Deed::HiddenRemoved, patch);
        }
        let versions = self.versions(*item)?;
        let newer = versions.iter().filter(|v| v.id > *id && owner.has(v.id));
        if item.kind() != Kind::EXTENTS {
            if newer.count() != 0 {
                patch.remove(NAMES, key)?;
                return self.act(found, &Deed::HiddenRemoved, patch);
            }
            return Ok(());
        }
        let mut hidden = 0u32;
        for version in newer {
            let runs = |value: &[u8]| extent::parse(value).map_or(0, told);
            let bits = self.mounted.get(NAMES, item.at(version.id), runs)?;
            hidden |= bits.unwrap_or(0);
        }
        let Some(runs) = extent::parse(&value) else {
            return Ok(());
        };
        if told(runs) & hidden == 0 {
            return Ok(());
        }
        let Some(left) = without(runs, hidden)? else {
            return Ok(());
        };
        match left.is_empty() {
            true => patch.remove(NAMES, key)?,
            false => patch.set(NAMES, key, &extent::encode(&left)?)?,
        }
        self.act(found, &Deed::HiddenRemoved, patch)
    }

    /// Whether an item is behind an inode that this one has removed, and that it had from others. Not where it has a name still, or came from
    /// nobody else: then it may be wrong that it is gone.
    fn is_behind(&mut self, owner: &Seen, item: Item) -> Result<bool, Ended> {
        let inode = Item::inode(item.owner());
        if item == inode || item.owner() == InodeNo::NONE {
            return Ok(false);
        }
        let versions = self.versions(inode)?;
        let newest = versions.iter().find(|v| owner.has(v.id));
        if !newest.is_some_and(|v| v.is_gone) || self.is_idle(owner, inode)? {
            return Ok(false);
        }
        let current = owner.lineage().current();
        let all = self.states.unwrap_or_default();
        let Some(state) = all.iter().find(|s| s.view.current() == current) else {
            return Ok(true);
        };
        let names = self.seen_by(state, |mender| mender.names_of(item.owner()))?;
        Ok(names.is_some_and(|names| !names.iter().any(|n| n.is_sound())))
    }

    /// Whether nobody else has an item that this one has, or has removed.
    fn is_idle(&self, owner: &Seen, item: Item) -> Result<bool, Ended> {
        let below = owner.lineage().inherited(self.mounted, item);
        Ok(matches!(look(below.map_err(Error::Fault))?, Look::Missing))
    }

    /// A version says that an item is gone which is not there anyway. If there is something of its own behind an inode, that is seen again, and
    /// the inode made again.
    pub(super) fn idle(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Snapshot(id, Oddity::Idle(item)) = found else {
            return Ok(());
        };
        let seen = self.all_seen()?;
        let Some(owner) = seen.iter().find(|s| s.has(*id) && s.is_swept()) else {
            return Ok(());
        };
        let versions = self.versions(*item)?;
        // What is older and hidden goes first.
        let mut own = versions.iter().filter(|v| owner.has(v.id));
        let (Some(one), None) = (own.next(), own.next()) else {
            return Ok(());
        };
        if !one.is_gone || one.id != *id || !self.is_idle(owner, *item)? {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.remove(NAMES, item.at(*id))?;
        self.act(found, &Deed::IdleRemoved, patch)
    }

    /// It is not said which numbers of snapshots were given out, or one that is there was not.
    pub(super) fn snapshot_numbers(&mut self, found: &Finding) -> Result<(), Ended> {
        let key = snapshot::NUMBERS;
        let said = self
            .mounted
            .get(SNAPSHOTS, key, snapshot::parse_number)?
            .flatten();
        let mut nodes = 0usize;
        let mut highest = SnapshotId::FIRST;
        let mut see = |id: SnapshotId| {
            if id.0 < MOST_SNAPSHOTS {
                highest = highest.max(id);
            }
        };
        items(self.mounted, SNAPSHOTS, &mut |key, _| {
            if let Some(id) = snapshot::parse_node(key) {
                nodes = nodes.saturating_add(1);
                see(id);
            }
            see(SnapshotId(key.0[0]));
            Ok(())
        })?;
        items(self.mounted, NAMES, &mut |key, _| {
            see(Item::of(key).1);
            Ok(())
        })?;
        let least = SnapshotId(highest.0.saturating_add(1));
        if nodes == 0 || said.is_some_and(|said| said >= least) {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.set(SNAPSHOTS, key, &snapshot::encode_number(least))?;
        self.act(found, &Deed::Counter(least.0), patch)
    }
}
