// SPDX-License-Identifier: GPL-2.0

//! Blocks that several files name: cloned, found to be the same, written over, moved, given up one after the other; and what all that
//! costs.

use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::check::Miscount;
use embr_engine::check::Span;
use embr_engine::check::Trouble;
use embr_engine::file::Dirty;
use embr_engine::file::Holds;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::reference::Tally;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::Mounted;
use embrfs_sim::contents;
use embrfs_sim::contents::scan;
use embrfs_sim::contents::Copies;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::read;
use embrfs_sim::desk::write;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use std::collections::BTreeMap;

const SIZE: Bytes = Bytes(32 << 20);

/// A volume with two files, of which the first has bytes.
struct Desk {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
    a: InodeNo,
    b: InodeNo,
    bytes: Vec<u8>,
}

impl Desk {
    fn on(fleet: &Fleet, chance: &Chance, blocks: usize) -> Self {
        let mounted = mount(chance, fleet);
        let (names, view) = (names(), View::first());
        let a = one_file(&mounted, &names, &view);
        let files = names.of(&mounted, &view);
        let b = create(files, b"b");
        let bytes = pattern(blocks, chance.next());
        if blocks != 0 {
            write(files, a, 0, &bytes, Way::Sealed);
        }
        Desk {
            mounted,
            names,
            view,
            a,
            b,
            bytes,
        }
    }

