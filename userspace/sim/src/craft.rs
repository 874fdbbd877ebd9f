// SPDX-License-Identifier: GPL-2.0

//! Items of trees and records of the journal as nobody would write them who means well: each could be read, and says what cannot be.
//! Bytes decide what it is, so that whoever chooses them (a seed, or a fuzzer) chooses that.

use embr_engine::file::MAX_SIZE;
use embr_engine::format::engram;
use embr_engine::format::journal::Extent;
use embr_engine::format::journal::Record;
use embr_engine::format::member::Slot;
use embr_engine::format::node::MAX_VALUE;
use embr_engine::names::Kind;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Generation;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SPACE;

/// An item: its tree, its key, its value.
pub type Item = (TreeId, Key, Vec<u8>);

/// What a volume holds, for those who want to name it where it has no business.
#[derive(Debug, Default)]
pub struct Facts {
    /// All its items.
    pub items: Vec<Item>,
    /// Blocks at which something begins or ends.
    pub places: Vec<u64>,
    /// The generation of its newest root.
    pub generation: u64,
}

/// Decides, as its bytes say; where they end it begins with them again.
#[derive(Debug)]
pub struct Whim<'i> {
    bytes: &'i [u8],
    at: usize,
}

/// Numbers that are limits of something.
const LIMITS: &[u64] = &[
    0,
    1,
    2,
    3,
    31,
    32,
    255,
    256,
    257,
    4095,
    4096,
    1 << 16,
    (1 << 20) - 4096,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    (1 << 50) - 1,
    (1 << 51) - 1,
    1 << 51,
    (1 << 52) - 1,
    (1 << 56) - 1,
    1 << 56,
    MAX_SIZE.0 - 1,
    MAX_SIZE.0,
    MAX_SIZE.0 + 1,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

impl<'i> Whim<'i> {
    /// As these bytes say.
    pub fn new(bytes: &'i [u8]) -> Self {
        Whim { bytes, at: 0 }
    }

    fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at % self.bytes.len().max(1));
        self.at += 1;
        byte.copied().unwrap_or(0)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        let mut number = usize::from(self.byte());
        if bound > 256 {
            number = (number << 8) | usize::from(self.byte());
        }
        number % bound
    }

    fn one<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let n = self.below(choices.len().max(1));
        choices.get(n).copied()
    }

    /// A limit, a small number, any, or where something lies.
    fn number(&mut self, facts: &Facts) -> u64 {
        match self.below(8) {
            0..=2 => self.one(LIMITS).unwrap_or(0),
            3 | 4 => u64::from(self.byte()),
            5 => u64::from_le_bytes([0; 8].map(|_| self.byte())),
            _ => {
                let slot = self.one(&[0u64, 0, 0, 1, 1, 2, 63, 64]).unwrap_or(0);
                (slot << 56) | self.place(facts)
            }
        }
    }

    /// A block at or beside something.
    fn place(&mut self, facts: &Facts) -> u64 {
        let place = self.one(&facts.places).unwrap_or(0);
        match self.below(4) {
            0 => place.saturating_sub(1),
            1 => place.saturating_add(u64::from(self.byte() % 8)),
            _ => place,
        }
    }

    fn extent(&mut self, facts: &Facts) -> Extent {
        let slot = self.one(&[0, 0, 0, 1, 1, 2, 63]).and_then(Slot::new);
        let blocks = [1, 1, 2, 4, 4, 5, 255, 256, 2304, 8192, 32767, 32768];
        Extent {
            device: slot.unwrap_or(Slot::FIRST),
            start: Blocks(self.place(facts)),
            blocks: Blocks(self.one(&blocks).unwrap_or(1)),
        }
    }
}

/// Where an item has its fields: first byte and length.
fn fields(tree: TreeId, key: Key) -> &'static [(usize, usize)] {
    let kind = (key.0[1] >> 56) as u8;
    if tree == NAMES {
        return match Kind(kind) {
            Kind::INODE => &[
                (2, 2),
                (4, 4),
                (4, 4),
                (16, 8),
                (16, 8),
                (24, 8),
                (32, 4),
                (48, 8),
                (60, 8),
            ],
            Kind::ENTRY => &[(1, 1), (4, 4), (8, 8), (8, 8), (16, 1)],
            Kind::PARENT => &[(1, 8), (9, 1)],
            Kind::ATTRIBUTE => &[(1, 1), (2, 1), (4, 4)],
            Kind::EXTENTS => &[(8, 1), (9, 1), (10, 1), (12, 4), (16, 4), (24, 8), (24, 8)],
            Kind::INTENT => &[(1, 1), (8, 8), (16, 8), (24, 8), (32, 8)],
            Kind::ORPHAN | Kind::NUMBERS => &[(1, 8)],
            _ => &[(0, 1), (1, 8)],
        };
    }
    match kind {
        1 => &[(2, 2), (8, 8), (8, 8), (8, 8), (16, 8), (16, 8)],
        3 => &[(2, 2), (4, 1), (4, 8)],
        4 => &[(2, 2), (8, 8), (16, 8)],
        _ => &[(0, 1), (1, 8)],
    }
}

