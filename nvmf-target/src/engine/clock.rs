//! The time the array is given: since the program started, counting system sleep, so that a machine
//! that slept through a keep-alive timeout knows it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The program's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Duration,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self {
            origin: boot_time(),
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        boot_time().saturating_sub(self.origin)
    }
}

fn boot_time() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
