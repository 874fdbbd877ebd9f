// SPDX-License-Identifier: GPL-2.0

//! Every node, and every block: what uses it, whether only one does, and whether free space knows.

use super::claims;
use super::claims::Claims;
use super::data;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Stage;
use super::Use;
use crate::format::journal::Extent;
use crate::format::layout;
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
use crate::volume::mounted::SPACE;

/// The use of blocks in some groups, while the trees are gone through once.
struct Pass<'p, 'c, M, O> {
    check: &'p mut Check<'c, M, O>,
    claims: Claims,
    has_files: bool,
    /// What concerns all groups is told once.
    first: bool,
    /// A node that names others could not be read: what they use is not known.
    is_blind: bool,
    /// A node of the tree of free space could not be read.
    space_lost: bool,
    /// Nodes of the tree that is gone through, if all are.
    entered: Option<u64>,
    ended: Option<Ended>,
}

impl<M: Machine, O: Observer> Check<'_, M, O> {
    pub(super) fn blocks(&mut self, has_files: bool) -> Result<(), Ended> {
        let total = claims::total(self.mounted.parts());
        let most = (self.options.memory.0 / (claims::SETS * claims::GROUP_BYTES)).max(1);
        let mut first = 0u64;
        while first < total {
            let claims = Claims::try_new(self.mounted.parts(), first, most)?;
            self.counted.passes = self.counted.passes.saturating_add(1);
            Pass {
                check: self,
                claims,
                has_files,
                first: first == 0,
                is_blind: false,
                space_lost: false,
                entered: None,
                ended: None,
            }
            .run()?;
            first = first.saturating_add(most);
        }
        Ok(())
    }
}

impl<M: Machine, O: Observer> Pass<'_, '_, M, O> {
    fn run(mut self) -> Result<(), Ended> {
        let mounted = self.check.mounted;
        for part in mounted.parts() {
            let extent = |start, blocks| Extent {
                device: part.slot,
                start,
                blocks,
            };
            for (number, at) in layout::areas(part.size) {
                let blocks = layout::AREA_SIZE.whole_blocks();
                self.claim(Use::Area(number), extent(at.whole_blocks(), blocks));
            }
            self.claim(
                Use::Journal,
                extent(part.journal.start, part.journal.blocks),
            );
        }
        for held in self.check.options.held {
            self.claim(Use::Held, *held);
        }
        let depth = match self.first {
            true => self.check.options.depth,
            false => Depth::Inner,
        };
        self.check.begin(Stage::Nodes)?;
        for base in mounted.bases() {
            if let Some(top) = base.top {
                self.claim_node(base.tree, top.level, Key::MIN, &top.pointer);
            }
            self.entered = (self.first && depth != Depth::Inner).then_some(0);
            let walked = check::check(mounted.nodes(), &base, depth, &mut self);
            if let Some(why) = self.ended.take() {
                return Err(why);
            }
            walked?;
            if let Some(there) = self.entered.filter(|n| *n != base.nodes) {
                self.check
                    .found(Finding::Nodes(base.tree, base.nodes, there));
            }
        }
        let mut live = self.claims.empty()?;
        self.check.begin(Stage::Uses)?;
        let is_lost = data::claim(self.check.mounted, &mut |used| {
            match used {
                data::Part::Item => return self.check.pass(Stage::Uses),
                data::Part::Lives(extent) => {
                    live.claim(extent);
                }
                data::Part::Used(what, extent) => {
                    claim(&mut self.claims, self.check, self.first, what, extent);
                }
            }
            Ok(())
        })?;
        self.is_blind |= is_lost;
        self.compare()?;
        if !self.has_files {
            return Ok(());
        }
        let mut named = self.claims.empty()?;
        let is_lost = is_lost | self.check.named(&mut named)?;
        for (live, named) in live.groups().iter().zip(named.groups()) {
            for (begin, length) in live.bits.without(&named.bits)?.runs().filter(|_| !is_lost) {
                self.check
                    .found(Finding::Unnamed(live.extent(begin, length)));
            }
        }
        Ok(())
    }

