// SPDX-License-Identifier: GPL-2.0

//! Numbers for new engrams and stripes. They are set aside many at a time, in a transaction of their own that comes before anything
//! that has one of them; so none is ever given twice, and those that a mount did not use are gone.

use crate::format::engram;
use crate::format::name::encode_number;
use crate::format::name::parse_number;
use crate::format::stripe;
use crate::names::Error;
use crate::names::Wrong;
use crate::tree::Key;
use crate::units::EngramId;
use crate::units::InodeNo;
use crate::units::StripeId;
use crate::units::TreeId;
use crate::volume::mounted::Machine;
use crate::volume::mounted::Mounted;
use crate::volume::mounted::ENGRAMS;
use crate::volume::mounted::STRIPES;
use embr_rt::Vec;

/// How many are set aside at a time.
const AT_ONCE: u64 = 1024;

/// Numbers that are set aside, from one to below the other.
#[derive(Default, Debug)]
struct Aside {
    next: u64,
    end: u64,
}

/// Numbers that are set aside.
#[derive(Default, Debug)]
pub struct Numbers {
    engrams: Aside,
    stripes: Aside,
}

impl Numbers {
    /// A number that no engram ever had.
    pub(crate) fn give<M: Machine>(&mut self, mounted: &Mounted<M>) -> Result<EngramId, Error> {
        let none = EngramId::NONE;
        let key = engram::key(none, engram::Kind::Numbers, 0);
        let bad = Error::Engram(none, Wrong::Senseless);
        let number = self.engrams.give(mounted, (ENGRAMS, key), bad)?;
        Ok(EngramId(number))
    }

    /// Below it are all numbers that engrams have which somebody gave already.
    pub(crate) fn next<M: Machine>(&self, mounted: &Mounted<M>) -> Result<EngramId, Error> {
        let key = engram::key(EngramId::NONE, engram::Kind::Numbers, 0);
        let next = match self.engrams.next {
            // This mount gave none.
            0 => mounted.get(ENGRAMS, key, parse_number)?.flatten(),
            next => return Ok(EngramId(next)),
        };
        Ok(next.map_or(EngramId::NONE, |n| EngramId(n.0)))
    }

    /// A number that no stripe ever had.
    pub(crate) fn give_stripe<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
    ) -> Result<StripeId, Error> {
        let none = StripeId::NONE;
        let key = stripe::key(none, stripe::Kind::Numbers, 0);
        let bad = Error::Stripe(none, Wrong::Senseless);
        let number = self.stripes.give(mounted, (STRIPES, key), bad)?;
        Ok(StripeId(number))
    }
}

impl Aside {
    fn give<M: Machine>(
        &mut self,
        mounted: &Mounted<M>,
        counter: (TreeId, Key),
        bad: Error,
    ) -> Result<u64, Error> {
        if self.next >= self.end {
            *self = set_aside(mounted, counter, bad)?;
        }
        let number = self.next;
        self.next = self.next.saturating_add(1);
        Ok(number)
    }
}

fn set_aside<M: Machine>(
    mounted: &Mounted<M>,
    (tree, key): (TreeId, Key),
    bad: Error,
) -> Result<Aside, Error> {
    let next = match mounted.get(tree, key, Vec::try_from_slice)? {
        Some(value) => parse_number(&value?).ok_or(bad)?.0,
        None => 1,
    };
    let end = next.checked_add(AT_ONCE).ok_or(Error::NoSpace)?;
    if next == 0 {
        return Err(bad);
    }
    // Whoever writes what was promised must not fail here: this changes one item, and is seldom.
    let mut txn = mounted.begin_freeing()?;
    txn.set(tree, key, &encode_number(InodeNo(end)))?;
    txn.commit()?;
    Ok(Aside { next, end })
}
