// SPDX-License-Identifier: GPL-2.0

//! Operations on names, drawn from a seed, beside a plain model: on a volume that is unmounted now and then, on one with snapshots, and
//! on one that crashes.

use embr_engine::check::Depth;
use embr_engine::env::Hasher as _;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::inode::MAX_LINKS;
use embr_engine::format::name;
use embr_engine::format::name::Name;
use embr_engine::hash::Scalar;
use embr_engine::names::Attributes;
use embr_engine::names::Cookie;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Mode;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::names::Wrong;
use embr_engine::tree::Range;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
use embrfs_sim::clerk;
use embrfs_sim::clerk::Clerk;
use embrfs_sim::desk;
use embrfs_sim::files::Files as Model;
use embrfs_sim::files::Refused;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::recording;
use embrfs_sim::recording::Recording;
use embrfs_sim::recording::State;
use embrfs_sim::states::Plan;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

fn drives(chance: &Chance, count: usize) -> Fleet {
    let fleet = Fleet::new(chance.next(), &vec![Bytes(32 << 20); count]);
    let geometry = Geometry::new(1, count as u8 - 1).expect("a geometry");
    machine::make(chance.next(), &fleet, geometry).expect("made");
    fleet
}

fn mount(chance: &Chance, fleet: &Fleet) -> Mounted<Simulated> {
    machine::mount(chance.next(), fleet, machine::READ_WRITE).expect("mounted")
}

/// Compares everything.
fn compare(names: &Names, mounted: &Mounted<Simulated>, view: &View, model: &Model, batch: usize) {
    let files = names.of(mounted, view);
    inspector::check(mounted, Some(files), Depth::Tree, &[]).unwrap_or_else(|why| panic!("{why}"));
    let found = clerk::walk(files, batch).unwrap_or_else(|why| panic!("{why}"));
    for (number, file) in &model.files {
        assert_eq!(found.files.get(number), Some(file), "inode {number}");
    }
    assert_eq!(found.files.len(), model.files.len());
}

fn beside_the_model(width: HashWidth, names_in_all: usize, steps: usize) {
    let seed = seed();
    let chance = Chance::new(seed);
    let fleet = drives(&chance, 1);
    let mut mounted = mount(&chance, &fleet);
    let mut names = Names::try_new(width).expect("memory");
    let view = View::first();
    names
        .of(&mounted, &view)
        .format(&clerk::root())
        .expect("formatted");
    let mut model = clerk::empty();
    let mut clerk = Clerk::new(&chance, names_in_all);
    for step in 0..steps {
        (clerk.step(names.of(&mounted, &view), &mut model))
            .unwrap_or_else(|why| panic!("step {step}: {why}"));
        match chance.below(400) {
            0 => {
                mounted.close().expect("closed");
                mounted = mount(&chance, &fleet);
                names = Names::try_new(width).expect("memory");
                compare(&names, &mounted, &view, &model, 50);
            }
            1 => mounted.checkpoint().expect("a checkpoint"),
            2..=5 => {
                let batch = chance.one(&[1, 2, 7, 1000]);
                compare(&names, &mounted, &view, &model, batch);
            }
            _ => {}
        }
    }
    compare(&names, &mounted, &view, &model, 3);
    for (what, count) in &clerk.seen {
        println!("{count:6} {} {:?}", what.0, what.1);
    }
    for what in [
        ("create", None),
        ("create", Some(Refused::Exists)),
        ("create", Some(Refused::NotDirectory)),
        ("create", Some(Refused::NotFound)),
        ("create", Some(Refused::NameTooLong)),
        ("create", Some(Refused::Invalid)),
        ("mkdir", None),
        ("mknod", None),
        ("symlink", None),
        ("symlink", Some(Refused::NameTooLong)),
        ("tmpfile", None),
        ("link", None),
        ("link", Some(Refused::NotPermitted)),
        ("unlink", None),
        ("unlink", Some(Refused::IsDirectory)),
        ("rmdir", None),
        ("rmdir", Some(Refused::NotEmpty)),
        ("rmdir", Some(Refused::NotDirectory)),
        ("rename", None),
        ("rename", Some(Refused::Invalid)),
        ("rename", Some(Refused::NotEmpty)),
        ("rename", Some(Refused::IsDirectory)),
        ("rename", Some(Refused::NotDirectory)),
        ("rename no-replace", Some(Refused::Exists)),
        ("rename exchange", None),
        ("rename exchange", Some(Refused::Invalid)),
        ("rename whiteout", None),
        ("forget", None),
        ("setattr", None),
        ("getxattr", None),
        ("getxattr", Some(Refused::NoAttribute)),
        ("setxattr", None),
        ("setxattr", Some(Refused::NotFound)),
        ("setxattr", Some(Refused::TooLong)),
        ("setxattr", Some(Refused::NameTooLong)),
        ("setxattr", Some(Refused::Invalid)),
        ("setxattr", Some(Refused::Exists)),
        ("setxattr", Some(Refused::NoAttribute)),
        ("removexattr", None),
        ("removexattr", Some(Refused::NoAttribute)),
    ] {
        assert!(clerk.seen.contains_key(&what), "{what:?} never happened");
    }
}

