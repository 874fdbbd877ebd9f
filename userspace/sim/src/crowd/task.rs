// SPDX-License-Identifier: GPL-2.0

//! One of several tasks: draws what it does, looks files up by their names, holds some of them open, and takes the locks that a host
//! takes for it.

use super::act::Act;
use super::act::Came;
use super::act::Place;
use super::locks::Claim;
use super::locks::What;
use super::order::Deed;
use super::Event;
use super::Habit;
use super::Hall;
use crate::clerk;
use crate::deed::NAMES;
use crate::files::Refused;
use crate::host::Chance;
use embr_engine::file::Way;
use embr_engine::format::inode::FileType;
use embr_engine::names::Mode;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use std::ops::Range;

const BLOCK: u64 = BLOCK_SIZE as u64;
/// Blocks of a file that is worked on.
const BLOCKS: usize = 7;
/// Names of snapshots that are taken.
const TAKEN: [&str; 2] = ["t", "u"];
/// Names of attributes.
const ATTRIBUTES: [&str; 2] = ["user.one", "user.other"];

pub(super) struct Task<'h> {
    hall: &'h Hall,
    number: usize,
    chance: Chance,
    /// Acts so far.
    count: u64,
    /// A file that it holds open.
    held: Option<u64>,
    /// How much of what it does is with names, in tenths.
    names: usize,
}

type Said = Result<Came, Refused>;

impl<'h> Task<'h> {
    pub fn new(hall: &'h Hall, number: usize, seed: u64) -> Self {
        let chance = Chance::new(seed);
        Task {
            hall,
            number,
            names: match hall.habit {
                Habit::Any => chance.one(&[1, 5, 9]),
                Habit::OneFile => 2,
                Habit::Attributes => 0,
            },
            chance,
            count: 0,
            held: None,
        }
    }

    /// Does so many things, and lets go of what it holds.
    pub fn work(&mut self, length: usize) -> Result<(), String> {
        for _ in 0..length {
            if self.hall.log().failed.is_some() {
                return Ok(());
            }
            let most = if self.hall.keeps { 14 } else { 12 };
            match self.chance.below(most) {
                0 => self.sync()?,
                12.. => self.do_with_kept()?,
                1 | 2 => self.open_or_close()?,
                _ if self.chance.below(10) < self.names => self.do_with_names()?,
                _ => self.do_with_file()?,
            }
        }
        self.close()
    }

    /// Asks the engine, and writes down when, and what it said.
    fn act(&mut self, act: Act) -> Result<Said, String> {
        self.count += 1;
        // No two acts have the same.
        let step = self.count * 8 + self.number as u64;
        let began = self.hall.say(Event::Began(self.number));
        let (came, group) = match act.perform(self.hall.engine(), step) {
            Ok((came, group)) => (Ok(came), group),
            Err(why) => {
                let why = clerk::refused(why).map_err(|why| format!("{act:?}: {why}"))?;
                (Err(why), None)
            }
        };
        let ended = self.hall.say(Event::Ended);
        let deed = Deed {
            act,
            step,
            came: came.clone(),
            group,
            began,
            ended,
        };
        self.hall.log().deeds[self.number].push(deed);
        Ok(came)
    }

    /// As [`Self::act`], of what changes these files.
    fn change(&mut self, act: Act, of: &[u64]) -> Result<Said, String> {
        let came = self.act(act)?;
        let group = (self.hall.log().deeds[self.number].last()).and_then(|deed| deed.group);
        if let Some(group) = group {
            of.iter()
                .for_each(|n| self.hall.locks.note_change(*n, group));
        }
        Ok(came)
    }

    fn place(&self) -> Place {
        let directories = &self.hall.directories;
        (self.chance.one(directories), self.chance.one(&NAMES))
    }

    /// A name that may be there, if any is.
    fn there(&self) -> Place {
        let there: Vec<_> = self.hall.log().there.iter().copied().collect();
        match there.is_empty() || self.chance.below(8) == 0 {
            true => self.place(),
            false => {
                let some = match self.hall.habit {
                    Habit::Any => &there,
                    Habit::OneFile | Habit::Attributes => &there[..1],
                };
                let (directory, name) = self.chance.one(some);
                (self.hall.directories[directory], name)
            }
        }
    }

    /// A name is there from now on, or is not.
    fn note(&self, (directory, name): Place, is_there: bool) {
        let hall = self.hall;
        let Some(at) = hall.directories.iter().position(|n| *n == directory) else {
            return;
        };
        let there = &mut hall.log().there;
        match is_there {
            true => there.insert((at, name)),
            false => there.remove(&(at, name)),
        };
    }

