// SPDX-License-Identifier: GPL-2.0

//! The calls into assembly, and the sections round them.

use super::{
    Hash,
    Level,
    BLOCK,
    LANES, //
};
use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

const CHUNK: usize = 1024;
const CHUNKS: usize = BLOCK / CHUNK;
const LINE: usize = 64;
const HASH: usize = 32;

const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;

static IV: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

// All of it is in the package's assembly: each hashes `count` inputs of `lines` lines into `out`.
extern "C" {
    fn blake3_hash_many_sse41(
        inputs: *const *const u8,
        count: usize,
        lines: usize,
        key: *const u32,
        counter: u64,
        increment: bool,
        flags: u8,
        flags_start: u8,
        flags_end: u8,
        out: *mut u8,
    );
    fn blake3_hash_many_avx2(
        inputs: *const *const u8,
        count: usize,
        lines: usize,
        key: *const u32,
        counter: u64,
        increment: bool,
        flags: u8,
        flags_start: u8,
        flags_end: u8,
        out: *mut u8,
    );
    fn blake3_hash_many_avx512(
        inputs: *const *const u8,
        count: usize,
        lines: usize,
        key: *const u32,
        counter: u64,
        increment: bool,
        flags: u8,
        flags_start: u8,
        flags_end: u8,
        out: *mut u8,
    );
}

impl Level {
    const fn bit(self) -> u32 {
        match self {
            Level::Sse41 => bindings::EMBR_BLAKE3_SSE41,
            Level::Avx2 => bindings::EMBR_BLAKE3_AVX2,
            Level::Avx512 => bindings::EMBR_BLAKE3_AVX512,
        }
    }
}

/// Where a section puts what is neither input nor result: a processor's own, for it is too much for the stack.
#[repr(C, align(64))]
struct Scratch {
    /// Chaining values of an even node in each lane, and of the odd one beside it.
    even: [Hash; LANES],
    odd: [Hash; LANES],
    /// Both together, as the parent wants them; the left and the right half of the tree.
    pairs: [[[u8; LINE]; LANES]; 2],
}

/// The processor's SIMD, as far as it and the kernel have it.
pub struct Simd {
    /// Levels that may be used. Invariant: the processor has them.
    levels: Atomic<u32>,
    /// Invariant: a `Scratch` for each processor, ours alone.
    scratch: NonNull<c_void>,
}

// SAFETY: Each section uses the scratch memory of the processor that it cannot be moved from, one section at a time.
unsafe impl Send for Simd {}
// SAFETY: As above.
unsafe impl Sync for Simd {}

impl Simd {
    /// What this machine has, if anything.
    pub fn new() -> Result<Option<Self>> {
        // SAFETY: Asks the processor.
        let levels = unsafe { bindings::embr_blake3_features() };
        if levels == 0 {
            return Ok(None);
        }
        // SAFETY: Allocates; may sleep here.
        let scratch = NonNull::new(unsafe { bindings::embr_blake3_alloc(size_of::<Scratch>()) })
            .ok_or(ENOMEM)?;
        Ok(Some(Simd {
            levels: Atomic::new(levels),
            scratch,
        }))
    }

    /// Whether it may be used.
    pub fn has(&self, level: Level) -> bool {
        self.levels.load(Relaxed) & level.bit() != 0
    }

    /// Takes a level out of use.
    pub fn distrust(&self, level: Level) {
        self.levels
            .store(self.levels.load(Relaxed) & !level.bit(), Relaxed);
    }

