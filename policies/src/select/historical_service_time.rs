//! `historical-service-time`: the path with the least past service time x (outstanding + 1).
//!
//! dm-multipath's rules. *Service time* of a request counts from its sending, or from the answer
//! before it where that came later, as if the path served one at a time. It is averaged with a weight
//! of 0.95 for each 16.8 ms it lasted. A path is *stale* when it has answered nothing for as long as
//! all paths together take for a request each: unused, it is tried again; in use, it is thought too
//! good and shares by outstanding requests alone. The optional threshold multiplier is not offered.

use core::time::Duration;

use super::{Ask, Candidates, Done, PATHS_MAX, SelectorConfig, Strategy, from};
use crate::PathId;

/// Fixed point with 10 bits of fraction.
const ONE: u64 = 1 << 10;
/// 0.95, the weight of the past for each bucket of time.
const PAST: u64 = 972;
/// A bucket of time lasts 2^24 ns.
const BUCKET_SHIFT: u32 = 24;
const BUCKETS: usize = 64;

/// Weight of the past when a request took so many buckets; the last forgets it all.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const WEIGHTS: [u64; BUCKETS] = {
    let mut weights = [0; BUCKETS];
    let mut weight = PAST;
    let mut at = 0;
    while at < BUCKETS - 1 {
        weights[at] = weight;
        weight = (weight * PAST + ONE / 2) / ONE;
        at += 1;
    }
    weights
};

#[derive(Debug, Clone, Copy)]
struct Past {
    /// Nanoseconds, fixed point.
    service: u64,
    finished_ns: u64,
    stale_after_ns: u64,
    /// Requests sent before this say nothing.
    forgotten: Duration,
}

impl Past {
    const NONE: Self = Self {
        service: ONE,
        finished_ns: 0,
        stale_after_ns: 0,
        forgotten: Duration::ZERO,
    };
}

/// Least estimated time to serve what is outstanding and this request.
#[derive(Debug, Clone)]
pub struct HistoricalServiceTime {
    paths: [Past; PATHS_MAX],
    /// Paths offered last, which is how many there are as far as this lane knows.
    count: u64,
    /// Position to check first.
    next: usize,
}

fn nanos(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[derive(Clone, Copy)]
struct View {
    /// Service time of what is outstanding and of this request.
    cost: u64,
    outstanding: u64,
    stale_after_ns: u64,
}

impl View {
    #[inline]
    fn idle_and_stale(self, now_ns: u64) -> bool {
        self.outstanding == 0 && self.stale_after_ns < now_ns
    }

    /// Strictly better than `other`.
    #[inline]
    fn beats(self, other: Self, now_ns: u64) -> bool {
        let both_idle = self.outstanding == 0 && other.outstanding == 0;
        if both_idle {
            return self.stale_after_ns < other.stale_after_ns;
        }
        // One of them carries something: the idle one is tried if it is stale.
        if self.idle_and_stale(now_ns) {
            return true;
        }
        if other.idle_and_stale(now_ns) {
            return false;
        }
        let wins = self.cost < other.cost;
        let winner = if wins { self } else { other };
        if winner.stale_after_ns < now_ns {
            return self.outstanding < other.outstanding;
        }
        wins
    }
}

impl HistoricalServiceTime {
    fn past(&self, path: PathId) -> Past {
        let at = path.index() % PATHS_MAX;
        self.paths.get(at).copied().unwrap_or(Past::NONE)
    }
}

impl Strategy for HistoricalServiceTime {
    fn start(_: &SelectorConfig) -> Self {
        Self {
            paths: [Past::NONE; PATHS_MAX],
            count: 1,
            next: 0,
        }
    }

    #[inline]
    fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize {
        let now_ns = nanos(ask.now);
        self.count = candidates.count() as u64;
        let mut best: Option<(usize, View)> = None;
        from(self.next, candidates.count()).for_each(|at| {
            let past = self.past(candidates.path(at));
            let outstanding = candidates.in_flight(at).into();
            let view = View {
                cost: past.service.saturating_mul(outstanding + 1),
                outstanding,
                stale_after_ns: past.stale_after_ns,
            };
            if best.is_none_or(|(_, known)| view.beats(known, now_ns)) {
                best = Some((at, view));
            }
        });
        let best = best.map_or(0, |(at, _)| at);
        self.next = best + 1;
        best
    }

    #[inline]
    fn completed(&mut self, done: &Done) {
        let count = self.count;
        let Some(past) = self.paths.get_mut(done.path.index() % PATHS_MAX) else {
            return;
        };
        if done.sent < past.forgotten {
            return;
        }
        let at_ns = nanos(done.at);
        let began_ns = nanos(done.sent).max(past.finished_ns);
        let took_ns = at_ns.saturating_sub(began_ns);
        let bucket = ((took_ns >> BUCKET_SHIFT) as usize).min(BUCKETS - 1);
        let weight = WEIGHTS.get(bucket).copied().unwrap_or(0);
        // 2^40 ns is 18 minutes: no overflow in what follows.
        let took = took_ns.min(1 << 40) * ONE;
        past.service = (past.service * weight + took * (ONE - weight) + ONE / 2) / ONE;
        past.finished_ns = at_ns;
        past.stale_after_ns = at_ns + count * (past.service / ONE);
    }

    fn forget(&mut self, path: PathId, now: Duration) {
        if let Some(past) = self.paths.get_mut(path.index() % PATHS_MAX) {
            *past = Past {
                forgotten: now,
                ..Past::NONE
            };
        }
    }
}
