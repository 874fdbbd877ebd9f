// SPDX-License-Identifier: GPL-2.0

//! Extended attributes: the namespaces that files have, reading, setting, removing and listing them. Who may do what is the VFS's
//! business; names are whole here, with their namespace.

use crate::{
    bindings,
    cred,
    file_system::FileSystem,
    inode::{
        Inode,
        Time, //
    }, //
};
use core::{
    marker::PhantomData,
    ptr,
    slice, //
};
use kernel::{
    bindings as kb,
    error::from_result,
    prelude::*, //
};

/// Whether an attribute may be there already when it is set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Either way.
    Any,
    /// It must not: EEXIST.
    Create,
    /// It must: ENODATA.
    Replace,
}

/// An attribute and its value.
#[derive(Clone, Copy)]
pub struct Attribute<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// What else changes of an inode with an attribute.
#[derive(Clone, Copy)]
pub struct Beside {
    /// Permission bits.
    pub permissions: Option<u16>,
    /// When.
    pub now: Time,
}

/// Extended attributes of files, as a file system keeps them. One that is not there is ENODATA.
pub trait ExtendedAttributes: FileSystem {
    /// What `read` makes of an attribute's value. Called with or without the inode locked.
    fn read_attribute<R>(
        inode: &Inode<Self>,
        name: &[u8],
        read: impl FnOnce(&[u8]) -> Result<R>,
    ) -> Result<R>;

    /// How many bytes an attribute's value has.
    fn attribute_size(inode: &Inode<Self>, name: &[u8]) -> Result<usize>;

    /// Calls `each` with the names of all attributes.
    fn list_attributes(inode: &Inode<Self>, each: &mut dyn FnMut(&[u8]) -> Result) -> Result;

    /// Gives a file an attribute, all at once. The inode is locked.
    fn set_attribute(inode: &Inode<Self>, new: Attribute<'_>, put: Put, beside: Beside) -> Result;

    /// Takes an attribute from a file, all at once. The inode is locked.
    fn remove_attribute(inode: &Inode<Self>, name: &[u8], beside: Beside) -> Result;
}

/// Access lists of POSIX, kept as attributes of these names.
pub(crate) const ACL_ACCESS: &CStr = c"system.posix_acl_access";
pub(crate) const ACL_DEFAULT: &CStr = c"system.posix_acl_default";
/// For who administers the system.
const TRUSTED: &CStr = c"trusted.";
const NAMESPACES: [&CStr; 3] = [c"user.", TRUSTED, c"security."];

/// Whether whoever asks is told of an attribute with this name.
fn is_listed(name: &[u8]) -> bool {
    if name.starts_with(TRUSTED.to_bytes()) {
        return cred::may_administer();
    }
    name == ACL_ACCESS.to_bytes()
        || name == ACL_DEFAULT.to_bytes()
        || NAMESPACES.iter().any(|n| name.starts_with(n.to_bytes()))
}

/// A null-terminated list of handlers for the VFS, which never changes.
#[repr(transparent)]
pub(crate) struct Handlers([*const kb::xattr_handler; NAMESPACES.len() + 1]);

// SAFETY: Only read.
unsafe impl Sync for Handlers {}

pub(crate) struct AttributeTable<T>(PhantomData<T>);

impl<T: ExtendedAttributes> AttributeTable<T> {
    const fn handler(prefix: &'static CStr) -> kb::xattr_handler {
        kb::xattr_handler {
            name: ptr::null(),
            prefix: prefix.to_bytes_with_nul().as_ptr(),
            flags: 0,
            list: None,
            get: Some(Self::get),
            set: Some(Self::set),
        }
    }

    const USER: &'static kb::xattr_handler = &Self::handler(NAMESPACES[0]);
    const TRUSTED: &'static kb::xattr_handler = &Self::handler(NAMESPACES[1]);
    const SECURITY: &'static kb::xattr_handler = &Self::handler(NAMESPACES[2]);
    const HANDLERS: &'static Handlers =
        &Handlers([Self::USER, Self::TRUSTED, Self::SECURITY, ptr::null()]);

