// SPDX-License-Identifier: GPL-2.0

//! Several tasks at work on the names and files of one volume, in a [world](embr_rt::sim) whose every order of steps follows from a
//! seed. What each [act](act) came to must fit into [one order](order) of all of them; and whatever a crash leaves must be what a
//! prefix of such an order left, with all in it that was made durable.
//!
//! The tasks keep the rules that the engine has for its callers ([locks]), and no others.

mod act;
mod locks;
mod order;
mod task;

use crate::ace;
use crate::ace::Stage;
use crate::ace::READ_ONLY;
use crate::cache::Survival;
use crate::contents;
use crate::contents::Copies;
use crate::deed::Path;
use crate::deed::DIRECTORIES;
use crate::deed::NAMES;
use crate::estate::Engine;
use crate::estate::Estate;
use crate::files::ROOT;
use crate::fleet::Fleet;
use crate::host::Chance;
use crate::inspector;
use crate::machine;
use crate::machine::Simulated;
use crate::recording::Recording;
use crate::recording::State;
use crate::roots;
use crate::tale::Look;
use crate::tally::Tally;
pub use act::ActKind;
use embr_engine::check::Depth;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::Sequence as Group;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::sleep;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use locks::Locks;
use order::Deed;
use order::Orders;
use order::Point;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use task::Task;

/// What happened, in the order in which it did.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A task begins its next act.
    Began(usize),
    /// It is over.
    Ended,
    /// All that was over at this event was made durable.
    Durable(usize),
    /// All of it that is in groups up to this one was.
    DurableTo(usize, Group),
}

#[derive(Default)]
struct Log {
    events: Vec<Event>,
    deeds: Vec<Vec<Deed>>,
    /// What went wrong first.
    failed: Option<String>,
    /// Tasks that are not at the end yet.
    at_work: usize,
    /// Names that there were when last somebody looked, so that most of what is drawn finds something.
    there: BTreeSet<(usize, &'static str)>,
}

/// What all tasks have in common, so that they meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Habit {
    /// Each has files of its own liking.
    Any,
    /// Most of it is with one file.
    OneFile,
    /// Most of it is with the attributes of one file.
    Attributes,
}

impl Habit {
    const ALL: [Habit; 4] = [Habit::Any, Habit::Any, Habit::OneFile, Habit::Attributes];
}

/// What all tasks share.
struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: embr_rt::Arc<View>,
    fleet: Fleet,
    locks: Locks,
    directories: [u64; DIRECTORIES.len()],
    habit: Habit,
    /// Whether they take snapshots.
    keeps: bool,
    /// Never held across a point at which others may run.
    log: Mutex<Log>,
}

impl Hall {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn engine(&self) -> Engine<'_> {
        Engine {
            mounted: &self.mounted,
            names: &self.names,
            view: &self.view,
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The recording knows an event by its place in the list. Says which that is.
    fn say(&self, event: Event) -> usize {
        let mut log = self.log();
        log.events.push(event);
        let number = log.events.len() - 1;
        self.fleet.note(number as u64);
        number
    }

    fn fail(&self, why: String) {
        self.log().failed.get_or_insert(why);
    }

    /// How many events there were.
    fn now(&self) -> usize {
        self.log().events.len()
    }

    /// Makes checkpoints, moves what lies in stripes, and gives back what nobody sees, until all others are done.
    fn keep(&self, chance: &Chance) {
        let pause = chance.one(&[300, 3000, 20_000]);
        while self.log().at_work != 0 {
            sleep(Duration::from_micros(1 + chance.below(pause) as u64));
            if chance.below(3) == 0 {
                if let Err(why) = self.files().rebundle() {
                    return self.fail(format!("rebundle: {why}"));
                }
                continue;
            }
            if self.keeps && chance.below(3) == 0 {
                if let Err(why) = self.names.sweep(&self.mounted) {
                    return self.fail(format!("sweep: {why}"));
                }
                continue;
            }
            let now = self.now();
            match self.mounted.checkpoint() {
                Ok(()) => drop(self.say(Event::Durable(now))),
                Err(why) => return self.fail(format!("checkpoint: {why}")),
            }
        }
    }
}

/// What several tasks did, and what it may have left.
pub struct Crowd {
    recording: Recording,
    events: Vec<Event>,
    tasks: Vec<Vec<Deed>>,
    orders: Orders,
    /// Drives that the volume can do without.
    parity: u8,
    /// What they did.
    pub acts: Tally<ActKind>,
}

/// How a crowd works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// How many tasks there are.
    pub tasks: usize,
    /// How many things each does.
    pub length: usize,
}

