// SPDX-License-Identifier: GPL-2.0

//! A plain model of what a storm does: names, and which writes each block of a file had. Nothing here touches a file system.

use crate::chance::Chance;
use std::collections::BTreeMap;

/// Names that there can be in each directory.
const NAMES: u64 = 8;
/// Directories, the root among them.
const DIRECTORIES: u64 = 4;
/// Blocks that a file can have.
const BLOCKS: u64 = 40;

/// One step.
#[derive(Clone, Debug)]
pub enum Op {
    /// Makes a file; the number is its own from now on.
    Create(String, u32),
    /// Gives a file an owner.
    Own(String, u32),
    /// Makes a directory.
    MakeDirectory(String),
    /// Removes an empty directory.
    RemoveDirectory(String),
    /// Takes a name away.
    Unlink(String),
    /// Gives a file one more name.
    Link(String, String),
    /// Makes a symbolic link.
    Symlink(String, String),
    /// Renames, over what is there.
    Rename(String, String),
    /// Cuts a file off, or lets it grow, to so many blocks.
    Truncate(String, u64),
    /// Writes blocks.
    Write(String, u32, u64, u64),
    /// Makes a file durable, and every name.
    SyncFile(String),
    /// Makes everything durable.
    SyncAll,
}

/// What a name leads to, as stat(2) tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory with so many links.
    Directory(u64),
    /// A symbolic link.
    Symlink(String),
    /// A file.
    File {
        /// Its owner.
        owner: u32,
        /// How many names it has.
        links: u64,
    },
}

#[derive(Clone, Debug)]
enum Node {
    Directory,
    Symlink(String),
    File(u32),
}

#[derive(Clone, Debug, Default)]
struct Block {
    writes: Vec<u64>,
    /// The newest write that is durable.
    durable: Option<u64>,
    /// The step that last cut it off.
    cut: u64,
}

#[derive(Clone, Debug, Default)]
struct File {
    owner: u32,
    blocks: BTreeMap<u64, Block>,
    size: u64,
    /// Its least size from here on.
    durable: u64,
}

/// Everything that there is.
#[derive(Clone, Debug, Default)]
pub struct World {
    names: BTreeMap<String, Node>,
    files: BTreeMap<u32, File>,
    made: u32,
}

fn directory_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

impl World {
    /// Nothing.
    pub fn new() -> Self {
        World::default()
    }

    fn name(&self, chance: &mut Chance) -> String {
        let directory = format!("d{}", chance.below(DIRECTORIES));
        let name = format!("f{}", chance.below(NAMES));
        match self.names.get(&directory) {
            Some(Node::Directory) => format!("{directory}/{name}"),
            _ => name,
        }
    }

    fn file(&self, name: &str) -> Option<u32> {
        match self.names.get(name) {
            Some(Node::File(id)) => Some(*id),
            _ => None,
        }
    }

    /// Names that lead to files, and the files.
    pub fn files(&self) -> impl Iterator<Item = (&String, u32)> {
        self.names.iter().filter_map(|(name, node)| match node {
            Node::File(id) => Some((name, *id)),
            _ => None,
        })
    }

    /// The next step: one that works.
    pub fn choose(&self, chance: &mut Chance) -> Op {
        loop {
            if let Some(op) = self.try_choose(chance) {
                return op;
            }
        }
    }

    fn try_choose(&self, chance: &mut Chance) -> Option<Op> {
        let name = self.name(chance);
        let node = self.names.get(&name);
        let file = self.file(&name);
        let kind = chance.below(32);
        match kind {
            0..=3 if node.is_none() => Some(Op::Create(name, self.made + 1)),
            4 if file.is_some() => Some(Op::Own(name, chance.below(60_000) as u32 + 1)),
            5 => {
                let name = format!("d{}", chance.below(DIRECTORIES));
                match self.names.contains_key(&name) {
                    false => Some(Op::MakeDirectory(name)),
                    true => None,
                }
            }
            6 => {
                let name = format!("d{}", chance.below(DIRECTORIES));
                let inside = format!("{name}/");
                let empty = !self.names.keys().any(|n| n.starts_with(&inside));
                match self.names.get(&name) {
                    Some(Node::Directory) if empty => Some(Op::RemoveDirectory(name)),
                    _ => None,
                }
            }
            7..=8 if matches!(node, Some(Node::File(_) | Node::Symlink(_))) => {
                Some(Op::Unlink(name))
            }
            9..=10 if file.is_some() => {
                let new = self.name(chance);
                match self.names.contains_key(&new) {
                    false => Some(Op::Link(name, new)),
                    true => None,
                }
            }
            11 if node.is_none() => Some(Op::Symlink(name, format!("to-{}", chance.below(1000)))),
            12..=15 if file.is_some() => {
                let new = self.name(chance);
                // Two names of one file: renaming one to the other does nothing.
                match self.file(&new) {
                    Some(other) if Some(other) == file => None,
                    _ => Some(Op::Rename(name, new)),
                }
            }
            16 if file.is_some() => Some(Op::Truncate(name, chance.below(BLOCKS))),
            17..=28 if file.is_some() => {
                let first = chance.below(BLOCKS);
                let blocks = 1 + chance.below(BLOCKS - first).min(chance.below(12));
                Some(Op::Write(name, file?, first, blocks))
            }
            29..=30 if file.is_some() => Some(Op::SyncFile(name)),
            31 if chance.below(4) == 0 => Some(Op::SyncAll),
            _ => None,
        }
    }

