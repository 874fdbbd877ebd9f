// SPDX-License-Identifier: GPL-2.0

//! What a window of a file holds, by one version: runs of its blocks, and where in an engram each lies. A window is as large as the
//! largest chunk, and aligned; no run crosses it.

use crate::error::NoMem;
use crate::format::engram::MAX_PAYLOAD;
use crate::units::Bytes;
use crate::units::EngramId;
use crate::units::BLOCK_SIZE;
use embr_rt::Vec;
use zerocopy::little_endian::U32;
use zerocopy::little_endian::U64;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of such items.
pub const VERSION: u8 = 1;
/// Blocks of a window.
pub const WINDOW: usize = 32;
const HEADER_SIZE: usize = 8;
const RUN_SIZE: usize = 24;
const _: () = assert!(size_of::<Raw>() == RUN_SIZE);
const _: () = assert!(HEADER_SIZE + WINDOW * RUN_SIZE <= crate::format::node::MAX_VALUE);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    first: u8,
    blocks: u8,
    encoding: u8,
    decoded: u8,
    offset: U32,
    stored: U32,
    zero: U32,
    engram: U64,
}

/// How the blocks of a run are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Encoding {
    /// Nowhere: they read as zeros, whatever older versions have.
    Hole = 0,
    /// As they are.
    Raw = 1,
    /// Nothing was written to them yet: they read as zeros.
    Unwritten = 2,
    /// As another chunk that is the same.
    Same = 3,
    /// As a correction of an exemplar.
    Correction = 4,
    /// Compressed by lz4.
    Lz4 = 5,
    /// Compressed by zstd.
    Zstd = 6,
}

impl Encoding {
    /// The encoding with this number.
    pub fn new(number: u8) -> Option<Self> {
        Some(match number {
            0 => Encoding::Hole,
            1 => Encoding::Raw,
            2 => Encoding::Unwritten,
            3 => Encoding::Same,
            4 => Encoding::Correction,
            5 => Encoding::Lz4,
            6 => Encoding::Zstd,
            _ => return None,
        })
    }

    /// Whether this engine can read what is stored so.
    pub fn is_understood(self) -> bool {
        matches!(self, Encoding::Hole | Encoding::Raw | Encoding::Unwritten)
    }
}

/// A run of blocks of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Its first block, in the window.
    pub first: usize,
    /// How many blocks.
    pub blocks: usize,
    /// How they are stored.
    pub encoding: Encoding,
    /// Which of the blocks that what is stored decodes to is its first.
    pub decoded: usize,
    /// The engram that holds it; 0 in a hole.
    pub engram: EngramId,
    /// Where in the engram's payload it begins.
    pub offset: Bytes,
    /// Bytes that are stored.
    pub stored: Bytes,
}

impl Run {
    /// A hole.
    pub fn hole(first: usize, blocks: usize) -> Self {
        Run {
            first,
            blocks,
            encoding: Encoding::Hole,
            decoded: 0,
            engram: EngramId::NONE,
            offset: Bytes(0),
            stored: Bytes(0),
        }
    }

    /// Blocks as they are, or places for them, from this block of an engram on.
    pub fn plain(
        first: usize,
        blocks: usize,
        encoding: Encoding,
        engram: EngramId,
        at: usize,
    ) -> Self {
        Run {
            first,
            blocks,
            encoding,
            decoded: 0,
            engram,
            offset: Bytes(at.saturating_mul(BLOCK_SIZE) as u64),
            stored: Bytes(blocks.saturating_mul(BLOCK_SIZE) as u64),
        }
    }

    /// The block of the engram in which it begins.
    pub fn block(&self) -> usize {
        self.offset.whole_blocks().0 as usize
    }

    /// The block behind it, in the window.
    pub fn end(&self) -> usize {
        self.first.saturating_add(self.blocks)
    }

    fn is_possible(&self) -> bool {
        let is_whole = |bytes: Bytes| bytes.whole_blocks().bytes() == Some(bytes);
        let inside = self.blocks != 0 && self.end() <= WINDOW;
        let end = self.offset.plus(self.stored);
        let lies = self.engram != EngramId::NONE && end.is_some_and(|end| end.0 <= MAX_PAYLOAD);
        inside
            && match self.encoding {
                Encoding::Hole => *self == Run::hole(self.first, self.blocks),
                Encoding::Raw | Encoding::Unwritten => {
                    lies && self.decoded == 0
                        && is_whole(self.offset)
                        && is_whole(self.stored)
                        && self.stored.whole_blocks().0 == self.blocks as u64
                }
                _ => {
                    lies && self.stored != Bytes(0)
                        && self.decoded.saturating_add(self.blocks) <= WINDOW
                }
            }
    }
}

impl Raw {
    fn run(&self) -> Option<Run> {
        Some(Run {
            first: usize::from(self.first),
            blocks: usize::from(self.blocks),
            encoding: Encoding::new(self.encoding)?,
            decoded: usize::from(self.decoded),
            engram: EngramId(self.engram.get()),
            offset: Bytes(u64::from(self.offset.get())),
            stored: Bytes(u64::from(self.stored.get())),
        })
    }
}