    /// The hash of each block of `blocks`, into `out` in order; the shorter of the two decides how many. False, with `out`
    /// partly written, where vector registers cannot be used.
    pub fn hash_blocks(&self, level: Level, blocks: &[u8], out: &mut [Hash]) -> bool {
        if !self.has(level) {
            return false;
        }
        let usable = blocks.len() / BLOCK;
        let Some(out) = out.get_mut(..usable.min(out.len())) else {
            return false;
        };
        for (blocks, out) in blocks.chunks(LANES * BLOCK).zip(out.chunks_mut(LANES)) {
            let Some(section) = Section::enter(self) else {
                return false;
            };
            // Below four blocks, lanes are filled better by the chunks of one block.
            if out.len() >= CHUNKS {
                section.lanes_are_blocks(level, blocks, out);
            } else {
                for (block, out) in blocks.chunks_exact(BLOCK).zip(out) {
                    section.lanes_are_chunks(level, block, out);
                }
            }
        }
        true
    }
}

impl Drop for Simd {
    fn drop(&mut self) {
        // SAFETY: From `new`; sections borrow us, so none is left.
        unsafe { bindings::embr_blake3_free(self.scratch.as_ptr()) };
    }
}

/// While it lives, vector registers are ours, and this thread stays where it is.
struct Section<'a> {
    /// Invariant: this processor's.
    scratch: *mut Scratch,
    _simd: &'a Simd,
}

impl<'a> Section<'a> {
    fn enter(simd: &'a Simd) -> Option<Self> {
        // SAFETY: Looks at where we are.
        if !unsafe { bindings::embr_blake3_usable() } {
            return None;
        }
        // SAFETY: Usable, as just seen; `drop` ends it.
        unsafe { bindings::embr_blake3_begin() };
        Some(Section {
            // SAFETY: By the invariant of `Simd`; we cannot move to another processor any more.
            scratch: unsafe { bindings::embr_blake3_scratch(simd.scratch.as_ptr()) }.cast(),
            _simd: simd,
        })
    }

    /// One call for each chunk of all blocks, then the parents the same way. `blocks` has at least a block for each of `out`,
    /// which is at most `LANES` long.
    #[inline(never)]
    fn lanes_are_blocks(&self, level: Level, blocks: &[u8], out: &mut [Hash]) {
        // SAFETY: By the invariant, and nobody else on this processor is in a section: sections do not nest, and whoever
        // interrupts this one finds the registers not usable.
        let scratch = unsafe { &mut *self.scratch };
        let count = out.len();
        for half in 0..2 {
            for side in 0..2 {
                let chunk = half * 2 + side;
                let to = if side == 0 {
                    &mut scratch.even
                } else {
                    &mut scratch.odd
                };
                let inputs = inputs(|lane| blocks.get(lane * BLOCK + chunk * CHUNK..), count);
                // SAFETY: Each input is a chunk within its block; there is room for `LANES` results.
                unsafe {
                    call(
                        level,
                        SAME_CHUNK,
                        &inputs,
                        count,
                        chunk as u64,
                        to.as_mut_ptr(),
                    )
                };
            }
            pair(&mut scratch.pairs[half], &scratch.even, &scratch.odd);
        }
        for half in 0..2 {
            let to = if half == 0 {
                &mut scratch.even
            } else {
                &mut scratch.odd
            };
            let inputs = inputs(|lane| scratch.pairs[half].get(lane).map(|p| &p[..]), count);
            // SAFETY: Each input is a line; there is room for `LANES` results.
            unsafe { call(level, PARENTS, &inputs, count, 0, to.as_mut_ptr()) };
        }
        pair(&mut scratch.pairs[0], &scratch.even, &scratch.odd);
        let inputs = inputs(|lane| scratch.pairs[0].get(lane).map(|p| &p[..]), count);
        // SAFETY: Each input is a line; `out` has room for `count` results.
        unsafe { call(level, ROOTS, &inputs, count, 0, out.as_mut_ptr()) };
    }

