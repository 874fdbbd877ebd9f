// SPDX-License-Identifier: GPL-2.0

//! BLAKE3 of 4 KiB blocks by SIMD, with the assembly of the published blake3 package.
//!
//! Many blocks at once: each SIMD lane hashes a block of its own, chunk by chunk, then the parents the same way. A section in
//! which the vector registers are ours is at most [`LANES`] blocks long and never sleeps.

use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc, //
    },
};

#[cfg(embr_blake3)]
mod simd;
#[cfg(embr_blake3)]
pub use simd::Simd;

#[cfg(not(embr_blake3))]
mod absent;
#[cfg(not(embr_blake3))]
pub use absent::Simd;

/// Bytes in a block.
pub const BLOCK: usize = 4096;
/// Blocks in one section, at most.
pub const LANES: usize = 16;
/// Was the module built with the assembly?
pub const BUILT: bool = cfg!(embr_blake3);

/// A hash.
pub type Hash = [u8; 32];

kernel::sync::global_lock! {
    // SAFETY: `Installed::new` initialises it once; whoever else locks it saw `READY` first.
    unsafe(uninit) static CURRENT: Mutex<Option<Arc<Simd>>> = None;
}
static TAKEN: Atomic<bool> = Atomic::new(false);
static READY: Atomic<bool> = Atomic::new(false);

/// SIMD for everyone in the module, until this is dropped; who has a reference keeps it.
pub struct Installed(());

impl Installed {
    /// Makes it the one that [`current`] gives. Only once in a module's life.
    pub fn new(simd: Arc<Simd>) -> Result<Self> {
        if TAKEN.xchg(true, Full) {
            return Err(EBUSY);
        }
        // SAFETY: `TAKEN` was false, so this is the one time.
        unsafe { CURRENT.init() };
        READY.store(true, Release);
        *CURRENT.lock() = Some(simd);
        Ok(Installed(()))
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        *CURRENT.lock() = None;
    }
}

/// The SIMD that was installed.
pub fn current() -> Option<Arc<Simd>> {
    if READY.load(Acquire) {
        CURRENT.lock().clone()
    } else {
        None
    }
}

/// Instruction sets, from the one that most processors have to the fastest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Four lanes.
    Sse41,
    /// Eight lanes.
    Avx2,
    /// Sixteen lanes.
    Avx512,
}

impl Level {
    /// All, the fastest first.
    pub const FASTEST_FIRST: [Level; 3] = [Level::Avx512, Level::Avx2, Level::Sse41];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Sse41 => "SSE4.1",
            Level::Avx2 => "AVX2",
            Level::Avx512 => "AVX-512",
        }
    }
}
