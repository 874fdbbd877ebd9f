// SPDX-License-Identifier: GPL-2.0

//! What is kept with each file that holds bytes: which of its blocks await writeback, and how much of it the volume knows.

use super::{
    awaiting::Awaiting,
    writeback::publish,
    FileData, //
};
use crate::{
    bindings,
    inode::Inode,
    nofs::NoFs, //
};
use core::{
    marker::PhantomData,
    ops::Range, //
};
use kernel::{
    bindings as kb,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Mutex,
        MutexGuard, //
    }, //
};

/// Bytes of a block, as a shift. A page is as large.
pub(super) const BLOCK_SHIFT: u32 = 12;
/// Bytes of a block.
pub(super) const BLOCK: u64 = 1 << BLOCK_SHIFT;
const _: () = assert!(kernel::page::PAGE_SIZE == BLOCK as usize);

/// The blocks that a range of bytes touches.
pub(super) fn blocks(bytes: Range<u64>) -> Range<u64> {
    bytes.start >> BLOCK_SHIFT..bytes.end.div_ceil(BLOCK)
}

/// What the volume knows of a file. Whoever holds it is alone in changing the file's contents on the volume: it comes behind
/// folio locks, and before all locks of the file system.
pub(super) struct Known {
    /// Its size there.
    pub(super) size: u64,
    /// Nothing is known to be behind its end there but room. A crash may leave bytes, written before the size could follow.
    pub(super) clean: bool,
}

#[pin_data]
pub(super) struct State {
    #[pin]
    known: Mutex<Known>,
    #[pin]
    awaiting: Mutex<Awaiting>,
    /// Room was asked for in vain.
    short: Atomic<bool>,
    /// Gives back the room of so many blocks.
    give_back: unsafe fn(*mut kb::inode, u64),
    /// Lets the volume know the size of a file of which nothing is dirty.
    publish: unsafe fn(*mut kb::inode) -> Result,
}

/// A regular file of `T`.
pub(super) struct DataFile<'a, T>(pub(super) &'a Inode<T>);

impl<T> Clone for DataFile<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DataFile<'_, T> {}

/// Gives a file what is kept with it; its size on the volume is the one that it has now.
///
/// # Safety
///
/// The inode is new and ours alone.
pub(super) unsafe fn attach<T: FileData>(inode: *mut kb::inode) -> Result {
    // SAFETY: As the caller says.
    let size = unsafe { bindings::embr_i_size_read(inode) } as u64;
    let state = KBox::pin_init(
        pin_init!(State {
            known <- new_mutex!(Known { size, clean: false }, "contents of a file"),
            awaiting <- new_mutex!(Awaiting::new(), "blocks that await writeback"),
            short: Atomic::new(false),
            give_back: give_back::<T>,
            publish: publish_size::<T>,
        }),
        GFP_KERNEL,
    )?;
    // SAFETY: As the caller says. It stays where it is until `detach`.
    unsafe { (*inode).i_private = KBox::into_raw(Pin::into_inner_unchecked(state)).cast() };
    Ok(())
}

/// # Safety
///
/// The inode is of `T` and valid.
unsafe fn give_back<T: FileData>(inode: *mut kb::inode, blocks: u64) {
    // SAFETY: As the caller says.
    T::give_back(unsafe { Inode::from_raw(inode) }, blocks);
}

/// # Safety
///
/// The inode is a regular file of `T` and valid.
unsafe fn publish_size<T: FileData>(inode: *mut kb::inode) -> Result {
    // SAFETY: As the caller says.
    publish(unsafe { DataFile::<T>::from_raw(inode) })
}

/// Takes away what is kept with an inode, if it has that. The file is there still unless it has no name any more.
///
/// # Safety
///
/// Nobody uses the inode any more, and its page cache is empty.
pub(crate) unsafe fn detach(inode: *mut kb::inode) {
    // SAFETY: As the caller says.
    unsafe {
        let state: *mut State = (*inode).i_private.cast();
        if state.is_null() {
            return;
        }
        if bindings::embr_inode_links(inode) != 0 {
            // As a rule it is known since the last byte was written back. Who could hear of an error is gone; the log has it.
            let _ = ((*state).publish)(inode);
        }
        let left = (*state).awaiting.lock().take_all();
        if left > 0 {
            ((*state).give_back)(inode, left);
        }
        (*inode).i_private = core::ptr::null_mut();
        drop(Pin::new_unchecked(KBox::from_raw(state)));
    }
}

