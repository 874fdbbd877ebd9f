// SPDX-License-Identifier: GPL-2.0

//! fsck.embrfs over damaged image files.

mod common;

use common::inside::*;
use common::*;
use embr_engine::env::Environment;
use embr_engine::format::member::Slot;
use embr_engine::format::pointer::Pointer;
use embr_engine::format::seal;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SPACE;
use embrfs_host::Host;
use embrfs_sim::forge;

/// Superblock copies of a device above 1 GiB.
const COPIES: [u64; 3] = [64 << 10, (8 << 20) + (64 << 10), (1 << 30) + (64 << 10)];
/// The rings of roots; a new volume has roots in slots 1 to 3.
const RINGS: [u64; 2] = [128 << 10, (8 << 20) + (128 << 10)];

fn volume(dir: &Dir, bundle: &str, mib: u64) -> Vec<String> {
    let (k, m) = bundle.split_once('+').unwrap();
    let devices = dir.images(
        k.parse::<usize>().unwrap() + m.parse::<usize>().unwrap(),
        mib,
    );
    mkfs(&["-q", "--bundle", bundle], &devices).expect(0);
    devices
}

#[test]
fn each_damaged_copy_is_found_and_mended() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 1100);
    for (number, at) in COPIES.iter().enumerate() {
        let good = read_at(&devices[1], *at, 16384);
        rot(&devices[1], at + 300);
        let found = fsck(&["-n", "--json"], &devices).expect(4).json();
        assert_eq!(found["findings"].as_array().unwrap().len(), 1);
        assert_eq!(found["findings"][0]["device"], devices[1].as_str());
        assert!(found["findings"][0]["text"]
            .as_str()
            .unwrap()
            .starts_with(&format!("copy {number}:")));
        // Not asked for, and no terminal to ask on.
        fsck(&[], &devices).expect(4);
        let mended = fsck(&["-y", "--json"], &devices).expect(1).json();
        assert_eq!(mended["findings"][0]["corrected"], true);
        assert_eq!(read_at(&devices[1], *at, 16384), good);
        fsck(&["-p"], &devices).expect(0);
    }
}

#[test]
fn every_byte_kind_of_damage_to_a_copy() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 32);
    for at in [0, 12, 16, 47, 48, 100, 5000, 9000, 16383] {
        rot(&devices[0], COPIES[0] + at);
        fsck(&["-n"], &devices).expect(4);
        fsck(&["-p"], &devices).expect(1);
    }
    fsck(&["-n"], &devices).expect(0);
}

/// Changes a structure as somebody would who means it: with its seal.
fn forge(path: &str, at: u64, length: usize, change: impl Fn(&mut [u8])) {
    let mut bytes = read_at(path, at, length);
    change(&mut bytes);
    seal::apply(Host::new().unwrap().hasher(), &mut bytes, Bytes(at));
    write_at(path, at, &bytes);
}

/// fsck -y reports that something is wrong with the first device, and changes no byte of it.
#[track_caller]
fn left_alone(devices: &[String], what: &str) {
    let before = std::fs::read(&devices[0]).unwrap();
    let done = fsck(&["-y"], devices);
    // Left uncorrected, or not checked at all; that other devices are mended has no part in it.
    assert!(done.code & 12 != 0, "{what}: {done:?}");
    assert!(done.out.contains(" at byte "), "{what}: {done:?}");
    let after = std::fs::read(&devices[0]).unwrap();
    let first = before.iter().zip(&after).position(|(a, b)| a != b);
    assert_eq!(first, None, "{what}: changed");
}

