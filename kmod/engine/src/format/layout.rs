// SPDX-License-Identifier: GPL-2.0

//! Where the fixed structures lie on every device: a few *system areas* of 1 MiB, each with a superblock copy, the first two
//! with a ring of roots. Everything else on a device is allocated.

use crate::units::Blocks;
use crate::units::Bytes;
use crate::units::Generation;
use crate::units::BLOCK_SIZE;

/// The version of the format that this code reads and writes.
pub const VERSION: u32 = 1;

/// Size of a system area.
pub const AREA_SIZE: Bytes = Bytes(1 << 20);
/// Where the system areas begin. One that does not fit on a device is left out there.
pub const AREAS: [Bytes; 3] = [Bytes(0), Bytes(8 << 20), Bytes(1 << 30)];
/// Place of the superblock in its area. The first 64 KiB of a device belong to boot loaders.
pub const SUPERBLOCK_AT: Bytes = Bytes(64 << 10);
/// Size of a superblock.
pub const SUPERBLOCK_SIZE: usize = 16 << 10;
/// Place of the root ring in its area.
pub const RING_AT: Bytes = Bytes(128 << 10);
/// Roots in a ring; generation modulo this is a root's slot.
pub const RING_SLOTS: u32 = 64;
/// Size of a root.
pub const ROOT_SIZE: usize = BLOCK_SIZE;
/// Areas that hold a ring.
pub const RINGS: usize = 2;
/// The smallest journal of a device.
pub const MIN_JOURNAL: Blocks = Blocks(1024);
/// The largest that mkfs makes.
const MAX_JOURNAL: Blocks = Blocks(32768);
/// The smallest device that is any use: the two areas with rings, and as much again for data.
pub const MIN_DEVICE: Bytes = Bytes(32 << 20);
/// The largest device: block numbers keep clear of the sign bit as bytes.
pub const MAX_DEVICE: Bytes = Bytes(1 << 62);
/// Bytes of payload in an engram, at most.
pub const MAX_PAYLOAD: Bytes = Bytes(1 << 20);

/// The system areas of a device of this size, with their number.
pub fn areas(device: Bytes) -> impl Iterator<Item = (usize, Bytes)> {
    AREAS
        .into_iter()
        .enumerate()
        .filter(move |(_, at)| at.plus(AREA_SIZE).is_some_and(|end| end <= device))
}

/// Where the superblock copies of a device of this size lie, with their number.
pub fn superblocks(device: Bytes) -> impl Iterator<Item = (usize, Bytes)> {
    areas(device).filter_map(|(n, at)| Some((n, at.plus(SUPERBLOCK_AT)?)))
}

/// Where the root rings of a device of this size lie.
pub fn rings(device: Bytes) -> impl Iterator<Item = Bytes> {
    areas(device)
        .take(RINGS)
        .filter_map(|(_, at)| at.plus(RING_AT))
}

/// The slot of this generation's root.
pub fn ring_slot(generation: Generation) -> u32 {
    // Below RING_SLOTS, so it fits.
    generation.0.checked_rem(u64::from(RING_SLOTS)).unwrap_or(0) as u32
}

/// Where a slot of the ring at `ring` lies.
pub fn slot_at(ring: Bytes, slot: u32) -> Option<Bytes> {
    ring.plus(Bytes(u64::from(slot).checked_mul(ROOT_SIZE as u64)?))
}

/// Where mkfs puts the journal of a device of this size: begin and length. Behind the second area, and before the third.
pub fn journal(device: Bytes) -> (Blocks, Blocks) {
    let behind = AREA_SIZE.0.saturating_add(8 << 20);
    let blocks = Blocks(device.whole_blocks().0 / 32).clamp(MIN_JOURNAL, MAX_JOURNAL);
    (Bytes(behind).whole_blocks(), blocks)
}

/// Blocks of a device of this size that can be allocated.
pub fn allocatable(device: Bytes) -> Blocks {
    let reserved = areas(device).fold(0u64, |sum, _| {
        sum.saturating_add(AREA_SIZE.whole_blocks().0)
    });
    let reserved = reserved.saturating_add(journal(device).1 .0);
    Blocks(device.whole_blocks().0.saturating_sub(reserved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn nothing_in_an_area_overlaps() {
        assert!(SUPERBLOCK_AT.0 + SUPERBLOCK_SIZE as u64 <= RING_AT.0);
        assert!(RING_AT.0 + u64::from(RING_SLOTS) * ROOT_SIZE as u64 <= AREA_SIZE.0);
        for pair in AREAS.windows(2) {
            assert!(pair[0].0 + AREA_SIZE.0 <= pair[1].0);
        }
        assert!(rings(MIN_DEVICE).count() == RINGS);
    }

    #[test]
    fn areas_fit_the_device() {
        let count = |size| areas(Bytes(size)).count();
        assert_eq!(count(0), 0);
        assert_eq!(count((1 << 20) - 1), 0);
        assert_eq!(count(1 << 20), 1);
        assert_eq!(count((9 << 20) - 1), 1);
        assert_eq!(count(9 << 20), 2);
        assert_eq!(count((1 << 30) + (1 << 20)), 3);
        let at: Vec<u64> = superblocks(Bytes(2 << 30)).map(|(_, b)| b.0).collect();
        assert_eq!(at, [65536, 8_454_144, 1_073_807_360]);
    }

    #[test]
    fn system_areas_and_journal_are_not_allocatable() {
        let sizes = [
            (32u64 << 20, 2, 1024),
            (2 << 30, 3, 16384),
            ((2 << 30) + 4095, 3, 16384),
            (1 << 40, 3, 32768),
        ];
        for (size, areas, blocks) in sizes {
            let expected = size / 4096 - areas * 256 - blocks;
            assert_eq!(allocatable(Bytes(size)).0, expected, "{size}");
            let (start, length) = journal(Bytes(size));
            assert_eq!((start.0, length.0), (2304, blocks));
            assert!(start.0 + length.0 <= size / 4096);
            for (_, at) in super::areas(Bytes(size)) {
                let area = at.whole_blocks().0;
                assert!(start.0 >= area + 256 || start.0 + blocks <= area);
            }
        }
        assert_eq!(allocatable(Bytes(1 << 20)).0, 0);
    }
}
