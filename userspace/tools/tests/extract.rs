// SPDX-License-Identifier: GPL-2.0

//! embrfs-admin extract: files out of image files, sound and damaged.

mod common;

use common::inside::*;
use common::*;
use embr_engine::file::plan::Site;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::inode::Rdev;
use embr_engine::format::intent::Intent;
use embr_engine::format::intent::Operation;
use embr_engine::format::name::parse_entry;
use embr_engine::names::Attributes;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Users;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::Timestamp;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::STRIPES;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

const BLOCK: usize = 4096;
const NOW: Timestamp = Timestamp {
    seconds: 1_234_567_890,
    nanos: 123_456_789,
};
const ROOT: InodeNo = InodeNo::ROOT;

type F<'f> = Files<'f, Writer<'f>>;

fn volume(dir: &Dir, bundle: &str, mib: u64) -> Vec<String> {
    let (k, m) = bundle.split_once('+').unwrap();
    let count = k.parse::<usize>().unwrap() + m.parse::<usize>().unwrap();
    let devices = dir.images(count, mib);
    mkfs(&["-q", "--bundle", bundle], &devices).expect(0);
    devices
}

fn new(what: What<'_>, permissions: u16) -> New<'_> {
    New {
        what,
        permissions,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: NOW,
    }
}

fn make(files: F<'_>, directory: InodeNo, name: &[u8], what: What<'_>) -> InodeNo {
    let permissions = match what {
        What::Directory => 0o755,
        _ => 0o644,
    };
    let made = files.create(directory, name, &new(what, permissions));
    made.unwrap().what.number
}

/// Bytes that are nowhere the same.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let word = |n: u64| {
        (n ^ (seed << 40))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .to_le_bytes()
    };
    let mut all: Vec<u8> = (1..=length as u64 / 8 + 1).flat_map(word).collect();
    all.truncate(length);
    all
}

/// Writes to a file from a block on, and makes it end there.
fn write(files: F<'_>, file: InodeNo, at: u64, bytes: &[u8], way: Way) {
    let mut whole = bytes.to_vec();
    whole.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let written = Written {
        size: Some(Bytes(at * BLOCK as u64 + bytes.len() as u64)),
        modified: None,
        changed: None,
    };
    let dirty = Dirty {
        at: FileBlock(at),
        bytes: &whole,
    };
    files.write(file, &[dirty], way, &written).unwrap();
}

fn file(files: F<'_>, directory: InodeNo, name: &[u8], bytes: &[u8]) -> InodeNo {
    let number = make(files, directory, name, What::Regular);
    if !bytes.is_empty() {
        write(files, number, 0, bytes, Way::Sealed);
    }
    number
}

/// Extracts into a new directory.
fn extract(dir: &Dir, to: &str, options: &[&str], devices: &[String], paths: &[&str]) -> Done {
    let to = dir.path(to).to_str().unwrap().to_owned();
    let mut rest = devices.to_vec();
    rest.extend(["--to".to_owned(), to]);
    rest.extend(paths.iter().map(|p| (*p).to_owned()));
    admin(&[&["extract", "--only"], options].concat(), &rest)
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// All paths below a directory with what each is, in order.
fn tree(at: &Path) -> BTreeMap<PathBuf, String> {
    fn add(at: &Path, below: &Path, all: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let what = match () {
                () if kind.is_dir() => "directory".to_owned(),
                () if kind.is_symlink() => {
                    format!("-> {}", fs::read_link(&path).unwrap().display())
                }
                () if kind.is_file() => format!("{} bytes", fs::metadata(&path).unwrap().len()),
                () => "special".to_owned(),
            };
            all.insert(path.strip_prefix(below).unwrap().to_owned(), what);
            if kind.is_dir() {
                add(&path, below, all);
            }
        }
    }
    let mut all = BTreeMap::new();
    add(at, at, &mut all);
    all
}

fn paths(at: &Path) -> Vec<String> {
    let all = tree(at).into_keys();
    all.map(|p| p.to_str().unwrap().to_owned()).collect()
}

/// Where the copies or fragments are that a block of a file can be had from: the device and the byte. The block itself comes first, then
/// parity.
fn places(devices: &[String], file: InodeNo, block: u64) -> Vec<(usize, u64)> {
    look(devices, |files| {
        let mut buffer = vec![0; BLOCK];
        let reading = files
            .plan_read(file, FileBlock(block), &mut buffer)
            .unwrap();
        let fetch = &reading.fetches[0];
        match &fetch.site {
            Site::Copies(_) => (0..fetch.copies())
                .map(|copy| fetch.place(copy, 0, 1).unwrap())
                .map(|e| (e.device.index(), e.start.bytes().unwrap().0))
                .collect(),
            Site::Fragment {
                layout,
                fragment,
                row,
                ..
            } => {
                let parity = layout.shape.data()..layout.shape.width();
                [*fragment]
                    .into_iter()
                    .chain(parity)
                    .map(|f| layout.place(f).unwrap())
                    .map(|p| (p.device.index(), (p.block.0 + *row as u64) * BLOCK as u64))
                    .collect()
            }
        }
    })
}

/// Makes a block of a file useless wherever it can be had from.
fn lose(devices: &[String], file: InodeNo, block: u64) {
    for (device, at) in places(devices, file, block) {
        rot(&devices[device], at + 77);
    }
}

/// Everything that devices hold.
fn held(devices: &[String]) -> Vec<Vec<u8>> {
    devices.iter().map(|d| fs::read(d).unwrap()).collect()
}

/// Whether files here can have extended attributes.
fn keeps_attributes(dir: &Dir) -> bool {
    let path = dir.path("probe");
    fs::write(&path, "").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&path, "user.probe", b"1", flags).is_ok()
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 65536];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

