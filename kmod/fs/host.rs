// SPDX-License-Identifier: GPL-2.0

//! The kernel's devices, as the engine wants them.

use embr_engine::{
    env::{
        self,
        DeviceError, //
    },
    units::Bytes, //
};
use embr_vfs::{
    bdev::{
        BlockDevice,
        ReadError, //
    },
    nofs::NoFs,
};

/// A block device for the engine to read.
pub(crate) struct Device<'a>(pub(crate) &'a BlockDevice);

impl env::Device for Device<'_> {
    fn size(&self) -> Bytes {
        Bytes(self.0.size())
    }

    fn read(&self, at: Bytes, into: &mut [u8]) -> Result<(), DeviceError> {
        let _scope = NoFs::new();
        self.0.read(at.0, into).map_err(|why| match why {
            ReadError::BeyondEnd => DeviceError::BeyondEnd,
            ReadError::NoMemory => DeviceError::NoMemory,
            ReadError::Failed => DeviceError::Io,
        })
    }
}
