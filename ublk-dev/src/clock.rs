//! The clock of a volume's queue threads.

use std::time::{Duration, Instant};

/// Origin of the times given to a lane and found in its reports.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time zero: the same for all lanes and the control side of a volume.
    pub origin: Instant,
}

impl Clock {
    /// Now, on this clock.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}
