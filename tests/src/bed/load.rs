//! A background load: rounds of fio, one after another, until stopped.
//!
//! Rounds, not one long job: each round has a unique pattern (see `Fio`) and reads back every block
//! it wrote, so it finds blocks that reverted to an earlier round. Two lanes use two parts of the
//! device, so that one is busy while the other starts its next round.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::fio::Fio;
use super::wait::within;

/// Block size in KiB, part of the device in MiB, and depth of each lane. Small blocks use
/// in-capsule data, large ones are fetched by the target.
const LANES: [(u32, u32, u32); 2] = [(4, 8, 8), (64, 16, 4)];

/// Time a dropped load may take to end its rounds.
const END_TIME: Duration = Duration::from_secs(60);

/// A running load. Dropping it waits for the current rounds.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU32>,
    lanes: Vec<JoinHandle<Result<()>>>,
}

impl Load {
    /// Starts both lanes on a device or file system with room for 24 MiB.
    pub fn start(device: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU32::new(0));
        let mut offset = 0;
        let mut lanes = Vec::new();
        for (block, part, depth) in LANES {
            let (device, at) = (device.to_path_buf(), offset);
            offset += part;
            let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
            lanes.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    Fio::on(&device)
                        .write_and_verify(&format!("{block}k"), &format!("{part}m"), depth)
                        .with([format!("--offset={at}m")])
                        .run()?;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Self {
            stop,
            rounds,
            lanes,
        }
    }

    /// Rounds written and compared so far.
    pub fn rounds(&self) -> u32 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Waits until `count` more rounds were written and compared, or a lane has failed (see
    /// [`Self::finish`]).
    pub fn more(&self, count: u32, limit: Duration) -> Result<()> {
        let wanted = self.rounds() + count;
        within(limit, &format!("{count} more rounds of fio"), || {
            self.rounds() >= wanted || self.lanes.iter().any(JoinHandle::is_finished)
        })
    }

    /// Lets both lanes finish their round, comparison included; returns the rounds or the first
    /// error.
    pub fn finish(mut self) -> Result<u32> {
        self.stop.store(true, Ordering::Relaxed);
        for lane in self.lanes.drain(..) {
            lane.join()
                .map_err(|_| anyhow!("a lane of fio panicked"))??;
        }
        Ok(self.rounds())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = || self.lanes.iter().all(JoinHandle::is_finished);
        if within(END_TIME, "fio ending", ended).is_err() {
            eprintln!("bed: fio hangs");
        }
    }
}
