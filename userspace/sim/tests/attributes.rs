// SPDX-License-Identifier: GPL-2.0

//! Extended attributes where they are hard: many with one hash, values in pieces that are replaced, snapshots, a full volume, no memory,
//! damage, and readers beside a writer. What is drawn from a seed beside the model is in names.rs.

use embr_engine::check::Depth;
use embr_engine::env::Hasher as _;
use embr_engine::format::attribute;
use embr_engine::format::geometry::Geometry;
use embr_engine::hash::Scalar;
use embr_engine::names::Attributes;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Mark;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::names::Wrong;
use embr_engine::tree::Range;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
use embrfs_sim::clerk;
use embrfs_sim::desk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use std::collections::BTreeSet;

const ROOT: InodeNo = InodeNo::ROOT;
const NOW: Timestamp = Timestamp {
    seconds: 9,
    nanos: 9,
};
const SAME: Attributes = Attributes {
    permissions: None,
    uid: None,
    gid: None,
    flags: None,
    project: None,
    accessed: None,
    modified: None,
};

fn mounted() -> Mounted<Simulated> {
    let fleet = Fleet::new(1, &[Bytes(32 << 20)]);
    machine::make(2, &fleet, Geometry::new(1, 0).expect("a geometry")).expect("made");
    machine::mount(3, &fleet, machine::READ_WRITE).expect("mounted")
}

fn view(current: u64, ancestors: &[u64]) -> View {
    let ancestors: Vec<_> = ancestors.iter().copied().map(SnapshotId).collect();
    View::new(SnapshotId(current), &ancestors)
        .expect("memory")
        .expect("a view")
}

fn make(files: Files<'_, Simulated>, name: &[u8]) -> InodeNo {
    let new = New {
        what: What::Regular,
        ..clerk::root()
    };
    files.create(ROOT, name, &new).expect("created").what.number
}

fn set(files: Files<'_, Simulated>, file: InodeNo, name: &[u8], value: &[u8]) -> Result<(), Error> {
    let new = Extended { name, value };
    files
        .set_attribute(file, new, Put::Any, &SAME, NOW)
        .map(|_| ())
}

fn remove(files: Files<'_, Simulated>, file: InodeNo, name: &[u8]) -> Result<(), Error> {
    files.remove_attribute(file, name, &SAME, NOW).map(|_| ())
}

fn get(files: Files<'_, Simulated>, file: InodeNo, name: &[u8]) -> Result<Vec<u8>, Error> {
    files.attribute(file, name).map(|value| value.to_vec())
}

/// Bytes that no other number has.
fn value(number: u8, size: usize) -> Vec<u8> {
    (0..size).map(|n| number ^ (n / 251) as u8).collect()
}

/// Keys of a file's attributes and pieces, whatever their versions.
fn keys(mounted: &Mounted<Simulated>, file: InodeNo) -> (usize, usize) {
    let mut scan = mounted.scan(NAMES, Range::ALL).expect("the tree");
    let mut count = (0, 0);
    while let Some((key, _)) = scan.next().expect("read") {
        let (item, _) = Item::of(key);
        match item.kind() {
            Kind::ATTRIBUTE if item.owner() == file => count.0 += 1,
            Kind::PIECE if item.owner() == file => count.1 += 1,
            _ => {}
        }
    }
    count
}

#[track_caller]
fn sound(mounted: &Mounted<Simulated>, files: Files<'_, Simulated>) {
    inspector::check(mounted, Some(files), Depth::Tree, &[]).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_value_leaves_nothing_of_the_one_before() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = make(files, b"file");
    let in_place = embr_engine::format::node::MAX_VALUE - attribute::HEADER_SIZE - 6;
    let sizes = [
        (0, 0),
        (in_place, 0),
        (in_place + 1, 2),
        (65536, 16),
        (8192, 2),
        (8193, 3),
        (5, 0),
        (40000, 10),
    ];
    for (n, (size, pieces)) in (0u8..).zip(sizes) {
        set(files, file, b"user.a", &value(n, size)).expect("set");
        assert_eq!(get(files, file, b"user.a"), Ok(value(n, size)));
        assert_eq!(files.attribute_size(file, b"user.a"), Ok(size));
        assert_eq!(keys(&mounted, file), (1, pieces), "{size} bytes");
        sound(&mounted, files);
    }
    let too_long = set(files, file, b"user.a", &value(1, 65537));
    assert_eq!(too_long, Err(Error::TooLong));
    remove(files, file, b"user.a").expect("removed");
    assert_eq!(keys(&mounted, file), (0, 0));
    assert_eq!(get(files, file, b"user.a"), Err(Error::NoAttribute));
    assert_eq!(remove(files, file, b"user.a"), Err(Error::NoAttribute));
}

