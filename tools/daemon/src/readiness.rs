//! Waiting for any of a changing set of descriptors.
//!
//! An association watches one descriptor per queue it is opening and a few for its admin queue.
//! [`Readiness`] holds them under keys and yields the keys that have become readable. It watches
//! duplicates, so the original may be closed first. Readiness is edge-triggered: after a key is
//! yielded, its owner must read until nothing is left.

// UNSAFETY: tokio requires that a registered descriptor stays open.
#![expect(unsafe_code)]

use std::future::poll_fn;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A set of descriptors under keys.
#[derive(Debug)]
pub(crate) struct Readiness<K> {
    watched: Vec<(K, AsyncFd<OwnedFd>)>,
    /// Where the next poll starts, so that a busy descriptor does not starve the others.
    next: usize,
}

impl<K: Copy + PartialEq> Readiness<K> {
    /// An empty set.
    pub(crate) fn new() -> Self {
        Self {
            watched: Vec::new(),
            next: 0,
        }
    }

    /// Adds a descriptor.
    pub(crate) fn watch(&mut self, key: K, fd: BorrowedFd<'_>) -> std::io::Result<()> {
        let fd = fd.try_clone_to_owned()?;
        // SAFETY: the `AsyncFd` owns the descriptor, which stays open until the `AsyncFd` drops.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
            .map_err(|error| error.into_parts().1)?;
        self.watched.push((key, fd));
        Ok(())
    }

    /// Removes every descriptor under `key`.
    pub(crate) fn forget(&mut self, key: K) {
        self.watched.retain(|(watched, _)| *watched != key);
    }

    /// The next readable key. Stays pending while the set is empty.
    pub(crate) async fn ready(&mut self) -> K {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<K> {
        let count = self.watched.len();
        for step in 0..count {
            let index = (self.next + step) % count;
            let Some((key, fd)) = self.watched.get(index) else {
                continue;
            };
            match fd.poll_read_ready(context) {
                Poll::Ready(Ok(mut guard)) => {
                    guard.clear_ready();
                    self.next = index + 1;
                    return Poll::Ready(*key);
                }
                // The runtime is shutting down.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;
    use std::time::Duration;

    #[tokio::test]
    async fn yields_the_readable_one_and_forgets() {
        let (a, a_write) = rustix::pipe::pipe().unwrap();
        let (b, b_write) = rustix::pipe::pipe().unwrap();
        let mut set = Readiness::new();
        set.watch('a', a.as_fd()).unwrap();
        set.watch('b', b.as_fd()).unwrap();
        rustix::io::write(&b_write, b"x").unwrap();
        assert_eq!(set.ready().await, 'b');
        rustix::io::write(&a_write, b"x").unwrap();
        assert_eq!(set.ready().await, 'a');
        set.forget('a');
        rustix::io::write(&a_write, b"x").unwrap();
        assert!(
            tokio::time::timeout(Duration::from_millis(20), set.ready())
                .await
                .is_err()
        );
    }
}
