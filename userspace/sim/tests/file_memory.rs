// SPDX-License-Identifier: GPL-2.0

//! Lack of memory while blocks are written under a promise: whoever tries again for long enough has them written, and never lacks room.

use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;

fn bytes(blocks: usize, seed: u64) -> Vec<u8> {
    let chance = Chance::new(seed);
    let words = blocks * BLOCK_SIZE / 8;
    (0..words)
        .flat_map(|_| chance.next().to_le_bytes())
        .collect()
}

fn written(blocks: u64) -> Written {
    Written {
        size: Some(FileBlock(blocks).start()),
        ..Written::default()
    }
}

/// Writes so that the first attempt fails at its first allocation, the second at its second, and so on until all is written. How often
/// that was.
fn insist(
    mounted: &Mounted<Simulated>,
    files: Files<'_, Simulated>,
    file: InodeNo,
    dirty: &[Dirty<'_>],
    way: Way,
) -> u64 {
    let mut rest = Rest::new(dirty);
    let mut promise = mounted.promise(rest.blocks()).expect("room");
    let end = |d: &Dirty<'_>| d.at.0 + (d.bytes.len() / BLOCK_SIZE) as u64;
    let size = dirty.last().map_or(0, end);
    for nth in 1.. {
        failpoint::fail_nth(nth);
        let done = files.write_under(file, &mut rest, way, &written(size), &mut promise);
        failpoint::off();
        match done {
            Ok(_) => return nth,
            Err(why) => assert_eq!(why, Error::Fault(Fault::NoMemory), "allocation {nth}"),
        }
        let (left, promised) = (rest.blocks(), promise.blocks());
        assert!(promised >= left, "{nth}: {promised:?} for {left:?} blocks");
    }
    unreachable!()
}

#[test]
fn what_was_promised_room_is_written_however_often_memory_is_short() {
    let chance = &Chance::new(3);
    for parity in 0..3 {
        let drives = vec![Bytes(32 << 20); usize::from(parity) + 1];
        let fleet = Fleet::new(chance.next(), &drives);
        let geometry = Geometry::new(1, parity).expect("a geometry");
        machine::make(chance.next(), &fleet, geometry).expect("made");
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE);
        let mounted = mounted.expect("mounted");
        let (names, view) = (
            Names::try_new(HashWidth::Full).expect("memory"),
            View::first(),
        );
        let files = names.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        let new = New {
            what: What::Regular,
            ..clerk::root()
        };
        let file = files.create(InodeNo::ROOT, b"file", &new).expect("made");
        let file = file.what.number;
        let (from, to) = (FileBlock(20), FileBlock(40));
        let done = files.preallocate(file, from, to, None, NOW);
        done.expect("room");

        // More than a transaction takes, in the midst of what has its places already; then over that; then into the tree.
        let plain = bytes(700, chance.next());
        let (first, rest) = plain.split_at(30 * BLOCK_SIZE);
        let dirty = |at: u64, bytes| Dirty {
            at: FileBlock(at),
            bytes,
        };
        let whole = [dirty(0, first), dirty(30, rest)];
        let tries = insist(&mounted, files, file, &whole, Way::Sealed);
        assert!(tries > 50, "it took only {tries} allocations");
        insist(
            &mounted,
            files,
            file,
            &[dirty(5, first), dirty(350, rest)],
            Way::Sealed,
        );
        insist(&mounted, files, file, &[dirty(100, first)], Way::Inline);

        let mut expected = plain.clone();
        expected.resize(1020 * BLOCK_SIZE, 0);
        for (at, bytes) in [(5, first), (350, rest), (100, first)] {
            let at = at * BLOCK_SIZE;
            expected[at..at + bytes.len()].copy_from_slice(bytes);
        }
        let mut found = vec![0; expected.len()];
        files
            .read(file, FileBlock(0), &mut found)
            .expect("readable");
        assert!(found == expected, "not what was written");
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
        mounted.checkpoint().expect("healthy drives");
        let promised = mounted.promise(Blocks(0)).map(|p| p.blocks());
        assert_eq!(promised, Ok(Blocks(0)));
    }
}
