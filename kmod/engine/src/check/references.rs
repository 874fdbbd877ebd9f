// SPDX-License-Identifier: GPL-2.0

//! References: what is said of blocks that are named more than once, against what names them. What files are said to name adds up to
//! what is said of all; and each of them names just that. Extents that nothing is said of are looked at with the file that has them.
//!
//! What is said of files is held against all extents at once, as much of it as memory holds; for more, they are gone through again.

use super::data::items;
use super::names::look;
use super::names::Look;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Stage;
use crate::format::engram::Live;
use crate::format::engram::MAX_BLOCKS;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::extent::Run;
use crate::format::reference;
use crate::format::reference::Of;
use crate::format::reference::Tally;
use crate::names::Error;
use crate::names::Item;
use crate::names::Kind;
use crate::names::Wrong;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::NAMES;
use crate::volume::mounted::REFERENCES;
use core::fmt;
use embr_rt::Vec;

/// Bytes of memory that what is said of a file and an engram takes, beside what is found.
const ENTRY: u64 = 4096;

/// Blocks of an engram that follow each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The first of them.
    pub first: usize,
    /// The last.
    pub last: usize,
}

/// What is wrong with what is said of shared blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miscount {
    /// The item with this key makes no sense.
    Senseless(Key),
    /// These blocks are said to be shared, but are dead.
    Dead(Span),
    /// Each of these is said to be named so often in all, but so often by files.
    All(Span, u64, u64),
    /// Each of these is said to be named so often by a file, but that one does it so often.
    User(InodeNo, Span, u64, u64),
}

/// How often, for people.
struct Times(u64);

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("not at all"),
            1 => f.write_str("once"),
            n => write!(f, "{n} times"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "block {}", self.first),
            false => write!(f, "blocks {} to {}", self.first, self.last),
        }
    }
}

/// What comes of it that something is named so often and said to be named that often.
fn outcome(said: u64, are: u64) -> &'static str {
    match said > are {
        true => "nothing is lost, but they will not be given back",
        false => "they may be given back too early: remove nothing before that is repaired",
    }
}

impl fmt::Display for Miscount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Miscount::Senseless(key) => {
                write!(f, "the item {key} of what is shared of it makes no sense")
            }
            Miscount::Dead(span) => write!(f, "{span}: said to be shared, but dead"),
            Miscount::All(span, said, are) => write!(
                f,
                "{span}: said to be named {} in all, but by files {}; {}",
                Times(said),
                Times(are),
                outcome(said, are)
            ),
            Miscount::User(inode, span, said, are) => write!(
                f,
                "{span}: said to be named {} by inode {inode}, which names them {}; {}",
                Times(said),
                Times(are),
                outcome(said, are)
            ),
        }
    }
}

/// Blocks with which something is wrong, in order: neighbours with the same are told together.
fn spans<T: PartialEq>(wrong: impl Iterator<Item = (usize, T)>, mut tell: impl FnMut(Span, T)) {
    let mut last: Option<(Span, T)> = None;
    for (block, what) in wrong {
        match &mut last {
            Some((span, same)) if span.last.saturating_add(1) == block && *same == what => {
                span.last = block;
            }
            _ => {
                let span = Span {
                    first: block,
                    last: block,
                };
                if let Some((span, what)) = last.replace((span, what)) {
                    tell(span, what);
                }
            }
        }
    }
    if let Some((span, what)) = last {
        tell(span, what);
    }
}

/// The engram whose items are gone through.
struct Engram {
    number: EngramId,
    all: Option<Tally>,
    /// How often its blocks are said to be named by files.
    sums: Vec<u64>,
    is_senseless: bool,
}

impl Engram {
    fn try_new(number: EngramId) -> Result<Self, Ended> {
        Ok(Engram {
            number,
            all: None,
            sums: Vec::try_from_elem(0, MAX_BLOCKS)?,
            is_senseless: false,
        })
    }

    fn add(&mut self, of: Of, tally: Tally) {
        if of == Of::All {
            self.all = Some(tally);
            return;
        }
        for (block, sum) in self.sums.iter_mut().enumerate() {
            *sum = sum.saturating_add(tally.number(block).into());
        }
    }

    /// All its items were seen.
    fn leave<M: Machine, O: Observer>(&self, check: &mut Check<'_, M, O>) -> Result<(), Ended> {
        if self.number == EngramId::NONE || self.is_senseless {
            return Ok(());
        }
        let mounted = check.mounted;
        let said = |block| {
            self.all
                .as_ref()
                .map_or(0, |all| u64::from(all.number(block)))
        };
        let sums = || self.sums.iter().copied().enumerate();
        // What is named once is not said of all; who names it may be said.
        let wrong = sums().filter_map(|(block, sum)| {
            let all = said(block);
            let is_right = all == sum || all == 0 && sum == 1;
            (!is_right).then_some((block, (all, sum)))
        });
        let mut found = |what| check.found(Finding::Reference(self.number, what));
        spans(wrong, |span, (all, sum)| {
            found(Miscount::All(span, all.max(1), sum));
        });
        let map = look(mounted.map(self.number).map(Some))?;
        let live = match map {
            Look::There(map) => look(mounted.live(self.number, map.blocks).map(Some))?,
            Look::Missing => Look::Missing,
            Look::Unknown => Look::Unknown,
        };
        let live = match live {
            Look::There(live) => live,
            // That there is no such engram is known only if no node is lost.
            _ if matches!(
                mounted.map(self.number),
                Err(Error::Engram(_, Wrong::Missing))
            ) =>
            {
                Live::default()
            }
            _ => return Ok(()),
        };
        let dead =
            sums().filter(|(block, sum)| (*sum != 0 || said(*block) != 0) && !live.has(*block));
        spans(dead.map(|(block, _)| (block, ())), |span, ()| {
            found(Miscount::Dead(span));
        });
        Ok(())
    }
}

