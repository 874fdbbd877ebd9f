// SPDX-License-Identifier: GPL-2.0

//! What can be done with a file, and choosing among it.

use crate::chance::Chance;

/// No file grows beyond.
pub const MAX_SIZE: u64 = 3 << 20;
/// What moves, moves by blocks of so many bytes.
pub const BLOCK: u64 = 4096;

/// Kinds of steps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// read(2), compared.
    Read,
    /// write(2).
    Write,
    /// write(2) through a descriptor with O_SYNC.
    WriteSync,
    /// write(2) at the end.
    Append,
    /// A store through a mapping.
    MapWrite,
    /// A look through a mapping, compared.
    MapRead,
    /// ftruncate(2).
    Truncate,
    /// fallocate(2), with or without a new size.
    Reserve,
    /// A hole.
    Punch,
    /// Zeros.
    Zero,
    /// A range cut out.
    Collapse,
    /// A hole pushed in.
    Insert,
    /// SEEK_DATA and SEEK_HOLE: holes hold zeros.
    Seek,
    /// fsync(2).
    Sync,
    /// fdatasync(2).
    DataSync,
    /// What is clean goes from memory.
    Forget,
    /// close(2) and open(2).
    Reopen,
}

impl Kind {
    /// The kinds, and how users call them.
    pub const NAMES: [(&'static str, Kind); 17] = [
        ("read", Kind::Read),
        ("write", Kind::Write),
        ("write-sync", Kind::WriteSync),
        ("append", Kind::Append),
        ("map-write", Kind::MapWrite),
        ("map-read", Kind::MapRead),
        ("truncate", Kind::Truncate),
        ("reserve", Kind::Reserve),
        ("punch", Kind::Punch),
        ("zero", Kind::Zero),
        ("collapse", Kind::Collapse),
        ("insert", Kind::Insert),
        ("seek", Kind::Seek),
        ("sync", Kind::Sync),
        ("data-sync", Kind::DataSync),
        ("forget", Kind::Forget),
        ("reopen", Kind::Reopen),
    ];

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Kind::NAMES.iter().find(|(n, _)| *n == name);
        found.map(|(_, kind)| *kind)
    }
}

/// A step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What to do.
    pub kind: Kind,
    /// Where.
    pub at: u64,
    /// How much.
    pub len: u64,
    /// Whether the size stays.
    pub keep: bool,
    /// What bytes it writes.
    pub seed: u64,
}

/// Where steps come from.
pub struct Steps {
    kinds: Vec<Kind>,
}

impl Steps {
    /// Of all kinds but these.
    pub fn new(without: &[Kind]) -> Self {
        let every = Kind::NAMES.iter().map(|(_, kind)| *kind);
        // Often enough that there is something to look at.
        let more = [
            Kind::Write,
            Kind::Write,
            Kind::Append,
            Kind::Read,
            Kind::MapWrite,
        ];
        Steps {
            kinds: every
                .chain(more)
                .filter(|kind| !without.contains(kind))
                .collect(),
        }
    }

    /// The next step for a file of that size.
    pub fn next(&mut self, chance: &mut Chance, size: u64) -> Step {
        let kind = self.kinds[chance.below(self.kinds.len() as u64) as usize];
        let large = [100, BLOCK, 20_000, 200_000, 700_000][chance.below(5) as usize];
        let mut len = 1 + chance.below(large);
        // Near what is there, and rarely far behind it.
        let mut at = match chance.below(20) {
            0 => chance.below(MAX_SIZE),
            1 => size,
            _ => chance.below(size + 1),
        };
        if chance.below(3) == 0 || matches!(kind, Kind::Collapse | Kind::Insert) {
            at = at / BLOCK * BLOCK;
            len = len.next_multiple_of(BLOCK);
        }
        Step {
            kind,
            at,
            len: len.min(MAX_SIZE.saturating_sub(at)),
            keep: chance.below(2) == 0,
            seed: chance.next(),
        }
    }
}
