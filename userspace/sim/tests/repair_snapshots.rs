// SPDX-License-Identifier: GPL-2.0

//! Repair of volumes with snapshots and several heads: heads are mended as volumes without are, what holds for all versions is derived from all
//! of them, and what a snapshot shows stays as it is.

use embr_engine::check;
use embr_engine::check::Finding;
use embr_engine::check::Trouble;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::format::engram;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::extent::Run;
use embr_engine::format::inode::Inode;
use embr_engine::format::member::Slot;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::root::Root;
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
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::Base;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Mounted;
use embr_rt::Arc;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::Found;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::mender;
use embrfs_sim::mender::Deeds;
use embrfs_sim::mender::How;
use embrfs_sim::mender::PLAIN;

const ROOT: InodeNo = InodeNo::ROOT;

/// A volume with known files, mounted: a directory `d` with `f` in it, which is `again` in the root too; `g` of six blocks; `h`, whose blocks
/// lie in the tree. Snapshot `one` has them so. In `two`, `g` has another block, `again` is gone, `h` is written over, and `n` is new. The
/// volume itself has a clone of `g` and has removed `d/f`; and `side` grew from `one`, has written to `f`, and removed `h`.
struct Sample {
    fleet: Fleet,
    mounted: Mounted<Simulated>,
    names: Names,
    d: InodeNo,
    f: InodeNo,
    g: InodeNo,
    h: InodeNo,
    n: InodeNo,
}

impl Sample {
    fn new(shape: (u8, u8)) -> Self {
        let chance = Chance::new(5);
        let count = usize::from(shape.0 + shape.1);
        let fleet = desk::drives(&chance, Bytes(32 << 20), count, shape);
        let mounted = machine::mount_plain(3, &fleet, machine::READ_WRITE).expect("mounted");
        let mut sample = Sample {
            fleet,
            mounted,
            names: desk::names(),
            d: InodeNo::NONE,
            f: InodeNo::NONE,
            g: InodeNo::NONE,
            h: InodeNo::NONE,
            n: InodeNo::NONE,
        };
        sample.fill();
        sample.mounted.checkpoint().expect("a checkpoint");
        sample
    }

