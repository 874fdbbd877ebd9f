// SPDX-License-Identifier: GPL-2.0

//! Checking a volume: every node of every tree and every copy of it, what blocks are used for and what is free, and every name.
//! What is wrong is told, one finding after the other, and the check goes on.
//!
//! It changes nothing, and ends on any input: what the disk says is followed only where that leads on. Its memory is bounded by
//! [`Options::memory`], beside the volume's own (its node cache, and its free space).

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod attributes;
pub mod block;
pub(crate) mod claims;
mod copies;
pub(crate) mod data;
pub mod finding;
pub(crate) mod names;
pub mod path;
mod reach;
mod references;
mod roots;
mod snapshots;
pub(crate) mod stripes;
mod trees;
pub mod whose;

pub use crate::tree::check::Depth;
pub use data::Defect;
pub use finding::Finding;
pub use finding::Oddity;
pub use finding::Trouble;
pub use finding::Use;
pub use references::Miscount;
pub use references::Span;
pub use stripes::Flaw;

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::snapshot::State;
use crate::names::view::Ids;
use crate::names::Files;
use crate::snapshot::Seen;
use crate::tree::TreeError;
use crate::units::Bytes;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use core::fmt;
use embr_rt::Vec;

/// How to check.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Bytes of memory for what the check has to remember. With less it takes longer.
    pub memory: Bytes,
    /// Whether all that files hold is read, and its hashes compared.
    pub data: bool,
    /// How thoroughly nodes are looked at.
    pub depth: Depth,
    /// Blocks that are in use although no item names them: for tests, which take blocks of their own.
    pub held: &'a [Extent],
}

/// What the check is at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nodes, and the blocks that they use.
    Nodes,
    /// Blocks that engrams use.
    Uses,
    /// Free space against all that is used.
    Space,
    /// What files name, against what engrams use.
    Files,
    /// Engrams, each by itself.
    Engrams,
    /// What is said of blocks that several files name, against what they name.
    References,
    /// Stripes, and what they hold.
    Stripes,
    /// Snapshots, and what is theirs.
    Snapshots,
    /// Inodes, and what belongs to them; once for each snapshot.
    Names,
    /// What files hold.
    Data,
}

impl Stage {
    /// All of them, in their order; those from [`Stage::Nodes`] to [`Stage::Files`] come again with each pass, and those from
    /// [`Stage::Names`] on alternate.
    pub const ALL: [Stage; 10] = [
        Stage::Nodes,
        Stage::Uses,
        Stage::Space,
        Stage::Files,
        Stage::Engrams,
        Stage::References,
        Stage::Stripes,
        Stage::Snapshots,
        Stage::Names,
        Stage::Data,
    ];
}

/// After so many items the observer is told again how far the check is.
const TELL_AFTER: u64 = 256;

/// What was looked at so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counted {
    /// Nodes, each counted once for all its copies.
    pub nodes: u64,
    /// Items of the tree of names.
    pub items: u64,
    /// Inodes.
    pub inodes: u64,
    /// Engrams.
    pub engrams: u64,
    /// Stripes.
    pub stripes: u64,
    /// Blocks of what files hold that were read, each copy counted.
    pub blocks: u64,
    /// Items, or groups of free space, that were gone through since this pass of this stage began.
    pub passed: u64,
    /// How often the trees were gone through, because memory did not hold what there was to remember.
    pub passes: u64,
}

/// Who hears what a check finds.
pub trait Observer {
    /// Something is wrong.
    fn found(&mut self, what: &Finding);
    /// From here on names are looked at as this snapshot or head has them; none where what is found is nobody's in particular.
    fn shows(&mut self, _whose: Option<SnapshotId>) {}
    /// How far the check is; false ends it.
    fn at(&mut self, _stage: Stage, _counted: &Counted) -> bool {
        true
    }
}

/// Why a check ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// Memory could not be had.
    NoMemory,
    /// The observer wanted no more.
    Interrupted,
    /// The volume failed in a way that is no finding.
    Fault(Fault),
}

impl From<NoMem> for Ended {
    fn from(_: NoMem) -> Self {
        Ended::NoMemory
    }
}

