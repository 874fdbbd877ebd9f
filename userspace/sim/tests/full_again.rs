// SPDX-License-Identifier: GPL-2.0

//! What is full stays usable when it is mounted again, in pieces, and without a drive: all that is kept back is there, and deleting works.

use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::names::Files;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::pattern;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;

/// Blocks of the largest files.
const LARGE: u64 = 64;

/// Writes files until there is no room; says how many.
fn fill(of: Files<'_, Simulated>) -> u64 {
    let mut files = 0;
    for blocks in [LARGE, 8, 1] {
        while let Ok(promise) = of.promise(Blocks(blocks + 8)) {
            drop(promise);
            let new = New {
                what: What::Regular,
                ..clerk::root()
            };
            let name = files.to_string();
            let Ok(made) = of.create(InodeNo::ROOT, name.as_bytes(), &new) else {
                break;
            };
            files += 1;
            let bytes = pattern(blocks as usize, files);
            let dirty = [Dirty {
                at: FileBlock(0),
                bytes: &bytes,
            }];
            let done = of.write(made.what.number, &dirty, Way::Sealed, &Written::default());
            if done.is_err() {
                break;
            }
        }
    }
    files
}

/// Every fourth block of each file goes, and then more, until what is kept back is broken into, or all is tried.
fn punch(of: Files<'_, Simulated>, files: u64) {
    for (step, file) in [0, 2]
        .into_iter()
        .flat_map(|s| (0..files).map(move |f| (s, f)))
    {
        let found = of.lookup(InodeNo::ROOT, file.to_string().as_bytes());
        let file = found.expect("there").inode;
        for block in (step..LARGE).step_by(4) {
            let (from, to) = (FileBlock(block).start(), FileBlock(block + 1).start());
            of.punch(file, from, to, NOW).expect("punched");
        }
    }
}

#[test]
fn what_is_full_is_emptied_when_it_is_mounted_again() {
    let chance = &Chance::new(seed());
    for (count, shape, gone) in [
        (2, (1, 1), 0),
        (1, (1, 0), 0),
        (3, (1, 1), 1),
        (6, (4, 2), 1),
        (7, (4, 2), 2),
        (3, (2, 1), 1),
        (4, (2, 1), 1),
    ] {
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let (view, mut names_of) = (View::first(), names());
        let mut mounted = mount(chance, &fleet);
        let of = names_of.of(&mounted, &view);
        of.format(&clerk::root()).expect("formatted");
        let files = fill(of);
        if gone == 0 {
            punch(of, files);
            mounted.checkpoint().expect("durable");
        }
        mounted.close().expect("closed");
        let first = chance.below(count);
        for n in 0..gone {
            fleet.vanish(fleet.drives()[(first + n) % count].slot());
        }
        // Without a drive, removing is worth more than a copy more of what it writes.
        let copies = if gone == 0 {
            Copies::All
        } else {
            Copies::MayLack
        };
        for round in 0..4 {
            mounted = mount(chance, &fleet);
            names_of = names();
            let of = names_of.of(&mounted, &view);
            for n in 3 * round..3 * round + 3 {
                let name = n.to_string();
                let done = of.unlink(InodeNo::ROOT, name.as_bytes(), Users::None, NOW);
                let said = mounted.ledger();
                done.unwrap_or_else(|why| panic!("{count} {shape:?}, {name}: {why}: {said:?}"));
            }
            contents::audit_but(&mounted, copies)
                .unwrap_or_else(|why| panic!("{count} {shape:?}: {why}"));
            mounted.close().expect("closed");
        }
        let mounted = mount(chance, &fleet);
        let said = mounted.ledger();
        assert!(said.kept >= said.reserve.one_removal(), "{said:?}");
        // Without the drive, all that comes back may go to what is kept.
        assert!(
            gone != 0 || mounted.statfs().available.bytes().expect("few").0 as usize > BLOCK_SIZE
        );
    }
}
