// SPDX-License-Identifier: GPL-2.0

//! `embrfs-sim [SEED] [STATES] [PART]`: looks at crash states and says how many there were and how many may not be. The last line is the
//! sum. Of the sequences of one and two operations it goes through whole parts, from this one on; their number is in the output.
//!
//! `embrfs-sim parts FROM TO`: only those sequences, from the first to before the last of these parts.
//!
//! `embrfs-sim storm SEED K+M TROUBLE [kept]`: one run with trouble of a kind, as a violation names it.
//!
//! `embrfs-sim crowd SEED K+M TASKS LENGTH [kept]`: lets so many tasks do so many things each at once, and looks at all crash states.
//!
//! `embrfs-sim file SEED all|NUMBER,NUMBER|OPERATION`: works on one file, and looks at all crash states: with all operations of the seed,
//! some of them, or one that is large.
//!
//! `embrfs-sim bereft SEED K+M STATES`: only of volumes with stripes of k + m, each state without m of their drives; of 0 states one
//! round, which is all that follows from the seed.
//!
//! `embrfs-sim replay SEED K+M bare|furnished|kept 'OPERATION; OPERATION'`: plays one sequence, and looks at all of its crash states.

use embr_engine::format::geometry::Geometry;
use embrfs_sim::ace::Beginning;
use embrfs_sim::ace::Scene;
use embrfs_sim::campaign;
use embrfs_sim::campaign::Orders;
use embrfs_sim::campaign::Report;
use embrfs_sim::campaign::Violation;
use embrfs_sim::crowd::Shape;
use embrfs_sim::storm::Woe;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

/// In so many states everything is reached.
const ENOUGH: u64 = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|a| a == "replay") {
        return replay(&arguments[1..]).unwrap_or_else(usage);
    }
    if arguments.first().is_some_and(|a| a == "parts") {
        return parts(&arguments[1..]).unwrap_or_else(usage);
    }
    if arguments.first().is_some_and(|a| a == "storm") {
        return storm(&arguments[1..]).unwrap_or_else(usage);
    }
    if arguments.first().is_some_and(|a| a == "crowd") {
        return crowd(&arguments[1..]).unwrap_or_else(usage);
    }
    if arguments.first().is_some_and(|a| a == "file") {
        return file(&arguments[1..]).unwrap_or_else(usage);
    }
    if arguments.first().is_some_and(|a| a == "bereft") {
        return bereft(&arguments[1..]).unwrap_or_else(usage);
    }
    let number = |n: usize, default: u64| match arguments.get(n).filter(|a| !a.is_empty()) {
        Some(text) => text.parse().ok(),
        None => Some(default),
    };
    let (Some(seed), Some(states)) = (number(0, now()), number(1, 20_000)) else {
        return usage();
    };
    let Some(part) = number(2, seed % campaign::PARTS) else {
        return usage();
    };
    println!("SEED={seed}");
    let begun = Instant::now();
    let orders = Orders {
        seed,
        states,
        part: part % campaign::PARTS,
        stride: 1,
        most: 5,
    };
    let report = campaign::run_by(workers(), orders, said(states));
    let end = tell(&report, begun, states >= ENOUGH);
    if states >= ENOUGH && !report.never().is_empty() {
        return ExitCode::FAILURE;
    }
    end
}

/// The shape of stripes, like 4+2.
fn geometry(text: &str) -> Option<Geometry> {
    let (data, parity) = text.split_once('+')?;
    Geometry::new(data.parse().ok()?, parity.parse().ok()?).ok()
}

/// The drives, and what is on them in the beginning: files, if nothing is said.
fn scene(bundle: &str, begins: &[String]) -> Option<Scene> {
    let begins = match begins {
        [] => Beginning::Furnished,
        [name] => *Beginning::ALL.iter().find(|known| known.name() == name)?,
        _ => return None,
    };
    Some(Scene {
        bundle: geometry(bundle)?,
        begins,
    })
}

/// A seed that nobody gave.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(1, |d| d.as_nanos() as u64)
}

fn workers() -> u64 {
    std::thread::available_parallelism().map_or(1, |n| n.get().min(8) as u64)
}

/// Says now and then how far it is, and at once what is found.
fn said(states: u64) -> impl Fn(u64, &[Violation]) + Sync {
    let said = Mutex::new((Instant::now(), 0));
    move |done, found| {
        let Ok(mut said) = said.lock() else { return };
        for violation in found {
            eprintln!("  found: {violation}");
        }
        said.1 += found.len();
        if said.0.elapsed() > Duration::from_secs(20) {
            said.0 = Instant::now();
            eprintln!("  {done} of {states} states, {} violations", said.1);
        }
    }
}

/// None where the arguments make no sense.
fn bereft(arguments: &[String]) -> Option<ExitCode> {
    let [seed, bundle, states] = arguments else {
        return None;
    };
    let seed = match &seed[..] {
        "" => now(),
        seed => seed.parse().ok()?,
    };
    let bundle = geometry(bundle).filter(|bundle| bundle.parity() != 0)?;
    let states = states.parse().ok()?;
    println!("SEED={seed}");
    let begun = Instant::now();
    let report = match states {
        0 => campaign::bereft(seed, bundle, 0, |_| ()),
        _ => campaign::bereft_by(workers(), seed, bundle, states, said(states)),
    };
    Some(tell(&report, begun, false))
}

