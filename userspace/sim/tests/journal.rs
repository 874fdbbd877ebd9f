// SPDX-License-Identifier: GPL-2.0

//! The journal alone: what is read back is what was written behind the right group, from any copy, and what was durable is missed.

use embr_engine::env::Devices as _;
use embr_engine::env::Hash256;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::journal::Behind;
use embr_engine::format::journal::End;
use embr_engine::format::journal::Gap;
use embr_engine::format::journal::Record;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::journal::ring::Ring;
use embr_engine::journal::scan::Scan;
use embr_engine::journal::scan::ScanError;
use embr_engine::journal::scan::Source;
use embr_engine::journal::Copy;
use embr_engine::journal::Halt;
use embr_engine::journal::Journal;
use embr_engine::journal::Writer;
use embr_engine::tree::Key;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::DeviceId;
use embr_engine::units::EpochId;
use embr_engine::units::Sequence;
use embr_engine::units::SessionId;
use embr_engine::units::TreeId;
use embr_engine::units::Uuid;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::time::Duration;
use embr_rt::work::Worker;
use embrfs_sim::cache::Survival;
use embrfs_sim::fault::Fault;
use embrfs_sim::fault::FlushFault;
use embrfs_sim::fault::When;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use std::sync::Arc;

const VOLUME: Uuid = Uuid([7; 16]);
const EPOCH: EpochId = EpochId([8; 16]);
const NEXT_EPOCH: EpochId = EpochId([9; 16]);
const START: Blocks = Blocks(256);
const BLOCKS: Blocks = Blocks(1024);
const BEGIN: End = End {
    next: Sequence(1),
    identity: Hash256([0; 32]),
};

fn slots() -> [Slot; 2] {
    [0, 1].map(|n| Slot::new(n).expect("a slot"))
}

fn id(slot: Slot) -> DeviceId {
    DeviceId(slot.index() as u32 + 1)
}

/// A mount's journal behind `end`, on rings that need `kept` groups of one block each.
fn journal(session: u8, end: End, kept: u64) -> Journal {
    let mut copies = embr_rt::Vec::new();
    for slot in slots() {
        let mut ring = Ring::try_new(START, BLOCKS).expect("memory");
        for n in 0..kept {
            ring.found(Sequence(n + 1), Blocks(START.0 + n), 1)
                .expect("room");
        }
        copies
            .push(Copy {
                slot,
                id: id(slot),
                ring,
            })
            .expect("memory");
    }
    let writer = Writer {
        volume: VOLUME,
        epoch: EPOCH,
        session: SessionId([session; 16]),
    };
    let journal = Journal::try_new(writer, copies, 2, end, Sequence(0)).expect("memory");
    journal.confirm();
    journal
}

/// Sets this key, in the open group, which then names these.
fn append(journal: &Journal, key: u64, named: Members) -> Sequence {
    let mut bytes = embr_rt::Vec::new();
    let record = Record::Set(TreeId(2), Key([key, 0, 0]), b"x");
    record.encode(&mut bytes).expect("memory");
    journal.append(&bytes, 1, named).expect("room")
}

/// One durable group that sets this key.
fn write(journal: &Journal, fleet: &Fleet, key: u64) -> End {
    let group = append(journal, key, Members::default());
    journal.sync(fleet, &Scalar, group).expect("healthy drives");
    journal.end().expect("nothing is open")
}

/// The keys that are set, in order, and where the journal ends.
fn read(fleet: &Fleet) -> Result<(Vec<u64>, End), ScanError> {
    read_behind(fleet, Behind::all(BEGIN))
}

fn read_behind(fleet: &Fleet, behind: Behind) -> Result<(Vec<u64>, End), ScanError> {
    let mut sources = embr_rt::Vec::new();
    for slot in slots() {
        let source = Source {
            slot,
            id: id(slot),
            start: START,
            blocks: BLOCKS,
        };
        sources.push(source).expect("memory");
    }
    let scan = Scan::read(fleet, &Scalar, VOLUME, sources, BEGIN.next)?;
    let mut keys = Vec::new();
    let apply = |_, record: Record<'_>| {
        if let Record::Set(_, Key([key, ..]), _) = record {
            keys.push(key);
        }
        Ok::<(), ScanError>(())
    };
    let known = |epoch| epoch == EPOCH || epoch == NEXT_EPOCH;
    let (end, _) = scan.follow(fleet, &Scalar, behind, 1, known, apply)?;
    Ok((keys, end))
}

fn wipe(fleet: &Fleet, slot: Slot, group: u64) {
    let at = Blocks(START.0 + group - 1).bytes().expect("a place");
    let drive = fleet.drive(slot).expect("a drive");
    drive.write(at, &[0; 4096]).expect("a healthy drive");
}

