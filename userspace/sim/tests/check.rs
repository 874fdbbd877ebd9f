// SPDX-License-Identifier: GPL-2.0

//! Every kind of damage that a check knows of, made through the engine's own encoders and with right checksums, is found and named.

use embr_engine::check;
use embr_engine::check::Defect;
use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::check::Options;
use embr_engine::check::Trouble;
use embr_engine::check::Use;
use embr_engine::env::WritableDevice as _;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::engram;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::engram::Owner;
use embr_engine::format::engram::Part;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::extent::Run;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::inode::FileType;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Slot;
use embr_engine::format::name;
use embr_engine::format::name::Name;
use embr_engine::format::name::Target;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Places;
use embr_engine::names::Attributes;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::HashWidth;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Base;
use embr_engine::tree::Key;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::Generation;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;

const ROOT: InodeNo = InodeNo::ROOT;
const NOW: Timestamp = Timestamp {
    seconds: 5,
    nanos: 6,
};

fn slot(index: usize) -> Slot {
    Slot::new(index).expect("a slot")
}

fn volume() -> Fleet {
    let fleet = Fleet::new(1, &[Bytes(32 << 20); 2]);
    machine::make(2, &fleet, Geometry::new(1, 1).expect("a geometry")).expect("made");
    fleet
}

fn mount(fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(3, fleet, machine::READ_WRITE).expect("mounted")
}

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: NOW,
    }
}

/// A volume with some files: a directory `d` in the root, `f` in it, `g` in the root.
struct Sample {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    d: InodeNo,
    f: InodeNo,
    g: InodeNo,
}

impl Sample {
    fn new(fleet: &Fleet) -> Self {
        let mounted = mount(fleet);
        let names = Names::try_new(HashWidth::Full).expect("memory");
        let view = View::first();
        let files = names.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        let make = |directory, name: &[u8], what| {
            let made = files.create(directory, name, &new(what));
            made.expect("created").what.number
        };
        let d = make(ROOT, b"d", What::Directory);
        let f = make(d, b"f", What::Regular);
        let g = make(ROOT, b"g", What::Regular);
        Sample {
            mounted,
            names,
            view,
            d,
            f,
            g,
        }
    }

    fn put(&self, item: Item, value: &[u8]) {
        self.put_as(item, SnapshotId::FIRST, value);
    }

    fn put_as(&self, item: Item, version: SnapshotId, value: &[u8]) {
        let mut txn = self.mounted.begin().expect("begun");
        txn.set(NAMES, item.at(version), value).expect("set");
        txn.commit().expect("committed");
    }

    fn remove(&self, item: Item, version: SnapshotId) {
        let mut txn = self.mounted.begin().expect("begun");
        txn.remove(NAMES, item.at(version)).expect("removed");
        txn.commit().expect("committed");
    }

    /// The only item of this kind of an inode, and its value.
    fn only(&self, inode: InodeNo, kind: Kind, name: Option<&[u8]>) -> (Item, Vec<u8>) {
        let (first, last) = (Item::new(inode, kind, 0), Item::new(inode, kind, u64::MAX));
        let mut items = self.view.items(&self.mounted, first, last);
        while let Some((item, value)) = items.next().expect("read") {
            if name.is_none_or(|name| value.ends_with(name)) {
                return (item, value.to_vec());
            }
        }
        panic!("no such item");
    }

    fn change_inode(
        &self,
        number: InodeNo,
        change: impl FnOnce(&mut embr_engine::format::inode::Inode),
    ) {
        let files = self.names.of(&self.mounted, &self.view);
        let mut inode = files.inode(number).expect("read");
        change(&mut inode);
        self.put(Item::inode(number), &inode.encode().expect("memory"));
    }

    fn findings(&self) -> Vec<Finding> {
        let files = self.names.of(&self.mounted, &self.view);
        let mut found = inspector::Found::default();
        let options = Options {
            memory: Bytes(1 << 16),
            depth: Depth::Copies,
            data: true,
            held: &[],
        };
        check::check(&self.mounted, Some(files), &options, &mut found).expect("checked");
        found.0
    }

    /// Just this is found, in whatever order.
    #[track_caller]
    fn expect(&self, expected: &[(Item, Trouble)]) {
        let mut missing: Vec<Finding> = (expected.iter())
            .map(|(item, trouble)| Finding::Names(*item, *trouble))
            .collect();
        for found in self.findings() {
            match missing.iter().position(|m| *m == found) {
                Some(n) => drop(missing.swap_remove(n)),
                None => panic!("not expected: {found}"),
            }
        }
        assert_eq!(missing, [], "not found");
    }
}

fn encode_entry(inode: InodeNo, generation: u32, kind: FileType, name: &[u8]) -> Vec<u8> {
    let target = Target {
        inode,
        generation,
        kind,
    };
    let name = Name::new(name).expect("a name");
    let value = name::encode_entry(target, name).expect("memory");
    value.to_vec()
}

fn encode_parents(parents: &[(InodeNo, &[u8])]) -> Vec<u8> {
    let mut value = name::no_parents().expect("memory");
    for (directory, name) in parents {
        let name = Name::new(name).expect("a name");
        name::push_parent(&mut value, *directory, name).expect("memory");
    }
    value.to_vec()
}

fn numbers() -> Item {
    Item::new(InodeNo::NONE, Kind::NUMBERS, 0)
}

