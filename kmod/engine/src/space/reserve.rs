// SPDX-License-Identifier: GPL-2.0

//! The arithmetic of reserves: how many nodes a checkpoint may have to write for what transactions changed, and how many stay
//! out of reach for whoever takes space. Why these numbers are enough is in docs/decisions/0003-free-space.md.

use crate::format::journal::Record;
use crate::format::node;
use crate::format::node::INNER_ENTRY;
use crate::format::node::LEAF_ENTRY;
use crate::format::node::NODE_SIZE;
use crate::units::Blocks;
use crate::units::BLOCK_SIZE;

/// Bytes of entries in a node.
const ROOM: u64 = node::room(NODE_SIZE) as u64;
/// A node that is not the root has at least so many children.
const CHILDREN: u64 = (node::room(NODE_SIZE) / 4 / INNER_ENTRY) as u64;
/// Leaves that changing one key may rewrite, and nodes right above them.
const LEAVES_PER_KEY: u64 = 2;
const ABOVE_PER_KEY: u64 = 3;
/// Trees in which a node right above leaves may have fewer children, as it is the root.
const ROOTS: u64 = 8;
/// Bytes of entries that fill a node, where many are written: three quarters less a little.
const FILLED: u64 = ROOM / 100 * 73;
/// Keys of the largest transaction that must always be possible, and their bytes.
const LARGEST: Change = Change {
    keys: 16,
    bytes: 16384,
};
/// The part of a volume that is kept for transactions that free space, and the most that it is.
const KEPT_IN: u64 = 128;
const KEPT_MOST: u64 = 32768;
/// Blocks of a file whose place one item says.
const WINDOW: u64 = 32;

/// What a transaction changes, as far as its nodes are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Keys that it touches.
    keys: u64,
    /// Bytes that these and what must lead to them take.
    bytes: u64,
}

/// A leaf that is split gives its parent a child more, and that one, rarely, another.
const CHILD: u64 = 2 * INNER_ENTRY as u64;

impl Change {
    /// One key gets a value of so many bytes.
    pub fn set(value: usize) -> Self {
        let entry = (value as u64).saturating_add(LEAF_ENTRY as u64);
        Change {
            keys: 1,
            bytes: entry.saturating_add(CHILD),
        }
    }

    /// One key is removed.
    pub const GONE: Self = Change {
        keys: 1,
        bytes: CHILD,
    };

    /// A range of keys is removed: only the leaves at its ends are written.
    pub const RANGE_GONE: Self = Change {
        keys: 2,
        bytes: 2 * CHILD,
    };

    /// What a record of the journal changes.
    pub fn of(record: &Record<'_>) -> Self {
        match record {
            Record::Set(_, _, value) => Change::set(value.len()),
            Record::Gone(..) => Change::GONE,
            Record::RangeGone(..) => Change::RANGE_GONE,
            // Free space is counted as a whole.
            _ => Change::default(),
        }
    }

