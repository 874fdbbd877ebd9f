// SPDX-License-Identifier: GPL-2.0

//! embrfs-admin and mount.embrfs, as far as image files show; and the manual pages.

mod common;

use common::*;
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
        inside::work(devices, |files| embrfs_make(files, name));
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

fn embrfs_make(files: embr_engine::names::Files<'_, inside::Writer<'_>>, name: &[u8]) {
    let new = embr_engine::names::New {
        what: embr_engine::names::What::Regular,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: Default::default(),
    };
    let root = embr_engine::units::InodeNo::ROOT;
    files.create(root, name, &new).expect("made");
}
