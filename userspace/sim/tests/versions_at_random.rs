// SPDX-License-Identifier: GPL-2.0

//! Whatever changes files and names, on several heads, while snapshots are taken, grown from, deleted and swept a step at a time, with mounts
//! and crashes in between, on volumes with and without room: everything holds what the model says, and once all is swept nothing
//! is left that nobody sees.

use embr_engine::file::Dirty;
use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::inode::FileType;
use embr_engine::format::snapshot;
use embr_engine::format::snapshot::Node;
use embr_engine::format::snapshot::State;
use embr_engine::names::Attributes;
use embr_engine::names::Error;
use embr_engine::names::Extended;
use embr_engine::names::Files;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Mode;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::Put;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::files::File;
use embrfs_sim::files::Files as Model;
use embrfs_sim::files::Flags;
use embrfs_sim::files::ROOT;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::states::Plan;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::panic::resume_unwind;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

const NOW: Timestamp = Timestamp {
    seconds: 0,
    nanos: 0,
};
const BLOCK: u64 = BLOCK_SIZE as u64;
/// Files are not longer, in blocks.
const LONGEST: u64 = 110;

/// What a snapshot or head holds.
#[derive(Clone, PartialEq)]
struct Held {
    is_head: bool,
    files: Model,
    bytes: Contents,
}

/// What is in each file.
type Contents = BTreeMap<u64, Arc<Vec<u8>>>;

type All = BTreeMap<Vec<u8>, Held>;

/// The version by which each node says something, and whether that is that nothing is there.
type Said = BTreeMap<u64, (u64, bool)>;

/// One change of a file's content; it is there wholly or not at all unless it is `partial`.
struct Change {
    file: u64,
    new: Vec<u8>,
    partial: bool,
}

struct Run {
    chance: Chance,
    fleet: Fleet,
    mounted: Option<Mounted<Simulated>>,
    names: Names,
    held: All,
    given: u64,
    is_small: bool,
    /// How many writes of eight go into the tree.
    inline: usize,
    log: Vec<String>,
    /// How often there was no room, and for what.
    full: BTreeMap<&'static str, u64>,
    done: BTreeMap<&'static str, u64>,
    crashes: u64,
    /// How much was half done after them.
    resumed: u64,
    idle: u64,
}

fn must(what: &str, done: Result<(), String>) {
    done.unwrap_or_else(|why| panic!("{what}: {why}"));
}

fn read_all(files: Files<'_, Simulated>) -> Result<(Model, Contents), String> {
    let model = clerk::walk(files, 10)?;
    let mut bytes = BTreeMap::new();
    for (number, file) in &model.files {
        if file.kind != FileType::Regular {
            continue;
        }
        let size = file.size as usize;
        let mut held = vec![0xee; size.next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE];
        files
            .read(InodeNo(*number), FileBlock(0), &mut held)
            .map_err(|why| format!("reading inode {number}: {why}"))?;
        if held.drain(size..).any(|b| b != 0) {
            return Err(format!("inode {number}: not zeros behind its end"));
        }
        bytes.insert(*number, held.into());
    }
    Ok((model, bytes))
}

fn found(mounted: &Mounted<Simulated>, names: &Names) -> Result<All, String> {
    let mut all = All::new();
    for one in names.snapshots(mounted).map_err(|why| why.to_string())? {
        let view = names
            .open(mounted, &one.name)
            .map_err(|why| why.to_string())?;
        let said = String::from_utf8_lossy(&one.name).into_owned();
        let (files, bytes) =
            read_all(names.of(mounted, &view)).map_err(|why| format!("in {said:?}: {why}"))?;
        let is_head = one.is_head;
        let held = Held {
            is_head,
            files,
            bytes,
        };
        all.insert(one.name.to_vec(), held);
    }
    Ok(all)
}

/// In what these differ first.
fn difference(model: &All, found: &All) -> Option<String> {
    let names = |all: &All| {
        all.iter()
            .map(|(n, h)| (n.clone(), h.is_head))
            .collect::<Vec<_>>()
    };
    if names(model) != names(found) {
        return Some(format!(
            "there are {:?}, by the model {:?}",
            names(found),
            names(model)
        ));
    }
    for (name, ours) in model {
        let name = String::from_utf8_lossy(name);
        let theirs = &found[name.as_bytes()];
        for number in ours.files.files.keys().chain(theirs.files.files.keys()) {
            let (a, b) = (ours.files.files.get(number), theirs.files.files.get(number));
            if a != b {
                return Some(format!(
                    "in {name:?}: inode {number} is {b:?}, by the model {a:?}"
                ));
            }
        }
        for (number, a) in &ours.bytes {
            let b = &theirs.bytes[number];
            if a != b {
                let blocks = |v: &[u8]| {
                    v.chunks(BLOCK_SIZE)
                        .map(|b| b.first().copied().unwrap_or(0))
                        .collect::<Vec<_>>()
                };
                let at = a.iter().zip(b.iter()).position(|(a, b)| a != b);
                return Some(format!(
                    "in {name:?}: inode {number} differs at {:?}: {:?}, by the model {:?}",
                    at.map(|at| at / BLOCK_SIZE),
                    blocks(b),
                    blocks(a)
                ));
            }
        }
        if ours.bytes.len() != theirs.bytes.len() {
            return Some("other files".into());
        }
    }
    None
}

