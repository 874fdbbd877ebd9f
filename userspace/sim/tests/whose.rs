// SPDX-License-Identifier: GPL-2.0

//! Who has a block of a drive: for every block that anything has, this agrees with what engrams, stripes and files were seen to be,
//! in parts, in stripes, shared and under snapshots; and what is damaged is told.

use embr_engine::check::whose;
use embr_engine::check::whose::Holder;
use embr_engine::check::whose::Life;
use embr_engine::check::whose::Most;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::format::engram;
use embr_engine::format::engram::Kind;
use embr_engine::format::engram::Lies;
use embr_engine::format::member::Slot;
use embr_engine::format::stripe;
use embr_engine::names::Item;
use embr_engine::names::Kind as NameKind;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::EngramId;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::StripeId;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Mounted;
use embrfs_sim::contents;
use embrfs_sim::contents::Known;
use embrfs_sim::desk::create;
use embrfs_sim::desk::drives;
use embrfs_sim::desk::mount;
use embrfs_sim::desk::names;
use embrfs_sim::desk::one_file;
use embrfs_sim::desk::pattern;
use embrfs_sim::desk::riddle;
use embrfs_sim::desk::write;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use embrfs_sim::stripes::layouts;
use std::collections::BTreeMap;

const SIZE: Bytes = Bytes(32 << 20);
const MOST: Most = Most {
    users: 10,
    paths: 10,
};

fn holders(mounted: &Mounted<Simulated>, names: &Names, at: (Slot, Blocks)) -> Vec<Holder> {
    let mut found = Vec::new();
    let is_torn = whose::at(mounted, names, at, MOST, &mut |holder| {
        found.push(holder);
        Ok(())
    });
    assert_eq!(is_torn, Ok(false));
    found
}

/// Where a block lies, which block of which engram it is, and who has written it.
type Placed = ((Slot, Blocks), (EngramId, usize), u64);

/// Each place of each block that lives, with its engram, its number and who has written it.
fn all(engrams: &BTreeMap<u64, Known>) -> Vec<Placed> {
    let mut all = Vec::new();
    for (engram, known) in engrams {
        for block in (0..known.map.blocks).filter(|block| known.live.has(*block)) {
            for extent in known.map.extents(block, 1) {
                let at = (extent.device, extent.start);
                let (owner, _) = known.owners[&block];
                all.push((at, (EngramId(*engram), block), owner));
            }
        }
    }
    all
}

fn paths(holder: &Holder, inode: InodeNo) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let user = holder.users.iter().find(|user| user.inode == inode);
    let each = user.expect("a user").paths.iter();
    each.map(|p| (text(&p.path), text(&p.whose))).collect()
}

#[test]
fn every_copy_in_every_part_is_known() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 2, (1, 1));
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), embr_engine::names::View::first());
    let file = one_file(&mounted, &names, &view);
    let of = names.of(&mounted, &view);
    write(of, file, 0, &pattern(64, chance.next()), Way::Sealed);
    let held = riddle(&mounted, of, &[create(of, b"holes")], 4);
    write(of, file, 100, &pattern(40, chance.next()), Way::Sealed);
    let engrams = contents::engrams(&mounted).expect("engrams");
    let is_parted = |known: &Known| matches!(known.map.lies, Lies::Parts(_));
    assert!(engrams.values().any(is_parted), "nothing lies in parts");
    let is_ours = |(_, (engram, _), owner): &&Placed| {
        *owner == file.0 && (is_parted(&engrams[&engram.0]) || chance.below(8) == 0)
    };
    let all = all(&engrams);
    for (at, block, _) in all.iter().filter(is_ours) {
        let found = holders(&mounted, &names, *at);
        assert_eq!(found.len(), 1, "{found:?}");
        let holder = &found[0];
        assert_eq!((holder.engram, holder.spot), (Some(*block), None));
        assert_eq!((holder.life, holder.lacks), (Life::Lives, None));
        assert_eq!(paths(holder, file), [("/file".to_owned(), String::new())]);
        let (_, at) = engrams[&block.0 .0].owners[&block.1];
        assert_eq!(holder.users[0].at, Some(FileBlock(at)));
    }
    // What is free is nobody's, though engrams may have had it.
    for extent in held {
        assert!(holders(&mounted, &names, (extent.device, extent.start)).is_empty());
        mounted.give_back(extent);
    }
}

