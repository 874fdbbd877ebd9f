// SPDX-License-Identifier: GPL-2.0

//! Several tasks at once on names and files of one volume, in every order that a seed draws, and crashes: one order of all that they
//! did explains what they were told, and what is left is a prefix of it.

use embrfs_sim::ace::Scene;
use embrfs_sim::ace::Stage;
use embrfs_sim::crowd::ActKind;
use embrfs_sim::crowd::Crowd;
use embrfs_sim::crowd::Shape;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::states::Plan;
use embrfs_sim::tale::Look;
use embrfs_sim::tale::Without;
use embrfs_sim::tally::Tally;

fn stage(data: u8, parity: u8) -> Stage {
    Stage::new(Scene::furnished(data, parity)).expect("a volume")
}

#[test]
fn tasks_on_names_and_files_share_one_order() {
    let base = seed();
    let stages = [stage(1, 0), stage(1, 1), stage(2, 1)];
    let mut acts: Tally<ActKind> = Tally::default();
    let mut states = 0;
    for n in 0..1000 {
        // Some kinds are rare, and so is that tasks meet where they must not: of most crowds no crashes are looked at.
        if n >= 300 && ActKind::ALL.iter().all(|kind| acts.of(*kind) > 0) {
            break;
        }
        let seed = base.wrapping_add(n);
        let chance = Chance::new(seed);
        let shape = Shape::drawn(&chance);
        let stage = &stages[chance.below(3)];
        let crowd = Crowd::gather(stage, seed, shape)
            .unwrap_or_else(|why| panic!("EMBRFS_SEED={seed}, {shape:?}: {why}"));
        acts.merge(&crowd.acts);
        if n >= 60 {
            continue;
        }
        let plan = Plan {
            seed,
            subsets: 1,
            tears: 1,
            mixed: 5,
        };
        for (state, own) in crowd.recording().some(plan, 20.0) {
            let look = Look {
                read_only: own.below(4) == 0,
                without: Without::One(own.below(3)),
                older_root: own.below(4) == 0,
                go_on: own.below(4) == 0,
                again: usize::from(own.below(4) == 0),
            };
            states += 1;
            if let Err(why) = crowd.check(seed, &state, look) {
                panic!("EMBRFS_SEED={seed}, {shape:?}, state {state} {look:?}: {why}");
            }
        }
    }
    println!("{states} states; {acts}");
    for kind in ActKind::ALL {
        assert!(acts.of(kind) > 0, "{kind:?} was never done");
    }
}

#[test]
fn a_crowd_does_the_same_again() {
    let stage = stage(1, 1);
    let shape = Shape {
        tasks: 3,
        length: 6,
    };
    let seed = seed();
    let crowd = || Crowd::gather(&stage, seed, shape).expect("an order");
    let (a, b) = (crowd(), crowd());
    assert_eq!(a.acts, b.acts);
    assert_eq!(a.recording().end(), b.recording().end());
}