/// The nodes of the tree of snapshots.
fn nodes(mounted: &Mounted<Simulated>) -> Result<Vec<(u64, Node)>, String> {
    let mut all = Vec::new();
    for (key, value) in contents::scan(mounted, SNAPSHOTS)? {
        if let Some(id) = snapshot::parse_node(key) {
            let node = Node::parse(id, &value).map_err(|_| "memory")?;
            all.push((id.0, node.ok_or("a senseless node")?));
        }
    }
    Ok(all)
}

fn owns(node: &Node, id: u64) -> bool {
    node.own.iter().any(|(a, b)| a.0 <= id && id <= b.0)
}

/// Whether nothing is left that nobody sees, once all is swept. Says how many holes hide nothing.
fn strict(mounted: &Mounted<Simulated>) -> Result<u64, String> {
    let nodes = nodes(mounted)?;
    for (id, node) in &nodes {
        let children = nodes.iter().filter(|(_, n)| n.parent.0 == *id).count();
        if node.state == State::Deleted && children < 2 {
            return Err(format!(
                "node {id} is deleted, has {children} children, and is not swept"
            ));
        }
    }
    let below = |of: &Node| {
        let mut all = Vec::new();
        let mut at = of.parent.0;
        while let Some((id, node)) = nodes.iter().find(|(id, _)| *id == at) {
            all.push(*id);
            at = node.parent.0;
        }
        all
    };
    let by = |id: u64| nodes.iter().find(|(_, n)| owns(n, id));
    // What each node says of each item, and of each block.
    let mut items: BTreeMap<(u64, u64, u64), Said> = BTreeMap::new();
    let mut blocks: BTreeMap<(u64, u64), Said> = BTreeMap::new();
    for (key, value) in contents::scan(mounted, NAMES)? {
        let (item, id) = Item::of(key);
        if id.0 == 0 || (nodes.is_empty()) {
            continue;
        }
        let Some((owner, _)) = by(id.0) else {
            return Err(format!("{key} is nobody's"));
        };
        let file = item.owner().0;
        let mut say = |block: u64, is_hole: bool| {
            let old = blocks
                .entry((file, block))
                .or_default()
                .insert(*owner, (id.0, is_hole));
            match old {
                Some((old, _)) => Err(format!(
                    "inode {file}, block {block}: versions {old} and {} of node {owner}",
                    id.0
                )),
                None => Ok(()),
            }
        };
        if item.kind() == Kind::EXTENTS && file != 0 {
            for run in extent::parse(&value).ok_or("senseless runs")?.iter() {
                for n in 0..run.blocks {
                    let block = item.sub() * extent::WINDOW as u64 + (run.first + n) as u64;
                    say(block, run.encoding == Encoding::Hole)?;
                }
            }
            continue;
        }
        if item.kind() == Kind::INLINE && file != 0 {
            say(item.sub(), false)?;
        }
        let place = (file, key.0[1], item.sub());
        let old = items
            .entry(place)
            .or_default()
            .insert(*owner, (id.0, value.is_empty()));
        if let Some((old, _)) = old {
            return Err(format!(
                "item {place:?}: versions {old} and {} of node {owner}",
                id.0
            ));
        }
    }
    let inherits = |said: &Said, owner: u64| {
        let node = &nodes.iter().find(|(id, _)| *id == owner).expect("known").1;
        let newest = below(node).into_iter().find_map(|id| said.get(&id));
        newest.is_some_and(|(_, is_gone)| !is_gone)
    };
    for (place, said) in &items {
        for (owner, (id, is_gone)) in said {
            if *is_gone && !inherits(said, *owner) {
                return Err(format!(
                    "item {place:?}: {id} of node {owner} says in vain that it is gone"
                ));
            }
        }
    }
    let mut idle = 0;
    for said in blocks.values() {
        for (owner, (_, is_hole)) in said {
            idle += u64::from(*is_hole && !inherits(said, *owner));
        }
    }
    Ok(idle)
}

/// Bytes of blocks, no two of which are alike.
fn fresh(chance: &Chance, blocks: u64) -> Vec<u8> {
    (0..blocks)
        .flat_map(|_| {
            let word = chance.next() | 1;
            std::iter::repeat_n(word.to_le_bytes(), BLOCK_SIZE / 8).flatten()
        })
        .collect()
}

impl Run {
    fn new(seed: u64) -> Self {
        let chance = Chance::new(seed);
        let is_small = chance.below(3) == 0;
        let shape = chance.one(&[(1, 0), (1, 0), (1, 1), (2, 1)]);
        let size = if is_small { 32 } else { 64 };
        let count = usize::from(shape.0 + shape.1);
        let fleet = desk::drives(&chance, Bytes(size << 20), count, shape);
        let mounted = desk::mount(&chance, &fleet);
        let names = desk::names();
        let first = View::first();
        let root = New {
            now: NOW,
            ..clerk::root()
        };
        names.of(&mounted, &first).format(&root).expect("formatted");
        let mut files = Model::new(NOW);
        files.files.get_mut(&ROOT).expect("root").permissions = root.permissions;
        let main = Held {
            is_head: true,
            files,
            bytes: BTreeMap::new(),
        };
        Run {
            log: vec![format!("seed {seed}, {shape:?} of {size} MiB")],
            inline: chance.one(&[0, 1, 2, 8]),
            chance,
            fleet,
            mounted: Some(mounted),
            names,
            held: [(Vec::new(), main)].into(),
            given: 0,
            is_small,
            full: BTreeMap::new(),
            done: BTreeMap::new(),
            crashes: 0,
            resumed: 0,
            idle: 0,
        }
    }

