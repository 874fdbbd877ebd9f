// SPDX-License-Identifier: GPL-2.0

//! k data and m parity fragments: which pairs there are, and how much fits on a set of devices.

use crate::stripe::shape::MAX_FRAGMENTS;
use crate::units::Blocks;
use core::fmt;

/// Data fragments in a stripe, at most.
pub const MAX_DATA: u8 = 16;
/// Parity fragments in a stripe, at most: beyond four, the coefficients are no longer proved to tolerate any loss.
pub const MAX_PARITY: u8 = 4;

/// A bundle's shape: k data and m parity fragments, each on a device of its own. Replication is k = 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    data: u8,
    parity: u8,
}

/// Why there is no such bundle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImpossibleGeometry {
    /// k.
    pub data: u8,
    /// m.
    pub parity: u8,
}

impl fmt::Display for ImpossibleGeometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ImpossibleGeometry { data, parity } = self;
        write!(f, "no bundle {data}+{parity}: data fragments are 1 to {MAX_DATA}, parity fragments 0 to {MAX_PARITY}")
    }
}

impl Geometry {
    /// A bundle of `data` and `parity` fragments.
    pub const fn new(data: u8, parity: u8) -> Result<Self, ImpossibleGeometry> {
        if data != 0 && data <= MAX_DATA && parity <= MAX_PARITY {
            Ok(Geometry { data, parity })
        } else {
            Err(ImpossibleGeometry { data, parity })
        }
    }

    /// k: fragments that carry payload.
    pub fn data(self) -> u8 {
        self.data
    }

    /// m: fragments that may be lost.
    pub fn parity(self) -> u8 {
        self.parity
    }

    /// k + m: devices that a stripe needs.
    pub fn width(self) -> u8 {
        // At most MAX_DATA + MAX_PARITY.
        self.data.saturating_add(self.parity)
    }

    /// Blocks of payload that find room on devices with so many blocks: in stripes as wide as this, each where there is most room, as
    /// long as there are devices enough; then, with as much parity, in ever narrower ones, down to copies.
    pub fn capacity(self, devices: impl Iterator<Item = Blocks>) -> Blocks {
        self.filled(devices).0
    }

    /// How many stripes of one row these are: so many blocks of a device can be used at most.
    pub fn stripes(self, devices: impl Iterator<Item = Blocks>) -> Blocks {
        self.filled(devices).1
    }

    fn filled(self, devices: impl Iterator<Item = Blocks>) -> (Blocks, Blocks) {
        let mut room = Room::of(devices, self.width());
        let (mut payload, mut all) = (0u64, 0u64);
        for data in (1..=self.data).rev() {
            let stripes = room.fill(data.saturating_add(self.parity));
            payload = payload.saturating_add(stripes.saturating_mul(data.into()));
            all = all.saturating_add(stripes);
        }
        (Blocks(payload), Blocks(all))
    }
}

/// More blocks than a device of 2^64 bytes has; those of all devices of a volume can be added.
const MOST_BLOCKS: u64 = u64::MAX / 64;

/// What is free on devices, as far as it matters for stripes of some width and narrower ones.
struct Room {
    /// The most that any have, in order, of as many as such a stripe needs.
    highest: [u64; MAX_FRAGMENTS],
    /// On all of them.
    sum: u64,
}

impl Room {
    fn of(devices: impl Iterator<Item = Blocks>, width: u8) -> Self {
        let mut highest = [0; MAX_FRAGMENTS];
        let mut sum = 0u64;
        for Blocks(blocks) in devices {
            let mut blocks = blocks.min(MOST_BLOCKS);
            sum = sum.saturating_add(blocks);
            for other in highest.iter_mut().take(width.into()) {
                if *other < blocks {
                    core::mem::swap(other, &mut blocks);
                }
            }
        }
        Room { highest, sum }
    }

    /// Takes as many stripes of this width and one block per fragment as there is room for, and says how many that is.
    ///
    /// Of s stripes a device has at most s fragments, so there is room for s where the sum of min(device, s) is s * width. Who always takes
    /// the devices with most room comes to the largest such s: those with more than s are in each stripe, and keep the rest; the others,
    /// but for a block here and there, keep nothing. So fewer devices have room then than the width.
    fn fill(&mut self, width: u8) -> u64 {
        // How many are in each stripe, and what the others have.
        let (mut above, mut rest, mut stripes) = (0usize, self.sum, 0u64);
        for (blocks, others) in self.highest.iter().zip((1..=u64::from(width)).rev()) {
            stripes = rest.checked_div(others).unwrap_or(0);
            if *blocks <= stripes {
                break;
            }
            above = above.saturating_add(1);
            rest = rest.saturating_sub(*blocks);
        }
        let others = u64::from(width).saturating_sub(above as u64);
        let mut single = rest.saturating_sub(stripes.saturating_mul(others));
        self.sum = 0;
        for (n, blocks) in self.highest.iter_mut().enumerate() {
            if n < above {
                *blocks = blocks.saturating_sub(stripes);
            } else {
                *blocks = single.min(1);
                single = single.saturating_sub(*blocks);
            }
            self.sum = self.sum.saturating_add(*blocks);
        }
        stripes
    }
}

