// SPDX-License-Identifier: GPL-2.0

//! Repair of what a check finds: what follows from the rest is put right, all that could be read can be read still, a second repair
//! changes nothing, and one that is cut short goes on where it was.

use embr_engine::check::Defect;
use embr_engine::check::Finding;
use embr_engine::check::Trouble;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::format::engram;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::engram::Owner;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::extent::Run;
use embr_engine::format::geometry::Policy;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::format::member::Slot;
use embr_engine::format::name;
use embr_engine::format::name::Name;
use embr_engine::format::name::Target;
use embr_engine::format::pointer::Places;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::reference::Tally;
use embr_engine::format::stripe;
use embr_engine::format::stripe::encode_live;
use embr_engine::format::stripe::Totals;
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
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::StripeId;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::mender;
use embrfs_sim::mender::Deeds;
use embrfs_sim::mender::How;
use embrfs_sim::mender::PLAIN;
use embrfs_sim::states::Plan;

const ROOT: InodeNo = InodeNo::ROOT;

/// A volume with known files, mounted: directory `d` with `f` in it, which is `again` in the root too, and directory `e` in `d`; `g` in the
/// root, of six blocks; a link `l`; and `h`, whose blocks lie in the tree.
struct Sample {
    fleet: Fleet,
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    d: InodeNo,
    e: InodeNo,
    f: InodeNo,
    g: InodeNo,
    h: InodeNo,
}

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        ..clerk::root()
    }
}

