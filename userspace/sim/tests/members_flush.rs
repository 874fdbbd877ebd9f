// SPDX-License-Identifier: GPL-2.0

//! A drive that fails to make durable what it was given: nothing that names what lies there is written while it is a member. Wherever
//! a crash comes, whoever is taken for a member afterwards has all that is named.

use embr_engine::check::Depth;
use embr_engine::env::Devices as _;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Slot;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::cache::Survival;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::FlushFault;
use embrfs_sim::fault::Injected;
use embrfs_sim::fault::When;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::inspector;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::put;
use embrfs_sim::recording;
use embrfs_sim::recording::Recording;
use embrfs_sim::recording::Snapshot;
use embrfs_sim::states::Plan;
use std::sync::Arc;
use std::sync::OnceLock;

const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};
/// Where it is written down which blocks hold data, and of which number.
const DATA: Key = Key([2, 0, 0]);
/// The last transaction that a volume has before anything fails.
const BEFORE: u64 = 50;

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// The number of the data, and where their copies are.
fn data(mounted: &Mounted<Simulated>) -> Result<(u64, Vec<Extent>), String> {
    let value = mounted.get(NAMES, DATA, |v| v.to_vec());
    let value = value.map_err(|why| format!("where data are: {why}"))?;
    let value = value.unwrap_or_default();
    let mut words = value.chunks(8).map(|word| {
        let word = word.try_into().map(u64::from_le_bytes);
        word.expect("whole words")
    });
    let number = words.next().unwrap_or(0);
    let mut copies = Vec::new();
    while let (Some(device), Some(block)) = (words.next(), words.next()) {
        copies.push(Extent {
            device: slot(device as usize),
            start: Blocks(block),
            blocks: Blocks(1),
        });
    }
    Ok((number, copies))
}

/// Overwrites the data, in as many copies as there are to be and on other drives each time; then one of the numbered transactions.
fn write(mounted: &Mounted<Simulated>, fleet: &Fleet, number: u64) -> Result<(), String> {
    loop {
        let present = mounted.present();
        match overwrite(mounted, fleet, number) {
            Ok(()) => break,
            // The drives that it wanted are not there any more.
            Err(_) if mounted.present() != present => {}
            Err(why) => return Err(format!("data of {number}: {why}")),
        }
    }
    put(mounted, number)
}

fn overwrite(mounted: &Mounted<Simulated>, fleet: &Fleet, number: u64) -> Result<(), String> {
    let shown = |why: embr_engine::volume::Fault| why.to_string();
    let (_, old) = data(mounted)?;
    let mut txn = mounted.begin().map_err(shown)?;
    let parts = mounted.parts().iter().map(|part| part.slot);
    let present: Vec<Slot> = parts.filter(|s| mounted.present().has(*s)).collect();
    let devices = present.iter().cycle().skip(number as usize);
    let mut value = number.to_le_bytes().to_vec();
    for device in devices.take(mounted.copies()) {
        let extent = mounted.allocate(*device, Blocks(1), Blocks(1));
        let extent = extent.map_err(shown)?;
        txn.take(extent).map_err(shown)?;
        let drive = fleet.drive(*device).expect("a drive");
        let at = extent.start.bytes().expect("a place");
        let written = drive.write(at, &[number as u8; BLOCK_SIZE]);
        written.map_err(|why| why.to_string())?;
        value.extend((device.index() as u64).to_le_bytes());
        value.extend(extent.start.0.to_le_bytes());
    }
    for extent in old {
        txn.free(extent).map_err(shown)?;
    }
    txn.set(NAMES, DATA, &value).map_err(shown)?;
    txn.commit().map(|_| ()).map_err(shown)
}

/// What the last transaction was, if everything is there; also every copy on every member.
fn audit(mounted: &Mounted<Simulated>, fleet: &Fleet) -> Result<u64, String> {
    let number = last(mounted)?;
    let (with_data, copies) = data(mounted)?;
    if with_data != number && with_data != number + 1 {
        return Err(format!("data of {with_data}, but {number} is the last"));
    }
    let present = mounted.present();
    let here = || copies.iter().filter(|c| present.has(c.device));
    if here().next().is_none() && !copies.is_empty() {
        return Err(format!("no copy of the data of {with_data}"));
    }
    for copy in here() {
        let mut bytes = [0; BLOCK_SIZE];
        let at = copy.start.bytes().ok_or("no place")?;
        let read = fleet.read(copy.device, at, &mut bytes);
        if read.is_err() || bytes != [with_data as u8; BLOCK_SIZE] {
            let n = copy.device.index();
            return Err(format!("the data of {with_data} are not on drive {n}"));
        }
    }
    inspector::check_but(mounted, None, (Depth::Copies, Copies::MayLack), &copies)?;
    Ok(number)
}

