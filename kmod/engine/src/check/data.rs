// SPDX-License-Identifier: GPL-2.0

//! What files hold: their blocks in the tree and their extents, against the engrams that these name. Which blocks lie where is
//! gathered with all other uses of blocks; an item is looked at with its inode.

use super::claims::Claims;
use super::names::look;
use super::names::Look;
use super::stripes;
use super::Check;
use super::Ended;
use super::Finding;
use super::Observer;
use super::Stage;
use super::Trouble;
use super::Use;
use crate::env::DeviceError;
use crate::env::Devices as _;
use crate::env::Hash256;
use crate::env::Hasher as _;
use crate::file::plan::Site;
use crate::file::window::At;
use crate::file::MAX_SIZE;
use crate::format::engram;
use crate::format::engram::Live;
use crate::format::engram::Map;
use crate::format::engram::Owner;
use crate::format::extent;
use crate::format::extent::Encoding;
use crate::format::extent::Run;
use crate::format::geometry::Policy;
use crate::format::inline;
use crate::format::inode::FileType;
use crate::format::intent::END;
use crate::format::journal::Extent;
use crate::format::reference::Of;
use crate::names::Files;
use crate::names::Item;
use crate::names::Kind;
use crate::stripe::known;
use crate::tree::Key;
use crate::tree::Range;
use crate::tree::TreeError;
use crate::units::EngramId;
use crate::units::FileBlock;
use crate::units::BLOCK_SIZE;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::NAMES;
use embr_rt::Vec;

/// What is done with each item.
type Each<'f> = &'f mut dyn FnMut(Key, &[u8]) -> Result<(), Ended>;

/// Calls `f` with every item of a tree, also with those behind nodes that are lost. Says whether any was.
pub(crate) fn items<M: Machine>(
    mounted: &Mounted<M>,
    tree: crate::units::TreeId,
    f: Each<'_>,
) -> Result<bool, Ended> {
    let mut from = Some(Key::MIN);
    let mut is_lost = false;
    while let Some(first) = from.take() {
        let last = Key::MAX;
        let Some(mut scan) = mounted.scan(tree, Range { first, last }) else {
            return Ok(is_lost);
        };
        loop {
            match scan.next() {
                Ok(Some((key, value))) => f(key, &value)?,
                Ok(None) => break,
                Err(TreeError::Io(..) | TreeError::Corrupt(..)) => {
                    is_lost = true;
                    let behind = scan.lost().and_then(|keys| keys.last.next());
                    from = behind.filter(|next| *next > first);
                    break;
                }
                Err(why) => return Err(why.into()),
            }
        }
    }
    Ok(is_lost)
}

/// Runs of blocks that live: first and how many.
fn runs(live: Live) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0usize;
    core::iter::from_fn(move || {
        let begin = (at..engram::MAX_BLOCKS).find(|b| live.has(*b))?;
        let end = (begin..engram::MAX_BLOCKS).find(|b| !live.has(*b));
        at = end.unwrap_or(engram::MAX_BLOCKS);
        Some((begin, at.saturating_sub(begin)))
    })
}

/// Blocks of an engram, cut where those begin or end that are shared, and whether they are; all are if that is not known.
fn parts(
    first: usize,
    blocks: usize,
    shared: Option<Live>,
) -> impl Iterator<Item = ((usize, usize), bool)> {
    let is_shared = move |block: usize| shared.is_none_or(|shared| shared.has(block));
    let end = first.saturating_add(blocks);
    let mut at = first;
    core::iter::from_fn(move || {
        let begin = Some(at).filter(|begin| *begin < end)?;
        let is = is_shared(begin);
        at = (begin..end).find(|b| is_shared(*b) != is).unwrap_or(end);
        Some(((begin, at.saturating_sub(begin)), is))
    })
}

pub(crate) fn is(key: Key, kind: engram::Kind, engram: EngramId) -> bool {
    engram::key(engram, kind, engram::sub(key) as usize) == key
}

/// What engrams and stripes have to say of blocks.
pub(super) enum Part {
    /// Another item is gone through.
    Item,
    /// These blocks are used.
    Used(Use, Extent),
    /// What lies there lives; of what lies in several places, the first.
    Lives(Extent),
}

