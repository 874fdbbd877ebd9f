// SPDX-License-Identifier: GPL-2.0

//! Blocks of a file that become the same as those of another, by naming the same blocks of engrams: nothing is read or copied but what
//! lies in the tree.

use super::edit::Clear;
use super::edit::Edit;
use super::regular;
use super::window::State;
use super::window::Windows;
use super::END;
use super::MAX_SIZE;
use crate::format::inline;
use crate::format::reference;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::names::Item;
use crate::names::Kind;
use crate::names::Wrong;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;

/// Blocks that one transaction makes the same, at most; from where it finds no room for its nodes, the next.
const PIECES: [u64; 3] = [4096, 256, 16];
/// Bytes of the journal that a block takes at most: what is said of its engram in all, and of two files; or its own in the tree.
pub(super) const PER_BLOCK: usize = PER_SHARED + BLOCK_SIZE;
/// Bytes of the journal that it takes to name what is named already, at most.
pub(super) const PER_SHARED: usize = 3 * (reference::MAX_SIZE + 64);

/// Blocks of one file, and as many of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pair {
    /// The file that has them, and the first of them.
    pub from: (InodeNo, FileBlock),
    /// The file that shall have them too, and where. It may be the same; then they do not overlap.
    pub to: (InodeNo, FileBlock),
    /// How many.
    pub blocks: Blocks,
}

impl Pair {
    /// What is left behind the first so many of them.
    pub(super) fn behind(&self, blocks: u64) -> Pair {
        Pair {
            from: (self.from.0, self.from.1.plus(blocks)),
            to: (self.to.0, self.to.1.plus(blocks)),
            blocks: Blocks(self.blocks.0.saturating_sub(blocks)),
        }
    }

    /// The first so many of them at most.
    pub(super) fn first(&self, most: u64) -> Pair {
        let blocks = Blocks(self.blocks.0.min(most));
        Pair { blocks, ..*self }
    }

    /// The other's block for one of the first file's.
    fn other(&self, block: FileBlock) -> FileBlock {
        self.to.1.plus(block.0.saturating_sub(self.from.1 .0))
    }

    /// Whether there can be such blocks.
    pub(super) fn check(&self) -> Result<(), Error> {
        let end = |at: FileBlock| at.0.checked_add(self.blocks.0);
        let inside = |at| end(at).is_some_and(|end| end <= END.0);
        if !inside(self.from.1) || !inside(self.to.1) {
            return Err(Error::TooBig);
        }
        let ((from, first), (to, other)) = (self.from, self.to);
        let apart = end(first).is_some_and(|end| end <= other.0)
            || end(other).is_some_and(|end| end <= first.0);
        match from != to || apart {
            true => Ok(()),
            false => Err(Error::Invalid),
        }
    }
}

