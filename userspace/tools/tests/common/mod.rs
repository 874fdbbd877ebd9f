// SPDX-License-Identifier: GPL-2.0

//! Image files in a directory of their own, and the built tools run on them.

#![allow(dead_code)]

pub mod inside;

use serde_json::Value;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

pub const MIB: u64 = 1 << 20;

/// A directory that goes with the test.
pub struct Dir(PathBuf);

/// What a tool did.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Done {
    /// The JSON document on standard output.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

impl Dir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "embrfs-tools-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A sparse image.
    pub fn image(&self, name: &str, mib: u64) -> String {
        let path = self.path(name);
        File::create(&path).unwrap().set_len(mib * MIB).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn images(&self, count: usize, mib: u64) -> Vec<String> {
        (1..=count)
            .map(|n| self.image(&format!("d{n}"), mib))
            .collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(binary: &str, options: &[&str], devices: &[String]) -> Done {
    let done = Command::new(binary)
        .args(options)
        .args(devices)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Done {
        code: done.status.code().unwrap_or(-1),
        out: String::from_utf8(done.stdout).unwrap(),
        err: String::from_utf8(done.stderr).unwrap(),
    }
}

pub fn mkfs(options: &[&str], devices: &[String]) -> Done {
    run(env!("CARGO_BIN_EXE_mkfs-embrfs"), options, devices)
}

pub fn fsck(options: &[&str], devices: &[String]) -> Done {
    run(env!("CARGO_BIN_EXE_fsck-embrfs"), options, devices)
}

pub fn mount(options: &[&str], rest: &[String]) -> Done {
    run(env!("CARGO_BIN_EXE_mount-embrfs"), options, rest)
}

pub fn admin(options: &[&str], devices: &[String]) -> Done {
    run(env!("CARGO_BIN_EXE_embrfs-admin"), options, devices)
}

pub fn write_at(path: impl AsRef<Path>, at: u64, bytes: &[u8]) {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .write_all_at(bytes, at)
        .unwrap();
}

pub fn read_at(path: impl AsRef<Path>, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

/// Inverts a byte.
pub fn rot(path: impl AsRef<Path>, at: u64) {
    let byte = read_at(&path, at, 1)[0];
    write_at(path, at, &[!byte]);
}

/// Whether nothing but zeros, holes included, is in a file.
pub fn blank(path: impl AsRef<Path>) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() == 0
}
