// SPDX-License-Identifier: GPL-2.0

//! Volumes made, cut while being made, damaged, mended, and assembled from members that missed something.

use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::WritableDevice;
use embr_engine::error::Error;
use embr_engine::format::epoch::Epoch;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::State;
use embr_engine::format::root::Root;
use embr_engine::format::superblock::Superblock;
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::units::Timestamp;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::mend::mend_copies;
use embr_engine::volume::probe;
use embr_engine::volume::probe::CopyState;
use embr_engine::volume::Member;
use embrfs_sim::disk::Disk;
use embrfs_sim::mutant::volume;

const SIZE: Bytes = layout::MIN_DEVICE;

fn probe_all(disks: &[Disk]) -> Vec<Member> {
    disks
        .iter()
        .map(|d| probe(d, &Scalar).expect("a sound device"))
        .collect()
}

/// Puts the disk into a new epoch with these members present, as a mount without the others would: record, then root.
fn enter_epoch(disk: &Disk, id: u8, present: u64, generation: u64, with_root: bool) {
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

fn write_superblock(disk: &Disk, superblock: &Superblock) {
    let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
    for (n, at) in layout::superblocks(disk.size()) {
        superblock.encode(&Scalar, n, at, &mut bytes);
        disk.write(at, &bytes).expect("memory takes every write");
    }
}

fn write_root(disk: &Disk, superblock: &Superblock, epoch: EpochId, generation: u64) {
    let root = Root {
        volume: superblock.volume,
        epoch,
        generation: Generation(generation),
        device: superblock.device,
        written: Timestamp::default(),
    };
    let mut bytes = vec![0; layout::ROOT_SIZE];
    for ring in layout::rings(disk.size()) {
        let at = layout::slot_at(ring, layout::ring_slot(root.generation)).expect("a slot");
        root.encode(&Scalar, at, &mut bytes);
        disk.write(at, &bytes).expect("memory takes every write");
    }
}

#[test]
fn every_geometry_is_made_and_found_again() {
    for data in 1..=16 {
        for parity in 0..=4 {
            let disks = volume(1, data, parity, &vec![SIZE; usize::from(data + parity)]);
            let volume = assemble(&probe_all(&disks)).expect("a whole volume");
            assert_eq!(
                (volume.geometry().data(), volume.geometry().parity()),
                (data, parity)
            );
            assert_eq!(volume.current(), usize::from(data + parity));
            assert_eq!(
                volume.capacity().0,
                u64::from(data) * layout::allocatable(SIZE).0
            );
            assert_eq!(volume.label(), "simulated");
            assert!(!volume.missing().any());
        }
    }
}

#[test]
fn up_to_m_members_may_be_missing_and_the_rest_is_named() {
    let disks = volume(2, 4, 2, &[SIZE; 6]);
    let volume = assemble(&probe_all(&disks[2..])).expect("two may be missing");
    assert_eq!(volume.current(), 4);
    assert_eq!(volume.missing().count(), 2);
    let error = assemble(&probe_all(&disks[3..])).unwrap_err();
    let text = error.explain(&["a", "b", "c"]).to_string();
    assert!(
        text.starts_with("3 members are missing and only 2 may be: number 1 ("),
        "{text}"
    );
    assert!(
        text.contains("number 2 (") && text.contains("number 3 ("),
        "{text}"
    );
    assert!(matches!(assemble(&[]).unwrap_err(), AssembleError::Nothing));
}

#[test]
fn foreign_and_doubled_devices_are_named() {
    let (ours, theirs) = (volume(3, 1, 1, &[SIZE; 2]), volume(4, 1, 1, &[SIZE; 2]));
    let mixed = [ours[0].clone(), theirs[1].clone()];
    let error = assemble(&probe_all(&mixed)).unwrap_err();
    assert_eq!(error, AssembleError::Foreign { first: 0, other: 1 });
    assert!(error
        .explain(&["/dev/a", "/dev/b"])
        .to_string()
        .starts_with("/dev/b is of another volume than /dev/a"));
    let twice = [ours[0].clone(), ours[1].clone(), ours[0].clone()];
    assert_eq!(
        assemble(&probe_all(&twice)).unwrap_err(),
        AssembleError::Twice(0, 2)
    );
}

#[test]
fn a_member_that_missed_an_epoch_is_stale_and_not_trusted() {
    let disks = volume(5, 1, 2, &[SIZE; 3]);
    // The third stays behind, but with a root of a far higher generation in its old epoch.
    let member = probe(&disks[2], &Scalar).expect("sound");
    write_root(&disks[2], &member.superblock, member.root.epoch, 500);
    for disk in &disks[..2] {
        enter_epoch(disk, 0xaa, 0b011, 40, true);
    }
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let members: Vec<Member> = order
            .iter()
            .map(|i| probe(&disks[*i], &Scalar).expect("sound"))
            .collect();
        let volume = assemble(&members).expect("one stale member of two tolerated");
        assert_eq!(
            volume.generation(),
            Generation(40),
            "the stale member's root must not count"
        );
        let stale = volume
            .seats()
            .iter()
            .filter(|s| matches!(s.standing, Standing::Stale(_)))
            .count();
        assert_eq!(stale, 1);
    }
}

