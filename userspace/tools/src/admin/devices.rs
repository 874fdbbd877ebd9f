// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin devices`: which embrfs devices there are, and how each stands in its volume.

use super::open;
use super::TROUBLE;
use crate::describe;
use crate::failure::Failure;
use crate::output;
use crate::say;
use crate::volumes;
use crate::volumes::Group;
use embr_engine::env::Environment;
use embr_engine::error::Error;
use embr_engine::volume;
use embrfs_host::scan;
use embrfs_host::scan::Found;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use serde_json::json;
use std::path::PathBuf;

pub(super) fn run(paths: &[PathBuf], as_json: bool, host: &Host) -> Result<u8, Failure> {
    let mut found = Vec::new();
    if paths.is_empty() {
        found = scan::all(host.hasher());
    }
    for path in paths {
        let device = open(path)?;
        let member = volume::probe(&device, host.hasher());
        found.push(Found { device, member });
    }
    let (groups, broken) = volumes::group(found);
    if as_json {
        output::document(&json!({
            "ok": true,
            "volumes": groups.iter().map(Group::json).collect::<Vec<_>>(),
            "unusable": broken.iter().map(|(device, error)| json!({
                "path": device.path().display().to_string(), "problem": error.to_string(),
            })).collect::<Vec<_>>(),
        }));
    } else {
        groups.iter().for_each(show);
        broken
            .iter()
            .for_each(|(device, error): &(FileDevice, Error)| say!("{}", device.explain(error)));
        if groups.is_empty() && broken.is_empty() {
            say!("no embrfs devices found");
        }
    }
    let sound = broken.is_empty()
        && groups
            .iter()
            .all(|g| volumes::state(&g.assemble()) == "complete");
    Ok(if sound { 0 } else { TROUBLE })
}

/// A volume and its devices.
pub(super) fn show(group: &Group) {
    let assembled = group.assemble();
    let newest = group.newest();
    let label = newest.map_or("", |m| m.superblock.label.as_str());
    let label = if label.is_empty() {
        String::new()
    } else {
        format!("  \"{label}\"")
    };
    let geometry = newest.map_or_else(String::new, |m| format!("  {}", m.superblock.geometry));
    say!(
        "volume {}{label}{geometry}  {}",
        group.uuid,
        volumes::state(&assembled)
    );
    for row in group.rows(assembled.as_ref().ok()) {
        say!(
            "  {:>3}  {:<8} {:>10}  {}  {}",
            row.entry.id,
            row.standing,
            describe::size(row.entry.bytes()),
            row.entry.uuid,
            row.path.as_deref().unwrap_or("-")
        );
    }
    if let Err(error) = &assembled {
        say!("  {}", error.explain(&group.names()));
    }
}