fn orphan(number: InodeNo) -> Item {
    Item::new(InodeNo::NONE, Kind::ORPHAN, number.0)
}

/// Makes this damage to a sample, and expects just these findings.
#[track_caller]
fn damaged(make: impl FnOnce(&Sample) -> Vec<(Item, Trouble)>) {
    let sample = Sample::new(&volume());
    sample.expect(&[]);
    let expected = make(&sample);
    sample.expect(&expected);
}

#[test]
fn items_that_make_no_sense() {
    damaged(|s| {
        let unknown = Item::new(s.g, Kind(0x55), 7);
        s.put(unknown, b"x");
        let nobody = Item::new(InodeNo::NONE, Kind(0x01), 0);
        s.put(nobody, b"x");
        let second = Item::new(s.g, Kind::INODE, 1);
        s.put(second, b"x");
        [unknown, nobody, second]
            .map(|i| (i, Trouble::Unknown))
            .to_vec()
    });
    damaged(|s| {
        let item = Item::inode(s.g);
        s.put_as(item, SnapshotId(9), b"x");
        vec![(item, Trouble::Version(9))]
    });
    damaged(|s| {
        let (parent, _) = s.only(s.g, Kind::PARENT, None);
        s.put(parent, b"\x01");
        // Whether the file has as many names as it counts is not known.
        vec![(parent, Trouble::Senseless)]
    });
    damaged(|s| {
        let (entry, _) = s.only(s.d, Kind::ENTRY, None);
        s.put(entry, b"\x01\x08");
        vec![(entry, Trouble::Senseless)]
    });
    damaged(|s| {
        s.put(orphan(InodeNo(77)), b"?");
        s.put_as(numbers(), SnapshotId::NONE, b"?");
        vec![
            (orphan(InodeNo(77)), Trouble::Senseless),
            (numbers(), Trouble::Senseless),
        ]
    });
    damaged(|s| {
        s.put(Item::inode(s.g), &[9; 96]);
        let bad = embr_engine::format::inode::BadInode::Version(9);
        vec![(Item::inode(s.g), Trouble::Inode(bad))]
    });
}

#[test]
fn inodes_that_should_be_there() {
    damaged(|s| {
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        s.remove(Item::inode(s.g), SnapshotId::FIRST);
        vec![
            (Item::inode(s.g), Trouble::NoInode),
            (entry, Trouble::Nowhere(s.g)),
        ]
    });
    damaged(|s| {
        s.put_as(numbers(), SnapshotId::NONE, &name::encode_number(s.g));
        vec![(Item::inode(s.g), Trouble::Number(s.g))]
    });
    damaged(|s| {
        s.remove(numbers(), SnapshotId::NONE);
        vec![(numbers(), Trouble::NoCounter)]
    });
    // Without a root nothing is below it.
    let sample = Sample::new(&volume());
    sample.remove(Item::inode(ROOT), SnapshotId::FIRST);
    let found = sample.findings();
    let is_there = |what| found.contains(&Finding::Names(Item::inode(ROOT), what));
    assert!(
        is_there(Trouble::NoRoot) && is_there(Trouble::NoInode),
        "{found:?}"
    );
}

#[test]
fn entries_and_parents_that_disagree() {
    damaged(|s| {
        let (entry, value) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        s.remove(entry, SnapshotId::FIRST);
        let moved = Item::new(ROOT, Kind::ENTRY, entry.sub() ^ (1 << 30));
        s.put(moved, &value);
        // By its name it is not found any more.
        let (parent, _) = s.only(s.g, Kind::PARENT, None);
        vec![
            (moved, Trouble::Place),
            (parent, Trouble::NoEntry(ROOT)),
            (Item::inode(s.g), Trouble::Links(1, 0)),
        ]
    });
    damaged(|s| {
        let (parent, value) = s.only(s.g, Kind::PARENT, None);
        s.remove(parent, SnapshotId::FIRST);
        let moved = Item::new(s.g, Kind::PARENT, parent.sub() ^ 1);
        s.put(moved, &value);
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        vec![(moved, Trouble::Place), (entry, Trouble::NoParent(s.g))]
    });
    damaged(|s| {
        let (entry, value) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        let again = Item::new(ROOT, Kind::ENTRY, entry.sub() + 3);
        s.put(again, &value);
        vec![
            (again, Trouble::Twice),
            (Item::inode(ROOT), Trouble::Entries(2, 3)),
        ]
    });
    damaged(|s| {
        let (parent, _) = s.only(s.g, Kind::PARENT, None);
        s.put(parent, &encode_parents(&[(ROOT, b"g"), (ROOT, b"g")]));
        vec![(parent, Trouble::Twice)]
    });
    damaged(|s| {
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        let files = s.names.of(&s.mounted, &s.view);
        let generation = files.inode(s.g).expect("read").generation;
        s.put(
            entry,
            &encode_entry(s.g, generation ^ 1, FileType::Fifo, b"g"),
        );
        vec![
            (entry, Trouble::Type(s.g)),
            (entry, Trouble::Generation(s.g)),
        ]
    });
    damaged(|s| {
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        let files = s.names.of(&s.mounted, &s.view);
        let generation = files.inode(s.f).expect("read").generation;
        s.put(
            entry,
            &encode_entry(s.f, generation, FileType::Regular, b"g"),
        );
        let (parent, _) = s.only(s.g, Kind::PARENT, None);
        vec![
            (entry, Trouble::NoParent(s.f)),
            (parent, Trouble::OtherEntry(ROOT)),
            (Item::inode(s.g), Trouble::Links(1, 0)),
        ]
    });
    damaged(|s| {
        let (entry, _) = s.only(s.d, Kind::ENTRY, None);
        s.remove(entry, SnapshotId::FIRST);
        let (parent, _) = s.only(s.f, Kind::PARENT, None);
        vec![
            (parent, Trouble::NoEntry(s.d)),
            (Item::inode(s.f), Trouble::Links(1, 0)),
            (Item::inode(s.d), Trouble::Entries(1, 0)),
        ]
    });
    damaged(|s| {
        s.change_inode(s.g, |inode| {
            inode.kind = FileType::Directory;
            inode.nlink = 2;
        });
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"g"));
        vec![(entry, Trouble::Type(s.g))]
    });
    damaged(|s| {
        s.change_inode(s.d, |inode| {
            inode.kind = FileType::Regular;
            inode.entries = 0;
            inode.nlink = 1;
        });
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"d"));
        let (inner, _) = s.only(s.d, Kind::ENTRY, None);
        vec![(entry, Trouble::Type(s.d)), (inner, Trouble::NotDirectory)]
    });
}

