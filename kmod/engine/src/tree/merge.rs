// SPDX-License-Identifier: GPL-2.0

//! Merging changes into a base: one pass in the order of the keys that writes the new nodes and names those they replace.
//!
//! The old base is read, never written: if anything fails it is as it was, and the caller throws away what was placed. What no
//! change touches is not even read; its parent just names it again. Memory is bounded by the height of the tree times a few
//! nodes, whatever the sizes of tree and changes.
//!
//! The walk goes down the old tree with a path of frames. What it keeps, of entries or of whole subtrees, it feeds into one
//! pile per level ([`crate::tree::build`]). A subtree can be kept whole only if the piles at its level and below can be closed
//! before it; where one would end under-full, the subtree is opened instead and its first node helps to fill the pile.
//! At the right edge, where there is nothing more to open, the last subtree to the left is.

use crate::format::node::max_value;
use crate::format::node::BadNode;
use crate::format::node::Node;
use crate::format::node::Stamp;
use crate::format::node::INNER_ENTRY;
use crate::format::node::MAX_LEVEL;
use crate::format::pointer::Places;
use crate::format::pointer::Pointer;
use crate::tree::base::Base;
use crate::tree::base::Top;
use crate::tree::build::Fill;
use crate::tree::build::InnerItem;
use crate::tree::build::Leaves;
use crate::tree::build::Pile;
use crate::tree::change::Change;
use crate::tree::change::Changes;
use crate::tree::change::Range;
use crate::tree::error::TreeError;
use crate::tree::nodes::Expect;
use crate::tree::nodes::Host;
use crate::tree::nodes::Nodes;
use crate::tree::Key;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Level;
use embr_rt::Arc;
use embr_rt::Vec;

/// Where new nodes go, and what becomes of old ones.
pub trait Sink {
    /// Places for one new node: free now, and after any crash until a root names the node.
    fn place(&mut self) -> Result<Places, TreeError>;
    /// Writes the node to its places, or gathers it: all must be out before a root names them.
    fn write(&mut self, node: &Arc<Node>) -> Result<(), TreeError>;
    /// Takes note of a node that is not part of the new base.
    fn free(&mut self, node: &Pointer) -> Result<(), TreeError>;
}

/// For what new nodes are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edition {
    /// The epoch.
    pub epoch: EpochId,
    /// The generation.
    pub generation: Generation,
}

/// The base with the changes in it.
#[inline(never)]
pub fn merge<H: Host, C: Changes, S: Sink>(
    nodes: &Nodes<H>,
    base: &Base,
    changes: &C,
    edition: Edition,
    sink: &mut S,
) -> Result<Base, TreeError> {
    let feed = Feed::new(changes);
    if feed.next.is_none() && feed.gone.is_none() {
        return Ok(*base);
    }
    let merge = Merge {
        nodes,
        sink,
        feed,
        base: *base,
        edition,
        fill: Fill::new(nodes.size()),
        leaves: Leaves::new(),
        inners: Vec::new(),
        made: 0,
        freed: 0,
    };
    merge.run()
}

/// The changes that are still to come.
struct Feed<'c, C> {
    changes: &'c C,
    next: Option<(Key, Change<'c>)>,
    gone: Option<Range>,
}

impl<'c, C: Changes> Feed<'c, C> {
    fn new(changes: &'c C) -> Self {
        Feed {
            changes,
            next: changes.at_or_after(Key::MIN),
            gone: changes.gone_at_or_after(Key::MIN),
        }
    }

    fn advance(&mut self) {
        let after = self.next.and_then(|(key, _)| key.next());
        self.next = after.and_then(|key| self.changes.at_or_after(key));
    }

    /// The next change, if its key is not above `last`.
    fn upto(&self, last: Key) -> Option<(Key, Change<'c>)> {
        self.next.filter(|(key, _)| *key <= last)
    }

    /// The range that is gone and ends at or after the key. Keys are asked for in order.
    fn gone_from(&mut self, key: Key) -> Option<Range> {
        while let Some(range) = self.gone.filter(|range| range.last < key) {
            let after = range.last.next();
            self.gone = after.and_then(|after| self.changes.gone_at_or_after(after));
        }
        self.gone
    }

