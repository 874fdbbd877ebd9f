// SPDX-License-Identifier: GPL-2.0

//! The key of every tree: three 64-bit numbers, ordered one after the other. What they mean is the business of the typed keys
//! that turn into it; the tree only compares.

use core::fmt;

/// Bytes of a key on disk.
pub const KEY_SIZE: usize = 24;

/// A key as trees compare it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub [u64; 3]);

impl Key {
    /// Below every other key, or equal.
    pub const MIN: Key = Key([0; 3]);
    /// Above every other key, or equal.
    pub const MAX: Key = Key([u64::MAX; 3]);

    /// The key as it lies on disk.
    pub fn to_bytes(self) -> [u8; KEY_SIZE] {
        let [a, b, c] = self.0.map(u64::to_le_bytes);
        let mut bytes = [0; KEY_SIZE];
        for (to, from) in bytes.iter_mut().zip(a.into_iter().chain(b).chain(c)) {
            *to = from;
        }
        bytes
    }

    /// The key at the begin of `bytes`, and what follows it; none where that is too short.
    pub fn from_bytes(bytes: &[u8]) -> Option<(Key, &[u8])> {
        let (a, rest) = bytes.split_first_chunk()?;
        let (b, rest) = rest.split_first_chunk()?;
        let (c, rest) = rest.split_first_chunk()?;
        Some((Key([*a, *b, *c].map(u64::from_le_bytes)), rest))
    }

    /// The next key; none above the last.
    #[must_use]
    pub fn next(self) -> Option<Key> {
        let [a, b, c] = self.0;
        let (c, carry) = c.overflowing_add(1);
        let (b, carry) = b.overflowing_add(u64::from(carry));
        let a = a.checked_add(u64::from(carry))?;
        Some(Key([a, b, c]))
    }

    /// The key before; none below the first.
    #[must_use]
    pub fn previous(self) -> Option<Key> {
        let [a, b, c] = self.0;
        let (c, borrow) = c.overflowing_sub(1);
        let (b, borrow) = b.overflowing_sub(u64::from(borrow));
        let a = a.checked_sub(u64::from(borrow))?;
        Some(Key([a, b, c]))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.0;
        write!(f, "{a:x}:{b:x}:{c:x}")
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours() {
        assert_eq!(Key([1, 2, 3]).next(), Some(Key([1, 2, 4])));
        assert_eq!(Key([1, u64::MAX, u64::MAX]).next(), Some(Key([2, 0, 0])));
        assert_eq!(Key::MAX.next(), None);
        assert_eq!(
            Key([2, 0, 0]).previous(),
            Some(Key([1, u64::MAX, u64::MAX]))
        );
        assert_eq!(Key([2, 1, 0]).previous(), Some(Key([2, 0, u64::MAX])));
        assert_eq!(Key::MIN.previous(), None);
    }

    #[test]
    fn bytes_round_trip() {
        let key = Key([1, 2 << 40, u64::MAX - 2]);
        let mut bytes = std::vec::Vec::from(key.to_bytes());
        bytes.push(9);
        assert_eq!(Key::from_bytes(&bytes), Some((key, &[9][..])));
        assert_eq!(Key::from_bytes(&bytes[..23]), None);
    }
}
