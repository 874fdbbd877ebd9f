// SPDX-License-Identifier: GPL-2.0

//! What was promised room is written, on a volume that is full, whatever else is to be done in its file first, and whichever device did
//! not take it the first time.

use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::extent::WINDOW;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::View;
use embr_engine::space::promise::Promise;
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
use embrfs_sim::contents::Copies;
use embrfs_sim::desk;
use embrfs_sim::desk::create;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::fault::Fault as DriveFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;

fn drives(chance: &Chance, size: Bytes, count: usize, parity: u8) -> Fleet {
    desk::drives(chance, size, count, (1, parity))
}

fn block(n: u64) -> Vec<u8> {
    desk::pattern(1, n)
}

/// Every second window of the file that grows has two blocks, its last ones: if they move by one, a window more has some.
const WINDOWS: u64 = 25_000;
const SPAN: u64 = 2 * WINDOW as u64;

fn pair(n: u64) -> u64 {
    n * SPAN + WINDOW as u64 - 2
}

fn write_pairs(files: Files<'_, Simulated>, file: InodeNo, two: &[u8]) {
    let dirty: Vec<Dirty<'_>> = (0..WINDOWS)
        .map(|n| Dirty {
            at: FileBlock(pair(n)),
            bytes: two,
        })
        .collect();
    let written = Written {
        size: Some(FileBlock(WINDOWS * SPAN).start()),
        ..Written::default()
    };
    for some in dirty.chunks(1000) {
        let done = files.write(file, some, Way::Sealed, &written);
        done.unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Whether the pairs lie `by` blocks further on, or further before.
fn compare_pairs(files: Files<'_, Simulated>, file: InodeNo, two: &[u8], by: i64) {
    let mut found = vec![0; 4 * BLOCK_SIZE];
    for n in (1..WINDOWS).step_by(499) {
        let moved = pair(n).checked_add_signed(by);
        let at = moved.filter(|at| *at > 0).expect("a pair before it") - 1;
        files.read(file, FileBlock(at), &mut found).expect("read");
        let (before, rest) = found.split_at(BLOCK_SIZE);
        let (pair, behind) = rest.split_at(2 * BLOCK_SIZE);
        assert!(pair == two, "pair {n}");
        assert!(before.iter().chain(behind).all(|b| *b == 0), "beside {n}");
    }
}

/// Promises of all that there is, but for so much.
fn fill(mounted: &Mounted<Simulated>, but: u64) -> Vec<Promise> {
    let mut filled = Vec::new();
    let mut blocks = 1 << 16;
    while blocks != 0 {
        if mounted.statfs().available.0 < but + blocks {
            blocks /= 2;
            continue;
        }
        match mounted.promise(Blocks(blocks)) {
            Ok(promise) => filled.push(promise),
            Err(Fault::NoSpace) => blocks /= 2,
            Err(why) => panic!("{why}"),
        }
    }
    filled
}

/// What was accepted before, and is written now.
struct Accepted {
    bytes: Vec<u8>,
    promise: Promise,
}

impl Accepted {
    fn new(mounted: &Mounted<Simulated>, seed: u64) -> Self {
        Accepted {
            bytes: (0..40).flat_map(|n| block(seed + n)).collect(),
            promise: mounted.promise(Blocks(40)).expect("room"),
        }
    }

    /// Where there is nothing.
    const AT: FileBlock = FileBlock(SPAN * 7 + 40);

    fn write(&mut self, files: Files<'_, Simulated>, file: InodeNo) {
        for (n, bytes) in (0..).zip(self.bytes.chunks(8 * BLOCK_SIZE)) {
            let dirty = [Dirty {
                at: Self::AT.plus(n * SPAN),
                bytes,
            }];
            let mut rest = Rest::new(&dirty);
            let promise = &mut self.promise;
            let done =
                files.write_under(file, &mut rest, Way::Sealed, &Written::default(), promise);
            done.unwrap_or_else(|why| panic!("what was accepted: {why}"));
        }
    }

    fn compare(&self, files: Files<'_, Simulated>, file: InodeNo) {
        let mut found = vec![0; 8 * BLOCK_SIZE];
        for (n, bytes) in (0..).zip(self.bytes.chunks(8 * BLOCK_SIZE)) {
            let at = Self::AT.plus(n * SPAN);
            files.read(file, at, &mut found).expect("read");
            assert!(found == bytes, "not what was accepted");
        }
    }
}

type Shift = fn(Files<'_, Simulated>, InodeNo) -> Result<(), Error>;

/// As far as memory allows, that is not to its end.
fn begin(files: Files<'_, Simulated>, file: InodeNo, shift: Shift) {
    let mut nth = 1000;
    loop {
        failpoint::fail_from(nth);
        let done = shift(files, file);
        let failed = failpoint::off().failed;
        match done {
            Ok(()) => {
                assert_ne!(failed, 0, "it was done");
                return;
            }
            Err(why) => assert_eq!(why, Error::Fault(Fault::NoMemory)),
        }
        nth += nth / 2;
    }
}

/// Moves all pairs by so much, which cuts each in two.
fn make_move(by: i64, shift: Shift) {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, Bytes(256 << 20), 1, 0);
    let mounted = mount(chance, &fleet);
    let (names_of, view) = (names(), View::first());
    let files = names_of.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let (file, other) = (create(files, b"file"), create(files, b"other"));
    let two = [block(1), block(2)].concat();
    write_pairs(files, file, &two);

    // What cannot be carried out is not begun.
    let mut accepted = Accepted::new(&mounted, 100);
    let filled = fill(&mounted, 300);
    let before = files.inode(file).expect("there").size;
    assert_eq!(shift(files, file), Err(Error::NoSpace));
    assert_eq!(files.inode(file).expect("there").size, before);
    accepted.write(files, file);
    accepted.compare(files, file);
    compare_pairs(files, file, &two, 0);
    drop((filled, accepted));
    for n in 0..5 {
        let at = Accepted::AT.plus(n * SPAN);
        let punched = files.punch(file, at.start(), at.plus(8).start(), NOW);
        punched.expect("punched");
    }

    // What is begun has its room, whatever else takes all that is left.
    let mut accepted = Accepted::new(&mounted, 200);
    begin(files, file, shift);
    desk::take_all(files, other);
    mounted.sync().expect("healthy drives");
    let left = fleet.snapshot();
    accepted.write(files, file);
    accepted.compare(files, file);
    compare_pairs(files, file, &two, by);
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    drop(accepted);
    let promised = mounted.ledger().promised;
    assert_eq!(promised, (Blocks(0), 0));
    drop(mounted);

    // So it is after a crash.
    let fleet = Fleet::start(chance.next(), &left);
    let mounted = mount(chance, &fleet);
    let names_of = names();
    let files = names_of.of(&mounted, &view);
    assert_eq!(files.resume(), Ok(1));
    compare_pairs(files, file, &two, by);
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn an_insert_takes_no_room_of_what_was_accepted() {
    make_move(1, |files, file| {
        files.insert(file, FileBlock(3), 1, NOW).map(drop)
    });
}

#[test]
fn a_collapse_takes_no_room_of_what_was_accepted() {
    make_move(-31, |files, file| {
        let (from, to) = (FileBlock(0), FileBlock(31));
        files.collapse(file, from, to, NOW).map(drop)
    });
}

/// Wherever memory fails: once the next change of the file has carried out the rest, nothing is promised any more.
#[test]
fn room_for_what_moves_goes_with_its_end() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, Bytes(32 << 20), 1, 0);
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), View::first());
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = create(files, b"file");
    let one = block(1);
    for nth in 1.. {
        desk::write(files, file, 0, &desk::pattern(6, nth), Way::Sealed);
        failpoint::fail_nth(nth);
        let done = files.collapse(file, FileBlock(0), FileBlock(1), NOW);
        let failed = failpoint::off().failed;
        let dirty = [Dirty {
            at: FileBlock(0),
            bytes: &one,
        }];
        let written = files.write(file, &dirty, Way::Inline, &Written::default());
        written.expect("the rest is done");
        assert_eq!(mounted.ledger().promised, (Blocks(0), 0), "{nth}");
        match done {
            Ok(_) if failed == 0 => return,
            Ok(_) | Err(Error::Fault(Fault::NoMemory)) => {}
            Err(why) => panic!("{why}"),
        }
    }
}

