// SPDX-License-Identifier: GPL-2.0

//! Changing what blocks of a file hold, within one transaction: windows are loaded, their blocks changed in memory, and each
//! item written once at the end. What nothing refers to any more is given back.

use super::extents;
use super::inline;
use super::window::At;
use super::window::Cell;
use super::window::State;
use super::window::Window;
use super::window::Windows;
use super::WINDOW_BLOCKS;
use crate::engram::Edits;
use crate::format::extent;
use crate::format::extent::WINDOW;
use crate::format::inline::encode;
use crate::names::change::Change;
use crate::names::Error;
use crate::names::Wrong;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

/// Bytes of the journal that a window's item takes, at most.
pub(super) const PER_WINDOW: usize = 840;
/// Bytes of the journal that a run of blocks takes that dies, at most.
pub(super) const PER_DEAD: usize = 450;
/// Bytes of the journal that an item takes that is gone.
pub(super) const PER_GONE: usize = 40;
/// What one more window may take, whatever is done with it, and what belongs to every transaction; without blocks in the tree.
pub(super) const MARGIN: usize = PER_WINDOW * 2 + WINDOW * PER_DEAD + 1024;

/// Items that a small change touches beside those of the file's blocks: the inode, an intent, an orphan, a name.
const APART: usize = 6;
/// Items that clearing or moving one block may touch.
const PER_BLOCK: usize = 6;
/// Items of the largest transaction that finds room on a full volume.
const SMALL: usize = 16;

/// How much one transaction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Batch {
    /// As much as it can hold.
    Large,
    /// As much as finds room on a full volume, if it frees space.
    Small,
}

/// Which blocks are cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clear {
    /// All of them.
    All,
    /// Those that hold something; places that were set aside stay.
    Written,
    /// All, of a file that is gone altogether: nothing needs to be hidden.
    Gone,
}

struct Loaded {
    window: Window,
    /// Of which of its blocks it is known whether they lie in the tree. What its items of extents say is known of all.
    known: u32,
    changed: bool,
}

/// A change of what blocks of a file hold.
pub(crate) struct Edit<'e, 'n, M: Machine> {
    pub(super) change: &'e mut Change<'n, M>,
    pub(super) file: InodeNo,
    /// By their numbers.
    windows: Vec<Loaded>,
    changed: u32,
    /// How many blocks hold something that were holes, and how many are holes that held something.
    held: u64,
    dropped: u64,
    /// Items that are in the transaction already.
    items: u32,
    engrams: Edits,
    batch: Batch,
}

fn split(block: FileBlock) -> (u64, usize) {
    let index = (block.0 % WINDOW_BLOCKS) as usize;
    (block.0 / WINDOW_BLOCKS, index)
}

fn bit(index: usize) -> u32 {
    1u32.wrapping_shl(index as u32)
}

impl<'e, 'n, M: Machine> Edit<'e, 'n, M> {
    pub(crate) fn new(change: &'e mut Change<'n, M>, file: InodeNo) -> Self {
        Edit {
            change,
            file,
            windows: Vec::new(),
            changed: 0,
            held: 0,
            dropped: 0,
            items: 0,
            engrams: Edits::default(),
            batch: Batch::Large,
        }
    }

    /// The same, of so much.
    pub(crate) fn sized(self, batch: Batch) -> Self {
        self.change.txn().set_divisible(batch == Batch::Large);
        Edit { batch, ..self }
    }

    /// Whether one more block makes it no larger than it may be on a full volume, if that matters.
    fn is_small_enough(&self) -> bool {
        let items = self.items.saturating_add(self.changed) as usize;
        let items = items.saturating_add(self.engrams.items());
        let all = items.saturating_add(APART).saturating_add(PER_BLOCK);
        self.batch == Batch::Large || items == 0 || all <= SMALL
    }

    fn current(&self) -> SnapshotId {
        self.change.files.view.current()
    }

    /// Bytes of the journal that all this takes, at most.
    pub(super) fn cost(&mut self) -> usize {
        let windows = (self.changed as usize).saturating_mul(PER_WINDOW);
        let size = self.change.txn().size();
        size.saturating_add(windows)
            .saturating_add(self.engrams.cost())
    }

    /// Whether the transaction takes so many bytes more, beside what one more window needs.
    pub(super) fn has_room(&mut self, more: usize) -> bool {
        let limit = self.change.txn().limit();
        self.is_small_enough() && self.cost().saturating_add(more).saturating_add(MARGIN) <= limit
    }

    fn find(&mut self, number: u64) -> Result<&mut Loaded, Error> {
        let at = match self
            .windows
            .binary_search_by_key(&number, |l| l.window.number)
        {
            Ok(at) => at,
            Err(at) => {
                let loaded = Loaded {
                    window: Window::empty(number)?,
                    known: 0,
                    changed: false,
                };
                self.windows.insert(at, loaded)?;
                at
            }
        };
        let missing = Error::damaged(extents(self.file, FileBlock(0)), Wrong::Missing);
        self.windows.get_mut(at).ok_or(missing)
    }

