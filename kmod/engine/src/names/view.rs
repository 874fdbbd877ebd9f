// SPDX-License-Identifier: GPL-2.0

//! What a snapshot sees of all versions of an item: the newest that is its own or an ancestor's. A version whose value is empty
//! says that the item is gone. Nothing here knows what items hold.
//!
//! The number of the state that goes on changes with every snapshot that is taken of it; and what was the version of a snapshot that
//! is deleted may become its own. So a view of it is asked for its [`Lineage`] by everything that begins.
//!
//! Of what is its own, writing an item removes the older versions. Who looks for the newest of several versions, one after the other, and
//! has passed where it is written then, would find none. So he looks again if anything was removed [meanwhile](Moment).

use crate::names::item::Item;
use crate::tree::layered::Scan;
use crate::tree::First;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Inside;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use core::ops::Deref;
use embr_rt::lock_class;
use embr_rt::Arc;
use embr_rt::Box;
use embr_rt::NoMem;
use embr_rt::RwLock;
use embr_rt::Vec;

/// The value of a version that says that the item is gone.
pub(crate) const GONE: &[u8] = &[];

/// How many versions that are not seen are passed before the rest is gone round.
const PASSED: usize = 3;

/// Numbers of versions: spans of them, rising, that do not touch.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Ids(Vec<(SnapshotId, SnapshotId)>);

impl Ids {
    fn one(id: SnapshotId) -> Result<Self, NoMem> {
        Ok(Ids(Vec::try_from_slice(&[(id, id)])?))
    }

    /// These spans, which rise.
    pub(crate) fn of(spans: &[(SnapshotId, SnapshotId)]) -> Result<Self, NoMem> {
        Ok(Ids(Vec::try_from_slice(spans)?))
    }

    /// The spans.
    pub(crate) fn spans(&self) -> impl DoubleEndedIterator<Item = (SnapshotId, SnapshotId)> + '_ {
        self.0.iter().copied()
    }

    /// Whether a number is one of them.
    pub(crate) fn has(&self, id: SnapshotId) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= id);
        let span = behind.checked_sub(1).and_then(|n| self.0.get(n));
        span.is_some_and(|(_, last)| id <= *last)
    }

    /// The highest of them that is not above a number.
    fn at_most(&self, id: SnapshotId) -> Option<SnapshotId> {
        let behind = self.0.partition_point(|(first, _)| *first <= id);
        let span = behind.checked_sub(1).and_then(|n| self.0.get(n));
        span.map(|(_, last)| (*last).min(id))
    }

    /// The lowest.
    pub(crate) fn lowest(&self) -> Option<SnapshotId> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Adds those of another list, of which none is here.
    pub(crate) fn add(&mut self, others: &Ids) -> Result<(), NoMem> {
        for (first, last) in others.spans() {
            let at = self.0.partition_point(|(f, _)| *f <= first);
            self.0.insert(at, (first, last))?;
        }
        Ok(())
    }

    /// Makes one span of two where none of the numbers between them is `used`.
    pub(crate) fn join(&mut self, used: impl Fn(SnapshotId, SnapshotId) -> bool) {
        let mut at = 1usize;
        while let Some((first, last)) = self.0.get(at).copied() {
            let before = self.0.get_mut(at.wrapping_sub(1));
            match before.filter(|(_, before)| !used(*before, first)) {
                Some(before) => {
                    before.1 = last;
                    self.0.remove(at);
                }
                None => at = at.saturating_add(1),
            }
        }
    }

    /// How many spans they are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those that are in one of two lists and not in the other.
    pub(crate) fn apart(one: &Ids, other: &Ids) -> Result<Self, NoMem> {
        // Where each list begins or ends to have numbers, those of both cancel each other.
        let mut edges: Vec<u64> = Vec::new();
        for (first, last) in one.spans().chain(other.spans()) {
            edges.push(first.0)?;
            edges.push(last.0.saturating_add(1))?;
        }
        edges.sort_unstable();
        let mut left: Vec<u64> = Vec::new();
        for edge in edges.iter() {
            match left.last() {
                Some(last) if last == edge => drop(left.pop()),
                _ => left.push(*edge)?,
            }
        }
        let mut spans = Vec::new();
        for pair in left.chunks_exact(2) {
            if let [first, behind] = pair {
                spans.push((SnapshotId(*first), SnapshotId(behind.saturating_sub(1))))?;
            }
        }
        Ok(Ids(spans))
    }

    pub(crate) fn try_clone(&self) -> Result<Self, NoMem> {
        Ok(Ids(self.0.try_clone()?))
    }
}

