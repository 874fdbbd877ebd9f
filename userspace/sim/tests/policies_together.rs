// SPDX-License-Identifier: GPL-2.0

//! Two who are at blocks that files share, at one moment: tell them to survive more, share them with one that is to survive more, or move
//! them together. Wherever one of them stands still, afterwards all survives what the strongest wants.

use embr_engine::file::Pair;
use embr_engine::file::Way;
use embr_engine::format::geometry::Policy;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::volume::Mounted;
use embrfs_sim::contents;
use embrfs_sim::desk;
use embrfs_sim::host::seed;
use embrfs_sim::host::Chance;
use embrfs_sim::machine::Simulated;
use embrfs_sim::scribe::NOW;
use embrfs_sim::still;
use embrfs_sim::still::Beside;

const SIZE: Bytes = Bytes(48 << 20);
/// Blocks of each file.
const BLOCKS: usize = 16;
/// How many worlds of each scene have both stand still at points that are drawn.
const PAIRS: usize = 50;

/// What is done with files, each of which has a number.
#[derive(Clone, Copy, Debug)]
enum Deed {
    /// So many losses are to be survived.
    Set(usize, u8),
    /// All of one, in another.
    Share(usize, usize),
    /// The middle.
    Write(usize),
    /// What lives is moved together.
    Move,
}

use Deed::Move;
use Deed::Set;
use Deed::Share;
use Deed::Write;

/// Three files that are to survive so many losses, of which the first is written; what was done before, and what two do.
#[derive(Clone, Copy, Debug)]
struct Scene {
    drives: usize,
    shape: (u8, u8),
    losses: u8,
    before: &'static [Deed],
    both: [&'static [Deed]; 2],
}

const COPIES: Scene = Scene {
    drives: 3,
    shape: (1, 2),
    losses: 0,
    before: &[Share(0, 1)],
    both: [&[], &[]],
};

const STRIPES: Scene = Scene {
    drives: 6,
    shape: (2, 3),
    losses: 1,
    ..COPIES
};

/// Nobody changes a file that the other one changes.
const SCENES: [Scene; 5] = [
    Scene {
        both: [&[Set(0, 1)], &[Set(1, 2)]],
        ..COPIES
    },
    Scene {
        both: [&[Set(1, 1)], &[Set(2, 2), Share(0, 2)]],
        ..COPIES
    },
    Scene {
        both: [&[Set(0, 2)], &[Set(1, 3)]],
        ..STRIPES
    },
    Scene {
        before: &[Write(0), Share(0, 1)],
        both: [&[Move], &[Set(0, 2), Set(1, 3)]],
        ..STRIPES
    },
    Scene {
        before: &[Set(2, 3)],
        both: [&[Share(0, 2)], &[Set(1, 2), Write(1)]],
        ..STRIPES
    },
];

struct Stage {
    mounted: Mounted<Simulated>,
    names: Names,
    files: [InodeNo; 3],
    scene: Scene,
}

impl Stage {
    fn new(seed: u64, scene: Scene) -> Self {
        let chance = Chance::new(seed);
        let fleet = desk::drives(&chance, SIZE, scene.drives, scene.shape);
        let (mounted, names) = (desk::mount(&chance, &fleet), desk::names());
        let view = View::first();
        let of = names.of(&mounted, &view);
        of.format(&embrfs_sim::clerk::root()).expect("formatted");
        let files = [0, 1, 2].map(|n| desk::create(of, format!("{n}").as_bytes()));
        let stage = Stage {
            mounted,
            names,
            files,
            scene,
        };
        stage.act(&[0, 1, 2].map(|n| Set(n, scene.losses)));
        stage.write(0, 0, BLOCKS);
        stage.act(scene.before);
        stage
    }

    fn write(&self, n: usize, at: usize, blocks: usize) {
        let view = View::first();
        let of = self.names.of(&self.mounted, &view);
        let bytes = desk::pattern(blocks, at as u64);
        desk::write(of, self.files[n], at as u64, &bytes, Way::Sealed);
    }

    fn act(&self, deeds: &[Deed]) {
        let view = View::first();
        let of = self.names.of(&self.mounted, &view);
        for deed in deeds {
            match *deed {
                Set(n, losses) => {
                    let policy = Policy::surviving(losses).expect("a policy");
                    of.set_policy(self.files[n], policy, NOW).expect("set");
                }
                Share(from, to) => {
                    let pair = Pair {
                        from: (self.files[from], FileBlock(0)),
                        to: (self.files[to], FileBlock(0)),
                        blocks: Blocks(BLOCKS as u64),
                    };
                    of.clone_range(&pair, None, NOW).expect("cloned");
                }
                Write(n) => self.write(n, BLOCKS / 4, BLOCKS / 2),
                Move => {
                    of.grow_old().expect("later");
                    of.grow_old().expect("later");
                    of.rebundle_ahead().expect("moved");
                    of.rebundle().expect("moved");
                }
            }
        }
    }
}

impl Beside for Stage {
    fn first(&self) {
        self.act(self.scene.both[0]);
    }

    fn other(&self) {
        self.act(self.scene.both[1]);
    }

    fn after(&self) {
        contents::audit(&self.mounted).unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn wherever_one_stands_still_nothing_is_weakened() {
    let seed = seed();
    for scene in SCENES {
        println!("{scene:?}");
        let points = still::everywhere(seed, PAIRS, move || Stage::new(seed, scene));
        println!("{points:?} points");
    }
}
