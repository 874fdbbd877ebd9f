// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: the item of one, with its name and, if it fits, its value; and the pieces of a value that does not.

use crate::error::NoMem;
use crate::format::node::MAX_VALUE;
use crate::units::BLOCK_SIZE;
use embr_rt::Vec;
use zerocopy::little_endian::U32;
use zerocopy::FromBytes as _;
use zerocopy::IntoBytes as _;
use zerocopy_derive::FromBytes;
use zerocopy_derive::Immutable;
use zerocopy_derive::IntoBytes;
use zerocopy_derive::KnownLayout;
use zerocopy_derive::Unaligned;

/// The version of these items.
pub const VERSION: u8 = 1;
/// Bytes of an attribute's name, at most.
pub const MAX_NAME: usize = 255;
/// Bytes of an attribute's value, at most.
pub const MAX_SIZE: usize = 65536;
/// Bytes of the value in a piece; the last one may have fewer.
pub const PIECE: usize = BLOCK_SIZE;
/// Pieces of the longest value.
pub const MAX_PIECES: usize = MAX_SIZE / PIECE;
/// Bytes of an attribute's item before the name.
pub const HEADER_SIZE: usize = 8;

/// The value is in the item itself.
const IN_PLACE: u8 = 0;
/// The value is in pieces.
const IN_PIECES: u8 = 1;

const _: () = assert!(size_of::<RawAttribute>() == HEADER_SIZE);
const _: () = assert!(HEADER_SIZE + MAX_NAME <= MAX_VALUE && PIECE < MAX_VALUE);

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawAttribute {
    version: u8,
    kind: u8,
    length: u8,
    zero: u8,
    size: U32,
}

/// A name that an attribute can have: with its namespace, as programs say it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AttributeName<'a>(&'a [u8]);

