// SPDX-License-Identifier: GPL-2.0

//! Trees on devices of memory against a plain sorted map: merges, lookups, walks, damage and lack of space.

use embr_engine::format::member::Members;
use embr_engine::format::node;
use embr_engine::format::node::BadNode;
use embr_engine::format::node::Node;
use embr_engine::format::node::Stamp;
use embr_engine::format::pointer::Place;
use embr_engine::format::pointer::Places;
use embr_engine::format::pointer::Pointer;
use embr_engine::hash::Scalar;
use embr_engine::tree::check::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::merge;
use embr_engine::tree::merge::Sink;
use embr_engine::tree::nodes::Nodes;
use embr_engine::tree::Base;
use embr_engine::tree::Cursor;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::Generation;
use embr_engine::units::Level;
use embr_engine::units::TreeId;
use embr_rt::failpoint;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::nodes::slot;
use embrfs_sim::nodes::Delta;
use embrfs_sim::nodes::Shelf;
use embrfs_sim::nodes::Space;
use embrfs_sim::nodes::Tally;
use embrfs_sim::nodes::EDITION;
use embrfs_sim::nodes::VOLUME;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

const TREE: TreeId = TreeId(3);
const ALL: Members = Members(0xff);

type Model = BTreeMap<Key, Vec<u8>>;

/// A tree, the space that it lies in, and what it should hold.
struct World {
    shelf: Shelf,
    space: Space,
    nodes: Nodes<Shelf>,
    base: Base,
    model: Model,
}

impl World {
    fn new(size: usize, copies: usize, cache: u64, may_repair: bool) -> Self {
        let shelf = Shelf::new(Scalar, ALL, may_repair);
        World {
            space: Space::new(&shelf, copies),
            nodes: shelf.nodes(size, Bytes(cache)),
            shelf,
            base: Base::empty(TREE),
            model: Model::new(),
        }
    }

    fn try_merge(&mut self, delta: &Delta) -> Result<(), TreeError> {
        self.base = merge(&self.nodes, &self.base, delta, EDITION, &mut self.space)?;
        apply(&mut self.model, delta);
        Ok(())
    }

    fn merge(&mut self, delta: &Delta) {
        self.try_merge(delta).expect("nothing is wrong");
    }

    /// Another look at the same disks, with nothing cached.
    fn forget(&mut self) {
        self.nodes = self.shelf.nodes(self.nodes.size(), Bytes(0));
    }
}

fn apply(model: &mut Model, delta: &Delta) {
    for range in delta.gone.values() {
        let gone: Vec<Key> = model
            .range(range.first..=range.last)
            .map(|e| *e.0)
            .collect();
        gone.iter().for_each(|key| {
            model.remove(key);
        });
    }
    for (key, change) in &delta.keys {
        match change {
            Some(value) => model.insert(*key, value.clone()),
            None => model.remove(key),
        };
    }
}

#[derive(Default)]
struct Seen {
    entries: Model,
    nodes: BTreeSet<(usize, u64)>,
    lost: usize,
    under_full: usize,
    used: usize,
}

