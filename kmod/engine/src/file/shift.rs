// SPDX-License-Identifier: GPL-2.0

//! Room for what a range that is taken out or put in makes move. Moving is done in pieces that give back what they take, but what
//! moves may need more leaves than before: runs are cut where windows begin, and leaves get less full. So the nodes for that are promised
//! before anything is seen of it, and stay so until it is done: whoever changes the file first goes on with it, and must not find
//! the volume full. A piece is given what is not needed for what is still to be moved. Why that is enough is in
//! docs/decisions/file-data.md.

use super::edit::Edit;
use super::window::Windows;
use super::END;
use super::WINDOW_BLOCKS;
use crate::error::NoMem;
use crate::format::intent::Operation;
use crate::names::Error;
use crate::names::Files;
use crate::space::promise::Promise;
use crate::space::reserve;
use crate::space::Space;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use crate::volume::relief::Patience;
use embr_rt::Box;
use embr_rt::Vec;

/// What is still to be moved.
#[derive(Clone, Copy, Default)]
pub(super) struct Ahead {
    /// Bytes of leaves that it takes where it comes to lie, at most.
    bytes: u64,
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
            self.bytes = self.bytes.saturating_sub(edit.weight(block)?);
        }
        Ok(())
    }
}

/// The room of a file in which something moves.
pub(super) struct Shift {
    promise: Promise,
    pub(super) ahead: Ahead,
}

impl Shift {
    /// What a piece may use that leaves this to be moved.
    pub(super) fn part(&mut self, left: Ahead) -> Promise {
        self.promise.split_nodes(reserve::of_moved(left.bytes))
    }

    /// What a piece did not need.
    pub(super) fn put_back(&mut self, part: Promise) {
        self.promise.merge(part);
    }
}

/// The room of all files in which something moves; none of one that somebody is at work on.
#[derive(Default)]
pub(crate) struct Shifts(Vec<(InodeNo, Option<Box<Shift>>)>);

impl Shifts {
    pub(super) fn has(&self, file: InodeNo) -> bool {
        self.0.iter().any(|(of, _)| *of == file)
    }

    pub(super) fn add(&mut self, file: InodeNo, shift: Box<Shift>) -> Result<(), NoMem> {
        self.0.push((file, Some(shift)))
    }

    pub(super) fn take(&mut self, file: InodeNo) -> Option<Box<Shift>> {
        let found = self.0.iter_mut().find(|(of, _)| *of == file);
        found.and_then(|(_, shift)| shift.take())
    }

    pub(super) fn put_back(&mut self, file: InodeNo, shift: Option<Box<Shift>>) {
        let found = self.0.iter_mut().find(|(of, _)| *of == file);
        // Another may have been at work on it without.
        if let Some((_, room)) = found.filter(|(_, room)| room.is_none()) {
            *room = shift;
        }
    }

    /// Nothing moves in the file any more.
    pub(crate) fn end(&mut self, file: InodeNo) {
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
        let bytes = self.weight(file, from, to)?;
        let nodes = reserve::of_moved(bytes).saturating_add(reserve::OF_ENDS);
        let mut patience = Patience::short();
        loop {
            if let Some(promise) = Space::promise_nodes(&self.mounted.space, nodes) {
                let window = None;
                let ahead = Ahead { bytes, window };
                return Ok(Box::try_new(Shift { promise, ahead })?);
            }
            if !self.mounted.relieve(&mut patience)? {
                return Err(Error::NoSpace);
            }
        }
    }

    #[inline(never)] // Its frame is large enough alone.
    fn weight(&self, file: InodeNo, from: FileBlock, to: FileBlock) -> Result<u64, Error> {
        let current = self.view.now().current();
        let mut bytes = 0u64;
        let mut windows = Windows::new(*self, file, from, to)?;
        while let Some(window) = windows.next()? {
            bytes = bytes.saturating_add(window.weight(current)?);
        }
        Ok(bytes)
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
        if self.names.shifts.lock().has(file) {
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
        let mut shifts = self.names.shifts.lock();
        match is_done || shifts.has(file) {
            true => Ok(()),
            false => Ok(shifts.add(file, shift)?),
        }
    }
}
