//! Waiting for conditions. The only place in the test bed that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(20);
/// Time limit for one step of a drill or demo on a busy emulated machine, a fence by time included.
pub const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds; an error naming `what` after `limit`.
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    within_value(limit, what, || condition().then_some(()))
}

/// Waits until `find` returns a value; an error naming `what` after `limit`.
pub fn within_value<T>(
    limit: Duration,
    what: &str,
    mut find: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            bail!("{what}: not within {:.1} s", limit.as_secs_f32());
        }
        std::thread::sleep(STEP);
    }
}

/// Sleeps, for callers that pace themselves.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
