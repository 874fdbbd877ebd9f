// SPDX-License-Identifier: GPL-2.0

//! A node of a tree: keys in order, and a value or a child for each. Nodes never change once written.
//!
//! In memory a node is its bytes, checked once: looking up is a binary search in them, and no entry costs more memory than
//! on disk. What was parsed cannot fail later.

use crate::env::Hash256;
use crate::env::Hasher;
use crate::format::layout;
use crate::format::pointer;
use crate::format::pointer::Places;
use crate::format::pointer::Pointer;
use crate::format::pointer::RawPlaces;
use crate::format::pointer::HASH_SIZE;
use crate::format::pointer::POINTER_SIZE;
use crate::format::seal::SEAL;
use crate::tree::key::Key;
use crate::tree::key::KEY_SIZE;
use crate::tree::Range;
use crate::units::EpochId;
use crate::units::Generation;
use crate::units::Level;
use crate::units::TreeId;
use crate::units::Uuid;
use core::fmt;
use embr_rt::NoMem;
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

/// First bytes of a node.
pub const MAGIC: [u8; 8] = *b"embrfsND";
/// Bytes of a node of a volume. The code takes any size from 1 KiB to 64 KiB, for tests and measurements.
pub const NODE_SIZE: usize = 16 << 10;
/// Bytes before the keys.
pub const HEADER_SIZE: usize = 160;
/// The highest level: no tree that fits on 64 devices comes near it.
pub const MAX_LEVEL: Level = Level(15);
/// Bytes that a leaf spends on an entry beside its value.
pub const LEAF_ENTRY: usize = 26;
/// Bytes that an inner node spends on a child.
pub const INNER_ENTRY: usize = 88;

const END_SIZE: usize = 2;
/// How far from where a key should be it is looked for first, and how many times as far then.
const NEAR: usize = 6;
const FARTHER: usize = 4;
const _: () = assert!(LEAF_ENTRY == KEY_SIZE + END_SIZE);
const _: () = assert!(INNER_ENTRY == KEY_SIZE + POINTER_SIZE);
const _: () = assert!(size_of::<Raw>() == HEADER_SIZE);
const _: () = assert!(size_of::<pointer::Raw>() == POINTER_SIZE);

/// Domain separation: no other hash in the format begins so.
const CONTEXT: &[u8; 16] = b"embrfs node v1\0\0";

/// Bytes of a node of this size for entries.
pub const fn room(size: usize) -> usize {
    size.saturating_sub(HEADER_SIZE)
}

/// Bytes of the longest value in nodes of this size: three fit into a leaf, and a block with something to say about it, or an
/// inode with the longest target of a symlink, fits into a node of [`NODE_SIZE`].
pub const fn max_value(size: usize) -> usize {
    let third = (room(size) / 3).saturating_sub(LEAF_ENTRY);
    if third < 4224 {
        third
    } else {
        4224
    }
}

/// The longest value in a volume.
pub const MAX_VALUE: usize = max_value(NODE_SIZE);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawKey([U64; 3]);

impl RawKey {
    fn key(&self) -> Key {
        Key(self.0.map(U64::get))
    }

    fn new(key: Key) -> Self {
        RawKey(key.0.map(U64::new))
    }
}

/// The header of a node as it lies on disk.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    version: U32,
    size: U32,
    seal: [u8; 32],
    volume: [u8; 16],
    epoch: [u8; 16],
    generation: U64,
    tree: u8,
    level: u8,
    count: U16,
    values: U32,
    places: RawPlaces,
    last: RawKey,
}

/// Why bytes are not the node that was looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadNode {
    /// Memory for it could not be had.
    NoMemory,
    /// No node's magic.
    Magic,
    /// The seal does not hold.
    Seal,
    /// A version that this code does not know.
    Version(u32),
    /// A node of another volume.
    Foreign,
    /// A field of the header has a value that cannot be.
    Field,
    /// Keys that are not in order or not in the node's range.
    Keys,
    /// Values that are too long or not where they must be.
    Values,
    /// A child where none can be, or newer than its parent.
    Child,
    /// A sound node, but not the one that its parent names.
    Other,
    /// The node that its parent names, but of another tree, level or range than it has there.
    Misplaced,
    /// The place lies beyond the device's end or in a system area.
    Place,
}

