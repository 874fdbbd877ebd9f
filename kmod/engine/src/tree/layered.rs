// SPDX-License-Identifier: GPL-2.0

//! A tree as a mounted volume has it: the active delta over the frozen one over the base. Readers hold the base while they
//! read it, so its nodes are not used again under them.

use crate::error::NoMem;
use crate::tree::change::Change;
use crate::tree::change::Changes;
use crate::tree::change::Range;
use crate::tree::cursor::Cursor;
use crate::tree::delta::Delta;
use crate::tree::delta::Known;
use crate::tree::delta::Room;
use crate::tree::error::TreeError;
use crate::tree::key::Key;
use crate::tree::nodes::Host;
use crate::tree::nodes::Nodes;
use crate::tree::Base;
use crate::tree::First;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::LockClass;
use embr_rt::RwLock;
use embr_rt::Vec;
use embr_rt::WriteGuard;

/// Words that keys begin with are counted together if they are alike modulo this.
const BUCKETS: usize = 32;

fn bucket(first: u64) -> usize {
    first as usize % BUCKETS
}

struct Layers {
    active: Delta,
    /// How often something was removed.
    removals: u64,
    /// How often something was set or removed, by the first words of keys.
    changes: [u64; BUCKETS],
    frozen: Option<Arc<Delta>>,
    base: Arc<Base>,
}

/// A tree in its three layers.
pub struct Layered {
    layers: RwLock<Layers>,
}

/// Changes of a tree that nobody sees yet.
pub struct Changing<'l>(WriteGuard<'l, Layers>);

impl Changing<'_> {
    /// Gives the key a value.
    pub fn set(&mut self, key: Key, value: Vec<u8>) -> Result<(), NoMem> {
        self.count(key, key);
        self.0.active.set(key, value)
    }

    /// Removes the key.
    pub fn remove(&mut self, key: Key) -> Result<(), NoMem> {
        self.count(key, key);
        self.0.removals = self.0.removals.wrapping_add(1);
        self.0.active.remove(key)
    }

    /// Removes every key of the range.
    pub fn remove_range(&mut self, range: Range) -> Result<(), NoMem> {
        self.count(range.first, range.last);
        self.0.removals = self.0.removals.wrapping_add(1);
        self.0.active.remove_range(range)
    }

    /// Something of these keys changes.
    fn count(&mut self, Key([first, ..]): Key, Key([last, ..]): Key) {
        let own = match first == last {
            true => bucket(first)..bucket(first).saturating_add(1),
            false => 0..BUCKETS,
        };
        for count in self.0.changes.get_mut(own).unwrap_or_default() {
            *count = count.wrapping_add(1);
        }
    }
}

/// What the layers below the active one are at some moment; it holds the base.
struct Below {
    frozen: Option<Arc<Delta>>,
    base: Arc<Base>,
}

impl Below {
    fn is_of(&self, layers: &Layers) -> bool {
        let same = match (&self.frozen, &layers.frozen) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        same && Arc::ptr_eq(&self.base, &layers.base)
    }
}

impl Layered {
    /// This base, and nothing changed since. Trees that are changed together need locks of classes of their own.
    pub fn try_new(base: Base, class: &'static LockClass) -> Result<Self, NoMem> {
        Ok(Layered {
            layers: RwLock::try_new(
                Layers {
                    active: Delta::new(),
                    removals: 0,
                    changes: [0; BUCKETS],
                    frozen: None,
                    base: Arc::try_new(base)?,
                },
                class,
            )?,
        })
    }