    fn mounted(&self) -> &Mounted<Simulated> {
        self.mounted.as_ref().expect("mounted")
    }

    fn one(&self, is_head: bool) -> Option<Vec<u8>> {
        let all: Vec<_> = (self.held.iter())
            .filter(|(_, h)| h.is_head == is_head)
            .map(|(n, _)| n.clone())
            .collect();
        (!all.is_empty()).then(|| all[self.chance.below(all.len())].clone())
    }

    fn file(&self, held: &Held) -> Option<u64> {
        let all: Vec<u64> = held.bytes.keys().copied().collect();
        // Mostly one of the first.
        match all.len() {
            0 => None,
            n if self.chance.below(3) == 0 => Some(all[self.chance.below(n)]),
            n => Some(all[self.chance.below(n.min(2))]),
        }
    }

    fn note(&mut self, what: &'static str, detail: String) {
        *self.done.entry(what).or_default() += 1;
        self.log.push(format!("{what} {detail}"));
    }

    /// The name of a file that there may be.
    fn name(&self) -> Vec<u8> {
        format!("f{}", self.chance.below(7)).into_bytes()
    }

    /// Changes what is in a file of a head. Says what the change is.
    fn contents(&mut self, is_atomic: bool) {
        let name = self.one(true).expect("a head");
        let held = self.held[&name].clone();
        let Some(file) = self.file(&held) else {
            return self.tree();
        };
        let view = self.names.open(self.mounted(), &name).expect("opened");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let chance = &self.chance;
        let old = held.bytes[&file].to_vec();
        let size = old.len() as u64;
        let blocks = size.div_ceil(BLOCK);
        let inode = InodeNo(file);
        let whole = chance.below(2) == 0;
        let some_byte = |most: u64| {
            let byte = chance.below(most as usize + 1) as u64;
            if whole {
                byte / BLOCK * BLOCK
            } else {
                byte
            }
        };
        let mut new = old.clone();
        let kinds = if is_atomic { 5 } else { 10 };
        let (what, detail, partial, done): (_, _, _, Result<(), Error>) = match chance.below(kinds)
        {
            0 => {
                let to = some_byte(LONGEST * BLOCK);
                let to = if chance.below(3) == 0 {
                    to.min(size)
                } else {
                    to
                };
                new.resize(to as usize, 0);
                (
                    "truncate",
                    format!("{to}"),
                    false,
                    files.truncate(inode, Bytes(to), NOW).map(drop),
                )
            }
            1 => {
                let from = some_byte(size);
                let to = from + some_byte(LONGEST * BLOCK - from.min(LONGEST * BLOCK));
                let end = to.min(size);
                new[from.min(end) as usize..end as usize].fill(0);
                (
                    "punch",
                    format!("{from}..{to}"),
                    false,
                    files.punch(inode, Bytes(from), Bytes(to), NOW).map(drop),
                )
            }
            2 if size > BLOCK => {
                let to = 1 + chance.below((size - 1) as usize / BLOCK_SIZE) as u64;
                let from = chance.below(to as usize) as u64;
                new.drain((from * BLOCK) as usize..(to * BLOCK) as usize);
                let done = files.collapse(inode, FileBlock(from), FileBlock(to), NOW);
                ("collapse", format!("{from}..{to}"), false, done.map(drop))
            }
            3 if size > 0 && blocks < LONGEST => {
                let at = chance.below(blocks as usize) as u64;
                let more = 1 + chance.below((LONGEST - blocks).min(40) as usize) as u64;
                let tail = new.split_off((at * BLOCK) as usize);
                new.resize(((at + more) * BLOCK) as usize, 0);
                new.extend(tail);
                let done = files.insert(inode, FileBlock(at), more, NOW);
                ("insert", format!("{more} at {at}"), false, done.map(drop))
            }
            5 => {
                let from = chance.below(LONGEST as usize) as u64;
                let to = from + 1 + chance.below((LONGEST - from) as usize) as u64;
                let done = files.preallocate(inode, FileBlock(from), FileBlock(to), None, NOW);
                (
                    "preallocate",
                    format!("{from}..{to}"),
                    false,
                    done.map(drop),
                )
            }
            6 => {
                let from = some_byte(LONGEST * BLOCK);
                let to = from + some_byte(LONGEST * BLOCK - from);
                let end = to.min(size);
                new[from.min(end) as usize..end as usize].fill(0);
                let longer = (chance.below(2) == 0).then_some(Bytes(to));
                if longer.is_some() && to > size {
                    new.resize(to as usize, 0);
                }
                let done = files.zero(inode, Bytes(from), Bytes(to), longer, NOW);
                (
                    "zero",
                    format!("{from}..{to} {longer:?}"),
                    true,
                    done.map(drop),
                )
            }
            7 => {
                let from = self.file(&held).expect("a file");
                let count = 1 + chance.below(40) as u64;
                let (a, b) = (
                    chance.below(40) as u64,
                    chance.below((LONGEST - 40) as usize) as u64,
                );
                if from == file && a < b + count && b < a + count {
                    return;
                }
                let source = &held.bytes[&from];
                let has = (source.len() as u64)
                    .saturating_sub(a * BLOCK)
                    .min(count * BLOCK);
                let end = size.max(if has == 0 { 0 } else { b * BLOCK + has });
                new.resize(end as usize, 0);
                for at in b * BLOCK..((b + count) * BLOCK).min(end) {
                    let byte = source.get((at + a * BLOCK - b * BLOCK) as usize);
                    new[at as usize] = byte.copied().unwrap_or(0);
                }
                let pair = Pair {
                    from: (InodeNo(from), FileBlock(a)),
                    to: (inode, FileBlock(b)),
                    blocks: Blocks(count),
                };
                let done = files.clone_range(&pair, Some(Bytes(end)), NOW);
                (
                    "clone",
                    format!("{count} of {from} from {a} to {b}"),
                    true,
                    done.map(drop),
                )
            }
            8 => {
                let from = self.file(&held).expect("a file");
                let count = 1 + chance.below(40) as u64;
                if from == file {
                    return;
                }
                let pair = Pair {
                    from: (InodeNo(from), FileBlock(0)),
                    to: (inode, FileBlock(0)),
                    blocks: Blocks(count),
                };
                (
                    "same",
                    format!("{count} of {from}"),
                    false,
                    files.same_range(&pair).map(drop),
                )
            }
            _ => {
                let from = chance.below(LONGEST as usize - 1) as u64;
                let from = if chance.below(3) == 0 {
                    from
                } else {
                    from % 12
                };
                let most = if is_atomic { 1 } else { LONGEST - from };
                let count = 1 + chance.below(most as usize) as u64;
                let count = if chance.below(3) == 0 {
                    count
                } else {
                    count.min(6)
                };
                let bytes = fresh(chance, count);
                let end = (from * BLOCK) as usize + bytes.len();
                new.resize(new.len().max(end), 0);
                new[(from * BLOCK) as usize..end].copy_from_slice(&bytes);
                let dirty = [Dirty {
                    at: FileBlock(from),
                    bytes: &bytes,
                }];
                let way = [Way::Sealed, Way::Inline][usize::from(chance.below(8) < self.inline)];
                let written = Written {
                    size: Some(Bytes(end as u64)),
                    modified: Some(NOW),
                    changed: Some(NOW),
                };
                let done = files.write(inode, &dirty, way, &written);
                (
                    "write",
                    format!("{from}+{count} {way:?}"),
                    true,
                    done.map(drop),
                )
            }
        };
        let said = format!(
            "{}/{file}: {detail}: {done:?}",
            String::from_utf8_lossy(&name)
        );
        let change = Change { file, new, partial };
        match done {
            Ok(()) => self.became(&name, change),
            Err(Error::NoSpace) => {
                *self.full.entry(what).or_default() += 1;
                let must_go = what == "truncate" && (whole && change.new.len() < old.len());
                assert!(!must_go, "{what} {said}: it makes room, and there is none");
                if change.partial {
                    self.resync(&name, change);
                }
            }
            Err(why) => panic!("{what} {said}: {why}"),
        }
        self.note(what, said);
    }

