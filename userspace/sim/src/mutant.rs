// SPDX-License-Identifier: GPL-2.0

//! Volumes that are damaged or forged. A forged structure has a right seal, so that it reaches the code behind the seal.

use crate::cache::Contents;
use crate::disk::Disk;
use crate::fleet::Fleet;
use crate::history::enter_epoch;
use crate::host::Chance;
use crate::host::Host;
use crate::image;
use crate::machine;
use crate::recording::Snapshot;
use embr_engine::env::Device;
use embr_engine::env::WritableDevice;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::layout;
use embr_engine::format::seal;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::hash::Scalar;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::units::Bytes;
use embr_engine::units::Timestamp;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume as volumes;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::create::Options;
use embr_engine::volume::create::Plan;
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The fields of a superblock: name, first byte, length. From docs/FORMAT.md.
pub const SUPERBLOCK_FIELDS: &[(&str, usize, usize)] = &[
    ("magic", 0, 8),
    ("version", 8, 4),
    ("size", 12, 4),
    ("seal", 16, 32),
    ("volume UUID", 48, 16),
    ("device UUID", 64, 16),
    ("device number", 80, 4),
    ("copy number", 84, 4),
    ("place", 88, 8),
    ("sequence", 96, 8),
    ("compatible features", 104, 8),
    ("read-only features", 112, 8),
    ("incompatible features", 120, 8),
    ("creation seconds", 128, 8),
    ("creation nanoseconds", 136, 4),
    ("block shift", 140, 1),
    ("hash", 141, 1),
    ("block hash size", 142, 1),
    ("k", 143, 1),
    ("m", 144, 1),
    ("reserved 0", 145, 3),
    ("device slots", 148, 2),
    ("epoch slots", 150, 2),
    ("next device", 152, 4),
    ("payload blocks", 156, 4),
    ("ring place", 160, 4),
    ("ring slots", 164, 4),
    ("reserved 1", 168, 24),
    ("label", 192, 128),
    ("writer", 320, 32),
    ("reserved 2", 352, 3744),
];

/// The fields of a device-table entry, from its begin.
pub const MEMBER_FIELDS: &[(&str, usize, usize)] = &[
    ("uuid", 0, 16),
    ("id", 16, 4),
    ("state", 20, 1),
    ("class", 21, 1),
    ("reserved 0", 22, 2),
    ("failure domain", 24, 4),
    ("reserved 1", 28, 4),
    ("size", 32, 8),
    ("joined", 40, 8),
    ("reserved 2", 48, 16),
];

/// The fields of an epoch-table entry, from its begin.
pub const EPOCH_FIELDS: &[(&str, usize, usize)] = &[
    ("id", 0, 16),
    ("parent", 16, 16),
    ("number", 32, 8),
    ("after", 40, 8),
    ("present", 48, 8),
    ("absent", 56, 8),
];

/// The fields of a root.
pub const ROOT_FIELDS: &[(&str, usize, usize)] = &[
    ("magic", 0, 8),
    ("version", 8, 4),
    ("size", 12, 4),
    ("seal", 16, 32),
    ("volume UUID", 48, 16),
    ("epoch", 64, 16),
    ("generation", 80, 8),
    ("device", 88, 4),
    ("slot", 92, 4),
    ("written seconds", 96, 8),
    ("written nanoseconds", 104, 4),
    ("trees", 108, 4),
    ("journal's first group", 112, 8),
    ("journal's identity", 120, 32),
    ("journal's begin", 152, 8),
    ("journal's size", 160, 8),
    ("reserved", 168, 24),
    ("table of trees", 192, 3904),
];

const MEMBERS_AT: usize = 4096;
const EPOCHS_AT: usize = 8192;

