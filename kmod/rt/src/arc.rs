// SPDX-License-Identifier: GPL-2.0

//! A value with several owners.
//!
//! Not a wrapper round the back ends' own: the kernel's cannot tell whether a holder is the only one, which caches need.
//! The counter is the kernel's (it saturates instead of wrapping); there are no weak references.

use crate::alloc::NoMem;
use crate::Box;
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

#[cfg(embr_kernel)]
mod count {
    use kernel::sync::atomic::Acquire;
    use kernel::sync::Refcount;

    pub(super) struct Count(Refcount);

    impl Count {
        pub(super) fn one() -> Self {
            Count(Refcount::new(1))
        }

        pub(super) fn inc(&self) {
            self.0.inc();
        }

        /// Says whether that was the last; if so, all that other holders did before has happened before.
        pub(super) fn dec(&self) -> bool {
            self.0.dec_and_test()
        }

        pub(super) fn is_one(&self) -> bool {
            self.0.as_atomic().load(Acquire) == 1
        }
    }
}

#[cfg(not(embr_kernel))]
mod count {
    use core::sync::atomic::fence;
    use core::sync::atomic::AtomicUsize;
    use core::sync::atomic::Ordering;

    pub(super) struct Count(AtomicUsize);

    impl Count {
        pub(super) fn one() -> Self {
            Count(AtomicUsize::new(1))
        }

        pub(super) fn inc(&self) {
            // Half of the range is left for threads that are just here; wrapping to zero would free what is in use.
            if self.0.fetch_add(1, Ordering::Relaxed) > usize::MAX / 2 {
                std::process::abort();
            }
        }

        /// Says whether that was the last; if so, all that other holders did before has happened before.
        pub(super) fn dec(&self) -> bool {
            let last = self.0.fetch_sub(1, Ordering::Release) == 1;
            if last {
                fence(Ordering::Acquire);
            }
            last
        }

        pub(super) fn is_one(&self) -> bool {
            self.0.load(Ordering::Acquire) == 1
        }
    }
}

use count::Count;

struct Inner<T> {
    count: Count,
    value: T,
}

/// A value with several owners; the last one to let go drops it.
///
/// # Invariants
///
/// `inner` came from leaking a `Box<Inner<T>>`, and its count is the number of `Arc`s that point to it.
pub struct Arc<T> {
    inner: NonNull<Inner<T>>,
    _owns: PhantomData<Inner<T>>,
}

// SAFETY: An `Arc` gives `&T` to every thread that holds one, and the last holder drops the `T` in its own thread.
unsafe impl<T: Send + Sync> Send for Arc<T> {}

// SAFETY: As above: `&Arc` lets any thread clone it.
unsafe impl<T: Send + Sync> Sync for Arc<T> {}

impl<T> Arc<T> {
    /// Moves `value` to the heap, with one owner. When memory is short it is dropped.
    pub fn try_new(value: T) -> Result<Self, NoMem> {
        let inner = Box::try_new(Inner {
            count: Count::one(),
            value,
        })?;
        // INVARIANT: A fresh box with a count of one, for the one `Arc` made here.
        Ok(Arc {
            inner: inner.leak(),
            _owns: PhantomData,
        })
    }

    fn inner(&self) -> &Inner<T> {
        // SAFETY: By the type invariant the count includes this `Arc`, so the value is alive as long as `self` is.
        unsafe { self.inner.as_ref() }
    }

    /// Whether both are owners of the same value.
    pub fn ptr_eq(a: &Self, b: &Self) -> bool {
        a.inner == b.inner
    }

    /// Whether this is the only owner.
    ///
    /// A "yes" stays true as long as nobody can clone this very `Arc`, for instance because it lies in a locked table
    /// and all clones are made under that lock. A "no" may be old news at once.
    pub fn is_unique(this: &Self) -> bool {
        this.inner().count.is_one()
    }

    /// The value to change, if this is the only owner.
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        if !Arc::is_unique(this) {
            return None;
        }
        // SAFETY: There is no other owner, none can come into being while `this` is borrowed exclusively, and the
        // acquire load in `is_unique` puts what former owners did before this.
        Some(unsafe { &mut this.inner.as_mut().value })
    }

    /// Gives up this share. Exactly one of the owners that do so, the last, gets the value.
    pub fn into_inner(this: Self) -> Option<T> {
        let this = ManuallyDrop::new(this);
        if !this.inner().count.dec() {
            return None;
        }
        // SAFETY: The count fell to zero, so nobody else has the pointer any more, and by the type invariant it came
        // from a leaked box.
        Some(unsafe { Box::unleak(this.inner) }.into_inner().value)
    }
}

impl<T> Drop for Arc<T> {
    fn drop(&mut self) {
        if self.inner().count.dec() {
            // SAFETY: As in `into_inner`.
            drop(unsafe { Box::unleak(self.inner) });
        }
    }
}

impl<T> Clone for Arc<T> {
    fn clone(&self) -> Self {
        self.inner().count.inc();
        // INVARIANT: The count was raised for the `Arc` made here.
        Arc {
            inner: self.inner,
            _owns: PhantomData,
        }
    }
}

impl<T> Deref for Arc<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner().value
    }
}

impl<T: fmt::Debug> fmt::Debug for Arc<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
