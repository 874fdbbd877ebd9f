// SPDX-License-Identifier: GPL-2.0

//! Members that missed something are caught up while the volume is used, and one side of a volume that was written to apart is discarded:
//! wherever a crash comes, what was acknowledged is there; and afterwards any others may be lost.

use embr_engine::check;
use embr_engine::file::Way;
use embr_engine::format::epoch;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::names::Files;
use embr_engine::names::Mode;
use embr_engine::names::Names;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::tree::check::Depth;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::catch_up::CaughtUp;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::sides::Discard;
use embr_engine::volume::sides::Refused;
use embr_engine::volume::Member;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::desk;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::FlushFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector::Found;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::recording;
use embrfs_sim::recording::Snapshot;
use embrfs_sim::scribe::NOW;
use embrfs_sim::states::Plan;
use std::collections::BTreeMap;

const SIZE: Bytes = Bytes(32 << 20);
const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};
/// Drives, data and parity fragments.
const SHAPES: [(usize, (u8, u8)); 5] = [
    (6, (4, 2)),
    (2, (1, 1)),
    (3, (2, 1)),
    (4, (1, 2)),
    (7, (4, 2)),
];

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// What every acknowledged operation left, one after the other.
struct World<'c> {
    chance: &'c Chance,
    fleet: Fleet,
    models: Vec<Model>,
}

/// A volume that is mounted, with its names.
struct Desk {
    mounted: Mounted<Simulated>,
    names: Names,
    view: View,
}