/// A volume with nodes in use, that is about to make a checkpoint of more.
fn busy(sizes: &[u64], parity: u8) -> (Fleet, Mounted<Simulated>) {
    let sizes: Vec<Bytes> = sizes.iter().map(|mib| Bytes(mib << 20)).collect();
    let fleet = Fleet::new(5, &sizes);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(5, &fleet, geometry).expect("made");
    let mounted = machine::mount(1, &fleet, READ_WRITE).expect("mounts");
    for number in 1..=BEFORE {
        write(&mounted, &fleet, number).expect("healthy drives");
        if number % 20 == 0 {
            mounted.checkpoint().expect("healthy drives");
        }
    }
    mounted.sync().expect("healthy drives");
    (fleet, mounted)
}

/// The flush after so many more fails, and nothing is left of what was not flushed.
fn failed_flush(after: u64) -> Fault {
    let fault = FlushFault::Fail(Some(Survival::None));
    Fault::Flush(When::After(after), fault)
}

/// Writes on until that fails, and notes how far it came.
fn go_on(mounted: &Mounted<Simulated>, fleet: &Fleet) -> Result<(), String> {
    fleet.note(recording::begun(BEFORE as usize));
    fleet.note(recording::durable(BEFORE as usize));
    for number in BEFORE + 1..=BEFORE + 6 {
        fleet.note(recording::begun(number as usize));
        write(mounted, fleet, number)?;
        let done = match number % 3 {
            0 => mounted.checkpoint(),
            1 => mounted.sync(),
            _ => continue,
        };
        done.map_err(|why| format!("after {number}: {why}"))?;
        fleet.note(recording::durable(number as usize));
    }
    mounted.sync().map_err(|why| format!("at last: {why}"))
}

/// A crash left what was acknowledged, on everybody who is taken for a member; and when it went on, any of them may be lost.
fn look(snapshot: &Snapshot, (durable, begun): (usize, usize), parity: u8) -> Result<(), String> {
    let within = |what: &str, number: u64| match (durable as u64..=begun as u64).contains(&number) {
        true => Ok(()),
        false => Err(format!(
            "{what}: {number} is the last, not {durable} to {begun}"
        )),
    };
    let fleet = Fleet::start(7, snapshot);
    let found = machine::inspect(3, &fleet).and_then(|mounted| audit(&mounted, &fleet));
    within(
        "read-only",
        found.map_err(|why| format!("read-only: {why}"))?,
    )?;
    let mounted = machine::mount(4, &fleet, READ_WRITE)?;
    let number = audit(&mounted, &fleet).map_err(|why| format!("recovered: {why}"))?;
    within("recovered", number)?;
    write(&mounted, &fleet, number + 1)?;
    mounted.sync().map_err(|why| why.to_string())?;
    let present = mounted.present();
    drop(mounted);
    let after = fleet.snapshot().after(&Survival::None);
    let after = after.ok_or("no such state")?;
    let absent = fleet.members().count() - present.count();
    for lost in fleet.drives() {
        if !present.has(lost.slot()) || absent >= u32::from(parity) {
            continue;
        }
        let fleet = Fleet::start(8, &after);
        fleet.vanish(lost.slot());
        let shown = |why| format!("without drive {}: {why}", lost.slot().index());
        let mounted = machine::mount(5, &fleet, READ_WRITE).map_err(shown)?;
        let found = audit(&mounted, &fleet).map_err(shown)?;
        if found != number + 1 {
            return Err(shown(format!("{found} is the last")));
        }
    }
    Ok(())
}

/// Crashes at any time while this flush of a drive fails, and all that was unflushed there is lost. Says how many, and how it ended.
fn crashes(
    sizes: &[u64],
    parity: u8,
    (drive, after): (usize, u64),
    each: usize,
) -> (usize, Result<(), String>) {
    let (fleet, mounted) = busy(sizes, parity);
    fleet.expect(slot(drive), failed_flush(after));
    fleet.record();
    let ended = go_on(&mounted, &fleet);
    drop(mounted);
    if fleet.injected().of(Injected::FlushFailed) == 0 {
        return (0, ended);
    }
    let count = look_at_some(&fleet.recorded(), parity, each).unwrap_or_else(|why| {
        panic!("{sizes:?}, {parity} may fail; flush {after} of drive {drive} failed; {why}")
    });
    (count, ended)
}

/// Looks at one in so many of the states of a recording: others in each run.
fn look_at_some(recorded: &Recording, parity: u8, each: usize) -> Result<usize, String> {
    const PLAN: Plan = Plan {
        seed: 3,
        subsets: 0,
        tears: 0,
        mixed: 0,
    };
    static FIRST: OnceLock<u64> = OnceLock::new();
    let first = *FIRST.get_or_init(seed) as usize % each;
    let mut count = 0;
    for state in recorded.states(PLAN).skip(first).step_by(each) {
        let snapshot = recorded.at(&state).ok_or("no such state")?;
        let bounds = recorded.bounds(state.cut);
        look(&snapshot, bounds, parity).map_err(|why| format!("{state}: {why}"))?;
        count += 1;
    }
    Ok(count)
}

#[test]
fn a_drive_that_fails_a_flush_is_left_out_first() {
    let mut count = 0;
    for (sizes, parity) in [(&[32, 32, 32][..], 1), (&[32, 32], 1), (&[32, 32, 32], 2)] {
        for drive in 0..sizes.len() {
            for after in 0..12 {
                let (states, ended) = crashes(sizes, parity, (drive, after), 40);
                ended.unwrap_or_else(|why| panic!("flush {after} of drive {drive} failed: {why}"));
                count += states;
            }
        }
    }
    println!("{count} states");
    assert!(count > 500);
}

