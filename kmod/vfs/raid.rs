// SPDX-License-Identifier: GPL-2.0

//! Sums and products of RAID-6's field by the kernel's lib/raid, which has SIMD for the processors that do.
//!
//! It asks for aligned memory, whole sectors and a task to run in. What does not meet that is refused, and then nothing was done; who
//! asked needs a way of its own.

use crate::bindings;
use core::ptr;
use kernel::prelude::*;

/// Data in one sum, at most.
pub const MAX_DATA: usize = 16;
/// How far apart data may stand, at most.
const MAX_APART: usize = 3;
/// What data and parity have to be aligned to.
pub const ALIGNMENT: usize = 64;
/// Their length is a multiple of this.
pub const SECTOR: usize = 512;
/// Bytes per call: between two, another task may have the processor.
const SECTION: usize = 4096;
/// P and Q.
const PARITY: usize = 2;
/// Data that stand as far apart as may be, and P and Q.
const SLOTS: usize = (MAX_DATA - 1) * MAX_APART + 1 + PARITY;

#[repr(align(64))]
struct Zeros([u8; SECTION]);

/// What stands where there is nothing.
static ZEROS: Zeros = Zeros([0; SECTION]);

/// Whether lib/raid takes this, which is to have so many bytes.
fn fits(bytes: &[u8], length: usize) -> bool {
    bytes.len() == length && length % SECTOR == 0 && bytes.as_ptr() as usize % ALIGNMENT == 0
}

fn all_fit(data: &[&[u8]], length: usize) -> bool {
    data.len() <= MAX_DATA && data.iter().all(|d| d.is_empty() || fits(d, length))
}

fn may_be_called() -> bool {
    // SAFETY: Looks at the current task and processor.
    unsafe { bindings::embr_raid_usable() }
}

/// Adds all of these to `sum`. They are as long, or empty. Says whether it did.
#[inline(never)] // Its array stays off the stack of those who cannot use it.
pub fn add(data: &[&[u8]], sum: &mut [u8]) -> bool {
    if !fits(sum, sum.len()) || !all_fit(data, sum.len()) || !may_be_called() {
        return false;
    }
    for (number, sum) in sum.chunks_mut(SECTION).enumerate() {
        let mut sources = [ptr::null_mut(); MAX_DATA];
        let mut count = 0;
        let begin = number.saturating_mul(SECTION);
        let parts = data.iter().filter_map(|d| d.get(begin..)?.get(..sum.len()));
        for (source, part) in sources.iter_mut().zip(parts) {
            *source = part.as_ptr().cast_mut().cast::<c_void>();
            count += 1;
        }
        if count == 0 {
            continue;
        }
        // SAFETY: `sum` and the first `count` sources are aligned and of this length, a multiple of a sector that is not zero; the sources
        // are only read, and the context is one that is allowed.
        unsafe {
            bindings::xor_gen(
                sum.as_mut_ptr().cast::<c_void>(),
                sources.as_mut_ptr(),
                count,
                sum.len() as u32,
            )
        };
    }
    true
}

/// Fills `p` with the sum of all data, and `q` with the sum over i of 2^(i * apart) times data i. All are as long as `p`, and data may be
/// empty, which is zeros. Says whether it did.
#[inline(never)] // Its array stays off the stack of those who cannot use it.
pub fn syndrome(data: &[&[u8]], apart: usize, p: &mut [u8], q: &mut [u8]) -> bool {
    let length = p.len();
    if !fits(p, length) || !fits(q, length) || !all_fit(data, length) || !may_be_called() {
        return false;
    }
    if !(1..=MAX_APART).contains(&apart) {
        return false;
    }
    // There have to be two of them; zeros change no sum.
    let places = data.len().saturating_sub(1).saturating_mul(apart).max(1) + 1;
    for (number, (p, q)) in p.chunks_mut(SECTION).zip(q.chunks_mut(SECTION)).enumerate() {
        let mut slots = [ZEROS.0.as_ptr().cast_mut().cast::<c_void>(); SLOTS];
        let begin = number.saturating_mul(SECTION);
        for (slot, data) in slots.iter_mut().step_by(apart).zip(data) {
            if let Some(part) = data.get(begin..).and_then(|d| d.get(..p.len())) {
                *slot = part.as_ptr().cast_mut().cast::<c_void>();
            }
        }
        let parity = [p.as_mut_ptr(), q.as_mut_ptr()];
        for (slot, parity) in slots.iter_mut().skip(places).zip(parity) {
            *slot = parity.cast::<c_void>();
        }
        // SAFETY: There are `places` of data, two at least, that are only read, then P and Q; all are aligned and of this length, a multiple
        // of a sector that is not zero, and the context is one that is allowed.
        unsafe {
            bindings::raid6_gen_syndrome((places + PARITY) as i32, p.len(), slots.as_mut_ptr())
        };
    }
    true
}

/// The products of a factor with all elements of the field.
pub fn products(factor: u8) -> &'static [u8; 256] {
    let all: *const [[u8; 256]; 256] = &raw const bindings::raid6_gfmul;
    // SAFETY: A table that never changes, in the kernel or in a module that this one holds.
    let all: &'static [[u8; 256]; 256] = unsafe { &*all };
    // It has a row for each factor, and the first is of zeros.
    let [zeros, ..] = all;
    all.get(usize::from(factor)).unwrap_or(zeros)
}
