// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin dump journal`: every group that lies in the journal of one device, old ones and leftovers of crashes among them, and
//! which of them the next mount would carry out.

use super::open;
use super::FAILED;
use super::TROUBLE;
use crate::failure::Failure;
use crate::items;
use crate::output;
use crate::say;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::format::journal::Extent;
use embr_engine::format::journal::Header;
use embr_engine::format::journal::Record;
use embr_engine::format::member::Slot;
use embr_engine::units::Blocks;
use embr_engine::units::BLOCK_SIZE;
use embr_engine::volume;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use serde_json::json;
use serde_json::Value;
use std::path::Path;

/// Blocks that are read at once.
const PIECE: u64 = 256;

struct Group {
    block: u64,
    header: Header,
    problem: Option<String>,
    records: Vec<String>,
}

pub(super) fn run(
    path: &Path,
    with_records: bool,
    as_json: bool,
    host: &Host,
) -> Result<u8, Failure> {
    let device = open(path)?;
    let failed = |why: &dyn std::fmt::Display| Failure::new(FAILED, "device", device.explain(why));
    let member = volume::probe(&device, host.hasher()).map_err(|why| failed(&why))?;
    let root = member.root;
    let mut groups = Vec::new();
    let mut unreadable = 0u64;
    let end = root.journal.start.0.saturating_add(root.journal.blocks.0);
    let reach = device.size().whole_blocks().0;
    let mut piece = vec![0u8; PIECE as usize * BLOCK_SIZE];
    for from in (root.journal.start.0..end.min(reach)).step_by(PIECE as usize) {
        let count = end.min(reach).saturating_sub(from).min(PIECE);
        let (Some(at), Some(into)) = (
            Blocks(from).bytes(),
            piece.get_mut(..count as usize * BLOCK_SIZE),
        ) else {
            break;
        };
        if device.read(at, into).is_err() {
            unreadable += count;
            continue;
        }
        for (block, bytes) in (from..).zip(into.chunks_exact(BLOCK_SIZE)) {
            let Some(at) = Blocks(block).bytes() else {
                break;
            };
            let superblock = &member.superblock;
            let header = Header::parse(
                host.hasher(),
                bytes,
                at,
                superblock.volume,
                superblock.device,
            );
            if let Ok(header) = header {
                groups.push(Group {
                    block,
                    header,
                    problem: None,
                    records: Vec::new(),
                });
            }
        }
    }
    for group in &mut groups {
        look(&device, group, with_records, host);
    }
    groups.sort_by_key(|g| (g.header.sequence, g.block));
    let mut out = Vec::new();
    let behind = root.journal.behind;
    let mut expected = behind.onward(behind.next);
    let mut is_sound = unreadable == 0;
    for group in &groups {
        let Header {
            sequence,
            identity,
            previous,
            epoch,
            ..
        } = group.header;
        let follows = sequence == expected.next
            && previous == expected.identity
            && member.superblock.epoch(epoch).is_some()
            && group.problem.is_none();
        let role = if follows {
            expected.next.0 = expected.next.0.saturating_add(1);
            expected.identity = identity;
            expected = behind.onward(expected);
            "to be carried out"
        } else if sequence < behind.next.next {
            "in the root"
        } else if !behind.has(sequence) {
            "left out"
        } else {
            "left over"
        };
        // Of a group that is not needed any more, parts may be overwritten.
        is_sound &= group.problem.is_none() || !behind.has(sequence);
        if as_json {
            out.push(json_of(group, role));
        } else {
            show(group, role);
        }
    }
    if as_json {
        output::document(&json!({
            "ok": true,
            "device": path.display().to_string(),
            "start": root.journal.start.0,
            "blocks": root.journal.blocks.0,
            "next": behind.next.next.0,
            "unreadable_blocks": unreadable,
            "groups": out,
        }));
    } else if unreadable != 0 {
        say!("{unreadable} blocks cannot be read");
    }
    Ok(if is_sound { 0 } else { TROUBLE })
}

/// Reads the whole group, to see whether it is what its header says.
fn look(device: &FileDevice, group: &mut Group, with_records: bool, host: &Host) {
    let mut bytes = vec![0u8; group.header.size()];
    let read = Blocks(group.block)
        .bytes()
        .map(|at| device.read(at, &mut bytes));
    match read {
        Some(Ok(())) => {}
        Some(Err(why)) => return group.problem = Some(why.to_string()),
        None => return group.problem = Some("it lies nowhere".to_owned()),
    }
    let mut records = match group.header.records(host.hasher(), &bytes) {
        Ok(records) => records,
        Err(why) => return group.problem = Some(why.to_string()),
    };
    loop {
        match records.next() {
            Ok(Some(record)) if with_records => group.records.push(text(&record)),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(why) => {
                group.problem = Some(why.to_string());
                break;
            }
        }
    }
}

fn extent(e: &Extent) -> String {
    let slot: Slot = e.device;
    let last = e.start.0.saturating_add(e.blocks.0).saturating_sub(1);
    format!("blocks {} to {last} of slot {}", e.start, slot.index())
}

fn text(record: &Record<'_>) -> String {
    match record {
        Record::Set(tree, key, value) => {
            format!(
                "tree {tree}, {key} = {}",
                items::meaning(*tree, *key, value)
            )
        }
        Record::Gone(tree, key) => format!("tree {tree}, {key} is gone"),
        Record::RangeGone(tree, range) => {
            format!("tree {tree}, {} to {} are gone", range.first, range.last)
        }
        Record::Take(e) => format!("{} are in use", extent(e)),
        Record::Free(e) => format!("{} are free", extent(e)),
        Record::NodesTaken(generation, e) => {
            format!("{} hold nodes from generation {generation} on", extent(e))
        }
        Record::NodesFreed(generation, e) => {
            format!(
                "{} hold no nodes from generation {generation} on",
                extent(e)
            )
        }
    }
}

fn show(group: &Group, role: &str) {
    let Header {
        sequence,
        durable,
        epoch,
        session,
        records,
        used,
        ..
    } = group.header;
    say!(
        "group {sequence} at block {}: {records} records in {used} bytes, {role}, durable up to {durable}, epoch {epoch}, mount {session:?}",
        group.block
    );
    if let Some(problem) = &group.problem {
        say!("  {problem}");
    }
    group.records.iter().for_each(|line| say!("  {line}"));
}

fn json_of(group: &Group, role: &str) -> Value {
    let header = &group.header;
    json!({
        "sequence": header.sequence.0,
        "block": group.block,
        "bytes": header.used,
        "records": header.records,
        "role": role,
        "durable": header.durable.0,
        "epoch": header.epoch.to_string(),
        "mount": format!("{:?}", header.session),
        "problem": group.problem,
        "contents": group.records,
    })
}