impl fmt::Display for BadNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadNode::NoMemory => "out of memory",
            BadNode::Magic => "not a node",
            BadNode::Seal => "checksum mismatch: torn or damaged",
            BadNode::Version(v) => return write!(f, "node version {v} is not known here"),
            BadNode::Foreign => "a node of another volume",
            BadNode::Field => "a field of its header has an impossible value",
            BadNode::Keys => "its keys are not in order or not in its range",
            BadNode::Values => "its values are not where they must be",
            BadNode::Child => "a child that cannot be",
            BadNode::Other => "another node than its parent names",
            BadNode::Misplaced => "its parent names it, but it is of another tree, level or range",
            BadNode::Place => "no node can lie there",
        })
    }
}

impl From<NoMem> for BadNode {
    fn from(_: NoMem) -> Self {
        BadNode::NoMemory
    }
}

/// Which node it is: what stands in its header beside what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The volume.
    pub volume: Uuid,
    /// The epoch in which it is written.
    pub epoch: EpochId,
    /// The generation for which it is written.
    pub generation: Generation,
    /// The tree that it belongs to.
    pub tree: TreeId,
    /// Its level.
    pub level: Level,
    /// Where its copies lie.
    pub places: Places,
}

/// One child of an inner node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Child {
    /// From its first key to the highest that it may hold.
    pub range: Range,
    /// Where it is.
    pub pointer: Pointer,
}

/// A sound node.
///
/// # Invariants
///
/// `bytes` passed [`Node::open`], and the other fields say what stands in them.
pub struct Node {
    bytes: Vec<u8>,
    count: usize,
    stamp: Stamp,
    range: Range,
    hash: [u8; HASH_SIZE],
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("stamp", &self.stamp)
            .field("count", &self.count)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

fn seal(hasher: &impl Hasher, bytes: &[u8]) -> Hash256 {
    let before = bytes.get(..SEAL.start).unwrap_or_default();
    let after = bytes.get(SEAL.end..).unwrap_or_default();
    hasher.hash(&[CONTEXT, before, &[0u8; 32], after])
}

/// Writes the seal into the bytes of a node.
pub fn apply_seal(hasher: &impl Hasher, bytes: &mut [u8]) {
    let seal = seal(hasher, bytes);
    if let Some(place) = bytes.get_mut(SEAL) {
        place.copy_from_slice(&seal.0);
    }
}

/// The keys of `count` entries.
fn raw_keys(bytes: &[u8], count: usize) -> Option<&[RawKey]> {
    let (keys, _) =
        <[RawKey]>::ref_from_prefix_with_elems(bytes.get(HEADER_SIZE..)?, count).ok()?;
    Some(keys)
}

/// What follows the keys.
fn after_keys(bytes: &[u8], count: usize) -> Option<&[u8]> {
    bytes.get(HEADER_SIZE.checked_add(count.checked_mul(KEY_SIZE)?)?..)
}

/// Where the values of a leaf end, and the values.
fn raw_values(bytes: &[u8], count: usize) -> Option<(&[U16], &[u8])> {
    <[U16]>::ref_from_prefix_with_elems(after_keys(bytes, count)?, count).ok()
}

fn raw_children(bytes: &[u8], count: usize) -> Option<&[pointer::Raw]> {
    let (children, _) =
        <[pointer::Raw]>::ref_from_prefix_with_elems(after_keys(bytes, count)?, count).ok()?;
    Some(children)
}

fn check_values(bytes: &[u8], count: usize, total: u32) -> Option<()> {
    let longest = max_value(bytes.len());
    let (ends, values) = raw_values(bytes, count)?;
    let mut begin = 0usize;
    for end in ends {
        let end = usize::from(end.get());
        if end.checked_sub(begin)? > longest {
            return None;
        }
        begin = end;
    }
    (begin == total as usize && begin <= values.len()).then_some(())
}

fn check_children(bytes: &[u8], count: usize, newest: Generation) -> Option<()> {
    raw_children(bytes, count)?
        .iter()
        .all(|raw| raw.parse().is_some_and(|p| p.generation <= newest))
        .then_some(())
}

fn check_keys(bytes: &[u8], count: usize, last: Key, exact: bool) -> Option<Range> {
    let keys = raw_keys(bytes, count)?;
    let first = keys.first()?.key();
    let mut previous: Option<Key> = None;
    for raw in keys {
        let key = raw.key();
        if previous.is_some_and(|p| p >= key) {
            return None;
        }
        previous = Some(key);
    }
    let highest = previous?;
    let holds = if exact {
        highest == last
    } else {
        highest <= last
    };
    holds.then_some(Range { first, last })
}

impl Node {
    /// Checks what was read: everything but whether it is the node that was looked for.
    pub fn parse(hasher: &impl Hasher, bytes: Vec<u8>, volume: Uuid) -> Result<Self, BadNode> {
        if bytes.get(..MAGIC.len()) != Some(&MAGIC[..]) {
            return Err(BadNode::Magic);
        }
        if bytes.get(SEAL) != Some(&seal(hasher, &bytes).0[..]) {
            return Err(BadNode::Seal);
        }
        Node::open(bytes, volume)
    }

