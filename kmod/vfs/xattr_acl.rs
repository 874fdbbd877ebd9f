// SPDX-License-Identifier: GPL-2.0

//! Access lists of POSIX: kept as attributes, in the form in which programs see them; asked for by the VFS, set together with the
//! permissions that follow from them.

use crate::{
    attributes::put_back,
    bindings,
    file_system::FileSystem,
    inode::Inode,
    names::Names,
    xattr::{
        Attribute,
        Beside,
        ExtendedAttributes,
        Put,
        ACL_ACCESS,
        ACL_DEFAULT, //
    },
};
use core::{
    ptr,
    ptr::NonNull,
    slice, //
};
use kernel::{
    bindings as kb,
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    prelude::*, //
};

/// Bytes of a list, at most: with a default list, as long, and a label a file can still be made in one go.
const MAX_BYTES: usize = 32768;

/// Which of a file's two lists.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that says who may use the file.
    Access,
    /// The one that files made in a directory begin with.
    Default,
}

impl Which {
    fn of(kind: c_int) -> Result<Self> {
        match kind as u32 {
            bindings::ACL_TYPE_ACCESS => Ok(Which::Access),
            bindings::ACL_TYPE_DEFAULT => Ok(Which::Default),
            _ => Err(EINVAL),
        }
    }

    fn number(self) -> c_int {
        match self {
            Which::Access => bindings::ACL_TYPE_ACCESS as c_int,
            Which::Default => bindings::ACL_TYPE_DEFAULT as c_int,
        }
    }

    /// The name of its attribute.
    pub(crate) fn name(self) -> &'static [u8] {
        match self {
            Which::Access => ACL_ACCESS.to_bytes(),
            Which::Default => ACL_DEFAULT.to_bytes(),
        }
    }
}

/// A reference to an access list.
pub(crate) struct Acl {
    /// Invariant: valid, with a reference that is ours.
    raw: NonNull<kb::posix_acl>,
}

impl Acl {
    /// # Safety
    ///
    /// `raw` is null, or its reference is the caller's to give.
    unsafe fn from_raw(raw: *mut kb::posix_acl) -> Option<Self> {
        NonNull::new(raw).map(|raw| Acl { raw })
    }

    /// As it is kept.
    pub(crate) fn encode(&self) -> Result<Encoded> {
        // SAFETY: The list is valid.
        unsafe { Encoded::of(self.raw.as_ptr()) }
    }
}

impl Drop for Acl {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe { bindings::embr_acl_release(self.raw.as_ptr()) };
    }
}

/// The value of a list's attribute.
pub(crate) struct Encoded {
    /// Invariant: `size` bytes that are ours.
    raw: NonNull<c_void>,
    size: usize,
}

impl Encoded {
    /// # Safety
    ///
    /// The list is valid.
    unsafe fn of(acl: *const kb::posix_acl) -> Result<Self> {
        let mut size = 0;
        // SAFETY: As the caller says.
        let raw = unsafe { bindings::embr_acl_encode(acl, &mut size) };
        let encoded = Encoded {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            size,
        };
        if size > MAX_BYTES {
            return Err(E2BIG);
        }
        Ok(encoded)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: By the type's invariant.
        unsafe { slice::from_raw_parts(self.raw.as_ptr().cast(), self.size) }
    }
}

impl Drop for Encoded {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe { bindings::embr_acl_encoded_free(self.raw.as_ptr()) };
    }
}

/// The lists that a new file begins with.
pub(crate) struct Inherited {
    pub(crate) default: Option<Acl>,
    pub(crate) access: Option<Acl>,
}

impl Inherited {
    /// From its directory; the mode becomes what it is to be, by the lists or by the process's mask.
    ///
    /// # Safety
    ///
    /// The directory is valid and locked.
    pub(crate) unsafe fn from(dir: *mut kb::inode, mode: &mut kb::umode_t) -> Result<Self> {
        let (mut default, mut access) = (ptr::null_mut(), ptr::null_mut());
        // SAFETY: As the caller says. The references are ours where it succeeds.
        unsafe {
            to_result(bindings::embr_acl_create(
                dir,
                mode,
                &mut default,
                &mut access,
            ))?;
            Ok(Inherited {
                default: Acl::from_raw(default),
                access: Acl::from_raw(access),
            })
        }
    }

