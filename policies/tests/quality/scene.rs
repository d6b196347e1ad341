//! What is compared: paths, loads, selectors.

use umpath_policies::SelectorKind;

/// Every selector but io-affinity, which chooses by place and not by what it sees.
pub(crate) const SELECTORS: [SelectorKind; 5] = [
    SelectorKind::QueueLength,
    SelectorKind::RoundRobin,
    SelectorKind::ServiceTime,
    SelectorKind::HistoricalServiceTime,
    SelectorKind::Latency,
];

/// What is wrong with the first path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Nothing.
    None,
    /// Its controller takes ten times as long.
    Slow,
    /// A tenth of its answers come up to 5 ms late.
    Jitter,
    /// It is away for 10 ms of every 50 ms; what is then in flight waits, what is sent within 1 ms
    /// too, and after that it is not offered.
    Flap,
    /// One request in a hundred is sent again after 20 ms.
    Loss,
}

impl Flaw {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "equal",
            Self::Slow => "one 10x slower",
            Self::Jitter => "one jittery",
            Self::Flap => "one flapping",
            Self::Loss => "one lossy",
        }
    }
}

/// What is asked of the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// 4 KiB reads.
    Reads,
    /// 4 KiB writes, which take longer.
    Writes,
    /// Seven reads of 4 KiB to three writes of 64 KiB.
    Mixed,
}

impl Load {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Mixed => "mixed",
        }
    }
}

/// One row of comparisons.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) paths: u8,
    pub(crate) flaw: Flaw,
    pub(crate) load: Load,
}

pub(crate) fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for paths in [2, 4] {
        for flaw in [Flaw::None, Flaw::Slow, Flaw::Jitter, Flaw::Flap, Flaw::Loss] {
            for load in [Load::Reads, Load::Writes, Load::Mixed] {
                scenes.push(Scene { paths, flaw, load });
            }
        }
    }
    scenes
}
