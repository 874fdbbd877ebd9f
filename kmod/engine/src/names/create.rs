// SPDX-License-Identifier: GPL-2.0

//! New files of every kind, with a name or without, and the root directory of a new volume.

use crate::env::Environment as _;
use crate::format::geometry::Policy;
use crate::format::inode;
use crate::format::inode::FileType;
use crate::format::inode::Inode;
use crate::format::inode::Rdev;
use crate::format::name::Name;
use crate::format::name::Target;
use crate::names::change::Change;
use crate::names::directory::checked;
use crate::names::error::Error;
use crate::names::item::Item;
use crate::names::number;
use crate::names::Done;
use crate::names::Extended;
use crate::names::Files;
use crate::units::Bytes;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// What a new file is.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice(Rdev),
    /// A block device.
    BlockDevice(Rdev),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A file to be made.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// What it is.
    pub what: What<'a>,
    /// Its mode without the type.
    pub permissions: u16,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its flags.
    pub flags: u32,
    /// Its project.
    pub project: u32,
    /// When it is made.
    pub now: Timestamp,
}

/// A file that was made.
#[derive(Debug)]
pub struct Created {
    /// Its number.
    pub number: InodeNo,
    /// It.
    pub inode: Inode,
}

impl New<'_> {
    /// A whiteout: what a layer of overlayfs has where a lower one's file is to be hidden.
    pub(super) fn whiteout(now: Timestamp) -> Self {
        New {
            what: What::CharDevice(Rdev(0)),
            permissions: 0,
            uid: 0,
            gid: 0,
            flags: 0,
            project: 0,
            now,
        }
    }

    /// The inode, with so many names.
    #[inline(never)]
    pub(super) fn inode(&self, nlink: u32, generation: u32) -> Result<Inode, Error> {
        let (kind, rdev, target) = match self.what {
            What::Regular => (FileType::Regular, Rdev(0), &[][..]),
            What::Directory => (FileType::Directory, Rdev(0), &[][..]),
            What::Symlink(target) => (FileType::Symlink, Rdev(0), target),
            What::CharDevice(rdev) => (FileType::CharDevice, rdev, &[][..]),
            What::BlockDevice(rdev) => (FileType::BlockDevice, rdev, &[][..]),
            What::Fifo => (FileType::Fifo, Rdev(0), &[][..]),
            What::Socket => (FileType::Socket, Rdev(0), &[][..]),
        };
        if kind == FileType::Symlink && target.len() > inode::MAX_TARGET {
            return Err(Error::NameTooLong);
        }
        if kind == FileType::Symlink && !inode::is_target(target) {
            return Err(Error::Invalid);
        }
        Ok(Inode {
            kind,
            permissions: self.permissions & inode::PERMISSIONS,
            nlink,
            uid: self.uid,
            gid: self.gid,
            size: Bytes(target.len() as u64),
            entries: 0,
            rdev,
            generation,
            flags: self.flags,
            project: self.project,
            accessed: self.now,
            modified: self.now,
            changed: self.now,
            born: self.now,
            policy: Policy::VOLUME,
            target: Vec::try_from_slice(target)?,
        })
    }
}

impl<M: Machine> Files<'_, M> {
    /// Makes the root directory of a new volume.
    pub fn format(&self, root: &New<'_>) -> Result<Done<()>, Error> {
        if !matches!(root.what, What::Directory) {
            return Err(Error::NotDirectory);
        }
        if self
            .view
            .get(self.mounted, Item::inode(InodeNo::ROOT))?
            .is_some()
        {
            return Err(Error::Exists);
        }
        let mut change = Change::begin(*self, root.now)?;
        let (item, value) = number::first();
        change.set_common(item, &value)?;
        change.add_inode(InodeNo::ROOT, root.inode(2, self.generation())?)?;
        change.commit(())
    }

    pub(super) fn generation(&self) -> u32 {
        let [a, b, c, d, ..] = self.mounted.machine().environment().random();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Makes a file with this name.
    pub fn create(
        &self,
        directory: InodeNo,
        name: &[u8],
        new: &New<'_>,
    ) -> Result<Done<Created>, Error> {
        self.create_with(directory, name, new, &[])
    }

    /// As [`Self::create`], with these extended attributes.
    pub fn create_with(
        &self,
        directory: InodeNo,
        name: &[u8],
        new: &New<'_>,
        attributes: &[Extended<'_>],
    ) -> Result<Done<Created>, Error> {
        self.with_room(|| self.create_once(directory, name, new, attributes))
    }

    #[inline(never)]
    fn create_once(
        &self,
        directory: InodeNo,
        name: &[u8],
        new: &New<'_>,
        attributes: &[Extended<'_>],
    ) -> Result<Done<Created>, Error> {
        let name = checked(name)?;
        let is_directory = matches!(new.what, What::Directory);
        let mut inode = new.inode(if is_directory { 2 } else { 1 }, self.generation())?;
        let mut change = Change::begin(*self, new.now)?;
        inode.policy = change.inode(directory)?.policy;
        let number = self.enter(&mut change, directory, name, &inode)?;
        change.add_attributes(number, attributes)?;
        change.commit_alone(Created { number, inode })
    }

    /// Gives a new file its number and its name.
    #[inline(never)]
    fn enter(
        &self,
        change: &mut Change<'_, M>,
        directory: InodeNo,
        name: Name<'_>,
        inode: &Inode,
    ) -> Result<InodeNo, Error> {
        change.open_directory(directory)?;
        let probed = self.probe(directory, name)?;
        if probed.found.is_some() {
            return Err(Error::Exists);
        }
        let number = self.new_number()?;
        let target = Target {
            inode: number,
            generation: inode.generation,
            kind: inode.kind,
        };
        change.add_entry(directory, name, &probed, target)?;
        if inode.is_directory() {
            change.count_directories(directory, 1)?;
        }
        change.add_parent(number, directory, name)?;
        change.add_inode(number, inode.try_clone()?)?;
        Ok(number)
    }

    /// Makes a file without a name, which is gone when its last user is unless it is [linked](Files::link).
    pub fn create_orphan(&self, new: &New<'_>) -> Result<Done<Created>, Error> {
        self.create_orphan_with(new, &[])
    }

    /// As [`Self::create_orphan`], with these extended attributes.
    pub fn create_orphan_with(
        &self,
        new: &New<'_>,
        attributes: &[Extended<'_>],
    ) -> Result<Done<Created>, Error> {
        self.with_room(|| self.create_orphan_once(new, attributes))
    }

    #[inline(never)]
    fn create_orphan_once(
        &self,
        new: &New<'_>,
        attributes: &[Extended<'_>],
    ) -> Result<Done<Created>, Error> {
        if !matches!(new.what, What::Regular) {
            return Err(Error::Invalid);
        }
        let inode = new.inode(0, self.generation())?;
        let mut change = Change::begin(*self, new.now)?;
        let number = self.enter_orphan(&mut change, &inode)?;
        change.add_attributes(number, attributes)?;
        change.commit_alone(Created { number, inode })
    }

    /// Gives a new file its number, and a place among those without a name.
    #[inline(never)]
    fn enter_orphan(&self, change: &mut Change<'_, M>, inode: &Inode) -> Result<InodeNo, Error> {
        let number = self.new_number()?;
        change.add_orphan(number)?;
        change.add_inode(number, inode.try_clone()?)?;
        Ok(number)
    }
}