    fn is_gone(&mut self, key: Key) -> bool {
        self.gone_from(key).is_some_and(|range| range.has(key))
    }

    fn touches(&mut self, old: &Subtree) -> bool {
        let gone = self.gone_from(old.range.first);
        self.upto(old.zone).is_some() || gone.is_some_and(|range| range.overlaps(&old.range))
    }

    /// Whether all that the subtree holds is gone.
    fn covers(&mut self, old: &Subtree) -> bool {
        let gone = self.gone_from(old.range.first);
        gone.is_some_and(|range| range.covers(&old.range))
    }

    /// Whether nothing is set up to `last`, where all the old keys are gone anyway.
    fn sets_nothing(&mut self, last: Key) -> bool {
        while let Some((_, change)) = self.upto(last) {
            if let Change::Set(_) = change {
                return false;
            }
            self.advance();
        }
        true
    }
}

/// A subtree of the old base.
struct Subtree {
    pointer: Pointer,
    expect: Expect,
    /// What it may hold.
    range: Range,
    /// Changes up to here belong into it. They begin after the neighbour's on the left.
    zone: Key,
}

impl Subtree {
    fn of(parent: &Node, index: usize, zone: Key) -> Option<Self> {
        let child = parent.child(index)?;
        let is_last = index + 1 == parent.count();
        Some(Subtree {
            pointer: child.pointer,
            expect: Expect::child(parent, &child),
            range: child.range,
            zone: if is_last { zone } else { child.range.last },
        })
    }

    fn level(&self) -> Level {
        self.expect.level
    }

    fn item(&self) -> InnerItem {
        InnerItem {
            first: self.range.first,
            last: self.range.last,
            pointer: self.pointer,
            kept: true,
            fresh: false,
        }
    }
}

/// An inner node of the old base that is being rewritten.
struct Frame {
    node: Arc<Node>,
    at: usize,
    zone: Key,
}

impl Frame {
    fn next(&mut self) -> Option<Subtree> {
        let subtree = Subtree::of(&self.node, self.at, self.zone)?;
        self.at += 1;
        Some(subtree)
    }
}

struct Merge<'m, H, C, S> {
    nodes: &'m Nodes<H>,
    sink: &'m mut S,
    feed: Feed<'m, C>,
    base: Base,
    edition: Edition,
    fill: Fill,
    leaves: Leaves,
    /// Entry i gathers children for nodes of level i + 1.
    inners: Vec<Pile<InnerItem>>,
    /// Nodes that were made, and nodes of the old base that are not in the new one.
    made: u64,
    freed: u64,
}

