//! When a keep-alive is due, and how long the last one has had no answer.
//!
//! Evidence, not verdicts: whether missed answers make a path suspect is decided by `umpath-core`.
//! The one exception is a whole keep-alive timeout without any answer, after which the controller
//! has given the association up by itself.
//!
//! Misses are counted in ticks this host performed, not in time that passed: a host that was itself
//! stopped for a second does not conclude from the first tick afterwards that its peer is silent.

use std::collections::VecDeque;
use std::time::Duration;

/// Keep-alives outstanding at most. Beyond that the session only counts.
const OUTSTANDING_MAX: usize = 4;

/// What one tick asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Send a keep-alive.
    pub(crate) send: bool,
    /// Ticks since the oldest unanswered one was sent, if there are any.
    pub(crate) missed: Option<u32>,
    /// The keep-alive timeout passed without an answer.
    pub(crate) dead: Option<Duration>,
}

#[derive(Debug)]
struct Unanswered {
    sent_at: Duration,
    ticks: u32,
}

/// The keep-alive timer of one association.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    interval: Duration,
    kato: Duration,
    /// The controller has said that it takes keep-alives.
    agreed: bool,
    next_at: Duration,
    /// Oldest first, at most `OUTSTANDING_MAX`.
    unanswered: VecDeque<Unanswered>,
}

impl Heartbeat {
    pub(crate) fn new(interval: Duration, kato: Duration, now: Duration) -> Self {
        Self {
            interval,
            kato,
            agreed: false,
            next_at: now + interval,
            unanswered: VecDeque::new(),
        }
    }

    /// The controller takes keep-alives and counts this timeout.
    pub(crate) fn agree(&mut self, kato: Duration) {
        self.kato = kato;
        self.agreed = true;
    }

    pub(crate) fn is_agreed(&self) -> bool {
        self.agreed
    }

    pub(crate) fn next_at(&self) -> Duration {
        self.next_at
    }

    pub(crate) fn tick(&mut self, now: Duration) -> Option<Beat> {
        if now < self.next_at {
            return None;
        }
        // Late ticks are not made up for: catching up would only burst.
        self.next_at = now + self.interval;
        for owed in &mut self.unanswered {
            owed.ticks = owed.ticks.saturating_add(1);
        }
        let oldest = self.unanswered.front();
        let missed = oldest.map(|owed| owed.ticks);
        let ticks_needed = (self.kato.as_nanos() / self.interval.as_nanos().max(1)) / 2;
        let dead = oldest
            .filter(|owed| u128::from(owed.ticks) >= ticks_needed)
            .map(|owed| now.saturating_sub(owed.sent_at))
            .filter(|waited| *waited >= self.kato);
        let send = self.unanswered.len() < OUTSTANDING_MAX;
        if send {
            self.unanswered.push_back(Unanswered {
                sent_at: now,
                ticks: 0,
            });
        }
        Some(Beat { send, missed, dead })
    }

    pub(crate) fn answered(&mut self, sent_at: Duration) {
        // Only its own answer settles a keep-alive, however many later ones are answered.
        self.unanswered.retain(|owed| owed.sent_at != sent_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_silent_peer_is_counted_then_given_up() {
        let mut heartbeat = Heartbeat::new(100 * MS, 1000 * MS, Duration::ZERO);
        let mut sent = 0;
        for tick in 1..=11_u32 {
            let beat = heartbeat.tick(100 * tick * MS).expect("due");
            sent += u32::from(beat.send);
            assert_eq!(beat.missed, (tick > 1).then(|| tick - 1));
            assert_eq!(beat.dead.is_some(), tick == 11);
        }
        assert_eq!(sent, 4);
    }

    #[test]
    fn a_host_that_was_stopped_blames_nobody() {
        let mut heartbeat = Heartbeat::new(100 * MS, 1000 * MS, Duration::ZERO);
        heartbeat.tick(100 * MS);
        let beat = heartbeat.tick(60_000 * MS).expect("due");
        assert_eq!((beat.missed, beat.dead), (Some(1), None));
        heartbeat.answered(100 * MS);
        assert_eq!(heartbeat.tick(60_100 * MS).expect("due").missed, Some(1));
        heartbeat.answered(60_000 * MS);
        heartbeat.answered(60_100 * MS);
        assert_eq!(heartbeat.tick(60_200 * MS).expect("due").missed, None);
    }
}
