// SPDX-License-Identifier: GPL-2.0

//! Hashing by whatever this machine does best, once it has shown that it does it right.

use embr_engine::{
    env::{
        self,
        Hash256,
        Hasher as _, //
    },
    hash::Scalar,
};
use embr_vfs::blake3::{
    self,
    Hash,
    Installed,
    Level,
    Simd,
    BLOCK,
    LANES, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// The module's hashing, as the engine wants it.
pub(crate) struct Hasher {
    simd: Option<(Arc<Simd>, Level)>,
}

impl Hasher {
    /// The best there is.
    pub(crate) fn current() -> Self {
        let simd = blake3::current();
        Hasher {
            simd: simd.and_then(|simd| best(&simd).map(|level| (simd, level))),
        }
    }

    /// What it hashes with.
    pub(crate) fn name(&self) -> &'static str {
        self.simd
            .as_ref()
            .map_or("scalar code", |(_, level)| level.name())
    }

    pub(crate) fn is_simd(&self) -> bool {
        self.simd.is_some()
    }

    // Its array stays off the stack of those who go on with scalar code.
    #[inline(never)]
    fn by_simd(&self, blocks: &[u8], out: &mut [Hash256]) -> bool {
        let Some((simd, level)) = &self.simd else {
            return false;
        };
        let mut hashes = [[0; 32]; LANES];
        for (blocks, out) in blocks.chunks(LANES * BLOCK).zip(out.chunks_mut(LANES)) {
            let Some(wanted) = hashes.get_mut(..out.len()) else {
                return false;
            };
            if !simd.hash_blocks(*level, blocks, wanted) {
                return false;
            }
            for (to, from) in out.iter_mut().zip(wanted.iter()) {
                *to = Hash256(*from);
            }
        }
        true
    }
}

impl env::Hasher for Hasher {
    fn hash(&self, parts: &[&[u8]]) -> Hash256 {
        // A lone block is the one shape that SIMD knows.
        if let [block] = parts {
            let mut hash = [Hash256::default()];
            if block.len() == BLOCK && self.by_simd(block, &mut hash) {
                return hash[0];
            }
        }
        Scalar.hash(parts)
    }

    fn hash_blocks(&self, blocks: &[u8], out: &mut [Hash256]) {
        // Vector registers cannot be used everywhere; scalar code can.
        if !self.by_simd(blocks, out) {
            Scalar.hash_blocks(blocks, out);
        }
    }
}

fn best(simd: &Simd) -> Option<Level> {
    Level::FASTEST_FIRST
        .into_iter()
        .find(|level| simd.has(*level))
}

/// Finds out what this machine can do, tries it, and says what will be used.
pub(crate) fn set_up() -> Result<Option<Installed>> {
    let Some(simd) = Simd::new()? else {
        let why = if blake3::BUILT {
            "this processor has none of the SIMD that it needs"
        } else {
            "the module was built without SIMD: run 'make fetch' and build again"
        };
        pr_info!("hashing by scalar code: {why}\n");
        return Ok(None);
    };
    for level in Level::FASTEST_FIRST {
        if simd.has(level) && !agrees(&simd, level)? {
            simd.distrust(level);
            pr_warn!(
                "BLAKE3 by {} gives wrong results on this machine; not using it\n",
                level.name()
            );
        }
    }
    match best(&simd) {
        Some(level) => pr_info!("hashing by {}\n", level.name()),
        None => pr_warn!("hashing by scalar code: no SIMD can be trusted here\n"),
    }
    Ok(Some(Installed::new(Arc::new(simd, GFP_KERNEL)?)?))
}

/// Whether SIMD and scalar code give the same, for every number of blocks up to two sections and a bit.
#[inline(never)]
fn agrees(simd: &Simd, level: Level) -> Result<bool> {
    const MOST: usize = 2 * LANES + 3;
    let mut blocks = KVVec::from_elem(0u8, MOST * BLOCK, GFP_KERNEL)?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for word in blocks.chunks_exact_mut(8) {
        // xorshift: no two blocks alike, the same on every load.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    let mut wanted = KVec::with_capacity(MOST, GFP_KERNEL)?;
    for block in blocks.chunks_exact(BLOCK) {
        wanted.push(Scalar.hash(&[block]).0, GFP_KERNEL)?;
    }
    let mut got: KVec<Hash> = KVec::from_elem([0; 32], MOST, GFP_KERNEL)?;
    for count in 1..=MOST {
        // Another block first each time, so that a lane that is never right does not pass.
        let first = MOST - count;
        got.fill([0; 32]);
        let (Some(input), Some(out)) = (blocks.get(first * BLOCK..), got.get_mut(..count)) else {
            return Ok(false);
        };
        if !simd.hash_blocks(level, input, out) || Some(&*out) != wanted.get(first..) {
            return Ok(false);
        }
    }
    Ok(true)
}