impl Shape {
    /// A shape drawn from a seed.
    pub fn drawn(chance: &Chance) -> Self {
        Shape {
            tasks: 2 + chance.below(3),
            length: chance.one(&[4, 8, 14]),
        }
    }
}

/// Drives that were recorded, what happened, what tasks did, and what there is in the end.
type Played = (Recording, Vec<Event>, Vec<Vec<Deed>>, Option<String>);

fn mount_options(chance: &Chance) -> Options {
    Options {
        // With little memory there is more to wait for.
        cache: Bytes(chance.one(&[0, 64 << 10, 4 << 20])),
        ..machine::READ_WRITE
    }
}

fn play(stage: &Stage, fleet: &Fleet, seed: u64, shape: Shape) -> Result<Played, String> {
    let fleet = fleet.clone();
    let begin = stage.estate();
    let mut directories = [0; 2];
    for (number, name) in directories.iter_mut().zip(DIRECTORIES) {
        let found = begin.files.lookup(ROOT, name.as_bytes());
        *number = found.map_err(|why| format!("{name}: {why:?}"))?;
    }
    let named = Path::all().filter(|path| begin.file(*path).is_ok());
    let there: BTreeSet<_> = named
        .map(|path| (path.directory, NAMES[path.name]))
        .collect();
    let world = move || -> Result<Played, String> {
        let chance = Chance::new(seed);
        let mounted = machine::mount(seed, &fleet, mount_options(&chance))?;
        let failed = |why| format!("{why:?}");
        let names = ace::names()?;
        let view = names.open(&mounted, b"").map_err(|why| why.to_string())?;
        let hall = Arc::new(Hall {
            mounted,
            names,
            view,
            fleet,
            locks: Locks::try_new().map_err(failed)?,
            directories,
            habit: chance.one(&Habit::ALL),
            keeps: chance.below(2) == 0,
            log: Mutex::new(Log {
                deeds: vec![Vec::new(); shape.tasks],
                at_work: shape.tasks,
                there,
                ..Log::default()
            }),
        });
        let spawn = |work: Box<dyn FnOnce(&Hall) + Send>| {
            let hall = hall.clone();
            Worker::try_spawn(lock_class!("task"), move || work(&hall)).map_err(failed)
        };
        let mut workers = Vec::new();
        for number in 0..shape.tasks {
            let seed = chance.next();
            workers.push(spawn(Box::new(move |hall| {
                let done = Task::new(hall, number, seed).work(shape.length);
                if let Err(why) = done {
                    hall.fail(why);
                }
                hall.log().at_work -= 1;
            }))?);
        }
        let seed = chance.next();
        if chance.below(3) != 0 {
            workers.push(spawn(Box::new(move |hall| hall.keep(&Chance::new(seed))))?);
        }
        drop(workers);
        let now = hall.now();
        match hall.mounted.sync() {
            Ok(()) => drop(hall.say(Event::Durable(now))),
            Err(why) => hall.fail(format!("sync: {why}")),
        }
        let mut log = hall.log();
        let recording = hall.fleet.recorded();
        let (events, deeds) = (
            std::mem::take(&mut log.events),
            std::mem::take(&mut log.deeds),
        );
        Ok((recording, events, deeds, log.failed.take()))
    };
    let outcome = World::new(seed).holding().run(world);
    outcome.map_err(|failure| failure.to_string())?.value
}

impl Crowd {
    /// Lets tasks do what follows from a seed, and sees whether that can be explained.
    pub fn gather(stage: &Stage, seed: u64, shape: Shape) -> Result<Self, String> {
        let fleet = stage.fleet(seed);
        fleet.record();
        let (recording, events, tasks, failed) = play(stage, &fleet, seed, shape)?;
        if let Some(why) = failed {
            return Err(why);
        }
        // In the end all handles are closed, and all is durable.
        let mounted = machine::mount(seed, &fleet, READ_ONLY)?;
        let end = found(&mounted)?;
        let orders = Orders::find(stage.estate(), &tasks, &end)?;
        let deeds = tasks.iter().flatten();
        let acts = deeds.map(|deed| deed.act.kind(&deed.came)).collect();
        Ok(Crowd {
            recording,
            events,
            tasks,
            orders,
            parity: stage.scene.bundle.parity(),
            acts,
        })
    }