    /// Checks all but the seal.
    fn open(bytes: Vec<u8>, volume: Uuid) -> Result<Self, BadNode> {
        let (raw, _) = Raw::ref_from_prefix(&bytes).map_err(|_| BadNode::Magic)?;
        if raw.version.get() != layout::VERSION {
            return Err(BadNode::Version(raw.version.get()));
        }
        if raw.volume != volume.0 {
            return Err(BadNode::Foreign);
        }
        let stamp = Stamp {
            volume,
            epoch: EpochId(raw.epoch),
            generation: Generation(raw.generation.get()),
            tree: TreeId(raw.tree),
            level: Level(raw.level),
            places: Places::parse(&raw.places).ok_or(BadNode::Field)?,
        };
        let count = usize::from(raw.count.get());
        let possible = raw.size.get() as usize == bytes.len()
            && stamp.epoch != EpochId::NONE
            && stamp.generation.0 != 0
            && stamp.tree.0 != 0
            && stamp.level <= MAX_LEVEL
            && count != 0;
        if !possible {
            return Err(BadNode::Field);
        }
        let range = check_keys(&bytes, count, raw.last.key(), stamp.level.is_leaf())
            .ok_or(BadNode::Keys)?;
        if stamp.level.is_leaf() {
            check_values(&bytes, count, raw.values.get()).ok_or(BadNode::Values)?;
        } else if raw.values.get() != 0 {
            return Err(BadNode::Field);
        } else {
            check_children(&bytes, count, stamp.generation).ok_or(BadNode::Child)?;
        }
        let mut hash = [0; HASH_SIZE];
        for (to, from) in hash.iter_mut().zip(raw.seal) {
            *to = from;
        }
        // INVARIANT: This is the only place that makes one.
        Ok(Node {
            bytes,
            count,
            stamp,
            range,
            hash,
        })
    }

