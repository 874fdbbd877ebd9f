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
use embr_engine::volume::assemble;
use embr_engine::volume::assemble::AssembleError;
use embr_engine::volume::Member;
use embrfs_host::device::Claim;
use embrfs_host::scan;
use embrfs_host::scan::Found;
use embrfs_host::FileDevice;
use embrfs_host::Host;
use options::Options;
use std::fmt;
use std::io;
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
    /// What was left out, and why.
    left_out: Vec<String>,
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
    for why in &chosen.left_out {
        complain!("mount.embrfs: {why}; left out");
    }
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
    let named = |d: &Found| options.devices.iter().any(|p| p == d.device.path());
    let mut left_out = Vec::new();
    let (by_name, mut devices) = match wanted(&args.source) {
        Some(wanted) => (false, by_tag(&args.source, &wanted, host.hasher())?),
        None => (true, vec![source(Path::new(&args.source), host.hasher())?]),
    };
    let alone = options.noscan || !options.devices.is_empty();
    for path in &options.devices {
        if !devices.iter().any(|d| d.device.path() == path) {
            match further(path, host.hasher())? {
                Further::Found(found) => devices.push(*found),
                Further::Unfit(why) => left_out.push(why),
            }
        }
    }
    let first = devices.first().and_then(Found::volume);
    if let (Some(volume), false) = (first, alone) {
        let known: Vec<_> = devices.iter().map(|d| d.device.identity()).collect();
        devices.extend(scan::complete(volume, &known, host.hasher()));
    }
    // Whom the user names is the user's business, the kernel says what is wrong with it; whom we found is ours.
    let source = by_name.then(|| devices.first().map(|d| d.device.path().to_owned()));
    let source = source.flatten();
    let may_go = |d: &Found| !named(d) && Some(d.device.path()) != source.as_deref();
    let (mut devices, removed) = without_removed(devices, may_go);
    left_out.extend(removed);
    let source = devices
        .first()
        .map(|d| d.device.path().to_owned())
        .ok_or_else(|| Failure::new(FAILED, "device", "no device"))?;
    if alone {
        devices.retain(|d| d.device.path() == source || named(d));
    }
    let others = devices
        .iter()
        .map(|d| d.device.path().to_owned())
        .filter(|p| *p != source)
        .collect();
    Ok(Chosen {
        source,
        others,
        left_out,
        doubt: doubt(devices),
    })
}

/// Leaves out what once belonged to the volume and carries its UUID still, as far as that may be.
fn without_removed(
    devices: Vec<Found>,
    may_go: impl Fn(&Found) -> bool,
) -> (Vec<Found>, Vec<String>) {
    let mut left_out = Vec::new();
    // Of which volume, only the source could say.
    if devices.first().is_none_or(|d| d.member.is_err()) {
        return (devices, left_out);
    }
    // The engine wants what they say in a row of its own.
    let mut handles: Vec<(FileDevice, bool)> = Vec::new();
    let mut members: Vec<Member> = Vec::new();
    let mut unread: Vec<Found> = Vec::new();
    for found in devices {
        let may_go = may_go(&found);
        match found.member {
            Ok(member) => {
                handles.push((found.device, may_go));
                members.push(member);
            }
            Err(_) => unread.push(found),
        }
    }
    while let Err(AssembleError::Removed(index)) = assemble(&members) {
        if !handles.get(index).is_some_and(|(_, may_go)| *may_go) {
            break;
        }
        members.remove(index);
        let (device, _) = handles.remove(index);
        left_out.push(format!(
            "{}: was removed from this volume",
            device.path().display()
        ));
    }
    let both = handles.into_iter().zip(members);
    let sound = both.map(|((device, _), member)| Found {
        device,
        member: Ok(member),
    });
    let kept = sound.chain(unread).collect();
    (kept, left_out)
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

/// The device that was named first: without it there is no telling which volume is meant.
fn source(path: &Path, hasher: &impl Hasher) -> Result<Found, Failure> {
    // The kernel wants whole paths.
    let whole = std::path::absolute(path).map_err(|e| about(path, e))?;
    let device = FileDevice::open(&whole, Claim::Shared)
        .map_err(|e| about(path, format!("cannot open: {e}")))?;
    must_be_block(&device)?;
    let member = volume::probe(&device, hasher);
    match &member {
        Err(error) if error.kind() == Kind::NotEmbrfs => Err(about(path, error)),
        _ => Ok(Found { device, member }),
    }
}

/// What was named by device=.
enum Further {
    Found(Box<Found>),
    /// Broken, wiped or gone, as members may be.
    Unfit(String),
}

/// A further member. The kernel would leave out the same ones, with a warning; what a broken disk does not explain is left
/// for it to refuse.
fn further(path: &Path, hasher: &impl Hasher) -> Result<Further, Failure> {
    let device = match FileDevice::open(path, Claim::Shared) {
        Ok(device) => device,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied
                    | io::ErrorKind::OutOfMemory
                    // No device at all.
                    | io::ErrorKind::InvalidInput
            ) =>
        {
            return Err(about(path, format!("cannot open: {error}")));
        }
        Err(error) => {
            return Ok(Further::Unfit(format!(
                "{}: cannot open: {error}",
                path.display()
            )));
        }
    };
    must_be_block(&device)?;
    let member = volume::probe(&device, hasher);
    Ok(match &member {
        Err(error) if matches!(error.kind(), Kind::NotEmbrfs | Kind::Io | Kind::Corrupted) => {
            Further::Unfit(device.explain(error))
        }
        _ => Further::Found(Box::new(Found { device, member })),
    })
}

