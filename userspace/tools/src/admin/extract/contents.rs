// SPDX-License-Identifier: GPL-2.0

//! What a file holds, in order and in pieces of bounded size: the bytes that can be had, verified, and the ranges that cannot. What is in
//! neither is a hole.

use super::source::judge;
use super::source::Source;
use crate::failure::Failure;
use embr_engine::file::Holds;
use embr_engine::file::Piece;
use embr_engine::format::extent;
use embr_engine::names::Error;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Machine;
use std::io;
use std::ops::Range;

/// Blocks that are read at a time.
pub(super) const CHUNK: usize = 256;
/// Pieces that are asked for at a time.
const PIECES: usize = 256;
const WINDOW: u64 = extent::WINDOW as u64;

/// Why it does not go on.
pub(super) enum Halt {
    /// Nothing can be read any more.
    End(Failure),
    /// Who takes the bytes does not.
    Target(io::Error),
}

impl From<Failure> for Halt {
    fn from(why: Failure) -> Self {
        Halt::End(why)
    }
}

/// Who gets what a file holds.
pub(super) trait Taker {
    /// These bytes are there.
    fn take(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// What was in this range is lost. Ranges that follow each other are told as one.
    fn lost(&mut self, range: Range<u64>, why: &Error);
    /// It is not known whether something larger was being done with the file, so that what is there may be what it held before.
    fn unsettled(&mut self);
}

/// Ranges that are lost, joined.
struct Losses {
    size: u64,
    open: Option<(Range<u64>, Error)>,
}

impl Losses {
    fn add(&mut self, from: FileBlock, to: FileBlock, why: Error, taker: &mut dyn Taker) {
        let range = from.start().0..to.start().0.min(self.size);
        match &mut self.open {
            Some((open, _)) if open.end == range.start => open.end = range.end,
            _ => {
                self.tell(taker);
                self.open = Some((range, why));
            }
        }
    }

    fn tell(&mut self, taker: &mut dyn Taker) {
        if let Some((range, why)) = self.open.take() {
            taker.lost(range, &why);
        }
    }
}

/// A file that is being read.
struct Reader<'r, 's, M> {
    source: &'r Source<'s, M>,
    file: InodeNo,
    size: u64,
    /// Something is being done with it that moves blocks.
    is_moving: bool,
    /// What would say so is lost.
    is_unsettled: bool,
    losses: Losses,
}

/// The block behind the last one of the window that this one is in.
fn behind_window(block: FileBlock) -> FileBlock {
    FileBlock((block.0 / WINDOW).saturating_add(1).saturating_mul(WINDOW))
}

impl<M: Machine> Reader<'_, '_, M> {
    fn pieces(
        &self,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<Result<embr_rt::Vec<Piece>, Error>, Failure> {
        let files = self.source.files;
        judge(match self.is_unsettled {
            true => files.pieces_alone(self.file, from, to, PIECES),
            false => files.pieces(self.file, from, to, PIECES),
        })
    }

    fn read(&self, at: FileBlock, into: &mut [u8]) -> Result<Result<(), Error>, Failure> {
        let files = self.source.files;
        judge(match self.is_unsettled {
            true => files.read_alone(self.file, at, into),
            false => files.read(self.file, at, into),
        })
    }

    /// Where blocks of which nothing is known end that begin with this one: what lies behind may be known or not.
    fn blind_until(&self, at: FileBlock, end: FileBlock) -> Result<FileBlock, Failure> {
        if self.is_moving {
            return Ok(end);
        }
        let runs = self.lost_until(Kind::EXTENTS, at.0 / WINDOW)?;
        let inline = self.lost_until(Kind::INLINE, at.0)?;
        let runs = runs.map(|window| window.saturating_mul(WINDOW));
        let until = runs.max(inline).unwrap_or(0);
        Ok(FileBlock(until).max(behind_window(at)).min(end))
    }

    /// If the item of the file at this place is lost with a node: up to which one others are.
    fn lost_until(&self, kind: Kind, place: u64) -> Result<Option<u64>, Failure> {
        let first = Item::new(self.file, kind, place);
        let range = first.to(Item::new(self.file, kind, u64::MAX));
        let Some(mut scan) = self.source.mounted.scan(NAMES, range) else {
            return Ok(None);
        };
        if scan.next().is_ok() {
            return Ok(None);
        }
        Ok(scan.lost().map(|keys| {
            let (item, _) = Item::of(keys.last);
            match item.owner() == self.file && item.kind() == kind {
                true => item.sub(),
                false => u64::MAX,
            }
        }))
    }

    /// Gives out what blocks hold that lie together, one by one where they cannot be had at once.
    fn give(
        &mut self,
        from: FileBlock,
        to: FileBlock,
        buffer: &mut [u8],
        taker: &mut dyn Taker,
    ) -> Result<(), Halt> {
        let mut at = from;
        while at < to {
            let blocks = (to.0.saturating_sub(at.0)).min(CHUNK as u64);
            let next = at.plus(blocks);
            match self.give_some(at, blocks as usize, buffer, taker)? {
                Ok(()) => {}
                Err(why) if blocks == 1 => self.losses.add(at, next, why, taker),
                Err(_) => {
                    for block in (at.0..next.0).map(FileBlock) {
                        if let Err(why) = self.give_some(block, 1, buffer, taker)? {
                            self.losses.add(block, block.plus(1), why, taker);
                        }
                    }
                }
            }
            at = next;
        }
        Ok(())
    }

    fn give_some(
        &self,
        at: FileBlock,
        blocks: usize,
        buffer: &mut [u8],
        taker: &mut dyn Taker,
    ) -> Result<Result<(), Error>, Halt> {
        let length = blocks.saturating_mul(BLOCK_SIZE);
        let into = buffer.get_mut(..length).unwrap_or_default();
        if let Err(why) = self.read(at, into)? {
            return Ok(Err(why));
        }
        let at = at.start().0;
        let inside = usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX);
        let bytes = into.get(..inside.min(length)).unwrap_or_default();
        taker.take(at, bytes).map_err(Halt::Target)?;
        Ok(Ok(()))
    }

