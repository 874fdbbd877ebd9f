// SPDX-License-Identifier: GPL-2.0

//! Drives that do what they should not, while [deeds](crate::deed) are done and afterwards: errors, rot, writes that are lost or land
//! elsewhere, flushes that lie, drives that go and come back; and lack of memory. As long as no more drives are bad than may be lost,
//! nothing acknowledged is lost; and whatever is bad, nothing false is ever read.

use crate::ace;
use crate::ace::Actor;
use crate::ace::Failed;
use crate::ace::Stage;
use crate::ace::READ_ONLY;
use crate::cache::shuffle;
use crate::cache::Survival;
use crate::contents;
use crate::deed::Deed;
use crate::deed::Sequence;
use crate::estate::Estate;
use crate::fault::Fault as DriveFault;
use crate::fault::FlushFault;
use crate::fault::Injected;
use crate::fault::Odds;
use crate::fault::When;
use crate::fault::WriteFault;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::machine;
use crate::machine::Simulated;
use crate::recording::Snapshot;
use crate::tally::Tally;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::names::Error;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Woe {
    /// Reads return errors.
    ReadsFail,
    /// Reads return wrong bits, once.
    Garbles,
    /// What is read has rotted.
    Rots,
    /// Much has rotted before the volume is mounted.
    Rotten,
    /// Writes return errors, and are done in part.
    WritesFail,
    /// Writes are acknowledged and land elsewhere.
    Misdirects,
    /// Writes are acknowledged and not done.
    Loses,
    /// Flushes return errors, and anything becomes of what was not flushed.
    FlushesFail,
    /// Flushes are acknowledged and not done.
    Lies,
    /// The drive is gone for good.
    Vanishes,
    /// The drive goes, and is back after the crash with what it had.
    Stale,
    /// The drive takes nothing new.
    Full,
    /// The drive alone loses power and what it had not flushed, and nobody is told.
    PowerOfOne,
    /// After the crash, drives are mounted apart, and then together.
    Apart,
    /// Memory cannot be had.
    NoMemory,
}

impl Woe {
    /// All of them.
    pub const ALL: [Woe; 15] = [
        Woe::ReadsFail,
        Woe::Garbles,
        Woe::Rots,
        Woe::Rotten,
        Woe::WritesFail,
        Woe::Misdirects,
        Woe::Loses,
        Woe::FlushesFail,
        Woe::Lies,
        Woe::Vanishes,
        Woe::Stale,
        Woe::Full,
        Woe::PowerOfOne,
        Woe::Apart,
        Woe::NoMemory,
    ];

    /// Whether a drive may have forgotten what it acknowledged.
    fn forgets(self) -> bool {
        matches!(
            self,
            Woe::Rots | Woe::Rotten | Woe::Misdirects | Woe::Loses | Woe::Lies | Woe::PowerOfOne
        )
    }

    /// Whether it befalls reads, and so mounts too.
    fn of_reads(self) -> bool {
        matches!(self, Woe::ReadsFail | Woe::Garbles | Woe::Rots)
    }

