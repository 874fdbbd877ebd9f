// SPDX-License-Identifier: GPL-2.0

//! embrfs-admin and mount.embrfs, as far as image files show; and the manual pages.

mod common;

use common::*;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::stripe::key;
use embr_engine::format::stripe::Kind;
use embr_engine::format::stripe::Layout;
use embr_engine::names::Files;
use embr_engine::names::New;
use embr_engine::names::Users;
use embr_engine::names::What;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::StripeId;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::STRIPES;
use embrfs_sim::desk::pattern;
use inside::Writer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

#[test]
fn devices_by_volume_with_their_standing() {
    let dir = Dir::new();
    let devices = dir.images(3, 32);
    mkfs(&["-q", "--bundle", "2+1", "--label", "one"], &devices).expect(0);
    let other = [dir.image("other", 32)];
    mkfs(&["-q"], &other).expect(0);
    let all = [devices[0].clone(), devices[2].clone(), other[0].clone()];
    let done = admin(&["devices", "--json"], &all).expect(1).json();
    assert_eq!(done["volumes"].as_array().unwrap().len(), 2);
    assert_eq!(done["volumes"][0]["state"], "degraded");
    assert_eq!(done["volumes"][0]["devices"][1]["standing"], "missing");
    assert_eq!(
        done["volumes"][0]["devices"][2]["path"],
        devices[2].as_str()
    );
    assert_eq!(done["volumes"][1]["state"], "complete");
    let text = admin(&["devices"], &all).expect(1).out;
    assert!(
        text.contains("\"one\"") && text.contains("missing"),
        "{text}"
    );
    let few = admin(&["devices"], &devices[..1]).expect(1).out;
    assert!(
        few.contains("incomplete") && few.contains("only 1 may be"),
        "{few}"
    );
    admin(&["devices"], &[dir.image("blank", 32)]).expect(1);
}

#[test]
fn dump_shows_damaged_copies_and_roots() {
    let dir = Dir::new();
    let device = [dir.image("d", 32)];
    mkfs(&["-q"], &device).expect(0);
    let shown = admin(&["dump", "super", "--roots", "--json"], &device)
        .expect(0)
        .json();
    assert_eq!(shown["copies"].as_array().unwrap().len(), 2);
    assert_eq!(shown["roots"].as_array().unwrap().len(), 6);
    assert_eq!(shown["roots"][3]["generation"], 1);
    rot(&device[0], (64 << 10) + 1000);
    let shown = admin(&["dump", "super", "--json"], &device)
        .expect(1)
        .json();
    assert_eq!(shown["copies"][0]["sound"], false);
    assert_eq!(shown["superblock"]["sequence"], 1);
    let first = admin(&["dump", "super", "--copy", "0"], &device).expect(3);
    assert!(first.out.contains("checksum mismatch"), "{}", first.out);
    admin(&["dump", "super", "--copy", "1"], &device).expect(0);
    admin(&["dump", "super", "--copy", "2"], &device).expect(3);
    admin(&["dump", "super"], &["/nonexistent".to_owned()]).expect(3);
}

#[test]
fn status_of_an_image_and_of_nothing() {
    let dir = Dir::new();
    let device = [dir.image("d", 32)];
    mkfs(&["-q"], &device).expect(0);
    let done = admin(&["status", "--json"], &device).expect(0).json();
    assert_eq!(done["volumes"][0]["state"], "complete");
    admin(&["status"], &["/".to_owned()]).expect(3);
    admin(&["status"], &["/nonexistent".to_owned()]).expect(3);
    admin(&[], &[]).expect(2);
}

#[test]
fn mount_refuses_what_it_can_tell_by_itself() {
    let dir = Dir::new();
    let target = dir.path("").to_str().unwrap().to_owned();
    let image = dir.image("d", 32);
    let done = mount(&["-f"], &[image, target.clone()]).expect(32);
    assert!(done.err.contains("losetup"), "{}", done.err);
    mount(&["-f"], &["/nonexistent".to_owned(), target.clone()]).expect(32);
    mount(
        &["-f", "-o", "device=relative"],
        &["/nonexistent".to_owned(), target.clone()],
    )
    .expect(1);
    mount(
        &["-f"],
        &[
            "UUID=2c4ae2b6-5a1c-4c6b-9d3e-0f5a7c1b8e42".to_owned(),
            target,
        ],
    )
    .expect(32);
    mount(&[], &[]).expect(1);
}

