// SPDX-License-Identifier: GPL-2.0

//! `embrfs-sim [SEED] [STATES]`: looks at crash states and says how many there were and how many may not be. The last line is the sum.

use embrfs_sim::campaign;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

fn main() -> ExitCode {
    let number = |n: usize| {
        std::env::args()
            .nth(n)
            .filter(|a| !a.is_empty())
            .map(|a| a.parse::<u64>())
    };
    let seed = match number(1) {
        Some(Ok(seed)) => seed,
        Some(Err(_)) => return usage(),
        None => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64),
    };
    let states = match number(2) {
        Some(Ok(states)) => states,
        Some(Err(_)) => return usage(),
        None => 20_000,
    };
    println!("SEED={seed}");
    let begun = Instant::now();
    let mut said = begun;
    let report = campaign::run(seed, states, 5, |report| {
        if said.elapsed() > Duration::from_secs(20) {
            said = Instant::now();
            eprintln!(
                "  {} of {states} states, {} violations",
                report.states.total(),
                report.violations.len()
            );
        }
    });
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    println!("{} tales: {}", report.tales, report.states);
    println!(
        "{} crashed again while recovering, {} went on after the crash",
        report.again, report.gone_on
    );
    println!(
        "{:.0} states a second",
        report.states.total() as f64 / begun.elapsed().as_secs_f64()
    );
    println!(
        "{} crash states, {} violations",
        report.states.total(),
        report.violations.len()
    );
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

fn usage() -> ExitCode {
    eprintln!("usage: embrfs-sim [SEED] [STATES]");
    ExitCode::from(2)
}
