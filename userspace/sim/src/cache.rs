// SPDX-License-Identifier: GPL-2.0

//! What a drive was given and has not made durable, and what may be left of it: the volatile cache, and every way of losing it.
//!
//! A drive may bring cached writes to the medium in any order and tear each at sectors, so each sector that several unflushed
//! writes overlap in may end as any of them left it. Nothing else is possible, and nothing of it is ruled out here.

use crate::host::Chance;
use crate::image::block;
use crate::image::merge;
use crate::image::Block;
use crate::image::Image;
use crate::image::SECTOR_SIZE;
use crate::sectors::BadText;
use crate::sectors::Sectors;
use embr_engine::units::BLOCK_SIZE;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One write as the drive took it.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    first: u64,
    sectors: usize,
    blocks: Vec<Block>,
}

impl Written {
    /// Whole sectors from the begin of this block on. What follows them in the last block is zero, or lies beyond the drive's end.
    pub fn new(first: u64, bytes: &[u8]) -> Self {
        Written {
            first,
            sectors: bytes.len() / SECTOR_SIZE,
            blocks: bytes.chunks(BLOCK_SIZE).map(block).collect(),
        }
    }

    /// What a discard of these blocks leaves, of which the last may have fewer sectors than a block.
    pub(crate) fn discarded(first: u64, sectors: usize, blocks: Vec<Block>) -> Self {
        Written {
            first,
            sectors,
            blocks,
        }
    }

    /// The first block.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> usize {
        self.sectors
    }

    /// The blocks that it touches.
    pub fn numbers(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.blocks.len() as u64
    }

    /// What is there afterwards if only these sectors arrive: the write that this amounts to.
    pub fn torn(&self, over: &Image, arrived: &Sectors) -> Self {
        let blocks = (self.numbers().zip(&self.blocks).enumerate())
            .map(|(n, (number, new))| match arrived.of_block(n) {
                0 => over.get(number),
                u8::MAX => new.clone(),
                some => merge(&over.get(number), new, some),
            })
            .collect();
        Written {
            first: self.first,
            sectors: self.sectors,
            blocks,
        }
    }

    /// The whole of it.
    pub fn apply(&self, to: &mut Image) {
        for (number, new) in self.numbers().zip(&self.blocks) {
            to.set(number, new.clone());
        }
    }

    /// Only these sectors of it.
    pub fn apply_sectors(&self, to: &mut Image, arrived: &Sectors) {
        for (n, (number, new)) in self.numbers().zip(&self.blocks).enumerate() {
            match arrived.of_block(n) {
                0 => {}
                u8::MAX => to.set(number, new.clone()),
                some => {
                    let torn = merge(&to.get(number), new, some);
                    to.set(number, torn);
                }
            }
        }
    }
}

/// A write in a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cached {
    /// The write.
    pub written: Arc<Written>,
    /// What the medium would hold with this and all older writes of the cache: what reads saw then.
    pub after: Image,
}

impl Cached {
    /// A cache that holds these writes over this medium, oldest first.
    pub fn stack(durable: &Image, writes: impl IntoIterator<Item = Arc<Written>>) -> Vec<Self> {
        let mut after = durable.clone();
        let cached = |written: Arc<Written>| {
            written.apply(&mut after);
            Cached {
                written,
                after: after.clone(),
            }
        };
        writes.into_iter().map(cached).collect()
    }
}

/// What is left of a drive's unflushed writes. Writes are counted from the oldest unflushed one, from 0.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Survival {
    /// All are still cached, and still volatile: a reset without a power cut.
    Reset,
    /// All reached the medium.
    All,
    /// None did.
    None,
    /// The first so many did.
    Prefix(usize),
    /// Only this one did.
    Only(usize),
    /// All but this one did.
    Dropped(usize),
    /// All did, but only these sectors of this one.
    Torn(usize, Sectors),
    /// Those that this seed chooses, some of them torn, overlapping ones in any order.
    Subset(u64),
}

