// SPDX-License-Identifier: GPL-2.0

//! What the items of trees mean, in words. Nothing here fails: what makes no sense is said to make none.

use crate::describe;
use embr_engine::format::attribute;
use embr_engine::format::engram;
use embr_engine::format::engram::Lies;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::engram::Owner;
use embr_engine::format::engram::Part;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::inline;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::format::intent::Intent;
use embr_engine::format::name;
use embr_engine::format::name::Name;
use embr_engine::format::name::Parents;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::reference::Tally;
use embr_engine::format::snapshot;
use embr_engine::format::snapshot::Node;
use embr_engine::format::snapshot::State;
use embr_engine::format::stripe;
use embr_engine::format::stripe::Layout;
use embr_engine::format::stripe::Totals;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::space;
use embr_engine::stripe::shape::MAX_ROWS;
use embr_engine::tree::Key;
use embr_engine::units::EngramId;
use embr_engine::units::SnapshotId;
use embr_engine::units::StripeId;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::mounted::SPACE;
use embr_engine::volume::mounted::STRIPES;
use std::fmt::Write;

/// Bytes of a value that are shown where nothing better can be said.
const SHOWN: usize = 32;

/// What the item with this key and value says.
pub fn meaning(tree: TreeId, key: Key, value: &[u8]) -> String {
    match tree {
        SPACE => space_item(key, value),
        NAMES => name_item(key, value),
        ENGRAMS => engram_item(key, value),
        STRIPES => stripe_item(key, value),
        REFERENCES => reference_item(key, value),
        SNAPSHOTS => snapshot_item(key, value),
        _ => bytes(value),
    }
}

/// A name as people can read it.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

fn bytes(value: &[u8]) -> String {
    let shown = value.get(..SHOWN).unwrap_or(value);
    let mut out = format!("{} bytes: ", value.len());
    for byte in shown {
        // A string takes whatever is written to it.
        let _ = write!(out, "{byte:02x}");
    }
    if shown.len() < value.len() {
        out.push_str("...");
    }
    out
}

fn senseless(what: &str, value: &[u8]) -> String {
    format!("{what} that makes no sense, {}", bytes(value))
}

fn space_item(key: Key, value: &[u8]) -> String {
    let [slot, group, zero] = key.0;
    let first = group.saturating_mul(space::GROUP);
    let whole = || space::parse(value, space::GROUP).ok().flatten();
    // The last group of a device is shorter, and its bits end with whole bytes.
    let bits = value.len().saturating_sub(1) as u64 * 8;
    let used = whole().or_else(|| space::parse(value, bits.min(space::GROUP)).ok().flatten());
    let Some(used) = used.filter(|_| zero == 0) else {
        return senseless("free space", value);
    };
    let runs: Vec<String> = used
        .runs()
        .take(8)
        .map(|(begin, length)| {
            let begin = first.saturating_add(begin);
            format!("{begin}-{}", begin.saturating_add(length).saturating_sub(1))
        })
        .collect();
    let more = match used.runs().nth(8) {
        Some(_) => " ...",
        None => "",
    };
    format!(
        "free space of slot {slot} from block {first} on: {} used, {}{more}",
        used.count(),
        runs.join(" ")
    )
}

/// A kind of file in words.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::Fifo => "fifo",
        FileType::CharDevice => "character device",
        FileType::Directory => "directory",
        FileType::BlockDevice => "block device",
        FileType::Regular => "regular file",
        FileType::Symlink => "symlink",
        FileType::Socket => "socket",
    }
}

fn inode(value: &[u8]) -> String {
    let inode = match Inode::parse(value) {
        Ok(inode) => inode,
        Err(why) => return format!("an inode that is none: {why}"),
    };
    let mut out = format!(
        "{}, mode {:04o}, {} links, owner {}:{}, {} bytes, generation {:#010x}",
        kind_name(inode.kind),
        inode.permissions,
        inode.nlink,
        inode.uid,
        inode.gid,
        inode.size,
        inode.generation
    );
    if inode.is_directory() {
        out.push_str(&format!(", {} entries", inode.entries));
    }
    if inode.kind.is_device() {
        out.push_str(&format!(", device {:#x}", inode.rdev.0));
    }
    if inode.flags != 0 || inode.project != 0 {
        out.push_str(&format!(
            ", flags {:#x}, project {}",
            inode.flags, inode.project
        ));
    }
    if inode.kind == FileType::Symlink {
        out.push_str(&format!(" -> {}", text(&inode.target)));
    }
    out
}

