// SPDX-License-Identifier: GPL-2.0

//! The Rust twin of uapi/embrfs.h. Nothing but layout.

use core::mem::offset_of;
use zerocopy_derive::{
    Immutable,
    IntoBytes, //
};

/// `f_type` of statfs(2).
pub(crate) const SUPER_MAGIC: u32 = 0x454d_4252;

/// Room for a label, its terminator and padding.
pub(crate) const LABEL_ROOM: usize = 136;

pub(crate) const INFO_READ_ONLY: u32 = 1 << 0;
pub(crate) const INFO_DEGRADED: u32 = 1 << 1;
pub(crate) const INFO_SHUT_DOWN: u32 = 1 << 2;

/// `struct embrfs_info`.
#[derive(IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Info {
    pub(crate) size: u32,
    pub(crate) format_version: u32,
    pub(crate) uuid: [u8; 16],
    pub(crate) epoch: [u8; 16],
    pub(crate) epoch_number: u64,
    pub(crate) generation: u64,
    pub(crate) capacity: u64,
    pub(crate) free: u64,
    pub(crate) block_size: u32,
    pub(crate) data: u8,
    pub(crate) parity: u8,
    pub(crate) reserved0: [u8; 2],
    pub(crate) members: u32,
    pub(crate) current: u32,
    pub(crate) absent: u32,
    pub(crate) flags: u32,
    pub(crate) label: [u8; LABEL_ROOM],
    pub(crate) written: u64,
    pub(crate) moved: u64,
    pub(crate) regained: u64,
}

/// `EMBRFS_IOC_INFO`.
pub(crate) const IOC_INFO: u32 = kernel::ioctl::_IOWR::<u32>(0xeb, 1);

/// What the first version had: less room than this is no use to anyone.
pub(crate) const INFO_LEAST: usize = 232;

// The same numbers as in uapi_layout.c.
const _: () = assert!(size_of::<Info>() == 256);
const _: () = assert!(offset_of!(Info, uuid) == 8);
const _: () = assert!(offset_of!(Info, epoch_number) == 40);
const _: () = assert!(offset_of!(Info, block_size) == 72);
const _: () = assert!(offset_of!(Info, members) == 80);
const _: () = assert!(offset_of!(Info, label) == 96);
const _: () = assert!(offset_of!(Info, written) == 232);
const _: () = assert!(IOC_INFO == 0xc004_eb01);