#[test]
fn attributes_and_the_inode_change_together() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let given = [
        Extended {
            name: b"security.x",
            value: b"label",
        },
        Extended {
            name: b"system.y",
            value: &value(3, 30000),
        },
    ];
    let new = New {
        what: What::Directory,
        ..clerk::root()
    };
    let made = files
        .create_with(ROOT, b"d", &new, &given)
        .expect("created");
    let number = made.what.number;
    for new in given {
        assert_eq!(get(files, number, new.name), Ok(new.value.to_vec()));
    }
    let twice = files.create_with(ROOT, b"e", &new, &[given[0], given[0]]);
    assert_eq!(twice.err(), Some(Error::Exists));
    assert_eq!(files.lookup(ROOT, b"e").err(), Some(Error::NotFound));
    let orphan = files
        .create_orphan_with(
            &New {
                what: What::Regular,
                ..new
            },
            &given,
        )
        .expect("created");
    assert_eq!(keys(&mounted, orphan.what.number), (2, 8));
    files.forget(orphan.what.number).expect("forgotten");
    assert_eq!(keys(&mounted, orphan.what.number), (0, 0));
    let to = Attributes {
        permissions: Some(0o640),
        ..SAME
    };
    let new = Extended {
        name: b"system.z",
        value: b"1",
    };
    let set = files.set_attribute(number, new, Put::Create, &to, NOW);
    let inode = files.inode(number).expect("read");
    assert_eq!(set.expect("set").what, inode);
    assert_eq!((inode.permissions, inode.changed), (0o640, NOW));
    let removed = files.remove_attribute(number, b"system.z", &to, NOW);
    assert_eq!(removed.expect("removed").what, inode);
    sound(&mounted, files);
}

/// Two access lists and a label, as large as each may be, in the smallest journal there is.
#[test]
fn a_new_file_has_all_of_its_attributes_at_once() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let largest = value(5, attribute::MAX_SIZE);
    let name = |n: u8| vec![n; attribute::MAX_NAME];
    let attributes = [name(1), name(2), name(3), name(4)];
    let given = attributes.each_ref().map(|name| Extended {
        name,
        value: &largest,
    });
    let target = vec![b't'; 4095];
    let new = New {
        what: What::Symlink(&target),
        ..clerk::root()
    };
    let called = [b'n'; 255];
    let made = files.create_with(ROOT, &called, &new, &given[..3]);
    let number = made.expect("created").what.number;
    for new in &given[..3] {
        assert_eq!(get(files, number, new.name), Ok(new.value.to_vec()));
    }
    sound(&mounted, files);
    let more = files.create_with(ROOT, b"more", &new, &given);
    assert_eq!(more.err(), Some(Error::Fault(Fault::TooLarge)));
    assert_eq!(files.lookup(ROOT, b"more").err(), Some(Error::NotFound));
    sound(&mounted, files);
}

/// A hash as the format has it, and what of it counts here.
fn narrow_hash(mounted: &Mounted<Simulated>, file: InodeNo, name: &[u8]) -> u64 {
    let parts = [
        &b"embrfs attr v1\0\0"[..],
        &mounted.volume().0,
        &file.0.to_le_bytes(),
        name,
    ];
    u64::from(Scalar.hash(&parts).0[0])
}

#[test]
fn attributes_with_one_hash_are_256_at_most() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Narrow).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = make(files, b"file");
    let mut alike = (0..)
        .map(|n| format!("user.{n}").into_bytes())
        .filter(|name| narrow_hash(&mounted, file, name) == 7);
    let all: Vec<Vec<u8>> = alike.by_ref().take(256).collect();
    for name in &all {
        set(files, file, name, name).expect("set");
    }
    let more = alike.next().expect("a name");
    assert_eq!(set(files, file, &more, b""), Err(Error::NoSpace));
    set(files, file, &all[9], &value(9, 9000)).expect("set");
    set(files, file, &all[10], &value(10, 9000)).expect("set");
    remove(files, file, &all[9]).expect("removed");
    set(files, file, &more, b"more").expect("there is a place again");
    assert_eq!(get(files, file, &all[10]), Ok(value(10, 9000)));
    assert_eq!(get(files, file, &all[255]), Ok(all[255].clone()));
    for batch in [1, 7, 1000] {
        let (mut listed, mut from) = (Vec::new(), Some(Mark::FIRST));
        while let Some(mark) = from {
            let some = files.attributes(file, mark, batch).expect("listed");
            listed.extend(some.names.iter().map(|name| name.to_vec()));
            from = some.next;
        }
        let mut expected = all.clone();
        expected[9].clone_from(&more);
        assert_eq!(listed, expected);
    }
    sound(&mounted, files);
}

