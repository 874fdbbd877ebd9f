// SPDX-License-Identifier: GPL-2.0

//! A campaign: tales and sequences, each cut short in many ways, until so many crash states were looked at. A state that may not be is
//! reported with what is needed to see it again, and with the shortest tale or sequence that shows its like.

mod bereft;
mod file;
mod report;

use crate::ace;
use crate::ace::Scene;
use crate::ace::Stage;
use crate::crowd;
use crate::crowd::Crowd;
use crate::deed;
use crate::deed::Sequence;
use crate::host::Chance;
use crate::manuscript;
use crate::recording::State;
use crate::states::Plan;
use crate::storm::Storm;
use crate::storm::Weathered;
use crate::storm::Woe;
use crate::tale::tell;
use crate::tale::Look;
use crate::tale::Shape;
use crate::tale::Tale;
use crate::tale::Without;
pub use bereft::bereft;
pub use bereft::bereft_by;
pub use file::file;
use file::shortened;
use file::written;
pub use file::Writing;
pub use report::Report;
pub use report::Violation;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Parts that the sequences of one and two deeds are gone through in.
pub const PARTS: u64 = 256;

/// Looks everywhere.
const THOROUGH: Look = Look {
    read_only: true,
    without: Without::Each,
    older_root: true,
    go_on: true,
    again: 1,
};

/// Looks at what takes long now and then.
fn sparse(chance: &Chance) -> Look {
    Look {
        read_only: chance.below(5) == 0,
        without: match chance.below(2) {
            0 => Without::One(chance.below(60)),
            _ => Without::Nothing,
        },
        older_root: chance.below(8) == 0,
        go_on: chance.below(5) == 0,
        again: usize::from(chance.below(5) == 0),
    }
}

/// What a campaign does.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// All chance follows from it.
    pub seed: u64,
    /// About so many crash states are looked at.
    pub states: u64,
    /// From this part on the sequences of one and two deeds are gone through, in whole parts, at least one.
    pub part: u64,
    /// The next part is so many further on.
    pub stride: u64,
    /// It ends after so many violations.
    pub most: usize,
}

/// Who runs it.
struct Runner<'r> {
    orders: Orders,
    report: Report,
    progress: &'r mut dyn FnMut(&Report),
}

/// Looks at crash states, one after the other.
pub fn run(orders: Orders, mut progress: impl FnMut(&Report)) -> Report {
    let mut runner = Runner {
        orders,
        report: Report::default(),
        progress: &mut progress,
    };
    runner.all();
    runner.report
}

/// The same by several workers at once, each with seeds and parts of its own. `progress` hears how many states there are, and of new
/// violations.
pub fn run_by(workers: u64, orders: Orders, progress: impl Fn(u64, &[Violation]) + Sync) -> Report {
    divided(workers, progress, |worker, progress| {
        let own = Orders {
            seed: orders.seed.wrapping_add(worker << 32),
            states: orders.states / workers,
            part: orders.part + worker * orders.stride,
            stride: orders.stride * workers,
            most: orders.most,
        };
        run(own, progress)
    })
}

