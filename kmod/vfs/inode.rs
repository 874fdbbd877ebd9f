// SPDX-License-Identifier: GPL-2.0

//! Inodes. One that the VFS has just made is locked and a [`NewInode`]: it is finished, or it fails, exactly once. One for a file
//! that is being made is [`Unborn`] until the file has its number.

use crate::{
    bindings,
    data::{
        FileData,
        FileTable, //
    },
    file_system::FileSystem,
    inode_cache::Node,
    names::{
        DirectoryTable,
        LinkTable,
        Names,
        SpecialTable, //
    },
    superblock::{
        Known,
        SuperBlock, //
    },
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    bindings as kb,
    prelude::*,
    types::Opaque, //
};

/// An inode of file system `T` that is in use.
#[repr(transparent)]
pub struct Inode<T> {
    raw: Opaque<kb::inode>,
    _file_system: PhantomData<T>,
}

// SAFETY: The kernel's inodes are shared by all threads; what is done through a shared reference here is made for that.
unsafe impl<T> Sync for Inode<T> {}

impl<T: FileSystem> Inode<T> {
    /// # Safety
    ///
    /// `raw` is an inode of `T`, finished and referenced for `'a`.
    pub(crate) unsafe fn from_raw<'a>(raw: *mut kb::inode) -> &'a Self {
        // SAFETY: As the caller says; the layouts are the same.
        unsafe { &*raw.cast() }
    }

    pub(crate) fn as_ptr(&self) -> *mut kb::inode {
        self.raw.get()
    }

    pub(crate) fn node(&self) -> &Node<T> {
        // SAFETY: Every inode of `T` was made by its table.
        unsafe { Node::of(self.as_ptr()) }
    }

    /// What the file system keeps with it.
    pub fn state(&self) -> &T::InodeState {
        &self.node().state
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        // SAFETY: Set before anyone could see the inode, and not changed since.
        unsafe { (*self.as_ptr()).i_ino }
    }

    fn kind_bits(&self) -> u32 {
        // SAFETY: The type of an inode does not change.
        u32::from(unsafe { (&raw const (*self.as_ptr()).i_mode).read_volatile() }) & kb::S_IFMT
    }

    /// Is it a directory?
    pub fn is_directory(&self) -> bool {
        self.kind_bits() == kb::S_IFDIR
    }

    /// Is it a file with bytes?
    pub fn is_regular(&self) -> bool {
        self.kind_bits() == kb::S_IFREG
    }

    /// How many names it has.
    pub fn links(&self) -> u32 {
        // SAFETY: One aligned word.
        unsafe { bindings::embr_inode_links(self.as_ptr()) }
    }

    /// Its attributes, as they are in memory now.
    pub fn attributes(&self) -> Attributes {
        let raw = self.as_ptr();
        let (mut accessed, mut changed, mut modified) = (
            pin_init::zeroed::<kb::timespec64>(),
            pin_init::zeroed::<kb::timespec64>(),
            pin_init::zeroed::<kb::timespec64>(),
        );
        // SAFETY: Single words of a valid inode, which the caller keeps from changing where it matters.
        unsafe {
            bindings::embr_inode_times(raw, &mut accessed, &mut changed, &mut modified);
            Attributes {
                permissions: (&raw const (*raw).i_mode).read_volatile() & 0o7777,
                uid: bindings::embr_inode_uid(raw),
                gid: bindings::embr_inode_gid(raw),
                links: bindings::embr_inode_links(raw),
                size: bindings::embr_inode_size(raw),
                accessed: Time::of(accessed),
                changed: Time::of(changed),
                modified: Time::of(modified),
            }
        }
    }

