// SPDX-License-Identifier: GPL-2.0

//! A campaign: tales and sequences, each cut short in many ways, until so many crash states were looked at. A state that may not be is
//! reported with what is needed to see it again, and with the shortest tale or sequence that shows its like.

use crate::ace;
use crate::ace::Scene;
use crate::ace::Stage;
use crate::deed;
use crate::deed::Deed;
use crate::deed::Sequence;
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

/// Parts that the sequences of one and two deeds are gone through in.
pub const PARTS: u64 = 256;

/// Looks everywhere.
const THOROUGH: Look = Look {
    read_only: true,
    go_on: true,
    again: 1,
};

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
    /// Mounts that crashed again while they recovered.
    pub again: u64,
    /// Crash states that were gone on from.
    pub gone_on: u64,
    /// What may not be.
    pub violations: Vec<Violation>,
}

/// Who runs it.
struct Runner<'r> {
    report: Report,
    most: usize,
    progress: &'r mut dyn FnMut(&Report),
}

/// Looks at about so many crash states, or until so many were violations: tales and drawn sequences from this seed on, and of the sequences
/// of one and two deeds whole parts, from `part` on.
pub fn run(
    seed: u64,
    states: u64,
    part: u64,
    most: usize,
    mut progress: impl FnMut(&Report),
) -> Report {
    let mut runner = Runner {
        report: Report::default(),
        most,
        progress: &mut progress,
    };
    // Tales go on first, as the sequences do not go round the journal and are never on a full volume.
    runner.tales(seed, states / 2);
    match ace::SCENES.map(Stage::new).into_iter().collect() {
        Ok(stages) => runner.sequences(seed, states, part, stages),
        Err(why) => runner.report.violations.push(Violation {
            seed,
            what: "making a volume".into(),
            state: None,
            why,
        }),
    }
    runner.report
}

impl Runner<'_> {
    fn is_over(&self) -> bool {
        self.report.violations.len() >= self.most
    }

    fn tales(&mut self, seed: u64, until: u64) {
        for seed in (0..).map(|n| seed.wrapping_add(n)) {
            if self.report.states.total() >= until || self.is_over() {
                break;
            }
            let shape = Shape::drawn(&Chance::new(seed));
            if let Some(found) = tale(seed, shape, &mut self.report) {
                let least = minimised(seed, shape);
                self.report.violations.push(least.unwrap_or(found));
            }
            (self.progress)(&self.report);
        }
    }

    fn sequences(&mut self, seed: u64, states: u64, part: u64, stages: Vec<Stage>) {
        let all: Vec<(&Stage, Sequence)> = (stages.iter())
            .flat_map(|stage| stage.complete().into_iter().map(move |s| (stage, s)))
            .collect();
        let begun = self.report.states.total();
        let until = begun + states.saturating_sub(begun) / 2;
        for part in (0..PARTS).map(|n| (part + n) % PARTS) {
            if !self.report.parts.is_empty() && self.report.states.total() >= until {
                break;
            }
            let of_part = (part as usize..all.len()).step_by(PARTS as usize);
            for (stage, sequence) in of_part.map(|n| &all[n]) {
                self.sequence(seed, stage, sequence);
                if self.is_over() {
                    return;
                }
            }
            self.report.parts.push(part);
            (self.progress)(&self.report);
        }
        for seed in (0..).map(|n| seed.wrapping_add(n)) {
            if self.report.states.total() >= states || self.is_over() {
                break;
            }
            let chance = Chance::new(seed);
            let stage = &stages[chance.below(stages.len())];
            let sequence = stage.drawn(&chance, 3);
            self.sequence(seed, stage, &sequence);
            (self.progress)(&self.report);
        }
    }

    fn sequence(&mut self, seed: u64, stage: &Stage, sequence: &Sequence) {
        self.report.sequences.add(sequence.0.len());
        let sparse = |chance: &Chance| Look {
            read_only: chance.below(8) == 0,
            go_on: chance.below(8) == 0,
            again: usize::from(chance.below(8) == 0),
        };
        let Err(found) = cut_short(seed, stage, sequence, 1, sparse, &mut self.report) else {
            return;
        };
        self.report.violations.push(fewest(found, stage, sequence));
    }
}