fn parents(value: &[u8]) -> String {
    let Some(parents) = Parents::parse(value) else {
        return senseless("parents", value);
    };
    let each = |(directory, name): (_, Name<'_>)| {
        format!("\"{}\" in directory {directory}", text(name.bytes()))
    };
    format!(
        "named {}",
        parents.iter().map(each).collect::<Vec<_>>().join(", ")
    )
}

fn entry(value: &[u8]) -> String {
    match name::parse_entry(value) {
        Some((target, name)) => format!(
            "entry \"{}\": {} {}, generation {:#010x}",
            text(name.bytes()),
            kind_name(target.kind),
            target.inode,
            target.generation
        ),
        None => senseless("an entry", value),
    }
}

fn extended(value: &[u8]) -> String {
    match attribute::parse(value) {
        Some((name, held)) => format!(
            "attribute \"{}\" of {} bytes, in {} pieces",
            text(name.bytes()),
            held.size(),
            held.pieces()
        ),
        None => senseless("an attribute", value),
    }
}

fn number(what: &str, value: &[u8]) -> String {
    match name::parse_number(value) {
        Some(number) => format!("{what} {number}"),
        None => senseless(what, value),
    }
}

fn extents(item: Item, value: &[u8]) -> String {
    let Some(all) = extent::parse(value) else {
        return senseless("extents", value);
    };
    let window = item.sub().saturating_mul(extent::WINDOW as u64);
    let runs = all.iter().map(|run| {
        let first = window.saturating_add(run.first as u64);
        let what = format!("{:?}", run.encoding).to_lowercase();
        match run.encoding {
            Encoding::Hole => format!("{} blocks from {first} {what}", run.blocks),
            _ => format!(
                "{} blocks from {first} {what} in engram {} at byte {}, {} stored",
                run.blocks, run.engram, run.offset, run.stored
            ),
        }
    });
    runs.collect::<Vec<_>>().join("; ")
}

/// Which blocks of an engram lie together, and where.
fn part(part: &Part) -> String {
    let places = part.places.iter();
    let places = places.map(|p| format!("{}:{}", p.device.index(), p.block));
    let last = part.end().saturating_sub(1);
    let places: Vec<String> = places.collect();
    format!("{}-{} at {}", part.first, last, places.join(" "))
}

fn engram_item(key: Key, value: &[u8]) -> String {
    let id = EngramId(key.0[0]);
    let sub = engram::sub(key);
    let is = |kind| engram::key(id, kind, sub as usize) == key;
    let said = if is(engram::Kind::Map) {
        Map::parse(value).ok().flatten().map(|map| {
            let places: Vec<String> = match &map.lies {
                Lies::Copies(places) => places
                    .iter()
                    .map(|p| format!("{}:{}", p.device.index(), p.block))
                    .collect(),
                Lies::Parts(parts) => parts.iter().map(part).collect(),
                Lies::Stripes(pieces) => pieces
                    .iter()
                    .map(|p| {
                        let last = p.end().saturating_sub(1);
                        format!("{}-{} in stripe {} from {}", p.first, last, p.stripe, p.at)
                    })
                    .collect(),
            };
            format!("{} blocks at {}", map.blocks, places.join(" "))
        })
    } else if is(engram::Kind::Live) {
        // How many blocks there are is said by the map; the bytes of the item leave up to seven more.
        let most = value.len().saturating_sub(4).saturating_mul(8);
        let live = Live::parse(value, most.min(engram::MAX_BLOCKS));
        live.map(|live| format!("{} blocks live", live.count()))
    } else if is(engram::Kind::Owner) {
        Owner::parse(value).map(|owner| {
            format!(
                "{} blocks from {sub} on are inode {}'s, at its block {}",
                owner.blocks, owner.inode, owner.at
            )
        })
    } else if is(engram::Kind::Hashes) {
        let first = sub.saturating_mul(engram::HASHES as u64);
        Some(format!(
            "hashes of blocks from {first} on, {}",
            bytes(value)
        ))
    } else if is(engram::Kind::Numbers) {
        return number("numbers given out below", value);
    } else if is(engram::Kind::Passed) {
        return number("copies moved to stripes below", value);
    } else {
        None
    };
    let said = said.unwrap_or_else(|| senseless("an item", value));
    format!("engram {id}: {said}")
}

