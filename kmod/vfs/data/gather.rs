// SPDX-License-Identifier: GPL-2.0

//! Memory in which writeback gathers what it hands on. Some is always there: writeback makes memory free, so it cannot wait
//! for any.

use kernel::{
    alloc::{
        flags::{
            GFP_NOWAIT,
            __GFP_NOWARN, //
        },
        Flags, //
    },
    bindings as kb,
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Mutex,
        MutexGuard, //
    }, //
};

/// Bytes that are gathered at once.
pub(super) const GATHERED: usize = 1 << 20;
/// How much memory beside the reserve is kept for the next time.
const KEPT: usize = 4;

/// Folios that are gathered at once: as many as there can be blocks.
pub(super) const FOLIOS: usize = GATHERED / PAGE_SIZE;

/// A range of a folio under writeback.
pub(super) struct Part {
    pub(super) folio: *mut kb::folio,
    pub(super) len: usize,
}

// SAFETY: Used only by who gathered the folio; else there is none.
unsafe impl Send for Part {}

/// Bytes to gather in, and where they came from.
pub(super) struct Memory {
    bytes: KVVec<u8>,
    parts: KVec<Part>,
}

impl Memory {
    fn new(flags: Flags) -> Result<Self> {
        Ok(Memory {
            bytes: KVVec::zeroed(GATHERED, flags)?,
            parts: KVec::with_capacity(FOLIOS, flags)?,
        })
    }
}

/// The memory of one mount.
#[pin_data]
pub struct GatherMemory {
    #[pin]
    kept: Mutex<KVec<Memory>>,
    #[pin]
    reserve: Mutex<Memory>,
}

impl GatherMemory {
    /// Memory for a mount that writes.
    pub fn new() -> Result<Pin<KBox<Self>>> {
        let reserve = Memory::new(GFP_KERNEL)?;
        let mut kept = KVec::with_capacity(KEPT, GFP_KERNEL)?;
        kept.push(Memory::new(GFP_KERNEL)?, GFP_KERNEL)?;
        KBox::pin_init(
            pin_init!(GatherMemory {
                kept <- new_mutex!(kept, "memory of writeback"),
                reserve <- new_mutex!(reserve, "reserve of writeback"),
            }),
            GFP_KERNEL,
        )
    }

    /// Takes some. The caller holds no folio: it may have to wait until another writeback has ended.
    pub(super) fn take(&self) -> Taken<'_> {
        let kept = self.kept.lock().pop();
        match kept.map_or_else(|| Memory::new(GFP_NOWAIT | __GFP_NOWARN), Ok) {
            Ok(memory) => Taken::Own(self, memory),
            Err(_) => Taken::Reserve(self.reserve.lock()),
        }
    }
}

/// Memory that was taken.
pub(super) enum Taken<'a> {
    Own(&'a GatherMemory, Memory),
    Reserve(MutexGuard<'a, Memory>),
}

impl Taken<'_> {
    /// Room for bytes, and for the folios that they come from.
    pub(super) fn split(&mut self) -> (&mut [u8], &mut KVec<Part>) {
        let memory = match self {
            Taken::Own(_, memory) => memory,
            Taken::Reserve(memory) => &mut **memory,
        };
        (&mut memory.bytes, &mut memory.parts)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Taken::Own(home, memory) = self {
            let empty = Memory {
                bytes: KVVec::new(),
                parts: KVec::new(),
            };
            // There is room for it unless enough is kept.
            let _ = home
                .kept
                .lock()
                .push_within_capacity(core::mem::replace(memory, empty));
        }
    }
}
