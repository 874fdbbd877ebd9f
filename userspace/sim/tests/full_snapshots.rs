// SPDX-License-Identifier: GPL-2.0

//! Volumes that are full to the last block and have snapshots: what these see is deleted nevertheless, and so are they; then the room is back.

use embr_engine::check::Depth;
use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::member::Slot;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::space::Room;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::falls;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use std::collections::BTreeMap;

const NODE_BLOCKS: u64 = (NODE_SIZE / BLOCK_SIZE) as u64;

/// What is in a file: how many blocks, and the seed of them.
type Content = (usize, u64);

/// Files in directories, by both names.
type Model = BTreeMap<(u64, u64), Content>;

/// A volume with its only head, and what that and its snapshots hold.
struct Brim<'c> {
    chance: &'c Chance,
    fleet: Fleet,
    mounted: Option<Box<Mounted<Simulated>>>,
    names: Names,
    now: Model,
    taken: BTreeMap<u64, Model>,
    /// Deleted, and not swept yet.
    unswept: Vec<Model>,
    given: u64,
}

fn name(n: u64) -> String {
    // Long ones: names take room, too.
    format!("{n}{:1$}", "", 20 + n as usize % 60).replace(' ', "x")
}

impl<'c> Brim<'c> {
    fn new(chance: &'c Chance, count: usize, shape: (u8, u8)) -> Self {
        let fleet = drives(chance, Bytes(32 << 20), count, shape);
        let mounted = mount(chance, &fleet);
        let names = names();
        let view = View::first();
        names
            .of(&mounted, &view)
            .format(&clerk::root())
            .expect("formatted");
        Brim {
            chance,
            fleet,
            mounted: Some(Box::new(mounted)),
            names,
            now: Model::new(),
            taken: BTreeMap::new(),
            unswept: Vec::new(),
            given: 0,
        }
    }

    fn mounted(&self) -> &Mounted<Simulated> {
        self.mounted.as_ref().expect("mounted")
    }

    fn view(&self, name: &[u8]) -> Arc<View> {
        self.names.open(self.mounted(), name).expect("opened")
    }

    fn again(&mut self) {
        let mounted = self.mounted.take().expect("mounted");
        mounted.close().expect("closed");
        self.mounted = Some(Box::new(mount(self.chance, &self.fleet)));
        self.names = names();
    }

    /// Makes files with up to so many blocks until none of any size fits.
    fn fill(&mut self, largest: usize) {
        let view = self.view(b"");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let mut largest = largest;
        // Names without a file's content last: they fit where no block does.
        while largest > 0 {
            let key = (self.chance.below(6) as u64, self.given);
            self.given += 1;
            let blocks = self.chance.below(largest);
            let content = (blocks, self.chance.next());
            match put(files, key, content) {
                Ok(()) => drop(self.now.insert(key, content)),
                Err(Error::NoSpace) => largest /= 2,
                Err(why) => panic!("{why}"),
            }
        }
    }

    /// Deletes about one file of so many.
    fn unlink(&mut self, one_of: usize) {
        let view = self.view(b"");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let gone: Vec<_> = self.now.keys().copied().collect();
        for (directory, file) in gone {
            if self.chance.below(one_of) == 0 {
                remove(files, (directory, file));
                self.now.remove(&(directory, file));
            }
        }
    }

    /// Takes a snapshot, if there is room for that. Says whether there was.
    fn take(&mut self) -> bool {
        let view = self.view(b"");
        let files = self.names.of(self.mounted(), &view);
        let n = self.given;
        match files.take_snapshot(name(n).as_bytes(), NOW) {
            Ok(_) => {
                self.given += 1;
                self.taken.insert(n, self.now.clone());
                true
            }
            Err(Error::NoSpace) => false,
            Err(why) => panic!("{why}"),
        }
    }

    fn delete(&mut self, n: u64) {
        self.names
            .delete(self.mounted(), name(n).as_bytes())
            .expect("deleted");
        self.unswept.extend(self.taken.remove(&n));
    }

