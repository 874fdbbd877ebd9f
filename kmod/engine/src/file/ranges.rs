// SPDX-License-Identifier: GPL-2.0

//! Ranges of a file that are punched out, zeroed, set aside, taken out or put in.

use super::edit::Batch;
use super::edit::Clear;
use super::edit::Edit;
use super::pieces::Holds;
use super::pieces::Piece;
use super::plan::map;
use super::plan::together;
use super::plan::Given;
use super::regular;
use super::shift::Shift;
use super::window::At;
use super::window::State;
use super::END;
use super::MAX_SIZE;
use super::WINDOW_BLOCKS;
use crate::engram;
use crate::format::engram::Owner;
use crate::format::engram::MAX_BLOCKS;
use crate::format::engram::MAX_PARTS;
use crate::format::intent::Intent;
use crate::format::intent::Operation;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use embr_rt::Box;
use embr_rt::Vec;

/// Room for what moves, if there is any.
type Room = Option<Box<Shift>>;

/// Blocks that are set aside at once, at least, where there is little room.
const AT_LEAST: u64 = 16;

impl<M: Machine> Files<'_, M> {
    /// The bytes from `from` to before `to` become zeros, and whole blocks among them a hole. The size stays.
    pub fn punch(
        &self,
        file: InodeNo,
        from: Bytes,
        to: Bytes,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        self.settle(file)?;
        self.thin_out_at(file, from)?;
        self.thin_out_at(file, to)?;
        let done = match self.punch_by(file, (from, to), now, Batch::Large) {
            Err(Error::NoSpace) => self.punch_by(file, (from, to), now, Batch::Small)?,
            done => done?,
        };
        // What did not fit into one transaction.
        self.settle_or_later(file);
        Ok(done)
    }

    #[inline(never)]
    fn punch_by(
        &self,
        file: InodeNo,
        (from, to): (Bytes, Bytes),
        now: Timestamp,
        batch: Batch,
    ) -> Result<Done<()>, Error> {
        let mut change = Change::begin_freeing(*self, now)?;
        let inode = change.inode(file)?;
        regular(inode)?;
        let size = inode.size;
        if from > to || to > MAX_SIZE {
            return Err(Error::Invalid);
        }
        let (first, last) = (FileBlock::from(from), FileBlock::of(to));
        let mut edit = Edit::new(&mut change, file).sized(batch);
        if first > last {
            edit.clear_bytes(from, to)?;
            edit.finish()?;
            return change.resize(file, size);
        }
        edit.clear_bytes(from, first.start())?;
        edit.clear_bytes(last.start(), to)?;
        let rest = edit.clear(first, last, Clear::All)?;
        // Then what is said of shared blocks may only grow: it must not use up what is kept for deleting.
        let takes = edit.frees_nothing();
        edit.finish()?;
        if takes {
            change.takes();
        }
        let Some(cursor) = rest else {
            return change.resize(file, size);
        };
        change.intend(&Intent {
            operation: Operation::Clear,
            inode: file,
            from: first,
            to: last,
            cursor,
        })?;
        change.resize(file, size)
    }

    /// The bytes from `from` to before `to` become zeros, and places are set aside for them. The size becomes the larger of
    /// `size` and what it was. These are several operations: a crash may leave the first of them done.
    pub fn zero(
        &self,
        file: InodeNo,
        from: Bytes,
        to: Bytes,
        size: Option<Bytes>,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        self.punch(file, from, to, now)?;
        self.preallocate(file, FileBlock::of(from), FileBlock::from(to), size, now)
    }

    /// Sets places aside for the blocks from `from` to before `to` that are holes, so that writing to them does not fail for lack
    /// of space. The size becomes the larger of `size` and what it was. What is set aside before an error stays so.
    #[inline(never)]
    pub fn preallocate(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        size: Option<Bytes>,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        if from > to {
            return Err(Error::Invalid);
        }
        if size.is_some_and(|size| size > MAX_SIZE) || to > END {
            return Err(Error::TooBig);
        }
        let was = self.size(file)?;
        self.settle(file)?;
        if size.is_some_and(|size| size > was) {
            // What lay behind the end goes before places are taken there.
            self.truncate(file, was, now)?;
        }
        self.preallocate_all(file, from, to, now)?;
        match size.filter(|size| *size > was) {
            Some(size) => self.truncate(file, size, now),
            None => self.touch(file, was, now),
        }
    }

    #[inline(never)]
    pub(super) fn size(&self, file: InodeNo) -> Result<Bytes, Error> {
        let inode = self.inode(file)?;
        regular(&inode)?;
        Ok(inode.size)
    }

    #[inline(never)]
    fn touch(&self, file: InodeNo, size: Bytes, now: Timestamp) -> Result<Done<()>, Error> {
        Change::begin(*self, now)?.resize(file, size)
    }

    #[inline(never)]
    fn preallocate_all(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        now: Timestamp,
    ) -> Result<(), Error> {
        let (mut at, mut most) = (from, u64::MAX);
        while at < to {
            let end = at.plus(most.min(to.0.saturating_sub(at.0)));
            self.thin_out(file, at, end)?;
            let done = self.with_room(|| {
                let mut change = Change::begin(*self, now)?;
                let done = preallocate_some(&mut change, file, at, end)?;
                change.commit_alone(())?;
                Ok(done)
            });
            match done {
                Ok(done) => at = done,
                // Of less at once fewer nodes are needed for the moment.
                Err(Error::NoSpace) if end.0.saturating_sub(at.0) > AT_LEAST => {
                    most = (end.0.saturating_sub(at.0) / 4).max(AT_LEAST);
                }
                Err(why) => return Err(why),
            }
        }
        Ok(())
    }

    /// Takes out the blocks from `from` to before `to`, which lie before the file's end: what is behind them moves up. What
    /// snapshots have stays as they have it.
    pub fn collapse(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        let (change, size, room) = self.before_shift(file, to, now)?;
        if from >= to || to.start() >= size {
            return Err(Error::Invalid);
        }
        let less = to.start().0.saturating_sub(from.start().0);
        let size = Bytes(size.0.saturating_sub(less));
        self.shift(
            (change, room),
            size,
            Intent {
                operation: Operation::Collapse,
                inode: file,
                from,
                to,
                cursor: from,
            },
        )
    }

    /// Puts a hole of `blocks` blocks before `at`, which lies in the file: what is from there on moves back. What
    /// snapshots have stays as they have it.
    pub fn insert(
        &self,
        file: InodeNo,
        at: FileBlock,
        blocks: u64,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        // Places that were set aside move too, as far behind the end as they are.
        let last = FileBlock(END.0.saturating_sub(blocks)).max(at);
        let pushed_out = |piece: &Piece| piece.holds != Holds::Hole;
        if self.pieces(file, last, END, 2)?.iter().any(pushed_out) {
            return Err(Error::TooBig);
        }
        let (change, size, room) = self.before_shift(file, at, now)?;
        if at.start() >= size || blocks == 0 {
            return Err(Error::Invalid);
        }
        let more = blocks.checked_mul(BLOCK_SIZE as u64).map(Bytes);
        let size = more.and_then(|more| size.plus(more));
        let size = size.filter(|s| *s <= MAX_SIZE).ok_or(Error::TooBig)?;
        self.shift(
            (change, room),
            size,
            Intent {
                operation: Operation::Insert,
                inode: file,
                from: at,
                to: at.plus(blocks),
                cursor: END,
            },
        )
    }

    /// For a change that makes what lies from a block on move: the size, and room for that, if there is any. What cannot be in any case is
    /// refused as that.
    #[inline(never)]
    fn before_shift(
        &self,
        file: InodeNo,
        from: FileBlock,
        now: Timestamp,
    ) -> Result<(Begun<'_, M>, Bytes, Room), Error> {
        let settled = self.settle(file);
        let room = match settled.and_then(|_| self.room_to_shift(file, from)) {
            Err(Error::NoSpace) => None,
            room => Some(room?),
        };
        let mut change = Change::begin(*self, now)?;
        let inode = change.inode(file)?;
        regular(inode)?;
        let size = inode.size;
        Ok((change, size, room))
    }

    fn shift(
        &self,
        (change, room): (Begun<'_, M>, Room),
        size: Bytes,
        intent: Intent,
    ) -> Result<Done<()>, Error> {
        let file = intent.inode;
        let room = room.ok_or(Error::NoSpace)?;
        let here = self.in_head(file);
        // It must not be too late for want of memory.
        self.names.shifts.lock().add(here, room)?;
        let done = intended(change, size, &intent);
        match done {
            Ok(_) => self.settle_or_later(file),
            Err(_) => self.names.shifts.lock().end(here),
        }
        done
    }
}

