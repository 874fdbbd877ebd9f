// SPDX-License-Identifier: GPL-2.0

//! Whether files, engrams, references and free space agree: every block of an engram that lives is named, as often and by whom
//! references say, or once, by its owner; every place is used by one thing, and nothing is used by none. Where there are snapshots, all versions name what they have.

use crate::inspector;
pub use crate::inspector::Copies;
use crate::machine::Simulated;
use crate::stripes;
use crate::tale::Nodes;
use crate::tale::NODE_BLOCKS;
use embr_engine::format::engram;
use embr_engine::format::engram::Live;
use embr_engine::format::engram::Map;
use embr_engine::format::engram::Owner;
use embr_engine::format::extent;
use embr_engine::format::extent::Encoding;
use embr_engine::format::inode::FileType;
use embr_engine::format::inode::Inode;
use embr_engine::format::layout;
use embr_engine::format::member::Slot;
use embr_engine::format::reference;
use embr_engine::format::reference::Of;
use embr_engine::format::reference::Tally;
use embr_engine::names::HashWidth;
use embr_engine::names::Item;
use embr_engine::names::Kind;
use embr_engine::names::Names;
use embr_engine::tree::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::Key;
use embr_engine::tree::Range;
use embr_engine::units::Blocks;
use embr_engine::units::EngramId;
use embr_engine::units::TreeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::mounted::REFERENCES;
use embr_engine::volume::mounted::SNAPSHOTS;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// An engram as its items have it.
#[derive(Debug)]
pub struct Known {
    /// Where it lies.
    pub map: Map,
    /// What of it lives.
    pub live: Live,
    /// Groups of hashes.
    pub hashes: BTreeSet<u64>,
    /// Whose each block is, and which block of it.
    pub owners: BTreeMap<usize, (u64, u64)>,
}

/// All items of a tree.
pub fn scan(mounted: &Mounted<Simulated>, tree: TreeId) -> Result<Vec<(Key, Vec<u8>)>, String> {
    let mut found = Vec::new();
    let mut scan = mounted.scan(tree, Range::ALL).ok_or("no such tree")?;
    while let Some((key, value)) = scan.next().map_err(|why| why.to_string())? {
        found.push((key, value.to_vec()));
    }
    Ok(found)
}

/// All engrams.
pub fn engrams(mounted: &Mounted<Simulated>) -> Result<BTreeMap<u64, Known>, String> {
    let mut engrams: BTreeMap<u64, Known> = BTreeMap::new();
    let items = scan(mounted, ENGRAMS)?;
    let is = |key: &Key, kind: engram::Kind| {
        engram::key(EngramId(key.0[0]), kind, 0).0[1] >> 56 == key.0[1] >> 56
    };
    for (key, value) in items.iter().filter(|(key, _)| key.0[0] != 0) {
        let (number, sub) = (key.0[0], engram::sub(*key));
        let bad = || format!("engram {number}: the item {key} makes no sense");
        if is(key, engram::Kind::Map) {
            let map = Map::parse(value).map_err(|_| "no memory")?;
            let map = map.ok_or_else(bad)?;
            let live = items
                .iter()
                .find(|(k, _)| *k == engram::key(EngramId(number), engram::Kind::Live, 0));
            let live = live.ok_or(format!("engram {number}: nothing says what lives"))?;
            engrams.insert(
                number,
                Known {
                    live: Live::parse(&live.1, map.blocks).ok_or_else(bad)?,
                    map,
                    hashes: BTreeSet::new(),
                    owners: BTreeMap::new(),
                },
            );
            continue;
        }
        let known = engrams.get_mut(&number).ok_or_else(bad)?;
        if is(key, engram::Kind::Hashes) {
            known.hashes.insert(sub);
        } else if is(key, engram::Kind::Owner) {
            let owner = Owner::parse(value).ok_or_else(bad)?;
            for (n, block) in (0u64..).zip(sub as usize..sub as usize + owner.blocks) {
                let whose = (owner.inode.0, owner.at.0 + n);
                if known.owners.insert(block, whose).is_some() {
                    return Err(format!("engram {number}: block {block} has two owners"));
                }
            }
        } else if !is(key, engram::Kind::Live) {
            return Err(bad());
        }
    }
    Ok(engrams)
}

/// Files, and how often each names a block.
type Users = BTreeMap<u64, u64>;

/// How often blocks are said to be named in all, and by whom.
type References = (BTreeMap<(u64, usize), u64>, BTreeMap<(u64, usize), Users>);