    fn long_write(&mut self) {
        let name = self.one(true).expect("a head");
        let Some(file) = self.file(&self.held[&name]) else {
            return;
        };
        let view = self.names.open(self.mounted(), &name).expect("opened");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let bytes = fresh(&self.chance, LONGEST);
        let dirty = [Dirty {
            at: FileBlock(0),
            bytes: &bytes,
        }];
        let written = Written {
            size: Some(Bytes(LONGEST * BLOCK)),
            modified: Some(NOW),
            changed: Some(NOW),
        };
        let done = files.write(InodeNo(file), &dirty, Way::Inline, &written);
        drop(view);
        let mut new = self.held[&name].bytes[&file].to_vec();
        new.resize(new.len().max(bytes.len()), 0);
        new[..bytes.len()].copy_from_slice(&bytes);
        let change = Change {
            file,
            new,
            partial: true,
        };
        self.note(
            "long write",
            format!(
                "{}/{file}: {:?}",
                String::from_utf8_lossy(&name),
                done.is_ok()
            ),
        );
        match done {
            Ok(_) => self.became(&name, change),
            Err(Error::NoSpace) => self.resync(&name, change),
            Err(why) => panic!("{why}"),
        }
    }

    fn became(&mut self, name: &[u8], change: Change) {
        let held = self.held.get_mut(name).expect("known");
        let file = held.files.files.get_mut(&change.file).expect("known");
        file.size = change.new.len() as u64;
        held.bytes.insert(change.file, change.new.into());
    }

    /// Only part of it was done: each block is as it was or as it was to be.
    fn resync(&mut self, name: &[u8], change: Change) {
        let view = self.names.open(self.mounted(), name).expect("opened");
        let (_, bytes) = read_all(self.names.of(self.mounted(), &view)).expect("read");
        drop(view);
        let (old, new, now) = (
            &self.held[name].bytes[&change.file],
            &change.new,
            &bytes[&change.file],
        );
        let whole = old.len().max(new.len());
        assert!(now.len() <= whole);
        let at = |of: &[u8], n: usize| {
            let mut block = vec![0; BLOCK_SIZE];
            let here = of.get(n * BLOCK_SIZE..).unwrap_or_default();
            let here = &here[..here.len().min(BLOCK_SIZE)];
            block[..here.len()].copy_from_slice(here);
            block
        };
        for n in 0..whole.div_ceil(BLOCK_SIZE) {
            let (a, b, c) = (at(old, n), at(new, n), at(now, n));
            // Zeros: punched first, or behind the end.
            let behind = now.len() < (n + 1) * BLOCK_SIZE;
            assert!(
                c == a || c == b || behind,
                "block {n} is neither what it was nor what it was to be"
            );
        }
        let new = now.to_vec();
        self.became(name, Change { new, ..change });
    }

