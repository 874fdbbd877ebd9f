// SPDX-License-Identifier: GPL-2.0

//! Parity by the kernel's lib/raid, once it has shown that it computes what the engine does; what it does not take, by scalar code.
//!
//! It knows P and Q: the sum of all data, and that of 2^i times data i. The third and fourth parity have 2^(2i) and 2^(3i): they are
//! the Q of data that stand two and three apart, with zeros between.

use crate::parity_test;
use embr_engine::{
    env,
    field::{
        Element,
        Scalar, //
    },
};
use embr_vfs::raid;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Did lib/raid compute what scalar code does?
static TRUSTED: Atomic<bool> = Atomic::new(false);

/// The module's arithmetic, as the engine wants it.
pub(crate) struct Field {
    raid: bool,
}

impl Field {
    /// The best that can be trusted.
    pub(crate) fn current() -> Self {
        Field {
            raid: TRUSTED.load(Relaxed),
        }
    }
}

/// Tries lib/raid, and says what will be used.
#[inline(never)]
pub(crate) fn set_up() -> Result {
    let trusted = parity_test::agrees(&[raid::SECTOR])?;
    if trusted {
        pr_info!("parity by lib/raid\n");
    } else {
        pr_warn!("lib/raid gives wrong results on this machine; parity by scalar code\n");
    }
    TRUSTED.store(trusted, Relaxed);
    Ok(())
}

impl env::Field for Field {
    fn add_product(&self, by: Element, from: &[u8], into: &mut [u8]) {
        match by {
            Element::ONE if self.raid && raid::add(&[from], into) => {}
            by if self.raid && by != Element::ONE => by_table(by, from, into),
            by => Scalar.add_product(by, from, into),
        }
    }

    fn bundle(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) {
        if !(self.raid && by_raid(data, parity)) {
            Scalar.bundle(data, parity);
        }
    }
}

/// Says whether it did.
pub(crate) fn by_raid(data: &[&[u8]], parity: &mut [&mut [u8]]) -> bool {
    match parity {
        [p] => {
            p.fill(0);
            raid::add(data, p)
        }
        [p, q] => raid::syndrome(data, 1, p, q),
        [p, q, r] => raid::syndrome(data, 2, p, r) && raid::syndrome(data, 1, p, q),
        [p, q, r, s] => {
            raid::syndrome(data, 3, p, s)
                && raid::syndrome(data, 2, p, r)
                && raid::syndrome(data, 1, p, q)
        }
        _ => false,
    }
}

/// Adds `by` times the bytes of `from` to those of `into`, as many as both have.
pub(crate) fn by_table(by: Element, from: &[u8], into: &mut [u8]) {
    let products = raid::products(by.0);
    let product = |of: u8| products.get(usize::from(of)).copied().unwrap_or(0);
    for (into, from) in into.iter_mut().zip(from) {
        *into ^= product(*from);
    }
}
