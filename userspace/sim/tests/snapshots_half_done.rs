// SPDX-License-Identifier: GPL-2.0

//! A snapshot that is taken of what a crash left half done has all of it, and so has the head that goes on.

use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::manuscript::Manuscript;
use embrfs_sim::states::Plan;

#[test]
fn a_snapshot_of_what_is_half_done_has_it_done() {
    let chance = Chance::new(seed());
    for operation in ["truncate", "punch", "collapse", "insert"] {
        let story =
            Manuscript::long(chance.next(), operation, false).unwrap_or_else(|why| panic!("{why}"));
        let plan = Plan {
            seed: chance.next(),
            subsets: 1,
            tears: 0,
            mixed: 0,
        };
        let mut taken_over = 0;
        for (state, own) in story.recording.some(plan, 30.0) {
            match story.check_whole(own.next(), &state, true) {
                Ok(seen) => taken_over += seen.taken_over,
                Err(why) => panic!("{operation}: {state}: {why}"),
            }
        }
        println!("{operation}: {taken_over}");
        assert!(taken_over > 0, "{operation} was never half done");
    }
}