/// Plays a sequence and looks at its crashes.
fn cut_short(
    seed: u64,
    stage: &Stage,
    sequence: &Sequence,
    tears: usize,
    look: impl Fn(&Chance) -> Look,
    report: &mut Report,
) -> Result<(), Violation> {
    let violation = |state, why| Violation {
        seed,
        what: format!("{}: {sequence}", stage.scene),
        state,
        why,
    };
    let story = guarded(|| stage.play(sequence)).map_err(|why| violation(None, why))?;
    let plan = Plan {
        seed,
        subsets: 2,
        tears,
        mixed: 3,
    };
    let chance = Chance::new(seed);
    for state in story.states(plan) {
        let look = look(&chance);
        report.states.add(state.kind());
        report.deeds.add(story.kind);
        report.again += look.again as u64;
        report.gone_on += u64::from(look.go_on);
        guarded(|| stage.check(&story, seed, &state, look))
            .map_err(|why| violation(Some(format!("{state} {look:?}")), why))?;
    }
    Ok(())
}

/// A panic is as bad as a wrong volume.
fn guarded<T>(act: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(act))
        .unwrap_or_else(|_| Err("panicked".into()))
}

/// What is left of a sequence when every deed is dropped without which something is wrong still.
fn fewest(mut found: Violation, stage: &Stage, sequence: &Sequence) -> Violation {
    let mut sequence = sequence.clone();
    let mut n = 0;
    while n < sequence.0.len() && sequence.0.len() > 1 {
        let mut less = sequence.clone();
        less.0.remove(n);
        let look = |_: &Chance| THOROUGH;
        let tears = Plan::ALL_TEARS;
        let again = cut_short(found.seed, stage, &less, tears, look, &mut Report::default());
        match again {
            // A sequence of which something is refused is another one.
            Err(still) if is_allowed(stage, &less) => (found, sequence) = (still, less),
            _ => n += 1,
        }
    }
    found
}

fn is_allowed(stage: &Stage, sequence: &Sequence) -> bool {
    let mut estate = stage.estate().clone();
    let mut made = (1 << 40)..;
    let mut allowed = |deed: &Deed| {
        let number = made.next().unwrap_or(u64::MAX);
        estate.apply(*deed, 1, number).is_ok()
    };
    sequence.0.iter().all(&mut allowed)
}

/// Plays one sequence and looks everywhere; what is wrong first.
pub fn replay(seed: u64, scene: Scene, sequence: &Sequence) -> Result<Report, Violation> {
    let mut report = Report::default();
    let failed = |why| Violation {
        seed,
        what: scene.to_string(),
        state: None,
        why,
    };
    let stage = Stage::new(scene).map_err(failed)?;
    let look = |_: &Chance| THOROUGH;
    cut_short(seed, &stage, sequence, Plan::ALL_TEARS, look, &mut report)?;
    Ok(report)
}

/// Tells a tale and looks at some of its crashes; the first that may not be.
fn tale(seed: u64, shape: Shape, report: &mut Report) -> Option<Violation> {
    report.tales += 1;
    let violation = |state, why| {
        Some(Violation {
            seed,
            what: format!("{shape:?}"),
            state,
            why,
        })
    };
    let tale = match tell(seed, shape) {
        Ok(tale) => tale,
        Err(why) => return violation(None, why),
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
            return violation(Some(format!("{state} {look:?}")), why);
        }
    }
    None
}

fn looked_at(tale: &Tale, seed: u64, state: &State, look: Look) -> Result<(), String> {
    guarded(|| tale.check(seed, state, look))
}

/// The shortest tale of this seed and shape in which anything is wrong, looking everywhere.
fn minimised(seed: u64, shape: Shape) -> Option<Violation> {
    for length in 1..=shape.length {
        let shape = Shape { length, ..shape };
        let violation = |state, why| {
            Some(Violation {
                seed,
                what: format!("{shape:?}"),
                state,
                why,
            })
        };
        let tale = match tell(seed, shape) {
            Ok(tale) => tale,
            Err(why) => return violation(None, why),
        };
        let plan = Plan {
            seed,
            subsets: 3,
            tears: 2,
            mixed: 20,
        };
        for state in tale.recording.states(plan).take(3000) {
            if let Err(why) = looked_at(&tale, seed, &state, THOROUGH) {
                return violation(Some(format!("{state} {THOROUGH:?}")), why);
            }
        }
    }
    None
}