/// Tells of all blocks that engrams and stripes use. Says whether a node is lost that could tell of more.
pub(super) fn claim<M: Machine>(
    mounted: &Mounted<M>,
    part: &mut dyn FnMut(Part) -> Result<(), Ended>,
) -> Result<bool, Ended> {
    Ok(of_engrams(mounted, part)? | stripes::claim(mounted, part)?)
}

fn of_engrams<M: Machine>(
    mounted: &Mounted<M>,
    part: &mut dyn FnMut(Part) -> Result<(), Ended>,
) -> Result<bool, Ended> {
    let mut map: Option<(EngramId, Map)> = None;
    items(mounted, ENGRAMS, &mut |key, value| {
        part(Part::Item)?;
        let engram = EngramId(key.0[0]);
        if is(key, engram::Kind::Map, engram) {
            map = Map::parse(value)?.map(|map| (engram, map));
        }
        let of_engram = map.as_ref().filter(|(of, _)| *of == engram);
        let Some((_, map)) = of_engram else {
            return Ok(());
        };
        if is(key, engram::Kind::Live, engram) {
            let live = Live::parse(value, map.blocks).unwrap_or_default();
            for (first, blocks) in runs(live) {
                for extent in map.extents(first, blocks) {
                    part(Part::Used(Use::Engram(engram), extent))?;
                }
                firsts(mounted, (engram, map), (first, blocks), &mut |extent| {
                    part(Part::Lives(extent))
                })?;
            }
        }
        Ok(())
    })
}

/// Where these blocks of an engram lie, of several places the first: so that whoever names them can be told apart.
fn firsts<M: Machine>(
    mounted: &Mounted<M>,
    (engram, map): (EngramId, &Map),
    (first, blocks): (usize, usize),
    f: &mut dyn FnMut(Extent) -> Result<(), Ended>,
) -> Result<(), Ended> {
    if map.is_copied() {
        let parts = map.parts();
        let mut firsts = parts.filter_map(|part| part.extents(first, blocks).next());
        return firsts.try_for_each(f);
    }
    let end = first.saturating_add(blocks);
    let mut block = first;
    while block < end {
        let Look::There((site, limit)) = look(mounted.site(At { engram, block }).map(Some))? else {
            // Which stripe lacks what is a finding of its own.
            return Ok(());
        };
        let count = limit.min(end.saturating_sub(block));
        if let Site::Fragment {
            layout,
            fragment,
            row,
            ..
        } = site
        {
            if let Some(extent) = known::extent(&layout, fragment, row, count) {
                f(extent)?;
            }
        }
        block = block.saturating_add(count.max(1));
    }
    Ok(())
}