    fn fill(&mut self) {
        let now = clerk::root().now;
        let (names, mounted) = (&self.names, &self.mounted);
        let first = View::first();
        let files = names.of(mounted, &first);
        files.format(&clerk::root()).expect("formatted");
        let make = |directory, name: &[u8], what| {
            let new = New {
                what,
                ..clerk::root()
            };
            let made = files.create(directory, name, &new);
            made.expect("created").what.number
        };
        self.d = make(ROOT, b"d", What::Directory);
        self.f = make(self.d, b"f", What::Regular);
        self.g = make(ROOT, b"g", What::Regular);
        self.h = make(self.d, b"h", What::Regular);
        files.link(self.f, ROOT, b"again", now).expect("linked");
        desk::write(files, self.f, 0, &desk::pattern(3, 1), Way::Sealed);
        desk::write(files, self.g, 0, &desk::pattern(6, 2), Way::Sealed);
        desk::write(files, self.h, 0, &desk::pattern(2, 3), Way::Inline);
        let set = |files: Files<'_, Simulated>, name: &[u8], value: &[u8]| {
            let (new, to) = (Extended { name, value }, Attributes::default());
            let put = files.set_attribute(self.g, new, Put::Any, &to, now);
            put.expect("set");
        };
        set(files, b"user.long", &desk::pattern(2, 8));
        set(files, b"user.short", b"short");
        let main = names.open(mounted, b"").expect("opened");
        let files = names.of(mounted, &main);
        files.take_snapshot(b"one", now).expect("taken");
        set(files, b"user.short", b"other");
        desk::write(files, self.g, 2, &desk::pattern(1, 4), Way::Sealed);
        let unlinked = files.unlink(ROOT, b"again", Users::None, now);
        unlinked.expect("unlinked");
        desk::write(files, self.h, 0, &desk::pattern(1, 5), Way::Inline);
        self.n = desk::create(files, b"n");
        desk::write(files, self.n, 0, &desk::pattern(2, 6), Way::Sealed);
        files.take_snapshot(b"two", now).expect("taken");
        let c = desk::create(files, b"c");
        let pair = Pair {
            from: (self.g, FileBlock(1)),
            to: (c, FileBlock(0)),
            blocks: Blocks(4),
        };
        let size = FileBlock(4).start();
        let done = files.clone_range(&pair, Some(size), now);
        done.expect("cloned");
        let unlinked = files.unlink(self.d, b"f", Users::None, now);
        unlinked.expect("unlinked");
        names.grow(mounted, b"one", b"side", now).expect("grown");
        let side = names.open(mounted, b"side").expect("opened");
        let files = names.of(mounted, &side);
        desk::write(files, self.f, 1, &desk::pattern(3, 7), Way::Sealed);
        set(files, b"user.long", &desk::pattern(1, 9));
        let unlinked = files.unlink(self.d, b"h", Users::None, now);
        unlinked.expect("unlinked");
    }

    fn view(&self, name: &[u8]) -> Arc<View> {
        self.names.open(&self.mounted, name).expect("opened")
    }

    fn with<R>(&self, name: &[u8], act: impl FnOnce(Files<'_, Simulated>) -> R) -> R {
        let view = self.view(name);
        act(self.names.of(&self.mounted, &view))
    }

    fn current(&self, name: &[u8]) -> SnapshotId {
        self.view(name).current()
    }

    fn change(&self, tree: TreeId, key: Key, value: Option<&[u8]>) {
        let mut txn = self.mounted.begin().expect("begun");
        match value {
            Some(value) => txn.set(tree, key, value).expect("set"),
            None => txn.remove(tree, key).expect("removed"),
        }
        txn.commit().expect("committed");
    }

    /// The newest version of an item of this kind of an inode whose value ends so, as this one sees it.
    fn only(&self, whose: &[u8], inode: InodeNo, kind: Kind, name: &[u8]) -> (Key, Vec<u8>) {
        let view = self.view(whose);
        let all = contents::scan(&self.mounted, NAMES).expect("scanned");
        let found = all.iter().find(|(key, value)| {
            let (item, id) = Item::of(*key);
            let is_it = item.owner() == inode && item.kind() == kind;
            is_it && view.sees(id) && !value.is_empty() && value.ends_with(name)
        });
        found.expect("such an item").clone()
    }

    /// Changes an inode in the version that this one sees.
    fn change_inode(&self, whose: &[u8], number: InodeNo, change: impl FnOnce(&mut Inode)) {
        let (key, value) = self.only(whose, number, Kind::INODE, b"");
        let mut inode = Inode::parse(&value).expect("an inode");
        change(&mut inode);
        let value = inode.encode().expect("memory");
        self.change(NAMES, key, Some(&value));
    }

    fn inode(&self, whose: &[u8], number: InodeNo) -> Inode {
        self.with(whose, |files| files.inode(number).expect("read"))
    }

    fn sweep(&self) {
        while self.names.sweep(&self.mounted).expect("swept") {}
    }

    /// The volume without the mount, which ends well.
    fn close(self) -> Fleet {
        self.mounted.close().expect("closed");
        self.fleet
    }
}

/// Repairs what was damaged: a check finds nothing then but what `left` says, each snapshot shows what it showed, and once more nothing is done.
#[track_caller]
fn mended_with(fleet: &Fleet, how: How, left: &dyn Fn(&Finding) -> bool) -> Deeds {
    let before = mender::shown(7, fleet).expect("to be looked at");
    let found = mender::findings(7, fleet).expect("checked");
    assert_ne!(found, [], "nothing is wrong");
    let planned = mender::plan(7, fleet, how).expect("planned");
    let deeds = mender::mend(8, fleet, how).expect("repaired");
    assert_eq!(
        planned.0.is_empty(),
        deeds.0.is_empty(),
        "{planned:?}\n{deeds:?}"
    );
    let rest: Vec<_> = mender::findings(9, fleet).expect("checked");
    let wrong: Vec<_> = rest.iter().filter(|f| !left(f)).collect();
    assert!(
        wrong.is_empty(),
        "left: {wrong:?}\nfound: {found:?}\ndone: {deeds:?}"
    );
    let after = mender::shown(9, fleet).expect("to be looked at");
    mender::all_kept(&before, &after).unwrap_or_else(|why| panic!("{why}\n{deeds:?}"));
    let items = mender::items(9, fleet).expect("read");
    let again = mender::plan(10, fleet, how).expect("planned");
    assert!(again.0.is_empty(), "once more: {again:?}\nafter {deeds:?}");
    let again = mender::mend(10, fleet, how).expect("repaired");
    assert!(again.0.is_empty(), "once more: {again:?}\nafter {deeds:?}");
    assert!(
        items == mender::items(11, fleet).expect("read"),
        "changed again"
    );
    deeds
}

