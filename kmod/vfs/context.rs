// SPDX-License-Identifier: GPL-2.0

//! The file-system context: from mount options to a superblock.

use crate::{
    bindings,
    file_system::FileSystem,
    log::Log,
    params::{
        Kind,
        Value, //
    },
    superblock::{
        Live,
        Mounted,
        New,
        SuperBlock, //
    },
};
use core::{
    marker::PhantomData,
    mem::MaybeUninit, //
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

/// The parser's "no such option".
const NO_PARAMETER: c_int = -(kb::ENOPARAM as c_int);

pub(crate) struct ContextTable<T>(PhantomData<T>);

impl<T: FileSystem> ContextTable<T> {
    const OPERATIONS: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    const fn operations() -> &'static bindings::fs_context_operations {
        &Self::OPERATIONS
    }

    /// # Safety
    ///
    /// Called by the VFS with a context that is being made.
    pub(crate) unsafe extern "C" fn init_fs_context(fc: *mut kb::fs_context) -> c_int {
        // The `kernel` crate knows the structure by name only.
        let fc: *mut bindings::fs_context = fc.cast();
        from_result(|| {
            let options = KBox::new(T::new_options()?, GFP_KERNEL)?;
            // SAFETY: `fc` is ours during this call. What is put here is what the other functions of the table expect.
            unsafe {
                (*fc).fs_private = KBox::into_raw(options).cast();
                (*fc).ops = Self::operations();
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS for a context that `init_fs_context` prepared.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: `init_fs_context` put a box there; this is the last use of it.
        drop(unsafe { KBox::from_raw((*fc).fs_private.cast::<T::Options>()) });
        // SAFETY: Null, or what `get_tree` put there and no superblock took.
        unsafe { Mounted::<T>::release((*fc).s_fs_info) };
    }

    /// # Safety
    ///
    /// `fc` was prepared by `init_fs_context` and is not used by others for `'a`.
    unsafe fn options<'a>(fc: *mut bindings::fs_context) -> &'a mut T::Options {
        // SAFETY: As the caller says; the VFS holds the context's lock round each operation.
        unsafe { &mut *(*fc).fs_private.cast::<T::Options>() }
    }

    /// # Safety
    ///
    /// `fc` is valid and its source stays as it is for `'a`.
    unsafe fn source<'a>(fc: *mut bindings::fs_context) -> Option<&'a CStr> {
        // SAFETY: The source is null or a terminated string.
        unsafe {
            let source = (*fc).source;
            (!source.is_null()).then(|| CStr::from_char_ptr(source))
        }
    }

    /// # Safety
    ///
    /// Called by the VFS for a context that `init_fs_context` prepared.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        let table = T::parameters();
        // Room for numbers, which no option here has.
        let mut result = MaybeUninit::uninit();
        // SAFETY: All pointers are valid for the call.
        let number = unsafe {
            bindings::__fs_parse(
                &raw mut (*fc).log,
                table.as_ptr(),
                param,
                result.as_mut_ptr(),
            )
        };
        // SAFETY: `fc` is valid and ours during the call.
        let log = unsafe { Log::from_raw(fc) };
        if number == NO_PARAMETER {
            // SAFETY: A parameter has a terminated name.
            let key = unsafe { CStr::from_char_ptr((*param).key) };
            if key == c"source" {
                // The VFS takes it from here.
                return number;
            }
            log.error(format_args!("unknown mount option '{}'", Text(key)));
            return EINVAL.to_errno();
        }
        from_result(|| {
            let Some((id, kind)) = usize::try_from(number).ok().and_then(|n| table.get(n)) else {
                // SAFETY: A parameter has a terminated name.
                let key = unsafe { CStr::from_char_ptr((*param).key) };
                log.error(format_args!(
                    "mount option '{}' has a value that it cannot have",
                    Text(key)
                ));
                return Err(Error::from_errno(number));
            };
            let value = match kind {
                Kind::Flag => Value::Flag,
                Kind::Text => {
                    // SAFETY: The parser found a string in it, terminated and not null.
                    Value::Text(unsafe { CStr::from_char_ptr(bindings::embr_param_string(param)) })
                }
            };
            // SAFETY: The VFS holds the context's lock.
            T::parse(unsafe { Self::options(fc) }, id, value, &log)?;
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS under its lock of superblocks: `sb` has a `Mounted<T>` until it is dead, and `fc` has one during
    /// sget_fc.
    unsafe extern "C" fn test(sb: *mut kb::super_block, fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: As above; the key never changes.
        unsafe {
            c_int::from(Mounted::<T>::key((*sb).s_fs_info) == Mounted::<T>::key((*fc).s_fs_info))
        }
    }

    /// # Safety
    ///
    /// Called by the VFS for a context that `init_fs_context` prepared.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: `fc` is ours during the call, under the context's lock.
            let (options, source, log) =
                unsafe { (Self::options(fc), Self::source(fc), Log::from_raw(fc)) };
            let key = T::identify(options, source, &log)?;
            let mounted = Mounted::<T>::allocate(key)?;
            // SAFETY: Null, or left over from an earlier attempt.
            unsafe { Mounted::<T>::release((*fc).s_fs_info) };
            // SAFETY: `fc` is ours. sget_fc takes this over for a new superblock; `free` releases it otherwise.
            unsafe {
                (*fc).s_fs_info = mounted;
                let flags = bindings::EMBR_CONST_SB_NOSEC | bindings::EMBR_CONST_SB_POSIXACL;
                (*fc).sb_flags |= flags as u32;
            }
            // SAFETY: `test` and the anonymous `set` are what sget_fc asks for. No locks are held.
            let sb = from_err_ptr(unsafe {
                bindings::sget_fc(fc, Some(Self::test), Some(bindings::set_anon_super_fc))
            })?;
            // SAFETY: sget_fc gave us the superblock with its lock held, and a reference.
            unsafe {
                let done = if (*sb).s_root.is_null() {
                    T::fill(
                        SuperBlock::<'_, T, New>::from_raw(sb),
                        options,
                        source,
                        &log,
                    )
                    .map(|live| live.activate())
                } else if (*fc).sb_flags as usize & !(*sb).s_flags & bindings::EMBR_CONST_SB_RDONLY
                    != 0
                {
                    log.error(format_args!(
                        "the volume is mounted already, for writing: it cannot be mounted read-only beside that; a bind mount can"
                    ));
                    Err(EBUSY)
                } else {
                    T::share(
                        SuperBlock::<'_, T, Live>::from_raw(sb).volume(),
                        options,
                        source,
                        &log,
                    )
                };
                if let Err(error) = done {
                    kb::deactivate_locked_super(sb);
                    return Err(error);
                }
                (*fc).root = bindings::embr_dget((*sb).s_root);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS for a live superblock with its lock held.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        from_result(|| {
            // SAFETY: `fc` is ours during the call and has the superblock's root.
            unsafe {
                let read_only = bindings::EMBR_CONST_SB_RDONLY;
                // What the caller says nothing of stays as it is.
                let flags = if (*fc).sb_flags_mask as usize & read_only != 0 {
                    (*fc).sb_flags as usize
                } else {
                    (*(*(*fc).root).d_sb).s_flags
                };
                let read_only = flags & read_only != 0;
                let raw = (*(*fc).root).d_sb;
                if read_only && (*raw).s_flags & bindings::EMBR_CONST_SB_RDONLY == 0 {
                    // Nobody can write any more, and of what is dirty afterwards nothing would ever be written.
                    to_result(bindings::sync_filesystem(raw))?;
                }
                let sb = SuperBlock::<'_, T, Live>::from_raw(raw);
                T::reconfigure(
                    sb.volume(),
                    Self::options(fc),
                    read_only,
                    &Log::from_raw(fc),
                )?;
            }
            Ok(0)
        })
    }
}

/// Text of a user, made fit for a log.
struct Text<'a>(&'a CStr);

impl core::fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for b in self.0.to_bytes().iter().take(64) {
            core::fmt::Display::fmt(&b.escape_ascii(), f)?;
        }
        Ok(())
    }
}