#[test]
fn what_files_hold() {
    damaged(|s| {
        let bad = Item::new(s.g, Kind::INLINE, 3);
        s.put(bad, b"\x02x");
        let other = Item::new(s.d, Kind::INLINE, 3);
        s.put(other, b"\x01x");
        vec![(bad, Trouble::Senseless), (other, Trouble::NotRegular)]
    });
}

#[test]
fn attributes_and_their_pieces() {
    let set = |s: &Sample, name: &[u8], size: usize| {
        let files = s.names.of(&s.mounted, &s.view);
        let value = vec![7; size];
        let new = Extended {
            name,
            value: &value,
        };
        (files.set_attribute(s.g, new, Put::Create, &Attributes::default(), NOW)).expect("set");
        s.expect(&[]);
        s.only(s.g, Kind::ATTRIBUTE, None)
    };
    let piece = |attribute: Item, number| {
        Item::new(attribute.owner(), Kind::PIECE, attribute.sub() | number)
    };
    damaged(|s| {
        let (item, _) = set(s, b"user.a", 3);
        s.put(item, b"\x01\x09");
        let inside = Item::new(s.g, Kind::ATTRIBUTE, item.sub() | 1);
        s.put(inside, b"\x01\0\x01\0\0\0\0\0x");
        vec![(item, Trouble::Senseless), (inside, Trouble::Unknown)]
    });
    damaged(|s| {
        let (item, value) = set(s, b"user.a", 3);
        s.remove(item, SnapshotId::FIRST);
        let moved = Item::new(s.g, Kind::ATTRIBUTE, item.sub() ^ (1 << 40));
        s.put(moved, &value);
        vec![(moved, Trouble::Place)]
    });
    damaged(|s| {
        let (item, value) = set(s, b"user.a", 3);
        let again = Item::new(s.g, Kind::ATTRIBUTE, item.sub() ^ (3 << 4));
        s.put(again, &value);
        vec![(item.max(again), Trouble::Twice)]
    });
    damaged(|s| {
        let (item, _) = set(s, b"user.a", 10000);
        s.remove(piece(item, 1), SnapshotId::FIRST);
        s.put(piece(item, 2), b"\x01short");
        s.put(piece(item, 3), b"\x01more");
        vec![
            (item, Trouble::NoPiece(1)),
            (piece(item, 2), Trouble::Piece(5, 10000 - 2 * BLOCK_SIZE)),
            (piece(item, 3), Trouble::NoAttribute),
        ]
    });
    damaged(|s| {
        let (item, _) = set(s, b"user.a", 10000);
        s.remove(item, SnapshotId::FIRST);
        s.put(piece(item, 1), b"\x03?");
        vec![
            (piece(item, 0), Trouble::NoAttribute),
            (piece(item, 1), Trouble::Senseless),
            (piece(item, 2), Trouble::NoAttribute),
        ]
    });
    damaged(|s| {
        let (item, value) = set(s, b"user.a", 10);
        let nobody = InodeNo(77);
        let moved = Item::new(nobody, Kind::ATTRIBUTE, item.sub());
        s.put(moved, &value);
        vec![
            (moved, Trouble::Place),
            (Item::inode(nobody), Trouble::NoInode),
        ]
    });
}

#[test]
fn counts_and_orphans() {
    damaged(|s| {
        s.change_inode(s.g, |inode| inode.nlink = 5);
        s.change_inode(s.d, |inode| inode.entries = 7);
        s.change_inode(ROOT, |inode| inode.nlink = 2);
        vec![
            (Item::inode(s.g), Trouble::Links(5, 1)),
            (Item::inode(s.d), Trouble::Entries(7, 1)),
            (Item::inode(ROOT), Trouble::Links(2, 3)),
        ]
    });
    damaged(|s| {
        let files = s.names.of(&s.mounted, &s.view);
        let made = files.create_orphan(&new(What::Regular)).expect("made");
        s.expect(&[]);
        let number = made.what.number;
        s.remove(orphan(number), SnapshotId::FIRST);
        vec![(Item::inode(number), Trouble::NotListed)]
    });
    damaged(|s| {
        s.put(orphan(s.g), &name::encode_number(s.g));
        let gone = InodeNo(9999);
        s.put(orphan(gone), &name::encode_number(gone));
        let astray = orphan(InodeNo(12));
        let files = s.names.of(&s.mounted, &s.view);
        let made = files.create_orphan(&new(What::Regular)).expect("made");
        s.put(astray, &name::encode_number(made.what.number));
        vec![
            (orphan(s.g), Trouble::Listed(s.g)),
            (orphan(gone), Trouble::Listed(gone)),
            (astray, Trouble::Place),
        ]
    });
}