impl<M: Machine, O: Observer> Check<'_, M, O> {
    /// Notes what extents name; what two of them name is told, unless it is said to be shared.
    pub(super) fn named(&mut self, named: &mut Claims) -> Result<bool, Ended> {
        let mounted = self.mounted;
        self.begin(Stage::Files)?;
        items(mounted, NAMES, &mut |key, value| {
            self.pass(Stage::Files)?;
            // Whichever version it is, what it names is in use.
            let (item, _) = Item::of(key);
            if item.kind() != Kind::EXTENTS {
                return Ok(());
            }
            let Some(all) = extent::parse(value) else {
                return Ok(());
            };
            for run in all.iter().filter(|r| r.encoding != Encoding::Hole) {
                let map = mounted.map(run.engram);
                let Look::There(map) = look(map.map(Some))? else {
                    continue;
                };
                let blocks = run.blocks.min(map.blocks.saturating_sub(run.block()));
                let mut twice = false;
                let shared = self.tallied(&run, Of::All)?;
                for (these, is_shared) in parts(run.block(), blocks, shared) {
                    firsts(mounted, (run.engram, &map), these, &mut |extent| {
                        twice |= named.claim(extent).is_some() && !is_shared;
                        Ok(())
                    })?;
                }
                if twice {
                    let trouble = Trouble::NamedTwice(run.engram);
                    self.found(Finding::Names(item, trouble));
                }
            }
            Ok(())
        })
    }

    /// Engram by engram: whether its items make sense and agree.
    pub(super) fn engrams(&mut self) -> Result<(), Ended> {
        let mounted = self.mounted;
        let mut at = Engram::default();
        self.begin(Stage::Engrams)?;
        let is_lost = items(mounted, ENGRAMS, &mut |key, value| {
            self.pass(Stage::Engrams)?;
            let number = EngramId(key.0[0]);
            if number != at.number {
                self.counted.engrams = self.counted.engrams.saturating_add(1);
                at.leave(self)?;
                at = Engram {
                    number,
                    next: at.next,
                    ..Engram::default()
                };
            }
            if let Err(what) = at.item(key, value, mounted.hash_size())? {
                self.found(Finding::Engram(number, what));
            }
            Ok(())
        })?;
        if !is_lost {
            at.leave(self)?;
        }
        Ok(())
    }

    /// What is wrong with an item of what a file holds; `kind` is its inode's type, where that is known. Returns how many blocks
    /// it speaks of, if that can be told.
    pub(super) fn contents(
        &mut self,
        files: Files<'_, M>,
        item: Item,
        value: &[u8],
        kind: Option<(FileType, Policy)>,
    ) -> Result<Option<u64>, Ended> {
        let known = [Kind::INLINE, Kind::EXTENTS].contains(&item.kind());
        if !known {
            self.found(Finding::Names(item, Trouble::Unknown));
            return Ok(Some(0));
        }
        if kind.is_some_and(|(kind, _)| kind != FileType::Regular) {
            self.found(Finding::Names(item, Trouble::NotRegular));
        }
        if item.kind() == Kind::INLINE {
            let trouble = match inline::parse(value) {
                _ if FileBlock(item.sub()).start() > MAX_SIZE => Some(Trouble::Unknown),
                Some(_) => None,
                None => Some(Trouble::Senseless),
            };
            if let Some(trouble) = trouble {
                self.found(Finding::Names(item, trouble));
                return Ok(None);
            }
            return Ok(Some(1));
        }
        let Some(all) = extent::parse(value) else {
            self.found(Finding::Names(item, Trouble::Senseless));
            return Ok(None);
        };
        let window = item.sub().saturating_mul(extent::WINDOW as u64);
        let mut blocks = 0u64;
        for run in all.iter() {
            let first = window.saturating_add(run.first as u64);
            let last = first.saturating_add(run.blocks.saturating_sub(1) as u64);
            if last >= END.0 {
                self.found(Finding::Names(item, Trouble::Unknown));
            }
            let inline = |block| Item::new(item.owner(), Kind::INLINE, block);
            let mut items = files.view.items(self.mounted, inline(first), inline(last));
            let hidden = items.next().map_err(crate::names::Error::Fault);
            if matches!(look(hidden)?, Look::There(_)) && files.view.is_single() {
                self.found(Finding::Names(item, Trouble::TwoPlaces));
            }
            if !run.encoding.is_understood() {
                self.found(Finding::Names(item, Trouble::Unknown));
            }
            if run.encoding != Encoding::Hole {
                let policy = kind.map(|(_, policy)| policy);
                self.run(item, &run, policy)?;
                blocks = blocks.saturating_add(run.blocks as u64);
            }
        }
        Ok(Some(blocks))
    }

    fn run(&mut self, item: Item, run: &Run, policy: Option<Policy>) -> Result<(), Ended> {
        let mounted = self.mounted;
        let engram = run.engram;
        let map = match look(mounted.map(engram).map(Some))? {
            Look::There(map) => map,
            _ => {
                let map = mounted.get(ENGRAMS, engram::key(engram, engram::Kind::Map, 0), |_| ());
                if matches!(map, Ok(None)) {
                    self.found(Finding::Names(item, Trouble::NoEngram(engram)));
                }
                return Ok(());
            }
        };
        let losses = |policy: Policy| policy.losses(mounted.geometry());
        let (has, wanted) = (losses(map.policy), policy.map_or(0, losses));
        if has < wanted {
            self.found(Finding::Names(item, Trouble::Weak(engram, has, wanted)));
        }
        let end = run.block().saturating_add(run.blocks);
        if end > map.blocks {
            self.found(Finding::Names(item, Trouble::NoEngram(engram)));
            return Ok(());
        }
        if let Look::There(live) = look(mounted.live(engram, map.blocks).map(Some))? {
            if !(run.block()..end).all(|block| live.has(block)) {
                self.found(Finding::Names(item, Trouble::Dead(engram)));
            }
        }
        let mut owned = Live::default();
        let range = Range {
            first: engram::key(engram, engram::Kind::Owner, 0),
            last: engram::key(engram, engram::Kind::Owner, run.block().max(end)),
        };
        let mut scan = mounted.scan(ENGRAMS, range);
        let mut is_known = true;
        while let Some(scan) = &mut scan {
            match scan.next() {
                Ok(Some((key, value))) => {
                    if let Some(owner) = Owner::parse(&value).filter(|o| o.inode == item.owner()) {
                        owned.set(engram::sub(key) as usize, owner.blocks);
                    }
                }
                Ok(None) => break,
                Err(TreeError::NoMemory) => return Err(Ended::NoMemory),
                Err(_) => {
                    is_known = false;
                    break;
                }
            }
        }
        let blocks = || run.block()..end;
        if let Some((own, shared)) = self.shared(item.owner(), run)? {
            // Of what is shared or was, the owner need not know.
            let is_owned = |block| own.has(block) || shared.has(block) || owned.has(block);
            if is_known && !blocks().all(is_owned) {
                self.found(Finding::Names(item, Trouble::NotOwned(engram)));
            }
            if !blocks().all(|block| own.has(block) || !shared.has(block)) {
                self.found(Finding::Names(item, Trouble::NotCounted(engram)));
            }
            if run.encoding == Encoding::Unwritten && blocks().any(|block| shared.has(block)) {
                self.found(Finding::Names(item, Trouble::SharedUnwritten(engram)));
            }
        }
        if run.encoding != Encoding::Raw {
            return Ok(());
        }
        let mut hashes = Vec::new();
        match look(
            mounted
                .hashes(engram, run.block(), run.blocks, &mut hashes)
                .map(Some),
        )? {
            // Stripes are read as a whole.
            Look::There(()) if self.options.data => {
                let size = self.mounted.hash_size();
                for part in map.parts().filter_map(|p| p.cut(run.block(), run.blocks)) {
                    let begin = part.first.saturating_sub(run.block()).saturating_mul(size);
                    let hashes = hashes.get(begin..).unwrap_or_default();
                    self.blocks_of(item, &part, hashes)?;
                }
                Ok(())
            }
            Look::There(()) => Ok(()),
            _ => {
                self.found(Finding::Names(item, Trouble::NoHash(engram)));
                Ok(())
            }
        }
    }

    /// Reads every copy of the blocks, and compares their hashes.
    fn blocks_of(&mut self, item: Item, part: &engram::Part, hashes: &[u8]) -> Result<(), Ended> {
        let mounted = self.mounted;
        let mut bytes = Vec::zeroed(part.blocks.saturating_mul(BLOCK_SIZE))?;
        let mut real = Vec::try_from_elem(Hash256::default(), part.blocks)?;
        for copy in part.extents(part.first, part.blocks) {
            let here = mounted.present().has(copy.device);
            let Some(at) = copy.start.bytes().filter(|_| here) else {
                continue;
            };
            self.counted.blocks = self.counted.blocks.saturating_add(copy.blocks.0);
            self.at(Stage::Data)?;
            match mounted.devices().read(copy.device, at, &mut bytes) {
                Ok(()) => mounted.hasher().hash_blocks(&bytes, &mut real),
                Err(DeviceError::NoMemory) => return Err(Ended::NoMemory),
                Err(_) => {
                    self.found(Finding::Rotten(item, copy));
                    continue;
                }
            }
            let size = mounted.hash_size();
            for (n, (hash, kept)) in real
                .iter()
                .zip(hashes.chunks_exact(size.max(1)))
                .enumerate()
            {
                if hash.0.get(..size) != Some(kept) {
                    let start = crate::units::Blocks(copy.start.0.saturating_add(n as u64));
                    let bad = Extent {
                        start,
                        blocks: crate::units::Blocks(1),
                        ..copy
                    };
                    self.found(Finding::Rotten(item, bad));
                }
            }
        }
        Ok(())
    }
}

