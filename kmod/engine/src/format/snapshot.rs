// SPDX-License-Identifier: GPL-2.0

//! What the tree of snapshots holds: for each snapshot and each state that goes on, a node, which says what it grew from; and what
//! was touched in it, so that nobody has to go through all files to find that.

use crate::error::NoMem;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::units::Timestamp;
use embr_rt::Vec;
use zerocopy::little_endian::I64;
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

/// The version of these items.
pub const VERSION: u8 = 1;
/// Bytes of a name, at most.
pub const MAX_NAME: usize = 255;
/// Spans of numbers of one node, at most.
pub const MAX_SPANS: usize = 240;

/// Bytes of a span.
pub const SPAN_SIZE: usize = 16;
/// Bytes of a node before its spans.
pub const NODE_SIZE: usize = 64;
const NANOS: u32 = 1_000_000_000;

const _: () = assert!(size_of::<Raw>() == NODE_SIZE);
const _: () = assert!(size_of::<RawSpan>() == SPAN_SIZE);
const _: () =
    assert!(NODE_SIZE + MAX_SPANS * SPAN_SIZE + MAX_NAME <= crate::format::node::MAX_VALUE);

const NODE: u64 = 0x01 << 56;

/// The key of a snapshot's node.
pub fn node(id: SnapshotId) -> Key {
    Key([0, NODE, id.0])
}

/// The keys of all nodes.
pub const NODES: Range = Range {
    first: Key([0, NODE, 0]),
    last: Key([0, NODE, u64::MAX]),
};

/// Whose node has this key.
pub fn parse_node(key: Key) -> Option<SnapshotId> {
    let Key([none, kind, id]) = key;
    (none == 0 && kind == NODE && id != 0).then_some(SnapshotId(id))
}

/// The key of the number for the next snapshot.
pub const NUMBERS: Key = Key([0, 0xf2 << 56, 0]);

/// The keys of all that was touched in the snapshots from one to another, both included.
pub fn all_touched(first: SnapshotId, last: SnapshotId) -> Range {
    Range {
        first: Key([first.0, 0, 0]),
        last: Key([last.0, u64::MAX, u64::MAX]),
    }
}

/// The key of what says that in this snapshot an item of an inode was touched, by its kind and place in one number; with 0 all of it.
pub fn touched(id: SnapshotId, inode: InodeNo, place: u64) -> Key {
    Key([id.0, inode.0, place])
}

/// Which snapshot, inode and place an item with this key is about; none if it does not say what was touched.
pub fn parse_touched(key: Key) -> Option<(SnapshotId, InodeNo, u64)> {
    let Key([id, inode, place]) = key;
    (id != 0).then_some((SnapshotId(id), InodeNo(inode), place))
}

/// What becomes of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// It goes on.
    Head = 0,
    /// It stays as it is.
    Snapshot = 1,
    /// It was deleted; others may have grown from it.
    Deleted = 2,
}

impl State {
    fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => State::Head,
            1 => State::Snapshot,
            2 => State::Deleted,
            _ => return None,
        })
    }
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    version: u8,
    state: u8,
    spans: U16,
    name: u8,
    zero: [u8; 3],
    parent: U64,
    seconds: I64,
    nanos: U32,
    zero2: U32,
    cursor: [U64; 3],
    room: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawSpan {
    first: U64,
    last: U64,
}

/// A node of the tree that snapshots make.
#[derive(Debug, PartialEq, Eq)]
pub struct Node {
    /// What becomes of it.
    pub state: State,
    /// What it grew from; none of the first.
    pub parent: SnapshotId,
    /// When it was made; of a snapshot when it was taken.
    pub made: Timestamp,
    /// How far going through what was touched has come, of one that was deleted.
    pub cursor: Key,
    /// Nodes that are kept back for removing what others see of it, of a head.
    pub room: u64,
    /// The numbers of the versions that are its own, rising: first and last of each span. The last of all is its number.
    pub own: Vec<(SnapshotId, SnapshotId)>,
    /// Its name; none of the state that a volume shows by itself, and of what was deleted.
    pub name: Vec<u8>,
}

