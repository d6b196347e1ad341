//! How long a host has taken no response.
//!
//! A response keeps its request's memory until it is reaped, and a host that posts no receive for
//! it can let it be sent again for ever without its queue pair failing. Responses of a queue are
//! reaped in order, so one number and one time tell whether any progress is made.

use std::time::{Duration, Instant};

/// How long a host may take no response while some are there. Longer than a lost packet or a short
/// outage takes the queue pair, much shorter than other hosts wait for the memory (30 s).
const RESPONSE_TIME: Duration = Duration::from_secs(10);

/// Responses of one queue that were sent and not reaped.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    count: u32,
    /// When the first of them was sent or the last one before them was reaped.
    since: Option<Instant>,
}

impl Unacknowledged {
    /// A response was sent.
    pub(super) fn sent(&mut self, now: impl FnOnce() -> Instant) {
        if self.count == 0 {
            self.since = Some(now());
        }
        self.count += 1;
    }

    /// A response was reaped.
    pub(super) fn reaped(&mut self, now: impl FnOnce() -> Instant) {
        self.count = self.count.saturating_sub(1);
        self.since = (self.count > 0).then(now);
    }

    /// Whether the host is to be watched.
    pub(super) fn any(&self) -> bool {
        self.count > 0
    }

    /// Whether the host has taken nothing for too long.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.since
            .is_some_and(|since| now.saturating_duration_since(since) > RESPONSE_TIME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_takes_no_response_is_overdue_and_one_that_is_slow_is_not() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut responses = Unacknowledged::default();
        assert!(!responses.is_overdue(at(1000)), "nothing was sent");
        for second in 0..3 {
            responses.sent(|| at(second));
        }
        assert!(!responses.is_overdue(at(10)));
        assert!(responses.is_overdue(at(11)), "from the first one on");
        responses.reaped(|| at(9));
        assert!(!responses.is_overdue(at(19)), "it took one");
        assert!(responses.is_overdue(at(20)));
        responses.reaped(|| at(19));
        responses.reaped(|| at(19));
        assert!(
            !responses.any() && !responses.is_overdue(at(1000)),
            "all were taken"
        );
        responses.sent(|| at(2000));
        assert!(
            !responses.is_overdue(at(2010)),
            "the idle time does not count"
        );
    }
}
