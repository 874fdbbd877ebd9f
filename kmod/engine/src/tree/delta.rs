// SPDX-License-Identifier: GPL-2.0

//! Changes of a tree that are in memory and not yet in its base: an ordered map of three levels. Changing it never fails and
//! never allocates once room was [reserved](Delta::reserve), so a transaction applies wholly or not at all.

use crate::error::NoMem;
use crate::tree::change::Change;
use crate::tree::change::Changes;
use crate::tree::change::Range;
use crate::tree::key::Key;
use embr_rt::Vec;

/// Entries in a leaf, at most.
const LEAF: usize = 64;
/// Leaves in a branch, at most.
const BRANCH: usize = 96;
/// What an entry takes besides its value.
const ENTRY_BYTES: usize = core::mem::size_of::<Entry>();

/// One key's change; no value means that the key is gone.
#[derive(Debug)]
struct Entry {
    key: Key,
    value: Option<Vec<u8>>,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES.saturating_add(self.value.as_ref().map_or(0, Vec::capacity))
    }

    fn change(&self) -> (Key, Change<'_>) {
        let change = match &self.value {
            Some(value) => Change::Set(value),
            None => Change::Gone,
        };
        (self.key, change)
    }
}

/// Never empty while it is in a branch.
type Leaf = Vec<Entry>;
/// Never empty while it is in a delta.
type Branch = Vec<Leaf>;

/// What a delta knows of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known<'a> {
    /// The key has this value.
    Set(&'a [u8]),
    /// The key is gone.
    Gone,
    /// Nothing happened to the key here.
    Nothing,
}

/// Changes in memory, in order of their keys.
#[derive(Debug, Default)]
pub struct Delta {
    branches: Vec<Branch>,
    /// Ranges that are gone, older than all entries in them; they neither overlap nor touch.
    gone: Vec<Range>,
    spare_leaves: Vec<Leaf>,
    spare_branches: Vec<Branch>,
    entries: usize,
    bytes: usize,
}

/// What room a delta is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lack {
    leaves: Spares,
    branches: Spares,
    /// How large the list of branches has to be, none if it is large enough.
    index: usize,
    /// The list of ranges likewise.
    gone: usize,
}

/// Empty leaves or branches to spare.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Spares {
    here: usize,
    wanted: usize,
}

impl Spares {
    fn missing(self) -> usize {
        self.wanted.saturating_sub(self.here)
    }

    /// Those that are missing, each of this capacity, in a list that has room for all.
    fn make<T>(self, capacity: usize) -> Result<Vec<Vec<T>>, NoMem> {
        let mut new = Vec::new();
        if self.missing() != 0 {
            new.try_reserve(self.wanted)?;
        }
        for _ in 0..self.missing() {
            new.push(Vec::try_with_capacity(capacity)?)?;
        }
        Ok(new)
    }
}

impl Lack {
    /// Whether nothing is missing.
    pub fn is_nothing(&self) -> bool {
        self.leaves.missing() == 0
            && self.branches.missing() == 0
            && self.index == 0
            && self.gone == 0
    }
}

/// Room for changes, made while nobody waits for the delta.
#[derive(Debug)]
pub struct Room {
    leaves: Vec<Leaf>,
    branches: Vec<Branch>,
    index: Vec<Branch>,
    gone: Vec<Range>,
}

impl Room {
    /// As much as is missing.
    pub fn try_new(lack: Lack) -> Result<Self, NoMem> {
        Ok(Room {
            leaves: lack.leaves.make(LEAF)?,
            branches: lack.branches.make(BRANCH)?,
            index: Vec::try_with_capacity(lack.index)?,
            gone: Vec::try_with_capacity(lack.gone)?,
        })
    }
}

/// How large a list has to be made that takes `more`; it doubles, so that this is rare.
fn growth<T>(list: &Vec<T>, more: usize) -> usize {
    let wanted = list.len().saturating_add(more);
    if wanted <= list.capacity() {
        return 0;
    }
    wanted.max(list.len().saturating_mul(2))
}

/// Moves what a list holds into the `larger` one, and puts that in its place.
fn replace<T>(list: &mut Vec<T>, mut larger: Vec<T>) -> Result<(), NoMem> {
    if larger.capacity() == 0 {
        return Ok(());
    }
    larger.try_append(list)?;
    *list = larger;
    Ok(())
}

fn first_of_leaf(leaf: &Leaf) -> Key {
    leaf.first().map_or(Key::MAX, |e| e.key)
}

fn last_of_leaf(leaf: &Leaf) -> Key {
    leaf.last().map_or(Key::MIN, |e| e.key)
}

fn first_of_branch(branch: &Branch) -> Key {
    branch.first().map_or(Key::MAX, first_of_leaf)
}

