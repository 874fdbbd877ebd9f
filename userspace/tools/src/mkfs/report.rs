// SPDX-License-Identifier: GPL-2.0

//! What was made, or would be.

use super::candidates::Candidate;
use super::geometry;
use crate::cli::mkfs::Args;
use crate::describe;
use embr_engine::format::member::Entry;
use embr_engine::units::Bytes;
use embr_engine::volume::create::Options;
use embr_engine::volume::create::Plan;
use embrfs_host::signature::Signature;
use serde_json::json;
use serde_json::Value;
use std::fmt::Write;

/// All there is to tell.
pub(super) struct Report<'a> {
    pub(super) args: &'a Args,
    pub(super) options: &'a Options,
    pub(super) plan: &'a Plan,
    pub(super) candidates: &'a [Candidate],
}

impl Report<'_> {
    fn names(&self) -> Vec<String> {
        self.candidates
            .iter()
            .map(|c| c.path.display().to_string())
            .collect()
    }

    fn sizes(&self) -> Vec<Bytes> {
        self.candidates.iter().map(|c| c.size).collect()
    }

    fn notes(&self) -> Vec<String> {
        let geometry = self.options.geometry;
        let mut notes = geometry::advice(geometry, &self.sizes(), &self.names());
        notes.extend(geometry::crowded(geometry, &self.args.failure_domains));
        notes
    }

    fn chosen(&self) -> bool {
        self.args.bundle.is_none() && self.args.replicas.is_none()
    }

    /// For people.
    pub(super) fn text(&self, dry: bool) -> String {
        let geometry = self.options.geometry;
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // A string takes whatever is written to it.
            let _ = writeln!(text, "{name:<13}{value}");
        };
        let how = if dry {
            "would be made (dry run: nothing was written)"
        } else {
            "made and verified"
        };
        line("volume", format!("{} {how}", self.plan.volume()));
        if !self.args.label.is_empty() {
            line("label", self.args.label.clone());
        }
        let by_default = if self.chosen() {
            ", chosen for this number of devices"
        } else {
            ""
        };
        line(
            "bundle",
            format!(
                "{geometry} ({} data, {} parity{by_default})",
                geometry.data(),
                geometry.parity()
            ),
        );
        line("may be lost", describe::tolerance(geometry));
        line(
            "usable",
            format!("{} for file data", describe::blocks(self.plan.capacity())),
        );
        line(
            "block hash",
            format!("{} bits", describe::hash_bits(self.options.block_hash)),
        );
        let shares = geometry::shares(geometry, &self.sizes());
        for ((candidate, share), entry) in
            self.candidates.iter().zip(shares).zip(self.plan.members())
        {
            let mut value = format!(
                "{:>3}  {:>10}  {:>10} usable  {}",
                entry.id,
                describe::size(candidate.size),
                describe::blocks(share.usable),
                candidate.path.display()
            );
            if !candidate.holds.is_empty() {
                let held: Vec<&str> = candidate.holds.iter().map(|s: &Signature| s.name).collect();
                let verb = if dry { "overwriting" } else { "overwrote" };
                let _ = write!(value, "  ({verb} {})", held.join(", "));
            }
            if entry.failure_domain != 0 {
                let _ = write!(value, "  (failure domain {})", entry.failure_domain);
            }
            line("device", value);
        }
        for advice in self.notes() {
            line("note", advice);
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// For programs.
    pub(super) fn json(&self, dry: bool) -> Value {
        let geometry = self.options.geometry;
        let shares = geometry::shares(geometry, &self.sizes());
        let devices: Vec<Value> = self
            .candidates
            .iter()
            .zip(shares)
            .zip(self.plan.members())
            .map(|((candidate, share), entry): (_, &Entry)| {
                json!({
                    "path": candidate.path.display().to_string(),
                    "number": entry.id.0,
                    "uuid": entry.uuid.to_string(),
                    "size": candidate.size.0,
                    "failure_domain": entry.failure_domain,
                    "usable": describe::bytes_of(share.usable),
                    "wasted": describe::bytes_of(share.wasted),
                    "overwritten": candidate.holds.iter().map(|s| s.name).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({
            "ok": true,
            "dry_run": dry,
            "uuid": self.plan.volume().to_string(),
            "label": self.args.label,
            "geometry": describe::geometry_json(geometry),
            "geometry_chosen": self.chosen(),
            "tolerated_losses": geometry.parity(),
            "capacity": describe::bytes_of(self.plan.capacity()),
            "block_hash_bits": describe::hash_bits(self.options.block_hash),
            "devices": devices,
            "notes": self.notes(),
        })
    }
}
