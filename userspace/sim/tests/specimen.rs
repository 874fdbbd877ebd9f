// SPDX-License-Identifier: GPL-2.0

//! The volumes that fuzzers begin with have everything in them that the format knows: what is not there is not fuzzed.

use embr_engine::format::attribute;
use embr_engine::format::attribute::Held;
use embr_engine::format::engram;
use embr_engine::format::engram::Lies;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::inode::Inode;
use embr_engine::format::intent::Intent;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::snapshot;
use embr_engine::format::snapshot::Node;
use embr_engine::format::snapshot::State;
use embr_engine::format::stripe;
use embr_engine::format::stripe::Class;
use embr_engine::format::stripe::Layout;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::tree::Key;
use embr_engine::units::EngramId;
use embr_engine::units::StripeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::mounted::STRIPES;
use embrfs_sim::contents;
use embrfs_sim::craft;
use embrfs_sim::desk;
use embrfs_sim::inspector;
use embrfs_sim::machine;
use embrfs_sim::specimen::Build;
use embrfs_sim::specimen::Specimen;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What any volume may have.
const EVERYWHERE: &[&str] = &[
    "Clear half done",
    "Collapse half done",
    "Insert half done",
    "attribute in its item",
    "attribute in pieces",
    "copies in one piece",
    "dead block in copies",
    "dead block in parts",
    "entry",
    "extents: Hole",
    "extents: Raw",
    "extents: Unwritten",
    "free space",
    "half swept",
    "hashes",
    "inline block",
    "inode",
    "inode with a policy",
    "node: Deleted",
    "node: Head",
    "node: Snapshot",
    "numbers of engrams",
    "numbers of inodes",
    "numbers of nodes",
    "orphan",
    "owner",
    "parents",
    "parts of an engram with a policy",
    "parts with all copies",
    "piece of an attribute",
    "reference in all",
    "reference of a file",
    "tombstone",
    "touched",
    "two heads",
    "two versions of an item",
    "unwritten in parts",
];

/// What takes several devices.
const SEVERAL: &[&str] = &["several copies", "several copies in parts"];

/// What takes stripes.
const STRIPED: &[&str] = &[
    "contents of a fragment",
    "dead block in a stripe",
    "engram in several pieces",
    "hashes of parity",
    "how far moving is",
    "listed as wasteful",
    "live blocks of a stripe",
    "narrow stripe",
    "numbers of stripes",
    "stripe as wide as can be",
    "stripe of several engrams",
    "stripe, moved",
    "stripe, written anew in part",
    "stripe, written lately",
    "totals of stripes",
];

type Found = BTreeSet<String>;

fn sound<T>(parsed: Option<T>, key: Key) -> T {
    parsed.unwrap_or_else(|| panic!("the item {key} makes no sense"))
}

fn names(key: Key, value: &[u8], found: &mut Found) {
    let (item, _) = Item::of(key);
    if value.is_empty() {
        found.insert("tombstone".into());
        return;
    }
    let what = match item.kind() {
        Kind::INODE => {
            let inode = Inode::parse(value).expect("an inode");
            if inode.policy.number() != 0 {
                found.insert("inode with a policy".into());
            }
            "inode"
        }
        Kind::PARENT => "parents",
        Kind::ENTRY => "entry",
        Kind::ATTRIBUTE => match sound(attribute::parse(value), key).1 {
            Held::InPlace(_) => "attribute in its item",
            Held::InPieces(_) => "attribute in pieces",
        },
        Kind::PIECE => "piece of an attribute",
        Kind::INLINE => "inline block",
        Kind::EXTENTS => {
            for run in sound(extent::parse(value), key).iter() {
                found.insert(format!("extents: {:?}", run.encoding));
            }
            return;
        }
        Kind::ORPHAN => "orphan",
        Kind::INTENT => {
            let operation = sound(Intent::parse(value), key).operation;
            found.insert(format!("{operation:?} half done"));
            return;
        }
        Kind::NUMBERS => "numbers of inodes",
        kind => panic!("{kind:?} is not known here"),
    };
    found.insert(what.into());
}

