//! Path selection: which path of the active group carries the next request.
//!
//! A selector ranks the paths it is offered; it never asks whether a path may be used. Its state
//! belongs to one lane: no lock, no allocation, no clock. A new selector is one file beside this one
//! and one line in the registry below; the conformance suite in `tests/` then runs over it.
//!
//! Load ([`Candidates`]) is counted over the whole device, so that lanes do not all take the same
//! path; what was learnt from answers ([`Strategy::completed`]) is each lane's own, because sharing
//! it would cost every request a contended cache line to learn the same thing a little sooner.

mod historical_service_time;
mod history;
mod io_affinity;
mod latency;
mod queue_length;
mod round_robin;
mod service_time;

pub use historical_service_time::HistoricalServiceTime;
pub use history::SizeClass;
pub use io_affinity::IoAffinity;
pub use latency::Latency;
pub use queue_length::QueueLength;
pub use round_robin::RoundRobin;
pub use service_time::ServiceTime;

use core::time::Duration;

use crate::{PathId, Priority, UnknownWord};

/// Most paths a volume has. Numbers above share what selectors remember with lower ones.
pub const PATHS_MAX: usize = 16;

/// The paths offered: usable, of one group, in configuration order.
pub trait Candidates {
    /// How many; at least 1.
    fn count(&self) -> usize;
    /// Number of the path at `at`.
    fn path(&self, at: usize) -> PathId;
    /// Requests in flight on it, counted over the whole device.
    fn in_flight(&self, at: usize) -> u32;
    /// Bytes of their data, counted over the whole device.
    fn in_flight_bytes(&self, at: usize) -> u64;
    /// Its priority.
    fn priority(&self, at: usize) -> Priority;
    /// Its throughput relative to the others, 0 to 100 by configuration; 0 is the last resort.
    fn throughput(&self, at: usize) -> u8;
    /// It leaves the machine on the NUMA node this lane runs on.
    fn is_near(&self, at: usize) -> bool;
}

/// The request that wants a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// Bytes of its data; 0: its answer is not reported.
    pub bytes: u32,
    /// It changes the medium.
    pub write: bool,
    /// Now, by the clock that [`Done::at`] is on.
    pub now: Duration,
}

/// A read or a write that was answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// The path that answered.
    pub path: PathId,
    /// Bytes of its data.
    pub bytes: u32,
    /// It changed the medium.
    pub write: bool,
    /// When it was sent.
    pub sent: Duration,
    /// When it was answered.
    pub at: Duration,
}

impl Done {
    /// From sending to answer, nanoseconds; at least 1, at most about 4 s.
    pub fn latency_ns(&self) -> u32 {
        let elapsed = self.at.saturating_sub(self.sent).as_nanos();
        u32::try_from(elapsed).unwrap_or(u32::MAX).max(1)
    }
}

/// What every selector is.
pub trait Strategy {
    /// Starts with this configuration.
    fn start(config: &SelectorConfig) -> Self
    where
        Self: Sized;

    /// Position of the path for the next request: below `candidates.count()`, and 0 when nothing
    /// is offered.
    fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize;

    /// A request was answered.
    fn completed(&mut self, done: &Done) {
        let _ = done;
    }

    /// The number names another path, or the path returns after it could not be used: what was
    /// learnt is void, and so is what requests sent before now will show.
    fn forget(&mut self, path: PathId, now: Duration) {
        let _ = (path, now);
    }
}

/// Arguments of the selectors; each reads what concerns it. `latency` is the default because it is
/// the best or as good as the best wherever paths differ, and as good as queue-length where they do
/// not: `docs/policies.md` has the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectorConfig {
    /// Which selector.
    pub kind: SelectorKind,
    /// Round-robin: requests on a path before the next one's turn, at least 1.
    pub rr_min_io: u32,
    /// Round-robin: multiply `rr_min_io` by the path's priority.
    pub rr_weight_priorities: bool,
}

impl Default for SelectorConfig {
    fn default() -> Self {
        Self {
            kind: SelectorKind::Latency,
            rr_min_io: 1,
            rr_weight_priorities: false,
        }
    }
}

impl SelectorConfig {
    /// A running selector.
    pub fn start(&self) -> Selector {
        Selector::new(self)
    }
}

macro_rules! registry {
    ($($kind:ident = $word:literal $(| $alias:literal)*,)+) => {
        /// The selectors there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SelectorKind {
            $(#[doc = concat!("`", $word, "`.")] $kind,)+
        }

        impl SelectorKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];
            const WORDS: &[&str] = &[$($word, $($alias,)*)+];

            /// The configuration's word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }

            fn of_word(word: &str) -> Option<Self> {
                match word { $($word $(| $alias)* => Some(Self::$kind),)+ _ => None }
            }
        }

        /// A running selector. One `match` on the hot path, no indirect call.
        #[derive(Debug, Clone)]
        pub enum Selector {
            $(#[doc = concat!("`", $word, "`.")] $kind(Box<$kind>),)+
        }

        impl Selector {
            fn new(config: &SelectorConfig) -> Self {
                match config.kind {
                    $(SelectorKind::$kind => Self::$kind(Box::new($kind::start(config))),)+
                }
            }

            /// Position of the path for the next request, below `candidates.count()`.
            #[inline]
            pub fn select(&mut self, candidates: &impl Candidates, ask: &Ask) -> usize {
                match self { $(Self::$kind(selector) => selector.select(candidates, ask),)+ }
            }

            /// A request was answered.
            #[inline]
            pub fn completed(&mut self, done: &Done) {
                match self { $(Self::$kind(selector) => selector.completed(done),)+ }
            }

            /// What was learnt of this path is void, and what requests sent before now will show.
            pub fn forget(&mut self, path: PathId, now: Duration) {
                match self { $(Self::$kind(selector) => selector.forget(path, now),)+ }
            }
        }
    };
}

registry! {
    QueueLength = "queue-length",
    RoundRobin = "round-robin",
    ServiceTime = "service-time",
    HistoricalServiceTime = "historical-service-time",
    IoAffinity = "io-affinity" | "numa",
    Latency = "latency",
}

impl SelectorKind {
    /// Understands `path_selector`, with or without multipath.conf's arguments
    /// (`"round-robin 0"`).
    pub fn parse(word: &str) -> Result<Self, UnknownWord> {
        let name = word.split_ascii_whitespace().next().unwrap_or_default();
        Self::of_word(name).ok_or_else(|| UnknownWord {
            expected: "path selector",
            word: word.into(),
            known: Self::WORDS,
        })
    }
}

/// Positions of `count` candidates, beginning at `first`, so that ties rotate. Consumed by `for_each`
/// it is two plain loops; a `for` would ask before each step which half it is in.
#[inline]
fn from(first: usize, count: usize) -> impl Iterator<Item = usize> {
    let first = if first < count { first } else { 0 };
    (first..count).chain(0..first)
}
