// SPDX-License-Identifier: GPL-2.0

//! Operations that are larger than one transaction. What is to be seen of one is committed at once, together with an intent; then
//! the work goes on in bounded transactions. Whoever reads meanwhile looks where things are by then; whoever changes the file first
//! has the rest carried out. A mount carries out what a crash left.

use super::edit::Batch;
use super::edit::Clear;
use super::edit::Edit;
use super::extents;
use super::inline;
use super::shift::Ahead;
use super::shift::Shift;
use super::window::Windows;
use super::END;
use super::WINDOW_BLOCKS;
use crate::format::intent::Intent;
use crate::format::intent::Operation;
use crate::names::change::Change;
use crate::names::item::Item;
use crate::names::item::Kind;
use crate::names::Error;
use crate::names::Files;
use crate::names::Wrong;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::Timestamp;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use embr_rt::Box;

fn item(file: InodeNo) -> Item {
    Item::new(InodeNo::NONE, Kind::INTENT, file.0)
}

impl<M: Machine> Change<'_, M> {
    /// Puts down how far an operation has come.
    #[inline(never)]
    pub(super) fn intend(&mut self, intent: &Intent) -> Result<(), Error> {
        self.set(item(intent.inode), &intent.encode())
    }

    /// Nothing is done with the file any more, if anything was.
    pub(crate) fn forget_intent(&mut self, file: InodeNo) -> Result<(), Error> {
        if self.files.intent(file)?.is_some() {
            self.remove(item(file))?;
            self.still = Some(file);
        }
        Ok(())
    }
}

impl<M: Machine> Files<'_, M> {
    /// What is being done with a file.
    #[inline(never)] // Its frame is large enough alone.
    pub(super) fn intent(&self, file: InodeNo) -> Result<Option<Intent>, Error> {
        let Some(value) = self.view.get(self.mounted, item(file))? else {
            return Ok(None);
        };
        let bad = Error::damaged(item(file), Wrong::Senseless);
        let intent = Intent::parse(&value).ok_or(bad)?;
        match intent.inode == file {
            true => Ok(Some(intent)),
            false => Err(Error::damaged(item(file), Wrong::Disagrees)),
        }
    }

    /// Looks at a file with what is being done with it, of which nothing is carried out meanwhile. Not for who changes it.
    pub(super) fn steady<R>(
        &self,
        file: InodeNo,
        look: impl FnOnce(Option<Intent>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        // It is there before anything moves, and goes after that.
        if self.intent(file)?.is_none() {
            return look(None);
        }
        let _alone = self.names.changing.lock();
        look(self.intent(file)?)
    }

    /// Carries out what is being done with a file. Who changes the file does so, and who takes a snapshot: both at once may, each a piece
    /// at a time.
    #[inline(never)] // Its frame is large enough alone.
    pub(crate) fn settle(&self, file: InodeNo) -> Result<bool, Error> {
        if !self.regain_room(file)? {
            return Ok(false);
        }
        let here = self.in_head(file);
        let mut shift = self.names.shifts.lock().take(here);
        let done = self.settle_with(file, &mut shift);
        if done.is_err() {
            self.names.shifts.lock().put_back(here, shift);
        }
        done.map(|()| true)
    }

    #[inline(never)]
    fn settle_with(&self, file: InodeNo, shift: &mut Option<Box<Shift>>) -> Result<(), Error> {
        loop {
            let more = match self.go_on(file, Batch::Large, shift) {
                Err(Error::NoSpace) => self.go_on(file, Batch::Small, shift)?,
                done => done?,
            };
            if !more {
                return Ok(());
            }
        }
    }

    /// Does as much of what is being done with a file as one transaction holds. Says whether there is more.
    #[inline(never)]
    fn go_on(
        &self,
        file: InodeNo,
        batch: Batch,
        shift: &mut Option<Box<Shift>>,
    ) -> Result<bool, Error> {
        let mut ahead = shift.as_ref().map(|shift| shift.ahead).unwrap_or_default();
        let mut change = Change::begin_freeing(*self, Timestamp::default())?;
        // How far it has come is known only while nobody else goes on with it.
        let Some(intent) = &self.intent(file)? else {
            return Ok(false);
        };
        let rest = match intent.operation {
            Operation::Clear => clear_more(&mut change, intent, batch)?,
            Operation::Collapse => collapse_more(&mut change, intent, batch, &mut ahead)?,
            Operation::Insert => self.insert_more(&mut change, intent, batch, &mut ahead)?,
        };
        match rest {
            Some(cursor) => change.intend(&Intent { cursor, ..*intent })?,
            None => {
                change.remove(item(file))?;
                change.still = Some(file);
            }
        }
        let Some(shift) = shift else {
            return change.commit_alone(()).map(|_| rest.is_some());
        };
        let mut part = shift.part(ahead);
        let done = change.commit_under((), &mut part);
        shift.put_back(part);
        done?;
        shift.ahead = ahead;
        Ok(rest.is_some())
    }

    /// As [`Self::settle`], for what is seen to be done already: if it cannot go on now, it does later. Whoever changes the file next
    /// hears why it cannot.
    pub(super) fn settle_or_later(&self, file: InodeNo) {
        let _later = self.settle(file);
    }

    /// Carries out what a crash left half done. A mount that writes does this before it serves. Says how much it was.
    pub fn resume(&self) -> Result<u64, Error> {
        self.resume_but(&mut Err)
    }

    /// As [`Self::resume`]; goes on behind what is damaged if `damaged` says so.
    #[inline(never)]
    pub fn resume_but(
        &self,
        damaged: &mut dyn FnMut(Error) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.each_listed(Kind::INTENT, damaged, |found, value| {
            self.resume_listed(found, value)
        })
    }

    fn resume_listed(&self, found: Item, value: &[u8]) -> Result<(), Error> {
        let intent = Intent::parse(value).ok_or(Error::damaged(found, Wrong::Senseless))?;
        if item(intent.inode) != found {
            return Err(Error::damaged(found, Wrong::Disagrees));
        }
        self.settle(intent.inode).map(drop)
    }

    #[inline(never)] // Its frame is large enough alone.
    fn insert_more(
        &self,
        change: &mut Change<'_, M>,
        intent: &Intent,
        batch: Batch,
        ahead: &mut Ahead,
    ) -> Result<Option<FileBlock>, Error> {
        let file = intent.inode;
        let mut edit = Edit::new(change, file).sized(batch);
        let mut cursor = intent.cursor;
        let mut rest = None;
        'all: while let Some(number) = self.last_window(file, intent.from, cursor)? {
            let start = FileBlock(number.saturating_mul(WINDOW_BLOCKS));
            let from = start.max(intent.from);
            let to = start.plus(WINDOW_BLOCKS).min(cursor);
            let mut at = to;
            while at > from {
                let block = FileBlock(at.0.saturating_sub(1));
                let target = block.plus(intent.blocks());
                let cell = edit.cell(block)?;
                let price = edit.price_of_move(&cell);
                if !edit.has_room(price) || !edit.thin(block)? || !edit.thin(target)? {
                    rest = Some(at);
                    break 'all;
                }
                ahead.pass(&mut edit, block)?;
                edit.shift(block, target)?;
                at = block;
            }
            cursor = from;
        }
        edit.finish()?;
        Ok(rest)
    }

    /// The last window with anything in the blocks from `from` to before `to`.
    #[inline(never)] // Its frame is large enough alone.
    fn last_window(
        &self,
        file: InodeNo,
        from: FileBlock,
        to: FileBlock,
    ) -> Result<Option<u64>, Error> {
        let Some(last) = to.0.checked_sub(1).filter(|last| *last >= from.0) else {
            return Ok(None);
        };
        let last = FileBlock(last);
        let find = |range| -> Result<Option<u64>, Error> {
            let mut scan = self.mounted.scan_back(NAMES, range);
            let found = match &mut scan {
                Some(scan) => scan.next().map_err(Fault::from)?,
                None => None,
            };
            Ok(found.map(|(key, _)| Item::of(key).0.sub()))
        };
        let of_extents = find(extents(file, from).to(extents(file, last)))?;
        let of_inline = find(inline(file, from).to(inline(file, last)))?;
        let of_inline = of_inline.map(|block| block / WINDOW_BLOCKS);
        Ok(of_extents.max(of_inline))
    }
}

