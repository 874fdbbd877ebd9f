// SPDX-License-Identifier: GPL-2.0

//! One drive: a medium, a volatile cache before it, and what goes wrong with them. It knows no time, no other drives, and
//! nobody who watches; the fleet does.

use crate::cache::Cached;
use crate::cache::Contents;
use crate::cache::Survival;
use crate::cache::Written;
use crate::fault::Fault;
use crate::fault::Faults;
use crate::fault::FlushFault;
use crate::fault::Injected;
use crate::fault::ReadFault;
use crate::fault::When;
use crate::fault::WriteFault;
use crate::host::Chance;
use crate::image::block;
use crate::image::Block;
use crate::image::SECTOR_SIZE;
use crate::sectors::Sectors;
use embr_engine::env::DeviceError;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use std::ops::Range;
use std::sync::Arc;

/// What a call did to the drive.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Nothing that lasts.
    Nothing,
    /// This went into the cache.
    Cached(Cached),
    /// The medium, the cache's older part or the drive's presence is not what it was.
    Changed,
}

/// What a discard leaves of a sector.
#[derive(Clone, Copy)]
enum Leaves {
    Old,
    Zeros,
    Garbage,
}

/// What a discard leaves of a block, each sector by one of these. Where nothing was ever written, nothing is.
fn forget(old: &Block, kinds: &[Leaves], chance: &Chance) -> Block {
    let old = old.as_ref()?;
    let mut bytes = ***old;
    for sector in bytes.chunks_mut(SECTOR_SIZE) {
        match chance.one(kinds) {
            Leaves::Old => {}
            Leaves::Zeros => sector.fill(0),
            Leaves::Garbage => {
                let word = chance.next().to_le_bytes();
                sector
                    .chunks_mut(word.len())
                    .for_each(|p| p.copy_from_slice(&word));
            }
        }
    }
    block(&bytes)
}

/// All writes that a drive had taken when this was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken(u64);

/// One drive.
#[derive(Debug)]
pub(crate) struct Drive {
    contents: Contents,
    /// How many writes were taken in all.
    taken: u64,
    /// How many blocks may still be written where none is; none for no limit.
    room: Option<u64>,
    pub faults: Faults,
}

impl Drive {
    pub fn new(contents: Contents, seed: u64) -> Self {
        Drive {
            taken: contents.cache.len() as u64,
            contents,
            room: None,
            faults: Faults::new(seed),
        }
    }

    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    pub fn size(&self) -> Bytes {
        self.contents.durable.size()
    }

    pub fn taken(&self) -> Taken {
        Taken(self.taken)
    }

    pub fn limit(&mut self, room: Option<u64>) {
        self.room = room;
    }

    fn check(&self, at: Bytes, length: usize) -> Result<Range<Bytes>, DeviceError> {
        let end = Bytes(
            at.0.checked_add(length as u64)
                .ok_or(DeviceError::BeyondEnd)?,
        );
        let whole = length % BLOCK_SIZE == 0 || (end == self.size() && length % SECTOR_SIZE == 0);
        assert!(
            at.0 % BLOCK_SIZE as u64 == 0 && whole,
            "the engine asked for {length} bytes at {at}: not whole blocks"
        );
        if end > self.size() {
            return Err(DeviceError::BeyondEnd);
        }
        if !self.contents.present {
            return Err(DeviceError::Io);
        }
        Ok(at..end)
    }

    pub fn read(&mut self, at: Bytes, into: &mut [u8]) -> (Effect, Result<(), DeviceError>) {
        let range = match self.check(at, into.len()) {
            Ok(range) => range,
            Err(error) => return (Effect::Nothing, Err(error)),
        };
        let mut effect = Effect::Nothing;
        let first = at.0 / BLOCK_SIZE as u64;
        let fault = self.faults.of_read(&range).filter(|_| !into.is_empty());
        match fault {
            Some(ReadFault::Fail) => {
                self.faults.injected.add(Injected::ReadFailed);
                return (Effect::Nothing, Err(DeviceError::Io));
            }
            Some(ReadFault::Vanish) => return (self.vanish(), Err(DeviceError::Io)),
            Some(ReadFault::Rot) => {
                let byte = self.faults.chance.below(into.len());
                let bit = self.faults.chance.below(8);
                effect = self.rot(Bytes(at.0 + byte as u64), 1 << bit);
            }
            Some(ReadFault::Garble) | None => {}
        }
        let visible = self.contents.visible();
        for (number, piece) in (first..).zip(into.chunks_mut(BLOCK_SIZE)) {
            match visible.get(number) {
                Some(block) => piece.copy_from_slice(&block[..piece.len()]),
                None => piece.fill(0),
            }
        }
        if fault == Some(ReadFault::Garble) {
            let byte = self.faults.chance.below(into.len());
            into[byte] ^= 1 << self.faults.chance.below(8);
            self.faults.injected.add(Injected::Garbled);
        }
        (effect, Ok(()))
    }

