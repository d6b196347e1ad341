//! How long to poll for an answer before sleeping.
//!
//! Decided here: the budget, from what past waits have shown. Pure: times are arguments.
//!
//! A wait that ended within the allowed time would have been worth polling for, so the budget grows
//! to cover the next one like it; a wait that took longer would have burnt the whole budget for
//! nothing, so it is halved, and soon is zero. On a fast fabric it settles above the round trip; on
//! a slow one, or where the polling itself delays the answer, the thread stops polling.

use std::time::Duration;

/// How long a queue thread may poll for completions before it sleeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Polling {
    /// The most; zero: it never polls.
    pub at_most: Duration,
}

impl Default for Polling {
    /// Covers a fast fabric's round trip, and is lost in the noise of a slow one's.
    fn default() -> Self {
        Self {
            at_most: Duration::from_micros(50),
        }
    }
}

/// Less than this is not worth a look at the clock.
const LEAST: Duration = Duration::from_micros(5);

/// The adaptive budget of one thread.
#[derive(Debug)]
pub(crate) struct Poller {
    at_most: Duration,
    budget: Duration,
    /// Since when nothing has happened although commands are in flight.
    waiting_since: Option<Duration>,
}

impl Poller {
    pub(crate) fn new(polling: Polling) -> Self {
        // Starts optimistic: the first waits tell.
        Self {
            at_most: polling.at_most,
            budget: polling.at_most,
            waiting_since: None,
        }
    }

    /// Nothing happened in this round and commands are in flight: whether to go round once more
    /// without sleeping.
    pub(crate) fn keep_polling(&mut self, now: Duration) -> bool {
        let since = *self.waiting_since.get_or_insert(now);
        self.budget >= LEAST && now.saturating_sub(since) < self.budget
    }

    /// An answer came (`answered`), or something else ended the wait.
    pub(crate) fn woke(&mut self, now: Duration, answered: bool) {
        let Some(since) = self.waiting_since.take() else {
            return;
        };
        if !answered {
            return;
        }
        let waited = now.saturating_sub(since);
        if waited > self.at_most {
            self.budget /= 2;
            if self.budget < LEAST {
                self.budget = Duration::ZERO;
            }
        } else if waited > self.budget {
            self.budget = (self.budget * 2)
                .max(waited * 2)
                .max(LEAST)
                .min(self.at_most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    /// Waits for an answer that comes after `latency`; how long of it was spent polling.
    fn wait(poller: &mut Poller, latency: Duration) -> Duration {
        let start = us(1_000_000);
        let mut now = start;
        while now < start + latency && poller.keep_polling(now) {
            now += us(1);
        }
        poller.woke(start + latency, true);
        now.saturating_sub(start)
    }

    #[test]
    fn a_slow_fabric_soon_costs_no_polling() {
        let mut poller = Poller::new(Polling { at_most: us(50) });
        let spent: Duration = (0..10).map(|_| wait(&mut poller, us(400))).sum();
        assert!(spent < us(110), "{spent:?}");
        assert_eq!(wait(&mut poller, us(400)), us(0));
    }

    #[test]
    fn a_fast_fabric_wins_polling_back() {
        let mut poller = Poller::new(Polling { at_most: us(50) });
        for _ in 0..10 {
            wait(&mut poller, us(400));
        }
        assert_eq!(wait(&mut poller, us(12)), us(0));
        for _ in 0..3 {
            assert_eq!(wait(&mut poller, us(12)), us(12));
        }
    }

    #[test]
    fn zero_means_never() {
        let mut poller = Poller::new(Polling { at_most: us(0) });
        for _ in 0..3 {
            assert_eq!(wait(&mut poller, us(3)), us(0));
        }
    }
}