#[track_caller]
fn mended(damage: impl FnOnce(&Sample)) -> (Fleet, Deeds) {
    let sample = Sample::new((1, 1));
    damage(&sample);
    let fleet = sample.close();
    let deeds = mended_with(&fleet, PLAIN, &|_| false);
    (fleet, deeds)
}

/// Looks at what a snapshot or head has.
fn with_shown<R>(fleet: &Fleet, name: &[u8], act: impl FnOnce(Files<'_, Simulated>) -> R) -> R {
    let mounted = machine::inspect(1, fleet).expect("mounted");
    let names = desk::names();
    let view = names.open(&mounted, name).expect("opened");
    act(names.of(&mounted, &view))
}

#[test]
fn a_sound_volume_is_left_as_it_is() {
    for shape in [(1, 0), (1, 1), (2, 1)] {
        let fleet = Sample::new(shape).close();
        assert_eq!(mender::findings(7, &fleet), Ok(vec![]));
        let items = mender::items(7, &fleet);
        let planned = mender::plan(7, &fleet, PLAIN).expect("planned");
        assert!(planned.0.is_empty(), "{planned:?}");
        let deeds = mender::mend(7, &fleet, PLAIN).expect("repaired");
        assert!(deeds.0.is_empty(), "{deeds:?}");
        assert!(items == mender::items(7, &fleet));
    }
}

/// What is wrong in a head alone is mended in that head.
#[test]
fn heads_are_mended_by_themselves() {
    let (fleet, deeds) = mended(|s| {
        s.change_inode(b"", s.g, |inode| inode.entries = 9);
        s.change_inode(b"side", s.d, |inode| inode.entries = 7);
        let (entry, _) = s.only(b"", ROOT, Kind::ENTRY, b"c");
        s.change(NAMES, entry, None);
    });
    assert!(deeds.has("counted"), "{deeds:?}");
    assert!(deeds.has("entry-restored"), "{deeds:?}");
    with_shown(&fleet, b"", |files| files.lookup(ROOT, b"c").map(drop)).expect("there again");
}

/// A head that has lost the entry for what it shares with a snapshot gets one of its own; what the snapshot has is as it was.
#[test]
fn what_a_head_shares_is_mended_in_the_head() {
    let (mut d, mut g) = (InodeNo::NONE, InodeNo::NONE);
    let (fleet, deeds) = mended(|s| {
        (d, g) = (s.d, s.g);
        let current = s.current(b"side");
        // It says that an entry is gone which nobody removed.
        let (key, _) = s.only(b"side", ROOT, Kind::ENTRY, b"g");
        let gone = Item::of(key).0.at(current);
        s.change(NAMES, gone, Some(b""));
        let note = snapshot::touched(current, ROOT, key.0[1]);
        s.change(SNAPSHOTS, note, Some(&snapshot::TOUCHED));
    });
    assert!(deeds.has("entry-restored"), "{deeds:?}");
    for name in [&b"one"[..], b"side", b"two", b""] {
        let found = with_shown(&fleet, name, |files| {
            files.lookup(ROOT, b"g").map(|t| t.inode)
        });
        assert_eq!(found, Ok(g));
    }
}

/// A count that is wrong for all who see it is put right where it stands: in the snapshot.
#[test]
fn a_count_that_is_wrong_for_all_is_put_right_for_all() {
    let mut version = None;
    let (fleet, deeds) = mended(|s| {
        let (key, _) = s.only(b"two", s.n, Kind::INODE, b"");
        version = Some(key);
        s.change_inode(b"two", s.n, |inode| (inode.nlink, inode.entries) = (4, 77));
    });
    assert_eq!(deeds.0.len(), 1, "{deeds:?}");
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    let all = contents::scan(&mounted, NAMES).expect("scanned");
    let (item, _) = Item::of(version.expect("a version"));
    let versions = all.iter().filter(|(key, _)| Item::of(*key).0 == item);
    let versions: Vec<_> = versions.collect();
    assert_eq!(versions.len(), 1, "a version more");
    let inode = Inode::parse(&versions[0].1).expect("an inode");
    assert_eq!((inode.nlink, inode.entries), (1, 2));
}

/// One that is wrong in a snapshot and right for a head that sees the same is left, and told.
#[test]
fn a_snapshot_is_not_changed_for_what_others_see() {
    let sample = Sample::new((1, 1));
    // In `one`, the entry `again` is lost; so what the inode counts is wrong there. The head and `two` have it gone anyway, and see another
    // version of the inode; `side` sees the same.
    let (key, _) = sample.only(b"one", ROOT, Kind::ENTRY, b"again");
    sample.change(NAMES, key, None);
    let fleet = sample.close();
    let is_of_one = |f: &Finding| matches!(f, Finding::Names(..));
    let deeds = mended_with(&fleet, PLAIN, &is_of_one);
    assert!(deeds.has("entry-restored"), "{deeds:?}");
    // It was noted with the entry, and not found missing later.
    assert!(!deeds.has("noted"), "{deeds:?}");
    let found =
        |name: &[u8]| with_shown(&fleet, name, |files| files.lookup(ROOT, b"again").is_ok());
    assert_eq!(
        [found(b"one"), found(b"side"), found(b"two")],
        [false, true, false]
    );
}

#[test]
fn what_was_touched_is_noted() {
    let (_, deeds) = mended(|s| {
        let current = s.current(b"side");
        let notes = contents::scan(&s.mounted, SNAPSHOTS).expect("scanned");
        let of_side = notes.iter().filter(|(key, _)| key.0[0] == current.0);
        let mut count = 0;
        for (n, (key, _)) in of_side.enumerate() {
            match n % 2 {
                0 => s.change(SNAPSHOTS, *key, None),
                _ => s.change(SNAPSHOTS, *key, Some(b"xy")),
            }
            count += 1;
        }
        assert!(count > 2);
    });
    assert!(deeds.has("noted"), "{deeds:?}");
}

/// What `two` has and a newer version of its own hides is seen by nobody.
#[test]
fn what_nobody_sees_goes() {
    let (_, deeds) = mended(|s| {
        // `two` and the head become one, and nothing awaits being swept.
        s.names.delete(&s.mounted, b"two").expect("deleted");
        s.sweep();
        let own = s.only(b"", s.g, Kind::INODE, b"").1;
        let (newest, oldest) = (s.current(b""), SnapshotId(2));
        assert!(s.view(b"").sees(oldest));
        // The head's own, twice.
        s.change(NAMES, Item::inode(s.g).at(newest), Some(&own));
        s.change(NAMES, Item::inode(s.g).at(oldest), Some(&own));
        // It is said to be gone, which never was there.
        let never = Item::new(s.g, Kind::ENTRY, 9 << 30);
        s.change(NAMES, never.at(newest), Some(b""));
        for id in [newest, oldest] {
            let note = snapshot::touched(id, s.g, 0);
            s.change(SNAPSHOTS, note, Some(&snapshot::TOUCHED));
        }
    });
    assert!(
        deeds.has("hidden-removed") && deeds.has("idle-removed"),
        "{deeds:?}"
    );
}

/// Of extents that a newer version of the same head hides in part, that part goes, and what only they named is given back.
#[test]
fn blocks_that_nobody_sees_are_given_back() {
    let mut item = Item::inode(ROOT);
    let (fleet, deeds) = mended(|s| {
        s.names.delete(&s.mounted, b"two").expect("deleted");
        s.sweep();
        let (_, value) = s.only(b"", s.n, Kind::EXTENTS, b"");
        let (_, g) = s.only(b"one", s.g, Kind::EXTENTS, b"");
        let runs: Vec<Run> = extent::parse(&g).expect("runs").iter().collect();
        // An older one that has more blocks, which are another's.
        let older = extent::encode(&runs).expect("memory");
        item = Item::new(s.n, Kind::EXTENTS, 0);
        let newest = s.current(b"");
        for id in [newest, SnapshotId(2)] {
            s.change(NAMES, item.at(id), None);
            let note = snapshot::touched(id, s.n, 0);
            s.change(SNAPSHOTS, note, Some(&snapshot::TOUCHED));
        }
        s.change(NAMES, item.at(newest), Some(&value));
        s.change(NAMES, item.at(SnapshotId(2)), Some(&older));
    });
    assert!(deeds.has("hidden-removed"), "{deeds:?}");
    // What is not hidden stays.
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    let value = mounted.get(NAMES, item.at(SnapshotId(2)), <[u8]>::to_vec);
    let value = value.expect("read").expect("there");
    let runs = extent::parse(&value).expect("runs");
    let blocks = runs.iter().flat_map(|run| run.first..run.end());
    assert_eq!(blocks.collect::<Vec<_>>(), [2, 3, 4, 5]);
}

/// What is left behind an inode that a head has removed goes, unless it has a name still.
#[test]
fn what_a_gone_inode_left_goes() {
    let mut h = InodeNo::NONE;
    let (fleet, deeds) = mended(|s| {
        h = s.h;
        let current = s.current(b"side");
        let left = Item::new(s.h, Kind::INLINE, 1).at(current);
        let (_, value) = s.only(b"one", s.h, Kind::INLINE, b"");
        s.change(NAMES, left, Some(&value));
    });
    assert!(deeds.has("hidden-removed"), "{deeds:?}");
    let inode = with_shown(&fleet, b"side", |files| files.inode(h).map(drop));
    assert!(inode.is_err());
    // That a file is gone which nobody else has, and of which there is something, is wrong: it is made again.
    let (mut c, mut size) = (InodeNo::NONE, 0);
    let (fleet, deeds) = mended(|s| {
        c = s.with(b"", |files| files.lookup(ROOT, b"c").expect("there").inode);
        size = s.inode(b"", c).size.0;
        s.change(NAMES, Item::inode(c).at(s.current(b"")), Some(b""));
    });
    assert!(
        deeds.has("idle-removed") && deeds.has("inode-made"),
        "{deeds:?}"
    );
    let inode = with_shown(&fleet, b"", |files| files.inode(c).map(|i| i.size.0));
    assert_eq!(inode, Ok(size));
}

#[test]
fn numbers_of_snapshots_are_made_again() {
    for number in [None, Some(&b"\x01\x02\0\0\0\0\0\0\0"[..]), Some(b"?")] {
        let mut before = 0;
        let sample = Sample::new((1, 1));
        before = before.max(sample.current(b"side").0);
        sample.change(SNAPSHOTS, snapshot::NUMBERS, number);
        let fleet = sample.close();
        let deeds = mended_with(&fleet, PLAIN, &|_| false);
        assert!(deeds.has("counter"), "{deeds:?}");
        let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
        let names = desk::names();
        names
            .grow(&mounted, b"one", b"more", clerk::root().now)
            .expect("grown");
        assert!(names.open(&mounted, b"more").expect("opened").current().0 > before);
    }
}

/// What lives, whose it is and how often it is named follow from all versions: what only a snapshot names lives.
#[test]
fn what_only_a_snapshot_names_lives() {
    let (_, deeds) = mended(|s| {
        let (_, value) = s.only(b"one", s.g, Kind::EXTENTS, b"");
        let runs = extent::parse(&value).expect("runs");
        let engram = runs.iter().next().expect("a run").engram;
        let key = engram::key(engram, engram::Kind::Map, 0);
        let map = s.mounted.get(ENGRAMS, key, Map::parse).expect("read");
        let map = map.expect("there").expect("memory").expect("a map");
        let none = Live::default().encode(map.blocks).expect("memory");
        s.change(
            ENGRAMS,
            engram::key(engram, engram::Kind::Live, 0),
            Some(&none),
        );
        for of in [Of::All, Of::User(s.g)] {
            s.change(REFERENCES, reference::key(engram, of), None);
        }
    });
    assert!(deeds.has("engram") && deeds.has("references"), "{deeds:?}");
}

/// Places that were set aside and that several have are left, for all who see them; what older versions have there is not seen in their place.
#[test]
fn what_was_set_aside_is_not_shared() {
    let mut g = InodeNo::NONE;
    let (fleet, deeds) = mended(|s| {
        g = s.g;
        let (key, _) = s.only(b"two", s.g, Kind::EXTENTS, b"");
        assert_eq!(Item::of(key).1, s.current(b"two"));
        let (_, old) = s.only(b"one", s.g, Kind::EXTENTS, b"");
        let first = extent::parse(&old).expect("runs").iter().next();
        let first = first.expect("a run");
        let run = Run::plain(2, 1, Encoding::Unwritten, first.engram, first.block() + 3);
        let value = extent::encode(&[run]).expect("memory");
        s.change(NAMES, key, Some(&value));
    });
    assert!(deeds.has("places-left"), "{deeds:?}");
    for name in [&b"two"[..], b""] {
        with_shown(&fleet, name, |files| {
            assert!(desk::read(files, g, 2, 1).iter().all(|byte| *byte == 0));
            assert_eq!(files.inode(g).expect("read").entries, 5);
        });
    }
}

/// A count that is wrong in a snapshot and right for a head that sees the very same is not touched.
#[test]
fn a_count_that_is_right_for_others_stays() {
    let sample = Sample::new((1, 1));
    let (key, value) = sample.only(b"one", sample.d, Kind::ENTRY, b"f");
    let (entry, current) = (Item::of(key).0, sample.current(b"two"));
    // `one` loses an entry, which who came later have for themselves.
    sample.change(NAMES, key, None);
    for id in [current, sample.current(b"side")] {
        sample.change(NAMES, entry.at(id), Some(&value));
        let note = snapshot::touched(id, sample.d, key.0[1]);
        sample.change(SNAPSHOTS, note, Some(&snapshot::TOUCHED));
    }
    let (inode, before) = sample.only(b"one", sample.d, Kind::INODE, b"");
    assert_eq!(sample.only(b"two", sample.d, Kind::INODE, b"").0, inode);
    let fleet = sample.close();
    let deeds = mended_with(&fleet, PLAIN, &|f| matches!(f, Finding::Names(..)));
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    let after = mounted.get(NAMES, inode, <[u8]>::to_vec).expect("read");
    assert_eq!(after.as_deref(), Some(&before[..]), "{deeds:?}");
}

/// A file that is said to be gone, of which a head has something for itself, and a name: none of that is given up.
#[test]
fn what_may_be_there_still_stays() {
    let sample = Sample::new((1, 1));
    let (f, current) = (sample.f, sample.current(b"side"));
    let (own, _) = sample.only(b"side", f, Kind::EXTENTS, b"");
    assert_eq!(Item::of(own).1, current);
    sample.change(NAMES, Item::inode(f).at(current), Some(b""));
    let note = snapshot::touched(current, f, 0);
    sample.change(SNAPSHOTS, note, Some(&snapshot::TOUCHED));
    let fleet = sample.close();
    mended_with(&fleet, PLAIN, &|_| true);
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    assert!(mounted.get(NAMES, own, |_| ()).expect("read").is_some());
    let found = with_shown(&fleet, b"side", |files| {
        files.lookup(ROOT, b"again").map(drop)
    });
    assert_eq!(found, Ok(()));
}

/// What makes no sense of a snapshot's is left; of a head's, it goes if that is wanted, and nothing older is seen in its place.
#[test]
fn what_makes_no_sense() {
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    let sample = Sample::new((1, 1));
    let (key, _) = sample.only(b"one", sample.d, Kind::ENTRY, b"h");
    sample.change(NAMES, key, Some(b"\x09"));
    let (item, _) = Item::of(key);
    let fleet = sample.close();
    let deeds = mended_with(&fleet, how, &|f| matches!(f, Finding::Names(..)));
    assert!(deeds.has("dropped"), "{deeds:?}");
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    let value = mounted.get(NAMES, item.at(SnapshotId(1)), <[u8]>::to_vec);
    assert_eq!(value.expect("read").as_deref(), Some(&b"\x09"[..]));
    // Blocks that a head has written over do not come back.
    let sample = Sample::new((1, 1));
    let current = sample.current(b"side");
    let item = Item::new(sample.f, Kind::EXTENTS, 0);
    sample.change(NAMES, item.at(current), Some(b"\x09"));
    let fleet = sample.close();
    mended_with(&fleet, how, &|_| true);
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    let value = mounted.get(NAMES, item.at(current), <[u8]>::to_vec);
    assert_eq!(value.expect("read").as_deref(), Some(&b"\x09"[..]));
}

/// An inode of a head that makes no sense is made again: what the head has of it beside that is seen still.
#[test]
fn an_inode_that_makes_no_sense_is_made_again() {
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    let sample = Sample::new((1, 1));
    let (g, current) = (sample.g, sample.current(b""));
    let before = sample.with(b"", |files| desk::read(files, g, 0, 6));
    let key = Item::inode(g).at(current);
    sample.change(NAMES, key, Some(b"no inode"));
    let fleet = sample.close();
    let deeds = mended_with(&fleet, how, &|_| false);
    assert!(deeds.has("inode-made"), "{deeds:?}");
    with_shown(&fleet, b"", |files| {
        assert_eq!(files.lookup(ROOT, b"g").map(|t| t.inode), Ok(g));
        assert!(desk::read(files, g, 0, 6) == before);
    });
}

/// Where a node of the tree of snapshots makes no sense, names are left alone.
#[test]
fn what_is_not_known_of_snapshots_leaves_names_alone() {
    let sample = Sample::new((1, 1));
    let one = sample.current(b"one");
    sample.change_inode(b"", sample.g, |inode| inode.entries = 9);
    sample.change(SNAPSHOTS, snapshot::node(one), Some(b"no node"));
    let before = contents::scan(&sample.mounted, NAMES).expect("scanned");
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.0.is_empty(), "{deeds:?}");
    let mounted = machine::inspect(1, &fleet).expect("mounted");
    assert!(before == contents::scan(&mounted, NAMES).expect("scanned"));
}

