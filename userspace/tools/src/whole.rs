// SPDX-License-Identifier: GPL-2.0

//! A whole volume, opened to be looked at: its devices for reading, and what they say together.

use crate::failure::Failure;
use embr_engine::env::Environment;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::Member;
use embr_engine::volume::Volume;
use embrfs_host::device::Claim;
use embrfs_host::scan;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use embrfs_host::Identity;
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
) -> Result<Vec<PathBuf>, (PathBuf, std::io::Error)> {
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

impl Whole {
    /// Opens the volume that these devices belong to; `failed` is the exit code where that cannot be.
    pub fn open(named: &[PathBuf], host: &Host, failed: u8) -> Result<Self, Failure> {
        let failure = |path: &Path, why: &dyn std::fmt::Display| {
            Failure::new(failed, "device", format!("{}: {why}", path.display()))
        };
        let all = paths(named, false, host).map_err(|(path, why)| failure(&path, &why))?;
        let (mut devices, mut members) = (Vec::new(), Vec::new());
        for path in &all {
            let device =
                FileDevice::open(path, Claim::Shared).map_err(|why| failure(path, &why))?;
            let member = volume::probe(&device, host.hasher());
            members.push(member.map_err(|why| failure(path, &why))?);
            devices.push(device);
        }
        let names: Vec<_> = all.iter().map(|p| p.display()).collect();
        let volume = assemble(&members)
            .map_err(|why| Failure::new(failed, "volume", why.explain(&names).to_string()))?;
        Ok(Whole {
            devices,
            members,
            volume,
        })
    }
}
