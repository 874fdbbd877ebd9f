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
use embr_engine::format::root::BadRoot;
use embr_engine::format::superblock::BadSuperblock;
use embr_engine::format::superblock::Label;
use embr_engine::format::superblock::Superblock;
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::units::Uuid;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::create::Impossible;
use embr_engine::volume::create::Plan;
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

/// Changes what the disk says of its volume, in every copy, one sequence number on.
fn change_superblock(
    disk: &Disk,
    change: impl FnOnce(&mut Superblock),
) -> embr_rt::Box<Superblock> {
    let mut superblock = probe(disk, &Scalar).expect("sound").superblock;
    change(&mut superblock);
    superblock.sequence += 1;
    write_superblock(disk, &superblock);
    superblock
}

/// Marks the third device of the table as removed.
fn remove_third(superblock: &mut Superblock) {
    superblock.members[2].state = State::Removed;
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

/// A crash came before the second had its first root. The third was never told, whatever the others say: no root that it is given would count.
#[test]
fn who_never_heard_of_an_epoch_is_stale_although_it_is_named() {
    let disks = volume(41, 1, 2, &[SIZE; 3]);
    enter_epoch(&disks[0], 0xaa, 0b111, 40, true);
    enter_epoch(&disks[1], 0xaa, 0b111, 40, false);
    let volume = assemble(&probe_all(&disks)).expect("one stale member of two tolerated");
    let standings: Vec<Standing> = volume.seats().iter().map(|s| s.standing).collect();
    assert_eq!(
        standings,
        [
            Standing::Current(0),
            Standing::Current(1),
            Standing::Stale(2)
        ]
    );
}

/// How three devices stand, the last of which was told otherwise of the newest epoch. All were told of it; only the first has a root there, and
/// the last if it `has_root`.
fn told_otherwise(has_root: bool, otherwise: impl FnOnce(&mut Superblock)) -> [Standing; 3] {
    let disks = volume(42, 1, 2, &[SIZE; 3]);
    enter_epoch(&disks[0], 0xaa, 0b111, 40, true);
    enter_epoch(&disks[1], 0xaa, 0b111, 40, false);
    enter_epoch(&disks[2], 0xaa, 0b111, 40, has_root);
    // It is to speak for nobody.
    change_superblock(&disks[0], |superblock| superblock.sequence += 1);
    change_superblock(&disks[2], otherwise);
    let members = probe_all(&disks);
    let volume = assemble(&members).expect("one stale member of two tolerated");
    assert_eq!(volume.epoch().after, Generation(39));
    [0, 1, 2].map(|i| volume.seats()[i].standing)
}

/// Else roots of the epoch that it is given do not count, and are written over those that do.
#[test]
fn who_was_told_otherwise_of_an_epoch_is_stale() {
    let [first, second] = [Standing::Current(0), Standing::Current(1)];
    let stale = [first, second, Standing::Stale(2)];
    let current = [first, second, Standing::Current(2)];
    for has_root in [false, true] {
        assert_eq!(told_otherwise(has_root, |_| ()), current);
        // The next root is the 41st, which counts.
        let earlier = |superblock: &mut Superblock| superblock.epochs[0].after = Generation(30);
        assert_eq!(told_otherwise(has_root, earlier), current);
    }
    for (after, standings) in [(40, current), (41, stale), (u64::MAX, stale)] {
        let later = |superblock: &mut Superblock| superblock.epochs[0].after = Generation(after);
        assert_eq!(told_otherwise(false, later), standings);
    }
    let without_it = |superblock: &mut Superblock| {
        superblock.epochs[0].present = Members(0b011);
        superblock.epochs[0].absent = Members(0b100);
    };
    assert_eq!(told_otherwise(false, without_it), stale);
}

/// By what it was told it has a newer root than who speaks: what the others write next would not be the newest there.
#[test]
fn who_was_told_another_number_of_an_epoch_is_stale() {
    let disks = volume(43, 1, 2, &[SIZE; 3]);
    for disk in &disks {
        enter_epoch(disk, 0xaa, 0b111, 40, true);
    }
    for disk in &disks[..2] {
        change_superblock(disk, |superblock| {
            superblock.epochs.truncate(1);
            superblock.epochs[0].number += 1;
        });
    }
    let member = probe(&disks[2], &Scalar).expect("sound");
    write_root(&disks[2], &member.superblock, member.root.epoch, 60);
    let volume = assemble(&probe_all(&disks)).expect("one stale member of two tolerated");
    assert_eq!(volume.generation(), Generation(40));
    let standings = [0, 1, 2].map(|i| volume.seats()[i].standing);
    let [first, second] = [Standing::Current(0), Standing::Current(1)];
    assert_eq!(standings, [first, second, Standing::Stale(2)]);
}

#[test]
fn stale_members_are_missed_like_those_that_are_not_here() {
    let disks = volume(36, 1, 1, &[SIZE; 3]);
    enter_epoch(&disks[0], 0xaa, 0b001, 40, true);
    let error = assemble(&[
        probe(&disks[0], &Scalar).expect("sound"),
        probe(&disks[2], &Scalar).expect("sound"),
    ])
    .unwrap_err();
    let text = error.explain(&["a", "b"]).to_string();
    assert!(
        text.starts_with("2 members are missing and only 1 may be: number 2 ("),
        "{text}"
    );
    assert!(text.contains("here but stale"), "{text}");
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
        let superblock = change_superblock(disk, |superblock| {
            remove_third(superblock);
            superblock.epochs[0].present = Members(0b011);
        });
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
        change_superblock(disk, |superblock| {
            remove_third(superblock);
            superblock.epochs.retain(|e| e.id != root.epoch);
            superblock.epochs[0].absent = Members(0);
        });
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
fn a_device_whose_number_is_anothers_by_now_is_refused() {
    let disks = volume(25, 1, 2, &[SIZE; 3]);
    change_superblock(&disks[2], |superblock| {
        superblock.members[2].uuid = Uuid([0x33; 16]);
    });
    write_superblock(
        &disks[0],
        &change_superblock(&disks[0], |superblock| superblock.sequence = 9),
    );
    assert_eq!(
        assemble(&probe_all(&disks)).unwrap_err(),
        AssembleError::Removed(2)
    );
}

#[test]
fn of_members_with_the_same_root_the_last_written_superblock_speaks() {
    let disks = volume(26, 1, 1, &[SIZE; 2]);
    change_superblock(&disks[1], |superblock| {
        superblock.label = Label::new("renamed").expect("a label");
        superblock.features.read_only = 1 << 9;
    });
    for order in [[0, 1], [1, 0]] {
        let members = order.map(|i: usize| probe(&disks[i], &Scalar).expect("sound"));
        let volume = assemble(&members).expect("whole");
        assert_eq!(volume.label(), "renamed", "{order:?}");
        assert_eq!(volume.unknown_read_only().bits, 1 << 9, "{order:?}");
    }
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
    added.uuid = Uuid([0x22; 16]);
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

#[test]
fn a_root_as_old_as_its_epoch_does_not_count() {
    for (generation, counts) in [(99, false), (100, true)] {
        let disk = volume_of_one(27);
        let first = probe(&disk, &Scalar).expect("sound").root.epoch;
        enter_epoch(&disk, 0xaa, 0b1, 100, false);
        let superblock = probe(&disk, &Scalar).expect("sound").superblock;
        write_root(&disk, &superblock, EpochId([0xaa; 16]), generation);
        let root = probe(&disk, &Scalar).expect("sound").root;
        assert_eq!(root.epoch != first, counts, "generation {generation}");
    }
}

#[test]
fn of_the_epochs_that_one_device_has_roots_of_the_latest_counts() {
    let disk = volume_of_one(28);
    let superblock = probe(&disk, &Scalar).expect("sound").superblock;
    write_root(&disk, &superblock, superblock.epochs[0].id, 50);
    enter_epoch(&disk, 0xaa, 0b1, 20, true);
    let root = probe(&disk, &Scalar).expect("sound").root;
    assert_eq!(root.generation, Generation(20));
}

#[test]
fn a_root_of_an_epoch_that_the_superblock_does_not_know_does_not_count() {
    let disk = volume_of_one(35);
    let superblock = probe(&disk, &Scalar).expect("sound").superblock;
    // In the slot of the first root, so that there is no other.
    let generation = 1 + u64::from(layout::RING_SLOTS);
    write_root(&disk, &superblock, EpochId([0xee; 16]), generation);
    assert_eq!(
        probe(&disk, &Scalar).unwrap_err(),
        Error::NoRoot(BadRoot::Foreign)
    );
}

#[test]
fn either_ring_alone_serves() {
    for ring in layout::rings(SIZE) {
        let disk = volume_of_one(29);
        let slots = layout::RING_SLOTS as usize;
        disk.write(ring, &vec![0x5a; slots * layout::ROOT_SIZE])
            .expect("memory");
        let member = probe(&disk, &Scalar).expect("the other ring has the root too");
        assert_eq!(member.root.generation, Generation(1));
        assert_eq!(member.bad_roots.len(), slots);
    }
}

#[test]
fn copies_of_different_volumes_or_devices_on_one_device_disagree() {
    let (ours, theirs) = (volume(30, 1, 1, &[SIZE; 2]), volume_of_one(31));
    for other in [&ours[1], &theirs] {
        let disk = ours[0].clone();
        let (_, at) = layout::superblocks(SIZE).nth(1).expect("a place");
        let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
        other.read(at, &mut bytes).expect("memory");
        disk.write(at, &bytes).expect("memory");
        assert_eq!(
            probe(&disk, &Scalar).unwrap_err(),
            Error::CopiesDisagree(at)
        );
    }
}

#[test]
fn what_another_version_may_have_sealed_in_its_own_way_is_never_mended() {
    let disk = volume_of_one(32);
    let (_, at) = layout::superblocks(SIZE).nth(1).expect("a place");
    let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
    disk.read(at, &mut bytes).expect("memory");
    bytes[8] = 2;
    disk.write(at, &bytes).expect("memory");
    let before = disk.written();
    let member = probe(&disk, &Scalar).expect("the first copy is sound");
    let unknown = Error::Superblock(at, BadSuperblock::SealOrVersion(2));
    assert_eq!(member.copies[1].state, CopyState::Bad(unknown));
    mend_copies(&Scalar, &disk, &member).expect("nothing to do");
    assert_eq!(disk.written(), before);
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
    let plan = Plan::new(&host, options(), &[size]).expect("possible");
    plan.wipe(0, &disk).expect("memory");
    assert_eq!(
        disk.written().len(),
        0,
        "what lay in the last sectors is still there"
    );
}

#[test]
fn wiping_leaves_nothing_in_the_system_areas_and_the_last_mib() {
    // The third area only on the larger ones; the last MiB of the last is no whole number of pieces.
    for size in [SIZE, Bytes(2 << 30), Bytes((2 << 30) + 4096 * 5)] {
        let disk = Disk::new(size);
        let mebibyte = vec![0xee; 1 << 20];
        let tail = Bytes(size.0 - (1 << 20));
        for at in layout::areas(size).map(|(_, at)| at).chain([tail]) {
            disk.write(at, &mebibyte).expect("memory");
        }
        let host = embrfs_sim::host::Host::new(1);
        let plan = Plan::new(&host, options(), &[size]).expect("possible");
        plan.wipe(0, &disk).expect("memory");
        let left: Vec<u64> = disk.written().iter().map(|(n, _)| *n).collect();
        assert!(left.is_empty(), "blocks {left:?} of {size}");
    }
}

#[test]
fn what_cannot_be_a_volume_is_not_planned() {
    let host = embrfs_sim::host::Host::new(1);
    let plan = |data, parity, sizes: &[Bytes]| {
        let geometry =
            embr_engine::format::geometry::Geometry::new(data, parity).expect("a geometry");
        let options = embr_engine::volume::create::Options {
            geometry,
            ..options()
        };
        Plan::new(&host, options, sizes).map(|_| ()).unwrap_err()
    };
    for (data, parity) in [(1, 0), (1, 1), (4, 2), (16, 4)] {
        let needed = usize::from(data + parity);
        assert_eq!(
            plan(data, parity, &vec![SIZE; needed - 1]),
            Impossible::TooFewDevices {
                needed,
                given: needed - 1
            }
        );
    }
    assert_eq!(plan(1, 0, &[SIZE; 65]), Impossible::TooManyDevices(65));
    let (small, large) = (Bytes(SIZE.0 - 1), Bytes(layout::MAX_DEVICE.0 + 1));
    assert_eq!(plan(1, 0, &[SIZE, small]), Impossible::TooSmall(1, small));
    assert_eq!(plan(1, 0, &[SIZE, large]), Impossible::TooLarge(1, large));
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

#[test]
fn a_device_smaller_than_its_volume_uses_is_refused() {
    for lost in [4096, 8 << 20, 16 << 20] {
        let mut disk = volume_of_one(37);
        disk.resize(Bytes(SIZE.0 - lost));
        assert_eq!(
            probe(&disk, &Scalar).unwrap_err(),
            Error::Truncated {
                has: disk.size(),
                needs: SIZE
            }
        );
    }
}

fn options() -> embr_engine::volume::create::Options {
    embr_engine::volume::create::Options {
        geometry: embr_engine::format::geometry::Geometry::new(1, 0).expect("1+0"),
        block_hash: embr_engine::format::superblock::BlockHash::Short,
        label: Label::new("").expect("no label"),
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

/// A disk that remembers what it was asked, and in which order.
struct Logged<'a>(&'a Disk, std::cell::RefCell<Vec<Step>>);

#[derive(Clone)]
enum Step {
    Write(Bytes, Vec<u8>),
    Flush,
}

impl<'a> Logged<'a> {
    fn new(disk: &'a Disk) -> Self {
        Logged(disk, Default::default())
    }

    /// The writes between one flush and the next; those after the last flush come last.
    fn rounds(&self) -> Vec<Vec<(Bytes, Vec<u8>)>> {
        let mut rounds = vec![Vec::new()];
        for step in self.1.borrow().iter() {
            match step {
                Step::Write(at, bytes) => rounds
                    .last_mut()
                    .expect("one from the begin")
                    .push((*at, bytes.clone())),
                Step::Flush => rounds.push(Vec::new()),
            }
        }
        rounds
    }

    fn assert_durable(&self, what: &str) {
        let pending = self.rounds().pop().expect("one from the begin");
        assert!(pending.is_empty(), "{what} returns before it is durable");
    }
}

impl Device for Logged<'_> {
    fn size(&self) -> Bytes {
        self.0.size()
    }
    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read(at, into)
    }
}

impl WritableDevice for Logged<'_> {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        self.1.borrow_mut().push(Step::Write(at, from.to_vec()));
        self.0.write(at, from)
    }
    fn flush(&self) -> Result<(), DeviceError> {
        self.1.borrow_mut().push(Step::Flush);
        Ok(())
    }
}

/// Of the writes of one round, every one alone, and every one left out, may be all that a crash leaves.
fn crashes(round: &[(Bytes, Vec<u8>)]) -> Vec<Vec<&(Bytes, Vec<u8>)>> {
    let alone = round.iter().map(|w| vec![w]);
    let without = (0..round.len()).map(|left_out| {
        let kept = round.iter().enumerate().filter(|(i, _)| *i != left_out);
        kept.map(|(_, w)| w).collect()
    });
    alone.chain(without).collect()
}

#[test]
fn a_crash_while_making_leaves_nothing_or_a_volume() {
    let host = embrfs_sim::host::Host::new(33);
    let sizes = [Bytes(2 << 30)];
    let plan = Plan::new(&host, options(), &sizes).expect("possible");
    let blank = Disk::new(sizes[0]);
    let made = blank.clone();
    let log = Logged::new(&made);
    plan.wipe(0, &log).expect("memory");
    log.assert_durable("wiping");
    plan.write(0, &host, &log).expect("memory");
    log.assert_durable("making");
    let durable = blank;
    let mut volumes = 0;
    for round in log.rounds() {
        for kept in crashes(&round) {
            let disk = durable.clone();
            for (at, bytes) in kept {
                disk.write(*at, bytes).expect("memory");
            }
            match probe(&disk, &Scalar) {
                Ok(_) => volumes += 1,
                Err(error) => assert_eq!(error, Error::NotEmbrfs),
            }
        }
        for (at, bytes) in &round {
            durable.write(*at, bytes).expect("memory");
        }
    }
    assert!(volumes > 0, "no crash came late enough");
    probe(&durable, &Scalar).expect("made");
}

#[test]
fn never_are_two_superblock_copies_in_flight() {
    let size = Bytes(2 << 30);
    let disk = volume(34, 1, 0, &[size]).swap_remove(0);
    let mut member = probe(&disk, &Scalar).expect("sound");
    member
        .copies
        .iter_mut()
        .for_each(|c| c.state = CopyState::Old);
    let mending = Logged::new(&disk);
    mend_copies(&Scalar, &mending, &member).expect("memory");
    mending.assert_durable("mending");

    let host = embrfs_sim::host::Host::new(34);
    let plan = Plan::new(&host, options(), &[size]).expect("possible");
    let making = Logged::new(&disk);
    plan.write(0, &host, &making).expect("memory");

    for log in [mending, making] {
        let mut written = 0;
        for round in log.rounds() {
            let copies = layout::superblocks(size)
                .filter(|(_, place)| round.iter().any(|(at, _)| at == place))
                .count();
            assert!(copies <= 1, "{copies} copies at once");
            written += copies;
        }
        assert_eq!(written, 3);
    }
}
