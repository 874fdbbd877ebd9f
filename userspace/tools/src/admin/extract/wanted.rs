// SPDX-License-Identifier: GPL-2.0

//! Which files are asked for: a tree of names, each whole or with only some of what is below it.

use crate::admin::USAGE;
use crate::failure::Failure;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a path, at most.
const LONGEST: usize = 4096;

fn wrong(path: &OsString, why: &str) -> Failure {
    let path = Path::new(path).display();
    Failure::new(USAGE, "usage", format!("{path}: {why}"))
}

/// What is wanted of a file or directory.
#[derive(Clone, Default, Debug)]
pub(super) struct Wanted {
    /// It, and everything below it.
    pub(super) is_whole: bool,
    /// Else these names.
    pub(super) below: BTreeMap<Vec<u8>, Wanted>,
}

impl Wanted {
    /// These paths, which begin at the root of the volume; everything if there are none.
    pub(super) fn new(paths: &[OsString]) -> Result<Self, Failure> {
        let mut wanted = Wanted {
            is_whole: paths.is_empty(),
            ..Wanted::default()
        };
        for path in paths {
            if path.len() > LONGEST {
                return Err(wrong(path, "longer than a path can be"));
            }
            let mut at = &mut wanted;
            for name in path.as_bytes().split(|b| *b == b'/') {
                match name {
                    b"" | b"." => {}
                    b".." => {
                        return Err(wrong(
                            path,
                            "give paths from the root of the volume, without ..",
                        ));
                    }
                    name => at = at.below.entry(name.to_vec()).or_default(),
                }
            }
            at.is_whole = true;
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_a_tree() {
        let of = |paths: &[&str]| {
            let paths: Vec<OsString> = paths.iter().map(OsString::from).collect();
            Wanted::new(&paths)
        };
        assert!(of(&[]).unwrap().is_whole && of(&["/"]).unwrap().is_whole);
        let wanted = of(&["/a//b", "./a/c/", "d"]).unwrap();
        assert!(!wanted.is_whole && wanted.below.len() == 2);
        let a = &wanted.below[&b"a"[..]];
        assert!(!a.is_whole && a.below.len() == 2 && a.below[&b"c"[..]].is_whole);
        assert!(wanted.below[&b"d"[..]].is_whole);
        assert!(of(&["a/../b"]).is_err() && of(&[&"a/".repeat(9999)]).is_err());
    }
}
