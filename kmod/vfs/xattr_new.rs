// SPDX-License-Identifier: GPL-2.0

//! The attributes that a new file begins with: access lists from its directory, and what security modules give it. They are gathered
//! before the file is made, and are there from its first moment on.

use crate::{
    bindings,
    xattr::Attribute,
    xattr_acl::{
        Encoded,
        Inherited,
        Which, //
    },
};
use core::slice;
use kernel::{
    bindings as kb,
    error::{
        from_result,
        to_result, //
    },
    prelude::*, //
};

const SECURITY: &[u8] = b"security.";

/// A label of a security module.
struct Label {
    name: KVec<u8>,
    value: KVec<u8>,
}

/// The attributes of a file that is being made.
pub(crate) struct Beginning {
    labels: KVec<Label>,
    default: Option<Encoded>,
    access: Option<Encoded>,
}

impl Beginning {
    /// Of an inode that is to be a file of this name in a directory.
    ///
    /// # Safety
    ///
    /// The inode is new and has its mode; the directory and the dentry are valid, and locked where they are for making a file.
    #[inline(never)]
    pub(crate) unsafe fn gather(
        inode: *mut kb::inode,
        dir: *mut kb::inode,
        dentry: *const kb::dentry,
        acls: &Inherited,
    ) -> Result<Self> {
        let mut labels: KVec<Label> = KVec::new();
        let data = (&raw mut labels).cast();
        // SAFETY: As the caller says; the callback gets what we give.
        to_result(unsafe {
            bindings::embr_init_security(inode, dir, dentry, Some(collect), data)
        })?;
        Ok(Beginning {
            labels,
            default: acls.default.as_ref().map(|acl| acl.encode()).transpose()?,
            access: acls.access.as_ref().map(|acl| acl.encode()).transpose()?,
        })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Result<KVec<Attribute<'_>>> {
        let mut all = KVec::new();
        for label in self.labels.iter() {
            let attribute = Attribute {
                name: &label.name,
                value: &label.value,
            };
            all.push(attribute, GFP_KERNEL)?;
        }
        let lists = [
            (Which::Default, &self.default),
            (Which::Access, &self.access),
        ];
        for (which, encoded) in lists {
            if let Some(encoded) = encoded {
                let attribute = Attribute {
                    name: which.name(),
                    value: encoded.bytes(),
                };
                all.push(attribute, GFP_KERNEL)?;
            }
        }
        Ok(all)
    }
}

/// # Safety
///
/// Called by the security modules with a list that ends with an entry without a name, and with our list of labels.
unsafe extern "C" fn collect(
    _inode: *mut kb::inode,
    list: *const kb::xattr,
    data: *mut c_void,
) -> c_int {
    from_result(|| {
        // SAFETY: As the caller says.
        let labels = unsafe { &mut *data.cast::<KVec<Label>>() };
        let mut at = list;
        // SAFETY: As the caller says.
        while let Some(entry) = unsafe { at.as_ref() }.filter(|e| !e.name.is_null()) {
            // SAFETY: Names are terminated.
            let suffix = unsafe { CStr::from_char_ptr(entry.name) }.to_bytes();
            let mut name = KVec::with_capacity(SECURITY.len() + suffix.len(), GFP_KERNEL)?;
            name.extend_from_slice(SECURITY, GFP_KERNEL)?;
            name.extend_from_slice(suffix, GFP_KERNEL)?;
            let mut value = KVec::with_capacity(entry.value_len, GFP_KERNEL)?;
            if !entry.value.is_null() {
                // SAFETY: The value has so many bytes.
                let bytes =
                    unsafe { slice::from_raw_parts(entry.value.cast::<u8>(), entry.value_len) };
                value.extend_from_slice(bytes, GFP_KERNEL)?;
            }
            labels.push(Label { name, value }, GFP_KERNEL)?;
            // SAFETY: There is one more, if only the last.
            at = unsafe { at.add(1) };
        }
        Ok(0)
    })
}