#[test]
fn stripes_are_known_by_clones_and_snapshots() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 6, (4, 2));
    let mounted = mount(chance, &fleet);
    let names = names();
    let first = embr_engine::names::View::first();
    let file = one_file(&mounted, &names, &first);
    let view = names.open(&mounted, b"").expect("a head");
    let of = names.of(&mounted, &view);
    write(of, file, 0, &pattern(600, chance.next()), Way::Sealed);
    write(of, file, 150, &pattern(350, chance.next()), Way::Sealed);
    let twin = create(of, b"twin");
    let pair = Pair {
        from: (file, FileBlock(50)),
        to: (twin, FileBlock(0)),
        blocks: Blocks(20),
    };
    (of.clone_range(&pair, Some(Bytes(20 * 4096)), NOW)).expect("cloned");
    of.take_snapshot(b"kept", NOW).expect("taken");
    of.unlink(InodeNo::ROOT, b"file", Users::None, NOW)
        .expect("removed");
    names
        .grow(&mounted, b"kept", b"branch", NOW)
        .expect("grown");
    let branch = names.open(&mounted, b"branch").expect("a head");
    let branched = names.of(&mounted, &branch);
    branched
        .unlink(InodeNo::ROOT, b"twin", Users::None, NOW)
        .expect("removed");
    // The clone is overwritten in part, where nobody else sees it.
    write(of, twin, 0, &pattern(5, chance.next()), Way::Sealed);

    let engrams = contents::engrams(&mounted).expect("engrams");
    let (mut shared, mut parity, mut dead) = (0, 0, 0);
    for (stripe, layout) in layouts(&mounted).expect("stripes") {
        for fragment in 0..layout.shape.width() {
            let place = layout.place(fragment).expect("a place");
            for row in 0..layout.shape.length(fragment) {
                let at = Blocks(place.block.0 + row as u64);
                let found = holders(&mounted, &names, (place.device, at));
                assert_eq!(found.len(), 1, "{found:?}");
                let holder = &found[0];
                let spot = holder.spot.expect("in a stripe");
                assert_eq!(spot.stripe.0, stripe);
                assert_eq!((spot.fragment, spot.row), (fragment, row));
                assert_eq!(spot.is_parity, fragment >= layout.shape.data());
                assert_eq!(holder.engram.is_none(), spot.is_parity);
                assert_eq!(holder.lacks, None);
                let Some((engram, block)) = holder.engram else {
                    parity += 1;
                    continue;
                };
                let known = &engrams[&engram.0];
                let piece = known.map.piece(block).expect("a piece");
                let payload = layout.shape.begin(fragment) + row;
                let at = piece.at + block - piece.first;
                assert_eq!((piece.stripe.0, at), (stripe, payload));
                if !known.live.has(block) {
                    assert_eq!((holder.life, holder.users.len()), (Life::Dead, 0));
                    dead += 1;
                    continue;
                }
                assert_eq!(holder.life, Life::Lives);
                let (owner, written) = known.owners[&block];
                if owner != file.0 {
                    continue;
                }
                // Only a snapshot and what grew from it have it.
                assert_eq!(paths(holder, file).len(), 1);
                let (path, whose) = &paths(holder, file)[0];
                assert_eq!(path, "/file");
                assert!(["kept", "branch"].contains(&whose.as_str()), "{whose}");
                let is_cloned = (50..70).contains(&written);
                assert_eq!(holder.users.len(), if is_cloned { 2 } else { 1 });
                if is_cloned {
                    shared += 1;
                    assert_eq!(paths(holder, twin), [("/twin".to_owned(), String::new())]);
                }
            }
        }
    }
    assert_eq!(shared, 20);
    assert!(parity > 0 && dead > 0, "{parity} of parity, {dead} dead");

    // An engram that is not there any more has nothing that lives, whatever stripes hold.
    let is_ours = |known: &Known| known.live.has(0) && known.owners[&0] == (file.0, 0);
    let engram = engrams.iter().find(|(_, known)| is_ours(known));
    let (number, known) = engram.expect("an engram");
    let piece = known.map.piece(0).expect("a piece");
    let layouts = layouts(&mounted).expect("stripes");
    let (_, layout) = layouts
        .iter()
        .find(|(id, _)| **id == piece.stripe.0)
        .expect("a stripe");
    let (fragment, row) = layout.shape.place(piece.at);
    let place = layout.place(fragment).expect("a place");
    let at = (place.device, Blocks(place.block.0 + row as u64));
    assert_eq!(holders(&mounted, &names, at)[0].life, Life::Lives);
    let mut txn = mounted.begin().expect("begun");
    let map = engram::key(EngramId(*number), Kind::Map, 0);
    txn.remove(ENGRAMS, map).expect("removed");
    txn.commit().expect("committed");
    let found = holders(&mounted, &names, at);
    assert_eq!((found.len(), found[0].users.len()), (1, 0));
    assert_eq!((found[0].life, found[0].lacks), (Life::Dead, None));
}