/// Only what nothing can be made of is left; the rest is done.
#[test]
fn what_was_left_undone_is_done_beside_what_is_damaged() {
    let s = Sample::new(&volume());
    let files = s.names.of(&s.mounted, &s.view);
    let made = files.create_orphan(&new(What::Regular)).expect("made");
    let number = made.what.number;
    let gone = InodeNo(9999);
    s.put(orphan(gone), &name::encode_number(gone));
    s.put(orphan(InodeNo(9998)), b"no number");
    let intent = Item::new(InodeNo::NONE, Kind::INTENT, 9997);
    s.put(intent, b"no intent");
    let mut left = Vec::new();
    let mut leave = |why: Error| {
        left.push(why.to_string());
        Ok(())
    };
    assert_eq!(files.resume_but(&mut leave), Ok(0));
    assert_eq!(files.forget_orphans_but(&mut leave), Ok(1));
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(files.forget_orphans().is_err());
    assert!(files.resume().is_err());
    assert_eq!(files.inode(number).map(drop), Err(Error::NotFound));
}

#[test]
fn directories_away_from_the_root() {
    // A second name for a directory.
    damaged(|s| {
        let files = s.names.of(&s.mounted, &s.view);
        let other = files
            .create(ROOT, b"other", &new(What::Regular))
            .expect("made");
        let other = other.what.number;
        let (entry, _) = s.only(ROOT, Kind::ENTRY, Some(b"other"));
        let d = files.inode(s.d).expect("read");
        s.put(
            entry,
            &encode_entry(s.d, d.generation, FileType::Directory, b"other"),
        );
        let (parent, value) = s.only(other, Kind::PARENT, None);
        s.put(Item::new(s.d, Kind::PARENT, parent.sub()), &value);
        s.remove(parent, SnapshotId::FIRST);
        s.remove(Item::inode(other), SnapshotId::FIRST);
        vec![
            (Item::inode(s.d), Trouble::Parents(2)),
            (Item::inode(ROOT), Trouble::Links(3, 4)),
        ]
    });
    // Two directories in a circle, and one below them.
    damaged(|s| {
        let files = s.names.of(&s.mounted, &s.view);
        let make = |directory, name: &[u8]| {
            let made = files.create(directory, name, &new(What::Directory));
            made.expect("made").what.number
        };
        let a = make(ROOT, b"a");
        let b = make(a, b"b");
        let c = make(b, b"c");
        // `a` is in `b` now, under the name that it had in the root.
        let (entry, value) = s.only(ROOT, Kind::ENTRY, Some(b"a"));
        let (parent, _) = s.only(a, Kind::PARENT, None);
        s.remove(entry, SnapshotId::FIRST);
        s.remove(parent, SnapshotId::FIRST);
        let hashed = |directory: InodeNo| {
            use embr_engine::env::Hasher as _;
            let volume = s.mounted.volume();
            let hash = embr_engine::hash::Scalar.hash(&[
                b"embrfs name v1\0\0",
                &volume.0,
                &directory.0.to_le_bytes(),
                b"a",
            ]);
            u64::from_le_bytes(hash.0[..8].try_into().expect("eight"))
        };
        s.put(Item::new(b, Kind::ENTRY, hashed(b) << 8), &value);
        s.put(
            Item::new(a, Kind::PARENT, hashed(b)),
            &encode_parents(&[(b, b"a")]),
        );
        s.change_inode(b, |inode| {
            inode.entries = 2;
            inode.nlink = 4;
        });
        s.change_inode(ROOT, |inode| {
            inode.entries = 2;
            inode.nlink = 3;
        });
        [a, b, c]
            .map(|n| (Item::inode(n), Trouble::Unreachable))
            .to_vec()
    });
}

/// All that is wrong with the volume on these drives.
fn all_findings(fleet: &Fleet, memory: u64) -> Vec<Finding> {
    let mut told = Vec::new();
    let mounted = machine::inspect_telling(5, fleet, &mut |why| told.push(Finding::Mount(why)))
        .expect("to be looked at");
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    let mut found = inspector::Found(told);
    let options = Options {
        memory: Bytes(memory),
        depth: Depth::Copies,
        data: true,
        held: &[],
    };
    check::check(&mounted, Some(files), &options, &mut found).expect("checked");
    found.0
}

/// A volume with so many more files, unmounted.
fn filled(files: usize) -> Fleet {
    let fleet = volume();
    let sample = Sample::new(&fleet);
    let all = sample.names.of(&sample.mounted, &sample.view);
    for n in 0..files {
        let name = format!("file number {n}");
        let what = new(What::Symlink(&[b'x'; 300]));
        all.create(sample.d, name.as_bytes(), &what).expect("made");
    }
    // The nodes of one root are in the free space of the next.
    sample.mounted.checkpoint().expect("a checkpoint");
    sample.mounted.close().expect("closed");
    assert_eq!(all_findings(&fleet, 1 << 20), []);
    fleet
}

