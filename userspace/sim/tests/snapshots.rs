// SPDX-License-Identifier: GPL-2.0

//! Snapshots: taken, grown from, deleted and swept while names and files change, beside models of what each of them holds. At the end
//! all but one are deleted, and nothing of them may be left.

use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::check::Oddity;
use embr_engine::check::Trouble;
use embr_engine::format::snapshot;
use embr_engine::format::snapshot::Node;
use embr_engine::format::snapshot::State;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::HashWidth;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::Wrong;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use embrfs_sim::clerk;
use embrfs_sim::clerk::Clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::files::Files as Model;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::portrait;
use embrfs_sim::recording;
use embrfs_sim::recording::Recording;
use embrfs_sim::recording::State as Crash;
use embrfs_sim::scribe::Scribe;
use embrfs_sim::states::Plan;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::rc::Rc;

const NOW: Timestamp = Timestamp {
    seconds: 7,
    nanos: 7,
};

/// What a snapshot or head holds, and whether it goes on.
struct Held<T> {
    what: T,
    is_head: bool,
}

/// A volume with snapshots, beside a model of each.
struct Album<'c, T> {
    chance: &'c Chance,
    fleet: Fleet,
    mounted: Option<Mounted<Simulated>>,
    width: HashWidth,
    names: Names,
    held: BTreeMap<Vec<u8>, Held<T>>,
    given: u32,
    /// Whether each step is one change.
    is_slow: bool,
    /// How often each thing was done.
    seen: BTreeMap<&'static str, u64>,
}

