// SPDX-License-Identifier: GPL-2.0

//! What is mounted, as /proc/self/mountinfo says.

use crate::identity::parse_number;
use crate::identity::Identity;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

/// A mounted filesystem.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mount {
    /// Where it is mounted.
    pub target: PathBuf,
    /// Its type.
    pub kind: String,
    /// What it was mounted from.
    pub source: PathBuf,
    /// The device number, of the device or an anonymous one.
    pub device: Option<Identity>,
    /// The mount's options and the filesystem's.
    pub options: Vec<(String, Option<String>)>,
}

impl Mount {
    /// Every device path that the mount names: its source and any `device=`.
    pub fn devices(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let named = self
            .options
            .iter()
            .filter(|(key, _)| key == "device")
            .filter_map(|(_, v)| v.as_deref().map(PathBuf::from));
        std::iter::once(self.source.clone()).chain(named.filter(|d| *d != self.source))
    }

    /// Whether nothing can be written through it.
    pub fn read_only(&self) -> bool {
        self.options.iter().any(|(key, _)| key == "ro")
    }

    /// Whether it uses the device or file `what`.
    pub fn uses(&self, what: Identity) -> bool {
        if self.device == Some(what) {
            return true;
        }
        self.devices()
            .filter(|d| d.is_absolute())
            .any(|d| Identity::of(&d).is_ok_and(|id| id == what))
    }
}

/// What is mounted in this process's namespace.
pub fn mounts() -> io::Result<Vec<Mount>> {
    Ok(fs::read("/proc/self/mountinfo")?
        .split(|b| *b == b'\n')
        .filter_map(parse)
        .collect())
}

/// The mount that is on top at exactly this directory.
pub fn mounted_at(dir: &Path) -> io::Result<Option<Mount>> {
    let dir = fs::canonicalize(dir)?;
    Ok(mounts()?.into_iter().rev().find(|m| m.target == dir))
}

/// Fields are separated by blanks; blanks within are octal escapes. `id parent maj:min root target options [tags] - type
/// source superblock-options`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let device = parse_number(std::str::from_utf8(fields.nth(2)?).ok()?);
    let target = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mount_options = fields.next()?;
    let mut fields = fields.skip_while(|f| *f != b"-").skip(1);
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = PathBuf::from(OsString::from_vec(unescape(fields.next()?)));
    let options = [mount_options, fields.next().unwrap_or_default()]
        .iter()
        .flat_map(|list| list.split(|b| *b == b','))
        .filter(|option| !option.is_empty())
        .map(|option| {
            let text = String::from_utf8_lossy(&unescape(option)).into_owned();
            match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text, None),
            }
        })
        .collect();
    Some(Mount {
        target,
        kind,
        source,
        device,
        options,
    })
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .first_chunk::<3>()
            .filter(|d| *first == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        match octal {
            Some(digits) => {
                out.push(
                    digits
                        .iter()
                        .fold(0u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')),
                );
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo() {
        let line = br"36 35 0:52 / /mnt/with\040blank rw,noatime shared:1 master:2 - embrfs /dev/vdb rw,device=/dev/vdb,device=/dev/v\054c";
        let mount = parse(line).unwrap();
        assert_eq!(mount.target, Path::new("/mnt/with blank"));
        assert_eq!(mount.kind, "embrfs");
        assert_eq!(mount.device, Some(Identity::Block(0, 52)));
        assert_eq!(
            mount.devices().collect::<Vec<_>>(),
            [Path::new("/dev/vdb"), Path::new("/dev/v,c")]
        );
        assert!(!mount.read_only());
    }

    #[test]
    fn malformed_lines_are_left_out() {
        for line in ["", "36 35", "36 35 8:1 / /mnt rw", "36 35 8:1 / /mnt rw -"] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        assert_eq!(unescape(br"a\0b\"), br"a\0b\");
    }

    #[test]
    fn this_machine_has_a_root() {
        assert!(mounts().unwrap().iter().any(|m| m.target == Path::new("/")));
    }
}