/// Commits what is to be seen of an operation.
#[inline(never)]
fn intended<M: Machine>(
    mut change: Begun<'_, M>,
    size: Bytes,
    intent: &Intent,
) -> Result<Done<()>, Error> {
    change.intend(intent)?;
    change.resize(intent.inode, size)
}

/// Sets places aside for as many holes as an engram has blocks. Says from where on it has to go on.
#[inline(never)]
fn preallocate_some<M: Machine>(
    change: &mut Change<'_, M>,
    file: InodeNo,
    from: FileBlock,
    to: FileBlock,
) -> Result<FileBlock, Error> {
    let files = change.files;
    let mut edit = Edit::new(change, file);
    let mut holes: Vec<FileBlock> = Vec::new();
    // Where free space is in pieces, each block is a part of an engram.
    let losses = edit
        .change
        .inode(file)?
        .policy
        .losses(files.mounted.geometry());
    let each = engram::cost_of_part(usize::from(losses).saturating_add(1))
        .saturating_add(engram::cost_of_new(0, 0, 0) / MAX_PARTS);
    let mut price = engram::cost_of_new(0, 0, 0);
    let mut at = from;
    while at < to && holes.len() < MAX_BLOCKS && edit.has_room(price) {
        let into_window = at.0 % WINDOW_BLOCKS;
        let end = at.plus((WINDOW_BLOCKS).saturating_sub(into_window)).min(to);
        edit.load(at, end)?;
        let (window, before) = (at.0 / WINDOW_BLOCKS, holes.len());
        while at < end && holes.len() < MAX_BLOCKS {
            if edit.cell(at)?.state.is_hole() {
                // A run of its own is an owner of its own.
                if holes.last().is_none_or(|last| last.plus(1) != at) {
                    price = price.saturating_add(64);
                }
                price = price.saturating_add(each);
                holes.push(at)?;
            }
            at = at.plus(1);
        }
        match holes.last().copied().filter(|_| holes.len() > before) {
            Some(hole) => price = price.saturating_add(edit.price(hole)?),
            None => edit.unload(window),
        }
    }
    let mut promise = files.mounted.promise(Blocks(holes.len() as u64))?;
    let policy = edit.change.inode(file)?.policy;
    let mut given = Given::new(files.mounted, policy, &mut promise);
    given.reserve(holes.len())?;
    let mut holes = holes.iter().copied();
    let mut rest = given.stores.as_mut_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(together(rest));
        let engram = files.names.engrams.lock().give(files.mounted)?;
        let map = map(now, policy)?;
        let mut owners: Vec<(usize, Owner)> = Vec::new();
        for (block, hole) in holes.by_ref().take(map.blocks).enumerate() {
            edit.put(hole, State::Unwritten(At { engram, block }))?;
            let last = owners.last_mut().map(|(_, owner)| owner);
            match last.filter(|o| o.at.plus(o.blocks as u64) == hole) {
                Some(last) => last.blocks = last.blocks.saturating_add(1),
                None => owners.push((
                    block,
                    Owner {
                        blocks: 1,
                        inode: file,
                        at: hole,
                    },
                ))?,
            }
        }
        let txn = edit.change.txn();
        engram::create(txn, engram, &map, &[], &owners)?;
        for store in now {
            while store.places.len() > store.copies {
                if let Some(spare) = store.places.pop() {
                    files.mounted.space.give_back(spare);
                }
            }
            while let Some(place) = store.places.pop() {
                txn.take(place)?;
            }
        }
        rest = later;
    }
    given.stores.clear();
    edit.finish()?;
    Ok(at)
}
