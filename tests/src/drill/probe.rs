//! The latency probe: one request at a time, each timed.
//!
//! It writes a block, reads it back and compares, then takes the next block. Since one request is
//! always in flight, the longest request that overlaps a time span is the stall of that span,
//! independently of umpathd's own measurements. The region is large enough that a block is reused
//! only after many seconds, so the probe never waits for itself.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::bed::{pause, unix_ms};

use super::block::Device;

/// Pause between two requests, so that the probe is not a load of its own.
const PAUSE: Duration = Duration::from_millis(2);
/// Requests that take longer are recorded.
const WORTH_NOTING: Duration = Duration::from_millis(5);

/// A slow request.
#[derive(Clone, Copy, Debug)]
struct Slow {
    from_unix_ms: u64,
    took: Duration,
}

#[derive(Debug, Default)]
struct Seen {
    stop: AtomicBool,
    requests: AtomicU64,
    slow: Mutex<Vec<Slow>>,
}

#[derive(Debug)]
pub(super) struct Probe {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Probe {
    /// Starts it on `blocks` blocks from `first` on.
    pub(super) fn start(device: &Path, first: u64, blocks: u64) -> Result<Self> {
        let device = Device::open(device)?;
        let seen = Arc::new(Seen::default());
        let thread = {
            let seen = Arc::clone(&seen);
            std::thread::spawn(move || run(&device, first, blocks, &seen))
        };
        Ok(Self {
            seen,
            thread: Some(thread),
        })
    }

    /// Number of completed requests.
    pub(super) fn requests(&self) -> u64 {
        self.seen.requests.load(Relaxed)
    }

    /// Whether it still runs; if not, [`Probe::finish`] returns the error.
    pub(super) fn alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// The longest request that overlaps this span, milliseconds.
    pub(super) fn longest_ms(&self, from_unix_ms: u64, to_unix_ms: u64) -> f64 {
        let slow = self
            .seen
            .slow
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        slow.iter()
            .filter(|slow| {
                let end = slow.from_unix_ms + slow.took.as_millis() as u64;
                slow.from_unix_ms <= to_unix_ms && end >= from_unix_ms
            })
            .map(|slow| slow.took.as_secs_f64() * 1e3)
            .fold(0.0, f64::max)
    }

    /// Stops it; returns the number of requests or the first error.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.seen.stop.store(true, Relaxed);
        let thread = self.thread.take().context("the probe has ended")?;
        thread.join().map_err(|_| anyhow!("the probe panicked"))??;
        Ok(self.requests())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.seen.stop.store(true, Relaxed);
    }
}

fn run(device: &Device, first: u64, blocks: u64, seen: &Seen) -> Result<()> {
    for round in 1_u64.. {
        let number = first + round % blocks;
        timed(seen, || device.write(number, round))
            .with_context(|| format!("writing block {number}"))?;
        let value = timed(seen, || device.read(number))
            .with_context(|| format!("reading block {number}"))?;
        if value != round {
            bail!("block {number} holds {value}, but {round} was written");
        }
        if seen.stop.load(Relaxed) {
            break;
        }
        pause(PAUSE);
    }
    Ok(())
}

fn timed<T>(seen: &Seen, request: impl FnOnce() -> T) -> T {
    let (from_unix_ms, start) = (unix_ms(), Instant::now());
    let result = request();
    let took = start.elapsed();
    seen.requests.fetch_add(1, Relaxed);
    if took >= WORTH_NOTING {
        let mut slow = seen.slow.lock().unwrap_or_else(PoisonError::into_inner);
        slow.push(Slow { from_unix_ms, took });
    }
    result
}