/// Something that is kept in several versions.
trait Kept: Sized {
    /// What another one that grows from it begins with.
    fn copied(&self) -> Self;
    /// Changes it.
    fn work(&mut self, files: Files<'_, Simulated>, view: &View);
    /// Whether it is what it should be.
    fn compare(&self, files: Files<'_, Simulated>) -> Result<(), String>;
}

impl<'c, T: Kept> Album<'c, T> {
    fn new(
        chance: &'c Chance,
        fleet: Fleet,
        width: HashWidth,
        first: impl FnOnce(&Mounted<Simulated>, &Names, &View) -> T,
    ) -> Self {
        let mounted = desk::mount(chance, &fleet);
        let names = Names::try_new(width).expect("memory");
        let what = first(&mounted, &names, &View::first());
        let main = Held {
            what,
            is_head: true,
        };
        Album {
            chance,
            fleet,
            mounted: Some(mounted),
            width,
            names,
            held: [(Vec::new(), main)].into(),
            given: 0,
            is_slow: false,
            seen: BTreeMap::new(),
        }
    }

    fn mounted(&self) -> &Mounted<Simulated> {
        self.mounted.as_ref().expect("mounted")
    }

    fn view(&self, name: &[u8]) -> Arc<View> {
        self.names.open(self.mounted(), name).expect("opened")
    }

    fn name(&mut self) -> Vec<u8> {
        self.given += 1;
        format!("n{}", self.given).into_bytes()
    }

    fn one(&self, is_head: bool) -> Option<Vec<u8>> {
        let all = self.held.iter().filter(|(_, held)| held.is_head == is_head);
        let all: Vec<_> = all.map(|(name, _)| name.clone()).collect();
        (!all.is_empty()).then(|| all[self.chance.below(all.len())].clone())
    }

    fn work(&mut self) {
        let name = self.one(true).expect("a head");
        let view = self.view(&name);
        let held = self.held.get_mut(&name).expect("known");
        let mounted = self.mounted.as_ref().expect("mounted");
        held.what.work(self.names.of(mounted, &view), &view);
    }

    fn take(&mut self) {
        let (from, name) = (self.one(true).expect("a head"), self.name());
        let view = self.view(&from);
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        files.take_snapshot(&name, NOW).expect("taken");
        assert_eq!(
            files.take_snapshot(&name, NOW).err(),
            Some(Error::Exists),
            "one name twice"
        );
        let what = self.held[&from].what.copied();
        if !self.is_slow && self.chance.below(2) == 0 {
            // Who had it open goes on.
            let held = self.held.get_mut(&from).expect("known");
            held.what.work(files, &view);
        }
        let is_head = false;
        self.held.insert(name, Held { what, is_head });
    }

    fn grow(&mut self) -> bool {
        let Some(from) = self.one(false) else {
            return false;
        };
        let name = self.name();
        (self.names.grow(self.mounted(), &from, &name, NOW)).expect("grown");
        let what = self.held[&from].what.copied();
        let is_head = true;
        self.held.insert(name, Held { what, is_head });
        true
    }

    fn delete(&mut self) -> bool {
        let is_head = self.chance.below(3) == 0;
        let Some(name) = self.one(is_head).filter(|name| !name.is_empty()) else {
            return false;
        };
        let view = self.view(&name);
        let refused = self.names.delete(self.mounted(), &name).err();
        assert_eq!(refused, Some(Error::Busy), "deleted while it is in use");
        drop(view);
        if self.chance.below(2) == 0 {
            self.delete_and_count(&name);
        } else {
            self.names.delete(self.mounted(), &name).expect("deleted");
        }
        self.held.remove(&name);
        true
    }

    /// What is said to be had by a snapshot alone is what comes back when it is deleted.
    fn delete_and_count(&self, name: &[u8]) {
        while self.names.sweep(self.mounted()).expect("swept") {}
        let alone = self.names.exclusive(self.mounted(), name).expect("counted");
        let before = self.blocks();
        let (shared, _) = contents::references(self.mounted()).expect("readable");
        let is_shared = !shared.is_empty();
        self.names.delete(self.mounted(), name).expect("deleted");
        while self.names.sweep(self.mounted()).expect("swept") {}
        let after = self.blocks();
        let name = String::from_utf8_lossy(name);
        let said = format!("{name} has {alone}, and of {before} blocks {after} are left");
        match is_shared {
            false => assert_eq!(alone.0, before - after, "{said}"),
            true => assert!(alone.0 <= before - after, "{said}"),
        }
    }

    /// How many blocks there are of files, in all their versions.
    fn blocks(&self) -> u64 {
        let engrams = contents::engrams(self.mounted()).expect("readable");
        let live = engrams.values().map(|known| known.live.count() as u64);
        let items = contents::scan(self.mounted(), NAMES).expect("scanned");
        let inline = items.iter().filter(|(key, value)| {
            let item = Item::of(*key).0;
            item.kind() == Kind::INLINE && item.owner() != InodeNo::NONE && !value.is_empty()
        });
        live.sum::<u64>() + inline.count() as u64
    }

    /// What is said to differ between two of them does, and nothing else.
    fn differ(&self) -> usize {
        let all: Vec<_> = self.held.keys().collect();
        let one = || self.view(all[self.chance.below(all.len())]);
        let (old, new) = (one(), one());
        let told = portrait::differ(self.mounted(), &self.names, (&old, &new));
        told.unwrap_or_else(|why| panic!("{why}"))
    }

    fn sweep(&mut self) -> bool {
        self.names.sweep(self.mounted()).expect("swept")
    }

    fn step(&mut self) {
        let (what, done) = match self.chance.below(20) {
            0..7 => ("work", {
                self.work();
                true
            }),
            7..11 => ("take", {
                self.take();
                true
            }),
            11 => ("grow", self.grow()),
            12..15 => ("delete", self.delete()),
            15..18 => ("sweep", self.sweep()),
            18 => ("checkpoint", {
                self.mounted().checkpoint().expect("a checkpoint");
                true
            }),
            _ => ("mount", {
                (self.mounted.take().expect("mounted").close()).expect("closed");
                self.mounted = Some(desk::mount(self.chance, &self.fleet));
                self.names = Names::try_new(self.width).expect("memory");
                true
            }),
        };
        *self.seen.entry(what).or_default() += u64::from(done);
    }

    fn compare(&self) {
        let listed = self.names.snapshots(self.mounted()).expect("listed");
        let listed: BTreeSet<_> = listed
            .iter()
            .map(|l| (l.name.to_vec(), l.is_head))
            .collect();
        let held = self.held.iter().map(|(name, h)| (name.clone(), h.is_head));
        assert_eq!(listed, held.collect());
        for (name, held) in &self.held {
            let view = self.view(name);
            let files = self.names.of(self.mounted(), &view);
            if let Err(why) = held.what.compare(files) {
                panic!("{}: {why}", String::from_utf8_lossy(name));
            }
        }
        self.differ();
        let view = self.view(b"");
        let files = self.names.of(self.mounted(), &view);
        (inspector::check(self.mounted(), Some(files), Depth::Tree, &[]))
            .unwrap_or_else(|why| panic!("{why}"));
    }

    /// Deletes all but what the volume shows by itself.
    fn clear(&mut self) {
        let names: Vec<_> = self.held.keys().cloned().collect();
        for name in names.iter().filter(|name| !name.is_empty()) {
            self.names.delete(self.mounted(), name).expect("deleted");
            self.held.remove(name);
            if self.chance.below(2) == 0 {
                self.work();
            }
            if self.chance.below(2) == 0 {
                self.sweep();
            }
        }
        let mut steps = 0;
        while self.sweep() {
            steps += 1;
            assert!(steps < 3000, "sweeping does not end");
            if steps % 4 == 0 {
                self.work();
            }
        }
        self.compare();
        let mut last = None;
        for (key, value) in contents::scan(self.mounted(), NAMES).expect("scanned") {
            let (item, id) = Item::of(key);
            assert!(!value.is_empty(), "{key} says that nothing is gone");
            let is_alone = item.kind() == Kind::EXTENTS || last != Some(item);
            assert!(is_alone, "{key} is hidden by a newer version");
            assert!(id.0 == 0 || self.view(b"").sees(id), "nobody sees {key}");
            last = Some(item);
        }
        let left = contents::scan(self.mounted(), SNAPSHOTS).expect("scanned");
        let nodes = if self.given == 0 { 0 } else { 2 };
        assert_eq!(left.len(), nodes, "{left:?}");
        let view = self.view(b"");
        assert!(view.is_alone());
        let files = self.names.of(self.mounted(), &view);
        (inspector::check(self.mounted(), Some(files), Depth::Copies, &[]))
            .unwrap_or_else(|why| panic!("{why}"));
        contents::audit_blocks(self.mounted()).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Names and attributes, by a clerk.
struct Desk<'c> {
    clerk: Rc<RefCell<Clerk<'c>>>,
    model: Model,
}

impl Kept for Desk<'_> {
    fn copied(&self) -> Self {
        Desk {
            clerk: self.clerk.clone(),
            model: self.model.clone(),
        }
    }

    fn work(&mut self, files: Files<'_, Simulated>, _: &View) {
        for _ in 0..25 {
            let done = self.clerk.borrow_mut().step(files, &mut self.model);
            done.unwrap_or_else(|why| panic!("{why}"));
        }
    }

    fn compare(&self, files: Files<'_, Simulated>) -> Result<(), String> {
        match clerk::walk(files, 10)? == self.model {
            true => Ok(()),
            false => Err("names are not what they should be".into()),
        }
    }
}

impl Kept for Scribe<'_> {
    fn copied(&self) -> Self {
        self.clone()
    }

    fn work(&mut self, files: Files<'_, Simulated>, _: &View) {
        for _ in 0..5 {
            let (_, done) = self.step(files);
            done.unwrap_or_else(|why| panic!("{why}"));
        }
    }

    fn compare(&self, files: Files<'_, Simulated>) -> Result<(), String> {
        Scribe::compare(self, files)
    }
}

fn drives(chance: &Chance) -> Fleet {
    desk::drives(chance, Bytes(64 << 20), 2, (1, 1))
}

#[test]
fn names_in_many_snapshots() {
    let chance = &Chance::new(seed());
    for width in [HashWidth::Full, HashWidth::Narrow] {
        let clerk = Rc::new(RefCell::new(Clerk::new(chance, 40)));
        let mut album = Album::new(chance, drives(chance), width, |mounted, names, view| {
            let files = names.of(mounted, view);
            files.format(&clerk::root()).expect("formatted");
            Desk {
                clerk,
                model: clerk::empty(),
            }
        });
        for step in 0..150 {
            album.step();
            if step % 3 == 0 {
                album.compare();
            }
        }
        album.clear();
        for what in ["take", "grow", "delete", "sweep"] {
            assert!(album.seen[what] != 0, "{what} never happened");
        }
    }
}

#[test]
fn a_file_in_many_snapshots() {
    let chance = &Chance::new(seed());
    for (count, shape) in [(2, (1, 1)), (5, (3, 2)), (3, (2, 1))] {
        let mut album = Album::new(
            chance,
            desk::drives(chance, Bytes(64 << 20), count, shape),
            HashWidth::Full,
            |mounted, names, view| {
                let file = desk::one_file(mounted, names, view);
                let mut scribe = Scribe::new(chance, file, 70);
                scribe.losses = (shape.1 != 0).then_some(0..=shape.1);
                scribe
            },
        );
        for step in 0..150 {
            album.step();
            if step % 3 == 0 {
                album.compare();
            }
        }
        album.clear();
        let view = album.view(b"");
        let files = album.names.of(album.mounted(), &view);
        let (root, file) = (InodeNo::ROOT, &b"file"[..]);
        (files.unlink(root, file, Users::None, NOW)).expect("unlinked");
        assert_eq!(contents::audit(album.mounted()), Ok(0));
    }
}

/// More is touched than is looked at together.
#[test]
fn what_differs_in_many_files() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance);
    let mounted = desk::mount(chance, &fleet);
    let names = desk::names();
    let view = names.open(&mounted, b"").expect("opened");
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let name = |n: usize| format!("file {n}").into_bytes();
    let take = |name: &[u8]| {
        files.take_snapshot(name, NOW).expect("taken");
        names.open(&mounted, name).expect("opened")
    };
    let first = take(b"first");
    let count = 4500 + chance.below(1000);
    for n in 0..count {
        desk::create(files, &name(n));
    }
    let full = take(b"full");
    for n in (0..count).filter(|_| chance.below(3) == 0) {
        files
            .unlink(InodeNo::ROOT, &name(n), Users::None, NOW)
            .expect("unlinked");
    }
    let last = take(b"last");
    for (old, new, least) in [
        (&first, &full, 2 * count),
        (&full, &last, count / 3),
        (&first, &last, count),
        (&last, &first, count),
        (&last, &view, 0),
    ] {
        let told = portrait::differ(&mounted, &names, (old, new));
        let told = told.unwrap_or_else(|why| panic!("{why}"));
        assert!(told >= least, "{told} of {least}");
    }
}

