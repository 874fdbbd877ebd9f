// SPDX-License-Identifier: GPL-2.0

//! Who has a block of a device: which block of which engram lies there, whether it lives, which files name it and what they are called;
//! or which parity it is. It goes through all engrams and stripes, for nothing says what lies where. It changes nothing.

use super::data::is;
use super::data::items;
use super::path;
use super::Ended;
use crate::error::NoMem;
use crate::format::engram;
use crate::format::engram::Lies;
use crate::format::engram::Map;
use crate::format::engram::Owner;
use crate::format::member::Slot;
use crate::format::stripe;
use crate::format::stripe::Layout;
use crate::names::Error;
use crate::names::Names;
use crate::names::View;
use crate::names::Wrong;
use crate::stripe::known;
use crate::tree::Range;
use crate::units::Blocks;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::volume::mounted::Fault;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Arc;
use embr_rt::Vec;

/// A block of a stripe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spot {
    /// The stripe.
    pub stripe: StripeId,
    /// The fragment, those of data first.
    pub fragment: usize,
    /// The row.
    pub row: usize,
    /// Whether it is parity.
    pub is_parity: bool,
}

/// What is known of whether a block of an engram is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It lives.
    Lives,
    /// No file has it any more.
    Dead,
    /// What would say so is lost or makes no sense.
    Unknown,
}

/// A path of a file.
#[derive(Debug)]
pub struct Path {
    /// From the root on.
    pub path: Vec<u8>,
    /// The name of the snapshot or head that has it; none of what a mount shows.
    pub whose: Vec<u8>,
}

/// A file that names a block.
#[derive(Debug)]
pub struct User {
    /// Its number.
    pub inode: InodeNo,
    /// Which block of it this was when it was written, if this file wrote it: a hint.
    pub at: Option<FileBlock>,
    /// Its paths, as the first has them who has any; none where it has no name, or none that could be found.
    pub paths: Vec<Path>,
}

/// What there is at a block.
#[derive(Debug)]
pub struct Holder {
    /// Where in a stripe it is; none of what lies in copies.
    pub spot: Option<Spot>,
    /// The engram, and which block of it this is; none of parity, and where it is not known.
    pub engram: Option<(EngramId, usize)>,
    /// Whether that lives.
    pub life: Life,
    /// Who names it.
    pub users: Vec<User>,
    /// Why all that should be said of it could not be.
    pub lacks: Option<Error>,
}

/// How much is told of each.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Files that name a block.
    pub users: usize,
    /// Paths of a file.
    pub paths: usize,
}

/// All that somebody may look at.
#[derive(Default)]
struct Views {
    /// With their names; what a mount shows first.
    each: Vec<(Vec<u8>, Arc<View>)>,
    /// Why there may be more.
    lacks: Option<Error>,
}

/// Tells of everything that engrams and stripes have at a block of a device. What is dead of what lies in copies is free, and nobody's.
/// Says whether a node is lost, or an item makes no sense, that could tell of more.
pub fn at<M: Machine>(
    mounted: &Mounted<M>,
    names: &Names,
    (device, block): (Slot, Blocks),
    most: Most,
    tell: &mut dyn FnMut(Holder) -> Result<(), Ended>,
) -> Result<bool, Ended> {
    let mut spots = Vec::new();
    let mut copies = Vec::new();
    let is_lost = in_copies(mounted, (device, block), &mut copies)?
        | in_stripes(mounted, (device, block), &mut spots)?;
    if spots.is_empty() && copies.is_empty() {
        return Ok(is_lost);
    }
    let views = views(mounted, names)?;
    for at in copies {
        let mut holder = Holder {
            spot: None,
            engram: Some(at),
            life: Life::Unknown,
            users: Vec::new(),
            lacks: None,
        };
        let found = life(mounted, at, None);
        note(&mut holder, found, |holder, life| holder.life = life)?;
        if holder.life != Life::Dead {
            used(mounted, names, &views, most, &mut holder)?;
            tell(holder)?;
        }
    }
    for spot in spots {
        let mut holder = Holder {
            spot: Some(spot),
            engram: None,
            life: Life::Unknown,
            users: Vec::new(),
            lacks: None,
        };
        if !spot.is_parity {
            let found = payload(mounted, spot);
            note(&mut holder, found, |holder, at| holder.engram = Some(at))?;
        }
        if let Some(at) = holder.engram {
            let found = life(mounted, at, Some(spot));
            note(&mut holder, found, |holder, life| holder.life = life)?;
        }
        if holder.life != Life::Dead {
            used(mounted, names, &views, most, &mut holder)?;
        }
        tell(holder)?;
    }
    Ok(is_lost)
}