    fn new(blocks: usize) -> Self {
        let chance = &Chance::new(seed());
        Desk::on(&drives(chance, SIZE, 2, (1, 1)), chance, blocks)
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn pair(&self, from: u64, to: u64, blocks: u64) -> Pair {
        Pair {
            from: (self.a, FileBlock(from)),
            to: (self.b, FileBlock(to)),
            blocks: Blocks(blocks),
        }
    }

    fn clone(&self, from: u64, to: u64, blocks: u64) {
        let end = (to + blocks) * BLOCK_SIZE as u64;
        let done = (self.files()).clone_range(&self.pair(from, to, blocks), Some(Bytes(end)), NOW);
        done.unwrap_or_else(|why| panic!("{why}"));
    }

    /// How many blocks live.
    #[track_caller]
    fn lives(&self) -> u64 {
        contents::audit(&self.mounted).unwrap_or_else(|why| panic!("{why}"))
    }

    fn unlink(&self, name: &[u8]) {
        let done = (self.files()).unlink(InodeNo::ROOT, name, Users::None, NOW);
        done.unwrap_or_else(|why| panic!("{why}"));
    }

    /// Where the first block that a file has of an engram lies.
    fn first(&self, file: InodeNo) -> (EngramId, usize) {
        let items = scan(&self.mounted, NAMES).expect("items");
        let is = |(key, _): &&(_, Vec<u8>)| {
            let (item, _) = Item::of(*key);
            (item.owner(), item.kind()) == (file, Kind::EXTENTS)
        };
        let (_, value) = items.iter().find(is).expect("extents");
        let run = extent::parse(value).expect("runs").iter().next();
        run.map(|run| (run.engram, run.block())).expect("a run")
    }

    fn findings(&self) -> Vec<Finding> {
        let how = (Depth::Tree, Copies::All);
        inspector::findings(&self.mounted, Some(self.files()), how, &[]).expect("checked")
    }
}

#[test]
fn what_is_cloned_dies_with_the_last_who_names_it() {
    let desk = Desk::new(100);
    let files = desk.files();
    desk.clone(0, 7, 100);
    assert_eq!(desk.lives(), 100);
    assert!(read(files, desk.b, 7, 100) == desk.bytes);
    assert!(read(files, desk.b, 0, 7).iter().all(|b| *b == 0));
    let (engram, block) = desk.first(desk.b);
    let users = |block| desk.mounted.users(engram, block, 9).expect("users");
    assert_eq!(users(block)[..], [desk.a, desk.b]);
    // The same blocks once more are named as before.
    desk.clone(0, 7, 100);
    assert_eq!(desk.lives(), 100);
    // What one writes anew the other keeps.
    let new = pattern(3, 77);
    write(files, desk.b, 7 + 50, &new, Way::Sealed);
    assert_eq!(desk.lives(), 103);
    write(files, desk.a, 20, &new, Way::Inline);
    assert_eq!(desk.lives(), 103);
    assert!(read(files, desk.a, 50, 3) == desk.bytes[50 * BLOCK_SIZE..53 * BLOCK_SIZE]);
    assert!(read(files, desk.b, 27, 3) == desk.bytes[20 * BLOCK_SIZE..23 * BLOCK_SIZE]);
    assert_eq!(users(block + 50)[..], [desk.a]);
    assert_eq!(users(block + 20)[..], [desk.b]);
    // The one who wrote them goes first.
    desk.unlink(b"file");
    assert_eq!(desk.lives(), 100);
    assert_eq!(users(block)[..], [desk.b]);
    let mut expected = desk.bytes.clone();
    expected[50 * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
    assert!(read(files, desk.b, 7, 100) == expected);
    let done = files.punch(desk.b, Bytes(0), FileBlock(57).start(), NOW);
    done.expect("punched");
    assert_eq!(desk.lives(), 50);
    desk.unlink(b"b");
    assert_eq!(desk.lives(), 0);
    assert_eq!(scan(&desk.mounted, REFERENCES), Ok(vec![]));
}

/// Holes, what was set aside, and what lies in the tree.
#[test]
fn what_has_no_place_of_its_own_is_not_shared() {
    let desk = Desk::new(4);
    let files = desk.files();
    let inline = pattern(1, 5);
    write(files, desk.a, 6, &inline, Way::Inline);
    let done = files.preallocate(desk.a, FileBlock(8), FileBlock(12), None, NOW);
    done.expect("preallocated");
    write(files, desk.b, 0, &pattern(40, 6), Way::Sealed);
    desk.clone(0, 2, 14);
    let found = read(files, desk.b, 2, 14);
    assert!(found == read(files, desk.a, 0, 14));
    let pieces = files.pieces(desk.b, FileBlock(2), FileBlock(16), 9);
    let holds: Vec<(u64, Holds)> = pieces
        .expect("pieces")
        .iter()
        .map(|piece| (piece.blocks.0, piece.holds))
        .collect();
    assert_eq!(
        holds,
        [
            (4, Holds::Raw),
            (2, Holds::Hole),
            (1, Holds::Inline),
            (7, Holds::Hole)
        ]
    );
    // Four of each, four set aside, and what is left of the forty.
    assert_eq!(desk.lives(), 4 + 4 + 26);
    // What was set aside is written where it is, and the other does not see it.
    write(files, desk.a, 8, &pattern(4, 9), Way::Sealed);
    assert!(read(files, desk.b, 10, 4).iter().all(|b| *b == 0));
    assert_eq!(desk.lives(), 4 + 4 + 26);
}

#[test]
fn what_cannot_be_cloned_is_refused() {
    let desk = Desk::new(8);
    let files = desk.files();
    let overlapping = Pair {
        to: (desk.a, FileBlock(3)),
        ..desk.pair(0, 0, 4)
    };
    let far = desk.pair(0, (1 << 51) - 3, 4);
    let wraps = desk.pair(u64::MAX - 1, 0, 4);
    let directory = Pair {
        from: (InodeNo::ROOT, FileBlock(0)),
        ..desk.pair(0, 0, 1)
    };
    for (pair, why) in [
        (overlapping, Error::Invalid),
        (far, Error::TooBig),
        (wraps, Error::TooBig),
        (directory, Error::IsDirectory),
    ] {
        assert_eq!(files.clone_range(&pair, None, NOW).err(), Some(why));
        assert_eq!(files.same_range(&pair).err(), Some(why));
    }
    // What does not overlap may be of one file.
    let own = Pair {
        to: (desk.a, FileBlock(4)),
        ..desk.pair(0, 0, 4)
    };
    files.clone_range(&own, None, NOW).expect("cloned");
    assert_eq!(desk.lives(), 4);
    let found = read(files, desk.a, 0, 8);
    assert!(found[..4 * BLOCK_SIZE] == found[4 * BLOCK_SIZE..]);
    let done = files.truncate(desk.a, FileBlock(4).start(), NOW);
    done.expect("truncated");
    assert_eq!(desk.lives(), 4);
}

/// A clone that makes the file longer shows nothing that lay behind its end.
#[test]
fn what_lay_behind_the_end_stays_hidden() {
    let desk = Desk::new(8);
    let files = desk.files();
    // Written back before the size could follow, and then the power was cut.
    let dirty = [Dirty {
        at: FileBlock(1),
        bytes: &pattern(6, 3),
    }];
    let done = files.write(desk.b, &dirty, Way::Sealed, &Written::default());
    done.expect("written");
    desk.clone(0, 4, 8);
    assert!(read(files, desk.b, 0, 4).iter().all(|b| *b == 0));
    assert!(read(files, desk.b, 4, 8) == desk.bytes);
    assert_eq!(desk.lives(), 8);
}

#[test]
fn what_is_the_same_is_stored_once_and_what_differs_is_told() {
    let desk = Desk::new(100);
    let files = desk.files();
    let mut other = desk.bytes.clone();
    // One bit, in the last block but one.
    other[98 * BLOCK_SIZE + 4095] ^= 0x80;
    write(files, desk.b, 3, &other, Way::Sealed);
    assert_eq!(desk.lives(), 200);
    let same = |from, to, blocks| {
        let done = files.same_range(&desk.pair(from, to, blocks));
        done.unwrap_or_else(|why| panic!("{why}")).what.0
    };
    assert_eq!(same(0, 3, 100), 98);
    assert_eq!(desk.lives(), 102);
    assert_eq!(same(98, 101, 2), 0);
    assert_eq!(same(99, 102, 1), 1);
    assert_eq!(desk.lives(), 101);
    // Once more: they are the same already.
    assert_eq!(same(0, 3, 98), 98);
    assert_eq!(desk.lives(), 101);
    assert!(read(files, desk.b, 3, 100) == other);
    assert!(read(files, desk.a, 0, 100) == desk.bytes);
}

/// What lies in the tree, what was set aside, holes, and zeros.
#[test]
fn what_is_the_same_in_another_way() {
    let desk = Desk::new(4);
    let files = desk.files();
    let zeros = [0; 4 * BLOCK_SIZE];
    let holds = |file, at| {
        let pieces = files.pieces(file, FileBlock(at), FileBlock(at + 1), 1);
        pieces.expect("pieces").first().expect("a piece").holds
    };
    let same = |from, to, blocks| {
        let done = files.same_range(&desk.pair(from, to, blocks));
        done.unwrap_or_else(|why| panic!("{why}")).what.0
    };
    // In the tree there, raw here: it gets the other's place.
    write(files, desk.b, 0, &desk.bytes[..BLOCK_SIZE], Way::Inline);
    assert_eq!(same(0, 0, 1), 1);
    assert_eq!(holds(desk.b, 0), Holds::Raw);
    // In the tree here: it stays.
    let inline = pattern(1, 4);
    write(files, desk.a, 10, &inline, Way::Inline);
    write(files, desk.b, 10, &inline, Way::Sealed);
    assert_eq!(same(10, 10, 1), 1);
    assert_eq!(holds(desk.b, 10), Holds::Raw);
    // A hole here: so it is there.
    write(files, desk.b, 20, &zeros, Way::Sealed);
    assert_eq!(same(20, 20, 4), 4);
    assert_eq!(holds(desk.b, 20), Holds::Hole);
    // Zeros here: a hole there takes nothing already, and what was set aside stays so.
    write(files, desk.a, 30, &zeros, Way::Sealed);
    let done = files.preallocate(desk.b, FileBlock(32), FileBlock(34), None, NOW);
    done.expect("preallocated");
    assert_eq!(same(30, 30, 4), 4);
    assert_eq!(holds(desk.b, 30), Holds::Hole);
    assert_eq!(holds(desk.b, 32), Holds::Unwritten);
    // Set aside here is the same as a hole.
    let done = files.preallocate(desk.a, FileBlock(40), FileBlock(42), None, NOW);
    done.expect("preallocated");
    write(files, desk.b, 40, &zeros[..BLOCK_SIZE], Way::Sealed);
    write(files, desk.b, 41, &inline, Way::Sealed);
    assert_eq!(same(40, 40, 2), 1);
    assert_eq!(holds(desk.b, 40), Holds::Hole);
    desk.lives();
}

/// Files that have much of each other, beside plain bytes; on volumes that are mounted again, whose stripes are moved together.
#[test]
fn files_that_share_beside_plain_bytes() {
    const BLOCKS: usize = 150;
    let chance = &Chance::new(seed());
    for (count, shape) in [(1, (1, 0)), (2, (1, 1)), (6, (4, 2))] {
        let fleet = drives(chance, SIZE, count, shape);
        let mut desk = Desk::on(&fleet, chance, 0);
        let mut model: BTreeMap<Vec<u8>, (InodeNo, Vec<u8>)> = BTreeMap::new();
        let mut most_users = 0;
        for step in 0..400 {
            let files = desk.files();
            let name = format!("n{}", chance.below(5)).into_bytes();
            let other = format!("n{}", chance.below(5)).into_bytes();
            let (number, mut bytes) = (model.remove(&name))
                .unwrap_or_else(|| (create(files, &name), vec![0; BLOCKS * BLOCK_SIZE]));
            let most = chance.one(&[2, 9, 40, 100]);
            let blocks = 1 + chance.below(most);
            let first = chance.below(BLOCKS - blocks);
            let range = first * BLOCK_SIZE..(first + blocks) * BLOCK_SIZE;
            let end = Bytes((BLOCKS * BLOCK_SIZE) as u64);
            let mut is_gone = false;
            match chance.below(12) {
                0 | 1 => {
                    let new = pattern(blocks, chance.next());
                    let way = chance.one(&[Way::Sealed, Way::Sealed, Way::Inline]);
                    write(files, number, first as u64, &new, way);
                    bytes[range].copy_from_slice(&new);
                }
                2 => {
                    let (from, to) = (Bytes(range.start as u64), Bytes(range.end as u64));
                    files.punch(number, from, to, NOW).expect("punched");
                    bytes[range].fill(0);
                }
                3 => {
                    let (from, to) = (FileBlock(first as u64), FileBlock((first + blocks) as u64));
                    files
                        .preallocate(number, from, to, None, NOW)
                        .expect("preallocated");
                }
                4 if chance.below(3) == 0 => {
                    let done = files.unlink(InodeNo::ROOT, &name, Users::None, NOW);
                    done.expect("unlinked");
                    is_gone = true;
                }
                5 => {
                    let size = Bytes(range.start as u64 + 100);
                    files.truncate(number, size, NOW).expect("truncated");
                    bytes[range.start + 100..].fill(0);
                }
                6 => {
                    files.rebundle().expect("moved");
                }
                7 => {
                    let (from, blocks) = (FileBlock(first as u64), blocks as u64);
                    // What is taken out at one place is put in at another.
                    files.truncate(number, end, NOW).expect("grown");
                    let to = from.plus(blocks);
                    files.collapse(number, from, to, NOW).expect("collapsed");
                    bytes.drain(range);
                    let at = chance.below(bytes.len() / BLOCK_SIZE - 1);
                    let before = FileBlock(at as u64);
                    files.insert(number, before, blocks, NOW).expect("inserted");
                    let zeros = vec![0; blocks as usize * BLOCK_SIZE];
                    bytes.splice(at * BLOCK_SIZE..at * BLOCK_SIZE, zeros);
                }
                // Of another, or of its own.
                what => {
                    let (from, source) = match model.get(&other) {
                        Some((number, bytes)) => (*number, bytes),
                        None => (number, &bytes),
                    };
                    let at = match chance.below(2) {
                        0 => first,
                        _ => chance.below(BLOCKS - blocks),
                    };
                    let pair = Pair {
                        from: (from, FileBlock(at as u64)),
                        to: (number, FileBlock(first as u64)),
                        blocks: Blocks(blocks as u64),
                    };
                    let new = source[at * BLOCK_SIZE..][..blocks * BLOCK_SIZE].to_vec();
                    if from != number || at.abs_diff(first) >= blocks {
                        if what == 8 {
                            let pairs = new.chunks(BLOCK_SIZE);
                            let pairs = pairs.zip(bytes[range].chunks(BLOCK_SIZE));
                            let same = pairs.take_while(|(a, b)| a == b).count() as u64;
                            let found = files.same_range(&pair).expect("compared").what;
                            assert_eq!(found, Blocks(same), "{shape:?}, step {step}");
                        } else {
                            let size = Some(Bytes(range.end as u64));
                            files.clone_range(&pair, size, NOW).expect("cloned");
                            bytes[range].copy_from_slice(&new);
                        }
                    }
                }
            }
            if !is_gone {
                let found = read(files, number, 0, BLOCKS);
                assert!(found == bytes, "{shape:?}, step {step}");
                model.insert(name, (number, bytes));
            }
            if chance.below(10) == 0 {
                desk.lives();
                let (_, users) = contents::references(&desk.mounted).expect("references");
                most_users = users
                    .values()
                    .map(|u| u.len())
                    .max()
                    .max(Some(most_users))
                    .unwrap_or(0);
                for (name, (number, bytes)) in &model {
                    let found = read(files, *number, 0, BLOCKS);
                    assert!(found == *bytes, "{shape:?}, step {step}, {name:?}");
                }
            }
            if chance.below(40) == 0 {
                desk.mounted.close().expect("closed");
                desk.mounted = mount(chance, &fleet);
                desk.names = names();
            }
        }
        assert!(most_users > 1, "{shape:?}: {most_users}");
        for name in model.keys() {
            desk.unlink(name);
        }
        assert_eq!(desk.lives(), 0);
        assert_eq!(scan(&desk.mounted, REFERENCES), Ok(vec![]));
    }
}

/// What is said of shared blocks is wrong in one way after the other; each is told with file, engram and blocks.
#[test]
fn what_is_said_of_shared_blocks_is_held_against_what_names_them() {
    let lie = |name: &str,
               change: &dyn Fn(&Desk, EngramId),
               expected: &dyn Fn(&Desk, EngramId) -> Vec<Finding>| {
        let desk = Desk::new(10);
        desk.clone(0, 0, 10);
        // The first two are the clone's own again.
        write(desk.files(), desk.b, 0, &pattern(2, 3), Way::Sealed);
        let (engram, block) = desk.first(desk.a);
        assert_eq!(block, 0);
        assert_eq!(desk.findings(), [], "{name}");
        change(&desk, engram);
        let mut missing = expected(&desk, engram);
        for found in desk.findings() {
            let at = missing.iter().position(|m| *m == found);
            missing.swap_remove(at.unwrap_or_else(|| panic!("{name}: not expected: {found}")));
        }
        assert_eq!(missing, [], "{name}: not found");
    };
    let tally = |runs: &[(usize, usize, u32)]| {
        let mut tally = Tally::try_new().expect("memory");
        for (first, last, number) in runs {
            (*first..=*last).for_each(|block| tally.set(block, *number));
        }
        tally.encode().expect("memory").expect("a tally").to_vec()
    };
    let put = |desk: &Desk, engram, of, value: Option<&[u8]>| {
        let key = reference::key(engram, of);
        let mut txn = desk.mounted.begin().expect("begun");
        match value {
            Some(value) => txn.set(REFERENCES, key, value).expect("set"),
            None => txn.remove(REFERENCES, key).expect("removed"),
        }
        txn.commit().expect("committed");
    };
    let span = |first, last| Span { first, last };
    let extents = |file| Item::new(file, Kind::EXTENTS, 0);
    lie(
        "one more in all",
        &|desk, engram| put(desk, engram, Of::All, Some(&tally(&[(2, 6, 2), (7, 9, 3)]))),
        &|_, engram| vec![Finding::Reference(engram, Miscount::All(span(7, 9), 3, 2))],
    );
    lie(
        "nothing in all",
        &|desk, engram| put(desk, engram, Of::All, None),
        &|desk, engram| {
            let named = Finding::Names(extents(desk.b), Trouble::NamedTwice(engram));
            let all = Finding::Reference(engram, Miscount::All(span(2, 9), 1, 2));
            vec![named, all]
        },
    );
    lie(
        "a file that is not counted",
        &|desk, engram| put(desk, engram, Of::User(desk.b), None),
        &|desk, engram| {
            let all = Finding::Reference(engram, Miscount::All(span(2, 9), 2, 1));
            let named = Finding::Names(extents(desk.b), Trouble::NotCounted(engram));
            vec![all, named]
        },
    );
    lie(
        "a file too much",
        &|desk, engram| {
            let user = Of::User(InodeNo(99));
            put(desk, engram, user, Some(&tally(&[(3, 3, 1)])));
        },
        &|_, engram| {
            let all = Miscount::All(span(3, 3), 2, 3);
            let user = Miscount::User(InodeNo(99), span(3, 3), 1, 0);
            vec![
                Finding::Reference(engram, all),
                Finding::Reference(engram, user),
            ]
        },
    );
    lie(
        "files and all that agree, and are wrong",
        &|desk, engram| {
            put(desk, engram, Of::All, Some(&tally(&[(2, 2, 3), (3, 9, 2)])));
            put(
                desk,
                engram,
                Of::User(desk.b),
                Some(&tally(&[(2, 2, 2), (3, 9, 1)])),
            );
        },
        &|desk, engram| {
            let user = Miscount::User(desk.b, span(2, 2), 2, 1);
            vec![Finding::Reference(engram, user)]
        },
    );
    lie(
        "what nobody has",
        &|desk, engram| {
            let other = EngramId(engram.0 + 50);
            put(desk, other, Of::All, Some(&tally(&[(0, 0, 2)])));
            put(desk, other, Of::User(desk.a), Some(&tally(&[(0, 0, 2)])));
        },
        &|desk, engram| {
            let other = EngramId(engram.0 + 50);
            let user = Miscount::User(desk.a, span(0, 0), 2, 0);
            vec![
                Finding::Reference(other, Miscount::Dead(span(0, 0))),
                Finding::Reference(other, user),
            ]
        },
    );
    lie(
        "no sense",
        &|desk, engram| put(desk, engram, Of::User(InodeNo(7)), Some(&[1])),
        &|_, engram| {
            let key = reference::key(engram, Of::User(InodeNo(7)));
            vec![Finding::Reference(engram, Miscount::Senseless(key))]
        },
    );
    lie(
        "set aside, and shared",
        &|desk, engram| {
            let mut txn = desk.mounted.begin().expect("begun");
            let run = extent::Run::plain(0, 10, Encoding::Unwritten, engram, 0);
            let value = extent::encode(&[run]).expect("memory");
            let key = extents(desk.a).at(SnapshotId::FIRST);
            txn.set(NAMES, key, &value).expect("set");
            txn.commit().expect("committed");
        },
        &|desk, engram| {
            let trouble = Trouble::SharedUnwritten(engram);
            vec![Finding::Names(extents(desk.a), trouble)]
        },
    );
    lie(
        "an extent that is gone",
        &|desk, _| {
            let mut txn = desk.mounted.begin().expect("begun");
            let key = extents(desk.b).at(SnapshotId::FIRST);
            txn.remove(NAMES, key).expect("removed");
            txn.commit().expect("committed");
        },
        &|desk, engram| {
            let (items, b) = (contents::engrams(&desk.mounted).expect("engrams"), desk.b);
            let user = Miscount::User(b, span(2, 9), 1, 0);
            let (_, own) = items.last_key_value().expect("the clone's own");
            let place = own
                .map
                .copies()
                .and_then(|p| p.iter().next())
                .expect("a place");
            let lost = embr_engine::format::journal::Extent {
                device: place.device,
                start: place.block,
                blocks: Blocks(2),
            };
            vec![
                Finding::Unnamed(lost),
                Finding::Reference(engram, user),
                Finding::Names(Item::inode(b), Trouble::Entries(10, 0)),
            ]
        },
    );
    let text = Finding::Reference(EngramId(7), Miscount::User(InodeNo(9), span(2, 4), 1, 2));
    assert_eq!(
        text.to_string(),
        "engram 7: blocks 2 to 4: said to be named once by inode 9, which names them 2 times; \
         they may be given back too early: remove nothing before that is repaired"
    );
}

/// Moving changes maps alone: what is said of shared blocks stays as it is, byte for byte.
#[test]
fn what_is_shared_is_moved_like_all_else() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 6, (4, 2));
    let desk = Desk::on(&fleet, chance, 0);
    let files = desk.files();
    let mut bytes = Vec::new();
    for _ in 0..30 {
        let some = pattern(40, chance.next());
        write(
            files,
            desk.a,
            (bytes.len() / BLOCK_SIZE) as u64,
            &some,
            Way::Sealed,
        );
        bytes.extend(some);
    }
    desk.clone(0, 5, 1200);
    // Each loses most of it, so that what lives in a stripe is the one's, the other's, or both's.
    for n in 0..240u64 {
        let file = if n % 3 == 0 { desk.a } else { desk.b };
        let shift = if file == desk.b { 5 } else { 0 };
        for (file, at) in [
            (file, n * 5 + shift),
            (desk.a, n * 5 + 1),
            (desk.b, n * 5 + 1 + 5),
        ] {
            let (from, to) = (FileBlock(at).start(), FileBlock(at + 2).start());
            files.punch(file, from, to, NOW).expect("punched");
        }
    }
    let seen = || (read(files, desk.a, 0, 1200), read(files, desk.b, 0, 1205));
    let said = || (scan(&desk.mounted, REFERENCES), scan(&desk.mounted, NAMES));
    let (before, items) = (seen(), said());
    let lives = desk.lives();
    let mut moved = 0;
    while let gained @ 1.. = files.rebundle().expect("moved").gained.0 {
        moved += gained;
        assert_eq!(desk.lives(), lives);
    }
    assert!(moved > 0);
    assert!(seen() == before);
    assert_eq!(said(), items);
    desk.unlink(b"file");
    assert!(read(files, desk.b, 0, 1205) == before.1);
    desk.unlink(b"b");
    assert_eq!(desk.lives(), 0);
}