/// A volume on disks of these sizes.
pub fn volume(seed: u64, data: u8, parity: u8, sizes: &[Bytes]) -> Vec<Disk> {
    let host = Host::new(seed);
    let options = Options {
        geometry: Geometry::new(data, parity).expect("a geometry that exists"),
        block_hash: BlockHash::Short,
        label: Label::new("simulated").expect("a label that fits"),
        uuid: None,
    };
    let plan = Plan::new(&host, options, sizes).expect("a volume that can be made");
    let disks: Vec<Disk> = sizes.iter().map(|s| Disk::new(*s)).collect();
    for (i, disk) in disks.iter().enumerate() {
        plan.wipe(i, disk).expect("memory takes every write");
    }
    for (i, disk) in disks.iter().enumerate() {
        plan.write(i, &host, disk)
            .expect("memory takes every write");
    }
    disks
}

/// A sound volume to begin with; made once per thread, as making one costs more than all that is done to it.
fn template(data: u8, parity: u8, count: usize) -> Vec<Disk> {
    thread_local! {
        static MADE: RefCell<BTreeMap<(u8, u8), Vec<Disk>>> = const { RefCell::new(BTreeMap::new()) };
    }
    MADE.with_borrow_mut(|made| {
        made.entry((data, parity))
            .or_insert_with(|| with_root(data, parity, count).expect("a volume that can be made"))
            .clone()
    })
}

/// A volume with its root directory.
fn with_root(data: u8, parity: u8, count: usize) -> Result<Vec<Disk>, String> {
    let geometry = Geometry::new(data, parity).map_err(|why| why.to_string())?;
    let fleet = Fleet::new(0, &vec![layout::MIN_DEVICE; count]);
    machine::make(0, &fleet, geometry)?;
    let mounted = machine::mount(0, &fleet, machine::READ_WRITE)?;
    let root = New {
        what: What::Directory,
        permissions: 0o755,
        uid: 0,
        gid: 0,
        flags: 0,
        project: 0,
        now: Timestamp::default(),
    };
    Names::try_new(HashWidth::Full)
        .map_err(|why| format!("{why:?}"))?
        .of(&mounted, &View::first())
        .format(&root)
        .map_err(|why| why.to_string())?;
    mounted.close().map_err(|why| why.to_string())?;
    fleet.drives().iter().map(copy).collect()
}

/// What a drive holds, as a disk.
fn copy(drive: &impl Device) -> Result<Disk, String> {
    let disk = Disk::new(drive.size());
    let mut block = vec![0; BLOCK_SIZE];
    for at in (0..drive.size().0).step_by(BLOCK_SIZE).map(Bytes) {
        drive.read(at, &mut block).map_err(|why| why.to_string())?;
        if block.iter().any(|b| *b != 0) {
            disk.write(at, &block).map_err(|why| why.to_string())?;
        }
    }
    Ok(disk)
}

/// A mutated volume, and what was done to it.
#[derive(Debug)]
pub struct Mutant {
    /// The disks, in the order in which to offer them.
    pub disks: Vec<Disk>,
    /// What was done.
    pub story: String,
}

impl Mutant {
    /// Its devices as drives, if they make a volume: each in the place that the volume gives it.
    pub fn fleet(&self) -> Option<Fleet> {
        let mut members = Vec::new();
        let mut disks = Vec::new();
        for disk in &self.disks {
            if let Ok(member) = volumes::probe(disk, &Scalar) {
                members.push(member);
                disks.push(disk);
            }
        }
        let volume = volumes::assemble(&members).ok()?;
        let mut snapshot = Snapshot::default();
        for seat in volume.seats() {
            let Standing::Current(index) = seat.standing else {
                continue;
            };
            let disk = disks.get(index)?;
            let mut contents = Contents::new(disk.size());
            for (number, bytes) in disk.written() {
                contents.durable.set(number, image::block(&bytes));
            }
            snapshot.drives.insert(seat.entry.slot, contents);
        }
        Some(Fleet::start(1, &snapshot))
    }
}

fn read(disk: &Disk, at: Bytes, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    disk.read(at, &mut bytes).ok().map(|()| bytes)
}