    /// The superblock that it belongs to. Inodes are there before the root is set, so that is not a live one.
    pub fn super_block(&self) -> SuperBlock<'_, T, Known> {
        // SAFETY: An inode keeps its superblock; that it can be seen means that the superblock has its volume.
        unsafe { SuperBlock::from_raw((*self.as_ptr()).i_sb) }
    }

    /// The volume that it belongs to.
    pub fn volume(&self) -> &T::Volume {
        self.super_block().volume()
    }

    /// Notes a change of contents or attributes that happens now, and says when that is.
    pub(crate) fn changes_now(&self) -> Time {
        // SAFETY: The inode is valid; its time has its own rules for who changes it when.
        Time::of(unsafe { kb::inode_set_ctime_current(self.as_ptr()) })
    }

    /// Its contents changed then. The caller has it locked.
    pub(crate) fn set_modified(&self, time: Time) {
        // SAFETY: The inode is valid.
        unsafe { bindings::embr_inode_set_mtime(self.as_ptr(), &time.raw()) };
    }

    /// Its attributes changed then. The caller has it locked.
    pub(crate) fn set_changed(&self, time: Time) {
        // SAFETY: The inode is valid.
        unsafe { bindings::embr_inode_set_ctime(self.as_ptr(), &time.raw()) };
    }

    /// Its contents changed then, and so its attributes. The caller has it locked.
    pub(crate) fn changes_at(&self, time: Time) {
        self.set_changed(time);
        self.set_modified(time);
    }

    /// It has one name less. The caller has it locked.
    pub(crate) fn drop_link(&self) {
        // SAFETY: The inode is valid.
        unsafe { kb::drop_nlink(self.as_ptr()) };
    }

    /// It has no name any more. The caller has it locked.
    pub(crate) fn clear_links(&self) {
        // SAFETY: The inode is valid.
        unsafe { kb::clear_nlink(self.as_ptr()) };
    }

    /// It has so many links more. The caller has it locked.
    pub(crate) fn add_links(&self, more: i32) {
        for _ in 0..more.unsigned_abs() {
            // SAFETY: The inode is valid.
            unsafe {
                if more < 0 {
                    kb::drop_nlink(self.as_ptr());
                } else {
                    kb::inc_nlink(self.as_ptr());
                }
            }
        }
    }

    /// Writes what is dirty of all files of its file system, and waits, unless that is being unmounted. Not for who writes that.
    pub fn write_all_and_wait(&self) {
        // SAFETY: The inode is valid, and keeps its superblock.
        unsafe { bindings::embr_sync_inodes((*self.as_ptr()).i_sb) };
    }

    /// Writes what is dirty of its bytes, and waits.
    pub fn write_and_wait(&self) -> Result {
        // SAFETY: The inode is valid.
        kernel::error::to_result(unsafe {
            kb::filemap_write_and_wait_range((*self.as_ptr()).i_mapping, 0, i64::MAX)
        })
    }
}

/// A reference to an inode. It cannot outlive the superblock's `'sb`, so a volume cannot keep one.
pub struct InodeRef<'sb, T: FileSystem> {
    /// Invariant: a finished inode with a reference that is ours.
    raw: NonNull<kb::inode>,
    _super_block: PhantomData<&'sb T>,
}

impl<T: FileSystem> InodeRef<'_, T> {
    pub(crate) fn into_raw(self) -> *mut kb::inode {
        ManuallyDrop::new(self).raw.as_ptr()
    }
}

impl<T: FileSystem> Deref for InodeRef<'_, T> {
    type Target = Inode<T>;

    fn deref(&self) -> &Inode<T> {
        // SAFETY: By the type's invariant.
        unsafe { Inode::from_raw(self.raw.as_ptr()) }
    }
}

impl<T: FileSystem> Drop for InodeRef<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant.
        unsafe { kb::iput(self.raw.as_ptr()) };
    }
}

/// What a search by number gives.
pub enum Found<'sb, T: FileSystem> {
    /// The inode was in memory.
    Cached(InodeRef<'sb, T>),
    /// It was not: fill it in.
    New(NewInode<'sb, T>),
}

impl<T: FileSystem> Found<'_, T> {
    /// # Safety
    ///
    /// `raw` came from iget_locked, for a superblock of `T`.
    pub(crate) unsafe fn from_raw(raw: *mut kb::inode) -> Self {
        // SAFETY: iget_locked does not return null here: the caller looked.
        let inode = unsafe { NonNull::new_unchecked(raw) };
        // SAFETY: The inode is valid.
        if unsafe { bindings::embr_inode_is_new(raw) } {
            Found::New(NewInode {
                raw: inode,
                _super_block: PhantomData,
            })
        } else {
            Found::Cached(InodeRef {
                raw: inode,
                _super_block: PhantomData,
            })
        }
    }
}

/// A moment.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanos: u32,
}

impl Time {
    pub(crate) fn raw(self) -> kb::timespec64 {
        kb::timespec64 {
            tv_sec: self.seconds,
            tv_nsec: self.nanos as c_long,
        }
    }

