// SPDX-License-Identifier: GPL-2.0

//! Snapshots: whether their nodes make a tree, whether every version of an item is somebody's and was noted, and whether what nobody sees
//! was given back where nothing awaits that.

use super::data::items;
use super::names::look;
use super::names::Look;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Oddity;
use super::Stage;
use super::Trouble;
use crate::format::extent;
use crate::format::snapshot;
use crate::names::Error;
use crate::names::Files;
use crate::names::Item;
use crate::names::Kind;
use crate::names::Wrong;
use crate::snapshot::Seen;
use crate::tree::Key;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SNAPSHOTS;
use embr_rt::Vec;

/// The versions of one item, the newest first, each with whether the item is gone by it, and which blocks it tells of.
struct Versions {
    item: Item,
    all: Vec<(SnapshotId, bool, u32)>,
}

impl<M: Machine, O: Observer> Check<'_, M, O> {
    /// Reads what snapshots there are. None where that cannot be known.
    pub(super) fn seen(&mut self, files: Files<'_, M>) -> Result<Option<Vec<Seen>>, Ended> {
        match files.names.seen(self.mounted) {
            Ok(seen) => Ok(Some(seen)),
            Err(Error::Snapshot(id, wrong)) => {
                self.found(Finding::Snapshot(id, Oddity::Node(wrong)));
                Ok(None)
            }
            Err(why) => match look::<()>(Err(why))? {
                // A node that is lost is told of.
                Look::Unknown | Look::Missing | Look::There(()) => Ok(None),
            },
        }
    }

    /// Checks what is noted, and all versions of all items.
    pub(super) fn snapshots(&mut self, seen: &[Seen]) -> Result<(), Ended> {
        let mounted = self.mounted;
        self.begin(Stage::Snapshots)?;
        items(mounted, SNAPSHOTS, &mut |key, value| {
            self.pass(Stage::Snapshots)?;
            if key == snapshot::NUMBERS || snapshot::parse_node(key).is_some() {
                return Ok(());
            }
            let touched = snapshot::parse_touched(key);
            let sound = touched.filter(|(id, inode, place)| {
                let item = Item::from_place(*inode, *place);
                let is_known = seen.iter().any(|s| s.has(*id));
                let is_first = *place == 0 || item.group().0 == item;
                is_known && is_first && snapshot::is_touched(value)
            });
            if sound.is_none() {
                self.found(Finding::Snapshot(
                    SnapshotId(key.0[0]),
                    Oddity::Senseless(key),
                ));
            }
            Ok(())
        })?;
        let mut versions: Option<Versions> = None;
        let mut gone = Gone::default();
        let is_lost = items(mounted, NAMES, &mut |key, value| {
            self.pass(Stage::Snapshots)?;
            let (item, id) = Item::of(key);
            if item.kind() == Kind::NUMBERS {
                return Ok(());
            }
            if versions.as_ref().is_none_or(|v| v.item != item) {
                if let Some(done) = versions.take() {
                    self.versions(&done, seen, &mut gone)?;
                }
                versions = Some(Versions {
                    item,
                    all: Vec::new(),
                });
            }
            if let Some(versions) = &mut versions {
                versions
                    .all
                    .push((id, value.is_empty(), blocks(item, value)))?;
            }
            Ok(())
        })?;
        match versions {
            Some(last) if !is_lost => self.versions(&last, seen, &mut gone),
            _ => Ok(()),
        }
    }

    fn versions(
        &mut self,
        versions: &Versions,
        seen: &[Seen],
        gone: &mut Gone,
    ) -> Result<(), Ended> {
        let item = versions.item;
        if item.kind() == Kind::INODE {
            // The inode's own item comes first.
            gone.inode = item.owner();
            gone.versions.clear();
        }
        for (n, (id, is_gone, blocks)) in versions.all.iter().enumerate() {
            let Some(owner) = seen.iter().find(|s| s.has(*id)) else {
                self.found(Finding::Names(item, Trouble::Version(id.0)));
                continue;
            };
            if owner.is_noted() && !self.is_noted(item, *id)? {
                self.found(Finding::Snapshot(*id, Oddity::NotNoted(item)));
            }
            if !owner.is_swept() {
                continue;
            }
            let mut newer = versions
                .all
                .iter()
                .take(n)
                .filter(|(id, ..)| owner.has(*id));
            let is_hidden = match item.kind() {
                Kind::EXTENTS => newer.any(|(_, _, others)| others & blocks != 0),
                _ => newer.next().is_some(),
            };
            if item.kind() == Kind::INODE && *is_gone && !is_hidden {
                gone.versions.push(*id)?;
            }
            let is_hidden = is_hidden || gone.hides(item, owner);
            if is_hidden {
                self.found(Finding::Snapshot(*id, Oddity::Hidden(item)));
            } else if *is_gone {
                let below = owner.lineage().inherited(self.mounted, item);
                if matches!(look(below.map_err(Error::Fault))?, Look::Missing) {
                    self.found(Finding::Snapshot(*id, Oddity::Idle(item)));
                }
            }
        }
        Ok(())
    }

    fn is_noted(&mut self, item: Item, id: SnapshotId) -> Result<bool, Ended> {
        let place = item.group().0.place();
        for place in [0, place] {
            let key: Key = snapshot::touched(id, item.owner(), place);
            if place == 0 && item.owner() == InodeNo::NONE {
                continue;
            }
            let found = self.mounted.get(SNAPSHOTS, key, |_| ());
            if !matches!(look(found.map_err(Error::Fault))?, Look::Missing) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An inode, and the versions that say that it is gone.
#[derive(Default)]
struct Gone {
    inode: InodeNo,
    versions: Vec<SnapshotId>,
}

impl Gone {
    /// Whether what this one has of an item is behind an inode that it has removed.
    fn hides(&self, item: Item, owner: &Seen) -> bool {
        let is_of_it = item.owner() == self.inode && item.kind() != Kind::INODE;
        is_of_it && self.versions.iter().any(|id| owner.has(*id))
    }
}

/// Which blocks of its window an item of extents tells of.
fn blocks(item: Item, value: &[u8]) -> u32 {
    let runs = match item.kind() {
        Kind::EXTENTS => extent::parse(value),
        _ => None,
    };
    let of_run = |run: extent::Run| {
        (0..run.blocks).fold(0, |bits, n| {
            bits | 1u32.wrapping_shl(run.first.saturating_add(n) as u32)
        })
    };
    runs.map_or(0, |runs| {
        runs.iter().fold(0, |bits, run| bits | of_run(run))
    })
}

impl Oddity {
    /// Where it lies, in the tree of snapshots.
    pub(super) fn key(self, id: SnapshotId) -> Key {
        match self {
            Oddity::Senseless(key) => key,
            Oddity::NotNoted(item) => snapshot::touched(id, item.owner(), item.group().0.place()),
            _ => snapshot::node(id),
        }
    }
}

impl core::fmt::Display for Oddity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Oddity::Node(Wrong::Missing) => f.write_str("it is not there"),
            Oddity::Node(wrong) => write!(f, "what is said of it: {wrong}"),
            Oddity::Senseless(key) => write!(f, "what is said at {key} makes no sense"),
            Oddity::NotNoted(item) => {
                write!(f, "inode {} was touched, which is not noted", item.owner())
            }
            Oddity::Hidden(item) => {
                write!(f, "inode {} has something that nobody sees", item.owner())
            }
            Oddity::Idle(item) => {
                write!(
                    f,
                    "inode {}: something is said to be gone that never was there",
                    item.owner()
                )
            }
        }
    }
}
