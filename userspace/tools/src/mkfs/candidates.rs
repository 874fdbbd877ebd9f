// SPDX-License-Identifier: GPL-2.0

//! The devices that were named: are they what they should be, free, and empty? All that is wrong is told at once.

use super::FAILED;
use crate::cli::mkfs::Args;
use crate::describe;
use crate::failure::Failure;
use embr_engine::env::Device;
use embr_engine::env::Hasher;
use embr_engine::units::Bytes;
use embr_engine::units::Uuid;
use embrfs_host::busy;
use embrfs_host::device::Claim;
use embrfs_host::scan;
use embrfs_host::signature;
use embrfs_host::signature::Signature;
use embrfs_host::FileDevice;
use embrfs_host::Identity;
use embrfs_host::WritableFileDevice;
use serde_json::json;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Devices opened for writing, claimed.
pub(super) type Opened = Vec<WritableFileDevice>;

/// A device that may become a member.
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// None for an image file that does not exist yet.
    pub(super) identity: Option<Identity>,
    /// Its size, after growing where that was asked for.
    pub(super) size: Bytes,
    /// What is on it.
    pub(super) holds: Vec<Signature>,
}

/// Why a device is refused.
struct Refusal {
    path: PathBuf,
    kind: &'static str,
    reason: String,
    advice: Option<&'static str>,
    details: Value,
}

/// Looks at all devices, and refuses all at once if any is unfit.
pub(super) fn examine(args: &Args) -> Result<Vec<Candidate>, Failure> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut refused: Vec<Refusal> = Vec::new();
    for path in &args.devices {
        let refuse = |kind, reason: String, advice| Refusal {
            path: path.clone(),
            kind,
            reason,
            advice,
            details: Value::Null,
        };
        let candidate = match look(path, args) {
            Ok(candidate) => candidate,
            Err(error) => {
                let advice = (error.kind() == io::ErrorKind::NotFound && args.size.is_none())
                    .then_some("check the name; --size makes an image file");
                refused.push(refuse("device", error.to_string(), advice));
                continue;
            }
        };
        if let Some(clash) = candidates
            .iter()
            .find_map(|other| overlap(&candidate, other))
        {
            refused.push(refuse("duplicate", clash, Some("name every device once")));
            continue;
        }
        if let Some(reason) = in_use(&candidate) {
            refused.push(refuse(
                "busy",
                reason,
                Some("--force does not override this"),
            ));
        } else if !candidate.holds.is_empty() && !args.force {
            let list: Vec<String> = candidate.holds.iter().map(Signature::to_string).collect();
            let details = candidate
                .holds
                .iter()
                .map(|s| json!({ "name": s.name, "at": s.at }))
                .collect::<Vec<_>>();
            let advice = Some("if what it holds may be lost, use --force");
            let reason = format!("holds {}", list.join(", "));
            refused.push(Refusal {
                details: json!(details),
                ..refuse("signature", reason, advice)
            });
        }
        candidates.push(candidate);
    }
    match told(&refused) {
        Some(failure) => Err(failure),
        None => Ok(candidates),
    }
}

/// All refusals as one failure.
fn told(refused: &[Refusal]) -> Option<Failure> {
    let first = refused.first()?;
    let lines: Vec<String> = refused
        .iter()
        .map(|r| format!("{}: {}", r.path.display(), r.reason))
        .collect();
    let message = match lines.as_slice() {
        [one] => one.clone(),
        many => format!(
            "{} devices are refused:\n  {}",
            many.len(),
            many.join("\n  ")
        ),
    };
    let mut failure = Failure::new(FAILED, first.kind, message).with(json!({
        "devices": refused.iter().map(|r| json!({
            "path": r.path.display().to_string(), "kind": r.kind, "reason": r.reason, "signatures": r.details,
        })).collect::<Vec<_>>(),
    }));
    for advice in refused.iter().filter_map(|r| r.advice) {
        if !failure.advice.iter().any(|a| a == advice) {
            failure = failure.advise(advice);
        }
    }
    Some(failure)
}

