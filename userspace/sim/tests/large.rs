// SPDX-License-Identifier: GPL-2.0

//! Volumes of many TiB take changes as small ones do.

use embr_engine::format::geometry::Geometry;
use embr_engine::units::Bytes;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::machine;
use embrfs_sim::numbered::last;
use embrfs_sim::numbered::put;

/// Commits, makes checkpoints, and finds all of it after the next mount.
fn takes_changes(drives: usize, gib: u64, parity: u8) {
    let fleet = Fleet::new(5, &vec![Bytes(gib << 30); drives]);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(5, &fleet, geometry).expect("made");
    let mounted = machine::mount(6, &fleet, machine::READ_WRITE).expect("mounts");
    for n in 1..=30 {
        put(&mounted, n).expect("room");
        if n % 10 == 0 {
            mounted.checkpoint().expect("healthy drives");
        }
    }
    drop(mounted);
    let mounted = machine::mount(7, &fleet, machine::READ_WRITE).expect("mounts again");
    assert_eq!(last(&mounted), Ok(30));
}

#[test]
fn one_drive() {
    takes_changes(1, 4096, 0);
}

#[test]
fn six_drives_of_which_two_may_be_lost() {
    takes_changes(6, 512, 2);
}
