//! What the lanes of one volume share: counters, no locks.
//!
//! None of them orders other memory: requests belong to one lane, and what a lane learns of the
//! others' load it could as well have learnt a moment earlier or later. Safety rests on none of them:
//! the order it needs comes from messages. [`Pulse`] does need one order: a reader that sees a
//! command in flight must see since when, or it would take an idle path for a silent one.

use core::time::Duration;

use umpath_policies::{Histogram, LATENCY_BUCKETS};

use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::table::{PATHS_MAX, PathId};

/// What there is of each: loom explores no more than it must.
const PATHS: usize = if cfg!(all(test, feature = "loom")) {
    1
} else {
    PATHS_MAX
};
const BUCKETS: usize = if cfg!(all(test, feature = "loom")) {
    2
} else {
    LATENCY_BUCKETS
};

/// Shared by all lanes of one volume and its control side.
#[derive(Debug, Default)]
pub struct VolumeShared {
    paths: [Padded<PathLoad>; PATHS],
    latencies: [Stripe; STRIPES],
}

/// Lanes that count latencies in the same place are so many apart.
const STRIPES: usize = if cfg!(all(test, feature = "loom")) {
    2
} else {
    4
};

/// Latencies counted by some of the lanes.
#[derive(Debug, Default)]
struct Stripe([Padded<[AtomicU32; BUCKETS]>; PATHS]);

/// Keeps neighbours out of a cache line, and out of the pair of lines that x86 prefetches.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// One command in flight, in [`PathLoad::in_flight`]. Below it the bytes are counted: 2^40 of them,
/// more than all tags of a volume have buffers for, so the two never mix.
const COMMAND: u64 = 1 << 40;

/// Load of one path over all lanes.
#[derive(Debug, Default)]
struct PathLoad {
    /// Commands in flight times [`COMMAND`], plus the bytes of their data: one counter, so that
    /// counting both costs a request no more than counting one.
    in_flight: AtomicU64,
    /// When `in_flight` last left 0, nanoseconds.
    busy_since_ns: AtomicU64,
    /// When the controller last answered a command, nanoseconds.
    answered_ns: AtomicU64,
}

/// How a path is doing, for [`Health`](crate::association::Health).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// Commands in flight, all lanes.
    pub in_flight: u32,
    /// Commands are in flight and none was answered since this moment.
    pub unanswered_since: Option<Duration>,
    /// When the last command was answered, whether or not any is in flight now.
    pub answered: Duration,
}

impl VolumeShared {
    /// Counters of a volume without I/O.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Commands in flight on `path`, all lanes.
    #[inline]
    pub fn in_flight(&self, path: PathId) -> u32 {
        (self.packed(path) / COMMAND) as u32
    }

    /// Bytes of their data.
    #[inline]
    pub fn in_flight_bytes(&self, path: PathId) -> u64 {
        self.packed(path) % COMMAND
    }

    #[inline]
    fn packed(&self, path: PathId) -> u64 {
        self.load(path)
            .map_or(0, |load| load.in_flight.load(Ordering::Relaxed))
    }

    /// How `path` is doing.
    pub fn pulse(&self, path: PathId) -> Pulse {
        let Some(load) = self.load(path) else {
            return Pulse {
                in_flight: 0,
                unanswered_since: None,
                answered: Duration::ZERO,
            };
        };
        // Pairs with the releases of all who count: what is read below is as new as this.
        let in_flight = (load.in_flight.load(Ordering::Acquire) / COMMAND) as u32;
        let busy = load.busy_since_ns.load(Ordering::Relaxed);
        let answered = load.answered_ns.load(Ordering::Relaxed);
        let since = Duration::from_nanos(busy.max(answered));
        Pulse {
            in_flight,
            unanswered_since: (in_flight > 0).then_some(since),
            answered: Duration::from_nanos(answered),
        }
    }

    /// Reads and writes answered on `path` so far, by latency. Wraps.
    pub fn latencies(&self, path: PathId) -> Histogram {
        let mut sum = Histogram::default();
        for stripe in &self.latencies {
            let Some(counts) = stripe.0.get(path.index()) else {
                continue;
            };
            for (sum, count) in sum.0.iter_mut().zip(&counts.0) {
                *sum = sum.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        sum
    }

    /// Counts an answer. Not atomic as a whole: two lanes of one stripe may lose a count to each
    /// other, which a comparison of paths can bear better than every request a locked instruction.
    #[inline]
    pub(crate) fn took(&self, lane: u16, path: PathId, latency_ns: u32) {
        let stripe = self.latencies.get(usize::from(lane) % STRIPES);
        let counts = stripe.and_then(|stripe| stripe.0.get(path.index()));
        if let Some(count) = counts.and_then(|c| c.0.get(Histogram::bucket(latency_ns))) {
            let known = count.load(Ordering::Relaxed);
            count.store(known.wrapping_add(1), Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn sent(&self, path: PathId, bytes: u32, now: Duration) {
        let Some(load) = self.load(path) else { return };
        let now_ns = now.as_nanos() as u64;
        // Before it is counted, or health could find a command in flight since ages ago.
        let idle = load.in_flight.load(Ordering::Relaxed) == 0;
        if idle {
            load.busy_since_ns.store(now_ns, Ordering::Relaxed);
        }
        let one = COMMAND + u64::from(bytes);
        let before = load.in_flight.fetch_add(one, Ordering::Release);
        // What was in flight a moment ago has left flight without an answer.
        if before == 0 && !idle {
            load.busy_since_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn answered(&self, path: PathId, bytes: u32, now: Duration) {
        if let Some(load) = self.load(path) {
            load.answered_ns
                .store(now.as_nanos() as u64, Ordering::Relaxed);
            load.in_flight
                .fetch_sub(COMMAND + u64::from(bytes), Ordering::Release);
        }
    }

    /// A command ended without an answer.
    pub(crate) fn dropped(&self, path: PathId, bytes: u32) {
        if let Some(load) = self.load(path) {
            load.in_flight
                .fetch_sub(COMMAND + u64::from(bytes), Ordering::Release);
        }
    }

    #[inline]
    fn load(&self, path: PathId) -> Option<&PathLoad> {
        self.paths.get(path.index()).map(|padded| &padded.0)
    }
}

#[cfg(all(test, feature = "loom"))]
mod under_loom;
