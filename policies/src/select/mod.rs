//! Path selection: which path of the active group carries the next request.
//!
//! A selector ranks the paths it is offered; it never asks whether a path may be used. Its state
//! belongs to one lane: no lock, no allocation. A new selector is one file beside this one and one
//! line in the registry below; the conformance suite in `tests/` then runs over it.

mod queue_length;
mod round_robin;

pub use queue_length::QueueLength;
pub use round_robin::RoundRobin;

use crate::{PathId, Priority, UnknownWord};

/// The paths offered: usable, of one group, in configuration order.
pub trait Candidates {
    /// How many; at least 1.
    fn count(&self) -> usize;
    /// Number of the path at `at`.
    fn path(&self, at: usize) -> PathId;
    /// Requests in flight on it, counted over the whole device.
    fn in_flight(&self, at: usize) -> u32;
    /// Its priority.
    fn priority(&self, at: usize) -> Priority;
}

/// What every selector is.
pub trait Strategy {
    /// Starts with this configuration.
    fn start(config: &SelectorConfig) -> Self
    where
        Self: Sized;

    /// Position of the path for the next request: below `candidates.count()`, and 0 when nothing
    /// is offered.
    fn select(&mut self, candidates: &impl Candidates) -> usize;
}

/// Arguments of the selectors; each reads what concerns it.
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
            kind: SelectorKind::QueueLength,
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
    ($($kind:ident = $word:literal,)+) => {
        /// The selectors there are.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum SelectorKind {
            $(#[doc = concat!("`", $word, "`.")] $kind,)+
        }

        impl SelectorKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];
            const WORDS: &[&str] = &[$($word,)+];

            /// The configuration's word.
            pub fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)+ }
            }
        }

        /// A running selector. One `match` on the hot path, no indirect call.
        #[derive(Debug, Clone)]
        pub enum Selector {
            $(#[doc = concat!("`", $word, "`.")] $kind($kind),)+
        }

        impl Selector {
            fn new(config: &SelectorConfig) -> Self {
                match config.kind { $(SelectorKind::$kind => Self::$kind($kind::start(config)),)+ }
            }

            /// Position of the path for the next request, below `candidates.count()`.
            #[inline]
            pub fn select(&mut self, candidates: &impl Candidates) -> usize {
                match self { $(Self::$kind(selector) => selector.select(candidates),)+ }
            }
        }
    };
}

registry! {
    QueueLength = "queue-length",
    RoundRobin = "round-robin",
}

impl SelectorKind {
    /// Understands `path_selector`, with or without multipath.conf's argument count
    /// (`"round-robin 0"`).
    pub fn parse(word: &str) -> Result<Self, UnknownWord> {
        let name = word.split_ascii_whitespace().next().unwrap_or_default();
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.word() == name)
            .ok_or_else(|| UnknownWord {
                expected: "path selector",
                word: word.into(),
                known: Self::WORDS,
            })
    }
}
