// SPDX-License-Identifier: GPL-2.0

//! Parents: for each name of a file, the directory and the name, with the file; so every file knows its paths.

use crate::format::name;
use crate::format::name::Name;
use crate::format::name::Parents;
use crate::format::node::MAX_VALUE;
use crate::names::change::Change;
use crate::names::error::Error;
use crate::names::error::Wrong;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::item::MAX_SUB;
use crate::names::Files;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// A name that a file has.
#[derive(Debug)]
pub struct Parent {
    /// In which directory.
    pub directory: InodeNo,
    /// The name.
    pub name: Vec<u8>,
}

impl<M: Machine> Files<'_, M> {
    /// At most so many names of a file, in no order that means anything.
    pub fn parents(&self, number: InodeNo, most: usize) -> Result<Vec<Parent>, Error> {
        self.inode(number)?;
        let first = Item::new(number, Kind::PARENT, 0);
        let last = Item::new(number, Kind::PARENT, MAX_SUB);
        let mut items = self.view.items(self.mounted, first, last);
        let mut found = Vec::new();
        while let Some((item, value)) = items.next()? {
            let parents = Parents::parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
            for (directory, name) in parents.iter() {
                if found.len() >= most {
                    return Ok(found);
                }
                found.push(Parent {
                    directory,
                    name: Vec::try_from_slice(name.bytes())?,
                })?;
            }
        }
        Ok(found)
    }

    /// The directory above; the root is above itself.
    pub fn directory_above(&self, number: InodeNo) -> Result<InodeNo, Error> {
        if number == InodeNo::ROOT {
            return Ok(number);
        }
        match self.parents(number, 1)?.first() {
            Some(parent) => Ok(parent.directory),
            // Removed, and somebody is still in it.
            None if self.inode(number)?.nlink == 0 => Ok(number),
            None => Err(Error::damaged(
                Item::new(number, Kind::PARENT, 0),
                Wrong::Missing,
            )),
        }
    }

    /// Whether a directory is another one or above it.
    pub(super) fn is_above(&self, above: InodeNo, below: InodeNo) -> Result<bool, Error> {
        let (mut at, mut steps, mut mark, mut limit) = (below, 0u64, InodeNo::NONE, 1u64);
        loop {
            if at == above {
                return Ok(true);
            }
            let next = self.directory_above(at)?;
            if next == at {
                return Ok(false);
            }
            // A damaged tree may lead round in a circle: one that is as long as the way since the mark comes back to it.
            if next == mark {
                return Err(Error::damaged(Item::inode(next), Wrong::Circle));
            }
            steps = steps.saturating_add(1);
            if steps == limit {
                mark = next;
                limit = limit.saturating_mul(2);
            }
            at = next;
        }
    }
}

impl<M: Machine> Change<'_, M> {
    fn parent_item(&self, number: InodeNo, directory: InodeNo, name: Name<'_>) -> Item {
        let hash = self.files.hash(directory, name);
        Item::new(number, Kind::PARENT, hash.parent())
    }

    /// The file has this name now.
    #[inline(never)]
    pub(super) fn add_parent(
        &mut self,
        number: InodeNo,
        directory: InodeNo,
        name: Name<'_>,
    ) -> Result<(), Error> {
        let item = self.parent_item(number, directory, name);
        let mut value = match self.get(item)? {
            Some(value) => value,
            None => name::no_parents()?,
        };
        name::push_parent(&mut value, directory, name)?;
        if value.len() > MAX_VALUE {
            return Err(Error::TooManyLinks);
        }
        self.set(item, &value)
    }

    /// The file does not have this name any more.
    #[inline(never)]
    pub(super) fn remove_parent(
        &mut self,
        number: InodeNo,
        directory: InodeNo,
        name: Name<'_>,
    ) -> Result<(), Error> {
        let item = self.parent_item(number, directory, name);
        let missing = Error::damaged(item, Wrong::Missing);
        let old = self.get(item)?.ok_or(missing)?;
        let parents = Parents::parse(&old).ok_or(Error::damaged(item, Wrong::Senseless))?;
        let mut value = name::no_parents()?;
        let mut found = false;
        for (d, n) in parents.iter() {
            if !found && d == directory && n == name {
                found = true;
            } else {
                name::push_parent(&mut value, d, n)?;
            }
        }
        match Parents::parse(&value) {
            _ if !found => Err(missing),
            Some(_) => self.set(item, &value),
            None => self.remove(item),
        }
    }
}