#[test]
fn help_names_the_tools_by_their_real_names() {
    for (done, name) in [
        (mkfs(&["--help"], &[]), "mkfs.embrfs"),
        (fsck(&["--help"], &[]), "fsck.embrfs"),
        (mount(&["--help"], &[]), "mount.embrfs"),
    ] {
        let text = done.expect(0).out;
        assert!(text.contains(&format!("Usage: {name} ")), "{text}");
        assert!(
            text.contains("Exit status:") && text.contains("Examples:"),
            "{text}"
        );
    }
}

#[test]
fn help_names_what_is_checked_and_shown() {
    let text = fsck(&["--help"], &[]).expect(0).out;
    let (_, text) = text.split_once("\nCheck:\n").expect("what is checked");
    let (check, repair) = text.split_once("\nRepair:\n").expect("what is repaired");
    for what in ["references", "stripes", "snapshots", "attributes", "head"] {
        assert!(check.contains(what) && repair.contains(what), "{what}");
    }
    let lost = "names, engrams, stripes, references or snapshots is lost";
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(repair).contains(lost), "{repair}");
    let trees = [
        "space",
        "names",
        "engrams",
        "stripes",
        "references",
        "snapshots",
    ];
    for page in ["nodes", "items"] {
        let text = admin(&["dump", page, "--help"], &[]).expect(0).out;
        assert!(trees.iter().all(|tree| text.contains(tree)), "{text}");
    }
    let text = admin(&["dump", "--help"], &[]).expect(0).out;
    assert!(trees.iter().all(|tree| text.contains(tree)), "{text}");
}

#[test]
fn a_manual_page_for_every_tool() {
    let dir = Dir::new();
    let man = dir.path("man");
    let status = Command::new(env!("CARGO_BIN_EXE_embrfs-man"))
        .arg(&man)
        .status()
        .unwrap();
    assert!(status.success());
    for page in [
        "mkfs.embrfs",
        "fsck.embrfs",
        "mount.embrfs",
        "embrfs-admin",
        "embrfs-admin-status",
        "embrfs-admin-extract",
        "embrfs-admin-dump-super",
        "embrfs-admin-dump-block",
    ] {
        let text = std::fs::read_to_string(man.join(format!("{page}.8"))).unwrap();
        for section in [".TH", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS"] {
            assert!(text.contains(section), "{page} lacks {section}");
        }
    }
    for page in ["mkfs.embrfs", "embrfs-admin-extract"] {
        let text = std::fs::read_to_string(man.join(format!("{page}.8"))).unwrap();
        assert!(text.contains(".SH EXAMPLES") && text.contains(".SH EXIT STATUS"));
    }
}

#[test]
fn dump_of_trees_and_blocks() {
    let dir = Dir::new();
    let devices = dir.images(2, 32);
    mkfs(&["-q", "--root-owner", "7:8"], &devices).expect(0);
    let items = admin(&["dump", "items", "names"], &devices).expect(0).out;
    assert!(
        items.contains("directory, mode 0755, 2 links, owner 7:8"),
        "{items}"
    );
    let root = admin(
        &["dump", "items", "names", "--inode", "1", "--json"],
        &devices,
    )
    .expect(0)
    .json();
    assert_eq!(root["items"].as_array().unwrap().len(), 1);
    let none = admin(&["dump", "items", "names", "--from", "2"], &devices).expect(0);
    assert_eq!(none.out, "");
    admin(&["dump", "items", "9"], &devices).expect(3);
    admin(&["dump", "items", "names", "--from", "x"], &devices).expect(2);

    let nodes = admin(&["dump", "nodes", "names", "--json"], &devices)
        .expect(0)
        .json();
    let place = &nodes["nodes"][0]["places"][0];
    let device = &devices[place["slot"].as_u64().unwrap() as usize];
    let block = place["block"].as_u64().unwrap();
    let shown = admin(&["dump", "node", &block.to_string()], &[device.clone()])
        .expect(0)
        .out;
    assert!(shown.contains("owner 7:8"), "{shown}");
    admin(&["dump", "node", "3"], &[device.clone()]).expect(3);
    admin(&["dump", "node", "99999999999999999"], &[device.clone()]).expect(3);

    let mut in_order = devices.clone();
    in_order.sort_by_key(|d| d != device);
    for (at, what) in [
        (block + 2, "a node of tree 2"),
        (0, "system area 0"),
        (2304, "the journal"),
        (8000, "free, says free space"),
        (1 << 40, "beyond the end"),
    ] {
        let text = admin(&["dump", "block", &at.to_string()], &in_order)
            .expect(0)
            .out;
        assert!(text.contains(what), "block {at}: {text}");
    }
    // All copies of the node are bad: it is told, and nothing fails.
    for place in nodes["nodes"][0]["places"].as_array().unwrap() {
        let device = &devices[place["slot"].as_u64().unwrap() as usize];
        rot(device, place["block"].as_u64().unwrap() * 4096 + 200);
    }
    let lost = admin(&["dump", "nodes", "names"], &devices).expect(1).out;
    assert!(lost.contains("lost: tree 2"), "{lost}");
    let lost = admin(&["dump", "items", "names"], &devices).expect(1).out;
    assert!(lost.contains("lost: tree 2"), "{lost}");
}

