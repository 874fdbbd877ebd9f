// SPDX-License-Identifier: GPL-2.0

//! What is in the volume: the engine's check of trees, blocks and names, told with the paths of devices and files.

use super::findings::Finding;
use super::findings::Mend;
use super::findings::Report;
use super::versions::Versions;
use super::OPERATIONAL;
use crate::cli::fsck::Args;
use crate::failure::Failure;
use crate::output;
use crate::whole;
use crate::whole::Unfit;
use embr_engine::check;
use embr_engine::check::Counted;
use embr_engine::check::Depth;
use embr_engine::check::Ended;
use embr_engine::check::Observer;
use embr_engine::check::Options;
use embr_engine::check::Stage;
use embr_engine::format::member::Slot;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::units::SnapshotId;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::assemble::Volume;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_host::Host;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

/// Findings of one kind that are told; of more there is the number.
const MOST: u64 = 100;
/// Memory beside what free space takes, where nothing is said of it.
const MEMORY: Bytes = Bytes(256 << 20);
/// With less the check would not get on.
const LEAST: Bytes = Bytes(8 << 10);
/// The largest node cache: trees are mostly read once.
pub(super) const CACHE: Bytes = Bytes(64 << 20);

/// Where findings go.
struct Told<'t, M> {
    versions: Versions<'t, M>,
    /// Which of the paths is in which slot.
    devices: &'t BTreeMap<Slot, usize>,
    findings: Vec<Finding>,
    notes: Vec<String>,
    /// How many there are of each kind.
    kinds: BTreeMap<&'static str, u64>,
    progress: Option<Instant>,
}

impl<M: Machine> Observer for Told<'_, M> {
    fn found(&mut self, what: &check::Finding) {
        let count = self.kinds.entry(what.kind()).or_default();
        *count += 1;
        if *count > MOST {
            return;
        }
        if !what.is_damage() {
            self.notes.push(what.to_string());
            return;
        }
        let inode = what.inode();
        let path = inode.and_then(|number| self.versions.path(number));
        let text = self.versions.told(&what.to_string(), path.as_deref());
        let place = json!({
            "kind": what.kind(),
            "slot": what.device().map(Slot::index),
            "block": what.block().map(|b| b.0),
            "tree": what.tree().map(|t| t.0),
            "key": what.key().map(|k| k.to_string()),
            "inode": inode.map(|n| n.0),
            "path": path,
            "of": self.versions.whose(),
        });
        self.findings.push(Finding {
            device: what
                .device()
                .and_then(|slot| self.devices.get(&slot).copied()),
            text,
            mend: Mend::None,
            mended: false,
            at: Some(place),
        });
    }

    fn shows(&mut self, whose: Option<SnapshotId>) {
        self.versions.shows(whose);
    }

    fn at(&mut self, stage: Stage, counted: &Counted) -> bool {
        let due = |last: &Instant| last.elapsed() > Duration::from_millis(200);
        if self.progress.as_ref().is_some_and(due) {
            self.progress = Some(Instant::now());
            match stage {
                Stage::Nodes => output::remark(format_args!(
                    "pass {}: {} nodes",
                    counted.passes, counted.nodes
                )),
                Stage::Uses => output::remark(format_args!(
                    "pass {}: blocks in use, {} items",
                    counted.passes, counted.passed
                )),
                Stage::Space => output::remark(format_args!(
                    "pass {}: free space, {} groups",
                    counted.passes, counted.passed
                )),
                Stage::Files => output::remark(format_args!(
                    "pass {}: extents, {} items",
                    counted.passes, counted.passed
                )),
                Stage::Engrams => {
                    output::remark(format_args!("engrams: {}", counted.engrams));
                }
                Stage::Snapshots => {
                    output::remark(format_args!("snapshots: {} items", counted.passed))
                }
                Stage::References => {
                    output::remark(format_args!("shared blocks: {} items", counted.passed))
                }
                Stage::Stripes => output::remark(format_args!(
                    "stripes: {}, {} blocks",
                    counted.stripes, counted.blocks
                )),
                Stage::Names => output::remark(format_args!(
                    "names: {} inodes, {} items",
                    counted.inodes, counted.items
                )),
                Stage::Data => output::remark(format_args!(
                    "data: {} inodes, {} blocks",
                    counted.inodes, counted.blocks
                )),
            }
        }
        true
    }
}

