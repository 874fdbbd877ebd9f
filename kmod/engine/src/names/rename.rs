// SPDX-License-Identifier: GPL-2.0

//! Rename, with all that Linux knows of it, as one transaction.

use crate::format::inode::FileType;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::change::Change;
use crate::names::create::New;
use crate::names::directory::checked;
use crate::names::directory::Probed;
use crate::names::error::Error;
use crate::names::item::Item;
use crate::names::link::Removed;
use crate::names::link::Users;
use crate::names::Done;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;

/// What a rename does with the two names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// What had the new name loses it.
    Replace,
    /// The new name must not exist.
    NoReplace,
    /// Both names exist, and change places.
    Exchange,
    /// As the first, and a whiteout takes the old name.
    Whiteout,
    /// As the second, and a whiteout takes the old name.
    WhiteoutNoReplace,
}

/// What a rename came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Renamed {
    /// The file that has the new name.
    pub moved: InodeNo,
    /// The file that lost it.
    pub replaced: Option<Removed>,
    /// The whiteout that has the old one.
    pub whiteout: Option<InodeNo>,
}

/// A name in a directory, and what it leads to.
#[derive(Clone, Copy)]
struct Place<'a> {
    directory: InodeNo,
    name: Name<'a>,
}

fn is_directory(target: Target) -> bool {
    target.kind == FileType::Directory
}

impl<M: Machine> Files<'_, M> {
    /// Gives a file another name, or another directory, or both. `users` is of the file that had the new name.
    pub fn rename(
        &self,
        from: (InodeNo, &[u8]),
        to: (InodeNo, &[u8]),
        mode: Mode,
        users: Users,
        now: Timestamp,
    ) -> Result<Done<Renamed>, Error> {
        self.with_room(|| self.rename_once(from, to, mode, users, now))
    }

    #[inline(never)]
    fn rename_once(
        &self,
        from: (InodeNo, &[u8]),
        to: (InodeNo, &[u8]),
        mode: Mode,
        users: Users,
        now: Timestamp,
    ) -> Result<Done<Renamed>, Error> {
        let from = Place {
            directory: from.0,
            name: checked(from.1)?,
        };
        let to = Place {
            directory: to.0,
            name: checked(to.1)?,
        };
        let mut change = Change::begin(*self, now)?;
        if !change.inode(from.directory)?.is_directory() {
            return Err(Error::NotDirectory);
        }
        change.open_directory(to.directory)?;
        let old = self.probe(from.directory, from.name)?.found;
        let (item, target) = old.ok_or(Error::NotFound)?;
        change.agreed(item, target)?;
        let there = self.probe(to.directory, to.name)?;
        match (there.found, mode) {
            (Some(_), Mode::NoReplace | Mode::WhiteoutNoReplace) => return Err(Error::Exists),
            (None, Mode::Exchange) => return Err(Error::NotFound),
            (Some((_, other)), _) if other.inode == target.inode => {
                // Two names of one file: nothing is to be done, as POSIX has it.
                return self.nothing_renamed(target.inode);
            }
            _ => {}
        }
        self.check_ancestors(from, target, to, &there, mode)?;
        match (there.found, mode) {
            (Some(other), Mode::Exchange) => {
                change.agreed(other.0, other.1)?;
                change.exchange((from, item, target), (to, other.0, other.1))?;
                change.commit(Renamed {
                    moved: target.inode,
                    replaced: None,
                    whiteout: None,
                })
            }
            _ => {
                let whiteout = match mode {
                    Mode::Whiteout | Mode::WhiteoutNoReplace => Some(self.new_number()?),
                    _ => None,
                };
                let replaced = change.take_name(to, &there, target, users)?;
                change.leave_name(from, item, whiteout)?;
                change.move_parent(target, from, to)?;
                change.commit(Renamed {
                    moved: target.inode,
                    replaced,
                    whiteout,
                })
            }
        }
    }

    fn nothing_renamed(&self, number: InodeNo) -> Result<Done<Renamed>, Error> {
        let group = self.mounted.begin()?.commit()?;
        let what = Renamed {
            moved: number,
            replaced: None,
            whiteout: None,
        };
        Ok(Done { what, group })
    }

    /// No directory may end up in itself.
    fn check_ancestors(
        &self,
        from: Place<'_>,
        target: Target,
        to: Place<'_>,
        there: &Probed,
        mode: Mode,
    ) -> Result<(), Error> {
        if from.directory == to.directory {
            return Ok(());
        }
        if is_directory(target) && self.is_above(target.inode, to.directory)? {
            return Err(Error::Invalid);
        }
        match there.found {
            Some((_, other)) if mode == Mode::Exchange && is_directory(other) => {
                match self.is_above(other.inode, from.directory)? {
                    true => Err(Error::Invalid),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

impl<M: Machine> Change<'_, M> {
    /// The new name leads to the file that is moved, and what had it loses it.
    fn take_name(
        &mut self,
        to: Place<'_>,
        there: &Probed,
        target: Target,
        users: Users,
    ) -> Result<Option<Removed>, Error> {
        let Some((item, other)) = there.found else {
            self.add_entry(to.directory, to.name, there, target)?;
            return Ok(None);
        };
        match (is_directory(target), is_directory(other)) {
            (true, false) => return Err(Error::NotDirectory),
            (false, true) => return Err(Error::IsDirectory),
            _ => {}
        }
        self.frees();
        let removed = self.lose_name(other, to.directory, to.name, users)?;
        self.set_entry(item, to.name, target)?;
        self.touch(to.directory)?;
        Ok(Some(removed))
    }

    /// The old name is gone, or leads to a whiteout.
    fn leave_name(
        &mut self,
        from: Place<'_>,
        item: Item,
        whiteout: Option<InodeNo>,
    ) -> Result<(), Error> {
        let Some(number) = whiteout else {
            return self.remove_entry(from.directory, item);
        };
        let inode = New::whiteout(self.now).inode(1, self.files.generation())?;
        let white = Target {
            inode: number,
            generation: inode.generation,
            kind: inode.kind,
        };
        self.add_inode(number, inode)?;
        self.set_entry(item, from.name, white)?;
        self.add_parent(number, from.directory, from.name)?;
        self.touch(from.directory)
    }

    /// The file itself knows its new name, and the directories count it.
    fn move_parent(&mut self, target: Target, from: Place<'_>, to: Place<'_>) -> Result<(), Error> {
        self.remove_parent(target.inode, from.directory, from.name)?;
        self.add_parent(target.inode, to.directory, to.name)?;
        if is_directory(target) {
            self.count_directories(from.directory, -1)?;
            self.count_directories(to.directory, 1)?;
        }
        let now = self.now;
        self.named(target.inode)?.changed = now;
        Ok(())
    }

    fn exchange(
        &mut self,
        (from, here, a): (Place<'_>, Item, Target),
        (to, there, b): (Place<'_>, Item, Target),
    ) -> Result<(), Error> {
        self.set_entry(here, from.name, b)?;
        self.set_entry(there, to.name, a)?;
        self.move_parent(a, from, to)?;
        self.move_parent(b, to, from)?;
        self.touch(from.directory)?;
        self.touch(to.directory)
    }

    /// Something changed in a directory.
    fn touch(&mut self, directory: InodeNo) -> Result<(), Error> {
        let now = self.now;
        let inode = self.inode_mut(directory)?;
        inode.modified = now;
        inode.changed = now;
        Ok(())
    }
}
