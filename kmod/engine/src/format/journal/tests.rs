// SPDX-License-Identifier: GPL-2.0

//! Groups: what is written is read, and nothing else is.

use super::*;
use crate::hash::Scalar;
use proptest::prelude::*;

const AT: Bytes = Bytes(5 << 20);

fn extent(device: usize, start: u64, blocks: u64) -> Extent {
    Extent {
        device: Slot::new(device).unwrap(),
        start: Blocks(start),
        blocks: Blocks(blocks),
    }
}

fn some_records() -> std::vec::Vec<Record<'static>> {
    std::vec![
        Record::Set(TreeId(1), Key([1, 2, 3]), b"value"),
        Record::Set(TreeId(2), Key::MAX, &[7; MAX_VALUE]),
        Record::Set(TreeId(2), Key::MIN, b""),
        Record::Gone(TreeId(3), Key([9, 0, u64::MAX])),
        Record::RangeGone(
            TreeId(3),
            Range {
                first: Key([1, 0, 0]),
                last: Key([1, 0, 0])
            }
        ),
        Record::Take(extent(63, 1, 1)),
        Record::Free(extent(0, (1 << 52) - 2, 1)),
        Record::NodesTaken(Generation(77), extent(1, 4096, 4)),
        Record::NodesFreed(Generation(u64::MAX), extent(2, 8192, 4)),
    ]
}

fn group(records: &[Record<'_>]) -> (Header, Vec<u8>) {
    let mut bytes = Vec::zeroed(HEADER_SIZE).unwrap();
    for r in records {
        let before = bytes.len();
        r.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len() - before, r.size());
    }
    let mut header = Header {
        volume: Uuid([1; 16]),
        epoch: EpochId([2; 16]),
        session: SessionId([3; 16]),
        sequence: Sequence(12),
        durable: Sequence(11),
        previous: Hash256([4; 32]),
        identity: Hash256::default(),
        device: DeviceId(5),
        used: (bytes.len() - HEADER_SIZE) as u32,
        records: records.len() as u32,
    };
    bytes.try_resize(header.size(), 0).unwrap();
    header.encode(&Scalar, &mut bytes);
    Header::seal_copy(&Scalar, &mut bytes, DeviceId(5), AT);
    (header, bytes)
}

fn read(bytes: &[u8]) -> Result<(Header, std::vec::Vec<Record<'_>>), BadGroup> {
    let header = Header::parse(&Scalar, bytes, AT, Uuid([1; 16]), DeviceId(5))?;
    let mut records = header.records(&Scalar, bytes)?;
    let mut all = std::vec::Vec::new();
    while let Some(r) = records.next()? {
        all.push(r);
    }
    Ok((header, all))
}

#[test]
fn round_trip() {
    let (header, bytes) = group(&some_records());
    let (again, records) = read(&bytes).unwrap();
    assert_eq!((again, records), (header, some_records()));
}

#[test]
fn every_byte_counts() {
    let (header, mut bytes) = group(&some_records());
    for i in 0..HEADER_SIZE + header.used as usize {
        bytes[i] ^= 0x10;
        assert!(read(&bytes).is_err(), "byte {i}");
        bytes[i] ^= 0x10;
    }
    assert!(read(&bytes).is_ok());
}

#[test]
fn elsewhere_or_foreign() {
    let (_, bytes) = group(&some_records());
    let parse = |at, volume, device| Header::parse(&Scalar, &bytes, at, volume, device).map(|_| ());
    let (at, volume, device) = (AT, Uuid([1; 16]), DeviceId(5));
    assert_eq!(parse(at, volume, device), Ok(()));
    assert_eq!(
        parse(Bytes(AT.0 + 4096), volume, device),
        Err(BadGroup::Seal)
    );
    assert_eq!(parse(at, Uuid([9; 16]), device), Err(BadGroup::Foreign));
    assert_eq!(parse(at, volume, DeviceId(4)), Err(BadGroup::Foreign));
}

/// Two groups with the same records behind different groups, or of different mounts, are different groups.
#[test]
fn identity_tells_apart() {
    let (header, bytes) = group(&some_records());
    for change in 0..4 {
        let (mut other, mut copy) = (header, bytes.try_clone().unwrap());
        match change {
            0 => other.previous = Hash256([5; 32]),
            1 => other.session = SessionId([5; 16]),
            2 => other.sequence = Sequence(13),
            _ => other.epoch = EpochId([5; 16]),
        }
        assert_ne!(
            other.encode(&Scalar, &mut copy),
            header.identity,
            "{change}"
        );
    }
}

proptest! {
    /// Records that were sealed by someone hostile are refused or read; they never do harm.
    #[test]
    fn any_records(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0u32..9, kind in 0u8..9) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        let mut records = Records { rest: &bytes, left: count };
        while let Ok(Some(_)) = records.next() {}
    }
}

#[test]
fn as_many_blocks_as_a_record_may_have() {
    let kinds: [fn(Extent) -> Record<'static>; 4] = [
        Record::Take,
        Record::Free,
        |e| Record::NodesTaken(Generation(1), e),
        |e| Record::NodesFreed(Generation(1), e),
    ];
    for kind in kinds {
        for (blocks, sound) in [
            (0, false),
            (1, true),
            (MAX_EXTENT, true),
            (MAX_EXTENT + 1, false),
        ] {
            let (_, bytes) = group(&[kind(extent(1, 4096, blocks))]);
            assert_eq!(read(&bytes).is_ok(), sound, "{blocks}");
        }
    }
}
