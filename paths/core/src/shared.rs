//! What the lanes of one volume share: counters, no locks.
//!
//! Every counter is relaxed. None of them orders other memory: requests belong to one lane, and
//! what a lane learns from `held` it could as well have learnt a moment earlier or later. The one
//! ordering that safety needs (all lanes know of a conviction before the first lost mutation is
//! sent again) comes from messages: the order fence is passed on only after every lane drained.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::table::{PATHS_MAX, PathId};

/// Shared by all lanes of one volume and its control side.
#[derive(Debug, Default)]
pub struct VolumeShared {
    /// Mutations of unknown fate, plus those failed to the caller while their fate was unknown.
    held: Padded<AtomicU32>,
    paths: [Padded<PathLoad>; PATHS_MAX],
}

/// Keeps neighbours out of a cache line, and out of the pair of lines that x86 prefetches.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// Load of one path over all lanes.
#[derive(Debug, Default)]
struct PathLoad {
    in_flight: AtomicU32,
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

    /// Mutations whose order fence is awaited. While not 0, no lane sends a new mutation.
    #[inline]
    pub fn held(&self) -> u32 {
        self.held.0.load(Ordering::Relaxed)
    }

    /// Commands in flight on `path`, all lanes.
    #[inline]
    pub fn in_flight(&self, path: PathId) -> u32 {
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
        let in_flight = load.in_flight.load(Ordering::Relaxed);
        let busy = load.busy_since_ns.load(Ordering::Relaxed);
        let answered = load.answered_ns.load(Ordering::Relaxed);
        let since = Duration::from_nanos(busy.max(answered));
        Pulse {
            in_flight,
            unanswered_since: (in_flight > 0).then_some(since),
            answered: Duration::from_nanos(answered),
        }
    }

    pub(crate) fn hold(&self) {
        self.held.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends `count` holds; `true` when these were the last.
    pub(crate) fn release(&self, count: u32) -> bool {
        let before = self.held.0.fetch_sub(count, Ordering::Relaxed);
        assert!(
            before >= count,
            "released {count} of {before} held mutations"
        );
        count > 0 && before == count
    }

    #[inline]
    pub(crate) fn sent(&self, path: PathId, now: Duration) {
        if let Some(load) = self.load(path)
            && load.in_flight.fetch_add(1, Ordering::Relaxed) == 0
        {
            load.busy_since_ns
                .store(now.as_nanos() as u64, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn answered(&self, path: PathId, now: Duration) {
        if let Some(load) = self.load(path) {
            load.answered_ns
                .store(now.as_nanos() as u64, Ordering::Relaxed);
            load.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A command ended without an answer.
    pub(crate) fn dropped(&self, path: PathId) {
        if let Some(load) = self.load(path) {
            load.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[inline]
    fn load(&self, path: PathId) -> Option<&PathLoad> {
        self.paths.get(path.index()).map(|padded| &padded.0)
    }
}