/// How much memory there is beside what free space takes.
pub(super) fn memory(args: &Args, volume: &Volume) -> Result<Bytes, Failure> {
    let Some(all) = args.memory else {
        return Ok(MEMORY);
    };
    let sizes = volume.seats().iter().map(|s| s.entry.bytes().0);
    let free = Bytes(sizes.map(|size| size.div_ceil(1 << 20) * 64).sum());
    let least = Bytes(free.0 + LEAST.0);
    if all < least {
        let text = format!(
            "--memory {}: this volume needs {} at least, of which its free space takes {}",
            all.0, least.0, free.0
        );
        return Err(Failure::new(OPERATIONAL, "memory", text));
    }
    Ok(Bytes(all.0 - free.0))
}

/// Checks what the volume holds, if its devices make one.
pub(super) fn check(
    args: &Args,
    host: &Host,
    paths: &[PathBuf],
    report: &mut Report,
) -> Result<(), Failure> {
    // Devices that say nothing of use were told of.
    let gathered = whole::gather(paths, host, &mut |path, why| match why {
        Unfit::Open(why) => Err(super::cannot_open(path, &why)),
        Unfit::Probe(..) => Ok(()),
    })?;
    let Ok(assembled) = assemble(&gathered.members) else {
        return Ok(());
    };
    let mut by_slot = BTreeMap::new();
    for seat in assembled.seats() {
        if let Standing::Current(index) = seat.standing {
            by_slot.extend(gathered.paths.get(index).map(|p| (seat.entry.slot, *p)));
        }
    }
    let whole = gathered.into_whole(assembled);
    let memory = memory(args, &whole.volume)?;
    let cache = Bytes(memory.0 / 4).min(CACHE);
    let mut faults = Vec::new();
    let mut note = |why| faults.push(why);
    let (volume, members) = (&whole.volume, &whole.members);
    let mounted = Mounted::inspect(whole.reader(host), volume, members, cache, &mut note);
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(why) => {
            report.findings.push(ended(Ended::from(why)));
            return Ok(());
        }
    };
    let view = View::first();
    let Ok(names) = Names::try_new(HashWidth::Full) else {
        report.findings.push(ended(Ended::NoMemory));
        return Ok(());
    };
    let files = names.of(&mounted, &view);
    let mut told = Told {
        versions: Versions::new(&mounted, &names),
        devices: &by_slot,
        findings: Vec::new(),
        notes: Vec::new(),
        kinds: BTreeMap::new(),
        progress: (args.progress && io::stderr().is_terminal()).then(Instant::now),
    };
    for why in faults {
        told.found(&check::Finding::Mount(why));
    }
    let options = Options {
        memory: Bytes(memory.0.saturating_sub(cache.0)),
        depth: Depth::Copies,
        data: args.data,
        held: &[],
    };
    let checked = check::check(&mounted, Some(files), &options, &mut told);
    if told.progress.is_some() {
        output::remark(format_args!(""));
    }
    for (kind, count) in told.kinds.iter().filter(|(_, count)| **count > MOST) {
        told.notes
            .push(format!("{} more of kind {kind}", count - MOST));
    }
    report.findings.append(&mut told.findings);
    report.notes.append(&mut told.notes);
    match checked {
        Ok(counted) => report.contents = Some(counted),
        Err(why) => report.findings.push(ended(why)),
    }
    Ok(())
}

/// The check could not go on.
fn ended(why: Ended) -> Finding {
    let mend = match why {
        Ended::NoMemory | Ended::Interrupted => Mend::Operational,
        Ended::Fault(Fault::NoMemory) => Mend::Operational,
        Ended::Fault(_) => Mend::None,
    };
    Finding {
        device: None,
        text: format!("trees and names could not be checked: {why}"),
        mend,
        mended: false,
        at: None,
    }
}
