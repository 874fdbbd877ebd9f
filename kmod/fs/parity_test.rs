// SPDX-License-Identifier: GPL-2.0

//! Whether lib/raid and the engine's scalar code compute the same. Briefly whenever the module is loaded, at length with parity_test=1.

use crate::parity::{
    by_raid,
    by_table,
    Field, //
};
use core::{
    fmt,
    ops::Range, //
};
use embr_engine::{
    env::{
        Field as _,
        Hasher as _, //
    },
    field::{
        Element,
        Scalar, //
    },
    format::geometry::{
        MAX_DATA,
        MAX_PARITY, //
    },
    hash,
};
use embr_vfs::raid;
use kernel::prelude::*;

const DATA: usize = MAX_DATA as usize;
const PARITY: usize = MAX_PARITY as usize;
/// Bytes behind each parity that nobody may touch.
const GAP: usize = raid::ALIGNMENT;
const UNTOUCHED: u8 = 0xaa;

/// xorshift: the same on every load.
struct Numbers(u64);

impl Numbers {
    const fn new() -> Self {
        Numbers(0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            let number = self.next().to_le_bytes();
            for (to, from) in word.iter_mut().zip(number) {
                *to = from;
            }
        }
    }
}

/// Memory for data and for what comes of them in two ways.
struct Bundle {
    data: KVVec<u8>,
    ours: KVVec<u8>,
    wanted: KVVec<u8>,
    length: usize,
}

impl Bundle {
    fn new(length: usize) -> Result<Self> {
        let mut data = KVVec::from_elem(0u8, DATA * length, GFP_KERNEL)?;
        Numbers::new().fill(&mut data);
        let parity = || KVVec::from_elem(0u8, PARITY * (length + GAP), GFP_KERNEL);
        Ok(Bundle {
            data,
            ours: parity()?,
            wanted: parity()?,
            length,
        })
    }

    /// The first `count` data fragments, of each the part that is named.
    fn data(&self, count: usize, part: impl Fn(usize) -> Range<usize>) -> Result<KVec<&[u8]>> {
        let mut data = KVec::with_capacity(DATA, GFP_KERNEL)?;
        for (number, all) in self.data.chunks(self.length).take(count).enumerate() {
            data.push(all.get(part(number)).ok_or(EINVAL)?, GFP_KERNEL)?;
        }
        Ok(data)
    }
}

/// This part of parity fragments that are aligned.
fn parity(all: &mut [u8], count: usize, part: Range<usize>) -> Result<KVec<&mut [u8]>> {
    let mut parity = KVec::with_capacity(PARITY, GFP_KERNEL)?;
    let each = all.len() / PARITY;
    all.fill(UNTOUCHED);
    for fragment in all.chunks_mut(each).take(count) {
        let fragment = fragment.get_mut(part.clone());
        parity.push(fragment.ok_or(EINVAL)?, GFP_KERNEL)?;
    }
    Ok(parity)
}

/// Whether lib/raid gives what scalar code gives, for fragments of these lengths, of which some may be empty, and each number of them.
pub(crate) fn agrees(lengths: &[usize]) -> Result<bool> {
    let mut numbers = Numbers::new();
    for length in lengths {
        let mut bundle = Bundle::new(*length)?;
        for k in 1..=DATA {
            // All are there; the last ones are not; any.
            for there in [!0, (1 << k.div_ceil(2)) - 1, numbers.next()] {
                if !agrees_on(&mut bundle, k, there)? {
                    return Ok(false);
                }
            }
        }
    }
    products_agree()
}

#[inline(never)]
fn agrees_on(bundle: &mut Bundle, k: usize, there: u64) -> Result<bool> {
    let whole = bundle.length;
    for m in 1..=PARITY {
        let (mut ours, mut wanted) = (KVVec::new(), KVVec::new());
        core::mem::swap(&mut ours, &mut bundle.ours);
        core::mem::swap(&mut wanted, &mut bundle.wanted);
        let data = bundle.data(k, |i| 0..if there >> i & 1 == 1 { whole } else { 0 })?;
        let taken = by_raid(&data, &mut parity(&mut ours, m, 0..whole)?);
        Scalar.bundle(&data, &mut parity(&mut wanted, m, 0..whole)?);
        let same = *ours == *wanted;
        drop(data);
        bundle.ours = ours;
        bundle.wanted = wanted;
        if !taken || !same {
            let why = if taken { "differs" } else { "was refused" };
            pr_err!("parity of {k}+{m} of {whole} bytes, fragments {there:x}: {why}\n");
            return Ok(false);
        }
    }
    Ok(true)
}