impl Visitor for Seen {
    fn node(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError> {
        assert!(self.nodes.insert(Space::<Scalar>::first(&pointer.places)));
        self.used += node.used();
        for i in 0.. {
            let Some((key, value)) = node.entry(i) else {
                break;
            };
            let before = self.entries.last_key_value().map(|e| *e.0);
            assert!(before.is_none_or(|before| before < key));
            self.entries.insert(key, value.to_vec());
        }
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, _keys: Range) -> Result<(), TreeError> {
        assert!(why.to_string().contains("tree 3"), "{why}");
        self.lost += 1;
        Ok(())
    }

    fn under_full(&mut self, _pointer: &Pointer, _node: &Node) -> Result<(), TreeError> {
        self.under_full += 1;
        Ok(())
    }
}

fn look(world: &World, depth: Depth) -> Seen {
    let mut seen = Seen::default();
    check(&world.nodes, &world.base, depth, &mut seen).expect("memory");
    seen
}

/// Every invariant of a tree that is not damaged.
fn verify(world: &World, chance: &Chance) {
    let seen = look(world, Depth::Tree);
    assert_eq!(seen.lost, 0);
    assert_eq!(seen.nodes.len() as u64, world.base.nodes);
    assert!(seen.entries == world.model, "the tree holds something else");
    assert!(
        seen.nodes == world.space.live,
        "nodes leaked or freed too early"
    );
    assert_eq!(seen.under_full, 0, "a node is under-full");
    for _ in 0..20 {
        let key = key(chance, 6);
        let found = world.base.get(&world.nodes, key, <[u8]>::to_vec);
        assert_eq!(found, Ok(world.model.get(&key).cloned()), "{key}");
    }
    walk(world, chance);
}

fn owned(entry: Result<Option<(Key, &[u8])>, TreeError>) -> Option<(Key, Vec<u8>)> {
    let entry = entry.expect("nothing is wrong");
    entry.map(|(key, value)| (key, value.to_vec()))
}

/// Up, down and to and fro in a random range.
fn walk(world: &World, chance: &Chance) {
    let (a, b) = (key(chance, 6), key(chance, 6));
    let range = match chance.below(4) {
        0 => Range::ALL,
        _ => Range {
            first: a.min(b),
            last: a.max(b),
        },
    };
    let model: Vec<(Key, Vec<u8>)> = world
        .model
        .range(range.first..=range.last)
        .map(|(k, v)| (*k, v.clone()))
        .collect();
    let mut cursor = Cursor::new(&world.nodes, &world.base, range);
    for expected in &model {
        assert_eq!(owned(cursor.next()).as_ref(), Some(expected));
    }
    assert_eq!(owned(cursor.next()), None);
    for expected in model.iter().rev() {
        assert_eq!(owned(cursor.previous()).as_ref(), Some(expected));
    }
    assert_eq!(owned(cursor.previous()), None);
    assert_eq!(owned(cursor.previous()), None);
    assert_eq!(owned(cursor.next()).as_ref(), model.first());
    let mut cursor = Cursor::new(&world.nodes, &world.base, range).at_end();
    assert_eq!(owned(cursor.previous()).as_ref(), model.last());
    for _ in 0..10 {
        let to = key(chance, 6);
        let after = model.partition_point(|(k, _)| *k < to);
        let mut place = if chance.below(2) == 0 {
            assert_eq!(owned(cursor.seek(to)).as_ref(), model.get(after));
            after.min(model.len())
        } else {
            let place = model.partition_point(|(k, _)| *k <= to).checked_sub(1);
            let expected = place.and_then(|i| model.get(i));
            assert_eq!(owned(cursor.seek_back(to)).as_ref(), expected);
            let Some(place) = place else { continue };
            place
        };
        for _ in 0..chance.below(6) {
            let (entry, next) = if chance.below(2) == 0 {
                (owned(cursor.next()), (place + 1).min(model.len()))
            } else {
                let Some(before) = place.checked_sub(1) else {
                    break;
                };
                (owned(cursor.previous()), before)
            };
            place = next;
            assert_eq!(entry.as_ref(), model.get(place));
        }
    }
}

/// A key out of few, or of many if `bits` is large; the extremes among them.
fn key(chance: &Chance, bits: u32) -> Key {
    match chance.below(200) {
        0 => Key::MIN,
        1 => Key::MAX,
        _ => Key([
            chance.next() % 3,
            chance.next() % (1 << bits),
            chance.next() % (1 << bits),
        ]),
    }
}

fn value(chance: &Chance, size: usize) -> Vec<u8> {
    let longest = node::max_value(size);
    let length = match chance.below(8) {
        0 => longest,
        1 => 0,
        2 => chance.below(longest + 1),
        _ => chance.below(40),
    };
    vec![chance.next() as u8; length]
}

fn delta(chance: &Chance, world: &World) -> Delta {
    let size = world.nodes.size();
    let mut delta = Delta::default();
    for _ in 0..chance.one(&[0, 0, 0, 1, 1, 3]) {
        let (a, b) = match chance.below(6) {
            0 => (Key::MIN, key(chance, 6)),
            1 => (key(chance, 6), Key::MAX),
            2 => (Key::MIN, Key::MAX),
            _ => (key(chance, 6), key(chance, 6)),
        };
        let mut range = Range {
            first: a.min(b),
            last: a.max(b),
        };
        // Ranges that overlap or touch are one.
        let wide = Range {
            first: range.first.previous().unwrap_or(Key::MIN),
            last: range.last.next().unwrap_or(Key::MAX),
        };
        let near: Vec<Key> = delta
            .gone
            .values()
            .filter(|r| r.overlaps(&wide))
            .map(|r| r.first)
            .collect();
        for first in near {
            let other = delta.gone.remove(&first).expect("just seen");
            range.first = range.first.min(other.first);
            range.last = range.last.max(other.last);
        }
        delta.gone.insert(range.first, range);
    }
    let count = chance.one(&[0, 1, 2, 10, 100, 400]);
    match chance.below(5) {
        // In a row, within what is there or behind it.
        0 => {
            let mut at = match chance.below(2) {
                0 => key(chance, 6),
                _ => world.model.last_key_value().map_or(Key::MIN, |e| *e.0),
            };
            for _ in 0..count {
                delta.keys.insert(at, Some(value(chance, size)));
                let Some(next) = at.next() else { break };
                at = next;
            }
        }
        // What is there goes away, some of it in a row.
        1 => {
            let some = chance.below(10) + 1;
            let keys: Vec<Key> = world.model.keys().copied().collect();
            for key in keys.iter().filter(|_| chance.below(10) < some) {
                delta.keys.insert(*key, None);
            }
        }
        kind => {
            let bits = chance.one(&[2, 4, 6, 40]);
            for _ in 0..count {
                let gone = kind == 2 && chance.below(2) == 0;
                let change = (!gone).then(|| value(chance, size));
                delta.keys.insert(key(chance, bits), change);
            }
        }
    }
    delta
}

#[test]
fn merges_equal_the_model() {
    let base = seed();
    for n in 0..150 {
        let seed = base.wrapping_add(n);
        println!("EMBRFS_SEED={seed}");
        let chance = Chance::new(seed);
        let size = chance.one(&[1024, 1024, 2048, 4096, node::NODE_SIZE]);
        let cache = chance.one(&[0, 2000, 20_000, 1 << 20]);
        let mut world = World::new(size, 1 + chance.below(5), cache, true);
        for _ in 0..30 {
            let delta = delta(&chance, &world);
            world.merge(&delta);
            verify(&world, &chance);
        }
        assert_eq!(world.shelf.take_tally(), Tally::default());
    }
}

/// A tree of several levels.
fn grown(size: usize, copies: usize, entries: u64, may_repair: bool) -> World {
    let mut world = World::new(size, copies, 0, may_repair);
    let mut delta = Delta::default();
    for i in 0..entries {
        let key = Key([i % 5, i * 7 % 1000, i]);
        delta.keys.insert(key, Some(vec![i as u8; 20]));
    }
    world.merge(&delta);
    assert!(world.base.top.is_some_and(|top| top.level.0 >= 2));
    world
}

#[test]
fn what_no_change_touches_is_not_read() {
    let mut world = grown(2048, 2, 20_000, true);
    let height = usize::from(world.base.top.expect("not empty").level.0) + 1;
    world.shelf.take_reads();
    world.space.written = 0;
    let mut delta = Delta::default();
    delta.keys.insert(Key([2, 500, 3]), Some(vec![1; 20]));
    world.merge(&delta);
    assert_eq!(world.shelf.take_reads(), height);
    // One leaf may have become two, and so on upwards.
    assert!(world.space.written <= 2 * height);
    // A range that is gone: its inner nodes are read, its leaves are not.
    let leaves = world.space.live.len();
    let mut delta = Delta::default();
    let range = Range {
        first: Key([1, 0, 0]),
        last: Key([3, 0, 0]),
    };
    delta.gone.insert(range.first, range);
    world.merge(&delta);
    assert!(world.shelf.take_reads() < leaves / 10);
    verify(&world, &Chance::new(1));
    world.merge(&Delta::default());
    assert_eq!(world.shelf.take_tally(), Tally::default());
}

#[test]
fn damage_to_one_copy_is_repaired() {
    let mut world = grown(1024, 3, 2000, true);
    world.forget();
    let chance = Chance::new(1);
    let mut places = Vec::new();
    each_pointer(&world, |pointer| places.push(pointer.places));
    for (n, copies) in places.iter().enumerate() {
        for place in copies.iter().take(n % 3) {
            let at = chance.below(1024);
            world
                .shelf
                .damage(place, |bytes| bytes[at] ^= 1 << chance.below(8));
        }
    }
    let bad: usize = (0..places.len()).map(|n| n % 3).sum();
    let seen = look(&world, Depth::Tree);
    assert!(seen.entries == world.model);
    let expected = Tally {
        repaired: bad,
        ..Tally::default()
    };
    assert_eq!(world.shelf.take_tally(), expected);
    for copies in &places {
        let copies: Vec<_> = copies.iter().map(|p| world.shelf.copy(p)).collect();
        assert!(copies.windows(2).all(|pair| pair[0] == pair[1]));
    }
    // A copy that nobody had to read is found by looking at all of them.
    let last = places[5].iter().last().expect("three copies");
    world.shelf.damage(last, |bytes| bytes.fill(0));
    look(&world, Depth::Tree);
    assert_eq!(world.shelf.take_tally(), Tally::default());
    look(&world, Depth::Copies);
    assert_eq!(world.shelf.take_tally().repaired, 1);
}

fn each_pointer(world: &World, see: impl FnMut(&Pointer)) {
    struct Each<F>(F);
    impl<F: FnMut(&Pointer)> Visitor for Each<F> {
        fn node(&mut self, pointer: &Pointer, _: &Node) -> Result<(), TreeError> {
            (self.0)(pointer);
            Ok(())
        }
        fn lost(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
            Err(*why)
        }
        fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
            Ok(())
        }
    }
    check(&world.nodes, &world.base, Depth::Tree, &mut Each(see)).expect("sound");
}

