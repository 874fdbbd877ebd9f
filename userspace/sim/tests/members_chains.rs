// SPDX-License-Identifier: GPL-2.0

//! Crashes after crashes while drives fail, go and come: a mount that itself is cut short, without a drive or before one is lost. And
//! what a loss leaves of what was promised, and of a volume that stops.

use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::units::Blocks;
use embr_engine::volume::Mounted;
use embrfs_sim::cache::Survival;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::When;
use embrfs_sim::fault::WriteFault;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::machine::READ_WRITE;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::made;
use embrfs_sim::numbered::put;
use embrfs_sim::recording;
use embrfs_sim::recording::Recording;
use embrfs_sim::states::Plan;

const EACH: Plan = Plan {
    seed: 3,
    subsets: 0,
    tears: 0,
    mixed: 0,
};

fn slot(n: usize) -> Slot {
    Slot::new(n).expect("a slot")
}

/// A volume with nodes in use, that is about to make a checkpoint of more.
fn busy(fleet: &Fleet) -> Mounted<Simulated> {
    let mounted = machine::mount(1, fleet, READ_WRITE).expect("mounts");
    (1..=80).for_each(|n| put(&mounted, n).expect("written"));
    mounted.checkpoint().expect("healthy drives");
    (81..=90).for_each(|n| put(&mounted, n).expect("written"));
    mounted.sync().expect("healthy drives");
    mounted
}

/// Every crash of `first`, a mount without these drives, a crash of that, and a mount without those.
fn twice(first: &Recording, before: &[usize], after: &[usize], each: usize) -> usize {
    let offset = seed() as usize;
    let mut count = 0;
    for one in first.states(EACH) {
        let fleet = Fleet::start(4, &first.at(&one).expect("a state"));
        before.iter().for_each(|n| fleet.vanish(slot(*n)));
        fleet.record();
        drop(machine::mount(5, &fleet, READ_WRITE).expect("mounts"));
        let second = fleet.recorded();
        for two in second.states(EACH).skip(offset % each).step_by(each) {
            let fleet = Fleet::start(7, &second.at(&two).expect("a state"));
            after.iter().for_each(|n| fleet.vanish(slot(*n)));
            let mounted = machine::mount(8, &fleet, READ_WRITE);
            let found = mounted.and_then(|mounted| last(&mounted));
            assert_eq!(found, Ok(90), "first after {one}, second after {two}");
            count += 1;
        }
    }
    count
}

/// What the journal says of the nodes of a root that never came is not for the root that begins an epoch.
#[test]
fn a_mount_without_a_drive_is_cut_short_like_the_one_before() {
    let fleet = made(2, 1);
    let mounted = busy(&fleet);
    fleet.record();
    mounted.checkpoint().expect("healthy drives");
    let first = fleet.recorded();
    assert!(twice(&first, &[1], &[], 8) > 300);
}

/// What a mount found on one drive alone is not missed if that is lost before a root has it.
#[test]
fn a_mount_is_cut_short_and_then_a_drive_is_lost() {
    let fleet = made(2, 1);
    let mounted = busy(&fleet);
    put(&mounted, 91).expect("written");
    fleet.record();
    mounted.sync().expect("healthy drives");
    let first = fleet.recorded();
    let mut count = 0;
    for one in first.states(EACH) {
        let fleet = Fleet::start(4, &first.at(&one).expect("a state"));
        fleet.record();
        drop(machine::mount(5, &fleet, READ_WRITE).expect("mounts"));
        let second = fleet.recorded();
        for two in second.states(EACH) {
            for lost in 0..2 {
                let fleet = Fleet::start(7, &second.at(&two).expect("a state"));
                fleet.vanish(slot(lost));
                let mounted = machine::mount(8, &fleet, READ_WRITE);
                let found = mounted.and_then(|mounted| last(&mounted));
                let why = format!("first after {one}, second after {two}, without {lost}");
                assert!(matches!(found, Ok(90 | 91)), "{why}: {found:?}");
                count += 1;
            }
        }
    }
    assert!(count > 300);
}

/// One drive fails while a checkpoint is made, and then another one that cannot be done without: the volume stops as it is.
#[test]
fn nothing_is_written_once_it_stopped() {
    let chance = Chance::new(seed());
    let mut stopped = 0;
    for (drives, other) in [(2usize, 1usize), (3, 1), (3, 2)] {
        for _ in 0..100 {
            let (a, b) = (chance.below(25) as u64, chance.below(25) as u64);
            let fleet = made(drives, 1);
            let mounted = busy(&fleet);
            fleet.expect(slot(0), Fault::Write(When::From(a), WriteFault::Fail));
            fleet.expect(slot(other), Fault::Write(When::After(b), WriteFault::Fail));
            if mounted.checkpoint().is_ok() {
                continue;
            }
            if put(&mounted, 91).is_ok() && mounted.sync().is_ok() {
                continue;
            }
            stopped += 1;
            let before = fleet.snapshot();
            // As at unmount.
            assert!(mounted.checkpoint().is_err() && mounted.sync_serving().is_err());
            assert!(fleet.snapshot() == before, "{drives} drives, {a}, {b}");
            drop(mounted);
            fleet.heal();
            let snapshot = fleet.snapshot().after(&Survival::All).expect("a state");
            let found = machine::mount(8, &Fleet::start(7, &snapshot), READ_WRITE);
            let found = found.and_then(|mounted| last(&mounted));
            assert!(
                matches!(found, Ok(90 | 91)),
                "{drives} drives, {a}, {b}: {found:?}"
            );
        }
    }
    assert!(stopped > 0);
}