fn write(disk: &Disk, at: Bytes, bytes: &[u8]) {
    // A place beyond a cut disk's end cannot be forged.
    let _ = disk.write(at, bytes);
}

/// Values that code likes to stumble over, among random ones.
fn interesting(chance: &Chance, length: usize) -> Vec<u8> {
    let mut out = vec![0u8; length];
    match chance.below(8) {
        0 => {}
        1 => out.fill(0xff),
        2 => out[0] = 1,
        3 => out[length - 1] = 0x80,
        4 => {
            out.fill(0xff);
            out[length - 1] = 0x7f;
        }
        5 => out[0] = chance.next() as u8,
        6 => {
            let bit = chance.below(length * 8);
            out[bit / 8] = 1 << (bit % 8);
        }
        _ => out.iter_mut().for_each(|b| *b = chance.next() as u8),
    }
    out
}

/// One change to a sealed structure of `length` bytes in every place given.
fn forge(
    disk: &Disk,
    chance: &Chance,
    places: &[Bytes],
    length: usize,
    field: (usize, usize),
    reseal: bool,
) {
    let (first, size) = field;
    let value = interesting(chance, size);
    let add = chance.below(3) == 0;
    for at in places {
        let Some(mut bytes) = read(disk, *at, length) else {
            continue;
        };
        let target = &mut bytes[first..first + size];
        if add {
            // One more or one less is where bounds are wrong.
            target[0] = target[0].wrapping_add(if value[0] % 2 == 0 { 1 } else { 0xff });
        } else {
            target.copy_from_slice(&value);
        }
        if reseal {
            seal::apply(&Scalar, &mut bytes, *at);
        }
        write(disk, *at, &bytes);
    }
}

fn superblock_places(disk: &Disk, chance: &Chance) -> Vec<Bytes> {
    let all: Vec<Bytes> = layout::superblocks(disk.size()).map(|(_, at)| at).collect();
    match chance.below(4) {
        0 if !all.is_empty() => vec![chance.one(&all)],
        _ => all,
    }
}

fn root_places(disk: &Disk) -> Vec<Bytes> {
    layout::rings(disk.size())
        .filter_map(|ring| layout::slot_at(ring, 1))
        .collect()
}

/// The mutant of this seed.
pub fn mutant(seed: u64) -> Mutant {
    let chance = Chance::new(seed);
    let (data, parity, count) = chance.one(&[(1, 0, 1), (1, 1, 2), (2, 1, 3), (4, 2, 6)]);
    let mut disks = template(data, parity, count);
    let victims = if chance.below(3) == 0 { count } else { 1 };
    let first = chance.below(count);
    let mut story = format!("{data}+{parity}, {victims} from device {first}:");
    if count > 1 && chance.below(2) == 0 {
        story.push_str(&live_on(&disks, &chance));
    }
    for _ in 0..=chance.below(2) {
        let (what, change) = pick(&chance);
        story.push(' ');
        story.push_str(&what);
        for v in 0..victims {
            change(&mut disks, (first + v) % count, &chance);
        }
    }
    Mutant { disks, story }
}

/// A life with epochs before the damage: some members mounted without the others, perhaps the others without them.
fn live_on(disks: &[Disk], chance: &Chance) -> String {
    let mut told = String::new();
    for round in 0..=chance.below(2) {
        let present = 1 + chance.next() % ((1 << disks.len()) - 1);
        let generation = 2 + chance.next() % 100 + 200 * round as u64;
        let rooted = chance.below(4) != 0;
        let apart = chance.below(4) == 0;
        told.push_str(&format!(
            " epoch of {present:b}, rooted {rooted}, apart {apart};"
        ));
        for (slot, disk) in disks.iter().enumerate() {
            let mine = (present >> slot) & 1 != 0;
            if mine {
                enter_epoch(disk, 0xa0 + round as u8, present, generation, rooted);
            } else if apart {
                let others = !present & ((1 << disks.len()) - 1);
                enter_epoch(disk, 0xb0 + round as u8, others, generation + 7, rooted);
            }
        }
    }
    told
}

