// SPDX-License-Identifier: GPL-2.0

//! What a mount that never writes can do without, and one that writes refuses: features that it does not know, and damaged free space.

use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::epoch::Epoch;
use embr_engine::format::journal::Header;
use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::member::State;
use embr_engine::format::superblock::Superblock;
use embr_engine::hash::Scalar;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::EpochId;
use embr_engine::units::Generation;
use embr_engine::units::Sequence;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::sides::Discard;
use embr_engine::volume::sides::Refused;
use embr_engine::volume::Fault;
use embr_engine::volume::Member;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::machine;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::made;
use embrfs_sim::numbered::put;

const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

fn drives(fleet: &Fleet) -> Vec<(Slot, DriveHandle)> {
    let drives = fleet.drives();
    drives.into_iter().map(|d| (d.slot(), d)).collect()
}

/// A volume with the first so many transactions, after a clean unmount.
fn filled(drives: usize, parity: u8, count: u64) -> Fleet {
    let fleet = made(drives, parity);
    let mounted = machine::mount(6, &fleet, READ_WRITE).expect("mounted");
    for n in 1..=count {
        put(&mounted, n).expect("made");
    }
    mounted.checkpoint().expect("a checkpoint");
    mounted.close().expect("closed");
    fleet
}

/// Changes what a drive says of its volume, in every copy, one sequence number on.
fn change_superblock(fleet: &Fleet, slot: Slot, change: impl FnOnce(&mut Superblock)) {
    let drive = fleet.drive(slot).expect("a drive");
    let mut superblock = probe(&drive, &Scalar).expect("sound").superblock;
    change(&mut superblock);
    superblock.sequence += 1;
    let mut bytes = vec![0; layout::SUPERBLOCK_SIZE];
    for (number, at) in layout::superblocks(drive.size()) {
        superblock.encode(&Scalar, number, at, &mut bytes);
        drive.write(at, &bytes).expect("written");
    }
    drive.flush().expect("durable");
}