    /// What `read` makes of the key's value.
    pub fn get<H: Host, R>(
        &self,
        nodes: &Nodes<H>,
        key: Key,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>, TreeError> {
        let base = {
            let layers = self.layers.read();
            let mut known = layers.active.get(key);
            if let (Known::Nothing, Some(frozen)) = (known, &layers.frozen) {
                known = frozen.get(key);
            }
            match known {
                Known::Set(value) => return Ok(Some(read(value))),
                Known::Gone => return Ok(None),
                Known::Nothing => layers.base.clone(),
            }
        };
        base.get(nodes, key, read)
    }

    /// The first key of a range and its value, where it takes no scan to find that.
    pub fn first<H: Host>(
        &self,
        nodes: &Nodes<H>,
        range: Range,
    ) -> Result<First<(Key, Vec<u8>)>, TreeError> {
        let owned = |key, value: &[u8]| Ok::<_, NoMem>((key, Vec::try_from_slice(value)?));
        let (above, base) = {
            let layers = self.layers.read();
            let mut above: Option<(Key, &[u8])> = None;
            for delta in core::iter::once(&layers.active).chain(layers.frozen.as_deref()) {
                let gone = delta.gone_at_or_after(range.first);
                if gone.is_some_and(|gone| gone.overlaps(&range)) {
                    return Ok(First::Unclear);
                }
                match delta.at_or_after(range.first) {
                    Some((key, Change::Gone)) if range.has(key) => return Ok(First::Unclear),
                    // Of the same key the newer comes first.
                    Some((key, Change::Set(value))) if range.has(key) => {
                        above = above.filter(|(at, _)| *at <= key).or(Some((key, value)));
                    }
                    _ => {}
                }
            }
            let above = above.map(|(key, value)| owned(key, value)).transpose()?;
            match above {
                Some((key, value)) if key == range.first => return Ok(First::Found((key, value))),
                above => (above, layers.base.clone()),
            }
        };
        let before = match &above {
            // What it has from there on is of no interest.
            Some((key, _)) => key.previous().map(|last| Range { last, ..range }),
            None => Some(range),
        };
        let below = match before {
            Some(before) => base.first(nodes, before, owned)?,
            None => First::Nothing,
        };
        Ok(match (below, above) {
            (First::Found(found), _) => First::Found(found?),
            (First::Nothing, Some(above)) => First::Found(above),
            (First::Nothing, None) => First::Nothing,
            (First::Unclear, _) => First::Unclear,
        })
    }

    /// Goes through the keys of a range, upwards.
    pub fn scan<'a, H: Host>(&'a self, nodes: &'a Nodes<H>, range: Range) -> Scan<'a, H> {
        Scan {
            tree: self,
            nodes,
            rest: Some(range),
            down: false,
            below: None,
        }
    }

    /// Goes through the keys of a range, downwards.
    pub fn scan_back<'a, H: Host>(&'a self, nodes: &'a Nodes<H>, range: Range) -> Scan<'a, H> {
        Scan {
            down: true,
            ..self.scan(nodes, range)
        }
    }

    /// Makes room for so many changes of keys and of ranges: they will not fail. Nobody else changes it meanwhile; who reads it does not
    /// wait for the memory.
    pub fn reserve(&self, changes: usize, ranges: usize) -> Result<(), NoMem> {
        let lack = self.layers.read().active.lack(changes, ranges);
        if lack.is_nothing() {
            return Ok(());
        }
        let room = Room::try_new(lack)?;
        self.layers.write().active.move_into(room)
    }

    /// Begins changes that are seen together, once this is dropped. Room for them must be reserved.
    pub fn change(&self) -> Changing<'_> {
        Changing(self.layers.write())
    }

    /// How often something was removed since this was mounted: what is set in the same change as that is seen by who sees this number.
    pub fn removals(&self) -> u64 {
        self.layers.read().removals
    }

    /// How often something was changed of which the keys begin with this word, and of some others, since this was mounted. What was read between
    /// two looks at it that find the same is as it was at one moment.
    pub fn changes(&self, first: u64) -> u64 {
        let count = self.layers.read().changes.get(bucket(first)).copied();
        count.unwrap_or_default()
    }

    /// Bytes of memory that the active delta holds.
    pub fn active_bytes(&self) -> usize {
        self.layers.read().active.bytes()
    }

    /// Whether anything changed since the base was written.
    pub fn is_dirty(&self) -> bool {
        let layers = self.layers.read();
        !layers.active.is_empty() || layers.frozen.is_some()
    }