    fn claim(&mut self, what: Use, extent: Extent) {
        claim(&mut self.claims, self.check, self.first, what, extent);
    }

    fn claim_node(&mut self, tree: TreeId, level: Level, key: Key, pointer: &Pointer) {
        let blocks = Blocks((self.check.mounted.nodes().size() / BLOCK_SIZE) as u64);
        if self.first {
            let losses = self.check.mounted.geometry().parity();
            self.check
                .copies(Use::Node(tree, level, key), &pointer.places, losses);
        }
        for place in pointer.places.iter() {
            let extent = Extent {
                device: place.device,
                start: place.block,
                blocks,
            };
            self.claim(Use::Node(tree, level, key), extent);
        }
    }

    /// Whether free space knows of just what was found.
    fn compare(&mut self) -> Result<(), Ended> {
        let Pass { claims, check, .. } = self;
        check.begin(Stage::Space)?;
        for group in claims.groups() {
            check.pass(Stage::Space)?;
            let Some(used) = check.mounted.space.used_of(group.slot, group.index)? else {
                continue;
            };
            if !self.is_blind {
                for (begin, length) in used.without(&group.bits)?.runs() {
                    check.found(Finding::Unused(group.extent(begin, length)));
                }
            }
            if !self.space_lost {
                for (begin, length) in group.bits.without(&used)?.runs() {
                    check.found(Finding::Used(group.extent(begin, length)));
                }
            }
        }
        Ok(())
    }
}

/// Notes that blocks are used.
fn claim<M: Machine, O: Observer>(
    claims: &mut Claims,
    check: &mut Check<'_, M, O>,
    first: bool,
    what: Use,
    extent: Extent,
) {
    let part = check
        .mounted
        .parts()
        .iter()
        .find(|p| p.slot == extent.device);
    let Some(part) = part else {
        // A member that is not here cannot be looked at.
        if first && !check.mounted.nodes().has_member(extent.device) {
            check.found(Finding::NoDevice(what, extent));
        }
        return;
    };
    let end = extent.start.0.checked_add(extent.blocks.0);
    if end.is_none_or(|end| end > part.size.whole_blocks().0) && first {
        check.found(Finding::Beyond(what, extent));
    }
    if let Some(twice) = claims.claim(extent) {
        check.found(Finding::Overlap(what, twice));
    }
}

impl<M: Machine, O: Observer> Visitor for Pass<'_, '_, M, O> {
    fn node(&mut self, _: &Pointer, node: &Node) -> Result<(), TreeError> {
        self.entered = self.entered.map(|n| n.saturating_add(1));
        if self.first {
            self.check.counted.nodes = self.check.counted.nodes.saturating_add(1);
        }
        if let Err(why) = self.check.at(Stage::Nodes) {
            self.ended = Some(why);
            // Only to be heard of again in `ended`.
            return Err(TreeError::NoMemory);
        }
        let Some(level) = node.level().below() else {
            return Ok(());
        };
        for child in (0..node.count()).filter_map(|n| node.child(n)) {
            let tree = node.stamp().tree;
            self.claim_node(tree, level, child.range.first, &child.pointer);
        }
        Ok(())
    }

    fn copy(&mut self, why: &TreeError, keys: Range) -> Result<(), TreeError> {
        self.check.found(Finding::Copy(*why, keys));
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, keys: Range) -> Result<(), TreeError> {
        if let TreeError::Io(spot, _) | TreeError::Corrupt(spot, _) = why {
            self.is_blind |= !spot.level.is_leaf();
            self.space_lost |= spot.tree == SPACE;
        }
        self.entered = None;
        if self.first {
            self.check.found(Finding::Lost(*why, keys));
        }
        Ok(())
    }

    fn under_full(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError> {
        let stamp = node.stamp();
        let what = Use::Node(stamp.tree, stamp.level, node.range().first);
        if let Some(place) = pointer.places.iter().next().filter(|_| self.first) {
            self.check
                .found(Finding::UnderFull(what, place.device, place.block));
        }
        Ok(())
    }
}
