//! `latency`: least average latency of such requests x (in flight + 1), hot paths left out.

use core::time::Duration;

use super::history::{History, SizeClass};
use super::{Ask, Candidates, Done, PATHS_MAX, SelectorConfig, Strategy, from};
use crate::PathId;

/// One request in so many goes to the path that was silent longest, so that one that was slow once
/// is not slow for ever: below 1 % of the I/O.
const PROBE_EVERY: u32 = 128;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Latency {
    history: History,
    /// Since when a request was sent and nothing answered, by path.
    waiting: [Option<Duration>; PATHS_MAX],
    /// Requests until the next probe.
    probe_in: u32,
    /// Position to look at first.
    next: usize,
}

impl Latency {
    /// The path that has been silent longest.
    fn stalest(&self, candidates: &impl Candidates) -> usize {
        let mut oldest = (0, Duration::MAX);
        for at in 0..candidates.count() {
            let answered = self.history.answered(candidates.path(at));
            if answered < oldest.1 {
                oldest = (at, answered);
            }
        }
        oldest.0
    }

    #[inline]
    fn best(&self, candidates: &impl Candidates, ask: &Ask) -> usize {
        let class = SizeClass::of(ask.bytes, ask.write);
        let count = candidates.count();
        // A path not yet known counts as the best known one: it gets its share, not all.
        let mut unknown_ns = u32::MAX;
        for at in 0..count {
            let mean = self.history.mean_ns(candidates.path(at), class);
            if mean > 0 {
                unknown_ns = unknown_ns.min(mean);
            }
        }
        let mut best = 0;
        let mut least = u64::MAX;
        for at in from(self.next, count) {
            let path = candidates.path(at);
            let mean_ns = match self.history.mean_ns(path, class) {
                0 => unknown_ns,
                known => known,
            };
            let waited = self
                .waiting
                .get(path.index() % PATHS_MAX)
                .copied()
                .flatten();
            let waited_ns = waited.map_or(0, |since| ask.now.saturating_sub(since).as_nanos());
            let expected = u64::from(mean_ns).max(waited_ns as u64);
            let cost = expected.saturating_mul(u64::from(candidates.in_flight(at)) + 1);
            if cost < least {
                least = cost;
                best = at;
            }
        }
        best
    }
}

impl Strategy for Latency {
    fn start(_: &SelectorConfig) -> Self {
        Self {
            history: History::new(),
            waiting: [None; PATHS_MAX],
            probe_in: PROBE_EVERY,
            next: 0,
        }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize {
        if candidates.count() == 0 {
            return 0;
        }
        self.probe_in -= 1;
        let best = if self.probe_in == 0 {
            self.probe_in = PROBE_EVERY;
            self.stalest(candidates)
        } else {
            self.best(candidates, ask)
        };
        self.next = best + 1;
        let path = candidates.path(best);
        if let Some(waiting) = self.waiting.get_mut(path.index() % PATHS_MAX) {
            waiting.get_or_insert(ask.now);
        }
        best
    }

    #[inline]
    fn completed(&mut self, done: &Done) {
        self.history.learn(done);
        if let Some(waiting) = self.waiting.get_mut(done.path.index() % PATHS_MAX) {
            *waiting = None;
        }
    }

    fn forget(&mut self, path: PathId) {
        self.history.forget(path);
        if let Some(waiting) = self.waiting.get_mut(path.index() % PATHS_MAX) {
            *waiting = None;
        }
    }
}