impl From<TreeError> for Ended {
    fn from(why: TreeError) -> Self {
        Ended::from(Fault::from(why))
    }
}

impl From<Fault> for Ended {
    fn from(why: Fault) -> Self {
        match why {
            Fault::NoMemory => Ended::NoMemory,
            why => Ended::Fault(why),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::NoMemory => f.write_str("out of memory"),
            Ended::Interrupted => f.write_str("interrupted"),
            Ended::Fault(why) => why.fmt(f),
        }
    }
}

/// What all parts of a check share.
struct Check<'c, M, O> {
    mounted: &'c Mounted<M>,
    options: &'c Options<'c>,
    observer: &'c mut O,
    counted: Counted,
}

/// Checks a mounted volume that nobody changes meanwhile; of names, those that these files have.
pub fn check<M: Machine, O: Observer>(
    mounted: &Mounted<M>,
    files: Option<Files<'_, M>>,
    options: &Options<'_>,
    observer: &mut O,
) -> Result<Counted, Ended> {
    let mut check = Check::new(mounted, options, observer);
    check.roots()?;
    check.blocks(files.is_some())?;
    if let Some(files) = files {
        check.engrams()?;
        check.references()?;
        check.stripes()?;
        match check.seen(files)? {
            None => names::check(&mut check, files, &[])?,
            Some(seen) => {
                check.snapshots(&seen)?;
                let unseen = unseen(&seen)?;
                for (number, one) in seen.into_iter().enumerate() {
                    let Some(view) = one.into_view() else {
                        continue;
                    };
                    let mut also = Vec::new();
                    for (_, ids) in unseen.iter().filter(|(first, _)| *first == number) {
                        also.push(ids.try_clone()?)?;
                    }
                    check.observer.shows(Some(view.current()));
                    names::check(&mut check, files.names.of(mounted, &view), &also)?;
                }
                check.observer.shows(None);
            }
        }
    }
    Ok(check.counted)
}

/// Versions of snapshots that are deleted and that several grew from: nobody has them as his own. With each, the first that sees them.
fn unseen(seen: &[Seen]) -> Result<Vec<(usize, Ids)>, Ended> {
    let mut unseen = Vec::new();
    for one in seen.iter().filter(|one| one.state == State::Deleted) {
        let sees = |other: &Seen| {
            let lineage = other.lineage();
            let mut spans = one.own.spans();
            other.state != State::Deleted
                && spans.any(|(id, _)| lineage.sees(id) && !lineage.owns(id))
        };
        if let Some(first) = seen.iter().position(sees) {
            unseen.push((first, one.own.try_clone()?))?;
        }
    }
    Ok(unseen)
}

/// Checks nodes and what uses which block, and no more.
#[cfg(not(embr_kernel))]
pub(crate) fn blocks<M: Machine, O: Observer>(
    mounted: &Mounted<M>,
    options: &Options<'_>,
    observer: &mut O,
) -> Result<Counted, Ended> {
    let mut check = Check::new(mounted, options, observer);
    check.blocks(false)?;
    Ok(check.counted)
}

impl<'c, M: Machine, O: Observer> Check<'c, M, O> {
    fn new(mounted: &'c Mounted<M>, options: &'c Options<'c>, observer: &'c mut O) -> Self {
        Check {
            mounted,
            options,
            observer,
            counted: Counted::default(),
        }
    }

    fn found(&mut self, what: Finding) {
        self.observer.found(&what);
    }

    /// A stage begins, or begins anew.
    fn begin(&mut self, stage: Stage) -> Result<(), Ended> {
        self.counted.passed = 0;
        self.at(stage)
    }

    /// One more item of this stage is gone through.
    fn pass(&mut self, stage: Stage) -> Result<(), Ended> {
        self.counted.passed = self.counted.passed.saturating_add(1);
        match self.counted.passed % TELL_AFTER {
            0 => self.at(stage),
            _ => Ok(()),
        }
    }

    fn at(&mut self, stage: Stage) -> Result<(), Ended> {
        match self.observer.at(stage, &self.counted) {
            true => Ok(()),
            false => Err(Ended::Interrupted),
        }
    }
}
