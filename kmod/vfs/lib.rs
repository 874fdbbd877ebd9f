// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the VFS, block devices and SIMD hashing, for any file system. It knows nothing of embrfs.
//!
//! The one crate with kernel bindings of its own. Structures of the VFS are touched here and nowhere else; what may be done
//! to them when is in the types: a superblock is [`superblock::New`], then [`superblock::Filled`], then
//! [`superblock::Live`]; an inode that nobody else may see yet is an [`inode::NewInode`].

mod bindings;
mod layout;

pub mod bdev;
pub mod blake3;
mod context;
pub mod cred;
pub mod dir;
pub mod file;
pub mod file_system;
pub mod inode;
pub mod log;
pub mod nofs;
pub mod params;
pub mod registration;
pub mod super_ops;
pub mod superblock;