/// Whose a version is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    /// The one that is written.
    Current,
    /// Older, but nobody else's: nobody sees it who does not see the current one as well.
    Own,
    /// An ancestor's.
    Below,
    /// Somebody else's.
    Others,
}

/// A snapshot, and those it grew from.
#[derive(Debug)]
pub struct Lineage {
    current: SnapshotId,
    /// What nobody sees but who sees the current one: that, and what was left of snapshots that are deleted.
    own: Ids,
    /// These and all ancestors'.
    seen: Ids,
    is_alone: bool,
    is_kept: bool,
    /// How many that are deleted passed on what they had, and nobody has swept it yet.
    unswept: usize,
}

impl Lineage {
    /// A state whose own versions, and ancestors', these are.
    pub(crate) fn new(own: Ids, below: &Ids, is_kept: bool) -> Result<Option<Self>, NoMem> {
        let Some((_, current)) = own.spans().next_back() else {
            return Ok(None);
        };
        let mut seen = own.try_clone()?;
        seen.add(below)?;
        Ok(Some(Lineage {
            current,
            own,
            is_alone: below.len() == 0 && !is_kept,
            seen,
            is_kept,
            unswept: 0,
        }))
    }

    /// The same after so many passed on what they had.
    pub(crate) fn after(self, unswept: usize) -> Self {
        Lineage { unswept, ..self }
    }

    /// The same, to change what nobody sees: others may see what this one does.
    pub(crate) fn swept(self) -> Self {
        Lineage {
            is_alone: false,
            is_kept: false,
            ..self
        }
    }

    /// The snapshot itself: what is written is of this version.
    pub fn current(&self) -> SnapshotId {
        self.current
    }

    /// Whether versions of this snapshot are seen.
    pub fn sees(&self, id: SnapshotId) -> bool {
        id == self.current || self.seen.has(id)
    }

    /// Whether a version of this snapshot is seen by nobody who does not see the current one.
    pub(crate) fn owns(&self, id: SnapshotId) -> bool {
        id == self.current || self.own.has(id)
    }

    /// Its own versions.
    pub(crate) fn own_ids(&self) -> &Ids {
        &self.own
    }

    /// All versions that are seen.
    pub(crate) fn all_ids(&self) -> &Ids {
        &self.seen
    }

    /// Versions of ancestors.
    pub(crate) fn below(&self) -> Result<Ids, NoMem> {
        Ids::apart(&self.seen, &self.own)
    }

    /// Whether something may be its own that is not of the current version.
    pub(crate) fn has_older(&self) -> bool {
        self.own
            .lowest()
            .is_some_and(|lowest| lowest != self.current)
    }

    /// Whether of one thing there may be more versions of its own than two.
    pub(crate) fn is_deep(&self) -> bool {
        self.unswept > 1
    }

    /// Whether there is nothing on the volume but its own versions.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// Whether there is anything that is seen and not its own.
    pub(crate) fn has_below(&self) -> bool {
        self.seen.spans().any(|(first, _)| !self.own.has(first))
    }

    /// Whether there is one version of everything.
    fn is_single(&self) -> bool {
        self.is_alone && !self.has_older()
    }

