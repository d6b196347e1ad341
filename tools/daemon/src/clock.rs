//! The one clock: monotonic time since an origin, and the wall clock for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Monotonic time since the machine started: the origin every thread of this process shares.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}

/// The tokio instant at which [`now`] will be `at`.
pub(crate) fn instant(at: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + at.saturating_sub(now())
}

/// 64 random bits.
pub(crate) fn random() -> u64 {
    let bytes = uuid::Uuid::new_v4().into_bytes();
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[8..]);
    // The top two bits of this half are the UUID's variant: fold the other half's over them.
    let mut high = [0; 8];
    high.copy_from_slice(&bytes[..8]);
    u64::from_le_bytes(low).rotate_left(32) ^ u64::from_le_bytes(high)
}
