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
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::mend::mend_copies;
use embr_engine::volume::probe;
use embr_engine::volume::probe::CopyState;
use embr_engine::volume::Member;
use embrfs_sim::disk::Disk;
use embrfs_sim::history::enter_epoch;
use embrfs_sim::history::write_root;
use embrfs_sim::history::write_superblock;
use embrfs_sim::mutant::volume;

const SIZE: Bytes = layout::MIN_DEVICE;

fn probe_all(disks: &[Disk]) -> Vec<Member> {
    disks
        .iter()
        .map(|d| probe(d, &Scalar).expect("a sound device"))
        .collect()
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
fn a_removed_member_that_comes_back_is_named_as_such_and_not_as_a_split() {
    let disks = volume(18, 1, 2, &[SIZE; 3]);
    let root = probe(&disks[0], &Scalar).expect("sound").root;
    for disk in &disks[..2] {
        // Its epoch is forgotten: no absent member can stand at it any more.
        enter_epoch(disk, 0xaa, 0b011, 20, true);
        let mut superblock = probe(disk, &Scalar).expect("sound").superblock;
        for entry in superblock
            .members
            .iter_mut()
            .filter(|e| e.slot.index() == 2)
        {
            entry.state = State::Removed;
        }
        superblock.epochs.retain(|e| e.id != root.epoch);
        superblock.epochs[0].absent = Members(0);
        superblock.sequence += 1;
        write_superblock(disk, &superblock);
    }
    for order in [[0, 1, 2], [2, 1, 0]] {
        let members: Vec<Member> = order
            .iter()
            .map(|i| probe(&disks[*i], &Scalar).expect("sound"))
            .collect();
        let third = order.iter().position(|i| *i == 2).expect("in the list");
        assert_eq!(
            assemble(&members).unwrap_err(),
            AssembleError::Removed(third)
        );
    }
    assemble(&probe_all(&disks[..2])).expect("the rest is a volume");
}

#[test]
fn a_removal_or_addition_that_never_began_does_not_count() {
    // Recorded on one device, without a root: whichever device is asked first, nothing has changed.
    let disks = volume(19, 1, 2, &[SIZE; 3]);
    let member = probe(&disks[0], &Scalar).expect("sound");
    let mut superblock = member.superblock;
    let first = superblock.epochs[0];
    let void = Epoch {
        id: EpochId([0xbb; 16]),
        parent: first.id,
        number: 2,
        after: Generation(1),
        present: Members(0b011),
        absent: Members(0),
    };
    superblock.epochs = embr_rt::Vec::try_from_slice(&[void, first]).expect("memory");
    superblock.members[2].state = State::Removed;
    superblock.sequence += 1;
    write_superblock(&disks[0], &superblock);
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0]] {
        let members: Vec<Member> = order
            .iter()
            .map(|i| probe(&disks[*i], &Scalar).expect("sound"))
            .collect();
        let volume = assemble(&members).expect("the removal never began");
        assert_eq!(
            (volume.seats().len(), volume.current()),
            (3, 3),
            "{order:?}"
        );
    }

    let disk = volume_of_one(20);
    let mut superblock = probe(&disk, &Scalar).expect("sound").superblock;
    let first = superblock.epochs[0];
    let mut added = superblock.members[0];
    added.slot = embr_engine::format::member::Slot::new(1).expect("a slot");
    added.id = embr_engine::units::DeviceId(2);
    added.uuid = embr_engine::units::Uuid([0x22; 16]);
    superblock.members.push(added).expect("memory");
    superblock.next_device = embr_engine::units::DeviceId(3);
    let void = Epoch {
        id: EpochId([0xcc; 16]),
        parent: first.id,
        number: 2,
        after: Generation(1),
        present: Members(0b11),
        ..first
    };
    superblock.epochs = embr_rt::Vec::try_from_slice(&[void, first]).expect("memory");
    superblock.sequence += 1;
    write_superblock(&disk, &superblock);
    let volume =
        assemble(&probe_all(std::slice::from_ref(&disk))).expect("the addition never began");
    assert_eq!(volume.seats().len(), 1);
}

fn volume_of_one(seed: u64) -> Disk {
    volume(seed, 1, 0, &[SIZE]).swap_remove(0)
}

#[test]
fn a_root_that_its_epoch_cannot_have_does_not_count() {
    let disks = volume(21, 1, 1, &[SIZE; 2]);
    enter_epoch(&disks[0], 0xaa, 0b01, 100, true);
    // Not newer than all of the epoch before.
    let superblock = probe(&disks[0], &Scalar).expect("sound").superblock;
    write_root(&disks[0], &superblock, EpochId([0xaa; 16]), 99);
    assert_eq!(
        probe(&disks[0], &Scalar).expect("sound").root.generation,
        Generation(100)
    );
    // Of an epoch in which the device was absent.
    let theirs = probe(&disks[1], &Scalar).expect("sound");
    let mut superblock = theirs.superblock;
    superblock.epochs =
        embr_rt::Vec::try_from_slice(&probe(&disks[0], &Scalar).expect("sound").superblock.epochs)
            .expect("memory");
    superblock.sequence += 1;
    write_superblock(&disks[1], &superblock);
    write_root(&disks[1], &superblock, EpochId([0xaa; 16]), 120);
    let volume = assemble(&probe_all(&disks)).expect("one stale of one tolerated");
    assert_eq!(
        (volume.current(), volume.generation()),
        (1, Generation(100))
    );
}