    /// A new leaf of `size` bytes; the keys rise.
    pub fn leaf<'a>(
        hasher: &impl Hasher,
        size: usize,
        stamp: &Stamp,
        entries: impl Iterator<Item = (Key, &'a [u8])> + Clone,
    ) -> Result<Self, BadNode> {
        let count = entries.clone().count();
        let mut bytes = Vec::zeroed(size)?;
        let mut keys = Pen::at(HEADER_SIZE);
        let mut ends = keys.after(count, KEY_SIZE)?;
        let mut values = ends.after(count, END_SIZE)?;
        let mut total = 0usize;
        let mut last = Key::MIN;
        for (key, value) in entries {
            last = key;
            total = total.saturating_add(value.len());
            let end = u16::try_from(total).map_err(|_| BadNode::Values)?;
            keys.write(&mut bytes, RawKey::new(key).as_bytes())?;
            ends.write(&mut bytes, U16::new(end).as_bytes())?;
            values.write(&mut bytes, value)?;
        }
        Node::finish(hasher, bytes, stamp, count, total, last)
    }

    /// A new inner node of `size` bytes; the keys rise, and none of the children holds one above `last`.
    pub fn inner(
        hasher: &impl Hasher,
        size: usize,
        stamp: &Stamp,
        children: impl Iterator<Item = (Key, Pointer)> + Clone,
        last: Key,
    ) -> Result<Self, BadNode> {
        let count = children.clone().count();
        let mut bytes = Vec::zeroed(size)?;
        let mut keys = Pen::at(HEADER_SIZE);
        let mut pointers = keys.after(count, KEY_SIZE)?;
        for (key, pointer) in children {
            keys.write(&mut bytes, RawKey::new(key).as_bytes())?;
            pointers.write(&mut bytes, pointer.raw().as_bytes())?;
        }
        Node::finish(hasher, bytes, stamp, count, 0, last)
    }

    fn finish(
        hasher: &impl Hasher,
        mut bytes: Vec<u8>,
        stamp: &Stamp,
        count: usize,
        values: usize,
        last: Key,
    ) -> Result<Self, BadNode> {
        let raw = Raw {
            magic: MAGIC,
            version: layout::VERSION.into(),
            size: u32::try_from(bytes.len())
                .map_err(|_| BadNode::Field)?
                .into(),
            seal: [0; 32],
            volume: stamp.volume.0,
            epoch: stamp.epoch.0,
            generation: stamp.generation.0.into(),
            tree: stamp.tree.0,
            level: stamp.level.0,
            count: u16::try_from(count).map_err(|_| BadNode::Field)?.into(),
            values: u32::try_from(values).map_err(|_| BadNode::Values)?.into(),
            places: stamp.places.raw(),
            last: RawKey::new(last),
        };
        raw.write_to_prefix(&mut bytes)
            .map_err(|_| BadNode::Field)?;
        apply_seal(hasher, &mut bytes);
        // Checking one's own work costs little beside the hash, and a node that no one could read is never written.
        Node::open(bytes, stamp.volume)
    }

    /// The node as it lies on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Which node it is.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The pointer that leads to it.
    pub fn pointer(&self) -> Pointer {
        Pointer {
            generation: self.stamp.generation,
            hash: self.hash,
            places: self.stamp.places,
        }
    }

    /// Whether it is what this pointer leads to.
    pub fn is_at(&self, pointer: &Pointer) -> bool {
        self.hash == pointer.hash
            && self.stamp.generation == pointer.generation
            && self.stamp.places == pointer.places
    }

    /// Its level.
    pub fn level(&self) -> Level {
        self.stamp.level
    }

    /// From its first key to the highest that it may hold.
    pub fn range(&self) -> Range {
        self.range
    }

    /// Its entries, at least one.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes that its entries take, of [`room`].
    pub fn used(&self) -> usize {
        if self.level().is_leaf() {
            let values = self.end(self.count.wrapping_sub(1));
            self.count.saturating_mul(LEAF_ENTRY).saturating_add(values)
        } else {
            self.count.saturating_mul(INNER_ENTRY)
        }
    }

    fn keys(&self) -> &[RawKey] {
        raw_keys(&self.bytes, self.count).unwrap_or_default()
    }

    /// The key of an entry.
    pub fn key(&self, index: usize) -> Option<Key> {
        self.keys().get(index).map(RawKey::key)
    }