/// What only a deleted snapshot has, from which several grew, is somebody's: it is named by what these see.
#[test]
fn what_a_deleted_snapshot_has_is_looked_at() {
    let sample = Sample::new((1, 1));
    sample
        .names
        .delete(&sample.mounted, b"one")
        .expect("deleted");
    sample.sweep();
    // Blocks of `f` that `side` sees, and nobody else who is shown.
    let (_, value) = sample.only(b"side", sample.f, Kind::EXTENTS, b"");
    let runs: Vec<Run> = extent::parse(&value).expect("runs").iter().collect();
    let (key, value) = {
        let all = contents::scan(&sample.mounted, NAMES).expect("scanned");
        let item = Item::new(sample.f, Kind::EXTENTS, 0).at(SnapshotId(1));
        let found = all.iter().find(|(key, _)| *key == item);
        found.expect("of the deleted one").clone()
    };
    let mut of_one: Vec<Run> = extent::parse(&value).expect("runs").iter().collect();
    assert_ne!(runs, of_one);
    let other = EngramId(999);
    let first = &mut of_one[0];
    *first = Run::plain(first.first, first.blocks, first.encoding, other, 0);
    let value = extent::encode(&of_one).expect("memory");
    sample.change(NAMES, key, Some(&value));
    let fleet = sample.close();
    let found = mender::findings(7, &fleet).expect("checked");
    let is_told =
        |f: &&Finding| matches!(f, Finding::Names(_, Trouble::NoEngram(e)) if *e == other);
    assert_eq!(found.iter().filter(is_told).count(), 1, "{found:?}");
}

