// SPDX-License-Identifier: GPL-2.0

//! What writing and reading files costs beside devices and hashing: `scripts/in-root cargo bench -p embrfs_sim --bench file` prints
//! it. The drives are simulated ones, whose time is measured and left out.

use embr_engine::env::DeviceError;
use embr_engine::env::Devices;
use embr_engine::env::Environment;
use embr_engine::env::Hash256;
use embr_engine::env::Hasher;
use embr_engine::env::Write;
use embr_engine::file::Dirty;
use embr_engine::file::Way;
use embr_engine::file::Written;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::hash::Scalar;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::FileBlock;
use embr_engine::units::InodeNo;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume::assemble;
use embr_engine::volume::probe;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_sim::clerk;
use embrfs_sim::fleet::Fleet;
use embrfs_sim::host::Chance;
use embrfs_sim::machine;
use embrfs_sim::machine::Heard;
use std::cell::Cell;
use std::time::Duration;
use std::time::Instant;

/// A machine that knows how long devices and hashing took.
struct Clocked {
    fleet: Fleet,
    chance: Chance,
    heard: Heard,
    devices: Cell<Duration>,
    hashing: Cell<Duration>,
}

fn clocked<T>(clock: &Cell<Duration>, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = work();
    clock.set(clock.get() + begin.elapsed());
    result
}

impl Devices for Clocked {
    fn read(&self, device: Slot, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        clocked(&self.devices, || {
            Devices::read(&self.fleet, device, at, into)
        })
    }

    fn write(&self, writes: &mut [Write<'_>]) {
        clocked(&self.devices, || Devices::write(&self.fleet, writes));
    }

    fn flush(&self, devices: Members) -> Members {
        clocked(&self.devices, || Devices::flush(&self.fleet, devices))
    }
}

impl Hasher for Clocked {
    fn hash(&self, parts: &[&[u8]]) -> Hash256 {
        clocked(&self.hashing, || Scalar.hash(parts))
    }

    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]) {
        clocked(&self.hashing, || Scalar.hash_blocks(blocks, out));
    }
}

impl Environment for Clocked {
    type Hasher = Self;
    type Field = embr_engine::field::Scalar;

    fn hasher(&self) -> &Self {
        self
    }

    fn field(&self) -> &Self::Field {
        &embr_engine::field::Scalar
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.chance.next().to_le_bytes());
        bytes
    }
}

impl Machine for Clocked {
    type Devices = Self;
    type Environment = Self;
    type Events = Heard;

    fn devices(&self) -> &Self {
        self
    }

    fn environment(&self) -> &Self {
        self
    }

    fn events(&self) -> &Heard {
        &self.heard
    }
}

fn mount(fleet: &Fleet) -> Mounted<Clocked> {
    let machine = Clocked {
        fleet: fleet.clone(),
        chance: Chance::new(1),
        heard: Heard::default(),
        devices: Cell::default(),
        hashing: Cell::default(),
    };
    let drives = fleet.drives();
    let members: Vec<_> = drives
        .iter()
        .map(|drive| probe(drive, &Scalar).expect("a member"))
        .collect();
    let volume = assemble(&members).expect("a volume");
    Mounted::open(machine, &volume, &members, machine::READ_WRITE)
        .expect("mounted")
        .into_inner()
}

const ALL: usize = 256 << 20;

/// Does `work` for each of so many pieces of a file, and says what a MiB cost.
fn measure(mounted: &Mounted<Clocked>, what: &str, piece: usize, mut work: impl FnMut(u64)) {
    let machine = mounted.machine();
    machine.devices.set(Duration::ZERO);
    machine.hashing.set(Duration::ZERO);
    let begin = Instant::now();
    for n in 0..ALL / piece {
        work((n * piece / BLOCK_SIZE) as u64);
    }
    let all = begin.elapsed();
    let rest = all - machine.devices.get() - machine.hashing.get();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (ALL >> 20) as f64;
    println!(
        "{what}, {} KiB at a time: per MiB {:.0} us hashing, {:.0} us beside devices and hashing",
        piece >> 10,
        each(machine.hashing.get()),
        each(rest)
    );
}

fn main() {
    let fleet = Fleet::new(1, &[Bytes(1 << 30); 2]);
    machine::make(1, &fleet, Geometry::new(1, 1).expect("a geometry")).expect("made");
    let mounted = mount(&fleet);
    let names = Names::try_new(HashWidth::Full).expect("memory");
    let view = View::first();
    let files = names.of(&mounted, &view);
    files.format(&clerk::root()).expect("formatted");
    let chance = Chance::new(2);
    let bytes: Vec<u8> = (0..(1 << 20) / 8)
        .flat_map(|_| chance.next().to_le_bytes())
        .collect();
    for piece in [1 << 20, 128 << 10, 4 << 10] {
        let new = New {
            what: What::Regular,
            ..clerk::root()
        };
        let name = piece.to_string();
        let made = files
            .create(InodeNo::ROOT, name.as_bytes(), &new)
            .expect("made");
        let file = made.what.number;
        measure(&mounted, "written", piece, |at| {
            let dirty = [Dirty {
                at: FileBlock(at),
                bytes: &bytes[..piece],
            }];
            let written = Written {
                size: Some(Bytes((at + 1) * BLOCK_SIZE as u64)),
                ..Written::default()
            };
            files
                .write(file, &dirty, Way::Sealed, &written)
                .expect("written");
        });
        mounted.checkpoint().expect("a checkpoint");
        let mut into = vec![0; piece];
        measure(&mounted, "read", piece, |at| {
            files.read(file, FileBlock(at), &mut into).expect("read");
        });
    }
}