#[test]
fn a_mixed_tree_comes_out_as_it_was_with_two_members_of_six_away() {
    let dir = Dir::new();
    let devices = volume(&dir, "4+2", 64);
    let odd = bytes(1, (1 << 20) * 3 + 777);
    let inline = bytes(2, 5000);
    work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let deep = make(files, sub, b"deep", What::Directory);
        file(files, ROOT, b"empty", b"");
        let hello = file(files, sub, b"hello", b"Hello, world\n");
        file(files, deep, b"odd", &odd);
        file(files, deep, b"whole", &odd[..BLOCK * 2]);
        let tiny = make(files, deep, b"inline", What::Regular);
        write(files, tiny, 0, &inline, Way::Inline);
        // Holes before, between and behind; and room that was set aside.
        let sparse = make(files, ROOT, b"sparse", What::Regular);
        write(files, sparse, 100, &odd[..BLOCK + 1], Way::Sealed);
        write(files, sparse, 1000, &odd[..BLOCK * 40], Way::Sealed);
        let end = Bytes((20 << 20) + 5);
        files.truncate(sparse, end, NOW).unwrap();
        files
            .preallocate(sparse, FileBlock(2000), FileBlock(2100), None, NOW)
            .unwrap();
        for (name, to) in [(&b"up"[..], &b"../../../etc"[..]), (b"hi", b"sub/hello")] {
            make(files, ROOT, name, What::Symlink(to));
        }
        make(files, sub, b"fifo", What::Fifo);
        make(files, sub, b"socket", What::Socket);
        make(files, sub, b"node", What::CharDevice(Rdev((7 << 20) + 300)));
        files.link(hello, ROOT, b"again", NOW).unwrap();
        files.link(hello, deep, b"\xff\nodd name", NOW).unwrap();
        file(files, deep, &[b'n'; 255], b"n");
        let times = |file: InodeNo, to: Attributes| {
            files.set_attributes(file, &to, NOW).unwrap();
        };
        let (old, late) = (
            Timestamp {
                seconds: -5,
                nanos: 999_999_999,
            },
            Timestamp {
                seconds: 1 << 33,
                nanos: 1,
            },
        );
        times(
            hello,
            Attributes {
                permissions: Some(0o6711),
                uid: Some(1000),
                gid: Some(2000),
                accessed: Some(old),
                modified: Some(late),
                ..Attributes::default()
            },
        );
        times(
            deep,
            Attributes {
                permissions: Some(0o1500),
                uid: Some(70_000),
                modified: Some(old),
                ..Attributes::default()
            },
        );
    });
    fsck(&["-n", "--data"], &devices).expect(0);
    let before = held(&devices);
    let here = [&devices[1..3], &devices[4..]].concat();
    let done = extract(&dir, "out", &[], &here, &[]).expect(if is_root() { 0 } else { 3 });
    assert!(done.err.contains("degraded"), "{done:?}");
    assert!(held(&devices) == before, "devices were changed");
    let out = dir.path("out");
    // Before anything is read, which is a time as well.
    let hello = fs::metadata(out.join("sub/hello")).unwrap();
    let read = |name: &str| fs::read(out.join(name)).unwrap();
    assert!(read("sub/deep/odd") == odd);
    assert!(read("sub/deep/whole") == odd[..BLOCK * 2]);
    assert!(read("sub/deep/inline") == inline);
    assert_eq!(read("empty"), b"");
    assert_eq!(read("sub/hello"), b"Hello, world\n");
    let mut sparse = vec![0; (20 << 20) + 5];
    sparse[100 * BLOCK..][..BLOCK + 1].copy_from_slice(&odd[..BLOCK + 1]);
    sparse[1000 * BLOCK..][..BLOCK * 40].copy_from_slice(&odd[..BLOCK * 40]);
    assert!(read("sparse") == sparse);
    let meta = fs::metadata(out.join("sparse")).unwrap();
    assert!(
        meta.blocks() * 512 <= 43 * BLOCK as u64,
        "{} blocks",
        meta.blocks()
    );
    let opened = fs::File::open(out.join("sparse")).unwrap();
    let hole = rustix::fs::seek(&opened, rustix::fs::SeekFrom::Hole(100 * BLOCK as u64));
    assert_eq!(hole, Ok(102 * BLOCK as u64));
    assert_eq!(
        fs::read_link(out.join("up")).unwrap(),
        Path::new("../../../etc")
    );
    assert_eq!(
        fs::read_link(out.join("hi")).unwrap(),
        Path::new("sub/hello")
    );
    assert!(fs::metadata(out.join("sub/fifo"))
        .unwrap()
        .file_type()
        .is_fifo());
    assert!(fs::metadata(out.join("sub/socket"))
        .unwrap()
        .file_type()
        .is_socket());
    let odd_name = out
        .join("sub/deep")
        .join(OsStr::from_bytes(b"\xff\nodd name"));
    for other in [out.join("again"), odd_name] {
        let other = fs::metadata(other).unwrap();
        assert_eq!((other.ino(), other.nlink()), (hello.ino(), 3));
    }
    assert_eq!((hello.atime(), hello.atime_nsec()), (-5, 999_999_999));
    assert_eq!((hello.mtime(), hello.mtime_nsec()), (1 << 33, 1));
    assert_eq!(
        fs::read(out.join("sub/deep").join("n".repeat(255))).unwrap(),
        b"n"
    );
    let deep = fs::metadata(out.join("sub/deep")).unwrap();
    assert_eq!((deep.mode() & 0o7777, deep.mtime()), (0o1500, -5));
    let link = fs::symlink_metadata(out.join("up")).unwrap();
    assert_eq!(
        (link.mtime(), link.mtime_nsec()),
        (NOW.seconds, NOW.nanos.into())
    );
    let top = fs::metadata(&out).unwrap();
    assert_eq!(top.mode() & 0o7777, 0o755);
    if is_root() {
        assert_eq!((hello.uid(), hello.gid()), (1000, 2000));
        assert_eq!(hello.mode() & 0o7777, 0o6711);
        assert_eq!(deep.uid(), 70_000);
        let node = fs::metadata(out.join("sub/node")).unwrap();
        assert!(node.file_type().is_char_device());
        assert_eq!(node.rdev(), rustix::fs::makedev(7, 300));
    }
    assert_eq!(tree(&out).len(), if is_root() { 16 } else { 15 });
}

#[test]
fn attributes_come_out_with_long_values_and_lists() {
    let dir = Dir::new();
    if !keeps_attributes(&dir) {
        return;
    }
    let devices = volume(&dir, "1+1", 64);
    let long = bytes(3, 50_000);
    // Owner rwx, user 1234 rw-, group r--, mask rw-, others nothing.
    let list: Vec<u8> = [
        (1u16, 7u16, u32::MAX),
        (2, 6, 1234),
        (4, 4, u32::MAX),
        (16, 6, u32::MAX),
        (32, 0, u32::MAX),
    ]
    .iter()
    .fold(vec![2, 0, 0, 0], |mut all, (tag, may, who)| {
        all.extend(tag.to_le_bytes());
        all.extend(may.to_le_bytes());
        all.extend(who.to_le_bytes());
        all
    });
    work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let one = file(files, sub, b"one", b"1");
        let link = make(files, sub, b"link", What::Symlink(b"nowhere"));
        let set = |file, name: &[u8], value: &[u8]| {
            let to = Attributes::default();
            let new = Extended { name, value };
            files.set_attribute(file, new, Put::Any, &to, NOW).unwrap();
        };
        for file in [sub, one] {
            set(file, b"user.short", b"");
            set(file, b"user.long", &long);
            set(file, b"trusted.t", b"yes");
            set(file, b"system.posix_acl_access", &list);
        }
        set(sub, b"system.posix_acl_default", &list);
        set(link, b"trusted.l", b"link");
        set(one, b"nonsense.x", b"1");
        let to = Attributes {
            permissions: Some(0o760),
            ..Attributes::default()
        };
        files.set_attributes(one, &to, NOW).unwrap();
        files.set_attributes(sub, &to, NOW).unwrap();
    });
    // One attribute is of no kind that could be known.
    let done = extract(&dir, "out", &[], &devices, &[]).expect(3);
    assert!(
        done.err.contains("/sub/one: attribute nonsense.x"),
        "{done:?}"
    );
    let out = dir.path("out");
    for name in ["sub", "sub/one"] {
        let path = out.join(name);
        assert_eq!(attribute(&path, "user.short").unwrap(), b"");
        assert!(attribute(&path, "user.long").unwrap() == long);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o760);
        if is_root() {
            assert_eq!(attribute(&path, "trusted.t").unwrap(), b"yes");
        }
    }
    let access = attribute(&out.join("sub/one"), "system.posix_acl_access");
    // Not every file system here has lists.
    assert!(access.is_none_or(|found| found == list));
    if is_root() {
        assert_eq!(
            attribute(&out.join("sub/link"), "trusted.l").unwrap(),
            b"link"
        );
    }
}