    /// Changes names of a head.
    fn tree(&mut self) {
        let name = self.one(true).expect("a head");
        let mut held = self.held[&name].clone();
        let view = self.names.open(self.mounted(), &name).expect("opened");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let (one, other) = (self.name(), self.name());
        let users = [Users::None, Users::Some][usize::from(self.chance.below(4) == 0)];
        let is_used = users == Users::Some;
        let orphans = held.files.orphans();
        let (what, engine, model) = match self.chance.below(10) {
            0..3 => {
                let new = New {
                    what: What::Regular,
                    now: NOW,
                    ..clerk::root()
                };
                let made = files.create(InodeNo::ROOT, &one, &new);
                let number = made.as_ref().map_or(u64::MAX, |done| done.what.number.0);
                let mut file = File::new(FileType::Regular, NOW);
                file.permissions = new.permissions;
                let model = held.files.create(ROOT, &one, number, file);
                if model.is_ok() {
                    held.bytes.insert(number, Arc::default());
                }
                ("create", made.map(drop), model)
            }
            3 | 4 => {
                let gone = held.files.remove(ROOT, &one, false, is_used, NOW);
                let engine = files.unlink(InodeNo::ROOT, &one, users, NOW);
                ("unlink", engine.map(drop), gone.map(drop))
            }
            5 => {
                let file = self.file(&held).unwrap_or(1 << 40);
                let engine = files.link(InodeNo(file), InodeNo::ROOT, &one, NOW);
                let model = held.files.link(file, ROOT, &one, NOW);
                ("link", engine.map(drop), model)
            }
            6 => {
                let (from, to) = ((InodeNo::ROOT, &one[..]), (InodeNo::ROOT, &other[..]));
                let engine = files.rename(from, to, Mode::Replace, users, NOW);
                let (from, to) = ((ROOT, &one[..]), (ROOT, &other[..]));
                let model = held.files.rename(from, to, Flags::default(), is_used, NOW);
                ("rename", engine.map(drop), model)
            }
            7 if !orphans.is_empty() => {
                let number = self.chance.one(&orphans);
                let engine = files.forget(InodeNo(number));
                ("forget", engine.map(drop), held.files.forget(number))
            }
            8 => {
                let file = self.file(&held).unwrap_or(ROOT);
                let engine =
                    files.remove_attribute(InodeNo(file), b"user.a", &Attributes::default(), NOW);
                let model = held.files.remove_attribute(file, b"user.a", NOW);
                ("remove_attribute", engine.map(drop), model)
            }
            _ => {
                let file = self.file(&held).unwrap_or(ROOT);
                let size = [3, 200, 3000][self.chance.below(3)];
                let value = vec![self.chance.next() as u8; size];
                let new = Extended {
                    name: b"user.a",
                    value: &value,
                };
                let engine =
                    files.set_attribute(InodeNo(file), new, Put::Any, &Attributes::default(), NOW);
                let model = held
                    .files
                    .set_attribute(file, (b"user.a", &value), None, NOW);
                ("set_attribute", engine.map(drop), model)
            }
        };
        drop(view);
        let said = format!(
            "{:?} {} {}: {engine:?}",
            String::from_utf8_lossy(&name),
            String::from_utf8_lossy(&one),
            String::from_utf8_lossy(&other)
        );
        match (engine, model) {
            (Ok(()), Ok(())) => {
                let left = &held.files.files;
                held.bytes.retain(|number, _| left.contains_key(number));
                self.held.insert(name, held);
            }
            (Err(Error::NoSpace), _) => {
                assert!(
                    !["unlink", "forget"].contains(&what),
                    "{what} {said}: it makes room"
                );
                *self.full.entry(what).or_default() += 1;
            }
            (Err(_), Err(_)) => {}
            (engine, model) => panic!("{what} {said}: {engine:?}, by the model {model:?}"),
        }
        self.note(what, said);
    }

    fn take(&mut self) {
        let from = self.one(true).expect("a head");
        let view = self.names.open(self.mounted(), &from).expect("opened");
        self.given += 1;
        let name = format!("s{}", self.given).into_bytes();
        let done = self
            .names
            .of(self.mounted(), &view)
            .take_snapshot(&name, NOW);
        drop(view);
        self.note(
            "take",
            format!(
                "s{} of {:?}: {done:?}",
                self.given,
                String::from_utf8_lossy(&from)
            ),
        );
        match done {
            Ok(_) => {
                let held = Held {
                    is_head: false,
                    ..self.held[&from].clone()
                };
                self.held.insert(name, held);
            }
            Err(Error::NoSpace) => *self.full.entry("take").or_default() += 1,
            Err(why) => panic!("take: {why}"),
        }
    }

    fn grow(&mut self) {
        let Some(from) = self.one(false) else {
            return;
        };
        self.given += 1;
        let name = format!("h{}", self.given).into_bytes();
        let done = self.names.grow(self.mounted(), &from, &name, NOW);
        self.note(
            "grow",
            format!(
                "h{} from {:?}: {done:?}",
                self.given,
                String::from_utf8_lossy(&from)
            ),
        );
        match done {
            Ok(_) => {
                let held = Held {
                    is_head: true,
                    ..self.held[&from].clone()
                };
                self.held.insert(name, held);
            }
            Err(Error::NoSpace) => *self.full.entry("grow").or_default() += 1,
            Err(why) => panic!("grow: {why}"),
        }
    }

