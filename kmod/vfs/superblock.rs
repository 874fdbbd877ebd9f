// SPDX-License-Identifier: GPL-2.0

//! Superblocks and their states. A [`New`] one has nothing but its place in the kernel's list; a [`Filled`] one has its
//! volume; a [`Live`] one has its root, set exactly once, and can be mounted. One that an inode leads to is [`Known`]: filled
//! or live, and good for neither of the steps from one to the other.

use crate::{
    bdev::{
        Access,
        BlockDevice, //
    },
    bindings,
    file_system::{
        FileSystem,
        Key, //
    },
    inode::{
        Found,
        InodeRef, //
    },
    super_ops::SuperTable,
    xattr::{
        AttributeTable,
        ExtendedAttributes, //
    },
};
use core::{
    cell::UnsafeCell,
    fmt,
    marker::PhantomData, //
};
use kernel::{
    bindings as kb,
    error::to_result,
    prelude::*, //
};

/// The state of a superblock that was just made.
pub struct New;
/// The state of a superblock with a volume.
pub struct Filled;
/// The state of a superblock with a root.
pub struct Live;
/// The state of a superblock that was reached through an inode: it has its volume; about its root nothing is said.
pub struct Known;

/// What `s_fs_info` points to. The key is there from the beginning, for the kernel compares it under a spinlock; the volume
/// comes when the superblock is filled, and goes before it dies.
pub(crate) struct Mounted<T: FileSystem> {
    key: Key,
    volume: UnsafeCell<Option<T::Volume>>,
}

impl<T: FileSystem> Mounted<T> {
    pub(crate) fn allocate(key: Key) -> Result<*mut c_void> {
        let mounted = KBox::new(
            Mounted::<T> {
                key,
                volume: UnsafeCell::new(None),
            },
            GFP_KERNEL,
        )?;
        Ok(KBox::into_raw(mounted).cast())
    }

    /// # Safety
    ///
    /// `raw` is null or came from `allocate`, and is used no more.
    pub(crate) unsafe fn release(raw: *mut c_void) {
        if !raw.is_null() {
            // SAFETY: From `allocate`, says the caller.
            drop(unsafe { KBox::from_raw(raw.cast::<Self>()) });
        }
    }

    /// # Safety
    ///
    /// `raw` came from `allocate` and is valid.
    pub(crate) unsafe fn key(raw: *mut c_void) -> Key {
        // SAFETY: As the caller says. Only the key is touched: another may be setting the volume.
        unsafe { (*raw.cast::<Self>()).key }
    }

    /// Lets the volume go, and with it the devices that it holds.
    ///
    /// # Safety
    ///
    /// `raw` came from `allocate`, and nobody uses the volume any more.
    pub(crate) unsafe fn clear(raw: *mut c_void) {
        // SAFETY: As the caller says.
        drop(unsafe { (*(*raw.cast::<Self>()).volume.get()).take() });
    }
}

/// What a file system says about a superblock.
pub struct Attributes<'a> {
    /// The magic number.
    pub magic: u32,
    /// Block size as a shift.
    pub block_shift: u8,
    /// Identity.
    pub uuid: &'a [u8; 16],
    /// What logs call it (31 bytes are kept).
    pub id: &'a [u8],
    /// Most names that a file can have.
    pub links_max: u32,
    /// Most bytes of a file: whole blocks.
    pub file_size_max: i64,
    /// It cannot be written to.
    pub read_only: bool,
}

/// A superblock in some state, borrowed for `'sb`.
pub struct SuperBlock<'sb, T: FileSystem, State> {
    /// Invariant: a valid superblock of file system `T` for `'sb`, with a `Mounted<T>` that has a volume unless `New`.
    raw: *mut kb::super_block,
    _state: PhantomData<(&'sb T, State)>,
}

impl<'sb, T: FileSystem, State> SuperBlock<'sb, T, State> {
    /// # Safety
    ///
    /// `raw` is valid for `'sb` and is a superblock of `T` in that state. For states before `Live`, nobody else has it.
    pub(crate) unsafe fn from_raw(raw: *mut kb::super_block) -> Self {
        SuperBlock {
            raw,
            _state: PhantomData,
        }
    }

    fn mounted(&self) -> *mut Mounted<T> {
        // SAFETY: By the type's invariant.
        unsafe { (*self.raw).s_fs_info.cast() }
    }

    /// By what [`FileSystem::identify`] named the volume: mounts that find the same key share this superblock.
    pub fn key(&self) -> Key {
        // SAFETY: By the type's invariant; the key never changes.
        unsafe { Mounted::<T>::key((*self.raw).s_fs_info) }
    }

    /// Is it mounted read-only?
    pub fn is_read_only(&self) -> bool {
        // SAFETY: By the type's invariant; one aligned word.
        unsafe {
            (&raw const (*self.raw).s_flags).read_volatile() & bindings::EMBR_CONST_SB_RDONLY != 0
        }
    }
}

