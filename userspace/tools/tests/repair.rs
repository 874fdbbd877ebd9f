// SPDX-License-Identifier: GPL-2.0

//! fsck.embrfs --repair over image files with damaged trees.

mod common;

use common::inside::*;
use common::*;
use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::names::New;
use embr_engine::names::What;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SPACE;
use std::fs;

fn new(what: What<'_>) -> New<'_> {
    New {
        what,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: Timestamp {
            seconds: 5,
            nanos: 0,
        },
    }
}

fn bytes() -> Vec<u8> {
    (0..40 * 4096u32).map(|n| (n / 7 % 251) as u8).collect()
}

/// A volume with `dir/file` of 40 blocks; and the numbers of both.
fn volume(dir: &Dir, bundle: &str) -> (Vec<String>, InodeNo, InodeNo) {
    let (k, m) = bundle.split_once('+').unwrap();
    let devices = dir.images(
        k.parse::<usize>().unwrap() + m.parse::<usize>().unwrap(),
        32,
    );
    mkfs(&["-q", "--bundle", bundle], &devices).expect(0);
    let numbers = work(&devices, |files| {
        let make = |at, name: &[u8], what| files.create(at, name, &new(what)).unwrap().what.number;
        let directory = make(InodeNo::ROOT, b"dir", What::Directory);
        let file = make(directory, b"file", What::Regular);
        let bytes = bytes();
        let dirty = [Dirty {
            at: FileBlock(0),
            bytes: &bytes,
        }];
        let written = Written {
            size: Some(Bytes(bytes.len() as u64)),
            ..Written::default()
        };
        files.write(file, &dirty, Way::Sealed, &written).unwrap();
        (directory, file)
    });
    remount(&devices);
    fsck(&["-n", "--data"], &devices).expect(0);
    (devices, numbers.0, numbers.1)
}

fn all(devices: &[String]) -> Vec<Vec<u8>> {
    devices.iter().map(|d| fs::read(d).unwrap()).collect()
}

/// Without being asked to it mends nothing; then it does, and nothing is left to do. Returns what it told.
#[track_caller]
fn repaired(devices: &[String], options: &[&str]) -> Done {
    let before = all(devices);
    fsck(&["-y"], devices).expect(4);
    assert!(all(devices) == before, "changed without being asked to");
    let plan = fsck(&[&["-n", "--repair"], options].concat(), devices).expect(4);
    assert!(plan.out.contains("would be done: "), "{plan:?}");
    assert!(all(devices) == before, "changed by a plan");
    let done = fsck(&[&["--repair"], options].concat(), devices).expect(1);
    assert!(done.out.contains("-- corrected"), "{done:?}");
    fsck(&["-n", "--data"], devices).expect(0);
    let after = all(devices);
    fsck(&[&["--repair"], options].concat(), devices).expect(0);
    assert!(all(devices) == after, "changed again");
    done
}

/// What the file holds, by its path.
fn held(devices: &[String], path: &[&str]) -> Vec<u8> {
    look(devices, |files| {
        let mut at = InodeNo::ROOT;
        for name in path {
            at = files.lookup(at, name.as_bytes()).unwrap().inode;
        }
        let mut found = vec![0; 40 * 4096];
        files.read(at, FileBlock(0), &mut found).unwrap();
        found
    })
}

#[test]
fn counts_are_told_with_paths_and_put_right() {
    for bundle in ["1+0", "1+1", "2+1"] {
        let dir = Dir::new();
        let (devices, directory, file) = volume(&dir, bundle);
        change(&devices, NAMES, |all| {
            for (key, value) in all.iter_mut().filter(|(key, _)| key.0[1] >> 56 == 1) {
                if key.0[0] == file.0 {
                    value[4] = 3;
                }
                if key.0[0] == directory.0 {
                    value[24] = 9;
                }
            }
        });
        let done = repaired(&devices, &[]);
        let told = "its link count is 3, but should be 1 (/dir/file): it counts 1 links";
        assert!(done.out.contains(told), "{}", done.out);
        assert!(held(&devices, &["dir", "file"]) == bytes());
    }
}

#[test]
fn what_lost_its_name_is_in_lost_and_found() {
    let dir = Dir::new();
    let (devices, _, file) = volume(&dir, "2+1");
    change(&devices, NAMES, |all| {
        let is_name = |key: &embr_engine::tree::Key, value: &[u8]| {
            let kind = key.0[1] >> 56;
            kind == 2 && key.0[0] == file.0 || kind == 0x10 && value.ends_with(b"file")
        };
        all.retain(|(key, value)| !is_name(key, value));
    });
    let done = repaired(&devices, &["--memory", "1M"]);
    let told = format!("it is \"#{file}\" in lost+found now");
    assert!(done.out.contains(&told), "{}", done.out);
    assert!(held(&devices, &["lost+found", &format!("#{file}")]) == bytes());
}

#[test]
fn a_lost_tree_of_free_space_is_written_anew() {
    let dir = Dir::new();
    let (devices, ..) = volume(&dir, "1+1");
    for leaf in leaves(&devices, SPACE) {
        leaf.rot(&devices);
    }
    let done = repaired(&devices, &[]);
    assert!(
        done.out.contains("free space is written anew"),
        "{}",
        done.out
    );
    work(&devices, |files| {
        files
            .create(InodeNo::ROOT, b"more", &new(What::Directory))
            .unwrap();
    });
    assert!(held(&devices, &["dir", "file"]) == bytes());
    fsck(&["-n", "--data"], &devices).expect(0);
}

/// What is said of a file's clone is wrong, and then nothing is said at all: no byte of either is lost, and both can go.
#[test]
fn what_is_said_of_clones_is_put_right() {
    let gone = |all: &mut Vec<(Key, Vec<u8>)>| all.truncate(1);
    let fewer = |all: &mut Vec<(Key, Vec<u8>)>| {
        for (_, value) in all.iter_mut().filter(|(key, _)| key.0[2] != 0) {
            value[6] = 9;
        }
    };
    for (bundle, lie) in [("1+0", &gone as &dyn Fn(&mut Vec<_>)), ("2+1", &fewer)] {
        let dir = Dir::new();
        let (devices, directory, file) = volume(&dir, bundle);
        work(&devices, |files| {
            let made = files.create(directory, b"clone", &new(What::Regular));
            let pair = Pair {
                from: (file, FileBlock(0)),
                to: (made.unwrap().what.number, FileBlock(0)),
                blocks: Blocks(40),
            };
            let size = Some(Bytes(40 * 4096));
            files
                .clone_range(&pair, size, new(What::Regular).now)
                .unwrap();
        });
        remount(&devices);
        fsck(&["-n", "--data"], &devices).expect(0);
        change(&devices, REFERENCES, |all| lie(all));
        let done = repaired(&devices, &[]);
        let told = "what is said of its blocks is how often files name them now";
        assert!(done.out.contains(told), "{}", done.out);
        for name in ["file", "clone"] {
            assert!(held(&devices, &["dir", name]) == bytes());
            work(&devices, |files| {
                let users = embr_engine::names::Users::None;
                files
                    .unlink(directory, name.as_bytes(), users, new(What::Regular).now)
                    .unwrap();
            });
        }
        remount(&devices);
        fsck(&["-n", "--data"], &devices).expect(0);
    }
}

#[test]
fn what_makes_no_sense_stays_unless_it_is_to_go() {
    let dir = Dir::new();
    let (devices, _, file) = volume(&dir, "1+0");
    change(&devices, NAMES, |all| {
        let mut key = all.iter().find(|(key, _)| key.0[0] == file.0).unwrap().0;
        key.0[1] = 0x55 << 56;
        all.push((key, b"?".to_vec()));
        all.sort();
    });
    let before = all(&devices);
    let done = fsck(&["--repair"], &devices).expect(4);
    assert!(done.out.contains("no kind that is known"), "{}", done.out);
    assert!(done.out.contains("embrfs-admin extract"), "{}", done.out);
    assert!(all(&devices) == before);
    let done = fsck(&["--repair", "--drop-senseless", "--json"], &devices).expect(1);
    let json = done.json();
    assert_eq!(json["findings"][0]["at"]["deed"], "dropped", "{json}");
    assert_eq!(json["findings"][0]["at"]["path"], "/dir/file", "{json}");
    assert_eq!(json["findings"][0]["corrected"], true, "{json}");
    fsck(&["--drop-senseless"], &devices).expect(16);
}

/// The inode says that it has another number of links.
fn say_other_links(devices: &[String], file: InodeNo) {
    change(devices, NAMES, |all| {
        let is_it = |key: &Key| key.0[1] >> 56 == 1 && key.0[0] == file.0;
        for (_, value) in all.iter_mut().filter(|(key, _)| is_it(key)) {
            value[4] = 3;
        }
    });
}

#[test]
fn without_a_member_nothing_is_repaired() {
    let dir = Dir::new();
    let (devices, _, file) = volume(&dir, "1+1");
    say_other_links(&devices, file);
    let alone = &devices[..1];
    let before = all(alone);
    fs::remove_file(&devices[1]).unwrap();
    let done = fsck(&["--repair"], alone).expect(12);
    assert!(done.out.contains("attach all of them"), "{}", done.out);
    assert!(all(alone) == before);
}

/// Where nodes of names are lost, nothing is done that could make it worse.
#[test]
fn with_lost_names_only_free_space_is_repaired() {
    let dir = Dir::new();
    let (devices, _, file) = volume(&dir, "1+1");
    say_other_links(&devices, file);
    for leaf in leaves(&devices, NAMES) {
        leaf.rot(&devices);
    }
    let before = all(&devices);
    let done = fsck(&["--repair"], &devices).expect(4);
    assert!(done.out.contains("embrfs-admin extract"), "{}", done.out);
    assert!(all(&devices) == before);
}

/// With snapshots it is told in which of them something is wrong; and what is wrong in a head is mended, in a snapshot left.
#[test]
fn heads_are_mended_and_snapshots_left() {
    let dir = Dir::new();
    let (devices, directory, file) = volume(&dir, "1+1");
    let now = new(What::Directory).now;
    work_on(&devices, |mounted, names| {
        let main = names.open(mounted, b"").unwrap();
        let files = names.of(mounted, &main);
        files.take_snapshot(b"one", now).unwrap();
        files.create(directory, b"later", &new(What::Fifo)).unwrap();
    });
    fsck(&["-n", "--data"], &devices).expect(0);
    // A count that is wrong for both.
    change(&devices, NAMES, |all| {
        let of_file = |key: &Key| key.0[0] == file.0 && key.0[1] >> 56 == 1;
        for (_, value) in all.iter_mut().filter(|(key, _)| of_file(key)) {
            value[4] = 3;
        }
    });
    let told = fsck(&["-n"], &devices).expect(4);
    assert!(told.out.contains("(/dir/file in snapshot one)"), "{told:?}");
    assert!(told.out.contains("(/dir/file)"), "{told:?}");
    repaired(&devices, &[]);
    // An entry that both have lost: the head gets it again.
    change(&devices, NAMES, |all| {
        let is_entry = |key: &Key| key.0[0] == directory.0 && key.0[1] >> 56 == 0x10;
        all.retain(|(key, value)| !(is_entry(key) && value.ends_with(b"file")));
    });
    let done = fsck(&["--repair"], &devices).expect(1 | 4);
    assert!(done.out.contains("is made again"), "{done:?}");
    let found = work_on(&devices, |mounted, names| {
        let main = names.open(mounted, b"").unwrap();
        let files = names.of(mounted, &main);
        files.lookup(directory, b"file").map(|target| target.inode)
    });
    assert_eq!(found, Ok(file));
    let told = fsck(&["-n"], &devices).expect(4);
    assert!(told.out.contains("in snapshot one)"), "{told:?}");
    let own = told
        .out
        .lines()
        .filter(|l| l.contains("/dir") && !l.contains("in snapshot one"));
    assert_eq!(own.count(), 0, "{told:?}");
}