fn reference_item(key: Key, value: &[u8]) -> String {
    let Some((engram, of)) = reference::parse_key(key) else {
        return senseless("an item of shared blocks", value);
    };
    let Ok(Some(tally)) = Tally::parse(value, of) else {
        return format!("engram {engram}: {}", senseless("what is shared", value));
    };
    let runs: Vec<String> = tally
        .runs()
        .map(|run| {
            let last = run.first.saturating_add(run.blocks).saturating_sub(1);
            format!("{}-{} x {}", run.first, last, run.number)
        })
        .collect();
    let who = match of {
        Of::All => "in all".to_owned(),
        Of::User(inode) => format!("by inode {inode}"),
    };
    format!("engram {engram}: blocks named {who}: {}", runs.join(" "))
}

fn snapshot_item(key: Key, value: &[u8]) -> String {
    if let Some(id) = snapshot::parse_node(key) {
        let said = Node::parse(id, value).ok().flatten();
        let said = said.map_or_else(|| senseless("a node", value), |node| snapshot_node(&node));
        return format!("node {id}: {said}");
    }
    if key == snapshot::NUMBERS {
        return match snapshot::parse_number(value) {
            Some(next) => format!("numbers given out below {next}"),
            None => senseless("numbers given out", value),
        };
    }
    match snapshot::parse_touched(key).filter(|_| snapshot::is_touched(value)) {
        Some((id, inode, place)) => {
            format!(
                "snapshot {id}: touched of inode {inode}: {}",
                touched(place)
            )
        }
        None => senseless("an item of snapshots", value),
    }
}

fn snapshot_node(node: &Node) -> String {
    let name = match node.name.is_empty() {
        true => "without a name".to_owned(),
        false => format!("\"{}\"", text(&node.name)),
    };
    let mut out = match node.state {
        State::Head => format!("head {name}"),
        State::Snapshot => format!("snapshot {name}"),
        State::Deleted => format!("deleted, gone through up to {}", node.cursor),
    };
    match node.parent {
        SnapshotId::NONE => out.push_str(", the first"),
        parent => out.push_str(&format!(", grew from {parent}")),
    }
    let own = node.own.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let own: Vec<String> = own.collect();
    out.push_str(&format!(
        ", made {}, own versions {}",
        describe::time(node.made),
        own.join(" ")
    ));
    if node.room != 0 {
        out.push_str(&format!(", {} nodes kept for removing", node.room));
    }
    out
}

/// Which items of an inode, in words.
fn touched(place: u64) -> String {
    let key = Key([0, place, 0]);
    let (item, _) = Item::of(key);
    let sub = item.sub();
    match item.kind() {
        _ if place == 0 => "made or removed".to_owned(),
        Kind::INODE => "the inode and its parents".to_owned(),
        Kind::ATTRIBUTE => "its attributes".to_owned(),
        Kind::EXTENTS => {
            let last = sub.saturating_add(63);
            format!("what it holds in windows {sub} to {last}")
        }
        Kind::ENTRY => format!("the entry {sub:#x}"),
        Kind::ORPHAN => format!("the orphan {sub:#x}"),
        Kind::INTENT => format!("the intent {sub:#x}"),
        kind => format!("kind {:#04x}, place {sub:#x}", kind.0),
    }
}

