// SPDX-License-Identifier: GPL-2.0

//! Reading the journal after a mount: every ring is searched for groups, and those are followed, one behind the other, from where
//! the root says. Reads only.

use crate::env::DeviceError;
use crate::env::Devices;
use crate::env::Hash256;
use crate::env::Hasher;
use crate::error::NoMem;
use crate::format::journal::BadGroup;
use crate::format::journal::Behind;
use crate::format::journal::End;
use crate::format::journal::Header;
use crate::format::journal::Record;
use crate::format::journal::HEADER_SIZE;
use crate::format::journal::MAX_GROUP;
use crate::format::member::Members;
use crate::format::member::Slot;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Sequence;
use crate::units::Uuid;
use crate::units::BLOCK_SIZE;
use embr_rt::Vec;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A ring to be searched.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// The device.
    pub slot: Slot,
    /// Its number.
    pub id: DeviceId,
    /// The ring's first block.
    pub start: Blocks,
    /// Its size.
    pub blocks: Blocks,
}

/// A copy of a group.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Where it comes in the order.
    pub sequence: Sequence,
    /// On which device it is.
    pub slot: Slot,
    /// At which block.
    pub at: Blocks,
    /// Of how many.
    pub blocks: u64,
    /// What it says was durable when it was written.
    pub durable: Sequence,
    /// Its identity.
    pub identity: Hash256,
    epoch: EpochId,
    previous: Hash256,
}

/// What kept the journal from being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanError {
    /// Memory could not be had.
    NoMemory,
    /// The group with this number was durable once, and no sound copy of it is left: what was acknowledged since is lost.
    Lost(Sequence),
    /// A sound group holds a record that makes no sense.
    Record(Sequence),
    /// Devices that should have the group with this number, if there is one, cannot be read where it would lie.
    Unread(Sequence),
}

impl From<NoMem> for ScanError {
    fn from(_: NoMem) -> Self {
        ScanError::NoMemory
    }
}

/// All that lies in the rings, in the order of the sequence.
#[derive(Debug)]
pub struct Scan {
    volume: Uuid,
    sources: Vec<Source>,
    found: Vec<Found>,
    /// Blocks that could not be read.
    unread: Vec<(Slot, Blocks)>,
}

impl Scan {
    /// Searches these rings for groups of this volume from `first` on, and for the one before.
    #[inline(never)]
    pub fn read(
        host: &impl Devices,
        hasher: &impl Hasher,
        volume: Uuid,
        sources: Vec<Source>,
        first: Sequence,
    ) -> Result<Self, ScanError> {
        let mut found = Vec::new();
        let mut unread = Vec::new();
        let mut piece = Vec::zeroed(PIECE)?;
        for source in sources.iter() {
            for begin in (0..source.blocks.0).step_by(PIECE / BLOCK_SIZE) {
                let blocks = source
                    .blocks
                    .0
                    .saturating_sub(begin)
                    .min((PIECE / BLOCK_SIZE) as u64);
                let Some(at) = Blocks(source.start.0.saturating_add(begin)).bytes() else {
                    break;
                };
                let Some(into) = piece.get_mut(..(blocks as usize).saturating_mul(BLOCK_SIZE))
                else {
                    break;
                };
                read_what_can_be(host, source.slot, at, into, &mut unread)?;
                for (index, block) in into.chunks_exact(BLOCK_SIZE).enumerate() {
                    let block_at = Blocks(at.whole_blocks().0.saturating_add(index as u64));
                    let Some(byte) = block_at.bytes() else { break };
                    let Ok(header) = Header::parse(hasher, block, byte, volume, source.id) else {
                        continue;
                    };
                    let blocks = (header.size() / BLOCK_SIZE) as u64;
                    let end = source.start.0.saturating_add(source.blocks.0);
                    // The one before the first says where that would lie.
                    let behind = header.sequence.0.saturating_add(1);
                    if behind < first.0 || block_at.0.saturating_add(blocks) > end {
                        continue;
                    }
                    found.push(Found {
                        sequence: header.sequence,
                        slot: source.slot,
                        at: block_at,
                        blocks,
                        durable: header.durable,
                        epoch: header.epoch,
                        previous: header.previous,
                        identity: header.identity,
                    })?;
                }
            }
        }
        found.sort_unstable_by_key(|f| f.sequence);
        Ok(Scan {
            volume,
            sources,
            found,
            unread,
        })
    }