    fn sweep(&mut self) {
        let mut steps = 0;
        while self.names.sweep(self.mounted()).expect("swept") {
            steps += 1;
            assert!(steps < 100_000, "sweeping does not end");
        }
        self.unswept.clear();
    }

    /// Blocks of devices that are known to be in use: what files hold, in whichever version, at what full stripes of this shape take, all nodes, and
    /// what is kept for removing. Of a full volume it is always as much, if nothing is lost.
    fn known(&self, (data, parity): (u8, u8)) -> u64 {
        let versions = self.taken.values().chain(&self.unswept);
        let all: Model = versions
            .chain([&self.now])
            .flatten()
            .map(|(k, v)| (*k, *v))
            .collect();
        let blocks: usize = all.values().map(|(blocks, _)| blocks).sum();
        let (data, parity) = (u64::from(data), u64::from(parity));
        let nodes = self.mounted().node_count() + self.mounted().ledger().reserve.removal;
        blocks as u64 * (data + parity) / data + nodes * NODE_BLOCKS * (parity + 1)
    }

    /// Free blocks beside used ones where a node could be: stripes lie there, which are not moved for that, and what is written to them needs nodes.
    fn broken(&self) -> u64 {
        let mounted = self.mounted();
        let free = |slot, node: u64| {
            let blocks = node * NODE_BLOCKS..(node + 1) * NODE_BLOCKS;
            let free = blocks.filter(|block| !mounted.is_used(slot, Blocks(*block)));
            free.count() as u64 % NODE_BLOCKS
        };
        let of = |(slot, size): (Slot, Bytes)| -> u64 {
            let nodes = size.whole_blocks().0 / NODE_BLOCKS;
            (0..nodes).map(|node| free(slot, node)).sum()
        };
        let parts = mounted.parts();
        parts.iter().map(|part| of((part.slot, part.size))).sum()
    }

    /// Blocks of devices that hold nothing but nodes yet.
    fn room(&self, parity: u8) -> u64 {
        let of = |room: Room| room.unused.0;
        self.of_devices(of) + self.mounted().node_count() * NODE_BLOCKS * (u64::from(parity) + 1)
    }

    /// Blocks of devices that are kept for nodes and for moving, but for removing.
    fn kept(&self, parity: u8) -> u64 {
        let removal = self.mounted().ledger().reserve.removal;
        let of = |room: Room| room.claimed.0;
        self.of_devices(of) - removal * NODE_BLOCKS * (u64::from(parity) + 1)
    }

    fn of_devices(&self, of: impl Fn(Room) -> u64) -> u64 {
        let mounted = self.mounted();
        let parts = mounted.parts();
        parts.iter().map(|part| of(mounted.room(part.slot))).sum()
    }

    /// All is deleted, and what is left together: as much is available as when the volume was new, and nothing is kept for removing.
    fn comes_back(&mut self, whole: Blocks) {
        self.unlink(1);
        let all: Vec<u64> = self.taken.keys().copied().collect();
        all.into_iter().for_each(|n| self.delete(n));
        self.sweep();
        let view = self.view(b"");
        let files = self.names.of(self.mounted(), &view);
        while files.rebundle().expect("moved").gained != Blocks(0) {}
        assert_eq!(contents::audit(self.mounted()), Ok(0));
        assert_eq!(self.mounted().ledger().reserve.removal, 0);
        // What was given back is there once two roots are without it.
        for _ in 0..3 {
            self.mounted().checkpoint().expect("a root");
        }
        let again = self.mounted().statfs().available;
        println!("{again} of {whole} are available again");
        assert!(again.0 * 100 >= whole.0 * 98, "{whole} {again}");
    }