#[test]
fn what_is_not_known_is_told() {
    let chance = &Chance::new(seed());
    let fleet = drives(chance, SIZE, 2, (1, 1));
    let mounted = mount(chance, &fleet);
    let (names, view) = (names(), embr_engine::names::View::first());
    let file = one_file(&mounted, &names, &view);
    let of = names.of(&mounted, &view);
    write(of, file, 0, &pattern(8, chance.next()), Way::Sealed);
    let engrams = contents::engrams(&mounted).expect("engrams");
    let (at, block, _) = all(&engrams)[3];
    let change = |tree: TreeId, key: Key, value: Option<&[u8]>| {
        let mut txn = mounted.begin().expect("begun");
        match value {
            Some(value) => txn.set(tree, key, value).expect("set"),
            None => txn.remove(tree, key).expect("removed"),
        }
        txn.commit().expect("committed");
    };
    let (live, owner, map) = (
        engram::key(block.0, Kind::Live, 0),
        engram::key(block.0, Kind::Owner, 0),
        engram::key(block.0, Kind::Map, 0),
    );
    let kept = mounted.get(ENGRAMS, live, |value| value.to_vec());
    let kept = kept.expect("read");
    // Nothing says what lives: it may, and whose it is is known.
    change(ENGRAMS, live, None);
    let found = holders(&mounted, &names, at);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].life, Life::Unknown);
    assert!(found[0].lacks.is_some_and(|why| why.is_damage()));
    assert_eq!(found[0].users.len(), 1);
    assert_eq!(paths(&found[0], file).len(), 1);
    change(ENGRAMS, live, kept.as_deref());
    assert_eq!(holders(&mounted, &names, at)[0].lacks, None);
    // Nothing says what it is called.
    let items = contents::scan(&mounted, NAMES).expect("items");
    let is_named = |key: Key| {
        let (item, _) = Item::of(key);
        item.owner() == file && item.kind() == NameKind::PARENT
    };
    let (parent, value) = items.iter().find(|(key, _)| is_named(*key)).expect("named");
    change(NAMES, *parent, Some(b"x"));
    let found = holders(&mounted, &names, at);
    assert_eq!(found[0].life, Life::Lives);
    assert!(found[0].lacks.is_some_and(|why| why.is_damage()));
    assert_eq!(
        (found[0].users.len(), found[0].users[0].paths.len()),
        (1, 0)
    );
    change(NAMES, *parent, Some(value));
    // Nor does it make sense whose it is.
    change(ENGRAMS, owner, Some(b"x"));
    let found = holders(&mounted, &names, at);
    assert_eq!((found.len(), found[0].users.len()), (1, 0));
    assert!(found[0].lacks.is_some());
    // Nothing says that it lies there; but what makes no sense could.
    let mut found = 0;
    let mut ask = || {
        whose::at(&mounted, &names, at, MOST, &mut |_| {
            found += 1;
            Ok(())
        })
    };
    change(ENGRAMS, map, Some(b"x"));
    assert_eq!(ask(), Ok(true));
    change(ENGRAMS, map, None);
    assert_eq!(ask(), Ok(false));
    let layout = stripe::key(StripeId(1), stripe::Kind::Layout, 0);
    change(STRIPES, layout, Some(b"x"));
    assert_eq!((ask(), found), (Ok(true), 0));
}