impl<'a> AttributeName<'a> {
    /// This name, if an attribute can have it.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let sound = !bytes.is_empty() && bytes.len() <= MAX_NAME && !bytes.contains(&0);
        sound.then_some(AttributeName(bytes))
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Where an attribute's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held<'a> {
    /// Here.
    InPlace(&'a [u8]),
    /// In pieces, so many bytes together.
    InPieces(usize),
}

impl Held<'_> {
    /// How many bytes the value has.
    pub fn size(self) -> usize {
        match self {
            Held::InPlace(value) => value.len(),
            Held::InPieces(size) => size,
        }
    }

    /// How many pieces there are.
    pub fn pieces(self) -> usize {
        match self {
            Held::InPlace(_) => 0,
            Held::InPieces(size) => size.div_ceil(PIECE),
        }
    }

    /// How many bytes of the value the piece with this number has; none if there is no such piece.
    pub fn piece_size(self, number: usize) -> Option<usize> {
        match self {
            Held::InPieces(size) => {
                let rest = size.saturating_sub(number.saturating_mul(PIECE));
                Some(rest.min(PIECE)).filter(|bytes| *bytes != 0)
            }
            Held::InPlace(_) => None,
        }
    }
}

/// How a value of an attribute with this name is to be kept.
pub fn hold<'v>(name: AttributeName<'_>, value: &'v [u8]) -> Held<'v> {
    let all = HEADER_SIZE
        .saturating_add(name.0.len())
        .saturating_add(value.len());
    match all <= MAX_VALUE {
        true => Held::InPlace(value),
        false => Held::InPieces(value.len()),
    }
}

/// The value of an attribute's item.
pub fn encode(name: AttributeName<'_>, held: Held<'_>) -> Result<Vec<u8>, NoMem> {
    let (kind, value) = match held {
        Held::InPlace(value) => (IN_PLACE, value),
        Held::InPieces(_) => (IN_PIECES, &[][..]),
    };
    let raw = RawAttribute {
        version: VERSION,
        kind,
        length: u8::try_from(name.0.len()).unwrap_or(u8::MAX),
        zero: 0,
        size: u32::try_from(held.size()).unwrap_or(u32::MAX).into(),
    };
    let size = HEADER_SIZE
        .saturating_add(name.0.len())
        .saturating_add(value.len());
    let mut bytes = Vec::try_with_capacity(size)?;
    bytes.try_extend_from_slice(raw.as_bytes())?;
    bytes.try_extend_from_slice(name.0)?;
    bytes.try_extend_from_slice(value)?;
    Ok(bytes)
}

/// What an attribute's item says; none where it makes no sense.
pub fn parse(bytes: &[u8]) -> Option<(AttributeName<'_>, Held<'_>)> {
    let (raw, rest) = RawAttribute::ref_from_prefix(bytes).ok()?;
    let (name, value) = rest.split_at_checked(usize::from(raw.length))?;
    let size = raw.size.get() as usize;
    let held = match raw.kind {
        IN_PLACE if size == value.len() => Held::InPlace(value),
        IN_PIECES if value.is_empty() && size != 0 && size <= MAX_SIZE => Held::InPieces(size),
        _ => return None,
    };
    Some((AttributeName::new(name)?, held)).filter(|_| raw.version == VERSION)
}

/// The value of a piece's item.
pub fn encode_piece(piece: &[u8]) -> Result<Vec<u8>, NoMem> {
    let mut bytes = Vec::try_with_capacity(piece.len().saturating_add(1))?;
    bytes.push(VERSION)?;
    bytes.try_extend_from_slice(piece)?;
    Ok(bytes)
}

/// The bytes in a piece; none where its item makes no sense.
pub fn parse_piece(bytes: &[u8]) -> Option<&[u8]> {
    match bytes.split_first() {
        Some((&VERSION, piece)) if !piece.is_empty() && piece.len() <= PIECE => Some(piece),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(bytes: &[u8]) -> AttributeName<'_> {
        AttributeName::new(bytes).unwrap()
    }

    #[test]
    fn names_that_cannot_be() {
        for bad in [&b""[..], b"a\0", &[b'a'; 256]] {
            assert_eq!(AttributeName::new(bad), None);
        }
        for good in [&b"."[..], b"user.a/b", b"\xff", &[b'a'; 255]] {
            assert!(AttributeName::new(good).is_some());
        }
    }

    #[test]
    fn every_field_is_where_the_format_says() {
        let bytes = encode(name(b"user.x"), Held::InPlace(b"yz")).unwrap();
        let expected = b"\x01\0\x06\0\x02\0\0\0user.xyz";
        assert_eq!(&bytes[..], expected);
        let back = Some((name(b"user.x"), Held::InPlace(&b"yz"[..])));
        assert_eq!(parse(expected), back);
        let bytes = encode(name(b"user.x"), Held::InPieces(0x10000)).unwrap();
        let expected = b"\x01\x01\x06\0\0\0\x01\0user.x";
        assert_eq!(&bytes[..], expected);
        let back = Some((name(b"user.x"), Held::InPieces(65536)));
        assert_eq!(parse(expected), back);
        assert_eq!(&encode_piece(b"abc").unwrap()[..], b"\x01abc");
        assert_eq!(parse_piece(b"\x01abc"), Some(&b"abc"[..]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused: [&[u8]; 9] = [
            b"",
            b"\x02\0\x01\0\0\0\0\0a",
            b"\x01\x02\x01\0\0\0\0\0a",
            b"\x01\0\0\0\0\0\0\0",
            b"\x01\0\x02\0\0\0\0\0a",
            b"\x01\0\x01\0\0\0\0\0ab",
            b"\x01\x01\x01\0\0\0\0\0a",
            b"\x01\x01\x01\0\x01\0\x01\0a",
            b"\x01\x01\x01\0\x09\0\0\0ab",
        ];
        for bad in refused {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse_piece(b""), None);
        assert_eq!(parse_piece(b"\x01"), None);
        assert_eq!(parse_piece(b"\x02a"), None);
        assert_eq!(parse_piece(&[VERSION; PIECE + 2]), None);
    }

    #[test]
    fn values_lie_in_pieces_where_they_do_not_fit() {
        let most = MAX_VALUE - HEADER_SIZE - MAX_NAME;
        let long = [b'n'; MAX_NAME];
        let value = std::vec![7; MAX_SIZE];
        assert_eq!(hold(name(&long), &value[..most]).pieces(), 0);
        assert_eq!(hold(name(&long), &value[..=most]).pieces(), 1);
        let held = hold(name(b"a"), &value);
        assert_eq!(held.pieces(), MAX_PIECES);
        assert_eq!(held.piece_size(MAX_PIECES - 1), Some(PIECE));
        assert_eq!(held.piece_size(MAX_PIECES), None);
        assert_eq!(Held::InPieces(PIECE + 1).piece_size(1), Some(1));
        assert_eq!(Held::InPieces(PIECE).piece_size(1), None);
    }

    proptest! {
        #[test]
        fn anything_is_parsed_without_harm(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..60),
            kind in 0u8..3,
            length in 0u8..40,
        ) {
            for (to, from) in bytes.iter_mut().zip([VERSION, kind, length, 0]) {
                *to = from;
            }
            let rest = bytes.len().saturating_sub(HEADER_SIZE + usize::from(length));
            if kind == IN_PLACE && bytes.len() >= HEADER_SIZE {
                bytes[4..8].copy_from_slice(&(rest as u32).to_le_bytes());
            }
            if let Some((name, held)) = parse(&bytes) {
                prop_assert_eq!(&encode(name, held).unwrap()[..], &bytes[..]);
            }
        }
    }
}