/// What was looked up is noted, or why it could not be. Want of memory ends it all.
fn note<T>(
    holder: &mut Holder,
    found: Result<T, Error>,
    put: impl FnOnce(&mut Holder, T),
) -> Result<(), Ended> {
    match found {
        Ok(found) => put(holder, found),
        Err(Error::Fault(Fault::NoMemory)) => return Err(Ended::NoMemory),
        Err(why) => {
            // The first may be why others are.
            holder.lacks.get_or_insert(why);
        }
    }
    Ok(())
}

/// The blocks of engrams in copies that lie there.
#[inline(never)]
fn in_copies<M: Machine>(
    mounted: &Mounted<M>,
    (device, block): (Slot, Blocks),
    found: &mut Vec<(EngramId, usize)>,
) -> Result<bool, Ended> {
    let mut is_senseless = false;
    let is_lost = items(mounted, ENGRAMS, &mut |key, value| {
        let engram = EngramId(key.0[0]);
        if engram == EngramId::NONE || !is(key, engram::Kind::Map, engram) {
            return Ok(());
        }
        let Some(map) = Map::parse(value)? else {
            is_senseless = true;
            return Ok(());
        };
        for part in map.parts() {
            for extent in part.extents(part.first, part.blocks) {
                let within = block.0.checked_sub(extent.start.0);
                let within = within.filter(|n| extent.device == device && *n < extent.blocks.0);
                if let Some(within) = within {
                    found.push((engram, part.first.saturating_add(within as usize)))?;
                }
            }
        }
        Ok(())
    })?;
    Ok(is_lost || is_senseless)
}

/// The blocks of stripes that lie there.
#[inline(never)]
fn in_stripes<M: Machine>(
    mounted: &Mounted<M>,
    (device, block): (Slot, Blocks),
    found: &mut Vec<Spot>,
) -> Result<bool, Ended> {
    let mut is_senseless = false;
    let is_lost = items(mounted, STRIPES, &mut |key, value| {
        let stripe = StripeId(key.0[0]);
        if stripe == StripeId::NONE || key != stripe::key(stripe, stripe::Kind::Layout, 0) {
            return Ok(());
        }
        let Some(layout) = Layout::parse(value) else {
            is_senseless = true;
            return Ok(());
        };
        let shape = layout.shape;
        for fragment in 0..shape.width() {
            let extent = known::extent(&layout, fragment, 0, shape.length(fragment));
            let Some(extent) = extent.filter(|e| e.device == device) else {
                continue;
            };
            let row = block.0.checked_sub(extent.start.0);
            if let Some(row) = row.filter(|row| *row < extent.blocks.0) {
                found.push(Spot {
                    stripe,
                    fragment,
                    row: row as usize,
                    is_parity: fragment >= shape.data(),
                })?;
            }
        }
        Ok(())
    })?;
    Ok(is_lost || is_senseless)
}

/// Which block of which engram lies in a row of a fragment of data.
#[inline(never)]
fn payload<M: Machine>(mounted: &Mounted<M>, spot: Spot) -> Result<(EngramId, usize), Error> {
    let layout = mounted.layout(spot.stripe)?;
    let mut before = 0usize;
    for held in mounted
        .contents(spot.stripe, &layout, spot.fragment)?
        .iter()
    {
        let within = spot.row.saturating_sub(before);
        if within < held.blocks {
            return Ok((held.engram, held.first.saturating_add(within)));
        }
        before = before.saturating_add(held.blocks);
    }
    Err(Error::Stripe(spot.stripe, Wrong::Disagrees))
}

