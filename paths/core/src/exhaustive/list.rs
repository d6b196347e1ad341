//! A short list without an allocation: states are copied and compared by the million.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};

/// At most `N` entries.
#[derive(Clone, Copy)]
pub(super) struct List<T, const N: usize> {
    /// Those past `count` are left over.
    entries: [T; N],
    count: u8,
}

impl<T: Copy, const N: usize> List<T, N> {
    /// None; `filler` is never seen.
    pub(super) fn new(filler: T) -> Self {
        Self {
            entries: [filler; N],
            count: 0,
        }
    }

    pub(super) fn push(&mut self, entry: T) {
        self.entries[usize::from(self.count)] = entry;
        self.count += 1;
    }

    pub(super) fn insert(&mut self, at: usize, entry: T) {
        self.push(entry);
        self[at..].rotate_right(1);
    }

    pub(super) fn remove(&mut self, at: usize) -> T {
        self[at..].rotate_left(1);
        self.count -= 1;
        self.entries[usize::from(self.count)]
    }

    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        let kept = self.entries;
        let count = usize::from(self.count);
        self.clear();
        for entry in kept.iter().take(count).filter(|entry| keep(entry)) {
            self.push(*entry);
        }
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.entries[..usize::from(self.count)]
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.entries[..usize::from(self.count)]
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}

impl<T: Hash, const N: usize> Hash for List<T, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