impl Sample {
    fn new(shape: (u8, u8)) -> Self {
        let chance = Chance::new(5);
        let count = usize::from(shape.0 + shape.1);
        let fleet = desk::drives(&chance, Bytes(32 << 20), count, shape);
        let mounted = machine::mount_plain(3, &fleet, machine::READ_WRITE).expect("mounted");
        let (names, view) = (desk::names(), View::first());
        let files = names.of(&mounted, &view);
        files.format(&clerk::root()).expect("formatted");
        let make = |directory, name: &[u8], what| {
            let made = files.create(directory, name, &new(what));
            made.expect("created").what.number
        };
        let d = make(ROOT, b"d", What::Directory);
        let e = make(d, b"e", What::Directory);
        let f = make(d, b"f", What::Regular);
        let g = make(ROOT, b"g", What::Regular);
        let h = make(e, b"h", What::Regular);
        make(ROOT, b"l", What::Symlink(b"to nowhere"));
        files
            .link(f, ROOT, b"again", clerk::root().now)
            .expect("linked");
        desk::write(files, f, 0, &desk::pattern(3, 1), Way::Sealed);
        desk::write(files, g, 2, &desk::pattern(4, 2), Way::Sealed);
        desk::write(files, h, 0, &desk::pattern(2, 3), Way::Inline);
        mounted.checkpoint().expect("a checkpoint");
        Sample {
            fleet,
            mounted,
            names,
            view,
            d,
            e,
            f,
            g,
            h,
        }
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    /// Blocks of a file at the beginning of a new one, which is in the root.
    fn clone(&self, from: (InodeNo, u64), blocks: u64, name: &[u8]) -> InodeNo {
        let files = self.files();
        let to = desk::create(files, name);
        let pair = Pair {
            from: (from.0, FileBlock(from.1)),
            to: (to, FileBlock(0)),
            blocks: Blocks(blocks),
        };
        let size = FileBlock(blocks).start();
        let done = files.clone_range(&pair, Some(size), clerk::root().now);
        done.expect("cloned");
        to
    }

    /// The same volume with clones: `c` has what `g` has, of which that has written one block anew; `w` has the first two of them;
    /// and `o`, of which `p` is a clone, is gone.
    fn shared(shape: (u8, u8)) -> Self {
        let sample = Sample::new(shape);
        sample.share();
        sample
    }

    fn share(&self) {
        let (files, now) = (self.files(), clerk::root().now);
        let c = self.clone((self.g, 2), 4, b"c");
        self.clone((c, 0), 2, b"w");
        desk::write(files, self.g, 5, &desk::pattern(1, 4), Way::Sealed);
        let o = desk::create(files, b"o");
        desk::write(files, o, 0, &desk::pattern(3, 5), Way::Sealed);
        self.clone((o, 0), 3, b"p");
        files.unlink(ROOT, b"o", Users::None, now).expect("gone");
        self.mounted.checkpoint().expect("a checkpoint");
    }

    /// What is said of who names an engram is this: runs of blocks, first, last, and how often.
    fn say(&self, engram: EngramId, of: Of, runs: &[(usize, usize, u32)]) {
        let mut tally = Tally::try_new().expect("memory");
        for (first, last, number) in runs {
            (*first..=*last).for_each(|block| tally.set(block, *number));
        }
        let value = tally.encode().expect("memory");
        self.change(REFERENCES, reference::key(engram, of), value.as_deref());
    }

    fn change(&self, tree: TreeId, key: Key, value: Option<&[u8]>) {
        let mut txn = self.mounted.begin().expect("begun");
        match value {
            Some(value) => txn.set(tree, key, value).expect("set"),
            None => txn.remove(tree, key).expect("removed"),
        }
        txn.commit().expect("committed");
    }

    fn put(&self, item: Item, value: &[u8]) {
        self.change(NAMES, item.at(SnapshotId::FIRST), Some(value));
    }

    fn remove(&self, item: Item) {
        self.change(NAMES, item.at(SnapshotId::FIRST), None);
    }

    /// The item of this kind of an inode whose value ends so, and its value.
    fn only(&self, inode: InodeNo, kind: Kind, name: &[u8]) -> (Item, Vec<u8>) {
        let (first, last) = (Item::new(inode, kind, 0), Item::new(inode, kind, u64::MAX));
        let mut items = self.view.items(&self.mounted, first, last);
        while let Some((item, value)) = items.next().expect("read") {
            if value.ends_with(name) {
                return (item, value.to_vec());
            }
        }
        panic!("no such item");
    }

    fn change_inode(&self, number: InodeNo, change: impl FnOnce(&mut Inode)) {
        let mut inode = self.files().inode(number).expect("read");
        change(&mut inode);
        self.put(Item::inode(number), &inode.encode().expect("memory"));
    }

    fn target(&self, number: InodeNo) -> Target {
        let inode = self.files().inode(number).expect("read");
        Target {
            inode: number,
            generation: inode.generation,
            kind: inode.kind,
        }
    }

    /// The engram that a file names first, and its map.
    fn engram(&self, file: InodeNo) -> (EngramId, Map) {
        let (_, value) = self.only(file, Kind::EXTENTS, b"");
        let runs = extent::parse(&value).expect("runs");
        let run = runs.iter().next().expect("a run");
        let key = engram::key(run.engram, engram::Kind::Map, 0);
        let map = self.mounted.get(ENGRAMS, key, Map::parse).expect("read");
        let map = map.expect("there").expect("memory").expect("a map");
        (run.engram, map)
    }

    /// The volume without the mount, which ends well.
    fn close(self) -> Fleet {
        self.mounted.close().expect("closed");
        self.fleet
    }
}

fn entry(target: Target, name: &[u8]) -> Vec<u8> {
    let name = Name::new(name).expect("a name");
    name::encode_entry(target, name).expect("memory").to_vec()
}

fn orphan(number: InodeNo) -> Item {
    Item::new(InodeNo::NONE, Kind::ORPHAN, number.0)
}

fn numbers() -> Item {
    Item::new(InodeNo::NONE, Kind::NUMBERS, 0)
}

/// Repairs what was damaged: a check finds nothing then but what `left` says, what could be read can be read, and once more nothing is
/// done and nothing changes.
#[track_caller]
fn mended_with(fleet: &Fleet, how: How, left: &dyn Fn(&Finding) -> bool) -> Deeds {
    let before = mender::readable(7, fleet).expect("to be looked at");
    let found = mender::findings(7, fleet).expect("checked");
    assert_ne!(found, [], "nothing is wrong");
    let snapshot = fleet.snapshot();
    let planned = mender::plan(7, fleet, how).expect("planned");
    assert!(
        fleet.snapshot().fingerprint() == snapshot.fingerprint(),
        "a plan wrote"
    );
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
    let after = mender::readable(9, fleet).expect("to be looked at");
    mender::kept(&before, &after).unwrap_or_else(|why| panic!("{why}\n{deeds:?}"));
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
fn mended(shape: (u8, u8), damage: impl FnOnce(&Sample)) -> (Fleet, Deeds) {
    let sample = Sample::new(shape);
    damage(&sample);
    let fleet = sample.close();
    let deeds = mended_with(&fleet, PLAIN, &|_| false);
    (fleet, deeds)
}

/// The paths at which an inode is found.
fn paths(fleet: &Fleet, number: InodeNo) -> Vec<String> {
    let all = mender::readable(12, fleet).expect("read");
    let mut paths = all.get(&number.0).map_or(Vec::new(), |r| r.paths.clone());
    paths.sort();
    paths
}

#[test]
fn a_sound_volume_is_left_as_it_is() {
    for shape in [(1, 0), (1, 1), (2, 1)] {
        let fleet = Sample::new(shape).close();
        assert_eq!(mender::findings(7, &fleet), Ok(vec![]));
        let items = mender::items(7, &fleet);
        assert!(mender::plan(7, &fleet, PLAIN)
            .expect("planned")
            .0
            .is_empty());
        let deeds = mender::mend(7, &fleet, PLAIN).expect("repaired");
        assert!(deeds.0.is_empty(), "{deeds:?}");
        assert!(items == mender::items(7, &fleet));
    }
}

#[test]
fn link_counts_and_numbers_of_entries() {
    let (fleet, deeds) = mended((1, 1), |s| {
        s.change_inode(s.f, |inode| inode.nlink = 5);
        s.change_inode(s.g, |inode| inode.entries = 9);
        s.change_inode(s.d, |inode| inode.entries = 7);
        s.change_inode(ROOT, |inode| inode.nlink = 2);
    });
    assert_eq!(deeds.0.len(), 4, "{deeds:?}");
    assert!(deeds.has("counted"));
    let look = machine::inspect(1, &fleet).expect("mounted");
    let links = mender::with_files(&look, |files| files.inode(InodeNo(4)).map(|i| i.nlink));
    assert_eq!(links, Ok(2));
}

#[test]
fn a_link_count_that_is_too_low_grows() {
    let mut file = InodeNo::NONE;
    let (fleet, _) = mended((1, 1), |s| {
        file = s.f;
        s.change_inode(s.f, |inode| inode.nlink = 1);
    });
    assert_eq!(paths(&fleet, file), ["/again", "/d/f"]);
}

#[test]
fn what_has_no_name_is_in_lost_and_found() {
    // The entry goes, and what the file says of it.
    let (mut g, mut d, mut h) = (InodeNo::NONE, InodeNo::NONE, InodeNo::NONE);
    let (fleet, deeds) = mended((1, 1), |s| {
        (g, d, h) = (s.g, s.d, s.h);
        for (number, name) in [(s.g, &b"g"[..]), (s.d, b"d")] {
            s.remove(s.only(ROOT, Kind::ENTRY, name).0);
            s.remove(s.only(number, Kind::PARENT, b"").0);
        }
    });
    assert!(deeds.has("lost-and-found"), "{deeds:?}");
    // It knows of its name at once.
    assert!(!deeds.has("parent-added"), "{deeds:?}");
    assert_eq!(paths(&fleet, g), [format!("/lost+found/#{g}")]);
    assert_eq!(paths(&fleet, d), [format!("/lost+found/#{d}")]);
    assert_eq!(paths(&fleet, h), [format!("/lost+found/#{d}/e/h")]);
}

#[test]
fn an_entry_that_was_lost_comes_back() {
    let (mut f, mut e) = (InodeNo::NONE, InodeNo::NONE);
    let (fleet, deeds) = mended((1, 1), |s| {
        (f, e) = (s.f, s.e);
        s.remove(s.only(ROOT, Kind::ENTRY, b"again").0);
        s.remove(s.only(s.d, Kind::ENTRY, b"e").0);
    });
    assert!(deeds.has("entry-restored"), "{deeds:?}");
    assert_eq!(paths(&fleet, f), ["/again", "/d/f"]);
    assert_eq!(paths(&fleet, e), ["/d/e"]);
    // Where the count says that it was removed, it stays so.
    let (fleet, deeds) = mended((1, 1), |s| {
        s.remove(s.only(ROOT, Kind::ENTRY, b"again").0);
        s.change_inode(s.f, |inode| inode.nlink = 1);
        s.change_inode(ROOT, |inode| inode.entries -= 1);
    });
    assert!(deeds.has("parents-rewritten"), "{deeds:?}");
    assert_eq!(paths(&fleet, f), ["/d/f"]);
}

#[test]
fn an_entry_without_an_inode_goes() {
    let (fleet, deeds) = mended((1, 1), |s| {
        let nobody = Target {
            inode: InodeNo(999),
            ..s.target(s.g)
        };
        let item = s.only(ROOT, Kind::ENTRY, b"g").0;
        let other = Item::new(ROOT, Kind::ENTRY, item.sub() ^ (5 << 30));
        s.put(other, &entry(nobody, b"nobody"));
    });
    assert!(
        deeds.has("entry-moved") && deeds.has("entry-removed"),
        "{deeds:?}"
    );
    assert_eq!(mender::readable(1, &fleet).expect("read").len(), 7);
}

#[test]
fn entries_that_disagree_with_their_inodes() {
    // Type and generation.
    let (_, deeds) = mended((1, 1), |s| {
        let (item, _) = s.only(ROOT, Kind::ENTRY, b"g");
        let wrong = Target {
            kind: FileType::Fifo,
            generation: 1,
            ..s.target(s.g)
        };
        s.put(item, &entry(wrong, b"g"));
    });
    assert!(deeds.has("entry-corrected"), "{deeds:?}");
    // Another place than that of the name's hash; and the same name twice.
    let mut g = InodeNo::NONE;
    let (fleet, deeds) = mended((1, 1), |s| {
        g = s.g;
        let (item, value) = s.only(ROOT, Kind::ENTRY, b"g");
        s.remove(item);
        s.put(Item::new(ROOT, Kind::ENTRY, item.sub() ^ (1 << 30)), &value);
    });
    assert!(deeds.has("entry-moved"), "{deeds:?}");
    assert_eq!(paths(&fleet, g), ["/g"]);
    let (fleet, deeds) = mended((1, 1), |s| {
        let (item, value) = s.only(ROOT, Kind::ENTRY, b"g");
        s.put(Item::new(ROOT, Kind::ENTRY, item.sub() + 3), &value);
    });
    assert!(deeds.has("entry-removed"), "{deeds:?}");
    assert_eq!(paths(&fleet, g), ["/g"]);
    // A name that leads to another file, which knows nothing of it.
    let (fleet, deeds) = mended((1, 1), |s| {
        let (item, _) = s.only(ROOT, Kind::ENTRY, b"g");
        s.put(item, &entry(s.target(s.h), b"g"));
    });
    assert!(deeds.has("entry-restored"), "{deeds:?}");
    assert_eq!(paths(&fleet, g), ["/g"]);
}

#[test]
fn parents_are_what_directories_say() {
    let (fleet, deeds) = mended((1, 1), |s| {
        s.remove(s.only(s.g, Kind::PARENT, b"").0);
    });
    assert!(deeds.has("parent-added"), "{deeds:?}");
    let (_, deeds) = mended((1, 1), |s| {
        let (item, value) = s.only(s.g, Kind::PARENT, b"");
        s.remove(item);
        s.put(Item::new(s.g, Kind::PARENT, item.sub() ^ 1), &value);
    });
    assert!(deeds.has("parents-rewritten"), "{deeds:?}");
    let (_, deeds) = mended((1, 1), |s| {
        let (item, _) = s.only(s.g, Kind::PARENT, b"");
        s.put(item, b"\x01");
    });
    assert!(deeds.has("parent-added"), "{deeds:?}");
    drop(fleet);
}

/// What is found at one name only, as the other is in what is no directory any more, is found at that one still.
#[test]
fn a_name_where_nobody_finds_it_counts_for_less() {
    let sample = Sample::new((1, 1));
    let (e, d) = (sample.e, sample.d);
    let (item, value) = sample.only(d, Kind::ENTRY, b"e");
    sample.put(Item::new(ROOT, Kind::ENTRY, item.sub()), &value);
    let link = sample.files().lookup(ROOT, b"l").expect("there").inode;
    let link = sample.files().inode(link).expect("read");
    sample.put(Item::inode(d), &link.encode().expect("memory"));
    let fleet = sample.close();
    assert_eq!(paths(&fleet, e), ["/e"]);
    mended_with(&fleet, PLAIN, &|_| true);
    assert_eq!(paths(&fleet, e), ["/e"]);
}

#[test]
fn a_directory_has_one_name() {
    let mut e = InodeNo::NONE;
    let (fleet, deeds) = mended((1, 1), |s| {
        e = s.e;
        let files = s.files();
        let other = files
            .create(ROOT, b"other", &new(What::Regular))
            .expect("made");
        let other = other.what.number;
        let (item, _) = s.only(ROOT, Kind::ENTRY, b"other");
        s.put(item, &entry(s.target(s.e), b"other"));
        s.remove(s.only(other, Kind::PARENT, b"").0);
        s.remove(Item::inode(other));
    });
    assert!(deeds.has("entry-removed"), "{deeds:?}");
    // It keeps the name that it says it has.
    assert_eq!(paths(&fleet, e), ["/d/e"]);
    // It says that it has both.
    let (fleet, _) = mended((1, 1), |s| {
        let files = s.files();
        let other = files
            .create(ROOT, b"other", &new(What::Regular))
            .expect("made");
        let other = other.what.number;
        let (item, _) = s.only(ROOT, Kind::ENTRY, b"other");
        s.put(item, &entry(s.target(s.e), b"other"));
        let (parent, value) = s.only(other, Kind::PARENT, b"");
        s.put(Item::new(s.e, Kind::PARENT, parent.sub()), &value);
        s.remove(parent);
        s.remove(Item::inode(other));
    });
    assert_eq!(paths(&fleet, e).len(), 1);
}

/// Of two names of a directory, that goes which is not found by listing.
#[test]
fn the_name_that_is_listed_stays() {
    // Whether the inode knows of both names, and whether something before the one it knew makes no sense.
    for (knows_both, is_torn) in [(false, false), (false, true), (true, false), (true, true)] {
        let sample = Sample::new((1, 1));
        let (s, e) = (&sample, sample.e);
        let other = s.files().create(ROOT, b"other", &new(What::Regular));
        let other = other.expect("made").what.number;
        let (item, _) = s.only(ROOT, Kind::ENTRY, b"other");
        s.put(item, &entry(s.target(e), b"other"));
        let (parent, value) = s.only(other, Kind::PARENT, b"");
        if knows_both {
            s.put(Item::new(e, Kind::PARENT, parent.sub()), &value);
        }
        s.remove(parent);
        s.remove(Item::inode(other));
        if is_torn {
            s.put(Item::new(s.d, Kind::ENTRY, 0), b"?");
        }
        let fleet = sample.close();
        mended_with(&fleet, PLAIN, &|_| is_torn);
        let paths = paths(&fleet, e);
        assert_eq!(paths.len(), 1);
        assert!(!is_torn || paths == ["/other"], "{paths:?}");
    }
}

#[test]
fn directories_in_a_circle_come_back() {
    let (mut d, mut h) = (InodeNo::NONE, InodeNo::NONE);
    let (fleet, deeds) = mended((1, 1), |s| {
        (d, h) = (s.d, s.h);
        // `d` is in `e` now, which is in `d`.
        let (from, _) = s.only(ROOT, Kind::ENTRY, b"d");
        s.remove(from);
        let other = s
            .files()
            .create(s.e, b"x", &new(What::Regular))
            .expect("made");
        let other = other.what.number;
        let (item, _) = s.only(s.e, Kind::ENTRY, b"x");
        s.put(item, &entry(s.target(s.d), b"x"));
        let (parent, value) = s.only(other, Kind::PARENT, b"");
        s.remove(s.only(s.d, Kind::PARENT, b"").0);
        s.put(Item::new(s.d, Kind::PARENT, parent.sub()), &value);
        s.remove(parent);
        s.remove(Item::inode(other));
        s.change_inode(s.e, |inode| inode.nlink = 3);
        s.change_inode(ROOT, |inode| {
            inode.nlink = 2;
            inode.entries -= 1;
        });
    });
    assert!(deeds.has("lost-and-found"), "{deeds:?}");
    assert_eq!(paths(&fleet, h).len(), 1);
    assert_eq!(paths(&fleet, d).len(), 1);
}

#[test]
fn lists_of_what_is_to_be_done() {
    let mut g = InodeNo::NONE;
    let (fleet, deeds) = mended((1, 1), |s| {
        g = s.g;
        // A file that has a name, one that there is not, and one in the wrong place.
        s.put(orphan(s.g), &name::encode_number(s.g));
        s.put(orphan(InodeNo(9999)), &name::encode_number(InodeNo(9999)));
        let made = s.files().create_orphan(&new(What::Regular)).expect("made");
        let number = made.what.number;
        s.remove(orphan(number));
        s.put(orphan(InodeNo(12)), &name::encode_number(number));
    });
    assert!(
        deeds.has("listed-dropped") && deeds.has("listed-moved"),
        "{deeds:?}"
    );
    assert_eq!(paths(&fleet, g), ["/g"]);
    // One without a name that nobody meant to remove.
    let mut number = InodeNo::NONE;
    let (fleet, _) = mended((1, 1), |s| {
        let made = s.files().create_orphan(&new(What::Regular)).expect("made");
        number = made.what.number;
        s.remove(orphan(number));
    });
    assert_eq!(paths(&fleet, number), [format!("/lost+found/#{number}")]);
    // One that has lost its name, and is said to be removed: it was not.
    let (fleet, _) = mended((1, 1), |s| {
        s.put(orphan(s.g), &name::encode_number(s.g));
        s.remove(s.only(ROOT, Kind::ENTRY, b"g").0);
        s.remove(s.only(s.g, Kind::PARENT, b"").0);
    });
    assert_eq!(paths(&fleet, g), [format!("/lost+found/#{g}")]);
}

#[test]
fn numbers_that_were_given_out() {
    for value in [
        None,
        Some(&b"?"[..]),
        Some(&name::encode_number(InodeNo(3))[..]),
    ] {
        let (fleet, deeds) = mended((1, 1), |s| {
            let key = numbers().at(SnapshotId::NONE);
            s.change(NAMES, key, value);
        });
        assert!(deeds.has("counter"), "{deeds:?}");
        let mounted = machine::mount(1, &fleet, machine::READ_WRITE).expect("mounted");
        let made = mender::with_files(&mounted, |files| desk::create(files, b"new"));
        assert!(made.0 > 7, "{made}");
    }
    let (_, deeds) = mended((2, 1), |s| {
        let one = name::encode_number(InodeNo(1));
        let engrams = engram::key(EngramId::NONE, engram::Kind::Numbers, 0);
        s.change(ENGRAMS, engrams, Some(&one));
        let stripes = stripe::key(StripeId::NONE, stripe::Kind::Numbers, 0);
        s.change(STRIPES, stripes, Some(&one));
    });
    assert_eq!(deeds.0.len(), 2, "{deeds:?}");
}

#[test]
fn inodes_are_made_again_from_what_is_left() {
    let (mut g, mut d, mut h) = (InodeNo::NONE, InodeNo::NONE, InodeNo::NONE);
    let (fleet, deeds) = mended((1, 1), |s| {
        (g, d, h) = (s.g, s.d, s.h);
        s.remove(Item::inode(s.g));
        s.remove(Item::inode(s.d));
        s.remove(Item::inode(ROOT));
    });
    assert!(deeds.has("inode-made"), "{deeds:?}");
    assert_eq!(paths(&fleet, g), ["/g"]);
    assert_eq!(paths(&fleet, h), ["/d/e/h"]);
    let all = mender::readable(1, &fleet).expect("read");
    let g = all.get(&g.0).expect("g");
    assert_eq!(g.size, 6 * 4096);
    let bytes: Vec<u8> = (2..6).flat_map(|n| g.blocks[&n].clone()).collect();
    assert!(bytes == desk::pattern(4, 2));
    // Called a file, and a directory by all else.
    let (fleet, _) = mended((1, 1), |s| {
        s.change_inode(s.e, |inode| {
            inode.kind = FileType::Regular;
            inode.entries = 0;
            inode.nlink = 1;
        });
    });
    assert_eq!(paths(&fleet, h), ["/d/e/h"]);
}

#[test]
fn what_makes_no_sense_goes_only_if_that_is_wanted() {
    let sample = Sample::new((1, 1));
    sample.put(Item::new(sample.g, Kind(0x55), 7), b"x");
    sample.put(Item::new(InodeNo::NONE, Kind(0x01), 0), b"x");
    sample.put(Item::new(sample.h, Kind::INLINE, 9), b"\x02x");
    sample.change(NAMES, Item::inode(sample.g).at(SnapshotId(9)), Some(b"x"));
    let number = sample.g;
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.0.is_empty(), "{deeds:?}");
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    let deeds = mended_with(&fleet, how, &|_| false);
    assert_eq!(
        deeds
            .0
            .iter()
            .filter(|(_, kind, _)| *kind == "dropped")
            .count(),
        4
    );
    assert_eq!(paths(&fleet, number), ["/g"]);
}

#[test]
fn what_lives_of_engrams_is_what_files_name() {
    for shape in [(1, 1), (2, 1)] {
        let live = |s: &Sample, map: &Map, blocks: std::ops::Range<usize>| {
            let mut live = Live::default();
            live.set(blocks.start, blocks.len());
            let (number, _) = s.engram(s.g);
            let key = engram::key(number, engram::Kind::Live, 0);
            let value = live.encode(map.blocks).expect("memory");
            s.change(ENGRAMS, key, Some(&value));
        };
        // Less than what is named; nothing at all; and no such item.
        for blocks in [0..3, 0..0] {
            let (_, deeds) = mended(shape, |s| live(s, &s.engram(s.g).1, blocks));
            assert!(deeds.has("engram"), "{deeds:?}");
        }
        mended(shape, |s| {
            let (number, _) = s.engram(s.g);
            s.change(ENGRAMS, engram::key(number, engram::Kind::Live, 0), None);
        });
        // More than what is named.
        let mut file = InodeNo::NONE;
        let (fleet, deeds) = mended(shape, |s| {
            file = s.g;
            let (number, _) = s.engram(s.g);
            let (item, _) = s.only(s.g, Kind::EXTENTS, b"");
            let run = Run::plain(2, 3, Encoding::Raw, number, 0);
            s.put(item, &extent::encode(&[run]).expect("memory"));
        });
        let told = deeds.0.iter().any(|(_, kind, text)| {
            *kind == "engram" && text.contains(&format!("inode {file}, from its block 5 on"))
        });
        assert!(told, "{deeds:?}");
        drop(fleet);
        // Another's, nobody's, and somebody's twice.
        for (at, owner) in [(0, Some(9)), (0, None), (1, Some(2))] {
            mended(shape, |s| {
                let (number, map) = s.engram(s.g);
                let key = engram::key(number, engram::Kind::Owner, at);
                let owner = owner.map(|inode| Owner {
                    blocks: map.blocks - at,
                    inode: InodeNo(inode),
                    at: FileBlock(2),
                });
                let value = owner.map(|o| o.encode());
                s.change(ENGRAMS, key, value.as_ref().map(|v| &v[..]));
            });
        }
    }
}

/// Blocks that a file names and that are said to be dead are given to nobody, whatever goes on before they live again.
#[test]
fn what_is_named_is_not_written_over() {
    let sample = Sample::new((1, 1));
    let (number, map) = sample.engram(sample.g);
    let key = engram::key(number, engram::Kind::Live, 0);
    let none = Live::default().encode(map.blocks).expect("memory");
    sample.change(ENGRAMS, key, Some(&none));
    let places: Vec<_> = map.copies().expect("copies").iter().collect();
    let mut txn = sample.mounted.begin().expect("begun");
    for place in &places {
        let blocks = Blocks(map.blocks as u64);
        txn.free(embr_engine::format::journal::Extent {
            device: place.device,
            start: place.block,
            blocks,
        })
        .expect("freed");
    }
    txn.commit().expect("committed");
    let fleet = sample.close();
    let deeds = mended_with(&fleet, PLAIN, &|_| false);
    assert!(deeds.has("taken") && deeds.has("engram"), "{deeds:?}");
}

#[test]
fn an_engram_that_nobody_names_gives_back_its_room() {
    let (fleet, deeds) = mended((1, 1), |s| {
        s.remove(s.only(s.g, Kind::EXTENTS, b"").0);
    });
    assert!(deeds.has("engram") && deeds.has("freed"), "{deeds:?}");
    let (fleet2, deeds) = mended((1, 1), |s| {
        let (number, _) = s.engram(s.g);
        s.remove(s.only(s.g, Kind::EXTENTS, b"").0);
        s.change(ENGRAMS, engram::key(number, engram::Kind::Map, 0), None);
    });
    assert!(deeds.has("engram-removed"), "{deeds:?}");
    drop((fleet, fleet2));
}

#[test]
fn what_is_said_of_stripes() {
    let first = |s: &Sample| {
        let all = contents::scan(&s.mounted, STRIPES).expect("read");
        let found = all.iter().find(|(key, _)| key.0[0] != 0);
        StripeId(found.expect("a stripe").0 .0[0])
    };
    for live in [Some(1), None, Some(0)] {
        let (_, deeds) = mended((2, 1), |s| {
            let key = stripe::key(first(s), stripe::Kind::Live, 0);
            s.change(STRIPES, key, live.map(encode_live).as_ref().map(|v| &v[..]));
        });
        assert!(deeds.has("stripe-lives"), "{deeds:?}");
    }
    let (_, deeds) = mended((2, 1), |s| {
        let stripe = first(s);
        for grade in [0, 3, 7] {
            s.change(STRIPES, stripe::wasteful(grade, stripe), Some(&[1]));
            let other = StripeId(stripe.0 + 50);
            s.change(STRIPES, stripe::wasteful(grade, other), Some(&[1]));
        }
    });
    assert!(deeds.has("stripe-listed"), "{deeds:?}");
    for totals in [
        Some(Totals {
            taken: Blocks(4),
            live: Blocks(9),
        }),
        None,
    ] {
        let (_, deeds) = mended((2, 1), |s| {
            let key = stripe::key(StripeId::NONE, stripe::Kind::Totals, 0);
            s.change(
                STRIPES,
                key,
                totals.map(|t| t.encode()).as_ref().map(|v| &v[..]),
            );
        });
        assert!(deeds.has("totals"), "{deeds:?}");
    }
}

fn drives(fleet: &Fleet) -> Vec<(Slot, DriveHandle)> {
    let drives = fleet.drives();
    drives.into_iter().map(|d| (d.slot(), d)).collect()
}

/// Changes the items of free space.
fn forge_space(fleet: &Fleet, mut edit: impl FnMut(&mut Vec<(Key, Vec<u8>)>)) {
    let mounted = machine::inspect_telling(5, fleet, &mut |_| {}).expect("mounted");
    let volume = mounted.volume();
    drop(mounted);
    let mut change = |spot: forge::Spot, bytes: &mut Vec<u8>| {
        if spot.tree == SPACE && spot.level.is_leaf() {
            forge::entries(bytes, volume, &mut edit);
        }
    };
    forge::forge(&drives(fleet), &mut change, &mut |_, _, _| {}).expect("forged");
}

/// A sample that was unmounted twice, so that the nodes of its roots are in its free space.
fn unmounted(shape: (u8, u8)) -> Fleet {
    let fleet = Sample::new(shape).close();
    let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
    mounted.checkpoint().expect("a checkpoint");
    mounted.close().expect("closed");
    fleet
}

#[test]
fn free_space_is_what_nothing_uses() {
    for shape in [(1, 1), (2, 1)] {
        // More than is used; nothing at all; and things that cannot be.
        let fleet = unmounted(shape);
        forge_space(&fleet, |all| {
            let (_, value) = all
                .iter_mut()
                .find(|(key, _)| key.0[0] == 1)
                .expect("an item");
            value.extend_from_slice(&7000u16.to_le_bytes());
            value.extend_from_slice(&9u16.to_le_bytes());
        });
        let deeds = mended_with(&fleet, PLAIN, &|_| false);
        assert!(deeds.has("freed"), "{deeds:?}");
        let fleet = unmounted(shape);
        forge_space(&fleet, |all| all.retain(|(key, _)| key.0[0] != 1));
        let deeds = mended_with(&fleet, PLAIN, &|_| false);
        // What the journal says of it may already be too much.
        assert!(
            deeds.has("taken") || deeds.has("space-rewritten"),
            "{deeds:?}"
        );
        for (bad, value) in [
            (Key([1, 0, 7]), vec![1]),
            (Key([1, 99, 0]), vec![1]),
            (Key([1, 0, 0]), vec![7]),
            (Key([99, 0, 0]), vec![1]),
        ] {
            let fleet = unmounted(shape);
            forge_space(&fleet, |all| {
                all.retain(|(key, _)| *key != bad);
                all.push((bad, value.clone()));
                all.sort();
            });
            lost_space(&fleet);
        }
    }
}

/// Free space of which part makes no sense is written anew.
#[track_caller]
fn lost_space(fleet: &Fleet) {
    let before = mender::readable(7, fleet).expect("to be looked at");
    assert_ne!(mender::findings(7, fleet), Ok(vec![]));
    let deeds = mender::mend(8, fleet, PLAIN).expect("repaired");
    assert!(deeds.has("space-rewritten"), "{deeds:?}");
    assert_eq!(mender::findings(9, fleet), Ok(vec![]), "{deeds:?}");
    let after = mender::readable(9, fleet).expect("read");
    assert_eq!(mender::kept(&before, &after), Ok(()));
    let again = mender::mend(10, fleet, PLAIN).expect("repaired");
    assert!(again.0.is_empty(), "{again:?}");
    // The root counts its nodes rightly.
    let mounted = machine::inspect(5, fleet).expect("mounted");
    assert_eq!(contents::audit(&mounted).map(|n| n > 0), Ok(true));
}

#[test]
fn a_tree_of_free_space_that_is_lost_is_written_anew() {
    for shape in [(1, 0), (1, 1), (2, 1)] {
        let fleet = unmounted(shape);
        let mounted = machine::inspect(5, &fleet).expect("mounted");
        let base = mounted.bases().find(|b| b.tree == SPACE).expect("a tree");
        drop(mounted);
        for place in base.top.expect("not empty").pointer.places.iter() {
            fleet.rot(place.device, place.block.bytes().expect("a place"), 1 << 3);
        }
        assert!(machine::mount(4, &fleet, machine::READ_WRITE).is_err());
        lost_space(&fleet);
        let mounted = machine::mount(4, &fleet, machine::READ_WRITE).expect("mounted");
        drop(mounted);
    }
}

/// Of blocks that two engrams have nothing is freed while one of them has them.
#[test]
fn what_two_have_is_nobodys_to_free() {
    let sample = Sample::new((1, 1));
    let (f, g) = (sample.f, sample.g);
    let (number, _) = sample.engram(f);
    let (_, map) = sample.engram(g);
    // The engram of `f` lies where that of `g` lies, as far as it goes; and nothing names it any more.
    let shared = Map::copied(3, Policy::VOLUME, *map.copies().expect("copies"));
    let key = engram::key(number, engram::Kind::Map, 0);
    sample.change(ENGRAMS, key, Some(&shared.encode().expect("memory")));
    let fleet = sample.close();
    let is_shared = |f: &Finding| matches!(f, Finding::Overlap(..) | Finding::Rotten(..));
    let twice =
        |f: &Finding| is_shared(f) || matches!(f, Finding::Names(_, Trouble::NamedTwice(_)));
    mended_with(&fleet, PLAIN, &twice);
    let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
    let mut txn = mounted.begin().expect("begun");
    let window = Item::new(f, Kind::EXTENTS, 0).at(SnapshotId::FIRST);
    txn.remove(NAMES, window).expect("removed");
    txn.commit().expect("committed");
    mounted.close().expect("closed");
    let deeds = mended_with(&fleet, PLAIN, &|_| false);
    assert!(deeds.has("engram"), "{deeds:?}");
    let mounted = machine::inspect(5, &fleet).expect("mounted");
    for place in map.copies().expect("copies").iter() {
        assert!((0..4).all(|n| mounted.is_used(place.device, Blocks(place.block.0 + n))));
    }
}

/// What follows from nothing else is left, and told.
#[test]
fn what_cannot_be_known_is_left() {
    let sample = Sample::new((1, 1));
    let (number, map) = sample.engram(sample.g);
    sample.change(ENGRAMS, engram::key(number, engram::Kind::Map, 0), None);
    let fleet = sample.close();
    mended_with(&fleet, PLAIN, &|f| {
        matches!(
            f,
            // What it used is not known, so nothing is given back.
            Finding::Engram(_, Defect::NoMap)
                | Finding::Names(_, Trouble::NoEngram(_))
                | Finding::Unused(_)
        )
    });
    let mounted = machine::inspect(5, &fleet).expect("mounted");
    for place in map.copies().expect("copies").iter() {
        assert!((0..4).all(|n| mounted.is_used(place.device, Blocks(place.block.0 + n))));
    }
}

/// Whether all agrees, and all of it can be removed.
#[track_caller]
fn can_be_emptied(fleet: &Fleet) {
    let mounted = machine::mount_plain(4, fleet, machine::READ_WRITE).expect("mounted");
    let audit = || contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    audit();
    mender::with_files(&mounted, |files| {
        for name in [&b"g"[..], b"w", b"c", b"p"] {
            let done = files.unlink(ROOT, name, Users::None, clerk::root().now);
            done.unwrap_or_else(|why| panic!("{why}"));
        }
    });
    // What `f` has.
    assert_eq!(audit(), 3);
    assert_eq!(contents::scan(&mounted, REFERENCES), Ok(vec![]));
}

#[test]
fn what_is_said_of_shared_blocks_is_how_often_files_name_them() {
    type Lie = fn(&Sample, EngramId);
    let lies: [(&str, Lie); 13] = [
        ("too many in all", |s, e| {
            s.say(e, Of::All, &[(0, 1, 4), (2, 2, 2)])
        }),
        ("too few in all", |s, e| s.say(e, Of::All, &[(0, 2, 2)])),
        ("one that one has, in all", |s, e| {
            s.say(e, Of::All, &[(0, 1, 3), (2, 3, 2)]);
        }),
        ("nothing in all", |s, e| s.say(e, Of::All, &[])),
        ("a file too often", |s, e| {
            s.say(e, Of::User(s.g), &[(0, 2, 2)])
        }),
        ("a file not at all", |s, e| s.say(e, Of::User(s.g), &[])),
        ("a file with what it has not", |s, e| {
            s.say(e, Of::User(s.g), &[(0, 3, 1)]);
        }),
        ("no file", |s, e| {
            s.say(e, Of::User(InodeNo(99)), &[(0, 0, 1)])
        }),
        ("all of it too often", |s, e| {
            s.say(e, Of::All, &[(0, 0, 4), (1, 1, 3), (2, 2, 2)]);
            s.say(e, Of::User(s.g), &[(0, 0, 2), (1, 2, 1)]);
        }),
        ("no such engram", |s, e| {
            let other = EngramId(e.0 + 50);
            s.say(other, Of::All, &[(0, 0, 2)]);
            s.say(other, Of::User(s.g), &[(0, 0, 2)]);
        }),
        ("no such block", |s, e| {
            s.say(e, Of::All, &[(0, 1, 3), (2, 2, 2), (200, 200, 2)]);
        }),
        ("no sense in all", |s, e| {
            s.change(REFERENCES, reference::key(e, Of::All), Some(&[9]));
        }),
        ("no sense of a file", |s, e| {
            for inode in [s.g, InodeNo(99)] {
                let key = reference::key(e, Of::User(inode));
                s.change(REFERENCES, key, Some(&[1, 0, 0, 0, 7]));
            }
        }),
    ];
    for shape in [(1, 1), (2, 1)] {
        for (name, lie) in lies {
            println!("{shape:?}: {name}");
            let sample = Sample::shared(shape);
            let (engram, _) = sample.engram(sample.g);
            lie(&sample, engram);
            let fleet = sample.close();
            let deeds = mended_with(&fleet, PLAIN, &|_| false);
            let kinds: Vec<_> = deeds.0.iter().map(|(_, kind, _)| *kind).collect();
            assert_eq!(kinds, ["references"], "{deeds:?}");
            can_be_emptied(&fleet);
        }
        // Nothing is said any more: what several files name is shared again.
        let sample = Sample::shared(shape);
        for (key, _) in contents::scan(&sample.mounted, REFERENCES).expect("read") {
            sample.change(REFERENCES, key, None);
        }
        let fleet = sample.close();
        let deeds = mended_with(&fleet, PLAIN, &|_| false);
        assert!(deeds.has("references"), "{deeds:?}");
        can_be_emptied(&fleet);
    }
}

/// Owners that are gone, and files of which one use is said, are no error: also where all engrams are looked at.
#[test]
fn what_was_shared_once_is_left_as_it_is() {
    let sample = Sample::shared((1, 1));
    let (number, map) = sample.engram(sample.f);
    let key = engram::key(number, engram::Kind::Live, 0);
    let none = Live::default().encode(map.blocks).expect("memory");
    sample.change(ENGRAMS, key, Some(&none));
    sample.say(number, Of::User(InodeNo(99)), &[(0, 0, 1)]);
    let fleet = sample.close();
    let deeds = mended_with(&fleet, PLAIN, &|_| false);
    let kinds: Vec<_> = deeds.0.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, ["engram", "references"], "{deeds:?}");
    can_be_emptied(&fleet);
}

