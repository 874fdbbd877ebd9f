// SPDX-License-Identifier: GPL-2.0

//! What the blocks of a file hold, window by window, as a snapshot sees them: each block is what the newest visible version that
//! says something about it says. Nothing here changes anything.

use super::extents;
use super::inline;
use super::WINDOW_BLOCKS;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::extent::Run;
use crate::format::extent::WINDOW;
use crate::format::node::LEAF_ENTRY;
use crate::format::snapshot::TOUCHED;
use crate::names::item::Item;
use crate::names::view::walk;
use crate::names::view::Lineage;
use crate::names::view::Moment;
use crate::names::view::Walk;
use crate::names::view::Whose;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::tree::Key;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::Vec;

/// Notes of what was touched where a window lay, and in the two that have it once it moved.
const NOTES: usize = 3;

/// A block of an engram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct At {
    pub(crate) engram: EngramId,
    pub(crate) block: usize,
}

impl At {
    /// So many blocks further on.
    pub(super) fn plus(self, blocks: usize) -> At {
        At {
            block: self.block.saturating_add(blocks),
            ..self
        }
    }
}

/// What a version says about a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Nothing.
    Nothing,
    /// It is a hole, whatever older versions say.
    Hole,
    /// It lies in the tree.
    Inline,
    /// Its place is taken; it reads as zeros.
    Unwritten(At),
    /// It lies in an engram.
    Raw(At),
}

impl State {
    /// Whether it reads as zeros and has no place.
    pub(super) fn is_hole(self) -> bool {
        matches!(self, State::Nothing | State::Hole)
    }

    /// Its place.
    pub(super) fn at(self) -> Option<At> {
        match self {
            State::Raw(at) | State::Unwritten(at) => Some(at),
            _ => None,
        }
    }
}

/// A block of a window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) state: State,
    /// Whose word that is.
    pub(super) version: SnapshotId,
    /// Whether, without the word of the snapshot itself, there might be something to be seen of its ancestors'.
    pub(super) below: bool,
}

impl Cell {
    pub(super) const NOTHING: Cell = Cell {
        state: State::Nothing,
        version: SnapshotId::NONE,
        below: false,
    };

    /// What the snapshot itself says.
    pub(super) fn own(&self, current: SnapshotId) -> State {
        match self.version == current {
            true => self.state,
            false => State::Nothing,
        }
    }

    fn hear(&mut self, version: SnapshotId, state: State, whose: Whose) {
        if self.state == State::Nothing || version > self.version {
            self.version = version;
            self.state = state;
        }
        self.below |= whose == Whose::Below && !state.is_hole();
    }
}

/// What an older version of a window says that is the snapshot's own.
pub(super) struct Layer {
    pub(super) version: SnapshotId,
    pub(super) states: Vec<State>,
    /// Whether there is an item of extents.
    pub(super) has_item: bool,
    /// Whether that is to be written anew.
    pub(super) changed: bool,
}

impl Layer {
    /// What it says of a block.
    pub(super) fn state(&self, index: usize) -> State {
        self.states.get(index).copied().unwrap_or(State::Nothing)
    }

    /// A copy.
    pub(super) fn try_clone(&self) -> Result<Self, NoMem> {
        Ok(Layer {
            states: self.states.try_clone()?,
            ..*self
        })
    }

    /// The runs of its item.
    pub(super) fn runs(&self) -> Result<Vec<Run>, NoMem> {
        let mut runs = Vec::new();
        for (n, state) in self.states.iter().enumerate() {
            push_run(&mut runs, n, *state)?;
        }
        Ok(runs)
    }
}

/// What something takes of the trees that is moved.
#[derive(Clone, Copy, Default)]
pub(super) struct Weight {
    /// Bytes of leaves, of what lies together.
    pub(super) bytes: u64,
    /// Runs of blocks that are counted from then on, as they are named more than once.
    pub(super) shared: u64,
}

impl Weight {
    /// Both of them.
    pub(super) fn plus(self, other: Weight) -> Weight {
        Weight {
            bytes: self.bytes.saturating_add(other.bytes),
            shared: self.shared.saturating_add(other.shared),
        }
    }

    /// What is left without this.
    pub(super) fn without(self, other: Weight) -> Weight {
        Weight {
            bytes: self.bytes.saturating_sub(other.bytes),
            shared: self.shared.saturating_sub(other.shared),
        }
    }
}

/// A window of a file.
pub(super) struct Window {
    pub(super) number: u64,
    cells: Vec<Cell>,
    /// What lies in the tree, by the block in the window.
    pub(super) inline: Vec<(usize, SnapshotId, Vec<u8>)>,
    /// Whether the snapshot has an item of its own for it, of the current version.
    pub(super) own: bool,
    /// What is its own of older versions, the newest first.
    pub(super) older: Vec<Layer>,
}

