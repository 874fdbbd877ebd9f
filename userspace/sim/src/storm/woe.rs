// SPDX-License-Identifier: GPL-2.0

//! What can go wrong in a storm, and how it begins. It knows nothing of what is done meanwhile.

use crate::cache::Survival;
use crate::fault::Fault as DriveFault;
use crate::fault::FlushFault;
use crate::fault::Injected;
use crate::fault::Odds;
use crate::fault::When;
use crate::fault::WriteFault;
use crate::fleet::Fleet;
use crate::host::Chance;
use embr_engine::format::member::Slot;

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Woe {
    /// Reads return errors.
    ReadsFail,
    /// Reads return wrong bits, once.
    Garbles,
    /// What is read has rotted.
    Rots,
    /// Much has rotted before the volume is mounted.
    Rotten,
    /// Writes return errors, and are done in part.
    WritesFail,
    /// Writes are acknowledged and land elsewhere.
    Misdirects,
    /// Writes are acknowledged and not done.
    Loses,
    /// Flushes return errors, and anything becomes of what was not flushed.
    FlushesFail,
    /// Flushes are acknowledged and not done.
    Lies,
    /// The drive is gone for good.
    Vanishes,
    /// The drive goes, and is back after the crash with what it had.
    Stale,
    /// The drive takes nothing new.
    Full,
    /// The drive alone loses power and what it had not flushed, and nobody is told.
    PowerOfOne,
    /// After the crash, drives are mounted apart, and then together.
    Apart,
    /// Memory cannot be had.
    NoMemory,
}

impl Woe {
    /// All of them.
    pub const ALL: [Woe; 15] = [
        Woe::ReadsFail,
        Woe::Garbles,
        Woe::Rots,
        Woe::Rotten,
        Woe::WritesFail,
        Woe::Misdirects,
        Woe::Loses,
        Woe::FlushesFail,
        Woe::Lies,
        Woe::Vanishes,
        Woe::Stale,
        Woe::Full,
        Woe::PowerOfOne,
        Woe::Apart,
        Woe::NoMemory,
    ];

    /// Whether a drive may have forgotten what it acknowledged.
    pub(super) fn forgets(self) -> bool {
        matches!(
            self,
            Woe::Rots | Woe::Rotten | Woe::Misdirects | Woe::Loses | Woe::Lies | Woe::PowerOfOne
        )
    }

    /// Whether it befalls reads, and so mounts too.
    pub(super) fn of_reads(self) -> bool {
        matches!(self, Woe::ReadsFail | Woe::Garbles | Woe::Rots)
    }

    /// What is done to a drive when it comes; none where it does not befall drives that are mounted.
    pub(super) fn done(self) -> Option<Injected> {
        Some(match self {
            Woe::ReadsFail => Injected::ReadFailed,
            Woe::Garbles => Injected::Garbled,
            Woe::Rots | Woe::Rotten => Injected::Rotted,
            Woe::WritesFail => Injected::WriteFailed,
            Woe::Misdirects => Injected::Misdirected,
            Woe::Loses => Injected::Lost,
            Woe::FlushesFail => Injected::FlushFailed,
            Woe::Lies => Injected::Lied,
            Woe::Vanishes | Woe::Stale => Injected::Vanished,
            Woe::Full => Injected::Full,
            Woe::PowerOfOne => Injected::PowerCut,
            Woe::Apart | Woe::NoMemory => return None,
        })
    }

    /// Things go wrong from now on.
    pub(super) fn begin(self, fleet: &Fleet, slot: Slot, chance: &Chance) {
        let often = chance.one(&[3000, 15_000, 50_000]);
        let soon = chance.below(8) as u64;
        let odds = Odds::default();
        let write = |fault| fleet.expect(slot, DriveFault::Write(When::After(soon), fault));
        match self {
            Woe::ReadsFail => fleet.odds(
                slot,
                Odds {
                    read_fails: often,
                    ..odds
                },
            ),
            Woe::Garbles => fleet.odds(
                slot,
                Odds {
                    garble: often,
                    ..odds
                },
            ),
            Woe::Rots => fleet.odds(slot, Odds { rot: often, ..odds }),
            Woe::WritesFail => {
                write(WriteFault::Fail);
                let write_fails = often;
                fleet.odds(
                    slot,
                    Odds {
                        write_fails,
                        ..odds
                    },
                );
            }
            Woe::Misdirects => {
                write(WriteFault::Misdirect(None));
                let misdirects = often;
                fleet.odds(slot, Odds { misdirects, ..odds });
            }
            Woe::Loses => {
                write(WriteFault::Lose);
                let loses = often;
                fleet.odds(slot, Odds { loses, ..odds });
            }
            Woe::FlushesFail => {
                let fail = FlushFault::Fail(None);
                fleet.expect(slot, DriveFault::Flush(When::After(soon / 4), fail));
            }
            Woe::Lies => {
                let when = match chance.below(2) {
                    0 => When::After(soon / 4),
                    _ => When::From(soon / 4),
                };
                fleet.expect(slot, DriveFault::Flush(when, FlushFault::Lie));
            }
            Woe::Vanishes | Woe::Stale => {
                let fault = match chance.below(2) {
                    0 => DriveFault::Write(When::After(soon), WriteFault::Vanish),
                    _ => DriveFault::Flush(When::After(soon / 4), FlushFault::Vanish),
                };
                fleet.expect(slot, fault);
            }
            Woe::Full => fleet.limit(slot, Some(soon)),
            Woe::PowerOfOne => {
                fleet.cut_power(slot, &Survival::None);
                write(WriteFault::CutPower);
            }
            Woe::Rotten | Woe::Apart | Woe::NoMemory => {}
        }
    }
}