    /// What so many blocks of a file need, written in one go: the items of their windows, the inode's, and what is appended
    /// to other trees.
    pub fn of_data(blocks: Blocks) -> Self {
        let windows = (blocks.0 / WINDOW).saturating_add(2);
        Change {
            keys: windows.saturating_add(4),
            bytes: blocks.0.saturating_mul(256),
        }
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Change {
            keys: self.keys.saturating_add(other.keys),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    /// The last key lies beside one that was counted, and nothing is between them: they touch the same leaves but for their bytes.
    pub fn beside(self) -> Self {
        Change {
            keys: self.keys.saturating_sub(1),
            ..self
        }
    }

    /// Nodes that a checkpoint may have to write because of it.
    pub fn nodes(self) -> u64 {
        self.by_keys(u64::MAX).saturating_add(self.by_bytes())
    }

    /// Those of them that take the place of nodes which are there, of which there are at most so many: of all the nodes of a level
    /// at most twice as many can come, and right above the leaves there are few.
    pub fn by_keys(self, there: u64) -> u64 {
        let above = (there / CHILDREN).saturating_add(ROOTS);
        let of = |nodes: u64, per_key| {
            nodes
                .saturating_mul(2)
                .min(self.keys.saturating_mul(per_key))
        };
        of(there, LEAVES_PER_KEY).saturating_add(of(above, ABOVE_PER_KEY))
    }

    /// Those of them that are new.
    pub fn by_bytes(self) -> u64 {
        self.bytes.div_ceil(FILLED)
    }

    /// Nodes by which the trees may have grown once it is written and what it replaced is free.
    pub fn growth(self) -> u64 {
        let split = self.keys.saturating_add(self.keys / 32);
        split.saturating_add(self.bytes.div_ceil(FILLED))
    }
}

/// Nodes by which a tree may have grown, at any time, once entries of so many bytes were moved within it in pieces, but for the ends
/// of what was moved: a node is at least a quarter full.
pub fn of_moved(bytes: u64) -> u64 {
    let leaves = bytes.div_ceil(ROOM / 4);
    // A parent has at least so many children.
    leaves.saturating_add(leaves.div_ceil(CHILDREN))
}

/// Nodes by which names of so many nodes may grow when all of them are removed, while others see them still. What says that an item is
/// gone lies beside the item and is shorter: a leaf becomes two at most, and so do the nodes above. What was touched is noted in as many
/// bytes, in nodes that may be a quarter full.
pub fn of_removed(nodes: u64) -> u64 {
    let beside = nodes.saturating_add(nodes / 32);
    let noted = nodes.saturating_add(nodes / 4);
    beside.saturating_add(noted).saturating_add(32)
}

/// Nodes for both ends: what lies there and does not move is divided from what does.
pub const OF_ENDS: u64 = 8;

/// How much is kept back on a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reserve {
    /// Nodes that a checkpoint may write beyond those of the transactions, and as many again for their growth: nobody gets them.
    pub floor: u64,
    /// Nodes that only transactions get that free space; those of the floor are among them.
    pub full: u64,
    /// Nodes that one of these may need.
    pub largest: u64,
    /// Nodes that are kept for removing what others see as well; those of `full` they are among.
    pub removal: u64,
    /// What it was made for: room for nodes, items of free space, and other trees.
    volume: (u64, u64, u64),
}

/// The levels of a tree that has at most so many leaves.
fn levels(leaves: u64) -> u64 {
    let mut nodes = leaves;
    let mut levels = 1u64;
    while nodes > 1 {
        nodes /= CHILDREN;
        levels = levels.saturating_add(1);
    }
    levels
}

impl Reserve {
    /// For a volume that has room for so many nodes, with so many items of free space, and so many other trees.
    pub fn new(nodes: u64, groups: u64, trees: u64) -> Self {
        let per_checkpoint = Self::space(groups).saturating_add(Self::high(nodes, trees));
        let largest = LARGEST.nodes();
        let kept = (nodes / KEPT_IN)
            .min(KEPT_MOST)
            .max(largest.saturating_add(per_checkpoint).saturating_add(32));
        let floor = per_checkpoint.saturating_mul(2);
        Reserve {
            floor,
            full: floor.saturating_add(kept),
            largest: kept
                .saturating_sub(per_checkpoint)
                .saturating_sub(32)
                .max(largest),
            removal: 0,
            volume: (nodes, groups, trees),
        }
    }

    /// Nodes with which one transaction that frees space has room, divided as far as it can be.
    pub fn one_removal(&self) -> u64 {
        self.floor.saturating_add(LARGEST.nodes()).min(self.full)
    }

    /// The most nodes that are kept for removing what others see as well, whatever an image says.
    pub fn most_removal(&self) -> u64 {
        self.volume.0 / 2
    }

    /// The same with so many nodes for removing what others see as well.
    pub fn with_removal(self, nodes: u64) -> Self {
        let others = self.full.saturating_sub(self.removal);
        let nodes = nodes.min(self.most_removal());
        Reserve {
            full: others.saturating_add(nodes),
            removal: nodes,
            ..self
        }
    }

    /// Nodes that a checkpoint may write beyond those of the transactions if it writes so many items of free space and there are at
    /// most so many nodes. As a rule it is far less than what is kept back for it.
    pub fn own(&self, items: u64, there: u64) -> u64 {
        let (nodes, groups, trees) = self.volume;
        let item = Change::set(BLOCK_SIZE);
        let items = items.min(groups);
        let change = Change {
            keys: items,
            bytes: items.saturating_mul(item.bytes),
        };
        let space = Self::space(groups).min(change.nodes());
        space.saturating_add(Self::high(nodes.min(there), trees))
    }

    /// The tree of free space, written anew as a whole.
    fn space(groups: u64) -> u64 {
        if groups <= 3 {
            return 1;
        }
        let above = groups / 16;
        groups
            .saturating_add(above)
            .saturating_add(levels(groups).saturating_mul(3))
            .saturating_add(2)
    }

    /// The nodes of the other trees that lie two levels and more above the leaves, and what the right edge of each may add.
    fn high(nodes: u64, trees: u64) -> u64 {
        let mut all = 0u64;
        let mut level = nodes / CHILDREN / CHILDREN;
        while level != 0 {
            all = all.saturating_add(level.saturating_mul(2));
            level /= CHILDREN;
        }
        let edge = levels(nodes).saturating_mul(3).saturating_add(2);
        all.saturating_add(edge.saturating_mul(trees))
    }
}