impl Survival {
    /// What a drive holds that held `durable` and had this in its cache; none where there is no such write.
    /// `salt` makes drives differ that share the seed of a subset.
    pub fn of(&self, durable: &Image, cache: &[Cached], salt: u64) -> Option<Contents> {
        let first = |n: usize| match n.checked_sub(1) {
            Some(last) => cache.get(last).map(|c| c.after.clone()),
            None => Some(durable.clone()),
        };
        let left = match self {
            Survival::Reset => {
                return Some(Contents {
                    durable: durable.clone(),
                    cache: cache.to_vec(),
                    present: true,
                })
            }
            Survival::All => first(cache.len())?,
            Survival::None => first(0)?,
            Survival::Prefix(n) => first(*n)?,
            Survival::Only(n) => {
                let mut image = first(0)?;
                cache.get(*n)?.written.apply(&mut image);
                image
            }
            Survival::Dropped(n) => lessened(&first(*n)?, cache.get(*n..)?, &Sectors::default())?,
            Survival::Torn(n, sectors) => lessened(&first(*n)?, cache.get(*n..)?, sectors)?,
            Survival::Subset(seed) => {
                let mut image = first(0)?;
                let chance = Chance::new(*seed ^ Chance::new(salt).next());
                subset(&mut image, cache, &chance);
                image
            }
        };
        Some(Contents {
            durable: left,
            cache: Vec::new(),
            present: true,
        })
    }
}

/// What is there if of the first of these writes only some sectors arrived, and all that followed did. `before` is what
/// was there before them. Only blocks that no later write covers differ from what all of them leave.
fn lessened(before: &Image, writes: &[Cached], arrived: &Sectors) -> Option<Image> {
    let (first, later) = writes.split_first()?;
    if arrived.end() > first.written.sectors() {
        return None;
    }
    let mut image = writes.last()?.after.clone();
    let less = first.written.torn(before, arrived);
    for (number, block) in less.numbers().zip(&less.blocks) {
        if !later.iter().any(|w| w.written.numbers().contains(&number)) {
            image.set(number, block.clone());
        }
    }
    Some(image)
}

/// How likely a write survives and is torn is drawn as well, so that both few losses and few survivors are common.
fn subset(image: &mut Image, cache: &[Cached], chance: &Chance) {
    let kept = chance.one(&[1, 4, 7]);
    let torn = chance.one(&[0, 1, 4]);
    let mut order: Vec<&Written> = cache.iter().map(|c| &*c.written).collect();
    if chance.below(2) == 0 {
        shuffle(&mut order, chance);
    }
    for write in order {
        if chance.below(8) >= kept {
            continue;
        }
        if chance.below(8) < torn {
            write.apply_sectors(image, &Sectors::some(write.sectors(), chance));
        } else {
            write.apply(image);
        }
    }
}

/// Puts these into any order.
pub fn shuffle<T>(items: &mut [T], chance: &Chance) {
    for n in (1..items.len()).rev() {
        items.swap(n, chance.below(n + 1));
    }
}

impl fmt::Display for Survival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Survival::Reset => f.write_str("reset"),
            Survival::All => f.write_str("all"),
            Survival::None => f.write_str("none"),
            Survival::Prefix(n) => write!(f, "prefix:{n}"),
            Survival::Only(n) => write!(f, "only:{n}"),
            Survival::Dropped(n) => write!(f, "dropped:{n}"),
            Survival::Torn(n, sectors) => write!(f, "torn:{n}:{sectors}"),
            Survival::Subset(seed) => write!(f, "subset:{seed:x}"),
        }
    }
}

impl FromStr for Survival {
    type Err = BadText;

