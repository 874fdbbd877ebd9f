// SPDX-License-Identifier: GPL-2.0

//! Storms count what really came, and checks of volumes tell copies that are lacking from copies that nobody wrote.

use embr_engine::check::Depth;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::units::Blocks;
use embrfs_sim::ace::Scene;
use embrfs_sim::ace::Stage;
use embrfs_sim::campaign::Report;
use embrfs_sim::contents;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::seed;
use embrfs_sim::inspector;
use embrfs_sim::inspector::Copies;
use embrfs_sim::machine;
use embrfs_sim::storm::Storm;
use embrfs_sim::storm::Weathered;
use embrfs_sim::storm::Woe;
use embrfs_sim::tally::Tally;

fn stage(data: u8, parity: u8) -> Stage {
    Stage::new(Scene::furnished(data, parity)).expect("a volume")
}

fn weathered(stage: &Stage, woe: Woe, seed: u64, most: usize) -> Weathered {
    let storm = Storm::new(stage, woe, seed, most).weather();
    storm.unwrap_or_else(|why| panic!("EMBRFS_SEED={seed}, {woe:?}: {why}"))
}

#[test]
fn trouble_that_did_not_come_is_not_counted() {
    let base = seed();
    let (one, two) = (stage(1, 0), stage(1, 1));
    for seed in (0..5).map(|n| base.wrapping_add(n)) {
        let apart = weathered(&one, Woe::Apart, seed, usize::MAX);
        assert_eq!(
            apart.states.total(),
            0,
            "one drive is not apart from itself"
        );
        assert_eq!(apart.looked, 5);
        // Before the first deed nothing begins.
        for woe in [
            Woe::WritesFail,
            Woe::FlushesFail,
            Woe::Lies,
            Woe::Full,
            Woe::Stale,
        ] {
            let calm = weathered(&two, woe, seed, 0);
            assert_eq!((calm.looked, calm.states.total()), (5, 0), "{woe:?}");
        }
    }
    for woe in Woe::ALL {
        let mut report = Report::default();
        let before = report.never().len();
        for seed in (0..200).map(|n| base.wrapping_add(n)) {
            if report.storms.states.of(woe) != 0 {
                break;
            }
            report.storms.merge(&weathered(&two, woe, seed, usize::MAX));
        }
        assert!(report.never().len() < before, "{woe:?} never came");
        report.storms.states = Tally::default();
        assert!(report.never().contains(&format!("{woe:?}")));
    }
}

#[test]
fn copies_that_a_drive_lacks_are_told_where_none_failed() {
    let fleet = stage(1, 1).fleet(1);
    fleet.vanish(Slot::new(1).expect("a slot"));
    let mounted = machine::mount(1, &fleet, machine::READ_WRITE).expect("mounted");
    let check = |copies| inspector::check_but(&mounted, None, (Depth::Tree, copies), &[]);
    assert_eq!(check(Copies::MayLack), Ok(()));
    let why = check(Copies::All).expect_err("nodes were written without it");
    assert!(why.contains("has copies on 1 of 2 devices"), "{why}");
    assert_eq!(inspector::check(&mounted, None, Depth::Tree, &[]), Err(why));
}

/// One bit of any block of the journal of an only drive: the volume is as it was, or the mount that writes is refused.
#[test]
fn who_does_not_know_which_nodes_the_root_has_does_not_write() {
    let stage = stage(1, 0);
    let snapshot = stage.fleet(1).snapshot();
    let (slot, contents) = snapshot.drives.first_key_value().expect("a drive");
    let (start, blocks) = layout::journal(contents.durable.size());
    let written = contents.durable.written().into_iter();
    let journal = written.filter(|(n, _)| (start.0..start.0 + blocks.0).contains(n));
    for (n, _) in journal {
        let fleet = Fleet::start(1, &snapshot);
        fleet.rot(*slot, Blocks(n).bytes().expect("a place"), 1);
        if let Ok(mounted) = machine::mount(1, &fleet, machine::READ_WRITE) {
            contents::audit(&mounted).unwrap_or_else(|why| panic!("block {n}: {why}"));
        }
    }
}