#[test]
fn nothing_is_overwritten_where_it_must_not_be() {
    let mut world = grown(1024, 3, 2000, false);
    world.forget();
    let mut victims = Vec::new();
    each_pointer(&world, |p| victims.extend(p.places.iter().take(1)));
    for place in &victims {
        world.shelf.damage(*place, |bytes| bytes[300] ^= 1);
    }
    let copies = || victims.iter().map(|place| world.shelf.copy(*place));
    let before: Vec<_> = copies().collect();
    assert!(look(&world, Depth::Copies).entries == world.model);
    assert_eq!(world.shelf.take_tally(), Tally::default());
    assert!(copies().eq(before));
}

/// Devices that are away serve what they have, and are never written.
#[test]
fn devices_that_are_away_are_only_read() {
    let world = grown(1024, 3, 2000, true);
    let here = Members::default().with(slot(0)).with(slot(4));
    let shelf = world.shelf.seen_by(here);
    let away = World {
        nodes: shelf.nodes(1024, Bytes(0)),
        shelf,
        ..world
    };
    let mut all = Vec::new();
    each_pointer(&away, |p| all.extend(p.places.iter().take(2)));
    for place in &all {
        away.shelf.damage(*place, |bytes| bytes[300] ^= 1);
    }
    let bad = |place: &Place| !here.has(place.device);
    let copies = || all.iter().filter(|p| bad(p)).map(|p| away.shelf.copy(*p));
    let before: Vec<_> = copies().collect();
    assert!(look(&away, Depth::Copies).entries == away.model);
    let expected = Tally {
        repaired: all.iter().filter(|p| !bad(p)).count(),
        ..Tally::default()
    };
    assert_eq!(away.shelf.take_tally(), expected);
    assert!(expected.repaired > 0 && copies().eq(before));
}

