// SPDX-License-Identifier: GPL-2.0

//! A promise: so many blocks of data will find room, at their worst, and so will the nodes that come of them. Dropped, it gives
//! back what is left of it.

use crate::space::reserve::Change;
use crate::space::Space;
use crate::units::Blocks;
use core::fmt;
use embr_rt::Arc;

/// Room that is promised.
pub struct Promise {
    pub(super) space: Arc<Space>,
    pub(super) blocks: u64,
    pub(super) nodes: u64,
}

impl Promise {
    /// Blocks of data that it still has.
    pub fn blocks(&self) -> Blocks {
        Blocks(self.blocks)
    }

    /// Takes so many blocks out, or all there are, as a promise of its own.
    pub fn split(&mut self, blocks: Blocks) -> Promise {
        let part = blocks.0.min(self.blocks);
        // Nodes go with the blocks, rounded down; the last part has what is left.
        let nodes = match self.blocks {
            all if all == part => self.nodes,
            all => {
                let whole = self.nodes.checked_div(all).unwrap_or(0);
                let rest = self.nodes.checked_rem(all).unwrap_or(0);
                let rest = rest.saturating_mul(part).checked_div(all).unwrap_or(0);
                whole.saturating_mul(part).saturating_add(rest)
            }
        };
        self.blocks = self.blocks.saturating_sub(part);
        self.nodes = self.nodes.saturating_sub(nodes);
        Promise {
            space: self.space.clone(),
            blocks: part,
            nodes,
        }
    }

    /// Takes out all nodes but so many, as a promise of its own.
    pub(crate) fn split_nodes(&mut self, kept: u64) -> Promise {
        let nodes = self.nodes.saturating_sub(kept);
        self.nodes = self.nodes.saturating_sub(nodes);
        Promise {
            space: self.space.clone(),
            blocks: 0,
            nodes,
        }
    }

    /// So many of its blocks need no room any more.
    pub(crate) fn spend(&mut self, blocks: Blocks) {
        let blocks = blocks.0.min(self.blocks);
        self.blocks = self.blocks.saturating_sub(blocks);
        self.space.forgo(blocks, 0);
    }

    /// Takes over all that another promise of the same volume has.
    pub fn merge(&mut self, mut other: Promise) {
        if !Arc::ptr_eq(&self.space, &other.space) {
            return;
        }
        self.blocks = self
            .blocks
            .saturating_add(core::mem::take(&mut other.blocks));
        self.nodes = self.nodes.saturating_add(core::mem::take(&mut other.nodes));
    }

    /// Nodes that so many blocks are promised.
    pub(super) fn nodes_for(blocks: Blocks) -> u64 {
        Change::of_data(blocks).growth()
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.space.forgo(self.blocks, self.nodes);
    }
}

impl fmt::Debug for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Promise({} blocks, {} nodes)", self.blocks, self.nodes)
    }
}