#[test]
fn what_is_lost_of_a_file_is_told_and_nothing_else_is() {
    let dir = Dir::new();
    let devices = volume(&dir, "4+2", 64);
    let all = bytes(4, BLOCK * 600 + 9);
    let numbers = work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let bad = file(files, sub, b"bad", &all);
        let link = files.link(bad, ROOT, b"also bad", NOW);
        link.unwrap();
        let within = file(files, sub, b"within", &all);
        file(files, sub, b"good", &all);
        let small = file(files, ROOT, b"small", &all[..99]);
        [bad, within, small]
    });
    // Two adjacent blocks, and the last one.
    for block in [7, 8, 600] {
        lose(&devices, numbers[0], block);
    }
    // Nothing is lost of what is within redundancy.
    for block in [0, 100, 101, 600] {
        for (device, at) in &places(&devices, numbers[1], block)[..2] {
            rot(&devices[*device], at + 77);
        }
    }
    lose(&devices, numbers[2], 0);
    let check = |out: &Path, name: &str| {
        let mut hollow = all.clone();
        hollow[7 * BLOCK..9 * BLOCK].fill(0);
        hollow[600 * BLOCK..].fill(0);
        assert!(fs::read(out.join("sub").join(name)).unwrap() == hollow);
        for name in ["good", "within"] {
            assert!(
                fs::read(out.join("sub").join(name)).unwrap() == all,
                "{name}"
            );
        }
    };
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    for (path, range) in [
        ("bad", "bytes 28672 to 36863 are lost: "),
        ("bad", "bytes 2457600 to 2457608 are lost: "),
        ("small", "bytes 0 to 98 are lost: "),
    ] {
        let is_it = |line: &str| line.contains(path) && line.contains(range);
        assert!(done.err.lines().any(is_it), "{done:?}");
    }
    assert!(!done.err.contains("within"), "{done:?}");
    assert!(done.out.contains("2 damaged"), "{done:?}");
    let out = dir.path("out");
    let names = paths(&out);
    // Under its own name there is only what is sound.
    assert_eq!(
        names,
        [
            "also bad.damaged",
            "small.damaged",
            "sub",
            "sub/bad.damaged",
            "sub/good",
            "sub/within"
        ]
    );
    check(&out, "bad.damaged");
    let ino = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!(ino("also bad.damaged"), ino("sub/bad.damaged"));

    let done = extract(
        &dir,
        "kept",
        &["--damaged", "keep", "--json"],
        &devices,
        &[],
    )
    .expect(1)
    .json();
    check(&dir.path("kept"), "bad");
    let troubles = done["troubles"].as_array().unwrap();
    let is_it = |t: &&serde_json::Value| t["from"] == 28672 && t["to"] == 36864;
    let told = troubles.iter().find(is_it).unwrap();
    assert_eq!(
        (&told["kind"], &told["inode"]),
        (&"damaged".into(), &numbers[0].0.into())
    );
    assert_eq!((&done["ok"], &done["damaged"]), (&false.into(), &2.into()));
    extract(&dir, "without", &["--damaged=skip"], &devices, &[]).expect(1);
    assert_eq!(
        paths(&dir.path("without")),
        ["sub", "sub/good", "sub/within"]
    );
    // Who does not want it does not hear of it.
    let done = extract(&dir, "some", &[], &devices, &["sub/good", "/sub/within/"]).expect(0);
    assert_eq!(done.err, "");
    assert_eq!(paths(&dir.path("some")), ["sub", "sub/good", "sub/within"]);
    let done = extract(&dir, "one", &[], &devices, &["also bad"]).expect(1);
    assert!(done.err.contains("/also bad: bytes 28672"), "{done:?}");
}

#[test]
fn names_that_no_file_can_have_lead_nowhere_else() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        for (name, text) in [
            (&b"dots"[..], &b"up"[..]),
            (b"slash", b"across"),
            (b"known", b"known"),
        ] {
            file(files, sub, name, text);
        }
        file(files, ROOT, b"innocent", b"innocent");
    });
    // Of the first two, entry and file itself say it; of the last one only the entry.
    change(&devices, NAMES, |all| {
        for (key, value) in all.iter_mut() {
            let kind = Item::of(*key).0.kind();
            let entry = [
                (&b"dots"[..], &b".."[..]),
                (b"slash", b"/etc/evil"),
                (b"known", b"a/../../b"),
            ];
            for (name, evil) in entry {
                if kind == Kind::ENTRY && value.ends_with(name) {
                    value.truncate(16);
                    value.extend_from_slice(evil);
                } else if kind == Kind::PARENT && value.ends_with(name) && name != b"known" {
                    value.truncate(9);
                    value.push(evil.len() as u8);
                    value.extend_from_slice(evil);
                }
            }
        }
    });
    let done = extract(&dir, "out/", &[], &devices, &[]).expect(1);
    let out = dir.path("out");
    assert_eq!(
        paths(&dir.path(""))
            .iter()
            .filter(|p| !p.starts_with("out"))
            .count(),
        1,
        "{done:?}"
    );
    let found = tree(&out);
    assert_eq!(found.len(), 6, "{found:?}");
    for name in ["innocent", "sub/known"] {
        assert!(found.contains_key(Path::new(name)), "{found:?}");
    }
    let texts: Vec<String> = fs::read_dir(out.join("lost+found"))
        .unwrap()
        .map(|e| fs::read_to_string(e.unwrap().path()).unwrap())
        .collect();
    assert!(
        texts.contains(&"up".to_owned()) && texts.contains(&"across".to_owned()),
        "{texts:?}"
    );
    assert!(done.err.contains("makes no sense"), "{done:?}");
    assert!(
        done.err
            .contains("/sub/known: its directory does not lead to it"),
        "{done:?}"
    );
}

/// A leaf whose first and last item are as `wanted` says.
fn leaf(devices: &[String], wanted: impl Fn(Item, Item) -> bool) -> Leaf {
    let mut all = leaves(devices, NAMES).into_iter();
    let found = all.find(|leaf| wanted(Item::of(leaf.keys.first).0, Item::of(leaf.keys.last).0));
    found.expect("such a leaf")
}

/// A directory with so many files, each of which holds its name.
fn many(files: F<'_>, above: InodeNo, name: &[u8], count: usize) -> InodeNo {
    let directory = make(files, above, name, What::Directory);
    for n in 0..count {
        let name = format!("file number {n}");
        let file = make(files, directory, name.as_bytes(), What::Regular);
        write(files, file, 0, name.as_bytes(), Way::Inline);
    }
    directory
}

/// Which of the files of [`many`] are there, each with what it should hold.
fn those_there(at: &Path, count: usize) -> usize {
    let is_there = |n: &usize| {
        let name = format!("file number {n}");
        match fs::read(at.join(&name)) {
            Ok(held) => {
                assert_eq!(held, name.as_bytes());
                true
            }
            Err(_) => false,
        }
    };
    (0..count).filter(is_there).count()
}

#[test]
fn names_that_are_lost_come_back_from_the_files_themselves() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    let directory = work(&devices, |files| many(files, ROOT, b"many", 1000));
    let lost = leaf(&devices, |first, last| {
        let is_entry = |item: Item| item.owner() == directory && item.kind() == Kind::ENTRY;
        is_entry(first) && is_entry(last)
    });
    lost.rot(&devices);
    let done = extract(&dir, "out", &["--json"], &devices, &[]).expect(1);
    assert!(
        done.err
            .contains("/many: names in this directory may be lost"),
        "{done:?}"
    );
    let json = done.json();
    let found = json["found"].as_u64().unwrap();
    assert!(
        done.err
            .contains(&format!("/many: {found} of its 1000 names are lost")),
        "{}",
        done.err
    );
    // What is behind the leaf is listed.
    assert!(
        (50..400).contains(&found) && json["files"] == 1000,
        "{json}"
    );
    assert_eq!(those_there(&dir.path("out/many"), 1000), 1000);
    assert_eq!(fs::read_dir(dir.path("out")).unwrap().count(), 1);
    // The mode of the directory was given again, and its time.
    let meta = fs::metadata(dir.path("out/many")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o755, NOW.seconds));
    // One that is asked for is found as well.
    let told = |n: &serde_json::Value| {
        (n["kind"] == "found").then(|| n["path"].as_str().unwrap().to_owned())
    };
    let path = json["troubles"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(told)
        .unwrap();
    let done = extract(&dir, "one", &[], &devices, &[&path]).expect(1);
    assert!(done.err.contains(&path), "{done:?}");
    assert_eq!(those_there(&dir.path("one/many"), 1000), 1);
    let listed = admin(
        &["extract", "--only"],
        &[&devices[..], &["--list".to_owned()]].concat(),
    )
    .expect(1);
    assert_eq!(
        listed
            .out
            .lines()
            .filter(|l| l.starts_with("/many/file number "))
            .count(),
        1000
    );
}