/// How many nodes a tree has, as the root says.
#[test]
fn numbers_of_nodes_are_counted_again() {
    for shape in [(1, 0), (2, 1)] {
        let fleet = Sample::new(shape).close();
        let drives = fleet.drives().into_iter();
        let drives: Vec<_> = drives.map(|d| (d.slot(), d)).collect();
        let mut lie = |_: Slot, _: &mut Root, bases: &mut Vec<Base>| {
            for base in bases.iter_mut().filter(|b| b.tree == NAMES) {
                base.nodes += 7;
            }
        };
        forge::forge(&drives, &mut |_, _| {}, &mut lie).expect("forged");
        let wrong = || {
            let mut found = Found::default();
            let look = machine::inspect(5, &fleet).expect("mounted");
            let options = mender::checking(1 << 20, false);
            let checked = mender::with_files(&look, |files| {
                check::check(&look, Some(files), &options, &mut found)
            });
            checked.expect("checked");
            let nodes = found.0.iter().filter(|f| matches!(f, Finding::Nodes(..)));
            nodes.count()
        };
        assert_eq!(wrong(), 1);
        let planned = mender::plan(7, &fleet, PLAIN).expect("planned");
        assert!(planned.has("nodes-counted"), "{planned:?}");
        let deeds = mender::mend(8, &fleet, PLAIN).expect("repaired");
        assert!(deeds.has("nodes-counted"), "{deeds:?}");
        assert_eq!(wrong(), 0);
        let again = mender::mend(9, &fleet, PLAIN).expect("repaired");
        assert!(again.0.is_empty(), "{again:?}");
    }
}