/// A key of which it is not known what it says may be that of a newer version.
#[test]
fn what_else_is_said_of_engrams_stays_unless_it_is_to_go() {
    let sample = Sample::shared((1, 1));
    let (engram, _) = sample.engram(sample.g);
    sample.change(REFERENCES, Key([engram.0, 9 << 56, 0]), Some(&[1, 2]));
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.0.is_empty(), "{deeds:?}");
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    let deeds = mended_with(&fleet, how, &|_| false);
    assert!(deeds.has("dropped"), "{deeds:?}");
    can_be_emptied(&fleet);
}

/// What one has set aside and another has written stays as it was written; what several have set aside is the first's.
#[test]
fn what_was_set_aside_is_not_shared() {
    for is_written in [false, true] {
        let sample = Sample::shared((1, 1));
        let (engram, _) = sample.engram(sample.g);
        let aside = |file, first, at| {
            let run = Run::plain(first, 2, Encoding::Unwritten, engram, at);
            let rest = Run::plain(first + 2, 1, Encoding::Raw, engram, at + 2);
            let value = extent::encode(&[run, rest]).expect("memory");
            let (item, _) = sample.only(file, Kind::EXTENTS, b"");
            sample.put(item, &value);
            sample.change_inode(file, |inode| inode.entries = 3);
        };
        let find = |name: &[u8]| sample.files().lookup(ROOT, name).expect("there").inode;
        let (c, w) = (find(b"c"), find(b"w"));
        aside(sample.g, 2, 0);
        if !is_written {
            aside(c, 0, 0);
            let run = Run::plain(0, 2, Encoding::Unwritten, engram, 0);
            let value = extent::encode(&[run]).expect("memory");
            sample.put(sample.only(w, Kind::EXTENTS, b"").0, &value);
        }
        let g = sample.g;
        let fleet = sample.close();
        let deeds = mended_with(&fleet, PLAIN, &|_| false);
        let left = deeds.0.iter().filter(|(_, kind, _)| *kind == "places-left");
        assert_eq!(left.count(), if is_written { 1 } else { 2 }, "{deeds:?}");
        let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
        mender::with_files(&mounted, |files| {
            // Who has written it does not see what the others write.
            desk::write(files, g, 2, &desk::pattern(2, 8), Way::Sealed);
            let found = desk::read(files, c, 0, 2);
            match is_written {
                true => assert!(found == desk::pattern(4, 2)[..2 * 4096]),
                false => assert!(found.iter().all(|byte| *byte == 0)),
            }
        });
        contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// More files than one transaction takes, and more of them than memory holds at once.
#[test]
fn many_who_name_a_block() {
    let sample = Sample::shared((1, 1));
    let (engram, _) = sample.engram(sample.g);
    let mut made = Vec::new();
    for n in 0..60 {
        made.push(sample.clone((sample.g, 2), 3, format!("many{n}").as_bytes()));
    }
    sample.say(engram, Of::All, &[(0, 2, 2)]);
    for (n, file) in made.iter().enumerate() {
        match n % 3 {
            0 => sample.say(engram, Of::User(*file), &[]),
            1 => sample.say(engram, Of::User(*file), &[(0, 0, 7), (2, 3, 1)]),
            _ => {}
        }
    }
    let fleet = sample.close();
    let how = How {
        memory: 1 << 12,
        ..PLAIN
    };
    let deeds = mended_with(&fleet, how, &|_| false);
    assert_eq!(deeds.0.len(), 1, "{deeds:?}");
    let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
    contents::audit(&mounted).unwrap_or_else(|why| panic!("{why}"));
}

/// Where not all that a file names can be known, what is said of it is not made less.
#[test]
fn what_cannot_be_read_of_a_file_may_be_shared() {
    let sample = Sample::shared((1, 1));
    let (engram, _) = sample.engram(sample.g);
    let c = sample.files().lookup(ROOT, b"c").expect("there").inode;
    let (item, value) = sample.only(c, Kind::EXTENTS, b"");
    sample.put(item, b"\x09");
    // Something else is wrong with references, so that all are looked at.
    sample.say(engram, Of::User(sample.g), &[]);
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.has("references"), "{deeds:?}");
    let again = mender::mend(2, &fleet, PLAIN).expect("repaired");
    assert!(again.0.is_empty(), "{again:?}");
    let mounted = machine::mount_plain(4, &fleet, machine::READ_WRITE).expect("mounted");
    let mut txn = mounted.begin().expect("begun");
    txn.set(NAMES, item.at(SnapshotId::FIRST), &value)
        .expect("set");
    txn.commit().expect("committed");
    mounted.close().expect("closed");
    assert_eq!(mender::findings(3, &fleet), Ok(vec![]));
    can_be_emptied(&fleet);
}

/// Attributes lie where they are looked for, once, with their pieces.
#[test]
fn attributes_are_put_in_their_place() {
    let long = desk::pattern(3, 9);
    let set = |s: &Sample| {
        let now = clerk::root().now;
        for (name, value) in [(&b"user.long"[..], &long[..]), (b"user.short", b"short")] {
            let new = Extended { name, value };
            let files = s.files();
            let put = files.set_attribute(s.g, new, Put::Any, &Attributes::default(), now);
            put.expect("set");
        }
    };
    let far = |item: Item| Item::new(item.owner(), item.kind(), item.sub() ^ (5 << 40));
    let all = |s: &Sample, kind| {
        let items = contents::scan(&s.mounted, NAMES).expect("scanned");
        let items = items
            .into_iter()
            .map(|(key, value)| (Item::of(key).0, value));
        let of_kind = items.filter(|(item, _)| item.owner() == s.g && item.kind() == kind);
        of_kind.collect::<Vec<_>>()
    };
    let check = |fleet: &Fleet, g, right: &[u8]| {
        let look = machine::inspect(1, fleet).expect("mounted");
        let value = |name: &[u8]| mender::with_files(&look, |files| files.attribute(g, name));
        assert!(value(b"user.long").expect("there")[..] == *right);
        assert_eq!(value(b"user.short").expect("there")[..], *b"short");
    };
    // Elsewhere, with their pieces or without.
    for with_pieces in [true, false] {
        let mut g = InodeNo::NONE;
        let (fleet, deeds) = mended((1, 1), |s| {
            g = s.g;
            set(s);
            let mut moved = all(s, Kind::ATTRIBUTE);
            if with_pieces {
                moved.extend(all(s, Kind::PIECE));
            }
            assert!(moved.len() > 1);
            for (item, value) in moved {
                s.remove(item);
                s.put(far(item), &value);
            }
        });
        assert!(deeds.has("attribute-moved"), "{deeds:?}");
        check(&fleet, g, &long);
    }
    // Twice, of which the one that is read stays.
    let mut g = InodeNo::NONE;
    let (fleet, deeds) = mended((1, 1), |s| {
        g = s.g;
        set(s);
        for (item, value) in [all(s, Kind::ATTRIBUTE), all(s, Kind::PIECE)].concat() {
            s.put(far(item), &value);
        }
    });
    assert!(deeds.has("attribute-removed"), "{deeds:?}");
    check(&fleet, g, &long);
    // Without a piece: it stays, unless it is to go; then its other pieces go as well.
    let sample = Sample::new((1, 1));
    set(&sample);
    let pieces = all(&sample, Kind::PIECE);
    assert!(pieces.len() > 1);
    sample.remove(pieces[1].0);
    let g = sample.g;
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.0.is_empty(), "{deeds:?}");
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    mended_with(&fleet, how, &|_| false);
    let look = machine::inspect(1, &fleet).expect("mounted");
    let left = mender::with_files(&look, |files| files.attribute(g, b"user.short").map(drop));
    assert_eq!(left, Ok(()));
}