    fn from_str(text: &str) -> Result<Self, BadText> {
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let number = |text: &str| text.parse().map_err(|_| BadText);
        Ok(match (name, rest) {
            ("reset", None) => Survival::Reset,
            ("all", None) => Survival::All,
            ("none", None) => Survival::None,
            ("prefix", Some(n)) => Survival::Prefix(number(n)?),
            ("only", Some(n)) => Survival::Only(number(n)?),
            ("dropped", Some(n)) => Survival::Dropped(number(n)?),
            ("torn", Some(rest)) => {
                let (n, sectors) = rest.split_once(':').ok_or(BadText)?;
                Survival::Torn(number(n)?, sectors.parse()?)
            }
            ("subset", Some(seed)) => {
                Survival::Subset(u64::from_str_radix(seed, 16).map_err(|_| BadText)?)
            }
            _ => return Err(BadText),
        })
    }
}

/// All that a drive holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// What is on the medium.
    pub durable: Image,
    /// What was written since and not flushed, in order.
    pub cache: Vec<Cached>,
    /// Whether the drive answers.
    pub present: bool,
}

impl Contents {
    /// A drive of zeros.
    pub fn new(size: embr_engine::units::Bytes) -> Self {
        Contents {
            durable: Image::new(size),
            cache: Vec::new(),
            present: true,
        }
    }

