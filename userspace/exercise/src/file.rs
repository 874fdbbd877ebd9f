// SPDX-License-Identifier: GPL-2.0

//! A file that is exercised, and beside it the bytes that it should hold.

use crate::chance::Chance;
use crate::map::Map;
use crate::step::Kind;
use crate::step::Step;
use crate::step::BLOCK;
use crate::step::MAX_SIZE;
use rustix::fs::fadvise;
use rustix::fs::fallocate;
use rustix::fs::seek;
use rustix::fs::Advice;
use rustix::fs::FallocateFlags;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

const O_SYNC: i32 = 0o4010000;

/// A file, if it is really there, and what it should hold.
pub struct Exercised {
    path: PathBuf,
    file: Option<File>,
    bytes: Vec<u8>,
}

fn shown<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|why| format!("{what}: {why}"))
}

/// Compares what was found with what it should be.
fn compare(what: &str, at: u64, found: &[u8], wanted: &[u8]) -> Result<(), String> {
    if found.len() != wanted.len() {
        return Err(format!(
            "{what} at {at:#x}: {:#x} bytes, wanted {:#x}",
            found.len(),
            wanted.len()
        ));
    }
    let Some(wrong) = found.iter().zip(wanted).position(|(a, b)| a != b) else {
        return Ok(());
    };
    let count = found.iter().zip(wanted).filter(|(a, b)| a != b).count();
    Err(format!(
        "{what} at {at:#x}: byte {:#x} is {:#04x}, wanted {:#04x}; {count} bytes of {:#x} are wrong",
        at + wrong as u64,
        found[wrong],
        wanted[wrong],
        found.len()
    ))
}

impl Exercised {
    /// What a file should hold, without the file.
    pub fn model(path: &Path) -> Self {
        Exercised {
            path: path.into(),
            file: None,
            bytes: Vec::new(),
        }
    }

    /// A new file.
    pub fn create(path: &Path) -> Result<Self, String> {
        let mut options = OpenOptions::new();
        let file = shown(
            "create",
            options.read(true).write(true).create_new(true).open(path),
        )?;
        Ok(Exercised {
            file: Some(file),
            ..Exercised::model(path)
        })
    }