fn about(path: &Path, text: impl fmt::Display) -> Failure {
    Failure::new(FAILED, "device", format!("{}: {text}", path.display()))
}

fn must_be_block(device: &FileDevice) -> Result<(), Failure> {
    if device.identity().is_block() {
        return Ok(());
    }
    Err(about(device.path(), "an image file, not a block device")
        .advise("attach every image with losetup(8), then mount the loop devices"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use embr_engine::format::geometry::Geometry;
    use embr_engine::format::superblock::BlockHash;
    use embr_engine::format::superblock::Label;
    use embr_engine::units::Bytes;
    use embr_engine::volume::create;
    use embrfs_host::WritableFileDevice;
    use std::fs;

    struct Images(PathBuf);

    impl Drop for Images {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Three devices of a volume; the third, back after its removal, has a number that is another's by now.
    fn found(name: &str) -> (Images, Vec<Found>) {
        let images = Images(
            std::env::temp_dir().join(format!("embrfs-mount-{name}-{}", std::process::id())),
        );
        fs::create_dir(&images.0).unwrap();
        let host = Host::new().unwrap();
        let options = create::Options {
            geometry: Geometry::new(1, 1).unwrap(),
            block_hash: BlockHash::Short,
            label: Label::new("").unwrap(),
            uuid: None,
        };
        let plan = create::Plan::new(&host, options, &[Bytes(32 << 20); 3]).unwrap();
        let open = |index: usize| {
            let path = images.0.join(index.to_string());
            fs::File::create(&path).unwrap().set_len(32 << 20).unwrap();
            let device = WritableFileDevice::open(&path).unwrap();
            plan.write(index, &host, &device).unwrap();
            let device = FileDevice::open(&path, Claim::Shared).unwrap();
            let mut member = volume::probe(&device, host.hasher()).unwrap();
            if index == 2 {
                member.superblock.members[2].uuid = Uuid([7; 16]);
            }
            Found {
                device,
                member: Ok(member),
            }
        };
        let found = (0..3).map(open).collect();
        (images, found)
    }

    #[test]
    fn what_was_removed_is_left_out_unless_it_was_named() {
        let (_images, devices) = found("removed");
        let (kept, told) = without_removed(devices, |_| true);
        assert_eq!(kept.len(), 2);
        assert!(kept.iter().all(|d| !d.device.path().ends_with("2")));
        assert!(
            told.len() == 1 && told[0].contains("was removed"),
            "{told:?}"
        );

        let (_images, devices) = found("named");
        let (kept, told) = without_removed(devices, |d| !d.device.path().ends_with("2"));
        assert_eq!((kept.len(), told.len()), (3, 0));
    }
}
