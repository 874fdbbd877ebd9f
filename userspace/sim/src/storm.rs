// SPDX-License-Identifier: GPL-2.0

//! Drives that do what they should not, while [deeds](crate::deed) are done and afterwards: errors, rot, writes that are lost or land
//! elsewhere, flushes that lie, drives that go and come back; and lack of memory. As long as no more drives are bad than may be lost,
//! nothing acknowledged is lost; and whatever is bad, nothing false is ever read.

mod aftermath;
mod woe;

use crate::ace;
use crate::ace::Actor;
use crate::ace::Failed;
use crate::ace::Stage;
use crate::cache::shuffle;
use crate::cache::Survival;
use crate::deed::Deed;
use crate::deed::Sequence;
use crate::estate::Estate;
use crate::fault::Injected;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::machine;
use crate::machine::Simulated;
use crate::tally::Tally;
use aftermath::Attempt;
pub use aftermath::Refusal;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::units::Bytes;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;
pub use woe::Woe;

/// What storms came to.
#[derive(Clone, Debug, Default)]
pub struct Weathered {
    /// Crash states that were looked at.
    pub looked: u64,
    /// Those of them in which that really came which was to go wrong.
    pub states: Tally<Woe>,
    /// What was done to drives.
    pub injected: Tally<Injected>,
    /// Allocations that failed.
    pub unallocated: u64,
    /// Storms in which the engine stopped.
    pub stopped: u64,
    /// States that were looked at without the newest root, too.
    pub older_roots: u64,
    /// Mounts that were refused, as they may be.
    pub refused: Tally<Refusal>,
}

impl Weathered {
    /// Adds what others came to.
    pub fn merge(&mut self, other: &Weathered) {
        self.looked += other.looked;
        self.states.merge(&other.states);
        self.injected.merge(&other.injected);
        self.unallocated += other.unallocated;
        self.stopped += other.stopped;
        self.older_roots += other.older_roots;
        self.refused.merge(&other.refused);
    }
}

/// What was done, and what of it must be there.
struct Annals {
    lefts: Vec<Estate>,
    durable: usize,
    /// What failed: done or not.
    last: Option<(Deed, u64)>,
}

impl Annals {
    /// Whether this may be there.
    fn allow(&self, found: &Estate, least: usize) -> Result<(), String> {
        let some = self.lefts.get(least..).unwrap_or_default();
        let newest = self.lefts.last().ok_or("no beginning")?;
        // A mount forgets what has no name; what somebody held is among the rest of what there was.
        // What a snapshot has of it was left to a mount that was too late.
        let found = &found.clone().without_any_orphans();
        let is_it = |left: &Estate| left.clone().without_any_orphans() == *found;
        if some.iter().rev().any(is_it) || self.is_last(newest, found) {
            return Ok(());
        }
        if self.lefts.iter().any(is_it) {
            return Err(format!("what was durable is gone; deed {least} was"));
        }
        let what = newest.difference(found).unwrap_or_default();
        Err(format!(
            "no prefix from {least} to {}: {what}",
            self.lefts.len() - 1
        ))
    }

    fn is_last(&self, newest: &Estate, found: &Estate) -> bool {
        let Some((deed, step)) = self.last else {
            return false;
        };
        // Where it was to be made.
        let Ok(found) = found.clone().turned(&newest.head) else {
            return false;
        };
        let known = &newest.files.files;
        let made = found.files.files.keys().find(|n| !known.contains_key(n));
        let mut done = newest.clone();
        done.apply(deed, step, made.copied().unwrap_or(0)).is_ok()
            && done.without_any_orphans() == found
    }
}

/// One storm.
pub struct Storm<'s> {
    stage: &'s Stage,
    woe: Woe,
    seed: u64,
    chance: Chance,
    bad: Vec<Slot>,
    /// Whether as many drives are sound as are needed.
    safe: bool,
    /// Deeds that are tried, at most.
    most: usize,
    done: Sequence,
    weathered: Weathered,
}

/// What is there after a mount, once that has done what was left to it. One that writes nothing leaves it.
fn found(mounted: &Mounted<Simulated>) -> Result<Estate, String> {
    let names = ace::names()?;
    if !mounted.is_read_only() {
        ace::each_head(mounted, &names, |files| files.resume())?;
        ace::each_head(mounted, &names, |files| files.forget_orphans())?;
        return Estate::found(mounted, &names);
    }
    Ok(Estate::found(mounted, &names)?.without_orphans())
}

