// SPDX-License-Identifier: GPL-2.0

//! Blocks of two files that hold the same are stored once. Whether they do is seen by reading both and comparing every byte, not by
//! hashes; and that they still are what was read is looked at again in the transaction that makes them one.

use super::clone::Pair;
use super::clone::PER_BLOCK;
use super::edit::Clear;
use super::edit::Edit;
use super::regular;
use super::window::State;
use super::window::Windows;
use crate::names::change::Begun;
use crate::names::change::Change;
use crate::names::Done;
use crate::names::Error;
use crate::names::Files;
use crate::units::Blocks;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use embr_rt::Box;
use embr_rt::Vec;

/// Blocks of each file that are compared before a transaction, at most.
const PIECE: u64 = 256;
/// Blocks of each file that are read at a time.
const AT_ONCE: u64 = 32;

/// What is known of blocks of both files, and how many of the first of them hold the same.
struct Compared {
    from: Vec<State>,
    to: Vec<State>,
    same: u64,
}

impl<M: Machine> Files<'_, M> {
    /// Blocks that hold the same in both files are stored once from now on, as the first file has them. Says how many, from the first
    /// on, hold the same; if that is not all of them, the next differs. What takes no place, or lies in the tree in the first file, is
    /// left as it is; what was set aside stays so. A crash or an error may leave the first of it done: nothing of it can be read.
    ///
    /// Nobody changes either file meanwhile.
    #[inline(never)]
    pub fn same_range(&self, pair: &Pair) -> Result<Done<Blocks>, Error> {
        pair.check()?;
        self.size(pair.from.0)?;
        self.size(pair.to.0)?;
        self.settle(pair.from.0)?;
        self.settle(pair.to.0)?;
        let mut rest = *pair;
        let mut same = 0u64;
        loop {
            let first = rest.first(PIECE);
            let range = (first.from.1, first.from.1.plus(first.blocks.0));
            self.thin_out(first.to.0, first.to.1, first.to.1.plus(first.blocks.0))?;
            let done = self.with_room(|| {
                let act = || self.same_some(&first);
                self.with_strength((first.from.0, range), first.to.0, act)
            })?;
            let (blocks, differs) = done.what;
            if blocks == 0 && !differs && rest.blocks.0 != 0 {
                return Err(Error::Fault(Fault::TooLarge));
            }
            same = same.saturating_add(blocks);
            rest = rest.behind(blocks);
            if !differs {
                let holes = self.holes(&rest)?;
                same = same.saturating_add(holes);
                rest = rest.behind(holes);
            }
            if differs || rest.blocks.0 == 0 {
                return Ok(Done {
                    what: Blocks(same),
                    group: done.group,
                });
            }
        }
    }

    /// Does as much as one transaction holds. Says how many blocks hold the same, and whether the next differs.
    #[inline(never)]
    fn same_some(&self, pair: &Pair) -> Result<Done<(u64, bool)>, Error> {
        match self.compare(pair) {
            Ok(seen) => {
                let change = Change::begin(*self, Timestamp::default())?;
                if let Some(done) = share_same(change, pair, &seen)? {
                    return Ok(done);
                }
            }
            // It may have gone while it was read.
            Err(why) if why.is_damage() => {}
            Err(why) => return Err(why),
        }
        // They are not what was read any more: once more, with nobody beside.
        let change = Change::begin(*self, Timestamp::default())?;
        let seen = self.compare(pair)?;
        let done = share_same(change, pair, &seen)?;
        done.ok_or(Error::Invalid)
    }

    /// Reads and compares.
    #[inline(never)]
    fn compare(&self, pair: &Pair) -> Result<Box<Compared>, Error> {
        let mut seen = Box::try_new(Compared {
            from: self.states(pair.from, pair.blocks)?,
            to: self.states(pair.to, pair.blocks)?,
            same: 0,
        })?;
        while seen.same < pair.blocks.0 {
            let some = pair.behind(seen.same).first(AT_ONCE);
            let states = seen.from.iter().zip(seen.to.iter());
            let mut states = states.skip(seen.same as usize).take(some.blocks.0 as usize);
            // The very same blocks need not be read.
            let one = |(a, b): (&State, &State)| a == b && matches!(a, State::Raw(_));
            let same = match states.all(one) {
                true => some.blocks.0,
                false => self.compare_some(&some)?,
            };
            seen.same = seen.same.saturating_add(same);
            if same < some.blocks.0 {
                break;
            }
        }
        Ok(seen)
    }

    /// How many of these blocks, from the first on, hold the same.
    #[inline(never)]
    fn compare_some(&self, pair: &Pair) -> Result<u64, Error> {
        let length = (pair.blocks.0 as usize).saturating_mul(BLOCK_SIZE);
        let (mut a, mut b) = (Vec::zeroed(length)?, Vec::zeroed(length)?);
        self.read_alone(pair.from.0, pair.from.1, &mut a)?;
        self.read_alone(pair.to.0, pair.to.1, &mut b)?;
        let blocks = a.chunks(BLOCK_SIZE).zip(b.chunks(BLOCK_SIZE));
        Ok(blocks.take_while(|(a, b)| a == b).count() as u64)
    }

    /// What blocks of a file are.
    #[inline(never)]
    fn states(
        &self,
        (file, first): (InodeNo, FileBlock),
        blocks: Blocks,
    ) -> Result<Vec<State>, Error> {
        let end = first.plus(blocks.0);
        let mut states = Vec::try_from_elem(State::Nothing, blocks.0 as usize)?;
        let mut windows = Windows::new(*self, file, first, end)?;
        while let Some(window) = windows.next()? {
            for (block, index) in window.blocks(first, end) {
                let at = block.0.saturating_sub(first.0) as usize;
                if let Some(state) = states.get_mut(at) {
                    *state = window.cell(index).state;
                }
            }
        }
        Ok(states)
    }
}