#[test]
fn dump_of_the_journal() {
    let dir = Dir::new();
    let devices = dir.images(1, 32);
    mkfs(&["-q"], &devices).expect(0);
    let text = admin(&["dump", "journal", "--records"], &devices)
        .expect(0)
        .out;
    assert!(text.contains("in the root"), "{text}");
    assert!(text.contains("inode 1, snapshot 1: directory"), "{text}");
    assert!(text.contains("hold nodes from generation 3 on"), "{text}");
    let groups = admin(&["dump", "journal", "--json"], &devices)
        .expect(0)
        .json();
    assert_eq!(groups["start"], 2304);
    let first = &groups["groups"][0];
    // Its records are not what they were, and nobody needs them.
    rot(&devices[0], first["block"].as_u64().unwrap() * 4096 + 300);
    let text = admin(&["dump", "journal"], &devices).expect(0).out;
    assert!(text.contains("checksum mismatch"), "{text}");
}

#[test]
fn a_side_is_discarded_and_caught_up() {
    let dir = Dir::new();
    let devices = dir.images(2, 32);
    mkfs(&["-q", "--bundle", "1+1"], &devices).expect(0);
    let file = |devices: &[String], name: &[u8]| {
        inside::work(devices, |files| make(files, name));
    };
    file(&devices, b"both");
    // There is nothing to discard.
    let keep = ["discard-side", "--keep", &devices[0]];
    let none = admin(&keep, &devices[1..]).expect(3);
    assert!(none.err.contains("nothing to discard"), "{}", none.err);
    file(&devices[..1], b"ours");
    file(&devices[1..], b"theirs");
    let split = admin(&["devices"], &devices).expect(1).out;
    assert!(split.contains("discard-side"), "{split}");
    let before = std::fs::read(&devices[1]).unwrap();
    let told = admin(&keep, &devices[1..]).expect(0).out;
    assert!(told.contains("is lost") && told.contains("--yes"), "{told}");
    assert!(
        std::fs::read(&devices[1]).unwrap() == before,
        "nothing was written"
    );
    let done = ["discard-side", "--yes", "--keep", &devices[0]];
    for _ in 0..2 {
        admin(&done, &devices[1..]).expect(0);
    }
    // The other way round there is nothing left that could be kept.
    let other = ["discard-side", "--keep", &devices[1]];
    admin(&other, &devices[..1]).expect(3);
    let stale = admin(&["devices"], &devices).expect(1).out;
    assert!(
        stale.contains("degraded") && stale.contains("stale"),
        "{stale}"
    );
    admin(&["catch-up"], &devices).expect(3);
    let done = admin(&["catch-up", "--degraded", "--json"], &devices).expect(0);
    assert_eq!(done.json()["caught_up"], 1);
    fsck(&["-f"], &devices).expect(0);
    for device in &devices {
        let names = admin(&["extract", "--only", device, "--list"], &[])
            .expect(0)
            .out;
        assert!(names.contains("both") && names.contains("ours"), "{names}");
        assert!(!names.contains("theirs"), "{names}");
    }
}

const NOW: Timestamp = Timestamp {
    seconds: 7,
    nanos: 7,
};

fn make(files: Files<'_, Writer<'_>>, name: &[u8]) -> InodeNo {
    let new = New {
        what: What::Regular,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: Default::default(),
    };
    let made = files.create(InodeNo::ROOT, name, &new);
    made.expect("made").what.number
}

/// Writes whole blocks from one on; the file ends behind them, if not further on.
fn write(files: Files<'_, Writer<'_>>, file: InodeNo, at: u64, bytes: &[u8]) {
    let dirty = [Dirty {
        at: FileBlock(at),
        bytes,
    }];
    let written = Written {
        size: Some(Bytes(at * BLOCK_SIZE as u64 + bytes.len() as u64)),
        ..Written::default()
    };
    let done = files.write(file, &dirty, Way::Sealed, &written);
    done.expect("written");
}

