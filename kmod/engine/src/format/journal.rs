// SPDX-License-Identifier: GPL-2.0

//! A group of the journal: a header and the records of whole transactions, in their order. A group counts as a whole or not at
//! all, and only behind the very group that it was written behind.

use crate::env::Hash256;
use crate::env::Hasher;
use crate::error::NoMem;
use crate::format::member::Slot;
use crate::format::node::MAX_VALUE;
use crate::format::seal;
use crate::tree::key::KEY_SIZE;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::DeviceId;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Sequence;
use crate::units::SessionId;
use crate::units::TreeId;
use crate::units::Uuid;
use crate::units::BLOCK_SIZE;
use core::fmt;
use embr_rt::Vec;
use zerocopy::little_endian::U16;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// First bytes of a group.
pub const MAGIC: [u8; 8] = *b"embrfsJG";
/// The version of groups.
pub const VERSION: u32 = 1;
/// Size of the header; records follow at once.
pub const HEADER_SIZE: usize = 256;
/// Size of a group, at most: header, records, padding.
pub const MAX_GROUP: usize = 1 << 20;
/// Blocks that a record takes or frees, at most.
pub const MAX_EXTENT: u64 = 32768;

/// No group has this number or a higher one: it would take longer than anything lasts.
pub const MAX_SEQUENCE: Sequence = Sequence(1 << 63);

const CONTEXT: &[u8; 16] = b"embrfs group v1\0";
/// What the identity covers: everything in the header that is the same in all copies.
const COMMON: core::ops::Range<usize> = 48..160;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    size: U32,
    seal: [u8; 32],
    volume: [u8; 16],
    epoch: [u8; 16],
    session: [u8; 16],
    sequence: U64,
    durable: U64,
    previous: [u8; 32],
    used: U32,
    records: U32,
    reserved0: [u8; 8],
    identity: [u8; 32],
    device: U32,
    reserved1: [u8; 60],
}

/// What a group's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The volume that it belongs to.
    pub volume: Uuid,
    /// The epoch in which it was written.
    pub epoch: EpochId,
    /// The mount that wrote it.
    pub session: SessionId,
    /// Its place in the order of groups.
    pub sequence: Sequence,
    /// Every group up to this one was durable when this one was written.
    pub durable: Sequence,
    /// The identity of the group before.
    pub previous: Hash256,
    /// Its own identity: a hash over all of it that is the same in every copy.
    pub identity: Hash256,
    /// The device of this copy.
    pub device: DeviceId,
    /// Bytes of records.
    pub used: u32,
    /// How many records there are.
    pub records: u32,
}

/// Where the journal ends: what the next group is written behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    /// The number of the next group.
    pub next: Sequence,
    /// The identity of the group before it.
    pub identity: Hash256,
}

/// Groups that say nothing any more: those from `first` on, up to where it goes on. What lay there may be written over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first of them.
    pub first: Sequence,
    /// How the identity of the group before that begins: behind another one, nothing is left out.
    pub after: [u8; 8],
    /// Where the journal goes on behind them.
    pub resume: End,
}

impl Gap {
    /// How this identity begins.
    pub fn behind(identity: Hash256) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = identity.0;
        [a, b, c, d, e, f, g, h]
    }
}

/// What of the journal lies behind a root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Behind {
    /// Where it begins.
    pub next: End,
    /// What is left out of it.
    pub gap: Option<Gap>,
}

impl Behind {
    /// All from there on.
    pub fn all(next: End) -> Self {
        Behind { next, gap: None }
    }

    /// Whether it has the group of this number, if there is one.
    pub fn has(&self, group: Sequence) -> bool {
        let is_left_out = |gap: Gap| gap.first <= group && group < gap.resume.next;
        self.next.next <= group && !self.gap.is_some_and(is_left_out)
    }

    /// Where the journal goes on when everything was read up to `end`.
    pub fn onward(&self, end: End) -> End {
        match self.gap {
            Some(gap) if gap.first == end.next && gap.after == Gap::behind(end.identity) => {
                gap.resume
            }
            _ => end,
        }
    }
}