impl Window {
    /// A window about which nobody says anything; on the heap, as whoever has one calls deeply.
    #[inline(never)]
    pub(super) fn empty(number: u64) -> Result<Box<Self>, NoMem> {
        Box::try_new(Window {
            number,
            cells: Vec::try_from_elem(Cell::NOTHING, WINDOW)?,
            inline: Vec::new(),
            own: false,
            older: Vec::new(),
        })
    }

    /// Its first block.
    pub(super) fn start(&self) -> FileBlock {
        FileBlock(self.number.saturating_mul(WINDOW_BLOCKS))
    }

    /// A block of it, by its place in the window.
    pub(super) fn cell(&self, index: usize) -> Cell {
        self.cells.get(index).copied().unwrap_or(Cell::NOTHING)
    }

    /// A block of it, to change.
    pub(super) fn cell_mut(&mut self, index: usize) -> Option<&mut Cell> {
        self.cells.get_mut(index)
    }

    /// Its blocks from `from` to before `to`, and their places in the window.
    pub(super) fn blocks(
        &self,
        from: FileBlock,
        to: FileBlock,
    ) -> impl DoubleEndedIterator<Item = (FileBlock, usize)> + 'static {
        let start = self.start();
        let clip = |b: FileBlock| b.0.saturating_sub(start.0).min(WINDOW_BLOCKS) as usize;
        (clip(from)..clip(to)).map(move |n| (start.plus(n as u64), n))
    }

    fn hear_run(&mut self, run: Run, version: SnapshotId, whose: Whose) -> Result<bool, NoMem> {
        for n in 0..run.blocks {
            let at = At {
                engram: run.engram,
                block: run.block().saturating_add(n),
            };
            let state = match run.encoding {
                Encoding::Hole => State::Hole,
                Encoding::Raw => State::Raw(at),
                Encoding::Unwritten => State::Unwritten(at),
                _ => return Ok(false),
            };
            self.hear(run.first.saturating_add(n), state, (version, whose))?;
        }
        Ok(true)
    }

    /// A version says this about a block.
    fn hear(
        &mut self,
        index: usize,
        state: State,
        (version, whose): (SnapshotId, Whose),
    ) -> Result<(), NoMem> {
        if let Some(cell) = self.cells.get_mut(index) {
            cell.hear(version, state, whose);
        }
        if whose == Whose::Own {
            let layer = self.layer(version)?;
            if let Some(place) = layer.and_then(|layer| layer.states.get_mut(index)) {
                *place = state;
            }
        }
        Ok(())
    }

    /// What an older version that is the snapshot's own says.
    pub(super) fn layer(&mut self, version: SnapshotId) -> Result<Option<&mut Layer>, NoMem> {
        let at = self.older.partition_point(|l| l.version > version);
        if self.older.get(at).is_none_or(|l| l.version != version) {
            let layer = Layer {
                version,
                states: Vec::try_from_elem(State::Nothing, WINDOW)?,
                has_item: false,
                changed: false,
            };
            self.older.insert(at, layer)?;
        }
        Ok(self.older.get_mut(at))
    }

    /// Whether an older version that is the snapshot's own says something of a block.
    pub(super) fn has_older(&self, index: usize) -> bool {
        (self.older.iter()).any(|layer| layer.state(index) != State::Nothing)
    }

    /// What of the trees it takes, at most, wherever in the file that is moved which is seen of it: two windows have it then, and one
    /// run more. Where ancestors have something, it is hidden where it was; that is noted, and what they have is counted as named twice.
    pub(super) fn weight(&self, lineage: &Lineage) -> Result<Weight, NoMem> {
        let mut runs = self.runs(lineage.current(), u32::MAX)?.len();
        for layer in self.older.iter() {
            runs = runs.saturating_add(layer.runs()?.len());
        }
        let shared = self.inherited(lineage)?.len();
        let of_item = |runs: usize| extent::size(runs).saturating_add(LEAF_ENTRY);
        let mut bytes = match runs.saturating_add(shared) {
            0 => 0,
            runs => of_item(runs).saturating_add(of_item(1)),
        };
        if bytes != 0 && !lineage.is_alone() {
            let notes = LEAF_ENTRY
                .saturating_add(TOUCHED.len())
                .saturating_mul(NOTES);
            bytes = bytes
                .saturating_add(of_item(self.hidden()))
                .saturating_add(notes);
        }
        let is_inline = |cell: &&Cell| cell.state == State::Inline;
        let inline = self.cells.iter().filter(is_inline).count();
        let of_inline = inline.saturating_mul(LEAF_ENTRY + 1 + BLOCK_SIZE);
        Ok(Weight {
            bytes: bytes.saturating_add(of_inline) as u64,
            shared: shared as u64,
        })
    }

    /// How many holes hide what ancestors have of it, at most.
    fn hidden(&self) -> usize {
        let below = self.cells.iter().map(|cell| cell.below);
        let before = core::iter::once(false).chain(below.clone());
        below
            .zip(before)
            .filter(|(here, before)| *here && !before)
            .count()
    }

    /// Runs of what is seen of ancestors' that has a place.
    fn inherited(&self, lineage: &Lineage) -> Result<Vec<Run>, NoMem> {
        let mut runs = Vec::new();
        for (n, cell) in self.cells.iter().enumerate() {
            if matches!(cell.state, State::Raw(_)) && lineage.whose(cell.version) == Whose::Below {
                push_run(&mut runs, n, cell.state)?;
            }
        }
        Ok(runs)
    }

    /// The runs that the snapshot's own item has to list. Of blocks that are not `known` it is not known what lies below.
    pub(super) fn runs(&self, current: SnapshotId, known: u32) -> Result<Vec<Run>, NoMem> {
        let mut runs: Vec<Run> = Vec::new();
        for (n, cell) in self.cells.iter().enumerate() {
            let unknown = known.wrapping_shr(n as u32) & 1 == 0;
            let state = match cell.own(current) {
                State::Hole if !cell.below && !unknown && !self.has_older(n) => State::Nothing,
                state => state,
            };
            push_run(&mut runs, n, state)?;
        }
        Ok(runs)
    }
}

