// SPDX-License-Identifier: GPL-2.0

//! Who uses a device right now. The kernel alone decides that (an exclusive open fails); this finds out whom to name.

use crate::device::Claim;
use crate::device::FileDevice;
use crate::identity::Identity;
use crate::mounts;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// What a device is in use as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Use {
    /// Mounted here, as this type.
    Mounted(PathBuf, String),
    /// Swapped to.
    Swap,
    /// Part of another block device: device mapper, md, bcache, or a loop device over an image file.
    Under(String),
    /// A partition of it is in use.
    Partition(String, Box<Use>),
    /// Claimed by something that does not show where.
    Claimed,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Use::Mounted(at, kind) => write!(f, "mounted at {} ({kind}): unmount it first", at.display()),
            Use::Swap => f.write_str("in use as swap: run swapoff first"),
            Use::Under(name) => write!(f, "in use by /dev/{name}: stop that first"),
            Use::Partition(name, of) => write!(f, "its partition /dev/{name} is {of}"),
            Use::Claimed => f.write_str(
                "in use: the kernel refuses exclusive access (a mounted filesystem of several devices, or another \
                 program, holds it)",
            ),
        }
    }
}

/// What `path` is in use as, if it is.
pub fn in_use(path: &Path) -> io::Result<Option<Use>> {
    let identity = Identity::of(path)?;
    if let Some(named) = named_use(identity, path) {
        return Ok(Some(named));
    }
    if !identity.is_block() {
        return Ok(None);
    }
    if let Some(inside) = partition_in_use(identity) {
        return Ok(Some(inside));
    }
    match FileDevice::open(path, Claim::Exclusive) {
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Ok(Some(Use::Claimed)),
        Err(error) => Err(error),
    }
}

/// Where `path` is mounted, if it is.
pub fn mounted(path: &Path) -> io::Result<Option<mounts::Mount>> {
    let identity = Identity::of(path)?;
    Ok(mounts::mounts()
        .unwrap_or_default()
        .into_iter()
        .find(|m| m.uses(identity)))
}

fn named_use(identity: Identity, path: &Path) -> Option<Use> {
    let mounted = mounts::mounts()
        .unwrap_or_default()
        .into_iter()
        .find(|m| m.uses(identity));
    if let Some(mount) = mounted {
        return Some(Use::Mounted(mount.target, mount.kind));
    }
    if swaps()
        .iter()
        .any(|swap| Identity::of(swap).is_ok_and(|id| id == identity))
    {
        return Some(Use::Swap);
    }
    holder(identity, path).map(Use::Under)
}

fn swaps() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/swaps").unwrap_or_default();
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .map(PathBuf::from)
        .collect()
}

fn names_in(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .collect()
}

/// The block device that lies on this one.
fn holder(identity: Identity, path: &Path) -> Option<String> {
    let above = identity
        .sysfs()
        .and_then(|dir| names_in(&dir.join("holders")).into_iter().next());
    above.or_else(|| loop_over(identity, path))
}

/// The loop device over this file or device. It holds neither in a way that the kernel would show to others.
fn loop_over(identity: Identity, path: &Path) -> Option<String> {
    let real = fs::canonicalize(path).ok();
    names_in(Path::new("/sys/block")).into_iter().find(|name| {
        let file = Path::new("/sys/block").join(name).join("loop/backing_file");
        let Ok(text) = fs::read_to_string(file) else {
            return false;
        };
        let backing = Path::new(text.strip_suffix('\n').unwrap_or(&text));
        // Another name of the file is as good; one that cannot be reached from here has its path only.
        Some(backing) == real.as_deref() || Identity::of(backing).is_ok_and(|id| id == identity)
    })
}

fn partition_in_use(disk: Identity) -> Option<Use> {
    let dir = disk.sysfs()?;
    names_in(&dir).into_iter().find_map(|name| {
        let inside = dir.join(&name);
        if !inside.join("partition").exists() {
            return None;
        }
        let identity =
            crate::identity::parse_number(&fs::read_to_string(inside.join("dev")).ok()?)?;
        let used = named_use(identity, Path::new(""))?;
        Some(Use::Partition(name, Box::new(used)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_image_is_free() {
        let path = std::env::temp_dir().join(format!("embrfs-busy-{}", std::process::id()));
        fs::File::create(&path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(in_use(&path).unwrap(), None);
        fs::remove_file(path).unwrap();
    }
}
