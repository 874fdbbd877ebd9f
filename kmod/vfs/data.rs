// SPDX-License-Identifier: GPL-2.0

//! What files hold, through the page cache. Programs read and write folios; the file system is asked for what a folio is to hold,
//! and takes what writeback gathers. Room is set aside when a block becomes dirty, places are found when it is written.
//!
//! Locks, outermost first: an inode's own, its mapping's against filling, a folio's, then the one on what the volume
//! knows of the file ([`state::Known`]), then the file system's.

mod awaiting;
mod gather;
mod map;
mod range;
mod read;
mod size;
mod state;
mod write;
mod writeback;

pub use gather::GatherMemory;
pub(crate) use size::resize;
pub(crate) use state::detach;

use crate::{
    attributes::{
        set_attributes, //
    },
    bindings,
    file::ioctl,
    file_system::FileSystem,
    inode::{
        Inode,
        Time, //
    },
    names::Names,
    xattr::list,
    xattr_acl::{
        get_acl,
        set_acl, //
    }, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings as kb,
    prelude::*, //
};
use map::IoMap;
use range::RangeTable;
use read::ReadTable;
use state::{
    DataFile,
    BLOCK, //
};
use write::WriteTable;
use writeback::WritebackTable;

/// Blocks to be written: whole ones, in order, with zeros behind the file's end.
#[derive(Clone, Copy)]
pub struct Dirty<'a> {
    /// Where in the file they go; none of these is empty, nor are they more than [`RANGES`](Self::RANGES).
    pub(crate) ranges: &'a [Range<u64>],
    /// What they hold, one range after the other.
    pub(crate) bytes: &'a [u8],
    /// From here on they are not to be written: the file was cut off there since.
    pub(crate) end: u64,
}

impl<'a> Dirty<'a> {
    /// How many ranges there are at most.
    pub const RANGES: usize = 16;
    /// None.
    pub(crate) const NONE: Dirty<'static> = Dirty {
        ranges: &[],
        bytes: &[],
        end: 0,
    };

    /// Where each range begins, and what it holds.
    pub fn ranges(self) -> impl Iterator<Item = (u64, &'a [u8])> {
        let mut rest = self.bytes;
        self.ranges.iter().filter_map(move |range| {
            let len = (range.end - range.start) as usize;
            let (bytes, later) = rest.split_at_checked(len).unwrap_or((rest, &[]));
            rest = later;
            let kept = self.end.saturating_sub(range.start) as usize;
            let bytes = bytes.get(..kept).unwrap_or(bytes);
            (!bytes.is_empty()).then_some((range.start, bytes))
        })
    }
}

/// What comes with blocks that are written.
#[derive(Clone, Copy)]
pub struct Written {
    /// The file has at least so many bytes from then on.
    pub size: Option<u64>,
    /// When its contents changed last.
    pub modified: Time,
    /// When its attributes changed last.
    pub changed: Time,
    /// For so many of the blocks room was set aside; that is used up now, whether this succeeds or not.
    pub room: u64,
    /// Somebody waits for them to be durable, and they are all that he waits for.
    pub at_once: bool,
}

/// What blocks of a file hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Nothing.
    Nothing,
    /// Nothing, but there is room.
    Room,
    /// Bytes.
    Bytes,
    /// What only the page cache knows. No file system says so.
    Dirty,
}

/// What is to be done with a range of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Allocation {
    /// Room for what holds nothing.
    Reserve,
    /// It is to hold nothing.
    Punch,
    /// It is to hold zeros, with room for others.
    Zero,
    /// It is to go, and what is behind it to close up.
    Collapse,
    /// What is from its beginning on is to move behind it.
    Insert,
}

/// What files hold, as a file system keeps it. All but [`Self::read`] and [`Self::holds`] are called for one file by one thread
/// at a time. Blocks have 4 KiB.
pub trait FileData: FileSystem {
    /// How often to try again, after [`Self::make_room`], what did not fit.
    const MAKE_ROOM_TRIES: u32 = 2;

    /// Whether the file may be used at all.
    fn may_use(file: &Inode<Self>) -> Result;

    /// Whether what it holds may be changed at all.
    fn may_change(file: &Inode<Self>) -> Result;

    /// Memory for writeback; a volume that is never written has none.
    fn memory(volume: &Self::Volume) -> Option<&GatherMemory>;

    /// Fills whole blocks with what the file holds from the byte at `at`; zeros where it holds nothing.
    fn read(file: &Inode<Self>, at: u64, into: &mut [u8]) -> Result;