/// A change that leaves something which this version does not understand: its name, and byte and value.
type Change = (&'static str, usize, u8);

#[test]
fn sealed_roots_that_are_not_understood_are_left_alone() {
    // What is drawn anew for each volume may be any byte.
    const OTHER: u8 = 0xff;
    const CHANGES: [Change; 5] = [
        ("a tree table", 108, 1),
        ("version", 8, 2),
        ("volume", 48, OTHER),
        ("another device", 88, 9),
        ("slot", 92, 33),
    ];
    for (what, field, value) in CHANGES {
        let dir = Dir::new();
        let devices = volume(&dir, "1+1", 32);
        // With a sound twin, and in a slot where there is none.
        forge(&devices[0], RINGS[0] + 4096, 4096, |root| {
            root[field] = if value == OTHER { !root[field] } else { value }
        });
        left_alone(&devices, what);
        let dir = Dir::new();
        let devices = volume(&dir, "1+1", 32);
        let root = read_at(&devices[0], RINGS[0] + 4096, 4096);
        write_at(&devices[0], RINGS[1] + 9 * 4096, &root);
        forge(&devices[0], RINGS[1] + 9 * 4096, 4096, |root| {
            (root[80], root[92]) = (9, 9);
            root[field] = if value == OTHER { !root[field] } else { value };
        });
        left_alone(&devices, what);
        // And nothing else is touched on a device that holds such a thing; on others it is.
        rot(&devices[0], COPIES[1] + 300);
        rot(&devices[0], RINGS[0] + 4096 + 200);
        rot(&devices[1], COPIES[1] + 300);
        left_alone(&devices, what);
        fsck(&["-n"], &devices[1..]).expect(0);
    }
}

#[test]
fn superblock_copies_that_are_not_understood_are_left_alone() {
    const CHANGES: [Change; 2] = [("version", 8, 2), ("features", 127, 0x80)];
    for (what, field, value) in CHANGES {
        for copy in &COPIES[..2] {
            let dir = Dir::new();
            let devices = volume(&dir, "1+1", 32);
            rot(&devices[0], RINGS[0] + 4096 + 200);
            forge(&devices[0], *copy, 16384, |bytes| bytes[field] = value);
            left_alone(&devices, what);
        }
    }
    // A version of which the seal may be another one, too.
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 32);
    rot(&devices[0], COPIES[0] + 8);
    left_alone(&devices, "version without a seal");
}

#[test]
fn features_that_allow_no_writing_are_told_and_nothing_is_repaired() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 32);
    rot(&devices[0], COPIES[1] + 100);
    rot(&devices[1], COPIES[1] + 100);
    // One device says so.
    forge(&devices[1], COPIES[0], 16384, |bytes| bytes[113] = 2);
    let read = || -> Vec<Vec<u8>> {
        let all = devices.iter();
        all.map(|d| std::fs::read(d).unwrap()).collect()
    };
    let before = read();
    for how in ["-n", "-p", "-y"] {
        let done = fsck(&[how, "--json"], &devices).expect(12).json();
        assert!(done.to_string().contains("bit 9"), "{done}");
        // Two copies, the feature, and that the other device does not have it.
        assert_eq!(done["findings"].as_array().unwrap().len(), 4, "{done}");
        assert!(done["checked"]["nodes"].as_u64() > Some(0), "{done}");
        assert!(read() == before, "{how}: changed");
    }
    forge(&devices[1], COPIES[0], 16384, |bytes| bytes[113] = 0);
    fsck(&["-y"], &devices).expect(1);
    for (device, copy) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        forge(&devices[device], COPIES[copy], 16384, |bytes| {
            bytes[113] = 2
        });
    }
    assert!(fsck(&["-n"], &devices).expect(8).out.contains("bit 9"));
}

#[test]
fn two_copies_of_three_may_go() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 1100);
    for keep in 0..3 {
        for at in COPIES
            .iter()
            .enumerate()
            .filter(|(n, _)| *n != keep)
            .map(|(_, at)| at)
        {
            write_at(&devices[0], *at, &[0; 16384]);
        }
        fsck(&["-y"], &devices).expect(1);
        fsck(&["-n"], &devices).expect(0);
    }
}

