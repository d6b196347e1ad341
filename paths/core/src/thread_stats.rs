//! What one queue thread has done: plain counters it owns, copied out on request.

use core::time::Duration;

use crate::lane::LaneStats;

/// Buckets of the latency histogram; bucket n counts requests of 2^n up to 2^(n+1) microseconds,
/// bucket 0 also shorter ones, the last one also longer ones.
pub const LATENCY_BUCKETS: usize = 28;

/// Counters of one queue thread since its device started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// Reads taken from the kernel.
    pub reads: u64,
    /// Writes taken from the kernel.
    pub writes: u64,
    /// Flushes taken from the kernel.
    pub flushes: u64,
    /// Discards and write-zeroes taken from the kernel.
    pub clears: u64,
    /// Bytes of completed reads.
    pub read_bytes: u64,
    /// Bytes of completed writes.
    pub written_bytes: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests not answered yet.
    pub in_flight: u32,
    /// How long the oldest unanswered request has waited.
    pub oldest_waiting: Duration,
    /// The longest a request has taken since the previous snapshot.
    pub longest: Duration,
    /// When that request was answered, on the lane's clock.
    pub longest_at: Duration,
    /// Requests by how long they took, see [`LATENCY_BUCKETS`].
    pub latency: [u64; LATENCY_BUCKETS],
    /// Times the thread went to sleep.
    pub sleeps: u64,
    /// Rounds of the loop that found a completion without sleeping for it.
    pub polled: u64,
    /// Commands that their queue pair did not take (full, or broken) and that went back.
    pub full: u64,
    /// Completions of ublk that should not occur, each answered as safely as possible.
    pub anomalies: u64,
}

impl QueueStats {
    /// Counts a request that took `took` and was answered at `now`.
    pub fn answered(&mut self, took: Duration, now: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
        let bucket = (micros.ilog2() as usize).min(LATENCY_BUCKETS - 1);
        if let Some(count) = self.latency.get_mut(bucket) {
            *count += 1;
        }
        if took > self.longest {
            self.longest = took;
            self.longest_at = now;
        }
    }
}

/// Counters of one queue thread and its lane.
#[derive(Clone, Copy, Debug)]
pub struct ThreadStats {
    /// The thread's.
    pub queue: QueueStats,
    /// The lane's.
    pub lane: LaneStats,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_powers_of_two() {
        let mut stats = QueueStats::default();
        for micros in [0, 1, 2, 3, 4, 1023, 1024] {
            stats.answered(Duration::from_micros(micros), Duration::ZERO);
        }
        stats.answered(Duration::from_secs(100_000), Duration::from_secs(5));
        assert_eq!(stats.latency[..3], [2, 2, 1]);
        assert_eq!(stats.latency[9..11], [1, 1]);
        assert_eq!(stats.latency[LATENCY_BUCKETS - 1], 1);
        assert_eq!(stats.longest_at, Duration::from_secs(5));
    }
}