#[inline(never)]
fn products_agree() -> Result<bool> {
    let mut from = [0u8; 67];
    Numbers::new().fill(&mut from);
    for by in (0..=u8::MAX).map(Element) {
        let (mut ours, mut wanted) = ([UNTOUCHED; 71], [UNTOUCHED; 71]);
        by_table(by, &from, &mut ours);
        Scalar.add_product(by, &from, &mut wanted);
        if ours != wanted {
            pr_err!("products with {} differ\n", by.0);
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tests at length, and prints what lib/raid makes of known data.
#[inline(never)]
pub(crate) fn run() -> Result {
    let agrees = agrees(&[raid::SECTOR, 4096, 2 * 4096 + 3 * raid::SECTOR])?;
    if !agrees || !others_agree()? || !all_products_agree()? {
        return Err(EINVAL);
    }
    for (k, absent) in [
        (2, None),
        (4, None),
        (4, Some(1)),
        (8, None),
        (16, None),
        (16, Some(15)),
    ] {
        print_vector(k, absent)?;
    }
    pr_info!("parity_test: ok\n");
    Ok(())
}

/// What lib/raid does not take is computed all the same: what is not aligned, not of whole sectors, or of different lengths.
#[inline(never)]
fn others_agree() -> Result<bool> {
    const LENGTH: usize = 1024;
    let field = Field::current();
    let bundle = Bundle::new(LENGTH)?;
    let Bundle {
        mut ours,
        mut wanted,
        ..
    } = Bundle::new(LENGTH)?;
    let mut good = true;
    // Which part of parity; of data; of every third one of them.
    for (whole, data, short) in [
        (0..512, 0..512, 0..256),
        (0..512, 0..512, 0..1024),
        (0..512, 0..512, 8..520),
        (0..0, 0..0, 0..512),
        (8..520, 0..512, 0..512),
        (0..1000, 0..1000, 0..1000),
        (1..2, 3..4, 0..0),
    ] {
        for k in 1..=DATA {
            for m in 1..=PARITY {
                let part = |i: usize| if i % 3 == 1 { &short } else { &data }.clone();
                let data = bundle.data(k, part)?;
                let taken = by_raid(&data, &mut parity(&mut ours, m, whole.clone())?);
                field.bundle(&data, &mut parity(&mut ours, m, whole.clone())?);
                Scalar.bundle(&data, &mut parity(&mut wanted, m, whole.clone())?);
                // The first data are like parity but for the last three, and alone if k = 1.
                let same = *ours == *wanted;
                if !same || taken != (k == 1 && whole.start == 0 && whole.end % raid::SECTOR == 0) {
                    let why = if same { "taken by lib/raid" } else { "differs" };
                    pr_err!("parity of {k}+{m}, {whole:?} and {short:?}: {why}\n");
                    good = false;
                }
            }
        }
    }
    Ok(good)
}

/// Products of any factor and length, by lib/raid or not.
#[inline(never)]
fn all_products_agree() -> Result<bool> {
    let field = Field::current();
    let Bundle {
        data,
        mut ours,
        mut wanted,
        ..
    } = Bundle::new(2 * raid::SECTOR)?;
    for by in (0..=u8::MAX).map(Element) {
        for (from, into) in [(512, 512), (1024, 512), (512, 1024), (0, 512), (100, 77)] {
            let data = data.get(..from).ok_or(EINVAL)?;
            ours.fill(UNTOUCHED);
            wanted.fill(UNTOUCHED);
            field.add_product(by, data, ours.get_mut(..into).ok_or(EINVAL)?);
            Scalar.add_product(by, data, wanted.get_mut(..into).ok_or(EINVAL)?);
            if *ours != *wanted {
                pr_err!(
                    "parity: {} times {from} bytes, added to {into}, differ\n",
                    by.0
                );
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl kernel::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// Byte n of data i is n * (2i + 3) + n / 7 + 29i. tests/guest/module-parity.sh has what comes of it; programs are held to that too.
#[inline(never)]
fn print_vector(k: usize, absent: Option<usize>) -> Result {
    let mut bundle = Bundle::new(raid::SECTOR)?;
    for (i, data) in bundle.data.chunks_mut(raid::SECTOR).enumerate() {
        for (n, byte) in data.iter_mut().enumerate() {
            *byte = (n * (2 * i + 3) + n / 7 + 29 * i) as u8;
        }
    }
    let (mut p, mut q) = (KVVec::new(), KVVec::new());
    core::mem::swap(&mut p, &mut bundle.ours);
    core::mem::swap(&mut q, &mut bundle.wanted);
    let (p, q) = match (p.get_mut(..raid::SECTOR), q.get_mut(..raid::SECTOR)) {
        (Some(p), Some(q)) => (p, q),
        _ => return Err(EINVAL),
    };
    let data = bundle.data(k, |i| 0..if Some(i) == absent { 0 } else { raid::SECTOR })?;
    if !raid::syndrome(&data, 1, p, q) {
        return Err(EINVAL);
    }
    let absent = absent.map_or(-1, |i| i as i32);
    for (name, parity) in [('P', p), ('Q', q)] {
        let hash = hash::Scalar.hash(&[parity]).0;
        let first = parity.get(..16).unwrap_or_default();
        pr_info!(
            "parity_test: vector {k} {absent} {name} {} {}\n",
            Hex(first),
            Hex(&hash)
        );
    }
    Ok(())
}