    /// Makes the active delta the frozen one. `cell`, which nobody else has, is what it is kept in; so this needs no memory.
    pub fn freeze(&self, mut cell: Arc<Delta>) {
        let mut layers = self.layers.write();
        if layers.active.is_empty() || layers.frozen.is_some() {
            return;
        }
        if let Some(delta) = Arc::get_mut(&mut cell) {
            core::mem::swap(delta, &mut layers.active);
            layers.frozen = Some(cell);
        }
    }

    /// Makes this the frozen delta: for a tree whose changes are gathered elsewhere.
    pub fn freeze_as(&self, delta: Arc<Delta>) {
        self.layers.write().frozen = Some(delta);
    }

    /// The frozen delta and the base that it is to be merged into.
    pub fn frozen(&self) -> (Option<Arc<Delta>>, Arc<Base>) {
        let layers = self.layers.read();
        (layers.frozen.clone(), layers.base.clone())
    }

    /// The frozen delta is in this base now. Returns the base before.
    pub fn replace(&self, base: Arc<Base>) -> Arc<Base> {
        let mut layers = self.layers.write();
        layers.frozen = None;
        core::mem::replace(&mut layers.base, base)
    }

    /// The base has so many nodes: what was said of that was wrong.
    pub fn recount(&self, nodes: u64) -> Result<(), NoMem> {
        let mut layers = self.layers.write();
        let base = Arc::try_new(Base {
            nodes,
            ..*layers.base
        })?;
        layers.base = base;
        Ok(())
    }

    fn below(&self) -> Below {
        let layers = self.layers.read();
        Below {
            frozen: layers.frozen.clone(),
            base: layers.base.clone(),
        }
    }
}

/// Goes through the keys of a range. What changes meanwhile behind it or before it is seen or not.
pub struct Scan<'a, H> {
    tree: &'a Layered,
    nodes: &'a Nodes<H>,
    /// What is still to be looked at.
    rest: Option<Range>,
    down: bool,
    /// On the heap, as stacks are small.
    below: Option<Box<(Below, Cursor<'a, H>)>>,
}

/// What a step of a scan comes to.
enum Step {
    Found(Key, Vec<u8>),
    /// There is nothing up to this key.
    Skip(Key),
    End,
    /// A checkpoint went by.
    Changed,
}