#[test]
fn files_that_are_lost_are_told_by_name() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    work(&devices, |files| many(files, ROOT, b"many", 1000));
    // Of the last one there is only what it says itself, behind what is lost.
    change(&devices, NAMES, |all| {
        all.retain(|(key, value)| {
            Item::of(*key).0.kind() != Kind::ENTRY || !value.ends_with(b" 999")
        })
    });
    let lost = leaf(&devices, |first, last| {
        first.owner() != last.owner() && first.owner() > InodeNo(100)
    });
    lost.rot(&devices);
    let done = extract(&dir, "out", &["--json"], &devices, &[]).expect(1);
    let json = done.json();
    let count = json["files"].as_u64().unwrap();
    let there = those_there(&dir.path("out/many"), 1000);
    let aside = paths(&dir.path("out"))
        .iter()
        .filter(|p| p.ends_with(".damaged"))
        .count();
    assert_eq!((there + aside) as u64, count);
    assert!((850..1000).contains(&there), "{there}");
    let troubles = json["troubles"].as_array().unwrap();
    let gone = troubles.iter().filter(|t| {
        t["text"]
            .as_str()
            .unwrap()
            .starts_with("all but the name is lost")
    });
    assert_eq!(gone.count() as u64, 1000 - count);
    assert!(dir.path("out/many/file number 999").exists());
}

#[test]
fn without_the_first_leaf_everything_else_is_there() {
    let dir = Dir::new();
    let devices = volume(&dir, "2+1", 64);
    let all = bytes(5, BLOCK * 90);
    work(&devices, |files| {
        // They fill the root's leaves, so that those of other inodes are not among them.
        for n in 0..400 {
            make(
                files,
                ROOT,
                format!("link {n}").as_bytes(),
                What::Symlink(&[b'x'; 200]),
            );
        }
        let sub = many(files, ROOT, b"many", 100);
        file(files, sub, b"large", &all);
        // Else it is known that there is nothing before the root.
        file(files, ROOT, b"removed", b"removed");
        files.unlink(ROOT, b"removed", Users::Some, NOW).unwrap();
    });
    let first = leaf(&devices, |first, _| first.owner() == InodeNo::NONE);
    first.rot(&devices);
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    assert!(
        done.err.contains("whether files were being cut"),
        "{done:?}"
    );
    assert!(
        done.err
            .contains("/: what is known of the root directory is lost"),
        "{done:?}"
    );
    let out = dir.path("out");
    assert_eq!(those_there(&out.join("many"), 100), 100);
    assert!(fs::read(out.join("many/large")).unwrap() == all);
    assert_eq!(fs::read_dir(out).unwrap().count(), 401);
}

#[test]
fn a_directory_that_no_other_has_comes_back() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let (lone, gone) = work(&devices, |files| {
        let a = make(files, ROOT, b"a", What::Directory);
        let lone = many(files, a, b"lone", 70);
        let below = make(files, lone, b"below", What::Directory);
        many(files, below, b"deeper", 3);
        let gone = many(files, a, b"gone", 3);
        many(files, a, b"known", 3);
        // One that was removed while somebody had it open.
        file(files, ROOT, b"removed", b"removed");
        files.unlink(ROOT, b"removed", Users::Some, NOW).unwrap();
        (lone, gone)
    });
    let known = look(&devices, |files| files.lookup(ROOT, b"a").unwrap().inode);
    change(&devices, NAMES, |all| {
        all.retain(|(key, value)| {
            let (item, _) = Item::of(*key);
            let entry = parse_entry(value).filter(|_| item.kind() == Kind::ENTRY);
            let leads_to = entry.map(|(target, _)| target.inode);
            let is_lone =
                leads_to == Some(lone) || (item.owner() == lone && item.kind() == Kind::PARENT);
            // Neither itself, nor its entries, nor any to it.
            let is_gone = leads_to == Some(gone) || item.owner() == gone;
            // This one says itself where it is.
            let is_known = entry.is_some_and(|(_, name)| name.bytes() == b"known");
            !(is_lone || is_gone || is_known)
        })
    });
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    let out = dir.path("out");
    assert_eq!(those_there(&out.join("a/known"), 3), 3);
    let lost = out.join("lost+found");
    assert_eq!(those_there(&lost.join(format!("#{lone}")), 70), 70);
    assert_eq!(
        those_there(&lost.join(format!("#{lone}/below/deeper")), 3),
        3
    );
    assert_eq!(those_there(&lost.join(format!("#{gone}")), 3), 3);
    assert!(!paths(&out).iter().any(|p| p.contains("removed")));
    assert!(done.out.contains("1 removed while in use"), "{done:?}");
    assert!(
        done.err.contains("/a: 3 of its 3 names are lost"),
        "{done:?}"
    );
    let found = format!("/lost+found/#{lone}: its directory does not lead to it");
    assert!(done.err.contains(&found), "{done:?}");
    let _ = known;
}

#[test]
fn circles_and_second_names_end() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let (a, b, island, isle) = work(&devices, |files| {
        let a = make(files, ROOT, b"a", What::Directory);
        let b = make(files, a, b"b", What::Directory);
        file(files, b, b"leaf", b"leaf");
        make(files, b, b"to root", What::Directory);
        make(files, b, b"to a", What::Directory);
        make(files, b, b"to b", What::Directory);
        let island = make(files, ROOT, b"island", What::Directory);
        let isle = make(files, island, b"isle", What::Directory);
        make(files, isle, b"to island", What::Directory);
        file(files, ROOT, b"second", b"second");
        file(files, ROOT, b"third", b"third");
        (a, b, island, isle)
    });
    let leaf = look(&devices, |files| files.lookup(b, b"leaf").unwrap().inode);
    change(&devices, NAMES, |all| {
        all.retain_mut(|(key, value)| {
            let (item, _) = Item::of(*key);
            if item.kind() == Kind::PARENT && item.owner() == island {
                value.truncate(1);
                value.extend_from_slice(&isle.0.to_le_bytes());
                value.push(9);
                value.extend_from_slice(b"to island");
            }
            let Some((_, name)) = parse_entry(value).filter(|_| item.kind() == Kind::ENTRY) else {
                return true;
            };
            let to = match name.bytes() {
                b"to root" => ROOT,
                b"to a" => a,
                b"to b" => b,
                b"to island" => island,
                b"third" => leaf,
                b"island" => return false,
                _ => return true,
            };
            value[8..16].copy_from_slice(&to.0.to_le_bytes());
            true
        });
    });
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    for name in ["to root", "to a", "to b"] {
        let told = format!("/a/b/{name}: a second name of directory");
        assert!(done.err.contains(&told), "{name}: {done:?}");
    }
    let out = dir.path("out");
    // Whichever name of it came first.
    let leaves = [out.join("third"), out.join("a/b/leaf")];
    assert_eq!(
        leaves
            .iter()
            .filter(|p| fs::read(p).is_ok_and(|t| t == b"leaf"))
            .count(),
        1
    );
    assert!(done.err.contains("a name too many of inode"), "{done:?}");
    assert_eq!(fs::read(out.join("second")).unwrap(), b"second");
    let lost = paths(&out.join("lost+found"));
    assert!(lost.contains(&format!("#{island}/isle")), "{lost:?}");
}