    /// Whether it stays as it is.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Whose a version is.
    pub(crate) fn whose(&self, id: SnapshotId) -> Whose {
        match id {
            id if id == self.current => Whose::Current,
            id if self.own.has(id) => Whose::Own,
            id if self.seen.has(id) => Whose::Below,
            _ => Whose::Others,
        }
    }

    /// The newest version of an item that is older than the current one and that `wanted` takes, and its value.
    fn older<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
        mut wanted: impl FnMut(SnapshotId) -> bool,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let below = SnapshotId(self.current.0.saturating_sub(1));
        self.newest(below, mounted, item, |id, _| wanted(id))
    }

    /// As [`Self::from`], where the newest that is there most likely is the one.
    #[inline] // It goes deep enough without.
    fn newest<M: Machine>(
        &self,
        first: SnapshotId,
        mounted: &Mounted<M>,
        item: Item,
        mut wanted: impl FnMut(SnapshotId, &[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let below = match self.there(first, mounted, item)? {
            First::Nothing => return Ok(None),
            First::Unclear => first,
            First::Found((id, value)) => {
                if self.sees(id) && wanted(id, &value) {
                    return Ok(Some(value));
                }
                SnapshotId(id.0.saturating_sub(1))
            }
        };
        self.from(below, mounted, item, wanted)
    }

    /// The newest version that is there, whosever it is, from this one downwards.
    #[inline(never)]
    fn there<M: Machine>(
        &self,
        first: SnapshotId,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<First<(SnapshotId, Vec<u8>)>, Fault> {
        let (Some(newest), Some(oldest)) = (self.seen.at_most(first), self.seen.lowest()) else {
            return Ok(First::Nothing);
        };
        let range = Range {
            first: item.at(newest),
            last: item.at(oldest),
        };
        Ok(match mounted.first(NAMES, range)? {
            First::Found((key, value)) => First::Found((Item::of(key).1, value)),
            First::Nothing => First::Nothing,
            First::Unclear => First::Unclear,
        })
    }

    /// The newest version of an item, from this one downwards, that `wanted` takes, and its value.
    #[inline(never)]
    fn from<M: Machine>(
        &self,
        first: SnapshotId,
        mounted: &Mounted<M>,
        item: Item,
        mut wanted: impl FnMut(SnapshotId, &[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let mut newest = self.seen.at_most(first);
        let Some(oldest) = self.seen.lowest() else {
            return Ok(None);
        };
        while let Some(from) = newest.take() {
            let range = Range {
                first: item.at(from),
                last: item.at(oldest),
            };
            let Some(mut scan) = walk(mounted, range)? else {
                return Ok(None);
            };
            let mut passed = 0usize;
            while let Some((key, value)) = scan.next()? {
                let id = Item::of(key).1;
                if self.sees(id) {
                    if wanted(id, &value) {
                        return Ok(Some(value));
                    }
                    continue;
                }
                passed = passed.saturating_add(1);
                if passed >= PASSED {
                    newest = self.seen.at_most(id);
                    break;
                }
            }
        }
        Ok(None)
    }

    /// The item's value as the ancestors have it.
    pub(crate) fn inherited<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        if self.is_alone {
            return Ok(None);
        }
        let found = self.older(mounted, item, |id| !self.own.has(id))?;
        Ok(found.filter(|v| !v.is_empty()))
    }

    /// All versions of an item that are its own, the newest first, and whether the item is gone by them.
    pub(crate) fn own_versions<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Vec<(SnapshotId, bool)>, Fault> {
        let mut found = Vec::new();
        let mut full = Ok(());
        self.from(self.current, mounted, item, |id, value| {
            if self.own.has(id) && full.is_ok() {
                full = found.push((id, value.is_empty()));
            }
            false
        })?;
        full?;
        Ok(found)
    }

    /// All versions of an item that are its own and older than the current one.
    pub(crate) fn own_older<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Vec<SnapshotId>, Fault> {
        let mut found = Vec::new();
        if !self.has_older() {
            return Ok(found);
        }
        let mut full = Ok(());
        self.older(mounted, item, |id| {
            if self.own.has(id) && full.is_ok() {
                full = found.push(id);
            }
            false
        })?;
        full?;
        Ok(found)
    }
}

/// A scan on the heap: looking for something goes deep, and stacks are small.
#[inline(never)] // It is on the stack here, and only here.
pub(crate) fn walk<M: Machine>(
    mounted: &Mounted<M>,
    range: Range,
) -> Result<Option<Walk<'_, M>>, NoMem> {
    match mounted.scan(NAMES, range) {
        Some(scan) => Box::try_new(scan).map(Some),
        None => Ok(None),
    }
}

/// A scan, which is too large for a stack.
pub(crate) type Walk<'m, M> = Box<Scan<'m, Inside<M>>>;

/// What is seen: of a snapshot, or of a state that goes on.
#[derive(Debug)]
pub struct View(Kept);

#[derive(Debug)]
enum Kept {
    /// For good.
    Fixed(Lineage),
    /// Until the next snapshot is taken of it.
    Head(RwLock<Arc<Lineage>>),
}

/// What a view shows just now.
pub enum Now<'v> {
    /// For as long as the view is there.
    Fixed(&'v Lineage),
    /// Later it may be another.
    Head(Arc<Lineage>),
}

impl Deref for Now<'_> {
    type Target = Lineage;

    fn deref(&self) -> &Lineage {
        match self {
            Now::Fixed(lineage) => lineage,
            Now::Head(lineage) => lineage,
        }
    }
}

/// What a view showed when somebody began to look at several versions.
pub(crate) struct Moment<'v> {
    pub(crate) now: Now<'v>,
    /// Where there may be older versions that are its own.
    removals: Option<u64>,
}

