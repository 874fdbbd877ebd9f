// SPDX-License-Identifier: GPL-2.0

//! A growable array that tells when memory is short.
//!
//! Whatever can be done without allocating is infallible and total: no method panics, an index that is out of range
//! gives `None`. What is done on slices (searching, splitting, iterating) comes through `Deref`.

use crate::alloc::NoMem;
use crate::sort;
use core::cmp::Ordering;
use core::fmt;
use core::ops::Deref;
use core::ops::DerefMut;

#[cfg(embr_kernel)]
mod raw {
    use crate::alloc::NoMem;
    use crate::patience::ask;
    use kernel::alloc::allocator::KVmalloc;
    use kernel::alloc::flags::GFP_KERNEL;
    use kernel::alloc::flags::__GFP_NOWARN;
    use kernel::alloc::Flags;

    // Large arrays fall back from kmalloc to vmalloc. Callers that must not recurse into the filesystem are in a nofs
    // scope, which narrows GFP_KERNEL for them.
    pub(super) type Raw<T> = kernel::alloc::KVVec<T>;
    pub(super) type RawIntoIter<T> = kernel::alloc::kvec::IntoIter<T, KVmalloc>;

    /// Whoever runs out of memory here says so himself.
    fn flags() -> Flags {
        GFP_KERNEL | __GFP_NOWARN
    }

    pub(super) fn reserve<T>(v: &mut Raw<T>, additional: usize) -> Result<(), NoMem> {
        ask(|| v.reserve(additional, flags())).map_err(|_| NoMem)
    }

    pub(super) fn with_capacity<T>(n: usize) -> Result<Raw<T>, NoMem> {
        ask(|| Raw::with_capacity(n, flags())).map_err(|_| NoMem)
    }

    pub(super) fn push<T>(v: &mut Raw<T>, value: T) -> Result<(), NoMem> {
        v.push_within_capacity(value).map_err(|_| NoMem)
    }

    pub(super) fn insert<T>(v: &mut Raw<T>, index: usize, value: T) -> Result<(), NoMem> {
        v.insert_within_capacity(index, value).map_err(|_| NoMem)
    }

    pub(super) fn remove<T>(v: &mut Raw<T>, index: usize) -> Option<T> {
        v.remove(index).ok()
    }

    // The two below follow a successful `reserve`.

    pub(super) fn extend<T: Clone>(v: &mut Raw<T>, other: &[T]) -> Result<(), NoMem> {
        v.extend_from_slice(other, flags()).map_err(|_| NoMem)
    }

    pub(super) fn resize<T: Clone>(v: &mut Raw<T>, len: usize, value: T) -> Result<(), NoMem> {
        v.resize(len, value, flags()).map_err(|_| NoMem)
    }

    pub(super) fn zeroed(n: usize) -> Result<Raw<u8>, NoMem> {
        ask(|| Raw::zeroed(n, flags())).map_err(|_| NoMem)
    }
}

#[cfg(not(embr_kernel))]
mod raw {
    use crate::alloc::admit;
    use crate::alloc::NoMem;
    use core::mem::size_of;

    pub(super) type Raw<T> = std::vec::Vec<T>;
    pub(super) type RawIntoIter<T> = std::vec::IntoIter<T>;

    pub(super) fn reserve<T>(v: &mut Raw<T>, additional: usize) -> Result<(), NoMem> {
        if v.capacity() - v.len() >= additional {
            return Ok(());
        }
        admit()?;
        v.try_reserve(additional).map_err(|_| NoMem)
    }

    pub(super) fn with_capacity<T>(n: usize) -> Result<Raw<T>, NoMem> {
        let mut v = Raw::new();
        if n != 0 && size_of::<T>() != 0 {
            admit()?;
            v.try_reserve_exact(n).map_err(|_| NoMem)?;
        }
        Ok(v)
    }

    // The four below follow a successful `reserve`, so that std never gets to abort.

    pub(super) fn push<T>(v: &mut Raw<T>, value: T) -> Result<(), NoMem> {
        v.push(value);
        Ok(())
    }

    pub(super) fn insert<T>(v: &mut Raw<T>, index: usize, value: T) -> Result<(), NoMem> {
        v.insert(index, value);
        Ok(())
    }