#[test]
fn nothing_is_made_behind_a_symbolic_link() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let outside = dir.path("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap().as_bytes().to_vec();
    // Names lie in no order: of so many, some links come before what is to go through them, and some behind it.
    const PAIRS: usize = 12;
    let evil = [&target[..], b"/evil"].concat();
    work(&devices, |files| {
        for n in 0..PAIRS {
            let name = |kind: &str, end: u8| format!("{kind}{n}-{end}").into_bytes();
            make(files, ROOT, &name("x", 1), What::Symlink(&target));
            let sub = make(files, ROOT, &name("x", 2), What::Directory);
            file(files, sub, b"evil", b"evil");
            make(files, ROOT, &name("y", 1), What::Symlink(&evil));
            file(files, ROOT, &name("y", 2), b"evil");
        }
    });
    // Each link has the name of what is to go through it.
    change(&devices, NAMES, |all| {
        for (key, value) in all.iter_mut() {
            let kind = Item::of(*key).0.kind();
            if (kind == Kind::ENTRY || kind == Kind::PARENT) && value.ends_with(b"-2") {
                *value.last_mut().unwrap() = b'1';
            }
        }
    });
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{done:?}");
    let out = dir.path("out");
    let texts = paths(&out)
        .into_iter()
        .filter(|p| fs::read(out.join(p)).is_ok_and(|t| t == b"evil"));
    assert_eq!(texts.count(), PAIRS * 2, "{done:?}");
}

#[test]
fn a_lost_name_of_two_comes_back_as_a_link() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let one = file(files, ROOT, b"one", b"twice");
        files.link(one, sub, b"two", NOW).unwrap();
    });
    change(&devices, NAMES, |all| {
        all.retain(|(key, value)| {
            Item::of(*key).0.kind() != Kind::ENTRY || !value.ends_with(b"two")
        })
    });
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    let out = dir.path("out");
    let ino = |name: &str| fs::metadata(out.join(name)).unwrap().ino();
    assert_eq!(ino("one"), ino("sub/two"));
    assert!(
        done.err
            .contains("/sub/two: its directory does not lead to it"),
        "{done:?}"
    );
    assert!(!done.err.contains("more names"), "{done:?}");
}

#[test]
fn with_more_members_away_than_may_be_what_is_left_comes_out() {
    let dir = Dir::new();
    let devices = volume(&dir, "4+2", 64);
    let all = bytes(6, BLOCK * 500);
    work(&devices, |files| {
        file(files, ROOT, b"large", &all);
        let small = make(files, ROOT, b"small", What::Regular);
        write(files, small, 0, &all[..9000], Way::Inline);
    });
    let (mut small, mut damaged) = (0, 0);
    for kept in (0u32..64).filter(|kept| kept.count_ones() == 3) {
        let here = devices.iter().enumerate();
        let here = here.filter(|(n, _)| (kept >> n) & 1 != 0);
        let here: Vec<String> = here.map(|(_, d)| d.clone()).collect();
        let name = format!("out{kept}");
        let done = extract(&dir, &name, &[], &here, &[]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(
            done.err.contains("3 members are missing and only 2 may be"),
            "{done:?}"
        );
        let out = dir.path(&name);
        for (name, length) in [("small", 9000), ("large", all.len())] {
            let held = fs::read(out.join(name));
            assert!(held.is_err() || held.unwrap() == all[..length], "{name}");
        }
        small += u32::from(out.join("small").exists());
        damaged += u32::from(out.join("large.damaged").exists());
        fs::remove_dir_all(out).unwrap();
    }
    assert!(small >= 10 && damaged >= 10, "{small} {damaged}");
}

#[test]
fn the_root_before_serves_where_the_newest_cannot() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    work(&devices, |files| file(files, ROOT, b"one", b"1"));
    work(&devices, |files| file(files, ROOT, b"two", b"2"));
    leaf(&devices, |_, _| true).rot(&devices);
    let done = extract(&dir, "out", &[], &devices, &[]).expect(1);
    assert!(done.err.contains("this is the root before it"), "{done:?}");
    assert_eq!(fs::read(dir.path("out/one")).unwrap(), b"1");
}

#[test]
fn stale_members_serve_what_they_have() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    let all = bytes(7, BLOCK * 20);
    let old = work(&devices, |files| file(files, ROOT, b"old", &all));
    work(&devices[..1], |files| file(files, ROOT, b"new", &all));
    for block in 0..20 {
        let mut copies = places(&devices[..1], old, block).into_iter();
        let (_, at) = copies.find(|(device, _)| *device == 0).unwrap();
        rot(&devices[0], at);
    }
    extract(&dir, "alone", &[], &devices[..1], &[]).expect(1);
    let done = extract(&dir, "out", &[], &devices, &[]).expect(0);
    assert!(done.err.contains("here but stale"), "{done:?}");
    for name in ["old", "new"] {
        assert!(
            fs::read(dir.path("out").join(name)).unwrap() == all,
            "{name}"
        );
    }
}

#[test]
fn directories_that_will_not_do_are_refused() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    work(&devices, |files| file(files, ROOT, b"one", b"1"));
    let full = dir.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("one"), "mine").unwrap();
    let done = extract(&dir, "full", &[], &devices, &[]).expect(3);
    assert!(done.err.contains("it is not empty"), "{done:?}");
    assert_eq!(fs::read(full.join("one")).unwrap(), b"mine");
    extract(&dir, "full/one", &[], &devices, &[]).expect(3);
    extract(&dir, "none/such", &[], &devices, &[]).expect(3);
    extract(&dir, "out", &[], &devices, &["one/../../x"]).expect(2);
    assert!(!dir.path("out").exists());
    for wrong in [
        &["extract"][..],
        &["extract", "--list", "--damaged=keep"],
        &["extract", "--damaged=much", "--to=x"],
    ] {
        admin(wrong, &devices).expect(2);
    }
    // One that is there stays whose it is.
    let own = dir.path("own");
    fs::create_dir(&own).unwrap();
    rustix::fs::chmod(&own, rustix::fs::Mode::from_raw_mode(0o711)).unwrap();
    let done = extract(&dir, "own", &["--json"], &devices, &["one", "two", "one/x"]).expect(1);
    assert!(done.err.contains("/two: there is no such file"), "{done:?}");
    assert!(done.json()["ok"] == false);
    assert_eq!(fs::metadata(&own).unwrap().mode() & 0o7777, 0o711);
    assert_eq!(paths(&own), ["one"]);
    let blank = dir.image("blank", 64);
    extract(&dir, "out", &[], &[blank.clone()], &[]).expect(3);
    let mixed = [blank, devices[1].clone()];
    let done = extract(&dir, "out", &[], &mixed, &[]).expect(0);
    assert!(done.err.contains("going on without it"), "{done:?}");
    assert_eq!(paths(&dir.path("out")), ["one"]);
    extract(&dir, "again", &[], &["/nonexistent".to_owned()], &[]).expect(3);
}