fn forge_roots(fleet: &Fleet, root: &mut dyn FnMut(Slot, &mut Vec<Base>)) {
    let drives = drives(fleet);
    forge::forge(&drives, &mut |_, _| {}, &mut |slot, _, bases| {
        root(slot, bases)
    })
    .expect("forged");
}

fn drives(fleet: &Fleet) -> Vec<(Slot, embrfs_sim::fleet::DriveHandle)> {
    let drives = fleet.drives();
    drives.into_iter().map(|d| (d.slot(), d)).collect()
}

/// Changes the items of free space.
fn forge_space(fleet: &Fleet, mut edit: impl FnMut(&mut Vec<(Key, Vec<u8>)>)) {
    let volume = mount_to_look(fleet).volume();
    let mut change = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree == SPACE && spot.level.is_leaf() {
            forge::entries(bytes, volume, &mut edit);
        }
    };
    forge::forge(&drives(fleet), &mut change, &mut |_, _, _| {}).expect("forged");
}

fn mount_to_look(fleet: &Fleet) -> Mounted<Simulated> {
    machine::inspect_telling(5, fleet, &mut |_| {}).expect("mounted")
}

fn top(fleet: &Fleet, tree: embr_engine::units::TreeId) -> embr_engine::format::pointer::Pointer {
    let mounted = mount_to_look(fleet);
    let base = mounted.bases().find(|b| b.tree == tree).expect("a tree");
    base.top.expect("not empty").pointer
}

#[test]
fn copies_and_nodes() {
    for files in [0, 500] {
        let fleet = filled(files);
        let pointer = top(&fleet, NAMES);
        let places: Vec<Place> = pointer.places.iter().collect();
        assert_eq!(places.len(), 2);
        for (n, place) in places.iter().enumerate() {
            fleet.rot(place.device, place.block.bytes().expect("a place"), 1 << 3);
            let found = all_findings(&fleet, 1 << 20);
            match n {
                0 => assert!(
                    matches!(found[..], [Finding::Copy(TreeError::Corrupt(spot, _), _)]
                        if spot.device == place.device && spot.at.whole_blocks() == place.block && spot.tree == NAMES),
                    "{found:?}"
                ),
                _ => {
                    let lost = found.iter().any(|f| matches!(f, Finding::Lost(TreeError::Corrupt(spot, _), _) if spot.tree == NAMES));
                    assert!(lost, "{found:?}");
                    // What was below is not said to be free: nobody knows.
                    let unused = found.iter().any(|f| matches!(f, Finding::Unused(_)));
                    assert!(!unused, "{found:?}");
                }
            }
        }
    }
}

#[test]
fn lost_leaves_do_not_accuse_others() {
    let fleet = filled(500);
    let volume = mount_to_look(&fleet).volume();
    let mut leaf = None;
    let mut n = 0;
    let mut note = |spot: forge::Spot, _: &mut Vec<u8>| {
        if spot.tree == NAMES && spot.level.is_leaf() {
            n += 1;
            if n == 5 {
                leaf = Some(spot.range);
            }
        }
    };
    forge::forge(&drives(&fleet), &mut note, &mut |_, _, _| {}).expect("forged");
    let lost = leaf.expect("a fifth leaf");
    // Its checksum is right, but not what is in it.
    let mut wreck = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree == NAMES && spot.range == lost {
            bytes[48] ^= 1;
        }
    };
    forge::forge(&drives(&fleet), &mut wreck, &mut |_, _, _| {}).expect("forged");
    let found = all_findings(&fleet, 1 << 20);
    assert_eq!(found.len(), 1, "{found:?} of {volume}");
    assert!(matches!(found[0], Finding::Lost(..)), "{found:?}");
}

#[test]
fn nodes_that_are_too_empty() {
    let fleet = filled(500);
    let volume = mount_to_look(&fleet).volume();
    let mut done = false;
    let mut change = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree == NAMES && spot.level.is_leaf() && !done && spot.range.first > Key([5, 0, 0])
        {
            done = true;
            forge::entries(bytes, volume, |all| all.truncate(1));
        }
    };
    forge::forge(&drives(&fleet), &mut change, &mut |_, _, _| {}).expect("forged");
    let found = all_findings(&fleet, 1 << 20);
    let empty = (found.iter())
        .filter(|f| matches!(f, Finding::UnderFull(Use::Node(t, ..), ..) if *t == NAMES));
    assert_eq!(empty.count(), 1, "{found:?}");
}

