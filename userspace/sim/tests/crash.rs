// SPDX-License-Identifier: GPL-2.0

//! Tales of transactions, cut short by crashes of every kind: what was acknowledged is there, and nothing is there in part.

use embrfs_sim::host::Chance;
use embrfs_sim::states::Kind;
use embrfs_sim::states::Plan;
use embrfs_sim::tale::tell;
use embrfs_sim::tale::Look;
use embrfs_sim::tale::Shape;
use embrfs_sim::tally::Tally;
use std::time::SystemTime;

fn seed() -> u64 {
    match std::env::var("EMBRFS_SEED") {
        Ok(text) => text.parse().expect("EMBRFS_SEED is a number"),
        Err(_) => {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
            now.expect("a clock").as_nanos() as u64
        }
    }
}

/// Small here; `make sim` goes on for as long as one likes.
#[test]
fn crashes_leave_a_prefix() {
    let states: u64 = std::env::var("EMBRFS_STATES")
        .map_or(4000, |n| n.parse().expect("EMBRFS_STATES is a number"));
    let base = seed();
    println!("EMBRFS_SEED={base}");
    let mut tally: Tally<Kind> = Tally::default();
    for tale_seed in (0..).map(|n| base.wrapping_add(n)) {
        if tally.total() >= states {
            break;
        }
        let shape = Shape::drawn(&Chance::new(tale_seed));
        let tale = tell(tale_seed, shape)
            .unwrap_or_else(|why| panic!("EMBRFS_SEED={tale_seed} {shape:?}: {why}"));
        let plan = Plan {
            seed: tale_seed,
            subsets: 3,
            tears: 1,
            mixed: 20,
        };
        // Every so many, so that many tales get their turn.
        let chance = Chance::new(tale_seed);
        for state in tale.recording.states(plan) {
            if chance.below(4) != 0 {
                continue;
            }
            let look = Look {
                read_only: chance.below(8) == 0,
                go_on: chance.below(8) == 0,
                again: usize::from(chance.below(8) == 0),
            };
            tale.check(tale_seed, &state, look).unwrap_or_else(|why| {
                panic!("EMBRFS_SEED={tale_seed} {shape:?}, state {state}, {look:?}: {why}")
            });
            tally.add(state.kind());
        }
    }
    println!("{tally}");
    for kind in [
        Kind::Reset,
        Kind::Lost,
        Kind::Prefix,
        Kind::Only,
        Kind::Dropped,
        Kind::Torn,
        Kind::Subset,
        Kind::Mixed,
    ] {
        assert!(tally.of(kind) > 0, "{kind:?} was never reached: {tally}");
    }
}
