//! `latency`: least (average latency of such requests + that of the best path) x (in flight + 1).
//!
//! The average is of this size and kind of request. Adding the best path's makes the choice gentler:
//! a path ten times as slow counts for five and a half, so that it is kept busy with the little it
//! can do, and a path that is a little slower is hardly spared. Load is the other factor, because a
//! short queue on a slow path may be done before a long one on a fast path.
//!
//! While a path answers nothing, the time since its first unanswered request counts instead of the
//! average once it is longer. So a path that went silent gets no requests after a few of its usual
//! latencies, long before it is suspected. A threshold on
//! the number in flight, as load balancers with many servers use it, would not do with two paths:
//! whichever has more would be hot, which is `queue-length`.

use core::time::Duration;

use super::history::{History, SizeClass};
use super::{Ask, Candidates, Done, PATHS_MAX, SelectorConfig, Strategy, from};
use crate::PathId;

/// One request in so many goes to the path that was silent longest, so that one that was slow once
/// is not slow for ever: below 1 % of the I/O.
const PROBE_EVERY: u32 = 128;

/// Of a path that owes nothing.
const NOTHING_OWED: u64 = u64::MAX;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Latency {
    history: History,
    /// When the first of the requests was sent that nothing came after, nanoseconds, by path.
    owed_since: [u64; PATHS_MAX],
    /// Requests until the next probe.
    probe_in: u32,
    /// Position to check first.
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
        let means = self.history.means(SizeClass::of(ask.bytes, ask.write));
        let now_ns = ask.now.as_nanos() as u64;
        let count = candidates.count();
        // A path not yet known counts as the best known one: it gets its share, not all.
        let mut best_ns = 0;
        for at in 0..count {
            let mean_ns = means.of(candidates.path(at));
            if mean_ns > 0 && (best_ns == 0 || mean_ns < best_ns) {
                best_ns = mean_ns;
            }
        }
        let mut best = 0;
        let mut least = u64::MAX;
        from(self.next, count).for_each(|at| {
            let path = candidates.path(at);
            let mean_ns = match means.of(path) {
                0 => best_ns.max(1),
                known => known,
            };
            let owed_since = self.owed_since.get(path.index() % PATHS_MAX);
            let owed_ns = now_ns.saturating_sub(owed_since.copied().unwrap_or(NOTHING_OWED));
            let cost = owed_ns
                .max(mean_ns.into())
                .saturating_add(best_ns.into())
                .saturating_mul(u64::from(candidates.in_flight(at)).saturating_add(1));
            if cost < least {
                least = cost;
                best = at;
            }
        });
        best
    }

    fn owes(&mut self, path: PathId) -> Option<&mut u64> {
        self.owed_since.get_mut(path.index() % PATHS_MAX)
    }
}

impl Strategy for Latency {
    fn start(_: &SelectorConfig) -> Self {
        Self {
            history: History::new(),
            owed_since: [NOTHING_OWED; PATHS_MAX],
            probe_in: PROBE_EVERY,
            next: 0,
        }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize {
        if candidates.count() == 0 {
            return 0;
        }
        if ask.bytes == 0 {
            // A flush or a discard: its answer says nothing of latencies and is not reported, so it
            // is no probe, and its path owes nothing.
            let best = self.best(candidates, ask);
            self.next = best + 1;
            return best;
        }
        self.probe_in -= 1;
        let best = if self.probe_in == 0 {
            self.probe_in = PROBE_EVERY;
            self.stalest(candidates)
        } else {
            self.best(candidates, ask)
        };
        self.next = best + 1;
        if let Some(owed_since) = self.owes(candidates.path(best))
            && *owed_since == NOTHING_OWED
        {
            *owed_since = ask.now.as_nanos() as u64;
        }
        best
    }

    #[inline]
    fn completed(&mut self, done: &Done) {
        self.history.learn(done);
        if let Some(owed_since) = self.owes(done.path) {
            *owed_since = NOTHING_OWED;
        }
    }

    fn forget(&mut self, path: PathId, now: Duration) {
        self.history.forget(path, now);
        if let Some(owed_since) = self.owes(path) {
            *owed_since = NOTHING_OWED;
        }
    }
}