/// Gives an item of free space a value that has little to do with what is free.
fn free_space(whim: &mut Whim<'_>, value: &mut Vec<u8>) {
    match whim.below(5) {
        // Everything is free.
        0 => *value = vec![1],
        // Everything is used.
        1 => *value = vec![1, 0, 0, 0xff, 0x1f],
        2 => *value = vec![0; 1 + 1024],
        3 => {
            value.clear();
            value.push(1);
            for _ in 0..whim.below(20) {
                value.extend([0; 4].map(|_| whim.byte()));
            }
        }
        _ => {
            let at = whim.below(value.len().max(1));
            if let Some(byte) = value.get_mut(at) {
                *byte ^= 1 << (whim.byte() % 8);
            }
        }
    }
}

/// Makes something else of an item.
pub fn item(whim: &mut Whim<'_>, facts: &Facts, (tree, key, value): &mut Item) {
    match whim.below(16) {
        0..=9 if *tree == SPACE => free_space(whim, value),
        0..=9 => {
            let Some((at, length)) = whim.one(fields(*tree, *key)) else {
                return;
            };
            // A window has several runs.
            let runs = (value.len().saturating_sub(8) / 24).max(1);
            let is_window = *tree == NAMES && key.0[1] >> 56 == u64::from(Kind::EXTENTS.0);
            let at = at + if is_window { 24 * whim.below(runs) } else { 0 };
            let number = whim.number(facts).to_le_bytes();
            for (to, from) in value.iter_mut().skip(at).take(length).zip(number) {
                *to = from;
            }
        }
        10 => value.truncate(whim.below(value.len().max(1))),
        11 => {
            let length = [value.len() + 1, 4096, 4097, MAX_VALUE, MAX_VALUE + 1];
            let length = whim.one(&length).unwrap_or(0);
            value.resize(length.max(value.len()), whim.byte());
        }
        12 => {
            let word = whim.below(3);
            key.0[word] = whim.number(facts);
        }
        13 => {
            let word = whim.below(3);
            let by = whim.one(&[1, u64::MAX, 2, 1 << 56]).unwrap_or(1);
            key.0[word] = key.0[word].wrapping_add(by);
        }
        14 => {
            // A list of the volume's names this inode.
            let number = whim.number(facts);
            let number = if number % 2 == 0 { key.0[0] } else { number };
            let sub = number & ((1 << 56) - 1);
            let kind = whim
                .one(&[Kind::ORPHAN, Kind::INTENT])
                .unwrap_or(Kind::ORPHAN);
            *tree = NAMES;
            *key = Key([0, (u64::from(kind.0) << 56) | sub, !1]);
            *value = vec![1];
            if kind == Kind::ORPHAN {
                value.extend(number.to_le_bytes());
                return;
            }
            value.push(whim.byte() % 4);
            value.extend([0; 6]);
            let from = whim.number(facts);
            let to = from.saturating_add(whim.number(facts));
            for word in [
                number,
                from,
                to,
                whim.one(&[from, to, 1 << 51]).unwrap_or(0),
            ] {
                value.extend(word.to_le_bytes());
            }
        }
        _ => {
            let n = whim.below(facts.items.len().max(1));
            if let Some((_, _, other)) = facts.items.get(n) {
                value.clone_from(other);
            }
        }
    }
}

/// One of the items, perhaps made something else.
fn some_item(whim: &mut Whim<'_>, facts: &Facts) -> Item {
    let n = whim.below(facts.items.len().max(1));
    let known = facts.items.get(n).cloned();
    known.unwrap_or((NAMES, Key::MIN, Vec::new()))
}

/// Appends a record of the journal.
pub fn record(whim: &mut Whim<'_>, facts: &Facts, out: &mut Vec<u8>) {
    let near = facts.generation;
    let generations = [near - 1, near, near, near + 1, near + 2, 0, u64::MAX];
    let generation = |whim: &mut Whim<'_>| Generation(whim.one(&generations).unwrap_or(near));
    let (tree, key, value) = some_item(whim, facts);
    let mut made = (tree, key, value);
    let record = match whim.below(10) {
        0 => Record::Take(whim.extent(facts)),
        1 | 2 => Record::Free(whim.extent(facts)),
        3 => Record::NodesTaken(generation(whim), whim.extent(facts)),
        4 => Record::NodesFreed(generation(whim), whim.extent(facts)),
        5 => Record::Gone(tree, key),
        6 => {
            let (_, other, _) = some_item(whim, facts);
            let range = match whim.below(4) {
                0 => engram::all(embr_engine::units::EngramId(key.0[0])),
                1 => Range::ALL,
                _ => Range {
                    first: key.min(other),
                    last: key.max(other),
                },
            };
            Record::RangeGone(tree, range)
        }
        _ => {
            item(whim, facts, &mut made);
            Record::Set(made.0, made.1, &made.2)
        }
    };
    let mut bytes = embr_rt::Vec::new();
    if record.encode(&mut bytes).is_ok() {
        out.extend_from_slice(&bytes);
    }
}

/// Where a journal might be said to lie: its first block, and how many it has.
pub fn journal(whim: &mut Whim<'_>, facts: &Facts) -> (u64, u64) {
    let blocks = [1024, 1024, 1025, 4096, 8192, 32768, 1 << 40, u64::MAX];
    (whim.place(facts), whim.one(&blocks).unwrap_or(1024))
}
