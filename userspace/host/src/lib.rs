// SPDX-License-Identifier: GPL-2.0

//! What the embrfs engine asks of its environment, answered by an ordinary Linux process: block devices and image files as
//! engine devices, BLAKE3 with SIMD, time and chance, and all of it together as what a mounted volume stands on; and what tools have to know about a machine's block devices before
//! they touch one; and the question that a mounted volume answers. No embrfs rule is decided here.

// One file may, and scripts/check knows which.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

pub mod busy;
pub mod device;
pub mod environment;
pub mod field;
pub mod identity;
pub mod info;
pub mod machine;
pub mod mounts;
pub mod scan;
pub mod signature;
pub mod simd;

pub use device::FileDevice;
pub use device::WritableFileDevice;
pub use environment::Host;
pub use field::Tables;
pub use identity::Identity;
pub use simd::Simd;