/// Why bytes are not a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadGroup {
    /// No group's magic.
    Magic,
    /// The header's seal does not hold, or the records are not those that it was written with.
    Seal,
    /// A version that this code does not know.
    Version(u32),
    /// Written for another volume or another device.
    Foreign,
    /// A field has a value that cannot be.
    Field,
    /// A record is no record.
    Record,
}

impl fmt::Display for BadGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadGroup::Magic => f.write_str("not a journal group"),
            BadGroup::Seal => {
                f.write_str("checksum mismatch: torn, damaged or written to another place")
            }
            BadGroup::Version(v) => write!(f, "journal group version {v} is not known here"),
            BadGroup::Foreign => f.write_str("a journal group of another volume or device"),
            BadGroup::Field => f.write_str("a field of a journal group has an impossible value"),
            BadGroup::Record => f.write_str("a journal record makes no sense"),
        }
    }
}

/// The size of a group with so many bytes of records.
pub fn group_size(used: usize) -> usize {
    used.saturating_add(HEADER_SIZE)
        .saturating_add(BLOCK_SIZE - 1)
        & !(BLOCK_SIZE - 1)
}

fn identity(hasher: &impl Hasher, common: &[u8], records: &[u8]) -> Hash256 {
    hasher.hash(&[CONTEXT, common, records])
}

impl Header {
    /// Checks the header that was read at `at` from a device.
    pub fn parse(
        hasher: &impl Hasher,
        block: &[u8],
        at: Bytes,
        volume: Uuid,
        device: DeviceId,
    ) -> Result<Header, BadGroup> {
        let bytes = block.get(..HEADER_SIZE).ok_or(BadGroup::Magic)?;
        let raw = Raw::ref_from_bytes(bytes).map_err(|_| BadGroup::Magic)?;
        if raw.magic != MAGIC {
            return Err(BadGroup::Magic);
        }
        if !seal::holds(hasher, bytes, at) {
            return Err(BadGroup::Seal);
        }
        if raw.version.get() != VERSION {
            return Err(BadGroup::Version(raw.version.get()));
        }
        let header = Header {
            volume: Uuid(raw.volume),
            epoch: EpochId(raw.epoch),
            session: SessionId(raw.session),
            sequence: Sequence(raw.sequence.get()),
            durable: Sequence(raw.durable.get()),
            previous: Hash256(raw.previous),
            identity: Hash256(raw.identity),
            device: DeviceId(raw.device.get()),
            used: raw.used.get(),
            records: raw.records.get(),
        };
        if header.volume != volume || header.device != device {
            return Err(BadGroup::Foreign);
        }
        let sound = raw.size.get() as usize == header.size()
            && header.size() <= MAX_GROUP
            && header.epoch != EpochId::NONE
            && (1..MAX_SEQUENCE.0).contains(&header.sequence.0)
            && header.durable < header.sequence;
        sound.then_some(header).ok_or(BadGroup::Field)
    }

    /// Bytes from the header's begin to the end of the padding.
    pub fn size(&self) -> usize {
        group_size(self.used as usize)
    }

