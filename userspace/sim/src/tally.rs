// SPDX-License-Identifier: GPL-2.0

//! How often something happened, by kind: a test that counts what it did can tell that it did nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tally<K>(BTreeMap<K, u64>);

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Tally(BTreeMap::new())
    }
}

impl<K: Ord + Copy> Tally<K> {
    /// Counts one.
    pub fn add(&mut self, kind: K) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// How many of this kind.
    pub fn of(&self, kind: K) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// How many of all kinds.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Adds what another one counted.
    pub fn merge(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            *self.0.entry(*kind).or_default() += count;
        }
    }
}

impl<K: Ord + Copy> FromIterator<K> for Tally<K> {
    fn from_iter<I: IntoIterator<Item = K>>(kinds: I) -> Self {
        let mut tally = Tally::default();
        kinds.into_iter().for_each(|kind| tally.add(kind));
        tally
    }
}

impl<K: fmt::Debug> fmt::Display for Tally<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (kind, count) in &self.0 {
            write!(f, "{between}{kind:?} {count}")?;
            between = ", ";
        }
        Ok(())
    }
}
