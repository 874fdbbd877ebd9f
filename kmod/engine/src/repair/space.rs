// SPDX-License-Identifier: GPL-2.0

//! Free space: what nothing uses. While a volume is opened to be repaired, before anything is written, it is found out from all trees
//! what is in use, so that nothing is ever written over that. What is said to be in use and is not, is given back at the end, when all
//! else was mended; and only where it is known of every engram and stripe what it uses.
//! The tree of free space is written anew as a whole where a node of it is lost, or an item makes no sense.

use super::patch::Patch;
use super::Deed;
use super::Mender;
use super::Observer;
use crate::check;
use crate::check::data;
use crate::check::names::look;
use crate::check::names::Look;
use crate::check::Counted;
use crate::check::Ended;
use crate::check::Finding;
use crate::check::Stage;
use crate::format::engram::Live;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::journal::Extent;
use crate::format::journal::MAX_EXTENT;
use crate::format::node::Node;
use crate::format::pointer::Pointer;
use crate::names::Item;
use crate::names::Kind;
use crate::space::Space;
use crate::space::SpaceError;
use crate::tree::check::check as walk;
use crate::tree::check::Depth;
use crate::tree::check::Visitor;
use crate::tree::Base;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::Blocks;
use crate::units::TreeId;
use crate::units::BLOCK_SIZE;
use crate::volume::assemble;
use crate::volume::assemble::Standing;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::SPACE;
use crate::volume::recover;
use crate::volume::Member;
use crate::volume::Volume;
use core::cell::Cell;
use core::fmt;
use embr_rt::Box;
use embr_rt::Vec;

/// Uses of blocks by two that are remembered; of more, it is not known whether nodes are among them.
const MOST: usize = 1024;

/// Why a volume cannot be repaired.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It cannot be mounted to be written to.
    Mount(Fault),
    /// A member is missing, or missed something.
    Members,
    /// These blocks of a node are used by something else as well: whatever is written may go over it.
    Shared(Extent),
    /// The observer wanted no more.
    Interrupted,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Mount(why) => why.fmt(f),
            Refused::Members => f.write_str(
                "a member of the volume is missing, or missed something: attach all of them, or mount the volume with option degraded first",
            ),
            Refused::Shared(e) => write!(
                f,
                "block {} of the device in slot {} belongs to a node of a tree and to something else: nothing can be written without harm; copy the files out with embrfs-admin extract",
                e.start, e.device.index()
            ),
            Refused::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl From<Fault> for Refused {
    fn from(why: Fault) -> Self {
        Refused::Mount(why)
    }
}

/// Puts free space right as a check of blocks finds it wrong.
struct Charting<'c, O> {
    space: &'c Space,
    observer: &'c mut O,
    /// All of it is written anew, which is told once.
    is_anew: bool,
    is_torn: bool,
    /// Blocks that two use.
    shared: Vec<Extent>,
    /// How many nodes trees have, of which the root says that they have other numbers.
    nodes: Vec<(TreeId, u64, u64)>,
    too_many: bool,
    failed: Option<SpaceError>,
}

impl<O: Observer> check::Observer for Charting<'_, O> {
    fn found(&mut self, what: &Finding) {
        let (done, deed) = match what {
            Finding::Used(e) => (self.space.take_again(*e), Deed::Taken(*e)),
            Finding::Overlap(_, e) => {
                self.too_many |= self.shared.len() >= MOST || self.shared.push(*e).is_err();
                return;
            }
            Finding::Lost(..) => {
                self.is_torn = true;
                return;
            }
            Finding::Nodes(tree, said, there) => {
                self.too_many |= self.nodes.push((*tree, *said, *there)).is_err();
                return;
            }
            _ => return,
        };
        match done {
            Ok(()) if !self.is_anew => self.observer.does(what, &deed),
            Ok(()) => {}
            Err(why) => self.failed = Some(why),
        }
    }

    fn at(&mut self, stage: Stage, counted: &Counted) -> bool {
        self.failed.is_none() && self.observer.at(stage, counted)
    }
}

/// Whether a node lies where something else does too.
struct Nodes<'s> {
    shared: &'s [Extent],
    size: Blocks,
    found: Option<Extent>,
}

impl Nodes<'_> {
    fn look(&mut self, pointer: &Pointer) {
        for place in pointer.places.iter() {
            let (start, end) = (place.block.0, place.block.0.saturating_add(self.size.0));
            let meets = |e: &&Extent| {
                let behind = e.start.0.saturating_add(e.blocks.0);
                e.device == place.device && e.start.0 < end && start < behind
            };
            if let Some(e) = self.shared.iter().find(meets) {
                self.found = Some(*e);
            }
        }
    }
}