/// None where the arguments make no sense.
fn file(arguments: &[String]) -> Option<ExitCode> {
    let [seed, writing] = arguments else {
        return None;
    };
    let (seed, writing) = (seed.parse().ok()?, writing.parse().ok()?);
    let begun = Instant::now();
    Some(tell(&campaign::file(seed, &writing), begun, false))
}

/// None where the arguments make no sense.
fn parts(arguments: &[String]) -> Option<ExitCode> {
    let [from, to] = arguments else {
        return None;
    };
    let (from, to) = (
        from.parse().ok()?,
        to.parse::<u64>().ok()?.min(campaign::PARTS),
    );
    let begun = Instant::now();
    println!("SEED=1");
    let mut report = Report::default();
    for part in from..to {
        report.merge(campaign::part(1, part));
        if !report.violations.is_empty() {
            break;
        }
    }
    Some(tell(&report, begun, false))
}

/// None where the arguments make no sense.
fn storm(arguments: &[String]) -> Option<ExitCode> {
    let [seed, bundle, trouble, begins @ ..] = arguments else {
        return None;
    };
    let (seed, scene) = (seed.parse().ok()?, scene(bundle, begins)?);
    let named = |woe: &Woe| format!("{woe:?}") == *trouble;
    let woe = Woe::ALL.into_iter().find(named)?;
    let begun = Instant::now();
    Some(tell(&campaign::storm(seed, scene, woe), begun, false))
}

/// None where the arguments make no sense.
fn crowd(arguments: &[String]) -> Option<ExitCode> {
    let [seed, bundle, tasks, length, begins @ ..] = arguments else {
        return None;
    };
    let shape = Shape {
        tasks: tasks.parse().ok().filter(|n| (1..=8).contains(n))?,
        length: length.parse().ok()?,
    };
    let begun = Instant::now();
    let report = campaign::crowd(seed.parse().ok()?, scene(bundle, begins)?, shape);
    Some(tell(&report, begun, false))
}

fn tell(report: &Report, begun: Instant, is_all: bool) -> ExitCode {
    for violation in &report.violations {
        println!("VIOLATION {violation}");
    }
    println!("{} files of many or large operations", report.manuscripts);
    println!("met: {}", report.seen);
    let parts: Vec<String> = report.parts.iter().map(u64::to_string).collect();
    println!(
        "{} tales; sequences by length: {}",
        report.tales, report.sequences
    );
    println!("parts of {}: {}", campaign::PARTS, parts.join(" "));
    println!("by fault: {}", report.states);
    println!("by operation: {}", report.deeds);
    println!("by act of {} crowds: {}", report.crowds, report.acts);
    println!("by trouble with drives: {}", report.storms.states);
    println!(
        "trouble that came: {}, Unallocated {}",
        report.storms.injected, report.storms.unallocated
    );
    println!("in it {} stopped taking changes", report.storms.stopped);
    println!("mounts that were refused: {}", report.storms.refused);
    if is_all && !report.never().is_empty() {
        println!("NEVER REACHED: {}", report.never().join(", "));
    }
    println!(
        "{} crashed again while recovering, {} went on after the crash",
        report.again, report.gone_on
    );
    println!(
        "{} were looked at without the newest root, {} without one of several drives",
        report.older_roots + report.storms.older_roots,
        report.without
    );
    let states = report.total() as f64;
    let on_processor = processor_time().unwrap_or(begun.elapsed());
    println!(
        "{:.0} states a second of processor time, {:.0} by the clock",
        states / on_processor.as_secs_f64(),
        states / begun.elapsed().as_secs_f64()
    );
    println!(
        "{} crash states, {} violations",
        report.total(),
        report.violations.len()
    );
    ExitCode::from(u8::from(!report.violations.is_empty()))
}

/// How long this process ran on processors: on a busy machine the clock says nothing about the simulator.
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    // In hundredths of a second: in user space, and in the kernel.
    let ticks = fields.split(' ').skip(11).take(2);
    let ticks: u64 = ticks.map(|n| n.parse().unwrap_or(0)).sum();
    Some(Duration::from_millis(ticks * 10)).filter(|time| !time.is_zero())
}

/// None where the arguments make no sense.
fn replay(arguments: &[String]) -> Option<ExitCode> {
    let [seed, bundle, begins, sequence] = arguments else {
        return None;
    };
    let scene = scene(bundle, std::slice::from_ref(begins))?;
    let begun = Instant::now();
    let report = match campaign::replay(seed.parse().ok()?, scene, &sequence.parse().ok()?) {
        Ok(report) => report,
        Err(found) => Report {
            violations: vec![found],
            ..Report::default()
        },
    };
    Some(tell(&report, begun, false))
}

fn usage() -> ExitCode {
    eprintln!(
        "usage: embrfs-sim [SEED] [STATES] [PART] | parts FROM TO | storm SEED K+M TROUBLE [kept] | crowd SEED K+M TASKS LENGTH [kept] | file SEED OPERATIONS | bereft SEED K+M STATES | replay SEED K+M bare|furnished|kept SEQUENCE"
    );
    ExitCode::from(2)
}
