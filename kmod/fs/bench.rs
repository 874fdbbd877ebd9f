// SPDX-License-Identifier: GPL-2.0

//! How fast something is, where it will be done.

use kernel::time::{
    Instant,
    Monotonic, //
};

/// Long enough that the clock's grain and an interrupt do not matter.
const LONG_NS: i64 = 200_000_000;

/// Bytes per second of something that does so many of them each time.
pub(crate) fn rate(bytes: usize, mut round: impl FnMut()) -> u64 {
    // Caches and clock speed settle first.
    round();
    let began = Instant::<Monotonic>::now();
    let mut rounds = 0u64;
    loop {
        round();
        rounds += 1;
        let took = began.elapsed().as_nanos();
        if took >= LONG_NS {
            return (rounds * bytes as u64).saturating_mul(1_000_000_000) / took as u64;
        }
    }
}
