//! The local buffer fence: when a queue pair can no longer touch memory.
//!
//! Moving a queue pair to the error state is not the barrier: work already started may still be
//! under way. The barrier is a marker posted behind everything else on each of the two work queues;
//! when both have come back flushed, everything before them has ended. A device that never flushes
//! is given a deadline; destroying the queue pair (`retire`) is then the barrier.

use std::time::Duration;

use umpath_transport::Drain;

/// The markers of one drain.
#[derive(Debug)]
pub(crate) struct Draining {
    deadline: Duration,
    send_marker_back: bool,
    receive_marker_back: bool,
}

impl Draining {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            send_marker_back: false,
            receive_marker_back: false,
        }
    }

    pub(crate) fn send_marker(&mut self) {
        self.send_marker_back = true;
    }

    pub(crate) fn receive_marker(&mut self) {
        self.receive_marker_back = true;
    }

    pub(crate) fn state(&self, now: Duration) -> Drain {
        if self.send_marker_back && self.receive_marker_back {
            Drain::Quiet
        } else if now >= self.deadline {
            Drain::DeadlinePassed
        } else {
            Drain::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_needs_both_markers_and_beats_the_deadline() {
        let start = Duration::from_secs(5);
        let late = start + Duration::from_secs(2);
        let mut draining = Draining::new(start + Duration::from_secs(1));
        assert_eq!(draining.state(start), Drain::Pending);
        draining.send_marker();
        assert_eq!(draining.state(start), Drain::Pending);
        assert_eq!(draining.state(late), Drain::DeadlinePassed);
        draining.receive_marker();
        assert_eq!(draining.state(start), Drain::Quiet);
        assert_eq!(draining.state(late), Drain::Quiet);
    }
}