/// Where there is no room for it a clone is refused, and nothing that was there is lost; what frees space goes on.
#[test]
fn on_a_full_volume_clones_are_refused_and_removed() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 1, (1, 0));
    let desk = Desk::on(&fleet, chance, 256);
    let files = desk.files();
    let filler = create(files, b"filler");
    // So that each clone needs nodes of its own.
    for n in 0..128 {
        let block = &desk.bytes[n * BLOCK_SIZE..][..BLOCK_SIZE];
        write(files, desk.a, 2 * n as u64 + 300, block, Way::Sealed);
    }
    let some = pattern(64, 9);
    let mut at = 0;
    loop {
        let dirty = [Dirty {
            at: FileBlock(at),
            bytes: &some,
        }];
        match files.write(filler, &dirty, Way::Sealed, &Written::default()) {
            Ok(_) => at += 64,
            Err(Error::NoSpace) => break,
            Err(why) => panic!("{why}"),
        }
    }
    let done = files.truncate(filler, FileBlock(at - 64).start(), NOW);
    done.expect("truncated");
    desk.clone(0, 0, 600);
    // What data cannot have nodes can. Each is as large as all before.
    let mut clones = 1u64;
    let mut clone = || {
        let pair = Pair {
            from: (desk.b, FileBlock(0)),
            to: (desk.b, FileBlock(clones * 600)),
            blocks: Blocks(clones * 600),
        };
        clones *= 2;
        files.clone_range(&pair, None, NOW).map(|_| ()).err()
    };
    for _ in 0..5 {
        assert_eq!(clone(), None);
    }
    let slot = desk.mounted.parts()[0].slot;
    let mut aside = Vec::new();
    while let Ok(extent) = desk.mounted.allocate(slot, Blocks(1), Blocks(16)) {
        aside.push(extent);
    }
    assert_eq!(clone(), Some(Error::NoSpace));
    // What is left is for deleting. A hole in what others have as well gives nothing back; one in what is the file's alone does.
    let punch = |file, n: u64| {
        let (from, to) = (FileBlock(2 * n).start(), FileBlock(2 * n + 1).start());
        files.punch(file, from, to, NOW).map(|_| ()).err()
    };
    for n in 0..8 {
        assert_eq!(punch(desk.b, n), Some(Error::NoSpace), "{n}");
        assert_eq!(punch(filler, n), None, "{n}");
    }
    for extent in aside {
        desk.mounted.give_back(extent);
    }
    let clones = clones / 2;
    desk.lives();
    let expected = read(files, desk.a, 0, 556);
    for clone in [0, clones / 2, clones.saturating_sub(1)] {
        assert!(read(files, desk.b, clone * 600, 556) == expected);
    }
    // What punches holes into clones frees nothing, and must not use up what is kept for deleting.
    let mut refused = 0;
    for n in 0..clones * 300 {
        let (from, to) = (FileBlock(2 * n).start(), FileBlock(2 * n + 1).start());
        match files.punch(desk.b, from, to, NOW) {
            Ok(_) => {}
            Err(Error::NoSpace) => refused += 1,
            Err(why) => panic!("{why}"),
        }
        if refused > 5 {
            break;
        }
    }
    desk.unlink(b"file");
    desk.unlink(b"b");
    desk.unlink(b"filler");
    assert_eq!(desk.lives(), 0);
    println!("{clones} clones, {refused} punches refused");
}

