// SPDX-License-Identifier: GPL-2.0

//! What an inode says of its names is what directories say. A name that the inode has and its directory has not is made again where the
//! inode counts more links than there are, for then it is the entry that was lost; else the inode forgets it.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check::names::is_gone;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Ended;
use crate::check::Finding;
use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Parents;
use crate::format::name::Target;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// What a directory says of a name that an inode says it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum There {
    /// It leads to the inode.
    Sound(Item),
    /// It leads to the inode, which is a directory, from what is none: nobody finds it there.
    Closed,
    /// It leads to another.
    Other(Item, Target),
    /// There is no such name; it would go there.
    Missing(Item),
    /// There is no such directory, or no place for the name.
    Nowhere,
    /// What could say is damaged.
    Unknown,
}

/// A name that an inode says it has.
pub(super) struct Known {
    pub(super) directory: InodeNo,
    pub(super) name: Vec<u8>,
    pub(super) there: There,
}

impl Known {
    pub(super) fn is(&self, directory: InodeNo, name: &[u8]) -> bool {
        self.directory == directory && self.name.as_slice() == name
    }

    pub(super) fn is_sound(&self) -> bool {
        matches!(self.there, There::Sound(_) | There::Unknown)
    }
}

/// An item, and its value.
type Stored = (Item, Vec<u8>);

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// All items of a kind that an inode has; none where that cannot be known.
    pub(super) fn all_of(&self, number: InodeNo, kind: Kind) -> Result<Option<Vec<Stored>>, Ended> {
        let (first, last) = (
            Item::new(number, kind, 0),
            Item::new(number, kind, u64::MAX),
        );
        let mut items = self.files.view.items(self.mounted, first, last);
        let mut all = Vec::new();
        loop {
            match look(items.next().map_err(Error::Fault))? {
                Look::There(entry) => all.push(entry)?,
                Look::Missing => return Ok(Some(all)),
                Look::Unknown => return Ok(None),
            }
        }
    }

    /// The names that an inode says it has, each once; none where that cannot be known.
    pub(super) fn names_of(&self, number: InodeNo) -> Result<Option<Vec<Known>>, Ended> {
        let Some(items) = self.all_of(number, Kind::PARENT)? else {
            return Ok(None);
        };
        let is_directory = match look(self.files.inode(number).map(Some))? {
            Look::There(inode) => inode.is_directory(),
            _ => false,
        };
        let mut known: Vec<Known> = Vec::new();
        for (_, value) in items.iter() {
            let Some(parents) = Parents::parse(value) else {
                continue;
            };
            for (directory, name) in parents.iter() {
                if known.iter().any(|k| k.is(directory, name.bytes())) {
                    continue;
                }
                known.push(Known {
                    directory,
                    name: Vec::try_from_slice(name.bytes())?,
                    there: match self.there(number, directory, name)? {
                        There::Sound(_) if is_directory && self.is_closed(directory)? => {
                            There::Closed
                        }
                        there => there,
                    },
                })?;
            }
        }
        Ok(Some(known))
    }

    /// Whether an inode is there and no directory.
    fn is_closed(&self, number: InodeNo) -> Result<bool, Ended> {
        let inode = look(self.files.inode(number).map(Some))?;
        Ok(matches!(inode, Look::There(inode) if !inode.is_directory()))
    }

    fn there(&self, number: InodeNo, directory: InodeNo, name: Name<'_>) -> Result<There, Ended> {
        if number == InodeNo::ROOT {
            return Ok(There::Nowhere);
        }
        let is_directory = match look(self.files.inode(directory).map(Some))? {
            Look::There(inode) => inode.is_directory() && inode.nlink != 0,
            // What others see of a directory that was removed leads nowhere.
            Look::Missing if is_gone(self.files, directory)? => return Ok(There::Nowhere),
            Look::Missing => false,
            Look::Unknown => return Ok(There::Unknown),
        };
        let probed = match look(self.files.probe(directory, name).map(Some))? {
            Look::There(probed) => probed,
            _ => return Ok(There::Unknown),
        };
        Ok(match (probed.found, probed.free) {
            (Some((item, to)), _) if to.inode == number => There::Sound(item),
            (Some((item, to)), _) => There::Other(item, to),
            (None, Some(free)) if is_directory => There::Missing(free),
            _ => There::Nowhere,
        })
    }

    /// Something is wrong with what an inode says of its names.
    pub(super) fn parents(&mut self, found: &Finding) -> Result<(), Ended> {
        let Finding::Names(item, _) = found else {
            return Ok(());
        };
        let number = item.owner();
        // What belongs to nobody waits until there is somebody.
        let Look::There(inode) = look(self.files.inode(number).map(Some))? else {
            return Ok(());
        };
        let Some(stored) = self.all_of(number, Kind::PARENT)? else {
            return Ok(());
        };
        let Some(mut names) = self.names_of(number)? else {
            return Ok(());
        };
        let mut patch = Patch::new();
        let sound = names.iter().filter(|n| n.is_sound()).count();
        let wanted = match inode.is_directory() {
            true => 1,
            false => inode.nlink as usize,
        };
        let mut is_kept = false;
        let mut restored: Option<(InodeNo, Vec<u8>)> = None;
        let mut removed: Option<Vec<u8>> = None;
        for known in names.iter_mut() {
            let Some(name) = Name::new(&known.name) else {
                continue;
            };
            let target = Target {
                inode: number,
                generation: inode.generation,
                kind: inode.kind,
            };
            let is_short = sound.saturating_add(usize::from(restored.is_some())) < wanted;
            match known.there {
                There::Sound(item) if inode.is_directory() && is_kept => {
                    // The first of a directory's names counts.
                    self.remove_entry(&mut patch, item, inode.kind)?;
                    removed = Some(Vec::try_from_slice(&known.name)?);
                    known.there = There::Nowhere;
                }
                There::Sound(_) if inode.is_directory() => is_kept = self.is_listed(known)?,
                There::Sound(_) | There::Unknown => {}
                // One at a time: the next round sees to more.
                There::Missing(free) if inode.nlink != 0 && is_short && restored.is_none() => {
                    let is_above = inode.is_directory()
                        && self.leads_up_to(known.directory, number)? != Some(false);
                    if !is_above {
                        self.add_entry(&mut patch, free, target, name)?;
                        restored = Some((known.directory, Vec::try_from_slice(&known.name)?));
                        known.there = There::Sound(free);
                    }
                }
                There::Other(item, to) if inode.nlink != 0 && is_short && restored.is_none() => {
                    // The other does not know of the name either: it is this one's.
                    if !self.knows(to.inode, known)? {
                        self.put(&mut patch, item, &name::encode_entry(target, name)?)?;
                        restored = Some((known.directory, Vec::try_from_slice(&known.name)?));
                        known.there = There::Sound(item);
                    }
                }
                _ => {}
            }
        }
        let right = self.encoded(number, &names, restored.is_some())?;
        for (item, _) in stored.iter() {
            if !right.iter().any(|(at, _)| at == item) {
                self.take_away(&mut patch, *item)?;
            }
        }
        for (item, value) in right.iter() {
            let same = |(at, before): &Stored| at == item && before.as_slice() == value.as_slice();
            if !stored.iter().any(same) {
                self.put(&mut patch, *item, value)?;
            }
        }
        let deed = match (restored, removed) {
            (Some((directory, name)), _) => Deed::EntryRestored(directory, name, number),
            (None, Some(name)) => Deed::EntryRemoved(name, number),
            (None, None) if patch.is_empty() => return Ok(()),
            (None, None) => Deed::ParentsRewritten,
        };
        self.act(found, &deed, patch)
    }

    /// Whether an inode says that it has this name.
    fn knows(&self, number: InodeNo, known: &Known) -> Result<bool, Ended> {
        if matches!(look(self.files.inode(number).map(Some))?, Look::Missing) {
            return Ok(false);
        }
        let names = self.names_of(number)?;
        Ok(names.is_none_or(|all| all.iter().any(|n| n.is(known.directory, &known.name))))
    }

    /// The items of all names that the inode keeps: those that may come back are kept as long as there are more to be.
    fn encoded(
        &self,
        number: InodeNo,
        names: &[Known],
        keeps_missing: bool,
    ) -> Result<Vec<Stored>, Ended> {
        let mut all: Vec<Stored> = Vec::new();
        let is_found = names.iter().any(Known::is_sound);
        for known in names {
            let is_kept = known.is_sound()
                || known.there == There::Closed && !is_found
                || keeps_missing && matches!(known.there, There::Missing(_) | There::Other(..));
            let Some(name) = Name::new(&known.name).filter(|_| is_kept) else {
                continue;
            };
            let sub = self.files.hash(known.directory, name).parent();
            let item = Item::new(number, Kind::PARENT, sub);
            let at = match all.iter().position(|(at, _)| *at == item) {
                Some(at) => at,
                None => {
                    all.push((item, name::no_parents()?))?;
                    all.len().saturating_sub(1)
                }
            };
            if let Some((_, value)) = all.get_mut(at) {
                name::push_parent(value, known.directory, name)?;
            }
        }
        Ok(all)
    }
}
