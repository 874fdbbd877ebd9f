// SPDX-License-Identifier: GPL-2.0

//! What came out and what did not: told on standard error as it is found, counted, and kept for programs.

use super::walk::Spot;
use crate::admin::FAILED;
use crate::admin::TROUBLE;
use crate::complain;
use crate::describe;
use crate::items;
use crate::output;
use embr_engine::units::Bytes;
use serde_json::json;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use std::time::Instant;

/// What is kept for programs; of more there is the number.
const MOST: usize = 100_000;
/// Ranges of one file that are told; of more there is the number.
pub(super) const RANGES: u64 = 100;

/// What kind of trouble it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Some of what a file held is lost.
    Damaged,
    /// Something is lost as a whole, or its name is.
    Lost,
    /// It is there, but the way to it was lost.
    Found,
    /// It is not there as it should be, for a reason that lies here.
    Refused,
}

impl Trouble {
    fn word(self) -> &'static str {
        match self {
            Trouble::Damaged => "damaged",
            Trouble::Lost => "lost",
            Trouble::Found => "found",
            Trouble::Refused => "refused",
        }
    }
}

/// How many of each there are.
#[derive(Default, Debug)]
pub(super) struct Counts {
    /// Everything that is no directory, once.
    pub(super) files: u64,
    pub(super) directories: u64,
    /// More names of files.
    pub(super) links: u64,
    /// What files held, without holes.
    pub(super) bytes: u64,
    pub(super) damaged: u64,
    pub(super) lost: u64,
    pub(super) found: u64,
    pub(super) refused: u64,
    /// Files that were removed while they were in use.
    pub(super) removed: u64,
}

/// What was said once for many files.
struct Once {
    text: String,
    times: u64,
}

/// All that there is to be told.
pub(super) struct Report {
    pub(super) counts: Counts,
    /// This may not be what the volume held last.
    pub(super) is_doubtful: bool,
    /// Which snapshot or head it is of, where there are several.
    pub(super) whose: Option<String>,
    as_json: bool,
    progress: Option<Instant>,
    notes: Vec<String>,
    troubles: Vec<Value>,
    left_out: u64,
    once: BTreeMap<&'static str, Once>,
}

impl Report {
    pub(super) fn new(as_json: bool, with_progress: bool) -> Self {
        Report {
            counts: Counts::default(),
            is_doubtful: false,
            whose: None,
            as_json,
            progress: with_progress.then(Instant::now),
            notes: Vec::new(),
            troubles: Vec::new(),
            left_out: 0,
            once: BTreeMap::new(),
        }
    }

    fn line(&self, text: &str) {
        if self.progress.is_some() {
            output::remark(format_args!(""));
        }
        complain!("{text}");
    }

    /// Something that concerns the volume or the whole work.
    pub(super) fn note(&mut self, text: String) {
        self.line(&text);
        self.notes.push(text);
    }

    /// Something is lost, and it is not known of which files.
    pub(super) fn lost(&mut self, text: String) {
        self.counts.lost = self.counts.lost.saturating_add(1);
        self.note(text);
    }

    /// Something that would be said of file after file: it is said of the first one.
    pub(super) fn once(&mut self, what: &'static str, text: impl FnOnce() -> String) {
        if let Some(once) = self.once.get_mut(what) {
            once.times = once.times.saturating_add(1);
            return;
        }
        let text = text();
        self.line(&text);
        self.once.insert(what, Once { text, times: 1 });
    }

    /// The same of what is not there as it should be.
    pub(super) fn refused_once(&mut self, what: &'static str, text: impl FnOnce() -> String) {
        self.counts.refused = self.counts.refused.saturating_add(1);
        self.once(what, text);
    }

    /// Something is wrong with this file.
    pub(super) fn tell(&mut self, what: Trouble, spot: &Spot<'_>, text: &str) {
        match what {
            Trouble::Damaged => self.counts.damaged = self.counts.damaged.saturating_add(1),
            Trouble::Lost => self.counts.lost = self.counts.lost.saturating_add(1),
            Trouble::Found => self.counts.found = self.counts.found.saturating_add(1),
            Trouble::Refused => self.counts.refused = self.counts.refused.saturating_add(1),
        }
        self.detail(what, spot, text, None);
    }

