// SPDX-License-Identifier: GPL-2.0

//! What one block is used for.

use super::data;
use super::Ended;
use super::Use;
use crate::format::journal::Extent;
use crate::format::layout;
use crate::format::member::Slot;
use crate::format::node::Node;
use crate::format::pointer::Pointer;
use crate::tree::check;
use crate::tree::check::Depth;
use crate::tree::check::Visitor;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::Level;
use crate::units::TreeId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;

struct Search<'s> {
    device: Slot,
    block: Blocks,
    node_blocks: Blocks,
    tell: &'s mut dyn FnMut(Use, Extent),
    /// Nodes that could not be read, and may have named the block.
    lost: u64,
}

impl Search<'_> {
    fn look(&mut self, what: Use, e: Extent) {
        let within = self
            .block
            .0
            .checked_sub(e.start.0)
            .is_some_and(|n| n < e.blocks.0);
        if e.device == self.device && within {
            (self.tell)(what, e);
        }
    }

    fn node_at(&mut self, tree: TreeId, level: Level, key: Key, pointer: &Pointer) {
        for place in pointer.places.iter() {
            let extent = Extent {
                device: place.device,
                start: place.block,
                blocks: self.node_blocks,
            };
            self.look(Use::Node(tree, level, key), extent);
        }
    }
}

impl Visitor for Search<'_> {
    fn node(&mut self, _: &Pointer, node: &Node) -> Result<(), TreeError> {
        if let Some(level) = node.level().below() {
            for child in (0..node.count()).filter_map(|n| node.child(n)) {
                self.node_at(node.stamp().tree, level, child.range.first, &child.pointer);
            }
        }
        Ok(())
    }

    fn lost(&mut self, _: &TreeError, _: Range) -> Result<(), TreeError> {
        self.lost = self.lost.saturating_add(1);
        Ok(())
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

/// Tells everything that uses a block of a device. Returns how many nodes could not be read that may have named it as well.
pub fn uses<M: Machine>(
    mounted: &Mounted<M>,
    device: Slot,
    block: Blocks,
    tell: &mut dyn FnMut(Use, Extent),
) -> Result<u64, Ended> {
    let mut search = Search {
        device,
        block,
        node_blocks: Blocks((mounted.nodes().size() / BLOCK_SIZE) as u64),
        tell,
        lost: 0,
    };
    for part in mounted.parts() {
        let extent = |start, blocks| Extent {
            device: part.slot,
            start,
            blocks,
        };
        for (number, at) in layout::areas(part.size) {
            let area = extent(at.whole_blocks(), layout::AREA_SIZE.whole_blocks());
            search.look(Use::Area(number), area);
        }
        let journal = extent(part.journal.start, part.journal.blocks);
        search.look(Use::Journal, journal);
    }
    for base in mounted.bases() {
        if let Some(top) = base.top {
            search.node_at(base.tree, top.level, Key::MIN, &top.pointer);
        }
        check::check(mounted.nodes(), &base, Depth::Inner, &mut search)?;
    }
    data::claim(mounted, &mut |used| {
        if let data::Part::Used(what, extent) = used {
            search.look(what, extent);
        }
        Ok(())
    })?;
    Ok(search.lost)
}
