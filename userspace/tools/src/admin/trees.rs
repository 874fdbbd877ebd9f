// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin dump` of what is in a volume: nodes and items of trees, and what a block is used for, and by whom. What is damaged is
//! told, and it goes on behind it.

use super::open;
use super::FAILED;
use super::TROUBLE;
use crate::failure::Failure;
use crate::items;
use crate::output;
use crate::say;
use crate::whole::Whole;
use embr_engine::check::block;
use embr_engine::check::whose;
use embr_engine::check::whose::Holder;
use embr_engine::check::whose::Life;
use embr_engine::check::whose::Most;
use embr_engine::check::whose::Spot;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::format::journal::Extent;
use embr_engine::format::member::Slot;
use embr_engine::format::node::Node;
use embr_engine::format::node::NODE_SIZE;
use embr_engine::format::pointer::Pointer;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::tree::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Blocks;
use embr_engine::units::Bytes;
use embr_engine::units::TreeId;
use embr_engine::volume;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::Fault;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embrfs_host::Host;
use serde_json::json;
use serde_json::Value;
use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;

const CACHE: Bytes = Bytes(16 << 20);
/// Of each block so many files are told, and of each file so many paths.
const MOST: Most = Most {
    users: 1000,
    paths: 100,
};

fn failed(why: &dyn Display) -> Failure {
    Failure::new(FAILED, "volume", why.to_string())
}

/// Mounts the volume to look at it, says on standard error what is wrong with it already, and begins to put out.
fn inspected<'w>(
    whole: &'w Whole,
    as_json: bool,
    host: &'w Host,
) -> Result<(Mounted<impl Machine + 'w>, Out), Failure> {
    let mut is_sound = true;
    let mut tell = |why: Fault| {
        is_sound = false;
        crate::complain!("{why}");
    };
    let reader = whole.reader(host);
    let mounted = Mounted::inspect(reader, &whole.volume, &whole.members, CACHE, &mut tell)
        .map_err(|why| failed(&why))?;
    Ok((mounted.into_inner(), Out::new(as_json, is_sound)))
}

fn places(pointer: &Pointer) -> Vec<Value> {
    let each = pointer.places.iter();
    each.map(|p| json!({ "slot": p.device.index(), "block": p.block.0 }))
        .collect()
}