#[test]
fn drives_that_cannot_be_done_without_are_kept() {
    let fleet = made(3, 1);
    let mounted = busy(&fleet);
    let of = |n| Members::default().with(slot(n));
    mounted.report(of(0).with(slot(1)));
    mounted.sync().expect("both at once");
    assert_eq!(mounted.present().count(), 3);
    mounted.report(of(0));
    mounted.report(of(1));
    put(&mounted, 91).expect("written");
    mounted.sync().expect("one after the other");
    assert_eq!(mounted.present(), of(1).with(slot(2)));
}

/// A full volume that loses a drive keeps its promises with fewer copies, and has as many as before once there is room.
#[test]
fn copies_are_fewer_only_while_there_is_no_room() {
    let fleet = made(3, 1);
    let mounted = busy(&fleet);
    let mut promises = Vec::new();
    for size in [1024, 16, 1] {
        while let Ok(promise) = mounted.promise(Blocks(size)) {
            promises.push(promise);
        }
    }
    mounted.report(Members::default().with(slot(2)));
    mounted.sync_serving().expect("two of three");
    assert!(mounted.ledger().balanced);
    let copies = |promise: &mut embr_engine::space::promise::Promise| {
        let mut out = embr_rt::Vec::new();
        let given = mounted.allocate_promised(promise, Blocks(1), &mut out);
        given.expect("promised");
        mounted.give_back_to(promise, &out);
        out.len()
    };
    assert_eq!(copies(promises.last_mut().expect("some")), 1);
    promises.truncate(1);
    mounted.checkpoint().expect("two of three");
    assert_eq!(copies(&mut promises[0]), 2);
    assert!(mounted.ledger().balanced);
}

/// Mounts one after the other, each without drives that are lost by then, with one that fails now and then, and a crash at the end of
/// each: as long as no more are lost than may be, all that was acknowledged is there.
#[test]
fn crash_after_crash() {
    let offset = seed();
    for n in 0..150u64 {
        let seed = offset.wrapping_add(n);
        crashes(seed).unwrap_or_else(|why| panic!("EMBRFS_SEED={seed}: {why}"));
    }
}

fn crashes(seed: u64) -> Result<(), String> {
    let chance = Chance::new(seed);
    let mut fleet = made(3, 2);
    let mut durable = 0;
    let mut lost = Members::default();
    let mut story = String::new();
    for round in 0..5u64 {
        let drive = slot(chance.below(3));
        if chance.below(3) == 0 && lost.with(drive).count() <= 2 {
            lost = lost.with(drive);
            fleet.vanish(drive);
            story += &format!(" without {}", drive.index());
        }
        fleet.record();
        fleet.note(recording::durable(durable));
        let shown = |why: String| format!("{story}, then: {why}");
        let mounted = machine::mount(seed ^ round, &fleet, READ_WRITE).map_err(shown)?;
        let found = last(&mounted).map_err(shown)?;
        if (found as usize) < durable {
            return Err(shown(format!(
                "{found} is the last, but {durable} was acknowledged"
            )));
        }
        let drive = slot(chance.below(3));
        if chance.below(3) == 0 && lost.with(drive).count() <= 2 {
            // It may be back afterwards, but what it failed to take is lost.
            lost = lost.with(drive);
            let when = When::After(chance.below(30) as u64);
            fleet.expect(drive, Fault::Write(when, WriteFault::Fail));
        }
        for n in found + 1..found + 8 {
            fleet.note(recording::begun(n as usize));
            put(&mounted, n).map_err(shown)?;
            let done = match n % 5 {
                0 => mounted.checkpoint(),
                1 | 3 => mounted.sync(),
                _ => continue,
            };
            done.map_err(|why| shown(why.to_string()))?;
            fleet.note(recording::durable(n as usize));
        }
        drop(mounted);
        fleet.heal();
        let recorded = fleet.recorded();
        let plan = Plan {
            seed,
            subsets: 1,
            tears: 1,
            mixed: 10,
        };
        let states: Vec<_> = recorded.states(plan).collect();
        let state = &states[chance.below(states.len())];
        story += &format!(" [{state}]");
        durable = recorded.bounds(state.cut).0;
        fleet = Fleet::start(seed ^ round, &recorded.at(state).ok_or("no such state")?);
    }
    Ok(())
}
