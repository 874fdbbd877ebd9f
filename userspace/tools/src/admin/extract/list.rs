// SPDX-License-Identifier: GPL-2.0

//! The paths of files, instead of the files.

use super::walk::Act;
use super::walk::Entered;
use super::walk::Job;
use super::walk::Kept;
use super::walk::Place;
use super::walk::Spot;
use crate::failure::Failure;
use crate::items;
use crate::say;
use embr_engine::format::inode::Inode;
use embr_engine::units::InodeNo;
use embr_engine::volume::Machine;
use serde_json::json;
use serde_json::Value;

/// Lists files.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) as_json: bool,
    pub(super) rows: Vec<Value>,
    /// Which snapshot or head it is, where there are several.
    pub(super) whose: Option<String>,
}

impl Listing {
    fn row(&mut self, spot: &Spot<'_>, inode: Option<&Inode>, end: &str) {
        let path = items::text(&spot.path());
        if !self.as_json {
            match &self.whose {
                Some(whose) => say!("{whose}: {path}{end}"),
                None => say!("{path}{end}"),
            }
            return;
        }
        self.rows.push(json!({
            "snapshot": self.whose,
            "path": path,
            "inode": spot.number.0,
            "type": inode.map_or("directory", |inode| items::kind_name(inode.kind)),
            "size": inode.map(|inode| inode.size.0),
        }));
    }
}

impl<M: Machine> Act<M> for Listing {
    fn make(&mut self, job: &mut Job<'_, M>, spot: &Spot<'_>) -> Result<Entered, Failure> {
        if spot.number != InodeNo::NONE {
            job.report.counts.directories += 1;
            self.row(spot, None, "/");
        }
        Ok(Entered::Yes)
    }

    fn enter(&mut self, _: &mut Job<'_, M>, _: &Spot<'_>) -> Result<Entered, Failure> {
        Ok(Entered::Yes)
    }

    fn leave(
        &mut self,
        _: &mut Job<'_, M>,
        _: &Spot<'_>,
        _: Option<&Inode>,
    ) -> Result<(), Failure> {
        Ok(())
    }

    fn file(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
    ) -> Result<Kept, Failure> {
        job.report.counts.files += 1;
        self.row(spot, Some(inode), "");
        Ok(Kept::Done(Place::default()))
    }

    fn link(
        &mut self,
        job: &mut Job<'_, M>,
        spot: &Spot<'_>,
        inode: &Inode,
        _: &Place,
    ) -> Result<(), Failure> {
        job.report.counts.links += 1;
        self.row(spot, Some(inode), "");
        Ok(())
    }

    fn finish(&mut self, _: &mut Job<'_, M>, _: Option<&Inode>) -> Result<(), Failure> {
        Ok(())
    }
}
