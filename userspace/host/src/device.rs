// SPDX-License-Identifier: GPL-2.0

//! Block devices and image files as the engine's devices. What was opened for reading has no way to write.

use crate::identity::Identity;
use embr_engine::env::Device;
use embr_engine::env::DeviceError;
use embr_engine::env::WritableDevice;
use embr_engine::units::Bytes;
use rustix::fs::Advice;
use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

/// A device or image file that is only read.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    identity: Identity,
    size: Bytes,
    /// What the system said of the last failure; zero where it said nothing.
    last_errno: AtomicI32,
}

/// A device or image file that is written. While a block device is held so, nobody else can mount or claim it.
#[derive(Debug)]
pub struct WritableFileDevice(FileDevice);

/// How a device is opened for reading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Claim {
    /// Others may use it meanwhile, a mounted filesystem too.
    Shared,
    /// Fails where a block device is in use, and keeps others from using it.
    Exclusive,
}

/// `O_EXCL` on a block device claims it. On other files it has a meaning only together with `O_CREAT`.
fn flags(identity: Identity, claim: Claim) -> i32 {
    let exclusive = claim == Claim::Exclusive && identity.is_block();
    let flags = if exclusive {
        OFlags::EXCL | OFlags::NONBLOCK
    } else {
        OFlags::NONBLOCK
    };
    flags.bits() as i32
}

