// SPDX-License-Identifier: GPL-2.0

//! However many heads grow from a snapshot: each either finds room for removing all that it has, or is refused.

use embr_engine::names::Error;
use embr_engine::names::Users;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embrfs_sim::desk;
use embrfs_sim::desk::write_if_promised;
use embrfs_sim::host::Chance;
use embrfs_sim::scribe::NOW;

const FILES: usize = 8000;

#[test]
fn each_head_has_room_to_be_emptied() {
    let chance = Chance::new(7);
    let fleet = desk::drives(&chance, Bytes(32 << 20), 2, (1, 1));
    let mounted = desk::mount(&chance, &fleet);
    let names = desk::names();
    desk::one_file(&mounted, &names, &View::first());
    let main = names.open(&mounted, b"").expect("open");
    let files = names.of(&mounted, &main);
    for n in 0..FILES {
        desk::create(files, format!("file {n}").as_bytes());
    }
    mounted.checkpoint().expect("healthy");
    files.take_snapshot(b"s", NOW).expect("room");
    let mut heads = vec![String::new()];
    for n in 0..12 {
        let name = format!("h{n}");
        match names.grow(&mounted, b"s", name.as_bytes(), NOW) {
            Ok(_) => heads.push(name),
            Err(why) => {
                assert!(matches!(why, Error::NoSpace), "{why}");
                break;
            }
        }
    }
    // Each wants a good part of the volume.
    assert!((2..12).contains(&heads.len()), "{} heads", heads.len());
    // Full.
    let data = desk::create(files, b"data");
    let mut at = 0;
    for blocks in [64, 8, 1] {
        while write_if_promised(files, data, at, blocks).is_ok() {
            at += blocks;
        }
    }
    for head in heads.iter().rev() {
        let view = names.open(&mounted, head.as_bytes()).expect("open");
        for n in 0..FILES {
            let files = names.of(&mounted, &view);
            let gone = files.unlink(
                InodeNo::ROOT,
                format!("file {n}").as_bytes(),
                Users::None,
                NOW,
            );
            gone.unwrap_or_else(|why| {
                panic!("head {head:?}, file {n}: {why}; {:?}", mounted.ledger())
            });
        }
    }
}