/// The devices and blocks of them that hold these bytes.
fn places(devices: &[String], bytes: &[u8]) -> Vec<(usize, u64)> {
    let mut found = Vec::new();
    for (n, device) in devices.iter().enumerate() {
        let all = std::fs::read(device).unwrap();
        let blocks = (0..).zip(all.chunks_exact(BLOCK_SIZE));
        found.extend(blocks.filter(|(_, b)| *b == bytes).map(|(at, _)| (n, at)));
    }
    found
}

/// What is said of a block: as text, and as documents.
fn dump_block(devices: &[String], (device, block): (usize, u64)) -> (String, Vec<Value>) {
    let mut in_order = vec![devices[device].clone()];
    in_order.extend(devices.iter().filter(|d| **d != devices[device]).cloned());
    let block = block.to_string();
    let text = admin(&["dump", "block", &block], &in_order).expect(0).out;
    let done = admin(&["dump", "block", &block, "--json"], &in_order).expect(0);
    let rows = done.json()["block"].as_array().unwrap().clone();
    let holders = rows.into_iter().filter(|row| row.get("lives").is_some());
    (text, holders.collect())
}

#[test]
fn dump_of_a_block_names_its_files() {
    const COUNT: usize = 256;
    let dir = Dir::new();
    let devices = dir.images(3, 32);
    mkfs(&["-q", "--bundle", "2+1"], &devices).expect(0);
    let block = |bytes: &[u8], n: usize| bytes[n * BLOCK_SIZE..][..BLOCK_SIZE].to_vec();
    let (striped, copied, kept) = (pattern(COUNT, 1), pattern(4, 2), pattern(COUNT, 3));
    let (one, two, layouts) = inside::work_on(&devices, |mounted, names| {
        let view = names.open(mounted, b"").unwrap();
        let files = names.of(mounted, &view);
        let one = make(files, b"one");
        files.link(one, InodeNo::ROOT, b"other", NOW).unwrap();
        write(files, one, 0, &striped);
        write(files, one, 9, &pattern(1, 4));
        let two = make(files, b"two");
        let pair = Pair {
            from: (one, FileBlock(20)),
            to: (two, FileBlock(3)),
            blocks: Blocks(5),
        };
        files.clone_range(&pair, Some(Bytes(1 << 20)), NOW).unwrap();
        // What was set aside lies in copies.
        let (from, to) = (FileBlock(0), FileBlock(4));
        let three = make(files, b"three");
        files.preallocate(three, from, to, None, NOW).unwrap();
        write(files, three, 0, &copied);
        let four = make(files, b"four");
        write(files, four, 0, &kept);
        files.take_snapshot(b"monday", NOW).unwrap();
        files
            .unlink(InodeNo::ROOT, b"four", Users::None, NOW)
            .unwrap();
        write(files, one, 30, &pattern(1, 5));
        let mut layouts = Vec::new();
        let (first, last) = (StripeId(1), StripeId(u64::MAX));
        let range = Range {
            first: key(first, Kind::Layout, 0),
            last: key(last, Kind::Layout, 0),
        };
        let mut scan = mounted.scan(STRIPES, range).unwrap();
        while let Some((at, value)) = scan.next().unwrap() {
            let stripe = StripeId(at.0[0]);
            if at == key(stripe, Kind::Layout, 0) {
                layouts.push((stripe, Layout::parse(&value).unwrap()));
            }
        }
        (one.0, two.0, layouts)
    });
    fsck(&["-f", "--data"], &devices).expect(0);

    // In a stripe, and shared.
    let at = places(&devices, &block(&striped, 22));
    assert_eq!(at.len(), 1);
    let (text, holders) = dump_block(&devices, at[0]);
    assert_eq!(holders.len(), 1, "{text}");
    let held = &holders[0];
    assert_eq!(
        (&held["lives"], &held["parity"]),
        (&true.into(), &false.into())
    );
    assert!(held["stripe"].is_u64() && held["engram"].is_u64(), "{held}");
    let users = held["users"].as_array().unwrap();
    let of = |inode: u64| users.iter().find(|user| user["inode"] == inode).unwrap();
    assert_eq!(users.len(), 2, "{held}");
    assert_eq!(of(one)["at"], 22);
    let mut paths: Vec<_> = of(one)["paths"].as_array().unwrap().iter().collect();
    paths.sort_by_key(|path| path["path"].to_string());
    assert_eq!(paths.len(), 2);
    assert!(
        paths[0]["path"] == "/one" && paths[1]["path"] == "/other",
        "{held}"
    );
    assert_eq!(of(two)["at"], Value::Null);
    assert_eq!(of(two)["paths"][0]["path"], "/two");
    assert!(text.contains("which lives, in row"), "{text}");
    assert!(text.contains(&format!("inode {two}: /two\n")), "{text}");

    // The other places of that stripe: each block of parity, and of data what lies there.
    let (stripe, layout) = layouts
        .iter()
        .find(|(id, _)| held["stripe"] == id.0)
        .unwrap();
    for fragment in 0..layout.shape.width() {
        let place = layout.place(fragment).unwrap();
        let (text, holders) = dump_block(&devices, (place.device.index(), place.block.0 + 2));
        assert_eq!(holders.len(), 1, "{text}");
        assert_eq!(holders[0]["stripe"], stripe.0);
        assert_eq!(holders[0]["fragment"], fragment);
        assert_eq!(holders[0]["row"], 2);
        let is_parity = fragment >= layout.shape.data();
        assert_eq!(holders[0]["parity"], is_parity);
        assert_eq!(holders[0]["engram"].is_null(), is_parity, "{text}");
        assert_eq!(text.contains("parity: row 2"), is_parity, "{text}");
        if !is_parity {
            let at = layout.shape.begin(fragment) + 2;
            assert_eq!(holders[0]["users"][0]["at"], at, "{text}");
        }
    }

    // Written over: dead in the stripe, and nobody's. Under a snapshot it lives.
    let (text, holders) = dump_block(&devices, places(&devices, &block(&striped, 9))[0]);
    assert_eq!(holders[0]["lives"], false, "{text}");
    assert_eq!(holders[0]["users"].as_array().unwrap().len(), 0, "{text}");
    assert!(text.contains("which is dead"), "{text}");
    let (text, holders) = dump_block(&devices, places(&devices, &block(&striped, 30))[0]);
    assert_eq!(holders[0]["lives"], true, "{text}");
    assert_eq!(holders[0]["users"][0]["inode"], one, "{text}");

    // In copies: each of them.
    let at = places(&devices, &block(&copied, 2));
    assert_eq!(at.len(), 2);
    for at in at {
        let (text, holders) = dump_block(&devices, at);
        assert_eq!(holders.len(), 1, "{text}");
        assert_eq!(holders[0]["stripe"], Value::Null);
        assert_eq!(holders[0]["users"][0]["at"], 2);
        assert!(text.contains("written as its block 2: /three\n"), "{text}");
    }

    // Only a snapshot has it.
    let (text, holders) = dump_block(&devices, places(&devices, &block(&kept, 100))[0]);
    assert_eq!(holders[0]["lives"], true, "{text}");
    let path = &holders[0]["users"][0]["paths"][0];
    assert!(path["path"] == "/four" && path["of"] == "monday", "{text}");
    assert!(
        text.contains("written as its block 100: /four (of monday)"),
        "{text}"
    );

    // Nobody has a block of a tree, and nothing that is free.
    for (block, what) in [(2304, "the journal"), (8100, "free, says free space")] {
        let (text, holders) = dump_block(&devices, (0, block));
        assert!(text.contains(what) && holders.is_empty(), "{text}");
    }

    // What there is of snapshots.
    let items = admin(&["dump", "items", "snapshots"], &devices)
        .expect(0)
        .out;
    for said in [
        "node 1: snapshot \"monday\", the first, made 1970-01-01",
        "node 2: head without a name, grew from 1",
        "own versions 2",
        "nodes kept for removing",
        "numbers given out below 3",
        "touched of inode",
        "the inode and its parents",
        "what it holds in windows 0 to 63",
        ": made or removed",
        "the entry 0x",
    ] {
        assert!(items.contains(said), "{said}: {items}");
    }
    let nodes = admin(&["dump", "nodes", "snapshots"], &devices)
        .expect(0)
        .out;
    assert_eq!(
        nodes,
        admin(&["dump", "nodes", "6"], &devices).expect(0).out
    );
    assert!(nodes.contains("level 0"), "{nodes}");
}