    /// More of what was told, or will be, of this file.
    pub(super) fn detail(
        &mut self,
        what: Trouble,
        spot: &Spot<'_>,
        text: &str,
        range: Option<Range<u64>>,
    ) {
        let path = items::text(&spot.path());
        match &self.whose {
            Some(whose) => self.line(&format!("{whose}: {path}: {text}")),
            None => self.line(&format!("{path}: {text}")),
        }
        if !self.as_json {
            return;
        }
        if self.troubles.len() >= MOST {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.troubles.push(json!({
            "kind": what.word(),
            "snapshot": self.whose,
            "path": path,
            "inode": spot.number.0,
            "text": text,
            "from": range.as_ref().map(|r| r.start),
            "to": range.map(|r| r.end),
        }));
    }

    /// So many bytes of this file came out; it is shown from time to time where that is wanted.
    pub(super) fn step(&mut self, spot: &Spot<'_>, bytes: usize) {
        self.counts.bytes = self.counts.bytes.saturating_add(bytes as u64);
        let due = |last: &Instant| last.elapsed() > Duration::from_millis(200);
        if self.progress.as_ref().is_some_and(due) {
            self.progress = Some(Instant::now());
            output::remark(format_args!(
                "{} files, {}: {}",
                self.counts.files,
                describe::size(Bytes(self.counts.bytes)),
                items::text(&spot.path())
            ));
        }
    }

    /// What the work ends with.
    pub(super) fn status(&self) -> u8 {
        let Counts {
            damaged,
            lost,
            found,
            refused,
            ..
        } = self.counts;
        if refused != 0 {
            return FAILED;
        }
        match damaged | lost | found {
            0 if !self.is_doubtful => 0,
            _ => TROUBLE,
        }
    }

    /// Says how often what was said once came. Nothing is told after this.
    pub(super) fn end(&mut self) {
        if self.progress.take().is_some() {
            output::remark(format_args!(""));
        }
        for once in self.once.values().filter(|once| once.times > 1) {
            complain!("{} times in all: {}", once.times, once.text);
        }
    }

    /// The last line, of work that came to its end or did not.
    pub(super) fn summary(&self, is_done: bool) -> String {
        let counts = &self.counts;
        let mut text = format!(
            "{} files, {} directories, {}",
            counts.files,
            counts.directories,
            describe::size(Bytes(counts.bytes))
        );
        for (count, word) in [
            (counts.links, "links"),
            (counts.damaged, "damaged"),
            (counts.lost, "lost"),
            (counts.found, "found by their own word"),
            (counts.refused, "refused"),
            (counts.removed, "removed while in use, and left out"),
        ] {
            if count != 0 {
                text.push_str(&format!(", {count} {word}"));
            }
        }
        match is_done {
            true if self.status() == 0 => text.push_str("; nothing is missing"),
            true => {}
            false => text.push_str(" so far"),
        }
        text
    }

    /// All of it for programs.
    pub(super) fn json(&self) -> Value {
        let counts = &self.counts;
        let once = self
            .once
            .iter()
            .map(|(what, once)| json!({ "what": what, "text": once.text, "times": once.times }));
        json!({
            "ok": self.status() == 0,
            "exit": self.status(),
            "newest": !self.is_doubtful,
            "files": counts.files,
            "directories": counts.directories,
            "links": counts.links,
            "bytes": counts.bytes,
            "damaged": counts.damaged,
            "lost": counts.lost,
            "found": counts.found,
            "refused": counts.refused,
            "removed": counts.removed,
            "notes": self.notes,
            "not_restored": once.collect::<Vec<_>>(),
            "troubles": self.troubles,
            "troubles_left_out": self.left_out,
        })
    }
}
