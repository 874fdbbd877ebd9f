// SPDX-License-Identifier: GPL-2.0

//! Room for what a range that is taken out or put in makes move. Moving is done in pieces that give back what they take, but what
//! moves may need more leaves than before: runs are cut where windows begin, and leaves get less full. So the nodes for that are promised
//! before anything is seen of it, and stay so until it is done: whoever changes the file first goes on with it, and must not find
//! the volume full. A piece is given what is not needed for what is still to be moved. Why that is enough is in
//! docs/decisions/file-data.md.

use super::edit::Edit;
use super::window::Weight;
use super::window::Windows;
use super::END;
use super::WINDOW_BLOCKS;
use crate::error::NoMem;
use crate::format::intent::Operation;
use crate::format::node::LEAF_ENTRY;
use crate::format::reference;
use crate::names::Error;
use crate::names::Files;
use crate::space::promise::Promise;
use crate::space::reserve;
use crate::space::Space;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::REFERENCES;
use crate::volume::relief::Patience;
use embr_rt::Box;
use embr_rt::Vec;

/// Bytes of leaves that it takes that one more run of an engram is counted, in all and by file.
const PER_RUN: u64 = 2 * (LEAF_ENTRY + reference::ONE_RUN + reference::GROWTH) as u64;

/// What is still to be moved.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    /// What it takes where it comes to lie, at most.
    weight: Weight,
    /// The window that was the last to be moved, wholly or in part. It is not counted any more.
    window: Option<u64>,
}

impl Ahead {
    /// This block is moved next.
    pub(super) fn pass<M: Machine>(
        &mut self,
        edit: &mut Edit<'_, '_, M>,
        block: FileBlock,
    ) -> Result<(), Error> {
        let number = block.0 / WINDOW_BLOCKS;
        if self.window != Some(number) {
            self.window = Some(number);
            self.weight = self.weight.without(edit.weight(block)?);
        }
        Ok(())
    }
}

/// The room of a file in which something moves.
pub(super) struct Shift {
    promise: Promise,
    pub(super) ahead: Ahead,
    /// Nodes by which the tree of references grows, at most.
    most: u64,
}

/// Nodes for what weighs so much, if the tree of references grows by so many at most.
fn nodes_of(weight: Weight, most: u64) -> u64 {
    reserve::of_moved(weight.bytes).saturating_add(of_shared(weight.shared).min(most))
}

/// Nodes by which a tree may have grown once so many runs are counted in it, which lie anywhere: each is two items beside each other.
fn of_shared(runs: u64) -> u64 {
    let split = runs.saturating_mul(2);
    split.saturating_add(split / 32)
}

impl Shift {
    /// What a piece may use that leaves this to be moved.
    pub(super) fn part(&mut self, left: Ahead) -> Promise {
        self.promise.split_nodes(nodes_of(left.weight, self.most))
    }

    /// What a piece did not need.
    pub(super) fn put_back(&mut self, part: Promise) {
        self.promise.merge(part);
    }
}

/// A file of a head, by the head's number: while something moves in the file, no snapshot is taken that would change that.
pub(crate) type InHead = (SnapshotId, InodeNo);

/// The room of all files in which something moves; none of one that somebody is at work on.
#[derive(Default)]
pub(crate) struct Shifts(Vec<(InHead, Option<Box<Shift>>)>);

impl Shifts {
    pub(super) fn has(&self, file: InHead) -> bool {
        self.0.iter().any(|(of, _)| *of == file)
    }

    pub(super) fn add(&mut self, file: InHead, shift: Box<Shift>) -> Result<(), NoMem> {
        self.0.push((file, Some(shift)))
    }

    pub(super) fn take(&mut self, file: InHead) -> Option<Box<Shift>> {
        let found = self.0.iter_mut().find(|(of, _)| *of == file);
        found.and_then(|(_, shift)| shift.take())
    }

    pub(super) fn put_back(&mut self, file: InHead, shift: Option<Box<Shift>>) {
        let found = self.0.iter_mut().find(|(of, _)| *of == file);
        // Another may have been at work on it without.
        if let Some((_, room)) = found.filter(|(_, room)| room.is_none()) {
            *room = shift;
        }
    }