/// What every snapshot and head holds.
type Shown = BTreeMap<Vec<u8>, (bool, Model)>;

/// What is there, looked at through names.
fn shown(mounted: &Mounted<Simulated>, names: &Names) -> Result<Shown, String> {
    let listed = names.snapshots(mounted).map_err(|why| why.to_string())?;
    let mut all = Shown::new();
    for one in listed {
        let view = names.open(mounted, &one.name);
        let view = view.map_err(|why| why.to_string())?;
        let model = clerk::walk(names.of(mounted, &view), 10)?;
        all.insert(one.name.to_vec(), (one.is_head, model));
    }
    Ok(all)
}

/// Steps that were recorded, and what each left.
struct Story {
    recording: Recording,
    left: Vec<Shown>,
}

fn story(chance: &Chance) -> Story {
    let fleet = desk::drives(chance, Bytes(32 << 20), 1, (1, 0));
    let clerk = Rc::new(RefCell::new(Clerk::new(chance, 20)));
    let mut album = Album::new(chance, fleet, HashWidth::Full, |mounted, names, view| {
        let files = names.of(mounted, view);
        files.format(&clerk::root()).expect("formatted");
        let model = clerk::empty();
        Desk { clerk, model }
    });
    let models = |album: &Album<'_, Desk<'_>>| -> Shown {
        let all = album.held.iter();
        let one = |(name, held): (&Vec<u8>, &Held<Desk<'_>>)| {
            (name.clone(), (held.is_head, held.what.model.clone()))
        };
        all.map(one).collect()
    };
    album.is_slow = true;
    album.mounted().sync().expect("durable");
    album.fleet.record();
    let mut left = vec![models(&album)];
    let sync_in = chance.one(&[2, 8, 30]);
    for number in 1..=30 + chance.below(80) {
        album.fleet.note(recording::begun(number));
        match chance.below(12) {
            0..6 => {
                let name = album.one(true).expect("a head");
                let view = album.view(&name);
                let held = album.held.get_mut(&name).expect("known");
                let files = album
                    .names
                    .of(album.mounted.as_ref().expect("mounted"), &view);
                let mut clerk = held.what.clerk.borrow_mut();
                let done = clerk.step(files, &mut held.what.model);
                done.unwrap_or_else(|why| panic!("{why}"));
            }
            6..8 => album.take(),
            8 => drop(album.grow()),
            9 => drop(album.delete()),
            _ => drop(album.sweep()),
        }
        left.push(models(&album));
        if chance.below(sync_in) == 0 {
            album.mounted().sync().expect("durable");
            album.fleet.note(recording::durable(number));
        }
        if chance.below(20) == 0 {
            album.mounted().checkpoint().expect("a checkpoint");
            album.fleet.note(recording::durable(number));
        }
    }
    Story {
        recording: album.fleet.recorded(),
        left,
    }
}