/// A drive does not take data, and memory fails after that.
#[test]
fn what_a_drive_refused_keeps_its_room() {
    let chance = &Chance::new(seed());
    for (count, parity) in [(2, 0), (2, 1), (3, 1), (3, 2)] {
        for nth in 1.. {
            let fleet = drives(chance, Bytes(32 << 20), count, parity);
            let mounted = mount(chance, &fleet);
            let (names, view) = (names(), View::first());
            let files = names.of(&mounted, &view);
            files.format(&clerk::root()).expect("formatted");
            let file = create(files, b"file");
            let data: Vec<u8> = (0..100).flat_map(block).collect();
            let dirty = [Dirty {
                at: FileBlock(0),
                bytes: &data,
            }];
            let mut rest = Rest::new(&dirty);
            let mut promise = mounted.promise(rest.blocks()).expect("room");
            let bad = mounted.parts()[chance.below(count)].slot;
            for place in [1..8, 13..32u64] {
                let place = Bytes(place.start << 20)..Bytes(place.end << 20);
                let fault = DriveFault::Write(When::Within(place), WriteFault::Fail);
                fleet.expect(bad, fault);
            }
            failpoint::fail_nth(nth);
            let write = |rest: &mut Rest<'_, '_>, promise: &mut Promise| {
                files.write_under(file, rest, Way::Sealed, &Written::default(), promise)
            };
            let done = write(&mut rest, &mut promise);
            let failed = failpoint::off().failed;
            fleet.heal();
            match done {
                Ok(_) => {
                    assert_eq!(failed, 0, "{count}, {parity}, {nth}");
                    break;
                }
                Err(why) => assert_eq!(why, Error::Fault(Fault::NoMemory)),
            }
            assert_eq!(promise.blocks(), Blocks(100), "{count}, {parity}, {nth}");
            let _filled = fill(&mounted, 0);
            let done = write(&mut rest, &mut promise);
            done.unwrap_or_else(|why| panic!("{count}, {parity}, {nth}: {why}"));
            let mut found = vec![0; data.len()];
            files.read(file, FileBlock(0), &mut found).expect("read");
            assert!(found == data);
            contents::audit_but(&mounted, Copies::MayLack).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}
