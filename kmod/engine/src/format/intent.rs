// SPDX-License-Identifier: GPL-2.0

//! An operation on a file that is larger than one transaction: what it is, and how far it has come.

use crate::units::FileBlock;
use crate::units::InodeNo;
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
/// No file has this block, nor any behind it.
pub const END: FileBlock = FileBlock(1 << (63 - crate::units::BLOCK_SHIFT));

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct Raw {
    version: u8,
    operation: u8,
    zero: [u8; 6],
    inode: U64,
    from: U64,
    to: U64,
    cursor: U64,
}

/// What is done with the range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Operation {
    /// Its blocks are cleared, upwards: those before the cursor are.
    Clear = 1,
    /// Its blocks are taken out, and what is behind them moves up: what lies before the cursor is where it belongs.
    Collapse = 2,
    /// A hole as long as it is put in before it, and what is from there on moves back, the last first: what lay from the cursor
    /// on is where it belongs.
    Insert = 3,
}

/// An operation that goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Intent {
    /// What is done.
    pub operation: Operation,
    /// With which file.
    pub inode: InodeNo,
    /// The first block of the range.
    pub from: FileBlock,
    /// The block behind it.
    pub to: FileBlock,
    /// How far it has come.
    pub cursor: FileBlock,
}

impl Intent {
    /// How many blocks the range has.
    pub fn blocks(&self) -> u64 {
        self.to.0.saturating_sub(self.from.0)
    }

    /// Where a block of the file lies by now, if it is not a hole, and how many blocks, itself included, it is so for.
    pub fn stored(&self, block: FileBlock) -> (Option<FileBlock>, u64) {
        let until = |end: FileBlock| end.0.saturating_sub(block.0);
        let back = || FileBlock(block.0.saturating_sub(self.blocks()));
        match self.operation {
            Operation::Clear if block < self.from => (Some(block), until(self.from)),
            Operation::Clear if block < self.to => (None, until(self.to)),
            Operation::Clear => (Some(block), u64::MAX),
            Operation::Collapse if block < self.cursor => (Some(block), until(self.cursor)),
            Operation::Collapse => (Some(block.plus(self.blocks())), u64::MAX),
            Operation::Insert if block < self.from => (Some(block), until(self.from)),
            Operation::Insert if block < self.to => (None, until(self.to)),
            Operation::Insert if back() < self.cursor => {
                (Some(back()), self.cursor.0.saturating_sub(back().0))
            }
            Operation::Insert => (Some(block), u64::MAX),
        }
    }

    /// Checks an item's value.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let raw = Raw::ref_from_bytes(value).ok()?;
        let operation = match raw.operation {
            1 => Operation::Clear,
            2 => Operation::Collapse,
            3 => Operation::Insert,
            _ => return None,
        };
        let intent = Intent {
            operation,
            inode: InodeNo(raw.inode.get()),
            from: FileBlock(raw.from.get()),
            to: FileBlock(raw.to.get()),
            cursor: FileBlock(raw.cursor.get()),
        };
        let sound = raw.version == VERSION
            && intent.from < intent.to
            && intent.to <= END
            && intent.from <= intent.cursor
            && intent.cursor <= END;
        sound.then_some(intent)
    }

    /// The item's value.
    pub fn encode(&self) -> [u8; size_of::<Raw>()] {
        let raw = Raw {
            version: VERSION,
            operation: self.operation as u8,
            zero: [0; 6],
            inode: self.inode.0.into(),
            from: self.from.0.into(),
            to: self.to.0.into(),
            cursor: self.cursor.0.into(),
        };
        let mut bytes = [0; size_of::<Raw>()];
        for (to, from) in bytes.iter_mut().zip(raw.as_bytes()) {
            *to = *from;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn intent(operation: Operation, from: u64, to: u64, cursor: u64) -> Intent {
        Intent {
            operation,
            inode: InodeNo(0x99),
            from: FileBlock(from),
            to: FileBlock(to),
            cursor: FileBlock(cursor),
        }
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let value = intent(Operation::Insert, 5, 7, 1000);
        let mut expected = std::vec![1, 3, 0, 0, 0, 0, 0, 0];
        for n in [0x99u64, 5, 7, 1000] {
            expected.extend(n.to_le_bytes());
        }
        assert_eq!(&value.encode()[..], &expected[..]);
        assert_eq!(Intent::parse(&expected), Some(value));
        for (at, byte) in [
            (0, 0),
            (1, 0),
            (1, 4),
            (16, 7),
            (24, 5),
            (24, 4),
            (31, 1),
            (33, 0),
        ] {
            let mut bad = expected.clone();
            bad[at] = byte;
            if at == 33 {
                bad[32] = 4;
            }
            assert_eq!(Intent::parse(&bad), None, "byte {at}");
        }
        assert_eq!(Intent::parse(&expected[1..]), None);
    }

    proptest! {
        /// Carried out up to its cursor on a list, an operation leaves every block where it is looked for.
        #[test]
        fn blocks_are_looked_for_where_they_are(kind in 0u8..3, from in 0u64..20, blocks in 1u64..20, more in 0u64..40, at in 0u64..60) {
            let (to, size) = (from + blocks, 50u64);
            let operation = [Operation::Clear, Operation::Collapse, Operation::Insert][usize::from(kind)];
            let intent = intent(operation, from, to, from + more);
            let cursor = from + more;
            // Which of the blocks that there were before lies where.
            let before = |b: u64| (b < size).then_some(b);
            let now = |b: u64| match operation {
                Operation::Clear => before(b).filter(|b| *b < from || *b >= cursor.min(to)),
                Operation::Collapse if b < from => before(b),
                Operation::Collapse if b < cursor => before(b + blocks),
                Operation::Collapse if b < cursor + blocks => None,
                Operation::Collapse => before(b),
                Operation::Insert if b < cursor => before(b),
                Operation::Insert if b < cursor + blocks => None,
                Operation::Insert => before(b - blocks),
            };
            let wanted = |b: u64| match operation {
                Operation::Clear => before(b).filter(|b| *b < from || *b >= to),
                Operation::Collapse if b < from => before(b),
                Operation::Collapse => before(b + blocks),
                Operation::Insert if b < from => before(b),
                Operation::Insert if b < to => None,
                Operation::Insert => before(b - blocks),
            };
            let (stored, count) = intent.stored(FileBlock(at));
            prop_assert!(count > 0);
            for n in 0..count.min(60) {
                prop_assert_eq!(stored.and_then(|s| now(s.0 + n)), wanted(at + n));
            }
        }
    }
}
