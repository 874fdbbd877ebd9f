// SPDX-License-Identifier: GPL-2.0

//! What a mount that writes refuses, and one that never does goes on with: features that it does not know.

use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::superblock::Superblock;
use embr_engine::hash::Scalar;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
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
            change_superblock(&fleet, slot(says), |s| s.features.read_only = 1 << 9 | 1);
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