#[test]
fn listing_says_what_there_is() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let number = work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let one = file(files, sub, b"one\n", b"12345");
        files.link(one, ROOT, b"other", NOW).unwrap();
        one
    });
    lose(&devices, number, 0);
    let list = |options: &[&str], paths: &[&str]| {
        let rest = paths.iter().map(|p| (*p).to_owned());
        let rest: Vec<String> = devices
            .iter()
            .cloned()
            .chain(["--list".to_owned()])
            .chain(rest)
            .collect();
        admin(&[&["extract", "--only"], options].concat(), &rest)
    };
    // What files hold is not looked at.
    let text = list(&[], &[]).expect(0).out;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["/other", "/sub/", "/sub/one\\n"]);
    let json = list(&["--json"], &["sub"]).expect(0).json();
    let rows = json["list"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[1]["path"], "/sub/one\\n");
    assert_eq!(
        (&rows[1]["size"], &rows[1]["type"]),
        (&5.into(), &"regular file".into())
    );
}

#[test]
fn without_privileges_files_come_out_as_ones_own() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    work(&devices, |files| {
        let sub = make(files, ROOT, b"sub", What::Directory);
        let program = file(files, sub, b"program", b"#!");
        let to = Attributes {
            permissions: Some(0o4755),
            uid: Some(4321),
            ..Attributes::default()
        };
        files.set_attributes(program, &to, NOW).unwrap();
        file(files, sub, b"other", b"");
        let to = Attributes {
            permissions: Some(0o500),
            ..to
        };
        files.set_attributes(sub, &to, NOW).unwrap();
    });
    if !is_root() {
        return;
    }
    let ours = dir.path("ours");
    fs::create_dir(&ours).unwrap();
    for path in [&ours, &dir.path(""), &PathBuf::from(&devices[0])] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    // What was built may lie where nobody else gets at it.
    let tool = dir.path("tool");
    fs::copy(env!("CARGO_BIN_EXE_embrfs-admin"), &tool).unwrap();
    let run = |to: &str| {
        let mut command = Command::new(&tool);
        command
            .uid(65534)
            .gid(65534)
            .args(["extract", "--only", &devices[0], "--to"]);
        command.arg(ours.join(to)).output().unwrap()
    };
    let done = run("out");
    let err = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(0), "{err}");
    assert!(
        err.contains("is not restored: Operation not permitted"),
        "{err}"
    );
    // Told of the first, and once more how many they are: the root, the directory, two files.
    assert_eq!(err.matches("its owner").count(), 3, "{err}");
    assert!(err.contains("4 times in all"), "{err}");
    let program = fs::metadata(ours.join("out/sub/program")).unwrap();
    assert_eq!((program.mode() & 0o7777, program.uid()), (0o755, 65534));
    let sub = fs::metadata(ours.join("out/sub")).unwrap();
    assert_eq!(sub.mode() & 0o7777, 0o500);
    // A directory that is closed by then takes what is found later.
    change(&devices, NAMES, |all| {
        all.retain(|(key, value)| {
            Item::of(*key).0.kind() != Kind::ENTRY || !value.ends_with(b"other")
        })
    });
    let done = run("found");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(ours.join("found/sub/other").exists());
    let sub = fs::metadata(ours.join("found/sub")).unwrap();
    assert_eq!((sub.mode() & 0o7777, sub.mtime()), (0o500, NOW.seconds));
    // Devices cannot be made.
    work(&devices, |files| {
        make(files, ROOT, b"node", What::BlockDevice(Rdev(8 << 20)))
    });
    let done = run("node");
    assert_eq!(done.status.code(), Some(3), "{done:?}");
    assert!(String::from_utf8(done.stderr)
        .unwrap()
        .contains("/node: it cannot be made"));
}

#[test]
fn deep_and_wide_directories() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    const DEPTH: usize = 300;
    work(&devices, |files| {
        let mut at = ROOT;
        for level in 0..DEPTH {
            let below = make(files, at, b"d", What::Directory);
            for name in [&b"a"[..], b"z"] {
                make(
                    files,
                    at,
                    name,
                    What::Symlink(format!("{level}").as_bytes()),
                );
            }
            at = below;
        }
        many(files, at, b"wide", 500);
    });
    let done = extract(&dir, "out", &["--json"], &devices, &[])
        .expect(0)
        .json();
    assert_eq!(
        (&done["directories"], &done["files"]),
        (&(DEPTH + 1).into(), &(500 + DEPTH * 2).into())
    );
    let mut at = dir.path("out");
    for level in 0..DEPTH {
        for name in ["a", "z"] {
            let target = fs::read_link(at.join(name)).unwrap();
            assert_eq!(target, Path::new(&level.to_string()));
        }
        assert_eq!(fs::metadata(&at).unwrap().mtime(), NOW.seconds);
        at.push("d");
    }
    assert_eq!(those_there(&at.join("wide"), 500), 500);
}

#[test]
fn what_is_lost_of_a_map_is_no_hole() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    // A block in every eighth window, so that the gaps are as large as they get.
    const WINDOWS: u64 = 1200;
    let at = |n: u64| n * 256 * 4096;
    let sparse = work(&devices, |files| {
        let sparse = make(files, ROOT, b"sparse", What::Regular);
        for n in 0..WINDOWS {
            write(files, sparse, at(n) / 4096, &bytes(n, 4096), Way::Sealed);
        }
        let size = Bytes(1 << 50);
        files.truncate(sparse, size, NOW).unwrap();
        file(files, ROOT, b"other", b"other");
        sparse
    });
    let lost = leaf(&devices, |first, last| {
        let is_it = |item: Item| item.owner() == sparse && item.kind() == Kind::EXTENTS;
        is_it(first) && is_it(last)
    });
    let last = leaf(&devices, |first, last| {
        first.owner() == sparse && last.owner() > sparse && first.kind() == Kind::EXTENTS
    });
    let gone = |key: Key| Item::of(key).0.sub() * 32 * 4096;
    let (from, to) = (gone(lost.keys.first), gone(lost.keys.last));
    lost.rot(&devices);
    let done = extract(&dir, "out", &["--json"], &devices, &[])
        .expect(1)
        .json();
    let troubles = done["troubles"].as_array().unwrap();
    let ranges: Vec<(u64, u64)> = troubles
        .iter()
        .filter(|t| t["inode"] == sparse.0)
        .filter_map(|t| Some((t["from"].as_u64()?, t["to"].as_u64()?)))
        .collect();
    let held = fs::File::open(dir.path("out/sparse.damaged")).unwrap();
    assert_eq!(held.metadata().unwrap().len(), 1 << 50);
    let mut good = 0;
    for n in 0..WINDOWS {
        let mut block = vec![0; 4096];
        std::os::unix::fs::FileExt::read_exact_at(&held, &mut block, at(n)).unwrap();
        let is_told = ranges
            .iter()
            .any(|(from, to)| (*from..*to).contains(&at(n)));
        match is_told {
            true => assert!(block == [0; 4096], "{n}"),
            false => assert!(block == bytes(n, 4096), "{n}"),
        }
        good += u64::from(!is_told);
    }
    // All that lay in the leaf is told, and no more than what lies beside it.
    assert!(
        ranges.iter().any(|(f, t)| *f <= from && *t > to),
        "{ranges:?}"
    );
    assert!(good >= WINDOWS - 300, "{good}");
    assert_eq!(fs::read(dir.path("out/other")).unwrap(), b"other");
    // Behind its last items it might have any, up to its end: that is not looked for window by window.
    let from = gone(last.keys.first);
    last.rot(&devices);
    let done = extract(&dir, "end", &["--json"], &devices, &["sparse"]).expect(1);
    let done = done.json();
    let troubles = done["troubles"].as_array().unwrap();
    let ends = |t: &&serde_json::Value| t["to"] == 1u64 << 50;
    let to_end = troubles.iter().find(ends).unwrap();
    assert!(to_end["from"].as_u64().unwrap() <= from, "{done}");
}

