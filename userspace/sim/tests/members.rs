// SPDX-License-Identifier: GPL-2.0

//! Membership epochs: a drive that fails, or that is not there when the volume is mounted, is no member any more before anything else
//! is acknowledged; wherever a crash comes, what was acknowledged is there, with that drive and without it.

use embr_engine::format::layout;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::units::Bytes;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::FlushFault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::made;
use embrfs_sim::numbered::put;
use embrfs_sim::numbered::SIZE;
use embrfs_sim::recording;
use embrfs_sim::recording::Recording;
use embrfs_sim::recording::Snapshot;
use embrfs_sim::states::Plan;
use embrfs_sim::tale::audit_promises;
use std::collections::BTreeSet;
use std::sync::OnceLock;

const CAUTIOUS: Options = Options {
    degraded: false,
    ..READ_WRITE
};
const READ_ONLY: Options = Options {
    read_only: true,
    ..READ_WRITE
};

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

fn mount(seed: u64, fleet: &Fleet, options: Options) -> Result<Mounted<Simulated>, String> {
    machine::mount(seed, fleet, options)
}

fn epoch_of(fleet: &Fleet, n: usize) -> u64 {
    let drive = fleet.drive(slot(n)).expect("a drive");
    let member = probe(&drive, &Scalar).expect("a member");
    let epoch = member.superblock.epoch(member.root.epoch);
    epoch.expect("known").number
}

fn failing(after: u64) -> [Fault; 4] {
    [
        Fault::Write(When::From(after), WriteFault::Fail),
        Fault::Flush(When::After(after / 4), FlushFault::Fail(None)),
        Fault::Write(When::After(after), WriteFault::Vanish),
        Fault::Flush(When::After(after / 4), FlushFault::Vanish),
    ]
}

/// A volume on which drives fail one after the other while it is written to.
fn tell(fleet: &Fleet, seed: u64, faults: &[(usize, Fault)]) -> Result<(Recording, u64), String> {
    let mounted = mount(seed, fleet, READ_WRITE)?;
    fleet.record();
    let mut faults = faults.iter();
    for number in 1..=20u64 {
        if number % 6 == 2 {
            if let Some((drive, fault)) = faults.next() {
                fleet.expect(slot(*drive), fault.clone());
            }
        }
        fleet.note(recording::begun(number as usize));
        put(&mounted, number)?;
        if number % 3 != 0 {
            mounted
                .sync()
                .map_err(|why| format!("sync after {number}: {why}"))?;
            fleet.note(recording::durable(number as usize));
        }
        if number % 7 == 0 {
            mounted
                .checkpoint()
                .map_err(|why| format!("checkpoint after {number}: {why}"))?;
            fleet.note(recording::durable(number as usize));
        }
    }
    mounted.sync().map_err(|why| format!("at last: {why}"))?;
    let number = mounted.epoch().number;
    if number > 1 && mounted.machine().heard().epochs() == 0 {
        return Err("an epoch began, and nobody was told".into());
    }
    audit_promises(&mounted)?;
    if last(&mounted)? != 20 {
        return Err("not what was written".into());
    }
    Ok((fleet.recorded(), number))
}

/// What a crash left holds what was acknowledged, and goes on.
fn look(
    seed: u64,
    snapshot: &Snapshot,
    bounds: (usize, usize),
    gone: &[usize],
    back: &[usize],
) -> Result<(), String> {
    let fleet = Fleet::start(seed, snapshot);
    for n in back {
        fleet.come_back(slot(*n), &Survival::None);
    }
    gone.iter().for_each(|n| fleet.vanish(slot(*n)));
    let (durable, committed) = bounds;
    let within = |what: &str, number: u64| match number as usize {
        n if (durable..=committed).contains(&n) => Ok(()),
        n => Err(format!(
            "{what}: {n} is the last, not {durable} to {committed}"
        )),
    };
    within("read-only", last(&mount(seed, &fleet, READ_ONLY)?)?)?;
    let mounted = mount(seed ^ 1, &fleet, READ_WRITE)?;
    let number = last(&mounted)?;
    within("recovered", number)?;
    put(&mounted, number + 1)?;
    mounted.sync().map_err(|why| format!("going on: {why}"))?;
    audit_promises(&mounted)?;
    drop(mounted);
    let fleet = Fleet::start(
        seed,
        &fleet
            .snapshot()
            .after(&Survival::None)
            .ok_or("no such state")?,
    );
    let again = mount(seed ^ 2, &fleet, READ_WRITE)?;
    match last(&again)? == number + 1 {
        true => again.close().map_err(|why| format!("closing: {why}")),
        false => Err("what was acknowledged after the crash is gone".into()),
    }
}

