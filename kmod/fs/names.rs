// SPDX-License-Identifier: GPL-2.0

//! Names and attributes: the VFS's questions, put to the engine.

use crate::{
    embrfs::Embrfs,
    host::{
        Host,
        Shown, //
    },
    volume::Volume, //
};
use embr_engine::{
    format::inode::{
        FileType,
        Inode as Stored,
        Rdev as StoredRdev, //
    },
    names::{
        self as engine,
        Cookie,
        Files,
        Mode,
        Users,
        What, //
    },
    units::{
        InodeNo,
        Timestamp, //
    },
};
use embr_vfs::{
    data::FileData,
    inode::{
        Attributes,
        Found,
        Identity,
        Inode,
        InodeRef,
        Kind,
        Rdev,
        Time, //
    },
    names::{
        Emitter,
        Made,
        Names,
        New,
        Place,
        RenameMode,
        Renaming, //
    },
    superblock::{
        HasVolume,
        SuperBlock, //
    },
};
use kernel::prelude::*;

pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp {
        seconds: time.seconds,
        nanos: time.nanos,
    }
}

fn time(stamp: Timestamp) -> Time {
    Time {
        seconds: stamp.seconds,
        nanos: stamp.nanos,
    }
}

/// Minor numbers have the lower 20 bits.
const MINOR_BITS: u32 = 20;

fn rdev(stored: StoredRdev) -> Rdev {
    Rdev {
        major: stored.0 >> MINOR_BITS,
        minor: stored.0 & ((1 << MINOR_BITS) - 1),
    }
}

fn stored_rdev(rdev: Rdev) -> StoredRdev {
    StoredRdev(rdev.major << MINOR_BITS | rdev.minor)
}

fn kind_of(kind: FileType, device: StoredRdev, target: &[u8]) -> Kind<'_> {
    match kind {
        FileType::Regular => Kind::Regular,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink(target),
        FileType::CharDevice => Kind::CharDevice(rdev(device)),
        FileType::BlockDevice => Kind::BlockDevice(rdev(device)),
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
    }
}

fn what(kind: Kind<'_>) -> What<'_> {
    match kind {
        Kind::Regular => What::Regular,
        Kind::Directory => What::Directory,
        Kind::Symlink(target) => What::Symlink(target),
        Kind::CharDevice(device) => What::CharDevice(stored_rdev(device)),
        Kind::BlockDevice(device) => What::BlockDevice(stored_rdev(device)),
        Kind::Fifo => What::Fifo,
        Kind::Socket => What::Socket,
    }
}

/// The inode with this number, from memory or from the volume. An entry that led to it says of which generation it is.
#[inline(never)]
pub(crate) fn read_inode<'sb, S: HasVolume>(
    sb: &SuperBlock<'sb, Embrfs, S>,
    number: InodeNo,
    generation: Option<u32>,
) -> Result<InodeRef<'sb, Embrfs>> {
    match sb.inode(number.0)? {
        Found::Cached(inode) => Ok(inode),
        Found::New(new) => {
            let stored = sb.volume().with(|files| files.inode(number))?;
            if generation.is_some_and(|g| g != stored.generation) {
                return Err(EUCLEAN);
            }
            let (identity, attributes) = describe(&stored);
            new.finish(&identity, &attributes)
        }
    }
}

fn describe(stored: &Stored) -> (Identity<'_>, Attributes) {
    let identity = Identity {
        kind: kind_of(stored.kind, stored.rdev, &stored.target),
        generation: stored.generation,
        born: time(stored.born),
    };
    let attributes = Attributes {
        permissions: stored.permissions,
        uid: stored.uid,
        gid: stored.gid,
        links: stored.nlink,
        size: stored.size.0 as i64,
        accessed: time(stored.accessed),
        changed: time(stored.changed),
        modified: time(stored.modified),
    };
    (identity, attributes)
}

pub(crate) fn number(inode: &Inode<Embrfs>) -> InodeNo {
    InodeNo(inode.number())
}

fn wanted<'a>(new: &New<'a>) -> engine::New<'a> {
    engine::New {
        what: what(new.kind),
        permissions: new.permissions,
        uid: new.uid,
        gid: new.gid,
        flags: 0,
        project: 0,
        now: timestamp(new.now),
    }
}

/// The extended attributes that a file begins with.
fn given<'a>(new: &New<'a>) -> Result<KVec<engine::Extended<'a>>> {
    let mut all = KVec::with_capacity(new.attributes.len(), GFP_KERNEL)?;
    for attribute in new.attributes {
        let extended = engine::Extended {
            name: attribute.name,
            value: attribute.value,
        };
        all.push(extended, GFP_KERNEL)?;
    }
    Ok(all)
}

fn made(created: &engine::Created) -> Made {
    Made {
        number: created.number.0,
        generation: created.inode.generation,
    }
}

/// Entries that are taken from the engine at a time.
const BATCH: usize = 64;