impl Visitor for Nodes<'_> {
    fn node(&mut self, _: &Pointer, node: &Node) -> Result<(), TreeError> {
        for child in (0..node.count()).filter_map(|n| node.child(n)) {
            self.look(&child.pointer);
        }
        Ok(())
    }

    fn lost(&mut self, _: &TreeError, _: Range) -> Result<(), TreeError> {
        Ok(())
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

/// Whether a node of a tree is lost.
#[derive(Default)]
struct Losses(bool);

impl Visitor for Losses {
    fn node(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }

    fn lost(&mut self, _: &TreeError, _: Range) -> Result<(), TreeError> {
        self.0 = true;
        Ok(())
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

/// Mounts a volume to be repaired: what it says of free space is right before anything is written. All members have to be here.
pub fn open<M: Machine, O: Observer>(
    machine: M,
    volume: &Volume,
    members: &[Member],
    mount: recover::Options,
    options: &check::Options<'_>,
    observer: &mut O,
) -> Result<Box<Mounted<M>>, Refused> {
    let is_here = |s: &assemble::Seat| matches!(s.standing, Standing::Current(_));
    if !volume.seats().iter().all(is_here) {
        return Err(Refused::Members);
    }
    let mut refused = None;
    let mut is_shared = false;
    let told = Cell::new(None);
    let mut note = |why: Fault| match why {
        Fault::SpaceItem(_) | Fault::Space(_) => {
            told.set(Some(why));
            Ok(())
        }
        why => Err(why),
    };
    let mut chart = |mounted: &mut Mounted<M>| {
        // Nothing is written over copies that are bad while it is not known whether they are a node's alone.
        mounted.rest(true);
        match chart_anew(mounted, told.get(), options, observer) {
            Ok(shared) => {
                is_shared = shared;
                Ok(())
            }
            Err(why) => {
                refused = Some(why);
                Err(Fault::Stopped)
            }
        }
    };
    let opened = Mounted::open_uncharted(machine, volume, members, mount, &mut note, &mut chart);
    match (opened, refused) {
        (_, Some(why)) => Err(why),
        (Err(why), None) => Err(why.into()),
        (Ok(mounted), None) => {
            mounted.rest(is_shared);
            Ok(mounted)
        }
    }
}

/// Puts right what is known of free space. Says whether blocks have two owners.
#[inline(never)]
fn chart_anew<M: Machine, O: Observer>(
    mounted: &mut Mounted<M>,
    senseless: Option<Fault>,
    options: &check::Options<'_>,
    observer: &mut O,
) -> Result<bool, Refused> {
    let mut losses = Losses::default();
    let base = mounted.bases().find(|b| b.tree == SPACE);
    let of_space = base.unwrap_or(Base::empty(SPACE));
    walk(mounted.nodes(), &of_space, Depth::Tree, &mut losses).map_err(Fault::from)?;
    let is_anew = losses.0 || senseless.is_some();
    if is_anew {
        mounted.leave_space_tree()?;
    }
    let options = check::Options {
        depth: Depth::Tree,
        data: false,
        ..*options
    };
    let space = mounted.space.clone();
    let mut charting = Charting {
        space: &space,
        observer,
        is_anew,
        is_torn: false,
        shared: Vec::new(),
        nodes: Vec::new(),
        too_many: false,
        failed: None,
    };
    let checked = check::blocks(mounted, &options, &mut charting);
    let Charting {
        shared,
        nodes,
        too_many,
        failed,
        is_torn,
        observer,
        ..
    } = charting;
    if let Some(why) = failed {
        return Err(Fault::from(why).into());
    }
    let counted = checked.map_err(|why| match why {
        Ended::Fault(why) => Refused::Mount(why),
        Ended::NoMemory => Refused::Mount(Fault::NoMemory),
        Ended::Interrupted => Refused::Interrupted,
    })?;
    if let Some(e) = of_nodes(mounted, &shared, &of_space)? {
        return Err(Refused::Shared(e));
    }
    if let Some(e) = shared.first().filter(|_| too_many) {
        return Err(Refused::Shared(*e));
    }
    if is_anew {
        if !is_torn {
            mounted.space.settle(counted.nodes);
        }
        let why = senseless.unwrap_or(Fault::SpaceItem(crate::tree::Key::MIN));
        observer.does(&Finding::Mount(why), &Deed::SpaceRewritten);
    }
    for (tree, said, there) in nodes.iter().filter(|_| !is_torn) {
        if let Some(layered) = mounted.tree(*tree) {
            layered.recount(*there).map_err(|_| Fault::NoMemory)?;
            mounted.space.settle(counted.nodes);
            let found = Finding::Nodes(*tree, *said, *there);
            observer.does(&found, &Deed::NodesCounted(*there));
        }
    }
    keep_what_is_named(mounted, observer, &of_space)?;
    Ok(!shared.is_empty())
}

/// The first of these blocks that a node lies in.
#[inline(never)]
fn of_nodes<M: Machine>(
    mounted: &Mounted<M>,
    shared: &[Extent],
    of_space: &Base,
) -> Result<Option<Extent>, Refused> {
    if shared.is_empty() {
        return Ok(None);
    }
    let mut nodes = Nodes {
        shared,
        size: Blocks((mounted.nodes().size() / BLOCK_SIZE) as u64),
        found: None,
    };
    let others = mounted.bases().filter(|b| b.tree != SPACE);
    for base in others.chain([*of_space]) {
        if let Some(top) = base.top {
            nodes.look(&top.pointer);
        }
        walk(mounted.nodes(), &base, Depth::Inner, &mut nodes).map_err(Fault::from)?;
    }
    Ok(nodes.found)
}

/// What files name is not given out, also where it is said to be dead, or nothing says what lives. It is going to live again, so it may not
/// lie where a node does.
#[inline(never)]
fn keep_what_is_named<M: Machine, O: Observer>(
    mounted: &Mounted<M>,
    observer: &mut O,
    of_space: &Base,
) -> Result<(), Refused> {
    let mut revived: Vec<Extent> = Vec::new();
    let mut at_node: Result<Option<Extent>, Refused> = Ok(None);
    let done = data::items(mounted, NAMES, &mut |key, value| {
        let (item, _) = Item::of(key);
        if item.kind() != Kind::EXTENTS {
            return Ok(());
        }
        let Some(all) = extent::parse(value) else {
            return Ok(());
        };
        for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
            let Look::There(map) = look(mounted.map(run.engram).map(Some))? else {
                continue;
            };
            let live = match look(mounted.live(run.engram, map.blocks).map(Some))? {
                Look::There(live) => live,
                _ => Live::default(),
            };
            let blocks = run.blocks.min(map.blocks.saturating_sub(run.block()));
            let lives = (run.block()..).take(blocks).all(|block| live.has(block));
            for e in map.extents(run.block(), blocks) {
                let mut all = (e.start.0..).take(e.blocks.0 as usize);
                if !lives && all.any(|n| mounted.is_used(e.device, Blocks(n))) {
                    revived.push(e)?;
                }
                keep(mounted, e, observer)?;
            }
            if revived.len() >= MOST {
                at_node = of_nodes(mounted, &revived, of_space);
                revived.clear();
                if !matches!(at_node, Ok(None)) {
                    return Err(Ended::Interrupted);
                }
            }
        }
        Ok(())
    });
    if let Some(e) = at_node? {
        return Err(Refused::Shared(e));
    }
    match done {
        Ok(_) => {}
        Err(Ended::Fault(why)) => return Err(why.into()),
        Err(Ended::NoMemory) => return Err(Fault::NoMemory.into()),
        Err(Ended::Interrupted) => return Err(Refused::Interrupted),
    }
    match of_nodes(mounted, &revived, of_space)? {
        Some(e) => Err(Refused::Shared(e)),
        None => Ok(()),
    }
}

/// Keeps those of these blocks that are said to be free.
fn keep<M: Machine, O: Observer>(
    mounted: &Mounted<M>,
    e: Extent,
    observer: &mut O,
) -> Result<(), Ended> {
    if !mounted.parts().iter().any(|p| p.slot == e.device) {
        return Ok(());
    }
    let is_free = |n: u64| !mounted.is_used(e.device, Blocks(e.start.0.saturating_add(n)));
    let mut at = 0u64;
    while let Some(from) = (at..e.blocks.0).find(|n| is_free(*n)) {
        let to = (from..e.blocks.0).find(|n| !is_free(*n));
        let to = to.unwrap_or(e.blocks.0);
        let run = Extent {
            start: Blocks(e.start.0.saturating_add(from)),
            blocks: Blocks(to.saturating_sub(from)),
            ..e
        };
        mounted.space.take_again(run).map_err(Fault::from)?;
        observer.does(&Finding::Used(run), &Deed::Taken(run));
        at = to;
    }
    Ok(())
}

impl<M: Machine, O: Observer> Mender<'_, '_, M, O> {
    /// Blocks that are said to be in use and are not, after all else was mended: they are given back. The other way round it would be too
    /// late: that is seen to [before](open).
    pub(super) fn space(&mut self, found: &Finding) -> Result<(), Ended> {
        match found {
            Finding::Unused(e) => self.give_back(found, *e),
            Finding::Lost(..) if self.options.dry_run => {
                self.act(found, &Deed::SpaceRewritten, Patch::new())
            }
            Finding::Used(e) if self.options.dry_run => {
                self.act(found, &Deed::Taken(*e), Patch::new())
            }
            Finding::Nodes(_, _, there) if self.options.dry_run => {
                self.act(found, &Deed::NodesCounted(*there), Patch::new())
            }
            _ => Ok(()),
        }
    }

    fn give_back(&mut self, found: &Finding, e: Extent) -> Result<(), Ended> {
        self.tell(found, &Deed::Freed(e));
        if self.options.dry_run {
            return Ok(());
        }
        let mut txn = self.mounted.begin_freeing()?;
        let mut at = 0u64;
        while at < e.blocks.0 {
            let blocks = e.blocks.0.saturating_sub(at).min(MAX_EXTENT);
            txn.free(Extent {
                start: Blocks(e.start.0.saturating_add(at)),
                blocks: Blocks(blocks),
                ..e
            })?;
            at = at.saturating_add(blocks);
        }
        txn.commit()?;
        Ok(())
    }
}
