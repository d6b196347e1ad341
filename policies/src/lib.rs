//! Pure path selection: facts about paths in; priorities, groups, the active group and the next
//! path out.
//!
//! Decided here: what a path is worth ([`Prioritizer`]), which paths stand together
//! ([`Grouping`]), which group carries the I/O ([`Failback`], [`ActiveGroup`]), and which path of
//! that group takes the next request ([`Selector`]), and how long a path that keeps failing is kept
//! out ([`Damping`], [`Outliers`]). The words and numbers are those of dm-multipath.
//!
//! Not decided here: whether a path *may* be used. The caller states it in [`PathFacts::usable`]
//! and offers selectors usable paths only. Nothing here reads a clock, draws a random number,
//! performs I/O or, in a selector, allocates.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod damping;
mod facts;
mod failback;
mod group;
mod outlier;
mod priority;
mod select;

pub use damping::{Damping, DampingConfig, Fault, Standing};
pub use facts::{AnaState, ControllerKey, PathFacts, PathId};
pub use failback::{ActiveGroup, Failback, Switch};
pub use group::{Group, Grouping, Ranked, Ranking, group_paths};
pub use outlier::{Histogram, LATENCY_BUCKETS, Outliers, Window};
pub use priority::{Prioritizer, Priority};
pub use select::{
    Ask, Candidates, Done, HistoricalServiceTime, IoAffinity, Latency, PATHS_MAX, QueueLength,
    RoundRobin, Selector, SelectorConfig, SelectorKind, ServiceTime, SizeClass, Strategy,
};

/// A configuration word that names no policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownWord {
    /// What was expected, for the message: `"path grouping policy"`.
    pub expected: &'static str,
    /// The word that was given.
    pub word: String,
    /// The words that would have been understood.
    pub known: &'static [&'static str],
}

impl core::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "unknown {} '{}'; use one of: {}",
            self.expected,
            self.word,
            self.known.join(", ")
        )
    }
}

impl core::error::Error for UnknownWord {}
