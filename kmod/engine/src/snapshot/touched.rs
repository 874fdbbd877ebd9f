// SPDX-License-Identifier: GPL-2.0

//! What was touched in any of some versions, each item once and in the order of inodes, however many versions there are.

use super::shelf::first;
use crate::format::snapshot;
use crate::names::item::Item;
use crate::names::view::Ids;
use crate::names::Error;
use crate::tree::Key;
use crate::tree::Range;
use crate::units::InodeNo;
use crate::units::SnapshotId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::SNAPSHOTS;
use embr_rt::Vec;

/// Notes that are in memory at once, at most twice as many.
const MOST: usize = 4096;

/// An inode and a place in it, as a note has them.
type Note = (InodeNo, u64);

/// Goes through what was touched.
pub(super) struct Touched<'m, M: Machine> {
    mounted: &'m Mounted<M>,
    versions: Ids,
    /// Some, in reverse: the next is the last.
    here: Vec<Note>,
    /// Those from here on are still to be looked for.
    rest: Option<Note>,
}

impl<'m, M: Machine> Touched<'m, M> {
    /// What was touched in these versions, from this inode on.
    pub(super) fn new(mounted: &'m Mounted<M>, versions: Ids, from: InodeNo) -> Self {
        Touched {
            mounted,
            versions,
            here: Vec::new(),
            rest: Some((from, 0)),
        }
    }

    /// The next item that stands for what was touched together, or none of an inode all of which was.
    pub(super) fn next(&mut self) -> Result<Option<(InodeNo, Option<Item>)>, Error> {
        if self.here.is_empty() {
            if let Some(from) = self.rest.take() {
                self.gather(from)?;
            }
        }
        Ok(self.here.pop().map(|(inode, place)| {
            let item = (place != 0).then(|| Item::from_place(inode, place));
            (inode, item)
        }))
    }

    /// Finds the next ones, from one on.
    #[inline(never)]
    fn gather(&mut self, from: Note) -> Result<(), Error> {
        let mut found: Vec<Note> = Vec::new();
        let mut behind = None;
        let spans = Vec::try_from_iter(self.versions.spans())?;
        for (lowest, last) in spans.iter() {
            let mut lowest = *lowest;
            // Each version of which there are notes.
            while let Some(version) = self.noted(lowest, *last)? {
                self.of_version(version, from, &mut found, &mut behind)?;
                lowest = SnapshotId(version.0.saturating_add(1));
            }
        }
        settle(&mut found, &mut behind);
        found.sort_unstable_by(|a, b| b.cmp(a));
        (self.here, self.rest) = (found, behind);
        Ok(())
    }

    /// The lowest of these versions that has notes.
    fn noted(&self, lowest: SnapshotId, last: SnapshotId) -> Result<Option<SnapshotId>, Error> {
        if lowest > last {
            return Ok(None);
        }
        let note = first(self.mounted, snapshot::all_touched(lowest, last))?;
        Ok(note.and_then(|(key, _)| snapshot::parse_touched(key).map(|(id, ..)| id)))
    }

    #[inline(never)]
    fn of_version(
        &self,
        version: SnapshotId,
        (inode, place): Note,
        found: &mut Vec<Note>,
        behind: &mut Option<Note>,
    ) -> Result<(), Error> {
        let range = Range {
            first: snapshot::touched(version, inode, place),
            last: snapshot::touched(version, InodeNo(u64::MAX), u64::MAX),
        };
        let mut scan = self.mounted.scan(SNAPSHOTS, range);
        while let Some(scan) = &mut scan {
            let Some((key, _)) = scan.next().map_err(Fault::from)? else {
                break;
            };
            let Key([_, inode, place]) = key;
            let note = (InodeNo(inode), place);
            if behind.is_some_and(|behind| note >= behind) {
                break;
            }
            found.push(note)?;
            if found.len() >= MOST.saturating_mul(2) {
                settle(found, behind);
            }
        }
        Ok(())
    }
}

/// Keeps the first of them, each once, and says from where on they are still to be looked for.
fn settle(found: &mut Vec<Note>, behind: &mut Option<Note>) {
    found.sort_unstable();
    let mut before = None;
    found.retain(|note| before.replace(*note) != Some(*note));
    if let Some(first) = found.get(MOST) {
        *behind = Some(*first);
        found.truncate(MOST);
    }
}