/// The drives that failed come back, alone, and are written to. Then all are together: that is refused, or nothing acknowledged is missing.
fn apart(seed: u64, snapshot: &Snapshot, durable: usize, bad: &[usize]) -> Result<(), String> {
    let bad: Members = bad.iter().map(|n| slot(*n)).collect();
    let (bad, rest) = snapshot.split(bad);
    let alone = Fleet::start(seed, &bad);
    for drive in alone.drives() {
        alone.come_back(drive.slot(), &Survival::None);
    }
    let Ok(mounted) = mount(seed ^ 3, &alone, READ_WRITE) else {
        return Ok(());
    };
    let number = last(&mounted)?;
    put(&mounted, number + 1)?;
    mounted.sync().map_err(|why| format!("alone: {why}"))?;
    drop(mounted);
    let all = alone.snapshot().join(rest).ok_or("a drive on both sides")?;
    match mount(seed ^ 4, &Fleet::start(seed, &all), READ_ONLY) {
        Err(why) if why.contains("Split") => Ok(()),
        Err(why) => Err(format!("together: {why}")),
        Ok(mounted) => match last(&mounted)? as usize {
            n if n >= durable => Ok(()),
            n => Err(format!(
                "together {n} is the last, but {durable} was durable"
            )),
        },
    }
}

/// Which of all states are looked at: others in each run, all where EMBRFS_SEED is 0.
fn some() -> (usize, usize) {
    const STRIDE: usize = 32;
    static FIRST: OnceLock<Option<usize>> = OnceLock::new();
    let drawn = || Some(seed()).filter(|seed| *seed != 0);
    let first = FIRST.get_or_init(|| drawn().map(|seed| seed as usize % STRIDE));
    first.map_or((0, 1), |first| (first, STRIDE))
}

/// Crashes while drives fail: with those drives, as they were when they failed, and without them.
fn crashes(
    drives: usize,
    parity: u8,
    seed: u64,
    faults: &[(usize, Fault)],
) -> Result<usize, String> {
    let fleet = made(drives, parity);
    let (recording, epochs) = tell(&fleet, seed, faults)?;
    if epochs < 2 {
        // The fault was still to come.
        return Ok(0);
    }
    let bad: BTreeSet<usize> = faults.iter().map(|(drive, _)| *drive).collect();
    let bad: Vec<usize> = bad.into_iter().collect();
    let plan = Plan {
        seed,
        subsets: 1,
        tears: 1,
        mixed: 20,
    };
    let mut count = 0;
    let (first, stride) = some();
    for state in recording.states(plan).skip(first).step_by(stride) {
        let snapshot = recording.at(&state).ok_or("no such state")?;
        let bounds = recording.bounds(state.cut);
        let mut try_with = |gone: &[usize], back: &[usize]| {
            count += 1;
            look(seed, &snapshot, bounds, gone, back).map_err(|why| {
                format!("{faults:?}, after {state}, without {gone:?}, {back:?} back: {why}")
            })
        };
        try_with(&[], &bad)?;
        try_with(&bad, &[])?;
        apart(seed, &snapshot, bounds.0, &bad)
            .map_err(|why| format!("{faults:?}, after {state}, {bad:?} apart: {why}"))?;
    }
    Ok(count)
}

#[test]
fn crashes_while_a_drive_fails() {
    let mut count = 0;
    for (drives, parity) in [(2, 1), (3, 1), (3, 2), (4, 2)] {
        for (n, after) in [0u64, 3, 9, 14, 22, 31].into_iter().enumerate() {
            let drive = n % drives;
            for fault in failing(after) {
                let seed = 100 * after + drives as u64;
                let done = crashes(drives, parity, seed, &[(drive, fault)]);
                count +=
                    done.unwrap_or_else(|why| panic!("{drives} drives, {parity} may fail: {why}"));
            }
        }
    }
    assert!(count > 500, "{count} states");
}