    /// Everything is as it is said to be.
    fn look(&self) {
        let view = self.view(b"");
        let files = self.names.of(self.mounted(), &view);
        inspector::check(self.mounted(), Some(files), Depth::Tree, &[])
            .unwrap_or_else(|why| panic!("{why}"));
        let taken = self
            .taken
            .iter()
            .map(|(n, model)| (name(*n).into_bytes(), model));
        for (name, model) in taken.chain([(Vec::new(), &self.now)]) {
            let view = self.view(&name);
            let files = self.names.of(self.mounted(), &view);
            for ((directory, file), (blocks, seed)) in model {
                let number = find(files, (*directory, *file)).expect("there");
                assert!(read(files, number, 0, *blocks) == pattern(*blocks, *seed));
            }
        }
    }
}

fn find(files: Files<'_, Simulated>, (directory, file): (u64, u64)) -> Result<InodeNo, Error> {
    let directory = files.lookup(InodeNo::ROOT, name(directory).as_bytes())?;
    Ok(files.lookup(directory.inode, name(file).as_bytes())?.inode)
}

fn put(
    files: Files<'_, Simulated>,
    (directory, file): (u64, u64),
    (blocks, seed): Content,
) -> Result<(), Error> {
    let place = match files.lookup(InodeNo::ROOT, name(directory).as_bytes()) {
        Ok(found) => found.inode,
        Err(Error::NotFound) => {
            let new = New {
                what: What::Directory,
                ..clerk::root()
            };
            let made = files.create(InodeNo::ROOT, name(directory).as_bytes(), &new)?;
            made.what.number
        }
        Err(why) => return Err(why),
    };
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    let mut promise = files.promise(Blocks(blocks as u64))?;
    let made = files.create(place, name(file).as_bytes(), &new)?;
    if blocks != 0 {
        let bytes = pattern(blocks, seed);
        let dirty = [Dirty {
            at: FileBlock(0),
            bytes: &bytes,
        }];
        let written = Written {
            size: Some(Bytes((blocks * BLOCK_SIZE) as u64)),
            ..Written::default()
        };
        let mut rest = Rest::new(&dirty);
        files
            .write_under(
                made.what.number,
                &mut rest,
                Way::Sealed,
                &written,
                &mut promise,
            )
            .unwrap_or_else(|why| panic!("{} of {blocks} promised blocks: {why}", rest.blocks()));
    }
    Ok(())
}

fn remove(files: Files<'_, Simulated>, (directory, file): (u64, u64)) {
    let place = files
        .lookup(InodeNo::ROOT, name(directory).as_bytes())
        .expect("a directory");
    files
        .unlink(place.inode, name(file).as_bytes(), Users::None, NOW)
        .unwrap_or_else(|why| panic!("{directory}/{file}: {why}"));
}

/// On a volume of small files, all of which a snapshot sees, that is full to the last block, each can be deleted.
#[test]
fn what_a_snapshot_sees_is_deleted_on_a_full_volume() {
    let chance = &Chance::new(seed());
    for (count, shape, largest) in [(3, (2, 1), 2), (2, (1, 1), 40)] {
        let mut brim = Brim::new(chance, count, shape);
        let whole = brim.mounted().statfs().available;
        // Names take a good part of it, and there is room for what says that they are gone.
        for _ in 0..3 {
            brim.fill(largest);
            brim.unlink(3);
        }
        while !brim.take() {
            brim.unlink(6);
        }
        brim.fill(largest);
        brim.look();
        brim.unlink(1);
        if chance.below(2) == 0 {
            brim.again();
        }
        brim.look();
        brim.comes_back(whole);
    }
}

