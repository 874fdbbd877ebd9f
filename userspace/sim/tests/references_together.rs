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

#[test]
fn what_is_written_meanwhile_is_not_lost() {
    let base = seed();
    let found: u64 = (0..60).map(|n| together(base.wrapping_add(n))).sum();
    assert!(found > 0, "nothing was the same");
}