#[test]
fn places_that_cannot_be() {
    let change = |fleet: &Fleet, to: Place| {
        forge_roots(fleet, &mut |_, bases| {
            for top in bases
                .iter_mut()
                .filter(|b| b.tree == NAMES)
                .filter_map(|b| b.top.as_mut())
            {
                let mut places: Vec<Place> = top.pointer.places.iter().collect();
                places[1] = to;
                top.pointer.places = Places::new(&places).expect("places");
            }
        });
    };
    let fleet = filled(0);
    let first = top(&fleet, NAMES).places.iter().next().expect("a place");
    let second = slot(1 - first.device.index());
    let other = top(&fleet, SPACE).places;
    let other = other.iter().find(|p| p.device == second).expect("a place");
    // Over a node of another tree.
    change(
        &fleet,
        Place {
            block: Blocks(other.block.0 + 1),
            ..other
        },
    );
    let found = all_findings(&fleet, 1 << 20);
    let expected = Extent {
        device: second,
        start: Blocks(other.block.0 + 1),
        blocks: Blocks(3),
    };
    assert!(
        found
            .iter()
            .any(|f| matches!(f, Finding::Overlap(Use::Node(NAMES, ..), e) if *e == expected)),
        "{found:?}"
    );
    // In the journal, in a system area, beyond the end, on no device.
    for (place, what) in [
        (
            Place {
                device: second,
                block: Blocks(2400),
            },
            "overlap",
        ),
        (
            Place {
                device: second,
                block: Blocks(20),
            },
            "overlap",
        ),
        (
            Place {
                device: second,
                block: Blocks(8190),
            },
            "beyond",
        ),
        (
            Place {
                device: slot(9),
                block: Blocks(6000),
            },
            "no-device",
        ),
    ] {
        let fleet = filled(0);
        change(&fleet, place);
        let found = all_findings(&fleet, 1 << 20);
        let named = |f: &&Finding| {
            f.kind() == what && f.device() == Some(place.device) && f.tree() == Some(NAMES)
        };
        assert!(found.iter().any(|f| named(&f)), "{place:?}: {found:?}");
    }
}

#[test]
fn roots_that_disagree() {
    let fleet = filled(0);
    forge_roots(&fleet, &mut |at, bases| {
        if at == slot(1) {
            bases.retain(|b| b.tree != NAMES);
        }
    });
    let found = all_findings(&fleet, 1 << 20);
    let on_the_second = |f: &&Finding| matches!(f, Finding::Root(s, _) if *s == slot(1));
    assert_eq!(found.iter().filter(on_the_second).count(), 2, "{found:?}");
    assert_eq!(found.len(), 2);
    let fleet = filled(0);
    forge_roots(&fleet, &mut |_, bases| {
        for top in bases.iter_mut().filter_map(|b| b.top.as_mut()) {
            top.pointer.generation = Generation(1000);
        }
    });
    let found = all_findings(&fleet, 1 << 20);
    assert!(
        found.contains(&Finding::Newer(NAMES, Generation(1000))),
        "{found:?}"
    );
}

#[test]
fn free_space_that_is_not_so() {
    for memory in [1, 1 << 20] {
        let fleet = filled(0);
        let unused = 7000u16;
        forge_space(&fleet, |all| {
            for (_, value) in all.iter_mut().filter(|(key, _)| key.0[0] == 1) {
                value.extend_from_slice(&unused.to_le_bytes());
                value.extend_from_slice(&9u16.to_le_bytes());
            }
        });
        let extent = Extent {
            device: slot(1),
            start: Blocks(7000),
            blocks: Blocks(10),
        };
        assert_eq!(all_findings(&fleet, memory), [Finding::Unused(extent)]);
    }
    let fleet = filled(0);
    forge_space(&fleet, |all| all.retain(|(key, _)| key.0[0] != 1));
    let found = all_findings(&fleet, 1 << 20);
    let nodes: u64 = found
        .iter()
        .map(|f| match f {
            Finding::Used(e) if e.device == slot(1) => e.blocks.0,
            other => panic!("{other}"),
        })
        .sum();
    // The node of names; that of free space itself was taken after its items were frozen, and is in the journal.
    assert_eq!(nodes, 4);
    for (bad, value) in [
        (Key([1, 0, 7]), vec![1]),
        (Key([1, 99, 0]), vec![1]),
        (Key([1, 0, 0]), vec![7]),
        (Key([99, 0, 0]), vec![1]),
    ] {
        let fleet = filled(0);
        forge_space(&fleet, |all| {
            all.retain(|(key, _)| *key != bad);
            all.push((bad, value.clone()));
            all.sort();
        });
        let found = all_findings(&fleet, 1 << 20);
        assert!(
            found.contains(&Finding::Mount(Fault::SpaceItem(bad))),
            "{bad}: {found:?}"
        );
    }
}

#[test]
fn what_the_journal_says_twice() {
    let fleet = volume();
    let sample = Sample::new(&fleet);
    for _ in 0..2 {
        sample.mounted.checkpoint().expect("a checkpoint");
    }
    let extent = sample
        .mounted
        .allocate(slot(0), Blocks(5), Blocks(5))
        .expect("space");
    let mut txn = sample.mounted.begin().expect("begun");
    txn.take(extent).expect("taken");
    txn.commit().expect("committed");
    sample.mounted.sync().expect("durable");
    drop(sample);
    forge_space(&fleet, |all| {
        for (_, value) in all.iter_mut().filter(|(key, _)| key.0[0] == 0) {
            value.extend_from_slice(&(extent.start.0 as u16).to_le_bytes());
            value.extend_from_slice(&0u16.to_le_bytes());
        }
    });
    let found = all_findings(&fleet, 1 << 20);
    assert!(
        found.contains(&Finding::Mount(Fault::Space(extent))),
        "{found:?}"
    );
    assert!(found.contains(&Finding::Unused(extent)), "{found:?}");
}

