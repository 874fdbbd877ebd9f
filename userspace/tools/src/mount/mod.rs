// SPDX-License-Identifier: GPL-2.0

//! mount.embrfs: finds the members of a volume, names them to the kernel, and tells what the kernel says. Whether the volume
//! can be mounted is the kernel's decision alone; what is known here only explains it.

mod kernel;
mod options;

use crate::cli::mount::Args;
use crate::complain;
use crate::failure::Failure;
use crate::program;
use crate::say;
use crate::volumes;
use embr_engine::env::Environment;
use embr_engine::env::Hasher;
use embr_engine::error::Error;
use embr_engine::error::Kind;
use embr_engine::units::Uuid;
use embr_engine::volume;
use embrfs_host::device::Claim;
use embrfs_host::scan;
use embrfs_host::scan::Found;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use options::Options;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: u8 = 1;
const SYSTEM: u8 = 2;
const FAILED: u8 = 32;

/// The program.
pub fn main() -> ExitCode {
    program::run("mount.embrfs", USAGE, |_: &Args| false, run)
}

/// What is to be mounted.
struct Chosen {
    source: PathBuf,
    others: Vec<PathBuf>,
    /// What speaks against it as far as can be seen from here; the kernel may think otherwise.
    doubt: Option<String>,
}

fn run(args: Args) -> Result<u8, Failure> {
    let mut options =
        Options::parse(&args.options).map_err(|why| Failure::new(USAGE, "usage", why))?;
    if args.read_only {
        options.set_read_only(true);
    } else if args.write {
        options.set_read_only(false);
    }
    let host = Host::new().map_err(|e| {
        Failure::new(
            SYSTEM,
            "system",
            format!("no random numbers from the kernel: {e}"),
        )
    })?;
    let tell = |text: String| {
        if args.verbose {
            say!("mount.embrfs: {text}");
        }
    };
    let how = kernel::How {
        sloppy: args.sloppy,
        verbose: args.verbose,
    };
    if options.remount {
        tell(format!(
            "remounting {} with {}",
            args.target.display(),
            options.summary()
        ));
        if !args.fake {
            kernel::remount(&args.target, &options, how)?;
        }
        return Ok(0);
    }
    let chosen = choose(&args, &options, &host)?;
    tell(format!("source {}", chosen.source.display()));
    chosen
        .others
        .iter()
        .for_each(|other| tell(format!("member {}", other.display())));
    tell(format!(
        "at {} with {}",
        args.target.display(),
        options.summary()
    ));
    if args.fake {
        if let Some(doubt) = &chosen.doubt {
            complain!("mount.embrfs: {doubt}");
        }
        return Ok(0);
    }
    kernel::mount(&chosen.source, &chosen.others, &args.target, &options, how).map_err(
        |failure| match &chosen.doubt {
            Some(doubt) if !failure.message.contains(doubt) => failure.advise(doubt.clone()),
            _ => failure,
        },
    )?;
    Ok(0)
}

/// Finds the devices to name.
fn choose(args: &Args, options: &Options, host: &Host) -> Result<Chosen, Failure> {
    let mut devices = match wanted(&args.source) {
        Some(wanted) => by_tag(&args.source, &wanted, host.hasher())?,
        None => vec![by_path(Path::new(&args.source), host.hasher())?],
    };
    let alone = options.noscan || !options.devices.is_empty();
    let first = devices
        .first()
        .ok_or_else(|| Failure::new(FAILED, "device", "no device"))?;
    let source = first.device.path().to_owned();
    let volume = first.volume();
    for path in &options.devices {
        if !devices.iter().any(|d| d.device.path() == path) {
            devices.push(by_path(path, host.hasher())?);
        }
    }
    if let (Some(volume), false) = (volume, alone) {
        let known: Vec<_> = devices.iter().map(|d| d.device.identity()).collect();
        devices.extend(scan::complete(volume, &known, host.hasher()));
    } else if alone {
        devices.retain(|d| {
            d.device.path() == source || options.devices.iter().any(|p| p == d.device.path())
        });
    }
    let others = devices
        .iter()
        .map(|d| d.device.path().to_owned())
        .filter(|p| *p != source)
        .collect();
    Ok(Chosen {
        source,
        others,
        doubt: doubt(devices),
    })
}

/// What a tag asks for.
enum Wanted {
    Uuid(Uuid),
    Label(String),
}

fn wanted(source: &str) -> Option<Wanted> {
    if let Some(text) = source.strip_prefix("UUID=") {
        return Uuid::from_text(text.trim_matches('"')).map(Wanted::Uuid);
    }
    source
        .strip_prefix("LABEL=")
        .map(|text| Wanted::Label(text.trim_matches('"').to_owned()))
}

fn by_tag(tag: &str, wanted: &Wanted, hasher: &impl Hasher) -> Result<Vec<Found>, Failure> {
    let mut found = scan::all(hasher);
    found.retain(|f| match (wanted, &f.member) {
        (Wanted::Uuid(uuid), Ok(member)) => member.superblock.volume == *uuid,
        (Wanted::Label(label), Ok(member)) => member.superblock.label.as_str() == label,
        (_, Err(_)) => false,
    });
    let none = || {
        Failure::new(
            FAILED,
            "device",
            format!("no device of a volume with {tag} is on this machine"),
        )
    };
    let first = found.first().and_then(Found::volume).ok_or_else(none)?;
    if let Some(other) = found.iter().find(|f| f.volume() != Some(first)) {
        let message = format!(
            "{tag} is the label of more than one volume ({} is of another)",
            other.device.path().display()
        );
        return Err(Failure::new(FAILED, "device", message).advise("name one by UUID="));
    }
    Ok(found)
}

/// The kernel wants whole paths.
fn by_path(path: &Path, hasher: &impl Hasher) -> Result<Found, Failure> {
    let failed =
        |text: String| Failure::new(FAILED, "device", format!("{}: {text}", path.display()));
    let whole = std::path::absolute(path).map_err(|e| failed(e.to_string()))?;
    let device =
        FileDevice::open(&whole, Claim::Shared).map_err(|e| failed(format!("cannot open: {e}")))?;
    if !device.identity().is_block() {
        return Err(failed("an image file, not a block device".to_owned())
            .advise("attach every image with losetup(8), then mount the loop devices"));
    }
    let member = volume::probe(&device, hasher);
    match &member {
        Err(error) if error.kind() == Kind::NotEmbrfs => Err(failed(error.to_string())),
        _ => Ok(Found { device, member }),
    }
}

/// What speaks against mounting these.
fn doubt(devices: Vec<Found>) -> Option<String> {
    let (groups, broken) = volumes::group(devices);
    let unreadable = |(device, error): &(FileDevice, Error)| device.explain(error);
    if let Some(first) = broken.first() {
        return Some(unreadable(first));
    }
    let group = groups.first()?;
    match group.assemble() {
        Ok(volume) if volume.missing().any() => {
            Some(format!("missing or stale: {}", volume.missing()))
        }
        Ok(_) => None,
        Err(error) => Some(error.explain(&group.names()).to_string()),
    }
}
