// SPDX-License-Identifier: GPL-2.0

//! One task finds out that two files hold the same while another writes to one of them, which its caller should keep from happening:
//! even then no byte is lost that was written.

use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::recover::Options;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::work::Worker;
use embrfs_sim::contents;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::Arc;

const BLOCKS: usize = 6;

fn together(seed: u64) -> u64 {
    let world = World::new(seed).run(move || {
        let chance = &Chance::new(seed);
        let fleet = drives(chance, Bytes(32 << 20), 2, (1, 1));
        // What is looked up is read from drives, which takes a while.
        let forgetful = Options {
            cache: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(chance.next(), &fleet, forgetful).expect("mounted");
        let hall = Arc::new((mounted, names(), View::first(), AtomicBool::new(false)));
        let files = hall.1.of(&hall.0, &hall.2);
        let (a, b) = (one_file(&hall.0, &hall.1, &hall.2), create(files, b"b"));
        let same = pattern(BLOCKS, 1);
        write(files, a, 0, &same, Way::Sealed);
        write(files, b, 0, &same, Way::Sealed);
        hall.0.checkpoint().expect("durable");
        let (its, own, bytes) = (hall.clone(), Chance::new(chance.next()), same.clone());
        let writes = Worker::try_spawn(lock_class!("writes"), move || {
            let files = its.1.of(&its.0, &its.2);
            while !its.3.load(Ordering::Relaxed) {
                let at = own.below(BLOCKS);
                let range = at * BLOCK_SIZE..(at + 1) * BLOCK_SIZE;
                let way = own.one(&[Way::Sealed, Way::Inline]);
                // Something else, and then the same again.
                for new in [&pattern(1, own.next()), &bytes[range]] {
                    write(files, b, at as u64, new, way);
                    assert!(read(files, b, at as u64, 1) == *new, "not what was written");
                }
            }
        });
        let pair = Pair {
            from: (a, FileBlock(0)),
            to: (b, FileBlock(0)),
            blocks: Blocks(BLOCKS as u64),
        };
        let mut found = 0;
        for _ in 0..12 {
            found += files.same_range(&pair).expect("compared").what.0;
            embr_rt::time::sleep(embr_rt::time::Duration::from_micros(20));
        }
        hall.3.store(true, Ordering::Relaxed);
        drop(writes.expect("a task"));
        contents::audit(&hall.0).unwrap_or_else(|why| panic!("{why}"));
        assert!(read(files, a, 0, BLOCKS) == same);
        found
    });
    world
        .unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"))
        .value
}

/// Just when both were read, one of them is written to: what was compared is not what is there, and is looked at again.
#[test]
fn what_is_written_between_comparing_and_sharing_stays() {
    use Way::Inline;
    use Way::Sealed;
    let chance = &Chance::new(seed());
    // More than are read at a time: each of them twice, so that what lies in the tree is compared before the last.
    const BLOCKS: usize = 40;
    // How the first block of the second file was written; after which read what comes, to which of them, and how.
    for (first, reads, to_second, way) in [
        (Sealed, 4, true, Sealed),
        (Sealed, 4, true, Inline),
        (Sealed, 1, true, Sealed),
        (Sealed, 4, false, Sealed),
        (Sealed, 4, false, Inline),
        (Inline, 3, true, Inline),
        (Inline, 3, true, Sealed),
        (Inline, 3, false, Sealed),
    ] {
        for is_same in [false, true] {
            let story = format!("{first:?}, {reads}, {to_second}, {way:?}, {is_same}");
            let fleet = drives(chance, Bytes(32 << 20), 1, (1, 0));
            let mounted = machine::mount_plain(chance.next(), &fleet, machine::READ_WRITE);
            let hall = Arc::new((mounted.expect("mounted"), names(), View::first()));
            let files = hall.1.of(&hall.0, &hall.2);
            let (a, b) = (one_file(&hall.0, &hall.1, &hall.2), create(files, b"b"));
            let bytes = pattern(BLOCKS, 1);
            write(files, a, 0, &bytes, Sealed);
            write(files, b, 0, &bytes, Sealed);
            write(files, b, 0, &bytes[..BLOCK_SIZE], first);
            let new = match is_same {
                true => bytes[..BLOCK_SIZE].to_vec(),
                false => pattern(1, 2),
            };
            let (its, written) = (hall.clone(), Arc::new(AtomicBool::new(false)));
            let (is_written, what) = (written.clone(), new.clone());
            fleet.after_reads(reads, move || {
                let file = if to_second { b } else { a };
                write(its.1.of(&its.0, &its.2), file, 0, &what, way);
                is_written.store(true, Ordering::Relaxed);
            });
            let pair = Pair {
                from: (a, FileBlock(0)),
                to: (b, FileBlock(0)),
                blocks: Blocks(BLOCKS as u64),
            };
            let found = files.same_range(&pair).expect("compared").what;
            assert!(written.load(Ordering::Relaxed), "{story}: not written");
            let mut changed = bytes.clone();
            changed[..BLOCK_SIZE].copy_from_slice(&new);
            let (of_a, of_b) = match to_second {
                true => (&bytes, &changed),
                false => (&changed, &bytes),
            };
            assert!(read(files, a, 0, BLOCKS) == *of_a, "{story}: the first");
            assert!(read(files, b, 0, BLOCKS) == *of_b, "{story}: the second");
            let same = if is_same { BLOCKS as u64 } else { 0 };
            assert_eq!(found, Blocks(same), "{story}");
            contents::audit(&hall.0).unwrap_or_else(|why| panic!("{story}: {why}"));
        }
    }
}

#[test]
fn what_is_written_meanwhile_is_not_lost() {
    let base = seed();
    let found: u64 = (0..60).map(|n| together(base.wrapping_add(n))).sum();
    assert!(found > 0, "nothing was the same");
}
