// SPDX-License-Identifier: GPL-2.0

//! The engine's environment in a process: hashing, the time of day, and chance.

use crate::field::Tables;
use crate::simd::Simd;
use embr_engine::env::Environment;
use embr_engine::units::Timestamp;
use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// This process as the engine's host.
pub struct Host {
    hasher: Simd,
    /// From the kernel, once: what the engine draws is derived from it, so that drawing cannot fail half-way.
    seed: [u8; 32],
    drawn: AtomicU64,
}

impl Host {
    /// Fails only where the kernel gives no random bytes.
    pub fn new() -> io::Result<Self> {
        let mut seed = [0u8; 32];
        let mut have = 0;
        while let Some(room) = seed.get_mut(have..).filter(|r| !r.is_empty()) {
            match rustix::rand::getrandom(room, rustix::rand::GetRandomFlags::empty()) {
                Ok(n) => have += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(Host {
            hasher: Simd::new(),
            seed,
            drawn: AtomicU64::new(0),
        })
    }
}

impl Environment for Host {
    type Hasher = Simd;
    type Field = Tables;

    fn hasher(&self) -> &Simd {
        &self.hasher
    }

    fn field(&self) -> &Tables {
        &Tables
    }

    fn now(&self) -> Timestamp {
        // A clock before 1970 is as good as none.
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: since.subsec_nanos(),
        }
    }

    fn random(&self) -> [u8; 16] {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed);
        let mut out = [0u8; 16];
        blake3::Hasher::new_keyed(&self.seed)
            .update(&number.to_le_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn draws_never_repeat() {
        let hosts = [Host::new().unwrap(), Host::new().unwrap()];
        let drawn: HashSet<_> = hosts
            .iter()
            .flat_map(|h| (0..100).map(|_| h.random()))
            .collect();
        assert_eq!(drawn.len(), 200);
    }
}
