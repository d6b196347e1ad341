//! What a ready session has to read again, and from when on it may.
//!
//! Decided here: namespaces and the ANA log are retried independently, each after a pause of its own
//! that grows while the read fails. However long the namespaces cannot be read, the ANA log, by which
//! I/O finds its paths, is read meanwhile.

use std::time::Duration;

/// Pause before a failed read is repeated: at first, and at most.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
pub(crate) const PAUSE_MAX: Duration = Duration::from_secs(30);

/// One thing to be read again.
#[derive(Debug, Default)]
pub(crate) struct Reread {
    wanted: bool,
    not_before: Duration,
    /// Reads in a row that failed.
    failures: u32,
}

impl Reread {
    /// Something changed. A pause that was begun because reading failed is cut short, not left out:
    /// a storm of events must not become a storm of failing reads.
    pub(crate) fn news(&mut self, now: Duration) {
        self.wanted = true;
        self.not_before = self.not_before.min(now.saturating_add(PAUSE));
    }

    /// True, once, when it is to be read.
    pub(crate) fn take(&mut self, now: Duration) -> bool {
        let due = self.wanted && self.not_before <= now;
        self.wanted &= !due;
        due
    }

    /// It was read.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = Duration::ZERO;
    }

    /// It could not be read, or not all of it. True if that was so the last time too.
    pub(crate) fn failed(&mut self, now: Duration) -> bool {
        let pause = PAUSE.saturating_mul(1 << self.failures.min(8));
        // Changed again while it was read.
        let pause = if self.wanted {
            PAUSE
        } else {
            pause.min(PAUSE_MAX)
        };
        self.failures = self.failures.saturating_add(1);
        self.wanted = true;
        self.not_before = now.saturating_add(pause);
        self.failures > 1
    }

    fn due(&self) -> Option<Duration> {
        self.wanted.then_some(self.not_before)
    }
}

/// Changes that were not read yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) namespaces: Reread,
    pub(crate) ana: Reread,
    /// The host waits for a reading of the ANA log, whatever it says.
    pub(crate) ana_asked: bool,
    pub(crate) resets: bool,
    pub(crate) lost_hosts: bool,
    /// A group is in transition, which is over by then: the log is read again whether or not an
    /// event says so.
    pub(crate) settled_at: Option<Duration>,
}

impl Pending {
    /// When an idle session has something to do.
    pub(crate) fn due(&self) -> Option<Duration> {
        let at_once = (self.resets || self.lost_hosts).then_some(Duration::ZERO);
        [
            at_once,
            self.namespaces.due(),
            self.ana.due(),
            self.settled_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_grow_while_reading_fails_and_news_cut_them_short() {
        let mut reread = Reread::default();
        let mut now = SECOND * 100;
        reread.news(now);
        assert!(reread.take(now));
        assert!(!reread.take(now), "once");
        let mut pauses = Vec::new();
        for _ in 0..7 {
            reread.failed(now);
            let due = reread.due().unwrap();
            pauses.push(due.saturating_sub(now).as_secs());
            now = due;
            assert!(reread.take(now));
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        reread.failed(now);
        reread.news(now);
        assert_eq!(reread.due(), Some(now + PAUSE));
        now += PAUSE;
        assert!(reread.take(now));
        reread.news(now);
        reread.failed(now);
        assert_eq!(reread.due(), Some(now + PAUSE), "changed while it was read");
        now += PAUSE;
        assert!(reread.take(now));
        reread.succeeded();
        reread.news(now);
        assert!(reread.take(now));
    }
}
