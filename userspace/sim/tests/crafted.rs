// SPDX-License-Identifier: GPL-2.0

//! Volumes that say what no volume may, one thing at a time: what comes of it when they are written to.

use embr_engine::format::journal::Extent;
use embr_engine::format::journal::Record;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::units::Blocks;
use embr_engine::units::Generation;
use embr_engine::volume::probe;
use embr_engine::volume::probe::CopyState;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_sim::fleet::DriveHandle;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::forge;
use embrfs_sim::machine;
use embrfs_sim::machine::Simulated;
use embrfs_sim::specimen::Build;
use embrfs_sim::specimen::Specimen;
use embrfs_sim::worker;

fn mount(fleet: &Fleet) -> Result<Mounted<Simulated>, String> {
    machine::mount(1, fleet, machine::READ_WRITE)
}

fn mount_read_only(fleet: &Fleet) -> Result<Mounted<Simulated>, String> {
    let read_only = Options {
        read_only: true,
        ..machine::READ_WRITE
    };
    machine::mount(1, fleet, read_only)
}

/// Whatever is still given out is: a system area among it would be written over.
fn fill(mounted: &Mounted<Simulated>) {
    worker::fill(mounted, &mut worker::Done::default());
}

#[test]
fn a_record_frees_no_block_of_a_system_area_or_a_journal() {
    // The first block, the superblock, the other area's, and the journal; and around an edge.
    for (start, blocks) in [(0, 1), (16, 4), (2064, 4), (2304, 1), (250, 12), (2300, 4)] {
        let extent = Extent {
            device: Slot::FIRST,
            start: Blocks(start),
            blocks: Blocks(blocks),
        };
        let records = [
            Record::Free(extent),
            Record::NodesFreed(Generation(1), extent),
            Record::NodesFreed(Generation(3), extent),
            Record::NodesFreed(Generation(4), extent),
        ];
        for record in records {
            let fleet = Specimen::with(Build::Single, |s| s.with_records(&[record]));
            let drive = &fleet.drives()[0];
            let before = probe(drive, &Scalar).expect("a member").superblock;
            if let Ok(mounted) = mount(&fleet) {
                fill(&mounted);
            }
            let after = probe(drive, &Scalar).expect("still a member");
            assert_eq!(after.superblock.device, before.device, "{record:?}");
            assert!(
                after
                    .copies
                    .iter()
                    .all(|c| matches!(c.state, CopyState::Good)),
                "{record:?}"
            );
            mount_read_only(&fleet).expect("it can be read");
        }
    }
}

/// The volume, whose root says that its journal lies there.
fn with_journal(start: u64, blocks: u64) -> Fleet {
    let fleet = Specimen::with(Build::Single, |s| s.with_records(&[]));
    let drives: Vec<(Slot, DriveHandle)> =
        fleet.drives().into_iter().map(|d| (d.slot(), d)).collect();
    let mut root = |_: Slot, root: &mut embr_engine::format::root::Root, _: &mut Vec<_>| {
        root.journal.start = Blocks(start);
        root.journal.blocks = Blocks(blocks);
    };
    forge::forge(&drives, &mut |_, _| {}, &mut root).expect("forged");
    fleet
}

#[test]
fn a_journal_that_lies_elsewhere_is_not_written_and_the_rest_can_be_read() {
    let end = layout::MIN_DEVICE.whole_blocks().0;
    for (start, blocks) in [
        // Beyond the end, across it, over the second system area, and all of it.
        (end, 1024),
        (end - 1, 1024),
        (1 << 40, 1024),
        (2000, 1024),
        (2303, 1024),
        (256, end),
    ] {
        let fleet = with_journal(start, blocks);
        let why = mount(&fleet).err().expect("not to be written to");
        assert!(why.len() > 10, "{why}");
        let mounted = mount_read_only(&fleet).expect("what the root names can be read");
        assert!(mounted.is_read_only());
        let reaches_beyond = start.saturating_add(blocks) > end;
        assert!(!reaches_beyond || mounted.cut().is_some());
    }
    mount(&with_journal(2304, 1024)).expect("as it was made");
}
