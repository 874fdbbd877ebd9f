// SPDX-License-Identifier: GPL-2.0

//! Whether stripes and engrams agree: what a stripe says it holds is what engrams say lies in it, both ways, and as much of it lives
//! as is said. Asked of the items as they are, apart from the engine's own check.

use crate::contents::scan;
use crate::contents::Known;
use crate::machine::Simulated;
use embr_engine::format::engram;
use embr_engine::format::engram::Lies;
use embr_engine::format::engram::Map;
use embr_engine::format::member::Slot;
use embr_engine::format::stripe;
use embr_engine::format::stripe::Kind;
use embr_engine::format::stripe::Layout;
use embr_engine::format::stripe::Totals;
use embr_engine::rebundle::Lodged;
use embr_engine::tree::Key;
use embr_engine::units::EngramId;
use embr_engine::units::StripeId;
use embr_engine::volume::mounted::ENGRAMS;
use embr_engine::volume::mounted::STRIPES;
use embr_engine::volume::Mounted;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// All fragments and copies, and where they are.
pub fn lodged(mounted: &Mounted<Simulated>) -> Result<Vec<(Lodged, Slot)>, String> {
    let mut all = Vec::new();
    for (stripe, layout) in layouts(mounted)? {
        for fragment in 0..layout.shape.width() {
            if let Some(place) = layout.place(fragment) {
                all.push((Lodged::Fragment(StripeId(stripe), fragment), place.device));
            }
        }
    }
    for (key, value) in scan(mounted, ENGRAMS)? {
        let engram = EngramId(key.0[0]);
        if engram == EngramId::NONE || key != engram::key(engram, engram::Kind::Map, 0) {
            continue;
        }
        let map = Map::parse(&value).map_err(|_| "no memory")?;
        let map = map.ok_or(format!("engram {}: its map makes no sense", engram.0))?;
        let devices = map.extents(0, map.blocks).map(|e| e.device);
        let devices: BTreeSet<Slot> = devices.collect();
        all.extend(devices.iter().map(|on| (Lodged::Copy(engram, *on), *on)));
    }
    Ok(all)
}

/// All stripes: their layouts.
pub fn layouts(mounted: &Mounted<Simulated>) -> Result<BTreeMap<u64, Layout>, String> {
    let mut all = BTreeMap::new();
    for (key, value) in scan(mounted, STRIPES)? {
        let stripe = StripeId(key.0[0]);
        if stripe.0 != 0 && key == stripe::key(stripe, Kind::Layout, 0) {
            let layout = Layout::parse(&value);
            all.insert(
                stripe.0,
                layout.ok_or(format!("stripe {stripe}: no layout"))?,
            );
        }
    }
    Ok(all)
}