#[test]
fn names_are_as_the_model_has_them() {
    beside_the_model(HashWidth::Full, 40, 15000);
}

#[test]
fn names_that_collide_are_as_the_model_has_them() {
    beside_the_model(HashWidth::Narrow, 600, 15000);
}

/// Versions of items, written as they are, against the plain meaning of what is seen.
#[test]
fn a_view_has_the_newest_version_that_it_sees() {
    let seed = seed();
    let chance = Chance::new(seed);
    let fleet = drives(&chance, 1);
    let mounted = mount(&chance, &fleet);
    let item = |n: usize| Item::new(InodeNo(5), Kind::ENTRY, n as u64);
    let mut versions: BTreeMap<(Item, u64), Vec<u8>> = BTreeMap::new();
    for round in 0..40 {
        let mut txn = mounted.begin().expect("begun");
        for _ in 0..10 {
            let (item, id) = (item(chance.below(12)), 1 + chance.below(9) as u64);
            let value = match chance.below(3) {
                0 => Vec::new(),
                _ => chance.next().to_le_bytes().to_vec(),
            };
            txn.set(NAMES, item.at(SnapshotId(id)), &value)
                .expect("set");
            versions.insert((item, id), value);
        }
        txn.commit().expect("committed");
        if round % 15 == 5 {
            mounted.checkpoint().expect("a checkpoint");
        }
        let mut seen: Vec<SnapshotId> = (1..10)
            .filter(|_| chance.below(2) == 0)
            .map(SnapshotId)
            .collect();
        let current = seen.pop().unwrap_or(SnapshotId::FIRST);
        let view = View::new(current, &seen).expect("memory").expect("a view");
        let newest = |item: Item| {
            let mut of_item = versions.range((item, 0)..=(item, u64::MAX)).rev();
            let (_, value) = of_item.find(|((_, id), _)| view.sees(SnapshotId(*id)))?;
            Some(value.clone()).filter(|v| !v.is_empty())
        };
        let (first, last) = (chance.below(12), chance.below(12));
        let mut items = view.items(&mounted, item(first), item(last));
        for n in first..=last {
            let expected = newest(item(n));
            let got = view.get(&mounted, item(n)).expect("read");
            assert_eq!(got.map(|v| v.to_vec()), expected, "{:?}", item(n));
            if let Some(value) = expected {
                let next = items
                    .next()
                    .expect("read")
                    .map(|(item, v)| (item, v.to_vec()));
                assert_eq!(next, Some((item(n), value)));
            }
        }
        assert!(items.next().expect("read").is_none());
    }
}