impl Delta {
    /// No changes.
    pub const fn new() -> Self {
        Delta {
            branches: Vec::new(),
            gone: Vec::new(),
            spare_leaves: Vec::new(),
            spare_branches: Vec::new(),
            entries: 0,
            bytes: 0,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.entries == 0 && self.gone.is_empty()
    }

    /// How many keys changed, those in ranges not counted.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// About how much memory it holds.
    pub fn bytes(&self) -> usize {
        self.bytes.saturating_add(
            self.gone
                .len()
                .saturating_mul(core::mem::size_of::<Range>()),
        )
    }

    /// Makes room for `changes` further changes of keys and `ranges` of ranges: they will not fail.
    pub fn reserve(&mut self, changes: usize, ranges: usize) -> Result<(), NoMem> {
        let room = Room::try_new(self.lack(changes, ranges))?;
        self.move_into(room)
    }

    /// What room is missing for so many changes.
    pub fn lack(&self, changes: usize, ranges: usize) -> Lack {
        // A range that ends within a leaf leaves the leaf's end behind, at most once per range; nothing is split.
        Lack {
            leaves: Spares {
                here: self.spare_leaves.len(),
                wanted: changes,
            },
            branches: Spares {
                here: self.spare_branches.len(),
                wanted: changes,
            },
            index: growth(&self.branches, changes),
            gone: growth(&self.gone, ranges),
        }
    }

    /// Takes over room that was made meanwhile. Needs no memory if the changes that it was [lacking](Self::lack) for are all that came.
    pub fn move_into(&mut self, room: Room) -> Result<(), NoMem> {
        replace(&mut self.spare_leaves, room.leaves)?;
        replace(&mut self.spare_branches, room.branches)?;
        replace(&mut self.branches, room.index)?;
        replace(&mut self.gone, room.gone)
    }

    /// The place of the leaf that has the key, or would: the last that begins at or before it, else the first.
    fn leaf_of(&self, key: Key) -> (usize, usize) {
        let branch = self
            .branches
            .partition_point(|b| first_of_branch(b) <= key)
            .saturating_sub(1);
        let leaf = self.branches.get(branch).map_or(0, |b| {
            b.partition_point(|l| first_of_leaf(l) <= key)
                .saturating_sub(1)
        });
        (branch, leaf)
    }

    fn leaf(&self, branch: usize, leaf: usize) -> Option<&Leaf> {
        self.branches.get(branch)?.get(leaf)
    }

    /// What happened to the key here.
    pub fn get(&self, key: Key) -> Known<'_> {
        let (branch, leaf) = self.leaf_of(key);
        let entry = self.leaf(branch, leaf).and_then(|l| {
            let at = l.binary_search_by(|e| e.key.cmp(&key)).ok()?;
            l.get(at)
        });
        match entry.map(Entry::change) {
            Some((_, Change::Set(value))) => Known::Set(value),
            Some((_, Change::Gone)) => Known::Gone,
            None if self.is_gone(key) => Known::Gone,
            None => Known::Nothing,
        }
    }

    /// Whether the key lies in a range that is gone; it may have been set since.
    pub fn is_gone(&self, key: Key) -> bool {
        self.gone_at_or_after(key).is_some_and(|r| r.has(key))
    }

    /// Gives the key a value. Room must be reserved.
    pub fn set(&mut self, key: Key, value: Vec<u8>) -> Result<(), NoMem> {
        self.put(Entry {
            key,
            value: Some(value),
        })
    }

    /// Removes the key. Room must be reserved.
    pub fn remove(&mut self, key: Key) -> Result<(), NoMem> {
        self.put(Entry { key, value: None })
    }

    fn put(&mut self, entry: Entry) -> Result<(), NoMem> {
        let (b, l) = self.leaf_of(entry.key);
        let grows = entry.bytes();
        let Some(branch) = self.branches.get_mut(b) else {
            let leaf = Self::take_spare(&mut self.spare_leaves, LEAF)?;
            let mut branch = Self::take_spare(&mut self.spare_branches, BRANCH)?;
            branch.push(leaf)?;
            self.branches.push(branch)?;
            return self.put(entry);
        };
        let full = branch.len() >= BRANCH;
        let Some(leaf) = branch.get_mut(l) else {
            return Ok(());
        };
        match leaf.binary_search_by(|e| e.key.cmp(&entry.key)) {
            Ok(at) => {
                if let Some(old) = leaf.get_mut(at) {
                    self.bytes = self.bytes.saturating_sub(old.bytes()).saturating_add(grows);
                    *old = entry;
                }
                return Ok(());
            }
            Err(at) if leaf.len() < LEAF => leaf.insert(at, entry)?,
            // Keys that come in rising order fill their leaves.
            Err(LEAF) if !full => {
                let mut new = Self::take_spare(&mut self.spare_leaves, LEAF)?;
                new.push(entry)?;
                branch.insert(l.saturating_add(1), new)?;
            }
            Err(_) if full => {
                let mut new = Self::take_spare(&mut self.spare_branches, BRANCH)?;
                Self::move_tail(
                    branch,
                    &mut new,
                    if l.saturating_add(1) == BRANCH {
                        l
                    } else {
                        BRANCH / 2
                    },
                )?;
                self.branches.insert(b.saturating_add(1), new)?;
                return self.put(entry);
            }
            Err(_) => {
                let mut new = Self::take_spare(&mut self.spare_leaves, LEAF)?;
                Self::move_tail(leaf, &mut new, LEAF / 2)?;
                branch.insert(l.saturating_add(1), new)?;
                return self.put(entry);
            }
        }
        self.entries = self.entries.saturating_add(1);
        self.bytes = self.bytes.saturating_add(grows);
        Ok(())
    }

