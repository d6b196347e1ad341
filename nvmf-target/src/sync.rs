//! The atomics that processes share: the standard library's, or loom's where loom explores orders.

#[cfg(all(test, feature = "loom"))]
pub(crate) use self::sequential::{AtomicU32, AtomicU64};
#[cfg(not(all(test, feature = "loom")))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64};

/// Loom knows sequential consistency of fences, not of accesses: those it takes for acquire and
/// release, which allow more than they do. An access that reads and writes in one step always sees
/// the newest value, so a program of such accesses alone is sequentially consistent, and these are.
#[cfg(all(test, feature = "loom"))]
mod sequential {
    use std::sync::atomic::Ordering::{self, AcqRel, Acquire, SeqCst};

    macro_rules! sequential {
        ($name:ident, $value:ty) => {
            #[derive(Debug, Default)]
            pub(crate) struct $name(loom::sync::atomic::$name);

            // Of each number, the board needs some.
            #[allow(dead_code)]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self(loom::sync::atomic::$name::new(value))
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    self.fetch_add(0, order)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    check(order);
                    self.0.swap(value, AcqRel);
                }

                pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                    check(order);
                    self.0.fetch_add(value, AcqRel)
                }

                pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                    check(order);
                    self.0.fetch_sub(value, AcqRel)
                }

                pub(crate) fn compare_exchange(
                    &self,
                    known: $value,
                    new: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    check(success);
                    check(failure);
                    self.0.compare_exchange(known, new, AcqRel, Acquire)
                }

                pub(crate) fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut next: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut known = self.load(SeqCst);
                    while let Some(new) = next(known) {
                        match self.compare_exchange(known, new, success, failure) {
                            Ok(before) => return Ok(before),
                            Err(newer) => known = newer,
                        }
                    }
                    Err(known)
                }
            }
        };
    }

    sequential!(AtomicU32, u32);
    sequential!(AtomicU64, u64);

    /// Weaker accesses are not what these are.
    fn check(order: Ordering) {
        assert_eq!(order, SeqCst, "only sequentially consistent accesses");
    }
}