#[test]
fn crashes_while_two_drives_fail() {
    for (n, (one, other)) in [(0, 1), (1, 0), (2, 1), (0, 2), (1, 2)]
        .into_iter()
        .enumerate()
    {
        let after = n as u64 * 3;
        for (a, b) in failing(after)
            .into_iter()
            .zip(failing(after / 2).into_iter().rev())
        {
            let done = crashes(3, 2, after + 7, &[(one, a), (other, b)]);
            done.unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

/// While the volume goes on without one drive, another one takes the record of that, or the root, not.
#[test]
fn a_drive_that_fails_while_an_epoch_begins() {
    let copies = layout::superblocks(SIZE).map(|(_, at)| (at, layout::SUPERBLOCK_SIZE as u64));
    let rings = layout::rings(SIZE).map(|at| (at, layout::ROOT_SIZE as u64 * 64));
    for (at, length) in copies.chain(rings) {
        let fleet = made(3, 2);
        let mounted = mount(1, &fleet, READ_WRITE).expect("mounts");
        put(&mounted, 1).expect("written");
        mounted.sync().expect("healthy drives");
        let there = at..Bytes(at.0 + length);
        fleet.expect(slot(1), Fault::Write(When::Within(there), WriteFault::Fail));
        fleet.expect(slot(0), Fault::Write(When::After(0), WriteFault::Fail));
        put(&mounted, 2).expect("written");
        mounted.sync().expect("one drive is enough");
        let alone: Members = [slot(2)].into_iter().collect();
        assert_eq!(mounted.present(), alone, "{at}");
        drop(mounted);
        let snapshot = fleet.snapshot().after(&Survival::None).expect("a state");
        for gone in [vec![], vec![0, 1]] {
            look(2, &snapshot, (2, 2), &gone, &[]).unwrap_or_else(|why| panic!("{at}: {why}"));
        }
        apart(2, &snapshot, 2, &[0, 1]).unwrap_or_else(|why| panic!("{at}: {why}"));
    }
}

#[test]
fn without_redundancy_a_failing_drive_ends_it() {
    for drives in [1, 2] {
        let fleet = made(drives, 0);
        let fault = Fault::Write(When::From(3), WriteFault::Fail);
        assert!(tell(&fleet, 5, &[(0, fault)]).is_err());
        fleet.heal();
        assert_eq!(epoch_of(&fleet, 0), 1);
        let snapshot = fleet.snapshot().after(&Survival::None).expect("a state");
        let fleet = Fleet::start(6, &snapshot);
        let mounted = mount(6, &fleet, READ_WRITE).expect("mounts");
        last(&mounted).expect("as some transaction left it");
    }
}

#[test]
fn a_drive_that_missed_something_is_stale() {
    let fleet = made(2, 1);
    let mounted = mount(1, &fleet, READ_WRITE).expect("mounts");
    put(&mounted, 1).expect("written");
    mounted.close().expect("closed");
    fleet.vanish(slot(1));
    // Half of the members is no majority.
    let why = mount(2, &fleet, CAUTIOUS).map(|_| ()).expect_err("refused");
    assert!(why.contains("degraded"), "{why}");
    assert_eq!(epoch_of(&fleet, 0), 1, "nothing was written");
    let mounted = mount(2, &fleet, READ_WRITE).expect("mounts");
    assert_eq!(epoch_of(&fleet, 0), 2);
    put(&mounted, 2).expect("written");
    mounted.close().expect("closed");
    fleet.come_back(slot(1), &Survival::All);
    assert_eq!(epoch_of(&fleet, 1), 1);
    for options in [READ_ONLY, READ_WRITE] {
        let mounted = mount(3, &fleet, options).expect("mounts");
        assert_eq!(last(&mounted), Ok(2));
        assert!(!mounted.present().has(slot(1)));
    }
    // Nothing new happened to who is here: no epoch more.
    assert_eq!(epoch_of(&fleet, 0), 2);
    // The other side alone does not know better; written to, it is another history.
    let (one, other) = fleet.snapshot().split([slot(1)].into_iter().collect());
    let alone = Fleet::start(4, &one);
    let mounted = mount(4, &alone, READ_WRITE).expect("mounts");
    assert_eq!(last(&mounted), Ok(1));
    put(&mounted, 7).expect("written");
    mounted.close().expect("closed");
    let both = alone.snapshot().join(other).expect("two sides");
    let why = mount(5, &Fleet::start(5, &both), READ_ONLY).map(|_| ());
    assert!(why.expect_err("refused").contains("Split"));
}

#[test]
fn a_majority_may_write() {
    let fleet = made(3, 1);
    fleet.vanish(slot(2));
    let mounted = mount(1, &fleet, CAUTIOUS).expect("two of three");
    put(&mounted, 1).expect("written");
    mounted.close().expect("closed");
    assert_eq!((epoch_of(&fleet, 0), epoch_of(&fleet, 1)), (2, 2));
    // One more is more than may be lost.
    fleet.vanish(slot(1));
    assert!(mount(2, &fleet, READ_WRITE).is_err());
}

#[test]
fn an_epoch_that_never_began_is_nothing() {
    // Whichever part of the writes of a mount without a drive is there, that drive is not shut out before the epoch has a root.
    let fleet = made(3, 2);
    let mounted = mount(1, &fleet, READ_WRITE).expect("mounts");
    put(&mounted, 1).expect("written");
    mounted.sync().expect("durable");
    drop(mounted);
    fleet.vanish(slot(2));
    fleet.record();
    fleet.note(recording::durable(1));
    drop(mount(2, &fleet, READ_WRITE).expect("mounts"));
    let recording = fleet.recorded();
    let plan = Plan {
        seed: 3,
        subsets: 4,
        tears: 2,
        mixed: 50,
    };
    let mut count = 0;
    let (first, stride) = some();
    let states = recording.states(plan);
    for state in states.skip(first / 4).step_by(stride.div_ceil(4)) {
        let snapshot = recording.at(&state).expect("a state");
        for gone in [vec![], vec![2], vec![0], vec![1], vec![0, 2], vec![1, 2]] {
            let back: &[usize] = if gone.contains(&2) { &[] } else { &[2] };
            match look(4, &snapshot, (1, 1), &gone, back) {
                Ok(()) => {}
                Err(why) => panic!("after {state}, without {gone:?}: {why}"),
            }
            count += 1;
        }
    }
    assert!(count > 50);
}