fn stripe_item(key: Key, value: &[u8]) -> String {
    if let Some((grade, stripe)) = stripe::parse_wasteful(key) {
        let parts = stripe::GRADES;
        return format!("stripe {stripe} needs about {grade} of {parts} parts of what it takes");
    }
    if key == stripe::key(StripeId::NONE, stripe::Kind::Totals, 0) {
        return match Totals::parse(value) {
            Some(Totals { taken, live }) => {
                format!("all stripes take {taken} blocks, and {live} of payload live")
            }
            None => senseless("sums of stripes", value),
        };
    }
    let id = StripeId(key.0[0]);
    let sub = engram::sub(key);
    let is = |kind| stripe::key(id, kind, sub as usize) == key;
    let said = if is(stripe::Kind::Layout) {
        Layout::parse(value).map(|layout| {
            let shape = layout.shape;
            let places: Vec<String> = (0..shape.width())
                .map(|f| match layout.place(f) {
                    Some(place) => format!("{}:{}", place.device.index(), place.block),
                    None => "nowhere".to_owned(),
                })
                .collect();
            format!(
                "{}, {} blocks in {} rows, sealed for generation {}, at {}",
                shape.geometry(),
                shape.blocks(),
                shape.rows(),
                layout.sealed,
                places.join(" ")
            )
        })
    } else if is(stripe::Kind::Contents) {
        contents(value).map(|held| format!("fragment {sub} holds {held}"))
    } else if is(stripe::Kind::Live) {
        stripe::parse_live(value).map(|blocks| format!("{blocks} blocks live"))
    } else if is(stripe::Kind::Hashes) {
        Some(format!("hashes of parity, {}", bytes(value)))
    } else if is(stripe::Kind::Numbers) {
        return number("numbers given out below", value);
    } else {
        None
    };
    let said = said.unwrap_or_else(|| senseless("an item", value));
    format!("stripe {id}: {said}")
}

/// What a fragment of a stripe holds; how many blocks it has is not known here.
fn contents(value: &[u8]) -> Option<String> {
    let held = (1..=MAX_ROWS).find_map(|blocks| stripe::parse_contents(value, blocks))?;
    let each = held.map(|h| format!("{} of engram {} from {}", h.blocks, h.engram, h.first));
    Some(each.collect::<Vec<_>>().join(", "))
}

fn name_item(key: Key, value: &[u8]) -> String {
    let (item, version) = Item::of(key);
    let said = match item.kind() {
        _ if value.is_empty() => "gone".to_owned(),
        Kind::INODE => inode(value),
        Kind::PARENT => parents(value),
        Kind::ENTRY => entry(value),
        Kind::ATTRIBUTE => extended(value),
        Kind::PIECE => match attribute::parse_piece(value) {
            Some(piece) => format!("{} bytes of the value of an attribute", piece.len()),
            None => senseless("a piece of an attribute", value),
        },
        Kind::INLINE => match inline::parse(value) {
            Some(held) => format!("block {} of the file, {} bytes", item.sub(), held.len()),
            None => senseless("a block of the file", value),
        },
        Kind::EXTENTS => extents(item, value),
        Kind::INTENT => match Intent::parse(value) {
            Some(intent) => format!(
                "{:?} of blocks {} to {} of inode {}, as far as {}",
                intent.operation, intent.from, intent.to, intent.inode, intent.cursor
            ),
            None => senseless("an operation", value),
        },
        Kind::ORPHAN => number("without a name: inode", value),
        Kind::NUMBERS => number("numbers given out below", value),
        kind => format!("kind {:#04x}, {}", kind.0, bytes(value)),
    };
    format!("inode {}, snapshot {version}: {said}", item.owner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn anything_has_a_meaning(
            tree in 0u8..8,
            key in any::<[u64; 3]>(),
            kind in any::<u8>(),
            value in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = meaning(TreeId(tree), Key(key), &value);
            let [inode, sub, version] = key;
            let key = Key([inode, (u64::from(kind) << 56) | (sub >> 8), version]);
            let said = meaning(TreeId(tree), key, &value);
            prop_assert!(!said.is_empty() && !said.contains('\n'));
        }
    }
}
