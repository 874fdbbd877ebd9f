// SPDX-License-Identifier: GPL-2.0

//! Tales of transactions, cut short by crashes of every kind: what was acknowledged is there, and nothing is there in part.

use embrfs_sim::campaign;
use embrfs_sim::states::Kind;
use std::time::SystemTime;

/// As many as a test run has time for; `make sim` goes on for as long as one likes.
#[test]
fn crashes_leave_a_prefix() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|n| n.parse::<u64>().expect("a number"))
    };
    let seed = number("EMBRFS_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("a clock").as_nanos() as u64
    });
    let states = number("EMBRFS_STATES").unwrap_or(20_000);
    let report = campaign::run(seed, states, 1, |_| ());
    println!(
        "EMBRFS_SEED={seed}: {} tales: {}",
        report.tales, report.states
    );
    if let Some(violation) = report.violations.first() {
        panic!("EMBRFS_SEED={seed}: {violation}");
    }
    for kind in [
        Kind::Reset,
        Kind::Lost,
        Kind::Apart,
        Kind::Prefix,
        Kind::Only,
        Kind::Dropped,
        Kind::Torn,
        Kind::Subset,
        Kind::Mixed,
    ] {
        assert!(report.states.of(kind) > 0, "{kind:?} was never reached");
    }
    assert!(report.again > 0 && report.gone_on > 0);
}