    fn delete(&mut self, heads: usize) {
        let is_head = self.chance.below(heads) == 0;
        let Some(name) = self.one(is_head).filter(|name| !name.is_empty()) else {
            return;
        };
        self.note("delete", String::from_utf8_lossy(&name).into_owned());
        let done = self.names.delete(self.mounted(), &name);
        done.unwrap_or_else(|why| panic!("delete: {why}"));
        self.held.remove(&name);
    }

    fn rebundle(&mut self) {
        let name = self.one(true).expect("a head");
        let view = self.names.open(self.mounted(), &name).expect("opened");
        let done = self.names.of(self.mounted(), &view).rebundle();
        drop(view);
        self.note("rebundle", format!("{:?}", done.is_ok()));
        assert!(matches!(done, Ok(_) | Err(Error::NoSpace)));
    }

    /// Many snapshots, all deleted, of which each has something anew.
    fn layers(&mut self) {
        let count = 2 + self.chance.below(self.chance.one(&[4, 12, 60]));
        let mut names = Vec::new();
        for _ in 0..count {
            match self.chance.below(4) {
                0 => self.tree(),
                _ => self.contents(false),
            }
            let before = self.given;
            self.take();
            names.push(format!("s{}", before + 1).into_bytes());
        }
        for name in names {
            if self.chance.below(12) != 0 && self.held.remove(&name).is_some() {
                self.note("delete", String::from_utf8_lossy(&name).into_owned());
                let done = self.names.delete(self.mounted(), &name);
                done.unwrap_or_else(|why| panic!("delete: {why}"));
            }
        }
    }

    fn sweep(&mut self) -> bool {
        let more = self.names.sweep(self.mounted());
        let more = more.unwrap_or_else(|why| panic!("sweep: {why}"));
        self.note("sweep", format!("{more}"));
        more
    }

    fn sweep_all(&mut self) {
        let mut steps = 0;
        while self
            .names
            .sweep(self.mounted())
            .unwrap_or_else(|why| panic!("sweep: {why}"))
        {
            steps += 1;
            assert!(steps < 20_000, "sweeping does not end");
        }
        self.note("sweep_all", format!("{steps}"));
    }

    fn forget_orphans(&mut self) {
        self.resumed += resume(self.mounted(), &self.names).expect("resumed");
        for held in self.held.values_mut().filter(|held| held.is_head) {
            held.files = held.files.without_orphans();
            let left = &held.files.files;
            held.bytes.retain(|number, _| left.contains_key(number));
        }
    }

    fn again(&mut self) {
        self.note("mount", String::new());
        self.mounted
            .take()
            .expect("mounted")
            .close()
            .expect("closed");
        self.mounted = Some(desk::mount(&self.chance, &self.fleet));
        self.names = desk::names();
        if self.chance.below(2) == 0 {
            self.forget_orphans();
        }
    }

    fn compare(&self) {
        let found = found(self.mounted(), &self.names).unwrap_or_else(|why| panic!("{why}"));
        if let Some(why) = difference(&self.held, &found) {
            panic!("{why}");
        }
    }

    /// All is swept, and nothing is left.
    fn audit(&mut self) {
        self.sweep_all();
        self.compare();
        let idle = strict(self.mounted());
        self.idle += idle.unwrap_or_else(|why| panic!("swept: {why}"));
        must("audit", contents::audit(self.mounted()).map(drop));
    }

    /// Some things are done, and the power fails anywhere among them.
    fn crash(&mut self) {
        let inline = self.inline;
        if self.chance.below(2) == 0 {
            // So much in the tree that moving it takes more than one group of the journal.
            self.inline = 8;
            for _ in 0..3 {
                self.long_write();
                if self.chance.below(2) == 0 {
                    self.take();
                }
            }
        }
        self.inline = inline;
        self.mounted().sync().expect("durable");
        self.fleet.record();
        let mut left = vec![self.held.clone()];
        for _ in 0..1 + self.chance.below(4) {
            match self.chance.below(12) {
                0..6 => self.contents(true),
                6 => {
                    self.tree();
                    if self.chance.below(2) == 0 {
                        self.mounted().sync().expect("durable");
                    }
                }
                7 => self.take(),
                8 => self.delete(4),
                _ => drop(self.sweep()),
            }
            left.push(self.held.clone());
        }
        let recording = self.fleet.recorded();
        let plan = Plan {
            seed: self.chance.next(),
            subsets: 2,
            tears: 1,
            mixed: 5,
        };
        let goes_on = self.chance.below(2) == 0;
        let states: Vec<_> = recording.some(plan, 4.0).collect();
        let count = states.len();
        for (n, (state, own)) in states.into_iter().enumerate() {
            self.crashes += 1;
            let said = format!("after {state}");
            let snapshot = recording.at(&state).expect("a state");
            let fleet = Fleet::start(own.next(), &snapshot);
            let mounted = machine::mount(own.next(), &fleet, machine::READ_WRITE);
            let mounted = mounted.unwrap_or_else(|why| panic!("{said}: {why}"));
            let names = desk::names();
            let there = found(&mounted, &names).unwrap_or_else(|why| panic!("{said}: {why}"));
            let Some(at) = left.iter().rposition(|left| *left == there) else {
                let why: Vec<_> = left.iter().map(|l| difference(l, &there)).collect();
                panic!("{said}: no prefix: {why:#?}");
            };
            if goes_on && n + 1 == count {
                self.log.push(format!("{said}, which is as of {at}"));
                self.held = left.swap_remove(at);
                (self.fleet, self.names) = (fleet, names);
                self.mounted = Some(mounted);
                return self.forget_orphans();
            }
            let count = resume(&mounted, &names);
            self.resumed += count.unwrap_or_else(|why| panic!("{said}: {why}"));
            let mut steps = 0;
            while names
                .sweep(&mounted)
                .unwrap_or_else(|why| panic!("{said}: sweep: {why}"))
            {
                steps += 1;
                assert!(steps < 20_000, "{said}: sweeping does not end");
            }
            let after = found(&mounted, &names).unwrap_or_else(|why| panic!("{said}: {why}"));
            let mut model = left[at].clone();
            for held in model.values_mut().filter(|held| held.is_head) {
                held.files = held.files.without_orphans();
                let left = &held.files.files;
                held.bytes.retain(|number, _| left.contains_key(number));
            }
            if let Some(why) = difference(&model, &after) {
                panic!("{said}, swept: {why}");
            }
            must(&said, strict(&mounted).map(drop));
            must(&said, contents::audit(&mounted).map(drop));
        }
    }