/// Whether both are the same. A file that lost its last name while something failed may be left to the next mount.
fn agrees(actor: &Actor<'_>) -> Result<(), String> {
    let found = actor.found()?.without_orphans_but(&actor.estate);
    actor.estate.difference(&found).map_or(Ok(()), Err)
}

impl<'s> Storm<'s> {
    /// The storm of a seed, and of so many deeds at most.
    pub fn new(stage: &'s Stage, woe: Woe, seed: u64, most: usize) -> Self {
        let chance = Chance::new(seed);
        let mut slots: Vec<Slot> = stage
            .fleet(seed)
            .drives()
            .iter()
            .map(|d| d.slot())
            .collect();
        shuffle(&mut slots, &chance);
        let parity = usize::from(stage.scene.bundle.parity());
        let safe = parity != 0;
        slots.truncate(1 + chance.below(parity.max(1)));
        Storm {
            stage,
            woe,
            seed,
            chance,
            bad: slots,
            safe,
            most,
            done: Sequence::default(),
            weathered: Weathered::default(),
        }
    }

    /// Does deeds until the end or until nothing goes any more, crashes, and looks at what is there.
    pub fn weather(mut self) -> Result<Weathered, String> {
        match self.pass() {
            Ok(()) => Ok(self.weathered),
            Err(why) => Err(format!("drives {:?}, {}: {why}", self.bad, self.done)),
        }
    }

    fn pass(&mut self) -> Result<(), String> {
        let fleet = self.stage.fleet(self.chance.next());
        if self.woe == Woe::Rotten {
            for slot in &self.bad {
                let count = self.chance.one(&[1, 5, 40]);
                fleet.rot_some(*slot, count);
            }
        }
        let mut annals = Annals {
            lefts: vec![self.stage.estate().clone()],
            durable: 0,
            last: None,
        };
        let attempt = Attempt {
            writes: true,
            reads_fail: false,
        };
        match self.mount(self.chance.next(), &fleet, self.options()) {
            Ok(mounted) => self.act(&fleet, &mounted, &mut annals)?,
            Err(why) => self.refused(why, attempt)?,
        }
        if self.woe == Woe::Stale {
            for slot in &self.bad {
                let survival = match self.chance.below(2) {
                    0 => Survival::None,
                    _ => Survival::Subset(self.chance.next()),
                };
                fleet.come_back(*slot, &survival);
            }
        }
        fleet.heal();
        let injected = fleet.injected();
        self.weathered.injected.merge(&injected);
        let came = match self.woe.done() {
            Some(done) => injected.of(done) != 0,
            None => self.weathered.unallocated != 0,
        };
        let snapshot = fleet.snapshot();
        let (a, b) = (self.chance.next(), self.chance.next());
        for survival in [
            Survival::Reset,
            Survival::All,
            Survival::None,
            Survival::Subset(a),
            Survival::Subset(b),
        ] {
            let snapshot = snapshot.after(&survival).ok_or("no such state")?;
            self.weathered.looked += 1;
            let failed = |why| format!("after {survival}: {why}");
            let was_apart =
                self.woe == Woe::Apart && self.apart(&snapshot, &annals).map_err(failed)?;
            if self.look(&snapshot, &annals).map_err(failed)? || came || was_apart {
                self.weathered.states.add(self.woe);
            }
        }
        Ok(())
    }

    fn options(&self) -> Options {
        // With little memory for nodes, there is more to read.
        Options {
            cache: Bytes(self.chance.one(&[0, 64 << 10, 4 << 20])),
            ..machine::READ_WRITE
        }
    }