/// What is said of a file and an engram, and what was seen of it.
struct Entry {
    engram: EngramId,
    inode: InodeNo,
    said: Tally,
    seen: Tally,
}

impl<M: Machine, O: Observer> Check<'_, M, O> {
    /// Engram by engram: whether what is said of files adds up; then file by file.
    pub(super) fn references(&mut self) -> Result<(), Ended> {
        let mut at = Engram::try_new(EngramId::NONE)?;
        self.begin(Stage::References)?;
        let is_lost = items(self.mounted, REFERENCES, &mut |key, value| {
            self.pass(Stage::References)?;
            let number = EngramId(key.0[0]);
            if number != at.number {
                at.leave(self)?;
                at = Engram::try_new(number)?;
            }
            let of = reference::parse_key(key).map(|(_, of)| of);
            let tally = match of {
                Some(of) => Tally::parse(value, of)?.map(|tally| (of, tally)),
                None => None,
            };
            match tally {
                Some((of, tally)) => at.add(of, tally),
                None => {
                    at.is_senseless = true;
                    let what = Miscount::Senseless(key);
                    self.found(Finding::Reference(number, what));
                }
            }
            Ok(())
        })?;
        if !is_lost {
            at.leave(self)?;
        }
        self.users()
    }

    fn users(&mut self) -> Result<(), Ended> {
        let most = (self.options.memory.0 / ENTRY).max(1) as usize;
        let mut from = Some(Key::MIN);
        while let Some(first) = from {
            let (mut entries, next) = self.said(first, most)?;
            from = next;
            if !entries.is_empty() {
                self.begin(Stage::References)?;
                let is_lost = items(self.mounted, NAMES, &mut |key, value| {
                    self.pass(Stage::References)?;
                    see(&mut entries, key, value);
                    Ok(())
                })?;
                if !is_lost {
                    self.compare(&entries);
                }
            }
        }
        Ok(())
    }

    /// What is said of so many files and engrams, and where more is said.
    fn said(&mut self, first: Key, most: usize) -> Result<(Vec<Entry>, Option<Key>), Ended> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut from = Some(first);
        while let Some(first) = from.take() {
            let last = Key::MAX;
            let Some(mut scan) = self.mounted.scan(REFERENCES, Range { first, last }) else {
                break;
            };
            loop {
                match scan.next() {
                    Ok(Some((key, value))) => {
                        if entries.len() >= most {
                            return Ok((entries, Some(key)));
                        }
                        let of = reference::parse_key(key);
                        let Some((engram, of @ Of::User(inode))) = of else {
                            continue;
                        };
                        if let Some(said) = Tally::parse(&value, of)? {
                            let seen = Tally::try_new()?;
                            entries.push(Entry {
                                engram,
                                inode,
                                said,
                                seen,
                            })?;
                        }
                    }
                    Ok(None) => break,
                    Err(TreeError::Io(..) | TreeError::Corrupt(..)) => {
                        let behind = scan.lost().and_then(|keys| keys.last.next());
                        from = behind.filter(|next| *next > first);
                        break;
                    }
                    Err(why) => return Err(why.into()),
                }
            }
        }
        Ok((entries, None))
    }

    fn compare(&mut self, entries: &[Entry]) {
        for entry in entries {
            let numbers = (0..MAX_BLOCKS).map(|block| {
                let (said, seen) = (entry.said.number(block), entry.seen.number(block));
                (block, (u64::from(said), u64::from(seen)))
            });
            // Of what nothing is said the extents' own findings tell.
            let wrong = numbers.filter(|(_, (said, seen))| *said != 0 && said != seen);
            spans(wrong, |span, (said, seen)| {
                let what = Miscount::User(entry.inode, span, said, seen);
                self.observer.found(&Finding::Reference(entry.engram, what));
            });
        }
    }

    /// Of blocks that an extent names: those that this file is said to have, and those that are said to be shared. None where a node
    /// that says so is lost.
    pub(super) fn shared(
        &mut self,
        inode: InodeNo,
        run: &Run,
    ) -> Result<Option<(Live, Live)>, Ended> {
        let own = self.tallied(run, Of::User(inode))?;
        let all = self.tallied(run, Of::All)?;
        Ok(own.zip(all))
    }

    /// Which blocks of an extent are in a tally.
    pub(super) fn tallied(&mut self, run: &Run, of: Of) -> Result<Option<Live>, Ended> {
        let mut these = Live::default();
        match self.mounted.tally(run.engram, of) {
            Ok(Some(tally)) => {
                let blocks = run.block()..run.block().saturating_add(run.blocks);
                for block in blocks.filter(|block| tally.number(*block) != 0) {
                    these.set(block, 1);
                }
            }
            Ok(None) => {}
            Err(Error::Fault(Fault::NoMemory)) => return Err(Ended::NoMemory),
            Err(_) => return Ok(None),
        }
        Ok(Some(these))
    }
}

/// Counts what an item of extents names.
fn see(entries: &mut [Entry], key: Key, value: &[u8]) {
    let (item, _) = Item::of(key);
    if item.kind() != Kind::EXTENTS {
        return;
    }
    let Some(all) = extent::parse(value) else {
        return;
    };
    for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
        let of = (run.engram, item.owner());
        let at = entries.binary_search_by_key(&of, |entry| (entry.engram, entry.inode));
        let Some(entry) = at.ok().and_then(|at| entries.get_mut(at)) else {
            continue;
        };
        for block in run.block()..run.block().saturating_add(run.blocks) {
            let seen = entry.seen.number(block).saturating_add(1);
            entry.seen.set(block, seen);
        }
    }
}
