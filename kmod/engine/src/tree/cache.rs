// SPDX-License-Identifier: GPL-2.0

//! Nodes that were read, kept in a bounded amount of memory.
//!
//! A node never changes and its pointer names its very bytes, so nothing here is ever out of date: what is no longer part of
//! any tree is just not asked for again. It never reads or checks anything.
//!
//! The cache is an array of buckets of a few ways each; a node's hash says which bucket it may be in. Within a bucket those
//! that were asked for since the hand last passed get a second chance. So it needs no memory beside the nodes, no lists, and
//! one line of memory to look at for a hit.

use crate::format::node::Node;
use crate::format::pointer::Pointer;
use crate::units::Bytes;
use embr_rt::lock_class;
use embr_rt::Arc;
use embr_rt::Mutex;
use embr_rt::NoMem;
use embr_rt::Vec;

/// Nodes that share a bucket.
const WAYS: usize = 8;
/// Locks, in a cache that is not tiny.
const SHARDS: usize = 64;
/// Memory that a node takes beside its bytes, about.
const OVERHEAD: u64 = 256;

#[derive(Default)]
struct Bucket {
    tags: [u64; WAYS],
    nodes: [Option<Arc<Node>>; WAYS],
    /// Bit i: way i was asked for since the hand passed.
    used: u32,
    hand: u32,
}

/// Where a node is looked for.
struct Home {
    tag: u64,
    shard: usize,
    /// Fraction of the shard's buckets, in 2^-32.
    bucket: u64,
}

/// The cache.
pub struct Cache {
    shards: Vec<Mutex<Vec<Bucket>>>,
    ways: usize,
}

impl Bucket {
    fn find(&self, tag: u64, pointer: &Pointer) -> Option<(usize, &Arc<Node>)> {
        self.tags
            .iter()
            .zip(&self.nodes)
            .enumerate()
            .filter(|(_, (t, _))| **t == tag)
            .find_map(|(way, (_, node))| Some((way, node.as_ref().filter(|n| n.is_at(pointer))?)))
    }

    /// The way to use next: an empty one, or whose second chance is over.
    fn victim(&mut self, ways: usize) -> usize {
        if let Some(empty) = self.nodes.iter().take(ways).position(Option::is_none) {
            return empty;
        }
        // After one round every bit is clear.
        for _ in 0..=ways {
            let bit = 1u32.wrapping_shl(self.hand);
            let way = self.hand as usize;
            self.hand = if way + 1 < ways { self.hand + 1 } else { 0 };
            if self.used & bit == 0 {
                return way;
            }
            self.used &= !bit;
        }
        0
    }

    fn put(&mut self, way: usize, tag: u64, node: Arc<Node>) -> Option<Arc<Node>> {
        if let Some(place) = self.tags.get_mut(way) {
            *place = tag;
        }
        self.nodes.get_mut(way)?.replace(node)
    }
}

impl Cache {
    /// A cache of about so many bytes for nodes of `node_size`; one too small for a node keeps none.
    pub fn new(bytes: Bytes, node_size: usize) -> Result<Self, NoMem> {
        let each = (node_size as u64).saturating_add(OVERHEAD);
        let nodes = usize::try_from(bytes.0 / each).unwrap_or(usize::MAX);
        let ways = nodes.min(WAYS);
        let buckets = nodes / WAYS;
        let count = if buckets >= SHARDS * 4 { SHARDS } else { 1 };
        let mut shards = Vec::try_with_capacity(count)?;
        for _ in 0..count {
            let mut shard = Vec::new();
            if ways != 0 {
                let each = (buckets / count).max(1);
                shard.try_reserve(each)?;
                for _ in 0..each {
                    shard.push(Bucket::default())?;
                }
            }
            shards.push(Mutex::try_new(shard, lock_class!("node cache"))?)?;
        }
        Ok(Cache { shards, ways })
    }

    fn home(&self, pointer: &Pointer) -> Home {
        let (tag, rest) = pointer.hash.split_at(8);
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        let (tag, rest) = (word(tag), word(rest));
        Home {
            tag,
            shard: (rest as usize) % self.shards.len().max(1),
            bucket: rest >> 32,
        }
    }

