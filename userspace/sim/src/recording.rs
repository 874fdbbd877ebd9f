// SPDX-License-Identifier: GPL-2.0

//! What happened to a fleet's drives, on one time line, and what they hold after a crash at any point of it.
//!
//! A position counts what lasts: a write taken by a drive, or a change of its medium (a flush, rot, a drive that goes or comes).
//! Position 0 is the beginning; a cut at position p comes after the first p events. A drive's state is kept at each change of
//! its medium, in images that share what is alike; between two of them there are only writes into its cache.

use crate::cache::Cached;
use crate::cache::Contents;
use crate::cache::Survival;
use crate::cache::Written;
use crate::image::step;
use crate::sectors::BadText;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// What all drives of a fleet hold. Copies are cheap.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// The drives, by their places.
    pub drives: BTreeMap<Slot, Contents>,
}

impl Snapshot {
    /// The drives that are among these, and the others: to be used apart.
    pub fn split(&self, members: Members) -> (Snapshot, Snapshot) {
        let part = |wanted: bool| Snapshot {
            drives: (self.drives.iter())
                .filter(|(slot, _)| members.has(**slot) == wanted)
                .map(|(slot, contents)| (*slot, contents.clone()))
                .collect(),
        };
        (part(true), part(false))
    }

    /// The drives of both; none where a place is in both.
    pub fn join(mut self, other: Snapshot) -> Option<Snapshot> {
        for (slot, contents) in other.drives {
            if self.drives.insert(slot, contents).is_some() {
                return None;
            }
        }
        Some(self)
    }

    /// The same for snapshots that hold the same, and almost surely different for others: whoever has seen a state need not
    /// look at it again, unless more was acknowledged.
    pub fn fingerprint(&self) -> u64 {
        self.drives.iter().fold(0, |print, (slot, contents)| {
            let media = [
                slot.index() as u64,
                u64::from(contents.present),
                contents.cache.len() as u64,
                contents.durable.fingerprint(),
            ];
            let cached = contents.cache.iter().map(|c| c.after.fingerprint());
            media.into_iter().chain(cached).fold(print, step)
        })
    }

    /// All this after the caches of all drives were left to a survival; none where a drive lacks the write that it names.
    pub fn after(&self, survival: &Survival) -> Option<Snapshot> {
        let state = State {
            cut: 0,
            rest: survival.clone(),
            drives: BTreeMap::new(),
        };
        Recording::new(self).at(&state)
    }
}

/// A crash: where, and what each drive kept of what it had not flushed. As text `cut=12 *=all 3=dropped:2`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct State {
    /// The position.
    pub cut: u64,
    /// What the drives keep that are not named.
    pub rest: Survival,
    /// What these keep.
    pub drives: BTreeMap<Slot, Survival>,
}

impl State {
    /// A crash in which all drives keep the same.
    pub fn new(cut: u64, rest: Survival) -> Self {
        State {
            cut,
            rest,
            drives: BTreeMap::new(),
        }
    }

    /// But this one keeps that.
    #[must_use]
    pub fn with(mut self, slot: Slot, survival: Survival) -> Self {
        self.drives.insert(slot, survival);
        self
    }

    /// What this drive keeps.
    pub fn of(&self, slot: Slot) -> &Survival {
        self.drives.get(&slot).unwrap_or(&self.rest)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cut={} *={}", self.cut, self.rest)?;
        (self.drives.iter()).try_for_each(|(slot, s)| write!(f, " {}={s}", slot.index()))
    }
}

impl FromStr for State {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let mut parts = text.split(' ');
        let mut field = |name: &str| {
            let value = parts.next()?.strip_prefix(name)?.strip_prefix('=')?;
            Some(value)
        };
        let cut = field("cut").ok_or(BadText)?.parse().map_err(|_| BadText)?;
        let mut state = State::new(cut, field("*").ok_or(BadText)?.parse()?);
        for part in parts {
            let (slot, survival) = part.split_once('=').ok_or(BadText)?;
            let slot = slot.parse().ok().and_then(Slot::new).ok_or(BadText)?;
            state.drives.insert(slot, survival.parse()?);
        }
        Ok(state)
    }
}

/// The note that step `number` begins: from here on it may be there.
pub fn begun(number: usize) -> u64 {
    number as u64 * 2
}

/// The note that all up to step `number` was acknowledged as durable.
pub fn durable(number: usize) -> u64 {
    number as u64 * 2 + 1
}

/// A drive as it was after a change of its medium.
#[derive(Clone, Debug)]
struct Checkpoint {
    at: u64,
    /// None: it is not part of the fleet.
    contents: Option<Contents>,
}

/// What happened to one drive.
#[derive(Clone, Debug, Default)]
struct Track {
    checkpoints: Vec<Checkpoint>,
    /// What it took, and at which positions.
    writes: Vec<Cached>,
    places: Vec<u64>,
}

