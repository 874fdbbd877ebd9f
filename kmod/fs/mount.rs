// SPDX-License-Identifier: GPL-2.0

//! From paths of devices to a mounted volume.

use crate::{
    embrfs::Embrfs,
    errors::{
        errno,
        Escaped,
        OpenFailure, //
    },
    hashing::Hasher,
    host::Device,
    options::Options,
    uapi,
    volume::{
        Member,
        Volume, //
    },
};
use embr_engine::{
    units::{
        InodeNo,
        BLOCK_SHIFT, //
    },
    volume::{
        assemble,
        probe,
        Member as Said,
        Volume as Assembled, //
    },
};
use embr_vfs::{
    bdev::BlockDevice,
    file_system::Key,
    inode::{
        Attributes as InodeAttributes,
        Found,
        Time, //
    },
    log::Log,
    superblock::{
        Attributes,
        Filled,
        Live,
        New,
        SuperBlock, //
    },
};
use kernel::prelude::*;

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

/// Appends what a device says, on the heap: it is too large to be handed about.
#[inline(never)]
fn read_into(
    said: &mut embr_rt::Vec<Said>,
    path: &CStr,
    device: &BlockDevice,
    hasher: &Hasher,
    log: &Log<'_>,
) -> Result {
    match ask(device, hasher) {
        Ok(member) => said.push(member).map_err(|_| ENOMEM),
        Err(error) => Err(refuse(path, error, log)),
    }
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
    said: embr_rt::Vec<Said>,
    members: KVec<Member>,
}

/// Claims every device that was named, and reads what it says.
#[inline(never)]
fn gather(
    sb: &SuperBlock<'_, Embrfs, New>,
    options: &Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result<Gathered> {
    let hasher = Hasher::current();
    let mut all = Gathered {
        said: embr_rt::Vec::new(),
        members: KVec::new(),
    };
    for path in named(Some(source_of(source, log)?), options) {
        let device = open(path, |path| sb.claim(path), log)?;
        if all
            .members
            .iter()
            .any(|m| m.device.number() == device.number())
        {
            // A second path to a device that we have; a mount helper may well name the source again.
            continue;
        }
        read_into(&mut all.said, path, &device, &hasher, log)?;
        all.members
            .push(Member::new(path.to_cstring()?, device), GFP_KERNEL)?;
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

/// Claims every device that was named, lets the engine make a volume of them, and sets up superblock and root.
pub(crate) fn fill<'sb>(
    sb: SuperBlock<'sb, Embrfs, New>,
    options: &Options,
    source: Option<&CStr>,
    log: &Log<'_>,
) -> Result<SuperBlock<'sb, Embrfs, Live>> {
    let all = gather(&sb, options, source, log)?;
    let volume = decide(&all, log)?;
    let uuid = volume.uuid();
    let name = all.members.first().ok_or(ENODEV)?.device.name();
    if volume.missing().any() {
        log.warn(format_args!(
            "{name}: mounting without members: {}",
            volume.missing()
        ));
    }
    log.info(format_args!(
        "{name}: volume {uuid}, bundle {}, {} of {} members, generation {}; this version mounts read-only",
        volume.geometry(),
        volume.current(),
        volume.seats().len(),
        volume.generation(),
    ));
    let attributes = Attributes {
        magic: uapi::SUPER_MAGIC,
        block_shift: BLOCK_SHIFT as u8,
        uuid: &uuid.0,
        id: name.as_bytes(),
        links_max: u32::MAX,
        read_only: true,
    };
    set_root(sb.fill(
        &attributes,
        Volume::new(volume, all.members, options.degraded),
    )?)
}

#[inline(never)]
fn set_root(sb: SuperBlock<'_, Embrfs, Filled>) -> Result<SuperBlock<'_, Embrfs, Live>> {
    let created = sb.volume().engine.created();
    let time = Time {
        seconds: created.seconds,
        nanos: created.nanos,
    };
    let root = match sb.inode(InodeNo::ROOT.0)? {
        Found::Cached(root) => root,
        Found::New(new) => new.finish_directory(&InodeAttributes {
            permissions: 0o755,
            uid: 0,
            gid: 0,
            links: 2,
            size: 0,
            accessed: time,
            changed: time,
            modified: time,
        }),
    };
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
        let device = open(path, BlockDevice::open, log)?;
        if !volume
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
    if !read_only {
        log.error(format_args!(
            "this version mounts read-only: it cannot be remounted read-write"
        ));
        return Err(EROFS);
    }
    // mount(8) repeats the options that it finds in /proc.
    for path in &options.devices {
        if !volume.members.iter().any(|m| *m.path == **path) {
            log.error(format_args!(
                "{}: a remount cannot add a device; unmount, and mount with it",
                Escaped(path.to_bytes())
            ));
            return Err(EINVAL);
        }
    }
    Ok(())
}
