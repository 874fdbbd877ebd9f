// SPDX-License-Identifier: GPL-2.0

//! A campaign: tales from seeds, each cut short in many ways, until so many crash states were looked at. A state that may not be is
//! reported with what is needed to see it again, and with the shortest tale that shows its like.

use crate::host::Chance;
use crate::recording::State;
use crate::states::Kind;
use crate::states::Plan;
use crate::tale::tell;
use crate::tale::Look;
use crate::tale::Shape;
use crate::tale::Tale;
use crate::tally::Tally;
use std::fmt;

/// A crash state that may not be.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed of its tale.
    pub seed: u64,
    /// The tale.
    pub shape: Shape,
    /// The state; none where the tale itself could not be told.
    pub state: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.as_deref().unwrap_or("no crash");
        write!(
            f,
            "SEED={} {:?}, {state}: {}",
            self.seed, self.shape, self.why
        )
    }
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crash states that were looked at.
    pub states: Tally<Kind>,
    /// Tales that were told.
    pub tales: u64,
    /// Mounts that crashed again while they recovered.
    pub again: u64,
    /// Crash states that were gone on from.
    pub gone_on: u64,
    /// What may not be.
    pub violations: Vec<Violation>,
}

/// Looks at crash states from this seed on, until there were so many, or until so many were violations.
pub fn run(seed: u64, states: u64, most: usize, mut progress: impl FnMut(&Report)) -> Report {
    let mut report = Report::default();
    for seed in (0..).map(|n| seed.wrapping_add(n)) {
        if report.states.total() >= states || report.violations.len() >= most {
            break;
        }
        let violations = report.violations.len();
        one(seed, Shape::drawn(&Chance::new(seed)), &mut report);
        if let Some(found) = report.violations.get(violations).cloned() {
            let least = minimised(&found);
            if let Some(place) = report.violations.get_mut(violations) {
                *place = least;
            }
        }
        progress(&report);
    }
    report
}

fn one(seed: u64, shape: Shape, report: &mut Report) {
    report.tales += 1;
    let tale = match tell(seed, shape) {
        Ok(tale) => tale,
        Err(why) => {
            report.violations.push(Violation {
                seed,
                shape,
                state: None,
                why,
            });
            return;
        }
    };
    let plan = Plan {
        seed,
        subsets: 3,
        tears: 1,
        mixed: 20,
    };
    let chance = Chance::new(seed);
    // Not all states of one tale, so that many tales get their turn.
    let wanted = 300.0 / (tale.recording.states(plan).count() as f64);
    for state in tale.recording.states(plan) {
        if chance.next() as f64 > wanted * u64::MAX as f64 {
            continue;
        }
        let look = Look {
            read_only: chance.below(8) == 0,
            go_on: chance.below(8) == 0,
            again: usize::from(chance.below(8) == 0),
        };
        report.states.add(state.kind());
        report.again += look.again as u64;
        report.gone_on += u64::from(look.go_on);
        if let Err(why) = looked_at(&tale, seed, &state, look) {
            report.violations.push(Violation {
                seed,
                shape,
                state: Some(format!("{state} {look:?}")),
                why,
            });
            return;
        }
    }
}

/// A panic is as bad as a wrong volume.
fn looked_at(tale: &Tale, seed: u64, state: &State, look: Look) -> Result<(), String> {
    let looking = std::panic::AssertUnwindSafe(|| tale.check(seed, state, look));
    std::panic::catch_unwind(looking).unwrap_or_else(|_| Err("panicked".into()))
}

/// The shortest tale of the same seed and shape in which anything is wrong, looking everywhere.
fn minimised(found: &Violation) -> Violation {
    let look = Look {
        read_only: true,
        go_on: true,
        again: 1,
    };
    for length in 1..=found.shape.length {
        let shape = Shape {
            length,
            ..found.shape
        };
        let tale = match tell(found.seed, shape) {
            Ok(tale) => tale,
            Err(why) => {
                return Violation {
                    seed: found.seed,
                    shape,
                    state: None,
                    why,
                }
            }
        };
        let plan = Plan {
            seed: found.seed,
            subsets: 3,
            tears: 2,
            mixed: 20,
        };
        for state in tale.recording.states(plan).take(3000) {
            if let Err(why) = looked_at(&tale, found.seed, &state, look) {
                return Violation {
                    seed: found.seed,
                    shape,
                    state: Some(format!("{state} {look:?}")),
                    why,
                };
            }
        }
    }
    found.clone()
}
