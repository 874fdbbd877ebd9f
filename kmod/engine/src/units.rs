// SPDX-License-Identifier: GPL-2.0

//! A type for every number that has a unit, so that none is taken for another.

use core::fmt;

/// Bytes in a block: the unit of allocation, of checksums and of device I/O.
pub const BLOCK_SIZE: usize = 4096;
/// The same as a shift.
pub const BLOCK_SHIFT: u32 = 12;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A count of bytes, or a byte's place on a device.
    Bytes,
    u64
);
number!(
    /// A count of blocks, or a block's place on a device.
    Blocks,
    u64
);
number!(
    /// The number of a commit: each root has the next one.
    Generation,
    u64
);
number!(
    /// A device's number in its volume. Never given to another device, also after removal.
    DeviceId,
    u32
);
number!(
    /// A file's number.
    InodeNo,
    u64
);
number!(
    /// A lasting identity of up to 1 MiB of what files hold.
    EngramId,
    u64
);
number!(
    /// A stripe. Never given to another one.
    StripeId,
    u64
);
number!(
    /// A block's place in a file: from its first byte on, 4096 bytes each.
    FileBlock,
    u64
);
number!(
    /// The number of a journal group in the order of all.
    Sequence,
    u64
);
number!(
    /// Which of a volume's trees: 0 is none.
    TreeId,
    u8
);
number!(
    /// How far a node is above the leaves, which are at level 0.
    Level,
    u8
);

number!(
    /// A version of all files. Every snapshot has a higher number than those that it grew from.
    SnapshotId,
    u64
);

impl SnapshotId {
    /// Of no snapshot: what belongs to the volume as a whole.
    pub const NONE: SnapshotId = SnapshotId(0);
    /// What a volume begins with.
    pub const FIRST: SnapshotId = SnapshotId(1);
}

impl StripeId {
    /// No stripe.
    pub const NONE: StripeId = StripeId(0);
}

impl EngramId {
    /// No engram.
    pub const NONE: EngramId = EngramId(0);
}

impl Level {
    /// The level below; none below the leaves.
    pub fn below(self) -> Option<Level> {
        self.0.checked_sub(1).map(Level)
    }

    /// Whether nodes of this level are leaves.
    pub fn is_leaf(self) -> bool {
        self.0 == 0
    }
}

impl InodeNo {
    /// No file: what belongs to all of them.
    pub const NONE: InodeNo = InodeNo(0);
    /// The root directory of every volume.
    pub const ROOT: InodeNo = InodeNo(1);
}

impl Bytes {
    /// The whole blocks in so many bytes.
    pub fn whole_blocks(self) -> Blocks {
        Blocks(self.0 >> BLOCK_SHIFT)
    }

    /// This place, moved on by `n` bytes; none where that leaves 64 bits.
    pub fn plus(self, n: Bytes) -> Option<Bytes> {
        self.0.checked_add(n.0).map(Bytes)
    }
}

impl Blocks {
    /// The bytes in so many blocks; none where that leaves 64 bits.
    pub fn bytes(self) -> Option<Bytes> {
        self.0.checked_mul(BLOCK_SIZE as u64).map(Bytes)
    }
}

fn hyphenated(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{b:02x}")?;
    }
    Ok(())
}

/// The identity of a volume or of a device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A random (version 4) UUID from sixteen random bytes.
    pub fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Uuid(bytes)
    }

    /// Reads the usual form: 32 hexadecimal digits, hyphens anywhere between bytes.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut out = [0u8; 16];
        let mut digits = 0usize;
        for c in text.chars() {
            if c == '-' {
                if digits % 2 != 0 {
                    return None;
                }
                continue;
            }
            let value = u8::try_from(c.to_digit(16)?).ok()?;
            let byte = out.get_mut(digits / 2)?;
            *byte = (*byte << 4) | value;
            digits += 1;
        }
        (digits == 32).then_some(Uuid(out))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hyphenated(&self.0, f)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hyphenated(&self.0, f)
    }
}

/// The identity of a membership epoch: random, so that two sides of a split never choose the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EpochId(pub [u8; 16]);

impl EpochId {
    /// No epoch: what the first one has for a parent.
    pub const NONE: EpochId = EpochId([0; 16]);
}

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hyphenated(&self.0, f)
    }
}

impl fmt::Debug for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hyphenated(&self.0, f)
    }
}

/// One mount of a volume: random, so that groups of two mounts are never taken for each other's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hyphenated(&self.0, f)
    }
}

/// A moment: seconds since 1970 and nanoseconds below one second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 UTC.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn uuid_text_round_trip() {
        let u = Uuid::from_random([0xff; 16]);
        assert_eq!(u.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(Uuid::from_text(&u.to_string()), Some(u));
        assert_eq!(Uuid::from_text("ffffffffffff4fffbfffffffffffffff"), Some(u));
        for bad in [
            "",
            "f",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffff0",
            "g",
        ] {
            assert_eq!(Uuid::from_text(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_do_not_wrap() {
        assert_eq!(Blocks(u64::MAX).bytes(), None);
        assert_eq!(Bytes(u64::MAX).plus(Bytes(1)), None);
        assert_eq!(Bytes(8191).whole_blocks(), Blocks(1));
    }
}