/// What is done in one snapshot is not seen in the others.
#[test]
fn snapshots_keep_their_files() {
    let seed = seed();
    let chance = Chance::new(seed);
    for width in [HashWidth::Full, HashWidth::Narrow] {
        let fleet = drives(&chance, 1);
        let mounted = mount(&chance, &fleet);
        let names = Names::try_new(width).expect("memory");
        let mut clerk = Clerk::new(&chance, 60);
        let ids = |list: &[u64]| list.iter().copied().map(SnapshotId).collect::<Vec<_>>();
        let view = |id, before: &[u64]| {
            View::new(SnapshotId(id), &ids(before))
                .expect("memory")
                .expect("a view")
        };
        let views = [view(1, &[]), view(2, &[1]), view(3, &[1]), view(4, &[1, 2])];
        let grew_from = [0, 0, 0, 1];
        desk::put_nodes(&mounted, &[(1, 0), (2, 1), (3, 1), (4, 2)]);
        let first = names.of(&mounted, &views[0]);
        first.format(&clerk::root()).expect("formatted");
        let mut models = vec![clerk::empty()];
        let work = |clerk: &mut Clerk, models: &mut Vec<Model>, n: usize| {
            for _ in 0..250 {
                clerk
                    .step(names.of(&mounted, &views[n]), &mut models[n])
                    .unwrap_or_else(|why| panic!("{why}"));
            }
        };
        work(&mut clerk, &mut models, 0);
        for n in 1..4 {
            models.push(models[grew_from[n]].clone());
            work(&mut clerk, &mut models, n);
            if n == 2 {
                // The second is not grown from yet, and goes on beside the third.
                work(&mut clerk, &mut models, 1);
                mounted.checkpoint().expect("a checkpoint");
            }
        }
        for (view, model) in views.iter().zip(&models) {
            compare(&names, &mounted, view, model, 10);
            let found =
                clerk::walk(names.of(&mounted, view), 10).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(&found, model);
        }
    }
}

/// Operations that were recorded, and what each left: all files, and the numbers that were given until then.
struct Story {
    recording: Recording,
    left: Vec<(Model, BTreeSet<u64>)>,
    width: HashWidth,
}

fn story(chance: &Chance) -> Story {
    let width = chance.one(&[HashWidth::Full, HashWidth::Narrow]);
    let fleet = drives(chance, chance.one(&[1, 2]));
    let mounted = mount(chance, &fleet);
    let names = Names::try_new(width).expect("memory");
    let view = View::first();
    names
        .of(&mounted, &view)
        .format(&clerk::root())
        .expect("formatted");
    mounted.sync().expect("durable");
    fleet.record();
    let mut model = clerk::empty();
    let mut clerk = Clerk::new(chance, 30);
    let mut left = vec![(model.clone(), clerk.numbers.clone())];
    let (sync_in, checkpoint_in) = (chance.one(&[2, 8, 30]), chance.one(&[10, 40]));
    for number in 1..=30 + chance.below(120) {
        // Noted before: from here on it may be there.
        fleet.note(recording::begun(number));
        (clerk.step(names.of(&mounted, &view), &mut model)).unwrap_or_else(|why| panic!("{why}"));
        left.push((model.clone(), clerk.numbers.clone()));
        if chance.below(sync_in) == 0 {
            mounted.sync().expect("durable");
            fleet.note(recording::durable(number));
        }
        if chance.below(checkpoint_in) == 0 {
            mounted.checkpoint().expect("a checkpoint");
            fleet.note(recording::durable(number));
        }
    }
    Story {
        recording: fleet.recorded(),
        left,
        width,
    }
}

impl Story {
    /// Whether a volume that this crash left is one that may be left. Says how many orphans and attributes there were.
    fn check(&self, seed: u64, state: &State) -> Result<(u64, u64), String> {
        let chance = Chance::new(seed);
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let fleet = Fleet::start(chance.next(), &snapshot);
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let names = Names::try_new(self.width).map_err(|why| format!("{why:?}"))?;
        let view = View::first();
        let files = names.of(&mounted, &view);
        inspector::check(&mounted, Some(files), Depth::Tree, &[])?;
        let found = clerk::walk(files, 10)?;
        let (durable, committed) = self.recording.bounds(state.cut);
        let mut allowed = self.left[durable..=committed].iter();
        let (model, numbers) = allowed
            .find(|(model, _)| *model == found)
            .ok_or(format!("no prefix from {durable} to {committed}"))?;
        let orphans = model.orphans().len() as u64;
        let attributes = model.files.values().map(|f| f.attributes.len() as u64);
        let attributes = attributes.sum();
        let forgotten = files.forget_orphans().map_err(|why| why.to_string())?;
        if forgotten != orphans {
            return Err(format!("{forgotten} of {orphans} orphans removed"));
        }
        let mut model = model.without_orphans();
        if clerk::walk(files, 10)? != model {
            return Err("something else went with the orphans".into());
        }
        let mut clerk = Clerk::new(&chance, 30);
        clerk.numbers = numbers.clone();
        for _ in 0..5 {
            clerk
                .step(files, &mut model)
                .map_err(|why| format!("going on: {why}"))?;
        }
        inspector::check(&mounted, Some(files), Depth::Copies, &[])?;
        match clerk::walk(files, 10)? == model {
            true => Ok((orphans, attributes)),
            false => Err("going on: something else".into()),
        }
    }
}

