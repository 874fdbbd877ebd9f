// SPDX-License-Identifier: GPL-2.0

//! The engine's check of a volume, as tests and the simulator want it: one finding is one too many.

use crate::machine::Simulated;
use embr_engine::check;
use embr_engine::check::Depth;
use embr_engine::check::Finding;
use embr_engine::check::Observer;
use embr_engine::check::Options;
use embr_engine::format::journal::Extent;
use embr_engine::names::Files;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::volume::Mounted;

/// What was found.
#[derive(Debug, Default)]
pub struct Found(pub Vec<Finding>);

impl Observer for Found {
    fn found(&mut self, what: &Finding) {
        self.0.push(*what);
    }
}

/// Whether drives were without what others have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copies {
    /// None was ever lost, nor did it refuse anything: there are all that there should be.
    All,
    /// What a drive did not take has fewer.
    MayLack,
}

/// All that is wrong with a volume, with all data read.
pub fn with_data(mounted: &Mounted<Simulated>, names: &Names, view: &View) -> Vec<Finding> {
    let mut found = Found::default();
    let options = Options {
        memory: Bytes(1 << 20),
        depth: Depth::Tree,
        data: true,
        held: &[],
    };
    let files = names.of(mounted, view);
    check::check(mounted, Some(files), &options, &mut found).expect("checked");
    found.0
}

/// All that is wrong with a volume, of which a test holds these blocks.
pub fn findings(
    mounted: &Mounted<Simulated>,
    files: Option<Files<'_, Simulated>>,
    (depth, copies): (Depth, Copies),
    held: &[Extent],
) -> Result<Vec<Finding>, String> {
    let mut found = Found::default();
    let options = Options {
        memory: Bytes(1 << 20),
        depth,
        data: false,
        held,
    };
    let counted =
        check::check(mounted, files, &options, &mut found).map_err(|why| why.to_string())?;
    // Where some could not be read, they were not counted.
    if found.0.is_empty() && counted.nodes != mounted.node_count() {
        let known = mounted.node_count();
        return Err(format!("{} nodes, by the root {known}", counted.nodes));
    }
    if copies == Copies::MayLack {
        found.0.retain(|f| !matches!(f, Finding::Fewer(..)));
    }
    Ok(found.0)
}

/// Whether nothing is wrong with a volume none of whose drives ever failed.
pub fn check(
    mounted: &Mounted<Simulated>,
    files: Option<Files<'_, Simulated>>,
    depth: Depth,
    held: &[Extent],
) -> Result<(), String> {
    check_but(mounted, files, (depth, Copies::All), held)
}

/// Whether nothing is wrong, but for copies that drives lack which failed.
pub fn check_but(
    mounted: &Mounted<Simulated>,
    files: Option<Files<'_, Simulated>>,
    how: (Depth, Copies),
    held: &[Extent],
) -> Result<(), String> {
    let found = findings(mounted, files, how, held)?;
    match found.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(format!("{} findings, the first: {first}", found.len())),
    }
}