impl<M: Machine> Files<'_, M> {
    /// Makes blocks of a file the same as those of another. What was there before is gone; holes become holes, and so does what was set
    /// aside. The size becomes the larger of `size` and what it was. What does not fit into one transaction takes several, the first
    /// blocks first, and the size never passes what is not done: a crash or an error may leave the first of it done.
    ///
    /// Nobody changes either file meanwhile.
    #[inline(never)]
    pub fn clone_range(
        &self,
        pair: &Pair,
        size: Option<Bytes>,
        now: Timestamp,
    ) -> Result<Done<()>, Error> {
        pair.check()?;
        if size.is_some_and(|size| size > MAX_SIZE) {
            return Err(Error::TooBig);
        }
        self.size(pair.from.0)?;
        let was = self.size(pair.to.0)?;
        self.settle(pair.from.0)?;
        self.settle(pair.to.0)?;
        if size.is_some_and(|size| size > was) {
            // What lay behind the end does not come to light.
            self.clear_behind(pair.to.0)?;
        }
        let mut rest = *pair;
        let mut pieces = PIECES.as_slice();
        loop {
            let (most, less) = pieces.split_first().unwrap_or((&1, &[]));
            let first = rest.first(*most);
            let range = (first.from.1, first.from.1.plus(first.blocks.0));
            self.thin_out(first.to.0, first.to.1, first.to.1.plus(first.blocks.0))?;
            let piece = || {
                let act = || self.clone_piece(&rest, *most, (size, now));
                self.with_strength((rest.from.0, range), rest.to.0, act)
            };
            let done = match less.is_empty() {
                true => self.with_room(piece)?,
                false => match piece() {
                    Err(Error::NoSpace) => {
                        pieces = less;
                        continue;
                    }
                    done => done?,
                },
            };
            rest = rest.behind(done.what);
            if rest.blocks.0 == 0 {
                let Done { group, .. } = done;
                return Ok(Done { what: (), group });
            }
            if done.what == 0 {
                return Err(Error::Fault(Fault::TooLarge));
            }
        }
    }

    /// How many blocks, from the first on, are holes in both, of which nothing is said: there may be more of them than anybody could go
    /// through one by one.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn holes(&self, pair: &Pair) -> Result<u64, Error> {
        let mut holes = pair.blocks.0;
        for (file, at) in [pair.from, pair.to] {
            let mut windows = Windows::new(*self, file, at, at.plus(holes))?;
            if let Some(window) = windows.next()? {
                holes = holes.min(window.start().0.saturating_sub(at.0));
            }
        }
        Ok(holes)
    }

    /// Does as much as one transaction holds; says how many blocks.
    #[inline(never)]
    fn clone_piece(
        &self,
        rest: &Pair,
        most: u64,
        (size, now): (Option<Bytes>, Timestamp),
    ) -> Result<Done<u64>, Error> {
        let mut change = Change::begin(*self, now)?;
        let first = rest.first(most);
        let done = match clone_blocks(&mut change, &first)? {
            all if all == first.blocks.0 => all.saturating_add(self.holes(&rest.behind(all))?),
            some => some,
        };
        let until = rest.to.1.plus(done).start();
        let inode = change.inode_mut(rest.to.0)?;
        if let Some(size) = size {
            let is_all = done == rest.blocks.0;
            let size = if is_all { size } else { size.min(until) };
            inode.size = inode.size.max(size);
        }
        inode.modified = now;
        inode.changed = now;
        change.commit_alone(done)
    }
}

/// Makes as many blocks the same as the transaction holds; says how many.
#[inline(never)] // Its frame is large enough alone.
fn clone_blocks<M: Machine>(change: &mut Change<'_, M>, pair: &Pair) -> Result<u64, Error> {
    regular(change.inode(pair.from.0)?)?;
    regular(change.inode(pair.to.0)?)?;
    let files = change.files;
    let (file, first) = pair.from;
    let end = first.plus(pair.blocks.0);
    let mut edit = Edit::new(change, pair.to.0);
    let mut windows = Windows::new(files, file, first, end)?;
    let mut at = first;
    while at < end {
        let window = windows.next()?;
        let begin = window
            .as_ref()
            .map_or(end, |window| window.start().max(first));
        // Of what lies between nothing is said.
        if let Some(stop) = edit.clear(pair.other(at), pair.other(begin), Clear::All)? {
            at = at.plus(stop.0.saturating_sub(pair.other(at).0));
            break;
        }
        at = begin;
        let Some(window) = window else {
            break;
        };
        for (block, index) in window.blocks(first, end) {
            if !edit.has_room(PER_BLOCK) {
                edit.finish()?;
                return Ok(block.0.saturating_sub(first.0));
            }
            let to = pair.other(block);
            let cell = window.cell(index);
            match cell.state {
                State::Raw(place) => edit.share(to, place, file)?,
                State::Inline => {
                    let here =
                        |(i, version, _): &&(usize, _, _)| *i == index && *version == cell.version;
                    let value = window.inline.iter().find(here).map(|(.., value)| value);
                    let item = Item::new(file, Kind::INLINE, block.0);
                    let bytes = value.and_then(|value| inline::parse(value));
                    edit.put_inline(to, bytes.ok_or(Error::damaged(item, Wrong::Senseless))?)?;
                }
                State::Nothing | State::Hole | State::Unwritten(_) => {
                    edit.put_hole(to, Clear::All)?;
                }
            }
            at = block.plus(1);
        }
    }
    edit.finish()?;
    Ok(at.0.saturating_sub(first.0))
}
