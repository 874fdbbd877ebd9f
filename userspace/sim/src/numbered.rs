// SPDX-License-Identifier: GPL-2.0

//! Transactions with numbers, for tests that are about drives more than about what is on them: which one was the last is written down,
//! and each leaves something that the next forty do not touch.

use crate::fleet::Fleet;
use crate::machine;
use crate::machine::Simulated;
use embr_engine::format::geometry::Geometry;
use embr_engine::tree::Key;
use embr_engine::units::Bytes;
use embr_engine::volume::mounted::NAMES;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;

/// How large each drive is.
pub const SIZE: Bytes = Bytes(32 << 20);

/// A new volume that bears the loss of so many drives.
pub fn made(drives: usize, parity: u8) -> Fleet {
    let fleet = Fleet::new(21, &vec![SIZE; drives]);
    let geometry = Geometry::new(1, parity).expect("a geometry");
    machine::make(21, &fleet, geometry).expect("made");
    fleet
}

/// Makes one of them. They come in order.
pub fn put(mounted: &Mounted<Simulated>, number: u64) -> Result<(), String> {
    let shown = |why: Fault| format!("{number}: {why}");
    let mut txn = mounted.begin().map_err(shown)?;
    let key = Key([1, number % 40, 0]);
    txn.set(NAMES, key, &[number as u8; 900]).map_err(shown)?;
    txn.set(NAMES, Key::MIN, &number.to_le_bytes())
        .map_err(shown)?;
    txn.commit().map_err(shown)?;
    Ok(())
}

/// The number of the last transaction, if the volume is as that left it.
pub fn last(mounted: &Mounted<Simulated>) -> Result<u64, String> {
    let shown = |why: Fault| why.to_string();
    let number = mounted.get(NAMES, Key::MIN, |v| v.try_into().map(u64::from_le_bytes));
    let number = match number.map_err(shown)? {
        None => 0,
        Some(number) => number.map_err(|_| "no number")?,
    };
    for n in number.saturating_sub(39).max(1)..=number {
        let key = Key([1, n % 40, 0]);
        let right = mounted.get(NAMES, key, |v| v == [n as u8; 900]);
        if right.map_err(shown)? != Some(true) {
            return Err(format!("transaction {n} is not there, but {number} is"));
        }
    }
    Ok(number)
}
