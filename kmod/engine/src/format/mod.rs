// SPDX-License-Identifier: GPL-2.0

//! What each byte on disk means, and nothing else. docs/FORMAT.md says the same in prose.
//!
//! Everything read is parsed here into types whose values are known to be sound; nothing later checks again. All numbers
//! are little-endian. What is read without a parent that vouches for it carries a [`Seal`](seal).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod attribute;
pub mod engram;
pub mod epoch;
pub mod extent;
pub mod features;
pub mod geometry;
pub mod inline;
pub mod inode;
pub mod intent;
pub mod journal;
pub mod layout;
pub mod member;
pub mod name;
pub mod node;
pub mod pointer;
pub mod reference;
pub mod root;
pub mod seal;
pub mod snapshot;
pub mod stripe;
pub mod superblock;