/// Makes one of what was seen to be the same. None if it is not what was seen any more.
#[inline(never)]
fn share_same<M: Machine>(
    mut change: Begun<'_, M>,
    pair: &Pair,
    seen: &Compared,
) -> Result<Option<Done<(u64, bool)>>, Error> {
    let Some(done) = share_blocks(&mut change, pair, seen)? else {
        return Ok(None);
    };
    let differs = done == seen.same && done < pair.blocks.0;
    change.commit_alone((done, differs)).map(Some)
}

#[inline(never)] // Its frame is large enough alone.
fn share_blocks<M: Machine>(
    change: &mut Change<'_, M>,
    pair: &Pair,
    seen: &Compared,
) -> Result<Option<u64>, Error> {
    regular(change.inode(pair.from.0)?)?;
    regular(change.inode(pair.to.0)?)?;
    let files = change.files;
    let now = (
        files.states(pair.from, pair.blocks)?,
        files.states(pair.to, pair.blocks)?,
    );
    if now.0 != seen.from || now.1 != seen.to {
        return Ok(None);
    }
    let mut edit = Edit::new(change, pair.to.0);
    let mut done = 0u64;
    let states = seen.from.iter().zip(seen.to.iter());
    for (from, to) in states.take(seen.same as usize) {
        if !edit.has_room(PER_BLOCK) {
            break;
        }
        let one = pair.behind(done).first(1);
        let at = one.to.1;
        // What lies in the tree is not known by its place.
        if *to == State::Inline && files.compare_some(&one)? == 0 {
            return Ok(None);
        }
        match (*from, *to) {
            (State::Raw(place), State::Raw(_) | State::Inline) => {
                edit.share(at, place, pair.from.0)?;
            }
            (State::Nothing | State::Hole | State::Unwritten(_), State::Raw(_) | State::Inline) => {
                edit.put_hole(at, Clear::All)?
            }
            _ => {}
        }
        done = done.saturating_add(1);
    }
    edit.finish()?;
    Ok(Some(done))
}
