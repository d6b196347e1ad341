//! The atomics of this crate: the standard library's, or loom's where loom explores what they allow.

#[cfg(not(all(test, feature = "loom")))]
pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
#[cfg(all(test, feature = "loom"))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
