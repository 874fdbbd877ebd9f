// SPDX-License-Identifier: GPL-2.0

//! What there is on a volume that fuzzers begin with: a bit of everything that the format has. A test holds it to that.

use crate::desk::create;
use crate::desk::pattern;
use crate::desk::riddle;
use crate::desk::write;
use crate::machine::Simulated;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Policy;
use embr_engine::format::inode::Rdev;
use embr_engine::format::intent::Intent;
use embr_engine::format::intent::Operation;
use embr_engine::format::journal::Extent;
use embr_engine::format::snapshot;
use embr_engine::names::Attributes;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Users;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::Mounted;

pub(super) fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        permissions: 0o640,
        uid: 1,
        gid: 2,
        flags: 0,
        project: 0,
        now: Timestamp::default(),
    }
}

pub(super) fn fill(files: Files<'_, Simulated>, from: usize, count: usize) {
    fn made(files: Files<'_, Simulated>, at: InodeNo, name: &str, what: What<'_>) -> InodeNo {
        let made = files.create(at, name.as_bytes(), &new(what));
        made.expect("made").what.number
    }
    let make = |at, name: &str, what: What<'static>| made(files, at, name, what);
    let root = InodeNo::ROOT;
    let directory = make(root, &format!("directory {from}"), What::Directory);
    let below = make(directory, "below", What::Directory);
    for n in from..from + count {
        let target = vec![b'x'; 20 + n * 37 % 900];
        let name = format!("symlink {n}");
        made(files, below, &name, What::Symlink(&target));
    }
    make(directory, "fifo", What::Fifo);
    make(directory, "null", What::CharDevice(Rdev(0x0010_0003)));
    let file = make(directory, "file", What::Regular);
    for (block, way) in [
        (0, Way::Inline),
        (3, Way::Inline),
        (1, Way::Sealed),
        (40, Way::Sealed),
    ] {
        let dirty = Dirty {
            at: FileBlock(block),
            bytes: &[7; BLOCK_SIZE],
        };
        let written = Written {
            size: Some(Bytes(166_000)),
            ..Written::default()
        };
        files.write(file, &[dirty], way, &written).expect("written");
    }
    let linked = files.link(file, below, b"another name", Timestamp::default());
    linked.expect("linked");
    for (name, length) in [(&b"user.short"[..], 20), (b"user.long", 9000)] {
        let attribute = Extended {
            name,
            value: &vec![b'v'; length],
        };
        let now = Timestamp::default();
        let set = files.set_attribute(file, attribute, Put::Any, &Attributes::default(), now);
        set.expect("set");
    }
    make(directory, "open", What::Regular);
    let removed = files.unlink(directory, b"open", Users::Some, Timestamp::default());
    removed.expect("removed");
}

/// A fragment of a stripe, where there are stripes, whose dead blocks others take the place of that lay in copies.
pub(super) fn revise(files: Files<'_, Simulated>) {
    let (hollow, loose) = (create(files, b"hollow"), create(files, b"loose"));
    write(files, hollow, 0, &pattern(24, 40), Way::Sealed);
    let (from, to) = (FileBlock(8).start(), FileBlock(16).start());
    let punched = files.punch(hollow, from, to, Timestamp::default());
    punched.expect("punched");
    // What was set aside lies in copies.
    let (from, to) = (FileBlock(0), FileBlock(8));
    let set_aside = files.preallocate(loose, from, to, None, Timestamp::default());
    set_aside.expect("set aside");
    write(files, loose, 0, &pattern(8, 41), Way::Sealed);
    files.rebundle().expect("moved");
}

/// Large files, in stripes where there are devices for them; clones, files that are to survive less, places that are set aside; snapshots
/// of all that, one of which was deleted and is only begun to be swept, and two heads.
pub(super) fn enrich(mounted: &Mounted<Simulated>, names: &Names) {
    let now = Timestamp::default();
    let view = names.open(mounted, b"").expect("the head");
    let files = names.of(mounted, &view);
    let make = |name: &[u8]| create(files, name);
    let write = |file, at, bytes: &[u8]| write(files, file, at, bytes, Way::Sealed);
    let pair = |from, to, count| Pair {
        from: (from, FileBlock(0)),
        to: (to, FileBlock(0)),
        blocks: Blocks(count),
    };
    let (large, clone, twin, weak) = (make(b"large"), make(b"clone"), make(b"twin"), make(b"weak"));
    for n in 0..4 {
        write(large, 64 * n, &pattern(64, n));
    }
    let size = Some(FileBlock(100).start());
    let cloned = files.clone_range(&pair(large, clone, 100), size, now);
    cloned.expect("cloned");
    write(twin, 0, &pattern(64, 0));
    let shared = files.same_range(&pair(large, twin, 8)).expect("shared");
    assert_eq!(shared.what, Blocks(8));
    files
        .set_policy(weak, Policy::NO_LOSS, now)
        .expect("a policy");
    write(weak, 0, &pattern(10, 9));
    let (from, to) = (FileBlock(20), FileBlock(40));
    files
        .preallocate(weak, from, to, None, now)
        .expect("set aside");
    let (from, to) = (FileBlock(25).start(), FileBlock(28).start());
    files.punch(weak, from, to, now).expect("punched");
    files.take_snapshot(b"kept", now).expect("taken");
    for n in 0..8 {
        write(large, 3 * n, &pattern(1, 20 + n));
    }
    write(clone, 5, &pattern(3, 30));
    let (from, to) = (FileBlock(40), FileBlock(44));
    let punched = files.punch(large, from.start(), to.start(), now);
    punched.expect("punched");
    let removed = files.unlink(InodeNo::ROOT, b"twin", Users::None, now);
    removed.expect("removed");
    files.take_snapshot(b"gone", now).expect("taken");
    // Of two files there is something between that nobody sees once it is deleted: one after the other is swept.
    write(large, 2, &pattern(2, 31));
    write(clone, 6, &pattern(3, 32));
    names.grow(mounted, b"kept", b"head", now).expect("grown");
    names.delete(mounted, b"gone").expect("deleted");
    assert!(names.sweep(mounted).expect("begun"));
    files.rebundle().expect("moved");
}

