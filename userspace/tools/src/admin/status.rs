// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin status`: how a volume is. Of a mounted one the kernel is asked, of others the devices.

use super::devices;
use super::open;
use super::FAILED;
use super::TROUBLE;
use crate::describe;
use crate::failure::Failure;
use crate::output;
use crate::say;
use crate::volumes;
use crate::volumes::Group;
use embr_engine::env::Environment;
use embr_engine::format::geometry::Geometry;
use embr_engine::units::Bytes;
use embr_engine::volume;
use embrfs_host::busy;
use embrfs_host::device::Claim;
use embrfs_host::info;
use embrfs_host::info::Info;
use embrfs_host::info::Traffic;
use embrfs_host::mounts;
use embrfs_host::mounts::Mount;
use embrfs_host::scan;
use embrfs_host::scan::Found;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use embrfs_host::Identity;
use serde_json::json;
use serde_json::Value;
use std::path::Path;

/// What is known of one volume.
struct Status {
    mount: Option<Mount>,
    info: Option<Info>,
    group: Option<Group>,
}

pub(super) fn run(path: Option<&Path>, as_json: bool, host: &Host) -> Result<u8, Failure> {
    let all = match path {
        None => mounted(host)?,
        Some(path) if Identity::of(path).is_ok_and(Identity::is_block) => {
            vec![of_device(path, host)?]
        }
        Some(path) => vec![of_path(path, host)?],
    };
    if as_json {
        output::document(
            &json!({ "ok": true, "volumes": all.iter().map(Status::json).collect::<Vec<_>>() }),
        );
    } else if all.is_empty() {
        say!("no embrfs volume is mounted; 'embrfs-admin devices' lists those that could be");
    } else {
        for (index, status) in all.iter().enumerate() {
            if index > 0 {
                say!();
            }
            status.show();
        }
    }
    Ok(if all.iter().all(Status::healthy) {
        0
    } else {
        TROUBLE
    })
}

/// Every mounted volume once, however often it is mounted.
fn mounted(host: &Host) -> Result<Vec<Status>, Failure> {
    let mut seen = Vec::new();
    let mounts = mounts::mounts()
        .map_err(|e| Failure::new(FAILED, "system", format!("/proc/self/mountinfo: {e}")))?;
    let mut all = Vec::new();
    for mount in mounts.into_iter().filter(|m| m.kind == "embrfs") {
        if !seen.contains(&mount.device) {
            seen.push(mount.device);
            all.push(of_mount(mount, host)?);
        }
    }
    Ok(all)
}

fn of_mount(mount: Mount, host: &Host) -> Result<Status, Failure> {
    let info = info::ask(&mount.target)
        .map_err(|e| Failure::new(FAILED, "mount", format!("{}: {e}", mount.target.display())))?;
    let found: Vec<Found> = mount
        .devices()
        .filter_map(|path| FileDevice::open(&path, Claim::Shared).ok())
        .map(|device| Found {
            member: volume::probe(&device, host.hasher()),
            device,
        })
        .collect();
    let group = volumes::group(found).0.into_iter().next();
    Ok(Status {
        mount: Some(mount),
        info,
        group,
    })
}

/// A device of a volume, mounted or not.
fn of_device(path: &Path, host: &Host) -> Result<Status, Failure> {
    let mount = busy::mounted(path)
        .ok()
        .flatten()
        .filter(|m| m.kind == "embrfs");
    if let Some(mount) = mount {
        return of_mount(mount, host);
    }
    let device = open(path)?;
    let member = volume::probe(&device, host.hasher());
    let member = member.map_err(|e| Failure::new(FAILED, "device", device.explain(&e)))?;
    let others = scan::complete(
        member.superblock.volume,
        &[device.identity()],
        host.hasher(),
    );
    let found = std::iter::once(Found {
        device,
        member: Ok(member),
    })
    .chain(others)
    .collect();
    Ok(Status {
        mount: None,
        info: None,
        group: volumes::group(found).0.into_iter().next(),
    })
}

/// An image file, or anything within a mounted volume.
fn of_path(path: &Path, host: &Host) -> Result<Status, Failure> {
    let failed = |text: String| Failure::new(FAILED, "path", format!("{}: {text}", path.display()));
    let info = info::ask(path).map_err(|e| failed(e.to_string()))?;
    if info.is_some() {
        let whole = std::fs::canonicalize(path).map_err(|e| failed(e.to_string()))?;
        let mounts = mounts::mounts().unwrap_or_default();
        // The innermost mount that holds it; of several at one place, the last.
        let mount = mounts
            .into_iter()
            .filter(|m| m.kind == "embrfs" && whole.starts_with(&m.target))
            .max_by_key(|m| m.target.components().count());
        return match mount {
            Some(mount) => of_mount(mount, host),
            None => Ok(Status {
                mount: None,
                info,
                group: None,
            }),
        };
    }
    if path.is_file() {
        return of_device(path, host);
    }
    Err(failed("not on an embrfs volume".to_owned()))
}