#[test]
fn damaged_roots_come_back_from_their_twins() {
    let dir = Dir::new();
    let devices = volume(&dir, "2+1", 32);
    for ring in RINGS {
        let good = read_at(&devices[2], ring + 4096, 4096);
        for damage in [
            vec![0; 4096],
            vec![0xff; 4096],
            [&good[..80], &[0; 4016]].concat(),
        ] {
            write_at(&devices[2], ring + 4096, &damage);
            fsck(&["-n"], &devices).expect(4);
            fsck(&["-y"], &devices).expect(1);
            assert_eq!(read_at(&devices[2], ring + 4096, 4096), good);
        }
        // A slot that was never used has no twin to come back from.
        write_at(&devices[2], ring + 9 * 4096, &[7; 4096]);
        fsck(&["-n"], &devices).expect(4);
        fsck(&["-y"], &devices).expect(1);
        assert_eq!(read_at(&devices[2], ring + 9 * 4096, 4096), [0; 4096]);
    }
}

#[test]
fn what_cannot_be_mended_is_left() {
    let dir = Dir::new();
    let devices = volume(&dir, "2+1", 32);
    for ring in RINGS {
        write_at(&devices[0], ring + 4096, &[0; 3 * 4096]);
    }
    let done = fsck(&["-y"], &devices).expect(4);
    assert!(
        done.out.contains("no root was ever written"),
        "{}",
        done.out
    );
    for at in &COPIES[..2] {
        rot(&devices[1], at + 60);
    }
    let done = fsck(&["-y"], &devices).expect(4);
    assert!(done.out.contains("checksum mismatch"), "{}", done.out);
}

#[test]
fn missing_members_degrade_and_too_many_are_an_error() {
    let dir = Dir::new();
    let devices = volume(&dir, "4+2", 32);
    let degraded = fsck(&["-n"], &devices[2..]).expect(0);
    assert!(degraded.out.contains("degraded"), "{}", degraded.out);
    let done = fsck(&["-n"], &devices[3..]).expect(4);
    assert!(
        done.out.contains("number 1") && done.out.contains("number 3"),
        "{}",
        done.out
    );
    fsck(&["-n", "--only"], &devices[..1]).expect(4);
}

#[test]
fn a_shrunken_device_is_told_with_its_sizes() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 64);
    std::fs::OpenOptions::new()
        .write(true)
        .open(&devices[0])
        .unwrap()
        .set_len(48 * MIB)
        .unwrap();
    let done = fsck(&["-y"], &devices).expect(4);
    assert!(
        done.out.contains(&format!("{}", 48 * MIB)) && done.out.contains(&format!("{}", 64 * MIB)),
        "{}",
        done.out
    );
}

#[test]
fn foreign_and_doubled_devices_are_operational_errors() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 32);
    let other = Dir::new();
    let foreign = volume(&other, "1+0", 32);
    fsck(&["-n"], &[devices[0].clone(), foreign[0].clone()]).expect(8);
    let copy = dir.path("copy").to_str().unwrap().to_owned();
    std::fs::copy(&devices[0], &copy).unwrap();
    fsck(&["-n"], &[devices[0].clone(), copy, devices[1].clone()]).expect(8);
    fsck(&["-n"], &[dir.image("blank", 32)]).expect(8);
    fsck(&["-n"], &["/nonexistent".to_owned()]).expect(8);
    // The same device twice is just once.
    fsck(
        &["-n"],
        &[devices[0].clone(), devices[1].clone(), devices[0].clone()],
    )
    .expect(0);
}

#[test]
fn command_lines() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 32);
    for wrong in [&["-n", "-y"][..], &["-p", "-n"], &["--frobnicate"]] {
        fsck(wrong, &devices).expect(16);
    }
    fsck(&[], &[]).expect(16);
    for right in [&["-a"][..], &["-f", "-n"], &["-C=3", "-p"], &["-v"]] {
        fsck(right, &devices).expect(0);
    }
    assert_eq!(
        fsck(&["--json", "-n"], &devices).expect(0).json()["ok"],
        true
    );
}

