// SPDX-License-Identifier: GPL-2.0

//! Moving bytes between memory and block devices, many pieces at once: all go out, then one waits for all of them.

use crate::{
    bdev::BlockDevice,
    bindings, //
};
use core::{
    marker::PhantomData,
    ptr, //
};
use kernel::{
    bindings as kb,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        Completion,
    },
};

const SECTOR: u64 = 512;

/// The most that one request of the block layer is given.
const REQUEST_MAX: usize = 256 * PAGE_SIZE;

/// One piece of a transfer.
pub struct Piece<'a> {
    device: &'a BlockDevice,
    sector: u64,
    /// Invariant: valid for `'a`, and for writing where the transfer reads from the device.
    memory: *mut u8,
    len: usize,
    failed: Atomic<bool>,
    /// Set while the transfer runs.
    transfer: *const Transfer,
    _memory: PhantomData<&'a mut [u8]>,
}

/// Whether memory and place are such that a device can take them as they are.
pub(crate) fn is_direct(device: &BlockDevice, at: u64, memory: *const u8, len: usize) -> bool {
    let block = device.logical_block_size();
    // Memory aligned to blocks, so that a request never ends within one, however its pages lie.
    [at, len as u64, memory as u64]
        .iter()
        .all(|n| n % block == 0)
}

impl<'a> Piece<'a> {
    /// To write `from` at `at`. None where range or memory are not such that the device takes them as they are.
    pub fn write(device: &'a BlockDevice, at: u64, from: &'a [u8]) -> Option<Self> {
        // Never written through: `write_all` is the only one that takes such pieces.
        Self::new(device, at, from.as_ptr().cast_mut(), from.len())
    }

    pub(crate) fn read(device: &'a BlockDevice, at: u64, into: &'a mut [u8]) -> Option<Self> {
        Self::new(device, at, into.as_mut_ptr(), into.len())
    }

    fn new(device: &'a BlockDevice, at: u64, memory: *mut u8, len: usize) -> Option<Self> {
        let end = at.checked_add(len as u64)?;
        if end > device.size() || !is_direct(device, at, memory, len) {
            return None;
        }
        Some(Piece {
            device,
            sector: at / SECTOR,
            memory,
            len,
            failed: Atomic::new(false),
            transfer: ptr::null(),
            _memory: PhantomData,
        })
    }

    /// Whether the device failed to do it.
    pub fn failed(&self) -> bool {
        self.failed.load(Relaxed)
    }
}