    pub(crate) fn of(raw: kb::timespec64) -> Self {
        Time {
            seconds: raw.tv_sec,
            nanos: raw.tv_nsec as u32,
        }
    }
}

/// What stat(2) tells of an inode and what can change.
#[derive(Clone, Copy)]
pub struct Attributes {
    /// Permission bits.
    pub permissions: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names.
    pub links: u32,
    /// Bytes.
    pub size: i64,
    /// Last access.
    pub accessed: Time,
    /// Last change of attributes.
    pub changed: Time,
    /// Last change of contents.
    pub modified: Time,
}

/// A device's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rdev {
    /// Which driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// What kind of file an inode is. It never changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind<'a> {
    /// A file with bytes.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice(Rdev),
    /// A block device.
    BlockDevice(Rdev),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind<'_> {
    pub(crate) fn mode(self) -> u32 {
        match self {
            Kind::Regular => kb::S_IFREG,
            Kind::Directory => kb::S_IFDIR,
            Kind::Symlink(_) => kb::S_IFLNK,
            Kind::CharDevice(_) => kb::S_IFCHR,
            Kind::BlockDevice(_) => kb::S_IFBLK,
            Kind::Fifo => kb::S_IFIFO,
            Kind::Socket => kb::S_IFSOCK,
        }
    }

    fn rdev(self) -> Rdev {
        match self {
            Kind::CharDevice(rdev) | Kind::BlockDevice(rdev) => rdev,
            _ => Rdev { major: 0, minor: 0 },
        }
    }
}

/// What never changes of a file.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// Its kind.
    pub kind: Kind<'a>,
    /// Tells it from files that had its number before.
    pub generation: u32,
    /// When it was made.
    pub born: Time,
}

/// Gives an inode its kind and the tables that go with it.
///
/// # Safety
///
/// The inode is made by the table of `T`, and nobody else can use it yet.
unsafe fn become_file<T: Names + FileData>(raw: *mut kb::inode, identity: &Identity<'_>) -> Result {
    // SAFETY: Made by the table; nobody else can use it.
    let node = unsafe { Node::<T>::of(raw) };
    if let Kind::Symlink(target) = identity.kind {
        let mut link = KVec::with_capacity(target.len() + 1, GFP_KERNEL)?;
        link.extend_from_slice(target, GFP_KERNEL)?;
        link.push(0, GFP_KERNEL)?;
        // SAFETY: Nobody else can use the inode. The memory stays where it is until the inode's own is freed.
        unsafe {
            bindings::embr_inode_set_link(raw, link.as_mut_ptr().cast());
            *node.link.get() = Some(link);
        }
    }
    // SAFETY: Nobody else can use the inode; the tables are those of `T`.
    unsafe {
        *node.born.get() = identity.born;
        (*raw).i_generation = identity.generation;
        let permissions = (*raw).i_mode & 0o7777;
        let rdev = identity.kind.rdev();
        (*raw).i_mode = identity.kind.mode() as u16 | permissions;
        match identity.kind {
            Kind::Directory => {
                (*raw).i_op = DirectoryTable::<T>::inode_operations();
                bindings::embr_inode_set_fop(raw, DirectoryTable::<T>::file_operations());
            }
            Kind::Symlink(_) => (*raw).i_op = LinkTable::<T>::inode_operations(),
            Kind::Regular => FileTable::<T>::put(raw)?,
            _ => {
                (*raw).i_op = SpecialTable::<T>::inode_operations();
                bindings::embr_inode_init_special(raw, rdev.major, rdev.minor);
            }
        }
    }
    Ok(())
}

/// An inode that is locked and that nobody else can use yet. Dropped, it fails and goes away.
pub struct NewInode<'sb, T: FileSystem> {
    /// Invariant: locked and new, with a reference that is ours.
    raw: NonNull<kb::inode>,
    _super_block: PhantomData<&'sb T>,
}

