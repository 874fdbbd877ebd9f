// SPDX-License-Identifier: GPL-2.0

//! `embrfs-admin discard-side` and `embrfs-admin catch-up`: members that were written to apart, or missed something, become members again
//! of a volume that is not mounted.

use super::FAILED;
use super::TROUBLE;
use crate::cli::admin::CatchUp;
use crate::cli::admin::DiscardSide;
use crate::failure::Failure;
use crate::output;
use crate::say;
use crate::whole;
use embr_engine::env::Environment;
use embr_engine::names::HashWidth;
use embr_engine::names::Names;
use embr_engine::names::View;
use embr_engine::units::Bytes;
use embr_engine::volume;
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::Standing;
use embr_engine::volume::recover::Options;
use embr_engine::volume::sides::Discard;
use embr_engine::volume::sides::Given;
use embr_engine::volume::sides::Refused;
use embr_engine::volume::Member;
use embr_engine::volume::Mounted;
use embrfs_host::machine;
use embrfs_host::machine::Event;
use embrfs_host::machine::Process;
use embrfs_host::machine::Slots;
use embrfs_host::Host;
use embrfs_host::Identity;
use embrfs_host::WritableFileDevice;
use serde_json::json;
use std::fmt::Display;
use std::path::Path;
use std::path::PathBuf;

/// Nodes that are kept in memory, and changes.
const MEMORY: Bytes = Bytes(64 << 20);

fn failed(path: &Path, why: &dyn Display) -> Failure {
    Failure::new(FAILED, "device", format!("{}: {why}", path.display()))
}

fn unmounted(paths: &[PathBuf]) -> Result<(), Failure> {
    match whole::mounted(paths) {
        Some(why) => Err(Failure::new(
            FAILED,
            "busy",
            format!("{why}: unmount it first"),
        )),
        None => Ok(()),
    }
}

fn all(named: &[PathBuf], only: bool, host: &Host) -> Result<Vec<PathBuf>, Failure> {
    whole::paths(named, only, host).map_err(|(path, why)| failed(&path, &why))
}

/// Opens devices to be written to, and asks each what it is.
fn open(paths: &[PathBuf], host: &Host) -> Result<(Vec<WritableFileDevice>, Vec<Member>), Failure> {
    let (mut devices, mut members) = (Vec::new(), Vec::new());
    for path in paths {
        let device = WritableFileDevice::open(path).map_err(|why| failed(path, &why))?;
        let member = volume::probe(&device, host.hasher()).map_err(|why| failed(path, &why))?;
        devices.push(device);
        members.push(member);
    }
    Ok((devices, members))
}

fn names(paths: &[PathBuf]) -> Vec<String> {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect()
}

/// Why a side cannot be discarded.
fn refusal(why: &Refused, kept: &[String], given_up: &[String]) -> Failure {
    let name = |index: &usize| given_up.get(*index).map_or("a device", String::as_str);
    let text = match why {
        Refused::Kept(why) => format!(
            "without what would be discarded there is no volume: {}",
            why.explain(kept)
        ),
        Refused::Foreign(index) => format!("{} is no member of the volume", name(index)),
        Refused::Agrees(index) => format!(
            "{} was not written to apart from the others: there is nothing to discard",
            name(index)
        ),
        Refused::DeviceTable => {
            "the device table of those that stay has other members than their newest epoch: copy the files to another volume".to_owned()
        }
    };
    Failure::new(FAILED, "volume", text)
}

/// What is lost with a device.
fn loss(given: &Given) -> String {
    let newest = given.newest;
    match (given.is_done, given.common) {
        (true, _) => "was set back already".to_owned(),
        (false, Some(common)) => format!(
            "everything that was written to it since the other side went on without it is lost \
             (its newest root is {newest}; both sides know epoch {})",
            common.number
        ),
        (false, None) => {
            format!("all that only it has is lost (its newest root is {newest})")
        }
    }
}