/// What cloning costs. Nothing is asserted of it but that it is little; `--nocapture` shows it.
#[test]
fn what_a_clone_costs() {
    const BLOCKS: u64 = 16 * 256;
    let chance = &Chance::new(seed());
    let mut told = Vec::new();
    for shift in [0, 7] {
        let desk = Desk::on(
            &drives(chance, Bytes(64 << 20), 1, (1, 0)),
            chance,
            BLOCKS as usize,
        );
        desk.mounted.sync().expect("durable");
        let sum = || {
            let size = |tree| -> usize {
                let items = scan(&desk.mounted, tree).expect("items");
                items.iter().map(|(_, value)| 24 + value.len()).sum()
            };
            (size(NAMES), size(REFERENCES))
        };
        let before = sum();
        desk.clone(0, shift, BLOCKS);
        let after = sum();
        let per = |bytes: usize| bytes as u64 / (BLOCKS / 256);
        told.push((per(after.0 - before.0), per(after.1 - before.1)));
        desk.lives();
    }
    for (shift, (names, references)) in [0, 7].iter().zip(told) {
        println!(
            "shifted by {shift}: per MiB {names} bytes of extents, {references} of references"
        );
        assert!(names + references < 2048);
    }
}

/// A range that is nearly all a hole is cloned, and compared, by what is in it.
#[test]
fn holes_of_any_size_are_cloned_at_once() {
    let far = 1 << 44;
    let desk = Desk::new(3);
    let block = pattern(1, 99);
    write(desk.files(), desk.a, far, &block, Way::Sealed);
    // What was there is gone.
    write(desk.files(), desk.b, far / 2, &block, Way::Sealed);
    desk.clone(0, 0, 2 * far);
    let found = [0, far / 2, far, 2 * far - 1].map(|at| read(desk.files(), desk.b, at, 1));
    let zeros = vec![0; BLOCK_SIZE];
    let first = desk.bytes[..BLOCK_SIZE].to_vec();
    assert!(found == [first, zeros.clone(), block, zeros]);
    let same = desk.files().same_range(&desk.pair(0, 0, 2 * far));
    assert_eq!(same.expect("compared").what, Blocks(2 * far));
    write(desk.files(), desk.b, far + 9, &pattern(1, 5), Way::Sealed);
    let same = desk.files().same_range(&desk.pair(0, 0, 2 * far));
    assert_eq!(same.expect("compared").what, Blocks(far + 9));
    contents::audit(&desk.mounted).expect("sound");
}
