// SPDX-License-Identifier: GPL-2.0

//! What can go wrong with a tree, said so that the reader knows which one, what part of it, and where.

use crate::env::DeviceError;
use crate::format::member::Slot;
use crate::format::node::BadNode;
use crate::units::Bytes;
use crate::units::Level;
use crate::units::TreeId;
use core::fmt;
use embr_rt::NoMem;

/// Which node is meant, and which copy of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// Of which tree.
    pub tree: TreeId,
    /// At which level.
    pub level: Level,
    /// On which device.
    pub device: Slot,
    /// Where on it.
    pub at: Bytes,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tree {}, level {}: the node at byte {} of the device in slot {}",
            self.tree,
            self.level,
            self.at,
            self.device.index()
        )
    }
}

/// An error of a tree. Where several copies of a node failed, this is what was wrong with the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TreeError {
    /// Memory could not be had.
    NoMemory,
    /// There is no place for a new node.
    NoSpace,
    /// No copy could be read.
    Io(Spot, DeviceError),
    /// No copy is sound.
    Corrupt(Spot, BadNode),
    /// A new node could not be written.
    Write(Slot, Bytes, DeviceError),
    /// A value is longer than a node takes, or the tree would be higher than trees can be.
    TooLarge(TreeId),
}

impl From<NoMem> for TreeError {
    fn from(_: NoMem) -> Self {
        TreeError::NoMemory
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TreeError::NoMemory => f.write_str("out of memory"),
            TreeError::NoSpace => f.write_str("no space for a node"),
            TreeError::Io(spot, why) => write!(f, "{spot} cannot be read: {why}"),
            TreeError::Corrupt(spot, why) => write!(f, "{spot} is damaged: {why}"),
            TreeError::Write(device, at, why) => write!(
                f,
                "the node at byte {at} of the device in slot {} cannot be written: {why}",
                device.index()
            ),
            TreeError::TooLarge(tree) => {
                write!(f, "tree {tree}: a value or the tree is larger than can be")
            }
        }
    }
}
