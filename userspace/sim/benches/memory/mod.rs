// SPDX-License-Identifier: GPL-2.0

//! How much memory this thread has, and had at most: every allocation of the benchmark goes through here. What is kept for the simulated
//! devices is not counted.

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static NOW: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
    static ASIDE: Cell<bool> = const { Cell::new(false) };
}

fn count(bytes: i64) {
    if ASIDE.get() {
        return;
    }
    let now = NOW.get() + bytes;
    NOW.set(now);
    MOST.set(MOST.get().max(now));
}

// SAFETY: All is the system's allocator's own; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: As the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: As the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    // Memory that is zero already is not there before it is written.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: As the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: As the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Bytes that there are.
pub fn now() -> i64 {
    NOW.get()
}

/// The most that there were since this was asked last.
pub fn take_most() -> i64 {
    MOST.replace(NOW.get())
}

/// Does something of which nothing is counted.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let before = ASIDE.replace(true);
    let done = work();
    ASIDE.set(before);
    done
}