    /// Takes nearly all room, or gives it back.
    fn fill(&mut self) {
        let name = self.one(true).expect("a head");
        let view = self.names.open(self.mounted(), &name).expect("opened");
        let mounted = self.mounted.as_ref().expect("mounted");
        let files = self.names.of(mounted, &view);
        let known = self.held[&name].files.lookup(ROOT, b"filler").ok();
        let file = match known {
            Some(file) => file,
            None => {
                let new = New {
                    what: What::Regular,
                    now: NOW,
                    ..clerk::root()
                };
                let Ok(made) = files.create(InodeNo::ROOT, b"filler", &new) else {
                    return;
                };
                let number = made.what.number.0;
                let held = self.held.get_mut(&name).expect("known");
                let mut file = File::new(FileType::Regular, NOW);
                file.permissions = new.permissions;
                held.files
                    .create(ROOT, b"filler", number, file)
                    .expect("made");
                held.bytes.insert(number, Arc::default());
                number
            }
        };
        let from = self.held[&name].bytes[&file].len() as u64 / BLOCK + LONGEST;
        let mut at = from;
        for step in [1024, 64, 8, 1] {
            while files
                .preallocate(
                    InodeNo(file),
                    FileBlock(at),
                    FileBlock(at + step),
                    None,
                    NOW,
                )
                .is_ok()
            {
                at += step;
            }
        }
        // A little is left now and then.
        let back = self.chance.one(&[0, 0, 8, 60]);
        let (a, b) = (FileBlock(at.saturating_sub(back).max(from)), FileBlock(at));
        let punched = files.punch(InodeNo(file), a.start(), b.start(), NOW);
        drop(view);
        self.note(
            "fill",
            format!(
                "{} to {at}, {back} back: {punched:?}",
                String::from_utf8_lossy(&name)
            ),
        );
    }

    fn steps(&mut self, count: usize) {
        let sweeps = self.chance.one(&[0, 1, 4, 12]);
        let deletes = self.chance.one(&[4, 8, 16]);
        let takes = self.chance.one(&[4, 8, 20]);
        let grows = self.chance.one(&[0, 1, 4]);
        let trees = self.chance.one(&[2, 12]);
        let fills = if self.is_small { 2 } else { 0 };
        let layers = self.chance.one(&[0, 0, 1, 3]);
        let crashes = self.chance.one(&[1, 1, 4]);
        for n in 0..count {
            let weights = [
                20, trees, takes, grows, deletes, sweeps, fills, 1, 1, layers, 1, crashes,
            ];
            let mut drawn = self.chance.below(weights.iter().sum());
            let what = weights.iter().position(|w| match drawn.checked_sub(*w) {
                Some(less) => {
                    drawn = less;
                    false
                }
                None => true,
            });
            match what {
                Some(0) => self.contents(false),
                Some(1) => self.tree(),
                Some(2) => self.take(),
                Some(3) => self.grow(),
                Some(4) => self.delete(4),
                Some(5) => drop(self.sweep()),
                Some(6) => self.fill(),
                Some(7) => self.mounted().checkpoint().expect("a checkpoint"),
                Some(8) => self.again(),
                Some(9) => self.layers(),
                Some(10) => self.rebundle(),
                _ => self.crash(),
            }
            if n % 8 == 0 {
                self.compare();
                must("audit", contents::audit(self.mounted()).map(drop));
            }
        }
        self.audit();
    }

    /// Deletes all but what the volume shows by itself, and then that, too.
    fn clear(&mut self) {
        let mut names: Vec<_> = self
            .held
            .keys()
            .filter(|name| !name.is_empty())
            .cloned()
            .collect();
        while !names.is_empty() {
            let name = names.swap_remove(self.chance.below(names.len()));
            self.note("delete", String::from_utf8_lossy(&name).into_owned());
            self.names
                .delete(self.mounted(), &name)
                .unwrap_or_else(|why| panic!("delete: {why}"));
            self.held.remove(&name);
            for _ in 0..self.chance.below(3) {
                match self.chance.below(4) {
                    0 => self.contents(false),
                    1 => self.tree(),
                    _ => drop(self.sweep()),
                }
            }
        }
        self.audit();
        let left = contents::scan(self.mounted(), SNAPSHOTS).expect("scanned");
        assert!(left.len() <= 2, "{left:?}");
        self.forget_orphans();
        let main = self.held[&b""[..]].files.clone();
        let view = self.names.open(self.mounted(), b"").expect("opened");
        let files = self.names.of(self.mounted(), &view);
        for name in main.files[&ROOT].entries.keys() {
            let done = files.unlink(InodeNo::ROOT, name, Users::None, NOW);
            done.unwrap_or_else(|why| panic!("unlink: {why}"));
        }
        assert_eq!(contents::audit(self.mounted()), Ok(0));
        let owners: BTreeSet<u64> = contents::scan(self.mounted(), NAMES)
            .expect("scanned")
            .iter()
            .map(|(key, _)| Item::of(*key).0.owner().0)
            .collect();
        assert!(
            owners.iter().all(|owner| *owner <= ROOT),
            "{owners:?} are left"
        );
    }
}

