// SPDX-License-Identifier: GPL-2.0

//! What stat(2) tells of a file, and changing it.

use crate::format::inode::Inode;
use crate::format::inode::PERMISSIONS;
use crate::names::change::Change;
use crate::names::error::Error;
use crate::names::Done;
use crate::names::Files;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Machine;

/// What is to be changed of a file; the rest stays.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Attributes {
    /// Its mode without the type.
    pub permissions: Option<u16>,
    /// Its owner.
    pub uid: Option<u32>,
    /// Its group.
    pub gid: Option<u32>,
    /// Its flags.
    pub flags: Option<u32>,
    /// Its project.
    pub project: Option<u32>,
    /// When it was last read.
    pub accessed: Option<Timestamp>,
    /// When its contents last changed.
    pub modified: Option<Timestamp>,
}

impl Attributes {
    /// Changes an inode so.
    pub(super) fn apply(&self, inode: &mut Inode, now: Timestamp) -> Result<(), Error> {
        let times = [self.accessed, self.modified, Some(now)];
        if times.iter().flatten().any(|t| t.nanos >= 1_000_000_000) {
            return Err(Error::Invalid);
        }
        put(
            &mut inode.permissions,
            self.permissions.map(|p| p & PERMISSIONS),
        );
        put(&mut inode.uid, self.uid);
        put(&mut inode.gid, self.gid);
        put(&mut inode.flags, self.flags);
        put(&mut inode.project, self.project);
        put(&mut inode.accessed, self.accessed);
        put(&mut inode.modified, self.modified);
        inode.changed = now;
        Ok(())
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

impl<M: Machine> Files<'_, M> {
    /// Changes what is known of a file, but not its [size](Files::truncate). Returns all of it.
    #[inline(never)]
    pub fn set_attributes(
        &self,
        number: InodeNo,
        to: &Attributes,
        now: Timestamp,
    ) -> Result<Done<Inode>, Error> {
        // An inode keeps its size: it finds room on a full volume, as what frees space may need it.
        let mut change = Change::begin_freeing(*self, now)?;
        let inode = change.inode_mut(number)?;
        to.apply(inode, now)?;
        let inode = inode.try_clone()?;
        change.commit_alone(inode)
    }
}
