//! Counters of volumes.

use serde::{Deserialize, Serialize};

/// All volumes' counters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsListing {
    /// In the order of their devices.
    pub volumes: Vec<VolumeStats>,
}

/// One volume's counters since its device was served by this daemon, all queue threads together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Its name.
    pub volume: String,
    /// Its block device, `ublkb0`.
    pub device: String,
    /// Queue threads.
    pub queues: u16,
    /// Queue threads that did not answer within a second: their counters are older, or 0.
    pub silent: u16,
    /// Requests taken from the kernel.
    pub reads: u64,
    /// See `reads`.
    pub writes: u64,
    /// See `reads`.
    pub flushes: u64,
    /// Discards and write-zeroes.
    pub clears: u64,
    /// Bytes of completed reads.
    pub read_bytes: u64,
    /// Bytes of completed writes.
    pub written_bytes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests not answered yet.
    pub in_flight: u32,
    /// How long the oldest of them has waited, milliseconds.
    pub oldest_ms: f64,
    /// Longest time a request took, milliseconds.
    pub longest_ms: f64,
    /// Commands sent to controllers.
    pub sent: u64,
    /// Commands sent again.
    pub resent: u64,
    /// Writes lost with an association, their fate unknown.
    pub lost: u64,
    /// Answers that fit no command.
    pub stale: u64,
    /// What waited because of lost writes.
    pub held: HeldStats,
}

/// Commands that waited because of ghosts: writes of unknown fate of an association that is not
/// fenced.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldStats {
    /// At this moment.
    pub now: u64,
    /// Writes that overlapped a ghost.
    pub by_ghost: u64,
    /// Ghosts that overlapped one another.
    pub by_overlap: u64,
    /// Ghosts of a volume that other hosts write to.
    pub by_sharing: u64,
    /// Writes that waited for associations an earlier daemon left behind.
    pub by_unknown: u64,
    /// Longest time one was held, milliseconds.
    pub longest_ms: f64,
}
