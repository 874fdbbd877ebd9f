// SPDX-License-Identifier: GPL-2.0

//! One task takes blocks out of a file or puts some in while another takes a snapshot, which carries out what is half done, too. Both do it
//! at once, and it is done once.

use embr_engine::file::Way;
use embr_engine::names::Error;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::Mounted;
use embr_rt::lock_class;
use embr_rt::sim::World;
use embr_rt::work::Worker;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use std::sync::Arc;

const WORLDS: u64 = 150;
const ROUNDS: usize = 4;
const BLOCKS: usize = 12;
const NOW: Timestamp = Timestamp {
    seconds: 1,
    nanos: 0,
};

struct Hall {
    mounted: Mounted<Simulated>,
    names: Names,
    view: embr_rt::Arc<View>,
}

impl Hall {
    fn files(&self) -> Files<'_, Simulated> {
        self.names.of(&self.mounted, &self.view)
    }

    /// What a file holds, and a little behind its end.
    fn held(&self, files: Files<'_, Simulated>, file: InodeNo) -> Vec<u8> {
        let size = files.inode(file).expect("it is there").size.0 as usize;
        let mut found = desk::read(files, file, 0, 2 * BLOCKS);
        assert!(
            found.drain(size..).all(|b| b == 0),
            "not zeros behind its end"
        );
        found
    }

    /// The snapshot goes, and all that only it had.
    fn clear(&self) {
        self.names.delete(&self.mounted, b"one").expect("deleted");
        while self.names.sweep(&self.mounted).expect("swept") {}
    }
}

/// Blocks that are taken out, or put in as a hole.
#[derive(Clone, Copy)]
struct Shift {
    is_insert: bool,
    from: usize,
    to: usize,
}

impl Shift {
    fn drawn(chance: &Chance) -> Self {
        let from = chance.below(BLOCKS - 3);
        Shift {
            is_insert: chance.below(2) == 0,
            from,
            to: from + 1 + chance.below(2),
        }
    }

    fn act(self, files: Files<'_, Simulated>, file: InodeNo) -> Result<(), Error> {
        let (from, to) = (FileBlock(self.from as u64), FileBlock(self.to as u64));
        let done = match self.is_insert {
            true => files.insert(file, from, to.0 - from.0, NOW),
            false => files.collapse(file, from, to, NOW),
        };
        done.map(drop)
    }

    fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let (from, to) = (self.from * BLOCK_SIZE, self.to * BLOCK_SIZE);
        match self.is_insert {
            true => drop(bytes.splice(from..from, vec![0; to - from])),
            false => drop(bytes.drain(from..to)),
        }
        bytes
    }
}

/// Says how often the snapshot has what was moved.
fn together(seed: u64) -> usize {
    let world = World::new(seed).holding().run(move || {
        let chance = Chance::new(seed);
        let fleet = desk::drives(&chance, Bytes(32 << 20), 1, (1, 0));
        let mounted = desk::mount(&chance, &fleet);
        let names = desk::names();
        let view = names.open(&mounted, b"").expect("opened");
        let hall = Arc::new(Hall {
            mounted,
            names,
            view,
        });
        let file = desk::one_file(&hall.mounted, &hall.names, &hall.view);
        let mut moved = 0;
        for _ in 0..ROUNDS {
            let before = desk::pattern(BLOCKS, chance.next());
            hall.files().truncate(file, Bytes(0), NOW).expect("cut");
            let way = chance.one(&[Way::Sealed, Way::Inline]);
            desk::write(hall.files(), file, 0, &before, way);
            let shift = Shift::drawn(&chance);
            let its = hall.clone();
            let shifts = Worker::try_spawn(lock_class!("moves"), move || {
                shift.act(its.files(), file).expect("moved");
            });
            hall.files().take_snapshot(b"one", NOW).expect("taken");
            drop(shifts.expect("a task"));
            let after = shift.of(&before);
            let view = hall.names.open(&hall.mounted, b"one").expect("opened");
            let kept = hall.held(hall.names.of(&hall.mounted, &view), file);
            drop(view);
            let now = hall.held(hall.files(), file);
            assert!(kept == before || kept == after, "the snapshot has neither");
            assert!(now == after, "not all was moved");
            moved += usize::from(kept == after);
            contents::audit(&hall.mounted).unwrap_or_else(|why| panic!("{why}"));
            hall.clear();
        }
        moved
    });
    let done = world.unwrap_or_else(|failure| panic!("EMBRFS_SEED={seed}: {failure}"));
    done.value
}

#[test]
fn what_is_half_done_is_done_once() {
    let first = seed();
    let worlds = (0..WORLDS).map(|n| together(first.wrapping_add(n)));
    let moved: usize = worlds.sum();
    assert!(moved > 0, "every snapshot came first");
}