impl Status {
    fn healthy(&self) -> bool {
        match (&self.info, &self.group) {
            (Some(info), _) => !info.degraded && !info.shut_down,
            (None, Some(group)) => volumes::state(&group.assemble()) == "complete",
            (None, None) => false,
        }
    }

    fn state(&self) -> &'static str {
        match (&self.info, &self.group) {
            (Some(info), _) if info.shut_down => "shut down",
            (Some(info), _) if info.degraded => "degraded",
            (Some(_), _) => "complete",
            (None, Some(group)) => volumes::state(&group.assemble()),
            (None, None) => "unknown",
        }
    }

    fn show(&self) {
        if let Some(group) = &self.group {
            devices::show(group);
        } else if let Some(info) = &self.info {
            say!(
                "volume {}  {}+{}  {}",
                info.uuid,
                info.data,
                info.parity,
                self.state()
            );
        }
        match &self.mount {
            Some(mount) => {
                let how = if mount.read_only() {
                    "read-only"
                } else {
                    "read-write"
                };
                say!(
                    "mounted     {} ({how}), {}",
                    mount.target.display(),
                    self.state()
                );
            }
            None => say!("mounted     no"),
        }
        if let Some(info) = &self.info {
            self.show_info(info);
        } else if let Some(volume) = self.group.as_ref().and_then(|g| g.assemble().ok()) {
            say!(
                "room        {} for file data",
                describe::blocks(volume.capacity())
            );
            say!(
                "may be lost {}",
                left(volume.geometry(), volume.missing().count())
            );
            say!(
                "epoch       {}, generation {}",
                volume.epoch().number,
                volume.generation()
            );
        }
    }

    fn show_info(&self, info: &Info) {
        let used = info.capacity.saturating_sub(info.free);
        match info.read_only && info.free == 0 {
            // Who never writes does not look for it.
            true => say!(
                "room        {}; what of it is free is not known while it is mounted read-only",
                describe::size(Bytes(info.capacity))
            ),
            false => say!(
                "room        {} used of {}, {} free",
                describe::size(Bytes(used)),
                describe::size(Bytes(info.capacity)),
                describe::size(Bytes(info.free))
            ),
        }
        if let Some(traffic) = info.traffic.as_ref().filter(|t| t.written != 0) {
            self.show_traffic(traffic);
        }
        say!(
            "members     {} of {} here and up to date",
            info.current,
            info.members
        );
        if let Ok(geometry) = Geometry::new(info.data, info.parity) {
            say!("may be lost {}", left(geometry, info.absent));
        }
        say!(
            "epoch       {}, generation {}",
            info.epoch_number,
            info.generation
        );
    }

    fn show_traffic(&self, traffic: &Traffic) {
        let all = traffic.written.saturating_add(traffic.moved);
        say!(
            "written     {} since the mount, {} of it again to have room ({:.2} times in all), which freed {} of devices",
            describe::size(Bytes(traffic.written)),
            describe::size(Bytes(traffic.moved)),
            all as f64 / traffic.written as f64,
            describe::size(Bytes(traffic.regained))
        );
    }

    fn json(&self) -> Value {
        json!({
            "state": self.state(),
            "healthy": self.healthy(),
            "mounted_at": self.mount.as_ref().map(|m| m.target.display().to_string()),
            "read_only": self.info.as_ref().map(|i| i.read_only),
            "kernel": self.info.as_ref().map(|i| json!({
                "uuid": i.uuid.to_string(),
                "label": i.label,
                "geometry": { "data": i.data, "parity": i.parity },
                "epoch_number": i.epoch_number,
                "generation": i.generation,
                "capacity": i.capacity,
                "free": i.free,
                "members": i.members,
                "current": i.current,
                "absent": i.absent,
                "written": i.traffic.as_ref().map(|t| t.written),
                "moved": i.traffic.as_ref().map(|t| t.moved),
                "regained": i.traffic.as_ref().map(|t| t.regained),
            })),
            "volume": self.group.as_ref().map(Group::json),
        })
    }
}

/// What may be lost now, after what is missing already.
fn left(geometry: Geometry, missing: u32) -> String {
    if missing == 0 {
        return describe::tolerance(geometry);
    }
    match u32::from(geometry.parity()).checked_sub(missing) {
        None => "too much is missing to read everything".to_owned(),
        Some(0) => format!(
            "nothing more: {missing} of {} are missing already",
            geometry.parity()
        ),
        Some(more) => format!("{more} more; {missing} are missing already"),
    }
}