impl<'sb, T: ExtendedAttributes> SuperBlock<'sb, T, New> {
    /// Opens a block device for this superblock alone: nobody else can claim it, and its removal is told to the file system.
    pub fn claim(&self, path: &CStr, access: Access) -> Result<BlockDevice> {
        // SAFETY: By the type's invariant.
        unsafe { BlockDevice::claim(path, access, self.raw) }
    }

    /// Gives the superblock its volume.
    pub fn fill(
        self,
        attributes: &Attributes<'_>,
        volume: T::Volume,
    ) -> Result<SuperBlock<'sb, T, Filled>> {
        let sb = self.raw;
        // SAFETY: The superblock is new: nobody else looks at it.
        unsafe {
            (*sb).s_op = SuperTable::<T>::operations();
            (*sb).s_xattr = AttributeTable::<T>::table();
            (*sb).s_magic = attributes.magic as c_ulong;
            (*sb).s_blocksize_bits = attributes.block_shift;
            (*sb).s_blocksize = 1 << attributes.block_shift;
            (*sb).s_maxbytes = attributes.file_size_max;
            (*sb).s_time_gran = 1;
            (*sb).s_max_links = attributes.links_max;
            if attributes.read_only {
                (*sb).s_flags |= bindings::EMBR_CONST_SB_RDONLY;
            }
            let mut id = [0u8; 32];
            for (to, from) in id.iter_mut().zip(attributes.id.iter().take(31)) {
                *to = *from;
            }
            (*sb).s_id = id;
            bindings::embr_super_set_uuid(sb, attributes.uuid.as_ptr());
        }
        // SAFETY: Nobody else looks at a volume that is not there yet.
        unsafe { *(*self.mounted()).volume.get() = Some(volume) };
        // SAFETY: The superblock is new. The VFS undoes this when it goes.
        to_result(unsafe { kb::super_setup_bdi(sb) })?;
        // SAFETY: It has a volume now.
        Ok(unsafe { SuperBlock::from_raw(sb) })
    }
}

/// States in which there is a volume.
pub trait HasVolume {}
impl HasVolume for Filled {}
impl HasVolume for Live {}
impl HasVolume for Known {}

impl<'sb, T: FileSystem, State: HasVolume> SuperBlock<'sb, T, State> {
    /// The volume.
    pub fn volume(&self) -> &'sb T::Volume {
        // SAFETY: By the type's invariant there is one, and it stays while the superblock is borrowed: it is taken away
        // only when the last inode and the last mount are gone.
        let volume = unsafe { &*(*self.mounted()).volume.get() };
        match volume {
            Some(volume) => volume,
            // SAFETY: By the type's invariant.
            None => unsafe { core::hint::unreachable_unchecked() },
        }
    }

    /// Writes all that is dirty, and waits until it is durable. Called with no lock of the VFS held.
    pub fn sync_all(&self) -> Result {
        // SAFETY: By the type's invariant.
        to_result(unsafe { bindings::embr_super_sync(self.raw) })
    }

    /// The inode with that number: one in memory, or a new one that is locked until it is finished.
    pub fn inode(&self, number: u64) -> Result<Found<'sb, T>> {
        // SAFETY: The superblock is valid and has its operations.
        let inode = unsafe { kb::iget_locked(self.raw, number) };
        if inode.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: iget_locked gives a reference of ours.
        Ok(unsafe { Found::from_raw(inode) })
    }
}

impl<'sb, T: FileSystem> SuperBlock<'sb, T, Filled> {
    /// Sets the root directory.
    pub fn set_root(self, root: InodeRef<'sb, T>) -> Result<SuperBlock<'sb, T, Live>> {
        if !root.is_directory() {
            return Err(ENOTDIR);
        }
        // SAFETY: d_make_root takes over the reference, whether or not it succeeds.
        let dentry = unsafe { kb::d_make_root(root.into_raw()) };
        if dentry.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: Not live yet, so ours alone.
        unsafe { (*self.raw).s_root = dentry };
        // SAFETY: It has its root now.
        Ok(unsafe { SuperBlock::from_raw(self.raw) })
    }
}

impl<T: FileSystem> SuperBlock<'_, T, Live> {
    /// Lets the VFS use it.
    pub(crate) fn activate(self) {
        // SAFETY: The caller of `FileSystem::fill` still holds its lock.
        unsafe { (*self.raw).s_flags |= bindings::EMBR_CONST_SB_ACTIVE };
    }
}

impl<T: FileSystem, State> fmt::Display for SuperBlock<'_, T, State> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: By the type's invariant; the name is set once.
        let id = unsafe { &(*self.raw).s_id };
        for b in id.iter().take_while(|b| **b != 0) {
            fmt::Display::fmt(&b.escape_ascii(), f)?;
        }
        Ok(())
    }
}