#[test]
fn crashes_leave_a_prefix_of_operations() {
    let seed = seed();
    let chance = Chance::new(seed);
    let (mut states, mut orphans, mut attributes) = (0, 0, 0);
    while states < 1500 {
        let story = story(&chance);
        let plan = Plan {
            seed: chance.next(),
            subsets: 3,
            tears: 1,
            mixed: 20,
        };
        for (state, own) in story.recording.some(plan, 150.0) {
            states += 1;
            match story.check(own.next(), &state) {
                Ok(found) => {
                    orphans += found.0;
                    attributes += found.1;
                }
                Err(why) => panic!("{state}: {why}"),
            }
        }
    }
    println!("{states} states, {orphans} orphans, {attributes} attributes");
    assert!(orphans > 0, "no orphan was ever left");
    assert!(attributes > 0, "no attribute was ever left");
}

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        ..clerk::root()
    }
}

const NOW: Timestamp = Timestamp {
    seconds: 9,
    nanos: 9,
};

/// A hash as the format has it, and what of it counts here.
fn narrow_hash(mounted: &Mounted<Simulated>, directory: u64, name: &[u8]) -> u64 {
    let parts = [
        &b"embrfs name v1\0\0"[..],
        &mounted.volume().0,
        &directory.to_le_bytes(),
        name,
    ];
    u64::from(Scalar.hash(&parts).0[0])
}

#[test]
fn names_with_one_hash_are_256_at_most() {
    let chance = Chance::new(seed());
    let fleet = drives(&chance, 1);
    let mounted = mount(&chance, &fleet);
    let (names, view) = (
        Names::try_new(HashWidth::Narrow).expect("memory"),
        View::first(),
    );
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let wanted = chance.next() & 0xff;
    let mut alike = (0..)
        .map(|n| format!("{n}").into_bytes())
        .filter(|name| narrow_hash(&mounted, 1, name) == wanted);
    let root = InodeNo::ROOT;
    let all: Vec<Vec<u8>> = alike.by_ref().take(256).collect();
    for name in &all {
        files.create(root, name, &new(What::Fifo)).expect("created");
    }
    let more = alike.next().expect("a name");
    let why = files.create(root, &more, &new(What::Fifo)).err();
    assert_eq!(why, Some(Error::NoSpace));
    let listed = |from| {
        let batch = files.readdir(root, from, 1000).expect("read");
        batch
            .entries
            .iter()
            .map(|e| (e.cookie, e.name.to_vec()))
            .collect::<Vec<_>>()
    };
    let before = listed(Cookie::FIRST);
    let expected = (0u64..)
        .zip(&all)
        .map(|(n, name)| (Cookie(wanted * 256 + n + 2), name.clone()));
    assert_eq!(before, expected.collect::<Vec<_>>());
    let gone = chance.below(256);
    files
        .unlink(root, &all[gone], Users::None, NOW)
        .expect("unlinked");
    files
        .create(root, &more, &new(What::Socket))
        .expect("there is a place again");
    let mut after = before;
    after[gone].1 = more;
    assert_eq!(listed(Cookie::FIRST), after);
    assert_eq!(listed(after[200].0), after[200..]);
    assert_eq!(listed(Cookie(u64::MAX)), []);
}

