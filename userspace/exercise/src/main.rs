// SPDX-License-Identifier: GPL-2.0

//! Works on files of a mounted file system in every way that there is, at random, and compares them with what they should hold.
//! All follows from a seed, so what a file should hold is known after a remount as well. For guest tests.
//!
//!     embrfs-exercise run DIRECTORY SEED STEPS [WITHOUT,...]      in files there, several at once
//!     embrfs-exercise check DIRECTORY SEED STEPS [WITHOUT,...]    what `run` left is still there
//!     embrfs-exercise grow DIRECTORY SEED LOG                     files that grow until that fails; notes go to LOG
//!     embrfs-exercise grown DIRECTORY SEED LOG                    what `grow` left is as it must be
//!     embrfs-exercise storm DIRECTORY SEED STEPS                  names and files in one order, until the machine is killed
//!     embrfs-exercise stormed DIRECTORY SEED STEPS DURABLE        what `storm` left is a prefix of that order
//!
//!     embrfs-exercise stores DIRECTORY SEED ROUNDS                writing and storing to one file at once
//!     embrfs-exercise make DIRECTORY SEED BYTES                   files of so many bytes
//!     embrfs-exercise damaged DIRECTORY SEED BYTES                what `make` left is right wherever it can be read
//!
//! What goes wrong ends it with status 1 and the seed. Kinds of steps to leave out: see [`Kind::NAMES`].

mod chance;
mod file;
mod grow;
mod map;
mod step;
mod stores;
mod storm;
mod world;

use chance::Chance;
use file::Exercised;
use std::env;
use std::io;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;
use std::thread;
use step::Kind;
use step::Steps;

/// Files that are worked on at once.
const FILES: u64 = 4;
/// Set for who works on one file alone.
const ALONE: &str = "EMBRFS_EXERCISE_ALONE";

fn usage() -> String {
    let names: Vec<&str> = Kind::NAMES.iter().map(|(name, _)| *name).collect();
    format!(
        "usage: embrfs-exercise run|check DIRECTORY SEED STEPS [WITHOUT,...]\n   or: embrfs-exercise grow|grown DIRECTORY SEED LOG\n   or: embrfs-exercise make|damaged DIRECTORY SEED BYTES\n   or: embrfs-exercise stores DIRECTORY SEED ROUNDS\n   or: embrfs-exercise storm DIRECTORY SEED STEPS\n   or: embrfs-exercise stormed DIRECTORY SEED STEPS DURABLE\nkinds of steps: {}",
        names.join(" ")
    )
}

fn one(
    directory: &Path,
    seed: u64,
    steps: u64,
    without: &[Kind],
    check: bool,
) -> Result<(), String> {
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
    file.end(check)
        .map_err(|why| format!("seed {seed}, at the end: {why}"))
}

fn work() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [what, directory, seed, steps, rest @ ..] = arguments.as_slice() else {
        return Err(usage());
    };
    let directory = Path::new(directory);
    let seed: u64 = seed.parse().map_err(|_| usage())?;
    match what.as_str() {
        "grow" => {
            return together(grow::FILES, |n| {
                grow::grow(directory, Path::new(steps), seed + n)
            });
        }
        "grown" => {
            return together(grow::FILES, |n| {
                let said = grow::grown(directory, Path::new(steps), seed + n)?;
                println!("{}: {said}", seed + n);
                Ok(())
            });
        }
        _ => {}
    }
    let steps: u64 = steps.parse().map_err(|_| usage())?;
    match what.as_str() {
        "stores" => return stores::stores(directory, seed, steps),
        "make" => return together(grow::FILES, |n| grow::make(directory, steps, seed + n)),
        "damaged" => {
            return together(grow::FILES, |n| {
                let said = grow::damaged(directory, steps, seed + n)?;
                println!("{}: {said}", seed + n);
                Ok(())
            });
        }
        _ => {}
    }
    match (what.as_str(), rest) {
        ("storm", _) => return storm::storm(directory, seed, steps),
        ("stormed", [durable, ..]) => {
            let durable = durable.parse().map_err(|_| usage())?;
            let said = storm::stormed(directory, seed, steps, durable)?;
            println!("{said}");
            return Ok(());
        }
        _ => {}
    }
    let check = match what.as_str() {
        "run" => false,
        "check" => true,
        _ => return Err(usage()),
    };
    let mut without = Vec::new();
    for name in rest
        .iter()
        .flat_map(|r| r.split(','))
        .filter(|n| !n.is_empty())
    {
        without.push(Kind::named(name).ok_or_else(usage)?);
    }
    match env::var(ALONE) {
        Ok(_) => one(directory, seed, steps, &without, check),
        Err(_) => apart(&arguments, directory, seed),
    }
}

/// Works on several files at once, each in a process of its own. With threads of one process, in User Mode Linux on two CPUs (7.3.4),
/// what a file should hold was zeros once, from just where mremap(2) had enlarged that memory; the file was right.
fn apart(arguments: &[String], directory: &Path, seed: u64) -> Result<(), String> {
    let shown = |why: io::Error| format!("{}: {why}", directory.display());
    let program = env::current_exe().map_err(shown)?;
    let mut children = Vec::new();
    for n in 0..FILES {
        let mut own = arguments.to_vec();
        own[2] = (seed + n).to_string();
        let child = Command::new(&program).args(&own).env(ALONE, "").spawn();
        children.push(child.map_err(shown)?);
    }
    let mut failed = 0;
    for mut child in children {
        failed += u32::from(!child.wait().map_err(shown)?.success());
    }
    match failed {
        0 => Ok(()),
        _ => Err(format!(
            "{failed} of {FILES} files failed, from seed {seed}"
        )),
    }
}

/// Does something with several files at once.
fn together(files: u64, act: impl Fn(u64) -> Result<(), String> + Sync) -> Result<(), String> {
    let results: Vec<Result<(), String>> = thread::scope(|scope| {
        let act = &act;
        let threads: Vec<_> = (0..files).map(|n| scope.spawn(move || act(n))).collect();
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