#[test]
fn two_sides_written_apart_are_refused_by_name() {
    let disks = volume(6, 1, 1, &[SIZE; 2]);
    enter_epoch(&disks[0], 0xaa, 0b01, 10, true);
    enter_epoch(&disks[1], 0xbb, 0b10, 30, true);
    let error = assemble(&probe_all(&disks)).unwrap_err();
    assert!(matches!(error, AssembleError::Split(..)), "{error:?}");
    assert!(error
        .explain(&["/dev/a", "/dev/b"])
        .to_string()
        .contains("while the other was away"));
    // Each side alone is a volume.
    for disk in &disks {
        assemble(&probe_all(std::slice::from_ref(disk))).expect("one side alone");
    }
}

#[test]
fn an_epoch_without_a_root_is_void() {
    let disks = volume(7, 1, 1, &[SIZE; 2]);
    // One heard of an epoch that never got its first root: both still stand at the first one.
    enter_epoch(&disks[0], 0xaa, 0b01, 10, false);
    let volume = assemble(&probe_all(&disks)).expect("nothing was lost");
    assert_eq!(volume.current(), 2);
    assert_eq!(volume.epoch().number, 1);
}

#[test]
fn a_removed_member_is_refused() {
    let disks = volume(8, 1, 2, &[SIZE; 3]);
    for disk in &disks[..2] {
        let mut superblock = probe(disk, &Scalar).expect("sound").superblock;
        for entry in superblock
            .members
            .iter_mut()
            .filter(|e| e.slot.index() == 2)
        {
            entry.state = State::Removed;
        }
        for epoch in superblock.epochs.iter_mut() {
            epoch.present = Members(0b011);
        }
        superblock.sequence += 1;
        write_superblock(disk, &superblock);
        write_root(disk, &superblock, superblock.epochs[0].id, 9);
    }
    assert_eq!(
        assemble(&probe_all(&disks)).unwrap_err(),
        AssembleError::Removed(2)
    );
}

#[test]
fn any_sound_copy_serves_and_mending_restores_the_rest() {
    let size = Bytes(2 << 30);
    let places: Vec<(usize, Bytes)> = layout::superblocks(size).collect();
    assert_eq!(places.len(), 3);
    for keep in 0..places.len() {
        let disk = volume(9, 1, 0, &[size]).swap_remove(0);
        for (n, at) in &places {
            if *n != keep {
                disk.write(*at, &vec![0x5a; layout::SUPERBLOCK_SIZE])
                    .expect("memory");
            }
        }
        let member = probe(&disk, &Scalar).expect("one copy is left");
        assert_eq!(
            member
                .copies
                .iter()
                .filter(|c| c.state == CopyState::Good)
                .count(),
            1
        );
        mend_copies(&Scalar, &disk, &member).expect("memory");
        let member = probe(&disk, &Scalar).expect("mended");
        assert!(
            member.copies.iter().all(|c| c.state == CopyState::Good),
            "{:?}",
            member.copies
        );
    }
}