    /// A file is not in use by this task any more, which lost a user that it had.
    fn leave(&mut self, number: u64) -> Result<(), String> {
        if !self.hall.locks.leave_file(number) {
            return Ok(());
        }
        match self.act(Act::Forget(number))? {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("forgetting inode {number}: {why:?}")),
        }
    }

    /// The file with this name, if there is one, and this task as one more user of it. The directory is locked.
    fn find(&mut self, place: Place) -> Result<Option<u64>, String> {
        match self.act(Act::Lookup(place))? {
            Ok(Came::Found(number)) => {
                self.note(place, true);
                self.hall.locks.use_file(number);
                Ok(Some(number))
            }
            _ => {
                self.note(place, false);
                Ok(None)
            }
        }
    }

    fn open(&mut self, place: Place) -> Result<Option<u64>, String> {
        let hall = self.hall;
        let _names = hall.locks.take(&[Claim::shared(What::Names(place.0))]);
        self.find(place)
    }

    fn close(&mut self) -> Result<(), String> {
        match self.held.take() {
            Some(number) => self.leave(number),
            None => Ok(()),
        }
    }

    fn open_or_close(&mut self) -> Result<(), String> {
        if self.held.is_some() {
            return self.close();
        }
        self.held = match self.chance.below(4) {
            0 => match self.act(Act::Tmpfile)? {
                Ok(Came::Made(number)) => {
                    self.hall.locks.use_file(number);
                    self.hall.locks.doom(number, true);
                    Some(number)
                }
                other => return Err(format!("a file without a name came to {other:?}")),
            },
            _ => self.open(self.there())?,
        };
        Ok(())
    }

    /// All, or what changed of a file.
    fn sync(&mut self) -> Result<(), String> {
        let hall = self.hall;
        let now = hall.now();
        let group = match self.held {
            Some(number) if self.chance.below(2) == 0 => hall.locks.last_change(number),
            _ => None,
        };
        let done = match group {
            Some(group) => hall.mounted.sync_to(group),
            None => hall.mounted.sync(),
        };
        done.map_err(|why| format!("sync: {why}"))?;
        hall.say(match group {
            Some(group) => Event::DurableTo(now, group),
            None => Event::Durable(now),
        });
        Ok(())
    }

    fn do_with_names(&mut self) -> Result<(), String> {
        let hall = self.hall;
        let place = self.place();
        match self.chance.below(20) {
            0..=3 => {
                let _names = hall.locks.take(&[Claim::alone(What::Names(place.0))]);
                let act = match self.chance.below(3) {
                    0 => Act::Mkdir(place),
                    _ => Act::Create(place),
                };
                let came = self.change(act, &[place.0])?;
                self.note(place, came.is_ok() || came == Err(Refused::Exists));
                Ok(())
            }
            4..=8 => self.remove(self.there()),
            9..=11 => self.rename(self.there(), place),
            12..=14 => self.rename(self.there(), self.there()),
            15..=17 => self.link(place),
            _ => {
                let _names = hall.locks.take(&[Claim::shared(What::Names(place.0))]);
                self.act(Act::Readdir(place.0)).map(drop)
            }
        }
    }

    fn is_directory(&self, number: u64) -> Result<bool, String> {
        let inode = self.hall.files().inode(InodeNo(number));
        inode
            .map(|inode| inode.is_directory())
            .map_err(|why| format!("inode {number}: {why}"))
    }

    fn remove(&mut self, place: Place) -> Result<(), String> {
        let hall = self.hall;
        let names = hall.locks.take(&[Claim::alone(What::Names(place.0))]);
        let Some(number) = self.find(place)? else {
            return Ok(());
        };
        let own = hall.locks.take(&[Claim::alone(What::Names(number))]);
        let open = hall.locks.has_others(number) || self.chance.below(3) == 0;
        let act = match self.is_directory(number)? != (self.chance.below(10) == 0) {
            true => Act::Rmdir(place, open),
            false => Act::Unlink(place, open),
        };
        if let Ok(Came::NamesLeft(_, left)) = self.change(act, &[place.0, number])? {
            hall.locks.doom(number, open && left == 0);
            self.note(place, false);
        }
        drop(own);
        drop(names);
        self.leave(number)
    }

    fn rename(&mut self, from: Place, to: Place) -> Result<(), String> {
        let hall = self.hall;
        let _renames = (from.0 != to.0).then(|| hall.locks.take(&[Claim::alone(What::Renames)]));
        let both = [from.0, to.0].map(|number| Claim::alone(What::Names(number)));
        let names = hall.locks.take(&both);
        let Some(number) = self.find(from)? else {
            return Ok(());
        };
        let there = self.find(to)?;
        let files: Vec<u64> = [Some(number), there].into_iter().flatten().collect();
        let claims: Vec<Claim> = (files.iter())
            .map(|number| Claim::alone(What::Names(*number)))
            .collect();
        let own = hall.locks.take(&claims);
        let mode = self.chance.one(&[
            Mode::Replace,
            Mode::Replace,
            Mode::Replace,
            Mode::Replace,
            Mode::NoReplace,
            Mode::Exchange,
            Mode::Exchange,
            Mode::Whiteout,
        ]);
        let others = there.is_some_and(|number| hall.locks.has_others(number));
        let open = others || self.chance.below(3) == 0;
        let came = self.change(Act::Rename(from, to, mode, open), &[from.0, to.0, number])?;
        if let Ok(Came::Moved(_, replaced, _)) = came {
            self.note(from, matches!(mode, Mode::Exchange | Mode::Whiteout));
            self.note(to, true);
            if let Some((lost, left)) = replaced {
                hall.locks.doom(lost, open && left == 0);
            }
        }
        drop(own);
        drop(names);
        files.into_iter().try_for_each(|number| self.leave(number))
    }

    /// One more name for a file that is held, or for another.
    fn link(&mut self, place: Place) -> Result<(), String> {
        let hall = self.hall;
        let number = match self.held {
            Some(number) => {
                hall.locks.use_file(number);
                number
            }
            None => match self.open(self.there())? {
                Some(number) => number,
                None => return Ok(()),
            },
        };
        let names = hall.locks.take(&[Claim::alone(What::Names(place.0))]);
        let own = hall.locks.take(&[Claim::alone(What::Names(number))]);
        if let Ok(Came::NamesLeft(..)) =
            self.change(Act::Link(number, place), &[place.0, number])?
        {
            hall.locks.doom(number, false);
            self.note(place, true);
        }
        drop(own);
        drop(names);
        self.leave(number)
    }

    /// Takes a snapshot, or does something with one.
    fn do_with_kept(&mut self) -> Result<(), String> {
        let name = self.chance.one(&TAKEN);
        match self.chance.below(6) {
            0 | 1 => self.change(Act::Take(name), &[]).map(drop),
            2 => self.change(Act::Delete(name), &[]).map(drop),
            _ => {
                let Some(number) = self.open(self.there())? else {
                    return Ok(());
                };
                let inode = self.hall.files().inode(InodeNo(number));
                let inode = inode.map_err(|why| format!("inode {number}: {why}"))?;
                if inode.kind == FileType::Regular {
                    self.act(Act::ReadKept(name, number, self.blocks()))
                        .map(drop)?;
                }
                self.leave(number)
            }
        }
    }

    /// Something with a file that is held, or with another.
    fn do_with_file(&mut self) -> Result<(), String> {
        let number = match self.held {
            Some(number) if self.chance.below(3) != 0 => number,
            _ => match self.open(self.there())? {
                Some(number) => {
                    let done = self.do_with(number);
                    self.leave(number)?;
                    return done;
                }
                None => return Ok(()),
            },
        };
        self.do_with(number)
    }

    fn do_with(&mut self, number: u64) -> Result<(), String> {
        let inode = self.hall.files().inode(InodeNo(number));
        let inode = inode.map_err(|why| format!("inode {number}, which is in use: {why}"))?;
        let of_inode = match self.hall.habit {
            Habit::Attributes => 9,
            _ => 3,
        };
        match inode.kind == FileType::Regular && self.chance.below(12) >= of_inode {
            true => self.do_with_contents(number),
            false => self.do_with_inode(number),
        }
    }

    fn do_with_inode(&mut self, number: u64) -> Result<(), String> {
        let (name, much) = match self.hall.habit {
            Habit::Attributes => (ATTRIBUTES[0], 6),
            _ => (self.chance.one(&ATTRIBUTES), 0),
        };
        let act = match self.chance.below(8 + 2 * much) {
            0 => return self.act(Act::Stat(number)).map(drop),
            1 | 2 => return self.act(Act::Attribute(number, name)).map(drop),
            n if n > 7 + much => return self.act(Act::Attribute(number, name)).map(drop),
            3 | 4 => Act::Chmod(number, self.chance.below(0o10000) as u16),
            7 => Act::RemoveAttribute(number, name),
            // The last two lie in pieces.
            _ => Act::SetAttribute(number, name, self.chance.one(&[3, 2000, 9000, 9000])),
        };
        let hall = self.hall;
        let _own = hall.locks.take(&[Claim::alone(What::Names(number))]);
        self.change(act, &[number]).map(drop)
    }

    fn blocks(&self) -> Range<u64> {
        let first = self.chance.below(BLOCKS) as u64;
        first..first + 1 + self.chance.below(3) as u64
    }

    /// Blocks of one file become those of another, or one where they hold the same.
    fn do_with_two(&mut self, from: u64, blocks: &Range<u64>) -> Result<(), String> {
        let Some(to) = self.open(self.there())? else {
            return Ok(());
        };
        let inode = self.hall.files().inode(InodeNo(to));
        let inode = inode.map_err(|why| format!("inode {to}, which is in use: {why}"))?;
        let done = match inode.kind {
            FileType::Regular => self.share(from, to, blocks),
            _ => Ok(()),
        };
        self.leave(to)?;
        done
    }

    fn share(&mut self, from: u64, to: u64, blocks: &Range<u64>) -> Result<(), String> {
        let hall = self.hall;
        let at = match self.chance.below(2) {
            0 => blocks.start,
            _ => self.blocks().start,
        };
        let there = at..at + (blocks.end - blocks.start);
        let both = |what: fn(u64) -> What| [what(from), what(to)].map(Claim::alone);
        let _names = hall.locks.take(&both(What::Names));
        let _alone = hall.locks.take(&both(What::Contents));
        let inode = hall.files().inode(InodeNo(to));
        let inode = inode.map_err(|why| format!("inode {to}: {why}"))?;
        // What lies between the end and what is cloned becomes zeros.
        let changed = there.start.min(inode.size.0 / BLOCK)..there.end;
        let _still = hall.locks.take(&[
            Claim::alone(What::Blocks(from, blocks.clone())),
            Claim::alone(What::Blocks(to, changed)),
        ]);
        let act = match self.chance.below(2) {
            0 => Act::Clone(from, to, blocks.clone(), at),
            _ => Act::Dedupe(from, to, blocks.clone(), at),
        };
        self.change(act, &[to]).map(drop)
    }

    fn do_with_contents(&mut self, number: u64) -> Result<(), String> {
        let hall = self.hall;
        let blocks = self.blocks();
        let touched = |blocks: &Range<u64>| What::Blocks(number, blocks.clone());
        match self.chance.below(20) {
            16.. => self.do_with_two(number, &blocks),
            0..=2 => {
                let _still = hall.locks.take(&[Claim::shared(touched(&blocks))]);
                self.act(Act::Read(number, blocks)).map(drop)
            }
            // What is written back locks nothing but what it writes.
            3..=9 => {
                let alone = [touched(&blocks), What::Contents(number)].map(Claim::alone);
                let _alone = hall.locks.take(&alone);
                let way = self.chance.one(&[Way::Inline, Way::Sealed]);
                self.change(Act::Write(number, blocks, way), &[number])
                    .map(drop)
            }
            _ => {
                let _names = hall.locks.take(&[Claim::alone(What::Names(number))]);
                let _alone = hall.locks.take(&[Claim::alone(What::Contents(number))]);
                let inode = hall.files().inode(InodeNo(number));
                let inode = inode.map_err(|why| format!("inode {number}: {why}"))?;
                let end = blocks.end.max(inode.size.0.div_ceil(BLOCK)) + 1;
                let bytes = blocks.start * BLOCK + self.chance.one(&[0, 0, 1, 2000])
                    ..blocks.end * BLOCK - self.chance.one(&[0, 0, 1, 2000]);
                let long = inode.size.0 > 2 * BLOCKS as u64 * BLOCK;
                let (act, changed) = match self.chance.below(if long { 3 } else { 6 }) {
                    0 | 1 => {
                        let kept = bytes.start.min(inode.size.0) / BLOCK;
                        (Act::Truncate(number, bytes.start), kept..end)
                    }
                    2 => {
                        let from = blocks.start;
                        (Act::Collapse(number, blocks), from..end)
                    }
                    3 => {
                        let (before, count) = (blocks.start, blocks.end - blocks.start);
                        let all = before..end + count;
                        (Act::Insert(number, before, count), all)
                    }
                    4 => (Act::Punch(number, bytes), blocks),
                    _ => (Act::Preallocate(number, blocks.clone()), blocks),
                };
                let _changed = hall.locks.take(&[Claim::alone(touched(&changed))]);
                self.change(act, &[number]).map(drop)
            }
        }
    }
}