    /// A window of which not all is known: block by block. Says whether anything is.
    fn window(
        &mut self,
        from: FileBlock,
        to: FileBlock,
        buffer: &mut [u8],
        taker: &mut dyn Taker,
    ) -> Result<bool, Halt> {
        let mut is_any_known = false;
        for block in (from.0..to.0).map(FileBlock) {
            let next = block.plus(1);
            match self.pieces(block, next)? {
                Ok(pieces) => {
                    is_any_known = true;
                    if pieces.iter().any(is_there) {
                        self.give(block, next, buffer, taker)?;
                    }
                }
                Err(why) => self.losses.add(block, next, why, taker),
            }
        }
        Ok(is_any_known)
    }

    fn all(&mut self, buffer: &mut [u8], taker: &mut dyn Taker) -> Result<(), Halt> {
        let end = FileBlock::from(Bytes(self.size));
        let (mut at, mut to) = (FileBlock(0), end);
        while at < end {
            match self.pieces(at, to)? {
                Ok(pieces) => {
                    for piece in pieces.iter().filter(|p| is_there(p)) {
                        let behind = piece.at.plus(piece.blocks.0);
                        self.give(piece.at, behind, buffer, taker)?;
                    }
                    let last = pieces.last().map(|p| p.at.plus(p.blocks.0));
                    // As if there were a hole, if nothing is said.
                    at = last.filter(|last| *last > at).unwrap_or(to);
                    to = end;
                }
                Err(_) if to > behind_window(at) => {
                    // Nearer, by windows.
                    let middle = at.0.saturating_add(to.0.saturating_sub(at.0) / 2);
                    to = FileBlock(middle / WINDOW * WINDOW).max(behind_window(at));
                }
                Err(why) => {
                    let mut next = to;
                    if !self.window(at, to, buffer, taker)? {
                        next = self.blind_until(at, end)?;
                        if next > to {
                            self.losses.add(to, next, why, taker);
                        }
                    }
                    at = next;
                    to = end;
                }
            }
        }
        Ok(())
    }
}

fn is_there(piece: &Piece) -> bool {
    matches!(piece.holds, Holds::Inline | Holds::Raw)
}

impl<M: Machine> Source<'_, M> {
    /// Gives out what a file of this size holds. `buffer` has [`CHUNK`] blocks.
    pub(super) fn contents(
        &self,
        file: InodeNo,
        size: u64,
        buffer: &mut [u8],
        taker: &mut dyn Taker,
    ) -> Result<(), Halt> {
        let intent = Item::new(InodeNo::NONE, Kind::INTENT, file.0);
        let intent = self.view.get(self.mounted, intent);
        let intent = judge(intent.map_err(Error::from))?;
        if intent.is_err() {
            taker.unsettled();
        }
        let mut reader = Reader {
            source: self,
            file,
            size,
            is_moving: matches!(intent, Ok(Some(_))),
            is_unsettled: intent.is_err(),
            losses: Losses { size, open: None },
        };
        let done = reader.all(buffer, taker);
        reader.losses.tell(taker);
        done
    }
}