impl Node {
    /// What an item's value says; none where it makes no sense.
    pub fn parse(id: SnapshotId, bytes: &[u8]) -> Result<Option<Self>, NoMem> {
        let Ok((raw, rest)) = Raw::ref_from_prefix(bytes) else {
            return Ok(None);
        };
        let spans = usize::from(raw.spans.get());
        let Some((spans, name)) = rest.split_at_checked(spans.saturating_mul(SPAN_SIZE)) else {
            return Ok(None);
        };
        let mut own = Vec::new();
        let mut before = None;
        for span in spans.chunks_exact(SPAN_SIZE) {
            let Ok(span) = RawSpan::ref_from_bytes(span) else {
                return Ok(None);
            };
            let (first, last) = (span.first.get(), span.last.get());
            if before.is_some_and(|before| first <= before) || first == 0 || last < first {
                return Ok(None);
            }
            before = Some(last);
            own.push((SnapshotId(first), SnapshotId(last)))?;
        }
        let parent = raw.parent.get();
        let grew = own.first().is_some_and(|(first, _)| parent < first.0);
        let state = State::new(raw.state).filter(|_| {
            raw.version == VERSION
                && before == Some(id.0)
                && own.len() <= MAX_SPANS
                && grew
                && raw.nanos.get() < NANOS
                && name.len() == usize::from(raw.name)
        });
        let Some(state) = state else {
            return Ok(None);
        };
        Ok(Some(Node {
            state,
            parent: SnapshotId(parent),
            made: Timestamp {
                seconds: raw.seconds.get(),
                nanos: raw.nanos.get(),
            },
            cursor: Key(raw.cursor.map(U64::get)),
            room: raw.room.get(),
            own,
            name: Vec::try_from_slice(name)?,
        }))
    }

    /// The item's value.
    pub fn encode(&self) -> Result<Vec<u8>, NoMem> {
        let raw = Raw {
            version: VERSION,
            state: self.state as u8,
            spans: u16::try_from(self.own.len()).unwrap_or(u16::MAX).into(),
            name: u8::try_from(self.name.len()).unwrap_or(u8::MAX),
            zero: [0; 3],
            parent: self.parent.0.into(),
            seconds: self.made.seconds.into(),
            nanos: self.made.nanos.into(),
            zero2: 0.into(),
            cursor: self.cursor.0.map(U64::new),
            room: self.room.into(),
        };
        let mut bytes = Vec::try_from_slice(raw.as_bytes())?;
        for (first, last) in self.own.iter() {
            let span = RawSpan {
                first: first.0.into(),
                last: last.0.into(),
            };
            bytes.try_extend_from_slice(span.as_bytes())?;
        }
        bytes.try_extend_from_slice(&self.name)?;
        Ok(bytes)
    }

    /// A copy.
    pub fn try_clone(&self) -> Result<Self, NoMem> {
        Ok(Node {
            own: self.own.try_clone()?,
            name: self.name.try_clone()?,
            ..*self
        })
    }
}

/// The value of what says that something was touched.
pub const TOUCHED: [u8; 1] = [VERSION];

/// Whether the value is that.
pub fn is_touched(value: &[u8]) -> bool {
    value == TOUCHED
}