/// Adds what is to be listed of a block to the runs before it.
fn push_run(runs: &mut Vec<Run>, n: usize, state: State) -> Result<(), NoMem> {
    let (encoding, at) = match state {
        State::Raw(at) => (Encoding::Raw, Some(at)),
        State::Unwritten(at) => (Encoding::Unwritten, Some(at)),
        State::Hole => (Encoding::Hole, None),
        State::Nothing | State::Inline => return Ok(()),
    };
    let one = match at {
        Some(at) => Run::plain(n, 1, encoding, at.engram, at.block),
        None => Run::hole(n, 1),
    };
    let joined = runs.last_mut().and_then(|last| {
        let more = last.blocks.saturating_add(1);
        let longer = match at {
            Some(_) => Run::plain(last.first, more, encoding, last.engram, last.block()),
            None => Run::hole(last.first, more),
        };
        let follows = last.encoding == encoding
            && last.end() == n
            && last.engram == one.engram
            && (at.is_none() || last.block().saturating_add(last.blocks) == one.block());
        follows.then(|| *last = longer)
    });
    match joined {
        Some(()) => Ok(()),
        None => runs.push(one),
    }
}

impl<M: Machine> Files<'_, M> {
    /// How many blocks of a file hold something, in the tree, on devices, or as room.
    #[inline(never)]
    pub(crate) fn held(&self, file: InodeNo) -> Result<u64, Error> {
        let mut held = 0u64;
        let mut windows = Windows::new(*self, file, FileBlock(0), super::END)?;
        while let Some(window) = windows.next()? {
            let all = window.cells.iter().filter(|c| !c.state.is_hole()).count();
            held = held.saturating_add(all as u64);
        }
        Ok(held)
    }
}

type Head = Option<(Item, SnapshotId, Vec<u8>)>;

/// Goes through the windows of a range of a file of which anything is said, upwards. Blocks outside of the range may be there or not.
pub(super) struct Windows<'n, M> {
    files: Files<'n, M>,
    moment: Moment<'n>,
    /// What was changed of the file before: a block may come into an item that was passed, out of one that was not yet.
    changes: u64,
    file: InodeNo,
    /// What is still to be gone through.
    rest: (FileBlock, FileBlock),
    extents: Option<Walk<'n, M>>,
    inline: Option<Walk<'n, M>>,
    of_extents: Head,
    of_inline: Head,
    /// Whether nothing was looked for yet.
    is_new: bool,
}

impl<'n, M: Machine> Windows<'n, M> {
    /// The windows of the blocks from `from` to before `to`. It is on the heap: many have deep calls ahead.
    #[inline(never)]
    pub(super) fn new(
        files: Files<'n, M>,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<Box<Self>, Error> {
        let mut windows = Windows::none(files, file, (from, to))?;
        windows.begin()?;
        Ok(windows)
    }

    #[inline(never)] // It is on the stack here, and only here.
    fn none(
        files: Files<'n, M>,
        file: InodeNo,
        rest: (FileBlock, FileBlock),
    ) -> Result<Box<Self>, NoMem> {
        Box::try_new(Windows {
            files,
            moment: files.view.moment(files.mounted),
            changes: files.mounted.changes(NAMES, file.0),
            file,
            rest,
            extents: None,
            inline: None,
            of_extents: None,
            of_inline: None,
            is_new: true,
        })
    }