#[test]
fn an_old_copy_is_known_as_old_and_renewed() {
    for stale in 0..2 {
        let disk = volume(10, 1, 0, &[SIZE]).swap_remove(0);
        let mut superblock = probe(&disk, &Scalar).expect("sound").superblock;
        superblock.sequence = 5;
        let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
        for (n, at) in layout::superblocks(SIZE).filter(|(n, _)| *n != stale) {
            superblock.encode(&Scalar, n, at, &mut bytes);
            disk.write(at, &bytes).expect("memory");
        }
        let member = probe(&disk, &Scalar).expect("sound");
        assert_eq!(member.superblock.sequence, 5);
        assert_eq!(member.copies[stale].state, CopyState::Old);
        mend_copies(&Scalar, &disk, &member).expect("memory");
        assert_eq!(
            probe(&disk, &Scalar).expect("mended").copies[stale].state,
            CopyState::Good
        );
    }
}

#[test]
fn data_where_a_larger_device_would_keep_a_copy_is_left_alone() {
    let old = Bytes(64 << 20);
    let mut disk = volume(11, 1, 0, &[old]).swap_remove(0);
    disk.resize(Bytes(2 << 30));
    let (_, third) = layout::superblocks(disk.size())
        .nth(2)
        .expect("a large device has three places");
    disk.write(third, &vec![0x77; layout::SUPERBLOCK_SIZE])
        .expect("memory");
    let member = probe(&disk, &Scalar).expect("sound");
    assert_eq!(member.copies.len(), 2);
    mend_copies(&Scalar, &disk, &member).expect("memory");
    let mut found = vec![0; layout::SUPERBLOCK_SIZE];
    disk.read(third, &mut found).expect("memory");
    assert!(found.iter().all(|b| *b == 0x77), "mending wrote over data");
}

#[test]
fn unreadable_parts_are_stepped_over_while_enough_is_left() {
    let mut disk = volume(12, 1, 0, &[SIZE]).swap_remove(0);
    disk.break_from(Bytes(8 << 20));
    let member = probe(&disk, &Scalar).expect("the first area is readable");
    assert!(matches!(
        member.copies[1].state,
        CopyState::Bad(Error::Read(_, DeviceError::Io))
    ));
    disk.break_from(Bytes(0));
    assert!(matches!(
        probe(&disk, &Scalar),
        Err(Error::Read(_, DeviceError::Io))
    ));
}

/// A disk that takes only so many writes.
struct Dying<'a>(&'a Disk, std::cell::Cell<usize>);

impl Device for Dying<'_> {
    fn size(&self) -> Bytes {
        self.0.size()
    }
    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read(at, into)
    }
}

impl WritableDevice for Dying<'_> {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        let left = self.1.get().checked_sub(1).ok_or(DeviceError::Io)?;
        self.1.set(left);
        self.0.write(at, from)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

#[test]
fn making_over_an_old_volume_never_leaves_a_mixture() {
    use embr_engine::volume::create::Options;
    use embr_engine::volume::create::Plan;
    let host = embrfs_sim::host::Host::new(99);
    let options = Options {
        geometry: embr_engine::format::geometry::Geometry::new(1, 1).expect("1+1"),
        block_hash: embr_engine::format::superblock::BlockHash::Short,
        label: embr_engine::format::superblock::Label::new("").expect("no label"),
        uuid: None,
    };
    let mut finished = false;
    for writes in 0.. {
        let disks = volume(13, 1, 1, &[SIZE; 2]);
        let before = probe(&disks[0], &Scalar).expect("sound").superblock.volume;
        let plan = Plan::new(&host, options, &[SIZE; 2]).expect("possible");
        let dying: Vec<Dying> = disks
            .iter()
            .map(|d| Dying(d, std::cell::Cell::new(writes)))
            .collect();
        let made = (0..2)
            .try_for_each(|i| plan.wipe(i, &dying[i]))
            .and_then(|()| (0..2).try_for_each(|i| plan.write(i, &host, &dying[i])));
        for disk in &disks {
            // A device is the old volume's, the new one's, or nothing.
            if let Ok(member) = probe(disk, &Scalar) {
                assert!([before, plan.volume()].contains(&member.superblock.volume));
            }
        }
        if made.is_ok() {
            assemble(&probe_all(&disks)).expect("the new volume");
            finished = true;
            break;
        }
    }
    assert!(finished);
}