impl Moment<'_> {
    /// Whether what was seen since then lacks nothing.
    pub(crate) fn lasts<M: Machine>(&self, view: &View, mounted: &Mounted<M>) -> bool {
        let is_same = |removals| mounted.removals(NAMES) == removals;
        view.shows(&self.now) && self.removals.is_none_or(is_same)
    }
}

impl View {
    /// The first snapshot of a volume that has no other.
    pub fn first() -> Self {
        View(Kept::Fixed(Lineage {
            current: SnapshotId::FIRST,
            own: Ids(Vec::new()),
            seen: Ids(Vec::new()),
            is_alone: true,
            is_kept: false,
            unswept: 0,
        }))
    }

    /// A snapshot that grew from these, the oldest first; none where their numbers do not rise.
    pub fn new(current: SnapshotId, ancestors: &[SnapshotId]) -> Result<Option<Self>, NoMem> {
        let all = || ancestors.iter().copied().chain([current]);
        let rising = all().zip(all().skip(1)).all(|(a, b)| a < b);
        if !rising || all().any(|id| id == SnapshotId::NONE) {
            return Ok(None);
        }
        let mut below = Ids::default();
        for id in ancestors {
            below.add(&Ids::one(*id)?)?;
        }
        let lineage = Lineage::new(Ids::one(current)?, &below, false)?;
        Ok(lineage.map(View::of))
    }

    /// One that stays as it is.
    pub(crate) fn of(lineage: Lineage) -> Self {
        View(Kept::Fixed(lineage))
    }

    /// One that goes on.
    pub(crate) fn head(lineage: Lineage) -> Result<Self, NoMem> {
        let lineage = Arc::try_new(lineage)?;
        let locked = RwLock::try_new(lineage, lock_class!("what a view shows"))?;
        Ok(View(Kept::Head(locked)))
    }

    /// From now on it is this, if it goes on.
    pub(crate) fn turn_to(&self, lineage: Arc<Lineage>) {
        if let Kept::Head(now) = &self.0 {
            *now.write() = lineage;
        }
    }