impl<'sb, T: Names + FileData> NewInode<'sb, T> {
    /// Makes it what the volume says that it is, and lets others use it.
    pub fn finish(
        self,
        identity: &Identity<'_>,
        attributes: &Attributes,
    ) -> Result<InodeRef<'sb, T>> {
        let raw = self.raw.as_ptr();
        // SAFETY: The inode is new and ours alone.
        unsafe {
            (*raw).i_mode = attributes.permissions & 0o7777;
            bindings::embr_inode_set_size(raw, attributes.size);
            become_file::<T>(raw, identity)?;
            bindings::embr_inode_set_owner(raw, attributes.uid, attributes.gid);
            kb::set_nlink(raw, attributes.links);
            bindings::embr_inode_set_times(
                raw,
                &attributes.accessed.raw(),
                &attributes.changed.raw(),
                &attributes.modified.raw(),
            );
            kb::unlock_new_inode(raw);
        }
        Ok(InodeRef {
            raw: ManuallyDrop::new(self).raw,
            _super_block: PhantomData,
        })
    }
}

impl<T: FileSystem> Drop for NewInode<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant; gives up the reference too.
        unsafe { kb::iget_failed(self.raw.as_ptr()) };
    }
}

/// An inode for a file that is being made: it has an owner and a mode, but no number. Dropped, it goes away.
pub(crate) struct Unborn<'a, T: FileSystem> {
    /// Invariant: in no list and no hash, with a reference that is ours.
    raw: NonNull<kb::inode>,
    _directory: PhantomData<&'a T>,
}

impl<'a, T: Names + FileData> Unborn<'a, T> {
    /// One for a file in this directory, owned by who asks.
    ///
    /// # Safety
    ///
    /// The mapping of ids is valid.
    pub(crate) unsafe fn new(
        directory: &'a Inode<T>,
        idmap: *mut kb::mnt_idmap,
        mode: kb::umode_t,
    ) -> Result<Self> {
        // SAFETY: A live superblock, for a directory of it is in use.
        let raw = unsafe { kb::new_inode((*directory.as_ptr()).i_sb) };
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: Both are valid; the inode is ours alone.
        unsafe { kb::inode_init_owner(idmap, raw.as_ptr(), directory.as_ptr(), mode) };
        Ok(Unborn {
            raw,
            _directory: PhantomData,
        })
    }

    pub(crate) fn as_ptr(&self) -> *mut kb::inode {
        self.raw.as_ptr()
    }

    /// The time, as files have it.
    pub(crate) fn now(&self) -> Time {
        // SAFETY: By the type's invariant.
        Time::of(unsafe { kb::inode_set_ctime_current(self.raw.as_ptr()) })
    }

    /// Permissions, owner and group that it will have.
    pub(crate) fn owner(&self) -> (u16, u32, u32) {
        let raw = self.raw.as_ptr();
        // SAFETY: By the type's invariant.
        unsafe {
            (
                (*raw).i_mode & 0o7777,
                bindings::embr_inode_uid(raw),
                bindings::embr_inode_gid(raw),
            )
        }
    }

    /// Gives it its kind: all that can fail for want of memory, before the file itself is made.
    pub(crate) fn shape(&self, kind: Kind<'_>, now: Time) -> Result {
        let identity = Identity {
            kind,
            generation: 0,
            born: now,
        };
        // SAFETY: By the type's invariant.
        unsafe { become_file::<T>(self.raw.as_ptr(), &identity) }
    }

    /// The file was made: the inode gets its number, and is locked until it has its name.
    pub(crate) fn number(
        self,
        number: u64,
        generation: u32,
        links: u32,
        size: i64,
    ) -> Result<*mut kb::inode> {
        let raw = self.raw.as_ptr();
        // SAFETY: By the type's invariant.
        unsafe {
            let born = (*Node::<T>::of(raw).born.get()).raw();
            (*raw).i_ino = number;
            (*raw).i_generation = generation;
            bindings::embr_inode_set_size(raw, size);
            bindings::embr_inode_set_times(raw, &born, &born, &born);
            if kb::insert_inode_locked(raw) != 0 {
                // A file of this number is in use already: the volume is damaged.
                return Err(EUCLEAN);
            }
            // Only now: an inode without names is forgotten when it goes.
            kb::set_nlink(raw, links);
        }
        Ok(ManuallyDrop::new(self).raw.as_ptr())
    }
}

impl<T: FileSystem> Drop for Unborn<'_, T> {
    fn drop(&mut self) {
        // SAFETY: By the type's invariant. It has a link count, so nothing on disk is taken for its own.
        unsafe { kb::iput(self.raw.as_ptr()) };
    }
}
