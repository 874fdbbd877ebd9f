// SPDX-License-Identifier: GPL-2.0

//! What most tests of files begin with: drives with a volume, a mount, a file, something to write.

use crate::ace;
use crate::cache::Survival;
use crate::clerk;
use crate::contents;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::inspector;
use crate::machine;
use crate::machine::Simulated;
use crate::scribe::NOW;
use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Extent;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::snapshot;
use embr_engine::format::snapshot::Node;
use embr_engine::format::snapshot::State;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::Mounted;

/// Drives of one size, and a volume on them with stripes of this shape.
pub fn drives(chance: &Chance, size: Bytes, count: usize, (data, parity): (u8, u8)) -> Fleet {
    let fleet = Fleet::new(chance.next(), &vec![size; count]);
    let geometry = Geometry::new(data, parity).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("made");
    fleet
}

/// The volume, mounted to be written.
pub fn mount(chance: &Chance, fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(chance.next(), fleet, machine::READ_WRITE).expect("mounted")
}

/// The names of a volume that was just mounted.
pub fn names() -> Names {
    Names::try_new(HashWidth::Full).expect("memory")
}

/// Says which numbers of versions there are, and what each grew from: 0 the first.
pub fn put_nodes(mounted: &Mounted<Simulated>, grew: &[(u64, u64)]) {
    let mut txn = mounted.begin().expect("begun");
    let mut has_main = false;
    for (id, parent) in grew {
        let is_head = grew.iter().all(|(_, parent)| parent != id);
        let is_main = is_head && !has_main;
        has_main |= is_main;
        let name = if is_main {
            String::new()
        } else {
            format!("n{id}")
        };
        let node = Node {
            state: if is_head {
                State::Head
            } else {
                State::Snapshot
            },
            parent: SnapshotId(*parent),
            made: Timestamp::default(),
            cursor: Key::MIN,
            room: 0,
            own: embr_rt::Vec::try_from_slice(&[(SnapshotId(*id), SnapshotId(*id))])
                .expect("memory"),
            name: embr_rt::Vec::try_from_slice(name.as_bytes()).expect("memory"),
        };
        let value = node.encode().expect("memory");
        let key = snapshot::node(SnapshotId(*id));
        txn.set(SNAPSHOTS, key, &value).expect("set");
    }
    let last = grew.iter().map(|(id, _)| *id).max().expect("a node");
    let next = snapshot::encode_number(SnapshotId(last + 1));
    txn.set(SNAPSHOTS, snapshot::NUMBERS, &next).expect("set");
    txn.commit().expect("committed");
}

/// A new file in the root directory.
pub fn create(files: Files<'_, Simulated>, name: &[u8]) -> InodeNo {
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let made = files.create(InodeNo::ROOT, name, &new).expect("made");
    made.what.number
}

/// A root directory with one empty file.
pub fn one_file(mounted: &Mounted<Simulated>, names: &Names, view: &View) -> InodeNo {
    let files = names.of(mounted, view);
    files.format(&clerk::root()).expect("formatted");
    create(files, b"file")
}

/// Part of what is used of a drive rots, but for superblocks, roots and the journal.
pub fn rot(chance: &Chance, fleet: &Fleet, mounted: &Mounted<Simulated>, slot: Slot) {
    let parts = mounted.parts();
    let part = parts.iter().find(|p| p.slot == slot).expect("here");
    let journal = part.journal.start.0..part.journal.start.0 + part.journal.blocks.0;
    let areas: Vec<u64> = layout::areas(part.size)
        .map(|(_, at)| at.whole_blocks().0)
        .collect();
    let area = layout::AREA_SIZE.whole_blocks().0;
    for block in 0..part.size.whole_blocks().0 {
        let is_fixed =
            journal.contains(&block) || areas.iter().any(|at| (*at..at + area).contains(&block));
        if !is_fixed && mounted.is_used(slot, Blocks(block)) && chance.below(6) == 0 {
            let at = block * BLOCK_SIZE as u64 + chance.below(BLOCK_SIZE) as u64;
            fleet.rot(slot, Bytes(at), 1 << chance.below(8));
        }
    }
}