/// As a mount does with each head.
fn resume(mounted: &Mounted<Simulated>, names: &Names) -> Result<u64, String> {
    let failed = |why: Error| format!("resume: {why}");
    let mut count = 0;
    for one in names
        .snapshots(mounted)
        .map_err(failed)?
        .iter()
        .filter(|one| one.is_head)
    {
        let view = names.open(mounted, &one.name).map_err(failed)?;
        let files = names.of(mounted, &view);
        count += files.resume().map_err(failed)?;
        files.forget_orphans().map_err(failed)?;
    }
    Ok(count)
}

fn run(seed: u64, steps: usize, total: &mut BTreeMap<String, u64>) {
    let mut run = Run::new(seed);
    let done = catch_unwind(AssertUnwindSafe(|| {
        run.steps(steps);
        run.clear();
    }));
    if let Err(why) = done {
        println!("{}", run.log.join("\n"));
        resume_unwind(why);
    }
    let mut add = |what: String, count| *total.entry(what).or_default() += count;
    run.done
        .iter()
        .for_each(|(what, count)| add(what.to_string(), *count));
    run.full
        .iter()
        .for_each(|(what, count)| add(format!("{what} without room"), *count));
    add("crashes".into(), run.crashes);
    add("resumed".into(), run.resumed);
    add("idle holes".into(), run.idle);
}

#[test]
fn whatever_happens_nothing_is_left_and_nothing_is_lost() {
    let chance = Chance::new(seed());
    let runs = std::env::var("EMBRFS_COUNT").map_or(40, |n| n.parse().expect("a number"));
    let mut total = BTreeMap::new();
    for _ in 0..runs {
        run(chance.next(), 60, &mut total);
    }
    println!("{total:?}");
}

/// A volume with a head, for what is told step by step.
struct Told {
    mounted: Mounted<Simulated>,
    names: Names,
}

impl Told {
    fn new() -> Self {
        let chance = Chance::new(seed());
        let fleet = desk::drives(&chance, Bytes(64 << 20), 1, (1, 0));
        let (mounted, names) = (desk::mount(&chance, &fleet), desk::names());
        let first = View::first();
        names
            .of(&mounted, &first)
            .format(&clerk::root())
            .expect("formatted");
        Told { mounted, names }
    }

    fn on<R>(&self, head: &str, act: impl FnOnce(Files<'_, Simulated>) -> R) -> R {
        let view = self
            .names
            .open(&self.mounted, head.as_bytes())
            .expect("opened");
        act(self.names.of(&self.mounted, &view))
    }

    fn take(&self, head: &str, name: &str) {
        self.on(head, |files| {
            files.take_snapshot(name.as_bytes(), NOW).expect("taken")
        });
    }

    fn delete(&self, name: &str) {
        self.names
            .delete(&self.mounted, name.as_bytes())
            .expect("deleted");
    }

    fn write(&self, head: &str, file: InodeNo, at: u64) {
        self.on(head, |files| {
            desk::write(files, file, at, &desk::pattern(1, at + 1), Way::Sealed)
        });
    }

    fn swept(&self) {
        while self.names.sweep(&self.mounted).expect("swept") {}
        must("swept", strict(&self.mounted).map(drop));
        must("audit", contents::audit(&self.mounted).map(drop));
    }
}

#[test]
fn what_an_inode_had_goes_though_it_was_touched_before_it_was_removed() {
    let told = Told::new();
    let file = told.on("", |files| desk::create(files, b"f"));
    let other = told.on("", |files| desk::create(files, b"g"));
    told.write("", file, 0);
    told.write("", other, 0);
    told.take("", "one");
    told.write("", file, 40);
    // What is given back of this takes the rest to another transaction.
    told.write("", other, 0);
    told.take("", "two");
    told.on("", |files| {
        files
            .unlink(InodeNo::ROOT, b"f", Users::None, NOW)
            .expect("unlinked")
    });
    told.delete("two");
    told.swept();
    told.delete("one");
    told.swept();
}

#[test]
fn what_is_in_many_pieces_is_swept_once_they_may_be_one() {
    let told = Told::new();
    let file = told.on("", |files| desk::create(files, b"f"));
    told.take("", "base");
    told.names
        .grow(&told.mounted, b"base", b"other", NOW)
        .expect("grown");
    // The numbers of one lie between those of the other.
    for n in 0..260 {
        told.write("", file, n % 7);
        told.take("", "s");
        told.delete("s");
        while told.names.sweep(&told.mounted).expect("swept") {}
        told.on("other", |files| {
            files
                .take_snapshot(format!("o{n}").as_bytes(), NOW)
                .expect("taken")
        });
    }
    let most = nodes(&told.mounted)
        .expect("nodes")
        .iter()
        .map(|(_, n)| n.own.len())
        .max();
    println!("up to {most:?} spans");
    for n in 0..260 {
        told.delete(&format!("o{n}"));
    }
    told.delete("other");
    told.delete("base");
    told.swept();
}