/// Which blocks of engrams are set aside.
fn unwritten(items: &[craft::Item]) -> BTreeSet<(u64, usize)> {
    let mut all = BTreeSet::new();
    let of_names = items.iter().filter(|item| item.0 == NAMES);
    for (_, key, value) in of_names.filter(|item| !item.2.is_empty()) {
        if Item::of(*key).0.kind() == Kind::EXTENTS {
            let runs = sound(extent::parse(value), *key);
            for run in runs.iter().filter(|r| r.encoding == Encoding::Unwritten) {
                let blocks = run.block()..run.block() + run.blocks;
                all.extend(blocks.map(|block| (run.engram.0, block)));
            }
        }
    }
    all
}

fn map(number: u64, map: &Map, live: &Live, unwritten: &BTreeSet<(u64, usize)>, found: &mut Found) {
    let mut is = |what: &str| {
        found.insert(what.into());
    };
    let dead = |from, to| (from..to).any(|block| !live.has(block));
    match &map.lies {
        Lies::Copies(places) => {
            is("copies in one piece");
            if places.count() > 1 {
                is("several copies");
            }
            if dead(0, map.blocks) {
                is("dead block in copies");
            }
        }
        Lies::Parts(parts) => {
            assert!(parts.len() > 1, "engram {number}");
            match map.policy.number() {
                0 => is("parts with all copies"),
                _ => is("parts of an engram with a policy"),
            }
            if dead(0, map.blocks) {
                is("dead block in parts");
            }
            if parts.iter().any(|part| part.places.count() > 1) {
                is("several copies in parts");
            }
            if (0..map.blocks).any(|block| unwritten.contains(&(number, block))) {
                is("unwritten in parts");
            }
        }
        Lies::Stripes(pieces) => {
            if pieces.len() > 1 {
                is("engram in several pieces");
            }
            if pieces.iter().any(|piece| dead(piece.first, piece.end())) {
                is("dead block in a stripe");
            }
        }
    }
}

fn engrams(items: &[craft::Item], found: &mut Found) {
    let unwritten = unwritten(items);
    let of_engrams = || items.iter().filter(|item| item.0 == ENGRAMS);
    let known: BTreeMap<Key, &[u8]> = of_engrams().map(|(_, k, v)| (*k, &v[..])).collect();
    // Which engrams each stripe has something of.
    let mut held: BTreeMap<StripeId, BTreeSet<EngramId>> = BTreeMap::new();
    for (key, value) in &known {
        let engram = EngramId(key.0[0]);
        let is = |kind| engram::key(engram, kind, 0).0[1] >> 56 == key.0[1] >> 56;
        let what = match () {
            () if is(engram::Kind::Map) => {
                let its = Map::parse(value).expect("memory");
                let its = sound(its, *key);
                let live = known[&engram::key(engram, engram::Kind::Live, 0)];
                let live = sound(Live::parse(live, its.blocks), *key);
                map(engram.0, &its, &live, &unwritten, found);
                if let Lies::Stripes(pieces) = &its.lies {
                    for piece in pieces.iter() {
                        held.entry(piece.stripe).or_default().insert(engram);
                    }
                }
                continue;
            }
            () if is(engram::Kind::Live) => continue,
            () if is(engram::Kind::Hashes) => "hashes",
            () if is(engram::Kind::Owner) => "owner",
            () if is(engram::Kind::Numbers) => "numbers of engrams",
            () if is(engram::Kind::Passed) => "how far moving is",
            () => panic!("{key} is not known here"),
        };
        found.insert(what.into());
    }
    if held.values().any(|engrams| engrams.len() > 1) {
        found.insert("stripe of several engrams".into());
    }
}

fn stripes(key: Key, value: &[u8], data: usize, found: &mut Found) {
    let is = |kind| stripe::key(StripeId(key.0[0]), kind, 0).0[1] >> 56 == key.0[1] >> 56;
    let what = match () {
        () if is(stripe::Kind::Layout) => {
            let layout = sound(Layout::parse(value), key);
            if layout.revision != 0 {
                found.insert("stripe, written anew in part".into());
            }
            found.insert(match layout.class {
                Class::Fresh => "stripe, written lately".into(),
                Class::Moved => "stripe, moved".into(),
            });
            match layout.shape.data() == data {
                true => "stripe as wide as can be",
                false => "narrow stripe",
            }
        }
        () if is(stripe::Kind::Contents) => "contents of a fragment",
        () if is(stripe::Kind::Live) => "live blocks of a stripe",
        () if is(stripe::Kind::Hashes) => "hashes of parity",
        () if is(stripe::Kind::Wasteful) => "listed as wasteful",
        () if is(stripe::Kind::Totals) => "totals of stripes",
        () if is(stripe::Kind::Numbers) => "numbers of stripes",
        () => panic!("{key} is not known here"),
    };
    found.insert(what.into());
}

