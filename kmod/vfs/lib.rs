// SPDX-License-Identifier: GPL-2.0

//! Safe Rust over the VFS, block devices, SIMD hashing and lib/raid, for any file system. It knows nothing of embrfs.
//!
//! The one crate with kernel bindings of its own. Structures of the VFS are touched here and nowhere else; what may be done
//! to them when is in the types: a superblock is [`superblock::New`], then [`superblock::Filled`], then
//! [`superblock::Live`]; an inode that nobody else may see yet is an [`inode::NewInode`].

mod attributes;
mod bindings;
mod inode_cache;
mod layout;

pub mod bdev;
pub mod blake3;
pub mod chance;
mod context;
pub mod cred;
pub mod data;
pub mod file;
pub mod file_system;
pub mod inode;
pub mod log;
pub mod names;
pub mod nofs;
pub mod params;
pub mod raid;
pub mod registration;
pub mod super_ops;
pub mod superblock;
pub mod transfer;
pub mod xattr;
mod xattr_acl;
mod xattr_new;
