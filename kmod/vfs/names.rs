// SPDX-License-Identifier: GPL-2.0

//! Names: looking up, listing, making, linking, removing, renaming. The VFS holds the locks of the directories and files that an
//! operation names; what a file system answers here has happened, or it has not.

use crate::{
    attributes::{
        get_attributes,
        set_attributes, //
    },
    bindings,
    data::FileData,
    file::{
        ioctl,
        sync, //
    },
    file_system::FileSystem,
    inode::{
        Inode,
        InodeRef,
        Kind,
        Rdev,
        Time,
        Unborn, //
    },
    xattr::{
        list,
        Attribute,
        ExtendedAttributes, //
    },
    xattr_acl::{
        get_acl,
        set_acl,
        Inherited, //
    },
    xattr_new::Beginning,
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

/// A file that is to be made.
#[derive(Clone, Copy)]
pub struct New<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// Permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When.
    pub now: Time,
    /// The extended attributes that it begins with.
    pub attributes: &'a [Attribute<'a>],
}

/// A file that was made.
#[derive(Clone, Copy)]
pub struct Made {
    /// Its number.
    pub number: u64,
    /// Tells it from files that had its number before.
    pub generation: u32,
}

/// What is to become of a file that has the new name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// It is replaced.
    Replace,
    /// There must be none.
    NoReplace,
    /// The two change places.
    Exchange,
    /// It is replaced, and the old name hides what a lower layer may have there.
    Whiteout,
    /// There must be none, and the old name hides what a lower layer may have there.
    WhiteoutNoReplace,
}

impl RenameMode {
    fn of(flags: c_uint) -> Result<Self> {
        match flags {
            0 => Ok(RenameMode::Replace),
            kb::RENAME_NOREPLACE => Ok(RenameMode::NoReplace),
            kb::RENAME_EXCHANGE => Ok(RenameMode::Exchange),
            kb::RENAME_WHITEOUT => Ok(RenameMode::Whiteout),
            f if f == kb::RENAME_WHITEOUT | kb::RENAME_NOREPLACE => {
                Ok(RenameMode::WhiteoutNoReplace)
            }
            _ => Err(EINVAL),
        }
    }
}

/// A name in a directory.
pub struct Place<'a, T> {
    /// The directory.
    pub directory: &'a Inode<T>,
    /// The name.
    pub name: &'a [u8],
}

impl<T> Clone for Place<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<'_, T> {}

/// A rename.
pub struct Renaming<'a, T> {
    /// What is renamed.
    pub moved: &'a Inode<T>,
    /// What has the new name.
    pub target: Option<&'a Inode<T>>,
    /// The old name.
    pub from: Place<'a, T>,
    /// The new name.
    pub to: Place<'a, T>,
    /// What becomes of what has the new name.
    pub mode: RenameMode,
    /// When.
    pub now: Time,
}

