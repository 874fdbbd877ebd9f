// SPDX-License-Identifier: GPL-2.0

//! Walking over every node of a base: for fsck and scrub. It goes on after damage, and says what it missed.
//!
//! It ends on any input: a child is one level below its parent and its range within the parent's, apart from those of its
//! siblings, or it is not entered. So no node is met twice. Memory is bounded by the height of the tree.

use crate::format::node::Node;
use crate::format::pointer::Pointer;
use crate::tree::base::Base;
use crate::tree::build;
use crate::tree::error::TreeError;
use crate::tree::nodes::Expect;
use crate::tree::nodes::Host;
use crate::tree::nodes::Nodes;
use crate::tree::Range;
use crate::units::Level;
use embr_rt::Arc;
use embr_rt::Vec;

/// Who hears what a check finds.
pub trait Visitor {
    /// A sound node that is part of the tree, before those below it; of a leaf the entries can be looked at.
    fn node(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError>;
    /// A bad copy of a node of which another copy is sound.
    fn copy(&mut self, _why: &TreeError, _keys: Range) -> Result<(), TreeError> {
        Ok(())
    }
    /// A node, and all below it, that could not be had. Its places are in use all the same.
    fn lost(&mut self, why: &TreeError, keys: Range) -> Result<(), TreeError>;
    /// A sound node that is emptier than a merge leaves any: no damage, but a sign of an error in whoever wrote it.
    fn under_full(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError>;
}

/// How thoroughly to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Any sound copy of each node above the leaves; leaves are not read.
    Inner,
    /// Any sound copy of each node, from the cache too.
    Tree,
    /// Every copy on the devices, and repair of the bad ones where that is allowed.
    Copies,
}

struct Frame {
    node: Arc<Node>,
    at: usize,
}

/// Walks over the whole base, in the order of the keys. Ends early only if the visitor does or memory is short.
pub fn check<H: Host, V: Visitor>(
    nodes: &Nodes<H>,
    base: &Base,
    depth: Depth,
    visitor: &mut V,
) -> Result<(), TreeError> {
    let Some(top) = base.top else {
        return Ok(());
    };
    let mut path: Vec<Frame> = Vec::new();
    let mut next = Some((top.pointer, Expect::root(base.tree, top.level)))
        .filter(|_| depth != Depth::Inner || !top.level.is_leaf());
    loop {
        if let Some((pointer, expect)) = next {
            match enter(nodes, depth, &pointer, &expect, visitor) {
                Ok(node) => {
                    visitor.node(&pointer, &node)?;
                    if is_under_full(&node, &expect) {
                        visitor.under_full(&pointer, &node)?;
                    }
                    if !node.level().is_leaf() {
                        path.push(Frame { node, at: 0 })?;
                    }
                }
                Err(TreeError::NoMemory) => return Err(TreeError::NoMemory),
                Err(why) => visitor.lost(&why, expect.range)?,
            }
        }
        if depth == Depth::Inner {
            while path.last().is_some_and(|f| f.node.level() == Level(1)) {
                path.pop();
            }
        }
        let Some(frame) = path.last_mut() else {
            return Ok(());
        };
        let child = frame.node.child(frame.at);
        frame.at = frame.at.saturating_add(1);
        next = child.map(|child| (child.pointer, Expect::child(&frame.node, &child)));
        if next.is_none() {
            path.pop();
        }
    }
}

fn enter<H: Host, V: Visitor>(
    nodes: &Nodes<H>,
    depth: Depth,
    pointer: &Pointer,
    expect: &Expect,
    visitor: &mut V,
) -> Result<Arc<Node>, TreeError> {
    match depth {
        Depth::Inner | Depth::Tree => nodes.get_once(pointer, expect),
        Depth::Copies => {
            let mut told = Ok(());
            let node = nodes.scrub_telling(pointer, expect, &mut |why| {
                if told.is_ok() {
                    told = match why {
                        TreeError::NoMemory => Err(TreeError::NoMemory),
                        why => visitor.copy(&why, expect.range),
                    };
                }
            });
            told.and(node)
        }
    }
}

fn is_under_full(node: &Node, expect: &Expect) -> bool {
    if expect.root {
        !node.level().is_leaf() && node.count() < 2
    } else {
        node.used() < build::least(node.bytes().len())
    }
}