    /// How many keys `is_before` says yes of, which are the first ones: about as many as are below `key`.
    ///
    /// Looking for a key is waiting for memory. Keys are often spread evenly (numbers given in a row, hashes), so it begins
    /// where the key would lie then, and mostly ends a line of memory or two from there.
    fn leading(&self, key: Key, is_before: impl Fn(Key) -> bool) -> usize {
        let keys = self.keys();
        let is_before = |raw: &RawKey| is_before(raw.key());
        let guess = self.range.guess(key, keys.len().saturating_sub(1));
        let (mut from, mut to) = (0, keys.len());
        let mut reach = NEAR;
        if keys.get(guess).is_some_and(is_before) {
            from = guess.saturating_add(1);
            while let Some(raw) = keys.get(from.saturating_add(reach)) {
                if !is_before(raw) {
                    to = from.saturating_add(reach);
                    break;
                }
                from = from.saturating_add(reach).saturating_add(1);
                reach = reach.saturating_mul(FARTHER);
            }
        } else {
            to = guess;
            while let Some(at) = to.checked_sub(reach) {
                if keys.get(at).is_some_and(is_before) {
                    from = at.saturating_add(1);
                    break;
                }
                to = at;
                reach = reach.saturating_mul(FARTHER);
            }
        }
        let rest = keys.get(from..to).unwrap_or_default();
        from.saturating_add(rest.partition_point(is_before))
    }

    /// How many keys are below this one: the index of the first that is not.
    pub fn below(&self, key: Key) -> usize {
        self.leading(key, |other| other < key)
    }

    /// The last entry whose key is not above this one: of an inner node, the child that holds the key if any does.
    pub fn at_or_before(&self, key: Key) -> Option<usize> {
        self.leading(key, |other| other <= key).checked_sub(1)
    }

    fn end(&self, index: usize) -> usize {
        raw_values(&self.bytes, self.count)
            .and_then(|(ends, _)| ends.get(index))
            .map_or(0, |end| usize::from(end.get()))
    }

    /// An entry of a leaf.
    pub fn entry(&self, index: usize) -> Option<(Key, &[u8])> {
        let key = self.key(index)?;
        if !self.level().is_leaf() {
            return None;
        }
        let (ends, values) = raw_values(&self.bytes, self.count)?;
        let end = usize::from(ends.get(index)?.get());
        let begin = match index.checked_sub(1) {
            Some(before) => usize::from(ends.get(before)?.get()),
            None => 0,
        };
        Some((key, values.get(begin..end)?))
    }

    /// The value of a key in a leaf.
    pub fn value(&self, key: Key) -> Option<&[u8]> {
        let (found, value) = self.entry(self.below(key))?;
        (found == key).then_some(value)
    }

    /// A child of an inner node.
    pub fn child(&self, index: usize) -> Option<Child> {
        if self.level().is_leaf() {
            return None;
        }
        let keys = self.keys();
        let first = keys.get(index)?.key();
        let last = match keys.get(index.checked_add(1)?) {
            Some(next) => next.key().previous()?,
            None => self.range.last,
        };
        let pointer = raw_children(&self.bytes, self.count)?.get(index)?.parsed();
        Some(Child {
            range: Range { first, last },
            pointer,
        })
    }
}

/// Where the next bytes of a table go.
struct Pen(usize);

impl Pen {
    fn at(begin: usize) -> Self {
        Pen(begin)
    }

    fn after(&self, count: usize, each: usize) -> Result<Pen, BadNode> {
        let length = count.checked_mul(each).ok_or(BadNode::Field)?;
        self.0.checked_add(length).map(Pen).ok_or(BadNode::Field)
    }

    fn write(&mut self, bytes: &mut [u8], from: &[u8]) -> Result<(), BadNode> {
        let end = self.after(from.len(), 1)?.0;
        let to = bytes.get_mut(self.0..end).ok_or(BadNode::Field)?;
        to.copy_from_slice(from);
        self.0 = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