#[test]
fn snapshots_keep_their_attributes() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    desk::put_nodes(&mounted, &[(1, 0), (2, 1)]);
    let (first, second) = (view(1, &[]), view(2, &[1]));
    let old = names.of(&mounted, &first);
    let new = names.of(&mounted, &second);
    old.format(&clerk::root()).expect("formatted");
    let all: Vec<Vec<u8>> = (0..300).map(|n| format!("user.{n}").into_bytes()).collect();
    let file = make(old, b"file");
    for name in &all {
        set(old, file, name, &value(1, 9000)).expect("set");
    }
    set(old, file, b"user.long", &value(2, 65536)).expect("set");
    set(new, file, b"user.long", &value(3, 5000)).expect("set");
    set(new, file, b"user.new", &value(4, 20000)).expect("set");
    assert_eq!(get(old, file, b"user.long"), Ok(value(2, 65536)));
    assert_eq!(get(new, file, b"user.long"), Ok(value(3, 5000)));
    assert_eq!(get(old, file, b"user.new"), Err(Error::NoAttribute));
    sound(&mounted, old);
    sound(&mounted, new);
    set(new, file, b"user.long", b"short").expect("set");
    sound(&mounted, new);
    remove(new, file, b"user.long").expect("removed");
    assert_eq!(get(new, file, b"user.long"), Err(Error::NoAttribute));
    for name in &all {
        set(new, file, name, &value(5, 9000)).expect("set");
    }
    sound(&mounted, new);
    mounted.checkpoint().expect("a checkpoint");
    // Its own versions are too many for one transaction.
    let before = keys(&mounted, file);
    assert_eq!(before.0, 300 + 1 + 300 + 2);
    new.unlink(ROOT, b"file", Users::None, NOW)
        .expect("unlinked");
    assert_eq!(new.inode(file).err(), Some(Error::NotFound));
    assert_eq!(get(new, file, b"user.long"), Err(Error::NotFound));
    assert_eq!(keys(&mounted, file), (300 + 1, 300 * 3 + 16));
    assert_eq!(get(old, file, b"user.long"), Ok(value(2, 65536)));
    sound(&mounted, old);
    sound(&mounted, new);
    old.unlink(ROOT, b"file", Users::None, NOW)
        .expect("unlinked");
    assert_eq!(keys(&mounted, file), (0, 0));
}

#[test]
fn on_a_full_volume_attributes_can_be_removed() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let mut there: Vec<(InodeNo, Vec<u8>)> = Vec::new();
    let mut file = make(files, b"0");
    let mut made = vec![file];
    for n in 0..5000u32 {
        let name = format!("user.{n}").into_bytes();
        let before = keys(&mounted, file);
        match set(files, file, &name, &value(n as u8, 65536)) {
            Ok(()) => there.push((file, name)),
            Err(Error::NoSpace) => {
                assert_eq!(keys(&mounted, file), before);
                break;
            }
            Err(why) => panic!("{why}"),
        }
        if n % 16 == 15 {
            file = make(files, n.to_string().as_bytes());
            made.push(file);
        }
    }
    assert!(there.len() > 50, "{} fit", there.len());
    sound(&mounted, files);
    // One with all its attributes, then attribute by attribute.
    let gone = made[1];
    files
        .unlink(ROOT, b"15", Users::None, NOW)
        .expect("there is always room for that");
    assert_eq!(keys(&mounted, gone), (0, 0));
    let filler = make(files, b"filler");
    let mut number = 0u32;
    let mut fill = || loop {
        number += 1;
        let name = format!("user.{number}").into_bytes();
        match set(files, filler, &name, &value(1, 65536)) {
            Ok(()) => {}
            Err(Error::NoSpace) => break,
            Err(why) => panic!("{why}"),
        }
    };
    for (file, name) in there.iter().filter(|(file, _)| *file != gone) {
        fill();
        let left = remove(files, *file, name);
        left.expect("there is always room for that");
    }
    sound(&mounted, files);
    set(files, made[0], b"user.again", &value(1, 65536)).expect("there is room again");
}

