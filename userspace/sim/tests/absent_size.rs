// SPDX-License-Identifier: GPL-2.0

//! Memory for members that are not here depends on what is said of their blocks, not on how large they are said to be. What a process
//! took is the same for all its threads, so this is the only test here.

use embr_engine::env::Device as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::units::Blocks;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::made;
use embrfs_sim::numbered::put;

/// The most memory that the process ever had, in MiB.
fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find(|l| l.starts_with("VmHWM"));
    let number = line.and_then(|l| l.split_whitespace().nth(1));
    number.and_then(|n| n.parse::<u64>().ok()).expect("a size") >> 10
}

/// A volume whose present drive says of the other ones, `which` of them here, that they have so many bytes.
fn forged(bytes: u64, here: bool) -> Fleet {
    let fleet = made(2, 1);
    let mounted = machine::mount(5, &fleet, READ_WRITE).expect("mounted");
    for n in 1..=50 {
        put(&mounted, n).expect("made");
    }
    mounted.close().expect("closed");
    let first = Slot::new(0).expect("a slot");
    let drive = fleet.drive(first).expect("a drive");
    let mut superblock = probe(&drive, &Scalar).expect("sound").superblock;
    superblock.sequence += 1;
    for entry in superblock.members.iter_mut().skip(1) {
        entry.size = Blocks(bytes >> 12);
    }
    let mut buffer = vec![0; layout::SUPERBLOCK_SIZE];
    for (number, at) in layout::superblocks(drive.size()) {
        superblock.encode(&Scalar, number, at, &mut buffer);
        drive.write(at, &buffer).expect("written");
    }
    drive.flush().expect("durable");
    if !here {
        fleet.take(Slot::new(1).expect("a slot"));
    }
    fleet
}

#[test]
fn a_size_costs_nothing() {
    let read_only = Options {
        read_only: true,
        ..READ_WRITE
    };
    // The largest that the format has comes last: it must not be tried where the others cost too much already.
    for bytes in [16 << 40, 1 << 62] {
        for here in [false, true] {
            let fleet = forged(bytes, here);
            let before = peak();
            let small = |what| {
                let more = peak() - before;
                assert!(
                    more < 64,
                    "{what}: {more} MiB for {bytes} bytes, here {here}"
                );
            };
            let mounted = machine::mount(8, &fleet, read_only).expect("mounted");
            assert_eq!(last(&mounted), Ok(50));
            small("read-only");
            drop(mounted);
            let mounted = machine::inspect_telling(9, &fleet, &mut |_| {}).expect("mounted");
            assert_eq!(last(&mounted), Ok(50));
            small("to be looked at");
            drop(mounted);
            // It may be refused, but not for want of memory.
            if let Err(why) = machine::mount(7, &fleet, READ_WRITE).map(|_| ()) {
                assert!(!why.contains("memory"), "{why}");
            }
            small("to be written");
        }
    }
}
