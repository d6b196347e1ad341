//! The clock all of the demo's times are on: the wall clock, as umpathd's event log has it. The
//! demo and umpathd share one kernel, so the two agree to the millisecond.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
