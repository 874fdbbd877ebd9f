// SPDX-License-Identifier: GPL-2.0

//! What a storm left: which mounts of it may be refused, and for which reasons; what must be there in all others. It does nothing to
//! the drives that were in the storm, only to copies of them.

use super::found;
use super::Annals;
use super::Storm;
use super::Woe;
use crate::ace;
use crate::ace::Actor;
use crate::ace::READ_ONLY;
use crate::contents;
use crate::contents::Copies;
use crate::fleet::Fleet;
use crate::machine;
use crate::machine::Refused;
use crate::machine::Simulated;
use crate::recording::Snapshot;
use crate::roots;
use embr_engine::format::member::Members;
use embr_engine::format::member::Slot;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Fault;
use embr_engine::volume::Mounted;
use embr_rt::failpoint;

/// Why mounts were refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refusal {
    /// Nothing can be recognised on a drive.
    Drive,
    /// Too few drives are left.
    Missing,
    /// Two sides were both written to.
    Split,
    /// Most drives are missing, and nobody asked for a mount in spite of it.
    Degraded,
    /// No root can be read.
    NoRoot,
    /// There may be a newer root.
    RootUnread,
    /// The journal may go on.
    JournalUnread,
    /// What was acknowledged is not in the journal.
    JournalLost,
    /// A tree cannot be read.
    Tree,
    /// What is free is not known, or makes no sense.
    Space,
    /// No drive takes changes.
    Stopped,
    /// Memory could not be had.
    NoMemory,
    /// What no storm brings about.
    Other,
}

impl From<&Refused> for Refusal {
    fn from(why: &Refused) -> Self {
        match why {
            Refused::Drive(_, embr_engine::Error::NoMemory) => Refusal::NoMemory,
            Refused::Drive(..) => Refusal::Drive,
            Refused::Volume(why) => match **why {
                AssembleError::NoMemory => Refusal::NoMemory,
                AssembleError::Split(..) => Refusal::Split,
                AssembleError::Nothing
                | AssembleError::SetBack(_)
                | AssembleError::TooManyMissing { .. } => Refusal::Missing,
                _ => Refusal::Other,
            },
            Refused::Mount(why) => match why {
                Fault::NoMemory => Refusal::NoMemory,
                Fault::Degraded => Refusal::Degraded,
                Fault::NoRoot => Refusal::NoRoot,
                Fault::RootUnread => Refusal::RootUnread,
                Fault::JournalUnread(_) => Refusal::JournalUnread,
                Fault::JournalLost(_) => Refusal::JournalLost,
                Fault::Tree(_) => Refusal::Tree,
                Fault::SpaceLost(_) | Fault::Space(_) | Fault::SpaceItem(_) => Refusal::Space,
                Fault::Stopped => Refusal::Stopped,
                _ => Refusal::Other,
            },
        }
    }
}

/// A mount that may be refused.
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    /// It is to write.
    pub writes: bool,
    /// Reads fail meanwhile.
    pub reads_fail: bool,
}

/// What must be there.
#[derive(Clone, Copy)]
struct Claim {
    /// So many deeds were durable.
    least: usize,
    /// All can be read, and worked on.
    is_sound: bool,
}

