// SPDX-License-Identifier: GPL-2.0

//! Where a file holds what: for SEEK_DATA, SEEK_HOLE and fiemap.

use super::inline;
use super::END;
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

impl<M: Machine> Files<'_, M> {
    /// What the file holds in the blocks from `from` to before `to`: at most `most` pieces, without gaps. What lies behind its end is
    /// told like the rest. Pieces of a kind may follow each other.
    pub fn pieces(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
        most: usize,
    ) -> Result<Vec<Piece>, Error> {
        let to = to.min(END);
        let mut found = Vec::new();
        let Some(last) = to.0.checked_sub(1).filter(|last| *last >= from.0) else {
            return Ok(found);
        };
        let last = inline(file, FileBlock(last));
        let mut items = self.view.items(self.mounted, inline(file, from), last);
        let mut at = from;
        while found.len() < most && at < to {
            let next = items.next()?.map_or(to, |(item, _)| FileBlock(item.sub()));
            if next > at {
                add(&mut found, at, next, Holds::Hole)?;
            }
            if next < to && found.len() <= most {
                add(&mut found, next, next.plus(1), Holds::Inline)?;
            }
            at = next.plus(1);
        }
        found.truncate(most);
        Ok(found)
    }
}

fn add(
    list: &mut Vec<Piece>,
    from: FileBlock,
    to: FileBlock,
    holds: Holds,
) -> Result<(), crate::error::NoMem> {
    let more = to.0.saturating_sub(from.0);
    if let Some(last) = list.last_mut().filter(|p| p.holds == holds) {
        last.blocks = Blocks(last.blocks.0.saturating_add(more));
        return Ok(());
    }
    list.push(Piece {
        at: from,
        blocks: Blocks(more),
        holds,
    })
}