fn fleet() -> Fleet {
    Fleet::new(1, &[Bytes(8 << 20), Bytes(8 << 20)])
}

#[test]
fn groups_behind_one_that_is_not_theirs_are_not_there() {
    let fleet = fleet();
    let first = journal(1, BEGIN, 0);
    let after_one = write(&first, &fleet, 1);
    write(&first, &fleet, 2);
    let end = write(&first, &fleet, 3);
    assert_eq!(read(&fleet), Ok((vec![1, 2, 3], end)));
    // A mount that found only the first goes on behind it: the third was written behind another second.
    let second = journal(2, after_one, 1);
    let end = write(&second, &fleet, 20);
    assert_eq!(read(&fleet), Ok((vec![1, 20], end)));
    // Also where the second has the very same records.
    let third = journal(3, after_one, 1);
    let end = write(&third, &fleet, 2);
    assert_eq!(read(&fleet), Ok((vec![1, 2], end)));
}

#[test]
fn any_copy_serves_and_a_lost_group_is_missed() {
    let fleet = fleet();
    let journal = journal(1, BEGIN, 0);
    let ends: Vec<End> = (1..=3).map(|key| write(&journal, &fleet, key)).collect();
    let [one, other] = slots();
    wipe(&fleet, one, 1);
    wipe(&fleet, other, 2);
    assert_eq!(read(&fleet), Ok((vec![1, 2, 3], ends[2])));
    // The last one may have been torn before anyone was told.
    wipe(&fleet, one, 3);
    wipe(&fleet, other, 3);
    assert_eq!(read(&fleet), Ok((vec![1, 2], ends[1])));
    // The first was durable when the second was written.
    wipe(&fleet, other, 1);
    assert_eq!(read(&fleet), Err(ScanError::Lost(Sequence(1))));
    assert_eq!(fleet.flush(Members::default()), Members::default());
}

/// A flush that fails, and leaves nothing of what was not flushed.
fn failed_flush() -> Fault {
    Fault::Flush(When::After(0), FlushFault::Fail(Some(Survival::None)))
}

#[test]
fn a_group_is_not_sent_while_it_names_what_a_member_lost() {
    let fleet = fleet();
    let journal = journal(1, BEGIN, 0);
    let end = write(&journal, &fleet, 1);
    let [one, other] = slots();
    let bad = Members::default().with(other);
    fleet.expect(other, failed_flush());
    let second = append(&journal, 2, bad.with(one));
    assert_eq!(journal.sync(&fleet, &Scalar, second), Err(Halt::Failed));
    // What follows has to wait for it, also where groups go out although a device failed.
    let third = append(&journal, 3, Members::default());
    assert!(third > second);
    for _ in 0..2 {
        assert_eq!(journal.sync(&fleet, &Scalar, third), Err(Halt::Failed));
        assert_eq!(journal.write(&fleet, &Scalar, third), Err(Halt::Failed));
        assert_eq!((journal.newest(), journal.end()), (third, None));
        assert_eq!(journal.failing(), Ok(bad));
        assert_eq!(read(&fleet), Ok((vec![1], end)));
    }
    journal.go_on(NEXT_EPOCH, bad);
    assert_eq!(journal.sync(&fleet, &Scalar, third), Ok(()));
    let end = journal.end().expect("nothing is open");
    assert_eq!(read(&fleet), Ok((vec![1, 2, 3], end)));
}

#[test]
fn a_group_that_names_nothing_lost_is_sent_and_not_acknowledged() {
    let fleet = fleet();
    let journal = journal(1, BEGIN, 0);
    let [one, other] = slots();
    let bad = Members::default().with(other);
    fleet.expect(other, failed_flush());
    assert_eq!(journal.flush(&fleet, bad), bad);
    let group = append(&journal, 1, Members::default().with(one));
    assert_eq!(journal.sync(&fleet, &Scalar, group), Err(Halt::Failed));
    assert_eq!(journal.write(&fleet, &Scalar, group), Ok(()));
    assert_eq!(journal.sync(&fleet, &Scalar, group), Err(Halt::Failed));
    let end = journal.end().expect("nothing is open");
    assert_eq!(read(&fleet), Ok((vec![1], end)));
    journal.go_on(NEXT_EPOCH, bad);
    assert_eq!(journal.sync(&fleet, &Scalar, group), Ok(()));
}