/// A mount that would write is refused for a reason that has these words in it, and writes nothing; one that does not sees transaction
/// `number` as the last, and fsck goes on.
fn only_to_be_read(fleet: &Fleet, words: &[&str], number: u64) {
    for drive in fleet.drives() {
        drive.flush().expect("durable");
    }
    let before = fleet.snapshot().fingerprint();
    let refused = machine::mount(7, fleet, READ_WRITE).err().expect("refused");
    for word in words.iter().chain(&["read-only"]) {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    let mounted = machine::mount(8, fleet, READ_ONLY).unwrap_or_else(|why| panic!("{why}"));
    assert_eq!(last(&mounted), Ok(number), "after {refused}");
    let cut = mounted.cut();
    drop(mounted);
    let inspected = machine::inspect_telling(9, fleet, &mut |_| {}).expect("to be looked at");
    // What it sees of a group that makes no sense is not a whole.
    if cut.is_none() {
        assert_eq!(last(&inspected), Ok(number));
    }
    assert_eq!(
        fleet.snapshot().fingerprint(),
        before,
        "something was written"
    );
}

#[test]
fn unknown_features_that_allow_reading() {
    // Whichever drive says it, and whichever speaks for the volume.
    for says in 0..2 {
        for later in [0, 1] {
            let fleet = filled(2, 1, 50);
            change_superblock(&fleet, slot(says), |s| s.features.read_only = (1 << 9) | 1);
            for _ in 0..later {
                change_superblock(&fleet, slot(1 - says), |_| {});
                change_superblock(&fleet, slot(1 - says), |_| {});
            }
            let words = ["bit 9", "bit 0", "newer embrfs"];
            only_to_be_read(&fleet, &words, 50);
            change_superblock(&fleet, slot(says), |s| s.features.read_only = 0);
            machine::mount(7, &fleet, READ_WRITE).expect("nothing unknown is left");
        }
    }
    let fleet = filled(1, 0, 50);
    change_superblock(&fleet, slot(0), |s| s.features.compatible = 1 << 9);
    machine::mount(7, &fleet, READ_WRITE).expect("to be written by anybody");
}

/// As if a device had been added or removed, and a crash had come before the epoch of that had a root.
#[test]
fn a_device_table_that_is_that_of_a_later_epoch() {
    let added = |superblock: &mut Superblock| {
        let mut third = superblock.members[0];
        (third.slot, third.id) = (slot(2), superblock.next_device);
        third.uuid = Uuid([0x33; 16]);
        superblock.next_device.0 += 1;
        superblock.members.push(third).expect("memory");
        Members(0b111)
    };
    let removed = |superblock: &mut Superblock| {
        superblock.members[1].state = State::Removed;
        Members(0b01)
    };
    let changes: [&dyn Fn(&mut Superblock) -> Members; 2] = [&added, &removed];
    for change in changes {
        let fleet = filled(2, 1, 50);
        change_superblock(&fleet, slot(0), |superblock| {
            let first = superblock.epochs[0];
            let later = Epoch {
                id: EpochId([9; 16]),
                parent: first.id,
                number: first.number + 1,
                after: Generation(1 << 20),
                present: change(superblock),
                absent: Members(0),
            };
            superblock.epochs = embr_rt::Vec::try_from_slice(&[later, first]).expect("memory");
        });
        only_to_be_read(&fleet, &["device table", "another volume"], 50);
        let members = fleet.drives().into_iter().map(|d| probe(&d, &Scalar));
        let members: Vec<Member> = members.map(|m| m.expect("a member")).collect();
        let planned = Discard::plan(&members, &[]);
        assert_eq!(planned.err(), Some(Refused::DeviceTable));
    }
}

#[test]
fn trees_that_are_not_known() {
    let fleet = filled(1, 0, 50);
    forge::forge(&drives(&fleet), &mut |_, _| {}, &mut |_, _, bases| {
        let mut other = *bases.iter().find(|b| b.tree == NAMES).expect("names");
        other.tree = TreeId(9);
        bases.push(other);
    })
    .expect("forged");
    only_to_be_read(&fleet, &["tree 9", "newer embrfs"], 50);
}

#[test]
fn free_space_that_is_lost() {
    for (count, parity) in [(1, 0), (3, 1)] {
        let fleet = filled(count, parity, 50);
        let total = |options| {
            let mounted = machine::mount(6, &fleet, options).expect("mounted");
            mounted.statfs()
        };
        let known = total(READ_ONLY);
        assert_eq!(known.total, total(READ_WRITE).total);
        assert_eq!((known.free.0, known.available.0), (0, 0));
        let mounted = machine::mount(6, &fleet, READ_ONLY).expect("mounted");
        let base = mounted.bases().find(|b| b.tree == SPACE);
        let top = base.and_then(|b| b.top).expect("an item");
        drop(mounted);
        for place in top.pointer.places.iter() {
            let at = place.block.bytes().expect("a place");
            fleet.rot(place.device, Bytes(at.0 + 300), 4);
        }
        only_to_be_read(&fleet, &["tree 1", "fsck.embrfs"], 50);
        assert_eq!(total(READ_ONLY), known);
    }
}

/// The root before the newest one serves, and the journal has all that came after it.
#[test]
fn a_tree_of_the_newest_root_that_is_lost() {
    for (count, parity) in [(1, 0), (3, 1)] {
        let fleet = filled(count, parity, 50);
        let mounted = machine::mount(6, &fleet, READ_WRITE).expect("mounted");
        let before = mounted.generation();
        put(&mounted, 51).expect("made");
        mounted.checkpoint().expect("a checkpoint");
        put(&mounted, 52).expect("made");
        mounted.sync().expect("durable");
        let base = mounted.bases().find(|b| b.tree == NAMES);
        let top = base.and_then(|b| b.top).expect("an item");
        drop(mounted);
        for place in top.pointer.places.iter() {
            let at = place.block.bytes().expect("a place");
            fleet.rot(place.device, Bytes(at.0 + 300), 4);
        }
        assert!(machine::mount(7, &fleet, READ_WRITE).is_err());
        let mounted = machine::mount(8, &fleet, READ_ONLY).expect("mounted");
        assert_eq!(last(&mounted), Ok(52));
        assert_eq!(mounted.cut(), Some(Fault::RootBefore(before)));
    }
}

#[test]
fn free_space_that_makes_no_sense() {
    for (bad, value) in [
        (Key([0, 0, 0]), vec![7]),
        (Key([0, 99, 0]), vec![1]),
        (Key([99, 0, 0]), vec![1]),
    ] {
        let fleet = filled(1, 0, 50);
        let volume = probe(&fleet.drive(slot(0)).expect("a drive"), &Scalar);
        let volume = volume.expect("sound").superblock.volume;
        let mut change = |spot: forge::Spot, bytes: &mut Vec<u8>| {
            if spot.tree == SPACE && spot.level.is_leaf() {
                forge::entries(bytes, volume, |all| {
                    all.retain(|(key, _)| *key != bad);
                    all.push((bad, value.clone()));
                    all.sort();
                });
            }
        };
        forge::forge(&drives(&fleet), &mut change, &mut |_, _, _| {}).expect("forged");
        only_to_be_read(&fleet, &["free space", "fsck.embrfs"], 50);
    }
}

/// Where the group with this number lies on a volume of one drive, and its header.
fn group(fleet: &Fleet, number: Sequence) -> Option<(Bytes, Header)> {
    let drive = fleet.drive(slot(0))?;
    let member = probe(&drive, &Scalar).ok()?;
    let journal = member.root.journal;
    let mut block = vec![0; BLOCK_SIZE];
    (0..journal.blocks.0).find_map(|n| {
        let at = Bytes((journal.start.0 + n) * BLOCK_SIZE as u64);
        drive.read(at, &mut block).ok()?;
        let (volume, id) = (member.superblock.volume, member.superblock.device);
        let header = Header::parse(&Scalar, &block, at, volume, id).ok()?;
        (header.sequence == number).then_some((at, header))
    })
}

/// The journal holds transactions that nothing is wrong with, and then one that frees what is free or speaks of a tree that there is not.
/// That one was committed wholly, so it is not seen in part.
#[test]
fn a_journal_that_makes_no_sense() {
    for of_space in [true, false] {
        let fleet = filled(1, 0, 50);
        let mounted = machine::mount(6, &fleet, READ_WRITE).expect("mounted");
        for n in 51..=55 {
            put(&mounted, n).expect("made");
            mounted.sync().expect("durable");
        }
        let drive = fleet.drive(slot(0)).expect("a drive");
        let next = probe(&drive, &Scalar)
            .expect("sound")
            .root
            .journal
            .behind
            .next
            .next;
        drop(mounted);
        let groups = (next.0..).map_while(|n| group(&fleet, Sequence(n)));
        let (at, mut header) = groups.last().expect("a group");
        let mut bytes = vec![0; header.size()];
        drive.read(at, &mut bytes).expect("read");
        // Its last record: as another one of the same length.
        let head = last_record(&bytes, &header);
        match of_space {
            true => {
                let record = [5, 0, 16, 0];
                bytes.truncate(head);
                bytes.extend_from_slice(&record);
                bytes.extend_from_slice(&7000u64.to_le_bytes());
                bytes.extend_from_slice(&5u64.to_le_bytes());
                header.used = (bytes.len() - 256) as u32;
                bytes.resize(header.size(), 0);
            }
            false => bytes[head + 1] = 99,
        }
        header.encode(&Scalar, &mut bytes);
        Header::seal_copy(&Scalar, &mut bytes[..BLOCK_SIZE], header.device, at);
        drive.write(at, &bytes).expect("written");
        drive.flush().expect("durable");
        match of_space {
            // What it says of keys is known all the same, but for the last key.
            true => {
                let refused = machine::mount(7, &fleet, READ_WRITE)
                    .err()
                    .expect("refused");
                assert!(refused.contains("fsck.embrfs"), "{refused}");
                let mounted = machine::mount(8, &fleet, READ_ONLY).expect("mounted");
                assert_eq!(mounted.cut(), None);
            }
            false => {
                only_to_be_read(&fleet, &["makes no sense"], 54);
                let mounted = machine::mount(8, &fleet, READ_ONLY).expect("mounted");
                assert!(mounted.cut().is_some());
            }
        }
    }
}

/// Where the last record of a group begins.
fn last_record(bytes: &[u8], header: &Header) -> usize {
    let mut at = 256;
    for _ in 1..header.records {
        let length = u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]);
        at += 4 + usize::from(length);
    }
    at
}