/// The power fails: whatever is left of caches, what is there then is sound, and goes on.
pub fn falls(chance: &Chance, fleet: &Fleet) {
    let survival = match chance.below(4) {
        0 => Survival::None,
        1 => Survival::All,
        2 => Survival::Reset,
        _ => Survival::Subset(chance.next()),
    };
    let left = fleet.snapshot().after(&survival).expect("a state");
    let fleet = Fleet::start(chance.next(), &left);
    let mounted = mount(chance, &fleet);
    let names = names();
    ace::each_head(&mounted, &names, |files| files.resume()).expect("resumed");
    let sound = contents::audit(&mounted);
    sound.unwrap_or_else(|why| panic!("after a crash, {survival:?}: {why}"));
    let view = names.open(&mounted, b"").expect("open");
    assert_eq!(
        inspector::with_data(&mounted, &names, &view),
        [],
        "after a crash, {survival:?}"
    );
}

/// Writes whole blocks; the file ends behind them, if not further on.
pub fn write(files: Files<'_, Simulated>, file: InodeNo, at: u64, bytes: &[u8], way: Way) {
    let dirty = [Dirty {
        at: FileBlock(at),
        bytes,
    }];
    let end = at * BLOCK_SIZE as u64 + bytes.len() as u64;
    let written = Written {
        size: Some(Bytes(end)),
        ..Written::default()
    };
    let done = files.write(file, &dirty, way, &written);
    done.unwrap_or_else(|why| panic!("{why}"));
}

/// What a file holds from a block on.
pub fn read(files: Files<'_, Simulated>, file: InodeNo, at: u64, blocks: usize) -> Vec<u8> {
    let mut found = vec![0xcc; blocks * BLOCK_SIZE];
    let done = files.read(file, FileBlock(at), &mut found);
    done.unwrap_or_else(|why| panic!("{why}"));
    found
}

/// Sets places aside until there are none. Says how many.
pub fn take_all(files: Files<'_, Simulated>, file: InodeNo) -> u64 {
    let mut at = 0;
    for step in [4096, 256, 16, 1] {
        loop {
            let (from, to) = (FileBlock(at), FileBlock(at + step));
            match files.preallocate(file, from, to, None, NOW) {
                Ok(_) => at += step,
                Err(Error::NoSpace) => break,
                Err(why) => panic!("{why}"),
            }
        }
    }
    at
}

/// All that data may have lies in runs of fewer than twice so many blocks afterwards. Longer ones are set aside, to be given back.
pub fn riddle(
    mounted: &Mounted<Simulated>,
    files: Files<'_, Simulated>,
    fillers: &[InodeNo],
    run: u64,
) -> Vec<Extent> {
    let taken: Vec<u64> = fillers.iter().map(|of| take_all(files, *of)).collect();
    for (file, blocks) in fillers.iter().zip(taken) {
        for from in (0..blocks).step_by(2 * run as usize) {
            let (from, to) = (FileBlock(from), FileBlock(from + run));
            let punched = files.punch(*file, from.start(), to.start(), NOW);
            punched.unwrap_or_else(|why| panic!("{why}"));
        }
    }
    mounted.checkpoint().expect("durable");
    let mut held = Vec::new();
    for part in mounted.parts() {
        let least = Blocks(2 * run);
        while let Ok(extent) = mounted.allocate(part.slot, least, Blocks(1 << 20)) {
            held.push(extent);
        }
    }
    held
}

/// Writes so many blocks together, if room for them is promised.
pub fn write_if_promised(
    files: Files<'_, Simulated>,
    file: InodeNo,
    at: u64,
    blocks: u64,
) -> Result<(), Error> {
    let bytes: Vec<u8> = (0..blocks).flat_map(|k| pattern(1, at + k)).collect();
    let dirty = [Dirty {
        at: FileBlock(at),
        bytes: &bytes,
    }];
    let mut rest = Rest::new(&dirty);
    let written = Written {
        size: Some(FileBlock(at + blocks).start()),
        ..Written::default()
    };
    let mut promise = files.promise(Blocks(blocks))?;
    files
        .write_under(file, &mut rest, Way::Sealed, &written, &mut promise)
        .expect("promised");
    Ok(())
}

/// Bytes of which no block is like another.
pub fn pattern(blocks: usize, seed: u64) -> Vec<u8> {
    let chance = Chance::new(seed);
    let words = blocks * BLOCK_SIZE / 8;
    (0..words)
        .flat_map(|_| chance.next().to_le_bytes())
        .collect()
}