    pub fn write(&mut self, at: Bytes, from: &[u8]) -> (Effect, Result<(), DeviceError>) {
        let range = match self.check(at, from.len()) {
            Ok(range) if !from.is_empty() => range,
            Ok(_) => return (Effect::Nothing, Ok(())),
            Err(error) => return (Effect::Nothing, Err(error)),
        };
        let mut written = Written::new(at.0 / BLOCK_SIZE as u64, from);
        let mut result = Ok(());
        match self.faults.of_write(&range) {
            None => {}
            Some(WriteFault::Vanish) => return (self.vanish(), Err(DeviceError::Io)),
            Some(WriteFault::Lose) => {
                self.faults.injected.add(Injected::Lost);
                return (Effect::Nothing, Ok(()));
            }
            Some(WriteFault::CutPower) => {
                if self.contents.cache.is_empty() {
                    let again = Fault::Write(When::After(1), WriteFault::CutPower);
                    self.faults.expect(again);
                }
                self.cut_power(&Survival::None);
                let (_, done) = self.write(at, from);
                return (Effect::Changed, done);
            }
            Some(WriteFault::Misdirect(by)) => {
                self.faults.injected.add(Injected::Misdirected);
                written = Written::new(self.elsewhere(&written, by), from);
            }
            Some(WriteFault::Fail) => {
                self.faults.injected.add(Injected::WriteFailed);
                let arrived = Sectors::some(written.sectors(), &self.faults.chance);
                if arrived.count() == 0 {
                    return (Effect::Nothing, Err(DeviceError::Io));
                }
                written = written.torn(self.contents.visible(), &arrived);
                result = Err(DeviceError::Io);
            }
        }
        if let Some(room) = self.room {
            let visible = self.contents.visible();
            let new = |n: &u64| visible.get(*n).is_none();
            let needed = written.numbers().filter(new).count() as u64;
            let Some(left) = room.checked_sub(needed) else {
                self.faults.injected.add(Injected::Full);
                return (Effect::Nothing, Err(DeviceError::Io));
            };
            self.room = Some(left);
        }
        (self.cache(written), result)
    }

    /// Forgets what is in a range, in any way that drives have: each sector is as it was, or zero, or anything. Until a flush it may be
    /// undone in part, as a write may. Says whether it was accepted; what is not is not done, or in part.
    pub fn discard(&mut self, at: Bytes, length: Bytes) -> (Effect, bool) {
        let length = usize::try_from(length.0).unwrap_or(usize::MAX);
        let range = match self.check(at, length) {
            Ok(range) if length != 0 => range,
            _ => return (Effect::Nothing, false),
        };
        let chance = &self.faults.chance;
        let refused = chance.below(1 << 16) < usize::from(self.faults.odds.refuses);
        let accepted = !refused && chance.below(16) != 0;
        let kinds: &[Leaves] = match chance.below(8) {
            0 => &[Leaves::Old],
            1 => &[Leaves::Zeros],
            2 => &[Leaves::Zeros, Leaves::Old],
            3..=5 => &[Leaves::Garbage],
            _ => &[Leaves::Garbage, Leaves::Zeros, Leaves::Old],
        };
        let visible = self.contents.visible();
        let numbers = range.start.0 / BLOCK_SIZE as u64..range.end.0.div_ceil(BLOCK_SIZE as u64);
        let forgotten = |number| forget(&visible.get(number), kinds, chance);
        let blocks: Vec<Block> = numbers.clone().map(forgotten).collect();
        let sectors = length / SECTOR_SIZE;
        let mut written = Written::discarded(numbers.start, sectors, blocks);
        if !accepted {
            let arrived = Sectors::some(sectors, chance);
            written = written.torn(visible, &arrived);
        }
        self.faults.injected.add(Injected::Discarded);
        (self.cache(written), accepted)
    }