fn found(items: &[craft::Item], data: usize) -> Found {
    let mut found = Found::new();
    let (mut heads, mut last) = (0, None);
    for (tree, key, value) in items {
        match *tree {
            NAMES => {
                names(*key, value, &mut found);
                let item = Item::of(*key).0;
                if last.replace(item) == Some(item) {
                    found.insert("two versions of an item".into());
                }
            }
            STRIPES => stripes(*key, value, data, &mut found),
            REFERENCES => {
                let of = sound(reference::parse_key(*key), *key).1;
                found.insert(match of {
                    Of::All => "reference in all".into(),
                    Of::User(_) => "reference of a file".into(),
                });
            }
            SNAPSHOTS => {
                if let Some(id) = snapshot::parse_node(*key) {
                    let node = Node::parse(id, value).expect("memory");
                    let node = sound(node, *key);
                    let state = node.state;
                    heads += u32::from(state == State::Head);
                    found.insert(format!("node: {state:?}"));
                    if node.cursor != Key::MIN {
                        found.insert("half swept".into());
                    }
                } else if *key == snapshot::NUMBERS {
                    found.insert("numbers of nodes".into());
                } else {
                    sound(snapshot::parse_touched(*key), *key);
                    found.insert("touched".into());
                }
            }
            SPACE => drop(found.insert("free space".into())),
            _ => {}
        }
    }
    if heads > 1 {
        found.insert("two heads".into());
    }
    engrams(items, &mut found);
    found
}

#[test]
fn there_is_everything() {
    for (build, data) in [
        (Build::Single, 1),
        (Build::Pair, 1),
        (Build::Half, 1),
        (Build::Striped, 3),
        (Build::Torn, 3),
    ] {
        let found = Specimen::with(build, |volume| found(volume.items(), data));
        let striped = matches!(build, Build::Striped | Build::Torn);
        let wanted = EVERYWHERE
            .iter()
            .chain(SEVERAL.iter().filter(|_| build != Build::Single))
            .chain(STRIPED.iter().filter(|_| striped))
            .map(|what| String::from(*what));
        let wanted: Found = wanted.collect();
        let missing: Vec<_> = wanted.difference(&found).collect();
        let more: Vec<_> = found.difference(&wanted).collect();
        assert!(
            missing.is_empty() && more.is_empty(),
            "{build:?}: missing {missing:?}, not expected {more:?}"
        );
    }
}

/// What is half done is carried out, orphans go, and all is sound then.
#[test]
fn what_is_half_done_can_be_carried_out() {
    for build in [
        Build::Single,
        Build::Pair,
        Build::Half,
        Build::Striped,
        Build::Torn,
    ] {
        let fleet = Specimen::with(build, |volume| volume.changed(&[]));
        let options = embr_engine::volume::recover::Options {
            degraded: true,
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(1, &fleet, options).expect("mounted");
        let names = desk::names();
        let mut resumed = 0;
        let listed = names.snapshots(&mounted).expect("listed");
        for head in listed.iter().filter(|one| one.is_head) {
            let view = names.open(&mounted, &head.name).expect("opened");
            resumed += names.of(&mounted, &view).resume().expect("resumed");
        }
        assert_eq!(resumed, 3, "{build:?}");
        // What is on a device that is not here is found missing.
        if !matches!(build, Build::Half | Build::Torn) {
            let view = names.open(&mounted, b"").expect("opened");
            let found = inspector::with_data(&mounted, &names, &view);
            assert_eq!(found, [], "{build:?}");
            let sound = contents::audit(&mounted);
            sound.unwrap_or_else(|why| panic!("{build:?}: {why}"));
        }
    }
}