type Change = Box<dyn Fn(&mut Vec<Disk>, usize, &Chance)>;

fn pick(chance: &Chance) -> (String, Change) {
    let reseal = chance.below(5) != 0;
    let kind = if reseal { "forged" } else { "damaged" };
    let field_of = |fields: &[(&'static str, usize, usize)]| fields[chance.below(fields.len())];
    let superblock = |name: String, at: usize, length: usize| -> (String, Change) {
        let change = move |disks: &mut Vec<Disk>, i: usize, chance: &Chance| {
            let places = superblock_places(&disks[i], chance);
            forge(
                &disks[i],
                chance,
                &places,
                layout::SUPERBLOCK_SIZE,
                (at, length),
                reseal,
            );
        };
        (name, Box::new(change))
    };
    match chance.below(12) {
        0..=3 => {
            let (name, at, length) = field_of(SUPERBLOCK_FIELDS);
            superblock(format!("superblock {name} {kind};"), at, length)
        }
        4 | 5 => {
            let (name, at, length) = field_of(MEMBER_FIELDS);
            let entry = chance.one(&[0, 1, 2, 5, 6, 63]);
            superblock(
                format!("device entry {entry} {name} {kind};"),
                MEMBERS_AT + entry * 64 + at,
                length,
            )
        }
        6 => {
            let (name, at, length) = field_of(EPOCH_FIELDS);
            let entry = chance.one(&[0, 0, 1, 127]);
            superblock(
                format!("epoch entry {entry} {name} {kind};"),
                EPOCHS_AT + entry * 64 + at,
                length,
            )
        }
        7 => {
            let (name, at, length) = field_of(ROOT_FIELDS);
            let change = move |disks: &mut Vec<Disk>, i: usize, chance: &Chance| {
                forge(
                    &disks[i],
                    chance,
                    &root_places(&disks[i]),
                    layout::ROOT_SIZE,
                    (at, length),
                    reseal,
                );
            };
            (format!("root {name} {kind};"), Box::new(change))
        }
        8 => (
            "random bytes;".to_owned(),
            Box::new(move |disks, i, chance| {
                let at = Bytes(chance.one(&[64u64 << 10, 128 << 10, (8 << 20) + (64 << 10), 0]));
                let mut bytes = vec![0; 4096 * (1 + chance.below(4))];
                bytes.iter_mut().for_each(|b| *b = chance.next() as u8);
                write(&disks[i], at, &bytes);
            }),
        ),
        9 => (
            "truncated;".to_owned(),
            Box::new(move |disks, i, chance| {
                let size = chance.one(&[
                    0u64,
                    4096,
                    65536,
                    81920,
                    1 << 20,
                    8 << 20,
                    9 << 20,
                    (32 << 20) - 4096,
                ]);
                disks[i].resize(Bytes(size));
            }),
        ),
        10 => (
            "swapped or copied;".to_owned(),
            Box::new(move |disks, i, chance| {
                let other = chance.below(disks.len());
                if chance.below(2) == 0 {
                    disks.swap(i, other);
                } else {
                    disks[i] = disks[other].clone();
                }
            }),
        ),
        _ => (
            "foreign or missing;".to_owned(),
            Box::new(move |disks, i, chance| {
                if chance.below(2) == 0 && disks.len() > 1 {
                    disks.remove(i % disks.len());
                    // Later changes still find a device at every number.
                    disks.push(Disk::new(layout::MIN_DEVICE));
                } else {
                    let n = disks.len();
                    let sizes = vec![layout::MIN_DEVICE; n];
                    disks[i] = volume(chance.next(), 1, 0, &sizes).swap_remove(i);
                }
            }),
        ),
    }
}
