// SPDX-License-Identifier: GPL-2.0

//! Many snapshots were deleted, and nobody has swept them yet: of one block and of one item there are as many versions. What was accepted
//! is written all the same, whatever changes the file works, deleting does on a full volume, and at the end nothing is left of them.

use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;

fn byte(block: u64) -> Bytes {
    FileBlock(block).start()
}

fn snapshot(n: u64) -> Vec<u8> {
    format!("s{n}").into_bytes()
}

/// What lies below that nobody deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Below {
    Nothing,
    /// A snapshot from before there was the file.
    Without,
    /// The oldest of those that have it.
    Oldest,
}

const BELOW: [Below; 3] = [Below::Nothing, Below::Without, Below::Oldest];

/// A file, and snapshots of which each has most of its blocks anew, and all of them deleted but for what is to lie below. Gives what the file
/// holds, and did at first.
fn layer(
    (mounted, names, files): (&Mounted<Simulated>, &Names, Files<'_, Simulated>),
    (layers, blocks, below): (u64, u64, Below),
    chance: &Chance,
) -> (InodeNo, Vec<u8>, Vec<u8>) {
    if below == Below::Without {
        files.take_snapshot(b"before", NOW).expect("taken");
    }
    let file = create(files, b"f");
    let mut holds = Vec::new();
    let mut first = Vec::new();
    for n in 0..=layers {
        let mut new = pattern(blocks as usize, chance.next());
        let spared = chance.below(blocks as usize) * BLOCK_SIZE;
        for block in 0..blocks {
            let at = block as usize * BLOCK_SIZE;
            let bytes = &mut new[at..at + BLOCK_SIZE];
            if n != 0 && at == spared {
                bytes.copy_from_slice(&holds[at..at + BLOCK_SIZE]);
                continue;
            }
            let way = [Way::Sealed, Way::Inline][usize::from(chance.below(8) == 0)];
            write(files, file, block, bytes, way);
        }
        holds = new;
        if n == 0 {
            first = holds.clone();
        }
        if n != 0 {
            remove(files, b"x");
        }
        create(files, b"x");
        files.take_snapshot(&snapshot(n), NOW).expect("taken");
        create(files, &snapshot(n));
    }
    for n in u64::from(below == Below::Oldest)..=layers {
        names.delete(mounted, &snapshot(n)).expect("deleted");
    }
    (file, holds, first)
}

/// A name is gone, and stays so.
fn remove(files: Files<'_, Simulated>, name: &[u8]) {
    let done = files.unlink(InodeNo::ROOT, name, Users::None, NOW);
    done.unwrap_or_else(|why| panic!("{why}"));
    let found = files.lookup(InodeNo::ROOT, name);
    assert!(matches!(found, Err(Error::NotFound)), "{found:?}");
}

/// All is swept, and agrees.
fn settle(mounted: &Mounted<Simulated>, names: &Names, what: &str) {
    let mut steps = 0;
    while names.sweep(mounted).expect("swept") {
        steps += 1;
        assert!(steps < 100_000, "{what}: sweeping does not end");
    }
    contents::audit(mounted).unwrap_or_else(|why| panic!("{what}: {why}"));
}

/// Fills the volume by writing to a new file.
fn fill(files: Files<'_, Simulated>) {
    let other = create(files, b"filler");
    let (mut at, mut most) = (0u64, 64);
    while most != 0 {
        let bytes = pattern(most, at);
        let dirty = [Dirty {
            at: FileBlock(at),
            bytes: &bytes,
        }];
        match files.write(other, &dirty, Way::Sealed, &Written::default()) {
            Ok(_) => at += most as u64,
            Err(Error::NoSpace) => most /= 4,
            Err(why) => panic!("{why}"),
        }
    }
}

#[test]
fn whatever_is_done_below_many_versions_is_done() {
    let chance = Chance::new(seed());
    for (what, below) in (0..9).flat_map(|what| BELOW.map(|below| (what, below))) {
        let (layers, blocks) = [(200, 3), (40, 20), (12, 40)][chance.below(3)];
        let shape = [(1, 0), (1, 1), (2, 1)][chance.below(3)];
        let said = format!("{what}: {layers} layers of {blocks} blocks, {shape:?}, {below:?}");
        let fleet = drives(
            &chance,
            Bytes(256 << 20),
            usize::from(shape.0 + shape.1),
            shape,
        );
        let (mounted, names) = (mount(&chance, &fleet), names());
        let first = View::first();
        names
            .of(&mounted, &first)
            .format(&clerk::root())
            .expect("formatted");
        let view = names.open(&mounted, b"").expect("opened");
        let files = names.of(&mounted, &view);
        let here = (&mounted, &names, files);
        let (file, mut holds, old) = layer(here, (layers, blocks, below), &chance);
        for _ in 0..chance.below(2) * chance.below(layers as usize) {
            names.sweep(&mounted).expect("swept");
        }
        remove(files, b"x");
        let half = blocks as usize / 2 * BLOCK_SIZE;
        let ended = byte(blocks);
        match what {
            0 | 1 => {
                let way = [Way::Sealed, Way::Inline][what];
                holds = pattern(blocks as usize, 7);
                write(files, file, 0, &holds, way);
            }
            2 => {
                let (from, to) = (byte(0), Bytes(half as u64 + 5));
                files.punch(file, from, to, NOW).expect(&said);
                holds[..half + 5].fill(0);
            }
            3 => {
                files
                    .truncate(file, Bytes(half as u64 + 5), NOW)
                    .expect(&said);
                holds[half + 5..].fill(0);
            }
            4 => {
                files.truncate(file, ended, NOW).expect(&said);
                let (from, to) = (FileBlock(0), FileBlock(1));
                files.collapse(file, from, to, NOW).expect(&said);
                holds.drain(..BLOCK_SIZE);
                holds.resize(blocks as usize * BLOCK_SIZE, 0);
            }
            5 => {
                files.truncate(file, ended, NOW).expect(&said);
                files.insert(file, FileBlock(1), 1, NOW).expect(&said);
                let tail = holds.split_off(BLOCK_SIZE);
                holds.resize(2 * BLOCK_SIZE, 0);
                holds.extend(tail);
            }
            6 => {
                let other = create(files, b"g");
                let new = pattern(blocks as usize, 9);
                write(files, other, 0, &new, Way::Sealed);
                let pair = Pair {
                    from: (other, FileBlock(0)),
                    to: (file, FileBlock(0)),
                    blocks: Blocks(blocks),
                };
                files.clone_range(&pair, None, NOW).expect(&said);
                holds = new;
            }
            7 => {
                let other = create(files, b"g");
                write(files, other, 0, &holds, Way::Sealed);
                let pair = Pair {
                    from: (other, FileBlock(0)),
                    to: (file, FileBlock(0)),
                    blocks: Blocks(blocks),
                };
                let done = files.same_range(&pair).expect(&said);
                assert_eq!(done.what, Blocks(blocks), "{said}");
            }
            _ => {
                files
                    .unlink(InodeNo::ROOT, b"f", Users::None, NOW)
                    .expect(&said);
                holds.clear();
                let found = files.inode(file);
                assert!(matches!(found, Err(Error::NotFound)), "{said}: {found:?}");
            }
        }
        let check = |files: Files<'_, Simulated>, holds: &[u8]| {
            let found = read(files, file, 0, holds.len() / BLOCK_SIZE);
            assert!(found == holds, "{said}: it holds something else");
        };
        if !holds.is_empty() {
            check(files, &holds);
        }
        settle(&mounted, &names, &said);
        if !holds.is_empty() {
            check(files, &holds);
        }
        if below == Below::Oldest {
            let kept = names.open(&mounted, &snapshot(0)).expect("opened");
            check(names.of(&mounted, &kept), &old);
        }
    }
}