    /// Nothing moves in the file any more.
    pub(crate) fn end(&mut self, file: InHead) {
        self.0.retain(|(of, _)| *of != file);
    }
}

impl<M: Machine> Files<'_, M> {
    /// Promises room for what lies from a block on and is to be moved.
    #[inline(never)]
    pub(super) fn room_to_shift(
        &self,
        file: InodeNo,
        from: FileBlock,
    ) -> Result<Box<Shift>, Error> {
        self.with_room(|| self.room_for(file, from, END))
    }

    #[inline(never)] // Its frame is large enough alone.
    fn room_for(&self, file: InodeNo, from: FileBlock, to: FileBlock) -> Result<Box<Shift>, Error> {
        let weight = self.weight(file, from, to)?;
        let most = self.most_shared(weight.shared);
        let ends = match self.view.is_alone() {
            true => reserve::OF_ENDS,
            // Of what is noted, too.
            false => reserve::OF_ENDS * 2,
        };
        let nodes = nodes_of(weight, most).saturating_add(ends);
        let mut patience = Patience::short();
        loop {
            if let Some(promise) = Space::promise_nodes(&self.mounted.space, nodes) {
                let ahead = Ahead {
                    weight,
                    window: None,
                };
                return Ok(Box::try_new(Shift {
                    promise,
                    ahead,
                    most,
                })?);
            }
            if !self.mounted.relieve(&mut patience)? {
                return Err(Error::NoSpace);
            }
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn weight(&self, file: InodeNo, from: FileBlock, to: FileBlock) -> Result<Weight, Error> {
        let lineage = self.view.now();
        let mut weight = Weight::default();
        let mut windows = Windows::new(*self, file, from, to)?;
        while let Some(window) = windows.next()? {
            weight = weight.plus(window.weight(&lineage)?);
        }
        Ok(weight)
    }

    /// Nodes by which the tree of references grows at most if so many runs are counted that were not: no node is less than a quarter full.
    fn most_shared(&self, runs: u64) -> u64 {
        if runs == 0 {
            return 0;
        }
        let there = self.mounted.tree(REFERENCES).map_or(0, |tree| {
            let (frozen, base) = tree.frozen();
            let frozen = frozen.map_or(0, |delta| delta.bytes());
            let in_memory = tree.active_bytes().saturating_add(frozen);
            base.nodes
                .saturating_add(reserve::of_moved(in_memory as u64))
        });
        let bytes = runs.saturating_mul(PER_RUN);
        let full = there.saturating_mul(3);
        full.saturating_add(full / 32)
            .saturating_add(reserve::of_moved(bytes))
    }

    /// A file of this head.
    pub(crate) fn in_head(&self, file: InodeNo) -> InHead {
        (self.view.current(), file)
    }

    /// Whether something is being done with a file. After a mount: room for the rest of what a crash cut short. It was promised before,
    /// so it is there while nobody else takes space. Without it what is kept back has to do.
    #[inline(never)]
    pub(super) fn regain_room(&self, file: InodeNo) -> Result<bool, Error> {
        let Some(intent) = self.intent(file)? else {
            return Ok(false);
        };
        let (from, to) = match intent.operation {
            Operation::Clear => return Ok(true),
            Operation::Collapse => (intent.cursor.plus(intent.blocks()), END),
            Operation::Insert => (intent.from, intent.cursor),
        };
        let here = self.in_head(file);
        if self.names.shifts.lock().has(here) {
            return Ok(true);
        }
        match self.room_for(file, from, to) {
            Ok(shift) => self.keep_room(file, shift)?,
            Err(Error::NoSpace) => {}
            Err(why) => return Err(why),
        }
        Ok(true)
    }

    /// This is the room of a file, unless it is done by now, or another has found some.
    #[inline(never)]
    fn keep_room(&self, file: InodeNo, shift: Box<Shift>) -> Result<(), Error> {
        let _alone = self.names.changing.lock();
        let is_done = self.intent(file)?.is_none();
        let here = self.in_head(file);
        let mut shifts = self.names.shifts.lock();
        match is_done || shifts.has(here) {
            true => Ok(()),
            false => Ok(shifts.add(here, shift)?),
        }
    }
}