#[test]
fn damage_is_found_and_named() {
    let chance = Chance::new(seed());
    let fleet = drives(&chance, 1);
    let mounted = mount(&chance, &fleet);
    let (names, view) = (
        Names::try_new(HashWidth::Full).expect("memory"),
        View::first(),
    );
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    assert_eq!(files.format(&clerk::root()).err(), Some(Error::Exists));
    let make = |directory, name: &[u8], what| {
        files
            .create(directory, name, &new(what))
            .expect("created")
            .what
            .number
    };
    let put = |item: Item, value: &[u8]| {
        let mut txn = mounted.begin().expect("begun");
        txn.set(NAMES, item.at(SnapshotId::FIRST), value)
            .expect("set");
        txn.commit().expect("committed");
    };
    let damage = |result: Result<(), Error>| match result {
        Err(Error::Corrupted(damage)) => (damage.inode(), damage.item.kind(), damage.wrong),
        other => panic!("{other:?}"),
    };
    let root = ROOT;
    // An empty value is none: the inode is missing, and its entry is not.
    let lost = make(root, b"lost", What::Regular);
    put(Item::inode(lost), b"");
    let unlinked = files.unlink(root, b"lost", Users::None, NOW).map(|_| ());
    assert_eq!(damage(unlinked), (lost, Kind::INODE, Wrong::Missing));
    put(Item::inode(lost), &[1; 100]);
    assert!(
        matches!(damage(files.inode(lost).map(|_| ())), (n, Kind::INODE, Wrong::Inode(_)) if n == lost)
    );
    // An inode with as many names as there can be, or of another type than its entry says.
    let full = make(root, b"full", What::Regular);
    let mut inode = files.inode(full).expect("read");
    inode.nlink = MAX_LINKS;
    put(Item::inode(full), &inode.encode().expect("memory"));
    let linked = files.link(full, root, b"more", NOW).err();
    assert_eq!(linked, Some(Error::TooManyLinks));
    inode.kind = embr_engine::format::inode::FileType::Fifo;
    put(Item::inode(full), &inode.encode().expect("memory"));
    let unlinked = files.unlink(root, b"full", Users::None, NOW).map(|_| ());
    assert_eq!(damage(unlinked).2, Wrong::Disagrees);
    // Directories that are above each other: no walk up goes on for ever.
    let mut chain = vec![make(root, b"0", What::Directory)];
    for n in 1..12 {
        let last = chain[n - 1];
        chain.push(make(last, format!("{n}").as_bytes(), What::Directory));
    }
    let other = make(root, b"other", What::Directory);
    for back_to in [0, 1, 5, 10] {
        // The directory that the circle begins with: its only parent is the last of the chain.
        let at = chain[back_to];
        let first = Item::new(at, Kind::PARENT, 0);
        let last = Item::new(at, Kind::PARENT, u64::MAX);
        let (item, old) = view
            .items(&mounted, first, last)
            .next()
            .expect("read")
            .expect("a parent");
        let mut value = name::no_parents().expect("memory");
        name::push_parent(&mut value, chain[11], Name::new(b"x").expect("a name")).expect("memory");
        put(item, &value);
        let renamed = files.rename(
            (root, b"other"),
            (chain[11], b"y"),
            Mode::Replace,
            Users::None,
            NOW,
        );
        assert_eq!(damage(renamed.map(|_| ())).2, Wrong::Circle);
        put(item, &old);
    }
    let moved = files.rename(
        (root, b"other"),
        (chain[11], b"y"),
        Mode::Replace,
        Users::None,
        NOW,
    );
    assert_eq!(moved.expect("renamed").what.moved, other);
}