    fn cache(&mut self, written: Written) -> Effect {
        let mut after = self.contents.visible().clone();
        written.apply(&mut after);
        let cached = Cached {
            written: Arc::new(written),
            after,
        };
        self.contents.cache.push(cached.clone());
        self.taken += 1;
        Effect::Cached(cached)
    }

    /// Where a misdirected write lands: never where it was meant to, unless the drive has no other place.
    fn elsewhere(&self, written: &Written, by: Option<u64>) -> u64 {
        let places = self.size().0 / BLOCK_SIZE as u64 + 1 - written.numbers().count() as u64;
        let by = by.unwrap_or_else(|| {
            let others = usize::try_from(places.saturating_sub(1).max(1)).unwrap_or(usize::MAX);
            1 + self.faults.chance.below(others) as u64
        });
        (written.first() + by) % places.max(1)
    }

    /// Makes durable what had been taken then.
    pub fn flush(&mut self, then: Taken) -> (Effect, Result<(), DeviceError>) {
        if !self.contents.present {
            return (Effect::Nothing, Err(DeviceError::Io));
        }
        match self.faults.of_flush() {
            Some(FlushFault::Vanish) => return (self.vanish(), Err(DeviceError::Io)),
            Some(FlushFault::Lie) => {
                self.faults.injected.add(Injected::Lied);
                return (Effect::Nothing, Ok(()));
            }
            Some(FlushFault::Fail(survival)) => {
                self.faults.injected.add(Injected::FlushFailed);
                let chance = &self.faults.chance;
                let survival = survival.unwrap_or_else(|| match chance.below(4) {
                    0 => Survival::None,
                    1 => Survival::Reset,
                    2 => Survival::All,
                    _ => Survival::Subset(chance.next()),
                });
                return (self.fall_back(&survival), Err(DeviceError::Io));
            }
            None => {}
        }
        // The cache holds the newest writes: those that came before `then` are at its front.
        let newer = usize::try_from(self.taken.saturating_sub(then.0)).unwrap_or(usize::MAX);
        let due = self.contents.cache.len().saturating_sub(newer);
        let Some(last) = self.contents.cache.drain(..due).next_back() else {
            return (Effect::Nothing, Ok(()));
        };
        self.contents.durable = last.after;
        (Effect::Changed, Ok(()))
    }

    /// Leaves of the cache what the survival says; a write that does not exist is a fault of the caller.
    pub fn fall_back(&mut self, survival: &Survival) -> Effect {
        let present = self.contents.present;
        let left = survival.of(&self.contents.durable, &self.contents.cache, 0);
        self.contents = Contents {
            present,
            ..left.expect("a survival names unflushed writes")
        };
        Effect::Changed
    }

    /// This is what becomes of unflushed writes, if there are any.
    pub fn cut_power(&mut self, survival: &Survival) -> Effect {
        if !self.contents.cache.is_empty() {
            self.faults.injected.add(Injected::PowerCut);
        }
        self.fall_back(survival)
    }

    /// From now on every call fails.
    pub fn vanish(&mut self) -> Effect {
        self.faults.injected.add(Injected::Vanished);
        self.contents.present = false;
        Effect::Changed
    }

    /// Answers again, with what was on the medium then and what the survival leaves of the cache.
    pub fn come_back(&mut self, survival: &Survival) -> Effect {
        self.faults.injected.add(Injected::CameBack);
        self.contents.present = true;
        self.fall_back(survival)
    }

    /// Turns bits of a byte on the medium over. A cached write over it hides that, and mends it when it is flushed.
    pub fn rot(&mut self, at: Bytes, bits: u8) -> Effect {
        self.faults.injected.add(Injected::Rotted);
        let number = at.0 / BLOCK_SIZE as u64;
        let old = self.contents.durable.get(number);
        let mut bytes = old.map_or([0; BLOCK_SIZE], |b| **b);
        bytes[at.0 as usize % BLOCK_SIZE] ^= bits;
        self.contents.durable.set(number, block(&bytes));
        let writes = std::mem::take(&mut self.contents.cache);
        let writes = writes.into_iter().map(|c| c.written);
        self.contents.cache = Cached::stack(&self.contents.durable, writes);
        Effect::Changed
    }
}