    /// Makes a step happen.
    pub fn apply(&mut self, op: &Op, number: u64) {
        match op {
            Op::Create(name, id) => {
                self.names.insert(name.clone(), Node::File(*id));
                self.files.insert(*id, File::default());
                self.made = *id;
            }
            Op::Own(name, owner) => {
                if let Some(file) = self.file(name).and_then(|id| self.files.get_mut(&id)) {
                    file.owner = *owner;
                }
            }
            Op::MakeDirectory(name) => {
                self.names.insert(name.clone(), Node::Directory);
            }
            Op::RemoveDirectory(name) | Op::Unlink(name) => {
                self.names.remove(name);
            }
            Op::Link(old, new) => {
                if let Some(node) = self.names.get(old).cloned() {
                    self.names.insert(new.clone(), node);
                }
            }
            Op::Symlink(name, target) => {
                self.names
                    .insert(name.clone(), Node::Symlink(target.clone()));
            }
            Op::Rename(old, new) => {
                // Who replaces a file finds the old bytes or the new ones, whatever happens.
                let replaces = self.file(new).is_some();
                if let Some(node) = self.names.remove(old) {
                    if let (Node::File(id), true) = (&node, replaces) {
                        self.all_durable(*id);
                    }
                    self.names.insert(new.clone(), node);
                }
            }
            Op::Truncate(name, blocks) => {
                if let Some(file) = self.file(name).and_then(|id| self.files.get_mut(&id)) {
                    for (at, block) in file.blocks.iter_mut() {
                        if at >= blocks {
                            block.cut = number;
                            block.durable = None;
                        }
                    }
                    file.size = *blocks;
                    file.durable = *blocks;
                }
            }
            Op::Write(_, id, first, blocks) => {
                if let Some(file) = self.files.get_mut(id) {
                    for at in *first..first + blocks {
                        file.blocks.entry(at).or_default().writes.push(number);
                    }
                    file.size = file.size.max(first + blocks);
                }
            }
            Op::SyncFile(_) | Op::SyncAll => {}
        }
    }

    /// What this step made durable stays so.
    pub fn make_durable(&mut self, op: &Op) {
        match op {
            Op::SyncFile(name) => {
                if let Some(id) = self.file(name) {
                    self.all_durable(id);
                }
            }
            Op::SyncAll => {
                let ids: Vec<u32> = self.files.keys().copied().collect();
                ids.into_iter().for_each(|id| self.all_durable(id));
            }
            _ => {}
        }
    }

    fn all_durable(&mut self, id: u32) {
        if let Some(file) = self.files.get_mut(&id) {
            for block in file.blocks.values_mut() {
                if let Some(last) = block.writes.last().filter(|n| **n > block.cut) {
                    block.durable = Some(*last);
                }
            }
            file.durable = file.size;
        }
    }

    /// How these names differ from what there is; None if they do not.
    pub fn differs(&self, found: &BTreeMap<String, Kind>) -> Option<String> {
        let mut links: BTreeMap<u32, u64> = BTreeMap::new();
        let mut inside: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, node) in &self.names {
            match node {
                Node::File(id) => *links.entry(*id).or_default() += 1,
                Node::Directory => *inside.entry(directory_of(name)).or_default() += 1,
                Node::Symlink(_) => {}
            }
        }
        if let Some(name) = found.keys().find(|n| !self.names.contains_key(*n)) {
            return Some(format!("{name} should not be there"));
        }
        for (name, node) in &self.names {
            let wanted = match node {
                Node::Directory => {
                    Kind::Directory(2 + inside.get(name.as_str()).copied().unwrap_or(0))
                }
                Node::Symlink(target) => Kind::Symlink(target.clone()),
                Node::File(id) => Kind::File {
                    owner: self.files.get(id).map_or(0, |f| f.owner),
                    links: links.get(id).copied().unwrap_or(0),
                },
            };
            match found.get(name) {
                Some(kind) if *kind == wanted => {}
                other => return Some(format!("{name} is {other:?}, wanted {wanted:?}")),
            }
        }
        None
    }

    /// The least that a file can have.
    pub fn durable_blocks(&self, id: u32) -> u64 {
        self.files.get(&id).map_or(0, |f| f.durable)
    }

    fn block(&self, id: u32, block: u64) -> Option<&Block> {
        self.files.get(&id).and_then(|f| f.blocks.get(&block))
    }

    /// The oldest write whose bytes a block may hold; None if it may be zeros.
    pub fn oldest_allowed(&self, id: u32, block: u64) -> Option<u64> {
        self.block(id, block).and_then(|b| b.durable)
    }

    /// The step that last cut a block off.
    pub fn cut(&self, id: u32, block: u64) -> u64 {
        self.block(id, block).map_or(0, |b| b.cut)
    }

    /// Whether a write with this number put something there.
    pub fn was_written(&self, id: u32, block: u64, number: u64) -> bool {
        self.block(id, block)
            .is_some_and(|b| b.writes.contains(&number))
    }
}