    /// Follows the groups of `behind`: hands every record to `apply`, in order, and says where the journal ends and which copies
    /// of which groups make it up. `epochs` says whether groups of an epoch count, `copies` how many copies a group has that was
    /// acknowledged.
    #[inline(never)]
    pub fn follow<E: From<ScanError>>(
        &self,
        host: &impl Devices,
        hasher: &impl Hasher,
        behind: Behind,
        copies: usize,
        epochs: impl Fn(EpochId) -> bool,
        mut apply: impl FnMut(Sequence, Record<'_>) -> Result<(), E>,
    ) -> Result<(End, Vec<Found>), E> {
        let no_memory = |_: NoMem| E::from(ScanError::NoMemory);
        let mut buffer = Vec::try_with_capacity(MAX_GROUP).map_err(no_memory)?;
        let mut end = behind.next;
        let mut used = Vec::new();
        let mut unread = Members::default();
        'groups: loop {
            let next = behind.onward(end);
            for copy in self.copies(next.next) {
                if copy.previous != next.identity || !epochs(copy.epoch) {
                    continue;
                }
                let header = match self.load(host, hasher, copy, &mut buffer) {
                    Ok(Some(header)) => header,
                    Ok(None) => continue,
                    Err(ScanError::Unread(_)) => {
                        unread = unread.with(copy.slot);
                        continue;
                    }
                    Err(why) => return Err(why.into()),
                };
                let broken = |_: BadGroup| E::from(ScanError::Record(copy.sequence));
                let mut records = match header.records(hasher, &buffer) {
                    Ok(records) => records,
                    Err(_) => continue,
                };
                // Every copy of this very group is needed until it is released.
                for same in self
                    .copies(next.next)
                    .filter(|c| c.identity == copy.identity)
                {
                    used.push(*same).map_err(no_memory)?;
                }
                while let Some(record) = records.next().map_err(broken)? {
                    apply(copy.sequence, record)?;
                }
                end = End {
                    next: Sequence(next.next.0.saturating_add(1)),
                    identity: copy.identity,
                };
                unread = Members::default();
                continue 'groups;
            }
            break;
        }
        let next = behind.onward(end);
        let promised = self
            .found
            .iter()
            .filter(|f| epochs(f.epoch))
            .map(|f| f.durable)
            .max();
        if promised.is_some_and(|durable| durable >= next.next) {
            return Err(ScanError::Lost(next.next).into());
        }
        if self.may_go_on(end, unread, copies) {
            return Err(ScanError::Unread(next.next).into());
        }
        Ok((next, used))
    }

    /// Whether there may be a group behind this end that could not be read: of which some block cannot be, or on these devices.
    fn may_go_on(&self, end: End, bad: Members, copies: usize) -> bool {
        let is_bad = |slot: Slot| bad.has(slot) || self.unread.iter().any(|(s, _)| *s == slot);
        let doubtful = self.sources.iter().filter(|s| is_bad(s.slot)).count();
        if doubtful == 0 {
            return false;
        }
        let last = Sequence(end.next.0.saturating_sub(1));
        let mut last = self.copies(last).filter(|f| f.identity == end.identity);
        match last.next() {
            // A device that has the last group would have one behind it, if there were one.
            Some(first) => !core::iter::once(first)
                .chain(last)
                .any(|copy| !bad.has(copy.slot) && self.vouches(copy)),
            // Where that would lie is not known, nor on which devices.
            None => doubtful >= copies.min(self.sources.len()),
        }
    }

    /// Whether the ring could be read where a group behind this one would lie.
    fn vouches(&self, last: &Found) -> bool {
        let behind = Blocks(last.at.0.saturating_add(last.blocks));
        let source = self.sources.iter().find(|s| s.slot == last.slot);
        source.is_some_and(|source| {
            let mut unread = self.unread.iter().filter(|(slot, _)| *slot == last.slot);
            !unread.any(|(_, block)| *block == behind || *block == source.start)
        })
    }

    fn copies(&self, sequence: Sequence) -> impl Iterator<Item = &Found> {
        let first = self.found.partition_point(|f| f.sequence < sequence);
        self.found
            .iter()
            .skip(first)
            .take_while(move |f| f.sequence == sequence)
    }

    /// The whole group of this copy, if it is still as it was found.
    #[inline(never)]
    fn load(
        &self,
        host: &impl Devices,
        hasher: &impl Hasher,
        copy: &Found,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Header>, ScanError> {
        let size = usize::try_from(copy.blocks)
            .unwrap_or(usize::MAX)
            .saturating_mul(BLOCK_SIZE);
        let Some(at) = copy
            .at
            .bytes()
            .filter(|_| (HEADER_SIZE..=MAX_GROUP).contains(&size))
        else {
            return Ok(None);
        };
        buffer.try_resize(size, 0)?;
        match host.read(copy.slot, at, buffer) {
            Ok(()) => {}
            Err(DeviceError::NoMemory) => return Err(ScanError::NoMemory),
            Err(_) => return Err(ScanError::Unread(copy.sequence)),
        }
        let id = self
            .sources
            .iter()
            .find(|s| s.slot == copy.slot)
            .map(|s| s.id);
        let header = id.and_then(|id| Header::parse(hasher, buffer, at, self.volume, id).ok());
        Ok(header.filter(|h| h.identity == copy.identity))
    }
}

/// Reads a range as a whole, or block by block where that fails; what cannot be read becomes zeros, which are no group, and is listed.
fn read_what_can_be(
    host: &impl Devices,
    slot: Slot,
    at: Bytes,
    into: &mut [u8],
    unread: &mut Vec<(Slot, Blocks)>,
) -> Result<(), ScanError> {
    match host.read(slot, at, into) {
        Ok(()) => return Ok(()),
        Err(DeviceError::NoMemory) => return Err(ScanError::NoMemory),
        Err(_) => {}
    }
    for (index, block) in into.chunks_exact_mut(BLOCK_SIZE).enumerate() {
        let offset = Bytes((index as u64).saturating_mul(BLOCK_SIZE as u64));
        let read = at.plus(offset).map(|at| host.read(slot, at, block));
        match read {
            Some(Ok(())) => {}
            Some(Err(DeviceError::NoMemory)) => return Err(ScanError::NoMemory),
            _ => {
                block.fill(0);
                let first = at.whole_blocks().0;
                unread.push((slot, Blocks(first.saturating_add(index as u64))))?;
            }
        }
    }
    Ok(())
}