    pub(super) fn extend<T: Clone>(v: &mut Raw<T>, other: &[T]) -> Result<(), NoMem> {
        v.extend_from_slice(other);
        Ok(())
    }

    pub(super) fn resize<T: Clone>(v: &mut Raw<T>, len: usize, value: T) -> Result<(), NoMem> {
        v.resize(len, value);
        Ok(())
    }

    pub(super) fn remove<T>(v: &mut Raw<T>, index: usize) -> Option<T> {
        if index < v.len() {
            Some(v.remove(index))
        } else {
            None
        }
    }

    pub(super) fn zeroed(n: usize) -> Result<Raw<u8>, NoMem> {
        let mut v = with_capacity(n)?;
        v.resize(n, 0);
        Ok(v)
    }
}

use raw::Raw;

/// A growable array whose allocations may fail.
pub struct Vec<T>(Raw<T>);

impl<T> Vec<T> {
    /// An empty array; allocates nothing.
    pub const fn new() -> Self {
        Vec(Raw::new())
    }

    /// An empty array with room for at least `n` elements.
    pub fn try_with_capacity(n: usize) -> Result<Self, NoMem> {
        raw::with_capacity(n).map(Vec)
    }

    /// How many elements fit without allocating.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Makes room for at least `additional` more elements, so that as many pushes cannot fail.
    pub fn try_reserve(&mut self, additional: usize) -> Result<(), NoMem> {
        raw::reserve(&mut self.0, additional)
    }

    /// Appends one element. When memory is short the array is unchanged and `value` is dropped.
    pub fn push(&mut self, value: T) -> Result<(), NoMem> {
        raw::reserve(&mut self.0, 1)?;
        raw::push(&mut self.0, value)
    }

