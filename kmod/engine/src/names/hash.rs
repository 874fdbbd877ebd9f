// SPDX-License-Identifier: GPL-2.0

//! Where names lie: a hash of volume, directory and name, or of volume, file and an attribute's name. The volume's random identity is in
//! it, so nobody can prepare names that collide everywhere.

use crate::env::Hasher;
use crate::format::attribute::AttributeName;
use crate::format::name::Name;
use crate::names::item::MAX_SUB;
use crate::units::InodeNo;
use crate::units::Uuid;

/// Domain separation: no other hash in the format begins so.
const CONTEXT: &[u8; 16] = b"embrfs name v1\0\0";
/// The same for names of attributes.
const ATTRIBUTE_CONTEXT: &[u8; 16] = b"embrfs attr v1\0\0";
/// Bits of a place that number names with the same hash.
pub(crate) const PROBE_BITS: u32 = 8;
/// The highest such number.
pub(super) const MAX_PROBE: u64 = (1 << PROBE_BITS) - 1;

/// Bits of an attribute's place that number the pieces of its value.
pub(crate) const PIECE_BITS: u32 = 4;

/// How many bits of hashes count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashWidth {
    /// As the format says.
    Full,
    /// Eight, so that names collide all the time: for tests only. Nothing on disk says so.
    Narrow,
}

/// The hash of a name in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NameHash(u64);

impl NameHash {
    pub(super) fn new(
        hasher: &impl Hasher,
        width: HashWidth,
        volume: Uuid,
        directory: InodeNo,
        name: Name<'_>,
    ) -> Self {
        let parts: [&[u8]; 4] = [CONTEXT, &volume.0, &directory.0.to_le_bytes(), name.bytes()];
        NameHash(low_bits(hasher, width, &parts))
    }

    /// Where the name is first looked for in its directory.
    pub(crate) fn first_probe(self) -> u64 {
        self.0.wrapping_shl(PROBE_BITS) & MAX_SUB
    }

    /// Where the file keeps this parent.
    pub(crate) fn parent(self) -> u64 {
        self.0
    }
}

/// The hash of an attribute's name on a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AttributeHash(u64);

impl AttributeHash {
    pub(super) fn new(
        hasher: &impl Hasher,
        width: HashWidth,
        volume: Uuid,
        file: InodeNo,
        name: AttributeName<'_>,
    ) -> Self {
        let number = file.0.to_le_bytes();
        let parts: [&[u8]; 4] = [ATTRIBUTE_CONTEXT, &volume.0, &number, name.bytes()];
        AttributeHash(low_bits(hasher, width, &parts))
    }

    /// Where the attribute is first looked for.
    pub(crate) fn first_probe(self) -> u64 {
        self.0.wrapping_shl(PIECE_BITS.wrapping_add(PROBE_BITS)) & MAX_SUB
    }
}

fn low_bits(hasher: &impl Hasher, width: HashWidth, parts: &[&[u8]]) -> u64 {
    let hash = hasher.hash(parts);
    let first = hash.0.first_chunk().copied().unwrap_or_default();
    match width {
        HashWidth::Full => u64::from_le_bytes(first) & MAX_SUB,
        HashWidth::Narrow => u64::from_le_bytes(first) & 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Scalar;

    fn reference(context: &[u8], name: &[u8]) -> [u8; 32] {
        let mut reference = blake3::Hasher::new();
        reference.update(context);
        reference.update(&[7; 16]);
        reference.update(&[5, 0, 0, 0, 0, 0, 0, 0]);
        reference.update(name);
        *reference.finalize().as_bytes()
    }

    /// Computed as docs/FORMAT.md says, so that no change of the format goes unnoticed.
    #[test]
    fn the_hash_is_the_one_of_the_format() {
        let hash = reference(b"embrfs name v1\0\0", b"some name");
        let number = |n: usize| {
            let mut bytes = [0; 8];
            bytes[..n].copy_from_slice(&hash[..n]);
            u64::from_le_bytes(bytes)
        };
        let name = Name::new(b"some name").unwrap();
        let of = |width| NameHash::new(&Scalar, width, Uuid([7; 16]), InodeNo(5), name);
        assert_eq!(of(HashWidth::Full).first_probe(), number(6) << 8);
        assert_eq!(of(HashWidth::Full).parent(), number(7));
        assert_eq!(of(HashWidth::Narrow).first_probe(), number(1) << 8);
        assert_eq!(of(HashWidth::Narrow).parent(), number(1));
    }

    #[test]
    fn the_hash_of_an_attribute_is_the_one_of_the_format() {
        let hash = reference(b"embrfs attr v1\0\0", b"user.some");
        let number = u64::from_le_bytes(hash[..8].try_into().unwrap());
        let name = AttributeName::new(b"user.some").unwrap();
        let of = |width| AttributeHash::new(&Scalar, width, Uuid([7; 16]), InodeNo(5), name);
        let place = (number & ((1 << 44) - 1)) << 12;
        assert_eq!(of(HashWidth::Full).first_probe(), place);
        assert_eq!(of(HashWidth::Narrow).first_probe(), (number & 0xff) << 12);
    }
}
