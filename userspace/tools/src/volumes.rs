// SPDX-License-Identifier: GPL-2.0

//! Devices that were found, sorted into volumes.

use crate::describe;
use embr_engine::error::Error;
use embr_engine::format::member::Entry;
use embr_engine::format::member::State;
use embr_engine::units::Uuid;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::Member;
use embr_engine::volume::Volume;
use embrfs_host::scan::Found;
use embrfs_host::FileDevice;
use serde_json::json;
use serde_json::Value;

/// The devices of one volume; the two lists go side by side.
pub struct Group {
    /// The volume.
    pub uuid: Uuid,
    /// The devices.
    pub devices: Vec<FileDevice>,
    /// What they say.
    pub members: Vec<Member>,
}

/// A member of a volume, for display.
pub struct Row {
    /// What the volume knows of it.
    pub entry: Entry,
    /// `current`, `stale` or `missing`; `present` where the volume cannot be assembled.
    pub standing: &'static str,
    /// Its path, where it is here.
    pub path: Option<String>,
}

/// Sorts devices into volumes, and gives back apart those that cannot be read as any.
pub fn group(found: Vec<Found>) -> (Vec<Group>, Vec<(FileDevice, Error)>) {
    let mut groups: Vec<Group> = Vec::new();
    let mut broken = Vec::new();
    for Found { device, member } in found {
        let member = match member {
            Ok(member) => member,
            Err(error) => {
                broken.push((device, error));
                continue;
            }
        };
        let uuid = member.superblock.volume;
        match groups.iter_mut().find(|g| g.uuid == uuid) {
            Some(group) => {
                group.devices.push(device);
                group.members.push(member);
            }
            None => groups.push(Group {
                uuid,
                devices: vec![device],
                members: vec![member],
            }),
        }
    }
    (groups, broken)
}

impl Group {
    /// The volume, as the engine sees it.
    // The error carries the members that its message names, without memory of its own.
    #[allow(clippy::result_large_err)]
    pub fn assemble(&self) -> Result<Volume, AssembleError> {
        assemble(&self.members)
    }

    /// The devices' paths.
    pub fn names(&self) -> Vec<String> {
        self.devices
            .iter()
            .map(|d| d.path().display().to_string())
            .collect()
    }

    /// The member with the newest state: its tables are what is shown where the engine assembles nothing.
    pub fn newest(&self) -> Option<&Member> {
        self.members.iter().max_by_key(|m| {
            (
                m.superblock.epoch(m.root.epoch).map_or(0, |e| e.number),
                m.root.generation,
                m.superblock.sequence,
            )
        })
    }

    /// Every member of the volume, here or not.
    pub fn rows(&self, volume: Option<&Volume>) -> Vec<Row> {
        let path = |index: usize| {
            self.devices
                .get(index)
                .map(|d| d.path().display().to_string())
        };
        if let Some(volume) = volume {
            return volume
                .seats()
                .iter()
                .map(|seat| {
                    let (standing, path) = match seat.standing {
                        Standing::Current(index) => ("current", path(index)),
                        Standing::Stale(index) => ("stale", path(index)),
                        Standing::Missing => ("missing", None),
                    };
                    Row {
                        entry: seat.entry,
                        standing,
                        path,
                    }
                })
                .collect();
        }
        let Some(newest) = self.newest() else {
            return Vec::new();
        };
        let members = newest
            .superblock
            .members
            .iter()
            .filter(|e| e.state == State::Member);
        members
            .map(|entry| {
                let here = self
                    .members
                    .iter()
                    .position(|m| m.superblock.device == entry.id);
                Row {
                    entry: *entry,
                    standing: if here.is_some() { "present" } else { "missing" },
                    path: here.and_then(path),
                }
            })
            .collect()
    }

    /// The volume for programs.
    pub fn json(&self) -> Value {
        let assembled = self.assemble();
        let volume = assembled.as_ref().ok();
        let newest = self.newest();
        let rows = self.rows(volume);
        json!({
            "uuid": self.uuid.to_string(),
            "label": newest.map(|m| m.superblock.label.as_str()),
            "geometry": newest.map(|m| describe::geometry_json(m.superblock.geometry)),
            "created": newest.map(|m| describe::time_json(m.superblock.created)),
            "generation": newest.map(|m| m.root.generation.0),
            "epoch": volume.map(|v| describe::epoch_json(v.epoch())),
            "capacity": volume.map(|v| describe::bytes_of(v.capacity())),
            "state": state(&assembled),
            "problem": assembled.as_ref().err().map(|e| e.explain(&self.names()).to_string()),
            "devices": rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }
}

/// A volume's state in a word.
pub fn state(assembled: &Result<Volume, AssembleError>) -> &'static str {
    match assembled {
        Ok(volume) if volume.missing().any() => "degraded",
        Ok(_) => "complete",
        Err(AssembleError::TooManyMissing { .. }) => "incomplete",
        Err(_) => "conflict",
    }
}

impl Row {
    /// The member for programs.
    pub fn json(&self) -> Value {
        let mut value = describe::entry_json(&self.entry);
        if let Some(object) = value.as_object_mut() {
            object.insert("standing".to_owned(), json!(self.standing));
            object.insert("path".to_owned(), json!(self.path));
        }
        value
    }
}