    fn begin(&mut self) -> Result<(), NoMem> {
        let (file, (from, to)) = (self.file, self.rest);
        (self.of_inline, self.of_extents, self.is_new) = (None, None, true);
        let Some(last) = to.0.checked_sub(1).filter(|last| *last >= from.0) else {
            (self.inline, self.extents) = (None, None);
            return Ok(());
        };
        let (last, mounted) = (FileBlock(last), self.files.mounted);
        self.inline = walk(mounted, inline(file, from).to(inline(file, last)))?;
        self.extents = walk(mounted, extents(file, from).to(extents(file, last)))?;
        Ok(())
    }

    /// The next window.
    #[allow(clippy::should_implement_trait)] // It may fail.
    pub(super) fn next(&mut self) -> Result<Option<Box<Window>>, Error> {
        loop {
            if core::mem::take(&mut self.is_new) {
                advance(&self.moment.now, &mut self.inline, &mut self.of_inline)?;
                advance(&self.moment.now, &mut self.extents, &mut self.of_extents)?;
            }
            let of_extents = self.of_extents.as_ref().map(|(item, ..)| item.sub());
            let of_inline = self.of_inline.as_ref().map(|(item, ..)| item.sub());
            let of_inline = of_inline.map(|block| block / WINDOW_BLOCKS);
            let Some(number) = of_extents.into_iter().chain(of_inline).min() else {
                // Nothing is behind, unless something went there.
                if self.lasts(None)? {
                    return Ok(None);
                }
                continue;
            };
            let mut window = Window::empty(number)?;
            let is_here = |head: &Head, of: fn(u64) -> u64| {
                head.as_ref().is_some_and(|(i, ..)| of(i.sub()) == number)
            };
            while is_here(&self.of_extents, |window| window) {
                if let Some((item, version, value)) = self.of_extents.take() {
                    let runs =
                        extent::parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
                    let whose = self.moment.now.whose(version);
                    window.own |= whose == Whose::Current;
                    if whose == Whose::Own {
                        let layer = window.layer(version)?;
                        layer.into_iter().for_each(|layer| layer.has_item = true);
                    }
                    for run in runs.iter() {
                        if !window.hear_run(run, version, whose)? {
                            return Err(Error::NotUnderstood(item));
                        }
                    }
                }
                advance(&self.moment.now, &mut self.extents, &mut self.of_extents)?;
            }
            while is_here(&self.of_inline, |block| block / WINDOW_BLOCKS) {
                if let Some((item, version, value)) = self.of_inline.take() {
                    let index = (item.sub() % WINDOW_BLOCKS) as usize;
                    window.hear(
                        index,
                        State::Inline,
                        (version, self.moment.now.whose(version)),
                    )?;
                    window.inline.push((index, version, value))?;
                }
                advance(&self.moment.now, &mut self.inline, &mut self.of_inline)?;
            }
            if self.lasts(Some(number))? {
                return Ok(Some(window));
            }
        }
    }

    /// Whether what was seen up to this window, or to the end, lacks nothing; else it begins again behind the last one that lacked nothing.
    #[inline(never)] // Its frame is on top of no other's.
    fn lasts(&mut self, number: Option<u64>) -> Result<bool, Error> {
        let (view, mounted) = (self.files.view, self.files.mounted);
        let changes = mounted.changes(NAMES, self.file.0);
        if self.changes == changes && self.moment.lasts(view, mounted) {
            let behind = number.map(|number| number.saturating_add(1));
            let behind = behind.map(|number| FileBlock(number.saturating_mul(WINDOW_BLOCKS)));
            self.rest.0 = self.rest.0.max(behind.unwrap_or_default());
            return Ok(true);
        }
        (self.changes, self.moment) = (changes, view.moment(mounted));
        self.begin()?;
        Ok(false)
    }
}

/// Finds the next item of a scan that the snapshot sees.
#[inline(never)] // Reading goes deep, so little is on the stack here.
fn advance<M: Machine>(
    now: &Lineage,
    scan: &mut Option<Walk<'_, M>>,
    head: &mut Head,
) -> Result<(), Error> {
    *head = None;
    while let Some(going) = scan {
        let next: Option<(Key, Vec<u8>)> = going.next().map_err(Fault::from)?;
        let Some((key, value)) = next else {
            *scan = None;
            break;
        };
        let (item, version) = Item::of(key);
        if now.sees(version) && !value.is_empty() {
            *head = Some((item, version, value));
            break;
        }
    }
    Ok(())
}
