//! Waiting for the world to change. The only place of the test bed that sleeps.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const STEP: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; an error naming `what` after `limit`.
pub fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    within_value(limit, what, || condition().then_some(()))
}

/// Waits until `look` finds something; an error naming `what` after `limit`.
pub fn within_value<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            bail!("{what}: not within {:.1} s", limit.as_secs_f32());
        }
        std::thread::sleep(STEP);
    }
}

/// Waits for nothing but time: for what paces itself.
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}
