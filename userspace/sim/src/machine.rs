// SPDX-License-Identifier: GPL-2.0

//! A machine of simulated drives, and the two things one does with it: make a volume, and mount it.

use crate::fleet::Fleet;
use crate::host::Chance;
use crate::host::Host;
use embr_engine::env::DeviceError;
use embr_engine::env::Environment as _;
use embr_engine::format::geometry::Geometry;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::format::superblock::BlockHash;
use embr_engine::format::superblock::Label;
use embr_engine::repair;
use embr_engine::tree::nodes::Events;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::create;
use embr_engine::volume::probe;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Member;
use embr_engine::volume::Mounted;
use embr_rt::Box;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What a mounted volume said of its nodes.
#[derive(Debug, Default)]
pub struct Heard {
    repaired: AtomicU64,
    lost: AtomicU64,
    epochs: AtomicU64,
}

impl Heard {
    /// Bad copies of nodes that were overwritten.
    pub fn repaired(&self) -> u64 {
        self.repaired.load(Ordering::Relaxed)
    }

    /// Epochs that began.
    pub fn epochs(&self) -> u64 {
        self.epochs.load(Ordering::Relaxed)
    }

    /// Nodes of which no copy was sound.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Events for Heard {
    fn repaired(&self, _: TreeId, _: Slot, _: Bytes) {
        self.repaired.fetch_add(1, Ordering::Relaxed);
    }

    fn unrepaired(&self, _: TreeId, _: Slot, _: Bytes, _: DeviceError) {}

    fn lost(&self, _: &TreeError, _: Range) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn members(&self, _: Members, _: Members, _: usize) {
        self.epochs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Simulated drives, and chance and time from a seed.
pub struct Simulated {
    fleet: Fleet,
    host: Host,
    heard: Heard,
}

impl Simulated {
    /// A machine with these drives.
    pub fn new(seed: u64, fleet: &Fleet) -> Self {
        Simulated {
            fleet: fleet.clone(),
            host: Host::new(seed),
            heard: Heard::default(),
        }
    }

    /// What the volume said.
    pub fn heard(&self) -> &Heard {
        &self.heard
    }
}

impl Machine for Simulated {
    type Devices = Fleet;
    type Environment = Host;
    type Events = Heard;

    fn devices(&self) -> &Fleet {
        &self.fleet
    }

    fn environment(&self) -> &Host {
        &self.host
    }

    fn events(&self) -> &Heard {
        &self.heard
    }
}

/// Makes a volume of all drives.
pub fn make(seed: u64, fleet: &Fleet, geometry: Geometry) -> Result<(), String> {
    make_in(seed, fleet, geometry, &[])
}

/// The same with drives in these failure domains.
pub fn make_in(
    seed: u64,
    fleet: &Fleet,
    geometry: Geometry,
    domains: &[u32],
) -> Result<(), String> {
    let host = Host::new(seed);
    let drives = fleet.drives();
    let sizes: Vec<Bytes> = drives.iter().map(embr_engine::env::Device::size).collect();
    let options = create::Options {
        geometry,
        block_hash: BlockHash::Short,
        label: Label::new("").ok_or("no label")?,
        uuid: None,
    };
    let plan = create::Plan::new(&host, options, &sizes).map_err(|why| why.to_string())?;
    let plan = plan.in_domains(domains);
    for (index, drive) in drives.iter().enumerate() {
        plan.wipe(index, drive).map_err(|why| why.to_string())?;
    }
    for (index, drive) in drives.iter().enumerate() {
        plan.write(index, &host, drive)
            .map_err(|why| why.to_string())?;
    }
    Ok(())
}

/// What every test mounts with, unless it is about these numbers.
pub const READ_WRITE: Options = Options {
    read_only: false,
    degraded: true,
    cache: Bytes(4 << 20),
    dirty: Bytes(16 << 20),
};

/// Why drives do not make a mounted volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// What a drive holds makes no sense.
    Drive(Slot, embr_engine::Error),
    /// They are no volume.
    Volume(std::boxed::Box<AssembleError>),
    /// The volume is not mounted.
    Mount(Fault),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Drive(slot, why) => write!(f, "drive {}: {why}", slot.index()),
            Refused::Volume(why) => write!(f, "{why:?}"),
            Refused::Mount(why) => why.fmt(f),
        }
    }
}