    /// The chunks of one block in one call, then its parents.
    #[inline(never)]
    fn lanes_are_chunks(&self, level: Level, block: &[u8], out: &mut Hash) {
        // SAFETY: As in `lanes_are_blocks`.
        let scratch = unsafe { &mut *self.scratch };
        let chunks = inputs(|lane| block.get(lane * CHUNK..), CHUNKS);
        // SAFETY: Each input is a chunk of the block; there is room for `LANES` results.
        unsafe {
            call(
                level,
                ALL_CHUNKS,
                &chunks,
                CHUNKS,
                0,
                scratch.even.as_mut_ptr(),
            )
        };
        // Neighbouring results are what their parent wants.
        let even = &scratch.even;
        let parents = inputs(
            |lane| even.get(lane * 2..lane * 2 + 2).map(|p| p.as_flattened()),
            2,
        );
        // SAFETY: Each input is a line; there is room for `LANES` results.
        unsafe { call(level, PARENTS, &parents, 2, 0, scratch.odd.as_mut_ptr()) };
        let odd = &scratch.odd;
        let root = inputs(|_| odd.get(..2).map(|p| p.as_flattened()), 1);
        // SAFETY: The input is a line; there is room for one result.
        unsafe { call(level, ROOTS, &root, 1, 0, out) };
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        // SAFETY: Begun by `enter`.
        unsafe { bindings::embr_blake3_end() };
    }
}

/// Where the input of each lane begins.
fn inputs<'a>(lane: impl Fn(usize) -> Option<&'a [u8]>, count: usize) -> [*const u8; LANES] {
    let mut inputs = [core::ptr::null(); LANES];
    for (number, input) in inputs.iter_mut().enumerate().take(count) {
        if let Some(bytes) = lane(number) {
            *input = bytes.as_ptr();
        }
    }
    inputs
}

/// Puts the two children of each lane's parent side by side.
fn pair(pairs: &mut [[u8; LINE]; LANES], even: &[Hash; LANES], odd: &[Hash; LANES]) {
    for (pair, (even, odd)) in pairs.iter_mut().zip(even.iter().zip(odd)) {
        pair[..HASH].copy_from_slice(even);
        pair[HASH..].copy_from_slice(odd);
    }
}

/// What the nodes of one call have in common.
#[derive(Clone, Copy)]
struct Kind {
    /// Lines in each.
    lines: usize,
    /// Each is the chunk after the one before.
    counted: bool,
    flags: u8,
    start: u8,
    end: u8,
}

const PARENTS: Kind = Kind {
    lines: 1,
    counted: false,
    flags: PARENT,
    start: 0,
    end: 0,
};
const ROOTS: Kind = Kind {
    flags: PARENT | ROOT,
    ..PARENTS
};
/// The same chunk of several blocks.
const SAME_CHUNK: Kind = Kind {
    lines: CHUNK / LINE,
    counted: false,
    flags: 0,
    start: CHUNK_START,
    end: CHUNK_END,
};
/// All chunks of one block.
const ALL_CHUNKS: Kind = Kind {
    counted: true,
    ..SAME_CHUNK
};

/// # Safety
///
/// In a section, at a level that the processor has; the first `count` inputs are as long as `kind` says, and `out` has room for
/// as many results.
unsafe fn call(
    level: Level,
    kind: Kind,
    inputs: &[*const u8; LANES],
    count: usize,
    chunk: u64,
    out: *mut Hash,
) {
    let Kind {
        lines,
        counted,
        flags,
        start,
        end,
    } = kind;
    let (inputs, key, out) = (inputs.as_ptr(), IV.as_ptr(), out.cast());
    // Called by name, not by pointer: the assembly has no landing pads for indirect branches.
    // SAFETY: As the caller says.
    unsafe {
        match level {
            Level::Sse41 => blake3_hash_many_sse41(
                inputs, count, lines, key, chunk, counted, flags, start, end, out,
            ),
            Level::Avx2 => blake3_hash_many_avx2(
                inputs, count, lines, key, chunk, counted, flags, start, end, out,
            ),
            Level::Avx512 => blake3_hash_many_avx512(
                inputs, count, lines, key, chunk, counted, flags, start, end, out,
            ),
        }
    }
}
