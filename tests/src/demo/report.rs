//! The results, check by check; printed at the end and written as JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bed;

use super::Options;
use super::array::Allowance;
use super::load::Round;
use super::steady::Waits;
use super::timeline::Timeline;

/// Lines of each log shown after a failure.
const TAIL_LINES: usize = 40;

/// Incremented when a key changes its meaning.
const VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: u32,
    target: &'static str,
    kernel: String,
    seed: u64,
    passed: bool,
    stall_limit_ms: u64,
    stall_limit_reason: &'static str,
    failovers: Vec<Timeline>,
    fio: Sums,
    checks: Vec<Check>,
    seconds: f32,
    logs: PathBuf,
    #[serde(skip)]
    start: Instant,
}

#[derive(Debug, Serialize)]
struct Check {
    name: String,
    passed: bool,
    detail: String,
}

#[derive(Debug, Default, Serialize)]
struct Sums {
    rounds: usize,
    writes: u64,
    reads_compared: u64,
}

impl Report {
    pub(super) fn new(options: &Options, logs: &Path) -> Self {
        let allowance = Allowance::of(options.target);
        Self {
            version: VERSION,
            target: options.target.word(),
            kernel: bed::release(),
            seed: options.seed,
            passed: false,
            stall_limit_ms: allowance.stall_ms,
            stall_limit_reason: allowance.reason,
            failovers: Vec::new(),
            fio: Sums::default(),
            checks: Vec::new(),
            seconds: 0.0,
            logs: logs.to_path_buf(),
            start: Instant::now(),
        }
    }

    /// Prints a message with the time since the start.
    pub(super) fn say(&self, words: &str) {
        let mut lines = words.trim_end().lines();
        let first = lines.next().unwrap_or_default();
        println!("[{:>6.1} s] {first}", self.start.elapsed().as_secs_f32());
        for line in lines {
            println!("           {line}");
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Records the outcome of a check.
    pub(super) fn check(&mut self, name: &str, passed: bool, detail: impl Into<String>) {
        self.checks.push(Check {
            name: name.to_owned(),
            passed,
            detail: detail.into(),
        });
    }

    /// A step failed, and those after it were not run.
    pub(super) fn broke_off(&mut self, error: &anyhow::Error) {
        self.check("the demo ran to completion", false, format!("{error:#}"));
    }

    /// Judges a failover and records it.
    pub(super) fn failover(&mut self, timeline: Timeline) {
        let missing = timeline.missing();
        let name = format!("every step of the failover happened ({})", timeline.what);
        self.check(&name, missing.is_empty(), missing.join(", "));
        let name = format!("writes were in flight ({})", timeline.what);
        let count = timeline.writes_in_flight;
        self.check(&name, count > 0, format!("{count} by the steady writers"));
        let limit = self.stall_limit_ms;
        let name = format!("longest stall at most {limit} ms ({})", timeline.what);
        let stall = timeline.stall_ms();
        self.check(
            &name,
            stall.is_some_and(|ms| ms <= limit),
            stall.map_or_else(
                || "not measured".to_owned(),
                |ms| format!("{ms} ms, the largest of umpathd's, the writers' and fio's numbers"),
            ),
        );
        self.failovers.push(timeline);
    }

    /// Sums up fio's rounds.
    pub(super) fn rounds(&mut self, rounds: &[Round]) {
        self.fio = Sums {
            rounds: rounds.len(),
            writes: rounds.iter().map(|round| round.writes).sum(),
            reads_compared: rounds.iter().map(|round| round.reads).sum(),
        };
        let detail = format!(
            "{} rounds, {} writes, {} reads compared",
            self.fio.rounds, self.fio.writes, self.fio.reads_compared
        );
        let enough = self.fio.writes > 0 && self.fio.reads_compared > 0;
        self.check("fio: no I/O error, every block as written", enough, detail);
    }

    /// Records the steady writers' result.
    pub(super) fn steady(&mut self, waits: &Waits) {
        let detail = format!("{} writes, each block as last acknowledged", waits.writes());
        self.check("steady writers: no I/O error", waits.writes() > 0, detail);
    }

    /// Checks that the machine is as it was before the demo.
    pub(super) fn check_nothing_left(&mut self, before: &[String]) {
        let mut left = bed::remains();
        left.retain(|line| !before.contains(line));
        self.check(
            "nothing is left behind",
            left.is_empty(),
            if left.is_empty() {
                "no ublk device, namespace, RDMA link, process or mount".to_owned()
            } else {
                left.join("; ")
            },
        );
    }

    /// Prints the checks and, if one failed, where to look.
    pub(super) fn conclude(&mut self) {
        self.passed = self.checks.iter().all(|check| check.passed);
        self.seconds = self.start.elapsed().as_secs_f32();
        println!(
            "\nstall limit {} ms: {}",
            self.stall_limit_ms, self.stall_limit_reason
        );
        for check in &self.checks {
            let word = if check.passed { "ok    " } else { "FAILED" };
            let detail = check.detail.replace('\n', "\n         ");
            let gap = if detail.is_empty() { "" } else { ": " };
            println!("  {word} {}{gap}{detail}", check.name);
        }
        if !self.passed {
            self.show_logs();
        }
    }

    pub(super) fn passed(&self) -> bool {
        self.passed
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn show_logs(&self) {
        println!("logs: {}", self.logs.display());
        for name in ["umpathd", "target-primary", "target-standby"] {
            let Ok(text) = fs::read_to_string(self.logs.join(format!("{name}.log"))) else {
                continue;
            };
            let lines: Vec<_> = text.lines().collect();
            let last = lines
                .get(lines.len().saturating_sub(TAIL_LINES)..)
                .unwrap_or_default();
            println!("{name}.log, last {} of {} lines:", last.len(), lines.len());
            for line in last {
                println!("  | {line}");
            }
        }
    }
}
