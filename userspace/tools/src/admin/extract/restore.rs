// SPDX-License-Identifier: GPL-2.0

//! What a file has beside its contents: owner, extended attributes, mode and times, in the order in which none undoes another.

use super::output;
use super::report::Trouble;
use super::walk::Job;
use super::walk::Spot;
use crate::failure::Failure;
use crate::items;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::units::Timestamp;
use embr_engine::volume::Machine;
use rustix::fs::AtFlags;
use rustix::fs::Gid;
use rustix::fs::Mode;
use rustix::fs::Timespec;
use rustix::fs::Timestamps;
use rustix::fs::Uid;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// A file that was made.
#[derive(Clone, Copy)]
pub(super) enum Made<'a> {
    /// It is open.
    Open(BorrowedFd<'a>),
    /// It has this name in this directory.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// Bits of a mode that give others the rights of the owner or the group.
const SET_ID: u16 = 0o6000;

fn time(time: Timestamp) -> Timespec {
    Timespec {
        tv_sec: time.seconds,
        tv_nsec: time.nanos.into(),
    }
}

impl Made<'_> {
    fn set_owner(self, uid: u32, gid: u32) -> Result<(), Errno> {
        // The highest number means that nothing is to be changed.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Made::Open(file) => rustix::fs::fchown(file, uid, gid),
            Made::Named(directory, name) => {
                rustix::fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn set_attribute(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Made::Open(file) => rustix::fs::fsetxattr(file, name, value, flags),
            Made::Named(directory, own) => {
                let path = output::path_in(directory, own);
                rustix::fs::lsetxattr(path, name, value, flags)
            }
        }
    }

    fn set_mode(self, mode: u16) -> std::io::Result<()> {
        let mode = Mode::from_raw_mode(mode.into());
        match self {
            Made::Open(file) => Ok(rustix::fs::fchmod(file, mode)?),
            Made::Named(directory, name) => output::set_mode(directory, name, mode),
        }
    }

    fn set_times(self, inode: &Inode) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: time(inode.accessed),
            last_modification: time(inode.modified),
        };
        match self {
            Made::Open(file) => rustix::fs::futimens(file, &times),
            Made::Named(directory, name) => {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }
}

/// What only who is privileged can give to a file, or not every file system has: it is told once if that cannot be.
fn privilege(name: &[u8]) -> Option<&'static str> {
    let all = [
        "trusted.",
        "security.",
        "system.posix_acl_access",
        "system.posix_acl_default",
    ];
    all.into_iter().find(|p| match p.ends_with('.') {
        true => name.starts_with(p.as_bytes()),
        false => name == p.as_bytes(),
    })
}

fn is_not_for_us(why: Errno) -> bool {
    // An owner that has no number in this namespace is not valid.
    matches!(
        why,
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::INVAL
    )
}

/// Gives a file what it had on the volume. Says whether all of that could be read.
pub(super) fn restore<M: Machine>(
    job: &mut Job<'_, M>,
    spot: &Spot<'_>,
    inode: &Inode,
    made: Made<'_>,
) -> Result<(), Failure> {
    let Job { source, report } = job;
    let mut permissions = inode.permissions;
    if let Err(why) = made.set_owner(inode.uid, inode.gid) {
        let (uid, gid) = (inode.uid, inode.gid);
        let path = || items::text(&spot.path());
        if is_not_for_us(why) {
            report.once("owner", || {
                format!("{}: its owner {uid}:{gid} is not restored: {why}", path())
            });
        } else {
            let text = format!("its owner {uid}:{gid} is not restored: {why}");
            report.tell(Trouble::Refused, spot, &text);
        }
        if permissions & SET_ID != 0 && inode.kind != FileType::Directory {
            // It would give away the rights of somebody else.
            permissions &= !SET_ID;
            report.once("set-id", || {
                format!(
                    "{}: as its owner is not restored, neither is set-user-ID or set-group-ID",
                    path()
                )
            });
        }
    }
    source.attributes(spot.number, &mut |found| {
        let (name, value) = match found {
            Ok(found) => found,
            Err(why) => {
                report.tell(Trouble::Damaged, spot, &why);
                return Ok(());
            }
        };
        let known = privilege(name);
        if known.is_none() && !name.starts_with(b"user.") {
            let text = format!(
                "attribute {} is of no kind that is known here: left out",
                items::text(name)
            );
            report.tell(Trouble::Refused, spot, &text);
            return Ok(());
        }
        let Err(why) = made.set_attribute(name, value) else {
            return Ok(());
        };
        let text = format!("attribute {} is not restored: {why}", items::text(name));
        let whole = || format!("{}: {text}", items::text(&spot.path()));
        match known.filter(|_| is_not_for_us(why)) {
            Some(what) => report.once(what, whole),
            None if why == Errno::OPNOTSUPP => report.refused_once("user.", whole),
            None => report.tell(Trouble::Refused, spot, &text),
        }
        Ok(())
    })?;
    // Owner and attributes change the mode, and everything changes times.
    if inode.kind != FileType::Symlink {
        if let Err(why) = made.set_mode(permissions) {
            let text = format!("its mode {:04o} is not restored: {why}", inode.permissions);
            report.tell(Trouble::Refused, spot, &text);
        }
    }
    if let Err(why) = made.set_times(inode) {
        let text = format!("its times are not restored: {why}");
        report.tell(Trouble::Refused, spot, &text);
    }
    Ok(())
}