#[test]
fn devices_may_fail_up_to_the_last_copy() {
    let mut world = grown(1024, 3, 2000, true);
    world.forget();
    let mut device = Members::default().with(slot(1)).with(slot(2));
    world.shelf.fail(device);
    assert!(look(&world, Depth::Tree).entries == world.model);
    let tally = world.shelf.take_tally();
    assert!(tally.unrepaired > 0 && tally.repaired == 0 && tally.lost == 0);
    device = device.with(slot(3));
    world.shelf.fail(device);
    let seen = look(&world, Depth::Tree);
    assert!(seen.lost > 0 || seen.entries.is_empty());
    assert!(seen
        .entries
        .iter()
        .all(|(k, v)| world.model.get(k) == Some(v)));
    let some = *world.model.keys().next().expect("not empty");
    let wrong = |found: Result<Option<Vec<u8>>, TreeError>| matches!(found, Ok(None));
    assert!(!wrong(world.base.get(&world.nodes, some, <[u8]>::to_vec)));
}

#[test]
fn a_merge_that_fails_leaves_the_base_alone() {
    let world = grown(1024, 2, 1500, true);
    let mut changes = Delta::default();
    for i in 0..60u64 {
        changes
            .keys
            .insert(Key([i % 5, i * 17, 3]), Some(vec![5; 100]));
    }
    let gone = Range {
        first: Key([3, 0, 0]),
        last: Key([3, 400, 0]),
    };
    changes.gone.insert(gone.first, gone);
    // The sink forgets what a failed merge freed: freed nodes are put back.
    struct Careful<'a>(&'a mut Space);
    impl Sink for Careful<'_> {
        fn place(&mut self) -> Result<Places, TreeError> {
            self.0.place()
        }
        fn write(&mut self, node: &embr_rt::Arc<Node>) -> Result<(), TreeError> {
            self.0.write(node)
        }
        fn free(&mut self, _: &Pointer) -> Result<(), TreeError> {
            Ok(())
        }
    }
    let mut space = Space::new(&world.shelf, 2);
    // Behind what the tree uses.
    for _ in 0..10_000 {
        space.place().expect("space");
    }
    for left in 0.. {
        space.left = left;
        let done = merge(
            &world.nodes,
            &world.base,
            &changes,
            EDITION,
            &mut Careful(&mut space),
        );
        match done {
            Ok(base) => {
                assert!(left > 10 && base != world.base);
                break;
            }
            Err(why) => assert_eq!(why, TreeError::NoSpace),
        }
    }
    space.left = usize::MAX;
    let mut failures = 0;
    for nth in (1..).step_by(7) {
        failpoint::fail_nth(nth);
        let done = merge(
            &world.nodes,
            &world.base,
            &changes,
            EDITION,
            &mut Careful(&mut space),
        );
        let failed = failpoint::off().failed;
        match done {
            Err(why) => assert_eq!(why, TreeError::NoMemory),
            Ok(_) if failed == 0 => break,
            // Where one copy could not be read for lack of memory, the other could.
            Ok(_) => continue,
        }
        failures += 1;
    }
    assert!(failures > 10);
    assert!(look(&world, Depth::Tree).entries == world.model);
}

