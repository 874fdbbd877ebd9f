// SPDX-License-Identifier: GPL-2.0

//! What ioctl(2) can ask of a volume.

use crate::{
    embrfs::Embrfs,
    errors::fault_errno,
    uapi::{
        self,
        Info, //
    },
    volume::Volume,
};
use embr_engine::{
    format::layout,
    space::GROUP,
    units::{
        Blocks,
        Bytes,
        BLOCK_SIZE, //
    },
    volume::discard::Trim,
};
use embr_vfs::{
    cred::may_administer,
    file::{
        is_interrupted,
        Command,
        ShutdownMode,
        TrimRange,
        SHUTDOWN,
        TRIM, //
    },
    inode::Inode,
    nofs::NoFs, //
};
use kernel::prelude::*;

pub(crate) fn ioctl(inode: &Inode<Embrfs>, command: Command) -> Result<isize> {
    match command.number {
        uapi::IOC_INFO => info(inode, command),
        SHUTDOWN => shut_down(inode, command),
        TRIM => trim(inode.volume(), command),
        _ => Err(ENOTTY),
    }
}

/// Answers even when the volume is shut down: it touches no device.
fn info(inode: &Inode<Embrfs>, command: Command) -> Result<isize> {
    let mut size = [0; 4];
    command.memory(size.len()).reader().read_slice(&mut size)?;
    let room = u32::from_ne_bytes(size) as usize;
    if room < uapi::INFO_LEAST {
        return Err(EINVAL);
    }
    let mut info = gather(inode);
    let room = room.min(size_of::<Info>());
    info.size = room as u32;
    let fits = info.as_bytes().get(..room).ok_or(EINVAL)?;
    command.memory(fits.len()).writer().write_slice(fits)?;
    Ok(0)
}

fn gather(inode: &Inode<Embrfs>) -> Info {
    let volume = inode.volume();
    let engine = &volume.engine;
    let members = engine.seats().len();
    let absent = volume.absent().min(members);
    let usage = volume.mounted().statfs();
    let epoch = volume.mounted().epoch();
    let tally = volume.tally();
    let mut flags = 0;
    if inode.super_block().is_read_only() {
        flags |= uapi::INFO_READ_ONLY;
    }
    if absent > 0 {
        flags |= uapi::INFO_DEGRADED;
    }
    if volume.host().is_shut_down() {
        flags |= uapi::INFO_SHUT_DOWN;
    }
    let mut label = [0; uapi::LABEL_ROOM];
    for (to, from) in label.iter_mut().zip(engine.label().bytes()) {
        *to = from;
    }
    Info {
        size: size_of::<Info>() as u32,
        format_version: layout::VERSION,
        uuid: engine.uuid().0,
        // Who knows it could write what passes for a part of the journal, should it ever lie there.
        epoch: match may_administer() {
            true => epoch.id.0,
            false => Default::default(),
        },
        epoch_number: epoch.number,
        generation: volume.mounted().generation().0,
        capacity: usage.total.0,
        free: usage.free.0,
        block_size: BLOCK_SIZE as u32,
        data: engine.geometry().data(),
        parity: engine.geometry().parity(),
        reserved0: [0; 2],
        members: members as u32,
        current: (members - absent) as u32,
        absent: absent as u32,
        flags,
        label,
        written: tally.written.0,
        moved: tally.moved.blocks.0,
        regained: tally.moved.gained.0,
    }
}

fn shut_down(inode: &Inode<Embrfs>, command: Command) -> Result<isize> {
    let volume = inode.volume();
    if !may_administer() {
        return Err(EPERM);
    }
    let mut mode = [0; 4];
    command.memory(mode.len()).reader().read_slice(&mut mode)?;
    match ShutdownMode::from_raw(u32::from_ne_bytes(mode)) {
        None => Err(EINVAL),
        Some(_) if volume.host().is_shut_down() => Ok(0),
        Some(mode) => {
            let flushed = match mode {
                ShutdownMode::Default => inode.super_block().sync_all(),
                ShutdownMode::LogFlush => volume.sync(),
                ShutdownMode::NoLogFlush => Ok(()),
            };
            volume.shut_down("by request");
            flushed.map(|()| 0)
        }
    }
}

/// Tells devices of all that is free, as fstrim(8) wants it: they follow each other as if they were one.
fn trim(volume: &Volume, command: Command) -> Result<isize> {
    if !may_administer() {
        return Err(EPERM);
    }
    volume.check()?;
    if !volume.host().members.iter().any(|m| m.device.can_discard()) {
        return Err(EOPNOTSUPP);
    }
    let mut bytes = [0; TrimRange::SIZE];
    command
        .memory(bytes.len())
        .reader()
        .read_slice(&mut bytes)?;
    let mut range = TrimRange::from_bytes(bytes);
    let blocks = |bytes: u64| Blocks(bytes.div_ceil(BLOCK_SIZE as u64));
    let (from, least) = (blocks(range.start), blocks(range.least));
    let end = Bytes(range.start.saturating_add(range.length)).whole_blocks();
    // No run is longer than a group.
    if from >= volume.mounted().blocks() || least.0 > GROUP {
        return Err(EINVAL);
    }
    let mut trim = Trim::new(from, end, least);
    let mut trim_more = || {
        let _scope = NoFs::new();
        volume.mounted().trim(&mut trim)
    };
    while trim_more().map_err(|why| fault_errno(&why))? {
        if is_interrupted() {
            return Err(EINTR);
        }
    }
    range.length = trim.discarded().0;
    let bytes = range.to_bytes();
    command.memory(bytes.len()).writer().write_slice(&bytes)?;
    Ok(0)
}
