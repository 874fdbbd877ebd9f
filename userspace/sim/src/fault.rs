// SPDX-License-Identifier: GPL-2.0

//! What can go wrong with a drive's calls, and when: named calls or ranges, or odds drawn from a seed. This file decides; the
//! drive carries it out.

use crate::cache::Survival;
use crate::host::Chance;
use crate::tally::Tally;
use embr_engine::units::Bytes;
use std::ops::Range;

/// What can go wrong with a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadFault {
    /// It returns an error.
    Fail,
    /// A bit of what it reads has turned over on the medium.
    Rot,
    /// The bytes that it returns have a wrong bit; those on the medium do not.
    Garble,
    /// The drive is gone from here on.
    Vanish,
}

/// What can go wrong with a write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WriteFault {
    /// It returns an error, and any part of it may have been done.
    Fail,
    /// It is reported as done and lands so many blocks away, round the drive's end; without a number, anywhere.
    Misdirect(Option<u64>),
    /// It is reported as done, and nothing is done.
    Lose,
    /// Right before it, or before the first after it that finds something unflushed, the drive alone loses power and that.
    CutPower,
    /// The drive is gone from here on.
    Vanish,
}

/// What can go wrong with a flush.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlushFault {
    /// It returns an error, and this is what becomes of the unflushed writes; without a survival, the seed chooses.
    Fail(Option<Survival>),
    /// It is reported as done, and nothing becomes durable.
    Lie,
    /// The drive is gone from here on.
    Vanish,
}

/// Which calls a fault befalls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum When {
    /// The one after so many more.
    After(u64),
    /// All after so many more.
    From(u64),
    /// All that touch this range. Flushes touch nothing.
    Within(Range<Bytes>),
}

/// A fault to come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Of reads.
    Read(When, ReadFault),
    /// Of writes.
    Write(When, WriteFault),
    /// Of flushes.
    Flush(When, FlushFault),
}

/// How many of 65536 calls go wrong, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Odds {
    /// Reads that return an error.
    pub read_fails: u16,
    /// Reads that find a bit turned over.
    pub rot: u16,
    /// Reads that return a wrong bit once.
    pub garble: u16,
    /// Writes that return an error.
    pub write_fails: u16,
    /// Writes that land elsewhere.
    pub misdirects: u16,
    /// Writes that are not done.
    pub loses: u16,
    /// Flushes that return an error.
    pub flush_fails: u16,
    /// Flushes that do nothing.
    pub lies: u16,
    /// Calls of any kind after which the drive is gone.
    pub vanishes: u16,
    /// Discards that are refused, of those that would not be anyway.
    pub refuses: u16,
}

/// What was done to a drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Injected {
    /// A read returned an error.
    ReadFailed,
    /// Bits turned over on the medium.
    Rotted,
    /// A read returned a wrong bit.
    Garbled,
    /// A write returned an error.
    WriteFailed,
    /// A write was refused for lack of room.
    Full,
    /// A write landed elsewhere.
    Misdirected,
    /// A write was not done.
    Lost,
    /// A flush returned an error.
    FlushFailed,
    /// A flush did nothing.
    Lied,
    /// A drive went away.
    Vanished,
    /// A drive came back, with what it had when it went.
    CameBack,
    /// Unflushed writes were left to chance.
    PowerCut,
    /// Blocks were forgotten because the drive was told that nobody needs them.
    Discarded,
}

impl Injected {
    /// All of them.
    pub const ALL: [Injected; 12] = [
        Injected::ReadFailed,
        Injected::Rotted,
        Injected::Garbled,
        Injected::WriteFailed,
        Injected::Full,
        Injected::Misdirected,
        Injected::Lost,
        Injected::FlushFailed,
        Injected::Lied,
        Injected::Vanished,
        Injected::CameBack,
        Injected::PowerCut,
    ];
}

/// The faults of one drive.
#[derive(Debug)]
pub(crate) struct Faults {
    pub chance: Chance,
    pub odds: Odds,
    pub injected: Tally<Injected>,
    reads: Vec<(When, ReadFault)>,
    writes: Vec<(When, WriteFault)>,
    flushes: Vec<(When, FlushFault)>,
}

impl Faults {
    pub fn new(seed: u64) -> Self {
        Faults {
            chance: Chance::new(seed),
            odds: Odds::default(),
            injected: Tally::default(),
            reads: Vec::new(),
            writes: Vec::new(),
            flushes: Vec::new(),
        }
    }

    /// A fault to come. Of several that befall one call, the first that was asked for counts.
    pub fn expect(&mut self, fault: Fault) {
        match fault {
            Fault::Read(when, fault) => self.reads.push((when, fault)),
            Fault::Write(when, fault) => self.writes.push((when, fault)),
            Fault::Flush(when, fault) => self.flushes.push((when, fault)),
        }
    }

    /// No fault will come any more. What came is still counted.
    pub fn forget(&mut self) {
        *self = Faults {
            injected: std::mem::take(&mut self.injected),
            ..Faults::new(self.chance.next())
        };
    }

    /// What befalls the read that comes now.
    pub fn of_read(&mut self, range: &Range<Bytes>) -> Option<ReadFault> {
        let odds = [
            (self.odds.read_fails, ReadFault::Fail),
            (self.odds.rot, ReadFault::Rot),
            (self.odds.garble, ReadFault::Garble),
            (self.odds.vanishes, ReadFault::Vanish),
        ];
        due(&mut self.reads, range).or_else(|| drawn(&odds, &self.chance))
    }

    /// What befalls the write that comes now.
    pub fn of_write(&mut self, range: &Range<Bytes>) -> Option<WriteFault> {
        let odds = [
            (self.odds.write_fails, WriteFault::Fail),
            (self.odds.misdirects, WriteFault::Misdirect(None)),
            (self.odds.loses, WriteFault::Lose),
            (self.odds.vanishes, WriteFault::Vanish),
        ];
        due(&mut self.writes, range).or_else(|| drawn(&odds, &self.chance))
    }

    /// What befalls the flush that comes now.
    pub fn of_flush(&mut self) -> Option<FlushFault> {
        let odds = [
            (self.odds.flush_fails, FlushFault::Fail(None)),
            (self.odds.lies, FlushFault::Lie),
            (self.odds.vanishes, FlushFault::Vanish),
        ];
        due(&mut self.flushes, &(Bytes(0)..Bytes(0))).or_else(|| drawn(&odds, &self.chance))
    }
}

/// The first fault that is due now. One call has gone by for all of them.
fn due<F: Clone>(faults: &mut Vec<(When, F)>, range: &Range<Bytes>) -> Option<F> {
    let mut due = None;
    faults.retain_mut(|(when, fault)| {
        let (now, again) = match when {
            When::After(0) => (true, false),
            When::From(0) => (true, true),
            When::After(n) | When::From(n) => {
                *n -= 1;
                (false, true)
            }
            When::Within(r) => (r.start < range.end && range.start < r.end, true),
        };
        if now && due.is_none() {
            due = Some(fault.clone());
        }
        again
    });
    due
}

/// One of these, or none, by their odds.
fn drawn<F: Clone>(odds: &[(u16, F)], chance: &Chance) -> Option<F> {
    if odds.iter().all(|(odds, _)| *odds == 0) {
        return None;
    }
    let mut draw = chance.below(1 << 16);
    for (odds, fault) in odds {
        match draw.checked_sub(usize::from(*odds)) {
            Some(rest) => draw = rest,
            None => return Some(fault.clone()),
        }
    }
    None
}