    /// Things go wrong from now on.
    fn begin(self, fleet: &Fleet, slot: Slot, chance: &Chance) {
        let often = chance.one(&[3000, 15_000, 50_000]);
        let soon = chance.below(8) as u64;
        let odds = Odds::default();
        let write = |fault| fleet.expect(slot, DriveFault::Write(When::After(soon), fault));
        match self {
            Woe::ReadsFail => fleet.odds(
                slot,
                Odds {
                    read_fails: often,
                    ..odds
                },
            ),
            Woe::Garbles => fleet.odds(
                slot,
                Odds {
                    garble: often,
                    ..odds
                },
            ),
            Woe::Rots => fleet.odds(slot, Odds { rot: often, ..odds }),
            Woe::WritesFail => {
                write(WriteFault::Fail);
                let write_fails = often;
                fleet.odds(
                    slot,
                    Odds {
                        write_fails,
                        ..odds
                    },
                );
            }
            Woe::Misdirects => {
                write(WriteFault::Misdirect(None));
                let misdirects = often;
                fleet.odds(slot, Odds { misdirects, ..odds });
            }
            Woe::Loses => {
                write(WriteFault::Lose);
                let loses = often;
                fleet.odds(slot, Odds { loses, ..odds });
            }
            Woe::FlushesFail => {
                let fail = FlushFault::Fail(None);
                fleet.expect(slot, DriveFault::Flush(When::After(soon / 4), fail));
            }
            Woe::Lies => {
                let when = match chance.below(2) {
                    0 => When::After(soon / 4),
                    _ => When::From(soon / 4),
                };
                fleet.expect(slot, DriveFault::Flush(when, FlushFault::Lie));
            }
            Woe::Vanishes | Woe::Stale => {
                let fault = match chance.below(2) {
                    0 => DriveFault::Write(When::After(soon), WriteFault::Vanish),
                    _ => DriveFault::Flush(When::After(soon / 4), FlushFault::Vanish),
                };
                fleet.expect(slot, fault);
            }
            Woe::Full => fleet.limit(slot, Some(soon)),
            Woe::PowerOfOne => fleet.cut_power(slot, &Survival::None),
            Woe::Rotten | Woe::Apart | Woe::NoMemory => {}
        }
    }
}

/// What storms came to.
#[derive(Clone, Debug, Default)]
pub struct Weathered {
    /// Crash states that were looked at.
    pub states: Tally<Woe>,
    /// What was done to drives.
    pub injected: Tally<Injected>,
    /// Allocations that failed.
    pub unallocated: u64,
    /// Storms in which the engine stopped.
    pub stopped: u64,
    /// Mounts of all drives that were refused.
    pub refused: u64,
}

