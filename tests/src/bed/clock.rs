//! The demo uses the wall clock, as does umpathd's event log. Both share one kernel, so they agree
//! to the millisecond.

use std::time::{SystemTime, UNIX_EPOCH};

pub(super) fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
