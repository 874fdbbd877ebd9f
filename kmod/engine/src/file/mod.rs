// SPDX-License-Identifier: GPL-2.0

//! What files hold: reading, writing, truncating, and everything else that is done with ranges of a file. A block of a file is
//! inline (a value in the tree), raw (in an engram), unwritten (its place is taken, and it reads as zeros) or a hole.
//!
//! Nothing here locks files. Whoever reads a block sees to it that nobody changes that block meanwhile; other blocks of the file
//! may be written. Whatever changes a file (write included: it changes its inode) is called with that file locked
//! exclusively against every other operation that changes it or its inode.
//!
//! Nothing here knows of page caches, and nothing holds back a write: what these functions are given goes to disk at once.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod carry;
mod clone;
pub(crate) mod edit;
mod intent;
pub(crate) mod own;
mod pieces;
pub mod plan;
mod policy;
mod ranges;
mod read;
mod same;
mod shift;
pub(crate) mod striped;
mod truncate;
pub(crate) mod window;
mod write;

pub use crate::format::inode::MAX_SIZE;
pub use clone::Pair;
pub use pieces::Holds;
pub use pieces::Piece;
pub(crate) use shift::Shifts;
pub use write::Rest;

use crate::format::extent;
use crate::format::inode::FileType;
use crate::format::inode::Inode;
pub(crate) use crate::format::intent::END;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::Error;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SHIFT;
use crate::units::BLOCK_SIZE;

/// Blocks of a window.
pub(crate) const WINDOW_BLOCKS: u64 = extent::WINDOW as u64;

/// Blocks to be written.
#[derive(Clone, Copy, Debug)]
pub struct Dirty<'a> {
    /// The first of them.
    pub at: FileBlock,
    /// What they are to hold: whole blocks, zeros behind the end of the file.
    pub bytes: &'a [u8],
}

/// How blocks are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Raw, to as many devices as must not all be lost.
    Sealed,
    /// As values in the tree, so that one record of the journal makes them durable: for little that is waited for.
    Inline,
}

/// What becomes of the inode when blocks are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Written {
    /// The file's size becomes the larger of this and what it was.
    pub size: Option<Bytes>,
    /// When its contents last changed.
    pub modified: Option<Timestamp>,
    /// When anything of it last changed.
    pub changed: Option<Timestamp>,
}

impl Dirty<'_> {
    fn blocks(&self) -> u64 {
        (self.bytes.len() / BLOCK_SIZE) as u64
    }

    /// The block behind the last one.
    fn end(&self) -> FileBlock {
        self.at.plus(self.blocks())
    }
}

impl FileBlock {
    /// So many blocks further on.
    pub fn plus(self, blocks: u64) -> FileBlock {
        FileBlock(self.0.saturating_add(blocks))
    }

    /// Its first byte.
    pub fn start(self) -> Bytes {
        Bytes(self.0.saturating_mul(BLOCK_SIZE as u64))
    }

    /// The block that a byte lies in.
    pub fn of(byte: Bytes) -> FileBlock {
        FileBlock(byte.0.wrapping_shr(BLOCK_SHIFT))
    }

    /// The first block that begins at this byte or behind it.
    pub fn from(byte: Bytes) -> FileBlock {
        FileBlock(byte.0.div_ceil(BLOCK_SIZE as u64))
    }
}

/// The item of a block that lies in the tree.
fn inline(file: InodeNo, block: FileBlock) -> Item {
    Item::new(file, Kind::INLINE, block.0)
}

/// The item of the window that a block lies in.
fn extents(file: InodeNo, block: FileBlock) -> Item {
    Item::new(file, Kind::EXTENTS, block.0 / WINDOW_BLOCKS)
}

/// Only regular files hold bytes.
fn regular(inode: &Inode) -> Result<(), Error> {
    match inode.kind {
        FileType::Regular => Ok(()),
        FileType::Directory => Err(Error::IsDirectory),
        _ => Err(Error::Invalid),
    }
}