impl Weathered {
    /// Adds what others came to.
    pub fn merge(&mut self, other: &Weathered) {
        self.states.merge(&other.states);
        self.injected.merge(&other.injected);
        self.unallocated += other.unallocated;
        self.stopped += other.stopped;
        self.refused += other.refused;
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
        let is_it = |left: &Estate| left.clone().without_orphans() == *found;
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
        let known = &newest.files.files;
        let made = found.files.files.keys().find(|n| !known.contains_key(n));
        let mut done = newest.clone();
        done.apply(deed, step, made.copied().unwrap_or(0)).is_ok()
            && done.without_orphans() == *found
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
    let names = Names::try_new(HashWidth::Full).map_err(|why| format!("{why:?}"))?;
    let view = View::first();
    let files = names.of(mounted, &view);
    if !mounted.is_read_only() {
        files.resume().map_err(|why| why.to_string())?;
        files.forget_orphans().map_err(|why| why.to_string())?;
        return Estate::found(files);
    }
    Ok(Estate::found(files)?.without_orphans())
}

/// Whether both are the same. A file that lost its last name while something failed may be left to the next mount.
fn agrees(actor: &Actor<'_>) -> Result<(), String> {
    let found = Estate::found(actor.files())?.without_orphans_but(&actor.estate);
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
        let safe = slots.len() > 1;
        slots.truncate(1 + chance.below((slots.len() - 1).max(1)));
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
        match machine::mount(self.chance.next(), &fleet, self.options()) {
            Ok(mounted) => self.act(&fleet, &mounted, &mut annals)?,
            Err(_) => self.weathered.refused += 1,
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
        self.weathered.injected.merge(&fleet.injected());
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
            self.weathered.states.add(self.woe);
            let failed = |why| format!("after {survival}: {why}");
            if self.woe == Woe::Apart {
                self.apart(&snapshot, &annals).map_err(failed)?;
            }
            self.look(&snapshot, &annals).map_err(failed)?;
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
        let mut actor = Actor::new(mounted, annals.lefts[0].clone(), 100)?;
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
                Err(why) if self.safe => {
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
            Err(why) if self.safe => Err(format!("after {}: {why}", self.done)),
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

    /// What a crash left, as all drives have it, and as the sound ones do.
    fn look(&mut self, snapshot: &Snapshot, annals: &Annals) -> Result<(), String> {
        // What is read wrongly while the journal is searched looks like its end; what cannot be read does not.
        let forgets = self.woe.forgets() || matches!(self.woe, Woe::Garbles | Woe::Rots);
        let least = match self.safe || !forgets {
            true => annals.durable,
            false => 0,
        };
        let fleet = Fleet::start(self.seed, snapshot);
        if self.woe.of_reads() {
            for slot in &self.bad {
                self.woe.begin(&fleet, *slot, &self.chance);
            }
        }
        if self.woe == Woe::NoMemory {
            // Wherever a mount ends for want of memory, the next one finds everything.
            failpoint::fail_nth(1 + self.chance.below(300) as u64);
            let done = machine::mount(self.seed, &fleet, self.options()).map(|_| ());
            let failed = failpoint::off().failed;
            self.weathered.unallocated += failed;
            if failed == 0 {
                done?;
            }
        }
        let mounted = machine::mount(self.seed, &fleet, self.options());
        if !self.safe {
            fleet.heal();
        }
        match mounted {
            Err(_) => self.weathered.refused += 1,
            Ok(mounted) => match found(&mounted) {
                Ok(found) => {
                    // A mount that says so may be without what was acknowledged last; none that writes may.
                    let least = match mounted.cut() {
                        Some(why) if !mounted.is_read_only() => return Err(why.to_string()),
                        Some(_) => 0,
                        None => least,
                    };
                    annals.allow(&found, least)?;
                    if self.safe {
                        contents::audit(&mounted)?;
                        ace::go_on(&fleet, &mounted, &found, self.seed)
                            .map_err(|why| format!("going on: {why}"))?;
                    }
                }
                Err(why) if self.safe => return Err(why),
                Err(_) => {}
            },
        }
        self.weathered.injected.merge(&fleet.injected());
        let fleet = Fleet::start(self.seed, snapshot);
        if self.safe {
            self.bad.iter().for_each(|slot| fleet.vanish(*slot));
        }
        let within = |why| format!("without drives {:?}: {why}", self.bad);
        match machine::mount(self.seed, &fleet, READ_ONLY).and_then(|mounted| found(&mounted)) {
            Ok(found) => annals.allow(&found, least).map_err(within),
            Err(why) if self.safe => Err(within(why)),
            Err(_) => Ok(()),
        }
    }

    /// The bad drives and the others, each alone and then all together. Two sides that were both written to are refused.
    fn apart(&mut self, snapshot: &Snapshot, annals: &Annals) -> Result<(), String> {
        if !self.safe {
            return Ok(());
        }
        let bad: Members = self.bad.iter().copied().collect();
        let (bad, rest) = snapshot.split(bad);
        let mut written = Vec::new();
        let mut sides = Vec::new();
        for (seed, side) in [(self.seed ^ 1, bad), (self.seed ^ 2, rest)] {
            let fleet = Fleet::start(seed, &side);
            let mounted = machine::mount(seed, &fleet, READ_ONLY)?;
            annals.allow(&found(&mounted)?, annals.durable)?;
            drop(mounted);
            // No two of them draw the same epoch.
            if let Ok(mounted) = machine::mount(seed, &fleet, machine::READ_WRITE) {
                let found = found(&mounted)?;
                annals.allow(&found, annals.durable)?;
                let mut actor = Actor::new(&mounted, found, 200)?;
                actor.act(ace::draw(&self.chance, &actor.estate))?;
                actor.sync()?;
                written.push(actor.estate.clone().without_orphans());
            }
            sides.push(fleet.snapshot());
        }
        let all = sides
            .into_iter()
            .try_fold(Snapshot::default(), Snapshot::join);
        let fleet = Fleet::start(self.seed, &all.ok_or("a drive on both sides")?);
        let together = machine::mount(self.seed, &fleet, READ_ONLY);
        match (&written[..], together) {
            ([], Ok(mounted)) => annals.allow(&found(&mounted)?, annals.durable),
            ([only], Ok(mounted)) => match only.difference(&found(&mounted)?) {
                Some(what) => Err(format!("one side was written to: {what}")),
                None => Ok(()),
            },
            ([_, _, ..], Ok(_)) => Err("both sides were written to, and nobody minds".into()),
            ([_, _, ..], Err(_)) => Ok(()),
            (_, Err(why)) => Err(format!("together: {why}")),
        }
    }
}