impl Storm<'_> {
    /// Whether a mount may be refused for this. While as many drives are sound as are needed, only for a group of the journal that no
    /// sound drive has, behind which there may be another: nothing says that it was not acknowledged.
    pub(super) fn may_be_refused(&self, why: Refusal, attempt: Attempt) -> bool {
        let Attempt { writes, reads_fail } = attempt;
        if self.safe {
            return writes
                && reads_fail
                && self.woe == Woe::ReadsFail
                && why == Refusal::JournalUnread;
        }
        // The only drive.
        let is_spoilt = self.woe.forgets() || reads_fail;
        match why {
            Refusal::Missing => self.woe == Woe::Vanishes || is_spoilt,
            Refusal::Drive | Refusal::NoRoot => is_spoilt,
            Refusal::RootUnread | Refusal::JournalUnread => reads_fail && writes,
            Refusal::JournalLost | Refusal::Tree | Refusal::Space => is_spoilt && writes,
            _ => false,
        }
    }

    /// Counts it, if it may be.
    pub(super) fn refused(&mut self, why: Refused, attempt: Attempt) -> Result<(), String> {
        let kind = Refusal::from(&why);
        if !self.may_be_refused(kind, attempt) {
            let to = match attempt.writes {
                true => "a mount",
                false => "a read-only mount",
            };
            return Err(format!("{to} is refused: {why}"));
        }
        self.weathered.refused.add(kind);
        Ok(())
    }

    /// Mounts. Nobody names a drive on which nothing is left to recognise it by, while there are others.
    pub(super) fn mount(
        &self,
        seed: u64,
        fleet: &Fleet,
        options: Options,
    ) -> Result<Mounted<Simulated>, Refused> {
        let is_spoilt = |slot: Slot| {
            let may_be = self.woe.forgets() || self.woe.of_reads();
            self.safe && may_be && self.bad.contains(&slot)
        };
        loop {
            match machine::try_to_mount(seed, fleet, options) {
                Err(Refused::Drive(slot, why))
                    if is_spoilt(slot) && why != embr_engine::Error::NoMemory =>
                {
                    fleet.take(slot);
                }
                mounted => return mounted,
            }
        }
    }

    /// What must be there once nothing goes wrong any more.
    fn claim(&self, annals: &Annals) -> Claim {
        let is_sound = self.safe || !self.woe.forgets();
        Claim {
            least: if is_sound { annals.durable } else { 0 },
            is_sound,
        }
    }

    fn befall(&self, fleet: &Fleet) {
        for slot in &self.bad {
            self.woe.begin(fleet, *slot, &self.chance);
        }
    }

    /// What a crash left, as all drives have it, and as the sound ones do. Says whether what goes wrong came while it was looked at.
    pub(super) fn look(&mut self, snapshot: &Snapshot, annals: &Annals) -> Result<bool, String> {
        let before = self.weathered.unallocated;
        let fleet = Fleet::start(self.seed, snapshot);
        let reads_fail = self.woe.of_reads();
        if reads_fail {
            self.befall(&fleet);
        }
        if self.woe == Woe::NoMemory {
            self.mount_without_memory(&fleet)?;
        }
        let attempt = Attempt {
            writes: true,
            reads_fail,
        };
        let claim = match self.woe {
            // What is read wrongly while the journal is searched looks like its end, and what it says of nodes is lost with it; what
            // cannot be read does not.
            Woe::Garbles if !self.safe => Claim {
                least: 0,
                is_sound: false,
            },
            _ => self.claim(annals),
        };
        let mounted = self.mount(self.seed, &fleet, self.options());
        if !self.safe {
            fleet.heal();
        }
        match mounted {
            Ok(mounted) => self.stands(&fleet, &mounted, annals, claim)?,
            Err(why) => {
                self.refused(why, attempt)?;
                fleet.heal();
                self.mount_calmly(&fleet, annals, claim)
                    .map_err(|why| format!("once refused, then healed: {why}"))?;
            }
        }
        let injected = fleet.injected();
        self.weathered.injected.merge(&injected);
        let came = self.woe.done().is_some_and(|done| injected.of(done) != 0);
        if reads_fail && !self.safe {
            let fleet = Fleet::start(self.seed, snapshot);
            self.mount_calmly(&fleet, annals, self.claim(annals))
                .map_err(|why| format!("healed: {why}"))?;
        }
        self.look_only(snapshot, annals)?;
        if self.has_two_roots() && self.chance.below(3) == 0 {
            self.look_without_newest_root(snapshot, annals)
                .map_err(|why| format!("without the newest root: {why}"))?;
        }
        Ok(came || self.weathered.unallocated > before)
    }

    /// Wherever a mount ends for want of memory, the next one finds everything.
    fn mount_without_memory(&mut self, fleet: &Fleet) -> Result<(), String> {
        failpoint::fail_nth(1 + self.chance.below(300) as u64);
        let done = machine::try_to_mount(self.seed, fleet, self.options()).map(|_| ());
        let failed = failpoint::off().failed;
        self.weathered.unallocated += failed;
        match done {
            Err(why) if failed == 0 || Refusal::from(&why) != Refusal::NoMemory => {
                Err(format!("{failed} allocations failed: {why}"))
            }
            _ => Ok(()),
        }
    }

    fn mount_calmly(&mut self, fleet: &Fleet, annals: &Annals, claim: Claim) -> Result<(), String> {
        let attempt = Attempt {
            writes: true,
            // The mount before may have written what followed from wrong reads.
            reads_fail: self.woe.of_reads() && !claim.is_sound,
        };
        match self.mount(self.seed, fleet, self.options()) {
            Ok(mounted) => self.stands(fleet, &mounted, annals, claim),
            Err(why) => self.refused(why, attempt),
        }
    }

    /// What a mount that writes has; and that it goes on.
    fn stands(
        &self,
        fleet: &Fleet,
        mounted: &Mounted<Simulated>,
        annals: &Annals,
        Claim { least, is_sound }: Claim,
    ) -> Result<(), String> {
        if let Some(why) = mounted.cut() {
            return Err(format!("it writes without what it may lack: {why}"));
        }
        let found = match found(mounted) {
            Err(_) if !is_sound => return Ok(()),
            found => found?,
        };
        annals.allow(&found, least)?;
        if is_sound {
            contents::audit_but(mounted, self.copies())?;
            ace::go_on(fleet, mounted, &found, self.copies(), self.seed)
                .map_err(|why| format!("going on: {why}"))?;
        }
        Ok(())
    }

    /// Whether drives were without what others have.
    fn copies(&self) -> Copies {
        match self.woe {
            Woe::NoMemory | Woe::Apart => Copies::All,
            _ => Copies::MayLack,
        }
    }

    /// Whether nothing else is wrong with what drives hold of roots, so that the one before the newest is there.
    fn has_two_roots(&self) -> bool {
        let of_reads = matches!(self.woe, Woe::ReadsFail | Woe::Garbles);
        let left_out = matches!(
            self.woe,
            Woe::WritesFail | Woe::FlushesFail | Woe::Full | Woe::Stale
        );
        of_reads || left_out || matches!(self.woe, Woe::NoMemory | Woe::Apart)
    }

    /// The root before the newest one has all that was durable, too.
    fn look_without_newest_root(
        &mut self,
        snapshot: &Snapshot,
        annals: &Annals,
    ) -> Result<(), String> {
        let fleet = Fleet::start(self.seed, snapshot);
        if !roots::lose_newest(&fleet, self.seed)? {
            return Ok(());
        }
        let mounted = machine::mount(self.seed, &fleet, self.options())?;
        self.weathered.older_roots += 1;
        self.stands(&fleet, &mounted, annals, self.claim(annals))
    }

    /// Mounts that write nothing: of all drives, and without the bad ones.
    fn look_only(&mut self, snapshot: &Snapshot, annals: &Annals) -> Result<(), String> {
        let fleet = Fleet::start(self.seed, snapshot);
        let reads_fail = self.woe.of_reads() && self.safe;
        if reads_fail {
            self.befall(&fleet);
        }
        self.see(&fleet, annals, reads_fail)?;
        if !self.safe {
            return Ok(());
        }
        let fleet = Fleet::start(self.seed, snapshot);
        for slot in &self.bad {
            fleet.take(*slot);
        }
        let bad = self.bad.clone();
        self.see(&fleet, annals, false)
            .map_err(|why| format!("without drives {bad:?}: {why}"))
    }

    fn see(&mut self, fleet: &Fleet, annals: &Annals, reads_fail: bool) -> Result<(), String> {
        let attempt = Attempt {
            writes: false,
            reads_fail,
        };
        let mounted = match self.mount(self.seed, fleet, READ_ONLY) {
            Ok(mounted) => mounted,
            Err(why) => return self.refused(why, attempt),
        };
        let Claim { least, is_sound } = self.claim(annals);
        if let Some(why) = mounted.cut().filter(|_| is_sound && !reads_fail) {
            return Err(format!("read-only, and something may be lacking: {why}"));
        }
        match found(&mounted) {
            Err(_) if !is_sound => Ok(()),
            found => annals.allow(&found?, least),
        }
    }

    /// The bad drives and the others, each alone and then all together. Two sides that were both written to are refused. Says whether
    /// one was.
    pub(super) fn apart(&mut self, snapshot: &Snapshot, annals: &Annals) -> Result<bool, String> {
        if !self.safe {
            return Ok(false);
        }
        let bad: Members = self.bad.iter().copied().collect();
        let (bad, rest) = snapshot.split(bad);
        let wanted = self
            .chance
            .one(&[[true, false], [false, true], [true, true]]);
        let mut written = Vec::new();
        let mut sides = Vec::new();
        for (n, side) in [bad, rest].into_iter().enumerate() {
            // No two of them draw the same epoch.
            let seed = self.seed ^ (1 + n as u64);
            let fleet = Fleet::start(seed, &side);
            let bundle = self.stage.scene.bundle;
            if side.drives.len() < bundle.data().into() {
                match machine::try_to_mount(seed, &fleet, READ_ONLY).map(|_| ()) {
                    Err(why) if Refusal::from(&why) == Refusal::Missing => {
                        self.weathered.refused.add(Refusal::Missing);
                    }
                    other => return Err(format!("{} of {bundle}: {other:?}", side.drives.len())),
                }
                sides.push(side);
                continue;
            }
            let mounted = machine::mount(seed, &fleet, READ_ONLY)?;
            annals.allow(&found(&mounted)?, annals.durable)?;
            drop(mounted);
            let is_minority = 2 * side.drives.len() <= snapshot.drives.len();
            let cautious = Options {
                degraded: false,
                ..machine::READ_WRITE
            };
            match machine::try_to_mount(seed, &fleet, cautious).map(|_| ()) {
                Err(Refused::Mount(Fault::Degraded)) if is_minority => {
                    self.weathered.refused.add(Refusal::Degraded);
                }
                Ok(()) if !is_minority => {}
                other => return Err(format!("degraded without being asked: {other:?}")),
            }
            if wanted[n] {
                let mounted = machine::mount(seed, &fleet, machine::READ_WRITE)?;
                let found = found(&mounted)?;
                annals.allow(&found, annals.durable)?;
                let mut actor = Actor::new(&mounted, found, 200)?;
                actor.act(ace::draw(&self.chance, &actor.estate))?;
                actor.sync()?;
                written.push(actor.estate.clone().without_orphans());
            } else if !is_minority {
                // That mount wrote, too.
                written.push(found(&machine::mount(seed, &fleet, READ_ONLY)?)?);
            }
            sides.push(fleet.snapshot());
        }
        let all = sides
            .into_iter()
            .try_fold(Snapshot::default(), Snapshot::join);
        let fleet = Fleet::start(self.seed, &all.ok_or("a drive on both sides")?);
        let together = machine::try_to_mount(self.seed, &fleet, READ_ONLY);
        match (&written[..], together) {
            ([only], Ok(mounted)) => match only.difference(&found(&mounted)?) {
                Some(what) => Err(format!("one side was written to: {what}")),
                None => Ok(true),
            },
            ([_, _], Err(why)) if Refusal::from(&why) == Refusal::Split => {
                self.weathered.refused.add(Refusal::Split);
                Ok(true)
            }
            ([_, _], Ok(_)) => Err("both sides were written to, and nobody minds".into()),
            (_, Err(why)) => Err(format!("together: {why}")),
            (_, Ok(_)) => Err("no side was written to".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ace::Scene;
    use crate::ace::Stage;

    fn stage(data: u8, parity: u8) -> Stage {
        Stage::new(Scene::furnished(data, parity)).expect("a volume")
    }

    const REASONS: [Refusal; 13] = [
        Refusal::Drive,
        Refusal::Missing,
        Refusal::Split,
        Refusal::Degraded,
        Refusal::NoRoot,
        Refusal::RootUnread,
        Refusal::JournalUnread,
        Refusal::JournalLost,
        Refusal::Tree,
        Refusal::Space,
        Refusal::Stopped,
        Refusal::NoMemory,
        Refusal::Other,
    ];

    fn allowed(storm: &Storm<'_>, writes: bool, reads_fail: bool) -> Vec<Refusal> {
        let attempt = Attempt { writes, reads_fail };
        let all = REASONS.into_iter();
        all.filter(|why| storm.may_be_refused(*why, attempt))
            .collect()
    }

    #[test]
    fn while_enough_drives_are_sound_no_mount_is_refused() {
        let stage = stage(1, 1);
        for woe in Woe::ALL {
            let storm = Storm::new(&stage, woe, 1, 0);
            for (writes, reads_fail) in [(true, false), (false, false), (false, true)] {
                assert_eq!(allowed(&storm, writes, reads_fail), [], "{woe:?}");
            }
            if woe.of_reads() && woe != Woe::ReadsFail {
                assert_eq!(allowed(&storm, true, true), [], "{woe:?}");
            }
        }
        let reads_fail = Storm::new(&stage, Woe::ReadsFail, 1, 0);
        assert_eq!(allowed(&reads_fail, true, true), [Refusal::JournalUnread]);
    }

    #[test]
    fn one_drive_that_keeps_what_it_acknowledged_is_mounted_once_it_is_healed() {
        let stage = stage(1, 0);
        for woe in Woe::ALL.into_iter().filter(|woe| !woe.forgets()) {
            let storm = Storm::new(&stage, woe, 1, 0);
            let gone = match woe {
                Woe::Vanishes => vec![Refusal::Missing],
                _ => vec![],
            };
            for writes in [true, false] {
                assert_eq!(allowed(&storm, writes, false), gone, "{woe:?}");
            }
        }
    }
}