    fn in_bucket<R>(&self, home: &Home, work: impl FnOnce(&mut Bucket) -> R) -> Option<R> {
        let mut shard = self.shards.get(home.shard)?.lock();
        // Below the length, for the fraction is below one.
        let index = home.bucket.wrapping_mul(shard.len() as u64) >> 32;
        shard.get_mut(index as usize).map(work)
    }

    /// The node to which this pointer leads, if it is here.
    pub fn get(&self, pointer: &Pointer) -> Option<Arc<Node>> {
        let home = self.home(pointer);
        self.in_bucket(&home, |bucket| {
            let (way, node) = bucket.find(home.tag, pointer)?;
            let node = node.clone();
            bucket.used |= 1u32.wrapping_shl(way as u32);
            Some(node)
        })?
    }

    /// Keeps a node, as one that nobody has asked for yet, in place of another.
    pub fn keep(&self, node: &Arc<Node>) {
        let pointer = node.pointer();
        let home = self.home(&pointer);
        let ways = self.ways;
        let replaced = self.in_bucket(&home, |bucket| {
            if bucket.find(home.tag, &pointer).is_some() {
                return None;
            }
            let way = bucket.victim(ways);
            bucket.put(way, home.tag, node.clone())
        });
        // Freed only here, after the lock.
        drop(replaced);
    }

    /// How many nodes it keeps now.
    pub fn count(&self) -> usize {
        let in_shard = |shard: &Mutex<Vec<Bucket>>| -> usize {
            let shard = shard.lock();
            shard.iter().map(|b| b.nodes.iter().flatten().count()).sum()
        };
        self.shards.iter().map(in_shard).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::member::Slot;
    use crate::format::node::Stamp;
    use crate::format::pointer::Place;
    use crate::format::pointer::Places;
    use crate::hash::Scalar;
    use crate::tree::Key;
    use crate::units::Blocks;
    use crate::units::EpochId;
    use crate::units::Generation;
    use crate::units::Level;
    use crate::units::TreeId;
    use crate::units::Uuid;

    const SIZE: usize = 1024;

    fn node(n: u64) -> Arc<Node> {
        let place = Place {
            device: Slot::new(0).unwrap(),
            block: Blocks(n + 1),
        };
        let stamp = Stamp {
            volume: Uuid([1; 16]),
            epoch: EpochId([2; 16]),
            generation: Generation(3),
            tree: TreeId(4),
            level: Level(0),
            places: Places::new(&[place]).unwrap(),
        };
        let entries = [(Key([n, 0, 0]), &b"value"[..])];
        Arc::try_new(Node::leaf(&Scalar, SIZE, &stamp, entries.into_iter()).unwrap()).unwrap()
    }

    #[test]
    fn memory_is_bounded() {
        for fit in [0u64, 1, 3, 8, 20, 3000] {
            let cache = Cache::new(Bytes(fit * (SIZE as u64 + OVERHEAD)), SIZE).unwrap();
            for n in 0..2 * fit + 20 {
                cache.keep(&node(n));
            }
            assert!(cache.count() as u64 <= fit);
            assert!(cache.count() as u64 >= fit * 3 / 4, "{fit}");
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let cache = Cache::new(Bytes(4 * (SIZE as u64 + OVERHEAD)), SIZE).unwrap();
        let wanted = node(1_000_000);
        let pointer = wanted.pointer();
        cache.keep(&wanted);
        for n in 0..100 {
            assert!(Arc::ptr_eq(&cache.get(&pointer).unwrap(), &wanted));
            cache.keep(&node(n));
        }
        // Nobody asks any more.
        for n in 100..110 {
            cache.keep(&node(n));
        }
        assert!(cache.get(&pointer).is_none());
    }

    #[test]
    fn only_the_very_node_is_found() {
        let cache = Cache::new(Bytes(1 << 20), SIZE).unwrap();
        let one = node(1);
        cache.keep(&one);
        cache.keep(&one);
        assert_eq!(cache.count(), 1);
        let other = node(2).pointer();
        for wrong in [
            Pointer {
                generation: Generation(9),
                ..one.pointer()
            },
            Pointer {
                places: other.places,
                ..one.pointer()
            },
            Pointer {
                hash: other.hash,
                ..one.pointer()
            },
        ] {
            assert!(cache.get(&wrong).is_none());
        }
        assert!(cache.get(&one.pointer()).is_some());
    }
}