/// What is said of blocks that are named more than once.
pub fn references(mounted: &Mounted<Simulated>) -> Result<References, String> {
    let (mut all, mut users) = References::default();
    for (key, value) in scan(mounted, REFERENCES)? {
        let bad = || format!("the item {key} of references makes no sense");
        let (engram, of) = reference::parse_key(key).ok_or_else(bad)?;
        let tally = Tally::parse(&value, of).map_err(|_| "no memory")?;
        for run in tally.ok_or_else(bad)?.runs() {
            for block in run.first..run.first + run.blocks {
                let at = (engram.0, block);
                let number = run.number.into();
                match of {
                    Of::All => drop(all.insert(at, number)),
                    Of::User(inode) => {
                        users.entry(at).or_default().insert(inode.0, number);
                    }
                }
            }
        }
    }
    Ok((all, users))
}

/// 1 if there is something that is read from other fragments alone, since the drive that has it is not there.
pub fn rebuilt(mounted: &Mounted<Simulated>) -> Result<u64, String> {
    if mounted.geometry().data() == 1 {
        return Ok(0);
    }
    stripes::has_lost(mounted, &engrams(mounted)?).map(u64::from)
}

/// Whether all agrees, on drives that never failed. Says how many blocks of engrams live.
pub fn audit(mounted: &Mounted<Simulated>) -> Result<u64, String> {
    audit_but(mounted, Copies::All)
}

/// Whether all agrees, but for copies that drives lack which failed.
pub fn audit_but(mounted: &Mounted<Simulated>, copies: Copies) -> Result<u64, String> {
    let lives = audit_blocks(mounted)?;
    // The engine's own check says the same.
    let names = Names::try_new(HashWidth::Full).map_err(|why| format!("{why:?}"))?;
    let view = names.open(mounted, b"").map_err(|why| why.to_string())?;
    let how = (Depth::Tree, copies);
    inspector::check_but(mounted, Some(names.of(mounted, &view)), how, &[])?;
    Ok(lives)
}

