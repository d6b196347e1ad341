//! fio load during the failovers: two lanes that write and compare continuously.
//!
//! A lane runs one round of fio after another on its own file: write every block once in random
//! order, then read every block back and compare. Rounds alternate: one puts a crc32c over each
//! block, the next fills blocks with a unique pattern and their offset. A checksum alone also
//! accepts any older state of the same block (fio 3.33 does); with alternating rounds, a stale or
//! missing block has the wrong format or the wrong pattern. Rounds, not `--time_based`, because fio
//! then ends without reading the last blocks. The second lane is busy while the first starts its
//! next round.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::bed::{Fio, FioResult, Process, unix_ms, within};

/// Name, block size, file size and depth of each lane: small blocks use in-capsule data, large ones
/// are fetched by the target.
const LANES: [(&str, &str, &str, u32); 2] = [("small", "4k", "12m", 8), ("large", "32k", "32m", 4)];

/// Time limit of a round, including emulation and failovers.
const ROUND_TIME: Duration = Duration::from_secs(180);

/// One round of one lane.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// Start, milliseconds since 1970.
    pub(super) from_unix_ms: u64,
    pub(super) to_unix_ms: u64,
    pub(super) writes: u64,
    pub(super) reads: u64,
    /// Longest time from submission to completion, as fio measured it.
    pub(super) longest_ms: u64,
}

/// Time a dropped load may take to end its rounds.
const END_TIME: Duration = Duration::from_secs(30);

/// The running load. Dropping it waits for the current rounds.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Result<()>>>,
    rounds: Arc<Mutex<Vec<Round>>>,
}

impl Load {
    /// Starts both lanes on files in `dir`.
    pub(super) fn start(dir: &Path, work: &Path, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(Mutex::new(Vec::new()));
        let lanes = LANES
            .iter()
            .zip(0_u64..)
            .map(|(lane, number)| {
                let lane = Lane {
                    name: lane.0,
                    fio: Fio::on(&dir.join(format!("fio-{}", lane.0)))
                        .write_and_verify(lane.1, lane.2, lane.3),
                    report: work.join(format!("fio-{}.json", lane.0)),
                    seed: seed.wrapping_mul(1000).wrapping_add(number * 500_000),
                };
                let (stop, rounds) = (Arc::clone(&stop), Arc::clone(&rounds));
                std::thread::spawn(move || lane.run(&stop, &rounds))
            })
            .collect();
        Self {
            stop,
            lanes,
            rounds,
        }
    }

    /// Whether both lanes still run.
    pub(super) fn alive(&self) -> bool {
        self.lanes.iter().all(|lane| !lane.is_finished())
    }

    /// Completed rounds.
    pub(super) fn rounds(&self) -> Vec<Round> {
        self.rounds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Lets both lanes finish their round, comparison included; returns all rounds or the first
    /// error.
    pub(super) fn finish(mut self) -> Result<Vec<Round>> {
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
        if within(END_TIME, "fio ending", || {
            self.lanes.iter().all(JoinHandle::is_finished)
        })
        .is_err()
        {
            eprintln!("demo: fio hangs");
        }
    }
}

struct Lane {
    name: &'static str,
    fio: Fio,
    report: PathBuf,
    seed: u64,
}

impl Lane {
    fn run(mut self, stop: &AtomicBool, rounds: &Mutex<Vec<Round>>) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.seed += 1;
            let round = self.round()?;
            rounds
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(round);
        }
        Ok(())
    }

    fn round(&self) -> Result<Round> {
        let mut fio = self.fio.clone().with([
            format!("--output={}", self.report.display()),
            format!("--randseed={}", self.seed),
            "--overwrite=1".to_owned(),
        ]);
        if self.seed.is_multiple_of(2) {
            let pattern = format!("--verify_pattern=0x{:016x}%o", self.seed);
            fio = fio.with(["--verify=pattern".to_owned(), pattern]);
        }
        let from_unix_ms = unix_ms();
        let mut process = Process::spawn(&format!("fio-{}", self.name), fio.command())?;
        let status = process.wait(ROUND_TIME)?;
        let to_unix_ms = unix_ms();
        let text = fs::read_to_string(&self.report).unwrap_or_default();
        ensure!(
            status.success(),
            "fio on {} blocks ended with {status}\n{}\n{}",
            self.name,
            process.tail(),
            text.lines().take(5).collect::<Vec<_>>().join("\n")
        );
        let result = FioResult::parse(&text).context("fio's report")?;
        Ok(Round {
            from_unix_ms,
            to_unix_ms,
            writes: result.write.total_ios,
            reads: result.read.total_ios,
            longest_ms: (result.write.clat_ns.max.max(result.read.clat_ns.max) / 1e6) as u64,
        })
    }
}

/// The longest request in the rounds that overlap this span.
pub(super) fn longest_ms(rounds: &[Round], from_unix_ms: u64, to_unix_ms: u64) -> Option<u64> {
    rounds
        .iter()
        .filter(|round| round.from_unix_ms <= to_unix_ms && round.to_unix_ms >= from_unix_ms)
        .map(|round| round.longest_ms)
        .max()
}