#[test]
fn values_that_are_too_long_are_refused() {
    let mut world = World::new(node::NODE_SIZE, 1, 0, true);
    let mut delta = Delta::default();
    for i in 0..50 {
        delta
            .keys
            .insert(Key([0, 0, i]), Some(vec![1; node::MAX_VALUE]));
    }
    world.merge(&delta);
    verify(&world, &Chance::new(1));
    delta
        .keys
        .insert(Key([9; 3]), Some(vec![1; node::MAX_VALUE + 1]));
    assert_eq!(world.try_merge(&delta), Err(TreeError::TooLarge(TREE)));
}

/// Bytes of a node with one field changed and a right seal.
fn forged(chance: &Chance, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = match chance.below(3) {
        0 => chance.one(&[8, 12, 48, 64, 80, 88, 89, 90, 92, 96, 104, 136, 152]),
        1 => 160 + chance.below(200),
        _ => chance.below(bytes.len()),
    };
    let length = chance.one(&[1, 2, 4, 8]);
    let end = bytes.len().min(at + length);
    let fill = chance.one(&[0, 0xff, 1, 0x7f]);
    for byte in &mut bytes[at..end] {
        *byte = match chance.below(3) {
            0 => byte.wrapping_add(1),
            1 => chance.next() as u8,
            _ => fill,
        };
    }
    node::apply_seal(&Scalar, &mut bytes);
    bytes
}