    /// Takes blocks, in order. When it returns, they can be read; they are durable after [`FileSystem::sync_file`]. What was accepted
    /// may not be lost for lack of memory: this waits for it.
    fn write(file: &Inode<Self>, dirty: Dirty<'_>, written: &Written) -> Result;

    /// Gives the file another size; its times are those that it has in memory. What is new reads as zeros.
    fn truncate(file: &Inode<Self>, size: u64) -> Result;

    /// Changes a range of whole blocks, and then the size.
    fn allocate(
        file: &Inode<Self>,
        what: Allocation,
        range: Range<u64>,
        size: Option<u64>,
    ) -> Result;

    /// What the file holds from the block that begins at `at` on, and for how many blocks; at most `most`.
    fn holds(file: &Inode<Self>, at: u64, most: u64) -> Result<(Holds, u64)>;

    /// How many blocks it keeps for the file: written ones, and room for others.
    fn held(file: &Inode<Self>) -> Result<u64>;

    /// Sets aside room for so many blocks. ENOSPC is told here or never.
    fn reserve(file: &Inode<Self>, blocks: u64) -> Result;

    /// Room that was set aside is not needed.
    fn give_back(file: &Inode<Self>, blocks: u64);

    /// There was no room, and then all that was dirty was written: is there more to be had?
    fn make_room(volume: &Self::Volume) -> Result;
}

pub(crate) struct FileTable<T>(PhantomData<T>);

impl<T: Names + FileData> FileTable<T> {
    const INODE_OPERATIONS: kb::inode_operations = kb::inode_operations {
        getattr: Some(size::get_attributes::<T>),
        setattr: Some(set_attributes::<T>),
        listxattr: Some(list::<T>),
        get_inode_acl: Some(get_acl::<T>),
        set_acl: Some(set_acl::<T>),
        fiemap: Some(IoMap::<T>::fiemap),
        ..pin_init::zeroed()
    };

    const FILE_OPERATIONS: kb::file_operations = kb::file_operations {
        llseek: Some(IoMap::<T>::seek),
        read_iter: Some(Self::read_iter),
        write_iter: Some(WriteTable::<T>::write_iter),
        unlocked_ioctl: Some(ioctl::<T>),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: kb::compat_ptr_ioctl,
        mmap_prepare: Some(Self::mmap_prepare),
        open: Some(kb::generic_file_open),
        fsync: Some(size::sync::<T>),
        splice_read: Some(kb::filemap_splice_read),
        splice_write: Some(kb::iter_file_splice_write),
        setlease: Some(bindings::generic_setlease),
        fallocate: Some(RangeTable::<T>::fallocate),
        ..pin_init::zeroed()
    };

    const MAPPING_OPERATIONS: kb::address_space_operations = kb::address_space_operations {
        read_folio: Some(ReadTable::<T>::read_folio),
        readahead: Some(ReadTable::<T>::readahead),
        writepages: Some(WritebackTable::<T>::writepages),
        dirty_folio: Some(bindings::iomap_dirty_folio),
        invalidate_folio: Some(Self::invalidate_folio),
        release_folio: Some(bindings::iomap_release_folio),
        #[cfg(CONFIG_MIGRATION)]
        migrate_folio: Some(bindings::filemap_migrate_folio),
        is_partially_uptodate: Some(bindings::iomap_is_partially_uptodate),
        error_remove_folio: Some(bindings::generic_error_remove_folio),
        ..pin_init::zeroed()
    };

    const MAP_OPERATIONS: kb::vm_operations_struct = kb::vm_operations_struct {
        fault: Some(kb::filemap_fault),
        map_pages: Some(kb::filemap_map_pages),
        page_mkwrite: Some(WriteTable::<T>::page_mkwrite),
        ..pin_init::zeroed()
    };

    /// Makes an inode a file with bytes. Its size is set already, and all of it is on the volume.
    ///
    /// # Safety
    ///
    /// The inode is of `T`, and nobody else can use it yet.
    pub(crate) unsafe fn put(inode: *mut kb::inode) -> Result {
        // SAFETY: As the caller says; the tables are static.
        unsafe {
            (*inode).i_op = &Self::INODE_OPERATIONS;
            bindings::embr_inode_set_fop(inode, &Self::FILE_OPERATIONS);
            bindings::embr_mapping_set_up(inode, &Self::MAPPING_OPERATIONS);
            state::attach::<T>(inode)
        }
    }

    /// # Safety
    ///
    /// Called by the VFS.
    unsafe extern "C" fn read_iter(iocb: *mut kb::kiocb, to: *mut kb::iov_iter) -> isize {
        // SAFETY: An open file holds a reference to its inode; both are valid for the call.
        unsafe {
            match T::may_use(Inode::from_raw((*(*iocb).ki_filp).f_inode)) {
                Ok(()) => kb::generic_file_read_iter(iocb, to),
                Err(error) => error.to_errno() as isize,
            }
        }
    }

    /// # Safety
    ///
    /// Called by the VFS for a file of `T`.
    unsafe extern "C" fn mmap_prepare(map: *mut kb::vm_area_desc) -> c_int {
        // SAFETY: Valid for the call; the table is static.
        unsafe {
            bindings::embr_file_accessed((*map).file);
            (*map).vm_ops = &Self::MAP_OPERATIONS;
        }
        0
    }

    /// # Safety
    ///
    /// Called by the page cache for a locked folio of a file of `T`, a part of which goes.
    unsafe extern "C" fn invalidate_folio(folio: *mut kb::folio, offset: usize, len: usize) {
        // SAFETY: As the caller says.
        unsafe {
            let file = DataFile::<T>::of_mapping(bindings::embr_folio_mapping(folio));
            let from = bindings::embr_folio_pos(folio) as u64 + offset as u64;
            let to = from + len as u64;
            // Blocks of which a part stays are dirty still.
            let (first, end) = (from.div_ceil(BLOCK), to / BLOCK);
            file.forget(first..end.max(first));
            bindings::iomap_invalidate_folio(folio, offset, len);
        }
    }
}