    /// Takes in what of a window was not loaded yet.
    #[inline(never)] // Its frame is large enough alone.
    fn absorb(&mut self, window: &Window, from: FileBlock, to: FileBlock) -> Result<(), Error> {
        let loaded = self.find(window.number)?;
        loaded.window.own |= window.own;
        let in_range = window
            .blocks(from, to)
            .fold(0, |bits, (_, index)| bits | bit(index));
        for index in 0..WINDOW {
            let first = loaded.known == 0;
            let new = in_range & !loaded.known & bit(index) != 0;
            if let Some(cell) = loaded.window.cell_mut(index).filter(|_| first || new) {
                *cell = window.cell(index);
            }
        }
        loaded.known |= in_range;
        Ok(())
    }

    /// Loads the blocks from `from` to before `to`, which are not many.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn load(&mut self, from: FileBlock, to: FileBlock) -> Result<(), Error> {
        let mut windows = Windows::new(self.change.files, self.file, from, to)?;
        while let Some(window) = windows.next()? {
            self.absorb(&window, from, to)?;
        }
        // About the others there is nothing to be known.
        let mut at = from;
        while at < to {
            let (number, index) = split(at);
            let end = at.plus(WINDOW_BLOCKS.saturating_sub(index as u64)).min(to);
            let loaded = self.find(number)?;
            for n in 0..end.0.saturating_sub(at.0) {
                loaded.known |= bit(index.saturating_add(n as usize));
            }
            at = end;
        }
        Ok(())
    }

    /// A block as it is by now.
    pub(super) fn cell(&mut self, block: FileBlock) -> Result<Cell, Error> {
        let (number, index) = split(block);
        if self.find(number)?.known & bit(index) == 0 {
            let start = FileBlock(block.0.saturating_sub(index as u64));
            self.load(start, start.plus(WINDOW_BLOCKS))?;
        }
        Ok(self.find(number)?.window.cell(index))
    }

    /// What the window of a block [weighs](Window::weight) by now.
    pub(super) fn weight(&mut self, block: FileBlock) -> Result<u64, Error> {
        self.cell(block)?;
        let current = self.current();
        Ok(self.find(split(block).0)?.window.weight(current)?)
    }

    /// What the snapshot itself says of a block by now.
    pub(super) fn own(&mut self, block: FileBlock) -> Result<State, Error> {
        let current = self.current();
        Ok(self.cell(block)?.own(current))
    }

    /// Writes down what the snapshot says of a block. What it said before is the caller's business.
    fn say(&mut self, block: FileBlock, state: State) -> Result<(), Error> {
        let current = self.current();
        let (number, index) = split(block);
        let loaded = self.find(number)?;
        let newly = !loaded.changed;
        loaded.changed = true;
        let mut was = State::Nothing;
        if let Some(cell) = loaded.window.cell_mut(index) {
            was = core::mem::replace(&mut cell.state, state);
            cell.version = current;
        }
        match (was.is_hole(), state.is_hole()) {
            (true, false) => self.held = self.held.saturating_add(1),
            (false, true) => self.dropped = self.dropped.saturating_add(1),
            _ => {}
        }
        self.changed = self.changed.saturating_add(u32::from(newly));
        Ok(())
    }

    /// From now on the block is this. What it was is given back.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn put(&mut self, block: FileBlock, state: State) -> Result<(), Error> {
        let own = self.own(block)?;
        if own == state {
            return Ok(());
        }
        match own {
            State::Inline => {
                let key = inline(self.file, block).at(self.current());
                self.change.txn().remove(NAMES, key)?;
                self.items = self.items.saturating_add(1);
            }
            own => {
                let kept = state.at();
                if let Some(at) = own.at().filter(|at| Some(*at) != kept) {
                    let mounted = self.change.files.mounted;
                    let place = (at.engram, at.block);
                    if self.engrams.release(mounted, place, self.file)? {
                        self.engrams.kill(mounted, at.engram, at.block, 1)?;
                    }
                }
            }
        }
        self.say(block, state)
    }

    /// From now on the block is the same as one of this file, which lies there.
    #[inline(never)]
    pub(super) fn share(&mut self, block: FileBlock, at: At, from: InodeNo) -> Result<(), Error> {
        if self.own(block)? == State::Raw(at) {
            return Ok(());
        }
        let mounted = self.change.files.mounted;
        let place = (at.engram, at.block);
        self.engrams.share(mounted, place, (from, self.file))?;
        self.put(block, State::Raw(at))
    }

    /// Bytes of the journal that it takes, beside others, that the file does not name this any more.
    pub(super) fn weight_of(&mut self, at: At) -> Result<usize, Error> {
        let mounted = self.change.files.mounted;
        self.engrams.weight(mounted, at.engram, self.file)
    }

    /// Whether it takes blocks from the file, and gives nothing back: others have them.
    pub(super) fn frees_nothing(&self) -> bool {
        self.engrams.frees_nothing()
    }

    /// From now on the block has these bytes, in the tree.
    pub(super) fn put_inline(&mut self, block: FileBlock, bytes: &[u8]) -> Result<(), Error> {
        if self.own(block)? != State::Inline {
            self.put(block, State::Inline)?;
        }
        self.items = self.items.saturating_add(1);
        self.change.set(inline(self.file, block), &encode(bytes)?)
    }

    /// The block is a hole from now on.
    pub(super) fn put_hole(&mut self, block: FileBlock, how: Clear) -> Result<(), Error> {
        let cell = self.cell(block)?;
        let own = cell.own(self.current());
        let hidden = how == Clear::Gone || !cell.below;
        match (own, cell.state) {
            (State::Unwritten(_), _) | (State::Nothing, State::Unwritten(_))
                if how == Clear::Written =>
            {
                Ok(())
            }
            (State::Nothing | State::Hole, _) if hidden => Ok(()),
            (_, _) if hidden => self.put(block, State::Nothing),
            (State::Hole, _) => Ok(()),
            (_, _) => self.put(block, State::Hole),
        }
    }

    /// Clears blocks from `from` to before `to` for as long as there is room. Says from where on it has to go on.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn clear(
        &mut self,
        from: FileBlock,
        to: FileBlock,
        how: Clear,
    ) -> Result<Option<FileBlock>, Error> {
        let mut windows = Windows::boxed(self.change.files, self.file, from, to)?;
        while let Some(window) = windows.next()? {
            if !self.has_room(WINDOW.saturating_mul(PER_GONE)) {
                return Ok(Some(window.start().max(from)));
            }
            self.absorb(&window, from, to)?;
            for (block, _) in window.blocks(from, to) {
                if !self.has_room(0) {
                    return Ok(Some(block));
                }
                self.put_hole(block, how)?;
            }
            self.unload(window.number);
        }
        Ok(None)
    }

    /// Forgets a window if nothing in it was changed: there may be more of these than memory holds.
    pub(super) fn unload(&mut self, number: u64) {
        let at = self
            .windows
            .binary_search_by_key(&number, |l| l.window.number);
        if let Ok(at) = at {
            if self.windows.get(at).is_some_and(|l| !l.changed) {
                self.windows.remove(at);
            }
        }
    }

    /// The bytes from `from` to before `to`, of one block, become zeros.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn clear_bytes(&mut self, from: Bytes, to: Bytes) -> Result<(), Error> {
        if from >= to {
            return Ok(());
        }
        let at = FileBlock::of(from);
        let within = |byte: Bytes| byte.0.saturating_sub(at.start().0) as usize;
        let mut block = Vec::zeroed(BLOCK_SIZE)?;
        self.change.files.read_alone(self.file, at, &mut block)?;
        let zeroed = block.get_mut(within(from)..within(to)).unwrap_or_default();
        if zeroed.iter().all(|b| *b == 0) {
            return Ok(());
        }
        zeroed.fill(0);
        self.put_inline(at, &block)
    }

    /// What the snapshot has at `from` is at `to` from now on, and `from` is a hole.
    pub(super) fn shift(&mut self, from: FileBlock, to: FileBlock) -> Result<(), Error> {
        let own = self.own(from)?;
        if own.is_hole() {
            return Ok(());
        }
        if own == State::Inline {
            let (old, new) = (inline(self.file, from), inline(self.file, to));
            let value = self.change.get(old)?;
            let value = value.ok_or(Error::damaged(old, Wrong::Missing))?;
            self.put(to, State::Inline)?;
            self.change.set(new, &value)?;
            self.items = self.items.saturating_add(1);
            return self.put(from, State::Nothing);
        }
        self.put(to, own)?;
        self.say(from, State::Nothing)
    }

    /// Puts everything into the transaction.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let current = self.current();
        if self.held != self.dropped {
            self.change
                .count_blocks(self.file, self.held, self.dropped)?;
        }
        for loaded in self.windows.iter().filter(|l| l.changed) {
            let item = extents(self.file, loaded.window.start());
            let runs = loaded.window.runs(current, loaded.known)?;
            if !runs.is_empty() {
                self.change.set(item, &extent::encode(&runs)?)?;
            } else if loaded.window.own {
                self.change.txn().remove(NAMES, item.at(current))?;
            }
        }
        self.engrams.finish(self.change.txn())
    }
}

/// Whether a place follows another.
pub(super) fn follows(before: Option<At>, at: At) -> bool {
    before.is_some_and(|before| before.plus(1) == at)
}
