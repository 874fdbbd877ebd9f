// SPDX-License-Identifier: GPL-2.0

//! Entries of directories: each lies where it is looked for, once, and leads to an inode that knows of it.

use super::parents::Known;
use super::parents::There;
use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::first_of;
use crate::check::names::is_gone;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::inode::FileType;
use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// An entry, with its name.
pub(super) struct Entry {
    pub(super) item: Item,
    pub(super) target: Target,
    pub(super) name: Vec<u8>,
}

impl Entry {
    pub(super) fn directory(&self) -> InodeNo {
        self.item.owner()
    }
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// An item's value; nothing where it is not there, or cannot be had.
    pub(super) fn value(&self, item: Item) -> Result<Option<Vec<u8>>, Ended> {
        let found = self.files.view.get(self.mounted, item);
        Ok(match look(found.map_err(Error::Fault))? {
            Look::There(value) => Some(value),
            _ => None,
        })
    }

    /// Whether there is any item of an inode; of one that is said to be gone, any that only those see who see it gone.
    pub(super) fn has_items(&self, number: InodeNo) -> Result<bool, Ended> {
        if is_gone(self.files, number)? {
            return self.has_own(number);
        }
        let (first, last) = (
            Item::new(number, Kind(0), 0),
            Item::new(number, Kind(u8::MAX), u64::MAX),
        );
        let mut items = self.files.view.items(self.mounted, first, last);
        let found = items.next().map_err(Error::Fault);
        Ok(!matches!(look(found)?, Look::Missing))
    }