/// Damages a few items of a volume: keys go, values are garbled, are another's, or are there a second time.
fn damage(s: &Sample, chance: &Chance) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..1 + chance.below(3) {
        let tree = chance.one(&[NAMES, NAMES, NAMES, ENGRAMS, STRIPES, REFERENCES, SNAPSHOTS]);
        let all = contents::scan(&s.mounted, tree).expect("read");
        if all.is_empty() {
            continue;
        }
        let (key, value) = &all[chance.below(all.len())];
        let alike = all.iter().filter(|(k, _)| k.0[1] >> 56 == key.0[1] >> 56);
        let alike: Vec<_> = alike.collect();
        let (other, theirs) = alike[chance.below(alike.len())];
        match chance.below(6) {
            0 => {
                told.push(format!("{tree} {key} gone"));
                s.change(tree, *key, None);
            }
            1 if !value.is_empty() => {
                let mut value = value.clone();
                let at = chance.below(value.len());
                value[at] ^= 1 << chance.below(8);
                told.push(format!("{tree} {key} byte {at} is {}", value[at]));
                s.change(tree, *key, Some(&value));
            }
            2 => {
                told.push(format!("{tree} {key} as {other}"));
                s.change(tree, *key, Some(theirs));
            }
            3 => {
                let mut at = *key;
                at.0[0] = other.0[0];
                told.push(format!("{tree} {key} also at {at}"));
                s.change(tree, at, Some(value));
            }
            4 => {
                // Another version.
                let mut at = *key;
                at.0[2] = other.0[2];
                told.push(format!("{tree} {key} also at {at}"));
                s.change(tree, at, Some(value));
            }
            _ => {
                let mut at = *key;
                at.0[1] ^= 1 << chance.below(48);
                told.push(format!("{tree} {key} is at {at}"));
                s.change(tree, *key, None);
                s.change(tree, at, Some(value));
            }
        }
    }
    told
}

