// SPDX-License-Identifier: GPL-2.0

//! So that damage which is met again and again does not fill the log.

use embr_rt::time::{
    Duration,
    Instant, //
};
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Lines that may be logged in one window of time.
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// How much was logged lately.
pub(crate) struct Complaints {
    /// Windows since the first.
    window: Atomic<u64>,
    lines: Atomic<u32>,
    first: Instant,
}

impl Complaints {
    pub(crate) fn new() -> Self {
        Complaints {
            window: Atomic::new(0),
            lines: Atomic::new(0),
            first: Instant::now(),
        }
    }

    /// Whether one more line may be logged.
    pub(crate) fn may_log(&self) -> bool {
        let window = self.first.elapsed().as_nanos() / WINDOW.as_nanos();
        if self.window.xchg(window, Relaxed) != window {
            self.lines.store(0, Relaxed);
        }
        self.lines.fetch_add(1, Relaxed) < LINES
    }
}
