// SPDX-License-Identifier: GPL-2.0

//! Lists of the volume's: files without a name, operations that go on, numbers that were given out. And items that make no sense.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Defect;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Flaw;
use crate::check::Miscount;
use crate::check::Oddity;
use crate::check::Trouble;
use crate::format::engram;
use crate::format::inode::FileType;
use crate::format::intent::Intent;
use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::format::stripe;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::StripeId;
use crate::units::TreeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::REFERENCES;
use crate::volume::mounted::SNAPSHOTS;
use crate::volume::mounted::STRIPES;

/// Numbers of inodes are below this.
const MOST_INODES: u64 = 1 << 56;

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// The highest number of an object that there is in a tree.
    fn highest(&self, tree: TreeId, below: u64) -> Result<Option<u64>, Ended> {
        let range = Range {
            first: Key::MIN,
            last: Key([below.saturating_sub(1), u64::MAX, u64::MAX]),
        };
        let Some(mut scan) = self.mounted.scan_back(tree, range) else {
            return Ok(None);
        };
        Ok(scan.next()?.map(|(Key([number, ..]), _)| number))
    }

    /// The number of an object is not among those that were given out, or it is not said which were.
    pub(super) fn counter(&mut self, found: &Finding) -> Result<(), Ended> {
        let (tree, key, below) = match found {
            Finding::Snapshot(..) => return self.snapshot_numbers(found),
            Finding::Names(..) => {
                let item = Item::new(InodeNo::NONE, Kind::NUMBERS, 0);
                (NAMES, item.at(SnapshotId::NONE), MOST_INODES)
            }
            Finding::Engram(..) => (
                ENGRAMS,
                engram::key(EngramId::NONE, engram::Kind::Numbers, 0),
                u64::MAX,
            ),
            _ => (
                STRIPES,
                stripe::key(StripeId::NONE, stripe::Kind::Numbers, 0),
                u64::MAX,
            ),
        };
        if let Finding::Engram(_, Defect::Senseless(at)) = found {
            if *at != key {
                return self.senseless(found);
            }
        }
        let said = self.mounted.get(tree, key, parse_number)?.flatten();
        let Some(highest) = self.highest(tree, below)? else {
            return Ok(());
        };
        let least = highest.max(InodeNo::ROOT.0).saturating_add(1);
        let is_right = said.is_some_and(|n| n.0 >= least);
        if is_right || least >= below {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.set(tree, key, &encode_number(InodeNo(least)))?;
        self.act(found, &Deed::Counter(least), patch)
    }

    /// An item that makes no sense, where the user wants it gone.
    pub(super) fn senseless(&mut self, found: &Finding) -> Result<(), Ended> {
        if !self.options.drop_senseless {
            return Ok(());
        }
        let (tree, key) = match found {
            Finding::Names(item, Trouble::Version(id)) => (NAMES, item.at(SnapshotId(*id))),
            // Of no snapshot.
            Finding::Names(item, _) if item.kind() == Kind::NUMBERS => {
                (NAMES, item.at(SnapshotId::NONE))
            }
            Finding::Names(item, _) => return self.senseless_name(found, *item),
            Finding::Engram(_, Defect::Senseless(key)) => (ENGRAMS, *key),
            Finding::Reference(_, Miscount::Senseless(key)) => (REFERENCES, *key),
            Finding::Stripe(_, Flaw::Senseless(key)) => (STRIPES, *key),
            Finding::Snapshot(_, Oddity::Senseless(key)) => (SNAPSHOTS, *key),
            _ => return Ok(()),
        };
        if self.mounted.get(tree, key, |_| ())?.is_none() {
            return Ok(());
        }
        let mut patch = Patch::new();
        patch.remove(tree, key)?;
        self.act(found, &Deed::Dropped, patch)
    }

    /// An item of names that makes no sense. Of a file's contents it goes only where nothing else would be seen in its place.
    fn senseless_name(&mut self, found: &Finding, item: Item) -> Result<(), Ended> {
        let mut patch = Patch::new();
        if item.kind() == Kind::EXTENTS && !self.files.view.is_single() {
            let versions = self.versions(item)?;
            let now = self.files.view.now();
            let mut seen = versions.iter().filter(|v| now.sees(v.id));
            let (Some(one), None) = (seen.next(), seen.next()) else {
                return Ok(());
            };
            if !now.owns(one.id) || one.is_gone {
                return Ok(());
            }
            patch.remove(NAMES, item.at(one.id))?;
            return self.act(found, &Deed::Dropped, patch);
        }
        if self.value(item)?.is_none() {
            return Ok(());
        }
        // To say that it is gone would hide all that others have of it.
        let is_inode = item == Item::inode(item.owner());
        let now = self.files.view.now();
        if is_inode && now.inherited(self.mounted, item)?.is_some() {
            return self.make(found, item.owner());
        }
        self.take_away(&mut patch, item)?;
        self.act(found, &Deed::Dropped, patch)
    }

    /// An item of the list of files without a name, or of operations, that should not be there, or elsewhere.
    pub(super) fn listed(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(());
        };
        let Some(value) = self.value(*item)? else {
            return Ok(());
        };
        let is_orphan = item.kind() == Kind::ORPHAN;
        let number = match is_orphan {
            true => parse_number(&value),
            false => Intent::parse(&value).map(|intent| intent.inode),
        };
        let Some(number) = number else {
            return Ok(());
        };
        let serves = match look(self.files.inode(number).map(Some))? {
            Look::There(inode) if is_orphan => inode.nlink == 0,
            Look::There(inode) => inode.kind == FileType::Regular,
            // While anything is left of the file, it may be made again.
            Look::Missing => self.has_items(number)?,
            Look::Unknown => return Ok(()),
        };
        let right = Item::new(InodeNo::NONE, item.kind(), number.0);
        let mut patch = Patch::new();
        if serves && right == *item {
            return Ok(());
        }
        self.take_away(&mut patch, *item)?;
        if !serves {
            return self.act(found, &Deed::ListedDropped, patch);
        }
        if self.value(right)?.is_some() {
            return self.act(found, &Deed::ListedDropped, patch);
        }
        self.put(&mut patch, right, &value)?;
        self.act(found, &Deed::ListedMoved, patch)
    }

    /// Whether a file is in the list of those without a name.
    pub(super) fn is_orphan(&self, number: InodeNo) -> Result<bool, Ended> {
        let item = Item::new(InodeNo::NONE, Kind::ORPHAN, number.0);
        let value = self.files.view.get(self.mounted, item);
        Ok(match look(value.map_err(Error::Fault))? {
            Look::There(value) => parse_number(&value) == Some(number),
            Look::Missing => false,
            // It may be.
            Look::Unknown => true,
        })
    }
}
