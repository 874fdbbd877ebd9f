// SPDX-License-Identifier: GPL-2.0

//! Snapshots and heads, for people: in whose names something was found, and the path that a file has there.

use embr_engine::check::path;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::InodeNo;
use embr_engine::units::SnapshotId;
use embr_engine::volume::Machine;
use embr_engine::volume::Mounted;
use embr_rt::Arc;

struct Version {
    id: SnapshotId,
    view: Arc<View>,
    whose: Option<String>,
}

/// All that a volume has of them.
pub(super) struct Versions<'v, M> {
    mounted: &'v Mounted<M>,
    names: &'v Names,
    all: Vec<Version>,
    /// Where it is not known which there are.
    first: View,
    /// In whose names something is looked at.
    at: Option<usize>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).escape_debug().to_string()
}

impl<'v, M: Machine> Versions<'v, M> {
    pub(super) fn new(mounted: &'v Mounted<M>, names: &'v Names) -> Self {
        let listed = names.snapshots(mounted);
        let listed = listed.iter().flat_map(|all| all.iter());
        let known = listed.filter_map(|one| {
            let whose = match (one.name.is_empty(), one.is_head) {
                (true, _) => None,
                (false, true) => Some(format!("head {}", text(&one.name))),
                (false, false) => Some(format!("snapshot {}", text(&one.name))),
            };
            let view = names.open(mounted, &one.name).ok()?;
            let id = one.id;
            Some(Version { id, view, whose })
        });
        Versions {
            mounted,
            names,
            all: known.collect(),
            first: View::first(),
            at: None,
        }
    }

    /// From here on names are looked at as this one has them.
    pub(super) fn shows(&mut self, whose: Option<SnapshotId>) {
        self.at = self.all.iter().position(|v| Some(v.id) == whose);
    }

    /// Whose names they are, where that is not what a mount shows.
    pub(super) fn whose(&self) -> Option<&str> {
        let at = self.at.and_then(|at| self.all.get(at));
        at.and_then(|version| version.whose.as_deref())
    }

    /// A path of a file: where it is not looked at as somebody in particular has it, as the first has it who has one.
    pub(super) fn path(&self, number: InodeNo) -> Option<String> {
        let path = |view| path::of(self.names.of(self.mounted, view), number).ok()?;
        let found = match self.at.and_then(|at| self.all.get(at)) {
            Some(version) => path(&version.view),
            None => {
                let own = self.all.iter().filter(|v| v.whose.is_none());
                let others = self.all.iter().filter(|v| v.whose.is_some());
                let mut views = own.chain(others).map(|v| &*v.view).chain([&self.first]);
                views.find_map(path)
            }
        };
        found.map(|path| text(&path))
    }

    /// What is told, with the path of the file that it is about, and in whose names that is.
    pub(super) fn told(&self, what: &str, path: Option<&str>) -> String {
        match (path, self.whose()) {
            (Some(path), Some(whose)) => format!("{what} ({path} in {whose})"),
            (Some(path), None) => format!("{what} ({path})"),
            (None, Some(whose)) => format!("{what} (in {whose})"),
            (None, None) => what.to_owned(),
        }
    }
}
