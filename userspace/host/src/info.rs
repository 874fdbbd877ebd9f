// SPDX-License-Identifier: GPL-2.0

//! EMBRFS_IOC_INFO: what the kernel says of a mounted volume. The twin of kmod/fs/uapi/embrfs.h.
//!
//! The only file in userspace with an unsafe block: the kernel writes into memory of ours, and no library can know how much.

#![allow(unsafe_code)]

use embr_engine::units::Uuid;
use rustix::ioctl::opcode;
use rustix::ioctl::Opcode;
use rustix::ioctl::Updater;
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::path::Path;

/// `struct embrfs_info`.
#[repr(C)]
struct Raw {
    size: u32,
    format_version: u32,
    uuid: [u8; 16],
    epoch: [u8; 16],
    epoch_number: u64,
    generation: u64,
    capacity: u64,
    free: u64,
    block_size: u32,
    data: u8,
    parity: u8,
    reserved0: [u8; 2],
    members: u32,
    current: u32,
    absent: u32,
    flags: u32,
    label: [u8; 136],
    written: u64,
    moved: u64,
    regained: u64,
}

const _: () = assert!(size_of::<Raw>() == 256);

/// The number names the first field only, so that it stays when fields are added.
const OPCODE: Opcode = opcode::read_write::<u32>(0xEB, 1);

const READ_ONLY: u32 = 1;
const DEGRADED: u32 = 2;
const SHUT_DOWN: u32 = 4;

/// A mounted volume.
#[derive(Debug)]
pub struct Info {
    /// The volume.
    pub uuid: Uuid,
    /// Its label; empty where it has none.
    pub label: String,
    /// How many membership epochs came before, and one.
    pub epoch_number: u64,
    /// The generation of its newest root.
    pub generation: u64,
    /// Bytes of file data that fit.
    pub capacity: u64,
    /// Bytes of file data that are free.
    pub free: u64,
    /// k of the bundle.
    pub data: u8,
    /// m of the bundle.
    pub parity: u8,
    /// Members that it has.
    pub members: u32,
    /// Members that are here and up to date.
    pub current: u32,
    /// Members that are missing, stale or gone.
    pub absent: u32,
    /// Nothing can be written.
    pub read_only: bool,
    /// Members are absent.
    pub degraded: bool,
    /// Everything gives EIO.
    pub shut_down: bool,
    /// What was written and moved; none where the module is too old to tell.
    pub traffic: Option<Traffic>,
}

/// What came of all that was written since the mount.
#[derive(Debug)]
pub struct Traffic {
    /// Bytes of file data that were written, without copies and parity.
    pub written: u64,
    /// Bytes of it that were written again since, to have room.
    pub moved: u64,
    /// Bytes of all members that are free because of that.
    pub regained: u64,
}

/// Asks about the volume that `path` lies on; none where that is no embrfs.
pub fn ask(path: &Path) -> io::Result<Option<Info>> {
    let file = File::open(path)?;
    let mut raw = Raw {
        size: size_of::<Raw>() as u32,
        format_version: 0,
        uuid: [0; 16],
        epoch: [0; 16],
        epoch_number: 0,
        generation: 0,
        capacity: 0,
        free: 0,
        block_size: 0,
        data: 0,
        parity: 0,
        reserved0: [0; 2],
        members: 0,
        current: 0,
        absent: 0,
        flags: 0,
        label: [0; 136],
        written: 0,
        moved: 0,
        regained: 0,
    };
    // SAFETY: The kernel writes no more than the size that the first field names, which is that of the structure, and every
    // bit pattern is a value of each of its fields.
    let asked = unsafe { rustix::ioctl::ioctl(&file, Updater::<OPCODE, Raw>::new(&mut raw)) };
    match asked {
        Ok(()) => {}
        Err(rustix::io::Errno::NOTTY) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    let block = u64::from(raw.block_size);
    let label: Vec<u8> = raw.label.iter().copied().take_while(|b| *b != 0).collect();
    Ok(Some(Info {
        uuid: Uuid(raw.uuid),
        label: String::from_utf8_lossy(&label).into_owned(),
        epoch_number: raw.epoch_number,
        generation: raw.generation,
        capacity: raw.capacity.saturating_mul(block),
        free: raw.free.saturating_mul(block),
        data: raw.data,
        parity: raw.parity,
        members: raw.members,
        current: raw.current,
        absent: raw.absent,
        read_only: raw.flags & READ_ONLY != 0,
        degraded: raw.flags & DEGRADED != 0,
        shut_down: raw.flags & SHUT_DOWN != 0,
        traffic: (raw.size as usize >= size_of::<Raw>()).then(|| Traffic {
            written: raw.written.saturating_mul(block),
            moved: raw.moved.saturating_mul(block),
            regained: raw.regained.saturating_mul(block),
        }),
    }))
}