    /// What it shows just now.
    pub fn now(&self) -> Now<'_> {
        match &self.0 {
            Kept::Fixed(lineage) => Now::Fixed(lineage),
            Kept::Head(now) => Now::Head(now.read().clone()),
        }
    }

    /// The snapshot itself: what is written is of this version.
    pub fn current(&self) -> SnapshotId {
        self.now().current()
    }

    /// Whether versions of this snapshot are seen.
    pub fn sees(&self, id: SnapshotId) -> bool {
        self.now().sees(id)
    }

    /// Whether there is nothing on the volume but its own versions.
    pub fn is_alone(&self) -> bool {
        self.now().is_alone()
    }

    /// Whether a version is its own.
    pub(crate) fn owns(&self, id: SnapshotId) -> bool {
        self.now().owns(id)
    }

    /// Whether there is one version of everything.
    pub(crate) fn is_single(&self) -> bool {
        self.now().is_single()
    }

    /// Begins to look at several versions.
    pub(crate) fn moment<'v, M: Machine>(&'v self, mounted: &Mounted<M>) -> Moment<'v> {
        let now = self.now();
        Moment {
            removals: (!now.is_single()).then(|| mounted.removals(NAMES)),
            now,
        }
    }

    /// Whether it is still this that it shows.
    fn shows(&self, now: &Now<'_>) -> bool {
        match (&self.0, now) {
            (Kept::Head(shown), Now::Head(now)) => Arc::ptr_eq(&shown.read(), now),
            _ => true,
        }
    }

    /// The item's value, if there is one.
    pub fn get<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        loop {
            let moment = self.moment(mounted);
            let now = &moment.now;
            let mut of = now.current;
            let found = match now.is_single() {
                true => mounted
                    .get(NAMES, item.at(of), Vec::try_from_slice)?
                    .transpose()?,
                false => now.newest(now.current, mounted, item, |id, _| {
                    of = id;
                    true
                })?,
            };
            // Of its own versions there is one.
            let is_it = found.is_some() && now.owns(of);
            if is_it || moment.lasts(self, mounted) {
                return Ok(found.filter(|v| !v.is_empty()));
            }
        }
    }

    /// The item's value as it is after a transaction.
    pub fn get_in<M: Machine>(
        &self,
        txn: &Transaction<'_, M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let now = self.now();
        let found = match txn.get(NAMES, item.at(now.current), Vec::try_from_slice)? {
            Some(value) => Some(value?),
            None => now.older(txn.mounted(), item, |id| !txn.removes(NAMES, item.at(id)))?,
        };
        Ok(found.filter(|v| !v.is_empty()))
    }

    /// Goes through the items from `first` to `last`, both included.
    pub fn items<'a, M: Machine>(
        &'a self,
        mounted: &'a Mounted<M>,
        first: Item,
        last: Item,
    ) -> Items<'a, M> {
        Items {
            view: self,
            moment: self.moment(mounted),
            mounted,
            scan: mounted.scan(NAMES, first.to(last)),
            rest: first.to(last),
            found: None,
            passed: 0,
        }
    }
}

/// Goes through items as a snapshot sees them.
pub struct Items<'a, M> {
    view: &'a View,
    moment: Moment<'a>,
    mounted: &'a Mounted<M>,
    scan: Option<Scan<'a, Inside<M>>>,
    /// What lies behind the item that was returned last.
    rest: Range,
    /// The item whose newest version was seen: older ones do not count.
    found: Option<Item>,
    /// How many of these were passed.
    passed: usize,
}

