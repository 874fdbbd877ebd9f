// SPDX-License-Identifier: GPL-2.0

//! What a snapshot sees of all versions of an item: the newest that is its own or an ancestor's. A version whose value is empty
//! says that the item is gone. Nothing here knows what items hold.

use crate::names::item::Item;
use crate::tree::layered::Scan;
use crate::tree::Range;
use crate::txn::Transaction;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Inside;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::NAMES;
use embr_rt::NoMem;
use embr_rt::Vec;

/// The value of a version that says that the item is gone.
pub(crate) const GONE: &[u8] = &[];

/// A snapshot, and those it grew from.
#[derive(Debug)]
pub struct View {
    current: SnapshotId,
    /// Rising, all below the current one.
    ancestors: Vec<SnapshotId>,
}

impl View {
    /// The first snapshot of a volume.
    pub fn first() -> Self {
        View {
            current: SnapshotId::FIRST,
            ancestors: Vec::new(),
        }
    }

    /// A snapshot that grew from these, the oldest first; none where their numbers do not rise.
    pub fn new(current: SnapshotId, ancestors: &[SnapshotId]) -> Result<Option<Self>, NoMem> {
        let all = || ancestors.iter().copied().chain([current]);
        let rising = all().zip(all().skip(1)).all(|(a, b)| a < b);
        if !rising || all().any(|id| id == SnapshotId::NONE) {
            return Ok(None);
        }
        Ok(Some(View {
            current,
            ancestors: Vec::try_from_slice(ancestors)?,
        }))
    }

    /// The snapshot itself: what is written is of this version.
    pub fn current(&self) -> SnapshotId {
        self.current
    }

    /// Whether versions of this snapshot are seen.
    pub fn sees(&self, id: SnapshotId) -> bool {
        id == self.current || self.ancestors.binary_search(&id).is_ok()
    }

    /// Whether there is nothing to be seen but its own versions.
    pub(crate) fn is_alone(&self) -> bool {
        self.ancestors.is_empty()
    }

    /// The item's value, if there is one.
    pub fn get<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let own = mounted.get(NAMES, item.at(self.current), Vec::try_from_slice)?;
        self.newest(mounted, item, own)
    }

    /// The item's value as it is after a transaction.
    pub fn get_in<M: Machine>(
        &self,
        txn: &Transaction<'_, M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let own = txn.get(NAMES, item.at(self.current), Vec::try_from_slice)?;
        self.newest(txn.mounted(), item, own)
    }

    fn newest<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
        own: Option<Result<Vec<u8>, NoMem>>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        match own {
            Some(value) => Ok(Some(value?).filter(|v| !v.is_empty())),
            None => self.inherited(mounted, item),
        }
    }

    /// The item's value as the ancestors have it.
    pub(crate) fn inherited<M: Machine>(
        &self,
        mounted: &Mounted<M>,
        item: Item,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let (Some(newest), Some(oldest)) = (self.ancestors.last(), self.ancestors.first()) else {
            return Ok(None);
        };
        let range = Range {
            first: item.at(*newest),
            last: item.at(*oldest),
        };
        let Some(mut scan) = mounted.scan(NAMES, range) else {
            return Ok(None);
        };
        while let Some((key, value)) = scan.next()? {
            if self.sees(Item::of(key).1) {
                return Ok(Some(value).filter(|v| !v.is_empty()));
            }
        }
        Ok(None)
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
            mounted,
            scan: mounted.scan(NAMES, first.to(last)),
            last,
            found: None,
        }
    }
}

/// Goes through items as a snapshot sees them.
pub struct Items<'a, M> {
    view: &'a View,
    mounted: &'a Mounted<M>,
    scan: Option<Scan<'a, Inside<M>>>,
    last: Item,
    /// The item whose newest version was seen: older ones do not count.
    found: Option<Item>,
}

impl<M: Machine> Items<'_, M> {
    /// The next item and its value.
    #[inline(never)]
    #[allow(clippy::should_implement_trait)] // It may fail.
    pub fn next(&mut self) -> Result<Option<(Item, Vec<u8>)>, Fault> {
        while let Some(scan) = &mut self.scan {
            let Some((key, value)) = scan.next()? else {
                self.scan = None;
                break;
            };
            let (item, version) = Item::of(key);
            if self.found == Some(item) {
                self.skip(item);
                continue;
            }
            if !self.view.sees(version) {
                continue;
            }
            self.found = Some(item);
            if !value.is_empty() {
                return Ok(Some((item, value)));
            }
        }
        Ok(None)
    }

    /// Goes on behind the oldest version of an item, however many there are.
    fn skip(&mut self, item: Item) {
        let last = self.last.at(SnapshotId::NONE);
        let first = item.at(SnapshotId::NONE).next();
        self.scan = first
            .filter(|first| *first <= last)
            .and_then(|first| self.mounted.scan(NAMES, Range { first, last }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ancestors_are_seen() {
        let ids = |list: &[u64]| {
            list.iter()
                .copied()
                .map(SnapshotId)
                .collect::<std::vec::Vec<_>>()
        };
        let view = View::new(SnapshotId(7), &ids(&[1, 4])).unwrap().unwrap();
        let seen = (0..10).filter(|n| view.sees(SnapshotId(*n)));
        assert_eq!(seen.collect::<std::vec::Vec<_>>(), [1, 4, 7]);
        for bad in [&[4, 1][..], &[0], &[7], &[8], &[2, 2]] {
            assert!(View::new(SnapshotId(7), &ids(bad)).unwrap().is_none());
        }
        assert!(View::new(SnapshotId::NONE, &[]).unwrap().is_none());
        assert!(View::first().is_alone() && View::first().sees(SnapshotId(1)));
    }
}
