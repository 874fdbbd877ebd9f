// SPDX-License-Identifier: GPL-2.0

//! Walking over the entries of a base in the order of their keys, up and down.
//!
//! A cursor holds the nodes on the path to its entry, so a step costs nothing but within its leaf. It reads one leaf ahead of
//! nobody, takes no lock, and is never surprised: the base does not change.

use crate::format::node::Node;
use crate::format::pointer::Pointer;
use crate::tree::base::Base;
use crate::tree::error::TreeError;
use crate::tree::nodes::Expect;
use crate::tree::nodes::Host;
use crate::tree::nodes::Nodes;
use crate::tree::Key;
use crate::tree::Range;
use embr_rt::Arc;
use embr_rt::Vec;

/// An entry: key and value.
pub type Entry<'a> = (Key, &'a [u8]);

struct Step {
    node: Arc<Node>,
    at: usize,
}

#[derive(Clone, Copy)]
enum State {
    /// Before the first entry.
    Before,
    /// On the entry to which the path leads.
    On,
    /// Behind the last entry.
    After,
    /// A node could not be had; said again at each step, until the cursor is put somewhere.
    Failed(TreeError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

/// A place among the entries in a range of a base.
pub struct Cursor<'a, H> {
    nodes: &'a Nodes<H>,
    base: Base,
    range: Range,
    path: Vec<Step>,
    state: State,
    /// The keys of the node that could not be had.
    lost: Option<Range>,
}

impl<'a, H: Host> Cursor<'a, H> {
    /// Before the first entry in the range.
    pub fn new(nodes: &'a Nodes<H>, base: &Base, range: Range) -> Self {
        Cursor {
            nodes,
            base: *base,
            range,
            path: Vec::new(),
            state: State::Before,
            lost: None,
        }
    }

    /// Behind the last entry in the range.
    #[must_use]
    pub fn at_end(mut self) -> Self {
        self.state = State::After;
        self
    }

    /// The entry that it is on.
    pub fn entry(&self) -> Option<Entry<'_>> {
        match self.state {
            State::On => {
                let step = self.path.last()?;
                step.node.entry(step.at)
            }
            _ => None,
        }
    }

    /// After a node could not be had: the keys that are lost with it.
    pub fn lost(&self) -> Option<Range> {
        self.lost
    }

    /// Goes to the first entry whose key is not below this one.
    pub fn seek(&mut self, key: Key) -> Result<Option<Entry<'_>>, TreeError> {
        let found = self.descend(key.max(self.range.first), Direction::Up);
        self.settle(found, Direction::Up)
    }

    /// Goes to the last entry whose key is not above this one.
    pub fn seek_back(&mut self, key: Key) -> Result<Option<Entry<'_>>, TreeError> {
        let found = self.descend(key.min(self.range.last), Direction::Down);
        self.settle(found, Direction::Down)
    }

    /// Goes to the next entry; from before the first to the first.
    #[allow(clippy::should_implement_trait)] // It lends its entries and may fail.
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, TreeError> {
        match self.state {
            State::Before => self.seek(self.range.first),
            State::After => Ok(None),
            State::Failed(why) => Err(why),
            State::On => {
                let found = self.step(Direction::Up);
                self.settle(found, Direction::Up)
            }
        }
    }

    /// Goes to the entry before; from behind the last to the last.
    pub fn previous(&mut self) -> Result<Option<Entry<'_>>, TreeError> {
        match self.state {
            State::Before => Ok(None),
            State::After => self.seek_back(self.range.last),
            State::Failed(why) => Err(why),
            State::On => {
                let found = self.step(Direction::Down);
                self.settle(found, Direction::Down)
            }
        }
    }

    /// Takes note of where a movement ended; `found` says whether on any entry at all.
    fn settle(
        &mut self,
        found: Result<bool, TreeError>,
        direction: Direction,
    ) -> Result<Option<Entry<'_>>, TreeError> {
        let key = self.path.last().and_then(|step| step.node.key(step.at));
        let inside = key.is_some_and(|key| self.range.has(key));
        self.state = match (&found, direction) {
            (Err(why), _) => State::Failed(*why),
            (Ok(true), _) if inside => State::On,
            (Ok(_), Direction::Up) => State::After,
            (Ok(_), Direction::Down) => State::Before,
        };
        if !matches!(self.state, State::On) {
            self.path.clear();
        }
        found?;
        Ok(self.entry())
    }

    /// To the entry that is nearest to the key in this direction.
    fn descend(&mut self, key: Key, direction: Direction) -> Result<bool, TreeError> {
        self.path.clear();
        let Some(top) = self.base.top else {
            return Ok(false);
        };
        let expect = Expect::root(self.base.tree, top.level);
        let mut node = self.get(&top.pointer, &expect)?;
        self.path.try_reserve(usize::from(top.level.0) + 1)?;
        loop {
            let before = node.at_or_before(key);
            if node.level().is_leaf() {
                return self.land(node, key, direction);
            }
            // A key below all that there is: the first child has what comes after it.
            let at = before.unwrap_or(0);
            let next = self.child(&node, at)?;
            self.path.push(Step { node, at })?;
            match next {
                Some(child) => node = child,
                None => return Ok(false),
            }
        }
    }

    #[inline(never)]
    fn land(&mut self, node: Arc<Node>, key: Key, direction: Direction) -> Result<bool, TreeError> {
        let count = node.count();
        match direction {
            Direction::Up => {
                let at = node.below(key);
                let behind = at >= count;
                let at = at.min(count.saturating_sub(1));
                self.path.push(Step { node, at })?;
                if behind {
                    return self.step(direction);
                }
            }
            Direction::Down => match node.at_or_before(key) {
                Some(at) => self.path.push(Step { node, at })?,
                // Only where the key is below the first one of the whole tree.
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    #[inline(never)]
    fn child(&mut self, node: &Node, at: usize) -> Result<Option<Arc<Node>>, TreeError> {
        match node.child(at) {
            Some(child) => {
                let expect = Expect::child(node, &child);
                self.get(&child.pointer, &expect).map(Some)
            }
            None => Ok(None),
        }
    }

    fn get(&mut self, pointer: &Pointer, expect: &Expect) -> Result<Arc<Node>, TreeError> {
        let node = self.nodes.get(pointer, expect);
        self.lost = node.is_err().then_some(expect.range);
        node
    }

    /// To the neighbouring entry.
    fn step(&mut self, direction: Direction) -> Result<bool, TreeError> {
        while let Some(step) = self.path.last_mut() {
            let next = match direction {
                Direction::Up => step.at.checked_add(1).filter(|i| *i < step.node.count()),
                Direction::Down => step.at.checked_sub(1),
            };
            match next {
                Some(at) => {
                    step.at = at;
                    return self.reach_leaf(direction);
                }
                None => {
                    self.path.pop();
                }
            }
        }
        Ok(false)
    }

    /// From the inner node that the path ends at to the nearest leaf.
    fn reach_leaf(&mut self, direction: Direction) -> Result<bool, TreeError> {
        while let Some(step) = self.path.last() {
            if step.node.level().is_leaf() {
                return Ok(true);
            }
            let (node, at) = (step.node.clone(), step.at);
            let Some(node) = self.child(&node, at)? else {
                return Ok(false);
            };
            let at = match direction {
                Direction::Up => 0,
                Direction::Down => node.count().saturating_sub(1),
            };
            self.path.push(Step { node, at })?;
        }
        Ok(false)
    }
}