    /// What happened to the drives.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// How far tasks must have come before a cut, and how far they may.
    fn bounds(&self, cut: u64) -> (Point, Point) {
        let known = self.recording.notes(cut).map(|n| n as usize + 1);
        let known = known.max().unwrap_or(0);
        let mut least = vec![0; self.tasks.len()];
        let mut most = least.clone();
        for event in self.events.iter().take(known) {
            let (before, group) = match *event {
                Event::Began(task) => {
                    most[task] += 1;
                    continue;
                }
                Event::Ended => continue,
                Event::Durable(before) => (before, None),
                Event::DurableTo(before, group) => (before, Some(group)),
            };
            let is_durable = |deed: &Deed| {
                let reached = group.is_none_or(|group| deed.group.is_some_and(|own| own <= group));
                deed.ended < before && reached
            };
            for (least, deeds) in least.iter_mut().zip(&self.tasks) {
                let last = deeds.iter().rposition(is_durable);
                *least = last.map_or(0, |last| last + 1).max(*least);
            }
        }
        (least, most)
    }

    /// Whether what this crash left is allowed.
    pub fn check(&self, seed: u64, state: &State, look: Look) -> Result<(), String> {
        let snapshot = self.recording.at(state).ok_or("no such state")?;
        let (least, most) = self.bounds(state.cut);
        let fleet = Fleet::start(seed, &snapshot);
        if look.read_only {
            let within = |why| format!("read-only: {why}");
            let mounted = machine::mount(seed, &fleet, READ_ONLY).map_err(within)?;
            let found = found(&mounted).map_err(within)?;
            self.orders.allow(&found, &least, &most).map_err(within)?;
            let names = ace::names()?;
            let view = names
                .open(&mounted, b"")
                .map_err(|why| within(why.to_string()))?;
            let files = names.of(&mounted, &view);
            inspector::check(&mounted, Some(files), Depth::Copies, &[]).map_err(within)?;
        }
        for lost in look.without.of(&snapshot, self.parity) {
            let within = |why| format!("without drives {lost:?}: {why}");
            let fleet = Fleet::start(seed, &snapshot);
            lost.iter().for_each(|slot| fleet.vanish(*slot));
            let mounted = machine::mount(seed, &fleet, READ_ONLY).map_err(within)?;
            let found = found(&mounted).map_err(within)?;
            self.orders.allow(&found, &least, &most).map_err(within)?;
            drop(mounted);
            let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
            let allow = |found: &Estate| self.orders.allow(found, &least, &most);
            (self.recovered(&mounted, Copies::MayLack, allow)).map_err(within)?;
        }
        if look.older_root {
            let within = |why| format!("without the newest root: {why}");
            let fleet = Fleet::start(seed, &snapshot);
            if roots::lose_newest(&fleet, seed).map_err(within)? {
                let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
                let allow = |found: &Estate| self.orders.allow(found, &least, &most);
                (self.recovered(&mounted, Copies::All, allow)).map_err(within)?;
            }
        }
        fleet.record();
        let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
        let allow = |found: &Estate| self.orders.allow(found, &least, &most);
        let left = self.recovered(&mounted, Copies::All, allow)?;
        let recovery = fleet.recorded();
        if look.go_on {
            ace::go_on(&fleet, &mounted, &left, Copies::All, seed)
                .map_err(|why| format!("going on: {why}"))?;
        }
        let chance = Chance::new(seed);
        for _ in 0..look.again {
            let cut = chance.next() % (recovery.end() + 1);
            let state = State::new(cut, Survival::Subset(chance.next()));
            let within = |why| format!("crashed again in the recovery, {state}: {why}");
            let again = recovery.at(&state).ok_or("no such state")?;
            let fleet = Fleet::start(seed, &again);
            if roots::lose_newest(&fleet, seed).map_err(within)? {
                let within = |why| within(format!("without the newest root: {why}"));
                let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
                (self.recovered(&mounted, Copies::All, |found| {
                    self.orders.allow_named(found, &least, &most)
                }))
                .map_err(within)?;
            }
            let fleet = Fleet::start(seed, &again);
            let mounted = machine::mount(seed, &fleet, machine::READ_WRITE).map_err(within)?;
            // Of what nobody used any more, some may be gone by now.
            (self.recovered(&mounted, Copies::All, |found| {
                self.orders.allow_named(found, &least, &most)
            }))
            .map_err(within)?;
        }
        Ok(())
    }

    /// Has a mount do what was left to it. Says what is there then.
    fn recovered(
        &self,
        mounted: &Mounted<Simulated>,
        copies: Copies,
        allow: impl FnOnce(&Estate) -> Result<(), String>,
    ) -> Result<Estate, String> {
        let names = ace::names()?;
        ace::each_head(mounted, &names, |files| files.resume())?;
        let found = Estate::found(mounted, &names)?;
        allow(&found)?;
        let named = found.without_orphans();
        ace::forget_orphans(mounted, &names, &named)?;
        contents::audit_but(mounted, copies)?;
        Ok(named)
    }
}

fn found(mounted: &Mounted<Simulated>) -> Result<Estate, String> {
    Estate::found(mounted, &ace::names()?)
}