    /// The entry that a finding is about, if it is one still.
    fn entry_of(&self, found: &Finding) -> Result<Option<Entry>, Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(None);
        };
        let Some(value) = self.value(*item)? else {
            return Ok(None);
        };
        Ok(match name::parse_entry(&value) {
            Some((target, name)) => Some(Entry {
                item: *item,
                target,
                name: Vec::try_from_slice(name.bytes())?,
            }),
            None => None,
        })
    }

    /// Takes an entry from its directory.
    pub(super) fn remove_entry(
        &self,
        patch: &mut Patch,
        item: Item,
        kind: FileType,
    ) -> Result<(), Ended> {
        self.take_away(patch, item)?;
        let is_directory = kind == FileType::Directory;
        self.with_inode(patch, item.owner(), |inode| {
            if inode.is_directory() && inode.nlink >= 2 {
                inode.entries = inode.entries.saturating_sub(1);
                let less = u32::from(is_directory);
                inode.nlink = inode.nlink.saturating_sub(less).max(2);
            }
        })?;
        Ok(())
    }

    /// Gives a directory an entry.
    pub(super) fn add_entry(
        &self,
        patch: &mut Patch,
        item: Item,
        target: Target,
        name: Name<'_>,
    ) -> Result<(), Ended> {
        self.put(patch, item, &name::encode_entry(target, name)?)?;
        let is_directory = target.kind == FileType::Directory;
        self.with_inode(patch, item.owner(), |inode| {
            if inode.is_directory() && inode.nlink >= 2 {
                inode.entries = inode.entries.saturating_add(1);
                inode.nlink = inode.nlink.saturating_add(u32::from(is_directory));
            }
        })?;
        Ok(())
    }

    /// An entry that is not where it is looked for, or is there a second time.
    pub(super) fn entry_place(&mut self, found: &Finding) -> Result<(), Ended> {
        let Some(entry) = self.entry_of(found)? else {
            return Ok(());
        };
        let Some(name) = Name::new(&entry.name) else {
            return Ok(());
        };
        let directory = entry.directory();
        let first = self.files.hash(directory, name).first_probe();
        let in_place = Item::new(directory, Kind::ENTRY, first) == first_of(entry.item);
        let Look::There(probed) = look(self.files.probe(directory, name).map(Some))? else {
            return Ok(());
        };
        let mut patch = Patch::new();
        match (probed.found, probed.free) {
            (Some((at, _)), _) if at == entry.item => Ok(()),
            (Some(_), _) => {
                self.remove_entry(&mut patch, entry.item, entry.target.kind)?;
                let deed = Deed::EntryRemoved(entry.name, entry.target.inode);
                self.act(found, &deed, patch)
            }
            (None, Some(free)) if !in_place => {
                self.take_away(&mut patch, entry.item)?;
                self.put(&mut patch, free, &name::encode_entry(entry.target, name)?)?;
                self.act(found, &Deed::EntryMoved(entry.name), patch)
            }
            _ => Ok(()),
        }
    }

    /// Whether who lists the directory comes to this name of an inode: so if all of its entries make sense.
    pub(super) fn is_listed(&self, known: &Known) -> Result<bool, Ended> {
        if !matches!(known.there, There::Sound(_)) {
            return Ok(false);
        }
        let (first, last) = (
            Item::new(known.directory, Kind::ENTRY, 0),
            Item::new(known.directory, Kind::ENTRY, u64::MAX),
        );
        let mut items = self.files.view.items(self.mounted, first, last);
        loop {
            match look(items.next().map_err(Error::Fault))? {
                Look::There((_, value)) if name::parse_entry(&value).is_some() => {}
                Look::There(_) | Look::Unknown => return Ok(false),
                Look::Missing => return Ok(true),
            }
        }
    }

    /// An entry that leads to nothing, or to what does not agree with it.
    pub(super) fn entry_target(&mut self, found: &Finding) -> Result<(), Ended> {
        let Some(entry) = self.entry_of(found)? else {
            return Ok(());
        };
        let Some(name) = Name::new(&entry.name) else {
            return Ok(());
        };
        let to = entry.target.inode;
        let inode = match look(self.files.inode(to).map(Some))? {
            Look::There(inode) => inode,
            Look::Missing if !self.has_items(to)? => {
                let mut patch = Patch::new();
                self.remove_entry(&mut patch, entry.item, entry.target.kind)?;
                let deed = Deed::EntryRemoved(entry.name, to);
                return self.act(found, &deed, patch);
            }
            // Something is left of it: it may be made again, and this names it.
            _ => return Ok(()),
        };
        let Some(names) = self.names_of(to)? else {
            return Ok(());
        };
        let here = entry.directory();
        let is_known = names.iter().any(|n| n.is(here, &entry.name));
        let others = names.iter().filter(|n| !n.is(here, &entry.name));
        let mut has_others = false;
        for other in others {
            has_others |= self.is_listed(other)?;
        }
        let is_second =
            to == InodeNo::ROOT || to == here || inode.is_directory() && !is_known && has_others;
        let mut patch = Patch::new();
        if is_second {
            self.remove_entry(&mut patch, entry.item, entry.target.kind)?;
            let deed = Deed::EntryRemoved(entry.name, to);
            return self.act(found, &deed, patch);
        }
        let right = Target {
            inode: to,
            generation: inode.generation,
            kind: inode.kind,
        };
        if right != entry.target {
            self.put(&mut patch, entry.item, &name::encode_entry(right, name)?)?;
        }
        if is_known {
            return match right == entry.target {
                true => Ok(()),
                false => self.act(found, &Deed::EntryCorrected(entry.name), patch),
            };
        }
        let sub = self.files.hash(here, name).parent();
        let parent = Item::new(to, Kind::PARENT, sub);
        let before = self.value(parent)?;
        let mut value = match before.filter(|v| name::Parents::parse(v).is_some()) {
            Some(value) => value,
            None => name::no_parents()?,
        };
        name::push_parent(&mut value, here, name)?;
        self.put(&mut patch, parent, &value)?;
        // The link count is never less than what it counts, lest the file goes with one of its names.
        let links = names.iter().filter(|n| n.is_sound()).count();
        let links = u32::try_from(links).unwrap_or(u32::MAX).saturating_add(1);
        let listed = Item::new(InodeNo::NONE, Kind::ORPHAN, to.0);
        if inode.nlink == 0 && self.value(listed)?.is_some() {
            self.take_away(&mut patch, listed)?;
        }
        self.with_inode(&mut patch, to, |inode| {
            inode.nlink = inode.nlink.max(match inode.is_directory() {
                true => 2,
                false => links,
            });
        })?;
        self.act(found, &Deed::ParentAdded(to), patch)
    }

    /// How far up from a directory the root is found; says no also where the way ends or goes round, and nothing where it cannot be known.
    pub(super) fn leads_up_to(
        &self,
        from: InodeNo,
        wanted: InodeNo,
    ) -> Result<Option<bool>, Ended> {
        let (mut at, mut steps, mut mark, mut limit) = (from, 0u64, InodeNo::NONE, 1u64);
        loop {
            if at == wanted {
                return Ok(Some(true));
            }
            if at == InodeNo::ROOT {
                return Ok(Some(false));
            }
            let parents = look(self.files.parents(at, 1).map(Some))?;
            let next = match parents {
                Look::There(parents) => match parents.first() {
                    Some(parent) => parent.directory,
                    None => return Ok(Some(false)),
                },
                Look::Missing => return Ok(Some(false)),
                Look::Unknown => return Ok(None),
            };
            if next == mark || next == at {
                return Ok(Some(false));
            }
            steps = steps.saturating_add(1);
            if steps == limit {
                (mark, limit) = (next, limit.saturating_mul(2));
            }
            at = next;
        }
    }
}
