// SPDX-License-Identifier: GPL-2.0

//! The option string of mount(8), sorted: for the mount itself, for the filesystem, for this helper, for nobody.

use rustix::mount::MountAttrFlags;
use std::path::PathBuf;

/// Options of one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Flags of the mount.
    pub(super) attributes: MountAttrFlags,
    /// What the filesystem gets, in order: name, and value where there is one.
    pub(super) filesystem: Vec<(String, Option<String>)>,
    /// Members that are named.
    pub(super) devices: Vec<PathBuf>,
    pub(super) noscan: bool,
    pub(super) remount: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            attributes: MountAttrFlags::empty(),
            filesystem: Vec::new(),
            devices: Vec::new(),
            noscan: false,
            remount: false,
        }
    }
}

impl Options {
    /// Sorts the options of all `-o`.
    pub(super) fn parse(lists: &[String]) -> Result<Self, String> {
        let mut options = Options::default();
        for option in lists
            .iter()
            .flat_map(|list| split(list))
            .filter(|o| !o.is_empty())
        {
            options.add(option)?;
        }
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(value.trim_matches('"'))),
            None => (option, None),
        };
        match (name, value) {
            ("device", Some(path)) if path.starts_with('/') => {
                self.devices.push(PathBuf::from(path))
            }
            ("device", _) => {
                return Err(format!(
                    "{option}: device= wants a whole path, as in device=/dev/vdc"
                ))
            }
            ("noscan", None) => self.noscan = true,
            ("remount", None) => self.remount = true,
            ("ro", None) => self.set_read_only(true),
            ("rw", None) => self.set_read_only(false),
            (name, None) if self.attribute(name) => {}
            (name, _) if for_nobody(name) => {}
            (name, value) => self
                .filesystem
                .push((name.to_owned(), value.map(str::to_owned))),
        }
        Ok(())
    }

    /// The mount and the filesystem are both told.
    pub(super) fn set_read_only(&mut self, read_only: bool) {
        self.filesystem
            .retain(|(name, _)| name != "ro" && name != "rw");
        self.filesystem
            .push((if read_only { "ro" } else { "rw" }.to_owned(), None));
        self.attributes
            .set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    }

    fn attribute(&mut self, name: &str) -> bool {
        // The kinds of atime are one field of two bits, in which relatime is zero.
        let atime = MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        let (clear, set) = match name {
            "nosuid" => (MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_NOSUID),
            "suid" => (MountAttrFlags::MOUNT_ATTR_NOSUID, MountAttrFlags::empty()),
            "nodev" => (MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_NODEV),
            "dev" => (MountAttrFlags::MOUNT_ATTR_NODEV, MountAttrFlags::empty()),
            "noexec" => (MountAttrFlags::empty(), MountAttrFlags::MOUNT_ATTR_NOEXEC),
            "exec" => (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountAttrFlags::empty()),
            "noatime" => (atime, MountAttrFlags::MOUNT_ATTR_NOATIME),
            "strictatime" => (atime, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
            "relatime" | "atime" | "norelatime" | "nostrictatime" => {
                (atime, MountAttrFlags::empty())
            }
            "nodiratime" => (
                MountAttrFlags::empty(),
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            ),
            "diratime" => (
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
                MountAttrFlags::empty(),
            ),
            "nosymfollow" => (
                MountAttrFlags::empty(),
                MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
            ),
            "symfollow" => (
                MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
                MountAttrFlags::empty(),
            ),
            _ => return false,
        };
        self.attributes = (self.attributes - clear) | set;
        true
    }

    /// All of it in one line.
    pub(super) fn summary(&self) -> String {
        let options = self.filesystem.iter().map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name.clone(),
        });
        let attributes = self.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY;
        let attributes = attributes
            .iter_names()
            .map(|(name, _)| name.trim_start_matches("MOUNT_ATTR_").to_lowercase());
        let all: Vec<String> = options.chain(attributes).collect();
        if all.is_empty() {
            "no options".to_owned()
        } else {
            all.join(",")
        }
    }
}

/// What /etc/fstab says to mount(8), to the init system or to people.
fn for_nobody(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "defaults", "auto", "noauto", "user", "nouser", "users", "owner", "noowner", "group",
        "nogroup", "_netdev", "nofail", "comment", "loop", "uhelper",
    ];
    NAMES.contains(&name) || name.starts_with("x-") || name.starts_with("X-")
}

/// At commas, but not at those between quotation marks.
fn split(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    list.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&[text.to_owned()]).unwrap()
    }

    #[test]
    fn sorted_by_whom_they_concern() {
        let options = parse("rw,noatime,nosuid,device=/dev/vdc,device=\"/dev/a,b\",degraded,x-systemd.automount,nofail,lazytime");
        assert_eq!(
            options.devices,
            [PathBuf::from("/dev/vdc"), PathBuf::from("/dev/a,b")]
        );
        let names: Vec<&str> = options.filesystem.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["rw", "degraded", "lazytime"]);
        assert_eq!(
            options.attributes,
            MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NOSUID
        );
    }

    #[test]
    fn the_last_of_opposites_counts() {
        let options = parse("ro,rw,ro,noexec,exec,noatime,relatime");
        assert_eq!(options.filesystem, [("ro".to_owned(), None)]);
        assert_eq!(options.attributes, MountAttrFlags::MOUNT_ATTR_RDONLY);
        assert_eq!(parse("ro,rw").attributes, MountAttrFlags::empty());
    }

    #[test]
    fn unknown_ones_are_the_kernels_business() {
        assert_eq!(
            parse("frobnicate=3").filesystem,
            [("frobnicate".to_owned(), Some("3".to_owned()))]
        );
    }

    #[test]
    fn device_wants_a_path() {
        for bad in ["device", "device=", "device=vdc"] {
            assert!(Options::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