#[test]
fn without_redundancy_a_failed_flush_ends_it() {
    let mut ends = 0;
    for sizes in [[32, 256], [256, 32], [32, 32]] {
        for drive in 0..sizes.len() {
            for after in 0..12 {
                let (states, ended) = crashes(&sizes, 0, (drive, after), 4);
                assert_eq!(ended.is_err(), states != 0, "{ended:?}");
                ends += usize::from(ended.is_err());
            }
        }
    }
    println!("{ends} ended");
    assert!(ends > 20);
}

/// What failed while the volume was mounted is over; as it is now, it mounts.
#[test]
fn what_was_durable_is_there_after_it_stopped() {
    for sizes in [[32, 256], [256, 256]] {
        for drive in 0..2 {
            let (fleet, mounted) = busy(&sizes, 0);
            fleet.expect(slot(drive), failed_flush(0));
            assert!(mounted.checkpoint().is_err() && mounted.has_stopped());
            let before = fleet.snapshot();
            assert!(mounted.checkpoint().is_err() && mounted.sync_serving().is_err());
            assert!(fleet.snapshot() == before);
            drop(mounted);
            fleet.heal();
            for options in [READ_ONLY, READ_WRITE] {
                let mounted = machine::mount(7, &fleet, options);
                let found = mounted.and_then(|mounted| audit(&mounted, &fleet));
                assert_eq!(found, Ok(BEFORE), "{sizes:?}, drive {drive}");
            }
        }
    }
}

/// What tasks work on at once.
struct Stage {
    mounted: Mounted<Simulated>,
    fleet: Fleet,
}

impl Stage {
    fn write(&self, chance: &Chance) -> Result<(), String> {
        for number in BEFORE + 1..BEFORE + 30 {
            self.fleet.note(recording::begun(number as usize));
            write(&self.mounted, &self.fleet, number)?;
            if chance.below(4) == 0 {
                self.mounted.sync().map_err(|why| why.to_string())?;
                self.fleet.note(recording::durable(number as usize));
            }
        }
        Ok(())
    }

    fn make_roots(&self, chance: &Chance) -> Result<(), String> {
        for _ in 0..6 {
            embr_rt::time::sleep(Duration::from_micros(chance.below(3000) as u64));
            self.mounted.checkpoint().map_err(|why| why.to_string())?;
        }
        Ok(())
    }
}

/// One writes while another one makes checkpoints, and a flush of a drive fails, whoever's it is. Says whether one did, and how it ended.
fn at_once(seed: u64, parity: u8) -> (bool, Recording, Result<(), String>) {
    let (fleet, mounted) = busy(&[32, 32, 32], parity);
    drop(mounted);
    let outcome = World::new(seed).run(move || {
        let chance = Chance::new(seed);
        let mounted = machine::mount(1, &fleet, READ_WRITE).expect("mounts");
        let after = chance.below(24) as u64;
        fleet.expect(slot(chance.below(3)), failed_flush(after));
        fleet.record();
        fleet.note(recording::begun(BEFORE as usize));
        fleet.note(recording::durable(BEFORE as usize));
        let stage = Arc::new(Stage { mounted, fleet });
        let ended = Arc::new(std::sync::Mutex::new(Ok(())));
        let spawn = |task: fn(&Stage, &Chance) -> Result<(), String>| {
            let (stage, ended) = (stage.clone(), ended.clone());
            let work = move || {
                let done = task(&stage, &Chance::new(seed));
                let mut ended = ended.lock().expect("no task panicked");
                *ended = std::mem::replace(&mut *ended, Ok(())).and(done);
            };
            Worker::try_spawn(lock_class!("stage"), work).expect("a task")
        };
        let workers = [spawn(Stage::write), spawn(Stage::make_roots)];
        drop(workers);
        let failed = stage.fleet.injected().of(Injected::FlushFailed) != 0;
        let ended = ended.lock().expect("no task panicked").clone();
        (failed, stage.fleet.recorded(), ended)
    });
    outcome.unwrap_or_else(|why| panic!("{why}")).value
}

#[test]
fn a_failed_flush_concerns_whoever_works_at_once() {
    let base = seed();
    let (mut count, mut failures) = (0, 0);
    for n in 0..120 {
        let (seed, parity) = (base.wrapping_add(n), (n % 3) as u8);
        let (failed, recorded, ended) = at_once(seed, parity);
        let why = || format!("EMBRFS_SEED={seed}, {parity} may fail");
        if parity > 0 || !failed {
            ended.unwrap_or_else(|error| panic!("{}: {error}", why()));
        } else {
            assert!(ended.is_err(), "{}", why());
        }
        let looked = look_at_some(&recorded, parity, 300);
        count += looked.unwrap_or_else(|error| panic!("{}; {error}", why()));
        failures += usize::from(failed);
    }
    println!("{failures} failures, {count} states");
    assert!(failures > 60 && count > 200);
}
