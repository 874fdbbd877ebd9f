// SPDX-License-Identifier: GPL-2.0

//! A whole volume, opened to be looked at: its devices for reading, and what they say together.

use crate::failure::Failure;
use embr_engine::env::Environment;
use embr_engine::error::Error;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::Member;
use embr_engine::volume::Volume;
use embrfs_host::busy;
use embrfs_host::device::Claim;
use embrfs_host::machine;
use embrfs_host::machine::Event;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::scan;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use embrfs_host::Identity;
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Devices, what each says, and the volume that they are; the lists go side by side.
pub struct Whole {
    /// The devices.
    pub devices: Vec<FileDevice>,
    /// What they say.
    pub members: Vec<Member>,
    /// The volume.
    pub volume: Volume,
}

/// The devices named, each once; of one alone, also the others of its volume, unless only that is wanted.
pub fn paths(
    named: &[PathBuf],
    only: bool,
    host: &Host,
) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut known: Vec<Identity> = Vec::new();
    for path in named {
        let identity = Identity::of(path).map_err(|why| (path.clone(), why))?;
        if !known.contains(&identity) {
            known.push(identity);
            paths.push(path.clone());
        }
    }
    if let ([single], false) = (paths.as_slice(), only) {
        let volume = FileDevice::open(single, Claim::Shared)
            .ok()
            .and_then(|device| volume::probe(&device, host.hasher()).ok())
            .map(|member| member.superblock.volume);
        if let Some(volume) = volume {
            let others = scan::complete(volume, &known, host.hasher());
            paths.extend(others.iter().map(|f| f.device.path().to_owned()));
        }
    }
    Ok(paths)
}

/// Where one of these is mounted, in words.
pub fn mounted(paths: &[PathBuf]) -> Option<String> {
    paths.iter().find_map(|path| {
        let mount = busy::mounted(path).ok().flatten()?;
        let (path, target) = (path.display(), mount.target.display());
        Some(format!("{path} is mounted at {target}"))
    })
}

/// Why a device has no part in a volume.
pub enum Unfit {
    /// It cannot be opened.
    Open(io::Error),
    /// It says nothing of use.
    Probe(FileDevice, Error),
}

/// Devices that say something of use; the lists go side by side.
#[derive(Default)]
pub struct Gathered {
    /// The devices.
    pub devices: Vec<FileDevice>,
    /// What they say.
    pub members: Vec<Member>,
    /// Which of the paths they are.
    pub paths: Vec<usize>,
}

/// Opens devices for reading, and asks each what it is. `unfit` hears of those that have no part in a volume, and decides whether it
/// goes on without them.
pub fn gather(
    paths: &[PathBuf],
    host: &Host,
    unfit: &mut dyn FnMut(&Path, Unfit) -> Result<(), Failure>,
) -> Result<Gathered, Failure> {
    let mut gathered = Gathered::default();
    for (index, path) in paths.iter().enumerate() {
        let device = match FileDevice::open(path, Claim::Shared) {
            Ok(device) => device,
            Err(why) => {
                unfit(path, Unfit::Open(why))?;
                continue;
            }
        };
        match volume::probe(&device, host.hasher()) {
            Ok(member) => {
                gathered.devices.push(device);
                gathered.members.push(member);
                gathered.paths.push(index);
            }
            Err(why) => unfit(path, Unfit::Probe(device, why))?,
        }
    }
    Ok(gathered)
}

impl Gathered {
    /// Together they are this volume.
    pub fn into_whole(self, volume: Volume) -> Whole {
        Whole {
            devices: self.devices,
            members: self.members,
            volume,
        }
    }
}

/// What hears of damage, and says nothing: whoever asks for what is damaged is told.
fn deaf(_: Event<'_>) {}

/// A process with these devices, which are only read.
pub type Reader<'w> = Process<'w, FileDevice, fn(Event<'_>)>;

impl Whole {
    /// Opens the volume that these devices belong to; `failed` is the exit code where that cannot be.
    pub fn open(named: &[PathBuf], host: &Host, failed: u8) -> Result<Self, Failure> {
        let failure = |path: &Path, why: &dyn Display| {
            Failure::new(failed, "device", format!("{}: {why}", path.display()))
        };
        let all = paths(named, false, host).map_err(|(path, why)| failure(&path, &why))?;
        let gathered = gather(&all, host, &mut |path, why| match why {
            Unfit::Open(why) => Err(failure(path, &why)),
            Unfit::Probe(_, why) => Err(failure(path, &why)),
        })?;
        let names: Vec<_> = all.iter().map(|p| p.display()).collect();
        let volume = assemble(&gathered.members)
            .map_err(|why| Failure::new(failed, "volume", why.explain(&names).to_string()))?;
        Ok(gathered.into_whole(volume))
    }

    /// A process to look at it with, on the members that are current.
    pub fn reader<'w>(&'w self, host: &'w Host) -> Reader<'w> {
        self.reader_of(Slots::of_volume(&self.volume, &self.devices), host)
    }

    /// The same on stale members as well: what was written before they missed something may be on them alone.
    pub fn reader_of_all<'w>(&'w self, host: &'w Host) -> Reader<'w> {
        let here = self.volume.seats().iter().filter_map(|seat| {
            let (Standing::Current(index) | Standing::Stale(index)) = seat.standing else {
                return None;
            };
            let device = self.devices.get(index)?;
            Some((seat.entry.slot, device))
        });
        self.reader_of(Slots::new(here), host)
    }

    fn reader_of<'w>(&'w self, slots: Slots<'w, FileDevice>, host: &'w Host) -> Reader<'w> {
        machine::fetch_journals(self.devices.iter().zip(&self.members));
        Process::new(slots, host, deaf)
    }
}
