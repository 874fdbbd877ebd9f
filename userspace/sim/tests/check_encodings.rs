// SPDX-License-Identifier: GPL-2.0

//! What a check does not tell of, though files cannot be read, or snapshots cannot be swept.

use embr_engine::file::Way;
use embr_engine::format::extent;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::mounted::NAMES;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::mender;

/// An extent of a kind that nobody understands: reading fails, a snapshot with it is never swept, and nothing is found.
#[test]
fn an_unknown_encoding_is_found() {
    let chance = Chance::new(5);
    let fleet = desk::drives(&chance, Bytes(32 << 20), 1, (1, 0));
    let mounted = machine::mount_plain(3, &fleet, machine::READ_WRITE).expect("mounted");
    let names = desk::names();
    let view = View::first();
    names
        .of(&mounted, &view)
        .format(&embrfs_sim::clerk::root())
        .expect("formatted");
    let view = names.open(&mounted, b"").expect("opened");
    let of = names.of(&mounted, &view);
    let file = desk::create(of, b"f");
    desk::write(of, file, 0, &vec![7; 2 * BLOCK_SIZE], Way::Sealed);
    of.take_snapshot(b"s", Default::default()).expect("taken");
    desk::write(of, file, 0, &vec![8; BLOCK_SIZE], Way::Sealed);
    let (key, value) = contents::scan(&mounted, NAMES)
        .expect("read")
        .into_iter()
        .filter(|(k, _)| Item::of(*k).0.kind() == Kind::EXTENTS)
        .last()
        .expect("an item");
    let changed = (0..value.len())
        .flat_map(|n| (3..=4u8).map(move |b| (n, b)))
        .find_map(|(n, b)| {
            let mut other = value.clone();
            other[n] = b;
            let runs: Vec<_> = extent::parse(&other)?.iter().collect();
            let now: Vec<_> = extent::parse(&value)?.iter().collect();
            (runs.len() == now.len()
                && runs[0].encoding != now[0].encoding
                && runs[0].blocks == now[0].blocks)
                .then_some(other)
        })
        .expect("some byte");
    let mut txn = mounted.begin().expect("begun");
    txn.set(NAMES, key, &changed).expect("set");
    txn.commit().expect("committed");
    names.delete(&mounted, b"s").err();
    drop(view);
    let mut bytes = vec![0; 2 * BLOCK_SIZE];
    let view = names.open(&mounted, b"").expect("opened");
    let read = names
        .of(&mounted, &view)
        .read(file, FileBlock(0), &mut bytes);
    assert!(names.sweep(&mounted).is_err());
    drop(view);
    mounted.close().expect("closed");
    let found = mender::findings(7, &fleet).expect("checked");
    assert!(
        read.is_ok() || !found.is_empty(),
        "it cannot be read, and a check finds nothing"
    );
}
