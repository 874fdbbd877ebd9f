// SPDX-License-Identifier: GPL-2.0

//! From paths of devices to a mounted volume.

use crate::{
    embrfs::Embrfs,
    errors::{
        can_be_left_out,
        errno,
        fault_errno,
        Escaped,
        OpenFailure, //
    },
    hashing::Hasher,
    host::{
        Device,
        Host,
        Member, //
    },
    names::read_inode,
    options::Options,
    uapi,
    volume::Volume, //
};
use embr_engine::{
    format::inode::{
        MAX_LINKS,
        MAX_SIZE, //
    },
    names,
    units::{
        Bytes,
        InodeNo,
        BLOCK_SHIFT, //
    },
    volume::{
        assemble,
        mounted::Mounted,
        probe,
        recover,
        Member as Said,
        Volume as Assembled, //
    },
};
use embr_rt::Box;
use embr_vfs::{
    bdev::{
        Access,
        BlockDevice,
        DeviceName, //
    },
    file_system::Key,
    log::Log,
    nofs::NoFs,
    superblock::{
        Attributes,
        Filled,
        Live,
        New,
        SuperBlock, //
    },
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// Opens a device in some way, and says why if that fails.
fn open(
    path: &CStr,
    how: impl FnOnce(&CStr) -> Result<BlockDevice>,
    log: &Log<'_>,
) -> Result<BlockDevice> {
    how(path).inspect_err(|error| {
        log.error(format_args!(
            "{}: cannot open: {}",
            Escaped(path.to_bytes()),
            OpenFailure(*error)
        ));
    })
}

/// Reads what a device says.
#[inline(never)]
fn ask(device: &BlockDevice, hasher: &Hasher) -> Result<Said, embr_engine::Error> {
    probe(&Device(device), hasher)
}

/// Says why a device is of no use.
#[inline(never)]
fn refuse(path: &CStr, error: embr_engine::Error, log: &Log<'_>) -> Error {
    log.error(format_args!("{}: {error}", Escaped(path.to_bytes())));
    errno(error.kind())
}

fn source_of<'a>(source: Option<&'a CStr>, log: &Log<'_>) -> Result<&'a CStr> {
    source.ok_or_else(|| {
        log.error(format_args!("no device given"));
        EINVAL
    })
}

/// Every path that was given.
fn named<'a>(source: Option<&'a CStr>, options: &'a Options) -> impl Iterator<Item = &'a CStr> {
    // Named in full: pin-init has a `chain` for everything.
    Iterator::chain(
        source.into_iter(),
        options.devices.iter().map(|path| &**path),
    )
}

/// The volume that the source is a member of.
pub(crate) fn identify(source: Option<&CStr>, log: &Log<'_>) -> Result<Key> {
    let path = source_of(source, log)?;
    let device = open(path, BlockDevice::open, log)?;
    match ask(&device, &Hasher::current()) {
        Ok(member) => Ok(member.superblock.volume.0),
        Err(error) => Err(refuse(path, error, log)),
    }
}

/// What each device that was named says, and the devices themselves, in the same order.
struct Gathered {
    access: Access,
    said: embr_rt::Vec<Said>,
    members: KVec<Member>,
    /// Paths that led to nothing of use.
    left_out: KVec<CString>,
}

impl Gathered {
    /// Claims a device that `device=` named and reads what it says. A member may break, vanish or be wiped, and the volume
    /// can have redundancy to spare: the device is left out then, and the engine decides whether too many are missing.
    #[inline(never)]
    fn add(
        &mut self,
        sb: &SuperBlock<'_, Embrfs, New>,
        path: &CStr,
        hasher: &Hasher,
        log: &Log<'_>,
    ) -> Result {
        let device = match sb.claim(path, self.access) {
            Ok(device) => device,
            Err(error) if OpenFailure(error).can_be_the_disk() => {
                log.warn(format_args!(
                    "{}: cannot open: {}; left out",
                    Escaped(path.to_bytes()),
                    OpenFailure(error)
                ));
                return self.leave_out(path);
            }
            failed => open(path, |_| failed, log)?,
        };
        // A second path to a device that we have; a mount helper may well name the source again.
        let number = device.number();
        if self.members.iter().any(|m| m.device.number() == number) {
            return Ok(());
        }
        match self.read(path, device, hasher)? {
            Ok(()) => Ok(()),
            Err(error) if can_be_left_out(error.kind()) => {
                log.warn(format_args!(
                    "{}: {error}; left out",
                    Escaped(path.to_bytes())
                ));
                self.leave_out(path)
            }
            Err(error) => Err(refuse(path, error, log)),
        }
    }

    /// Keeps a device together with what it says, on the heap: that is too large to be handed about.
    #[inline(never)]
    fn read(
        &mut self,
        path: &CStr,
        device: BlockDevice,
        hasher: &Hasher,
    ) -> Result<Result<(), embr_engine::Error>> {
        match ask(&device, hasher) {
            Ok(member) => {
                self.said.push(member).map_err(|_| ENOMEM)?;
                self.members
                    .push(Member::new(path.to_cstring()?, device), GFP_KERNEL)?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    fn leave_out(&mut self, path: &CStr) -> Result {
        Ok(self.left_out.push(path.to_cstring()?, GFP_KERNEL)?)
    }
}

/// Claims every device that was named, and reads what it says. The source has to be sound: it says which volume is meant.
#[inline(never)]
fn gather(
    sb: &SuperBlock<'_, Embrfs, New>,
    options: &Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result<Gathered> {
    let hasher = Hasher::current();
    let access = if sb.is_read_only() {
        Access::ReadOnly
    } else {
        Access::ReadWrite
    };
    let mut all = Gathered {
        access,
        said: embr_rt::Vec::new(),
        members: KVec::new(),
        left_out: KVec::new(),
    };
    let source = source_of(source, log)?;
    let device = open(source, |path| sb.claim(path, access), log)?;
    if let Err(error) = all.read(source, device, &hasher)? {
        return Err(refuse(source, error, log));
    }
    // The superblock's key was read before anything was claimed. Whoever mounts the volume that the device holds by now
    // must not be given this superblock for another, nor miss it.
    if all.said.first().map(|m| m.superblock.volume.0) != Some(sb.key()) {
        log.error(format_args!(
            "{}: made a member of another volume just now, while it was being mounted: try again",
            Escaped(source.to_bytes())
        ));
        return Err(EAGAIN);
    }
    for path in &options.devices {
        all.add(sb, path, &hasher, log)?;
    }
    Ok(all)
}

/// Lets the engine make a volume of what the devices say.
#[inline(never)]
fn decide(all: &Gathered, log: &Log<'_>) -> Result<KBox<Assembled>> {
    match assemble(&all.said) {
        Ok(volume) => Ok(KBox::new(volume, GFP_KERNEL)?),
        Err(error) => {
            log.error(format_args!("{}", error.explain(&all.members)));
            Err(errno(error.kind()))
        }
    }
}

/// Bytes of nodes that a volume keeps in memory.
const CACHE: Bytes = Bytes(32 << 20);
/// Bytes of changes in memory at which they go to disk.
const DIRTY: Bytes = Bytes(16 << 20);

/// Brings the volume to its last commit.
#[inline(never)]
fn recover(
    all: Gathered,
    volume: &Assembled,
    (read_only, degraded): (bool, bool),
    log: &Log<'_>,
) -> Result<Box<Mounted<Host>>> {
    let options = recover::Options {
        read_only,
        degraded,
        cache: CACHE,
        dirty: DIRTY,
    };
    let host = Host::new(volume, all.members)?;
    let _scope = NoFs::new();
    let mounted = Mounted::open(host, volume, &all.said, options).map_err(|why| {
        log.error(format_args!("volume {}: {why}", volume.uuid()));
        fault_errno(&why)
    })?;
    if let Some(why) = mounted.cut() {
        log.error(format_args!(
            "volume {}: mounted as it was before this: {why}",
            volume.uuid()
        ));
    }
    Ok(mounted)
}

/// Claims every device that was named, lets the engine make a volume of them, and sets up superblock and root.
pub(crate) fn fill<'sb>(
    sb: SuperBlock<'sb, Embrfs, New>,
    options: &mut Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result<SuperBlock<'sb, Embrfs, Live>> {
    let sb = bring_up(sb, options, source, log)?;
    sb.volume().set_discard(options.discard);
    if !sb.volume().mounted().is_read_only() {
        carry_out(sb.volume(), log)?;
        clean_up(sb.volume(), log)?;
    }
    set_root(sb, log)
}

/// Gives the superblock its volume, as it was when it last committed.
#[inline(never)]
fn bring_up<'sb>(
    sb: SuperBlock<'sb, Embrfs, New>,
    options: &mut Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result<SuperBlock<'sb, Embrfs, Filled>> {
    let mut all = gather(&sb, options, source, log)?;
    let volume = decide(&all, log)?;
    let name = all.members.first().ok_or(ENODEV)?.device.name();
    let complete = volume.current() == volume.seats().len();
    // As long as nothing brings a member that missed something up to date, none is left behind unless that is asked for.
    let may_write = complete || options.degraded;
    let read_only = sb.is_read_only() || !may_write;
    introduce(&volume, &name, sb.is_read_only() || may_write, log);
    let left_out = core::mem::take(&mut all.left_out);
    let mounted = recover(all, &volume, (read_only, options.degraded), log)?;
    give(
        sb,
        Volume::new(volume, mounted, left_out, options.degraded)?,
        &name,
        read_only,
    )
}

#[inline(never)]
fn give<'sb>(
    sb: SuperBlock<'sb, Embrfs, New>,
    volume: Volume,
    name: &DeviceName,
    read_only: bool,
) -> Result<SuperBlock<'sb, Embrfs, Filled>> {
    let uuid = volume.engine.uuid();
    let attributes = Attributes {
        magic: uapi::SUPER_MAGIC,
        block_shift: BLOCK_SHIFT as u8,
        uuid: &uuid.0,
        id: name.as_bytes(),
        links_max: MAX_LINKS,
        file_size_max: MAX_SIZE.0 as i64,
        read_only,
    };
    sb.fill(&attributes, volume)
}

/// Says which volume it is, and how it is mounted.
#[inline(never)]
fn introduce(volume: &Assembled, name: &DeviceName, as_asked: bool, log: &Log<'_>) {
    let uuid = volume.uuid();
    if volume.missing().any() {
        log.warn(format_args!(
            "{name}: mounting without members: {}",
            volume.missing()
        ));
    }
    let why = match as_asked {
        true => "",
        false => "; read-only, for members are not here or missed something: attach them, or mount with degraded",
    };
    log.info(format_args!(
        "{name}: volume {uuid}, bundle {}, {} of {} members, generation {}{why}",
        volume.geometry(),
        volume.current(),
        volume.seats().len(),
        volume.generation(),
    ));
}

/// Operations that were cut short when the volume was last used.
#[inline(never)]
fn carry_out(volume: &Volume, log: &Log<'_>) -> Result {
    let mut damaged = |why| leave(log, why);
    match volume.with(|files| files.resume_but(&mut damaged)) {
        Ok(0) => {}
        Ok(n) => log.info(format_args!(
            "carried out {n} operations that were cut short"
        )),
        // They are honoured all the same, and carried out when there is room.
        Err(error) if error == ENOSPC => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// One file that is damaged is no reason to do without all others.
fn leave(log: &Log<'_>, why: names::Error) -> Result<(), names::Error> {
    log.warn(format_args!("{why}: left as it is; run fsck.embrfs"));
    Ok(())
}

/// Files that had no name any more when the volume was last used, and that nobody uses now.
#[inline(never)]
fn clean_up(volume: &Volume, log: &Log<'_>) -> Result {
    let mut damaged = |why| leave(log, why);
    match volume.with(|files| files.forget_orphans_but(&mut damaged)) {
        Ok(0) => {}
        Ok(n) => log.info(format_args!(
            "removed {n} files that had no name any more when the volume was last used"
        )),
        // Nobody sees them, and the next mount tries again.
        Err(error) if error == ENOSPC => log.warn(format_args!(
            "no room to remove files that had no name any more when the volume was last used: make some, and mount it again"
        )),
        Err(error) => return Err(error),
    }
    Ok(())
}

#[inline(never)]
fn set_root<'sb>(
    sb: SuperBlock<'sb, Embrfs, Filled>,
    log: &Log<'_>,
) -> Result<SuperBlock<'sb, Embrfs, Live>> {
    let root = read_inode(&sb, InodeNo::ROOT, None).inspect_err(|error| {
        if *error == ENOENT {
            log.error(format_args!(
                "the volume has no root directory: it was made by an older mkfs.embrfs, before there were files: make it anew"
            ));
        }
    })?;
    sb.set_root(root)
}

/// A mount of a volume that is mounted: it may name only devices that the volume has.
pub(crate) fn share(
    volume: &Volume,
    options: &Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result {
    for path in named(source, options) {
        if source != Some(path) && volume.was_left_out(path) {
            log.warn(format_args!(
                "{}: the volume {} is mounted already, without this device",
                Escaped(path.to_bytes()),
                volume.engine.uuid()
            ));
            continue;
        }
        let device = open(path, BlockDevice::open, log)?;
        if !volume
            .host()
            .members
            .iter()
            .any(|m| m.device.number() == device.number())
        {
            log.error(format_args!(
                "{}: the volume {} is mounted already, without this device: unmount it first",
                Escaped(path.to_bytes()),
                volume.engine.uuid()
            ));
            return Err(EBUSY);
        }
    }
    Ok(())
}

/// A remount.
pub(crate) fn reconfigure(
    volume: &Volume,
    options: &Options,
    read_only: bool,
    log: &Log<'_>,
) -> Result {
    if !read_only && volume.mounted().is_read_only() {
        log.error(format_args!(
            "mounted so that nothing is ever written, or without all members: unmount, and mount again to write"
        ));
        return Err(EROFS);
    }
    // mount(8) repeats the options that it finds in /proc.
    for path in &options.devices {
        let named = volume.host().members.iter().any(|m| *m.path == **path);
        if !named && !volume.was_left_out(path) {
            log.error(format_args!(
                "{}: a remount cannot add a device; unmount, and mount with it",
                Escaped(path.to_bytes())
            ));
            return Err(EINVAL);
        }
    }
    volume.set_discard(options.discard);
    match read_only {
        true => volume.rest(),
        false => {
            volume.wake();
            Ok(())
        }
    }
}