/// The value of the item with the number for the next snapshot.
pub fn encode_number(next: SnapshotId) -> [u8; 9] {
    let mut bytes = [0; 9];
    let all = [VERSION].into_iter().chain(next.0.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(all) {
        *to = from;
    }
    bytes
}

/// The number for the next snapshot, if the value makes sense.
pub fn parse_number(value: &[u8]) -> Option<SnapshotId> {
    let (version, number) = value.split_first()?;
    let number = u64::from_le_bytes(number.try_into().ok()?);
    (*version == VERSION && number > SnapshotId::FIRST.0).then_some(SnapshotId(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Node {
        Node {
            state: State::Snapshot,
            parent: SnapshotId(2),
            made: Timestamp {
                seconds: -5,
                nanos: 6,
            },
            cursor: Key([7, 8, 9]),
            room: 99,
            own: Vec::try_from_slice(&[
                (SnapshotId(3), SnapshotId(4)),
                (SnapshotId(6), SnapshotId(6)),
            ])
            .unwrap(),
            name: Vec::try_from_slice(b"day").unwrap(),
        }
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let bytes = sample().encode().unwrap();
        let mut expected = std::vec::Vec::new();
        expected.extend([1, 1, 2, 0, 3, 0, 0, 0]);
        expected.extend(2u64.to_le_bytes());
        expected.extend((-5i64).to_le_bytes());
        expected.extend(6u32.to_le_bytes());
        expected.extend(0u32.to_le_bytes());
        for n in [7u64, 8, 9, 99, 3, 4, 6, 6] {
            expected.extend(n.to_le_bytes());
        }
        expected.extend(b"day");
        assert_eq!(&bytes[..], &expected[..]);
        assert_eq!(Node::parse(SnapshotId(6), &bytes), Ok(Some(sample())));
        assert_eq!(Node::parse(SnapshotId(7), &bytes), Ok(None));
        assert_eq!(
            Node::parse(SnapshotId(6), &bytes[..bytes.len() - 1]),
            Ok(None)
        );
        assert_eq!(encode_number(SnapshotId(5)), *b"\x01\x05\0\0\0\0\0\0\0");
        assert_eq!(
            parse_number(&encode_number(SnapshotId(5))),
            Some(SnapshotId(5))
        );
        assert_eq!(parse_number(&encode_number(SnapshotId(1))), None);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bad = |change: &dyn Fn(&mut Node)| {
            let mut node = sample();
            change(&mut node);
            Node::parse(SnapshotId(6), &node.encode().unwrap()) == Ok(None)
        };
        assert!(bad(&|n| n.parent = SnapshotId(3)));
        assert!(bad(&|n| n.own.clear()));
        assert!(bad(&|n| n.own[0].1 = SnapshotId(6)));
        assert!(bad(&|n| n.own[0].0 = SnapshotId(0)));
        assert!(bad(&|n| n.own[1].0 = SnapshotId(7)));
        assert!(bad(&|n| n.made.nanos = NANOS));
        assert!(!bad(&|n| n.parent = SnapshotId(0)));
    }

    #[test]
    fn keys() {
        let (id, inode) = (SnapshotId(4), InodeNo(9));
        let key = touched(id, inode, 77);
        assert_eq!(parse_touched(key), Some((id, inode, 77)));
        assert_eq!(parse_touched(touched(id, inode, 0)), Some((id, inode, 0)));
        assert_eq!(parse_touched(node(id)), None);
        assert_eq!(parse_touched(NUMBERS), None);
        assert!(touched(id, inode, 0) < key);
        let all = all_touched(id, id);
        assert!(all.has(key) && all.has(touched(id, inode, 0)));
        assert!(!all.has(touched(SnapshotId(5), inode, 0)) && !all.has(NUMBERS));
        assert!(NODES.has(node(id)) && !NODES.has(NUMBERS) && !NODES.has(key));
        assert_eq!(parse_node(node(id)), Some(id));
        assert_eq!(parse_node(key), None);
        assert_eq!(parse_node(NUMBERS), None);
    }

    proptest! {
        #[test]
        fn anything_is_parsed_without_harm(mut bytes in proptest::collection::vec(any::<u8>(), 0..160), id: u64) {
            for (at, value) in [(0, VERSION), (1, 1), (2, 1), (3, 0), (4, 0)] {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Ok(Some(node)) = Node::parse(SnapshotId(id), &bytes) {
                let again = Node::parse(SnapshotId(id), &node.encode().unwrap());
                prop_assert_eq!(again, Ok(Some(node)));
            }
        }
    }
}