    /// For the superblock.
    pub(crate) fn table() -> *const *const kb::xattr_handler {
        Self::HANDLERS.0.as_ptr()
    }

    /// The whole name of an attribute.
    ///
    /// # Safety
    ///
    /// As the VFS calls a handler: the name lies behind its namespace, and is valid for `'a`.
    unsafe fn name<'a>(handler: *const kb::xattr_handler, name: *const c_char) -> &'a [u8] {
        // SAFETY: As the caller says.
        unsafe { CStr::from_char_ptr(bindings::embr_xattr_full_name(handler, name)).to_bytes() }
    }

    /// # Safety
    ///
    /// Called by the VFS; `buffer` has `size` bytes.
    unsafe extern "C" fn get(
        handler: *const kb::xattr_handler,
        _dentry: *mut kb::dentry,
        inode: *mut kb::inode,
        name: *const c_char,
        buffer: *mut c_void,
        size: usize,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says.
            let (inode, name) = unsafe { (Inode::<T>::from_raw(inode), Self::name(handler, name)) };
            if size == 0 || buffer.is_null() {
                return Ok(T::attribute_size(inode, name)? as c_int);
            }
            T::read_attribute(inode, name, |value| {
                if value.len() > size {
                    return Err(ERANGE);
                }
                // SAFETY: There is room for it; a buffer of the VFS, so not the value.
                unsafe { ptr::copy_nonoverlapping(value.as_ptr(), buffer.cast(), value.len()) };
                Ok(value.len() as c_int)
            })
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with the inode locked; no value means that the attribute goes, else it has `size` bytes.
    unsafe extern "C" fn set(
        handler: *const kb::xattr_handler,
        _idmap: *mut kb::mnt_idmap,
        _dentry: *mut kb::dentry,
        inode: *mut kb::inode,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says.
            let (inode, name) = unsafe { (Inode::<T>::from_raw(inode), Self::name(handler, name)) };
            let before = inode.attributes().changed;
            let beside = Beside {
                permissions: None,
                now: inode.changes_now(),
            };
            let done = if value.is_null() {
                T::remove_attribute(inode, name, beside)
            } else {
                let value = match size {
                    0 => &[],
                    // SAFETY: As the caller says.
                    _ => unsafe { slice::from_raw_parts(value.cast(), size) },
                };
                let put = match flags as u32 {
                    kb::XATTR_CREATE => Put::Create,
                    kb::XATTR_REPLACE => Put::Replace,
                    _ => Put::Any,
                };
                T::set_attribute(inode, Attribute { name, value }, put, beside)
            };
            if done.is_err() {
                inode.set_changed(before);
            }
            done.map(|()| 0)
        })
    }
}

/// # Safety
///
/// Called by the VFS; `list` has `size` bytes, none where only their number is asked for.
pub(crate) unsafe extern "C" fn list<T: ExtendedAttributes>(
    dentry: *mut kb::dentry,
    list: *mut c_char,
    size: usize,
) -> isize {
    // SAFETY: The dentry has an inode.
    let inode = unsafe { Inode::<T>::from_raw((*dentry).d_inode) };
    let mut taken = 0usize;
    let done = T::list_attributes(inode, &mut |name| {
        if !is_listed(name) {
            return Ok(());
        }
        let end = taken + name.len() + 1;
        if size != 0 {
            if end > size {
                return Err(ERANGE);
            }
            // SAFETY: There is room for the name and a zero.
            unsafe {
                let to = list.cast::<u8>().add(taken);
                ptr::copy_nonoverlapping(name.as_ptr(), to, name.len());
                *to.add(name.len()) = 0;
            }
        }
        taken = end;
        Ok(())
    });
    match done {
        Ok(()) => taken as isize,
        Err(error) => error.to_errno() as isize,
    }
}
