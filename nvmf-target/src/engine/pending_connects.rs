//! How many connections wait for their Connect command.
//!
//! A queue pair holds receive memory from the moment it is accepted until it is destroyed, by a thread
//! of its own, and who it belongs to is known only with Connect: so this limit keeps unknown
//! hosts from taking all memory and all threads.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Connections that may wait at once. Hosts that come back all together send Connect within
/// milliseconds, and one that is turned away comes again.
const WAITING_MAX: usize = 512;

/// Connections without a controller.
#[derive(Debug, Default)]
pub(super) struct PendingConnects(AtomicUsize);

impl PendingConnects {
    /// Whether there is room for one more; only the thread that asks lets anyone in.
    pub(super) fn has_room(&self) -> bool {
        self.0.load(Relaxed) < WAITING_MAX
    }

    /// One connection more.
    pub(super) fn enter(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// One got a controller, or is destroyed without one.
    pub(super) fn leave(&self) {
        let before = self.0.fetch_sub(1, Relaxed);
        assert!(before > 0, "a connection left that never entered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_hosts_are_let_in_up_to_a_limit() {
        let pending = PendingConnects::default();
        for _ in 0..WAITING_MAX {
            assert!(pending.has_room());
            pending.enter();
        }
        assert!(!pending.has_room());
        pending.leave();
        assert!(pending.has_room());
    }
}