/// An operation for which memory is short at any point does not happen in part.
#[test]
fn without_memory_nothing_changes() {
    type Operation = fn(Files<'_, Simulated>) -> Result<(), Error>;
    let operations: [(&str, Operation); 14] = [
        ("mkdir", |f| {
            f.create(ROOT, b"d", &new(What::Directory)).map(|_| ())
        }),
        ("mkdir", |f| {
            f.create(ROOT, b"e", &new(What::Directory)).map(|_| ())
        }),
        ("create", |f| {
            f.create(ROOT, b"a", &new(What::Regular)).map(|_| ())
        }),
        ("symlink", |f| {
            f.create(ROOT, b"s", &new(What::Symlink(b"a"))).map(|_| ())
        }),
        ("link", |f| {
            f.link(at(f, b"a")?, at(f, b"d")?, b"b", NOW).map(|_| ())
        }),
        ("setattr", |f| {
            let to = Attributes {
                uid: Some(7),
                ..Attributes::default()
            };
            f.set_attributes(at(f, b"a")?, &to, NOW).map(|_| ())
        }),
        ("rename", |f| {
            rename(f, (ROOT, b"e"), (at(f, b"d")?, b"e"), Mode::NoReplace)
        }),
        ("exchange", |f| {
            rename(f, (ROOT, b"a"), (at(f, b"d")?, b"e"), Mode::Exchange)
        }),
        ("rename over", |f| {
            rename(f, (ROOT, b"s"), (at(f, b"d")?, b"b"), Mode::Replace)
        }),
        ("whiteout", |f| {
            rename(f, (at(f, b"d")?, b"e"), (ROOT, b"z"), Mode::Whiteout)
        }),
        ("rmdir", |f| {
            f.rmdir(ROOT, b"a", Users::Some, NOW).map(|_| ())
        }),
        ("unlink", |f| {
            f.unlink(ROOT, b"z", Users::None, NOW).map(|_| ())
        }),
        ("tmpfile", |f| {
            f.create_orphan(&new(What::Regular)).map(|_| ())
        }),
        ("link", |f| {
            let orphans = f.orphans(InodeNo::NONE, 9)?;
            let number = orphans.last().ok_or(Error::NotFound)?;
            f.link(*number, ROOT, b"again", NOW).map(|_| ())
        }),
    ];
    let chance = Chance::new(seed());
    let fleet = drives(&chance, 1);
    let mounted = mount(&chance, &fleet);
    let (names, view) = (
        Names::try_new(HashWidth::Full).expect("memory"),
        View::first(),
    );
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let walked = || clerk::walk(files, 10).unwrap_or_else(|why| panic!("{why}"));
    for (what, operation) in operations {
        let before = walked();
        for nth in 1.. {
            failpoint::fail_nth(nth);
            let result = operation(files);
            let failed = failpoint::off().failed;
            if failed == 0 {
                result.unwrap_or_else(|why| panic!("{what}: {why}"));
                assert!(nth > 3, "{what} needs no memory");
                break;
            }
            assert_eq!(
                result,
                Err(Error::Fault(Fault::NoMemory)),
                "{what}, allocation {nth}"
            );
            assert_eq!(walked(), before, "{what}, allocation {nth}");
        }
        assert_ne!(walked(), before, "{what}");
    }
}

const ROOT: InodeNo = InodeNo::ROOT;

fn at(files: Files<'_, Simulated>, name: &[u8]) -> Result<InodeNo, Error> {
    files.lookup(ROOT, name).map(|target| target.inode)
}

fn rename(
    files: Files<'_, Simulated>,
    from: (InodeNo, &[u8]),
    to: (InodeNo, &[u8]),
    mode: Mode,
) -> Result<(), Error> {
    files.rename(from, to, mode, Users::None, NOW).map(|_| ())
}

/// Whatever kind of item a file has, all of them go with it, and no other's.
#[test]
fn nothing_is_left_of_a_removed_file() {
    let chance = Chance::new(seed());
    let fleet = drives(&chance, 1);
    let mounted = mount(&chance, &fleet);
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let first = View::first();
    let second = View::new(SnapshotId(2), &[SnapshotId(1)])
        .expect("memory")
        .expect("a view");
    names
        .of(&mounted, &first)
        .format(&clerk::root())
        .expect("formatted");
    for view in [&first, &second] {
        let files = names.of(&mounted, view);
        let made = [b"a", b"b", b"c"].map(|name| {
            files
                .create(ROOT, name, &new(What::Regular))
                .expect("created")
                .what
                .number
        });
        for number in made {
            for (at, way) in [(7, Way::Inline), (99, Way::Sealed)] {
                let dirty = [Dirty {
                    at: FileBlock(at),
                    bytes: &[1; BLOCK_SIZE],
                }];
                let done = files.write(number, &dirty, way, &Written::default());
                done.expect("written");
            }
        }
        let mut txn = mounted.begin().expect("begun");
        for number in made {
            let item = Item::new(number, Kind::ATTRIBUTE, 7);
            txn.set(NAMES, item.at(view.current()), b"x").expect("set");
        }
        txn.commit().expect("committed");
        let keys = || {
            let mut scan = mounted.scan(NAMES, Range::ALL).expect("the tree");
            let mut found = BTreeMap::new();
            while let Some((key, _)) = scan.next().expect("read") {
                *found.entry(Item::of(key).0.owner()).or_insert(0) += 1;
            }
            made.map(|number| found.get(&number).copied().unwrap_or(0))
        };
        assert_eq!(keys(), [5, 5, 5]);
        files
            .unlink(ROOT, b"b", Users::None, NOW)
            .expect("unlinked");
        assert_eq!(keys(), [5, 0, 5]);
        files
            .unlink(ROOT, b"a", Users::Some, NOW)
            .expect("unlinked");
        files.forget(made[0]).expect("forgotten");
        assert_eq!(keys(), [0, 0, 5]);
        files
            .unlink(ROOT, b"c", Users::None, NOW)
            .expect("unlinked");
    }
}