/// Whether something that lives lies in a fragment of a drive that is not there.
pub fn has_lost(
    mounted: &Mounted<Simulated>,
    engrams: &BTreeMap<u64, Known>,
) -> Result<bool, String> {
    let items: BTreeMap<Key, Vec<u8>> = scan(mounted, STRIPES)?.into_iter().collect();
    for (number, layout) in layouts(mounted)? {
        for fragment in 0..layout.shape.data() {
            let place = layout.place(fragment);
            if place.is_some_and(|place| mounted.present().has(place.device)) {
                continue;
            }
            let value = items.get(&stripe::key(StripeId(number), Kind::Contents, fragment));
            let held = value.and_then(|v| stripe::parse_contents(v, layout.shape.length(fragment)));
            for held in held.ok_or(format!("stripe {number}: no contents"))? {
                let live = engrams.get(&held.engram.0).map(|known| known.live);
                let mut blocks = held.first..held.first + held.blocks;
                if blocks.any(|block| live.is_some_and(|live| live.has(block))) {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

/// Says which blocks of which drives stripes take.
pub fn audit(
    mounted: &Mounted<Simulated>,
    engrams: &BTreeMap<u64, Known>,
    lie: &mut BTreeSet<(usize, u64)>,
) -> Result<(), String> {
    let items: BTreeMap<Key, Vec<u8>> = scan(mounted, STRIPES)?.into_iter().collect();
    let layouts = layouts(mounted)?;
    // Which block of which engram each block of payload is, as stripes have it.
    let mut holds: BTreeMap<(u64, usize), (u64, usize)> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut expected = BTreeMap::new();
    let mut sums = Totals::default();
    for (number, layout) in &layouts {
        let stripe = StripeId(*number);
        let bad = |what: &str| format!("stripe {stripe}: {what}");
        let mut item = |kind, sub| {
            let key = stripe::key(stripe, kind, sub);
            known.insert(key);
            items.get(&key).ok_or(bad(&format!("no item {key}")))
        };
        item(Kind::Layout, 0)?;
        let shape = layout.shape;
        let mut at = 0;
        let mut alive = 0;
        let mut held_of = BTreeSet::new();
        for fragment in 0..shape.data() {
            let value = item(Kind::Contents, fragment)?;
            let held = stripe::parse_contents(value, shape.length(fragment));
            for held in held.ok_or(bad("contents that make no sense"))? {
                held_of.insert(held.engram);
                let engram = engrams.get(&held.engram.0);
                let engram = engram.ok_or(bad(&format!("holds engram {}", held.engram)))?;
                for block in held.first..held.first + held.blocks {
                    holds.insert((*number, at), (held.engram.0, block));
                    alive += usize::from(engram.live.has(block));
                    at += 1;
                }
            }
        }
        let live = stripe::parse_live(item(Kind::Live, 0)?);
        // One of few engrams goes with the last of its blocks.
        let is_left = alive != 0 || held_of.len() > 2;
        if live != Some(alive) || !is_left {
            return Err(bad(&format!("{live:?} blocks live, but {alive} do")));
        }
        let taken = shape.blocks() + shape.parity() * shape.rows();
        sums.taken.0 += taken as u64;
        sums.live.0 += alive as u64;
        let data = usize::from(mounted.geometry().data());
        let needed = (alive * (data + shape.parity())).div_ceil(data);
        if needed * 16 / taken < 16 {
            let key = stripe::wasteful(needed * 16 / taken, stripe);
            expected.insert(key, vec![1]);
        }
        for parity in 0..shape.parity() {
            for row in (0..shape.rows()).step_by(stripe::HASHES) {
                let hashes = item(Kind::Hashes, stripe::hashes_sub(parity, row))?;
                let rows = (shape.rows() - row).min(stripe::HASHES);
                if hashes.len() != 1 + rows * mounted.hash_size() {
                    return Err(bad("hashes that make no sense"));
                }
            }
        }
        for fragment in 0..shape.width() {
            let Some(place) = layout.place(fragment) else {
                continue;
            };
            for row in 0..shape.length(fragment) as u64 {
                if !lie.insert((place.device.index(), place.block.0 + row)) {
                    return Err(bad(&format!("something else at {place:?} + {row}")));
                }
            }
        }
    }
    let others = items.keys().find(|k| k.0[0] != 0 && !known.contains(*k));
    if let Some(key) = others {
        return Err(format!("an item {key} of no stripe"));
    }
    let of_all = |kind| stripe::key(StripeId::NONE, kind, 0);
    if let Some(value) = items.get(&of_all(Kind::Totals)) {
        // Where there were stripes and are none, they are said to take nothing.
        expected.insert(of_all(Kind::Totals), sums.encode().to_vec());
        if Totals::parse(value) != Some(sums) {
            return Err(format!(
                "sums {:?}, by the stripes {sums:?}",
                Totals::parse(value)
            ));
        }
    } else if sums != Totals::default() {
        return Err(format!("nothing says that all take {sums:?}"));
    }
    let said = items.iter().filter(|(k, _)| k.0[0] == 0);
    let said = said.filter(|(k, _)| **k != of_all(Kind::Numbers));
    if !said.clone().eq(expected.iter()) {
        let said: Vec<_> = said.collect();
        return Err(format!("said of stripes {said:?}, expected {expected:?}"));
    }
    let mut lies = BTreeMap::new();
    for (number, engram) in engrams {
        let Lies::Stripes(pieces) = &engram.map.lies else {
            continue;
        };
        for piece in pieces.iter() {
            for n in 0..piece.blocks {
                lies.insert((piece.stripe.0, piece.at + n), (*number, piece.first + n));
            }
        }
        let in_none = |block: &usize| engram.live.has(*block) && engram.map.piece(*block).is_none();
        if let Some(block) = (0..engram::MAX_BLOCKS).find(in_none) {
            return Err(format!("engram {number}: block {block} lies nowhere"));
        }
    }
    match lies == holds {
        true => Ok(()),
        false => Err("stripes hold something else than engrams say".into()),
    }
}