/// Whether all agrees that blocks are used for. Says how many blocks of engrams live.
pub fn audit_blocks(mounted: &Mounted<Simulated>) -> Result<u64, String> {
    let engrams = engrams(mounted)?;
    let mut named: BTreeMap<(u64, usize), Users> = BTreeMap::new();
    let mut unwritten: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut inline = BTreeSet::new();
    let mut covered = BTreeSet::new();
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    // One node and a number are left of snapshots that are gone.
    let is_kept = scan(mounted, SNAPSHOTS)?.len() > 2;
    for (key, value) in scan(mounted, NAMES)? {
        let (item, id) = Item::of(key);
        let file = item.owner().0;
        // Of one block, each version may tell.
        let version = if is_kept { id.0 } else { 0 };
        if is_kept && value.is_empty() {
            continue;
        }
        if item.kind() == Kind::INODE {
            let inode = Inode::parse(&value).map_err(|why| why.to_string())?;
            if inode.kind == FileType::Regular {
                counts.insert(file, inode.entries);
            }
        }
        if item.kind() == Kind::INLINE && file != 0 {
            inline.insert((file, version, item.sub()));
        }
        if item.kind() != Kind::EXTENTS || file == 0 {
            continue;
        }
        let runs = extent::parse(&value).ok_or(format!("the item {key} makes no sense"))?;
        for run in runs.iter() {
            for n in 0..run.blocks {
                let block = item.sub() * extent::WINDOW as u64 + (run.first + n) as u64;
                if !covered.insert((file, version, block)) {
                    return Err(format!("inode {file}: two versions tell of block {block}"));
                }
                let at = (run.engram.0, run.block() + n);
                if run.encoding == Encoding::Hole && is_kept {
                    continue;
                }
                if run.encoding == Encoding::Hole {
                    return Err(format!("the item {key}: a hole that hides nothing"));
                }
                *named.entry(at).or_default().entry(file).or_default() += 1;
                if run.encoding == Encoding::Unwritten {
                    unwritten.insert(at);
                }
                let known = engrams
                    .get(&at.0)
                    .ok_or(format!("engram {} is missing", at.0))?;
                if run.encoding == Encoding::Raw && !known.hashes.contains(&(at.1 as u64 / 16)) {
                    return Err(format!("block {} of engram {} has no hash", at.1, at.0));
                }
            }
        }
    }
    if let Some((file, _, block)) = inline.intersection(&covered).next() {
        return Err(format!("inode {file}: block {block} lies in two places"));
    }
    for (file, count) in counts.into_iter().filter(|_| !is_kept) {
        let blocks = inline.iter().chain(&covered).filter(|(f, ..)| *f == file);
        let blocks = blocks.count() as u64;
        if blocks != count {
            return Err(format!(
                "inode {file} counts {count} blocks, but has {blocks}"
            ));
        }
    }
    let (all, users) = references(mounted)?;
    for (at, said) in &users {
        // Of what was shared once, who is left may still be said.
        if named.get(at) != Some(said) {
            return Err(format!(
                "{at:?} is said to be named by {said:?}, but is by {:?}",
                named.get(at)
            ));
        }
    }
    for (at, by) in &named {
        let count: u64 = by.values().sum();
        if all.get(at).copied().unwrap_or(1) != count || count > 1 && users.get(at) != Some(by) {
            return Err(format!(
                "{at:?} is said to be named {:?} times, but is by {by:?}",
                all.get(at)
            ));
        }
        if count > 1 && unwritten.contains(at) {
            return Err(format!("{at:?} is unwritten, and shared"));
        }
    }
    if let Some((at, _)) = all.iter().find(|(at, _)| !named.contains_key(at)) {
        return Err(format!("{at:?} is said to be shared, and nobody names it"));
    }
    let mut lie: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut lives = 0;
    for (number, known) in &engrams {
        if known.live.count() == 0 && known.map.is_copied() {
            return Err(format!("engram {number}: nothing of it lives"));
        }
        for block in 0..engram::MAX_BLOCKS {
            let is_named = named.get(&(*number, block));
            let is_live = known.live.has(block);
            let owner = known.owners.get(&block).map(|(inode, _)| inode);
            // Of what is or was shared, its owner need not be who names it.
            let owned = match users.contains_key(&(*number, block)) {
                true => owner.is_some(),
                false => is_named.and_then(|by| by.keys().next()) == owner,
            };
            if is_live != is_named.is_some() || !owned {
                return Err(format!(
                    "engram {number}, block {block}: lives {is_live}, named by {is_named:?}, owned by {:?}",
                    known.owners.get(&block)
                ));
            }
            if !is_live {
                continue;
            }
            lives += 1;
            if known.map.is_copied() && known.map.part(block).is_none() {
                return Err(format!("engram {number}, block {block}: lies nowhere"));
            }
            for extent in known.map.extents(block, 1) {
                if !lie.insert((extent.device.index(), extent.start.0)) {
                    return Err(format!("two things lie at {extent:?}"));
                }
            }
        }
    }
    stripes::audit(mounted, &engrams, &mut lie)?;
    audit_space(mounted, lie)?;
    Ok(lives)
}

/// Whether what is used is just what nodes and engrams use.
fn audit_space(
    mounted: &Mounted<Simulated>,
    mut lie: BTreeSet<(usize, u64)>,
) -> Result<(), String> {
    let mut nodes = Nodes::default();
    for base in mounted.bases() {
        check::check(mounted.nodes(), &base, Depth::Tree, &mut nodes)
            .map_err(|why| why.to_string())?;
    }
    if let Some(complaint) = nodes.complaint {
        return Err(complaint);
    }
    for (device, block) in &nodes.places {
        for block in *block..block + NODE_BLOCKS {
            if !lie.insert((*device, block)) {
                return Err(format!(
                    "a node and something else at {block} of drive {device}"
                ));
            }
        }
    }
    for (device, block) in &lie {
        let slot = Slot::new(*device).ok_or("a drive")?;
        if !mounted.is_used(slot, Blocks(*block)) {
            return Err(format!(
                "block {block} of drive {device} is needed and free"
            ));
        }
    }
    for part in mounted.parts() {
        let used = layout::allocatable(part.size).0 - mounted.room(part.slot).unused.0;
        let room = mounted.room(part.slot);
        if room.free.0 + room.claimed.0 + room.pending.0 != room.unused.0 {
            return Err(format!(
                "{:?}: {room:?}: blocks are neither free nor needed",
                part.slot
            ));
        }
        let needed = lie.iter().filter(|(d, _)| *d == part.slot.index()).count() as u64;
        if used != needed {
            return Err(format!(
                "{:?}: {used} blocks are used, {needed} are needed",
                part.slot
            ));
        }
    }
    Ok(())
}