/// Discards one side.
pub(super) fn discard(args: &DiscardSide, as_json: bool, host: &Host) -> Result<u8, Failure> {
    let given_up = all(&args.devices, true, host)?;
    let kept = match args.keep.as_slice() {
        [] => all(given_up.get(..1).unwrap_or_default(), false, host)?,
        named => all(named, true, host)?,
    };
    let known: Vec<Option<Identity>> = given_up.iter().map(|p| Identity::of(p).ok()).collect();
    let is_kept = |path: &PathBuf| !known.contains(&Identity::of(path).ok());
    let kept: Vec<PathBuf> = kept.into_iter().filter(is_kept).collect();
    unmounted(&given_up)?;
    unmounted(&kept)?;
    let sound = &mut |path: &Path, why: whole::Unfit| match why {
        whole::Unfit::Open(why) => Err(failed(path, &why)),
        whole::Unfit::Probe(_, why) => Err(failed(path, &why)),
    };
    let staying = whole::gather(&kept, host, sound)?;
    let (devices, members) = open(&given_up, host)?;
    let (kept, given_up) = (names(&kept), names(&given_up));
    let plan = Discard::plan(&staying.members, &members);
    let mut plan = plan.map_err(|why| refusal(&why, &kept, &given_up))?;
    let losses: Vec<String> = plan.devices().iter().map(loss).collect();
    if args.yes {
        for ((member, device), path) in members.iter().zip(&devices).zip(&given_up) {
            let done = plan.set_back(member, host.hasher(), device);
            done.map_err(|why| failed(path.as_ref(), &why))?;
        }
    }
    if as_json {
        output::document(&json!({
            "ok": true, "done": args.yes, "kept": kept,
            "discarded": given_up.iter().zip(&losses).map(|(path, loss)| json!({
                "path": path, "loss": loss,
            })).collect::<Vec<_>>(),
        }));
        return Ok(0);
    }
    say!("kept: {}", kept.join(", "));
    for (path, loss) in given_up.iter().zip(&losses) {
        say!("{path}: {loss}");
    }
    match args.yes {
        true => say!("discarded: they are stale until they are caught up (embrfs-admin catch-up)"),
        false => say!("nothing was written; with --yes it is done"),
    }
    Ok(0)
}

fn deaf(_: Event<'_>) {}

/// Catches up whoever missed something.
pub(super) fn catch_up(args: &CatchUp, as_json: bool, host: &Host) -> Result<u8, Failure> {
    let paths = all(&args.devices, false, host)?;
    unmounted(&paths)?;
    let (devices, members) = open(&paths, host)?;
    let volume_failure = |why: &dyn Display| Failure::new(FAILED, "volume", why.to_string());
    let volume = assemble(&members).map_err(|why| volume_failure(&why.explain(&names(&paths))))?;
    let here = volume.seats().iter().filter_map(|seat| {
        let (Standing::Current(index) | Standing::Stale(index)) = seat.standing else {
            return None;
        };
        Some((seat.entry.slot, devices.get(index)?))
    });
    machine::fetch_journals(devices.iter().map(|d| d.reading()).zip(&members));
    let hears: fn(Event<'_>) = deaf;
    let process = Process::new(Slots::new(here), host, hears);
    let options = Options {
        read_only: false,
        degraded: args.degraded,
        cache: MEMORY,
        dirty: MEMORY,
    };
    let mounted = Mounted::open(process, &volume, &members, options);
    let mounted = mounted.map_err(|why| volume_failure(&why))?;
    let memory = |why| volume_failure(&why);
    let (view, shared) = (View::first(), Names::try_new(HashWidth::Full));
    let shared = shared.map_err(|why| memory(embr_engine::volume::Fault::from(why)))?;
    let files = shared.of(&mounted, &view);
    let done = files.catch_up(&mut || ());
    let (who, tally) = done.map_err(|why| volume_failure(&why))?;
    let missing = volume
        .seats()
        .len()
        .saturating_sub(mounted.present().count() as usize);
    mounted
        .into_inner()
        .close()
        .map_err(|why| volume_failure(&why))?;
    if as_json {
        output::document(&json!({
            "ok": true, "caught_up": who.count(), "missing": missing,
            "nodes": tally.nodes, "blocks": tally.blocks, "widened": tally.widened,
            "lost": tally.lost, "below": tally.below,
        }));
    } else {
        say!("{} members caught up, {missing} are missing", who.count());
        say!(
            "written again: {} nodes and {} blocks; given more copies: {}",
            tally.nodes,
            tally.blocks,
            tally.widened
        );
        if tally.lost != 0 {
            say!(
                "{} could not be had from anywhere: run fsck.embrfs",
                tally.lost
            );
        }
        if tally.below != 0 {
            say!(
                "{} have fewer copies than they should, for lack of room",
                tally.below
            );
        }
    }
    let is_well = missing == 0 && tally.lost == 0 && tally.below == 0;
    Ok(if is_well { 0 } else { TROUBLE })
}