impl<H: Host> Scan<'_, H> {
    /// The next key and its value.
    #[allow(clippy::should_implement_trait)] // It may fail.
    pub fn next(&mut self) -> Result<Option<(Key, Vec<u8>)>, TreeError> {
        while let Some(rest) = self.rest {
            match self.step(rest)? {
                Step::Found(key, value) => {
                    self.rest = self.beyond(rest, key);
                    return Ok(Some((key, value)));
                }
                Step::Skip(key) => self.rest = self.beyond(rest, key),
                Step::End => self.rest = None,
                Step::Changed => self.below = None,
            }
        }
        Ok(None)
    }

    /// After a node could not be had: the keys that are lost with it.
    pub fn lost(&self) -> Option<Range> {
        self.below.as_ref().and_then(|below| below.1.lost())
    }

    fn beyond(&self, rest: Range, key: Key) -> Option<Range> {
        let rest = if self.down {
            Range {
                first: rest.first,
                last: key.previous()?,
            }
        } else {
            Range {
                first: key.next()?,
                last: rest.last,
            }
        };
        (rest.first <= rest.last).then_some(rest)
    }

    fn change_in<'d>(&self, delta: &'d Delta, rest: Range) -> Option<(Key, Change<'d>)> {
        let found = if self.down {
            delta.at_or_before(rest.last)
        } else {
            delta.at_or_after(rest.first)
        };
        found.filter(|(key, _)| rest.has(*key))
    }

    /// Whether `a` comes before `b` on the way.
    fn is_sooner(&self, a: Key, b: Option<Key>) -> bool {
        match b {
            None => true,
            Some(b) if self.down => a > b,
            Some(b) => a < b,
        }
    }

    /// The end of the range that is gone round `key`, on the way.
    fn gone_until(&self, delta: &Delta, key: Key) -> Option<Key> {
        let range = delta.gone_at_or_after(key).filter(|r| r.has(key))?;
        Some(if self.down { range.first } else { range.last })
    }

    #[inline(never)]
    fn step(&mut self, rest: Range) -> Result<Step, TreeError> {
        let in_base = self.find_in_base(rest)?;
        self.choose(rest, in_base)
    }

    /// The next key of the base, and its value. Reading goes deep, so little is on the stack here.
    #[inline(never)]
    fn find_in_base(&mut self, rest: Range) -> Result<Option<(Key, Vec<u8>)>, TreeError> {
        let down = self.down;
        if self.below.is_none() {
            self.go_below()?;
        }
        let Some(below) = &mut self.below else {
            return Ok(None);
        };
        let (_, cursor) = &mut **below;
        // The cursor stands where the last step left it, which is often where it has to be.
        let here = match cursor.entry() {
            Some((key, _)) if rest.has(key) && !down && key == rest.first => true,
            Some((key, _)) if rest.has(key) && down && key == rest.last => true,
            _ => false,
        };
        let found = if here {
            cursor.entry()
        } else if down {
            cursor.seek_back(rest.last)?
        } else {
            cursor.seek(rest.first)?
        };
        match found.filter(|(key, _)| rest.has(*key)) {
            Some((key, value)) => Ok(Some((key, Vec::try_from_slice(value)?))),
            None => Ok(None),
        }
    }

    #[inline(never)]
    fn go_below(&mut self) -> Result<(), NoMem> {
        let below = self.tree.below();
        let cursor = Cursor::new(self.nodes, &below.base, Range::ALL);
        self.below = Some(Box::try_new((below, cursor))?);
        Ok(())
    }

    /// What comes next of the base and of what lies above it.
    #[inline(never)]
    fn choose(&self, rest: Range, in_base: Option<(Key, Vec<u8>)>) -> Result<Step, TreeError> {
        let base_key = in_base.as_ref().map(|(key, _)| *key);
        let value_of_base = in_base.map(|(_, value)| value);
        let Some(below) = &self.below else {
            return Ok(Step::Changed);
        };
        let (below, _) = &**below;
        let in_frozen = below.frozen.as_ref().and_then(|d| self.change_in(d, rest));
        let frozen_key = in_frozen.map(|(key, _)| key);

        let layers = self.tree.layers.read();
        if !below.is_of(&layers) {
            return Ok(Step::Changed);
        }
        let in_active = self.change_in(&layers.active, rest);
        let active_key = in_active.map(|(key, _)| key);
        let mut best = base_key;
        for key in [frozen_key, active_key].into_iter().flatten() {
            if self.is_sooner(key, best) {
                best = Some(key);
            }
        }
        let Some(best) = best else {
            return Ok(Step::End);
        };
        if let Some((key, change)) = in_active.filter(|(key, _)| *key == best) {
            return Ok(match change {
                Change::Set(value) => Step::Found(key, Vec::try_from_slice(value)?),
                Change::Gone => Step::Skip(key),
            });
        }
        if let Some(end) = self.gone_until(&layers.active, best) {
            return Ok(Step::Skip(self.nearer(end, rest, active_key)));
        }
        drop(layers);
        if let Some((key, change)) = in_frozen.filter(|(key, _)| *key == best) {
            return Ok(match change {
                Change::Set(value) => Step::Found(key, Vec::try_from_slice(value)?),
                Change::Gone => Step::Skip(key),
            });
        }
        if let Some(end) = below.frozen.as_ref().and_then(|d| self.gone_until(d, best)) {
            let next = [frozen_key, active_key];
            let mut end = end;
            for key in next {
                end = self.nearer(end, rest, key);
            }
            return Ok(Step::Skip(end));
        }
        Ok(match value_of_base {
            Some(value) => Step::Found(best, value),
            None => Step::Skip(best),
        })
    }

    /// How far can be skipped when everything below is gone up to `end`, but `next` may be set: up to just before it.
    fn nearer(&self, end: Key, rest: Range, next: Option<Key>) -> Key {
        let end = if self.down {
            end.max(rest.first)
        } else {
            end.min(rest.last)
        };
        let before = next.and_then(|key| {
            if self.down {
                key.next()
            } else {
                key.previous()
            }
        });
        match before {
            Some(before) if self.is_sooner(before, Some(end)) => before,
            _ => end,
        }
    }
}
