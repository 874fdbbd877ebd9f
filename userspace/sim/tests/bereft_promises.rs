// SPDX-License-Identifier: GPL-2.0

//! What was accepted before a drive was lost is written after it, if need be in fewer copies.

use embr_engine::file::Dirty;
use embr_engine::file::Rest;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embrfs_sim::desk;
use embrfs_sim::host::Chance;

fn try_it(drives: usize, shape: (u8, u8), lost: usize, pieces: bool) {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(64 << 20), drives, shape);
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    let view = names.open(&mounted, b"").expect("open");
    let file = desk::one_file(&mounted, &names, &view);
    let files = names.of(&mounted, &view);
    let mut promises = Vec::new();
    for size in [
        if pieces { 256 } else { 1 << 20 },
        65536,
        32768,
        16384,
        8192,
        4096,
        2048,
        1024,
        512,
        256,
        16,
        1,
    ] {
        while let Ok(promise) = mounted.promise(Blocks(size)) {
            promises.push((size, promise));
        }
    }
    let all: u64 = promises.iter().map(|(n, _)| n).sum();
    for n in 0..lost {
        mounted.report(Members::default().with(Slot::new(drives - 1 - n).unwrap()));
        mounted.sync_serving().expect("others are there");
    }
    let mut at = 0u64;
    for (n, promise) in promises.iter_mut() {
        let bytes: Vec<u8> = (0..*n).flat_map(|k| desk::pattern(1, at + k)).collect();
        let dirty = [Dirty {
            at: FileBlock(at),
            bytes: &bytes,
        }];
        let mut rest = Rest::new(&dirty);
        let written = Written {
            size: Some(FileBlock(at + *n).start()),
            ..Written::default()
        };
        let done = files.write_under(file, &mut rest, Way::Sealed, &written, promise);
        if let Err(why) = done {
            panic!("{} of {n} blocks at {at} of {all} that were promised, {} blocks still promised to them: {why}", rest.blocks(), promise.blocks());
        }
        at += *n;
    }
}

#[test]
fn in_fewer_copies() {
    try_it(4, (3, 1), 1, false);
}

#[test]
fn in_fewer_copies_in_pieces() {
    try_it(4, (3, 1), 1, true);
}

#[test]
fn in_fewer_copies_wide() {
    try_it(6, (4, 2), 2, false);
}