impl<'a, T: FileData> DataFile<'a, T> {
    /// # Safety
    ///
    /// `raw` is a regular file of `T` and referenced for `'a`.
    pub(super) unsafe fn from_raw(raw: *mut kb::inode) -> Self {
        // SAFETY: As the caller says.
        DataFile(unsafe { Inode::from_raw(raw) })
    }

    /// # Safety
    ///
    /// `mapping` is that of a regular file of `T`, referenced for `'a`.
    pub(super) unsafe fn of_mapping(mapping: *mut kb::address_space) -> Self {
        // SAFETY: As the caller says.
        unsafe { Self::from_raw((*mapping).host) }
    }

    pub(super) fn inode(&self) -> *mut kb::inode {
        self.0.as_ptr()
    }

    pub(super) fn mapping(&self) -> *mut kb::address_space {
        // SAFETY: The inode is valid.
        unsafe { (*self.inode()).i_mapping }
    }

    fn state(&self) -> &'a State {
        // SAFETY: A regular file has it from before others see it until nobody uses the file any more.
        unsafe { &*(*self.inode()).i_private.cast::<State>() }
    }

    /// Its size, as those who use it see it.
    pub(super) fn size(&self) -> u64 {
        // SAFETY: The inode is valid.
        unsafe { bindings::embr_i_size_read(self.inode()) as u64 }
    }

    /// Nobody else changes the file on the volume meanwhile.
    pub(super) fn known(&self) -> MutexGuard<'a, Known> {
        self.state().known.lock()
    }

    pub(super) fn awaiting(&self) -> MutexGuard<'a, Awaiting> {
        self.state().awaiting.lock()
    }

    /// Sets aside room for blocks that are to become dirty, if nothing goes wrong: [`Self::settle`] follows. Their folio is locked,
    /// and not under writeback; the inode is locked.
    pub(super) fn reserve(&self, blocks: Range<u64>) -> Result {
        let _scope = NoFs::new();
        let reserved = self
            .awaiting()
            .try_add(blocks, |count| T::reserve(self.0, count));
        self.note_shortage(reserved)
    }

    /// Sets aside room for blocks that become dirty now. Their folio is locked, and not under writeback.
    pub(super) fn reserve_for_good(&self, blocks: Range<u64>) -> Result {
        let _scope = NoFs::new();
        let reserved = self
            .awaiting()
            .add(blocks, |count| T::reserve(self.0, count));
        self.note_shortage(reserved.map(drop))
    }

    fn note_shortage(&self, reserved: Result) -> Result {
        if reserved == Err(ENOSPC) {
            self.state().short.store(true, Relaxed);
        }
        reserved
    }

    /// Whether room was asked for in vain since this was asked last.
    pub(super) fn was_short(&self) -> bool {
        self.state().short.xchg(false, Relaxed)
    }

    /// Of what was set aside last, these blocks did become dirty. Their folio is still locked.
    pub(super) fn settle(&self, dirtied: Range<u64>) {
        let mut awaiting = self.awaiting();
        let left = awaiting.settle(dirtied);
        if left > 0 {
            T::give_back(self.0, left);
            // The size may have waited for them: somebody has to look at it again.
            // SAFETY: The inode is valid.
            unsafe { bindings::embr_mark_pages_dirty(self.inode()) };
        }
    }

    /// These blocks are not dirty any more, and never will be written. Their folio is locked.
    pub(super) fn forget(&self, blocks: Range<u64>) {
        let mut awaiting = self.awaiting();
        let left = awaiting.remove(blocks);
        if left > 0 {
            T::give_back(self.0, left);
        }
    }
}

/// While it lives, a transaction may run, and a freeze of the file system waits.
pub(super) struct Changing<'a> {
    sb: *mut kb::super_block,
    _scope: NoFs,
    _file: PhantomData<&'a ()>,
}

impl<'a> Changing<'a> {
    pub(super) fn new<T: FileData>(file: &DataFile<'a, T>) -> Self {
        // SAFETY: An inode keeps its superblock.
        let sb = unsafe { (*file.inode()).i_sb };
        // SAFETY: As above.
        unsafe { bindings::embr_sb_start_intwrite(sb) };
        Changing {
            sb,
            _scope: NoFs::new(),
            _file: PhantomData,
        }
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // SAFETY: Begun by `new`.
        unsafe { bindings::embr_sb_end_intwrite(self.sb) };
    }
}
