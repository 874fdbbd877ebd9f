// SPDX-License-Identifier: GPL-2.0

//! What mounts would have written: superblocks, roots, and epochs that begin or never do.

use crate::disk::Disk;
use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::epoch::Epoch;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::root::Journal;
use embr_engine::format::root::Root;
use embr_engine::format::superblock::Superblock;
use embr_engine::hash::Scalar;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::units::Sequence;
use embr_engine::units::Timestamp;
use embr_engine::volume::probe;

/// Puts the disk into a new epoch with these members present, as a mount without the others would: record, then root.
pub fn enter_epoch(disk: &Disk, id: u8, present: u64, generation: u64, with_root: bool) {
    let member = probe(disk, &Scalar).expect("a sound device");
    let mut superblock = member.superblock;
    let parent = *superblock
        .epoch(member.root.epoch)
        .expect("the root's epoch is known");
    let all = parent.present.0 | parent.absent.0;
    let epoch = Epoch {
        id: EpochId([id; 16]),
        parent: parent.id,
        number: parent.number + 1,
        after: Generation(generation - 1),
        present: Members(present),
        absent: Members(all & !present),
    };
    let older = superblock
        .epochs
        .iter()
        .copied()
        .filter(|e| e.number <= parent.number);
    superblock.epochs =
        embr_rt::Vec::try_from_iter([epoch].into_iter().chain(older)).expect("memory");
    superblock.sequence += 1;
    write_superblock(disk, &superblock);
    if with_root {
        write_root(disk, &superblock, epoch.id, generation);
    }
}

/// Writes every copy of the superblock.
pub fn write_superblock(disk: &Disk, superblock: &Superblock) {
    let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
    for (n, at) in layout::superblocks(disk.size()) {
        superblock.encode(&Scalar, n, at, &mut bytes);
        disk.write(at, &bytes).expect("memory takes every write");
    }
}

/// Writes a root of this device into both rings.
pub fn write_root(disk: &Disk, superblock: &Superblock, epoch: EpochId, generation: u64) {
    let root = Root {
        nodes: 0,
        made: Generation(1),
        told: Sequence(0),
        volume: superblock.volume,
        epoch,
        generation: Generation(generation),
        device: superblock.device,
        written: Timestamp::default(),
        journal: Journal::of_new(disk.size()),
    };
    let mut bytes = vec![0; layout::ROOT_SIZE];
    for ring in layout::rings(disk.size()) {
        let at = layout::slot_at(ring, layout::ring_slot(root.generation)).expect("a slot");
        root.encode(&[], &Scalar, at, &mut bytes);
        disk.write(at, &bytes).expect("memory takes every write");
    }
}
