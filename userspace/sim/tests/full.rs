// SPDX-License-Identifier: GPL-2.0

//! Volumes that are filled to the last block, of which something is deleted, and so on: deleting always succeeds, what is deleted can be
//! written again, and nothing else is lost.

use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::falls;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use std::collections::BTreeMap;

/// A file: its number, and from which seed each of its blocks is.
struct Known {
    number: InodeNo,
    blocks: Vec<u64>,
}

fn name(n: u64) -> String {
    format!("file {n}")
}

fn bytes(seeds: &[u64]) -> Vec<u8> {
    seeds.iter().flat_map(|seed| pattern(1, *seed)).collect()
}

fn try_to_write(
    files: Files<'_, Simulated>,
    file: InodeNo,
    at: usize,
    seeds: &[u64],
) -> Result<(), Error> {
    let bytes = bytes(seeds);
    let dirty = [Dirty {
        at: FileBlock(at as u64),
        bytes: &bytes,
    }];
    let written = Written {
        size: Some(Bytes(((at + seeds.len()) * BLOCK_SIZE) as u64)),
        ..Written::default()
    };
    let mut promise = files.promise(Blocks(seeds.len() as u64))?;
    let mut rest = Rest::new(&dirty);
    let done = files.write_under(file, &mut rest, Way::Sealed, &written, &mut promise);
    done.unwrap_or_else(|why| {
        panic!(
            "{} of {} promised blocks: {why}",
            rest.blocks(),
            seeds.len()
        )
    });
    Ok(())
}

#[test]
fn what_is_deleted_can_be_written_again() {
    let chance = &Chance::new(seed());
    let cycles = std::env::var("EMBRFS_CYCLES").map_or(4, |n| n.parse().expect("a number"));
    // Of small files, names and extents take some of it.
    for (count, shape, most, (percent, fresh)) in [
        (6, (4, 2), 300, (96, 103)),
        (3, (2, 1), 300, (96, 103)),
        (7, (4, 2), 300, (96, 103)),
        (3, (2, 1), 4, (84, 116)),
    ] {
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let mut mounted = mount(chance, &fleet);
        let view = View::first();
        let mut names_of = names();
        names_of
            .of(&mounted, &view)
            .format(&clerk::root())
            .expect("formatted");
        let mut all: BTreeMap<u64, Known> = BTreeMap::new();
        let (mut next, mut held) = (0, 0);
        for cycle in 0..cycles {
            let files = names_of.of(&mounted, &view);
            let before = mounted.statfs();
            let mut written = 0;
            let mut largest = most;
            while largest > 0 {
                let seeds: Vec<u64> = (0..1 + chance.below(largest))
                    .map(|_| chance.next())
                    .collect();
                // Some is written over what there is, so that what lives is scattered.
                let old = chance.below(3) == 0 && !all.is_empty();
                let key = match old {
                    true => *all.keys().nth(chance.below(all.len())).expect("one"),
                    false => next,
                };
                let done = match all.get_mut(&key) {
                    Some(known) => {
                        let at = chance.below(known.blocks.len());
                        let done = try_to_write(files, known.number, at, &seeds);
                        let end = known.blocks.len().max(at + seeds.len());
                        let of =
                            |n: usize| (at..at + seeds.len()).contains(&n).then(|| seeds[n - at]);
                        let whole: Vec<u64> = (0..end)
                            .map(|n| of(n).unwrap_or_else(|| known.blocks[n]))
                            .collect();
                        if done.is_ok() {
                            written += end - known.blocks.len();
                            known.blocks = whole;
                        }
                        done
                    }
                    None => {
                        let of = new_file(files, next);
                        let done = of.and_then(|number| {
                            let known = Known {
                                number,
                                blocks: Vec::new(),
                            };
                            all.insert(next, known);
                            try_to_write(files, number, 0, &seeds)
                        });
                        if done.is_ok() {
                            written += seeds.len();
                            all.get_mut(&next).expect("made").blocks = seeds;
                        } else if all.remove(&next).is_some() {
                            unlink(files, next);
                        }
                        next += 1;
                        done
                    }
                };
                match done {
                    Ok(()) => {}
                    Err(Error::NoSpace) => largest /= 2,
                    Err(why) => panic!("{shape:?}, cycle {cycle}: {why}"),
                }
            }
            let after = mounted.statfs();
            println!("{shape:?} cycle {cycle}: {before:?} written {written} {after:?}");
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            assert!(
                written as u64 * 100 > before.available.0 * percent,
                "{shape:?}: {written} of {before:?}"
            );
            assert!(
                written as u64 * 100 <= before.available.0 * 103,
                "{shape:?}: {written} of {before:?}"
            );
            assert!(
                cycle > 0 || before.available.0 * 100 <= written as u64 * fresh,
                "{shape:?}: {written} of {before:?}"
            );
            // However often it was filled before, it holds as much.
            let now: usize = all.values().map(|known| known.blocks.len()).sum();
            held = held.max(now);
            println!("holds {now} of {held}");
            assert!(
                now * 100 >= held * 97,
                "{shape:?}, cycle {cycle}: {now} of {held}"
            );
            assert!(
                after.available.0 * 10 < after.total.0,
                "{shape:?}: {after:?}"
            );
            for (n, known) in &all {
                let found = read(files, known.number, 0, known.blocks.len());
                assert!(found == bytes(&known.blocks), "{shape:?}: file {n}");
            }
            falls(chance, &fleet);
            let gone: Vec<u64> = all
                .keys()
                .copied()
                .filter(|_| chance.below(2) == 0)
                .collect();
            for n in gone {
                unlink(files, n);
                all.remove(&n);
            }
            contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
            falls(chance, &fleet);
            if chance.below(2) == 0 {
                mounted.close().expect("closed");
                mounted = mount(chance, &fleet);
                names_of = names();
            }
        }
        let files = names_of.of(&mounted, &view);
        for n in all.keys() {
            unlink(files, *n);
        }
        while files.rebundle().expect("moved").gained != Blocks(0) {}
        assert_eq!(contents::audit(&mounted), Ok(0));
    }
}

