// SPDX-License-Identifier: GPL-2.0

//! What the VFS asks of a superblock.

use crate::{
    attributes::{
        evict_inode,
        write_inode, //
    },
    bdev::DeviceNumber,
    bindings,
    file_system::FileSystem,
    inode_cache::InodeTable,
    superblock::{
        Live,
        Mounted,
        SuperBlock, //
    },
};
use core::marker::PhantomData;
use kernel::{
    bindings as kb,
    error::from_result,
    prelude::*, //
};

/// Where mount options are written for /proc/mounts.
pub struct OptionWriter<'a> {
    /// Invariant: valid and ours for `'a`.
    seq: *mut kb::seq_file,
    _seq: PhantomData<&'a ()>,
}

impl OptionWriter<'_> {
    /// An option without a value.
    pub fn flag(&self, name: &CStr) {
        // SAFETY: By the type's invariant.
        unsafe { bindings::embr_seq_show_option(self.seq, name.as_char_ptr(), core::ptr::null()) };
    }

    /// An option with a value; what would confuse a reader is escaped.
    pub fn text(&self, name: &CStr, value: &CStr) {
        // SAFETY: By the type's invariant.
        unsafe {
            bindings::embr_seq_show_option(self.seq, name.as_char_ptr(), value.as_char_ptr())
        };
    }
}

pub(crate) struct SuperTable<T>(PhantomData<T>);

impl<T: FileSystem> SuperTable<T> {
    const OPERATIONS: kb::super_operations = kb::super_operations {
        alloc_inode: Some(InodeTable::<T>::alloc),
        free_inode: Some(InodeTable::<T>::free),
        write_inode: Some(write_inode::<T>),
        evict_inode: Some(evict_inode::<T>),
        sync_fs: Some(Self::sync_fs),
        statfs: Some(Self::statfs),
        show_options: Some(Self::show_options),
        put_super: Some(Self::put_super),
        remove_bdev: Some(Self::remove_bdev),
        shutdown: Some(Self::shutdown),
        ..pin_init::zeroed()
    };

    pub(crate) const fn operations() -> &'static kb::super_operations {
        &Self::OPERATIONS
    }

    /// # Safety
    ///
    /// `sb` is a live superblock of `T` for `'a`.
    unsafe fn volume<'a>(sb: *mut kb::super_block) -> &'a T::Volume {
        // SAFETY: As the caller says.
        unsafe { SuperBlock::<'a, T, Live>::from_raw(sb) }.volume()
    }

    /// # Safety
    ///
    /// Called by the VFS.
    unsafe extern "C" fn statfs(dentry: *mut kb::dentry, out: *mut kb::kstatfs) -> c_int {
        // The `kernel` crate knows the structure by name only.
        let out: *mut bindings::kstatfs = out.cast();
        from_result(|| {
            // SAFETY: A dentry that the VFS shows us is of a live superblock.
            let stat = T::statfs(unsafe { Self::volume((*dentry).d_sb) })?;
            // SAFETY: `out` is valid for the call.
            unsafe {
                (*out).f_type = stat.magic as c_long;
                (*out).f_bsize = stat.block_size as c_long;
                (*out).f_frsize = stat.block_size as c_long;
                (*out).f_blocks = stat.blocks;
                (*out).f_bfree = stat.free;
                (*out).f_bavail = stat.available;
                (*out).f_files = stat.files;
                (*out).f_ffree = stat.files_free;
                (*out).f_fsid.val = [stat.fsid[0] as c_int, stat.fsid[1] as c_int];
                (*out).f_namelen = stat.name_max as c_long;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS.
    unsafe extern "C" fn show_options(seq: *mut kb::seq_file, root: *mut kb::dentry) -> c_int {
        let out = OptionWriter {
            seq,
            _seq: PhantomData,
        };
        // SAFETY: A mount's root is of a live superblock.
        T::show_options(unsafe { Self::volume((*root).d_sb) }, &out);
        0
    }

    /// # Safety
    ///
    /// Called by the VFS for a live superblock.
    unsafe extern "C" fn sync_fs(sb: *mut kb::super_block, wait: c_int) -> c_int {
        // SAFETY: As the caller says.
        from_result(|| T::sync(unsafe { Self::volume(sb) }, wait != 0).map(|()| 0))
    }

    /// # Safety
    ///
    /// Called by the VFS once, after the last inode is gone.
    unsafe extern "C" fn put_super(sb: *mut kb::super_block) {
        // SAFETY: Still there, and nobody else uses it.
        T::unmount(unsafe { Self::volume(sb) });
        // The devices must be free before the superblock counts as dead: who mounts the volume again waits for just that.
        // SAFETY: No inode and no mount is left to use the volume.
        unsafe { Mounted::<T>::clear((*sb).s_fs_info) };
    }

    /// # Safety
    ///
    /// Called by the VFS once, with the superblock's lock held.
    pub(crate) unsafe extern "C" fn kill_sb(sb: *mut kb::super_block) {
        // SAFETY: Ours alone; every superblock of this type has a `Mounted<T>` from sget_fc on.
        unsafe {
            if (*sb).s_root.is_null() {
                // It never came to life: the VFS will not call `put_super`.
                Mounted::<T>::clear((*sb).s_fs_info);
            }
            kb::kill_anon_super(sb);
            // From here on nobody compares keys with it.
            Mounted::<T>::release((*sb).s_fs_info);
        }
    }

    /// # Safety
    ///
    /// Called by the VFS for a live superblock, with its lock held shared.
    unsafe extern "C" fn remove_bdev(
        sb: *mut kb::super_block,
        bdev: *mut kb::block_device,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As above; `bdev` is valid for the call.
            unsafe { T::device_gone(Self::volume(sb), DeviceNumber::of(bdev))? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS for a live superblock, with its lock held shared.
    unsafe extern "C" fn shutdown(sb: *mut kb::super_block) {
        // SAFETY: As above.
        T::shut_down(unsafe { Self::volume(sb) });
    }
}
