// SPDX-License-Identifier: GPL-2.0

//! One value on the heap.

use crate::alloc;
use crate::alloc::NoMem;
use core::fmt;
use core::ops::Deref;
use core::ops::DerefMut;
use core::ptr::NonNull;

#[cfg(embr_kernel)]
mod raw {
    use crate::alloc::NoMem;
    use crate::patience::ask;
    use kernel::alloc::flags::GFP_KERNEL;
    use kernel::alloc::flags::__GFP_NOWARN;

    /// The back end's own box.
    pub type Raw<T> = kernel::alloc::KVBox<T>;

    pub(super) fn new<T>(value: T) -> Result<Raw<T>, NoMem> {
        let memory = ask(|| Raw::<T>::new_uninit(GFP_KERNEL | __GFP_NOWARN))?;
        Ok(memory.write(value))
    }

    pub(super) fn into_inner<T>(b: Raw<T>) -> T {
        Raw::into_inner(b)
    }
}

#[cfg(not(embr_kernel))]
mod raw {
    use crate::alloc::NoMem;

    /// The back end's own box.
    pub type Raw<T> = std::boxed::Box<T>;

    // Stable Rust has no fallible box; a process that cannot get a few bytes is ended by std. Failures that tests
    // inject come from `failpoint`.
    pub(super) fn new<T>(value: T) -> Result<Raw<T>, NoMem> {
        Ok(Raw::new(value))
    }

    #[allow(clippy::boxed_local)] // To be opened is what it is here for.
    pub(super) fn into_inner<T>(b: Raw<T>) -> T {
        *b
    }
}

pub use raw::Raw;

/// One value on the heap, got by an allocation that may fail.
///
/// The value passes through the stack on its way: large buffers are a [`Vec`](crate::Vec) of bytes instead.
pub struct Box<T: ?Sized>(Raw<T>);

impl<T> Box<T> {
    /// Moves `value` to the heap. When memory is short it is dropped.
    pub fn try_new(value: T) -> Result<Self, NoMem> {
        alloc::admit()?;
        raw::new(value).map(Box)
    }

    /// Moves the value back out.
    pub fn into_inner(self) -> T {
        raw::into_inner(self.0)
    }

    /// Leaves the value on the heap for ever, unless [`Self::unleak`] fetches it.
    pub(crate) fn leak(self) -> NonNull<T> {
        NonNull::from(Raw::leak(self.0))
    }

    /// Takes back what [`Self::leak`] left.
    ///
    /// # Safety
    ///
    /// `ptr` must come from `leak`, must not have been taken back yet, and nothing may use it afterwards.
    pub(crate) unsafe fn unleak(ptr: NonNull<T>) -> Self {
        // SAFETY: By this function's contract the pointer is a leaked box's, and ours alone.
        Box(unsafe { Raw::from_raw(ptr.as_ptr()) })
    }
}

impl<T: ?Sized> Box<T> {
    /// Turns a box of a type into one of a trait that it implements: `b.unsize::<dyn Trait>(|raw| raw)`.
    ///
    /// Only the language itself knows how, and it does so for its own types alone; hence the closure.
    pub fn unsize<U: ?Sized>(self, coerce: impl FnOnce(Raw<T>) -> Raw<U>) -> Box<U> {
        Box(coerce(self.0))
    }
}

impl<T: ?Sized> Deref for Box<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> DerefMut for Box<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Box<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
