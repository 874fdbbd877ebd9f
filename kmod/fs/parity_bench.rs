// SPDX-License-Identifier: GPL-2.0

//! How fast parity is, against copying the payload, measured where it will be done. Runs when the module is loaded with parity_bench=1.

use crate::{
    bench,
    parity::{
        by_table,
        Field, //
    },
};
use core::hint::black_box;
use embr_engine::{
    env::Field as _,
    field::{
        Element,
        Scalar, //
    },
};
use kernel::prelude::*;

/// Bytes of a fragment.
const LENGTH: usize = 16384;
/// Bytes that are multiplied at once, as when a block is rebuilt.
const BLOCK: usize = 4096;

/// Measures and prints.
#[inline(never)]
pub(crate) fn run() -> Result {
    for (k, m) in [(4, 2), (8, 3), (16, 4)] {
        bundles(k, m)?;
    }
    products()
}

/// MiB per second.
fn rate(bytes: usize, round: impl FnMut()) -> u64 {
    bench::rate(bytes, round) >> 20
}

fn memory(fragments: usize) -> Result<KVVec<u8>> {
    let mut bytes = KVVec::from_elem(0u8, fragments * LENGTH, GFP_KERNEL)?;
    for (number, byte) in bytes.iter_mut().enumerate() {
        *byte = (number % 251) as u8;
    }
    Ok(bytes)
}

#[inline(never)]
fn bundles(k: usize, m: usize) -> Result {
    let (payload, mut elsewhere, mut coded) = (memory(k)?, memory(k)?, memory(m)?);
    let mut data = KVec::with_capacity(k, GFP_KERNEL)?;
    for fragment in payload.chunks(LENGTH) {
        data.push(fragment, GFP_KERNEL)?;
    }
    let mut parity = KVec::with_capacity(m, GFP_KERNEL)?;
    for fragment in coded.chunks_mut(LENGTH) {
        parity.push(fragment, GFP_KERNEL)?;
    }
    let bytes = k * LENGTH;
    let copy = rate(bytes, || {
        black_box(&mut elsewhere).copy_from_slice(black_box(&payload))
    });
    let scalar = rate(bytes, || Scalar.bundle(black_box(&data), &mut parity));
    let field = Field::current();
    let raid = rate(bytes, || field.bundle(black_box(&data), &mut parity));
    pr_info!(
        "parity_bench: {k}+{m}: copy {copy} MiB/s, scalar {scalar} MiB/s, lib/raid {raid} MiB/s\n"
    );
    Ok(())
}

/// Of each factor in its turn.
#[inline(never)]
fn products() -> Result {
    let (payload, mut sum) = (memory(1)?, memory(1)?);
    let (Some(from), Some(into)) = (payload.get(..BLOCK), sum.get_mut(..BLOCK)) else {
        return Err(EINVAL);
    };
    let mut by = 0u8;
    let mut next = || {
        by = by.wrapping_add(1);
        Element(by)
    };
    let doubling = rate(BLOCK, || Scalar.add_product(next(), black_box(from), into));
    let table = rate(BLOCK, || by_table(next(), black_box(from), into));
    let field = Field::current();
    let one = rate(BLOCK, || {
        field.add_product(Element::ONE, black_box(from), into)
    });
    pr_info!("parity_bench: products: by doubling {doubling} MiB/s, by table {table} MiB/s; sums {one} MiB/s\n");
    Ok(())
}
