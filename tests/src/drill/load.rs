//! fio load for the drills: repeatedly writes every block of a region once in random order, then
//! reads and compares all of them.
//!
//! Each round fills its blocks with its own pattern and their offset, so that a stale block from an
//! earlier round, which a checksum would accept, is detected. The rate is limited: the drills
//! measure failovers, not the throughput of an emulated machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;

use crate::bed::{Fio, FioResult, Process, unix_ms};

/// Time limit of a round, including emulation and failovers.
const ROUND_TIME: Duration = Duration::from_secs(240);
/// Requests per second.
const RATE: u32 = 250;

/// Totals so far.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sums {
    /// Completed rounds, every block of them compared.
    pub(super) rounds: u64,
    /// Writes in them.
    pub(super) writes: u64,
    /// Reads in them, each compared.
    pub(super) reads_compared: u64,
    /// Longest time from submission to completion, milliseconds.
    pub(super) longest_ms: f64,
}

/// The running load.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
    sums: Arc<Mutex<Sums>>,
}

impl Load {
    /// Starts it on the first `size_mib` of a device; logs and reports go to `work`.
    pub(super) fn start(device: &Path, size_mib: u64, work: &Path, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sums = Arc::new(Mutex::new(Sums::default()));
        let rounds = Rounds {
            fio: Fio::on(device).write_and_verify("4k", &format!("{size_mib}m"), 4),
            report: work.join("fio.json"),
            seed,
        };
        let thread = {
            let (stop, sums) = (Arc::clone(&stop), Arc::clone(&sums));
            std::thread::spawn(move || rounds.run(&stop, &sums))
        };
        Self {
            stop,
            thread: Some(thread),
            sums,
        }
    }

    /// Whether it still runs; if not, [`Load::finish`] returns the error.
    pub(super) fn alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|t| !t.is_finished())
    }

    /// Lets the current round end, comparison included.
    pub(super) fn finish(mut self) -> Result<Sums> {
        self.stop.store(true, Relaxed);
        let thread = self.thread.take().context("the load has ended")?;
        thread.join().map_err(|_| anyhow!("the load panicked"))??;
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(sums.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

struct Rounds {
    fio: Fio,
    report: PathBuf,
    seed: u64,
}

impl Rounds {
    fn run(mut self, stop: &AtomicBool, sums: &Mutex<Sums>) -> Result<()> {
        while !stop.load(Relaxed) {
            self.seed += 1;
            let result = self.round()?;
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            let longest = result.write.clat_ns.max.max(result.read.clat_ns.max) / 1e6;
            sums.rounds += 1;
            sums.writes += result.write.total_ios;
            sums.reads_compared += result.read.total_ios;
            sums.longest_ms = sums.longest_ms.max(longest);
        }
        Ok(())
    }

    fn round(&self) -> Result<FioResult> {
        let fio = self.fio.clone().with([
            format!("--output={}", self.report.display()),
            format!("--randseed={}", self.seed),
            format!("--rate_iops={RATE}"),
            "--verify=pattern".to_owned(),
            format!("--verify_pattern=0x{:016x}%o", self.seed ^ unix_ms()),
        ]);
        let mut process = Process::spawn("fio", fio.command())?;
        let status = process.wait(ROUND_TIME)?;
        let text = fs::read_to_string(&self.report).unwrap_or_default();
        ensure!(
            status.success(),
            "fio ended with {status}\n{}\n{}",
            process.tail(),
            text.lines().take(5).collect::<Vec<_>>().join("\n")
        );
        FioResult::parse(&text).context("fio's report")
    }
}