#[test]
fn without_memory_attributes_stay() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = make(files, b"file");
    type Operation = fn(Files<'_, Simulated>, InodeNo) -> Result<(), Error>;
    let operations: [Operation; 5] = [
        |files, file| set(files, file, b"user.a", &[1; 100]),
        |files, file| set(files, file, b"user.a", &[2; 20000]),
        |files, file| set(files, file, b"user.a", &[3; 9000]),
        |files, file| remove(files, file, b"user.a"),
        |files, _| {
            let given = Extended {
                name: b"user.b",
                value: &[7; 5000],
            };
            files
                .create_with(ROOT, b"other", &clerk::root(), &[given])
                .map(|_| ())
        },
    ];
    let walked = || clerk::walk(files, 10).unwrap_or_else(|why| panic!("{why}"));
    for (number, operation) in operations.iter().enumerate() {
        let before = walked();
        for nth in 1.. {
            failpoint::fail_nth(nth);
            let result = operation(files, file);
            let failed = failpoint::off().failed;
            if failed == 0 {
                result.expect("done");
                assert!(nth > 3, "operation {number} needs no memory");
                break;
            }
            assert_eq!(result, Err(Error::Fault(Fault::NoMemory)));
            assert_eq!(walked(), before, "operation {number}, allocation {nth}");
        }
        assert_ne!(walked(), before, "operation {number}");
    }
}

#[test]
fn damage_is_found_and_named() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = make(files, b"file");
    let stored = |kind| {
        let (first, last) = (Item::new(file, kind, 0), Item::new(file, kind, u64::MAX));
        let mut items = view.items(&mounted, first, last);
        let mut all = Vec::new();
        while let Some((item, value)) = items.next().expect("read") {
            all.push((item, value.to_vec()));
        }
        all
    };
    let put = |item: Item, value: &[u8]| {
        let mut txn = mounted.begin().expect("begun");
        txn.set(NAMES, item.at(SnapshotId::FIRST), value)
            .expect("set");
        txn.commit().expect("committed");
    };
    let damage = || match get(files, file, b"user.a") {
        Err(Error::Corrupted(damage)) => (damage.item, damage.wrong),
        other => panic!("{other:?}"),
    };
    set(files, file, b"user.a", &value(1, 10000)).expect("set");
    let (attribute, pieces) = (stored(Kind::ATTRIBUTE), stored(Kind::PIECE));
    for (item, value) in &pieces {
        put(*item, b"");
        assert_eq!(damage(), (*item, Wrong::Missing));
        put(*item, b"\x02bad");
        assert_eq!(damage(), (*item, Wrong::Senseless));
        put(*item, &value[..value.len() - 1]);
        assert_eq!(damage(), (*item, Wrong::Disagrees));
        put(*item, value);
    }
    let (item, whole) = &attribute[0];
    put(*item, b"\x01\x07");
    assert_eq!(damage(), (*item, Wrong::Senseless));
    let listed = files.attributes(file, Mark::FIRST, 10).err();
    assert_eq!(
        listed,
        Some(Error::Corrupted(embr_engine::names::Damage {
            item: *item,
            wrong: Wrong::Senseless,
        }))
    );
    put(*item, whole);
    assert_eq!(get(files, file, b"user.a"), Ok(value(1, 10000)));
    // A damaged attribute goes with its file.
    put(pieces[1].0, b"");
    files
        .unlink(ROOT, b"file", Users::None, NOW)
        .expect("unlinked");
    assert_eq!(keys(&mounted, file), (0, 0));
}

/// Who reads a value while others write it gets one that was written, never parts of two.
#[test]
fn values_are_read_whole() {
    let mounted = mounted();
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let file = make(files, b"file");
    let values: Vec<Vec<u8>> = [(1, 65536), (2, 9000), (3, 30000), (4, 100), (5, 65536)]
        .map(|(n, size)| value(n, size))
        .to_vec();
    let known: BTreeSet<&Vec<u8>> = values.iter().collect();
    set(files, file, b"user.a", &values[0]).expect("set");
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let value = get(files, file, b"user.a").expect("read");
                        assert!(known.contains(&value), "{} bytes", value.len());
                    }
                })
            })
            .collect();
        while !readers.iter().all(|r| r.is_finished()) {
            for value in &values {
                set(files, file, b"user.a", value).expect("set");
            }
        }
        for reader in readers {
            reader.join().expect("only whole values");
        }
    });
}