#[test]
fn what_is_full_below_many_versions_takes_what_was_accepted_and_is_emptied() {
    let chance = Chance::new(seed());
    for (what, below) in (0..5).flat_map(|what| BELOW.map(|below| (what, below))) {
        let layers = [2, 40, 400][chance.below(3)];
        let shape = [(1, 0), (1, 1), (2, 1)][chance.below(3)];
        let said = format!("{what}: {layers} layers, {shape:?}, {below:?}");
        let count = usize::from(shape.0 + shape.1);
        let fleet = drives(&chance, Bytes(64 << 20), count, shape);
        let (mut mounted, mut names) = (mount(&chance, &fleet), names());
        let first = View::first();
        names
            .of(&mounted, &first)
            .format(&clerk::root())
            .expect("formatted");
        let view = names.open(&mounted, b"").expect("opened");
        let files = names.of(&mounted, &view);
        let here = (&mounted, &names, files);
        let (file, ..) = layer(here, (layers, 2, below), &chance);
        let mut promise = files.promise(Blocks(2)).expect("promised");
        fill(files);
        remove(files, b"x");
        match what {
            0 => {
                let bytes = pattern(2, 5);
                let dirty = [Dirty {
                    at: FileBlock(0),
                    bytes: &bytes,
                }];
                let (mut rest, written) = (Rest::new(&dirty), Written::default());
                files
                    .write_under(file, &mut rest, Way::Sealed, &written, &mut promise)
                    .expect(&said);
                drop(promise);
            }
            1 => {
                drop(promise);
                files
                    .unlink(InodeNo::ROOT, b"f", Users::None, NOW)
                    .expect(&said);
            }
            2 => {
                drop(promise);
                files
                    .unlink(InodeNo::ROOT, b"filler", Users::None, NOW)
                    .expect(&said);
            }
            3 => {
                drop(promise);
                files.truncate(file, Bytes(5), NOW).expect(&said);
            }
            _ => {
                drop(promise);
                files
                    .unlink(InodeNo::ROOT, b"f", Users::Some, NOW)
                    .expect(&said);
                drop(view);
                mounted.close().expect("closed");
                mounted = mount(&chance, &fleet);
                names = embrfs_sim::desk::names();
                let view = names.open(&mounted, b"").expect("opened");
                let forgotten = names.of(&mounted, &view).forget_orphans();
                assert_eq!(forgotten.expect(&said), 1, "{said}");
            }
        }
        settle(&mounted, &names, &said);
    }
}
