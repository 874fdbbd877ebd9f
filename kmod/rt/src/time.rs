// SPDX-License-Identifier: GPL-2.0

//! Time: how long something took, what the clock on the wall says, and waiting.
//!
//! Inside a simulated world time is virtual and only passes when no task can run.

use core::fmt;

#[cfg(embr_kernel)]
mod imp {
    use super::Duration;
    use kernel::bindings;
    use kernel::time::ClockSource;
    use kernel::time::Monotonic;
    use kernel::time::RealTime;

    pub(super) fn monotonic_ns() -> u64 {
        u64::try_from(Monotonic::ktime_get()).unwrap_or(0)
    }

    pub(super) fn wall_ns() -> u64 {
        u64::try_from(RealTime::ktime_get()).unwrap_or(0)
    }

    pub(super) fn sleep(time: Duration) {
        let jiffies = crate::time::jiffies(time);
        if jiffies <= 2 {
            kernel::time::delay::fsleep(kernel::time::Delta::from_nanos(
                i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
            ));
        } else {
            // SAFETY: Always sound in process context, where alone one may sleep.
            unsafe { bindings::schedule_timeout_idle(jiffies) };
        }
    }
}

/// In the scheduler's ticks, rounded up so that a wait is never cut short, at most "almost for ever".
#[cfg(embr_kernel)]
pub(crate) fn jiffies(time: Duration) -> kernel::ffi::c_long {
    // SAFETY: Pure arithmetic.
    let ticks = unsafe { kernel::bindings::nsecs_to_jiffies(time.as_nanos()) };
    // The present tick has partly passed, and the conversion rounds down: two more.
    kernel::ffi::c_long::try_from(ticks.saturating_add(2))
        .unwrap_or(kernel::ffi::c_long::MAX)
        .min(kernel::ffi::c_long::MAX - 1)
}

#[cfg(not(embr_kernel))]
mod imp {
    use super::Duration;
    use crate::sim;
    use std::sync::OnceLock;
    use std::time;

    fn saturate(ns: u128) -> u64 {
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    pub(super) fn monotonic_ns() -> u64 {
        static START: OnceLock<time::Instant> = OnceLock::new();
        match sim::current() {
            Some(task) => task.now(),
            None => saturate(START.get_or_init(time::Instant::now).elapsed().as_nanos()),
        }
    }

    pub(super) fn wall_ns() -> u64 {
        match sim::current() {
            Some(task) => task.now().saturating_add(sim::WALL_CLOCK_AT_START),
            None => time::SystemTime::now()
                .duration_since(time::UNIX_EPOCH)
                .map_or(0, |d| saturate(d.as_nanos())),
        }
    }

    #[track_caller]
    pub(super) fn sleep(time: Duration) {
        match sim::current() {
            Some(task) => task.sleep(time.as_nanos()),
            None => std::thread::sleep(time::Duration::from_nanos(time.as_nanos())),
        }
    }
}

/// A span of time, in nanoseconds. Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Duration(u64);

impl Duration {
    /// No time at all.
    pub const ZERO: Duration = Duration(0);

    /// So many nanoseconds.
    pub const fn from_nanos(n: u64) -> Self {
        Duration(n)
    }

    /// So many microseconds.
    pub const fn from_micros(n: u64) -> Self {
        Duration(n.saturating_mul(1_000))
    }

    /// So many milliseconds.
    pub const fn from_millis(n: u64) -> Self {
        Duration(n.saturating_mul(1_000_000))
    }

    /// So many seconds.
    pub const fn from_secs(n: u64) -> Self {
        Duration(n.saturating_mul(1_000_000_000))
    }

    /// In nanoseconds.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// In whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The sum of both.
    pub const fn saturating_add(self, other: Duration) -> Duration {
        Duration(self.0.saturating_add(other.0))
    }

    /// What is left of this after `other`.
    pub const fn saturating_sub(self, other: Duration) -> Duration {
        Duration(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ns", self.0)
    }
}

/// A point in time that only makes sense in comparison with another one of the same boot (or process, or world).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant(u64);

impl Instant {
    /// Now.
    pub fn now() -> Self {
        Instant(imp::monotonic_ns())
    }

    /// How long after `earlier` this is; zero if it is before.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration(self.0.saturating_sub(earlier.0))
    }

    /// How long ago this was.
    pub fn elapsed(self) -> Duration {
        Instant::now().since(self)
    }

    /// This much later.
    pub const fn after(self, wait: Duration) -> Instant {
        Instant(self.0.saturating_add(wait.0))
    }
}

/// What the clock on the wall says: nanoseconds since 1970 (UTC). It may jump, backwards too.
pub fn wall_clock_ns() -> u64 {
    imp::wall_ns()
}

/// Waits at least this long. Not in atomic context.
#[cfg_attr(not(embr_kernel), track_caller)]
pub fn sleep(time: Duration) {
    imp::sleep(time);
}