#[test]
fn a_window_that_makes_no_sense_costs_no_other() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let all = bytes(8, BLOCK * 100);
    let number = work(&devices, |files| file(files, ROOT, b"file", &all));
    change(&devices, NAMES, |all| {
        let second = Item::new(number, Kind::EXTENTS, 1);
        for (_, value) in all.iter_mut().filter(|(key, _)| Item::of(*key).0 == second) {
            value[0] = 9;
        }
    });
    let done = extract(&dir, "out", &["--damaged=keep"], &devices, &[]).expect(1);
    assert!(
        done.err.contains("bytes 131072 to 262143 are lost"),
        "{done:?}"
    );
    let held = fs::read(dir.path("out/file")).unwrap();
    assert!(held[..131072] == all[..131072] && held[262144..] == all[262144..]);
    assert!(held[131072..262144].iter().all(|b| *b == 0));
}

#[test]
fn what_was_cut_out_before_a_crash_is_not_there() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    let all = bytes(9, BLOCK * 100);
    let number = work(&devices, |files| file(files, ROOT, b"file", &all));
    change(&devices, NAMES, |all| {
        let intent = Intent {
            operation: Operation::Collapse,
            inode: number,
            from: FileBlock(10),
            to: FileBlock(30),
            cursor: FileBlock(10),
        };
        let key = Item::new(InodeNo::NONE, Kind::INTENT, number.0).at(SnapshotId::FIRST);
        all.push((key, intent.encode().to_vec()));
        all.sort_by_key(|(key, _)| *key);
    });
    extract(&dir, "out", &[], &devices, &[]).expect(0);
    let held = fs::read(dir.path("out/file")).unwrap();
    assert!(held[..BLOCK * 10] == all[..BLOCK * 10]);
    assert!(held[BLOCK * 10..BLOCK * 80] == all[BLOCK * 30..]);
}

#[test]
fn engrams_that_are_lost_cost_only_what_is_in_them() {
    let dir = Dir::new();
    let devices = volume(&dir, "2+1", 64);
    work(&devices, |files| {
        for n in 0..300 {
            file(
                files,
                ROOT,
                format!("file {n}").as_bytes(),
                &bytes(n, BLOCK * 3),
            );
        }
    });
    let all = leaves(&devices, ENGRAMS);
    assert!(all.len() > 2);
    all[all.len() / 2].rot(&devices);
    let done = extract(&dir, "out", &["--json"], &devices, &[])
        .expect(1)
        .json();
    let mut good = 0;
    for n in 0..300 {
        let name = format!("file {n}");
        match fs::read(dir.path("out").join(&name)) {
            Ok(held) => {
                assert!(held == bytes(n, BLOCK * 3), "{name}");
                good += 1;
            }
            Err(_) => assert!(dir.path("out").join(name + ".damaged").exists()),
        }
    }
    assert_eq!(done["damaged"], 300 - good);
    assert!((100..300).contains(&good), "{good}");
}

#[test]
fn a_full_target_has_no_part_of_a_file() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 64);
    work(&devices, |files| {
        for n in 0..10 {
            file(
                files,
                ROOT,
                format!("file {n}").as_bytes(),
                &bytes(n, 300_000),
            );
        }
    });
    let small = dir.path("small");
    fs::create_dir(&small).unwrap();
    let mut mount = Command::new("mount");
    mount
        .args(["-t", "tmpfs", "-o", "size=1M", "none"])
        .arg(&small);
    // Not everybody may.
    if !mount.status().is_ok_and(|done| done.success()) {
        return;
    }
    let done = extract(&dir, "small/out", &["--json"], &devices, &[]);
    let found = tree(&small.join("out"));
    assert!(Command::new("umount")
        .arg(&small)
        .status()
        .unwrap()
        .success());
    let done = done.expect(3);
    assert!(done.out.contains("No space left on device"), "{done:?}");
    assert_eq!(done.json()["error"]["details"]["files"], 3);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(
        found.values().all(|what| what == "300000 bytes"),
        "{found:?}"
    );
}

/// Numbers in no order, the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as usize % limit
    }
}

/// A volume with something of everything; by each path, what its file holds.
fn furnished(dir: &Dir, bundle: &str) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let devices = volume(dir, bundle, 32);
    let mut truth = BTreeMap::new();
    work(&devices, |files| {
        let mut above = (ROOT, String::new());
        for level in 0..4u64 {
            let name = format!("level {level}");
            let directory = make(files, above.0, name.as_bytes(), What::Directory);
            let path = format!("{}{name}/", above.1);
            for n in 0..40 {
                let name = format!("file {n}");
                let held = bytes(level * 100 + n, (n * n * 37) as usize);
                let number = file(files, directory, name.as_bytes(), &held);
                truth.insert(format!("{path}{name}"), held.clone());
                if n % 7 == 0 {
                    files
                        .link(number, above.0, format!("link {n}").as_bytes(), NOW)
                        .unwrap();
                    truth.insert(format!("{}link {n}", above.1), held);
                }
                let name = format!("symlink {n}");
                make(
                    files,
                    directory,
                    name.as_bytes(),
                    What::Symlink(b"../../../../../.."),
                );
            }
            above = (directory, path);
        }
    });
    (devices, truth)
}

/// Runs it on a volume of which nobody knows how it is: it ends, and nothing is anywhere but where it belongs.
fn survive(dir: &Dir, devices: &[String], what: &str) -> (Done, PathBuf) {
    let beside = |dir: &Dir| fs::read_dir(dir.path("")).unwrap().count();
    let before = beside(dir);
    let done = extract(dir, "out", &[], devices, &[]);
    let out = dir.path("out");
    assert!([0, 1, 3].contains(&done.code), "{what}: {done:?}");
    assert_eq!(beside(dir), before + usize::from(out.exists()), "{what}");
    (done, out)
}

#[test]
fn whatever_rots_nothing_false_has_a_name_of_its_own() {
    let dir = Dir::new();
    for (bundle, share) in [("1+0", 40), ("2+1", 12), ("1+1", 6)] {
        let (devices, truth) = furnished(&dir, bundle);
        let sound = held(&devices);
        let mut found = 0;
        for seed in 1..=8u64 {
            let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut rotten: Vec<(&String, u64)> = Vec::new();
            for (device, sound) in devices.iter().zip(&sound) {
                let blocks = sound.chunks(BLOCK).zip((0..).step_by(BLOCK));
                for (block, at) in blocks.filter(|(b, _)| b.iter().any(|b| *b != 0)) {
                    if chance.below(share) == 0 {
                        let mut block = block.to_vec();
                        block[chance.below(BLOCK)] ^= 1 << chance.below(8);
                        write_at(device, at, &block);
                        rotten.push((device, at));
                    }
                }
            }
            let (done, out) = survive(&dir, &devices, &format!("{bundle}, seed {seed}"));
            for (device, at) in rotten {
                let number = devices.iter().position(|d| d == device).unwrap();
                write_at(device, at, &sound[number][at as usize..][..BLOCK]);
            }
            if !out.exists() {
                continue;
            }
            // An older state, which is told.
            let is_old = done.err.contains("not all that the volume held last");
            for (path, held) in truth.iter().filter(|_| !is_old) {
                if let Ok(bytes) = fs::read(out.join(path)) {
                    assert!(bytes == *held, "{bundle}, seed {seed}: {path}: {done:?}");
                    found += 1;
                } else {
                    assert_ne!(done.code, 0, "{bundle}, seed {seed}: {path}: {done:?}");
                }
            }
            fs::remove_dir_all(out).unwrap();
        }
        assert!(found > 100, "{bundle}: {found}");
        devices.iter().for_each(|d| fs::remove_file(d).unwrap());
    }
}