/// A group that is held up takes its room in the rings all the while.
#[test]
fn a_group_that_is_held_up_fills_the_journal() {
    let fleet = fleet();
    let journal = journal(1, BEGIN, 0);
    let [_, other] = slots();
    let bad = Members::default().with(other);
    journal.fail(bad, |_| true);
    let mut key = 0;
    while journal.fits(100) {
        append(&journal, key, bad);
        key += 1;
    }
    let sixteenth = || journal.is_filled(0, 1, 20);
    assert!(sixteenth());
    let all = journal.newest();
    assert_eq!(journal.write(&fleet, &Scalar, all), Err(Halt::Failed));
    assert!(sixteenth());
    journal.go_on(NEXT_EPOCH, bad);
    assert_eq!(journal.write(&fleet, &Scalar, all), Ok(()));
    assert!(sixteenth());
    assert_eq!(read(&fleet).map(|(keys, _)| keys.len() as u64), Ok(key));
}

/// While somebody flushes, no group goes out because another flush of the same device, which lost what it had by then, went well.
#[test]
fn a_failed_flush_is_known_before_another_one_counts() {
    let base = seed();
    let mut failed = 0;
    for seed in (0..200).map(|n| base.wrapping_add(n)) {
        let fleet = Fleet::new(seed, &[Bytes(8 << 20), Bytes(8 << 20)]);
        let [one, other] = slots();
        let outcome = World::new(seed).run(move || {
            let journal = Arc::new(journal(1, BEGIN, 0));
            let drive = fleet.drive(other).expect("a drive");
            drive.write(Bytes(7 << 20), &[7; 4096]).expect("healthy");
            fleet.expect(other, failed_flush());
            let flusher = {
                let (journal, fleet) = (journal.clone(), fleet.clone());
                let both = Members::default().with(one).with(other);
                let flush = move || {
                    journal.flush(&fleet, both);
                };
                Worker::try_spawn(lock_class!("flusher"), flush).expect("a task")
            };
            embr_rt::time::sleep(Duration::from_micros(seed % 7 * 300));
            let group = append(&journal, 1, Members::default().with(other));
            let synced = journal.sync(&fleet, &Scalar, group);
            drop(flusher);
            let mut found = [0; 4096];
            let after = fleet.snapshot().after(&Survival::All).expect("a state");
            let after = Fleet::start(1, &after);
            let done = after.read(other, Bytes(7 << 20), &mut found);
            done.expect("a healthy drive");
            let (sent, _) = read(&after).expect("healthy drives");
            (synced, !sent.is_empty(), found == [7; 4096])
        });
        let outcome = outcome.unwrap_or_else(|why| panic!("EMBRFS_SEED={seed}: {why}"));
        let (synced, sent, there) = outcome.value;
        let known = synced == Err(Halt::Failed);
        assert!(
            there || !sent && known,
            "EMBRFS_SEED={seed}: {synced:?}, the group was sent: {sent}, but what it names is lost"
        );
        failed += u32::from(known);
    }
    assert!(failed > 100, "{failed}");
}

/// A ring without room for a group on one of two drives: it would have one copy instead of two, so it is not acknowledged.
#[test]
fn a_group_that_a_ring_has_no_room_for_is_not_acknowledged() {
    let fleet = Fleet::new(seed(), &[Bytes(32 << 20), Bytes(32 << 20)]);
    let mut copies = embr_rt::Vec::new();
    for (slot, kept) in slots().into_iter().zip([0, BLOCKS.0]) {
        let mut ring = Ring::try_new(START, BLOCKS).expect("memory");
        for n in 0..kept {
            let at = Blocks(START.0 + n);
            ring.found(Sequence(n + 1), at, 1).expect("room");
        }
        let id = id(slot);
        copies.push(Copy { slot, id, ring }).expect("memory");
    }
    let writer = Writer {
        volume: VOLUME,
        epoch: EPOCH,
        session: SessionId([1; 16]),
    };
    let journal = Journal::try_new(writer, copies, 2, BEGIN, Sequence(0)).expect("memory");
    let group = append(&journal, 1, Members::default());
    assert_eq!(journal.sync(&fleet, &Scalar, group), Err(Halt::Stopped));
    assert!(journal.has_stopped());
}

/// Groups are left out behind the very group that the root means, and not behind another of its number.
#[test]
fn a_gap_is_behind_one_group_only() {
    let fleet = fleet();
    let first = journal(1, BEGIN, 0);
    let after_one = write(&first, &fleet, 1);
    let after_two = write(&first, &fleet, 2);
    write(&first, &fleet, 3);
    let gap = |after| Gap {
        first: after_one.next,
        after,
        resume: after_two,
    };
    let behind = |after| Behind {
        next: BEGIN,
        gap: Some(gap(after)),
    };
    let known = Gap::behind(after_one.identity);
    assert_eq!(
        read_behind(&fleet, behind(known)).map(|r| r.0),
        Ok(vec![1, 3])
    );
    let another = Gap::behind(after_two.identity);
    let all = read_behind(&fleet, behind(another));
    assert_eq!(all.map(|r| r.0), Ok(vec![1, 2, 3]));
}
