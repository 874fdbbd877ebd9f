// SPDX-License-Identifier: GPL-2.0

//! Which blocks something was found to use: a bit for each block of some groups. Where memory does not hold all groups of all
//! devices, the check goes through the trees again for the next ones.

use crate::error::NoMem;
use crate::format::journal::Extent;
use crate::format::member::Slot;
use crate::space::bits::Bits;
use crate::space::GROUP;
use crate::units::Blocks;
use crate::volume::mounted::Part;
use embr_rt::Vec;

/// Bytes of memory that a group takes.
pub(super) const GROUP_BYTES: u64 = GROUP / 8;

/// How many such sets a check has at a time.
pub(super) const SETS: u64 = 3;

/// One group of a device.
pub(super) struct Group {
    pub(super) slot: Slot,
    pub(super) index: u64,
    pub(super) bits: Bits,
}

impl Group {
    /// The blocks from this one of the group on.
    pub(super) fn extent(&self, begin: u64, length: u64) -> Extent {
        Extent {
            device: self.slot,
            start: Blocks(self.index.saturating_mul(GROUP).saturating_add(begin)),
            blocks: Blocks(length),
        }
    }
}

/// What is used in some groups, in order of slots and places.
pub(super) struct Claims {
    groups: Vec<Group>,
}

fn groups_of(part: &Part) -> u64 {
    part.size.whole_blocks().0.div_ceil(GROUP)
}

/// How many groups the devices have.
pub(super) fn total(parts: &[Part]) -> u64 {
    parts
        .iter()
        .fold(0, |n: u64, part| n.saturating_add(groups_of(part)))
}

impl Claims {
    /// At most so many groups, from this one of all devices' on.
    pub(super) fn try_new(parts: &[Part], first: u64, most: u64) -> Result<Self, NoMem> {
        let mut groups = Vec::new();
        let end = first.saturating_add(most);
        let mut before = 0u64;
        for part in parts {
            let count = groups_of(part);
            let from = first.saturating_sub(before).min(count);
            let to = end.saturating_sub(before).min(count);
            for index in from..to {
                let rest = part
                    .size
                    .whole_blocks()
                    .0
                    .saturating_sub(index.saturating_mul(GROUP));
                groups.push(Group {
                    slot: part.slot,
                    index,
                    bits: Bits::try_new(rest.min(GROUP))?,
                })?;
            }
            before = before.saturating_add(count);
        }
        Ok(Claims { groups })
    }

    /// None of the same groups.
    pub(super) fn empty(&self) -> Result<Self, NoMem> {
        let mut groups = Vec::try_with_capacity(self.groups.len())?;
        for group in self.groups.iter() {
            groups.push(Group {
                bits: Bits::try_new(group.bits.length())?,
                ..*group
            })?;
        }
        Ok(Claims { groups })
    }

    /// The groups.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Notes that these blocks are used; gives back those that were noted already, if there are any. Of blocks that lie in other
    /// groups nothing is noted.
    pub(super) fn claim(&mut self, e: Extent) -> Option<Extent> {
        let end = e.start.0.saturating_add(e.blocks.0);
        let key = |g: &Group| (g.slot, g.index);
        let first = self
            .groups
            .partition_point(|g| key(g) < (e.device, e.start.0 / GROUP));
        let mut twice: Option<Extent> = None;
        for group in self.groups.iter_mut().skip(first) {
            let base = group.index.saturating_mul(GROUP);
            if group.slot != e.device || base >= end {
                break;
            }
            let from = e.start.0.max(base);
            let to = end.min(base.saturating_add(GROUP));
            let (at, count) = (from.saturating_sub(base), to.saturating_sub(from));
            let taken = group.bits.next_set(at);
            if taken < at.saturating_add(count) && twice.is_none() {
                let free = group.bits.next_clear(taken).min(at.saturating_add(count));
                twice = Some(group.extent(taken, free.saturating_sub(taken)));
            }
            group.bits.set(at, count);
        }
        twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::root::Journal;
    use crate::units::Bytes;
    use crate::units::DeviceId;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn part(slot: usize, blocks: u64) -> Part {
        Part {
            slot: Slot::new(slot).unwrap(),
            id: DeviceId(slot as u32 + 1),
            domain: 0,
            size: Blocks(blocks).bytes().unwrap(),
            journal: Journal::of_new(Bytes(64 << 20)),
        }
    }

    proptest! {
        /// Window by window as with all groups at once.
        #[test]
        fn like_a_set_of_blocks(
            sizes in proptest::collection::vec(1u64..100_000, 1..4),
            extents in proptest::collection::vec((0usize..4, 0u64..100_000, 1u64..40_000), 0..8),
            window in 1u64..5,
        ) {
            let parts: std::vec::Vec<Part> =
                sizes.iter().enumerate().map(|(n, size)| part(n * 2, *size)).collect();
            let mut used = BTreeSet::new();
            let mut twice = BTreeSet::new();
            for (device, start, blocks) in &extents {
                let device = device % sizes.len();
                let end = (start + blocks).min(sizes[device]);
                for block in *start..end {
                    if !used.insert((device * 2, block)) {
                        twice.insert((device * 2, block));
                    }
                }
            }
            let mut found = BTreeSet::new();
            let mut told = BTreeSet::new();
            for first in (0..total(&parts)).step_by(window as usize) {
                let mut claims = Claims::try_new(&parts, first, window).unwrap();
                for (device, start, blocks) in &extents {
                    let device = Slot::new(device % sizes.len() * 2).unwrap();
                    let extent = Extent { device, start: Blocks(*start), blocks: Blocks(*blocks) };
                    if let Some(e) = claims.claim(extent) {
                        let all = e.start.0..e.start.0 + e.blocks.0;
                        told.extend(all.map(|b| (e.device.index(), b)));
                    }
                }
                for group in claims.groups() {
                    for (begin, length) in group.bits.runs() {
                        let e = group.extent(begin, length);
                        let all = e.start.0..e.start.0 + length;
                        found.extend(all.map(|b| (group.slot.index(), b)));
                    }
                }
            }
            prop_assert_eq!(&found, &used);
            prop_assert!(told.is_subset(&twice));
            prop_assert_eq!(told.is_empty(), twice.is_empty());
        }
    }
}