/// The same again and again, with several snapshots that come and go.
#[test]
fn full_volumes_with_snapshots_come_back() {
    let chance = &Chance::new(seed());
    let cycles = std::env::var("EMBRFS_CYCLES").map_or(4, |n| n.parse().expect("a number"));
    for (count, shape, largest, full) in [(3, (2, 1), 4, 93), (6, (4, 2), 200, 98)] {
        let mut brim = Brim::new(chance, count, shape);
        let whole = brim.mounted().statfs().available;
        let room = brim.room(shape.1);
        let (mut most, mut nodes) = (0, 0);
        let mut refused = 0;
        for cycle in 0..cycles {
            if chance.below(3) != 0 && !brim.take() {
                refused += 1;
            }
            brim.fill(largest);
            let known = brim.known(shape);
            most = most.max(known);
            let broken = brim.broken();
            let removal = brim.mounted().ledger().reserve.removal;
            let kept = brim.kept(shape.1);
            println!(
                "{shape:?}: {known} of {most} blocks are known to be in use, {broken} are of no use, {kept} of {room} are kept ({:.1} %), {removal} nodes are for removing",
                (known + broken + kept) as f64 * 100.0 / room as f64
            );
            // All that was promised was given back or used.
            assert_eq!(
                brim.mounted().ledger().promised,
                (Blocks(0), 0),
                "{shape:?} cycle {cycle}"
            );
            // It is full. Of small files some lie in more copies than stripes would need.
            assert!(
                (known + broken + kept) * 100 >= room * full,
                "{shape:?} cycle {cycle}: {known}, {broken} and {kept} of {room}"
            );
            // A second volume full of names at most, as long as anything sees what is removed.
            let is_seen = !brim.taken.is_empty() || !brim.unswept.is_empty();
            nodes = nodes.max(brim.mounted().node_count());
            assert!(
                removal <= if is_seen { 3 * nodes } else { 0 },
                "{shape:?} cycle {cycle}: {removal} of {nodes} nodes"
            );
            // However often it was filled before, it holds as much.
            assert!(
                (known + broken) * 100 >= most * 98 && known * 100 >= most * 75,
                "{shape:?} cycle {cycle}: {known} and {broken} of {most}"
            );
            if chance.below(3) == 0 && !brim.take() {
                refused += 1;
            }
            if chance.below(3) == 0 {
                brim.again();
            }
            falls(chance, &brim.fleet);
            brim.unlink(1 + chance.below(3));
            while brim.taken.len() > chance.below(4) {
                let all: Vec<u64> = brim.taken.keys().copied().collect();
                brim.delete(chance.one(&all));
            }
            if chance.below(2) == 0 {
                brim.sweep();
            }
            falls(chance, &brim.fleet);
            brim.look();
            println!(
                "{shape:?} cycle {cycle}: {:?}, {refused} refused",
                brim.mounted().statfs()
            );
        }
        brim.comes_back(whole);
    }
}

/// Room is kept for what a snapshot saw when it was taken. What came later needs none, nor does a snapshot that was refused.
#[test]
fn what_came_after_a_snapshot_needs_no_room() {
    let chance = &Chance::new(seed());
    let mut brim = Brim::new(chance, 2, (1, 1));
    assert!(brim.take());
    brim.fill(1);
    brim.unlink(2);
    let is_writable = |brim: &mut Brim<'_>| {
        let before = brim.now.len();
        brim.fill(1);
        assert!(
            brim.now.len() > before + 100,
            "{:?}",
            brim.mounted().statfs()
        );
        brim.unlink(2);
    };
    is_writable(&mut brim);
    brim.again();
    is_writable(&mut brim);
    while brim.take() {}
    is_writable(&mut brim);
    brim.look();
}

/// What was kept for removing what a head and its snapshot share is given back when the head is deleted.
#[test]
fn the_room_of_a_deleted_head_comes_back() {
    let chance = &Chance::new(seed());
    let mut brim = Brim::new(chance, 2, (1, 1));
    brim.fill(1);
    // What is left needs room twice.
    for _ in 0..3 {
        brim.unlink(2);
    }
    assert!(brim.take());
    let taken = *brim.taken.keys().next().expect("taken");
    let mounted = brim.mounted();
    let kept = || mounted.ledger().reserve.removal;
    let before = kept();
    assert_ne!(before, 0);
    let grown = brim
        .names
        .grow(mounted, name(taken).as_bytes(), b"head", NOW);
    grown.expect("grown");
    assert!(kept() > before, "{before}");
    brim.names.delete(mounted, b"head").expect("deleted");
    assert_eq!(kept(), before);
}
