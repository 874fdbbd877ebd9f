// SPDX-License-Identifier: GPL-2.0

//! Directories: looking a name up, listing.

use crate::{
    bindings,
    file::ioctl,
    file_system::FileSystem,
    inode::{
        Inode,
        InodeRef, //
    },
};
use core::{
    marker::PhantomData,
    slice, //
};
use kernel::{
    bindings as kb,
    error::from_result,
    prelude::*, //
};

/// Takes the entries of a directory that is listed.
pub struct Emitter<'a> {
    /// Invariant: valid and ours for `'a`.
    context: *mut kb::dir_context,
    _context: PhantomData<&'a mut ()>,
}

/// What an entry leads to.
#[derive(Clone, Copy)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A file.
    Regular,
}

impl Emitter<'_> {
    /// Where to go on: what [`Self::advance`] was last told, 2 (after `.` and `..`) at first.
    pub fn position(&self) -> i64 {
        // SAFETY: By the type's invariant.
        unsafe { (*self.context).pos }
    }

    /// Notes where to go on when the reader comes back.
    pub fn advance(&mut self, position: i64) {
        // SAFETY: By the type's invariant.
        unsafe { (*self.context).pos = position };
    }

    /// Gives the reader an entry; false when it has no room for it.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], inode: u64, kind: EntryKind) -> bool {
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        let kind = match kind {
            EntryKind::Directory => kb::DT_DIR,
            EntryKind::Regular => kb::DT_REG,
        };
        // SAFETY: By the type's invariant; the name is `len` bytes long.
        unsafe { bindings::embr_dir_emit(self.context, name.as_ptr(), len, inode, kind) }
    }
}

pub(crate) struct DirectoryTable<T>(PhantomData<T>);

impl<T: FileSystem> DirectoryTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        lookup: Some(Self::lookup),
        getattr: Some(getattr::<T>),
        ..pin_init::zeroed()
    };

    const FILE_OPERATIONS: kb::file_operations = kb::file_operations {
        llseek: Some(kb::generic_file_llseek),
        read: Some(kb::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        unlocked_ioctl: Some(ioctl::<T>),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: kb::compat_ptr_ioctl,
        fsync: Some(kb::noop_fsync),
        setlease: Some(bindings::generic_setlease),
        ..pin_init::zeroed()
    };

    pub(crate) const fn inode_operations() -> &'static kb::inode_operations {
        &Self::INODE_OPERATIONS
    }

    pub(crate) const fn file_operations() -> &'static kb::file_operations {
        &Self::FILE_OPERATIONS
    }

    /// # Safety
    ///
    /// Called by the VFS with the directory locked, for a dentry without an inode.
    unsafe extern "C" fn lookup(
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        _flags: c_uint,
    ) -> *mut kb::dentry {
        let mut len = 0usize;
        // SAFETY: A dentry's name does not change while its directory is locked.
        let name = unsafe {
            let start = bindings::embr_dentry_name(dentry, &mut len);
            slice::from_raw_parts(start, len)
        };
        if len > kb::NAME_MAX as usize {
            return ENAMETOOLONG.to_ptr();
        }
        // SAFETY: The VFS holds a reference to the directory.
        match T::look_up(unsafe { Inode::from_raw(dir) }, name) {
            Ok(found) => {
                let inode = found.map_or(core::ptr::null_mut(), InodeRef::into_raw);
                // SAFETY: Takes over the reference to the inode; none makes a negative dentry.
                unsafe { kb::d_splice_alias(inode, dentry) }
            }
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// Called by the VFS with the directory locked at least shared.
    unsafe extern "C" fn iterate_shared(
        file: *mut kb::file,
        context: *mut kb::dir_context,
    ) -> c_int {
        from_result(|| {
            // SAFETY: An open file holds a reference to its inode.
            let directory = unsafe { Inode::<T>::from_raw((*file).f_inode) };
            T::may_get_attributes(directory)?;
            // SAFETY: Both are valid for the call.
            if !unsafe { bindings::embr_dir_emit_dots(file, context) } {
                return Ok(0);
            }
            let mut emitter = Emitter {
                context,
                _context: PhantomData,
            };
            T::list(directory, &mut emitter)?;
            Ok(0)
        })
    }
}

/// # Safety
///
/// Called by the VFS.
unsafe extern "C" fn getattr<T: FileSystem>(
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
        // SAFETY: All are valid for the call.
        unsafe { kb::generic_fillattr(idmap, request_mask, inode.as_ptr(), stat) };
        Ok(0)
    })
}