/// Damages a few items of a volume: keys go, values are garbled, are another's, or are there a second time.
fn damage(s: &Sample, chance: &Chance) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..1 + chance.below(3) {
        let tree = chance.one(&[NAMES, NAMES, ENGRAMS, STRIPES, REFERENCES, REFERENCES]);
        let all = contents::scan(&s.mounted, tree).expect("read");
        if all.is_empty() {
            continue;
        }
        let (key, value) = &all[chance.below(all.len())];
        let alike = all.iter().filter(|(k, _)| k.0[1] >> 56 == key.0[1] >> 56);
        let alike: Vec<_> = alike.collect();
        let (other, theirs) = alike[chance.below(alike.len())];
        match chance.below(5) {
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
fn whatever_is_damaged_repair_ends_and_loses_nothing() {
    let base = seed();
    let mut clean = 0;
    for n in 0..count() {
        let seed = base.wrapping_add(n);
        let chance = Chance::new(seed);
        let shape = chance.one(&[(1, 0), (1, 1), (2, 1)]);
        let sample = match chance.below(3) {
            0 => Sample::new(shape),
            _ => Sample::shared(shape),
        };
        let told = damage(&sample, &chance);
        let fleet = sample.close();
        let how = How {
            memory: chance.one(&[1 << 12, 1 << 20]),
            drop_senseless: chance.below(2) == 0,
        };
        let story = format!("EMBRFS_SEED={seed} EMBRFS_COUNT=1: {how:?} {told:?}");
        let before = mender::readable(7, &fleet).expect("to be looked at");
        let found = mender::findings(7, &fleet).expect("checked");
        let snapshot = fleet.snapshot();
        let deeds = mender::mend(8, &fleet, how);
        let deeds = match deeds {
            // Where a node may be written over, nothing is written.
            Err(why) if why.contains("belongs to a node") => {
                let same = fleet.snapshot().fingerprint() == snapshot.fingerprint();
                assert!(same, "{story}: written to");
                continue;
            }
            deeds => deeds.unwrap_or_else(|why| panic!("{story}: {why}")),
        };
        let after = mender::readable(9, &fleet).expect("to be looked at");
        let kept = mender::kept(&before, &after);
        kept.unwrap_or_else(|why| panic!("{story}: {why}\n{found:?}\n{deeds:?}"));
        let rest = mender::findings(9, &fleet).expect("checked");
        clean += u64::from(rest.is_empty());
        let items = mender::items(9, &fleet).expect("read");
        let again = mender::mend(10, &fleet, how);
        let again = again.unwrap_or_else(|why| {
            panic!("{story}: once more: {why}\n{found:?}\n{deeds:?}\n{rest:?}")
        });
        assert!(
            again.0.is_empty(),
            "{story}: once more {again:?}\n{deeds:?}\nleft {rest:?}"
        );
        let same = items == mender::items(11, &fleet).expect("read");
        assert!(same, "{story}: changed again");
    }
    println!("{clean} of {} are clean", count());
    assert!(
        count() < 30 || clean * 3 > count(),
        "only {clean} of {} are clean",
        count()
    );
}

/// A repair that loses its power anywhere is repeated, and comes to the same.
#[test]
fn a_repair_that_is_cut_short_goes_on() {
    let seed = seed();
    type Damage = fn(&Sample);
    let damages: [((u8, u8), Damage); 4] = [
        ((1, 1), |s| {
            for (number, name) in [(s.g, &b"g"[..]), (s.d, b"d")] {
                s.remove(s.only(ROOT, Kind::ENTRY, name).0);
                s.remove(s.only(number, Kind::PARENT, b"").0);
            }
            s.change_inode(s.f, |inode| inode.nlink = 1);
            let (number, map) = s.engram(s.g);
            let key = engram::key(number, engram::Kind::Live, 0);
            let none = Live::default().encode(map.blocks).expect("memory");
            s.change(ENGRAMS, key, Some(&none));
        }),
        ((2, 1), |s| {
            s.remove(Item::inode(s.g));
            s.remove(Item::inode(ROOT));
            let (number, _) = s.engram(s.f);
            let all = Range {
                first: engram::key(number, engram::Kind::Map, 0),
                last: engram::key(number, engram::Kind::Live, 0),
            };
            for key in [all.first, all.last] {
                s.change(ENGRAMS, key, None);
            }
        }),
        ((1, 0), |s| {
            s.remove(s.only(s.f, Kind::EXTENTS, b"").0);
            s.change(NAMES, numbers().at(SnapshotId::NONE), None);
            s.put(orphan(s.g), &name::encode_number(s.g));
            s.remove(s.only(ROOT, Kind::ENTRY, b"g").0);
            s.remove(s.only(s.g, Kind::PARENT, b"").0);
        }),
        // Several transactions for one engram, a file whose blocks go, and places that are left.
        ((1, 1), |s| {
            s.share();
            let (engram, _) = s.engram(s.g);
            for n in 0..20 {
                let file = s.clone((s.g, 2), 3, format!("many{n}").as_bytes());
                s.say(engram, Of::User(file), &[(1, 1, 3)]);
            }
            s.say(engram, Of::All, &[(0, 1, 2)]);
            let w = s.files().lookup(ROOT, b"w").expect("there").inode;
            let run = Run::plain(0, 2, Encoding::Unwritten, engram, 0);
            let value = extent::encode(&[run]).expect("memory");
            s.put(s.only(w, Kind::EXTENTS, b"").0, &value);
            let p = s.files().lookup(ROOT, b"p").expect("there").inode;
            s.remove(s.only(p, Kind::EXTENTS, b"").0);
        }),
    ];
    let mut states = 0;
    for (shape, damage) in damages {
        for lost_space in [false, true] {
            let sample = Sample::new(shape);
            damage(&sample);
            let fleet = sample.close();
            if lost_space {
                forge_space(&fleet, |all| {
                    all.push((Key([60, 0, 0]), vec![1]));
                });
            }
            let before = mender::readable(7, &fleet).expect("to be looked at");
            fleet.record();
            mender::mend(8, &fleet, PLAIN).expect("repaired");
            let recording = fleet.recorded();
            assert_eq!(mender::findings(9, &fleet), Ok(vec![]));
            let right = mender::readable(9, &fleet).expect("to be looked at");
            let plan = Plan {
                seed,
                subsets: 2,
                tears: 1,
                mixed: 20,
            };
            for state in recording.states(plan) {
                let story = format!("EMBRFS_SEED={seed}, {shape:?}, {lost_space}, {state:?}");
                let snapshot = recording.at(&state).expect("a state");
                let crashed = Fleet::start(1, &snapshot);
                let deeds = mender::mend(10, &crashed, PLAIN);
                let deeds = deeds.unwrap_or_else(|why| panic!("{story}: {why}"));
                let found = mender::findings(11, &crashed).expect("checked");
                assert!(found.is_empty(), "{story}: {found:?}, {deeds:?}");
                let after = mender::readable(11, &crashed).expect("to be looked at");
                let kept = mender::kept(&before, &after);
                kept.unwrap_or_else(|why| panic!("{story}: {why}"));
                let same = mender::by_path(&after) == mender::by_path(&right);
                assert!(same, "{story}: other files");
                states += 1;
            }
        }
    }
    println!("{states} states");
    assert!(states > 200);
}

/// Where an engram is said to lie over a node, whatever is written may go over it: nothing is.
#[test]
fn nothing_is_written_where_a_node_may_be_written_over() {
    // What lives of the engram is known, or is said to be nothing, or is not known.
    for live in [None, Some(true), Some(false)] {
        let sample = Sample::new((1, 0));
        let (number, map) = sample.engram(sample.g);
        if let Some(is_sense) = live {
            let key = engram::key(number, engram::Kind::Live, 0);
            let none = Live::default().encode(map.blocks).expect("memory");
            let value = if is_sense { none.as_slice() } else { b"?" };
            sample.change(ENGRAMS, key, Some(value));
        }
        let key = engram::key(number, engram::Kind::Map, 0);
        let fleet = sample.close();
        let mounted = machine::inspect(5, &fleet).expect("mounted");
        let base = mounted.bases().find(|b| b.tree == NAMES).expect("a tree");
        let top = base.top.expect("not empty");
        let first = top.pointer.places.iter().next().expect("a place");
        let volume = mounted.volume();
        drop(mounted);
        let over = Map::copied(4, Policy::VOLUME, Places::new(&[first]).expect("places"));
        let over = over.encode().expect("memory").to_vec();
        let mut change = |spot: forge::Spot, bytes: &mut Vec<u8>| {
            if spot.tree == ENGRAMS && spot.level.is_leaf() {
                forge::entries(bytes, volume, |all| {
                    for (_, value) in all.iter_mut().filter(|(k, _)| *k == key) {
                        value.clone_from(&over);
                    }
                });
            }
        };
        forge::forge(&drives(&fleet), &mut change, &mut |_, _, _| {}).expect("forged");
        let refused = || mender::mend(8, &fleet, PLAIN).expect_err("refused");
        assert!(refused().contains("belongs to a node"), "{live:?}");
        // All is flushed by now.
        let before = fleet.snapshot().fingerprint();
        refused();
        assert!(fleet.snapshot().fingerprint() == before, "written to");
    }
}

/// A link of which the inode is lost led nobody knows where: what is left of it stays, and so does its name, until it is to go.
#[test]
fn what_nothing_can_be_made_of_keeps_its_name() {
    let sample = Sample::new((1, 1));
    let link = sample.files().lookup(ROOT, b"l").expect("a link").inode;
    sample.remove(Item::inode(link));
    let fleet = sample.close();
    let deeds = mender::mend(1, &fleet, PLAIN).expect("repaired");
    assert!(deeds.0.is_empty(), "{deeds:?}");
    let found = mender::findings(1, &fleet).expect("checked");
    assert_eq!(found.len(), 2, "{found:?}");
    let how = How {
        drop_senseless: true,
        ..PLAIN
    };
    let deeds = mended_with(&fleet, how, &|_| false);
    assert!(
        deeds.has("rest-dropped") && deeds.has("entry-removed"),
        "{deeds:?}"
    );
}

/// What a file names where its extents make no sense is not known: it lives on.
#[test]
fn what_cannot_be_read_of_a_file_is_not_given_back() {
    let sample = Sample::new((1, 1));
    let (_, map) = sample.engram(sample.g);
    let (item, _) = sample.only(sample.g, Kind::EXTENTS, b"");
    sample.put(item, b"\x09");
    // Something else is wrong with engrams, so that all are looked at.
    let (number, _) = sample.engram(sample.f);
    sample.change(ENGRAMS, engram::key(number, engram::Kind::Owner, 0), None);
    let fleet = sample.close();
    mender::mend(1, &fleet, PLAIN).expect("repaired");
    let mounted = machine::inspect(5, &fleet).expect("mounted");
    for place in map.copies().expect("copies").iter() {
        assert!((0..4).all(|n| mounted.is_used(place.device, Blocks(place.block.0 + n))));
    }
}