/// Clears on, and says from where on there is more.
#[inline(never)] // Its frame is large enough alone.
fn clear_more<M: Machine>(
    change: &mut Change<'_, M>,
    intent: &Intent,
    batch: Batch,
) -> Result<Option<FileBlock>, Error> {
    let mut edit = Edit::new(change, intent.inode).sized(batch);
    let at = edit.clear(intent.cursor, intent.to, Clear::All)?;
    edit.finish()?;
    Ok(at)
}

/// Moves what lies behind what is taken out, and says from where on there is more. At first what is taken out goes; later there is nothing.
#[inline(never)] // Its frame is large enough alone.
fn collapse_more<M: Machine>(
    change: &mut Change<'_, M>,
    intent: &Intent,
    batch: Batch,
    ahead: &mut Ahead,
) -> Result<Option<FileBlock>, Error> {
    let mut edit = Edit::new(change, intent.inode).sized(batch);
    let source = intent.cursor.plus(intent.blocks());
    let is_first = intent.cursor == intent.from;
    if is_first && edit.clear(intent.cursor, source, Clear::All)?.is_some() {
        edit.finish()?;
        return Ok(Some(intent.cursor));
    }
    let rest = move_back(&mut edit, intent, ahead)?;
    edit.finish()?;
    Ok(rest)
}

#[inline(never)] // Its frame is large enough alone.
fn move_back<M: Machine>(
    edit: &mut Edit<'_, '_, M>,
    intent: &Intent,
    ahead: &mut Ahead,
) -> Result<Option<FileBlock>, Error> {
    let source = intent.cursor.plus(intent.blocks());
    let back = |block: FileBlock| FileBlock(block.0.saturating_sub(intent.blocks()));
    let mut rest = None;
    let mut windows = Windows::new(edit.change.files, intent.inode, source, END)?;
    'all: while let Some(window) = windows.next()? {
        for (block, index) in window.blocks(source, END) {
            let price = edit.price_of_move(&window.cell(index));
            if !edit.has_room(price) || !edit.thin(block)? || !edit.thin(back(block))? {
                rest = Some(back(block));
                break 'all;
            }
            ahead.pass(edit, block)?;
            edit.shift(block, back(block))?;
        }
    }
    Ok(rest)
}