fn places_text(pointer: &Pointer) -> String {
    let each = pointer.places.iter();
    each.map(|p| format!("{}:{}", p.device.index(), p.block))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Lines or documents, as they come.
struct Out {
    as_json: bool,
    rows: Vec<Value>,
    is_sound: bool,
}

impl Out {
    fn new(as_json: bool, is_sound: bool) -> Self {
        Out {
            as_json,
            rows: Vec::new(),
            is_sound,
        }
    }

    fn row(&mut self, text: impl FnOnce() -> String, value: impl FnOnce() -> Value) {
        if self.as_json {
            self.rows.push(value());
        } else {
            say!("{}", text());
        }
    }

    fn end(self, name: &str) -> u8 {
        if self.as_json {
            let mut document = json!({ "ok": true, "sound": self.is_sound });
            if let Some(object) = document.as_object_mut() {
                object.insert(name.to_owned(), Value::Array(self.rows));
            }
            output::document(&document);
        }
        match self.is_sound {
            true => 0,
            false => TROUBLE,
        }
    }
}

impl Visitor for Out {
    fn node(&mut self, pointer: &Pointer, node: &Node) -> Result<(), TreeError> {
        let range = node.range();
        self.row(
            || {
                format!(
                    "{:indent$}level {}, {} entries, {} bytes, keys {} to {}, generation {}, at {}",
                    "",
                    node.level(),
                    node.count(),
                    node.used(),
                    range.first,
                    range.last,
                    pointer.generation,
                    places_text(pointer),
                    indent = usize::from(15u8.saturating_sub(node.level().0)),
                )
            },
            || {
                json!({
                    "level": node.level().0, "entries": node.count(), "bytes": node.used(),
                    "first": range.first.to_string(), "last": range.last.to_string(),
                    "generation": pointer.generation.0, "places": places(pointer),
                })
            },
        );
        Ok(())
    }

    fn copy(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
        self.is_sound = false;
        self.row(
            || format!("bad copy: {why}"),
            || json!({ "copy": why.to_string() }),
        );
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, keys: Range) -> Result<(), TreeError> {
        self.is_sound = false;
        let (first, last) = (keys.first, keys.last);
        self.row(
            || format!("lost: {why}, with keys {first} to {last}"),
            || json!({ "lost": why.to_string(), "first": first.to_string(), "last": last.to_string() }),
        );
        Ok(())
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

pub(super) fn nodes(
    tree: TreeId,
    devices: &[PathBuf],
    as_json: bool,
    host: &Host,
) -> Result<u8, Failure> {
    let whole = Whole::open(devices, host, FAILED)?;
    let (mounted, mut out) = inspected(&whole, as_json, host)?;
    let base = mounted.bases().find(|b| b.tree == tree);
    let base = base.ok_or_else(|| failed(&format_args!("there is no tree {tree}")))?;
    check::check(mounted.nodes(), &base, Depth::Copies, &mut out).map_err(|why| failed(&why))?;
    Ok(out.end("nodes"))
}

pub(super) fn items(
    tree: TreeId,
    range: Range,
    devices: &[PathBuf],
    as_json: bool,
    host: &Host,
) -> Result<u8, Failure> {
    let whole = Whole::open(devices, host, FAILED)?;
    let (mounted, mut out) = inspected(&whole, as_json, host)?;
    let mut from = Some(range.first).filter(|first| *first <= range.last);
    while let Some(first) = from.take() {
        let last = range.last;
        let scan = mounted.scan(tree, Range { first, last });
        let mut scan = scan.ok_or_else(|| failed(&format_args!("there is no tree {tree}")))?;
        loop {
            match scan.next() {
                Ok(Some((key, value))) => {
                    let said = items::meaning(tree, key, &value);
                    out.row(
                        || format!("{key}  {said}"),
                        || json!({ "key": key.to_string(), "bytes": value.len(), "meaning": said }),
                    );
                }
                Ok(None) => break,
                Err(why @ (TreeError::Io(..) | TreeError::Corrupt(..))) => {
                    // Behind what is lost with the node, or there is nothing more.
                    let behind = scan.lost().and_then(|keys| keys.last.next());
                    from = behind.filter(|next| *next > first && *next <= last);
                    out.is_sound = false;
                    out.row(
                        || format!("lost: {why}"),
                        || json!({ "lost": why.to_string() }),
                    );
                    break;
                }
                Err(why) => return Err(failed(&why)),
            }
        }
    }
    Ok(out.end("items"))
}

/// The node that lies at a block, as it says itself.
pub(super) fn node(block: u64, path: &Path, as_json: bool, host: &Host) -> Result<u8, Failure> {
    let device = open(path)?;
    let member = volume::probe(&device, host.hasher());
    let member = member.map_err(|why| failed(&device.explain(&why)))?;
    let at = Blocks(block).bytes();
    let at = at.ok_or_else(|| failed(&format_args!("there is no block {block}")))?;
    let mut bytes = embr_rt::Vec::zeroed(NODE_SIZE).map_err(|_| failed(&"out of memory"))?;
    device
        .read(at, &mut bytes)
        .map_err(|why| failed(&device.explain(&why)))?;
    let node = Node::parse(host.hasher(), bytes, member.superblock.volume)
        .map_err(|why| failed(&format_args!("{}: block {block}: {why}", path.display())))?;
    let mut out = Out::new(as_json, true);
    let stamp = *node.stamp();
    out.row(
        || format!("tree {}, epoch {}", stamp.tree, stamp.epoch),
        || json!({ "tree": stamp.tree.0, "epoch": stamp.epoch.to_string() }),
    );
    let pointer = node.pointer();
    // Cannot fail.
    let _ = out.node(&pointer, &node);
    for n in 0..node.count() {
        if let Some(child) = node.child(n) {
            let Range { first, last } = child.range;
            let pointer = child.pointer;
            out.row(
                || {
                    format!(
                        "{first}  child up to {last}, generation {}, at {}",
                        pointer.generation,
                        places_text(&pointer)
                    )
                },
                || {
                    json!({
                        "key": first.to_string(), "last": last.to_string(),
                        "generation": pointer.generation.0, "places": places(&pointer),
                    })
                },
            );
        } else if let Some((key, value)) = node.entry(n) {
            let said = items::meaning(stamp.tree, key, value);
            out.row(
                || format!("{key}  {said}"),
                || json!({ "key": key.to_string(), "bytes": value.len(), "meaning": said }),
            );
        }
    }
    Ok(out.end("node"))
}

fn place(spot: &Spot) -> String {
    let Spot {
        stripe,
        fragment,
        row,
        ..
    } = spot;
    format!("row {row} of fragment {fragment} of stripe {stripe}")
}

/// Which block of which engram somebody has, or which parity.
fn held(holder: &Holder) -> String {
    let lives = match holder.life {
        Life::Lives => "which lives",
        Life::Dead => "which is dead",
        Life::Unknown => "of which it is not known whether it lives",
    };
    match (&holder.engram, &holder.spot) {
        (Some((engram, block)), None) => {
            format!("block {block} of engram {engram}, {lives}, in copies")
        }
        (Some((engram, block)), Some(spot)) => {
            format!(
                "block {block} of engram {engram}, {lives}, in {}",
                place(spot)
            )
        }
        (None, Some(spot)) if spot.is_parity => format!("parity: {}", place(spot)),
        (None, Some(spot)) => format!("{}; what it holds is not known", place(spot)),
        (None, None) => "nothing".to_owned(),
    }
}

/// All that is known of who has a block.
fn holder(holder: &Holder, out: &mut Out) {
    let users = holder.users.iter().map(|user| {
        let paths = user.paths.iter().map(|path| {
            let (path, whose) = (items::text(&path.path), &path.whose);
            let whose = (!whose.is_empty()).then(|| items::text(whose));
            json!({ "path": path, "of": whose })
        });
        json!({
            "inode": user.inode.0, "at": user.at.map(|at| at.0), "paths": paths.collect::<Vec<_>>(),
        })
    });
    let value = || {
        json!({
            "engram": holder.engram.map(|(engram, _)| engram.0),
            "block": holder.engram.map(|(_, block)| block),
            "lives": match holder.life {
                Life::Lives => Some(true),
                Life::Dead => Some(false),
                Life::Unknown => None,
            },
            "stripe": holder.spot.map(|spot| spot.stripe.0),
            "fragment": holder.spot.map(|spot| spot.fragment),
            "row": holder.spot.map(|spot| spot.row),
            "parity": holder.spot.is_some_and(|spot| spot.is_parity),
            "users": users.collect::<Vec<_>>(),
            "more": holder.users.len() >= MOST.users,
            "lacks": holder.lacks.map(|why| why.to_string()),
        })
    };
    let text = || {
        let mut text = held(holder);
        for user in &holder.users {
            text.push_str(&format!("\n  inode {}", user.inode));
            if let Some(at) = user.at {
                text.push_str(&format!(", written as its block {at}"));
            }
            let paths = user.paths.iter().map(|path| {
                let whose = match path.whose.is_empty() {
                    true => String::new(),
                    false => format!(" (of {})", items::text(&path.whose)),
                };
                format!("{}{whose}", items::text(&path.path))
            });
            let paths: Vec<String> = paths.collect();
            match paths.is_empty() {
                true => text.push_str(": no name of it was found"),
                false => text.push_str(&format!(": {}", paths.join(", "))),
            }
        }
        if holder.users.len() >= MOST.users {
            text.push_str("\n  there may be more files that name it");
        }
        if let Some(why) = &holder.lacks {
            text.push_str(&format!("\n  not all could be told: {why}"));
        }
        text
    };
    out.row(text, value);
    out.is_sound &= holder.lacks.is_none();
}

/// What a block of the first device is used for, and who has it.
pub(super) fn block(
    number: u64,
    devices: &[PathBuf],
    as_json: bool,
    host: &Host,
) -> Result<u8, Failure> {
    let whole = Whole::open(devices, host, FAILED)?;
    let seat = whole.volume.seats().iter();
    let mut current = seat.filter(|s| s.standing == Standing::Current(0));
    let seat = current
        .next()
        .ok_or_else(|| failed(&"the device is stale: the volume does not use what it holds"))?;
    let slot: Slot = seat.entry.slot;
    let (mounted, mut out) = inspected(&whole, as_json, host)?;
    let mut found = Vec::new();
    let mut tell = |what, extent: Extent| found.push((what, extent));
    let lost =
        block::uses(&mounted, slot, Blocks(number), &mut tell).map_err(|why| failed(&why))?;
    for (what, extent) in &found {
        let (start, blocks) = (extent.start.0, extent.blocks.0);
        out.row(
            || format!("{what}: {blocks} blocks from block {start} on"),
            || json!({ "use": what.to_string(), "start": start, "blocks": blocks }),
        );
    }
    let names = Names::try_new(HashWidth::Full).map_err(|_| failed(&"out of memory"))?;
    let at = (slot, Blocks(number));
    let is_torn = whose::at(&mounted, &names, at, MOST, &mut |found| {
        holder(&found, &mut out);
        Ok(())
    });
    let is_torn = is_torn.map_err(|why| failed(&why))?;
    let is_used = mounted.is_used(slot, Blocks(number));
    let exists = number < seat.entry.size.0;
    let space = match (exists, is_used) {
        (false, _) => "beyond the end of what the volume uses of the device",
        (true, true) => "in use, says free space",
        (true, false) => "free, says free space",
    };
    out.row(|| space.to_owned(), || json!({ "space": space }));
    out.is_sound &= lost == 0 && (!exists || is_used != found.is_empty());
    if is_torn {
        out.is_sound = false;
        out.row(
            || "a node of the trees of engrams or stripes is lost, or an item makes no sense, that may tell of it".to_owned(),
            || json!({ "torn": true }),
        );
    }
    if lost != 0 {
        out.row(
            || format!("{lost} nodes could not be read that may use it as well"),
            || json!({ "unread": lost }),
        );
    }
    Ok(out.end("block"))
}
