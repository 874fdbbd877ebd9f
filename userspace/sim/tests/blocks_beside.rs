// SPDX-License-Identifier: GPL-2.0

//! One who looks where a file holds what, or reads it, and stands still anywhere while another writes a block that lies in an engram
//! into the tree: some bytes are always there.

use embr_engine::file::Holds;
use embr_engine::file::Way;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embrfs_sim::desk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::still;
use embrfs_sim::still::Beside;

struct Stage {
    mounted: Mounted<Simulated>,
    names: Names,
    view: embr_rt::Arc<View>,
    file: InodeNo,
    reads: bool,
    blocks: usize,
}

impl Stage {
    fn new(seed: u64, reads: bool, snapshot: bool, blocks: usize) -> Self {
        let chance = Chance::new(seed);
        let fleet = desk::drives(&chance, Bytes(48 << 20), 1, (1, 0));
        let mounted = desk::mount(&chance, &fleet);
        let names = desk::names();
        let view = View::first();
        let first = names.of(&mounted, &view);
        first.format(&embrfs_sim::clerk::root()).expect("formatted");
        let view = names.open(&mounted, b"").expect("opened");
        let of = names.of(&mounted, &view);
        let file = desk::create(of, b"f");
        if snapshot {
            of.take_snapshot(b"s", Default::default()).expect("taken");
        }
        desk::write(of, file, 0, &vec![1; blocks * BLOCK_SIZE], Way::Sealed);
        Stage {
            mounted,
            names,
            view,
            file,
            reads,
            blocks,
        }
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }
}

impl Beside for Stage {
    fn first(&self) {
        if self.reads {
            let found = desk::read(self.files(), self.file, 0, self.blocks);
            assert!(
                found.iter().all(|b| *b != 0),
                "read zeros that nobody wrote"
            );
        } else {
            let (a, b) = (FileBlock(0), FileBlock(self.blocks as u64));
            let all = self.files().pieces(self.file, a, b, 9).expect("pieces");
            assert!(
                all.iter().all(|p| p.holds != Holds::Hole),
                "a hole: {all:?}"
            );
        }
    }

    fn other(&self) {
        desk::write(
            self.files(),
            self.file,
            1,
            &vec![2; BLOCK_SIZE],
            Way::Inline,
        );
    }

    fn after(&self) {}
}

fn all(reads: bool, snapshot: bool) {
    let seed = seed();
    let points = still::everywhere(seed, 20, move || Stage::new(seed, reads, snapshot, 3));
    println!("{points:?} points");
}

#[test]
fn reading_alone() {
    all(true, false);
}

#[test]
fn reading_above_a_snapshot() {
    all(true, true);
}

#[test]
fn pieces_alone() {
    all(false, false);
}

#[test]
fn pieces_above_a_snapshot() {
    all(false, true);
}
