// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: the VFS's questions, put to the engine.

use crate::{
    embrfs::Embrfs,
    names::{
        number,
        taking,
        timestamp, //
    },
};
use embr_engine::names::{
    Attributes,
    Extended,
    Mark,
    Put as EnginePut, //
};
use embr_vfs::{
    inode::Inode,
    xattr::{
        Attribute,
        Beside,
        ExtendedAttributes,
        Put, //
    },
};
use kernel::prelude::*;

/// Names that are taken from the engine at a time.
const BATCH: usize = 64;

fn changes(beside: Beside) -> Attributes {
    Attributes {
        permissions: beside.permissions,
        ..Attributes::default()
    }
}

impl ExtendedAttributes for Embrfs {
    fn read_attribute<R>(
        inode: &Inode<Self>,
        name: &[u8],
        read: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R> {
        let volume = inode.volume();
        let value = volume.with(|files| files.attribute(number(inode), name))?;
        read(&value)
    }

    fn attribute_size(inode: &Inode<Self>, name: &[u8]) -> Result<usize> {
        let volume = inode.volume();
        volume.with(|files| files.attribute_size(number(inode), name))
    }

    fn list_attributes(inode: &Inode<Self>, each: &mut dyn FnMut(&[u8]) -> Result) -> Result {
        let mut from = Some(Mark::FIRST);
        while let Some(mark) = from {
            let volume = inode.volume();
            let some = volume.with(|files| files.attributes(number(inode), mark, BATCH))?;
            for name in some.names.iter() {
                each(name)?;
            }
            from = some.next;
        }
        Ok(())
    }

    #[inline(never)]
    fn set_attribute(inode: &Inode<Self>, new: Attribute<'_>, put: Put, beside: Beside) -> Result {
        let new = Extended {
            name: new.name,
            value: new.value,
        };
        let put = match put {
            Put::Any => EnginePut::Any,
            Put::Create => EnginePut::Create,
            Put::Replace => EnginePut::Replace,
        };
        let (to, now) = (changes(beside), timestamp(beside.now));
        taking(inode, |files| {
            files.set_attribute(number(inode), new, put, &to, now)
        })?;
        Ok(())
    }

    #[inline(never)]
    fn remove_attribute(inode: &Inode<Self>, name: &[u8], beside: Beside) -> Result {
        let (to, now) = (changes(beside), timestamp(beside.now));
        inode
            .volume()
            .with(|files| files.remove_attribute(number(inode), name, &to, now))?;
        Ok(())
    }
}