    /// What reads see.
    pub fn visible(&self) -> &Image {
        self.cache.last().map_or(&self.durable, |c| &c.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::BLOCK_SECTORS;
    use embr_engine::units::Bytes;

    fn bytes(image: &Image) -> Vec<u8> {
        (0..image.blocks())
            .flat_map(|n| image.get(n).map_or([0; BLOCK_SIZE], |b| **b))
            .collect()
    }

    /// What the medium may hold, said again with plain bytes: the versions of each sector.
    fn versions(cache: &[(u64, Vec<u8>)], size: usize) -> Vec<Vec<u8>> {
        let mut versions = vec![vec![0]; size / SECTOR_SIZE];
        for (first, bytes) in cache {
            for (n, sector) in bytes.chunks(SECTOR_SIZE).enumerate() {
                versions[*first as usize * BLOCK_SECTORS + n].push(sector[0]);
            }
        }
        versions
    }

    #[test]
    fn survivors_are_what_was_asked_for() {
        for seed in 0..300 {
            let chance = Chance::new(seed);
            let size = 6 * BLOCK_SIZE;
            let plain: Vec<(u64, Vec<u8>)> = (1..=1 + chance.below(6) as u8)
                .map(|value| {
                    let first = chance.below(6);
                    let blocks = 1 + chance.below((6 - first).min(3));
                    (first as u64, vec![value; blocks * BLOCK_SIZE])
                })
                .collect();
            let base = Image::new(Bytes(size as u64));
            let writes = plain
                .iter()
                .map(|(first, bytes)| Written::new(*first, bytes));
            let cache = Cached::stack(&base, writes.map(Arc::new));
            let n = chance.below(cache.len());
            let tears = Sectors::tears(cache[n].written.sectors());
            let tear = tears[chance.below(tears.len())].clone();
            let model = |take: &dyn Fn(usize, usize) -> bool| {
                let mut model = vec![0; size];
                for (w, (first, bytes)) in plain.iter().enumerate() {
                    let at = *first as usize * BLOCK_SIZE;
                    for (s, sector) in bytes.chunks(SECTOR_SIZE).enumerate() {
                        if take(w, s) {
                            model[at + s * SECTOR_SIZE..][..SECTOR_SIZE].copy_from_slice(sector);
                        }
                    }
                }
                model
            };
            type Take<'a> = &'a dyn Fn(usize, usize) -> bool;
            let cases: [(Survival, Take<'_>); 7] = [
                (Survival::Reset, &|_, _| true),
                (Survival::All, &|_, _| true),
                (Survival::None, &|_, _| false),
                (Survival::Prefix(n), &|w, _| w < n),
                (Survival::Only(n), &|w, _| w == n),
                (Survival::Dropped(n), &|w, _| w != n),
                (Survival::Torn(n, tear.clone()), &|w, s| {
                    w != n || tear.has(s)
                }),
            ];
            for (survival, take) in cases {
                let contents = survival.of(&base, &cache, 0).expect("the write exists");
                assert_eq!(
                    bytes(contents.visible()),
                    model(take),
                    "seed {seed} {survival}"
                );
                let volatile = survival == Survival::Reset;
                assert_eq!(contents.cache.is_empty(), !volatile, "{survival}");
                assert!(!volatile || contents.durable == base, "{survival}");
            }
            let allowed = versions(&plain, size);
            for salt in 0..4 {
                let left = Survival::Subset(seed)
                    .of(&base, &cache, salt)
                    .expect("a subset");
                for (sector, allowed) in bytes(&left.durable).chunks(SECTOR_SIZE).zip(&allowed) {
                    assert!(
                        sector.iter().all(|b| *b == sector[0]),
                        "torn within a sector"
                    );
                    assert!(allowed.contains(&sector[0]), "seed {seed}: {}", sector[0]);
                }
            }
        }
    }

    #[test]
    fn subsets_reach_every_combination_of_versions() {
        let size = 2 * BLOCK_SIZE;
        let base = Image::new(Bytes(size as u64));
        let writes = [(0, 1u8, 2), (1, 2, 1), (0, 3, 1)]
            .map(|(first, value, blocks)| Written::new(first, &vec![value; blocks * BLOCK_SIZE]));
        let cache = Cached::stack(&base, writes.map(Arc::new));
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200_000 {
            let left = Survival::Subset(seed)
                .of(&base, &cache, 3)
                .expect("a subset");
            let bytes = bytes(&left.durable);
            seen.insert((bytes[0], bytes[512], bytes[BLOCK_SIZE], bytes[size - 1]));
        }
        assert_eq!(
            seen.len(),
            3usize.pow(4),
            "three versions of each of four sectors"
        );
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let base = Image::new(Bytes(8 * BLOCK_SIZE as u64));
        let cache = Cached::stack(&base, [Arc::new(Written::new(1, &[1; BLOCK_SIZE]))]);
        let none = |s: Survival| s.of(&base, &cache, 0).is_none();
        assert!(none(Survival::Prefix(2)) && !none(Survival::Prefix(1)));
        assert!(none(Survival::Only(1)) && !none(Survival::Only(0)));
        assert!(none(Survival::Dropped(1)) && !none(Survival::Dropped(0)));
        assert!(none(Survival::Torn(1, Sectors::default())));
        assert!(none(Survival::Torn(0, Sectors::those(9, |_| true))));
        assert!(!none(Survival::Torn(0, Sectors::those(8, |_| true))));
    }

    #[test]
    fn sectors_and_survivals_are_read_back_from_their_text() {
        for seed in 0..500 {
            let chance = Chance::new(seed);
            let count = 1 + chance.below(40);
            let sectors = Sectors::some(count, &chance);
            assert_eq!(
                sectors.to_string().parse(),
                Ok(sectors.clone()),
                "{sectors}"
            );
            for survival in [
                Survival::Torn(chance.below(9), sectors),
                Survival::Subset(chance.next()),
                Survival::Prefix(chance.below(99)),
            ] {
                assert_eq!(
                    survival.to_string().parse(),
                    Ok(survival.clone()),
                    "{survival}"
                );
            }
        }
        for text in [
            "reset",
            "all",
            "none",
            "only:7",
            "dropped:0",
            "torn:1:0-3.7",
        ] {
            let survival: Survival = text.parse().expect(text);
            assert_eq!(survival.to_string(), text);
        }
        for bad in [
            "",
            "al",
            "all:1",
            "prefix",
            "prefix:x",
            "torn:1",
            "torn:1:3-1",
            "subset:",
        ] {
            assert_eq!(bad.parse::<Survival>(), Err(BadText), "{bad}");
        }
    }
}