#[test]
fn whatever_is_forged_it_ends_and_stays_inside() {
    let dir = Dir::new();
    let (devices, _) = furnished(&dir, "1+0");
    let sound = held(&devices);
    for seed in 1..=32u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let tree = [NAMES, NAMES, NAMES, ENGRAMS, STRIPES][chance.below(5)];
        let share = [3, 30, 300][chance.below(3)];
        change(&devices, tree, |all| {
            for index in 0..all.len() {
                if chance.below(share) != 0 {
                    continue;
                }
                let other = all[chance.below(all.len())].1.clone();
                let value = &mut all[index].1;
                match chance.below(4) {
                    0 => *value = other,
                    1 => value.truncate(chance.below(value.len().max(1))),
                    _ if value.is_empty() => {}
                    // Small numbers are those of others.
                    2 => {
                        let at = chance.below(value.len());
                        value[at] = chance.below(8) as u8;
                    }
                    _ => {
                        let at = chance.below(value.len());
                        value[at] ^= 1 << chance.below(8);
                    }
                }
            }
        });
        let (_, out) = survive(&dir, &devices, &format!("seed {seed}"));
        if out.exists() {
            fs::remove_dir_all(out).unwrap();
        }
        fs::write(&devices[0], &sound[0]).unwrap();
    }
}

/// A volume that has a file `file`, which snapshot `monday`, the head `side` that grew from it, and the volume itself each have otherwise.
fn with_snapshots(dir: &Dir) -> (Vec<String>, [Vec<u8>; 3]) {
    let devices = volume(dir, "2+1", 32);
    let old = bytes(1, 9 * BLOCK + 5);
    let (mut new, mut side) = (old.clone(), old.clone());
    new[BLOCK..BLOCK * 2].copy_from_slice(&bytes(2, BLOCK));
    side[..BLOCK * 3].copy_from_slice(&bytes(3, BLOCK * 3));
    work_on(&devices, |mounted, names| {
        let main = names.open(mounted, b"").unwrap();
        let files = names.of(mounted, &main);
        let at = file(files, ROOT, b"file", &old);
        file(files, ROOT, b"gone", b"removed later");
        let put = |files: F<'_>, block, part: &[u8]| {
            let size = Bytes(old.len() as u64);
            let dirty = Dirty {
                at: FileBlock(block),
                bytes: part,
            };
            let written = Written {
                size: Some(size),
                ..Written::default()
            };
            files.write(at, &[dirty], Way::Sealed, &written).unwrap();
        };
        files.take_snapshot(b"monday", NOW).unwrap();
        put(files, 1, &new[BLOCK..BLOCK * 2]);
        files.unlink(ROOT, b"gone", Users::None, NOW).unwrap();
        let there = files.take_snapshot(b"tuesday", NOW);
        there.unwrap();
        names.grow(mounted, b"monday", b"side", NOW).unwrap();
        let grown = names.open(mounted, b"side").unwrap();
        let grown = names.of(mounted, &grown);
        put(grown, 0, &side[..BLOCK * 3]);
        file(grown, ROOT, b"more", b"more");
    });
    fsck(&["-n", "--data"], &devices).expect(0);
    (devices, [old, new, side])
}

#[test]
fn snapshots_come_out_as_they_were() {
    let dir = Dir::new();
    let (devices, [old, new, side]) = with_snapshots(&dir);
    let root = |name: &str| fs::read(dir.path(name)).unwrap();
    // What a mount would show.
    extract(&dir, "main", &[], &devices, &[]).expect(0);
    assert_eq!(paths(&dir.path("main")), ["file"]);
    assert!(root("main/file") == new);
    for (name, right, names) in [
        ("monday", &old, &["file", "gone"][..]),
        ("tuesday", &new, &["file"]),
        ("side", &side, &["file", "gone", "more"]),
    ] {
        extract(&dir, name, &["--snapshot", name], &devices, &[]).expect(0);
        assert_eq!(paths(&dir.path(name)), names);
        assert!(root(&format!("{name}/file")) == *right, "{name}");
    }
    let done = extract(&dir, "none", &["--snapshot", "sunday"], &devices, &[]).expect(3);
    assert!(done.err.contains("no snapshot or head sunday"), "{done:?}");
    assert!(!dir.path("none").exists());
    // All of them, and only what is asked for.
    extract(&dir, "all", &["--all-snapshots"], &devices, &[]).expect(0);
    for (name, right) in [
        ("head", &new),
        ("snapshots/monday", &old),
        ("snapshots/tuesday", &new),
        ("snapshots/side", &side),
    ] {
        assert!(root(&format!("all/{name}/file")) == *right, "{name}");
    }
    assert_eq!(paths(&dir.path("all")).len(), 12);
    extract(&dir, "some", &["--all-snapshots"], &devices, &["more"]).expect(1);
    let found = paths(&dir.path("some"));
    assert!(found.contains(&"snapshots/side/more".to_owned()) && found.len() == 6);
}

#[test]
fn snapshots_are_listed() {
    let dir = Dir::new();
    let (devices, _) = with_snapshots(&dir);
    let ask = |options: &[&str]| admin(&[&["extract", "--only"], options].concat(), &devices);
    let done = ask(&["--list-snapshots"]).expect(0);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 4, "{done:?}");
    for (name, kind) in [
        ("monday", "snapshot"),
        ("tuesday", "snapshot"),
        ("side", "head"),
    ] {
        let begin = format!("{name}: {kind}, made ");
        assert!(lines.iter().any(|l| l.starts_with(&begin)), "{done:?}");
    }
    let done = ask(&["--list-snapshots", "--json"]).expect(0);
    assert!(
        done.out.contains("\"monday\"") && done.out.contains("\"kind\""),
        "{done:?}"
    );
    let done = ask(&["--list", "--all-snapshots"]);
    let done = done.expect(0);
    assert!(
        done.out.contains("side: /more") && !done.out.contains("monday: /more"),
        "{done:?}"
    );
    ask(&["--list-snapshots", "--all-snapshots"]).expect(2);
}

/// Where it is lost which snapshots there are, nothing is taken for what it may not be; unless that is wanted.
#[test]
fn lost_snapshots_are_not_made_up() {
    let dir = Dir::new();
    let (devices, [_, new, _]) = with_snapshots(&dir);
    change(&devices, SNAPSHOTS, |all| {
        for (_, value) in all.iter_mut().filter(|(_, v)| v.ends_with(b"tuesday")) {
            value.truncate(20);
        }
    });
    let done = extract(&dir, "out", &[], &devices, &[]).expect(3);
    assert!(done.err.contains("--any-version"), "{done:?}");
    assert!(!dir.path("out").exists());
    let done = extract(&dir, "any", &["--any-version"], &devices, &[]).expect(1);
    assert!(done.err.contains("whichever snapshot or head"), "{done:?}");
    let found = fs::read(dir.path("any/file")).unwrap();
    assert_eq!(found.len(), new.len());
}

/// A snapshot whose name is no name of a file, as only a crafted volume has it, leads nowhere else.
#[test]
fn names_of_snapshots_lead_nowhere_else() {
    let dir = Dir::new();
    let (devices, [old, ..]) = with_snapshots(&dir);
    change(&devices, SNAPSHOTS, |all| {
        for (_, value) in all.iter_mut().filter(|(_, v)| v.ends_with(b"monday")) {
            let at = value.len() - 6;
            value[at..].copy_from_slice(b"../../");
        }
    });
    extract(&dir, "all", &["--all-snapshots"], &devices, &[]).expect(0);
    let found = paths(&dir.path("all"));
    assert!(found.contains(&"snapshots/#1/file".to_owned()), "{found:?}");
    assert!(fs::read(dir.path("all/snapshots/#1/file")).unwrap() == old);
}
