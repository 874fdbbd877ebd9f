// SPDX-License-Identifier: GPL-2.0

//! How many crash states are derived each second: `scripts/in-root cargo bench -p embrfs_sim --bench fleet` prints it.

use embr_engine::env::Devices;
use embr_engine::env::Write;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::units::Bytes;
use embr_engine::units::BLOCK_SIZE;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::states::Kind;
use embrfs_sim::states::Plan;
use embrfs_sim::tally::Tally;
use std::time::Instant;

/// Six drives of 1 GiB, 1000 blocks written between flushes of some of them.
fn measure(between_flushes: usize) {
    let fleet = Fleet::new(1, &[Bytes(1 << 30); 6]);
    let chance = Chance::new(1);
    fleet.record();
    let mut data = [7; BLOCK_SIZE];
    for n in 0..1000 {
        data[0] = n as u8;
        let slot = Slot::new(chance.below(6)).expect("a slot");
        let at = Bytes((chance.next() % 4096) << 12);
        Devices::write(&fleet, &mut [Write::new(slot, at, &data)]);
        if n % between_flushes == 0 {
            Devices::flush(&fleet, Members(chance.next() & 0x3f));
        }
    }
    let recording = fleet.recorded();
    let plan = Plan {
        seed: 1,
        subsets: 10,
        tears: 2,
        mixed: 1000,
    };
    let states: Vec<_> = recording.states(plan).take(100_000).collect();
    let kinds: Tally<Kind> = states.iter().map(|s| s.kind()).collect();
    let begin = Instant::now();
    let mut drives = 0;
    for state in &states {
        let snapshot = recording.at(state).expect("it exists");
        drives += Fleet::start(1, &snapshot).members().count();
    }
    let time = begin.elapsed();
    assert_eq!(drives as usize, 6 * states.len());
    println!(
        "a flush every {between_flushes} writes: {} states ({kinds}) in {time:?}: {:.0} a second",
        states.len(),
        states.len() as f64 / time.as_secs_f64()
    );
}

fn main() {
    for between_flushes in [10, 100, 1001] {
        measure(between_flushes);
    }
}
