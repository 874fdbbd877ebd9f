// SPDX-License-Identifier: GPL-2.0

//! A base: one tree as the last checkpoint left it on disk. Looking one key up; [`crate::tree::cursor`] goes on from there.

use crate::format::node::MAX_LEVEL;
use crate::format::pointer::Pointer;
use crate::tree::error::TreeError;
use crate::tree::nodes::Expect;
use crate::tree::nodes::Host;
use crate::tree::nodes::Nodes;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::Level;
use crate::units::TreeId;

/// The root of a tree that is not empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Top {
    /// Where it is.
    pub pointer: Pointer,
    /// Its level: the height of the tree less one.
    pub level: Level,
}

/// What the first key of a range has.
#[derive(Debug)]
pub enum First<R> {
    /// This.
    Found(R),
    /// There is none.
    Nothing,
    /// It takes a scan to say that.
    Unclear,
}

/// A tree on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Base {
    /// Which tree.
    pub tree: TreeId,
    /// Its root; none in an empty one.
    pub top: Option<Top>,
    /// How many nodes it has.
    pub nodes: u64,
}

impl Base {
    /// The empty tree.
    pub fn empty(tree: TreeId) -> Self {
        Base {
            tree,
            top: None,
            nodes: 0,
        }
    }

    /// The tree below a root from a disk, if a root can be at that level; it is said to have so many nodes.
    pub fn new(tree: TreeId, pointer: Pointer, level: Level, nodes: u64) -> Option<Self> {
        let top = Some(Top { pointer, level });
        (level <= MAX_LEVEL).then_some(Base { tree, top, nodes })
    }

    /// What `read` says of the key's value.
    pub fn get<H: Host, R>(
        &self,
        nodes: &Nodes<H>,
        key: Key,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, TreeError> {
        let Some(top) = &self.top else {
            return Ok(None);
        };
        let mut node = nodes.get(&top.pointer, &Expect::root(self.tree, top.level))?;
        // Each child is one level below its parent, or it is not let in: this ends at a leaf.
        while !node.level().is_leaf() {
            let Some(child) = node.at_or_before(key).and_then(|i| node.child(i)) else {
                return Ok(None);
            };
            node = nodes.get(&child.pointer, &Expect::child(&node, &child))?;
        }
        Ok(node.value(key).map(read))
    }

    /// What `read` says of the first key of a range, and its value.
    pub(super) fn first<H: Host, R>(
        &self,
        nodes: &Nodes<H>,
        range: Range,
        read: impl FnOnce(Key, &[u8]) -> R,
    ) -> Result<First<R>, TreeError> {
        let Some(top) = &self.top else {
            return Ok(First::Nothing);
        };
        let mut node = nodes.get(&top.pointer, &Expect::root(self.tree, top.level))?;
        // Whether what comes behind the leaf may be in the range.
        let mut goes_on = false;
        while !node.level().is_leaf() {
            let index = node.at_or_before(range.first).unwrap_or(0);
            let next = node.key(index.saturating_add(1));
            goes_on = next.map_or(goes_on, |next| next <= range.last);
            let Some(child) = node.child(index) else {
                return Ok(First::Unclear);
            };
            node = nodes.get(&child.pointer, &Expect::child(&node, &child))?;
        }
        Ok(match node.entry(node.below(range.first)) {
            Some((key, value)) if range.has(key) => First::Found(read(key, value)),
            None if goes_on => First::Unclear,
            _ => First::Nothing,
        })
    }
}
