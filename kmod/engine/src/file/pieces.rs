// SPDX-License-Identifier: GPL-2.0

//! Where a file holds what: for SEEK_DATA, SEEK_HOLE and fiemap.

use super::window::State;
use super::window::Windows;
use super::END;
use crate::error::NoMem;
use crate::format::intent::Intent;
use crate::names::Error;
use crate::names::Files;
use crate::units::Blocks;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::volume::mounted::Machine;
use embr_rt::Vec;

/// What blocks of a file hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holds {
    /// Nothing; they read as zeros.
    Hole,
    /// Nothing yet; they read as zeros, and their places are taken.
    Unwritten,
    /// Bytes that lie in the tree.
    Inline,
    /// Bytes in an engram.
    Raw,
}

/// Blocks of a file that follow each other and hold the same kind of thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The first of them.
    pub at: FileBlock,
    /// How many they are.
    pub blocks: Blocks,
    /// What they hold.
    pub holds: Holds,
}

impl From<State> for Holds {
    fn from(state: State) -> Self {
        match state {
            State::Nothing | State::Hole => Holds::Hole,
            State::Inline => Holds::Inline,
            State::Unwritten(_) => Holds::Unwritten,
            State::Raw(_) => Holds::Raw,
        }
    }
}

/// Pieces as they are found, neighbours of one kind joined.
struct Found {
    pieces: Vec<Piece>,
    most: usize,
    at: FileBlock,
}

impl Found {
    /// What lies up to before `to`. Says whether there may be more.
    fn add(&mut self, to: FileBlock, holds: Holds) -> Result<bool, NoMem> {
        let more = to.0.saturating_sub(self.at.0);
        if more == 0 {
            return Ok(true);
        }
        let full = self.pieces.len() >= self.most;
        match self.pieces.last_mut().filter(|p| p.holds == holds) {
            Some(last) => last.blocks = Blocks(last.blocks.0.saturating_add(more)),
            None if full => return Ok(false),
            None => self.pieces.push(Piece {
                at: self.at,
                blocks: Blocks(more),
                holds,
            })?,
        }
        self.at = to;
        Ok(true)
    }
}

impl<M: Machine> Files<'_, M> {
    /// What the file holds in the blocks from `from` to before `to`: at most `most` pieces, without gaps. What lies behind its end is
    /// told like the rest.
    pub fn pieces(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        most: usize,
    ) -> Result<Vec<Piece>, Error> {
        self.steady(file, |intent| {
            self.pieces_with(intent, file, (from, to), most)
        })
    }

    /// As [`Self::pieces`], for who takes it for granted that nothing is being done with the file, as what would say it is lost.
    pub fn pieces_alone(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        most: usize,
    ) -> Result<Vec<Piece>, Error> {
        self.pieces_with(None, file, (from, to), most)
    }

    #[inline(never)]
    fn pieces_with(
        &self,
        intent: Option<Intent>,
        file: InodeNo,
        (from, to): (FileBlock, FileBlock),
        most: usize,
    ) -> Result<Vec<Piece>, Error> {
        let to = to.min(END);
        let mut found = Found {
            pieces: Vec::new(),
            most,
            at: from,
        };
        let mut at = from;
        while at < to {
            let (stored, blocks) = match &intent {
                Some(intent) => intent.stored(at),
                None => (Some(at), u64::MAX),
            };
            let end = at.plus(blocks).min(to);
            let going = match stored {
                Some(stored) => self.pieces_stored(file, stored, end, &mut found)?,
                None => found.add(end, Holds::Hole)?,
            };
            if !going {
                break;
            }
            at = end;
        }
        Ok(found.pieces)
    }

    /// Adds what lies up to before `to`, of which the first block is stored as this one.
    fn pieces_stored(
        &self,
        file: InodeNo,
        stored: FileBlock,
        to: FileBlock,
        found: &mut Found,
    ) -> Result<bool, Error> {
        let begin = found.at;
        let told = |block: FileBlock| begin.plus(block.0.saturating_sub(stored.0));
        let last = stored.plus(to.0.saturating_sub(begin.0)).min(END);
        let mut windows = Windows::new(*self, file, stored, last)?;
        while let Some(window) = windows.next()? {
            for (block, index) in window.blocks(stored, last) {
                let holds = window.cell(index).state.into();
                let before = found.add(told(block), Holds::Hole)?;
                if !before || !found.add(told(block.plus(1)), holds)? {
                    return Ok(false);
                }
            }
        }
        Ok(found.add(to, Holds::Hole)?)
    }
}
