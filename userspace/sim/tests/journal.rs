// SPDX-License-Identifier: GPL-2.0

//! The journal alone: what is read back is what was written behind the right group, from any copy, and what was durable is missed.

use embr_engine::env::Devices as _;
use embr_engine::env::Hash256;
use embr_engine::env::WritableDevice as _;
use embr_engine::format::journal::End;
use embr_engine::format::journal::Record;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::journal::ring::Ring;
use embr_engine::journal::scan::Scan;
use embr_engine::journal::scan::ScanError;
use embr_engine::journal::scan::Source;
use embr_engine::journal::Copy;
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
use embrfs_sim::fleet::Fleet;

const VOLUME: Uuid = Uuid([7; 16]);
const EPOCH: EpochId = EpochId([8; 16]);
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

/// One durable group that sets this key.
fn write(journal: &Journal, fleet: &Fleet, key: u64) -> End {
    let mut bytes = embr_rt::Vec::new();
    let record = Record::Set(TreeId(2), Key([key, 0, 0]), b"x");
    record.encode(&mut bytes).expect("memory");
    let group = journal.append(&bytes, 1, Members::default()).expect("room");
    journal.sync(fleet, &Scalar, group).expect("healthy drives");
    journal.end().expect("nothing is open")
}

/// The keys that are set, in order, and where the journal ends.
fn read(fleet: &Fleet) -> Result<(Vec<u64>, End), ScanError> {
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
    let (end, _) = scan.follow(fleet, &Scalar, BEGIN, 1, |epoch| epoch == EPOCH, apply)?;
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
