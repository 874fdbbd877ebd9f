// SPDX-License-Identifier: GPL-2.0

//! What can be found to be wrong, and what may be done about it.

use super::OPERATIONAL;
use super::UNCORRECTED;
use embr_engine::check::Counted;
use embr_engine::units::Bytes;
use embr_engine::units::Uuid;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::mend::mendable;
use embr_engine::volume::probe::CopyState;
use embr_engine::volume::Member;
use embr_engine::volume::Volume;
use serde_json::json;
use serde_json::Value;

/// What would put it right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mend {
    /// Writing this device's superblock copies again, from the newest.
    Superblocks,
    /// Writing the root at the second place again as the one at the first, a sound one.
    CopyRoot {
        /// The sound one.
        from: Bytes,
        /// The other.
        to: Bytes,
    },
    /// Writing zeros over a root that is none: an empty slot.
    ClearRoot(Bytes),
    /// What follows from the rest of the volume; it was done.
    Derived,
    /// Nothing that fsck could do.
    None,
    /// Nothing that fsck may do: the bytes are as somebody wrote them, but this version does not understand them, and so
    /// not the device either.
    Forbidden,
    /// Nothing is known to be wrong with the volume, but the check could not be made.
    Operational,
    /// Nothing is known to be wrong, but there is more than is known here, and only who knows it may write.
    Unknown,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// The device, by its place in the list; none where it concerns them together.
    pub(crate) device: Option<usize>,
    pub(crate) text: String,
    pub(crate) mend: Mend,
    pub(crate) mended: bool,
    /// Where it is in the volume, for programs.
    pub(crate) at: Option<Value>,
}

/// All that was found.
#[derive(Default, Debug)]
pub(crate) struct Report {
    pub(crate) names: Vec<String>,
    pub(crate) volume_uuid: Option<Uuid>,
    pub(crate) volume: Option<String>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
    /// What was looked at of the contents; none where that could not be.
    pub(crate) contents: Option<Counted>,
}

impl Finding {
    pub(crate) fn can_be_mended(&self) -> bool {
        !self.mended && self.repairable()
    }

    fn repairable(&self) -> bool {
        matches!(
            self.mend,
            Mend::Superblocks | Mend::CopyRoot { .. } | Mend::ClearRoot(_) | Mend::Derived
        )
    }

    fn name<'a>(&self, names: &'a [String]) -> Option<&'a str> {
        names.get(self.device?).map(String::as_str)
    }

    pub(crate) fn line(&self, names: &[String]) -> String {
        let place = self
            .name(names)
            .map_or_else(String::new, |n| format!("{n}: "));
        let end = if self.mended { " -- corrected" } else { "" };
        format!("{place}{}{end}", self.text)
    }

    pub(crate) fn json(&self, names: &[String]) -> Value {
        json!({
            "device": self.name(names),
            "text": self.text,
            "repairable": self.repairable(),
            "corrected": self.mended,
            "at": self.at,
        })
    }
}

impl Report {
    pub(crate) fn mendable(&self) -> bool {
        self.findings.iter().any(Finding::can_be_mended)
    }

    /// What is left, as an exit code.
    pub(crate) fn code(&self) -> u8 {
        self.findings
            .iter()
            .filter(|f| !f.mended)
            .fold(0, |code, finding| {
                code | match finding.mend {
                    Mend::Operational | Mend::Unknown => OPERATIONAL,
                    _ => UNCORRECTED,
                }
            })
    }
}

/// Takes every repair from a device that holds what is not understood: what looks damaged may be part of that.
pub(crate) fn leave_what_is_not_understood(findings: &mut [Finding]) {
    let forbids = |f: &Finding| matches!(f.mend, Mend::Forbidden | Mend::Unknown);
    if findings.iter().any(forbids) {
        for finding in findings.iter_mut().filter(|f| f.can_be_mended()) {
            finding.mend = Mend::None;
        }
    }
}

/// What this device has that is not known here, although it may be read. Then nothing of it is written either.
pub(crate) fn unknown_features(device: usize, member: &Member) -> Option<Finding> {
    let unknown = member.superblock.features.unknown_read_only();
    unknown.any().then(|| Finding {
        device: Some(device),
        text: format!(
            "the volume uses features that this fsck.embrfs does not know ({unknown}): there is more in it than is checked here, \
             what seems wrong may belong to them, and nothing is repaired; use a newer one"
        ),
        mend: Mend::Unknown,
        mended: false,
        at: None,
    })
}

/// How the superblock copies of one device are.
pub(crate) fn superblocks(device: usize, member: &Member) -> Vec<Finding> {
    let finding = |text: String, mend: Mend| Finding {
        device: Some(device),
        text,
        mend,
        mended: false,
        at: None,
    };
    member
        .copies
        .iter()
        .filter_map(|copy| match copy.state {
            CopyState::Good => None,
            CopyState::Old => Some(finding(
                format!(
                    "superblock copy {} at byte {} is an old one",
                    copy.number, copy.at
                ),
                Mend::Superblocks,
            )),
            CopyState::Bad(error) => Some(finding(
                format!("copy {}: {error}", copy.number),
                if mendable(&error) {
                    Mend::Superblocks
                } else {
                    Mend::Forbidden
                },
            )),
        })
        .collect()
}

/// Current members must tell the same of the volume; one that does not missed an update that the others rely on.
pub(crate) fn disagreements(volume: &Volume, members: &[Member], names: &[String]) -> Vec<Finding> {
    let current: Vec<usize> = volume
        .seats()
        .iter()
        .filter_map(|s| {
            if let Standing::Current(index) = s.standing {
                Some(index)
            } else {
                None
            }
        })
        .collect();
    let newest = current
        .iter()
        .filter_map(|i| members.get(*i))
        .max_by_key(|m| m.superblock.epochs.first().map(|e| e.number));
    let Some(newest) = newest else {
        return Vec::new();
    };
    let same = |m: &Member| {
        let (a, b) = (&m.superblock, &newest.superblock);
        a.geometry == b.geometry
            && a.block_hash == b.block_hash
            && a.created == b.created
            && a.features == b.features
            && a.members == b.members
            && a.epochs == b.epochs
            && a.label == b.label
    };
    current
        .iter()
        .filter(|i| members.get(**i).is_some_and(|m| !same(m)))
        .map(|i| Finding {
            device: None,
            text: format!(
                "{}: its superblock does not say the same of the volume as those of the other members; \
                 mount the volume read-write to bring it up to date",
                names.get(*i).map_or("a device", String::as_str)
            ),
            mend: Mend::None,
            mended: false,
 at: None,
        })
        .collect()
}
