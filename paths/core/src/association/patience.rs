//! How long a single command may go without an answer before its association is given up for it.
//!
//! Giving up helps if the command was lost. A command that is merely slow starts over and is as slow
//! the next time, so giving up again and again would end neither the command nor the failovers. The
//! host cannot tell one from the other. So every association given up for a command doubles the time
//! that later associations of this path grant, until none was given up for a while.

use core::time::Duration;

/// Doublings at most: half a minute becomes half an hour.
const DOUBLINGS_MAX: u32 = 6;
/// Without another timeout for so long, all is as it was at first.
const MEMORY: Duration = Duration::from_secs(3600);

/// What one path has learnt of slow commands; outlives its associations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    doublings: u32,
    timed_out_at: Duration,
}

impl Patience {
    /// An association was given up for one command.
    pub(super) fn timed_out(&mut self, now: Duration) {
        self.doublings = (self.remembered(now) + 1).min(DOUBLINGS_MAX);
        self.timed_out_at = now;
    }

    /// What is granted where `timeout` is configured.
    pub(super) fn granted(self, timeout: Duration, now: Duration) -> Duration {
        timeout.saturating_mul(1 << self.remembered(now))
    }

    fn remembered(self, now: Duration) -> u32 {
        let fresh = now.saturating_sub(self.timed_out_at) < MEMORY;
        if fresh { self.doublings } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    #[test]
    fn patience_doubles_up_to_half_an_hour() {
        let mut patience = Patience::default();
        let mut granted = Vec::new();
        for _ in 0..9 {
            granted.push(patience.granted(TIMEOUT, TIMEOUT).as_secs());
            patience.timed_out(TIMEOUT);
        }
        assert_eq!(granted, [30, 60, 120, 240, 480, 960, 1920, 1920, 1920]);
    }

    #[test]
    fn an_hour_without_a_timeout_forgets_it() {
        let mut patience = Patience::default();
        patience.timed_out(TIMEOUT);
        patience.timed_out(TIMEOUT);
        let later = TIMEOUT + MEMORY;
        let earlier = later.saturating_sub(Duration::from_nanos(1));
        assert_eq!(patience.granted(TIMEOUT, earlier), TIMEOUT * 4);
        assert_eq!(patience.granted(TIMEOUT, later), TIMEOUT);
        patience.timed_out(later);
        assert_eq!(patience.granted(TIMEOUT, later), TIMEOUT * 2);
    }
}