    /// The inode knows that these are its lists, and that it has no others.
    ///
    /// # Safety
    ///
    /// The inode is valid, and new.
    pub(crate) unsafe fn cache(&self, inode: *mut kb::inode) {
        let both = [
            (Which::Default, &self.default),
            (Which::Access, &self.access),
        ];
        for (which, acl) in both {
            let raw = acl.as_ref().map_or(ptr::null_mut(), |a| a.raw.as_ptr());
            // SAFETY: As the caller says; takes a reference of its own.
            unsafe { bindings::embr_acl_cache(inode, which.number(), raw) };
        }
    }
}

/// # Safety
///
/// Called by the VFS, in any context where `rcu` says that it must not wait.
pub(crate) unsafe extern "C" fn get_acl<T: ExtendedAttributes>(
    inode: *mut kb::inode,
    kind: c_int,
    rcu: bool,
) -> *mut kb::posix_acl {
    if rcu {
        // The caller comes again, and may wait then.
        return Error::from_errno(-(kb::ECHILD as c_int)).to_ptr();
    }
    // SAFETY: The inode is in use.
    let inode = unsafe { Inode::<T>::from_raw(inode) };
    let found = Which::of(kind).and_then(|which| {
        T::read_attribute(inode, which.name(), |value| {
            // SAFETY: The value is valid for the call.
            from_err_ptr(unsafe { bindings::embr_acl_parse(value.as_ptr().cast(), value.len()) })
                // What was set was sound.
                .map_err(|error| if error == ENOMEM { error } else { EUCLEAN })
        })
    });
    match found {
        Ok(acl) => acl,
        Err(error) if error == ENODATA => ptr::null_mut(),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// Called by the VFS with the inode locked; no list means that it goes.
pub(crate) unsafe extern "C" fn set_acl<T: Names>(
    idmap: *mut kb::mnt_idmap,
    dentry: *mut kb::dentry,
    acl: *mut kb::posix_acl,
    kind: c_int,
) -> c_int {
    from_result(|| {
        let which = Which::of(kind)?;
        // SAFETY: The dentry has an inode.
        let inode = unsafe { Inode::<T>::from_raw((*dentry).d_inode) };
        if which == Which::Default && !inode.is_directory() {
            return if acl.is_null() { Ok(0) } else { Err(EACCES) };
        }
        let (mut acl, mut mode) = (acl, None);
        if which == Which::Access && !acl.is_null() {
            let mut wanted = 0;
            // SAFETY: All are valid for the call. A list that says no more than a mode becomes none.
            to_result(unsafe {
                bindings::embr_acl_update_mode(idmap, inode.as_ptr(), &mut wanted, &mut acl)
            })?;
            mode = Some(wanted);
        }
        let value = match NonNull::new(acl) {
            // SAFETY: Valid for the call.
            Some(acl) => Some(unsafe { Encoded::of(acl.as_ptr())? }),
            None => None,
        };
        // SAFETY: The inode is locked.
        unsafe { keep(inode, which, value.as_ref(), mode)? };
        // SAFETY: The inode is valid and locked; takes a reference of its own.
        unsafe { bindings::embr_acl_cache(inode.as_ptr(), kind, acl) };
        Ok(0)
    })
}

/// Keeps a list and the mode that goes with it.
///
/// # Safety
///
/// The inode is locked.
#[inline(never)]
unsafe fn keep<T: Names>(
    inode: &Inode<T>,
    which: Which,
    value: Option<&Encoded>,
    mode: Option<kb::umode_t>,
) -> Result {
    let before = inode.attributes();
    let beside = Beside {
        permissions: mode.map(|mode| mode & 0o7777),
        now: inode.changes_now(),
    };
    if let Some(mode) = mode {
        // SAFETY: The inode is locked.
        unsafe { (*inode.as_ptr()).i_mode = mode };
    }
    let name = which.name();
    let done = match value {
        Some(value) => {
            let value = value.bytes();
            T::set_attribute(inode, Attribute { name, value }, Put::Any, beside)
        }
        None => match T::remove_attribute(inode, name, beside) {
            // There was none: only the mode may be another.
            Err(error) if error == ENODATA => T::write_attributes(inode),
            done => done,
        },
    };
    if done.is_err() {
        // SAFETY: The inode is locked.
        unsafe { put_back(inode, &before) };
    }
    done
}

/// After a change of a file's mode its list says the same.
///
/// # Safety
///
/// All are valid, the inode is locked.
pub(crate) unsafe fn follow_mode<T: FileSystem>(
    idmap: *mut kb::mnt_idmap,
    dentry: *mut kb::dentry,
    inode: &Inode<T>,
) -> Result {
    // SAFETY: As the caller says.
    to_result(unsafe { bindings::embr_acl_chmod(idmap, dentry, (*inode.as_ptr()).i_mode) })
}