/// Blocks of the longest runs that are free where engrams come to lie in parts.
const RUN: u64 = 8;

/// Engrams in parts: written where all that is free are short runs, by a file that is to survive less as well; some of it is dead, and
/// some is set aside. What took the rest of the room goes.
pub(super) fn part(mounted: &Mounted<Simulated>, files: Files<'_, Simulated>) {
    let now = Timestamp::default();
    let (parted, weak) = (create(files, b"parted"), create(files, b"parted, weak"));
    files
        .set_policy(weak, Policy::NO_LOSS, now)
        .expect("a policy");
    let filler = create(files, b"filler");
    let held = riddle(mounted, files, &[filler], RUN);
    // Nodes need some of what is together.
    let held = held.into_iter().flat_map(|all| {
        (0..all.blocks.0)
            .step_by(RUN as usize)
            .map(move |at| Extent {
                start: Blocks(all.start.0 + at),
                blocks: Blocks(RUN.min(all.blocks.0 - at)),
                ..all
            })
    });
    let mut kept = Vec::new();
    for (n, extent) in held.enumerate() {
        match n % 2 {
            0 => mounted.give_back(extent),
            _ => kept.push(extent),
        }
    }
    for (n, file) in (0..).zip([parted, weak]) {
        // What is set aside lies in copies, and so it does when it was written.
        for (from, to) in [(0, 45), (50, 62)] {
            let set_aside = files.preallocate(file, FileBlock(from), FileBlock(to), None, now);
            set_aside.expect("room");
        }
        write(files, file, 0, &pattern(45, 50 + n), Way::Sealed);
        write(files, file, 53, &pattern(2, 60 + n), Way::Sealed);
        let (from, to) = (FileBlock(5).start(), FileBlock(9).start());
        files.punch(file, from, to, now).expect("punched");
    }
    for extent in kept {
        mounted.give_back(extent);
    }
    let removed = files.unlink(InodeNo::ROOT, b"filler", Users::None, now);
    removed.expect("removed");
    mounted.checkpoint().expect("durable");
}

/// Stripes as wide as can be and narrower, of which much is dead.
pub(super) fn waste(files: Files<'_, Simulated>) {
    for (name, blocks, dead) in [
        (&b"wasteful"[..], 96, 80),
        (b"full", 6, 0),
        (b"narrow", 2, 1),
        (b"narrow, too", 2, 0),
    ] {
        let file = create(files, name);
        write(files, file, 0, &pattern(blocks, 70), Way::Sealed);
        if dead != 0 {
            let (from, to) = (FileBlock(1), FileBlock(1 + dead));
            let punched = files.punch(file, from.start(), to.start(), Timestamp::default());
            punched.expect("punched");
        }
    }
}

/// Operations on files as a crash leaves them, each at another point.
pub(super) fn half_do(
    mounted: &Mounted<Simulated>,
    files: Files<'_, Simulated>,
    version: SnapshotId,
) {
    for (operation, name) in [
        (Operation::Clear, &b"half cleared"[..]),
        (Operation::Collapse, b"half taken out"),
        (Operation::Insert, b"half put in"),
    ] {
        let file = create(files, name);
        write(files, file, 0, &pattern(80, 80), Way::Sealed);
        let (from, to) = (FileBlock(10), FileBlock(60));
        let cursor = match operation {
            Operation::Clear => {
                let until = FileBlock(20);
                let punched = files.punch(file, from.start(), until.start(), Timestamp::default());
                punched.expect("punched");
                until
            }
            Operation::Collapse => from,
            // The last are the first to move.
            Operation::Insert => FileBlock(80),
        };
        let intent = Intent {
            operation,
            inode: file,
            from,
            to,
            cursor,
        };
        let item = Item::new(InodeNo::NONE, Kind::INTENT, file.0);
        let mut txn = mounted.begin().expect("begun");
        let at = item.at(version);
        txn.set(NAMES, at, &intent.encode()).expect("set");
        let noted = snapshot::touched(version, item.owner(), at.0[1]);
        let set = txn.set(SNAPSHOTS, noted, &snapshot::TOUCHED);
        set.expect("set");
        txn.commit().expect("committed");
    }
}

/// Some of all that is changed once more.
pub(super) fn go_on(files: Files<'_, Simulated>) {
    let file = create(files, b"last");
    write(files, file, 0, &pattern(3, 90), Way::Sealed);
    let removed = files.unlink(InodeNo::ROOT, b"narrow", Users::None, Timestamp::default());
    removed.expect("removed");
}
