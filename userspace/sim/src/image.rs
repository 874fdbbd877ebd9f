// SPDX-License-Identifier: GPL-2.0

//! What a drive holds: a sparse image whose copies share all that is alike, so that a copy costs nothing and a change costs the
//! path to one block. It knows nothing of writes, caches or failures.

use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The unit in which writes tear.
pub const SECTOR_SIZE: usize = 512;
/// Sectors in a block.
pub const BLOCK_SECTORS: usize = BLOCK_SIZE / SECTOR_SIZE;

const FAN_SHIFT: u32 = 4;
const FAN: usize = 1 << FAN_SHIFT;

/// The bytes of a block that are not all zeros.
#[derive(PartialEq, Eq, Debug)]
pub struct Filled {
    print: u64,
    bytes: [u8; BLOCK_SIZE],
}

impl Deref for Filled {
    type Target = [u8; BLOCK_SIZE];

    fn deref(&self) -> &Self::Target {
        &self.bytes
    }
}

/// A block; none for zeros.
pub type Block = Option<Arc<Filled>>;

/// A block of these bytes, with zeros behind them.
pub fn block(bytes: &[u8]) -> Block {
    // Many bytes at once: most of what is written to a new drive are zeros.
    let is_zero = |some: &[u8]| some.iter().fold(0, |all, byte| all | byte) == 0;
    if bytes.chunks(256).all(is_zero) {
        return None;
    }
    let mut whole = [0; BLOCK_SIZE];
    whole[..bytes.len()].copy_from_slice(bytes);
    Some(Arc::new(Filled {
        print: print(&whole),
        bytes: whole,
    }))
}

/// A fingerprint of whole words: in four lanes, none of which waits for the others.
pub(crate) fn print(bytes: &[u8]) -> u64 {
    let mut lanes = [1, 2, 3, 4];
    for words in bytes.chunks_exact(32) {
        for (lane, word) in lanes.iter_mut().zip(words.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            *lane = step(*lane, word);
        }
    }
    lanes.into_iter().fold(0, step)
}

/// Mixes a word into a fingerprint. Good against chance, not against malice.
pub(crate) fn step(print: u64, word: u64) -> u64 {
    let mixed = (print ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}

/// What a block adds to the fingerprint of an image.
fn share(number: u64, block: &Block) -> u64 {
    block
        .as_ref()
        .map_or(0, |block| step(step(!number, block.print), number))
}

/// `old` with those sectors of `new` whose bits are set.
pub fn merge(old: &Block, new: &Block, sectors: u8) -> Block {
    let mut bytes = [0; BLOCK_SIZE];
    for (n, piece) in bytes.chunks_mut(SECTOR_SIZE).enumerate() {
        let from = if sectors & (1 << n) != 0 { new } else { old };
        if let Some(from) = from {
            piece.copy_from_slice(&from[n * SECTOR_SIZE..][..SECTOR_SIZE]);
        }
    }
    block(&bytes)
}

#[derive(Clone)]
enum Node {
    Inner([Option<Arc<Node>>; FAN]),
    Leaf([Block; FAN]),
}

impl Node {
    fn new(level: u32) -> Self {
        if level == 0 {
            Node::Leaf(Default::default())
        } else {
            Node::Inner(Default::default())
        }
    }
}

/// The blocks of a drive. Blocks that were never written read as zeros and take no room.
#[derive(Clone)]
pub struct Image {
    size: Bytes,
    /// Levels above the leaves.
    levels: u32,
    root: Option<Arc<Node>>,
    /// Of all blocks together.
    print: u64,
}

impl Image {
    /// Zeros.
    pub fn new(size: Bytes) -> Self {
        let blocks = size.0.div_ceil(BLOCK_SIZE as u64);
        let digits = (u64::BITS - blocks.saturating_sub(1).leading_zeros()).div_ceil(FAN_SHIFT);
        Image {
            size,
            levels: digits.saturating_sub(1),
            root: None,
            print: 0,
        }
    }

    /// The size of the drive.
    pub fn size(&self) -> Bytes {
        self.size
    }

    /// How many blocks there are; the last may be cut off by the drive's end.
    pub fn blocks(&self) -> u64 {
        self.size.0.div_ceil(BLOCK_SIZE as u64)
    }

    /// The same for images that hold the same, and almost surely different for others.
    pub fn fingerprint(&self) -> u64 {
        step(self.print, self.size.0)
    }

    /// The block with this number.
    pub fn get(&self, number: u64) -> Block {
        let mut level = self.levels;
        let mut node = self.root.as_ref()?;
        loop {
            match &**node {
                Node::Inner(children) => node = children[digit(number, level)].as_ref()?,
                Node::Leaf(blocks) => return blocks[digit(number, 0)].clone(),
            }
            level -= 1;
        }
    }

    /// Puts a block there. Numbers beyond the end are a fault of the caller.
    pub fn set(&mut self, number: u64, value: Block) {
        assert!(
            number < self.blocks(),
            "block {number} lies beyond the end of the drive"
        );
        if value.is_none() && self.get(number).is_none() {
            return;
        }
        let mut level = self.levels;
        let mut place = &mut self.root;
        loop {
            let node = Arc::make_mut(place.get_or_insert_with(|| Arc::new(Node::new(level))));
            match node {
                Node::Inner(children) => place = &mut children[digit(number, level)],
                Node::Leaf(blocks) => {
                    let new = share(number, &value);
                    let old = std::mem::replace(&mut blocks[digit(number, 0)], value);
                    self.print ^= new ^ share(number, &old);
                    return;
                }
            }
            level -= 1;
        }
    }

    /// The blocks that are not zero, with their numbers, in order.
    pub fn written(&self) -> Vec<(u64, Arc<Filled>)> {
        let mut found = Vec::new();
        if let Some(root) = &self.root {
            collect(root, self.levels, 0, &mut found);
        }
        found
    }
}

impl PartialEq for Image {
    fn eq(&self, other: &Self) -> bool {
        self.size == other.size && same(self.root.as_ref(), other.root.as_ref())
    }
}

impl Eq for Image {}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u64> = self.written().iter().map(|(n, _)| *n).collect();
        write!(f, "Image of {} bytes, blocks {numbers:?}", self.size)
    }
}

