// SPDX-License-Identifier: GPL-2.0

//! Attributes of inodes: asking for them, changing them, and writing them when the VFS finds that they changed.

use crate::{
    bindings,
    data::{
        self,
        FileData, //
    },
    file_system::FileSystem,
    inode::{
        Attributes,
        Inode, //
    },
    names::Names,
    xattr_acl::follow_mode, //
};
use kernel::{
    bindings as kb,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// # Safety
///
/// Called by the VFS.
pub(crate) unsafe extern "C" fn get_attributes<T: FileSystem>(
    idmap: *mut kb::mnt_idmap,
    path: *const kb::path,
    stat: *mut kb::kstat,
    request_mask: u32,
    _flags: c_uint,
) -> c_int {
    from_result(|| {
        // SAFETY: The path holds its dentry, which has an inode.
        let inode = unsafe { Inode::<T>::from_raw((*(*path).dentry).d_inode) };
        T::may_get_attributes(inode)?;
        // SAFETY: All are valid for the call; when a file was made is set before others see it.
        unsafe {
            kb::generic_fillattr(idmap, request_mask, inode.as_ptr(), stat);
            bindings::embr_stat_set_born(stat, &(*inode.node().born.get()).raw());
        }
        Ok(0)
    })
}

/// # Safety
///
/// Called by the VFS with the inode locked.
pub(crate) unsafe extern "C" fn set_attributes<T: Names + FileData>(
    idmap: *mut kb::mnt_idmap,
    dentry: *mut kb::dentry,
    wanted: *mut kb::iattr,
) -> c_int {
    from_result(|| {
        // SAFETY: All are valid for the call; the dentry has an inode.
        unsafe {
            let inode = Inode::<T>::from_raw((*dentry).d_inode);
            T::may_get_attributes(inode)?;
            to_result(kb::setattr_prepare(idmap, dentry, wanted))?;
            if (*wanted).ia_valid & kb::ATTR_SIZE != 0 && inode.is_regular() {
                data::resize(inode, (*wanted).ia_size)?;
            }
            let before = inode.attributes();
            kb::setattr_copy(idmap, inode.as_ptr(), wanted);
            if let Err(error) = T::write_attributes(inode) {
                put_back(inode, &before);
                return Err(error);
            }
            if bindings::embr_inode_is_dirty(inode.as_ptr()) {
                // Whoever writes it back just now may write the times that it had before.
                bindings::embr_mark_times_dirty(inode.as_ptr());
            }
            if (*wanted).ia_valid & kb::ATTR_MODE != 0 {
                follow_mode(idmap, dentry, inode)?;
            }
        }
        Ok(0)
    })
}

/// Undoes a change that could not be kept.
///
/// # Safety
///
/// The inode is locked.
pub(crate) unsafe fn put_back<T: FileSystem>(inode: &Inode<T>, before: &Attributes) {
    let raw = inode.as_ptr();
    // SAFETY: As the caller says.
    unsafe {
        (*raw).i_mode = (*raw).i_mode & !0o7777 | before.permissions;
        bindings::embr_inode_set_owner(raw, before.uid, before.gid);
        bindings::embr_inode_set_times(
            raw,
            &before.accessed.raw(),
            &before.changed.raw(),
            &before.modified.raw(),
        );
    }
}

/// # Safety
///
/// Called by the VFS for an inode that is dirty, and that stays.
pub(crate) unsafe extern "C" fn write_inode<T: FileSystem>(
    inode: *mut kb::inode,
    _control: *mut kb::writeback_control,
) -> c_int {
    // SAFETY: As the caller says.
    from_result(|| T::write_times(unsafe { Inode::from_raw(inode) }).map(|()| 0))
}

/// # Safety
///
/// Called by the VFS once, when an inode goes and nobody uses it any more.
pub(crate) unsafe extern "C" fn evict_inode<T: FileSystem>(inode: *mut kb::inode) {
    // SAFETY: As the caller says.
    unsafe {
        kb::truncate_inode_pages_final(&raw mut (*inode).i_data);
        data::detach(inode);
        let file = Inode::<T>::from_raw(inode);
        // One that failed to come to life has a link count, whatever the file has.
        if file.links() == 0 {
            T::forget(file);
        }
        kb::clear_inode(inode);
    }
}