impl Names for Embrfs {
    fn look_up<'a>(directory: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>> {
        let above = number(directory);
        match directory.volume().with(|files| files.lookup(above, name)) {
            Ok(target) => {
                let found = read_inode(
                    &directory.super_block(),
                    target.inode,
                    Some(target.generation),
                );
                match found {
                    // The name is there, so the file has to be.
                    Err(error) if error == ENOENT => Err(EUCLEAN),
                    found => found.map(Some),
                }
            }
            Err(error) if error == ENOENT => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(directory: &Inode<Self>, emitter: &mut Emitter<'_>) -> Result {
        let above = number(directory);
        loop {
            let from = Cookie(u64::try_from(emitter.position()).map_err(|_| EINVAL)?);
            let batch = directory
                .volume()
                .with(|files| files.readdir(above, from, BATCH))?;
            for entry in batch.entries.iter() {
                let kind = kind_of(entry.target.kind, StoredRdev(0), &[]);
                // Where the reader goes on if it has no room for this one.
                emitter.advance(entry.cookie.0 as i64);
                if !emitter.emit(&entry.name, entry.target.inode.0, kind) {
                    return Ok(());
                }
                emitter.advance(entry.cookie.next().0 as i64);
            }
            if batch.is_last {
                return Ok(());
            }
        }
    }

    #[inline(never)]
    fn make(directory: &Inode<Self>, name: &[u8], new: &New<'_>) -> Result<Made> {
        let given = given(new)?;
        let above = number(directory);
        let done = taking(directory, |files| {
            files.create_with(above, name, &wanted(new), &given)
        })?;
        Ok(made(&done.what))
    }

    #[inline(never)]
    fn make_unnamed(directory: &Inode<Self>, new: &New<'_>) -> Result<Made> {
        let given = given(new)?;
        let done = taking(directory, |files| {
            files.create_orphan_with(&wanted(new), &given)
        })?;
        Ok(made(&done.what))
    }

    fn link(file: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result {
        let directory = number(place.directory);
        taking(file, |files| {
            files.link(number(file), directory, place.name, timestamp(now))
        })?;
        Ok(())
    }

    fn unlink(file: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result {
        let directory = number(place.directory);
        // The inode is in use at least by who removes the name: what is left of the file goes with it.
        file.volume()
            .with(|files| files.unlink(directory, place.name, Users::Some, timestamp(now)))?;
        Ok(())
    }

    fn remove_directory(directory: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result {
        let above = number(place.directory);
        directory
            .volume()
            .with(|files| files.rmdir(above, place.name, Users::Some, timestamp(now)))?;
        Ok(())
    }

    fn rename(what: &Renaming<'_, Self>) -> Result {
        let mode = match what.mode {
            RenameMode::Replace => Mode::Replace,
            RenameMode::NoReplace => Mode::NoReplace,
            RenameMode::Exchange => Mode::Exchange,
            RenameMode::Whiteout => Mode::Whiteout,
            RenameMode::WhiteoutNoReplace => Mode::WhiteoutNoReplace,
        };
        if what.target.is_some() && what.moved.is_regular() && what.mode != RenameMode::Exchange {
            // Who replaces a file wants to find the old bytes or the new ones, whatever happens.
            what.moved.write_and_wait()?;
        }
        let from = (number(what.from.directory), what.from.name);
        let to = (number(what.to.directory), what.to.name);
        taking(what.moved, |files| {
            files.rename(from, to, mode, Users::Some, timestamp(what.now))
        })?;
        Ok(())
    }
}

/// Changes what takes space. Where there is none, all that is dirty is written first, which may need less than was set aside for it.
#[inline(never)]
pub(crate) fn taking<R>(
    inode: &Inode<Embrfs>,
    mut change: impl FnMut(Files<'_, Host>) -> Result<R, engine::Error>,
) -> Result<R> {
    let volume: &Volume = inode.volume();
    let mut tries = 0;
    loop {
        let done = volume.with(&mut change);
        if !matches!(&done, Err(error) if *error == ENOSPC) || tries == Embrfs::MAKE_ROOM_TRIES {
            return done;
        }
        tries += 1;
        inode.write_all_and_wait();
        // If it fails, so will the next try.
        let _ = volume.make_room();
    }
}

/// Keeps all attributes that an inode has in memory but its size.
#[inline(never)]
pub(crate) fn write_attributes(inode: &Inode<Embrfs>) -> Result {
    let now = inode.attributes();
    let to = engine::Attributes {
        permissions: Some(now.permissions),
        uid: Some(now.uid),
        gid: Some(now.gid),
        accessed: Some(timestamp(now.accessed)),
        modified: Some(timestamp(now.modified)),
        ..engine::Attributes::default()
    };
    keep(inode, &to, now.changed)
}

/// Keeps the times that an inode has in memory.
#[inline(never)]
pub(crate) fn write_times(inode: &Inode<Embrfs>) -> Result {
    let now = inode.attributes();
    let to = engine::Attributes {
        accessed: Some(timestamp(now.accessed)),
        modified: Some(timestamp(now.modified)),
        ..engine::Attributes::default()
    };
    keep(inode, &to, now.changed)
}

fn keep(inode: &Inode<Embrfs>, to: &engine::Attributes, changed: Time) -> Result {
    inode
        .volume()
        .with(|files| files.set_attributes(number(inode), to, timestamp(changed)))?;
    Ok(())
}

/// The file of an inode that goes has no name any more.
pub(crate) fn forget(inode: &Inode<Embrfs>) {
    let volume: &Volume = inode.volume();
    if volume.mounted().is_read_only() || volume.host().is_shut_down() {
        return;
    }
    // If this fails the file stays in the list of those without a name, and the next mount removes it.
    if let Err(error) = volume.with(|files| files.forget(number(inode))) {
        if volume.may_complain() {
            pr_warn!(
                "volume {}: inode {}, which has no name any more, cannot be removed now ({error:?}); the next mount will\n",
                Shown(volume.engine.uuid()),
                inode.number()
            );
        }
    }
}