#[test]
fn a_journal_with_a_hole() {
    let fleet = volume();
    let sample = Sample::new(&fleet);
    sample.mounted.checkpoint().expect("a checkpoint");
    let before = fleet.snapshot();
    let files = sample.names.of(&sample.mounted, &sample.view);
    for name in [b"x", b"y", b"z"] {
        files.create(ROOT, name, &new(What::Regular)).expect("made");
        sample.mounted.sync().expect("durable");
    }
    let journal = sample.mounted.parts()[0].journal;
    drop(sample);
    assert_eq!(all_findings(&fleet, 1 << 20), []);
    // The first block that is new on both drives is the head of the first group.
    let old = Fleet::start(1, &before);
    for (drive, old) in fleet.drives().iter().zip(old.drives()) {
        use embr_engine::env::Device as _;
        for block in journal.start.0..journal.start.0 + journal.blocks.0 {
            let at = Blocks(block).bytes().expect("a place");
            let (mut now, mut then) = ([0; 4096], [0; 4096]);
            drive.read(at, &mut now).expect("read");
            old.read(at, &mut then).expect("read");
            if now != then {
                drive.write(at, &then).expect("written");
                break;
            }
        }
    }
    let found = all_findings(&fleet, 1 << 20);
    assert!(
        matches!(found[..], [Finding::Mount(Fault::JournalLost(_))]),
        "{found:?}"
    );
}

/// A file with four raw blocks, in one engram; `g` of the sample.
struct Stored {
    sample: Sample,
    engram: EngramId,
    map: Map,
}

impl Stored {
    fn new() -> Self {
        let sample = Sample::new(&volume());
        let files = sample.names.of(&sample.mounted, &sample.view);
        let bytes: Vec<u8> = (0..4 * 4096u32).map(|n| (n / 4096 + 1) as u8).collect();
        let dirty = Dirty {
            at: FileBlock(2),
            bytes: &bytes,
        };
        let written = Written {
            size: Some(Bytes(6 * 4096)),
            ..Written::default()
        };
        files
            .write(sample.g, &[dirty], Way::Sealed, &written)
            .expect("written");
        let (_, value) = sample.only(sample.g, Kind::EXTENTS, None);
        let run = extent::parse(&value)
            .expect("runs")
            .iter()
            .next()
            .expect("a run");
        let key = engram::key(run.engram, engram::Kind::Map, 0);
        let map = sample.mounted.get(ENGRAMS, key, Map::parse).expect("read");
        Stored {
            engram: run.engram,
            map: map.expect("there").expect("memory").expect("a map"),
            sample,
        }
    }

    fn put(&self, kind: engram::Kind, sub: usize, value: Option<&[u8]>) {
        let key = engram::key(self.engram, kind, sub);
        let mut txn = self.sample.mounted.begin().expect("begun");
        match value {
            Some(value) => txn.set(ENGRAMS, key, value).expect("set"),
            None => txn.remove(ENGRAMS, key).expect("removed"),
        }
        txn.commit().expect("committed");
    }

    fn live(&self, blocks: std::ops::Range<usize>) -> Vec<u8> {
        let mut live = Live::default();
        live.set(blocks.start, blocks.len());
        live.encode(self.map.blocks).expect("memory").to_vec()
    }

    /// Where these blocks lie on each device.
    fn lie(&self, first: u64, blocks: u64) -> Vec<Extent> {
        let places = self.map.copies().expect("copies").iter();
        places
            .map(|p| Extent {
                device: p.device,
                start: Blocks(p.block.0 + first),
                blocks: Blocks(blocks),
            })
            .collect()
    }

    fn set_extents(&self, runs: &[Run]) -> Item {
        let (item, _) = self.sample.only(self.sample.g, Kind::EXTENTS, None);
        self.sample
            .put(item, &extent::encode(runs).expect("memory"));
        let blocks = runs.iter().map(|run| run.blocks as u64).sum();
        let g = self.sample.g;
        self.sample.change_inode(g, |inode| inode.entries = blocks);
        item
    }

    fn run(&self, first: usize, blocks: usize, at: usize) -> Run {
        Run::plain(first, blocks, Encoding::Raw, self.engram, at)
    }
}

#[track_caller]
fn stored(make: impl FnOnce(&Stored) -> Vec<Finding>) {
    let stored = Stored::new();
    assert_eq!(stored.sample.findings(), []);
    let mut missing = make(&stored);
    for found in stored.sample.findings() {
        match missing.iter().position(|m| *m == found) {
            Some(n) => drop(missing.swap_remove(n)),
            None => panic!("not expected: {found}"),
        }
    }
    assert_eq!(missing, [], "not found");
}