fn digit(number: u64, level: u32) -> usize {
    (number >> (level * FAN_SHIFT)) as usize % FAN
}

fn collect(node: &Node, level: u32, base: u64, found: &mut Vec<(u64, Arc<Filled>)>) {
    match node {
        Node::Inner(children) => {
            for (n, child) in (0..).zip(children) {
                if let Some(child) = child {
                    collect(child, level - 1, base + (n << (level * FAN_SHIFT)), found);
                }
            }
        }
        Node::Leaf(blocks) => {
            found.extend(
                (base..)
                    .zip(blocks)
                    .filter_map(|(n, b)| Some((n, b.clone()?))),
            );
        }
    }
}

/// Whether two parts hold the same, where none and a part without blocks are alike.
fn same(a: Option<&Arc<Node>>, b: Option<&Arc<Node>>) -> bool {
    match (a.map(|n| &**n), b.map(|n| &**n)) {
        (None, None) => true,
        (Some(a), Some(b)) if std::ptr::eq(a, b) => true,
        (Some(Node::Leaf(a)), Some(Node::Leaf(b))) => a == b,
        (Some(Node::Inner(a)), Some(Node::Inner(b))) => {
            a.iter().zip(b).all(|(a, b)| same(a.as_ref(), b.as_ref()))
        }
        (Some(Node::Leaf(n)), None) | (None, Some(Node::Leaf(n))) => n.iter().all(Option::is_none),
        (Some(Node::Inner(n)), None) | (None, Some(Node::Inner(n))) => {
            n.iter().all(|child| same(child.as_ref(), None))
        }
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Chance;
    use std::collections::BTreeMap;

    #[test]
    fn an_image_is_a_map_and_copies_do_not_see_each_other() {
        for seed in 0..50 {
            let chance = Chance::new(seed);
            let count = chance.one(&[1u64, 15, 16, 17, 255, 256, 257, 100_000]);
            let mut image = Image::new(Bytes(count * BLOCK_SIZE as u64 - 512));
            assert_eq!(image.blocks(), count);
            let mut model = BTreeMap::new();
            let mut copies = Vec::new();
            for _ in 0..300 {
                let number = match chance.below(3) {
                    0 => chance.next() % count,
                    1 => count - 1,
                    _ => chance.next() % count.min(20),
                };
                let value = block(&[chance.one(&[0, 1, 2])]);
                image.set(number, value.clone());
                model.insert(number, value);
                if chance.below(30) == 0 {
                    copies.push((image.clone(), model.clone()));
                }
            }
            copies.push((image, model));
            for (image, model) in &copies {
                for (number, value) in model {
                    assert_eq!(image.get(*number), *value, "seed {seed} block {number}");
                }
                let written: Vec<u64> = image.written().iter().map(|(n, _)| *n).collect();
                let expected: Vec<u64> = model
                    .iter()
                    .filter(|(_, v)| v.is_some())
                    .map(|(n, _)| *n)
                    .collect();
                assert_eq!(written, expected, "seed {seed}");
            }
            for (a, model_a) in &copies {
                for (b, model_b) in &copies {
                    let zeros = |n: &u64, m: &BTreeMap<u64, Block>| m.get(n).cloned().flatten();
                    let alike = model_a
                        .keys()
                        .chain(model_b.keys())
                        .all(|n| zeros(n, model_a) == zeros(n, model_b));
                    assert_eq!(a == b, alike, "seed {seed}");
                    let prints = a.fingerprint() == b.fingerprint();
                    assert_eq!(prints, alike, "seed {seed}");
                }
            }
        }
    }

    #[test]
    fn sectors_are_merged_one_by_one() {
        let (old, new) = (block(&[1; BLOCK_SIZE]), block(&[2; BLOCK_SIZE]));
        assert_eq!(merge(&old, &new, 0), old);
        assert_eq!(merge(&old, &new, 0xff), new);
        assert_eq!(merge(&old, &None, 0xff), None);
        let torn = merge(&old, &new, 0b0000_0101).expect("not zeros");
        for (at, byte) in torn.iter().enumerate() {
            let expected = if matches!(at / SECTOR_SIZE, 0 | 2) {
                2
            } else {
                1
            };
            assert_eq!(*byte, expected, "byte {at}");
        }
    }
}
