// SPDX-License-Identifier: GPL-2.0

//! The campaign of losses: volumes of one shape are worked on and cut short, and from each cut as many drives do not come back as the
//! shape bears. All that was acknowledged is there, and nothing that is read is wrong.

use super::guarded;
use super::Report;
use super::Violation;
use crate::ace::Beginning;
use crate::ace::Scene;
use crate::ace::Stage;
use crate::crowd;
use crate::crowd::Crowd;
use crate::deed;
use crate::host::Chance;
use crate::manuscript::Manuscript;
use crate::recording::Recording;
use crate::recording::State;
use crate::seen::Seen;
use crate::states::Plan;
use crate::tale::Look;
use crate::tale::Without;
use embr_engine::format::geometry::Geometry;

/// Of one piece of work so many states are looked at.
const MOST: f64 = 60.0;

/// Nothing but the loss.
fn loss(chance: &Chance) -> Look {
    Look {
        read_only: false,
        without: Without::Most(chance.next() as usize),
        older_root: false,
        go_on: false,
        again: 0,
    }
}

struct Bereft<'r> {
    seed: u64,
    stage: Stage,
    report: &'r mut Report,
}

impl Bereft<'_> {
    fn violation(&self, what: &str, state: Option<String>, why: String) -> Violation {
        Violation {
            seed: self.seed,
            what: format!("without {}: {what}", self.stage.scene.bundle),
            state,
            why,
        }
    }

    fn look_at(
        &mut self,
        what: &str,
        recording: &Recording,
        check: impl Fn(&State, &Chance) -> Result<Seen, String>,
    ) -> Result<(), Violation> {
        let plan = Plan {
            seed: self.seed,
            subsets: 3,
            tears: 1,
            mixed: 20,
        };
        for (state, chance) in recording.some(plan, MOST) {
            self.report.states.add(state.kind());
            self.report.without += 1;
            let seen = guarded(|| check(&state, &chance))
                .map_err(|why| self.violation(what, Some(state.to_string()), why))?;
            self.report.seen.merge(&seen);
        }
        Ok(())
    }

    /// One file that much is done to.
    fn file(&mut self) -> Result<(), Violation> {
        let bundle = self.stage.scene.bundle;
        // Now and then there are more drives than fragments.
        let drives = usize::from(bundle.width()) + usize::from(self.seed % 4 == 0);
        let volume = (drives, (bundle.data(), bundle.parity()));
        let seed = self.seed;
        let script = guarded(|| Manuscript::drawn_on(volume, seed, None))
            .map_err(|why| self.violation("file", None, why))?;
        self.report.manuscripts += 1;
        self.look_at("file", &script.recording, |state, _| {
            script.check_bereft(seed, state)
        })
    }

    /// Names, files and attributes, one thing after the other.
    fn sequence(&mut self) -> Result<(), Violation> {
        let chance = Chance::new(self.seed);
        let kind = chance.one(&deed::Kind::ALL);
        let sequence = self.stage.drawn(&chance, 2 + chance.below(6), kind);
        let what = sequence.to_string();
        let story = guarded(|| self.stage.play(&sequence))
            .map_err(|why| self.violation(&what, None, why))?;
        self.report.sequences.add(sequence.0.len());
        let (seed, stage) = (self.seed, self.stage.clone());
        self.look_at(&what, story.recording(), |state, chance| {
            stage.check(&story, seed, state, loss(chance))
        })
    }

    /// Several tasks at once.
    fn crowd(&mut self) -> Result<(), Violation> {
        let seed = self.seed;
        let shape = crowd::Shape::drawn(&Chance::new(seed));
        let what = format!(
            "crowd of {} tasks, {} things each",
            shape.tasks, shape.length
        );
        let crowd = guarded(|| Crowd::gather(&self.stage, seed, shape))
            .map_err(|why| self.violation(&what, None, why))?;
        self.report.crowds += 1;
        self.report.acts.merge(&crowd.acts);
        self.look_at(&what, crowd.recording(), |state, chance| {
            crowd
                .check(seed, state, loss(chance))
                .map(|()| Seen::default())
        })
    }
}

/// Looks at about so many states of volumes with stripes of this shape, each without as many drives as they bear. At least all that
/// follows from the first seed.
pub fn bereft(
    seed: u64,
    bundle: Geometry,
    states: u64,
    mut progress: impl FnMut(&Report),
) -> Report {
    let mut report = Report::default();
    let scenes = [Beginning::Furnished, Beginning::Kept].map(|begins| Scene { bundle, begins });
    let stages = || -> Result<Vec<Stage>, String> { scenes.map(Stage::new).into_iter().collect() };
    let stages = match guarded(stages) {
        Ok(stages) => stages,
        Err(why) => {
            let what = bundle.to_string();
            report.violations.push(Violation {
                seed,
                what,
                state: None,
                why,
            });
            return report;
        }
    };
    for seed in (0..).map(|n| seed.wrapping_add(n)) {
        let mut bereft = Bereft {
            seed,
            stage: stages[(seed % 2) as usize].clone(),
            report: &mut report,
        };
        let done = bereft.file();
        let done = done.and_then(|()| bereft.sequence());
        let done = done.and_then(|()| bereft.crowd());
        report.violations.extend(done.err());
        progress(&report);
        if report.total() >= states || report.violations.len() >= 5 {
            break;
        }
    }
    report
}

/// The same by several workers at once. `progress` hears how many states there are, and of new violations.
pub fn bereft_by(
    workers: u64,
    seed: u64,
    bundle: Geometry,
    states: u64,
    progress: impl Fn(u64, &[Violation]) + Sync,
) -> Report {
    super::divided(workers, progress, |worker, progress| {
        bereft(
            seed.wrapping_add(worker << 32),
            bundle,
            states / workers,
            progress,
        )
    })
}