    /// The size that it should have.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn range(&mut self, at: u64, len: u64) -> &mut [u8] {
        let end = self.size().min(at + len);
        &mut self.bytes[at.min(end) as usize..end as usize]
    }

    /// Puts bytes into what it should hold.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        let end = at + bytes.len() as u64;
        if end > self.size() {
            self.bytes.resize(end as usize, 0);
        }
        self.range(at, bytes.len() as u64).copy_from_slice(bytes);
    }

    /// Takes a step, with the file and with what it should hold.
    pub fn carry_out(&mut self, step: &Step) -> Result<(), String> {
        let (at, len, size) = (step.at, step.len, self.size());
        match step.kind {
            Kind::Read => self.read(at, len),
            Kind::Write | Kind::WriteSync => self.write(step, at),
            Kind::Append => self.write(step, size),
            Kind::MapWrite => self.map_write(step),
            Kind::MapRead => self.map_read(at, len.min(size.saturating_sub(at))),
            Kind::Truncate => self.truncate(at),
            Kind::Reserve | Kind::Punch | Kind::Zero | Kind::Collapse | Kind::Insert => {
                self.allocate(step)
            }
            Kind::Seek => self.seek(at),
            Kind::Sync => self.with("fsync", |file| file.sync_all()),
            Kind::DataSync => self.with("fdatasync", |file| file.sync_data()),
            Kind::Forget => self.with("fadvise", |file| {
                Ok(fadvise(file, 0, None, Advice::DontNeed)?)
            }),
            Kind::Reopen => self.reopen(),
        }?;
        self.compare_size()
    }

    fn with(&self, what: &str, act: impl FnOnce(&File) -> io::Result<()>) -> Result<(), String> {
        self.file
            .as_ref()
            .map_or(Ok(()), |file| shown(what, act(file)))
    }

    fn compare_size(&self) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let found = shown("fstat", file.metadata())?.len();
        match found == self.size() {
            true => Ok(()),
            false => Err(format!("the size is {found:#x}, wanted {:#x}", self.size())),
        }
    }

    fn read(&mut self, at: u64, len: u64) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut found = vec![0xa5; len as usize];
        let mut got = 0;
        while got < found.len() {
            match shown("read", file.read_at(&mut found[got..], at + got as u64))? {
                0 => break,
                more => got += more,
            }
        }
        compare("read", at, &found[..got], self.range(at, len))
    }

    fn write(&mut self, step: &Step, at: u64) -> Result<(), String> {
        let len = step.len.min(MAX_SIZE.saturating_sub(at));
        let bytes = Chance::bytes(step.seed, len as usize);
        if let Some(file) = &self.file {
            if step.kind == Kind::WriteSync {
                let mut options = OpenOptions::new();
                let synced = options.write(true).custom_flags(O_SYNC).open(&self.path);
                shown("write", shown("open", synced)?.write_all_at(&bytes, at))?;
            } else {
                shown("write", file.write_all_at(&bytes, at))?;
            }
        }
        if len > 0 {
            self.put(at, &bytes);
        }
        Ok(())
    }

    fn map_write(&mut self, step: &Step) -> Result<(), String> {
        let (at, len) = (step.at, step.len.min(self.size().saturating_sub(step.at)));
        if len == 0 {
            return Ok(());
        }
        let bytes = Chance::bytes(step.seed, len as usize);
        if let Some(file) = &self.file {
            let mut map = shown("mmap", Map::new(file, at, len))?;
            let skip = (at % BLOCK) as usize;
            map.bytes()[skip..].copy_from_slice(&bytes);
            // What a program leaves behind the end of a file is nobody's business.
            let tail = (map.len as u64).next_multiple_of(BLOCK) - map.len as u64;
            if at + len == self.bytes.len() as u64 && tail > 0 {
                // SAFETY: Behind the end, but within the last page, which is mapped whole.
                unsafe { map.start.add(map.len).write_bytes(0xee, tail as usize) };
            }
            if step.keep {
                shown("msync", map.sync())?;
            }
        }
        self.put(at, &bytes);
        Ok(())
    }

    fn map_read(&mut self, at: u64, len: u64) -> Result<(), String> {
        if len == 0 {
            return Ok(());
        }
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut map = shown("mmap", Map::new(file, at, len))?;
        compare(
            "mapped",
            at,
            &map.bytes()[(at % BLOCK) as usize..],
            self.range(at, len),
        )
    }

    fn truncate(&mut self, size: u64) -> Result<(), String> {
        self.with("truncate", |file| file.set_len(size))?;
        self.bytes.resize(size as usize, 0);
        Ok(())
    }

    fn allocate(&mut self, step: &Step) -> Result<(), String> {
        let (at, len, size) = (step.at, step.len, self.size());
        if len == 0 {
            return Ok(());
        }
        let keep = match step.keep {
            true => FallocateFlags::KEEP_SIZE,
            false => FallocateFlags::empty(),
        };
        let (flags, what) = match step.kind {
            Kind::Reserve => (keep, "fallocate"),
            Kind::Zero => (FallocateFlags::ZERO_RANGE | keep, "zero range"),
            Kind::Punch => (
                FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
                "punch",
            ),
            Kind::Collapse => (FallocateFlags::COLLAPSE_RANGE, "collapse"),
            _ => (FallocateFlags::INSERT_RANGE, "insert"),
        };
        let refused = match step.kind {
            Kind::Collapse => at + len >= size,
            Kind::Insert => at >= size,
            _ => false,
        };
        if step.kind == Kind::Insert && size + len > MAX_SIZE {
            return Ok(());
        }
        if let Some(file) = &self.file {
            match fallocate(file, flags, at, len) {
                Err(Errno::INVAL) if refused => {}
                Ok(()) if !refused => {}
                Ok(()) => return Err(format!("{what}: succeeded, but should not have")),
                Err(why) => return Err(format!("{what}: {why}")),
            }
        }
        if refused {
            return Ok(());
        }
        match step.kind {
            Kind::Punch => self.range(at, len).fill(0),
            Kind::Zero | Kind::Reserve => {
                if step.kind == Kind::Zero {
                    self.range(at, len).fill(0);
                }
                if !step.keep && at + len > size {
                    self.bytes.resize((at + len) as usize, 0);
                }
            }
            Kind::Collapse => drop(self.bytes.drain(at as usize..(at + len) as usize)),
            _ => drop(
                self.bytes
                    .splice(at as usize..at as usize, vec![0; len as usize]),
            ),
        }
        Ok(())
    }

    /// All that SEEK_HOLE and SEEK_DATA call holes, from `at` on, holds zeros.
    fn seek(&mut self, at: u64) -> Result<(), String> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let size = self.bytes.len() as u64;
        let mut at = at;
        while at < size {
            let data = match seek(file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(Errno::NXIO) => size,
                Err(why) => return Err(format!("SEEK_DATA: {why}")),
            };
            if data < at || data > size {
                return Err(format!(
                    "SEEK_DATA from {at:#x} gives {data:#x} of {size:#x}"
                ));
            }
            let hole = &self.bytes[at as usize..data as usize];
            if let Some(n) = hole.iter().position(|b| *b != 0) {
                return Err(format!(
                    "{at:#x} to {data:#x} is said to be a hole, but there are bytes at {:#x}",
                    at + n as u64
                ));
            }
            if data == size {
                break;
            }
            at = seek(file, SeekFrom::Hole(data)).map_err(|why| format!("SEEK_HOLE: {why}"))?;
            if at <= data || at > size {
                return Err(format!(
                    "SEEK_HOLE from {data:#x} gives {at:#x} of {size:#x}"
                ));
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        if self.file.take().is_some() {
            let mut options = OpenOptions::new();
            self.file = Some(shown(
                "open",
                options.read(true).write(true).open(&self.path),
            )?);
        }
        Ok(())
    }

    /// Compares all of it; that of a model with the file of its name.
    pub fn end(mut self, check: bool) -> Result<(), String> {
        if check {
            self.file = Some(shown("open", File::open(&self.path))?);
        }
        self.compare_size()?;
        let size = self.size();
        self.read(0, size + 1)?;
        self.seek(0)
    }
}
