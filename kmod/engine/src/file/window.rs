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
use crate::names::item::Item;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::tree::layered::Scan;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Inside;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::Vec;

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
    /// Whether, without the word of the snapshot itself, there might be something to be seen.
    pub(super) below: bool,
}

impl Cell {
    const NOTHING: Cell = Cell {
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

    fn hear(&mut self, version: SnapshotId, state: State, current: SnapshotId) {
        let newer = self.state == State::Nothing || version > self.version;
        let (older, other) = match newer {
            true => (self.version, self.state),
            false => (version, state),
        };
        if newer {
            self.version = version;
            self.state = state;
        }
        let seen = |version, state: State| version < current && !state.is_hole();
        self.below |= seen(older, other) || seen(self.version, self.state);
    }
}

/// A window of a file.
pub(super) struct Window {
    pub(super) number: u64,
    cells: Vec<Cell>,
    /// What lies in the tree, by the block in the window.
    pub(super) inline: Vec<(usize, SnapshotId, Vec<u8>)>,
    /// Whether the snapshot has an item of its own for it.
    pub(super) own: bool,
}

impl Window {
    /// A window about which nobody says anything.
    pub(super) fn empty(number: u64) -> Result<Self, NoMem> {
        Ok(Window {
            number,
            cells: Vec::try_from_elem(Cell::NOTHING, WINDOW)?,
            inline: Vec::new(),
            own: false,
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

    fn hear_run(&mut self, run: Run, version: SnapshotId, current: SnapshotId) -> Option<()> {
        for n in 0..run.blocks {
            let at = At {
                engram: run.engram,
                block: run.block().saturating_add(n),
            };
            let state = match run.encoding {
                Encoding::Hole => State::Hole,
                Encoding::Raw => State::Raw(at),
                Encoding::Unwritten => State::Unwritten(at),
                _ => return None,
            };
            let cell = self.cells.get_mut(run.first.saturating_add(n))?;
            cell.hear(version, state, current);
        }
        Some(())
    }

    /// Bytes of leaves that what the snapshot itself says of it takes, at most, wherever in the file that is moved: two windows have it
    /// then, and one run more.
    pub(super) fn weight(&self, current: SnapshotId) -> Result<u64, NoMem> {
        let runs = self.runs(current, u32::MAX)?.len();
        let of_runs = match runs {
            0 => 0,
            runs => extent::size(runs)
                .saturating_add(extent::size(1))
                .saturating_add(LEAF_ENTRY * 2),
        };
        let is_inline = |cell: &&Cell| cell.own(current) == State::Inline;
        let inline = self.cells.iter().filter(is_inline).count();
        let of_inline = inline.saturating_mul(LEAF_ENTRY + 1 + BLOCK_SIZE);
        Ok(of_runs.saturating_add(of_inline) as u64)
    }

    /// The runs that the snapshot's own item has to list. Of blocks that are not `known` it is not known what lies below.
    pub(super) fn runs(&self, current: SnapshotId, known: u32) -> Result<Vec<Run>, NoMem> {
        let mut runs: Vec<Run> = Vec::new();
        for (n, cell) in self.cells.iter().enumerate() {
            let unknown = known.wrapping_shr(n as u32) & 1 == 0;
            let (encoding, at) = match cell.own(current) {
                State::Raw(at) => (Encoding::Raw, Some(at)),
                State::Unwritten(at) => (Encoding::Unwritten, Some(at)),
                State::Hole if cell.below || unknown => (Encoding::Hole, None),
                _ => continue,
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
            if joined.is_none() {
                runs.push(one)?;
            }
        }
        Ok(runs)
    }
}

/// A scan, which is too large for a stack.
type Walk<'n, M> = Box<Scan<'n, Inside<M>>>;
type Head = Option<(Item, SnapshotId, Vec<u8>)>;

/// Goes through the windows of a range of a file of which anything is said, upwards. Blocks outside of the range may be there or not.
pub(super) struct Windows<'n, M> {
    files: Files<'n, M>,
    extents: Option<Walk<'n, M>>,
    inline: Option<Walk<'n, M>>,
    of_extents: Head,
    of_inline: Head,
}

impl<'n, M: Machine> Windows<'n, M> {
    /// The windows of the blocks from `from` to before `to`.
    pub(super) fn new(
        files: Files<'n, M>,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<Self, Error> {
        let mounted = files.mounted;
        let mut windows = Windows {
            files,
            extents: None,
            inline: None,
            of_extents: None,
            of_inline: None,
        };
        if let Some(last) = to.0.checked_sub(1).filter(|last| *last >= from.0) {
            let last = FileBlock(last);
            let of_extents = extents(file, from).to(extents(file, last));
            // Inline first: what becomes raw meanwhile is seen as one or the other.
            windows.inline = walk(mounted, inline(file, from).to(inline(file, last)))?;
            windows.extents = walk(mounted, of_extents)?;
            advance(files, &mut windows.inline, &mut windows.of_inline)?;
            advance(files, &mut windows.extents, &mut windows.of_extents)?;
        }
        Ok(windows)
    }

    /// The same on the heap, for who has deep calls ahead.
    #[inline(never)]
    pub(super) fn boxed(
        files: Files<'n, M>,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<Box<Self>, Error> {
        Ok(Box::try_new(Windows::new(files, file, from, to)?)?)
    }

    /// The next window.
    #[allow(clippy::should_implement_trait)] // It may fail.
    pub(super) fn next(&mut self) -> Result<Option<Window>, Error> {
        let current = self.files.view.current();
        let of_extents = self.of_extents.as_ref().map(|(item, ..)| item.sub());
        let of_inline = self.of_inline.as_ref().map(|(item, ..)| item.sub());
        let of_inline = of_inline.map(|block| block / WINDOW_BLOCKS);
        let Some(number) = of_extents.into_iter().chain(of_inline).min() else {
            return Ok(None);
        };
        let mut window = Window::empty(number)?;
        let is_here = |head: &Head, of: fn(u64) -> u64| {
            head.as_ref().is_some_and(|(i, ..)| of(i.sub()) == number)
        };
        while is_here(&self.of_extents, |window| window) {
            if let Some((item, version, value)) = self.of_extents.take() {
                let runs = extent::parse(&value).ok_or(Error::damaged(item, Wrong::Senseless))?;
                window.own |= version == current;
                for run in runs.iter() {
                    let heard = window.hear_run(run, version, current);
                    heard.ok_or(Error::NotUnderstood(item))?;
                }
            }
            advance(self.files, &mut self.extents, &mut self.of_extents)?;
        }
        while is_here(&self.of_inline, |block| block / WINDOW_BLOCKS) {
            if let Some((item, version, value)) = self.of_inline.take() {
                let index = (item.sub() % WINDOW_BLOCKS) as usize;
                if let Some(cell) = window.cells.get_mut(index) {
                    cell.hear(version, State::Inline, current);
                }
                window.inline.push((index, version, value))?;
            }
            advance(self.files, &mut self.inline, &mut self.of_inline)?;
        }
        Ok(Some(window))
    }
}

#[inline(never)] // The scan is on the stack here, and only here.
fn walk<M: Machine>(mounted: &Mounted<M>, range: Range) -> Result<Option<Walk<'_, M>>, NoMem> {
    match mounted.scan(NAMES, range) {
        Some(scan) => Box::try_new(scan).map(Some),
        None => Ok(None),
    }
}

/// Finds the next item of a scan that the snapshot sees.
#[inline(never)] // Reading goes deep, so little is on the stack here.
fn advance<M: Machine>(
    files: Files<'_, M>,
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
        if files.view.sees(version) && !value.is_empty() {
            *head = Some((item, version, value));
            break;
        }
    }
    Ok(())
}