/// Whether a block of an engram is in use, and lies in this place of a stripe if one is named.
#[inline(never)]
fn life<M: Machine>(
    mounted: &Mounted<M>,
    (engram, block): (EngramId, usize),
    spot: Option<Spot>,
) -> Result<Life, Error> {
    // An engram of which nothing lives is not there any more.
    if mounted
        .get(ENGRAMS, engram::key(engram, engram::Kind::Map, 0), |_| ())?
        .is_none()
    {
        return Ok(Life::Dead);
    }
    let map = mounted.map(engram)?;
    let is_there = match (spot, &map.lies) {
        (None, _) => true,
        (Some(spot), Lies::Stripes(_)) => {
            let layout = mounted.layout(spot.stripe)?;
            let at = layout.shape.begin(spot.fragment).saturating_add(spot.row);
            let piece = map.piece(block).filter(|p| p.stripe == spot.stripe);
            piece.is_some_and(|p| p.at.saturating_add(block.saturating_sub(p.first)) == at)
        }
        // It lies in copies by now.
        (Some(_), _) => false,
    };
    let lives = is_there && mounted.live(engram, map.blocks)?.has(block);
    Ok(if lives { Life::Lives } else { Life::Dead })
}

/// Notes who names a block, and what they are called.
#[inline(never)]
fn used<M: Machine>(
    mounted: &Mounted<M>,
    names: &Names,
    views: &Views,
    most: Most,
    holder: &mut Holder,
) -> Result<(), Ended> {
    let Some((engram, block)) = holder.engram else {
        return Ok(());
    };
    let mut numbers = Vec::new();
    let found = mounted.users(engram, block, most.users);
    note(holder, found, |_, found| numbers = found)?;
    let mut written = None;
    let found = owner(mounted, (engram, block));
    note(holder, found, |_, found| written = found)?;
    for inode in numbers {
        let at = written.filter(|(owner, _)| *owner == inode);
        let mut user = User {
            inode,
            at: at.map(|(_, at)| at),
            paths: Vec::new(),
        };
        for (whose, view) in views.each.iter() {
            let mut paths = Vec::new();
            let found = path::all(names.of(mounted, view), inode, most.paths);
            note(holder, found, |_, found| paths = found)?;
            for path in paths {
                let whose = whose.try_clone()?;
                user.paths.push(Path { path, whose })?;
            }
            if !user.paths.is_empty() {
                break;
            }
        }
        if let Some(why) = views.lacks.filter(|_| user.paths.is_empty()) {
            holder.lacks.get_or_insert(why);
        }
        holder.users.push(user)?;
    }
    Ok(())
}

/// Which file wrote a block, as which of its blocks; none where it does not say so.
#[inline(never)]
fn owner<M: Machine>(
    mounted: &Mounted<M>,
    (engram, block): (EngramId, usize),
) -> Result<Option<(InodeNo, FileBlock)>, Error> {
    let range = Range {
        first: engram::key(engram, engram::Kind::Owner, 0),
        last: engram::key(engram, engram::Kind::Owner, block),
    };
    let mut scan = mounted.scan_back(ENGRAMS, range);
    let last = match &mut scan {
        Some(scan) => scan.next().map_err(Fault::from)?,
        None => None,
    };
    let written = last.and_then(|(key, value)| {
        let owner = Owner::parse(&value)?;
        let within = block.checked_sub(engram::sub(key) as usize)?;
        let at = owner.at.plus(within as u64);
        (within < owner.blocks).then_some((owner.inode, at))
    });
    Ok(written)
}

/// All snapshots and heads. Where it is not known which there are, the first, from which all grew.
#[inline(never)]
fn views<M: Machine>(mounted: &Mounted<M>, names: &Names) -> Result<Views, Ended> {
    let mut views = Views::default();
    let listed = views.note(names.snapshots(mounted))?.unwrap_or_default();
    for is_main in [true, false] {
        for one in listed.iter().filter(|one| one.name.is_empty() == is_main) {
            if let Some(view) = views.note(names.open(mounted, &one.name))? {
                views.each.push((one.name.try_clone()?, view))?;
            }
        }
    }
    if views.each.is_empty() {
        views.each.push((Vec::new(), first()?))?;
    }
    Ok(views)
}

impl Views {
    /// What was found, or why it could not be is noted. Want of memory ends it all.
    fn note<T>(&mut self, found: Result<T, Error>) -> Result<Option<T>, Ended> {
        match found {
            Ok(found) => Ok(Some(found)),
            Err(Error::Fault(Fault::NoMemory)) => Err(Ended::NoMemory),
            Err(why) => {
                self.lacks.get_or_insert(why);
                Ok(None)
            }
        }
    }
}

fn first() -> Result<Arc<View>, NoMem> {
    Arc::try_new(View::first())
}