    /// The records in `group`, the whole of what was read, if they are those that this header was written with.
    pub fn records<'a>(
        &self,
        hasher: &impl Hasher,
        group: &'a [u8],
    ) -> Result<Records<'a>, BadGroup> {
        let end = HEADER_SIZE.saturating_add(self.used as usize);
        let records = group.get(HEADER_SIZE..end).ok_or(BadGroup::Field)?;
        let common = group.get(COMMON).ok_or(BadGroup::Field)?;
        if identity(hasher, common, records) != self.identity {
            return Err(BadGroup::Seal);
        }
        Ok(Records {
            rest: records,
            left: self.records,
        })
    }

    /// Writes the header over the first bytes of `group`, whose records are in place, for no copy in particular, and says what
    /// identity it has. [`Self::seal_copy`] makes it a copy's.
    pub fn encode(&mut self, hasher: &impl Hasher, group: &mut [u8]) -> Hash256 {
        let raw = Raw {
            magic: MAGIC,
            version: VERSION.into(),
            size: (self.size() as u32).into(),
            seal: [0; 32],
            volume: self.volume.0,
            epoch: self.epoch.0,
            session: self.session.0,
            sequence: self.sequence.0.into(),
            durable: self.durable.0.into(),
            previous: self.previous.0,
            used: self.used.into(),
            records: self.records.into(),
            reserved0: [0; 8],
            identity: [0; 32],
            device: 0.into(),
            reserved1: [0; 60],
        };
        // A shorter buffer would only leave a group that no one accepts.
        let _ = raw.write_to_prefix(group);
        let end = HEADER_SIZE.saturating_add(self.used as usize);
        let common = group.get(COMMON).unwrap_or_default();
        let records = group.get(HEADER_SIZE..end).unwrap_or_default();
        self.identity = identity(hasher, common, records);
        if let Some(place) = group
            .get_mut(core::mem::offset_of!(Raw, identity)..)
            .and_then(|b| b.get_mut(..32))
        {
            place.copy_from_slice(&self.identity.0);
        }
        self.identity
    }

    /// Makes `block`, a copy of an encoded group's first block, that of one device's copy at `at`.
    pub fn seal_copy(hasher: &impl Hasher, block: &mut [u8], device: DeviceId, at: Bytes) {
        let Some(header) = block.get_mut(..HEADER_SIZE) else {
            return;
        };
        if let Some(place) = header
            .get_mut(core::mem::offset_of!(Raw, device)..)
            .and_then(|b| b.get_mut(..4))
        {
            place.copy_from_slice(&device.0.to_le_bytes());
        }
        seal::apply(hasher, header, at);
    }
}

/// Blocks of one device that lie together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The device.
    pub device: Slot,
    /// Its first block.
    pub start: Blocks,
    /// How many.
    pub blocks: Blocks,
}

/// One record: a change that is the same however often it is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// The key has this value.
    Set(TreeId, Key, &'a [u8]),
    /// The key is gone.
    Gone(TreeId, Key),
    /// Every key of the range is gone.
    RangeGone(TreeId, Range),
    /// The blocks are in use.
    Take(Extent),
    /// The blocks are free.
    Free(Extent),
    /// The blocks hold nodes that the root of this generation is the first to need.
    NodesTaken(Generation, Extent),
    /// The blocks held nodes that the root of this generation is the first not to need.
    NodesFreed(Generation, Extent),
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RecordHead {
    kind: u8,
    /// A tree, or a device's slot.
    of: u8,
    /// Bytes that follow.
    length: U16,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawExtent {
    start: U64,
    blocks: U64,
}

const SET: u8 = 1;
const GONE: u8 = 2;
const RANGE_GONE: u8 = 3;
const TAKE: u8 = 4;
const FREE: u8 = 5;
const NODES_TAKEN: u8 = 6;
const NODES_FREED: u8 = 7;

impl Record<'_> {
    /// Bytes that it takes in a group.
    pub fn size(&self) -> usize {
        let length = match self {
            Record::Set(_, _, value) => KEY_SIZE.saturating_add(value.len()),
            Record::Gone(..) => KEY_SIZE,
            Record::RangeGone(..) => 2 * KEY_SIZE,
            Record::Take(_) | Record::Free(_) => 16,
            Record::NodesTaken(..) | Record::NodesFreed(..) => 24,
        };
        length.saturating_add(core::mem::size_of::<RecordHead>())
    }

    /// Appends it.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), NoMem> {
        let (kind, of) = match self {
            Record::Set(tree, ..) => (SET, tree.0),
            Record::Gone(tree, _) => (GONE, tree.0),
            Record::RangeGone(tree, _) => (RANGE_GONE, tree.0),
            Record::Take(e) => (TAKE, e.device.index() as u8),
            Record::Free(e) => (FREE, e.device.index() as u8),
            Record::NodesTaken(_, e) => (NODES_TAKEN, e.device.index() as u8),
            Record::NodesFreed(_, e) => (NODES_FREED, e.device.index() as u8),
        };
        let length = self
            .size()
            .saturating_sub(core::mem::size_of::<RecordHead>());
        out.try_reserve(self.size())?;
        let head = RecordHead {
            kind,
            of,
            length: (length as u16).into(),
        };
        out.try_extend_from_slice(head.as_bytes())?;
        let key = |out: &mut Vec<u8>, key: &Key| out.try_extend_from_slice(&key.to_bytes());
        let extent = |out: &mut Vec<u8>, e: &Extent| {
            let raw = RawExtent {
                start: e.start.0.into(),
                blocks: e.blocks.0.into(),
            };
            out.try_extend_from_slice(raw.as_bytes())
        };
        match self {
            Record::Set(_, k, value) => {
                key(out, k)?;
                out.try_extend_from_slice(value)
            }
            Record::Gone(_, k) => key(out, k),
            Record::RangeGone(_, range) => {
                key(out, &range.first)?;
                key(out, &range.last)
            }
            Record::Take(e) | Record::Free(e) => extent(out, e),
            Record::NodesTaken(generation, e) | Record::NodesFreed(generation, e) => {
                out.try_extend_from_slice(&generation.0.to_le_bytes())?;
                extent(out, e)
            }
        }
    }
}