/// What is wrong with an engram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// An item with this key makes no sense.
    Senseless(Key),
    /// Nothing says where it lies.
    NoMap,
    /// Nothing says what of it lives.
    NoLive,
    /// Nothing of it lives, and it is there.
    Dead,
    /// A block has two owners.
    Owners,
    /// What lives and what has an owner are not the same.
    Unowned,
    /// A stripe that it says to lie in is not there, or holds something else.
    Pieces,
    /// Nothing says where some blocks lie that live.
    Parts,
    /// Its number was never set aside.
    Number,
}

/// The engram whose items are gone through.
#[derive(Default)]
struct Engram {
    number: EngramId,
    /// The lowest number that was never set aside.
    next: Option<EngramId>,
    map: Option<Map>,
    live: Option<Live>,
    owned: Live,
    is_senseless: bool,
}

impl Engram {
    fn item(
        &mut self,
        key: Key,
        value: &[u8],
        hash_size: usize,
    ) -> Result<Result<(), Defect>, Ended> {
        let sub = engram::sub(key) as usize;
        let number = self.number;
        let bad = Ok(Err(Defect::Senseless(key)));
        let is = |kind| is(key, kind, number);
        if number == EngramId::NONE {
            let said = crate::format::name::parse_number(value);
            if key == engram::key(number, engram::Kind::Numbers, 0) {
                self.next = said.map(|n| EngramId(n.0));
            } else if key != engram::key(number, engram::Kind::Passed, 0) {
                return bad;
            }
            return match said {
                Some(_) => Ok(Ok(())),
                None => bad,
            };
        }
        let sound = if is(engram::Kind::Map) {
            self.map = Map::parse(value)?;
            self.map.is_some() && sub == 0
        } else if is(engram::Kind::Live) {
            let blocks = self.map.as_ref().map_or(0, |m| m.blocks);
            self.live = Live::parse(value, blocks);
            // Without a map it cannot be told; that is a finding of its own.
            (self.live.is_some() || self.map.is_none()) && sub == 0
        } else if is(engram::Kind::Hashes) {
            crate::format::engram::parse_hashes(value, hash_size).is_some()
        } else if is(engram::Kind::Owner) {
            match Owner::parse(value) {
                Some(owner) if sub < engram::MAX_BLOCKS => {
                    let mut these = Live::default();
                    these.set(sub, owner.blocks);
                    let before = self.owned.count();
                    self.owned.set(sub, owner.blocks);
                    let more = self.owned.count().saturating_sub(before);
                    if more != these.count() {
                        return Ok(Err(Defect::Owners));
                    }
                    true
                }
                _ => false,
            }
        } else {
            false
        };
        self.is_senseless |= !sound;
        if sound {
            Ok(Ok(()))
        } else {
            bad
        }
    }

