// SPDX-License-Identifier: GPL-2.0

//! Changing what blocks of a file hold, within one transaction: windows are loaded, their blocks changed in memory, and each
//! item written once at the end. What nothing refers to any more is given back.

use super::clone::PER_SHARED;
use super::extents;
use super::inline;
use super::window::At;
use super::window::Cell;
use super::window::Layer;
use super::window::State;
use super::window::Weight;
use super::window::Window;
use super::window::Windows;
use super::WINDOW_BLOCKS;
use crate::engram::Edits;
use crate::format::extent;
use crate::format::extent::WINDOW;
use crate::format::inline::encode;
use crate::format::inline::parse;
use crate::names::change::Change;
use crate::names::item::Item;
use crate::names::view::Whose;
use crate::names::Error;
use crate::names::Wrong;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Box;
use embr_rt::Vec;

/// Bytes of the journal that a window's item takes, at most, and what says that it was touched.
pub(super) const PER_WINDOW: usize = 880;
/// Bytes of the journal that a run of blocks takes that dies, at most.
pub(super) const PER_DEAD: usize = 450;
/// Bytes of the journal that a block in the tree takes that moves.
const PER_INLINE: usize = BLOCK_SIZE + 64 + PER_GONE;
/// Bytes of the journal that an item takes that is gone.
pub(crate) const PER_GONE: usize = 40;
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
    /// What nobody sees for newer versions of one's own: what can be seen stays.
    Hidden,
}

