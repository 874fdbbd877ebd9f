// SPDX-License-Identifier: GPL-2.0

//! What versions of a file's windows hold that are a snapshot's own, for who counts it; and which blocks hold the same in two snapshots.

use super::window::Cell;
use super::window::State;
use super::window::Window;
use super::window::Windows;
use super::END;
use super::WINDOW_BLOCKS;
use crate::format::extent::WINDOW;
use crate::names::Error;
use crate::names::Files;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Machine;
use embr_rt::Box;

/// A block of an engram; none of one that lies in the tree.
pub(crate) type Held = Option<(EngramId, usize)>;

/// The blocks of the windows from one to another.
fn range((first, last): (u64, u64)) -> (FileBlock, FileBlock) {
    let block = |window: u64| FileBlock(window.saturating_mul(WINDOW_BLOCKS)).min(END);
    (block(first), block(last.saturating_add(1)))
}

/// Tells of each block that own versions hold in the windows from one to another; where what is seen `stays`, not of that.
#[inline(never)]
pub(crate) fn each<M: Machine>(
    files: Files<'_, M>,
    file: InodeNo,
    span: (u64, u64),
    stays: bool,
    each: &mut dyn FnMut(Held) -> Result<(), Error>,
) -> Result<(), Error> {
    let (from, to) = range(span);
    let current = files.view.current();
    let mut windows = Windows::new(files, file, from, to)?;
    while let Some(window) = windows.next()? {
        of_window(&window, current, stays, each)?;
    }
    Ok(())
}

fn of_window(
    window: &Window,
    current: SnapshotId,
    stays: bool,
    each: &mut dyn FnMut(Held) -> Result<(), Error>,
) -> Result<(), Error> {
    for index in 0..WINDOW {
        let newest = window.cell(index).own(current);
        let older = window.older.iter().map(|layer| layer.state(index));
        let mut words = core::iter::once(newest)
            .chain(older)
            .filter(|state| *state != State::Nothing);
        if stays {
            words.next();
        }
        for state in words {
            match state {
                State::Inline => each(None)?,
                state => {
                    let at = state.at();
                    at.map_or(Ok(()), |at| each(Some((at.engram, at.block))))?;
                }
            }
        }
    }
    Ok(())
}

/// Blocks that follow each other and are not the same.
struct Run<'r> {
    at: FileBlock,
    blocks: u64,
    each: &'r mut dyn FnMut(FileBlock, Blocks) -> Result<(), Error>,
}

impl Run<'_> {
    fn add(&mut self, block: FileBlock) -> Result<(), Error> {
        if self.at.plus(self.blocks) != block {
            self.end()?;
            self.at = block;
        }
        self.blocks = self.blocks.saturating_add(1);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        match core::mem::take(&mut self.blocks) {
            0 => Ok(()),
            blocks => (self.each)(self.at, Blocks(blocks)),
        }
    }
}

/// Whether a block holds the same in both, as far as where it lies tells.
fn is_same(old: Cell, new: Cell) -> bool {
    let is_zero = |state: State| state.is_hole() || matches!(state, State::Unwritten(_));
    match (old.state, new.state) {
        // One item, or another.
        (State::Inline, State::Inline) => old.version == new.version,
        (old, new) if is_zero(old) => is_zero(new),
        (old, new) => old == new,
    }
}

/// Tells which blocks of these windows are not the same in two views; the first may have nothing of the file.
#[inline(never)]
pub(crate) fn differing<M: Machine>(
    (old, new): (Option<Files<'_, M>>, Files<'_, M>),
    file: InodeNo,
    span: (u64, u64),
    each: &mut dyn FnMut(FileBlock, Blocks) -> Result<(), Error>,
) -> Result<(), Error> {
    let (from, to) = range(span);
    let mut of_old = old
        .map(|old| Windows::new(old, file, from, to))
        .transpose()?;
    let mut next_old = || of_old.as_mut().map_or(Ok(None), |windows| windows.next());
    let mut of_new = Windows::new(new, file, from, to)?;
    let (mut old, mut new) = (next_old()?, of_new.next()?);
    let mut run = Run {
        at: from,
        blocks: 0,
        each,
    };
    loop {
        let number = |window: &Option<Box<Window>>| window.as_ref().map(|w| w.number);
        let Some(next) = number(&old).into_iter().chain(number(&new)).min() else {
            return run.end();
        };
        let here = |window: &Option<Box<Window>>, index| {
            let window = window.as_ref().filter(|w| w.number == next);
            window.map_or(Cell::NOTHING, |w| w.cell(index))
        };
        for (block, index) in Window::empty(next)?.blocks(from, to) {
            if !is_same(here(&old, index), here(&new, index)) {
                run.add(block)?;
            }
        }
        if number(&old) == Some(next) {
            old = next_old()?;
        }
        if number(&new) == Some(next) {
            new = of_new.next()?;
        }
    }
}
