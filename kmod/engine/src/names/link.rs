// SPDX-License-Identifier: GPL-2.0

//! More names for a file, and fewer.

use crate::format::inode::FileType;
use crate::format::inode::MAX_LINKS;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::change::Change;
use crate::names::directory::checked;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::item::Item;
use crate::names::Done;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;

/// Whether somebody has a file open, or is in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Users {
    /// Nobody: without a name it is gone at once.
    None,
    /// Somebody: without a name it stays as an orphan, until it is [forgotten](Files::forget).
    Some,
}

/// A file that lost a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Removed {
    /// Which.
    pub number: InodeNo,
    /// How many names it has left.
    pub nlink: u32,
}

impl<M: Machine> Files<'_, M> {
    /// Gives a file one more name; an orphan its first.
    pub fn link(
        &self,
        number: InodeNo,
        directory: InodeNo,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Done<u32>, Error> {
        self.with_room(|| self.link_once(number, directory, name, now))
    }

    #[inline(never)]
    fn link_once(
        &self,
        number: InodeNo,
        directory: InodeNo,
        name: &[u8],
        now: Timestamp,
    ) -> Result<Done<u32>, Error> {
        let name = checked(name)?;
        let mut change = Change::begin(*self, now)?;
        change.open_directory(directory)?;
        let inode = change.inode(number)?;
        if inode.is_directory() {
            return Err(Error::NotPermitted);
        }
        if inode.nlink >= MAX_LINKS {
            return Err(Error::TooManyLinks);
        }
        let was = inode.nlink;
        let nlink = was.saturating_add(1);
        let target = Target {
            inode: number,
            generation: inode.generation,
            kind: inode.kind,
        };
        let probed = self.probe(directory, name)?;
        if probed.found.is_some() {
            return Err(Error::Exists);
        }
        change.add_entry(directory, name, &probed, target)?;
        change.add_parent(number, directory, name)?;
        if was == 0 {
            change.remove_orphan(number)?;
        }
        let inode = change.inode_mut(number)?;
        inode.nlink = nlink;
        inode.changed = now;
        change.commit_alone(nlink)
    }

    /// Takes a name from a file that is no directory.
    pub fn unlink(
        &self,
        directory: InodeNo,
        name: &[u8],
        users: Users,
        now: Timestamp,
    ) -> Result<Done<Removed>, Error> {
        self.remove_name(directory, name, users, now, |kind| match kind {
            FileType::Directory => Err(Error::IsDirectory),
            _ => Ok(()),
        })
    }

    /// Removes an empty directory.
    pub fn rmdir(
        &self,
        directory: InodeNo,
        name: &[u8],
        users: Users,
        now: Timestamp,
    ) -> Result<Done<Removed>, Error> {
        self.remove_name(directory, name, users, now, |kind| match kind {
            FileType::Directory => Ok(()),
            _ => Err(Error::NotDirectory),
        })
    }

    #[inline(never)]
    fn remove_name(
        &self,
        directory: InodeNo,
        name: &[u8],
        users: Users,
        now: Timestamp,
        allowed: impl FnOnce(FileType) -> Result<(), Error>,
    ) -> Result<Done<Removed>, Error> {
        let name = checked(name)?;
        let mut change = Change::begin_freeing(*self, now)?;
        if !change.inode(directory)?.is_directory() {
            return Err(Error::NotDirectory);
        }
        let found = self.probe(directory, name)?.found;
        let (item, target) = found.ok_or(Error::NotFound)?;
        allowed(target.kind)?;
        change.remove_entry(directory, item)?;
        let removed = change.lose_name(target, directory, name, users)?;
        change.commit(removed)
    }
}

impl<M: Machine> Change<'_, M> {
    /// The file that an entry leads to, which is checked against it.
    pub(super) fn agreed(&mut self, item: Item, target: Target) -> Result<(), Error> {
        let inode = self.named(target.inode)?;
        if inode.kind != target.kind || inode.generation != target.generation {
            return Err(Error::damaged(item, Wrong::Disagrees));
        }
        Ok(())
    }

    /// A file whose entry is gone, or leads elsewhere now, does not have this name any more.
    #[inline(never)]
    pub(super) fn lose_name(
        &mut self,
        target: Target,
        directory: InodeNo,
        name: Name<'_>,
        users: Users,
    ) -> Result<Removed, Error> {
        let number = target.inode;
        self.agreed(Item::inode(number), target)?;
        let now = self.now;
        let inode = self.named(number)?;
        if inode.is_directory() && inode.entries != 0 {
            return Err(Error::NotEmpty);
        }
        // An empty directory has no link but its own two.
        let (is_directory, expected) = (inode.is_directory(), inode.nlink.checked_sub(1));
        let nlink = match (is_directory, inode.nlink, expected) {
            (true, 2, _) => 0,
            (false, _, Some(less)) => less,
            _ => return Err(Error::damaged(Item::inode(number), Wrong::Disagrees)),
        };
        inode.nlink = nlink;
        inode.changed = now;
        self.remove_parent(number, directory, name)?;
        if is_directory {
            self.count_directories(directory, -1)?;
        }
        match (nlink, users) {
            (0, Users::None) => self.erase_or_leave(number)?,
            (0, Users::Some) => self.add_orphan(number)?,
            _ => {}
        }
        Ok(Removed { number, nlink })
    }
}