impl Story {
    /// Whether a volume that this crash left is one that may be left, and stays so when what nobody sees is given back.
    fn check(&self, seed: u64, state: &Crash) -> Result<usize, String> {
        let chance = Chance::new(seed);
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let fleet = Fleet::start(chance.next(), &snapshot);
        let mounted = machine::mount(chance.next(), &fleet, machine::READ_WRITE)?;
        let names = desk::names();
        let found = shown(&mounted, &names)?;
        let (durable, committed) = self.recording.bounds(state.cut);
        if !self.left[durable..=committed].contains(&found) {
            return Err(format!("no prefix from {durable} to {committed}"));
        }
        while names.sweep(&mounted).map_err(|why| why.to_string())? {}
        if shown(&mounted, &names)? != found {
            return Err("something else went with what nobody sees".into());
        }
        for name in found.keys() {
            let view = names.open(&mounted, name).map_err(|why| why.to_string())?;
            let files = names.of(&mounted, &view);
            inspector::check(&mounted, Some(files), Depth::Tree, &[])?;
        }
        Ok(found.len())
    }
}

#[test]
fn crashes_leave_a_prefix_of_what_snapshots_hold() {
    let chance = Chance::new(seed());
    let (mut states, mut most) = (0, 0);
    while states < 500 {
        let story = story(&chance);
        let plan = Plan {
            seed: chance.next(),
            subsets: 3,
            tears: 1,
            mixed: 20,
        };
        for (state, own) in story.recording.some(plan, 80.0) {
            states += 1;
            match story.check(own.next(), &state) {
                Ok(count) => most = most.max(count),
                Err(why) => panic!("{state}: {why}"),
            }
        }
    }
    println!("{states} states, up to {most} snapshots and heads");
    assert!(most > 3, "there were never many");
}