/// The records of a group, one after the other.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Records<'a> {
    /// The next record; none behind the last.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Record<'a>>, BadGroup> {
        let Some(left) = self.left.checked_sub(1) else {
            // What was written was written wholly.
            return if self.rest.is_empty() {
                Ok(None)
            } else {
                Err(BadGroup::Record)
            };
        };
        let (head, rest) = RecordHead::ref_from_prefix(self.rest).map_err(|_| BadGroup::Record)?;
        let length = usize::from(head.length.get());
        let body = rest.get(..length).ok_or(BadGroup::Record)?;
        self.rest = rest.get(length..).ok_or(BadGroup::Record)?;
        self.left = left;
        decode(head, body).map(Some).ok_or(BadGroup::Record)
    }
}

fn decode<'a>(head: &RecordHead, body: &'a [u8]) -> Option<Record<'a>> {
    let tree = TreeId(head.of);
    let extent = |bytes: &[u8]| {
        let raw = RawExtent::ref_from_bytes(bytes).ok()?;
        let (start, blocks) = (raw.start.get(), raw.blocks.get());
        let sound = (1..=MAX_EXTENT).contains(&blocks)
            && start.checked_add(blocks).is_some_and(|end| end < 1 << 52);
        sound.then_some(Extent {
            device: Slot::new(usize::from(head.of))?,
            start: Blocks(start),
            blocks: Blocks(blocks),
        })
    };
    let nodes = || {
        let (generation, rest) = U64::ref_from_prefix(body).ok()?;
        Some((Generation(generation.get()), extent(rest)?))
    };
    Some(match head.kind {
        SET => {
            let (key, value) = Key::from_bytes(body)?;
            Record::Set(tree, key, (value.len() <= MAX_VALUE).then_some(value)?)
        }
        GONE => {
            let (key, rest) = Key::from_bytes(body)?;
            Record::Gone(tree, rest.is_empty().then_some(key)?)
        }
        RANGE_GONE => {
            let (first, rest) = Key::from_bytes(body)?;
            let (last, rest) = Key::from_bytes(rest)?;
            (rest.is_empty() && first <= last)
                .then_some(Record::RangeGone(tree, Range { first, last }))?
        }
        TAKE => Record::Take(extent(body)?),
        FREE => Record::Free(extent(body)?),
        NODES_TAKEN => nodes().map(|(g, e)| Record::NodesTaken(g, e))?,
        NODES_FREED => nodes().map(|(g, e)| Record::NodesFreed(g, e))?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