/// How many damaged volumes are repaired.
fn count() -> u64 {
    std::env::var("EMBRFS_COUNT").map_or(300, |n| n.parse().expect("a number"))
}

#[test]
fn whatever_is_damaged_snapshots_stay_as_they_are() {
    let base = seed();
    let mut clean = 0;
    for n in 0..count() {
        let seed = base.wrapping_add(n);
        let chance = Chance::new(seed);
        let shape = chance.one(&[(1, 0), (1, 1), (2, 1)]);
        let sample = Sample::new(shape);
        // Some of them are deleted, and that may be done with or not.
        for name in [&b"one"[..], b"two", b"side"] {
            if chance.below(4) == 0 {
                sample.names.delete(&sample.mounted, name).expect("deleted");
            }
        }
        match chance.below(3) {
            0 => {}
            1 => drop(sample.names.sweep(&sample.mounted).expect("swept")),
            _ => sample.sweep(),
        }
        let told = damage(&sample, &chance);
        let fleet = sample.close();
        let how = How {
            memory: chance.one(&[1 << 12, 1 << 20]),
            drop_senseless: chance.below(2) == 0,
        };
        let story = format!("EMBRFS_SEED={seed} EMBRFS_COUNT=1: {how:?} {told:?}");
        let before = mender::shown(7, &fleet).expect("to be looked at");
        let found = mender::findings(7, &fleet).expect("checked");
        let deeds = mender::mend(8, &fleet, how);
        let deeds = match deeds {
            Err(why) if why.contains("belongs to a node") => continue,
            deeds => deeds.unwrap_or_else(|why| panic!("{story}: {why}")),
        };
        let after = mender::shown(9, &fleet).expect("to be looked at");
        let kept = mender::all_kept(&before, &after);
        kept.unwrap_or_else(|why| panic!("{story}: {why}\n{found:?}\n{deeds:?}"));
        let rest = mender::findings(9, &fleet).expect("checked");
        clean += u64::from(rest.is_empty());
        let items = mender::items(9, &fleet).expect("read");
        let again = mender::mend(10, &fleet, how);
        let again = again.unwrap_or_else(|why| panic!("{story}: once more: {why}"));
        assert!(
            again.0.is_empty(),
            "{story}: once more {again:?}\n{deeds:?}\nleft {rest:?}"
        );
        let same = items == mender::items(11, &fleet).expect("read");
        assert!(same, "{story}: changed again");
    }
    println!("{clean} of {} are clean", count());
    assert!(clean * 4 > count(), "only {clean} of {} are clean", count());
}