#[test]
fn a_snapshot_stays_as_it_is() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance);
    let mounted = desk::mount(chance, &fleet);
    let names = desk::names();
    desk::one_file(&mounted, &names, &View::first());
    let main = names.open(&mounted, b"").expect("opened");
    let files = names.of(&mounted, &main);
    files.take_snapshot(b"one", NOW).expect("taken");
    let one = names.open(&mounted, b"one").expect("opened");
    let kept = names.of(&mounted, &one);
    let done = kept.unlink(InodeNo::ROOT, b"file", Users::None, NOW);
    assert_eq!(done.err(), Some(Error::Fault(Fault::ReadOnly)));
    assert!(kept.take_snapshot(b"two", NOW).is_err());
    for (name, why) in [
        (&b""[..], Error::Invalid),
        (b"a/b", Error::Invalid),
        (&[b'x'; 256], Error::NameTooLong),
        (b"one", Error::Exists),
    ] {
        assert_eq!(files.take_snapshot(name, NOW).err(), Some(why));
        assert_eq!(names.grow(&mounted, b"one", name, NOW).err(), Some(why));
    }
    let missing = Some(Error::NotFound);
    assert_eq!(names.open(&mounted, b"two").err(), missing);
    assert_eq!(names.delete(&mounted, b"two").err(), missing);
    assert_eq!(names.grow(&mounted, b"two", b"x", NOW).err(), missing);
    assert_eq!(names.delete(&mounted, b"").err(), Some(Error::NotPermitted));
    names.grow(&mounted, b"one", b"x", NOW).expect("grown");
    assert_eq!(
        names.grow(&mounted, b"x", b"y", NOW).err(),
        Some(Error::Invalid)
    );
}