/// The members on the drives that answer.
fn members(machine: &Simulated) -> Result<Vec<Member>, Refused> {
    let mut members = Vec::new();
    for drive in machine.fleet.drives() {
        match probe(&drive, machine.host.hasher()) {
            Ok(member) => members.push(member),
            Err(embr_engine::Error::Read(..)) => {}
            Err(why) => return Err(Refused::Drive(drive.slot(), why)),
        }
    }
    Ok(members)
}

/// Mounts the volume on the drives that answer. It may discard what is freed, by the seed.
pub fn mount(seed: u64, fleet: &Fleet, options: Options) -> Result<Mounted<Simulated>, String> {
    try_to_mount(seed, fleet, options).map_err(|why| why.to_string())
}

/// The same, for who asks why it is refused.
pub fn try_to_mount(
    seed: u64,
    fleet: &Fleet,
    options: Options,
) -> Result<Mounted<Simulated>, Refused> {
    let mounted = open(seed, fleet, options)?;
    let chance = Chance::new(!seed);
    if chance.below(2) == 0 {
        mounted.set_discard(Some(Blocks(chance.one(&[1, 1, 4, 8]))));
    }
    Ok(mounted)
}

/// Mounts the volume on the drives that answer, and discards nothing.
pub fn mount_plain(
    seed: u64,
    fleet: &Fleet,
    options: Options,
) -> Result<Mounted<Simulated>, String> {
    open(seed, fleet, options).map_err(|why| why.to_string())
}

fn open(seed: u64, fleet: &Fleet, options: Options) -> Result<Mounted<Simulated>, Refused> {
    let machine = Simulated::new(seed, fleet);
    let members = members(&machine)?;
    let volume = assemble(&members).map_err(|why| Refused::Volume(why.into()))?;
    let mounted = Mounted::open(machine, &volume, &members, options);
    let mounted = mounted.map(Box::into_inner).map_err(Refused::Mount)?;
    assert!(
        mounted.ledger().balanced,
        "{:?}: more is promised than there is",
        mounted.ledger()
    );
    Ok(mounted)
}

/// Mounts the volume to be repaired; `observer` hears what is done about its free space.
pub fn open_to_repair(
    seed: u64,
    fleet: &Fleet,
    check: &embr_engine::check::Options<'_>,
    observer: &mut impl repair::Observer,
) -> Result<Mounted<Simulated>, String> {
    let machine = Simulated::new(seed, fleet);
    let members = members(&machine).map_err(|why| why.to_string())?;
    let volume = assemble(&members).map_err(|why| format!("{why:?}"))?;
    let mounted = repair::open(machine, &volume, &members, READ_WRITE, check, observer);
    let mounted = mounted.map(Box::into_inner);
    mounted.map_err(|why| why.to_string())
}

/// Mounts the volume to be checked; an error where already that finds something wrong.
pub fn inspect(seed: u64, fleet: &Fleet) -> Result<Mounted<Simulated>, String> {
    let mut told = None;
    let mounted = inspect_telling(seed, fleet, &mut |why| told = Some(why))?;
    match told {
        Some(why) => Err(why.to_string()),
        None => Ok(mounted),
    }
}

/// Mounts the volume to be checked; `tell` hears what is wrong already then.
pub fn inspect_telling(
    seed: u64,
    fleet: &Fleet,
    tell: &mut dyn FnMut(Fault),
) -> Result<Mounted<Simulated>, String> {
    let machine = Simulated::new(seed, fleet);
    let members = members(&machine).map_err(|why| why.to_string())?;
    let volume = assemble(&members).map_err(|why| format!("{why:?}"))?;
    let mounted = Mounted::inspect(machine, &volume, &members, READ_WRITE.cache, tell);
    let mounted = mounted.map(Box::into_inner);
    mounted.map_err(|why| why.to_string())
}