/// The runs of an item.
#[derive(Clone, Copy)]
pub struct Runs<'a>(&'a [Raw]);

impl Runs<'_> {
    /// Each of them, in order of their blocks.
    pub fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.0.iter().filter_map(Raw::run)
    }
}

/// Checks an item's value.
pub fn parse(value: &[u8]) -> Option<Runs<'_>> {
    let (header, rest) = value.split_at_checked(HEADER_SIZE)?;
    let runs = <[Raw]>::ref_from_bytes(rest).ok()?;
    let mut end = 0usize;
    for raw in runs {
        let run = raw.run().filter(Run::is_possible)?;
        if run.first < end {
            return None;
        }
        end = run.end();
    }
    (header.first() == Some(&VERSION) && !runs.is_empty()).then_some(Runs(runs))
}

/// Bytes of an item's value that lists so many runs.
pub fn size(runs: usize) -> usize {
    runs.saturating_mul(RUN_SIZE).saturating_add(HEADER_SIZE)
}

/// The item's value for these runs.
pub fn encode(runs: &[Run]) -> Result<Vec<u8>, NoMem> {
    let mut value = Vec::zeroed(HEADER_SIZE)?;
    if let Some(version) = value.first_mut() {
        *version = VERSION;
    }
    value.try_reserve(runs.len().saturating_mul(RUN_SIZE))?;
    for run in runs {
        let raw = Raw {
            first: run.first as u8,
            blocks: run.blocks as u8,
            encoding: run.encoding as u8,
            decoded: run.decoded as u8,
            offset: (run.offset.0 as u32).into(),
            stored: (run.stored.0 as u32).into(),
            zero: 0.into(),
            engram: run.engram.0.into(),
        };
        value.try_extend_from_slice(raw.as_bytes())?;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ENGRAM: EngramId = EngramId(0x0102_0304_0506_0708);

    #[test]
    fn every_field_is_where_the_format_says() {
        let runs = [
            Run::hole(1, 2),
            Run::plain(5, 3, Encoding::Raw, ENGRAM, 250),
            Run {
                decoded: 20,
                offset: Bytes(5),
                stored: Bytes(77),
                ..Run::plain(8, 12, Encoding::Zstd, ENGRAM, 0)
            },
        ];
        let value = encode(&runs).unwrap();
        let mut expected = std::vec![1, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([1, 2, 0, 0]);
        expected.extend([0; 20]);
        expected.extend([5, 3, 1, 0]);
        expected.extend((250u32 * 4096).to_le_bytes());
        expected.extend((3u32 * 4096).to_le_bytes());
        expected.extend([0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        expected.extend([8, 12, 6, 20, 5, 0, 0, 0, 77, 0, 0, 0]);
        expected.extend([0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(&value[..], &expected[..]);
        let parsed: std::vec::Vec<Run> = parse(&value).unwrap().iter().collect();
        assert_eq!(parsed, runs);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bad = |runs: &[Run]| parse(&encode(runs).unwrap()).is_none();
        let raw = Run::plain(5, 3, Encoding::Raw, ENGRAM, 250);
        assert!(!bad(&[raw]));
        assert!(bad(&[]));
        assert!(bad(&[raw, raw]));
        assert!(bad(&[Run { blocks: 0, ..raw }]));
        assert!(bad(&[Run { first: 30, ..raw }]));
        assert!(bad(&[Run { decoded: 1, ..raw }]));
        assert!(bad(&[Run {
            engram: EngramId::NONE,
            ..raw
        }]));
        assert!(bad(&[Run::plain(5, 7, Encoding::Raw, ENGRAM, 250)]));
        assert!(bad(&[Run {
            offset: Bytes(1),
            ..raw
        }]));
        assert!(bad(&[Run {
            stored: Bytes(4096),
            ..raw
        }]));
        assert!(bad(&[Run {
            encoding: Encoding::Hole,
            ..raw
        }]));
        let mut value = encode(&[raw]).unwrap();
        value[HEADER_SIZE + 2] = 7;
        assert!(parse(&value).is_none());
        assert!(parse(&value[..HEADER_SIZE + 5]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_understood_is_written_the_same(mut value in proptest::collection::vec(0u8..40, 8..110), at in 0usize..80, byte: u8) {
            let three = [Run::hole(0, 4), Run::plain(4, 9, Encoding::Raw, ENGRAM, 7), Run::plain(20, 1, Encoding::Unwritten, ENGRAM, 99)];
            let mut sound = std::vec::Vec::from(&encode(&three).unwrap()[..]);
            sound[at] = byte;
            value[0] = VERSION;
            for value in [value, sound] {
                if let Some(runs) = parse(&value) {
                    let runs: std::vec::Vec<Run> = runs.iter().collect();
                    let again = encode(&runs).unwrap();
                    prop_assert_eq!(again.len(), value.len());
                    let same: std::vec::Vec<Run> = parse(&again).unwrap().iter().collect();
                    prop_assert_eq!(runs, same);
                }
            }
        }
    }
}