struct Loaded {
    window: Box<Window>,
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
    /// Whether nobody sees what it changes, so that nothing is counted.
    is_unseen: bool,
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
            is_unseen: false,
        }
    }

    /// The same, of what nobody sees: no inode is changed.
    pub(crate) fn unseen(self) -> Self {
        Edit {
            is_unseen: true,
            ..self
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
        self.change.lineage.current()
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
        let is_first = loaded.known == 0;
        let in_range = window
            .blocks(from, to)
            .fold(0, |bits, (_, index)| bits | bit(index));
        for index in 0..WINDOW {
            let new = in_range & !loaded.known & bit(index) != 0;
            if let Some(cell) = (loaded.window.cell_mut(index)).filter(|_| is_first || new) {
                *cell = window.cell(index);
            }
        }
        if is_first {
            loaded.window.older.clear();
            for layer in window.older.iter() {
                loaded.window.older.push(layer.try_clone()?)?;
            }
        } else {
            // What items of extents say is known already.
            let new = in_range & !loaded.known;
            for layer in window.older.iter() {
                for index in (0..WINDOW).filter(|n| new & bit(*n) != 0) {
                    if layer.state(index) != State::Inline {
                        continue;
                    }
                    let known = loaded.window.layer(layer.version)?;
                    if let Some(state) = known.and_then(|l| l.states.get_mut(index)) {
                        *state = State::Inline;
                    }
                }
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
    pub(super) fn weight(&mut self, block: FileBlock) -> Result<Weight, Error> {
        self.cell(block)?;
        let (number, _) = split(block);
        let loaded = self.windows.iter().find(|l| l.window.number == number);
        let weight = loaded.map(|l| l.window.weight(&self.change.lineage));
        Ok(weight.transpose()?.unwrap_or_default())
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

    /// Whether an older version that is the snapshot's own says something of a block.
    fn has_older(&mut self, block: FileBlock) -> Result<bool, Error> {
        self.cell(block)?;
        let (number, index) = split(block);
        Ok(self.find(number)?.window.has_older(index))
    }

    /// What the snapshot itself says of a block by now, in this of its own versions, the newest first; nothing if that says nothing, or
    /// there are not so many.
    pub(super) fn said(
        &mut self,
        block: FileBlock,
        version: usize,
    ) -> Result<Option<State>, Error> {
        let own = self.own(block)?;
        let Some(older) = version.checked_sub(1) else {
            return Ok(Some(own));
        };
        let (number, index) = split(block);
        let layer = self.find(number)?.window.older.get(older);
        Ok(layer.map(|layer| layer.state(index)))
    }

    /// Bytes of the journal that the items of a block's window take, at most.
    pub(super) fn price(&mut self, block: FileBlock) -> Result<usize, Error> {
        self.cell(block)?;
        let older = self.find(split(block).0)?.window.older.len();
        Ok(PER_WINDOW.saturating_mul(older.saturating_add(1)))
    }

    /// Of older versions that are the snapshot's own, only the newest says something of a block from now on: the others go, the oldest
    /// first, as many as there is room for. Says whether that was all. Nobody sees them, and there may be any number.
    #[inline(never)]
    pub(super) fn thin(&mut self, block: FileBlock) -> Result<bool, Error> {
        self.cell(block)?;
        let (number, index) = split(block);
        loop {
            let layers = self.find(number)?.window.older.iter().enumerate();
            let mut here = layers.filter(|(_, l)| l.state(index) != State::Nothing);
            here.next();
            let Some((oldest, _)) = here.last() else {
                return Ok(true);
            };
            if !self.has_room(0) {
                return Ok(false);
            }
            self.cut(block, oldest, false)?;
        }
    }

    /// An older version that is the snapshot's own says nothing of a block any more. What it named is given back if it is not `spared`.
    #[inline(never)]
    fn cut(&mut self, block: FileBlock, layer: usize, spared: bool) -> Result<(), Error> {
        let (number, index) = split(block);
        let of_tree = inline(self.file, block);
        let loaded = self.find(number)?;
        let Some(layer) = loaded.window.older.get_mut(layer) else {
            return Ok(());
        };
        let Some(state) = layer.states.get_mut(index) else {
            return Ok(());
        };
        let was = core::mem::replace(state, State::Nothing);
        if was == State::Inline {
            let key = of_tree.at(layer.version);
            self.change.txn().remove(NAMES, key)?;
            self.items = self.items.saturating_add(1);
            return Ok(());
        }
        let newly = !core::mem::replace(&mut layer.changed, true);
        loaded.changed = true;
        self.changed = self.changed.saturating_add(u32::from(newly));
        match was.at().filter(|_| !spared) {
            Some(at) => self.release(at),
            None => Ok(()),
        }
    }

    /// Older versions that are the snapshot's own say nothing of a block any more. What they named is given back, but for what the
    /// newest of them said if that is `spared`; that stays if it is `kept`.
    #[inline(never)]
    fn cut_older(
        &mut self,
        block: FileBlock,
        (spared, kept): (bool, bool),
    ) -> Result<State, Error> {
        let (number, index) = split(block);
        let mut newest = State::Nothing;
        let count = self.find(number)?.window.older.len();
        for n in 0..count {
            let layer = self.find(number)?.window.older.get(n);
            let was = layer.map_or(State::Nothing, |layer| layer.state(index));
            let is_newest = newest == State::Nothing;
            newest = if is_newest { was } else { newest };
            if was != State::Nothing && !(kept && is_newest) {
                self.cut(block, n, spared && is_newest)?;
            }
        }
        Ok(newest)
    }

    /// The file does not name a block any more.
    fn release(&mut self, at: At) -> Result<(), Error> {
        let mounted = self.change.files.mounted;
        let place = (at.engram, at.block);
        if self.engrams.release(mounted, place, self.file)? {
            self.engrams.kill(mounted, at.engram, at.block, 1)?;
        }
        Ok(())
    }

    /// Gives back what the snapshot says of a block beside what can be seen, and what says nothing that would not be so without it.
    #[inline(never)]
    fn settle(&mut self, block: FileBlock) -> Result<(), Error> {
        let cell = self.cell(block)?;
        let own = cell.own(self.current());
        let newest = self.cut_older(block, (false, own == State::Nothing))?;
        if cell.below {
            return Ok(());
        }
        match (own, newest) {
            (State::Hole, _) => self.say(block, State::Nothing),
            (State::Nothing, State::Hole) => self.cut_older(block, (false, false)).map(drop),
            _ => Ok(()),
        }
    }

    /// From now on the block is this. What it was is given back.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn put(&mut self, block: FileBlock, state: State) -> Result<(), Error> {
        let own = self.own(block)?;
        let has_older = self.has_older(block)?;
        if own == state && !has_older {
            return Ok(());
        }
        if has_older {
            self.cut_older(block, (false, false))?;
        }
        match own {
            State::Inline if state == State::Inline => {}
            State::Inline => {
                let key = inline(self.file, block).at(self.current());
                self.change.txn().remove(NAMES, key)?;
                self.items = self.items.saturating_add(1);
            }
            own => {
                let kept = state.at();
                if let Some(at) = own.at().filter(|at| Some(*at) != kept) {
                    self.release(at)?;
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
        let policy = self.change.inode(self.file)?.policy;
        if self.change.files.is_weak(at.engram, policy)? {
            return Err(Error::Weak(at.engram));
        }
        let place = (at.engram, at.block);
        self.engrams.share(mounted, place, (from, self.file))?;
        self.put(block, State::Raw(at))
    }

    /// Bytes of the journal that it takes, beside others, that the file does not name this any more.
    pub(super) fn weight_of(&mut self, at: At) -> Result<usize, Error> {
        let mounted = self.change.files.mounted;
        self.engrams.weight(mounted, at.engram, self.file)
    }

    /// Whether it changes nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.changed == 0 && self.items == 0 && self.engrams.items() == 0
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
        self.change
            .set_part(inline(self.file, block), &encode(bytes)?)
    }

    /// The block is a hole from now on.
    pub(super) fn put_hole(&mut self, block: FileBlock, how: Clear) -> Result<(), Error> {
        let cell = self.cell(block)?;
        let own = cell.own(self.current());
        let hidden = how == Clear::Gone || !cell.below;
        let has_older = self.has_older(block)?;
        match (own, cell.state) {
            (State::Unwritten(_), _) | (State::Nothing, State::Unwritten(_))
                if how == Clear::Written =>
            {
                Ok(())
            }
            (State::Hole, _) if self.is_unseen => self.put(block, State::Nothing),
            (State::Nothing | State::Hole, _) if hidden && !has_older => Ok(()),
            (_, _) if hidden => self.put(block, State::Nothing),
            (State::Hole, _) if !has_older => Ok(()),
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
        let mut windows = Windows::new(self.change.files, self.file, from, to)?;
        while let Some(window) = windows.next()? {
            if !self.has_room(WINDOW.saturating_mul(PER_GONE)) {
                return Ok(Some(window.start().max(from)));
            }
            self.absorb(&window, from, to)?;
            for (block, _) in window.blocks(from, to) {
                if !self.has_room(0) || !self.thin(block)? {
                    return Ok(Some(block));
                }
                match how {
                    Clear::Hidden => self.settle(block)?,
                    how => self.put_hole(block, how)?,
                }
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

    /// What the snapshot sees at `from` is at `to` from now on, and `from` is a hole.
    #[inline(never)]
    pub(super) fn shift(&mut self, from: FileBlock, to: FileBlock) -> Result<(), Error> {
        let cell = self.cell(from)?;
        let own = cell.state;
        if own.is_hole() {
            return Ok(());
        }
        if self.change.lineage.whose(cell.version) == Whose::Below {
            return self.shift_shared(from, to, own);
        }
        // What ancestors have there stays hidden.
        let gone = match cell.below {
            true => State::Hole,
            false => State::Nothing,
        };
        if own == State::Inline {
            let (old, new) = (inline(self.file, from), inline(self.file, to));
            let value = self.change.get(old)?;
            let value = value.ok_or(Error::damaged(old, Wrong::Missing))?;
            self.put(to, State::Inline)?;
            self.change.set_part(new, &value)?;
            self.items = self.items.saturating_add(1);
            return self.put(from, gone);
        }
        self.put(to, own)?;
        let is_older = self.own(from)? == State::Nothing;
        self.cut_older(from, (is_older, false))?;
        self.say(from, gone)
    }

    /// The same, of what an ancestor has, which keeps it where it is: its place is named twice then. Where a place was only set aside, a
    /// hole is as good.
    #[inline(never)]
    fn shift_shared(&mut self, from: FileBlock, to: FileBlock, state: State) -> Result<(), Error> {
        match state {
            State::Raw(at) => {
                let mounted = self.change.files.mounted;
                let both = (self.file, self.file);
                self.engrams.share(mounted, (at.engram, at.block), both)?;
                self.put(to, state)?;
            }
            State::Inline => {
                let old = inline(self.file, from);
                let bad = |wrong| Error::damaged(old, wrong);
                let value = self.change.get(old)?.ok_or(bad(Wrong::Missing))?;
                let bytes = parse(&value).ok_or(bad(Wrong::Senseless))?;
                self.put_inline(to, bytes)?;
            }
            State::Nothing | State::Hole | State::Unwritten(_) => {}
        }
        self.put_hole(from, Clear::All)
    }

    /// Bytes of the journal that it takes to move a block, at most.
    pub(super) fn price_of_move(&self, cell: &Cell) -> usize {
        let is_shared = self.change.lineage.whose(cell.version) == Whose::Below;
        let item = match cell.state {
            State::Inline => PER_INLINE,
            State::Raw(_) if is_shared => PER_SHARED,
            _ => 0,
        };
        item.saturating_add(PER_WINDOW * 2)
    }

    /// Puts everything into the transaction.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        self.count()?;
        self.put_windows()?;
        self.engrams.finish(self.change.txn())
    }

    #[inline(never)] // Looking up the inode goes deep.
    fn count(&mut self) -> Result<(), Error> {
        if self.held == self.dropped || self.is_unseen {
            return Ok(());
        }
        self.change.count_blocks(self.file, self.held, self.dropped)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn put_windows(&mut self) -> Result<(), Error> {
        let current = self.current();
        for loaded in self.windows.iter().filter(|l| l.changed) {
            let item = extents(self.file, loaded.window.start());
            let runs = loaded.window.runs(current, loaded.known)?;
            if !runs.is_empty() {
                self.change.set_part(item, &extent::encode(&runs)?)?;
            } else if loaded.window.own {
                self.change.txn().remove(NAMES, item.at(current))?;
            }
            for layer in loaded.window.older.iter().filter(|l| l.changed) {
                put_layer(self.change, item, layer)?;
            }
        }
        Ok(())
    }
}

/// Writes what an older version says of a window.
#[inline(never)]
fn put_layer<M: Machine>(
    change: &mut Change<'_, M>,
    item: Item,
    layer: &Layer,
) -> Result<(), Error> {
    let runs = layer.runs()?;
    let key = item.at(layer.version);
    if !runs.is_empty() {
        change.txn().set(NAMES, key, &extent::encode(&runs)?)?;
    } else if layer.has_item {
        change.txn().remove(NAMES, key)?;
    }
    Ok(())
}

/// Whether a place follows another.
pub(super) fn follows(before: Option<At>, at: At) -> bool {
    before.is_some_and(|before| before.plus(1) == at)
}
