// SPDX-License-Identifier: GPL-2.0

//! Sorting without panics.
//!
//! Not core's own sort in the kernel: it panics if it notices that the order contradicts itself, and objtool does not
//! know the function it calls then. The kernel's heap sort just leaves the elements in some order.

use core::cmp::Ordering;

#[cfg(embr_kernel)]
mod imp {
    use core::cmp::Ordering;
    use core::mem::size_of;
    use kernel::ffi;

    type Compare = unsafe extern "C" fn(
        *const ffi::c_void,
        *const ffi::c_void,
        *const ffi::c_void,
    ) -> ffi::c_int;
    type Swap =
        unsafe extern "C" fn(*mut ffi::c_void, *mut ffi::c_void, ffi::c_int, *const ffi::c_void);

    extern "C" {
        // lib/sort.c; not among the kernel crate's bindings.
        fn sort_r_nonatomic(
            base: *mut ffi::c_void,
            num: usize,
            size: usize,
            compare: Compare,
            swap: Option<Swap>,
            context: *const ffi::c_void,
        );
    }

    /// # Safety
    ///
    /// `a` and `b` point to elements that nobody changes meanwhile, `context` to an `F` that nobody else uses.
    unsafe extern "C" fn compare<T, F: FnMut(&T, &T) -> Ordering>(
        a: *const ffi::c_void,
        b: *const ffi::c_void,
        context: *const ffi::c_void,
    ) -> ffi::c_int {
        // SAFETY: By this function's contract.
        let order = unsafe { &mut *context.cast_mut().cast::<F>() };
        // SAFETY: By this function's contract.
        let (a, b) = unsafe { (&*a.cast::<T>(), &*b.cast::<T>()) };
        order(a, b) as ffi::c_int
    }

    pub(super) fn sort<T, F: FnMut(&T, &T) -> Ordering>(slice: &mut [T], mut order: F) {
        // SAFETY: The array is what the slice covers, borrowed exclusively; its elements are only compared and swapped
        // byte by byte, so each remains there once, however odd the order. `order` is only used by `compare`, which is
        // made for just these types and does not call itself.
        unsafe {
            sort_r_nonatomic(
                slice.as_mut_ptr().cast(),
                slice.len(),
                size_of::<T>(),
                compare::<T, F>,
                None,
                (&raw mut order).cast_const().cast(),
            )
        };
    }
}

#[cfg(not(embr_kernel))]
mod imp {
    use core::cmp::Ordering;

    pub(super) fn sort<T, F: FnMut(&T, &T) -> Ordering>(slice: &mut [T], order: F) {
        slice.sort_unstable_by(order);
    }
}

/// Sorts; equal elements end up in any order, and not in the same one in every back end.
pub fn sort_unstable_by<T>(slice: &mut [T], order: impl FnMut(&T, &T) -> Ordering) {
    imp::sort(slice, order);
}

/// Sorts by what `key` says of each element; see [`sort_unstable_by`].
pub fn sort_unstable_by_key<T, K: Ord>(slice: &mut [T], mut key: impl FnMut(&T) -> K) {
    imp::sort(slice, |a, b| key(a).cmp(&key(b)));
}

/// Sorts by the elements' own order; see [`sort_unstable_by`].
pub fn sort_unstable<T: Ord>(slice: &mut [T]) {
    imp::sort(slice, T::cmp);
}