    fn act(
        &mut self,
        fleet: &Fleet,
        mounted: &Mounted<Simulated>,
        annals: &mut Annals,
    ) -> Result<(), String> {
        let mut actor = match Actor::new(mounted, annals.lefts[0].clone(), 100) {
            Ok(actor) => actor,
            // All copies of what says which heads there are may have rotted, before anything was done.
            Err(_) if self.woe == Woe::Rotten && !self.safe => {
                self.weathered.stopped += 1;
                return Ok(());
            }
            Err(why) => return Err(why),
        };
        let count = 3 + self.chance.below(10);
        let begin = self.chance.below(count);
        for number in 0..count.min(self.most) {
            if number == begin {
                for slot in &self.bad {
                    self.woe.begin(fleet, *slot, &self.chance);
                }
            }
            // Much of what can go wrong goes wrong only when something is made durable.
            let deed = match self.chance.below(3) {
                0 => Deed::Sync,
                _ => ace::draw(&self.chance, &actor.estate),
            };
            self.done.0.push(deed);
            let failed = |why: String| format!("deed {}: {why}", number + 1);
            let nth = match self.woe {
                Woe::NoMemory if number >= begin => 1 + self.chance.below(60) as u64,
                _ => 0,
            };
            match self.one(&mut actor, deed, nth).map_err(failed)? {
                Ok(durable) => {
                    annals.lefts.push(actor.estate.clone());
                    annals.durable = annals.durable.max(durable.unwrap_or(0));
                    if self.woe.of_reads() {
                        self.compare(&actor)?;
                    }
                }
                // Where no drive that is needed fails, nothing else does.
                Err(why) if self.safe || self.woe.done().is_none() => {
                    return Err(failed(why.to_string()));
                }
                Err(_) => {
                    self.weathered.stopped += 1;
                    annals.last = Some((deed, actor.step));
                    return Ok(());
                }
            }
        }
        self.compare(&actor)
    }

    /// While too many drives are bad, nothing can be said of what is read.
    fn compare(&self, actor: &Actor<'_>) -> Result<(), String> {
        match agrees(actor) {
            Err(why) if self.safe || self.woe.done().is_none() => {
                Err(format!("after {}: {why}", self.done))
            }
            _ => Ok(()),
        }
    }

    /// One deed; the `nth` allocation of it fails, if there is one.
    fn one(
        &mut self,
        actor: &mut Actor<'_>,
        deed: Deed,
        nth: u64,
    ) -> Result<Result<Option<usize>, Error>, String> {
        if nth != 0 {
            failpoint::fail_nth(nth);
        }
        let done = actor.try_to(deed);
        let failed = if nth != 0 { failpoint::off().failed } else { 0 };
        self.weathered.unallocated += failed;
        match done {
            Ok(durable) => Ok(Ok(durable)),
            Err(Failed::Engine(Error::Fault(Fault::NoMemory))) if failed != 0 => {
                // Nothing was done, and it can be done now.
                agrees(actor).map_err(|why| format!("without memory: {why}"))?;
                actor.act(deed).map(Ok)
            }
            Err(Failed::Engine(why)) => Ok(Err(why)),
            Err(why) => Err(why.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ace::Scene;

    /// What comes of deeds on a volume of which everything rots once it is mounted.
    fn all_rotten(scene: Scene, woe: Woe) -> Result<Weathered, String> {
        let stage = Stage::new(scene)?;
        let mut storm = Storm::new(&stage, woe, 1, usize::MAX);
        let fleet = stage.fleet(1);
        let without_cache = Options {
            cache: Bytes(0),
            ..machine::READ_WRITE
        };
        let mounted = machine::mount(1, &fleet, without_cache)?;
        for drive in fleet.drives() {
            fleet.rot_some(drive.slot(), usize::MAX);
        }
        let mut annals = Annals {
            lefts: vec![stage.estate().clone()],
            durable: 0,
            last: None,
        };
        storm.act(&fleet, &mounted, &mut annals)?;
        Ok(storm.weathered)
    }

    #[test]
    fn heads_that_cannot_be_opened_end_a_storm_only_where_the_only_drive_had_rotted() {
        let rotten = all_rotten(Scene::kept(1, 0), Woe::Rotten);
        assert_eq!(rotten.map(|came| came.stopped), Ok(1));
        for (scene, woe) in [
            (Scene::kept(2, 1), Woe::Rotten),
            (Scene::kept(1, 0), Woe::Lies),
        ] {
            let why = all_rotten(scene, woe).expect_err("nothing is to be lost here");
            assert!(why.contains("tree 6"), "{scene}, {woe:?}: {why}");
        }
    }
}