    /// Appends one element if it fits without allocating, else hands it back.
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        if self.0.len() < self.0.capacity() {
            // There is room, so this cannot fail.
            let _ = raw::push(&mut self.0, value);
            Ok(())
        } else {
            Err(value)
        }
    }

    /// Takes the last element off.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    /// Puts `value` before the element at `index`; an `index` past the end means the end.
    pub fn insert(&mut self, index: usize, value: T) -> Result<(), NoMem> {
        raw::reserve(&mut self.0, 1)?;
        let index = index.min(self.0.len());
        raw::insert(&mut self.0, index, value)
    }

    /// Takes the element at `index` out and closes the gap.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        raw::remove(&mut self.0, index)
    }

    /// Takes the element at `index` out and puts the last one into its place.
    pub fn swap_remove(&mut self, index: usize) -> Option<T> {
        let last = self.0.len().checked_sub(1)?;
        if index > last {
            return None;
        }
        self.0.swap(index, last);
        self.0.pop()
    }

    /// Drops everything from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Drops all elements and keeps the memory.
    pub fn clear(&mut self) {
        self.0.truncate(0);
    }

    /// Keeps the elements for which `keep` says yes, in their order.
    pub fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.0.retain(|x| keep(x));
    }

    /// Keeps the elements for which `keep` says yes, in their order; it may change them.
    pub fn retain_mut(&mut self, keep: impl FnMut(&mut T) -> bool) {
        #[cfg(embr_kernel)]
        self.0.retain(keep);
        #[cfg(not(embr_kernel))]
        self.0.retain_mut(keep);
    }

    /// Appends what the iterator gives. When memory is short, what was appended so far stays.
    pub fn try_extend(&mut self, items: impl IntoIterator<Item = T>) -> Result<(), NoMem> {
        let items = items.into_iter();
        raw::reserve(&mut self.0, items.size_hint().0)?;
        for item in items {
            self.push(item)?;
        }
        Ok(())
    }

    /// An array of what the iterator gives.
    pub fn try_from_iter(items: impl IntoIterator<Item = T>) -> Result<Self, NoMem> {
        let mut v = Vec::new();
        v.try_extend(items)?;
        Ok(v)
    }

    /// Moves all elements of `other` to the end of this one. When memory is short neither changes.
    pub fn try_append(&mut self, other: &mut Vec<T>) -> Result<(), NoMem> {
        raw::reserve(&mut self.0, other.len())?;
        for item in core::mem::take(other) {
            raw::push(&mut self.0, item)?;
        }
        Ok(())
    }

    /// Moves the elements from `at` on into a new array. When memory is short nothing changes.
    pub fn try_split_off(&mut self, at: usize) -> Result<Vec<T>, NoMem> {
        let mut tail = Vec::try_with_capacity(self.len().saturating_sub(at))?;
        while self.len() > at {
            if let Some(item) = self.pop() {
                raw::push(&mut tail.0, item)?;
            }
        }
        tail.reverse();
        Ok(tail)
    }

    /// Sorts. Hides core's method of that name, which may panic: see [`crate::sort`].
    pub fn sort_unstable_by(&mut self, order: impl FnMut(&T, &T) -> Ordering) {
        sort::sort_unstable_by(self, order);
    }

    /// Sorts by what `key` says of each element; see [`Vec::sort_unstable_by`].
    pub fn sort_unstable_by_key<K: Ord>(&mut self, key: impl FnMut(&T) -> K) {
        sort::sort_unstable_by_key(self, key);
    }

    /// Sorts by the elements' own order; see [`Vec::sort_unstable_by`].
    pub fn sort_unstable(&mut self)
    where
        T: Ord,
    {
        sort::sort_unstable(self);
    }

    /// The elements as a slice.
    pub fn as_slice(&self) -> &[T] {
        &self.0
    }

    /// The elements as a slice that can be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Clone> Vec<T> {
    /// Appends a copy of each element of `other`.
    pub fn try_extend_from_slice(&mut self, other: &[T]) -> Result<(), NoMem> {
        raw::reserve(&mut self.0, other.len())?;
        raw::extend(&mut self.0, other)
    }

    /// A copy of `other`.
    pub fn try_from_slice(other: &[T]) -> Result<Self, NoMem> {
        let mut v = Vec::try_with_capacity(other.len())?;
        v.try_extend_from_slice(other)?;
        Ok(v)
    }

    /// `n` copies of `value`.
    pub fn try_from_elem(value: T, n: usize) -> Result<Self, NoMem> {
        let mut v = Vec::try_with_capacity(n)?;
        v.try_resize(n, value)?;
        Ok(v)
    }

    /// Cuts down, or fills up with copies of `value`, to `len` elements.
    pub fn try_resize(&mut self, len: usize, value: T) -> Result<(), NoMem> {
        if let Some(more) = len.checked_sub(self.len()) {
            raw::reserve(&mut self.0, more)?;
        }
        raw::resize(&mut self.0, len, value)
    }

    /// A copy of this array.
    pub fn try_clone(&self) -> Result<Self, NoMem> {
        Vec::try_from_slice(self)
    }
}

impl Vec<u8> {
    /// `n` zero bytes, got as zeroed memory where the allocator has such.
    pub fn zeroed(n: usize) -> Result<Self, NoMem> {
        raw::zeroed(n).map(Vec)
    }
}

impl<T> Default for Vec<T> {
    fn default() -> Self {
        Vec::new()
    }
}

impl<T> Deref for Vec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> DerefMut for Vec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T> AsRef<[T]> for Vec<T> {
    fn as_ref(&self) -> &[T] {
        &self.0
    }
}

impl<T> AsMut<[T]> for Vec<T> {
    fn as_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Vec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: PartialEq> PartialEq for Vec<T> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<T: Eq> Eq for Vec<T> {}

impl<T: PartialEq> PartialEq<[T]> for Vec<T> {
    fn eq(&self, other: &[T]) -> bool {
        self.as_slice() == other
    }
}

impl<T: PartialEq, const N: usize> PartialEq<[T; N]> for Vec<T> {
    fn eq(&self, other: &[T; N]) -> bool {
        self.as_slice() == other
    }
}

/// The elements of a [`Vec`], by value.
pub struct IntoIter<T>(raw::RawIntoIter<T>);

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> IntoIterator for Vec<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter(self.0.into_iter())
    }
}

impl<'a, T> IntoIterator for &'a Vec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Vec<T> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(all(test, not(embr_kernel)))]
mod tests;
