// SPDX-License-Identifier: GPL-2.0

//! Finding embrfs devices on the machine: every block device that has an embrfs superblock, with what it says. Whether they
//! make a volume is the engine's to decide.

use crate::device::Claim;
use crate::device::FileDevice;
use crate::identity::parse_number;
use crate::identity::Identity;
use embr_engine::env::Hasher;
use embr_engine::error::Error;
use embr_engine::error::Kind;
use embr_engine::units::Uuid;
use embr_engine::volume;
use embr_engine::volume::Member;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// A device that holds, or held, part of an embrfs volume.
#[derive(Debug)]
pub struct Found {
    /// The device, open for reading.
    pub device: FileDevice,
    /// What it says, or what is wrong with it.
    pub member: Result<Member, Error>,
}

impl Found {
    /// The volume it belongs to, where that can be read.
    pub fn volume(&self) -> Option<Uuid> {
        self.member.as_ref().ok().map(|m| m.superblock.volume)
    }
}

/// Reads one device; none where it holds nothing of embrfs or cannot be opened at all.
fn look(path: &Path, hasher: &impl Hasher) -> Option<Found> {
    let device = FileDevice::open(path, Claim::Shared).ok()?;
    let member = volume::probe(&device, hasher);
    match &member {
        Err(error) if matches!(error.kind(), Kind::NotEmbrfs | Kind::Io) => None,
        _ => Some(Found { device, member }),
    }
}

/// Every embrfs device of the machine, by name. A device that only serves as part of another one (under device mapper or
/// md) is left out: the upper one is the real thing.
pub fn all(hasher: &impl Hasher) -> Vec<Found> {
    block_devices()
        .iter()
        .filter_map(|path| look(path, hasher))
        .collect()
}

/// Adds to `paths` every other device of the machine that belongs to `volume`.
pub fn complete(volume: Uuid, known: &[Identity], hasher: &impl Hasher) -> Vec<Found> {
    let mut found = all(hasher);
    found.retain(|f| f.volume() == Some(volume) && !known.contains(&f.device.identity()));
    found
}

/// The machine's block devices, without empty ones and those beneath others.
fn block_devices() -> Vec<PathBuf> {
    let mut names: Vec<(String, Identity)> = Vec::new();
    match fs::read_dir("/sys/class/block") {
        Ok(entries) => {
            for entry in entries.flatten() {
                let dir = entry.path();
                let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
                let beneath = fs::read_dir(dir.join("holders"))
                    .is_ok_and(|mut holders| holders.next().is_some());
                if read("size").trim() == "0" || beneath {
                    continue;
                }
                if let (Ok(name), Some(identity)) =
                    (entry.file_name().into_string(), parse_number(&read("dev")))
                {
                    names.push((name, identity));
                }
            }
        }
        // Without sysfs there is the kernel's plain list: major minor blocks name.
        Err(_) => {
            let text = fs::read_to_string("/proc/partitions").unwrap_or_default();
            for line in text.lines() {
                let fields: Vec<&str> = line.split_whitespace().collect();
                if let [major, minor, _, name] = fields.as_slice() {
                    if let Some(identity) = parse_number(&format!("{major}:{minor}")) {
                        names.push(((*name).to_owned(), identity));
                    }
                }
            }
        }
    }
    // Numbers within names in their order: vdb before vdaa, nvme2n1 before nvme10n1.
    names.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    names
        .into_iter()
        .filter_map(|(name, identity)| node(&name, identity))
        .collect()
}

/// The device's node in /dev: usually by its own name, where a slash is written as an exclamation mark.
fn node(name: &str, identity: Identity) -> Option<PathBuf> {
    let path = Path::new("/dev").join(name.replace('!', "/"));
    if Identity::of(&path).ok()? != identity {
        return None;
    }
    Some(
        pretty(name)
            .filter(|p| Identity::of(p).is_ok_and(|id| id == identity))
            .unwrap_or(path),
    )
}

/// Device mapper's own names say more than dm-3.
fn pretty(name: &str) -> Option<PathBuf> {
    let label =
        fs::read_to_string(Path::new("/sys/class/block").join(name).join("dm/name")).ok()?;
    Some(Path::new("/dev/mapper").join(label.trim()))
}
