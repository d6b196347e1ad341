//! The local buffer fence: when a queue pair can no longer touch memory.
//!
//! Moving a queue pair to the error state is not the barrier: work already started may still be
//! under way. The barrier is a marker posted behind everything else on each of the two work queues;
//! when both have come back flushed, everything before them has ended. A device that never flushes
//! is given a deadline; one that takes no markers gets none. Destroying the queue pair (`retire`) is
//! then the barrier.

use std::time::Duration;

use umpath_transport::Drain;

use crate::verbs::Outcome;

/// Which work queue a marker was posted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Marker {
    Send,
    Receive,
}

/// One drain.
#[derive(Debug)]
pub(crate) struct Draining {
    /// `None`: no markers were posted.
    deadline: Option<Duration>,
    send_flushed: bool,
    receive_flushed: bool,
}

impl Draining {
    /// Both markers were posted, on a queue pair that is in the error state.
    pub(crate) fn marked(deadline: Duration) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::unmarked()
        }
    }

    /// The queue pair could not be moved to the error state, or took no markers: nothing it could
    /// report would prove it quiet.
    pub(crate) fn unmarked() -> Self {
        Self {
            deadline: None,
            send_flushed: false,
            receive_flushed: false,
        }
    }

    /// A marker came back. What its status proves:
    /// - *Flushed*: the device threw it out because the queue pair was in the error state, where
    ///   nothing starts any more; and as work of one queue ends in order, all before it has ended.
    /// - *Done*: all before it has ended, but the queue pair was not in the error state: it may still
    ///   place what the peer writes. An empty SEND of the peer is enough to finish the receive marker.
    /// - *Failed*: the marker itself met an error. Of the other queue this says nothing, and the
    ///   queue pair was not in the error state when the device took it up.
    ///
    /// So only a flushed one counts; after any other the deadline passes.
    pub(crate) fn came_back(&mut self, marker: Marker, outcome: Outcome) {
        if outcome != Outcome::Flushed {
            return;
        }
        match marker {
            Marker::Send => self.send_flushed = true,
            Marker::Receive => self.receive_flushed = true,
        }
    }

    pub(crate) fn state(&self, now: Duration) -> Drain {
        if self.send_flushed && self.receive_flushed {
            Drain::Quiet
        } else if self.deadline.is_none_or(|deadline| now >= deadline) {
            Drain::DeadlinePassed
        } else {
            Drain::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(5);
    const LATE: Duration = Duration::from_secs(7);

    fn draining() -> Draining {
        Draining::marked(START + Duration::from_secs(1))
    }

    #[test]
    fn quiet_needs_both_markers_and_beats_the_deadline() {
        let mut draining = draining();
        assert_eq!(draining.state(START), Drain::Pending);
        draining.came_back(Marker::Send, Outcome::Flushed);
        assert_eq!(draining.state(START), Drain::Pending);
        assert_eq!(draining.state(LATE), Drain::DeadlinePassed);
        draining.came_back(Marker::Receive, Outcome::Flushed);
        assert_eq!(draining.state(START), Drain::Quiet);
        assert_eq!(draining.state(LATE), Drain::Quiet);
    }

    #[test]
    fn only_a_flushed_marker_counts() {
        let failed = Outcome::Failed {
            status: 12,
            vendor: 0,
        };
        for outcome in [Outcome::Done, failed] {
            for odd in [Marker::Send, Marker::Receive] {
                let mut draining = draining();
                for marker in [Marker::Send, Marker::Receive] {
                    let here = if marker == odd {
                        outcome
                    } else {
                        Outcome::Flushed
                    };
                    draining.came_back(marker, here);
                }
                assert_eq!(draining.state(START), Drain::Pending);
                assert_eq!(draining.state(LATE), Drain::DeadlinePassed);
            }
        }
    }

    #[test]
    fn without_markers_nothing_is_waited_for() {
        assert_eq!(Draining::unmarked().state(START), Drain::DeadlinePassed);
    }
}
