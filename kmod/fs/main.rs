// SPDX-License-Identifier: GPL-2.0

//! The embrfs module: the engine on one side, the VFS on the other, and nothing but glue between them.

mod bench;
mod complaints;
mod data;
mod embrfs;
mod errors;
mod hash_bench;
mod hashing;
mod host;
mod info;
mod keeper;
mod mount;
mod mover;
mod names;
mod options;
mod parity;
mod parity_bench;
mod parity_test;
mod room;
mod uapi;
mod volume;
mod xattr;

use crate::embrfs::Embrfs;
use embr_vfs::{
    blake3::Installed,
    registration::{
        FileSystemType,
        Registration, //
    },
};
use kernel::prelude::*;

module! {
    type: Module,
    name: "embrfs",
    authors: ["The embrfs authors"],
    description: "embrfs: a file system that checksums, heals and survives the loss of devices",
    license: "GPL",
    alias: ["fs-embrfs"],
    params: {
        hash_bench: bool {
            default: false,
            description: "Measure hashing when the module is loaded, and print MB/s",
        },
        parity_bench: bool {
            default: false,
            description: "Measure parity when the module is loaded, and print MiB/s of payload",
        },
        parity_test: bool {
            default: false,
            description: "Test parity at length when the module is loaded, and print test vectors",
        },
    },
}

static FILE_SYSTEM: FileSystemType<Embrfs> = FileSystemType::new();

struct Module {
    // Dropped in this order: no mount is left that hashes.
    _registration: Registration,
    _simd: Option<Installed>,
}

impl kernel::Module for Module {
    fn init(module: &'static ThisModule) -> Result<Self> {
        let simd = hashing::set_up()?;
        if module_parameters::hash_bench.value() {
            hash_bench::run()?;
        }
        parity::set_up()?;
        if module_parameters::parity_test.value() {
            parity_test::run()?;
        }
        if module_parameters::parity_bench.value() {
            parity_bench::run()?;
        }
        Ok(Module {
            _registration: FILE_SYSTEM.register(module)?,
            _simd: simd,
        })
    }
}