/// How much a file's data is to survive: as much as the volume's does, or less.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Policy(u8);

impl Policy {
    /// As much as the volume's.
    pub const VOLUME: Policy = Policy(0);
    /// No loss at all.
    pub const NO_LOSS: Policy = Policy(1);

    /// The loss of so many devices.
    pub fn surviving(losses: u8) -> Option<Self> {
        Self::new(losses.checked_add(1)?)
    }

    /// By its number on disk.
    pub fn new(number: u8) -> Option<Self> {
        let is_one = number <= MAX_PARITY.saturating_add(1);
        is_one.then_some(Policy(number))
    }

    /// Its number on disk.
    pub fn number(self) -> u8 {
        self.0
    }

    /// How many losses that are on a volume of this shape, which is never more than what survives there.
    pub fn losses(self, volume: Geometry) -> u8 {
        match self.0.checked_sub(1) {
            Some(losses) => losses.min(volume.parity),
            None => volume.parity,
        }
    }

    /// The shape of its stripes.
    pub fn geometry(self, volume: Geometry) -> Geometry {
        Geometry {
            parity: self.losses(volume),
            ..volume
        }
    }

    /// The one of both that survives more.
    pub fn stronger(self, other: Policy, volume: Geometry) -> Policy {
        match self.losses(volume) >= other.losses(volume) {
            true => self,
            false => other,
        }
    }
}

impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn capacity(k: u8, m: u8, devices: &[u64]) -> u64 {
        Geometry::new(k, m)
            .unwrap()
            .capacity(devices.iter().map(|b| Blocks(*b)))
            .0
    }

    #[test]
    fn bounds() {
        for (k, m, ok) in [
            (1, 0, true),
            (16, 4, true),
            (0, 1, false),
            (17, 0, false),
            (4, 5, false),
            (255, 255, false),
        ] {
            assert_eq!(Geometry::new(k, m).is_ok(), ok, "{k}+{m}");
        }
    }

    #[test]
    fn known_capacities() {
        assert_eq!(capacity(1, 0, &[10]), 10);
        assert_eq!(capacity(4, 2, &[100; 6]), 400);
        assert_eq!(capacity(4, 2, &[100; 5]), 300);
        assert_eq!(capacity(4, 2, &[100; 2]), 0);
        assert_eq!(capacity(4, 2, &[]), 0);
        // The large device's surplus cannot be used.
        assert_eq!(capacity(1, 1, &[1000, 10]), 10);
        assert_eq!(capacity(1, 1, &[30, 20, 10]), 30);
        // Sixty in three, forty in two.
        assert_eq!(capacity(2, 1, &[60, 100, 140]), 160);
        // Ten in six, ten in five, twenty in four, the rest in copies.
        assert_eq!(capacity(4, 2, &[10, 20, 40, 50, 60, 90]), 40 + 30 + 40 + 10);
        assert_eq!(capacity(16, 4, &[1 << 52; 20]), 16 << 52);
        assert_eq!(capacity(16, 4, &[u64::MAX; 20]), 16 * MOST_BLOCKS);
    }

    /// What is written if each stripe is as wide as there are devices with room, on those with most.
    fn greedy((k, m): (u8, u8), devices: &[u64]) -> u64 {
        let mut room: Vec<u64> = devices.to_vec();
        let mut all = 0;
        for data in (1..=usize::from(k)).rev() {
            let width = data + usize::from(m);
            loop {
                room.sort_unstable_by(|a, b| b.cmp(a));
                if room.len() < width || room[width - 1] == 0 {
                    break;
                }
                room[..width].iter_mut().for_each(|r| *r -= 1);
                all += data as u64;
            }
        }
        all
    }

    proptest! {
        #[test]
        fn greedy_placement_agrees(k in 1u8..17, m in 0u8..5, devices in prop::collection::vec(0u64..40, 1..24)) {
            prop_assert_eq!(capacity(k, m, &devices), greedy((k, m), &devices), "{:?}", devices);
        }

        #[test]
        fn greedy_placement_agrees_where_few_sizes_are_many(
            k in 1u8..7, m in 0u8..5,
            sizes in prop::collection::vec((0u64..300, 1usize..6), 1..5),
        ) {
            let devices: Vec<u64> = sizes.iter().flat_map(|(blocks, count)| std::iter::repeat(*blocks).take(*count)).collect();
            prop_assert_eq!(capacity(k, m, &devices), greedy((k, m), &devices), "{:?}", devices);
        }

        #[test]
        fn no_more_fits_than_there_is(k in 1u8..17, m in 0u8..5, devices in prop::collection::vec(any::<u64>(), 0..64)) {
            let sum = devices.iter().fold(0u64, |sum, blocks| sum.saturating_add(*blocks));
            prop_assert!(capacity(k, m, &devices) <= sum);
        }
    }
}