    fn take_spare<T>(spare: &mut Vec<Vec<T>>, capacity: usize) -> Result<Vec<T>, NoMem> {
        match spare.pop() {
            Some(v) => Ok(v),
            None => Vec::try_with_capacity(capacity),
        }
    }

    /// Moves what lies from `at` on to the empty `new`, which has the room.
    fn move_tail<T>(from: &mut Vec<T>, new: &mut Vec<T>, at: usize) -> Result<(), NoMem> {
        let n = from.len().saturating_sub(at);
        for _ in 0..n {
            if let Some(item) = from.pop() {
                new.push(item)?;
            }
        }
        new.as_mut_slice().reverse();
        Ok(())
    }

    /// Removes every key of the range. Room must be reserved.
    pub fn remove_range(&mut self, range: Range) -> Result<(), NoMem> {
        self.gone.try_reserve(1)?;
        self.drop_entries(range);
        self.join_gone(range)
    }

    /// The ranges that are gone which overlap this one or touch it: from one to before the other.
    fn gone_beside(&self, range: Range) -> (usize, usize) {
        let low = range.first.previous().unwrap_or(range.first);
        let high = range.last.next().unwrap_or(range.last);
        let from = self.gone.partition_point(|r| r.last < low);
        let rest = self.gone.get(from..).unwrap_or_default();
        let count = rest.partition_point(|r| r.first <= high);
        (from, from.saturating_add(count))
    }

    /// Puts the range into the list of those that are gone, as one with all that it overlaps or touches.
    fn join_gone(&mut self, range: Range) -> Result<(), NoMem> {
        let (from, to) = self.gone_beside(range);
        let beside = self.gone.get(from..to).unwrap_or_default();
        let joined = Range {
            first: beside
                .first()
                .map_or(range.first, |r| r.first.min(range.first)),
            last: beside.last().map_or(range.last, |r| r.last.max(range.last)),
        };
        let Some(place) = self.gone.get_mut(from).filter(|_| from < to) else {
            return self.gone.insert(from, joined);
        };
        *place = joined;
        let kept = from.saturating_add(1);
        let surplus = to.saturating_sub(kept);
        if surplus != 0 {
            let left = self.gone.len().saturating_sub(surplus);
            self.gone.copy_within(to.., kept);
            self.gone.truncate(left);
        }
        Ok(())
    }

    fn drop_entries(&mut self, range: Range) {
        let (mut entries, mut bytes) = (0usize, 0usize);
        let mut empty = false;
        let (first, _) = self.leaf_of(range.first);
        for branch in self.branches.iter_mut().skip(first) {
            if first_of_branch(branch) > range.last {
                break;
            }
            for leaf in branch.iter_mut() {
                let held = Range {
                    first: first_of_leaf(leaf),
                    last: last_of_leaf(leaf),
                };
                if !range.overlaps(&held) {
                    continue;
                }
                leaf.retain(|e| {
                    let goes = range.has(e.key);
                    if goes {
                        entries = entries.saturating_add(1);
                        bytes = bytes.saturating_add(e.bytes());
                    }
                    !goes
                });
            }
            branch.retain(|leaf| !leaf.is_empty());
            empty |= branch.is_empty();
        }
        if empty {
            self.branches.retain(|branch| !branch.is_empty());
        }
        self.entries = self.entries.saturating_sub(entries);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The change with the highest key that is not above `from`.
    pub fn at_or_before(&self, from: Key) -> Option<(Key, Change<'_>)> {
        let (branch, leaf) = self.leaf_of(from);
        let leaf = self.leaf(branch, leaf)?;
        let at = leaf.partition_point(|e| e.key <= from).checked_sub(1)?;
        leaf.get(at).map(Entry::change)
    }
}

impl Changes for Delta {
    fn at_or_after(&self, from: Key) -> Option<(Key, Change<'_>)> {
        let (b, l) = self.leaf_of(from);
        let leaf = self.leaf(b, l)?;
        let at = leaf.partition_point(|e| e.key < from);
        let entry = leaf
            .get(at)
            .or_else(|| self.leaf(b, l.saturating_add(1))?.first())
            .or_else(|| self.leaf(b.saturating_add(1), 0)?.first())?;
        Some(entry.change())
    }

    fn gone_at_or_after(&self, from: Key) -> Option<Range> {
        let at = self.gone.partition_point(|r| r.last < from);
        self.gone.get(at).copied()
    }
}

#[cfg(test)]
mod tests;