    /// All its items were seen.
    fn leave<M: Machine, O: Observer>(&self, check: &mut Check<'_, M, O>) -> Result<(), Ended> {
        let number = self.number;
        if number == EngramId::NONE {
            return Ok(());
        }
        let mut found = |what| check.found(Finding::Engram(number, what));
        let pieces = self.map.as_ref().map_or(&[][..], Map::pieces);
        match (&self.map, self.live) {
            _ if self.is_senseless => {}
            (None, _) => found(Defect::NoMap),
            (_, None) => found(Defect::NoLive),
            // Of what lies in stripes dead blocks are kept until their stripe goes.
            (_, Some(live)) if live.count() == 0 && pieces.is_empty() => found(Defect::Dead),
            (_, Some(live)) if live != self.owned => found(Defect::Unowned),
            _ => {}
        }
        if self.next.is_some_and(|next| number >= next) {
            found(Defect::Number);
        }
        if !check.pieces(number, pieces)? {
            check.found(Finding::Engram(number, Defect::Pieces));
        }
        if let Some(map) = &self.map {
            let losses = map.policy.losses(check.mounted.geometry());
            for part in map.parts() {
                check.copies(Use::Engram(number), &part.places, losses);
            }
            let mut nowhere = self.live.unwrap_or_default();
            map.parts()
                .for_each(|part| nowhere.clear(part.first, part.blocks));
            if map.is_copied() && nowhere.count() != 0 {
                check.found(Finding::Engram(number, Defect::Parts));
            }
        }
        Ok(())
    }
}