/// Changes bytes of a structure and seals it again: what a newer embrfs may have written.
fn rewrite(disk: &Disk, at: Bytes, length: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = vec![0; length];
    disk.read(at, &mut bytes).expect("memory");
    change(&mut bytes);
    embr_engine::format::seal::apply(&Scalar, &mut bytes, at);
    disk.write(at, &bytes).expect("memory");
}

#[test]
fn a_newer_superblock_that_is_not_understood_refuses_the_device_and_is_never_mended() {
    // An unknown incompatible bit, then an unknown version, in one copy only: the other one is older.
    for (field, value) in [(120, 1u8), (8, 2)] {
        for copy in 0..2 {
            let disk = volume_of_one(22);
            let sound = probe(&disk, &Scalar).expect("sound");
            let at = layout::superblocks(SIZE).nth(copy).expect("a place").1;
            rewrite(&disk, at, layout::SUPERBLOCK_SIZE, |bytes| {
                bytes[96] = 9;
                bytes[field] = value;
            });
            let before = disk.written();
            let error = probe(&disk, &Scalar).unwrap_err();
            if field == 120 {
                assert!(error.to_string().contains("incompatible"), "{error}");
            }
            assert!(
                matches!(error, Error::Superblock(place, _) if place == at),
                "{error}"
            );
            let mut stale = sound;
            stale.copies[copy].state = CopyState::Bad(error);
            mend_copies(&Scalar, &disk, &stale).expect("nothing to do");
            assert_eq!(disk.written(), before, "the newer copy was written over");
        }
    }
}

#[test]
fn an_older_superblock_that_is_not_understood_does_no_harm() {
    let disk = volume_of_one(23);
    let mut superblock = probe(&disk, &Scalar).expect("sound").superblock;
    superblock.sequence = 7;
    write_superblock(&disk, &superblock);
    rewrite(
        &disk,
        layout::superblocks(SIZE).nth(1).expect("a place").1,
        layout::SUPERBLOCK_SIZE,
        |bytes| {
            bytes[96] = 6;
            bytes[120] = 1;
        },
    );
    assert_eq!(
        probe(&disk, &Scalar)
            .expect("the newer copy is sound")
            .superblock
            .sequence,
        7
    );
}

#[test]
fn a_newer_root_that_is_not_understood_refuses_the_device() {
    for (field, value) in [(8, 2u8), (108, 3)] {
        let disk = volume_of_one(24);
        let superblock = probe(&disk, &Scalar).expect("sound").superblock;
        write_root(&disk, &superblock, superblock.epochs[0].id, 2);
        for ring in layout::rings(SIZE) {
            let at = layout::slot_at(ring, 2).expect("a slot");
            rewrite(&disk, at, layout::ROOT_SIZE, |bytes| bytes[field] = value);
        }
        let error = probe(&disk, &Scalar).unwrap_err();
        assert!(matches!(error, Error::UnknownRoot(..)), "{error}");
    }
}

#[test]
fn wiping_reaches_the_last_sector_of_an_odd_device() {
    let size = Bytes(SIZE.0 + 512 * 3);
    let disk = Disk::new(size);
    disk.write(Bytes(SIZE.0), &[0xee; 512 * 3]).expect("memory");
    let host = embrfs_sim::host::Host::new(1);
    let plan = embr_engine::volume::create::Plan::new(&host, options(), &[size]).expect("possible");
    plan.wipe(0, &disk).expect("memory");
    assert_eq!(
        disk.written().len(),
        0,
        "what lay in the last sectors is still there"
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

fn options() -> embr_engine::volume::create::Options {
    embr_engine::volume::create::Options {
        geometry: embr_engine::format::geometry::Geometry::new(1, 0).expect("1+0"),
        block_hash: embr_engine::format::superblock::BlockHash::Short,
        label: embr_engine::format::superblock::Label::new("").expect("no label"),
        uuid: None,
    }
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
    use embr_engine::volume::create::Plan;
    let host = embrfs_sim::host::Host::new(99);
    let mut finished = false;
    for writes in 0.. {
        let disks = volume(13, 1, 1, &[SIZE; 2]);
        let before = probe(&disks[0], &Scalar).expect("sound").superblock.volume;
        let plan = Plan::new(&host, options(), &[SIZE; 2]).expect("possible");
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