/// What fsck finds where something is changed by hand.
#[test]
fn fsck_sees_what_is_wrong_with_snapshots() {
    let chance = &Chance::new(seed());
    let mounted = desk::mount(chance, &drives(chance));
    let names = desk::names();
    let file = desk::one_file(&mounted, &names, &View::first());
    let main = names.open(&mounted, b"").expect("opened");
    let files = names.of(&mounted, &main);
    files.take_snapshot(b"one", NOW).expect("taken");
    let other = desk::create(files, b"other");
    let (one, two) = (SnapshotId(1), SnapshotId(2));
    // What an item is instead, and what is found then; each is put back.
    let found = |tree, key: Key, value: Option<&[u8]>| {
        let before = mounted.get(tree, key, |v| v.to_vec()).expect("read");
        let put = |value: Option<&[u8]>| {
            let mut txn = mounted.begin().expect("begun");
            match value {
                Some(value) => txn.set(tree, key, value).expect("set"),
                None => txn.remove(tree, key).expect("removed"),
            }
            txn.commit().expect("committed");
        };
        put(value);
        let how = (Depth::Tree, Copies::All);
        let names = desk::names();
        let view = View::first();
        let found = inspector::findings(&mounted, Some(names.of(&mounted, &view)), how, &[]);
        put(before.as_deref());
        let mut found = found.expect("checked");
        found.retain(|f| {
            matches!(
                f,
                Finding::Snapshot(..) | Finding::Names(_, Trouble::Version(_))
            )
        });
        found
    };
    let snapshot = |id, odd| vec![Finding::Snapshot(id, odd)];
    assert_eq!(
        found(
            SNAPSHOTS,
            snapshot::NUMBERS,
            Some(&snapshot::encode_number(two))
        ),
        { snapshot(two, Oddity::Node(Wrong::Disagrees)) }
    );
    let bad = snapshot(one, Oddity::Node(Wrong::Senseless));
    assert_eq!(found(SNAPSHOTS, snapshot::node(one), Some(b"x")), bad);
    let bad = snapshot(two, Oddity::Node(Wrong::Disagrees));
    assert_eq!(found(SNAPSHOTS, snapshot::node(one), None), bad);
    let key = snapshot::touched(SnapshotId(9), file, 0);
    let bad = snapshot(SnapshotId(9), Oddity::Senseless(key));
    assert_eq!(found(SNAPSHOTS, key, Some(&snapshot::TOUCHED)), bad);
    let whole = snapshot::touched(two, other, 0);
    assert_eq!(
        found(SNAPSHOTS, whole, Some(b"x")),
        snapshot(two, Oddity::Senseless(whole))
    );
    let noted = contents::scan(&mounted, SNAPSHOTS).expect("scanned");
    let of_entry = |key: &Key| key.0[0] == 2 && key.0[1] == 1 && key.0[2] >> 56 == 0x10;
    let entry = noted.iter().map(|(key, _)| *key).find(of_entry);
    let entry = entry.expect("the name of the new file is noted");
    let item = Item::new(InodeNo::ROOT, Kind::ENTRY, entry.0[2]);
    assert_eq!(
        found(SNAPSHOTS, entry, None),
        snapshot(two, Oddity::NotNoted(item))
    );
    let item = Item::inode(other);
    assert_eq!(found(NAMES, item.at(SnapshotId(7)), Some(b"x")), {
        vec![Finding::Names(item, Trouble::Version(7))]
    });
    let beside = Item::new(other, Kind::ATTRIBUTE, 0);
    assert_eq!(
        found(NAMES, beside.at(two), Some(b"")),
        snapshot(two, Oddity::Idle(beside))
    );
    // Two versions that are one's own.
    desk::put_nodes(&mounted, &[(1, 0), (2, 1), (3, 1)]);
    names.sweep(&mounted).expect("nothing to do");
    let node = Node {
        state: State::Head,
        parent: SnapshotId::NONE,
        made: NOW,
        cursor: Key::MIN,
        room: 0,
        own: embr_rt::Vec::try_from_slice(&[(one, two)]).expect("memory"),
        name: embr_rt::Vec::new(),
    };
    let mut txn = mounted.begin().expect("begun");
    for id in [1, 3] {
        let key = snapshot::node(SnapshotId(id));
        txn.remove(SNAPSHOTS, key).expect("removed");
    }
    let value = node.encode().expect("memory");
    txn.set(SNAPSHOTS, snapshot::node(two), &value)
        .expect("set");
    txn.commit().expect("committed");
    let view = View::first();
    let names = desk::names();
    let how = (Depth::Tree, Copies::All);
    let found = inspector::findings(&mounted, Some(names.of(&mounted, &view)), how, &[]);
    let root = Item::inode(InodeNo::ROOT);
    let hidden = Finding::Snapshot(one, Oddity::Hidden(root));
    assert_eq!(found.expect("checked"), vec![hidden]);
}