/// A tree in which the root's and one inner node's children are forged, and each parent vouches for what was forged.
#[test]
fn forged_trees_end_in_an_answer() {
    let base = seed();
    let origin = grown(1024, 1, 600, true);
    let top = origin.base.top.expect("not empty");
    let mut pointers = Vec::new();
    each_pointer(&origin, |pointer| pointers.push(*pointer));
    let bytes_of = |pointer: &Pointer| {
        let place = pointer.places.iter().next().expect("a place");
        (place, origin.shelf.copy(place).expect("a copy"))
    };
    let sound: Vec<_> = pointers.iter().map(bytes_of).collect();
    let mut outcomes = [0u32; 2];
    for n in 0..3000 {
        let seed = base.wrapping_add(n);
        let chance = Chance::new(seed);
        let victim = chance.below(pointers.len());
        let (place, bytes) = &sound[victim];
        let mut old = pointers[victim].hash;
        let mut bytes = forged(&chance, bytes);
        // The way up: in each ancestor the new hash takes the place of the old one.
        let mut at = *place;
        let mut root = top.pointer;
        loop {
            origin.shelf.put(at, &bytes);
            let new: [u8; 16] = bytes[16..32].try_into().expect("half a seal");
            if old == root.hash {
                root.hash = new;
                break;
            }
            let parent = sound
                .iter()
                .find(|(p, b)| *p != at && b.windows(16).any(|w| w == old));
            let (up, above) = parent.expect("every node but the root has a parent");
            let from = above
                .windows(16)
                .position(|w| w == old)
                .expect("just found");
            let mut above = above.to_vec();
            old = above[16..32].try_into().expect("half a seal");
            above[from..from + 16].copy_from_slice(&new);
            node::apply_seal(&Scalar, &mut above);
            (at, bytes) = (*up, above);
        }
        let world = World {
            shelf: origin.shelf.clone(),
            space: Space::new(&origin.shelf, 1),
            nodes: origin.shelf.nodes(1024, Bytes(chance.one(&[0, 1 << 20]))),
            base: Base::new(TREE, root, top.level, 0).expect("a level that can be"),
            model: Model::new(),
        };
        outcomes[usize::from(exercise(&world, &chance))] += 1;
        for (place, bytes) in &sound {
            origin.shelf.put(*place, bytes);
        }
    }
    // Forging that is always noticed, or never, does not reach far.
    assert!(outcomes.iter().all(|n| *n > 100), "{outcomes:?}");
}

/// Everything that can be done with a tree; it may fail, but must end and keep its order. Says whether damage was noticed.
fn exercise(world: &World, chance: &Chance) -> bool {
    struct Ordered(Option<Key>, usize, bool);
    impl Visitor for Ordered {
        fn node(&mut self, _: &Pointer, node: &Node) -> Result<(), TreeError> {
            self.1 += 1;
            for i in 0..node.count() {
                let Some((key, _)) = node.entry(i) else { break };
                assert!(self.0.is_none_or(|before| before < key));
                self.0 = Some(key);
            }
            Ok(())
        }
        fn lost(&mut self, _: &TreeError, _: Range) -> Result<(), TreeError> {
            self.2 = true;
            Ok(())
        }
        fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
            Ok(())
        }
    }
    let mut ordered = Ordered(None, 0, false);
    check(&world.nodes, &world.base, Depth::Tree, &mut ordered).expect("memory");
    assert!(ordered.1 < 1000);
    for i in 0..20u64 {
        let _ = world
            .base
            .get(&world.nodes, Key([i % 5, i * 7, i]), |v| v.len());
    }
    let mut cursor = Cursor::new(&world.nodes, &world.base, Range::ALL);
    let mut steps = 0;
    while let Ok(Some(_)) = cursor.next() {
        steps += 1;
        assert!(steps < 100_000);
    }
    struct Anywhere(Space);
    impl Sink for Anywhere {
        fn place(&mut self) -> Result<Places, TreeError> {
            self.0.place()
        }
        fn write(&mut self, _: &embr_rt::Arc<Node>) -> Result<(), TreeError> {
            Ok(())
        }
        fn free(&mut self, _: &Pointer) -> Result<(), TreeError> {
            Ok(())
        }
    }
    let mut changes = Delta::default();
    for _ in 0..chance.below(50) {
        let value = vec![3; chance.below(200)];
        changes.keys.insert(key(chance, 10), Some(value));
    }
    let mut sink = Anywhere(Space::new(&world.shelf, 1));
    let _ = merge(&world.nodes, &world.base, &changes, EDITION, &mut sink);
    ordered.2
}