#[test]
fn looking_changes_nothing() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 32);
    rot(&devices[0], COPIES[1] + 5);
    let before = std::fs::read(&devices[0]).unwrap();
    fsck(&["-n"], &devices).expect(4);
    fsck(&["--json"], &devices).expect(4);
    admin(&["status"], &devices).expect(0);
    assert_eq!(std::fs::read(&devices[0]).unwrap(), before);
}

/// Where the top of a tree is.
fn top(devices: &[String], tree: TreeId) -> Pointer {
    let mut found = None;
    let mut look = |_: Slot, _: &mut _, bases: &mut Vec<embr_engine::tree::Base>| {
        let base = bases.iter().find(|b| b.tree == tree);
        found = base.and_then(|b| b.top);
    };
    forge::forge(&opened(devices), &mut |_, _| {}, &mut look).unwrap();
    found.unwrap().pointer
}

#[test]
fn damaged_nodes_are_found_with_their_devices() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+1", 32);
    let clean = fsck(&["-n", "--json"], &devices).expect(0).json();
    assert_eq!(clean["checked"]["nodes"], 1);
    let mut found = Vec::new();
    for place in top(&devices, NAMES).places.iter() {
        let device = &devices[place.device.index()];
        rot(device, place.block.bytes().unwrap().0 + 5000);
        let done = fsck(&["-y", "--json"], &devices).expect(4).json();
        if found.is_empty() {
            assert_eq!(done["findings"][0]["device"], device.as_str(), "{done}");
            assert_eq!(done["findings"][0]["at"]["block"], place.block.0);
        }
        assert_eq!(done["findings"][0]["at"]["tree"], NAMES.0);
        found.push(done["findings"][0]["at"]["kind"].clone());
        assert_eq!(done["findings"].as_array().unwrap().len(), 1, "{done}");
    }
    assert_eq!(found, ["copy", "lost"]);
}

#[test]
fn what_is_wrong_with_names_is_told_with_paths() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 32);
    change(&devices, NAMES, |all| {
        let (_, inode) = all.iter_mut().find(|(key, _)| key.0[0] == 1).unwrap();
        // Its number of entries.
        inode[24] = 9;
    });
    let done = fsck(&["-n", "--json"], &devices).expect(4).json();
    let at = &done["findings"][0]["at"];
    assert_eq!(
        (&at["inode"], &at["path"]),
        (&1.into(), &"/".into()),
        "{done}"
    );
    let text = fsck(&["-n"], &devices).expect(4).out;
    assert!(
        text.contains("counts 9 entries or blocks, but has 0 (/)"),
        "{text}"
    );
    change(&devices, NAMES, |all| all.retain(|(key, _)| key.0[0] == 0));
    let text = fsck(&["-n"], &devices).expect(4).out;
    assert!(text.contains("no root directory"), "{text}");
}

#[test]
fn wrong_free_space_is_told_in_any_memory() {
    let dir = Dir::new();
    let devices = volume(&dir, "1+0", 600);
    for memory in ["46K", "47K", "1M"] {
        let done = fsck(&["-n", "--json", "--memory", memory], &devices)
            .expect(0)
            .json();
        let passes = done["checked"]["passes"].as_u64().unwrap();
        assert_eq!(passes > 1, memory != "1M", "{done}");
    }
    fsck(&["-n", "--progress"], &devices).expect(0);
    remount(&devices);
    change(&devices, SPACE, |all| {
        let (_, value) = all.iter_mut().find(|(key, _)| key.0[1] == 0).unwrap();
        value.extend_from_slice(&9000u16.to_le_bytes());
        value.extend_from_slice(&4u16.to_le_bytes());
    });
    for memory in ["46K", "1M"] {
        let text = fsck(&["-n", "--memory", memory], &devices).expect(4).out;
        let told = "blocks 9000 to 9004 of the device in slot 0 are said to be in use";
        assert!(text.contains(told), "{text}");
    }
    fsck(&["-n", "--memory", "some"], &devices).expect(16);
    // Free space alone takes 38400 bytes.
    let text = fsck(&["-n", "--memory", "40K"], &devices).expect(8).err;
    assert!(text.contains("needs 46592 at least"), "{text}");
}
