// SPDX-License-Identifier: GPL-2.0

//! What is said of all stripes together, and kept up with each of them: which ones take more room than they need, and the sums of what
//! they take and of what lives.

use super::seal::MOST;
use super::Shape;
use crate::format::stripe::key;
use crate::format::stripe::wasteful;
use crate::format::stripe::Kind;
use crate::format::stripe::Totals;
use crate::format::stripe::VERSION;
use crate::names::Error;
use crate::txn::Transaction;
use crate::units::Blocks;
use crate::units::StripeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::STRIPES;

/// Items that one more or one fewer stripe touches here beside the sums, at most: where it was listed, and where it is.
pub(crate) const ITEMS: usize = 2;
/// Bytes of the journal that they take.
pub(crate) const COST: usize = 2 * 48;
/// Bytes of the journal that the sums take.
pub(crate) const SUMS: usize = 64;

/// How the sums change.
#[derive(Default)]
pub(crate) struct Sums {
    more: Totals,
    less: Totals,
}

fn plus(a: Blocks, b: usize) -> Blocks {
    Blocks(a.0.saturating_add(b as u64))
}

impl Sums {
    /// A stripe of which so many blocks lived, if it was there, has so many that live, if it is.
    pub(crate) fn change<M: Machine>(
        &mut self,
        txn: &mut Transaction<'_, M>,
        (stripe, shape): (StripeId, &Shape),
        before: Option<usize>,
        now: Option<usize>,
    ) -> Result<(), Error> {
        for (sum, live) in [(&mut self.less, before), (&mut self.more, now)] {
            if let Some(live) = live {
                sum.taken = plus(sum.taken, shape.taken());
                sum.live = plus(sum.live, live);
            }
        }
        let geometry = txn.mounted().geometry();
        let grade = |live: Option<usize>| shape.grade(live?, geometry);
        let (before, now) = (grade(before), grade(now));
        if before != now {
            if let Some(grade) = before {
                txn.remove(STRIPES, wasteful(grade, stripe))?;
            }
            if let Some(grade) = now {
                txn.set(STRIPES, wasteful(grade, stripe), &[VERSION])?;
            }
        }
        Ok(())
    }

    /// Puts them into the transaction.
    pub(crate) fn finish<M: Machine>(&self, txn: &mut Transaction<'_, M>) -> Result<(), Error> {
        if self.more == self.less {
            return Ok(());
        }
        let key = key(StripeId::NONE, Kind::Totals, 0);
        // Wrong sums are for fsck: they keep nobody from anything.
        let sums = txn.get(STRIPES, key, Totals::parse)?.flatten();
        let sums = sums.unwrap_or_default();
        let moved = |sum: Blocks, more: Blocks, less: Blocks| {
            Blocks(sum.0.saturating_add(more.0).saturating_sub(less.0))
        };
        let sums = Totals {
            taken: moved(sums.taken, self.more.taken, self.less.taken),
            live: moved(sums.live, self.more.live, self.less.live),
        };
        Ok(txn.set(STRIPES, key, &sums.encode())?)
    }
}

/// Of a volume, one part in so many is kept for cleaning, if it is at least two stripes and no more than is good for anything.
const KEPT_IN: u64 = 128;
const KEPT_LEAST: u64 = 2 * MOST as u64;
const KEPT_MOST: u64 = 16384;
/// Of a small one no more than one part in so many.
const KEPT_OF_SMALL: u64 = 32;

impl<M: Machine> Mounted<M> {
    /// Keeps room for moving what lives in stripes, where there may be any.
    pub(crate) fn keep_for_cleaning(&self) {
        let geometry = self.geometry();
        if geometry.data() < 2 || geometry.parity() == 0 {
            return;
        }
        let total = self.statfs().total.0;
        let wanted = (total / KEPT_IN).clamp(KEPT_LEAST, KEPT_MOST);
        let most = total / KEPT_OF_SMALL;
        self.space.keep_for_cleaning(Blocks(wanted.min(most)));
    }

    /// What all stripes together are.
    pub(crate) fn stripe_totals(&self) -> Result<Totals, Error> {
        let key = key(StripeId::NONE, Kind::Totals, 0);
        let totals = self.get(STRIPES, key, Totals::parse)?;
        Ok(totals.flatten().unwrap_or_default())
    }
}