/// Several workers at once, and all that they report. `progress` hears the sum of their states, and of new violations.
fn divided(
    workers: u64,
    progress: impl Fn(u64, &[Violation]) + Sync,
    work: impl Fn(u64, &mut dyn FnMut(&Report)) -> Report + Sync,
) -> Report {
    let states = AtomicU64::new(0);
    let work = |worker: u64| {
        let mut told = (0, 0);
        work(worker, &mut |report| {
            let now = (report.total(), report.violations.len());
            let states = states.fetch_add(now.0 - told.0, Ordering::Relaxed) + now.0 - told.0;
            progress(states, &report.violations[told.1..]);
            told = now;
        })
    };
    std::thread::scope(|scope| {
        let work = &work;
        let spawned: Vec<_> = (0..workers).map(|n| scope.spawn(move || work(n))).collect();
        let mut report = Report::default();
        for worker in spawned {
            match worker.join() {
                Ok(own) => report.merge(own),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        report
    })
}

impl Runner<'_> {
    fn is_over(&self) -> bool {
        self.report.violations.len() >= self.orders.most
    }

    fn all(&mut self) {
        let Orders { seed, states, .. } = self.orders;
        self.tales(seed, states / 4);
        self.manuscripts(seed, self.report.total() + states / 10);
        let stages = || -> Result<Vec<Stage>, String> {
            let scenes = ace::SCENES.into_iter().chain(ace::WIDE);
            scenes.map(Stage::new).collect()
        };
        match guarded(stages) {
            Ok(stages) => {
                let short = &stages[..ace::SCENES.len()];
                self.crowds(seed, self.report.total() + states / 12, &stages);
                self.storms(seed, self.report.total() + states * 3 / 20, &stages);
                // Of what is left, most goes to what can come to an end.
                let left = states.saturating_sub(self.report.total());
                self.parts(short, self.report.total() + left / 4 * 3);
                self.longer(short);
            }
            Err(why) => self.report.violations.push(Violation {
                seed,
                what: "making a volume".into(),
                state: None,
                why,
            }),
        }
    }

    fn tales(&mut self, seed: u64, until: u64) {
        for seed in (0..).map(|n| seed.wrapping_add(n)) {
            if self.report.total() >= until || self.is_over() {
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

    fn manuscripts(&mut self, seed: u64, until: u64) {
        for n in 0.. {
            if self.report.total() >= until || self.is_over() {
                break;
            }
            // Large operations take long, and most of their states are alike.
            let seed = seed.wrapping_add(n);
            let (writing, most) = match n % 4 {
                3 => (
                    Writing::Long(manuscript::LONG[n as usize / 4 % manuscript::LONG.len()]),
                    10.0,
                ),
                _ => (Writing::All, 60.0),
            };
            if let Err(found) = written(seed, &writing, most, &mut self.report) {
                let least = match writing {
                    Writing::Long(_) => found,
                    _ => shortened(found, seed),
                };
                self.report.violations.push(least);
            }
            (self.progress)(&self.report);
        }
    }

    fn crowds(&mut self, seed: u64, until: u64, stages: &[Stage]) {
        for seed in (0..).map(|n| seed.wrapping_add(n)) {
            if self.report.total() >= until || self.is_over() {
                break;
            }
            let chance = Chance::new(seed);
            let stage = &stages[chance.one(&[0, 0, 1, 4, 6, 7, 8])];
            let shape = crowd::Shape::drawn(&chance);
            if let Err(found) = gathered(seed, stage, shape, CROWDED, &mut self.report) {
                let least = calmed(seed, stage, shape);
                self.report.violations.push(least.unwrap_or(found));
            }
            (self.progress)(&self.report);
        }
    }

    fn storms(&mut self, seed: u64, until: u64, stages: &[Stage]) {
        for seed in (0..).map(|n| seed.wrapping_add(n)) {
            if self.report.total() >= until || self.is_over() {
                break;
            }
            let stage = Chance::new(seed).one(&[0, 1, 4, 4, 5, 6, 7, 8]);
            for woe in Woe::ALL {
                match weathered(seed, &stages[stage], woe) {
                    Ok(came) => self.report.storms.merge(&came),
                    Err(found) => self.report.violations.push(found),
                }
                if self.is_over() {
                    return;
                }
            }
            (self.progress)(&self.report);
        }
    }

    /// All sequences of one and two deeds of some parts.
    fn parts(&mut self, stages: &[Stage], until: u64) {
        let Orders {
            seed, part, stride, ..
        } = self.orders;
        let all: Vec<(&Stage, Sequence)> = (stages.iter())
            .flat_map(|stage| stage.complete().into_iter().map(move |s| (stage, s)))
            .collect();
        for part in (0..PARTS / stride.max(1)).map(|n| (part + n * stride) % PARTS) {
            if self.is_over() || !self.report.parts.is_empty() && self.report.total() >= until {
                return;
            }
            for (stage, sequence) in all.iter().skip(part as usize).step_by(PARTS as usize) {
                self.sequence(seed, stage, sequence);
                if self.is_over() {
                    return;
                }
            }
            self.report.parts.push(part);
            (self.progress)(&self.report);
        }
    }

    /// Sequences of three deeds, drawn.
    fn longer(&mut self, stages: &[Stage]) {
        let Orders { seed, states, .. } = self.orders;
        // Every kind is the last of some.
        let kinds = deed::Kind::ALL.len() as u64;
        for n in 0.. {
            let enough = n >= 2 * kinds && self.report.total() >= states;
            if enough || self.is_over() {
                break;
            }
            let seed = seed.wrapping_add(n);
            let kind = deed::Kind::ALL[(n % kinds) as usize];
            // Rather where it can be done at once.
            let mut fit: Vec<&Stage> = stages.iter().filter(|s| s.begins_with(kind)).collect();
            if fit.is_empty() {
                fit = stages.iter().collect();
            }
            let stage = fit[(n / kinds) as usize % fit.len()];
            let sequence = stage.drawn(&Chance::new(seed), 3, kind);
            self.sequence(seed, stage, &sequence);
            (self.progress)(&self.report);
        }
    }

    fn sequence(&mut self, seed: u64, stage: &Stage, sequence: &Sequence) {
        self.report.sequences.add(sequence.0.len());
        let Err(found) = cut_short(seed, stage, sequence, 1, sparse, &mut self.report) else {
            return;
        };
        self.report.violations.push(fewest(found, stage, sequence));
    }
}

/// Of a crowd, about so many states are looked at.
const CROWDED: f64 = 30.0;

/// Lets a crowd work and looks at about so many of its crashes.
fn gathered(
    seed: u64,
    stage: &Stage,
    shape: crowd::Shape,
    most: f64,
    report: &mut Report,
) -> Result<(), Violation> {
    report.crowds += 1;
    let violation = |state, why| Violation {
        seed,
        what: format!(
            "{}: crowd of {} tasks, {} things each",
            stage.scene, shape.tasks, shape.length
        ),
        state,
        why,
    };
    let crowd =
        guarded(|| Crowd::gather(stage, seed, shape)).map_err(|why| violation(None, why))?;
    report.acts.merge(&crowd.acts);
    let plan = Plan {
        seed,
        subsets: 3,
        tears: 1,
        mixed: 20,
    };
    for (state, chance) in crowd.recording().some(plan, most) {
        let look = sparse(&chance);
        report.count(&state, look, crowd.recording().slots(state.cut).count());
        guarded(|| crowd.check(seed, &state, look))
            .map_err(|why| violation(Some(format!("{state} {look:?}")), why))?;
    }
    Ok(())
}

/// The smallest crowd of this seed in which anything is wrong; none where it takes too long to find.
fn calmed(seed: u64, stage: &Stage, shape: crowd::Shape) -> Option<Violation> {
    let shapes = (1..=shape.length)
        .flat_map(|length| (2..=shape.tasks).map(move |tasks| crowd::Shape { tasks, length }));
    // A crowd that waits for ever leaves its tasks behind.
    shapes.take(30).find_map(|shape| {
        let mut report = Report::default();
        gathered(seed, stage, shape, 10.0 * CROWDED, &mut report).err()
    })
}

/// One crowd again.
pub fn crowd(seed: u64, scene: Scene, shape: crowd::Shape) -> Report {
    let mut report = Report::default();
    let stage = Stage::new(scene).map_err(|why| Violation {
        seed,
        what: scene.to_string(),
        state: None,
        why,
    });
    let done = stage.and_then(|stage| gathered(seed, &stage, shape, f64::MAX, &mut report));
    report.violations.extend(done.err());
    report
}

/// One storm again.
pub fn storm(seed: u64, scene: Scene, woe: Woe) -> Report {
    let mut report = Report::default();
    match Stage::new(scene) {
        Ok(stage) => match weathered(seed, &stage, woe) {
            Ok(came) => report.storms.merge(&came),
            Err(found) => report.violations.push(found),
        },
        Err(why) => report.violations.push(Violation {
            seed,
            what: scene.to_string(),
            state: None,
            why,
        }),
    }
    report
}

/// One storm, or the shortest of its seed in which anything is wrong.
fn weathered(seed: u64, stage: &Stage, woe: Woe) -> Result<Weathered, Violation> {
    let storm = |most| guarded(|| Storm::new(stage, woe, seed, most).weather());
    storm(usize::MAX).map_err(|why| {
        let (most, why) = (0..20)
            .find_map(|most| Some((most, storm(most).err()?)))
            .unwrap_or((usize::MAX, why));
        Violation {
            seed,
            what: format!("{}: {woe:?}, {most} deeds", stage.scene),
            state: None,
            why,
        }
    })
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
        report.count(&state, look, story.recording().slots(state.cut).count());
        report.deeds.add(story.kind);
        let seen = guarded(|| stage.check(&story, seed, &state, look))
            .map_err(|why| violation(Some(format!("{state} {look:?}")), why))?;
        report.seen.merge(&seen);
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
        let again = cut_short(
            found.seed,
            stage,
            &less,
            tears,
            look,
            &mut Report::default(),
        );
        match again {
            // A sequence of which something is refused is another one.
            Err(still) if stage.estate().allows_all(&less) => (found, sequence) = (still, less),
            _ => n += 1,
        }
    }
    found
}

/// Only the sequences of one and two deeds, and of these only one part.
pub fn part(seed: u64, part: u64) -> Report {
    let mut runner = Runner {
        orders: Orders {
            seed,
            states: 0,
            part,
            stride: 1,
            most: 1,
        },
        report: Report::default(),
        progress: &mut |_| (),
    };
    match guarded(|| ace::SCENES.map(Stage::new).into_iter().collect()) {
        Ok(stages) => {
            let stages: Vec<Stage> = stages;
            runner.parts(&stages, 0);
        }
        Err(why) => runner.report.violations.push(Violation {
            seed,
            what: "making a volume".into(),
            state: None,
            why,
        }),
    }
    runner.report
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
    let tale = match guarded(|| tell(seed, shape)) {
        Ok(tale) => tale,
        Err(why) => return violation(None, why),
    };
    let plan = Plan {
        seed,
        subsets: 3,
        tears: 1,
        mixed: 20,
    };
    // Not all states of one tale, so that many tales get their turn.
    for (state, chance) in tale.recording.some(plan, 300.0) {
        let look = sparse(&chance);
        report.count(&state, look, tale.recording.slots(state.cut).count());
        if let Err(why) = looked_at(&tale, seed, &state, look) {
            return violation(Some(format!("{state} {look:?}")), why);
        }
    }
    None
}

fn looked_at(tale: &Tale, seed: u64, state: &State, look: Look) -> Result<(), String> {
    guarded(|| tale.check(seed, state, look))
}

/// The shortest tale of this seed and shape in which anything is wrong, looking everywhere; none where that takes too long to find.
fn minimised(seed: u64, shape: Shape) -> Option<Violation> {
    let mut left = 20_000;
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
        let tale = match guarded(|| tell(seed, shape)) {
            Ok(tale) => tale,
            Err(why) => return violation(None, why),
        };
        let plan = Plan {
            seed,
            subsets: 3,
            tears: 2,
            mixed: 20,
        };
        for state in tale.recording.states(plan).take(3000.min(left)) {
            left -= 1;
            if let Err(why) = looked_at(&tale, seed, &state, THOROUGH) {
                return violation(Some(format!("{state} {THOROUGH:?}")), why);
            }
        }
    }
    None
}