impl FileDevice {
    /// Opens `path` for reading.
    pub fn open(path: &Path, claim: Claim) -> io::Result<Self> {
        let identity = Identity::of(path)?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags(identity, claim))
            .open(path)?;
        Self::from_file(file, path)
    }

    fn from_file(mut file: File, path: &Path) -> io::Result<Self> {
        let identity = Identity::from_metadata(&file.metadata()?)?;
        // Works for block devices and for files alike.
        let size = Bytes(file.seek(SeekFrom::End(0))?);
        let device = FileDevice {
            file,
            path: path.to_owned(),
            identity,
            size,
            last_errno: AtomicI32::new(0),
        };
        device.forget_cached();
        Ok(device)
    }

    /// Lets go of what the page cache holds, so that the next read is the device's own answer. A mounted filesystem
    /// writes past that cache.
    pub fn forget_cached(&self) {
        // Only advice: where it is not taken, reading works all the same.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which device or file it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The first bytes at `at`, as many as there are up to the length of `into`, for looking at what is no embrfs device.
    pub fn peek(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut have = 0;
        while let Some(room) = into.get_mut(have..).filter(|r| !r.is_empty()) {
            match self.file.read_at(room, at.saturating_add(have as u64)) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(have)
    }

    /// Says that these bytes will be read soon, so that devices can fetch them side by side.
    pub fn will_read(&self, at: Bytes, length: Bytes) {
        // Only advice: where it is not taken, reading works all the same. A length of zero would mean everything.
        if let Some(length) = NonZeroU64::new(length.0) {
            let _ = rustix::fs::fadvise(&self.file, at.0, Some(length), Advice::WillNeed);
        }
    }

    /// Puts the path before the engine's error, and behind it what the system said of the last failure.
    pub fn explain(&self, error: &dyn std::fmt::Display) -> String {
        match self.last_errno.swap(0, Ordering::Relaxed) {
            0 => format!("{}: {error}", self.path.display()),
            errno => format!(
                "{}: {error} ({})",
                self.path.display(),
                io::Error::from_raw_os_error(errno)
            ),
        }
    }

    fn failed(&self, error: &io::Error) -> DeviceError {
        self.last_errno
            .store(error.raw_os_error().unwrap_or(0), Ordering::Relaxed);
        match error.kind() {
            io::ErrorKind::OutOfMemory => DeviceError::NoMemory,
            io::ErrorKind::UnexpectedEof => DeviceError::BeyondEnd,
            _ => DeviceError::Io,
        }
    }

    fn within(&self, at: Bytes, length: usize) -> Result<(), DeviceError> {
        match at.plus(Bytes(length as u64)) {
            Some(end) if end <= self.size => Ok(()),
            _ => Err(DeviceError::BeyondEnd),
        }
    }
}

impl Device for FileDevice {
    fn size(&self) -> Bytes {
        self.size
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.within(at, into.len())?;
        self.file
            .read_exact_at(into, at.0)
            .map_err(|error| self.failed(&error))
    }
}

impl WritableFileDevice {
    /// Opens `path` for reading and writing; a block device that is in use is refused with EBUSY.
    pub fn open(path: &Path) -> io::Result<Self> {
        let identity = Identity::of(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags(identity, Claim::Exclusive))
            .open(path)?;
        FileDevice::from_file(file, path).map(WritableFileDevice)
    }

    /// The same device for reading.
    pub fn reading(&self) -> &FileDevice {
        &self.0
    }
}

impl Device for WritableFileDevice {
    fn size(&self) -> Bytes {
        self.0.size()
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        self.0.read(at, into)
    }
}

impl WritableDevice for WritableFileDevice {
    fn write(&self, at: Bytes, from: &[u8]) -> Result<(), DeviceError> {
        self.0.within(at, from.len())?;
        self.0
            .file
            .write_all_at(from, at.0)
            .map_err(|error| self.0.failed(&error))
    }

    fn flush(&self) -> Result<(), DeviceError> {
        self.0
            .file
            .sync_data()
            .map_err(|error| self.0.failed(&error))
    }

    /// Makes a hole in a file; a block device forgets what it can without writing zeros.
    fn discard(&self, at: Bytes, length: Bytes) -> bool {
        let within = at.plus(length).is_some_and(|end| end <= self.0.size);
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        within && rustix::fs::fallocate(&self.0.file, hole, at.0, length.0).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, size: u64) -> PathBuf {
        let path = std::env::temp_dir().join(format!("embrfs-host-{}-{name}", std::process::id()));
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    #[test]
    fn writes_are_read_back_and_ends_are_kept() {
        let path = image("device", 16384);
        let device = WritableFileDevice::open(&path).unwrap();
        assert_eq!(device.size(), Bytes(16384));
        device.write(Bytes(4096), &[7; 4096]).unwrap();
        device.flush().unwrap();
        let again = FileDevice::open(&path, Claim::Shared).unwrap();
        let mut block = [0; 4096];
        again.read(Bytes(4096), &mut block).unwrap();
        assert_eq!(block, [7; 4096]);
        for at in [16384, 12289, u64::MAX] {
            assert_eq!(
                again.read(Bytes(at), &mut block),
                Err(DeviceError::BeyondEnd)
            );
            assert_eq!(device.write(Bytes(at), &block), Err(DeviceError::BeyondEnd));
        }
        assert_eq!(again.peek(12288 + 4000, &mut block).unwrap(), 96);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_discarded_takes_no_room() {
        let path = image("discard", 0);
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let device = WritableFileDevice::open(&path).unwrap();
        let room = || {
            device.flush().unwrap();
            std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap())
        };
        let before = room();
        // Not every file system can.
        if device.discard(Bytes(65536), Bytes(1 << 19)) {
            assert!(room() < before);
        }
        assert!(!device.discard(Bytes(1 << 20), Bytes(4096)));
        let mut bytes = vec![0; 1 << 20];
        device.read(Bytes(0), &mut bytes).unwrap();
        assert!(bytes[..65536].iter().all(|b| *b == 7));
        assert!(bytes[65536 + (1 << 19)..].iter().all(|b| *b == 7));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_file_that_shrank_is_told_with_its_path() {
        let path = image("shrunk", 16384);
        let device = FileDevice::open(&path, Claim::Shared).unwrap();
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4096)
            .unwrap();
        let error = device.read(Bytes(4096), &mut [0; 4096]).unwrap_err();
        assert_eq!(error, DeviceError::BeyondEnd);
        assert!(device.explain(&error).starts_with(path.to_str().unwrap()));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_device_is_refused() {
        for path in ["/", "/dev/null", "/nonexistent/device"] {
            assert!(
                FileDevice::open(Path::new(path), Claim::Shared).is_err(),
                "{path}"
            );
        }
    }
}