/// What files should hold.
type Model = BTreeMap<&'static [u8], Vec<u8>>;

/// Writes blocks of a file, in the model too; it is made if it is not there.
fn put(
    files: Files<'_, Writer<'_>>,
    model: &mut Model,
    name: &'static [u8],
    at: usize,
    with: &[u8],
) {
    let file = match files.lookup(InodeNo::ROOT, name) {
        Ok(target) => target.inode,
        Err(_) => make(files, name),
    };
    write(files, file, at as u64, with);
    let held = model.entry(name).or_default();
    let (begin, end) = (at * BLOCK_SIZE, at * BLOCK_SIZE + with.len());
    held.resize(held.len().max(end), 0);
    held[begin..end].copy_from_slice(with);
}

/// Compares all files, byte for byte.
#[track_caller]
fn compare(devices: &[String], model: &Model) {
    inside::look(devices, |files| {
        for (name, bytes) in model {
            let file = files.lookup(InodeNo::ROOT, name).expect("a name").inode;
            let size = files.inode(file).expect("an inode").size;
            assert_eq!(size, Bytes(bytes.len() as u64));
            let mut found = vec![0xcc; bytes.len()];
            let read = files.read(file, FileBlock(0), &mut found);
            read.unwrap_or_else(|why| panic!("{}: {why}", text(name)));
            assert!(found == *bytes, "{}", text(name));
        }
    });
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

#[test]
fn a_member_that_missed_data_is_caught_up() {
    const LATE: usize = 3;
    const ASIDE: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
    // It is away meanwhile, or set back, too, to a copy that is older than that.
    for is_set_back in [false, true] {
        let dir = Dir::new();
        let devices = dir.images(6, 48);
        mkfs(&["-q", "--bundle", "4+2"], &devices).expect(0);
        let mut model = Model::new();
        inside::work(&devices, |files| {
            put(files, &mut model, b"large", 0, &pattern(700, 1));
            put(files, &mut model, b"small", 0, &pattern(1, 2));
            put(files, &mut model, b"kept", 0, &pattern(256, 3));
            put(files, &mut model, b"goes", 0, &pattern(64, 4));
            // Places that are written while the member is away: some of them are on it.
            for (n, name) in ASIDE.into_iter().enumerate() {
                let aside = make(files, name);
                let (from, to) = (FileBlock(0), FileBlock(32));
                files.preallocate(aside, from, to, None, NOW).unwrap();
                put(files, &mut model, name, 0, &pattern(8, 20 + n as u64));
            }
        });
        let older = std::fs::read(&devices[LATE]).unwrap();
        let others = devices.iter().enumerate().filter(|(n, _)| *n != LATE);
        let others: Vec<String> = others.map(|(_, d)| d.clone()).collect();
        for round in 0..2 {
            let here = match is_set_back && round == 0 {
                true => &devices,
                false => &others,
            };
            inside::work(here, |files| {
                put(
                    files,
                    &mut model,
                    b"large",
                    100 + 64 * round,
                    &pattern(90, 6 + round as u64),
                );
                for (n, name) in ASIDE.into_iter().enumerate() {
                    let bytes = pattern(12, 40 + 10 * round as u64 + n as u64);
                    put(files, &mut model, name, 8 + 8 * round, &bytes);
                }
                put(files, &mut model, b"small", 1, &pattern(3, 10));
                if round == 0 {
                    put(files, &mut model, b"new", 0, &pattern(300, 11));
                    let removed = files.unlink(InodeNo::ROOT, b"goes", Users::None, NOW);
                    removed.unwrap();
                    model.remove(&b"goes"[..]);
                }
            });
        }
        if is_set_back {
            std::fs::write(&devices[LATE], &older).unwrap();
        }
        let stale = admin(&["devices", "--json"], &devices).expect(1).json();
        let standing = &stale["volumes"][0]["devices"][LATE]["standing"];
        assert_eq!(standing, "stale", "{stale}");
        // What it missed is not read from it.
        compare(&devices, &model);

        let done = admin(&["catch-up", "--json"], &devices).expect(0).json();
        assert_eq!(done["caught_up"], 1, "{done}");
        assert_eq!(done["missing"], 0, "{done}");
        assert_eq!(done["lost"], 0, "{done}");
        // What was written with it meanwhile is not on the older copy.
        let least = if is_set_back { 100 } else { 0 };
        assert!(done["blocks"].as_u64() > Some(least), "{done}");
        fsck(&["-f", "--data"], &devices).expect(0);
        compare(&devices, &model);
        // Without any two others, every block that should be on it is needed.
        for (n, first) in others.iter().enumerate() {
            for second in &others[n + 1..] {
                let left = devices.iter().filter(|d| *d != first && *d != second);
                let left: Vec<String> = left.cloned().collect();
                compare(&left, &model);
            }
        }
    }
}