/// Two leaves and a parent that gives the second one from `second` on, and ends at `last`.
fn family(second: u64, last: u64) -> Seen {
    let mut world = World::new(1024, 1, 0, true);
    let stamp = |world: &mut World, level| Stamp {
        volume: VOLUME,
        epoch: EDITION.epoch,
        generation: EDITION.generation,
        tree: TREE,
        level: Level(level),
        places: world.space.place().expect("space"),
    };
    let wide = |n| Key([n, 0, 0]);
    let mut children = Vec::new();
    for keys in [[1, 5], [second, 9]] {
        let stamp = stamp(&mut world, 0);
        let entries = keys.map(|n| (wide(n), &b"value"[..]));
        let node = Node::leaf(&Scalar, 1024, &stamp, entries.into_iter()).expect("a leaf");
        children.push((node.range().first, node.pointer()));
        let node = embr_rt::Arc::try_new(node).expect("memory");
        world.space.write(&node).expect("memory takes every write");
    }
    let stamp = stamp(&mut world, 1);
    let node = Node::inner(&Scalar, 1024, &stamp, children.into_iter(), wide(last));
    let node = embr_rt::Arc::try_new(node.expect("a parent")).expect("memory");
    world.space.write(&node).expect("memory takes every write");
    world.base = Base::new(TREE, node.pointer(), Level(1), 0).expect("a possible level");
    look(&world, Depth::Tree)
}

#[test]
fn ranges_of_siblings_lie_apart() {
    assert_eq!(family(6, 9).entries.len(), 4);
    assert_eq!(family(6, 9).lost, 0);
    assert_eq!(family(6, 20).lost, 0);
    // The first leaf reaches into the second one's range; the second beyond its parent's.
    assert_eq!(family(5, 9).lost, 1);
    assert_eq!(family(3, 9).lost, 1);
    assert_eq!(family(6, 8).lost, 1);
    assert_eq!(family(3, 8).lost, 2);
}

#[test]
fn a_node_serves_only_where_it_belongs() {
    let world = grown(1024, 2, 2000, true);
    let top = world.base.top.expect("not empty");
    let get = |nodes: &Nodes<Shelf>, tree: u8, pointer: Pointer, level: u8| {
        let base = Base::new(TreeId(tree), pointer, Level(level), 0).expect("a possible level");
        base.get(nodes, Key([1, 1, 1]), <[u8]>::len).err()
    };
    let level = top.level.0;
    for cache in [0, 1 << 20] {
        let nodes = world.shelf.nodes(1024, Bytes(cache));
        assert_eq!(get(&nodes, 3, top.pointer, level), None);
        for (tree, level) in [(4, level), (3, level + 1), (3, level - 1), (3, 0)] {
            let error = get(&nodes, tree, top.pointer, level);
            let Some(TreeError::Corrupt(spot, BadNode::Misplaced)) = error else {
                panic!("{error:?}");
            };
            assert_eq!((spot.tree, spot.level), (TreeId(tree), Level(level)));
        }
        let newer = Pointer {
            generation: Generation(6),
            ..top.pointer
        };
        let error = get(&nodes, 3, newer, level);
        assert!(matches!(error, Some(TreeError::Corrupt(_, BadNode::Other))));
    }
    assert!(Base::new(TREE, top.pointer, Level(16), 0).is_none());
    // Places in system areas and beyond the device's end are neither read nor written.
    let nodes = world.shelf.nodes(1024, Bytes(0));
    for block in [1, 255, 2048, 1 << 18, 1 << 28] {
        let place = Place {
            device: slot(0),
            block: Blocks(block),
        };
        let good = top.pointer.places.iter().find(|p| p.device != slot(0));
        let places = [place, good.expect("two copies")];
        let pointer = Pointer {
            places: Places::new(&places).expect("possible"),
            ..top.pointer
        };
        world.shelf.take_reads();
        assert!(get(&nodes, 3, pointer, level).is_some());
        assert_eq!(world.shelf.take_reads(), 1);
        assert!(world.shelf.copy(place).is_none());
    }
}
