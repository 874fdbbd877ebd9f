// SPDX-License-Identifier: GPL-2.0

//! Ten thousand damaged and forged volumes through the engine: each is refused with a reason, or is a volume whose every
//! value keeps its bounds. And thousands, also of those that are damaged deep inside, are mounted read-write and worked on: none ends
//! the program, or makes it go on for ever, or takes memory without a bound.

use embr_engine::env::Device as _;
use embr_engine::format::layout;
use embr_engine::hash::Scalar;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::Member;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::mutant::mutant;
use embrfs_sim::specimen::Build;
use embrfs_sim::specimen::Specimen;
use embrfs_sim::worker;
use embrfs_sim::worker::Done;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

const COUNT: u64 = 10_000;

#[test]
fn every_mutant_is_refused_with_a_reason_or_sound() {
    // Different each run; a failure prints its seed.
    let base = seed();
    let mut reasons: BTreeMap<String, u32> = BTreeMap::new();
    for n in 0..COUNT {
        let seed = base.wrapping_add(n);
        let mutant = mutant(seed);
        let mut members: Vec<Member> = Vec::new();
        let mut names = Vec::new();
        let mut reason = None;
        for (i, disk) in mutant.disks.iter().enumerate() {
            match volume::probe(disk, &Scalar) {
                Ok(member) => {
                    let device = member
                        .superblock
                        .this_device()
                        .expect("a parsed superblock lists its device");
                    assert!(
                        device.bytes() <= disk.size(),
                        "seed {seed}: {}",
                        mutant.story
                    );
                    names.push(format!("disk{i}"));
                    members.push(member);
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.len() > 10, "seed {seed}: no reason given: {text:?}");
                    reason = Some(text);
                }
            }
        }
        match assemble(&members) {
            Ok(volume) => {
                assert!(volume.seats().len() <= 64);
                assert!(
                    volume.missing().count() <= u32::from(volume.geometry().parity()),
                    "seed {seed}"
                );
                let most: u64 = volume
                    .seats()
                    .iter()
                    .map(|s| layout::allocatable(s.entry.bytes()).0)
                    .sum();
                assert!(volume.capacity().0 <= most, "seed {seed}: {}", mutant.story);
                reason.get_or_insert_with(|| "none: a sound volume".to_owned());
            }
            Err(error) => {
                let text = error.explain(&names).to_string();
                assert!(text.len() > 10, "seed {seed}: no reason given: {text:?}");
                reason.get_or_insert(text);
            }
        }
        let kind: String = reason
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_ascii_digit())
            .take(60)
            .collect();
        *reasons.entry(kind).or_default() += 1;
    }
    for (reason, count) in &reasons {
        println!("{count:6} {reason}");
    }
    assert!(
        reasons.len() > 25,
        "the mutants reach only {} reasons",
        reasons.len()
    );
}

#[test]
fn the_same_seed_makes_the_same_mutant() {
    for seed in 0..50 {
        let (a, b) = (mutant(seed), mutant(seed));
        assert_eq!(a.story, b.story);
        for (x, y) in a.disks.iter().zip(&b.disks) {
            assert_eq!(x.written(), y.written());
        }
    }
}

/// Volumes of each build that are worked on, unless EMBRFS_STATES says how many.
fn count() -> u64 {
    let given = std::env::var("EMBRFS_STATES")
        .ok()
        .filter(|n| !n.is_empty());
    given.map_or(500, |n| n.parse().expect("EMBRFS_STATES is a number"))
}

/// Memory that the program may have come to take, whatever volumes say: far above what it takes of sound ones.
const MOST_MEMORY: u64 = 1 << 30;
/// Nobody works so long on one volume, on however slow a machine.
const MOST_SECONDS: u64 = 300;

/// Ends the program where somebody works on one volume for minutes, or memory runs out: else its seed would not be known.
struct Watch {
    seed: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Watch {
    fn new() -> Self {
        let watch = Watch {
            seed: Arc::default(),
            ended: Arc::default(),
        };
        let (seed, ended) = (watch.seed.clone(), watch.ended.clone());
        std::thread::spawn(move || {
            let mut before = None;
            let mut same = 0;
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let now = seed.load(Ordering::Relaxed);
                same = if before == Some(now) { same + 1 } else { 0 };
                before = Some(now);
                if same > MOST_SECONDS || memory("VmRSS:") > MOST_MEMORY {
                    // Not through the test's own output, of which nothing would be left.
                    let told = format!("seed {}: for ever, or without bound\n", now);
                    let _ = std::io::stderr().write_all(told.as_bytes());
                    std::process::abort();
                }
            }
        });
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Bytes of memory of this program, as the kernel counts them under this name.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Calls `work` with seeds; a failure tells of which.
fn each_seed(mut work: impl FnMut(u64, &mut Done)) -> Done {
    let base = seed();
    let watch = Watch::new();
    let mut done = Done::default();
    for n in 0..count() {
        let seed = base.wrapping_add(n);
        watch.seed.store(seed, Ordering::Relaxed);
        let attempt = || work(seed, &mut done);
        let attempt = std::panic::AssertUnwindSafe(attempt);
        if let Err(why) = std::panic::catch_unwind(attempt) {
            println!("seed {seed}");
            std::panic::resume_unwind(why);
        }
    }
    println!("{done}");
    let most = memory("VmHWM:");
    assert!(most < MOST_MEMORY, "{most} bytes of memory were taken");
    done
}

fn worked_on(build: Build) {
    let done = each_seed(|seed, done| {
        let chance = Chance::new(seed);
        let input = Specimen::input(&chance);
        let fleet = Specimen::with(build, |volume| volume.changed(&input));
        worker::work(&fleet, &chance, done);
    });
    // Else only the doors of the engine were tried.
    assert!(done.0.len() > 30, "only {} things were done", done.0.len());
    let often = [
        "mount",
        "unmount",
        "create",
        "rename",
        "unlink",
        "link",
        "write",
        "read",
        "truncate",
        "setxattr",
        "checkpoint",
        "fill",
        "fsck",
    ];
    for what in often {
        let (times, _) = done.0.get(what).copied().unwrap_or_default();
        assert!(times != 0, "{what} was never done");
    }
}

#[test]
fn a_volume_on_one_device_may_say_anything() {
    worked_on(Build::Single);
}

#[test]
fn a_volume_on_two_devices_may_say_anything() {
    worked_on(Build::Pair);
}

#[test]
fn a_volume_that_lacks_a_device_may_say_anything() {
    worked_on(Build::Half);
}

#[test]
fn a_volume_with_stripes_and_snapshots_may_say_anything() {
    worked_on(Build::Striped);
}

#[test]
fn a_volume_with_stripes_that_lacks_a_device_may_say_anything() {
    worked_on(Build::Torn);
}

#[test]
fn mutants_may_be_worked_on() {
    let done = each_seed(|seed, done| {
        let mutant = mutant(seed);
        if let Some(fleet) = mutant.fleet() {
            worker::work(&fleet, &Chance::new(seed), done);
        }
    });
    let (mounted, _) = done.0.get("mount").copied().unwrap_or_default();
    assert!(mounted > count() / 4, "only {mounted} could be mounted");
}
