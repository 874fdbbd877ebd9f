// SPDX-License-Identifier: GPL-2.0

//! One who reads a file of which some versions are the head's own, and stands still anywhere while another changes part of a window: each
//! block holds what it was, or what it becomes.

use embr_engine::file::Way;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::InodeNo;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embrfs_sim::desk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::still;
use embrfs_sim::still::Beside;

#[derive(Clone, Copy)]
enum What {
    /// The head writes a block of those that came to it from a snapshot that was deleted.
    Write(Way),
    Sweep,
}

struct Stage {
    mounted: Mounted<Simulated>,
    names: Names,
    view: embr_rt::Arc<View>,
    file: InodeNo,
    what: What,
    was: u8,
    is: u8,
}

impl Stage {
    fn new(seed: u64, what: What, deep: usize) -> Self {
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
        let now = Default::default();
        let write = |at, count, with: u8, way| {
            desk::write(of, file, at, &vec![with; count * BLOCK_SIZE], way)
        };
        write(0, 3, 1, Way::Sealed);
        for n in 0..deep {
            of.take_snapshot(format!("s{n}").as_bytes(), now)
                .expect("taken");
            write(0, 3, 2 + n as u8, Way::Sealed);
        }
        of.take_snapshot(b"last", now).expect("taken");
        let was = 1 + deep as u8;
        if matches!(what, What::Sweep) {
            write(1, 1, 100, Way::Sealed);
        }
        for n in 0..deep {
            names
                .delete(&mounted, format!("s{n}").as_bytes())
                .expect("deleted");
        }
        names.delete(&mounted, b"last").expect("deleted");
        if matches!(what, What::Write(Way::Sealed)) {
            // So the inode is the head's own already.
            write(0, 1, 50, Way::Sealed);
        }
        let (was, is) = match what {
            What::Write(_) => (was, 100),
            What::Sweep => (100, 100),
        };
        Stage {
            mounted,
            names,
            view,
            file,
            what,
            was,
            is,
        }
    }

    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }
}

impl Beside for Stage {
    fn first(&self) {
        let found = desk::read(self.files(), self.file, 1, 1);
        assert!(
            found.iter().all(|b| *b == self.was) || found.iter().all(|b| *b == self.is),
            "{} where it was {} and becomes {}",
            found[0],
            self.was,
            self.is
        );
    }

    fn other(&self) {
        match self.what {
            What::Write(way) => {
                desk::write(self.files(), self.file, 1, &vec![100; BLOCK_SIZE], way)
            }
            What::Sweep => while self.names.sweep(&self.mounted).expect("swept") {},
        }
    }

    fn after(&self) {}
}

fn all(what: What, deep: usize) {
    let seed = seed();
    let points = still::everywhere(seed, 20, move || Stage::new(seed, what, deep));
    println!("{points:?} points");
}

#[test]
fn write_sealed_one() {
    all(What::Write(Way::Sealed), 0);
}

#[test]
fn write_sealed_two() {
    all(What::Write(Way::Sealed), 1);
}

#[test]
fn write_sealed_many() {
    all(What::Write(Way::Sealed), 3);
}

#[test]
fn write_inline_two() {
    all(What::Write(Way::Inline), 1);
}

#[test]
fn sweep_two() {
    all(What::Sweep, 1);
}

#[test]
fn sweep_many() {
    all(What::Sweep, 3);
}
