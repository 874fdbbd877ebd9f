// SPDX-License-Identifier: GPL-2.0

//! The part of a campaign that works on one file: [manuscripts](crate::manuscript), their crashes, and fewer operations where
//! anything is wrong.

use super::guarded;
use super::Report;
use super::Violation;
use crate::host::Chance;
use crate::manuscript;
use crate::manuscript::Manuscript;
use crate::sectors::BadText;
use crate::states::Plan;
use std::fmt;
use std::str::FromStr;

/// What is written in a manuscript.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Writing {
    /// All operations that the seed has.
    All,
    /// Some of them, by their numbers.
    Some(Vec<usize>),
    /// One that is large.
    Long(&'static str),
}

impl fmt::Display for Writing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writing::All => f.write_str("all"),
            Writing::Long(operation) => f.write_str(operation),
            Writing::Some(steps) => {
                let steps: Vec<String> = steps.iter().map(usize::to_string).collect();
                f.write_str(&steps.join(","))
            }
        }
    }
}

impl FromStr for Writing {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        if text == "all" {
            return Ok(Writing::All);
        }
        if let Some(long) = manuscript::LONG.into_iter().find(|long| *long == text) {
            return Ok(Writing::Long(long));
        }
        let steps = text.split(',').map(|n| n.parse().map_err(|_| BadText));
        steps.collect::<Result<_, _>>().map(Writing::Some)
    }
}

fn manuscript(seed: u64, writing: &Writing) -> Result<Manuscript, String> {
    guarded(|| match writing {
        Writing::All => Manuscript::drawn(seed, None),
        Writing::Some(steps) => Manuscript::drawn(seed, Some(steps)),
        Writing::Long(operation) => {
            let kept = Chance::new(seed).below(2) == 0;
            Manuscript::long(seed, operation, kept)
        }
    })
}

/// Writes a manuscript and looks at about so many of its crashes.
pub(super) fn written(
    seed: u64,
    writing: &Writing,
    most: f64,
    report: &mut Report,
) -> Result<(), Violation> {
    report.manuscripts += 1;
    let violation = |state, why| Violation {
        seed,
        what: format!("file: {writing}"),
        state,
        why,
    };
    let script = manuscript(seed, writing).map_err(|why| violation(None, why))?;
    let plan = Plan {
        seed,
        subsets: 3,
        tears: 1,
        mixed: 20,
    };
    for (state, chance) in script.recording.some(plan, most) {
        // Where all are looked at, it is to be found again.
        let older_root = most == f64::MAX || chance.below(8) == 0;
        report.states.add(state.kind());
        report.gone_on += 1;
        report.older_roots += u64::from(older_root);
        report.without += u64::from(script.bears_loss());
        let seen = guarded(|| script.check(seed, &state, older_root))
            .map_err(|why| violation(Some(state.to_string()), why))?;
        report.seen.merge(&seen);
    }
    Ok(())
}

/// What is left of a manuscript when all operations are dropped without which something is wrong still.
pub(super) fn shortened(mut found: Violation, seed: u64) -> Violation {
    let Ok(script) = manuscript(seed, &Writing::All) else {
        return found;
    };
    let mut steps = script.steps;
    let mut at_once = steps.len() / 2;
    while at_once > 0 {
        let mut from = 0;
        while from < steps.len() && steps.len() > at_once {
            let mut less = steps.clone();
            less.drain(from..less.len().min(from + at_once));
            let writing = Writing::Some(less.clone());
            match written(seed, &writing, 1000.0, &mut Report::default()) {
                Err(still) => (found, steps) = (still, less),
                Ok(()) => from += at_once,
            }
        }
        at_once /= 2;
    }
    found
}

/// One manuscript again, and all its crashes.
pub fn file(seed: u64, writing: &Writing) -> Report {
    let mut report = Report::default();
    let done = written(seed, writing, f64::MAX, &mut report);
    report.violations.extend(done.err());
    report
}