#[test]
fn extents_and_engrams_that_disagree() {
    // What lives is less than what is named, and more.
    stored(|s| {
        s.put(engram::Kind::Live, 0, Some(&s.live(0..3)));
        let (item, _) = s.sample.only(s.sample.g, Kind::EXTENTS, None);
        let mut found: Vec<Finding> = s.lie(3, 1).into_iter().map(Finding::Unused).collect();
        found.push(Finding::Names(item, Trouble::Dead(s.engram)));
        found.push(Finding::Engram(s.engram, Defect::Unowned));
        found
    });
    // What lives lies in no part, or a part in too few copies.
    let parts = |s: &Stored, keep: &dyn Fn(&Part) -> Option<Part>| {
        let whole = s.map.part(0).expect("copies");
        let (a, b) = (whole.cut(0, 2).expect("two"), whole.cut(2, 2).expect("two"));
        let parts: Vec<Part> = [Some(a), keep(&b)].into_iter().flatten().collect();
        let mut map = Map::copied(4, s.map.policy, whole.places);
        assert!(map.part_as(&parts).expect("memory"));
        s.put(engram::Kind::Map, 0, Some(&map.encode().expect("memory")));
    };
    stored(|s| {
        parts(s, &|b| b.cut(3, 1));
        let mut found: Vec<Finding> = s.lie(2, 1).into_iter().map(Finding::Unused).collect();
        found.push(Finding::Engram(s.engram, Defect::Parts));
        found
    });
    stored(|s| {
        let all = s.map.part(2).expect("copies").places.count();
        parts(s, &|b| {
            let places = b.places.iter().take(all - 1).collect::<Vec<_>>();
            let places = Places::new(&places).expect("places");
            Some(Part { places, ..*b })
        });
        let gone = s.lie(2, 2).pop().expect("the last");
        vec![
            Finding::Unused(gone),
            Finding::Fewer(Use::Engram(s.engram), all - 1, all),
        ]
    });
    // A file that counts its blocks wrongly.
    stored(|s| {
        let g = s.sample.g;
        s.sample.change_inode(g, |inode| inode.entries = 9);
        vec![Finding::Names(Item::inode(g), Trouble::Entries(9, 4))]
    });
    stored(|s| {
        s.set_extents(&[s.run(2, 3, 0)]);
        vec![Finding::Unnamed(s.lie(3, 1)[0])]
    });
    stored(|s| {
        let item = s.set_extents(&[s.run(2, 4, 0), s.run(7, 1, 3)]);
        vec![Finding::Names(item, Trouble::NamedTwice(s.engram))]
    });
    stored(|s| {
        let gone = EngramId(s.engram.0 + 100);
        let other = Run::plain(7, 1, Encoding::Raw, gone, 0);
        let long = s.run(8, 2, 3);
        let item = s.set_extents(&[s.run(2, 3, 0), other, long]);
        vec![
            Finding::Names(item, Trouble::NoEngram(gone)),
            Finding::Names(item, Trouble::NoEngram(s.engram)),
        ]
    });
    stored(|s| {
        let owner = Owner {
            blocks: 4,
            inode: s.sample.f,
            at: FileBlock(2),
        };
        s.put(engram::Kind::Owner, 0, Some(&owner.encode()));
        let (item, _) = s.sample.only(s.sample.g, Kind::EXTENTS, None);
        vec![Finding::Names(item, Trouble::NotOwned(s.engram))]
    });
    stored(|s| {
        s.put(engram::Kind::Hashes, 0, None);
        let (item, _) = s.sample.only(s.sample.g, Kind::EXTENTS, None);
        vec![Finding::Names(item, Trouble::NoHash(s.engram))]
    });
    stored(|s| {
        s.sample
            .put(Item::new(s.sample.g, Kind::INLINE, 3), b"\x01x");
        let (item, _) = s.sample.only(s.sample.g, Kind::EXTENTS, None);
        vec![
            Finding::Names(item, Trouble::TwoPlaces),
            Finding::Names(Item::inode(s.sample.g), Trouble::Entries(4, 5)),
        ]
    });
    stored(|s| {
        let owner = Owner {
            blocks: 2,
            inode: s.sample.g,
            at: FileBlock(4),
        };
        s.put(engram::Kind::Owner, 2, Some(&owner.encode()));
        vec![Finding::Engram(s.engram, Defect::Owners)]
    });
}

#[test]
fn engrams_that_make_no_sense() {
    stored(|s| {
        s.put(engram::Kind::Hashes, 5, Some(b"\x07"));
        let key = engram::key(s.engram, engram::Kind::Hashes, 5);
        vec![Finding::Engram(s.engram, Defect::Senseless(key))]
    });
    stored(|s| {
        let counter = engram::key(EngramId::NONE, engram::Kind::Numbers, 0);
        let mut txn = s.sample.mounted.begin().expect("begun");
        let low = name::encode_number(InodeNo(s.engram.0));
        txn.set(ENGRAMS, counter, &low).expect("set");
        txn.commit().expect("committed");
        vec![Finding::Engram(s.engram, Defect::Number)]
    });
    for (kind, defect) in [
        (engram::Kind::Map, Defect::NoMap),
        (engram::Kind::Live, Defect::NoLive),
    ] {
        let s = Stored::new();
        s.put(kind, 0, None);
        let found = s.sample.findings();
        let is_told = found.contains(&Finding::Engram(s.engram, defect));
        assert!(is_told, "{found:?}");
    }
    let s = Stored::new();
    s.put(engram::Kind::Live, 0, Some(&s.live(0..0)));
    let found = s.sample.findings();
    let is_told = found.contains(&Finding::Engram(s.engram, Defect::Dead));
    assert!(is_told, "{found:?}");
}

#[test]
fn data_that_rots() {
    stored(|s| {
        let (item, _) = s.sample.only(s.sample.g, Kind::EXTENTS, None);
        let bad = s.lie(1, 1)[1];
        let fleet = s.sample.mounted.machine();
        use embr_engine::env::Devices as _;
        use embr_engine::volume::Machine as _;
        let at = bad.start.bytes().expect("a place");
        let wrong = [9; 4096];
        let mut write = [embr_engine::env::Write::new(bad.device, at, &wrong)];
        fleet.devices().write(&mut write);
        assert_eq!(write[0].outcome, Ok(()));
        vec![Finding::Rotten(item, bad)]
    });
}
