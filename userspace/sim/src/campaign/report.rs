// SPDX-License-Identifier: GPL-2.0

//! What a campaign came to: counts by kind, and what may not be.

use crate::crowd::ActKind;
use crate::deed;
use crate::fault::Injected;
use crate::recording::State;
use crate::seen::Seen;
use crate::states;
use crate::states::Kind;
use crate::storm::Weathered;
use crate::storm::Woe;
use crate::tale::Look;
use crate::tale::Without;
use crate::tally::Tally;
use std::fmt;

/// A crash state that may not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed that it comes from.
    pub seed: u64,
    /// The tale or the sequence.
    pub what: String,
    /// The state; none where already what comes before the crash went wrong.
    pub state: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_deref().unwrap_or("no crash");
        write!(f, "SEED={} {}, {state}: {}", self.seed, self.what, self.why)
    }
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crash states that were looked at, by what drives kept.
    pub states: Tally<Kind>,
    /// Those of sequences among them, by what their last deed was.
    pub deeds: Tally<deed::Kind>,
    /// Tales that were told.
    pub tales: u64,
    /// Sequences that were played, by their length.
    pub sequences: Tally<usize>,
    /// Parts of the sequences of one and two deeds that were gone through.
    pub parts: Vec<u64>,
    /// Manuscripts that were written.
    pub manuscripts: u64,
    /// What was met meanwhile.
    pub seen: Seen,
    /// Crowds of tasks that worked at once.
    pub crowds: u64,
    /// What they did.
    pub acts: Tally<ActKind>,
    /// What storms came to; their states are not among the others.
    pub storms: Weathered,
    /// Mounts that crashed again while they recovered.
    pub again: u64,
    /// Crash states that were gone on from.
    pub gone_on: u64,
    /// Those that were looked at without the newest root, too.
    pub older_roots: u64,
    /// Those that were looked at without one of the drives.
    pub without: u64,
    /// What may not be.
    pub violations: Vec<Violation>,
}

impl Report {
    /// All crash states that were looked at.
    pub fn total(&self) -> u64 {
        self.states.total() + self.storms.looked
    }
}

impl Report {
    /// What a campaign is to reach, and this one never did.
    pub fn never(&self) -> Vec<String> {
        fn of<K: Ord + Copy + fmt::Debug>(tally: &Tally<K>, all: &[K]) -> Vec<String> {
            let none = all.iter().filter(|kind| tally.of(**kind) == 0);
            none.map(|kind| format!("{kind:?}")).collect()
        }
        let counts = [
            (self.again, "Again"),
            (self.gone_on, "GoneOn"),
            (self.older_roots, "OlderRoots"),
            (self.storms.older_roots, "OlderRootsInStorms"),
            (self.without, "Without"),
            (self.crowds, "Crowds"),
            (self.storms.unallocated, "Unallocated"),
        ];
        let mut never = of(&self.states, &states::Kind::ALL);
        never.extend(of(&self.deeds, &deed::Kind::ALL));
        never.extend(of(&self.storms.states, &Woe::ALL));
        never.extend(of(&self.storms.injected, &Injected::ALL));
        let counts = counts.into_iter().chain(self.seen.counts());
        let none = counts.filter(|(count, _)| *count == 0);
        never.extend(none.map(|(_, name)| name.to_owned()));
        never
    }

    /// Counts a state of so many drives.
    pub(super) fn count(&mut self, state: &State, look: Look, drives: usize) {
        self.states.add(state.kind());
        self.again += look.again as u64;
        self.gone_on += u64::from(look.go_on);
        self.older_roots += u64::from(look.older_root);
        self.without += u64::from(drives > 1 && look.without != Without::Nothing);
    }

    /// Adds what another one came to.
    pub fn merge(&mut self, other: Report) {
        self.states.merge(&other.states);
        self.deeds.merge(&other.deeds);
        self.tales += other.tales;
        self.sequences.merge(&other.sequences);
        self.parts.extend(other.parts);
        self.parts.sort_unstable();
        self.manuscripts += other.manuscripts;
        self.seen.merge(&other.seen);
        self.crowds += other.crowds;
        self.acts.merge(&other.acts);
        self.storms.merge(&other.storms);
        self.again += other.again;
        self.gone_on += other.gone_on;
        self.older_roots += other.older_roots;
        self.without += other.without;
        self.violations.extend(other.violations);
    }
}