/// Writes all of them, in any order or at once. Each says afterwards whether it failed.
pub fn write_all(pieces: &mut [Option<Piece<'_>>]) {
    // SAFETY: Writing to a device only reads memory.
    unsafe {
        transfer(
            pieces,
            kb::req_op_REQ_OP_WRITE | bindings::EMBR_CONST_REQ_SYNC,
        )
    };
}

/// # Safety
///
/// Every piece was made by [`Piece::read`].
pub(crate) unsafe fn read_all(pieces: &mut [Option<Piece<'_>>]) {
    // SAFETY: As the caller says, the memory may be written to.
    unsafe { transfer(pieces, kb::req_op_REQ_OP_READ) };
}

struct Transfer {
    /// Requests that are under way, and one for who sends them.
    left: Atomic<u32>,
    done: Pin<KBox<Completion>>,
}

/// # Safety
///
/// The memory of every piece may be used as the operation does.
unsafe fn transfer(pieces: &mut [Option<Piece<'_>>], operation: u32) {
    // A completion must not move, so it is on the heap. This must not fail for lack of memory: then pieces go one by one.
    let Ok(done) = KBox::pin_init(Completion::new(), GFP_KERNEL) else {
        for piece in pieces.iter_mut().flatten() {
            // SAFETY: As the caller says.
            unsafe { alone(piece, operation) };
        }
        return;
    };
    let transfer = Transfer {
        left: Atomic::new(1),
        done,
    };
    for piece in pieces.iter_mut().flatten() {
        piece.transfer = &raw const transfer;
        // SAFETY: As the caller says; pieces and transfer stay until all requests have ended, for which we wait below.
        unsafe { send(piece, &transfer, operation) };
    }
    if transfer.left.fetch_sub(1, Full) != 1 {
        transfer.done.wait_for_completion();
    }
    for piece in pieces.iter_mut().flatten() {
        piece.transfer = ptr::null();
    }
}

/// A request for a part of a piece.
///
/// # Safety
///
/// The memory may be used as the operation does.
unsafe fn request(piece: &Piece<'_>, from: usize, operation: u32) -> (*mut kb::bio, usize) {
    let len = (piece.len - from).min(REQUEST_MAX);
    // One page more: memory need not begin with one.
    let pages = (len / PAGE_SIZE + 2).min(256) as u16;
    // SAFETY: The device is open. With a pool and GFP_NOIO this waits instead of failing.
    let bio = unsafe {
        kb::bio_alloc_bioset(
            piece.device.raw(),
            pages,
            operation,
            bindings::EMBR_CONST_GFP_NOIO,
            &raw mut kb::fs_bio_set,
        )
    };
    let mut added = 0usize;
    // SAFETY: The bio is ours until it is sent.
    unsafe { (*bio).bi_iter.bi_sector = piece.sector + (from as u64) / SECTOR };
    while added < len {
        let memory = piece.memory.wrapping_add(from + added).cast::<c_void>();
        // SAFETY: The memory is valid, and the bio has room for at least one page.
        let now = unsafe {
            if kb::is_vmalloc_addr(memory) {
                let in_page = PAGE_SIZE - memory as usize % PAGE_SIZE;
                if u32::from((*bio).bi_vcnt) >= u32::from((*bio).bi_max_vecs) {
                    break;
                }
                kb::bio_add_vmalloc_chunk(bio, memory, (len - added).min(in_page) as u32) as usize
            } else {
                kb::bio_add_virt_nofail(bio, memory, (len - added) as u32);
                len - added
            }
        };
        if now == 0 {
            break;
        }
        added += now;
    }
    (bio, added)
}

/// # Safety
///
/// The memory may be used as the operation does; piece and transfer stay until all requests have ended.
unsafe fn send(piece: &Piece<'_>, transfer: &Transfer, operation: u32) {
    let mut from = 0usize;
    while from < piece.len {
        // SAFETY: As the caller says.
        let (bio, added) = unsafe { request(piece, from, operation) };
        if added == 0 {
            // SAFETY: Never sent.
            unsafe { kb::bio_put(bio) };
            piece.failed.store(true, Relaxed);
            return;
        }
        from += added;
        transfer.left.fetch_add(1, Relaxed);
        // SAFETY: The bio is ours until it is sent.
        unsafe {
            (*bio).bi_private = ptr::from_ref(piece).cast_mut().cast();
            (*bio).bi_end_io = Some(ended);
            kb::submit_bio(bio);
        }
    }
}

/// # Safety
///
/// Called by the block layer, in any context, once per request.
unsafe extern "C" fn ended(bio: *mut kb::bio) {
    // SAFETY: `send` put the piece there; piece and transfer stay until `left` says that all have ended.
    unsafe {
        let piece = &*(*bio).bi_private.cast::<Piece<'_>>();
        let status = (*bio).bi_status;
        kb::bio_put(bio);
        if status != 0 {
            piece.failed.store(true, Relaxed);
        }
        let transfer = &*piece.transfer;
        if transfer.left.fetch_sub(1, Full) == 1 {
            transfer.done.complete_all();
        }
    }
}

/// # Safety
///
/// The memory may be used as the operation does.
unsafe fn alone(piece: &Piece<'_>, operation: u32) {
    let mut from = 0usize;
    while from < piece.len {
        // SAFETY: As the caller says.
        let (bio, added) = unsafe { request(piece, from, operation) };
        // SAFETY: The bio is ours; waiting gives it back.
        let failed = added == 0 || unsafe { kb::submit_bio_wait(bio) } != 0;
        // SAFETY: Done with.
        unsafe { kb::bio_put(bio) };
        if failed {
            piece.failed.store(true, Relaxed);
            return;
        }
        from += added;
    }
}