fn look(path: &Path, args: &Args) -> io::Result<Candidate> {
    let device = match FileDevice::open(path, Claim::Shared) {
        Ok(device) => device,
        Err(error) => {
            return match args.size {
                Some(size) if error.kind() == io::ErrorKind::NotFound => Ok(Candidate {
                    path: path.to_owned(),
                    identity: None,
                    size,
                    holds: Vec::new(),
                }),
                _ => Err(error),
            }
        }
    };
    let identity = device.identity();
    let mut size = device.size();
    if let Some(wanted) = args.size {
        if identity.is_block() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a block device has its size; --size is for image files",
            ));
        }
        size = size.max(wanted);
    }
    Ok(Candidate {
        path: path.to_owned(),
        identity: Some(identity),
        size,
        holds: signature::detect(&device)?,
    })
}

/// The same device by another path, or a disk and a partition of it.
fn overlap(a: &Candidate, b: &Candidate) -> Option<String> {
    let same = match (a.identity, b.identity) {
        (Some(a), Some(b)) => a == b,
        // Neither exists yet.
        _ => a.path == b.path,
    };
    if same {
        return Some(if a.path == b.path {
            "named twice".to_owned()
        } else {
            format!("the same device as {}", b.path.display())
        });
    }
    let (ia, ib) = (a.identity?, b.identity?);
    if ia.whole_disk() == Some(ib) {
        Some(format!("a partition of {}", b.path.display()))
    } else if ib.whole_disk() == Some(ia) {
        Some(format!("{} is a partition of it", b.path.display()))
    } else {
        None
    }
}

fn in_use(candidate: &Candidate) -> Option<String> {
    candidate.identity?;
    match busy::in_use(&candidate.path) {
        Ok(found) => found.map(|u| u.to_string()),
        Err(error) => Some(format!("whether it is in use cannot be told: {error}")),
    }
}

/// A second volume with the UUID of one that lies elsewhere would be taken for a part of it.
pub(super) fn refuse_known_uuid(
    uuid: Uuid,
    candidates: &[Candidate],
    hasher: &impl Hasher,
) -> Result<(), Failure> {
    let given: Vec<Identity> = candidates.iter().filter_map(|c| c.identity).collect();
    match scan::complete(uuid, &given, hasher).first() {
        None => Ok(()),
        Some(found) => Err(Failure::new(
            FAILED,
            "uuid",
            format!(
                "{} belongs to a volume with the UUID {uuid}",
                found.device.path().display()
            ),
        )
        .advise("choose another UUID, or leave --uuid out for a random one")),
    }
}

/// Opens and claims every device for writing; image files are made and grown here.
pub(super) fn open<'a>(
    args: &Args,
    candidates: impl Iterator<Item = &'a Candidate>,
) -> Result<Opened, Failure> {
    let mut opened = Opened::new();
    for candidate in candidates {
        let path = &candidate.path;
        let failed = |what: &str, error: io::Error| {
            Failure::new(
                FAILED,
                "device",
                format!("{}: cannot {what}: {error}", path.display()),
            )
        };
        if args.size.is_some() {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            let file = file.map_err(|e| failed("make the image file", e))?;
            let grow = file.metadata().and_then(|meta| {
                if meta.len() < candidate.size.0 {
                    file.set_len(candidate.size.0)
                } else {
                    Ok(())
                }
            });
            grow.map_err(|e| failed(&format!("grow it to {}", describe::size(candidate.size)), e))?;
        }
        let device = WritableFileDevice::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => {
                failed("claim it, something has just begun to use it", error)
            }
            io::ErrorKind::PermissionDenied => failed("open it for writing; run as root", error),
            _ => failed("open it for writing", error),
        })?;
        if device.size() != candidate.size
            || candidate
                .identity
                .is_some_and(|id| id != device.reading().identity())
        {
            return Err(failed(
                "use it",
                io::Error::other("it changed while it was looked at"),
            ));
        }
        if opened
            .iter()
            .any(|o| o.reading().identity() == device.reading().identity())
        {
            return Err(failed("use it", io::Error::other("it is named twice")));
        }
        opened.push(device);
    }
    Ok(opened)
}
