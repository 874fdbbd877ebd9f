// SPDX-License-Identifier: GPL-2.0

//! Directories: entries by a hash of their names. Names with the same hash lie side by side, each with a number of its own, and
//! an entry never moves: its place is the cookie that readdir goes on from.

use crate::env::Environment as _;
use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::change::Change;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::hash::NameHash;
use crate::names::hash::MAX_PROBE;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Files;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// A place in a directory that stays the same while other names come and go. 0 and 1 are for `.` and `..`, which the caller
/// gives; an entry's is its place in the tree and 2.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cookie(pub u64);

impl Cookie {
    /// Where the names begin.
    pub const FIRST: Cookie = Cookie(2);

    fn of(item: Item) -> Self {
        Cookie(item.sub().saturating_add(Cookie::FIRST.0))
    }

    /// Where to go on behind the entry with this cookie.
    #[must_use]
    pub fn next(self) -> Self {
        Cookie(self.0.saturating_add(1))
    }
}

/// A name in a directory.
#[derive(Debug)]
pub struct Entry {
    /// Its place.
    pub cookie: Cookie,
    /// What it leads to.
    pub target: Target,
    /// The name.
    pub name: Vec<u8>,
}

/// Some of a directory's names.
#[derive(Debug)]
pub struct Batch {
    /// In the order of their cookies.
    pub entries: Vec<Entry>,
    /// Whether these are the last.
    pub is_last: bool,
}

/// Where a name is in a directory, or could be.
pub(crate) struct Probed {
    /// What the name leads to, and the item that says so.
    pub(crate) found: Option<(Item, Target)>,
    /// Where it would go.
    pub(crate) free: Option<Item>,
}

fn entry_at(directory: InodeNo, sub: u64) -> Item {
    Item::new(directory, Kind::ENTRY, sub)
}

/// A name as a caller gives it.
pub(super) fn checked(name: &[u8]) -> Result<Name<'_>, Error> {
    if name.len() > name::MAX_NAME {
        return Err(Error::NameTooLong);
    }
    Name::new(name).ok_or(Error::Invalid)
}

impl<M: Machine> Files<'_, M> {
    pub(crate) fn hash(&self, directory: InodeNo, name: Name<'_>) -> NameHash {
        NameHash::new(
            self.mounted.machine().environment().hasher(),
            self.names.width,
            self.mounted.volume(),
            directory,
            name,
        )
    }

    /// Looks where a name is.
    #[inline(never)]
    pub(crate) fn probe(&self, directory: InodeNo, name: Name<'_>) -> Result<Probed, Error> {
        let first = self.hash(directory, name).first_probe();
        let last = first | MAX_PROBE;
        let mut items = self.view.items(
            self.mounted,
            entry_at(directory, first),
            entry_at(directory, last),
        );
        let mut probed = Probed {
            found: None,
            free: None,
        };
        let mut expected = first;
        while let Some((item, value)) = items.next()? {
            let (target, there) =
                name::parse_entry(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            if there == name {
                probed.found = Some((item, target));
                return Ok(probed);
            }
            if probed.free.is_none() && item.sub() != expected {
                probed.free = Some(entry_at(directory, expected));
            }
            expected = item.sub().saturating_add(1);
        }
        if probed.free.is_none() && expected <= last {
            probed.free = Some(entry_at(directory, expected));
        }
        Ok(probed)
    }

    /// What a name in a directory leads to.
    pub fn lookup(&self, directory: InodeNo, name: &[u8]) -> Result<Target, Error> {
        let name = checked(name)?;
        self.directory(directory)?;
        match self.probe(directory, name)?.found {
            Some((_, target)) => Ok(target),
            None => Err(Error::NotFound),
        }
    }

    /// At most so many names of a directory, from this cookie on.
    #[inline(never)]
    pub fn readdir(&self, directory: InodeNo, from: Cookie, most: usize) -> Result<Batch, Error> {
        self.must_be_directory(directory)?;
        let mut batch = Batch {
            entries: Vec::new(),
            is_last: true,
        };
        let first = from.0.saturating_sub(Cookie::FIRST.0);
        if first > MAX_SUB {
            return Ok(batch);
        }
        let (first, last) = (entry_at(directory, first), entry_at(directory, MAX_SUB));
        let mut items = self.view.items(self.mounted, first, last);
        while let Some((item, value)) = items.next()? {
            if batch.entries.len() >= most {
                batch.is_last = false;
                break;
            }
            let (target, name) =
                name::parse_entry(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            batch.entries.push(Entry {
                cookie: Cookie::of(item),
                target,
                name: Vec::try_from_slice(name.bytes())?,
            })?;
        }
        Ok(batch)
    }
}

impl<M: Machine> Files<'_, M> {
    #[inline(never)] // The inode is on the stack here, and only here.
    fn must_be_directory(&self, number: InodeNo) -> Result<(), Error> {
        self.directory(number).map(drop)
    }
}

impl<M: Machine> Change<'_, M> {
    /// Gives a directory a name that it does not have, at a place that is free.
    #[inline(never)]
    pub(super) fn add_entry(
        &mut self,
        directory: InodeNo,
        name: Name<'_>,
        probed: &Probed,
        target: Target,
    ) -> Result<(), Error> {
        let item = probed.free.ok_or(Error::NoSpace)?;
        self.set_entry(item, name, target)?;
        let now = self.now;
        let inode = self.inode_mut(directory)?;
        inode.entries = inode.entries.checked_add(1).ok_or(Error::NoSpace)?;
        inode.modified = now;
        inode.changed = now;
        Ok(())
    }

    /// Makes an entry lead to something else.
    pub(super) fn set_entry(
        &mut self,
        item: Item,
        name: Name<'_>,
        target: Target,
    ) -> Result<(), Error> {
        self.set(item, &name::encode_entry(target, name)?)
    }

    /// Takes an entry from a directory.
    #[inline(never)]
    pub(super) fn remove_entry(&mut self, directory: InodeNo, item: Item) -> Result<(), Error> {
        self.remove(item)?;
        let now = self.now;
        let inode = self.inode_mut(directory)?;
        let entries = inode.entries.checked_sub(1);
        inode.entries = entries.ok_or(Error::damaged(Item::inode(directory), Wrong::Disagrees))?;
        inode.modified = now;
        inode.changed = now;
        Ok(())
    }

    /// Changes how many directories are in a directory.
    pub(super) fn count_directories(&mut self, directory: InodeNo, by: i32) -> Result<(), Error> {
        let inode = self.inode_mut(directory)?;
        inode.nlink = match inode.nlink.checked_add_signed(by) {
            Some(n) if n > crate::format::inode::MAX_LINKS => return Err(Error::TooManyLinks),
            Some(n) if n >= 2 => n,
            _ => return Err(Error::damaged(Item::inode(directory), Wrong::Disagrees)),
        };
        Ok(())
    }
}