impl Desk {
    fn open(seed: u64, fleet: &Fleet, options: Options) -> Result<Self, String> {
        Ok(Desk {
            mounted: machine::mount(seed, fleet, options)?,
            names: desk::names(),
            view: View::first(),
        })
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    fn file(&self, name: &[u8]) -> Result<Option<InodeNo>, String> {
        match self.files().lookup(InodeNo::ROOT, name) {
            Ok(target) => Ok(Some(target.inode)),
            Err(embr_engine::names::Error::NotFound) => Ok(None),
            Err(why) => Err(why.to_string()),
        }
    }

    /// Whether the volume is as this model.
    fn is(&self, model: &Model) -> Result<bool, String> {
        for n in 0..NAMES {
            let name = name(n);
            let is = match (self.file(&name)?, model.get(&name)) {
                (None, None) => true,
                (Some(file), Some(bytes)) => {
                    let size = self
                        .files()
                        .inode(file)
                        .map_err(|why| why.to_string())?
                        .size;
                    let mut found = vec![0xcc; bytes.len()];
                    if size.0 == bytes.len() as u64 {
                        let at = embr_engine::units::FileBlock(0);
                        let read = self.files().read(file, at, &mut found);
                        read.map_err(|why| format!("file {n}: {why}"))?;
                    }
                    found == *bytes
                }
                _ => false,
            };
            if !is {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Which of these models the volume is as, the newest first.
    fn which(&self, models: &[Model], (least, most): (usize, usize)) -> Result<usize, String> {
        for n in (least..=most.min(models.len() - 1)).rev() {
            if self.is(&models[n])? {
                return Ok(n);
            }
        }
        Err(format!("as none of {least} to {most}"))
    }
}

const NAMES: usize = 7;
const FILLERS: usize = 400;

fn name(n: usize) -> Vec<u8> {
    format!("file {n}").into_bytes()
}

/// Something happens to a file.
fn step(chance: &Chance, desk: &Desk, model: &mut Model) -> Result<(), String> {
    let files = desk.files();
    let name_of = name(chance.below(NAMES));
    let shown = |why: embr_engine::names::Error| why.to_string();
    match (chance.below(10), desk.file(&name_of)?) {
        (0, Some(_)) => {
            let done = files.unlink(InodeNo::ROOT, &name_of, Users::None, NOW);
            done.map_err(shown)?;
            model.remove(&name_of);
        }
        (1, Some(_)) => {
            let to = name(chance.below(NAMES));
            if to != name_of && !model.contains_key(&to) {
                let (from, to_) = ((InodeNo::ROOT, &name_of[..]), (InodeNo::ROOT, &to[..]));
                let done = files.rename(from, to_, Mode::NoReplace, Users::None, NOW);
                done.map_err(shown)?;
                let bytes = model.remove(&name_of).expect("known");
                model.insert(to, bytes);
            }
        }
        (_, None) => {
            desk::create(files, &name_of);
            model.insert(name_of, Vec::new());
        }
        (_, Some(file)) => {
            let bytes = model.get_mut(&name_of).expect("known");
            let (blocks, way) = match chance.below(6) {
                0 => (1 + chance.below(3), Way::Inline),
                1..=3 => (1 + chance.below(6), Way::Sealed),
                _ => (20 + chance.below(60), Way::Sealed),
            };
            let at = chance.below(bytes.len() / BLOCK_SIZE + 1);
            let new = desk::pattern(blocks, chance.next());
            desk::write(files, file, at as u64, &new, way);
            let end = (at * BLOCK_SIZE + new.len()).max(bytes.len());
            bytes.resize(end, 0);
            bytes[at * BLOCK_SIZE..][..new.len()].copy_from_slice(&new);
        }
    }
    Ok(())
}

impl<'c> World<'c> {
    fn new(chance: &'c Chance, count: usize, shape: (u8, u8)) -> Self {
        let fleet = desk::drives(chance, SIZE, count, shape);
        let world = World {
            chance,
            fleet,
            models: vec![Model::new()],
        };
        let desk = world.open();
        desk.files()
            .format(&embrfs_sim::clerk::root())
            .expect("formatted");
        // Leaves that nobody changes any more.
        for n in 0..FILLERS {
            desk::create(desk.files(), format!("filler {n}").as_bytes());
        }
        desk.mounted.close().expect("closed");
        world
    }

    fn open(&self) -> Desk {
        Desk::open(self.chance.next(), &self.fleet, READ_WRITE).expect("mounted")
    }

    /// One operation, acknowledged.
    fn act(&mut self, desk: &Desk) {
        self.fleet.note(recording::begun(self.models.len()));
        let mut model = self.models.last().expect("one").clone();
        step(self.chance, desk, &mut model).expect("done");
        self.models.push(model);
        desk.mounted.sync().expect("durable");
        self.fleet.note(recording::durable(self.models.len() - 1));
    }

    fn acts(&mut self, desk: &Desk, count: usize) {
        for _ in 0..count {
            self.act(desk);
            if self.chance.below(12) == 0 {
                desk.mounted.checkpoint().expect("a root");
            }
            if self.chance.below(12) == 0 {
                desk.files().rebundle().expect("moved");
            }
        }
    }

    /// Mounts, works, and is closed, or crashes.
    fn session(&mut self, count: usize) {
        let desk = self.open();
        let last = self.models.len() - 1;
        assert_eq!(desk.which(&self.models, (last, last)), Ok(last));
        self.acts(&desk, count);
        if self.chance.below(2) == 0 {
            desk.mounted.close().expect("closed");
        } else {
            drop(desk);
            crash(&self.fleet, self.chance);
        }
    }
}

/// The power fails.
fn crash(fleet: &Fleet, chance: &Chance) {
    for drive in fleet.drives() {
        let survival = match chance.below(3) {
            0 => Survival::None,
            1 => Survival::All,
            _ => Survival::Subset(chance.next()),
        };
        if probe(&drive, &Scalar).is_ok() {
            fleet.cut_power(drive.slot(), &survival);
        }
    }
}

/// All ways to lose `lost` of these drives.
fn losses(drives: &[usize], lost: usize) -> Vec<Vec<usize>> {
    if lost == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for (n, first) in drives.iter().enumerate() {
        for mut rest in losses(&drives[n + 1..], lost - 1) {
            rest.push(*first);
            all.push(rest);
        }
    }
    all
}

/// Whatever drives are lost, as many as may be, the volume is as this model.
fn bears(chance: &Chance, snapshot: &Snapshot, parity: usize, model: &Model) -> Result<(), String> {
    let count = snapshot.drives.len();
    let all: Vec<usize> = (0..count).collect();
    for lost in losses(&all, parity) {
        let fleet = Fleet::start(chance.next(), snapshot);
        lost.iter().for_each(|n| fleet.vanish(slot(*n)));
        let options = match chance.below(3) {
            0 => READ_WRITE,
            _ => READ_ONLY,
        };
        let is = Desk::open(chance.next(), &fleet, options).and_then(|desk| desk.is(model));
        match is {
            Ok(true) => {}
            Ok(false) => return Err(format!("without {lost:?}: not as it was")),
            Err(why) => return Err(format!("without {lost:?}: {why}")),
        }
    }
    Ok(())
}

/// Nothing is wrong, all data read, and everything has as many copies as it should.
fn sound(desk: &Desk) -> Result<(), String> {
    let options = check::Options {
        memory: Bytes(1 << 20),
        data: true,
        depth: Depth::Copies,
        held: &[],
    };
    let mut found = Found::default();
    let done = check::check(&desk.mounted, Some(desk.files()), &options, &mut found);
    done.map_err(|why| why.to_string())?;
    match found.0.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(format!("{} findings, the first: {first}", found.0.len())),
    }
}

/// Catches up whoever missed something; anybody may go on meanwhile.
fn catch_up(desk: &Desk, meanwhile: &mut dyn FnMut()) -> Result<CaughtUp, String> {
    let shown = |why: embr_engine::names::Error| why.to_string();
    let returning = desk.mounted.returning();
    let mut at = desk.files().begin_catch_up(returning).map_err(shown)?;
    while desk.files().catch_up_some(&mut at).map_err(shown)? {
        meanwhile();
    }
    let tally = at.tally();
    if desk.mounted.returning() != Members::default() {
        return Err(format!("{:?} are out still", desk.mounted.returning()));
    }
    match (tally.lost, tally.below) {
        (0, 0) => Ok(tally),
        _ => Err(format!("{tally:?}")),
    }
}

/// A crash while somebody was caught up: all is there; and with everybody caught up, it bears the loss of any.
fn recovers(
    chance: &Chance,
    snapshot: &Snapshot,
    parity: usize,
    models: &[Model],
    bounds: (usize, usize),
) -> Result<(), String> {
    let fleet = Fleet::start(chance.next(), snapshot);
    let desk = Desk::open(chance.next(), &fleet, READ_ONLY)?;
    desk.which(models, bounds)
        .map_err(|why| format!("read-only: {why}"))?;
    let current = desk.mounted.present().count() as usize;
    drop(desk);
    if current == snapshot.drives.len() {
        // Whoever is in needs nobody: what may be lost by then is lost at once.
        let lost = chance.below(snapshot.drives.len());
        let fleet = Fleet::start(chance.next(), snapshot);
        (0..parity).for_each(|n| fleet.vanish(slot((lost + n) % snapshot.drives.len())));
        let desk = Desk::open(chance.next(), &fleet, READ_ONLY)
            .map_err(|why| format!("all in, without {lost}: {why}"))?;
        desk.which(models, bounds)
            .map_err(|why| format!("all in, without {lost}: {why}"))?;
    }
    let desk = Desk::open(chance.next(), &fleet, READ_WRITE)?;
    let number = desk
        .which(models, bounds)
        .map_err(|why| format!("recovered: {why}"))?;
    catch_up(&desk, &mut || ()).map_err(|why| format!("caught up: {why}"))?;
    sound(&desk).map_err(|why| format!("caught up: {why}"))?;
    drop(desk);
    let left = fleet.snapshot().after(&Survival::None).ok_or("no state")?;
    bears(chance, &left, parity, &models[number])
}

fn play(seed: u64, (count, shape): (usize, (u8, u8)), states: f64) -> (CaughtUp, usize) {
    let chance = &Chance::new(seed);
    let parity = usize::from(shape.1);
    let mut world = World::new(chance, count, shape);
    world.session(40);
    let all: Vec<usize> = (0..count).collect();
    let mut ways = losses(&all, 1 + chance.below(parity));
    let gone = ways.swap_remove(chance.below(ways.len()));
    for n in &gone {
        world.fleet.vanish(slot(*n));
        if chance.below(2) == 0 {
            world.session(4);
        }
    }
    for _ in 0..1 + chance.below(2) {
        world.session(16);
    }
    for n in &gone {
        world
            .fleet
            .come_back(slot(*n), &Survival::Subset(chance.next()));
    }
    let desk = world.open();
    // They are worth only what verifies.
    gone.iter()
        .for_each(|n| desk::rot(chance, &world.fleet, &desk.mounted, slot(*n)));
    assert_eq!(desk.mounted.returning().count() as usize, gone.len());
    world.fleet.record();
    let last = world.models.len() - 1;
    world.fleet.note(recording::durable(last));
    let tally = catch_up(&desk, &mut || {
        if chance.below(8) == 0 {
            world.act(&desk);
        }
    });
    let tally = tally.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    world.acts(&desk, 2);
    let recording = world.fleet.recorded();
    sound(&desk).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    drop(desk);
    let model = world.models.last().expect("one");
    let left = world
        .fleet
        .snapshot()
        .after(&Survival::None)
        .expect("a state");
    let bears = bears(chance, &left, parity, model);
    bears.unwrap_or_else(|why| panic!("seed {seed}, {shape:?}, {gone:?}: {why}"));
    let plan = Plan {
        seed,
        subsets: 1,
        tears: 1,
        mixed: 40,
    };
    let mut looked = 0;
    for (state, own) in recording.some(plan, states) {
        let snapshot = recording.at(&state).expect("a state");
        let bounds = recording.bounds(state.cut);
        let done = recovers(&own, &snapshot, parity, &world.models, bounds);
        done.unwrap_or_else(|why| panic!("seed {seed}, {shape:?}, {gone:?}, after {state}: {why}"));
        looked += 1;
    }
    (tally, looked)
}

#[test]
fn who_missed_something_is_caught_up() {
    let base = seed();
    let mut sum = CaughtUp::default();
    let mut looked = 0;
    for (n, shape) in (0..).zip([SHAPES, SHAPES].concat()) {
        let (tally, states) = play(base.wrapping_add(n), shape, 8.0);
        sum.nodes += tally.nodes;
        sum.blocks += tally.blocks;
        sum.widened += tally.widened;
        looked += states;
    }
    println!("{sum:?}, {looked} states");
    assert!(
        sum.nodes != 0 && sum.blocks != 0 && sum.widened != 0,
        "{sum:?}"
    );
    assert!(looked > 20, "{looked}");
}

/// The members on these drives.
fn members(fleet: &Fleet, of: &[usize]) -> Vec<Member> {
    let drive = |n: &usize| fleet.drive(slot(*n)).expect("a drive");
    let probed = of.iter().map(|n| probe(&drive(n), &Scalar));
    probed.map(|member| member.expect("a member")).collect()
}

/// Discards the side of some drives, if that is left to do.
fn discard(fleet: &Fleet, kept: &[usize], given_up: &[usize]) -> Result<(), String> {
    let given = members(fleet, given_up);
    let plan = Discard::plan(&members(fleet, kept), &given);
    let mut plan = plan.map_err(|why| format!("{why:?}"))?;
    for (member, n) in given.iter().zip(given_up) {
        let drive = fleet.drive(slot(*n)).expect("a drive");
        let done = plan.set_back(member, &Scalar, &drive);
        done.map_err(|why| why.to_string())?;
    }
    Ok(())
}

/// What a crash left while a side was discarded: all together are refused, or are the side that was kept; the other one alone is as it was,
/// or refused. Then it is discarded once more, and caught up.
fn is_one_side(
    chance: &Chance,
    snapshot: &Snapshot,
    (kept, given_up): (&[usize], &[usize]),
    (ours, theirs): (&Model, &Model),
    parity: usize,
) -> Result<bool, String> {
    let is = |snapshot: &Snapshot, model: &Model| {
        let fleet = Fleet::start(chance.next(), snapshot);
        match Desk::open(chance.next(), &fleet, READ_ONLY) {
            Ok(desk) => desk.is(model).map(Some),
            Err(why)
                if ["Split", "SetBack", "TooManyMissing"]
                    .iter()
                    .any(|w| why.contains(w)) =>
            {
                Ok(None)
            }
            Err(why) => Err(why),
        }
    };
    let all = is(snapshot, ours)?;
    let given: Members = given_up.iter().map(|n| slot(*n)).collect();
    let alone = is(&snapshot.split(given).0, theirs)?;
    if all == Some(false) || alone == Some(false) || all.is_some() && alone.is_some() {
        return Err(format!("all together: {all:?}; one side alone: {alone:?}"));
    }
    let fleet = Fleet::start(chance.next(), snapshot);
    discard(&fleet, kept, given_up)?;
    let left = fleet.snapshot().after(&Survival::None).ok_or("no state")?;
    if is(&left.split(given).0, theirs)?.is_some() {
        return Err("the side that was discarded can be mounted".into());
    }
    let fleet = Fleet::start(chance.next(), &left);
    let desk = Desk::open(chance.next(), &fleet, READ_WRITE)?;
    if !desk.is(ours)? {
        return Err("not what was kept".into());
    }
    catch_up(&desk, &mut || ())?;
    sound(&desk)?;
    drop(desk);
    let left = fleet.snapshot().after(&Survival::None).ok_or("no state")?;
    bears(chance, &left, parity, ours)?;
    Ok(all.is_some())
}

fn play_apart(seed: u64, states: f64) -> [usize; 2] {
    let chance = &Chance::new(seed);
    let shapes = [(2, (1, 1)), (4, (1, 2)), (4, (2, 2)), (6, (3, 3))];
    let (count, shape) = chance.one(&shapes);
    let parity = usize::from(shape.1);
    let mut world = World::new(chance, count, shape);
    world.session(30);
    let all: Vec<usize> = (0..count).collect();
    let kept = losses(&all, count / 2).swap_remove(chance.below(count));
    let given_up: Vec<usize> = all.iter().copied().filter(|n| !kept.contains(n)).collect();
    let (last, rest) = all.split_last().expect("drives");
    let (last, rest) = (members(&world.fleet, &[*last]), members(&world.fleet, rest));
    assert_eq!(Discard::plan(&rest, &last).err(), Some(Refused::Agrees(0)));
    let snapshot = world
        .fleet
        .snapshot()
        .after(&Survival::All)
        .expect("a state");
    let (ours, theirs) = snapshot.split(kept.iter().map(|n| slot(*n)).collect());
    let mut left = Vec::new();
    for side in [ours, theirs] {
        let mut world = World {
            chance,
            fleet: Fleet::start(chance.next(), &side),
            models: world.models.clone(),
        };
        for _ in 0..1 + chance.below(3) {
            world.session(10);
        }
        let model = world.models.pop().expect("one");
        left.push((
            world
                .fleet
                .snapshot()
                .after(&Survival::All)
                .expect("a state"),
            model,
        ));
    }
    let [(ours, our_model), (theirs, their_model)] = left.try_into().expect("two");
    let both = ours.join(theirs).expect("a drive on both sides");
    let fleet = Fleet::start(chance.next(), &both);
    let why = machine::mount(chance.next(), &fleet, READ_ONLY).map(|_| ());
    assert!(why.expect_err("refused").contains("Split"));
    // What is kept has to be enough, and one side.
    if kept.len() > 1 {
        let few = Discard::plan(&members(&fleet, &kept[1..]), &members(&fleet, &given_up));
        assert!(matches!(few, Err(Refused::Kept(_))), "{few:?}");
    }
    let mixed = [&kept[..], &given_up[..1]].concat();
    let mixed = Discard::plan(&members(&fleet, &mixed), &members(&fleet, &given_up[1..]));
    assert!(matches!(mixed, Err(Refused::Kept(_))), "{mixed:?}");
    fleet.record();
    discard(&fleet, &kept, &given_up).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    let recording = fleet.recorded();
    let plan = Plan {
        seed,
        subsets: 2,
        tears: 2,
        mixed: 10,
    };
    let mut seen = [0, 0];
    for (state, own) in recording.some(plan, states) {
        let snapshot = recording.at(&state).expect("a state");
        let sides = (&kept[..], &given_up[..]);
        let done = is_one_side(&own, &snapshot, sides, (&our_model, &their_model), parity);
        let done = done.unwrap_or_else(|why| {
            panic!("seed {seed}, {shape:?}, {kept:?} kept, after {state}: {why}")
        });
        seen[usize::from(done)] += 1;
    }
    let end = fleet.snapshot().after(&Survival::None).expect("a state");
    let sides = (&kept[..], &given_up[..]);
    let done = is_one_side(chance, &end, sides, (&our_model, &their_model), parity);
    assert_eq!(done, Ok(true), "seed {seed}, {shape:?}, {kept:?} kept");
    seen
}

#[test]
fn one_side_is_discarded() {
    let base = seed();
    let mut seen = [0, 0];
    for n in 0..8 {
        let more = play_apart(base.wrapping_add(n), 6.0);
        seen = [seen[0] + more[0], seen[1] + more[1]];
    }
    println!("{seen:?}");
    assert!(seen[0] != 0, "{seen:?}");
}

/// Somebody who was let in alone is no volume before he has everything: what he held was written over meanwhile.
#[test]
fn who_is_being_caught_up_speaks_for_nobody() {
    let chance = &Chance::new(seed());
    let mut world = World::new(chance, 2, (1, 1));
    world.session(20);
    world.fleet.vanish(slot(1));
    world.session(20);
    world.fleet.come_back(slot(1), &Survival::All);
    let of_one: Members = [slot(1)].into_iter().collect();
    let alone = |fleet: &Fleet| {
        let state = fleet.snapshot().after(&Survival::None).expect("a state");
        let fleet = Fleet::start(chance.next(), &state.split(of_one).0);
        machine::mount(chance.next(), &fleet, READ_ONLY).map(|_| ())
    };
    let desk = world.open();
    alone(&world.fleet).expect("the volume as it was");
    let mut at = desk.files().begin_catch_up(of_one).expect("begun");
    let why = alone(&world.fleet).expect_err("refused");
    assert!(why.contains("SetBack"), "{why}");
    while desk.files().catch_up_some(&mut at).expect("caught up") {
        if desk.mounted.present().has(slot(1)) {
            break;
        }
        alone(&world.fleet).expect_err("refused still");
    }
    alone(&world.fleet).expect("all of the volume");
}

/// More epochs come and go than the table holds while somebody is away: the one at which he stands is not forgotten.
#[test]
fn who_was_away_for_many_epochs_is_caught_up() {
    let chance = &Chance::new(seed());
    let mut world = World::new(chance, 3, (1, 2));
    world.session(10);
    world.fleet.vanish(slot(2));
    for n in 0..epoch::ENTRIES {
        world.fleet.vanish(slot(1));
        world.session(1);
        world.fleet.come_back(slot(1), &Survival::All);
        let desk = world.open();
        catch_up(&desk, &mut || ()).unwrap_or_else(|why| panic!("round {n}: {why}"));
    }
    world.fleet.come_back(slot(2), &Survival::All);
    let desk = world.open();
    catch_up(&desk, &mut || ()).expect("caught up");
    sound(&desk).expect("sound");
    assert_eq!(desk.is(world.models.last().expect("one")), Ok(true));
}

/// A drive that fails while it is caught up is out again, and everything else goes on; later it is caught up.
#[test]
fn who_fails_while_he_is_caught_up_stays_out() {
    for n in 0..12u64 {
        let chance = &Chance::new(seed() ^ n);
        let mut world = World::new(chance, 6, (4, 2));
        world.session(20);
        world.fleet.vanish(slot(3));
        world.session(20);
        world.fleet.come_back(slot(3), &Survival::All);
        let mut desk = world.open();
        desk::rot(chance, &world.fleet, &desk.mounted, slot(3));
        let fault = match n % 3 {
            0 => Fault::Write(When::After(chance.below(30) as u64), WriteFault::Fail),
            1 => Fault::Flush(When::After(chance.below(6) as u64), FlushFault::Fail(None)),
            _ => Fault::Write(When::After(chance.below(30) as u64), WriteFault::Vanish),
        };
        world.fleet.expect(slot(3), fault);
        let done = catch_up(&desk, &mut || {
            if chance.below(4) == 0 {
                world.act(&desk);
            }
        });
        if done.is_err() {
            assert!(!desk.mounted.present().has(slot(3)));
        }
        world.acts(&desk, 6);
        let left = world
            .fleet
            .snapshot()
            .after(&Survival::None)
            .expect("a state");
        let fleet = Fleet::start(chance.next(), &left);
        fleet.vanish(slot(3));
        let alone = Desk::open(chance.next(), &fleet, READ_ONLY).expect("without it");
        assert_eq!(alone.is(world.models.last().expect("one")), Ok(true));
        world.fleet.heal();
        if n % 3 == 2 {
            world.fleet.come_back(slot(3), &Survival::None);
            drop(desk);
            desk = world.open();
        }
        // In the same mount, where it answered all the time.
        let again = catch_up(&desk, &mut || ());
        again.unwrap_or_else(|why| panic!("{n}, after {done:?}: {why}"));
        sound(&desk).expect("sound");
        drop(desk);
        let left = world
            .fleet
            .snapshot()
            .after(&Survival::None)
            .expect("a state");
        let model = world.models.last().expect("one");
        bears(chance, &left, 2, model).unwrap_or_else(|why| panic!("{n}: {why}"));
    }
}

/// A drive refuses what is written, and nothing else is wrong with it: what found no place has one again once it is caught up.
#[test]
fn what_a_drive_refused_is_made_good() {
    for (count, shape) in [(6, (4, 2)), (3, (2, 1)), (2, (1, 1))] {
        let chance = &Chance::new(seed());
        let mut world = World::new(chance, count, shape);
        world.session(10);
        let desk = world.open();
        let bad = slot(chance.below(count));
        let fault = Fault::Write(When::From(0), WriteFault::Fail);
        world.fleet.expect(bad, fault);
        let file = desk::create(desk.files(), b"refused");
        let bytes = desk::pattern(200, chance.next());
        desk::write(desk.files(), file, 0, &bytes, Way::Sealed);
        desk.mounted.sync().expect("durable");
        assert!(desk.mounted.returning().has(bad));
        world.fleet.heal();
        let tally = catch_up(&desk, &mut || ()).expect("caught up");
        // On more drives the others took what it should have.
        assert!(count > 2 || tally.widened != 0, "{tally:?}");
        sound(&desk).expect("sound");
        assert!(desk::read(desk.files(), file, 0, 200) == bytes);
        drop(desk);
        let left = world
            .fleet
            .snapshot()
            .after(&Survival::None)
            .expect("a state");
        let model = world.models.last().expect("one");
        bears(chance, &left, usize::from(shape.1), model).expect("any may be lost");
    }
}
