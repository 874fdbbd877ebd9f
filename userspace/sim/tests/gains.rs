// SPDX-License-Identifier: GPL-2.0

//! What gains nothing by being moved does not keep what is behind it from being moved; and where drives are lost, little is written that gains nothing.

use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Policy;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::names::Files;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::BLOCK_SIZE;
use embrfs_sim::desk;
use embrfs_sim::desk::write_if_promised;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;

/// Moves what can be moved with gain, and says how many blocks of devices that gains.
fn rebundled(files: Files<'_, Simulated>) -> u64 {
    let moved = || files.rebundle().expect("moved").gained.0;
    std::iter::repeat_with(moved)
        .take_while(|gained| *gained != 0)
        .sum()
}

/// Blocks of devices that moving gains where a tenth of full stripes of many small pieces is dead.
fn gained(narrow: bool) -> u64 {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(1 << 30), 6, (4, 2));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = View::first();
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let small = desk::create(files, b"small");
    // Two blocks at a time, not side by side.
    for n in 0..1280 {
        write_if_promised(files, file, 2 * n, 1).expect("room");
    }
    rebundled(files);
    for n in (0..1280).step_by(10) {
        let at = Bytes(2 * n * BLOCK_SIZE as u64);
        files
            .punch(file, at, Bytes(at.0 + BLOCK_SIZE as u64), NOW)
            .expect("punched");
    }
    if narrow {
        write_if_promised(files, small, 0, 2).expect("room");
    }
    rebundled(files)
}

#[test]
fn without_a_narrow_one() {
    assert!(gained(false) > 0);
}

#[test]
fn behind_a_narrow_one() {
    assert!(gained(true) > 0);
}

/// What is gained by moving copies together, if the oldest block is of a policy that is as strong by another name.
fn gained_of_copies(policy: Option<Policy>) -> u64 {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(64 << 20), 6, (4, 2));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = View::first();
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let small = desk::create(files, b"small");
    if let Some(policy) = policy {
        files.set_policy(small, policy, NOW).expect("set");
    }
    write_if_promised(files, small, 0, 1).expect("room");
    for n in 0..1280 {
        write_if_promised(files, file, 2 * n, 1).expect("room");
    }
    rebundled(files)
}

#[test]
fn copies_behind_one_of_the_same_policy() {
    assert!(gained_of_copies(None) > 1000);
}

#[test]
fn copies_behind_one_of_the_same_strength() {
    let gained = gained_of_copies(Policy::surviving(2));
    assert!(gained > 1000, "{gained}");
}

/// Copies that were written while there was room for one only, before others.
#[test]
fn copies_behind_single_ones() {
    let without = gained_behind(0);
    let with = gained_behind(300);
    println!("gained {without} without, {with} behind single ones");
    assert!(with > 500, "{with} instead of {without}");
}

fn gained_behind(singles: u64) -> u64 {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(64 << 20), 4, (3, 1));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = View::first();
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let mut promises = Vec::new();
    for size in [300, 1000, 100, 10, 1] {
        while let Ok(promise) = mounted.promise(Blocks(size)) {
            promises.push(promise);
        }
    }
    mounted.report(Members::default().with(Slot::new(3).unwrap()));
    mounted.sync_serving().expect("three of four");
    // The first 300 blocks, one by one.
    for n in 0..singles {
        let bytes = desk::pattern(1, n);
        let dirty = [Dirty {
            at: FileBlock(2 * n),
            bytes: &bytes,
        }];
        let mut rest = Rest::new(&dirty);
        let written = Written {
            size: Some(FileBlock(2 * n + 1).start()),
            ..Written::default()
        };
        files
            .write_under(file, &mut rest, Way::Sealed, &written, &mut promises[0])
            .expect("promised");
    }
    promises.clear();
    mounted.checkpoint().expect("healthy");
    mounted.checkpoint().expect("healthy");
    for n in 1000..2280 {
        write_if_promised(files, file, 2 * n, 1).expect("room");
    }
    rebundled(files)
}

/// With two of six drives lost, who writes when there is little room does not write much in vain.
#[test]
fn little_is_written_in_vain() {
    little(&[4, 5], 30);
}

/// The same with one lost, and with none.
#[test]
fn little_is_written_in_vain_with_one_lost() {
    // What is moved there gains little, but some.
    little(&[5], 100);
}

#[test]
fn little_is_written_in_vain_with_all() {
    little(&[], 30);
}

/// Who writes 16 blocks has no more than so many times as much written.
fn little(lost: &[usize], most: u64) {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(64 << 20), 6, (4, 2));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = View::first();
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    for n in lost {
        mounted.report(Members::default().with(Slot::new(*n).unwrap()));
        mounted.sync_serving().expect("others are there");
    }
    let mut at = 0;
    let mut before = fleet.written().0;
    let mut worst = 0;
    loop {
        let blocks = if mounted.statfs().available.0 > 3000 {
            256
        } else {
            16
        };
        if write_if_promised(files, file, at, blocks).is_err() {
            break;
        }
        at += blocks;
        let now = fleet.written().0;
        let per = (now - before) / (blocks * BLOCK_SIZE as u64);
        if per > worst {
            worst = per;
            println!(
                "{at}: {per} times as much written, {:?} {:?}",
                mounted.statfs(),
                files.tally().moved
            );
        }
        before = now;
    }
    println!("{at} {:?} {:?}", mounted.statfs(), files.tally());
    let before = fleet.written().0;
    let done = write_if_promised(files, file, at, 16);
    println!(
        "refused {} after {} MiB",
        done.is_err(),
        (fleet.written().0 - before) >> 20
    );
    assert!(worst < most, "{worst}");
}

/// Writes so many blocks of a policy, of which two are left, fills a volume, punches holes into all of it, and says how many blocks can be written then, and how many were punched.
fn again(policy: Option<Policy>, blocks: u64) -> (u64, u64) {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(32 << 20), 12, (8, 4));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = View::first();
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let small = desk::create(files, b"small");
    if let Some(policy) = policy {
        files.set_policy(small, policy, NOW).expect("set");
    }
    write_if_promised(files, small, 0, blocks).expect("room");
    let dead = Bytes((blocks - 2) * BLOCK_SIZE as u64);
    files.punch(small, Bytes(0), dead, NOW).expect("punched");
    let mut at = 0;
    while write_if_promised(files, file, at, 256).is_ok() {
        at += 256;
    }
    let mut punched = 0;
    for begin in (0..at).step_by(10) {
        let from = Bytes(begin * BLOCK_SIZE as u64);
        let to = Bytes((begin + 3).min(at) * BLOCK_SIZE as u64);
        files.punch(file, from, to, NOW).expect("punched");
        punched += 3;
    }
    mounted.checkpoint().expect("healthy");
    mounted.checkpoint().expect("healthy");
    println!(
        "{policy:?}: held {at}, punched {punched}, {:?}",
        mounted.statfs()
    );
    let mut more = 0;
    while write_if_promised(files, file, at + more, 16).is_ok() {
        more += 16;
    }
    println!("written {more}, {:?}", mounted.statfs());
    (more, punched)
}

#[test]
fn with_the_same_policy() {
    let (more, punched) = again(None, 2);
    assert!(more * 10 > punched * 6, "{more} of {punched}");
}

#[test]
fn with_the_same_strength_by_another_name() {
    let (more, punched) = again(Policy::surviving(4), 2);
    assert!(more * 10 > punched * 6, "{more} of {punched}");
}

#[test]
fn behind_one_of_less_strength() {
    let (more, punched) = again(Policy::surviving(2), 64);
    assert!(more * 10 > punched * 6, "{more} of {punched}");
}