fn new_file(files: Files<'_, Simulated>, n: u64) -> Result<InodeNo, Error> {
    let new = embr_engine::names::New {
        what: embr_engine::names::What::Regular,
        ..clerk::root()
    };
    let made = files.create(InodeNo::ROOT, name(n).as_bytes(), &new)?;
    Ok(made.what.number)
}

fn unlink(files: Files<'_, Simulated>, n: u64) {
    files
        .unlink(InodeNo::ROOT, name(n).as_bytes(), Users::None, NOW)
        .unwrap_or_else(|why| panic!("{}: {why}", name(n)));
}

/// Bytes that were accepted while there was room are written when there is none beside it, however they come.
#[test]
fn what_was_promised_is_written_on_a_full_volume() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(6, (4, 2)), (3, (2, 1)), (2, (1, 1))] {
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let mounted = mount(chance, &fleet);
        let view = View::first();
        let names_of = names();
        let files = names_of.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        // Some of it is full already, and scattered.
        for n in 0..20 {
            let file = new_file(files, n).expect("room");
            let seeds: Vec<u64> = (0..60).map(|_| chance.next()).collect();
            try_to_write(files, file, 0, &seeds).expect("room");
        }
        let mut accepted = Vec::new();
        for n in 1000.. {
            let blocks = 1 + chance.below(300);
            let file = new_file(files, n);
            let promise = mounted.promise(Blocks(blocks as u64));
            match (file, promise) {
                (Ok(file), Ok(promise)) => accepted.push((file, blocks, promise)),
                _ => break,
            }
        }
        assert!(!accepted.is_empty(), "{shape:?}");
        for (number, (file, blocks, mut promise)) in accepted.into_iter().enumerate() {
            let bytes = pattern(blocks, number as u64);
            let dirty = [Dirty {
                at: FileBlock(3),
                bytes: &bytes,
            }];
            let written = Written {
                size: Some(Bytes(((3 + blocks) * BLOCK_SIZE) as u64)),
                ..Written::default()
            };
            let mut rest = Rest::new(&dirty);
            let way = chance.one(&[Way::Sealed, Way::Sealed, Way::Inline]);
            let way = if blocks > 16 { Way::Sealed } else { way };
            files
                .write_under(file, &mut rest, way, &written, &mut promise)
                .unwrap_or_else(|why| panic!("{shape:?}, {number}: {blocks} blocks: {why}"));
            assert!(read(files, file, 3, blocks) == bytes);
        }
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{shape:?}: {why}"));
    }
}
