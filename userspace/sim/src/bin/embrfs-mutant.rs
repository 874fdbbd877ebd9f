// SPDX-License-Identifier: GPL-2.0

//! Writes the mutant of a seed onto files or devices, for tests that mount it in a kernel:
//! `embrfs-mutant SEED DEVICE...`. Prints how many devices the mutant has and what was done. Devices beyond the mutant's own
//! get nothing; a regular file gets the size that the mutant's disk has.

use embr_engine::env::Device as _;
use embr_engine::units::BLOCK_SIZE;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::process::ExitCode;

/// What a mutant's blocks never lie beyond: the first two system areas.
const REACH: u64 = 9 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((Ok(seed), devices)) = arguments.split_first().map(|(s, d)| (s.parse::<u64>(), d))
    else {
        eprintln!("usage: embrfs-mutant SEED DEVICE...");
        return ExitCode::from(16);
    };
    let mutant = embrfs_sim::mutant::mutant(seed);
    for (name, disk) in devices.iter().zip(&mutant.disks) {
        if let Err(error) = put(name, disk) {
            eprintln!("embrfs-mutant: {name}: {error}");
            return ExitCode::FAILURE;
        }
    }
    // A reader that went away does not matter here.
    let _ = writeln!(
        std::io::stdout(),
        "{} devices; {}",
        mutant.disks.len(),
        mutant.story
    );
    ExitCode::SUCCESS
}

fn put(name: &str, disk: &embrfs_sim::disk::Disk) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(name)?;
    let regular = file.metadata()?.is_file();
    if regular {
        file.set_len(0)?;
        file.set_len(disk.size().0)?;
    }
    let zeros = vec![0; 1 << 20];
    for at in (0..REACH).step_by(zeros.len()) {
        if !regular && !(1 << 20..8 << 20).contains(&at) {
            file.write_all_at(&zeros, at)?;
        }
    }
    for (number, block) in disk.written() {
        let at = number * BLOCK_SIZE as u64;
        if at < disk.size().0 {
            file.write_all_at(&block, at)?;
        }
    }
    file.sync_data()
}