/// What happened to a fleet since the recording began.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    tracks: BTreeMap<Slot, Track>,
    position: u64,
    /// Where media changed.
    changes: Vec<u64>,
    notes: Vec<(u64, u64)>,
}

impl Recording {
    /// A recording that begins with this.
    pub fn new(start: &Snapshot) -> Self {
        let mut recording = Recording::default();
        for (slot, contents) in &start.drives {
            recording.put_checkpoint(*slot, Some(contents.clone()));
        }
        recording
    }

    /// A drive took a write into its cache.
    pub(crate) fn wrote(&mut self, slot: Slot, cached: Cached) {
        self.position += 1;
        let track = self.tracks.entry(slot).or_default();
        track.writes.push(cached);
        track.places.push(self.position);
    }

    /// A drive's medium or presence changed, or it came or went.
    pub(crate) fn changed(&mut self, slot: Slot, contents: Option<Contents>) {
        self.position += 1;
        self.changes.push(self.position);
        self.put_checkpoint(slot, contents);
    }

    fn put_checkpoint(&mut self, slot: Slot, contents: Option<Contents>) {
        let at = self.position;
        let track = self.tracks.entry(slot).or_default();
        track.checkpoints.push(Checkpoint { at, contents });
    }

    /// Remembers `tag` at this position.
    pub(crate) fn note(&mut self, tag: u64) {
        self.notes.push((self.position, tag));
    }

    /// The last position.
    pub fn end(&self) -> u64 {
        self.position
    }

    /// The tags noted by this position, in order: what had been acknowledged before a cut there.
    pub fn notes(&self, cut: u64) -> impl Iterator<Item = u64> + '_ {
        let noted = self.notes.partition_point(|(at, _)| *at <= cut);
        self.notes.iter().take(noted).map(|(_, tag)| *tag)
    }

    /// By the notes of steps [`begun`] and [`durable`]: the last step that must be there after a cut here, and the last that may.
    pub fn bounds(&self, cut: u64) -> (usize, usize) {
        let (mut least, mut most) = (0, 0);
        for note in self.notes(cut) {
            let number = (note / 2) as usize;
            if note == durable(number) {
                least = least.max(number);
            }
            most = most.max(number);
        }
        (least, most)
    }

    /// The stretches of positions in which no medium changed, first and last position included. None is left out: the last cut
    /// of each has the most to lose.
    pub fn epochs(&self) -> impl Iterator<Item = std::ops::RangeInclusive<u64>> + '_ {
        let begins = [0].into_iter().chain(self.changes.iter().copied());
        let ends = self.changes.iter().map(|at| at - 1);
        begins
            .zip(ends.chain([self.position]))
            .map(|(begin, end)| begin..=end)
    }

    /// The drives that are part of the fleet at this position.
    pub fn slots(&self, cut: u64) -> impl Iterator<Item = Slot> + '_ {
        let here = move |track: &Track| track.last(cut).is_some_and(|c| c.contents.is_some());
        (self.tracks.iter())
            .filter(move |(_, track)| here(track))
            .map(|(slot, _)| *slot)
    }

    /// What a drive has not flushed at this position, oldest first.
    pub fn unflushed(&self, slot: Slot, cut: u64) -> Vec<Arc<Written>> {
        let at = self.tracks.get(&slot).and_then(|track| track.at(cut));
        let (_, cache) = at.unzip();
        let cache = cache.iter().flat_map(|cache| cache.iter());
        cache.map(|cached| cached.written.clone()).collect()
    }

    /// What the drives hold after this crash; none where it names a position or a write that does not exist.
    pub fn at(&self, state: &State) -> Option<Snapshot> {
        if state.cut > self.position || state.drives.keys().any(|s| !self.tracks.contains_key(s)) {
            return None;
        }
        let mut drives = BTreeMap::new();
        for (slot, track) in &self.tracks {
            let Some((before, cache)) = track.at(state.cut) else {
                continue;
            };
            let survival = state.of(*slot);
            let after = survival.of(&before.durable, &cache, slot.index() as u64)?;
            let contents = Contents {
                present: before.present,
                ..after
            };
            drives.insert(*slot, contents);
        }
        Some(Snapshot { drives })
    }
}

impl Track {
    fn last(&self, cut: u64) -> Option<&Checkpoint> {
        let later = self.checkpoints.partition_point(|c| c.at <= cut);
        self.checkpoints.get(later.checked_sub(1)?)
    }

    /// The drive's medium, and its cache.
    fn at(&self, cut: u64) -> Option<(&Contents, Cow<'_, [Cached]>)> {
        let last = self.last(cut)?;
        let contents = last.contents.as_ref()?;
        let from = self.places.partition_point(|at| *at <= last.at);
        let to = self.places.partition_point(|at| *at <= cut);
        let since = self.writes.get(from..to)?;
        if contents.cache.is_empty() {
            return Some((contents, Cow::Borrowed(since)));
        }
        let mut all = contents.cache.clone();
        all.extend_from_slice(since);
        Some((contents, Cow::Owned(all)))
    }
}