/// Names of files, as a file system keeps them.
pub trait Names: ExtendedAttributes {
    /// The inode of that name in a directory, if there is one.
    fn look_up<'a>(directory: &'a Inode<Self>, name: &[u8]) -> Result<Option<InodeRef<'a, Self>>>;

    /// Lists what is in a directory beside `.` and `..`.
    fn list(directory: &Inode<Self>, emitter: &mut Emitter<'_>) -> Result;

    /// Makes a file with a name that is not taken.
    fn make(directory: &Inode<Self>, name: &[u8], new: &New<'_>) -> Result<Made>;

    /// Makes a file without a name. When its inode goes and it still has none, it is forgotten.
    fn make_unnamed(directory: &Inode<Self>, new: &New<'_>) -> Result<Made>;

    /// Gives a file one more name.
    fn link(file: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result;

    /// Takes a name from a file that is no directory.
    fn unlink(file: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result;

    /// Removes an empty directory.
    fn remove_directory(directory: &Inode<Self>, place: Place<'_, Self>, now: Time) -> Result;

    /// Renames.
    fn rename(what: &Renaming<'_, Self>) -> Result;
}

/// Takes the entries of a directory that is listed.
pub struct Emitter<'a> {
    /// Invariant: valid and ours for `'a`.
    context: *mut kb::dir_context,
    _context: PhantomData<&'a mut ()>,
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

    /// Gives the reader an entry; false when it has no room for it. Of the kind only the type counts.
    #[must_use]
    pub fn emit(&mut self, name: &[u8], inode: u64, kind: Kind<'_>) -> bool {
        let Ok(len) = c_int::try_from(name.len()) else {
            return false;
        };
        let kind = match kind {
            Kind::Regular => kb::DT_REG,
            Kind::Directory => kb::DT_DIR,
            Kind::Symlink(_) => kb::DT_LNK,
            Kind::CharDevice(_) => kb::DT_CHR,
            Kind::BlockDevice(_) => kb::DT_BLK,
            Kind::Fifo => kb::DT_FIFO,
            Kind::Socket => kb::DT_SOCK,
        };
        // SAFETY: By the type's invariant; the name is `len` bytes long.
        unsafe { bindings::embr_dir_emit(self.context, name.as_ptr(), len, inode, kind) }
    }
}

/// A dentry's name.
///
/// # Safety
///
/// The dentry is valid for `'a`, and its name does not change: its directory is locked.
unsafe fn name_of<'a>(dentry: *mut kb::dentry) -> &'a [u8] {
    let mut len = 0usize;
    // SAFETY: As the caller says.
    unsafe {
        let start = bindings::embr_dentry_name(dentry, &mut len);
        slice::from_raw_parts(start, len)
    }
}

/// # Safety
///
/// Both are valid for `'a` and the directory is locked; it is one of `T`.
unsafe fn place<'a, T: FileSystem>(dir: *mut kb::inode, dentry: *mut kb::dentry) -> Place<'a, T> {
    // SAFETY: As the caller says.
    unsafe {
        Place {
            directory: Inode::from_raw(dir),
            name: name_of(dentry),
        }
    }
}

pub(crate) struct DirectoryTable<T>(PhantomData<T>);

impl<T: Names + FileData> DirectoryTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        lookup: Some(Self::lookup),
        create: Some(Self::create),
        link: Some(Self::link),
        unlink: Some(Self::unlink),
        symlink: Some(Self::symlink),
        mkdir: Some(Self::mkdir),
        rmdir: Some(Self::rmdir),
        mknod: Some(Self::mknod),
        rename: Some(Self::rename),
        tmpfile: Some(Self::tmpfile),
        getattr: Some(get_attributes::<T>),
        setattr: Some(set_attributes::<T>),
        listxattr: Some(list::<T>),
        get_inode_acl: Some(get_acl::<T>),
        set_acl: Some(set_acl::<T>),
        ..pin_init::zeroed()
    };

    const FILE_OPERATIONS: kb::file_operations = kb::file_operations {
        llseek: Some(kb::generic_file_llseek),
        read: Some(kb::generic_read_dir),
        iterate_shared: Some(Self::iterate_shared),
        unlocked_ioctl: Some(ioctl::<T>),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: kb::compat_ptr_ioctl,
        fsync: Some(sync::<T>),
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
        // SAFETY: A dentry's name does not change while its directory is locked.
        let place = unsafe { place::<T>(dir, dentry) };
        if place.name.len() > kb::NAME_MAX as usize {
            return ENAMETOOLONG.to_ptr();
        }
        match T::look_up(place.directory, place.name) {
            Ok(found) => {
                let inode = found.map_or(ptr::null_mut(), InodeRef::into_raw);
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

    /// Makes a file and gives it to the dentry.
    ///
    /// # Safety
    ///
    /// As for [`Self::create`].
    #[inline(never)]
    unsafe fn make(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        mode: kb::umode_t,
        kind: Kind<'_>,
    ) -> Result {
        let mut mode = mode & 0o7777 | kind.mode() as kb::umode_t;
        // SAFETY: As the caller says; the inode is new.
        let (place, unborn, acls, beginning) = unsafe {
            let acls = Inherited::from(dir, &mut mode)?;
            let place = place::<T>(dir, dentry);
            let unborn = Unborn::new(place.directory, idmap, mode)?;
            let beginning = Beginning::gather(unborn.as_ptr(), dir, dentry, &acls)?;
            (place, unborn, acls, beginning)
        };
        let attributes = beginning.all()?;
        let now = place.directory.changes_now();
        unborn.shape(kind, now)?;
        let (permissions, uid, gid) = unborn.owner();
        let new = New {
            kind,
            permissions,
            uid,
            gid,
            now,
            attributes: &attributes,
        };
        let made = T::make(place.directory, place.name, &new)?;
        place.directory.set_modified(now);
        let (links, size) = match kind {
            Kind::Directory => (2, 0),
            Kind::Symlink(target) => (1, target.len() as i64),
            _ => (1, 0),
        };
        if kind == Kind::Directory {
            // SAFETY: The directory is locked.
            unsafe { kb::inc_nlink(dir) };
        }
        let inode = unborn.number(made.number, made.generation, links, size)?;
        // SAFETY: The inode is locked and new, the dentry has none.
        unsafe {
            acls.cache(inode);
            kb::d_instantiate_new(dentry, inode);
        }
        Ok(())
    }

    /// # Safety
    ///
    /// Called by the VFS with the directory locked, for a dentry without an inode.
    unsafe extern "C" fn create(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        mode: kb::umode_t,
    ) -> c_int {
        // SAFETY: As the caller says.
        from_result(|| unsafe { Self::make(idmap, dir, dentry, mode, Kind::Regular) }.map(|()| 0))
    }

    /// # Safety
    ///
    /// As for [`Self::create`]. The target is a terminated string.
    unsafe extern "C" fn symlink(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        target: *const c_char,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says.
            unsafe {
                let target = CStr::from_char_ptr(target).to_bytes();
                Self::make(idmap, dir, dentry, 0o777, Kind::Symlink(target))?;
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// As for [`Self::create`].
    unsafe extern "C" fn mkdir(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        mode: kb::umode_t,
    ) -> *mut kb::dentry {
        let mode = mode | kb::S_IFDIR as u16;
        // SAFETY: As the caller says.
        match unsafe { Self::make(idmap, dir, dentry, mode, Kind::Directory) } {
            Ok(()) => ptr::null_mut(),
            Err(error) => error.to_ptr(),
        }
    }

    /// # Safety
    ///
    /// As for [`Self::create`].
    unsafe extern "C" fn mknod(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
        mode: kb::umode_t,
        device: kb::dev_t,
    ) -> c_int {
        from_result(|| {
            let rdev = Rdev {
                major: device >> 20,
                minor: device & 0xf_ffff,
            };
            let kind = match u32::from(mode) & kb::S_IFMT {
                kb::S_IFREG => Kind::Regular,
                kb::S_IFCHR => Kind::CharDevice(rdev),
                kb::S_IFBLK => Kind::BlockDevice(rdev),
                kb::S_IFIFO => Kind::Fifo,
                kb::S_IFSOCK => Kind::Socket,
                _ => return Err(EINVAL),
            };
            // SAFETY: As the caller says.
            unsafe { Self::make(idmap, dir, dentry, mode, kind)? };
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS for a file that is being opened.
    unsafe extern "C" fn tmpfile(
        idmap: *mut kb::mnt_idmap,
        dir: *mut kb::inode,
        file: *mut kb::file,
        mode: kb::umode_t,
    ) -> c_int {
        from_result(|| {
            let mut mode = mode;
            // SAFETY: The VFS holds a reference to the directory; the inode is new.
            let (directory, unborn, acls, beginning) = unsafe {
                let acls = Inherited::from(dir, &mut mode)?;
                let directory = Inode::<T>::from_raw(dir);
                let unborn = Unborn::new(directory, idmap, mode)?;
                let dentry = bindings::embr_file_dentry(file);
                let beginning = Beginning::gather(unborn.as_ptr(), dir, dentry, &acls)?;
                (directory, unborn, acls, beginning)
            };
            let attributes = beginning.all()?;
            let now = unborn.now();
            unborn.shape(Kind::Regular, now)?;
            let (permissions, uid, gid) = unborn.owner();
            let new = New {
                kind: Kind::Regular,
                permissions,
                uid,
                gid,
                now,
                attributes: &attributes,
            };
            let made = T::make_unnamed(directory, &new)?;
            // The VFS takes the one link away again.
            let inode = unborn.number(made.number, made.generation, 1, 0)?;
            // SAFETY: The inode is new and locked, the file is being opened.
            unsafe {
                acls.cache(inode);
                kb::d_tmpfile(file, inode);
                kb::unlock_new_inode(inode);
                Ok(bindings::embr_finish_open(file))
            }
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with directory and file locked, for a new dentry without an inode.
    unsafe extern "C" fn link(
        old: *mut kb::dentry,
        dir: *mut kb::inode,
        dentry: *mut kb::dentry,
    ) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says; the old dentry has an inode.
            unsafe {
                let raw = (*old).d_inode;
                let place = place::<T>(dir, dentry);
                let file = Inode::<T>::from_raw(raw);
                let now = file.changes_now();
                T::link(file, place, now)?;
                place.directory.changes_at(now);
                kb::inc_nlink(raw);
                kb::ihold(raw);
                kb::d_instantiate(dentry, raw);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with directory and file locked.
    unsafe extern "C" fn unlink(dir: *mut kb::inode, dentry: *mut kb::dentry) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says; the dentry has an inode.
            unsafe {
                let raw = (*dentry).d_inode;
                let place = place::<T>(dir, dentry);
                let file = Inode::<T>::from_raw(raw);
                let now = place.directory.changes_now();
                T::unlink(file, place, now)?;
                place.directory.changes_at(now);
                file.set_changed(now);
                kb::drop_nlink(raw);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with both directories locked.
    unsafe extern "C" fn rmdir(dir: *mut kb::inode, dentry: *mut kb::dentry) -> c_int {
        from_result(|| {
            // SAFETY: As the caller says; the dentry has an inode.
            unsafe {
                let raw = (*dentry).d_inode;
                let place = place::<T>(dir, dentry);
                let directory = Inode::<T>::from_raw(raw);
                let now = place.directory.changes_now();
                T::remove_directory(directory, place, now)?;
                place.directory.changes_at(now);
                directory.set_changed(now);
                kb::clear_nlink(raw);
                kb::drop_nlink(dir);
            }
            Ok(0)
        })
    }

    /// # Safety
    ///
    /// Called by the VFS with all directories and files locked.
    unsafe extern "C" fn rename(
        _idmap: *mut kb::mnt_idmap,
        from_dir: *mut kb::inode,
        from: *mut kb::dentry,
        to_dir: *mut kb::inode,
        to: *mut kb::dentry,
        flags: c_uint,
    ) -> c_int {
        from_result(|| {
            let mode = RenameMode::of(flags)?;
            // SAFETY: As the caller says; the old dentry has an inode, the new one may have one.
            unsafe {
                let target = (*to).d_inode;
                let moved = Inode::<T>::from_raw((*from).d_inode);
                let renaming = Renaming {
                    moved,
                    target: (!target.is_null()).then(|| Inode::from_raw(target)),
                    from: place::<T>(from_dir, from),
                    to: place::<T>(to_dir, to),
                    mode,
                    now: moved.changes_now(),
                };
                T::rename(&renaming)?;
                Self::renamed(&renaming);
            }
            Ok(0)
        })
    }

    /// What a rename changes of the inodes in memory.
    fn renamed(what: &Renaming<'_, T>) {
        what.from.directory.changes_at(what.now);
        what.to.directory.changes_at(what.now);
        let across = what.from.directory.number() != what.to.directory.number();
        let moved_directory = what.moved.is_directory();
        let target_directory = what.target.is_some_and(Inode::is_directory);
        if let Some(target) = what.target {
            target.set_changed(what.now);
        }
        // How many directories each of both has less and more.
        let (less, more) = match (what.target, what.mode) {
            (Some(_), RenameMode::Exchange) if across => (
                i32::from(target_directory) - i32::from(moved_directory),
                i32::from(moved_directory) - i32::from(target_directory),
            ),
            (Some(_), RenameMode::Exchange) => (0, 0),
            (Some(target), _) => {
                if target_directory {
                    target.clear_links();
                } else {
                    target.drop_link();
                }
                let gone = i32::from(target_directory);
                let came = i32::from(moved_directory && across);
                (-came, came - gone)
            }
            (None, _) => {
                let came = i32::from(moved_directory && across);
                (-came, came)
            }
        };
        what.from.directory.add_links(less);
        what.to.directory.add_links(more);
    }
}

pub(crate) struct LinkTable<T>(PhantomData<T>);

impl<T: Names + FileData> LinkTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        get_link: Some(kb::simple_get_link),
        getattr: Some(get_attributes::<T>),
        setattr: Some(set_attributes::<T>),
        listxattr: Some(list::<T>),
        ..pin_init::zeroed()
    };

    pub(crate) const fn inode_operations() -> &'static kb::inode_operations {
        &Self::INODE_OPERATIONS
    }
}

pub(crate) struct SpecialTable<T>(PhantomData<T>);

impl<T: Names + FileData> SpecialTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        getattr: Some(get_attributes::<T>),
        setattr: Some(set_attributes::<T>),
        listxattr: Some(list::<T>),
        get_inode_acl: Some(get_acl::<T>),
        set_acl: Some(set_acl::<T>),
        ..pin_init::zeroed()
    };

    pub(crate) const fn inode_operations() -> &'static kb::inode_operations {
        &Self::INODE_OPERATIONS
    }
}