impl<H: Host, C: Changes, S: Sink> Merge<'_, H, C, S> {
    #[inline(never)]
    fn run(mut self) -> Result<Base, TreeError> {
        match self.base.top {
            Some(top) => self.walk(top)?,
            None => self.set_upto(Key::MAX)?,
        }
        let top = self.finish()?;
        let nodes = self.base.nodes.saturating_add(self.made);
        Ok(Base {
            top,
            nodes: nodes.saturating_sub(self.freed),
            ..self.base
        })
    }

    fn free(&mut self, node: &Pointer) -> Result<(), TreeError> {
        self.freed = self.freed.saturating_add(1);
        self.sink.free(node)
    }

    #[inline(never)]
    fn walk(&mut self, top: Top) -> Result<(), TreeError> {
        let mut path = Vec::try_with_capacity(usize::from(top.level.0) + 1)?;
        let root = Subtree {
            pointer: top.pointer,
            expect: Expect::root(self.base.tree, top.level),
            range: Range::ALL,
            zone: Key::MAX,
        };
        self.visit(&mut path, root)?;
        while let Some(frame) = path.last_mut() {
            match frame.next() {
                Some(subtree) => self.visit(&mut path, subtree)?,
                None => {
                    path.pop();
                }
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn visit(&mut self, path: &mut Vec<Frame>, old: Subtree) -> Result<(), TreeError> {
        if self.feed.touches(&old) {
            if self.feed.covers(&old) && self.feed.sets_nothing(old.zone) {
                return self.discard(old);
            }
        } else if self.can_close(old.level()) {
            self.close_upto(old.level())?;
            return self.push_inner(old.level(), old.item());
        }
        if old.level().is_leaf() {
            return self.leaf(&old);
        }
        let node = self.nodes.get(&old.pointer, &old.expect)?;
        self.free(&old.pointer)?;
        path.push(Frame {
            node,
            at: 0,
            zone: old.zone,
        })?;
        Ok(())
    }

    /// Everything in the subtree goes; only inner nodes need be read to learn what that is.
    #[inline(never)]
    fn discard(&mut self, old: Subtree) -> Result<(), TreeError> {
        let mut path: Vec<Frame> = Vec::new();
        let mut next = Some(old);
        loop {
            if let Some(old) = next {
                if !old.level().is_leaf() {
                    path.push(Frame {
                        node: self.nodes.get_once(&old.pointer, &old.expect)?,
                        at: 0,
                        zone: old.zone,
                    })?;
                }
                self.free(&old.pointer)?;
            }
            let Some(frame) = path.last_mut() else {
                return Ok(());
            };
            next = frame.next();
            if next.is_none() {
                path.pop();
            }
        }
    }

    /// The entries of a leaf with the changes in its zone.
    #[inline(never)]
    fn leaf(&mut self, old: &Subtree) -> Result<(), TreeError> {
        if self.feed.covers(old) {
            self.free(&old.pointer)?;
            return self.set_upto(old.zone);
        }
        let node = self.nodes.get_once(&old.pointer, &old.expect)?;
        self.free(&old.pointer)?;
        let mut index = 0;
        loop {
            let entry = node.entry(index);
            let change = self.feed.upto(old.zone);
            match (entry, change) {
                (None, None) => return Ok(()),
                (Some((key, value)), change) if change.is_none_or(|(at, _)| key < at) => {
                    index += 1;
                    if !self.feed.is_gone(key) {
                        self.push_leaf(key, value, false)?;
                    }
                }
                (entry, _) => {
                    let replaces = entry.map(|(key, _)| key) == change.map(|(key, _)| key);
                    index += usize::from(replaces);
                    self.take_change(replaces)?;
                }
            }
        }
    }

    /// Sets what is set up to `last`, where nothing old remains.
    #[inline(never)]
    fn set_upto(&mut self, last: Key) -> Result<(), TreeError> {
        while self.feed.upto(last).is_some() {
            self.take_change(false)?;
        }
        Ok(())
    }

    fn take_change(&mut self, replaces: bool) -> Result<(), TreeError> {
        if let Some((key, Change::Set(value))) = self.feed.next {
            if value.len() > max_value(self.nodes.size()) {
                return Err(TreeError::TooLarge(self.base.tree));
            }
            self.push_leaf(key, value, !replaces)?;
        }
        self.feed.advance();
        Ok(())
    }

    fn push_leaf(&mut self, key: Key, value: &[u8], fresh: bool) -> Result<(), TreeError> {
        self.leaves.push(key, value, fresh)?;
        while let Some(count) = self.leaves.pile.surplus(&self.fill) {
            self.emit(Level(0), count)?;
            self.relieve(Level(0))?;
        }
        Ok(())
    }

    /// Gives a child of this level to the pile above.
    #[inline(never)]
    fn push_inner(&mut self, level: Level, item: InnerItem) -> Result<(), TreeError> {
        self.pile(level)?.push(item)?;
        self.relieve(level)
    }

    /// Writes what has become too much, after a child of this level has come.
    fn relieve(&mut self, mut level: Level) -> Result<(), TreeError> {
        let fill = self.fill;
        // Each round is one level higher.
        while let Some(count) = self.pile(level)?.surplus(&fill) {
            level = Level(level.0.saturating_add(1));
            self.emit(level, count)?;
        }
        Ok(())
    }

    /// The pile of children that are of this level.
    fn pile(&mut self, level: Level) -> Result<&mut Pile<InnerItem>, TreeError> {
        let index = usize::from(level.0);
        while self.inners.len() <= index {
            self.inners.push(Pile::new())?;
        }
        let large = TreeError::TooLarge(self.base.tree);
        self.inners.get_mut(index).ok_or(large)
    }

    /// The pile that makes nodes of this level, which is above the leaves.
    fn pile_for(&mut self, level: Level) -> Result<&mut Pile<InnerItem>, TreeError> {
        self.pile(level.below().unwrap_or_default())
    }

    fn weight(&self, level: Level) -> usize {
        match level.below() {
            None => self.leaves.pile.weight(),
            Some(below) => {
                let pile = self.inners.get(usize::from(below.0));
                pile.map_or(0, Pile::weight)
            }
        }
    }

    /// Makes a node of the first `count` items at this level, and a child of it without looking how many the pile above has.
    fn emit(&mut self, level: Level, count: usize) -> Result<(), TreeError> {
        if level > MAX_LEVEL {
            return Err(TreeError::TooLarge(self.base.tree));
        }
        let (node, fresh) = self.make(level, count)?;
        let item = InnerItem {
            first: node.range().first,
            last: node.range().last,
            pointer: node.pointer(),
            kept: false,
            fresh,
        };
        self.pile(level)?.push(item)?;
        Ok(())
    }

    /// The node, written, and whether its first key is fresh.
    #[inline(never)]
    fn make(&mut self, level: Level, count: usize) -> Result<(Arc<Node>, bool), TreeError> {
        let stamp = Stamp {
            volume: self.nodes.volume(),
            epoch: self.edition.epoch,
            generation: self.edition.generation,
            tree: self.base.tree,
            level,
            places: self.sink.place()?,
        };
        let (node, fresh) = self.build(&stamp, count)?;
        let node = Arc::try_new(node)?;
        self.sink.write(&node)?;
        self.made = self.made.saturating_add(1);
        self.nodes.cache().keep(&node);
        Ok((node, fresh))
    }

    /// The node, and whether its first key is fresh.
    #[inline(never)]
    fn build(&mut self, stamp: &Stamp, count: usize) -> Result<(Node, bool), TreeError> {
        let hasher = self.nodes.host().hasher();
        let size = self.nodes.size();
        let broken = |why| match why {
            BadNode::NoMemory => TreeError::NoMemory,
            _ => TreeError::TooLarge(stamp.tree),
        };
        let Some(below) = stamp.level.below() else {
            let entries = self.leaves.first(count);
            let node = Node::leaf(hasher, size, stamp, entries).map_err(broken)?;
            let fresh = self.leaves.all().next().is_some_and(|(_, _, f)| f);
            self.leaves.advance(count);
            return Ok((node, fresh));
        };
        let pile = self.pile(below)?;
        let items = pile.items();
        let last = count.checked_sub(1).and_then(|i| items.get(i));
        let last = last.map_or(Key::MAX, |item| item.last);
        let fresh = items.first().is_some_and(|item| item.fresh);
        let node = Node::inner(hasher, size, stamp, pile.first(count), last).map_err(broken)?;
        pile.drop_first(count);
        Ok((node, fresh))
    }

    /// Whether all that is gathered for nodes of this level and below can be written now without an under-full node.
    fn can_close(&self, level: Level) -> bool {
        let mut arriving = 0;
        for level in 0..=level.0 {
            let weight = self.weight(Level(level)).saturating_add(arriving);
            if weight != 0 && weight < self.fill.least {
                return false;
            }
            // At least so many nodes come of it.
            let nodes = usize::from(weight != 0) + usize::from(weight > self.fill.room);
            arriving = nodes * INNER_ENTRY;
        }
        true
    }

    #[inline(never)]
    fn close_upto(&mut self, level: Level) -> Result<(), TreeError> {
        for level in 0..=level.0 {
            self.close(Level(level))?;
        }
        Ok(())
    }

    #[inline(never)]
    fn close(&mut self, level: Level) -> Result<(), TreeError> {
        while self.weight(level) != 0 {
            let fill = self.fill;
            let count = match level.below() {
                None => {
                    let pile = &self.leaves.pile;
                    pile.surplus(&fill).unwrap_or_else(|| pile.rest(&fill))
                }
                Some(below) => {
                    let pile = self.pile(below)?;
                    pile.surplus(&fill).unwrap_or_else(|| pile.rest(&fill))
                }
            };
            self.emit(level, count)?;
        }
        Ok(())
    }

    fn anything_above(&self, level: Level) -> bool {
        let mut above = self.inners.iter().skip(usize::from(level.0));
        above.any(|pile| pile.weight() != 0)
    }

    /// Closes all piles, from the leaves up, until one node is left.
    #[inline(never)]
    fn finish(&mut self) -> Result<Option<Top>, TreeError> {
        for level in 0..=MAX_LEVEL.0 {
            let level = Level(level);
            while self.weight(level) != 0
                && self.weight(level) < self.fill.least
                && self.anything_above(level)
            {
                if !self.pull_left(level)? {
                    break;
                }
            }
            if self.anything_above(level) || self.weight(level) > self.fill.room {
                self.close(level)?;
                continue;
            }
            if self.weight(level) == 0 {
                // Only where there is not one entry.
                return Ok(None);
            }
            if let Some(below) = level.below() {
                if self.pile(below)?.items().len() == 1 {
                    return self.only_child(below);
                }
            }
            self.close(level)?;
            return self.only_child(level);
        }
        Err(TreeError::TooLarge(self.base.tree))
    }

    /// The one child that is left, of this level, as the root.
    #[inline(never)]
    fn only_child(&mut self, level: Level) -> Result<Option<Top>, TreeError> {
        let item = self.pile(level)?.pop();
        Ok(item.map(|item| Top {
            pointer: item.pointer,
            level,
        }))
    }

    /// Opens the nearest subtree on the left, so that its last node of this level joins the pile; says whether it could.
    #[inline(never)]
    fn pull_left(&mut self, level: Level) -> Result<bool, TreeError> {
        loop {
            let from = usize::from(level.0);
            let found = self.inners.iter().skip(from).position(|p| p.weight() != 0);
            let Some(above) = found.and_then(|n| u8::try_from(n + from).ok()) else {
                return Ok(false);
            };
            // Whatever precedes an under-full pile is of the old base; nodes just written stay as they are.
            let last = self.pile(Level(above))?.items().last().copied();
            let Some(item) = last.filter(|item| item.kept) else {
                return Ok(false);
            };
            self.pile(Level(above))?.pop();
            let range = Range {
                first: item.first,
                last: item.last,
            };
            let expect = Expect {
                tree: self.base.tree,
                level: Level(above),
                range,
                root: false,
            };
            let node = self.nodes.get_once(&item.pointer, &expect)?;
            self.free(&item.pointer)?;
            if above == level.0 {
                self.prepend(&node)?;
                return Ok(true);
            }
            let mut index = 0;
            while let Some(old) = Subtree::of(&node, index, range.last) {
                self.pile_for(Level(above))?.push(old.item())?;
                index += 1;
            }
        }
    }

    /// Puts what the node holds before what is gathered for its level.
    #[inline(never)]
    fn prepend(&mut self, node: &Node) -> Result<(), TreeError> {
        let mut index = 0;
        let Some(below) = node.level().below() else {
            let mut joined = Leaves::new();
            while let Some((key, value)) = node.entry(index) {
                joined.push(key, value, false)?;
                index += 1;
            }
            for (key, value, fresh) in self.leaves.all() {
                joined.push(key, value, fresh)?;
            }
            self.leaves = joined;
            return Ok(());
        };
        let mut joined = Pile::new();
        while let Some(old) = Subtree::of(node, index, node.range().last) {
            joined.push(old.item())?;
            index += 1;
        }
        let pile = self.pile(below)?;
        for item in pile.items() {
            joined.push(*item)?;
        }
        *pile = joined;
        Ok(())
    }
}
