// SPDX-License-Identifier: GPL-2.0

//! Works on files of a mounted file system in every way that there is, at random, and compares them with what they should hold.
//! All follows from a seed, so what a file should hold is known after a remount as well. For guest tests.
//!
//!     embrfs-exercise run DIRECTORY SEED STEPS [WITHOUT,...]      in files there, several at once
//!     embrfs-exercise check DIRECTORY SEED STEPS [WITHOUT,...]    what `run` left is still there
//!
//! What goes wrong ends it with status 1 and the seed. Kinds of steps to leave out: see [`Kind::NAMES`].

mod chance;
mod file;
mod step;

use chance::Chance;
use file::Exercised;
use std::env;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use step::Kind;
use step::Steps;

/// Files that are worked on at once.
const FILES: u64 = 4;

fn usage() -> String {
    let names: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
    format!(
        "usage: embrfs-exercise run|check DIRECTORY SEED STEPS [WITHOUT,...]\nkinds of steps: {}",
        names.join(" ")
    )
}

fn one(directory: &Path, seed: u64, steps: u64, without: &[Kind], check: bool) -> Result<(), String> {
    let path = directory.join(format!("exercise-{seed}"));
    let mut chance = Chance::new(seed);
    let mut file = match check {
        true => Exercised::model(&path),
        false => Exercised::create(&path)?,
    };
    let mut source = Steps::new(without);
    for number in 0..steps {
        let step = source.next(&mut chance, file.size());
        file.carry_out(&step)
            .map_err(|why| format!("seed {seed}, step {number} ({step:x?}): {why}"))?;
    }
    file.end(check).map_err(|why| format!("seed {seed}, at the end: {why}"))
}

fn work() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, directory, seed, steps, rest @ ..] = arguments.as_slice() else {
        return Err(usage());
    };
    let check = match what.as_str() {
        "run" => false,
        "check" => true,
        _ => return Err(usage()),
    };
    let seed: u64 = seed.parse().map_err(|_| usage())?;
    let steps: u64 = steps.parse().map_err(|_| usage())?;
    let mut without = Vec::new();
    for name in rest.iter().flat_map(|r| r.split(',')).filter(|n| !n.is_empty()) {
        without.push(Kind::named(name).ok_or_else(usage)?);
    }
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..FILES)
            .map(|n| {
                let without = &without;
                scope.spawn(move || one(Path::new(directory), seed + n, steps, without, check))
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err("a thread panicked".into())))
            .collect()
    });
    results.into_iter().collect()
}

fn main() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("embrfs-exercise: {why}");
            ExitCode::FAILURE
        }
    }
}
