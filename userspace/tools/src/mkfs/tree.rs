// SPDX-License-Identifier: GPL-2.0

//! The root directory of a new volume, made as any change of a mounted volume is, before anybody else can mount it.

use super::candidates::Opened;
use super::FAILED;
use crate::cli::mkfs::Owner;
use crate::failure::Failure;
use embr_engine::env::Device;
use embr_engine::env::Environment;
use embr_engine::format::node::Node;
use embr_engine::format::pointer::Pointer;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::New;
use embr_engine::names::View;
use embr_engine::names::What;
use embr_engine::tree::check;
use embr_engine::tree::check::Depth;
use embr_engine::tree::check::Visitor;
use embr_engine::tree::Range;
use embr_engine::tree::TreeError;
use embr_engine::units::Bytes;
use embr_engine::volume::assemble;
use embr_engine::volume::create::Plan;
use embr_engine::volume::recover::Options;
use embr_engine::volume::Mounted;
use embrfs_host::machine;
use embrfs_host::machine::Event;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::Host;
use std::cell::Cell;
use std::fmt::Display;

const PERMISSIONS: u16 = 0o755;
/// A tree of one inode is all there is to hold.
const MEMORY: Bytes = Bytes(1 << 20);

/// A new tree that has anything wrong with it was not written as it should be.
struct Sound;

impl Visitor for Sound {
    fn node(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }

    fn lost(&mut self, why: &TreeError, _: Range) -> Result<(), TreeError> {
        Err(*why)
    }

    fn under_full(&mut self, _: &Pointer, _: &Node) -> Result<(), TreeError> {
        Ok(())
    }
}

/// Gives the volume its root directory; durable on return, and read back from the devices.
pub(super) fn plant(
    host: &Host,
    plan: &Plan,
    devices: &Opened,
    owner: Owner,
) -> Result<(), Failure> {
    let failed = |why: &dyn Display| {
        Failure::new(FAILED, "write", format!("the root directory: {why}")).advise(
            "no whole volume was made; test or replace the devices and run mkfs.embrfs again",
        )
    };
    let mut members = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let member = plan
            .member(index, device.size())
            .map_err(|why| failed(&why))?;
        members.extend(member);
    }
    let volume = assemble(&members).map_err(|why| {
        let names: Vec<_> = devices
            .iter()
            .map(|d| d.reading().path().display())
            .collect();
        failed(&why.explain(&names))
    })?;
    let options = Options {
        read_only: false,
        degraded: false,
        cache: MEMORY,
        dirty: MEMORY,
    };
    let readers = devices.iter().map(|device| device.reading());
    machine::fetch_journals(readers.clone().zip(&members));
    let unsound = Cell::new(false);
    let hears = |_: Event<'_>| unsound.set(true);
    let process = Process::new(Slots::of_volume(&volume, devices), host, hears);
    let mounted = Mounted::open(process, &volume, &members, options).map_err(|why| failed(&why))?;
    let view = View::first();
    let root = New {
        what: What::Directory,
        permissions: PERMISSIONS,
        uid: owner.uid,
        gid: owner.gid,
        flags: 0,
        project: 0,
        now: host.now(),
    };
    Names::try_new(HashWidth::Full)
        .map_err(|why| failed(&why))?
        .of(&mounted, &view)
        .format(&root)
        .map_err(|why| failed(&why))?;
    mounted.checkpoint().map_err(|why| failed(&why))?;
    readers.for_each(|device| device.forget_cached());
    for base in mounted.bases() {
        check::check(mounted.nodes(), &base, Depth::Copies, &mut Sound)
            .map_err(|why| failed(&why))?;
    }
    if unsound.get() {
        return Err(failed(&"a node does not read back as written"));
    }
    Ok(())
}
