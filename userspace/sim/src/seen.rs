// SPDX-License-Identifier: GPL-2.0

//! What was met while crash states were looked at: not what drives kept, but what the engine had to do with it.

use std::fmt;

/// How often.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Operations on files that a crash left half done, and that were carried out.
    pub intents: u64,
    /// Those of them that somebody carried out who took a snapshot, before anything was resumed.
    pub taken_over: u64,
    /// Volumes that were worked on without as many drives as were lost.
    pub degraded: u64,
    /// Volumes of which something could only be read from other fragments.
    pub rebuilt: u64,
    /// Volumes that a crash left with snapshots.
    pub kept: u64,
    /// Volumes whose drives came back and were caught up.
    pub caught_up: u64,
    /// Sound volumes to which a repair did nothing.
    pub repairs: u64,
}

impl Seen {
    /// Adds what else was met.
    pub fn merge(&mut self, other: &Seen) {
        self.intents += other.intents;
        self.taken_over += other.taken_over;
        self.degraded += other.degraded;
        self.rebuilt += other.rebuilt;
        self.kept += other.kept;
        self.caught_up += other.caught_up;
        self.repairs += other.repairs;
    }
}

impl Seen {
    /// The counts, and what they are called.
    pub fn counts(&self) -> [(u64, &'static str); 7] {
        [
            (self.intents, "Intents"),
            (self.taken_over, "IntentsTakenOver"),
            (self.degraded, "WorkedOnDegraded"),
            (self.rebuilt, "Rebuilt"),
            (self.kept, "Kept"),
            (self.caught_up, "CaughtUp"),
            (self.repairs, "RepairsOfNothing"),
        ]
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.counts().map(|(count, name)| format!("{name} {count}"));
        f.write_str(&all.join(", "))
    }
}
