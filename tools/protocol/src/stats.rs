//! I/O counters of volumes.

use serde::{Deserialize, Serialize};

/// The counters of all volumes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsListing {
    /// One entry per volume, in device order.
    pub volumes: Vec<VolumeStats>,
}

/// One volume's counters since this daemon began to serve it, summed over all queue threads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VolumeStats {
    /// Name of the volume.
    pub volume: String,
    /// Block device, `ublkb0`.
    pub device: String,
    /// Number of queue threads.
    pub queues: u16,
    /// Queue threads that did not answer within a second: their counters are older, or 0.
    pub silent: u16,
    /// Read requests received from the kernel.
    pub reads: u64,
    /// Write requests received from the kernel.
    pub writes: u64,
    /// Flush requests received from the kernel.
    pub flushes: u64,
    /// Discard and write-zeroes requests received from the kernel.
    pub clears: u64,
    /// Bytes of completed reads.
    pub read_bytes: u64,
    /// Bytes of completed writes.
    pub written_bytes: u64,
    /// Requests completed with an error.
    pub errors: u64,
    /// Requests not completed yet.
    pub in_flight: u32,
    /// Age of the oldest of them, milliseconds.
    pub oldest_ms: f64,
    /// Longest time a request took, milliseconds.
    pub longest_ms: f64,
    /// Commands sent to controllers.
    pub sent: u64,
    /// Commands resent.
    pub resent: u64,
    /// Writes lost with an association, their fate unknown.
    pub lost: u64,
    /// Completions that match no command.
    pub stale: u64,
    /// Commands held back because of ghosts.
    pub held: HeldStats,
}

/// Commands held back because of ghosts: writes of unknown fate on an association that is not
/// fenced yet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldStats {
    /// Currently held.
    pub now: u64,
    /// Writes that overlapped a ghost.
    pub by_ghost: u64,
    /// Ghosts that overlapped another ghost.
    pub by_overlap: u64,
    /// Ghosts of a volume that other hosts write to as well.
    pub by_sharing: u64,
    /// Writes that waited for associations left by an earlier daemon.
    pub by_unknown: u64,
    /// Longest time a command was held, milliseconds.
    pub longest_ms: f64,
}
