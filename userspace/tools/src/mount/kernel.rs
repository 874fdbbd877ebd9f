// SPDX-License-Identifier: GPL-2.0

//! The kernel's side of a mount, by fsopen(2) and its kin: their context keeps what the filesystem has to say, so that the
//! user reads the reason where the mount was asked for, not in the kernel's log.

use super::options::Options;
use super::FAILED;
use super::SYSTEM;
use super::USAGE;
use crate::complain;
use crate::failure::Failure;
use rustix::fd::AsFd;
use rustix::fd::OwnedFd;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::fsconfig_create;
use rustix::mount::fsconfig_reconfigure;
use rustix::mount::fsconfig_set_flag;
use rustix::mount::fsconfig_set_string;
use rustix::mount::fsmount;
use rustix::mount::fsopen;
use rustix::mount::fspick;
use rustix::mount::mount_remount;
use rustix::mount::move_mount;
use rustix::mount::FsMountFlags;
use rustix::mount::FsOpenFlags;
use rustix::mount::FsPickFlags;
use rustix::mount::MountAttrFlags;
use rustix::mount::MountFlags;
use rustix::mount::MoveMountFlags;
use std::path::Path;
use std::path::PathBuf;

/// How to go about it.
#[derive(Clone, Copy)]
pub(super) struct How {
    /// Leave out options that the kernel does not know.
    pub(super) sloppy: bool,
    /// Tell all that the kernel says.
    pub(super) verbose: bool,
}

/// A filesystem context.
struct Context(OwnedFd);

impl Context {
    /// What the kernel said since the last call: how grave it is (`e`, `w` or `i`), and the text.
    fn said(&self) -> Vec<(char, String)> {
        let mut lines = Vec::new();
        let mut buffer = [0u8; 4096];
        // One message a read; ENODATA when there are no more.
        while let Ok(length) = rustix::io::read(&self.0, &mut buffer) {
            if length == 0 {
                break;
            }
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            let text = text.trim_end();
            let level = ['e', 'w', 'i']
                .into_iter()
                .find(|l| text.starts_with(&format!("{l} ")));
            lines.push(match level {
                Some(level) => (level, text.get(2..).unwrap_or_default().to_owned()),
                None => ('e', text.to_owned()),
            });
        }
        lines
    }

    /// Passes on what is worth knowing of a mount that worked; all of it where the user wants to know.
    fn pass_on(&self, verbose: bool) {
        for (_, text) in self
            .said()
            .iter()
            .filter(|(level, _)| verbose || *level != 'i')
        {
            complain!("mount.embrfs: {text}");
        }
    }

    /// An error, in the kernel's words where it has any.
    fn failure(&self, what: &str, errno: Errno) -> Failure {
        let said = self.said();
        let exit = if errno == Errno::PERM { USAGE } else { FAILED };
        if said.is_empty() {
            return Failure::new(exit, "mount", format!("{what}: {errno}"));
        }
        Failure::new(
            exit,
            "mount",
            format!(
                "{what}: {}",
                said.iter()
                    .map(|(_, text)| text.as_str())
                    .collect::<Vec<_>>()
                    .join("\n  ")
            ),
        )
    }

    fn set(
        &self,
        name: &str,
        value: Option<&str>,
        what: &str,
        sloppy: bool,
    ) -> Result<(), Failure> {
        let done = match value {
            Some(value) => fsconfig_set_string(self.0.as_fd(), name, value),
            None => fsconfig_set_flag(self.0.as_fd(), name),
        };
        match done {
            Ok(()) => Ok(()),
            Err(errno) => {
                let failure = self.failure(what, errno);
                // The filesystem's words, or those of the VFS for one that says nothing.
                let unknown = ["unknown mount option", "Unknown parameter"];
                if sloppy && unknown.iter().any(|text| failure.message.contains(text)) {
                    complain!("mount.embrfs: left out {name}, which the kernel does not know");
                    return Ok(());
                }
                Err(failure)
            }
        }
    }
}

fn lacking(call: &str, errno: Errno) -> Failure {
    match errno {
        Errno::NODEV => Failure::new(SYSTEM, "kernel", "this kernel has no embrfs").advise(
            "load the module: modprobe embrfs, or modprobe -a raid6_pq xor && insmod embrfs.ko",
        ),
        Errno::PERM => Failure::new(USAGE, "permission", "only root may mount"),
        Errno::NOSYS => Failure::new(SYSTEM, "kernel", format!("this kernel lacks {call}(2)")),
        errno => Failure::new(SYSTEM, "kernel", format!("{call}: {errno}")),
    }
}

/// Mounts the volume at `target`.
pub(super) fn mount(
    source: &Path,
    others: &[PathBuf],
    target: &Path,
    options: &Options,
    how: How,
) -> Result<(), Failure> {
    let what = format!("cannot mount {} at {}", source.display(), target.display());
    let context =
        Context(fsopen("embrfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|e| lacking("fsopen", e))?);
    let path = |p: &Path| {
        p.to_str()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(FAILED, "device", format!("{}: not UTF-8", p.display())))
    };
    context.set("source", Some(&path(source)?), &what, false)?;
    for other in others {
        context.set("device", Some(&path(other)?), &what, false)?;
    }
    for (name, value) in &options.filesystem {
        context.set(name, value.as_deref(), &what, how.sloppy)?;
    }
    fsconfig_create(context.0.as_fd()).map_err(|errno| context.failure(&what, errno))?;
    let mount = fsmount(
        context.0.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        options.attributes,
    )
    .map_err(|errno| context.failure(&what, errno))?;
    move_mount(
        mount.as_fd(),
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(|errno| {
        Failure::new(
            FAILED,
            "mount",
            format!("{what}: {}: {errno}", target.display()),
        )
    })?;
    context.pass_on(how.verbose);
    Ok(())
}

/// Changes the options of what is mounted at `target`: first the filesystem's, then the mount's own.
pub(super) fn remount(target: &Path, options: &Options, how: How) -> Result<(), Failure> {
    let what = format!("cannot remount {}", target.display());
    let picked = fspick(CWD, target, FsPickFlags::FSPICK_CLOEXEC)
        .map_err(|errno| Failure::new(FAILED, "mount", format!("{what}: {errno}")))?;
    let context = Context(picked);
    for (name, value) in &options.filesystem {
        context.set(name, value.as_deref(), &what, how.sloppy)?;
    }
    fsconfig_reconfigure(context.0.as_fd()).map_err(|errno| context.failure(&what, errno))?;
    mount_remount(target, MountFlags::BIND | legacy(options.attributes), "")
        .map_err(|errno| Failure::new(FAILED, "mount", format!("{what}: {errno}")))?;
    context.pass_on(how.verbose);
    Ok(())
}

/// The flags of mount(2) for these; only that call changes a mount in place.
fn legacy(attributes: MountAttrFlags) -> MountFlags {
    const PAIRS: [(MountAttrFlags, MountFlags); 8] = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOATIME, MountFlags::NOATIME),
        (
            MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            MountFlags::STRICTATIME,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            MountFlags::NODIRATIME,
        ),
        (
            MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            MountFlags::from_bits_retain(256),
        ),
    ];
    PAIRS
        .iter()
        .filter(|(a, _)| attributes.contains(*a))
        .fold(MountFlags::empty(), |flags, (_, flag)| flags | *flag)
}