impl<M: Machine> Items<'_, M> {
    /// The next item and its value.
    #[inline(never)]
    #[allow(clippy::should_implement_trait)] // It may fail.
    pub fn next(&mut self) -> Result<Option<(Item, Vec<u8>)>, Fault> {
        loop {
            let found = self.look()?;
            if self.moment.lasts(self.view, self.mounted) {
                if let Some((item, _)) = &found {
                    self.rest.first = item.at(SnapshotId::NONE);
                }
                return Ok(found);
            }
            self.moment = self.view.moment(self.mounted);
            (self.scan, self.found) = (self.mounted.scan(NAMES, self.rest), None);
        }
    }

    /// The next item that the scan finds.
    fn look(&mut self) -> Result<Option<(Item, Vec<u8>)>, Fault> {
        while let Some(scan) = &mut self.scan {
            let Some((key, value)) = scan.next()? else {
                self.scan = None;
                break;
            };
            let (item, version) = Item::of(key);
            if self.found == Some(item) {
                self.passed = self.passed.saturating_add(1);
                if self.passed >= PASSED {
                    self.skip(item);
                }
                continue;
            }
            if !self.moment.now.sees(version) {
                continue;
            }
            (self.found, self.passed) = (Some(item), 0);
            if !value.is_empty() {
                return Ok(Some((item, value)));
            }
        }
        Ok(None)
    }

    /// Goes on behind the oldest version of an item, however many there are.
    fn skip(&mut self, item: Item) {
        let last = self.rest.last;
        let first = item.at(SnapshotId::NONE).next();
        self.scan = first
            .filter(|first| *first <= last)
            .and_then(|first| self.mounted.scan(NAMES, Range { first, last }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(list: &[u64]) -> std::vec::Vec<SnapshotId> {
        list.iter().copied().map(SnapshotId).collect()
    }

    fn spans(list: &[(u64, u64)]) -> Ids {
        let all: std::vec::Vec<_> = list
            .iter()
            .map(|(a, b)| (SnapshotId(*a), SnapshotId(*b)))
            .collect();
        Ids::of(&all).unwrap()
    }

    #[test]
    fn only_ancestors_are_seen() {
        let view = View::new(SnapshotId(7), &ids(&[1, 4])).unwrap().unwrap();
        let seen = (0..10).filter(|n| view.sees(SnapshotId(*n)));
        assert_eq!(seen.collect::<std::vec::Vec<_>>(), [1, 4, 7]);
        for bad in [&[4, 1][..], &[0], &[7], &[8], &[2, 2]] {
            assert!(View::new(SnapshotId(7), &ids(bad)).unwrap().is_none());
        }
        assert!(View::new(SnapshotId::NONE, &[]).unwrap().is_none());
        assert!(View::first().is_alone() && View::first().sees(SnapshotId(1)));
    }

    #[test]
    fn whose_a_version_is() {
        let below = spans(&[(1, 2), (6, 6)]);
        let lineage = Lineage::new(spans(&[(8, 9), (12, 12)]), &below, false);
        let lineage = lineage.unwrap().unwrap();
        let of = |n| lineage.whose(SnapshotId(n));
        assert_eq!(of(12), Whose::Current);
        assert_eq!([of(8), of(9)], [Whose::Own; 2]);
        assert_eq!([of(1), of(2), of(6)], [Whose::Below; 3]);
        for other in [0, 3, 5, 7, 10, 11, 13] {
            assert_eq!(of(other), Whose::Others);
        }
        assert!(lineage.has_older() && !lineage.is_alone());
        let at_most = |n| lineage.seen.at_most(SnapshotId(n)).map(|id| id.0);
        let all = [0, 1, 5, 7, 11, 99].map(at_most);
        assert_eq!(all, [None, Some(1), Some(2), Some(6), Some(9), Some(12)]);
    }

    #[test]
    fn spans_are_joined_where_nothing_lies_between() {
        let mut all = spans(&[(1, 2), (3, 3), (5, 6), (9, 9)]);
        let used = |from: SnapshotId, to: SnapshotId| [4].iter().any(|n| from.0 < *n && *n < to.0);
        all.join(used);
        assert_eq!(all, spans(&[(1, 3), (5, 9)]));
        let mut more = spans(&[(4, 4)]);
        more.add(&all).unwrap();
        assert_eq!(more, spans(&[(1, 3), (4, 4), (5, 9)]));
        more.join(|_, _| false);
        assert_eq!(more, spans(&[(1, 9)]));
    }
}
