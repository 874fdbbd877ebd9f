// SPDX-License-Identifier: GPL-2.0

//! What files hold.

use crate::embrfs::Embrfs;
use embr_vfs::{
    data::FileData,
    inode::Inode, //
};
use kernel::prelude::*;

impl FileData for Embrfs {
    fn resize(_file: &Inode<Self>, _size: i64) -> Result {
        Err(EOPNOTSUPP)
    }
}
