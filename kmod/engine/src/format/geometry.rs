// SPDX-License-Identifier: GPL-2.0

//! k data and m parity fragments: which pairs there are, and how much fits on a set of devices.

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

    /// Blocks of payload that devices with so many allocatable blocks can hold.
    ///
    /// With s stripes of one block per fragment, a device takes at most s fragments, and never two of one stripe; so the
    /// largest s is the one whose demand, width * s, is just met by the sum of min(device, s).
    pub fn capacity(self, devices: impl Iterator<Item = Blocks> + Clone) -> Blocks {
        let total = devices
            .clone()
            .fold(0u128, |sum, b| sum.saturating_add(u128::from(b.0)));
        let width = u128::from(self.width());
        let fits = |s: u128| {
            let room = devices
                .clone()
                .fold(0u128, |sum, b| sum.saturating_add(u128::from(b.0).min(s)));
            width.checked_mul(s).is_some_and(|need| need <= room)
        };
        // No stripe count above the sum of blocks fits. (The kernel has no 128-bit division.)
        let (mut low, mut high) = (0u128, total);
        while low < high {
            let middle = high.saturating_sub(high.saturating_sub(low) >> 1);
            if fits(middle) {
                low = middle;
            } else {
                high = middle.saturating_sub(1);
            }
        }
        Blocks(u64::try_from(low.saturating_mul(u128::from(self.data))).unwrap_or(u64::MAX))
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
        assert_eq!(capacity(4, 2, &[100; 5]), 0);
        // The large device's surplus cannot be used.
        assert_eq!(capacity(1, 1, &[1000, 10]), 10);
        assert_eq!(capacity(1, 1, &[30, 20, 10]), 30);
        assert_eq!(capacity(16, 4, &[u64::MAX; 20]), u64::MAX);
    }

    proptest! {
        /// A greedy placement, always on the devices with most room, reaches what the formula says.
        #[test]
        fn greedy_placement_agrees(k in 1u8..5, m in 0u8..4, devices in prop::collection::vec(0u64..40, 1..9)) {
            let width = usize::from(k + m);
            let mut room = devices.clone();
            let mut stripes = 0;
            loop {
                room.sort_unstable_by(|a, b| b.cmp(a));
                if room.len() < width || room[width - 1] == 0 {
                    break;
                }
                room[..width].iter_mut().for_each(|r| *r -= 1);
                stripes += 1;
            }
            let devices: Vec<u64> = devices;
            prop_assert_eq!(capacity(k, m, &devices), stripes * u64::from(k));
        }
    }
}
