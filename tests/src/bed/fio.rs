//! fio jobs: generate load and verify data.
//!
//! Decided here: how blocks are told apart. A block's checksum is also valid for every older state
//! of that block (fio 3.33 accepts one), and by default fio writes the same data in every run. So
//! each job uses a unique pattern and each block's own offset: a stale, misplaced or missing block
//! is found.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::run::{attempt, show};

/// A fio job to run.
#[derive(Clone, Debug)]
pub struct Fio {
    arguments: Vec<String>,
}

impl Fio {
    /// A job on a file or device: direct I/O, libaio.
    pub fn on(file: &Path) -> Self {
        let arguments = [
            "--name=job",
            "--direct=1",
            "--ioengine=libaio",
            "--group_reporting",
        ];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.push(format!("--filename={}", file.display()));
        if file.starts_with("/dev") {
            // Otherwise fio creates a regular file in place of a device that has gone.
            arguments.push("--allow_file_create=0".to_owned());
        }
        Self { arguments }
    }

    /// Adds arguments such as `--rw=randwrite`; later ones override earlier ones.
    #[must_use]
    pub fn with<S: Into<String>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Writes everything in random order, reads it back and compares: one pass over `size`, with a
    /// unique pattern (see the module head).
    #[must_use]
    pub fn write_and_verify(self, block: &str, size: &str, depth: u32) -> Self {
        self.with([
            "--rw=randwrite",
            "--verify=pattern",
            "--verify_fatal=1",
            "--do_verify=1",
        ])
        .with([
            format!("--verify_pattern={:#018x}%o", stamp()),
            format!("--randseed={}", stamp()),
            format!("--bs={block}"),
            format!("--size={size}"),
            format!("--iodepth={depth}"),
        ])
    }

    /// The command, to run in the background of a case (see `Process::spawn`).
    pub fn command(&self) -> Command {
        let mut command = Command::new("fio");
        command.arg("--output-format=json").args(&self.arguments);
        command
    }

    /// Runs it to completion; an error unless every I/O and every comparison succeeded.
    pub fn run(&self) -> Result<FioResult> {
        let mut command = self.command();
        let output = attempt(&mut command)?;
        let (text, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        if !output.status.success() {
            bail!(
                "`{}` failed: {}\n{}",
                show(&command),
                output.status,
                error.trim_end()
            );
        }
        FioResult::parse(&text)
    }
}

/// A number unique on this machine. Its highest byte is not zero, so that all eight bytes are in
/// the pattern.
fn stamp() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_nanos() as u64);
    now | 1 << 60
}

/// fio's results, summed over all jobs.
#[derive(Clone, Debug)]
pub struct FioResult {
    /// Reads.
    pub read: Direction,
    /// Writes.
    pub write: Direction,
}

/// One direction of a job.
#[derive(Clone, Debug, Deserialize)]
pub struct Direction {
    /// Requests per second.
    pub iops: f64,
    /// KiB per second.
    pub bw: f64,
    /// Number of requests.
    pub total_ios: u64,
    /// Time from submission to completion.
    pub clat_ns: Latency,
}

/// A latency summary in nanoseconds.
#[derive(Clone, Debug, Deserialize)]
pub struct Latency {
    /// Longest.
    pub max: f64,
    /// Mean.
    pub mean: f64,
    /// fio's own keys, such as `99.000000`.
    #[serde(default)]
    percentile: BTreeMap<String, f64>,
}

impl Latency {
    /// Latency that this percentage of requests did not exceed; one that fio reports (50, 99,
    /// 99.9).
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        self.percentile.get(&format!("{percent:.6}")).copied()
    }
}

#[derive(Deserialize)]
struct Report {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    error: i32,
    #[serde(default)]
    total_err: i64,
    read: Direction,
    write: Direction,
}

impl FioResult {
    /// Parses fio's JSON, even after warnings.
    pub fn parse(text: &str) -> Result<Self> {
        let json = text
            .find("\n{")
            .map_or(text, |at| text.get(at..).unwrap_or(text));
        let report: Report = serde_json::from_str(json)
            .with_context(|| format!("fio printed no JSON report:\n{text}"))?;
        let job = report
            .jobs
            .into_iter()
            .next()
            .context("fio reports no job")?;
        if job.error != 0 || job.total_err != 0 {
            bail!(
                "fio reports {} errors, first error {}",
                job.total_err,
                job.error
            );
        }
        Ok(Self {
            read: job.read,
            write: job.write,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(error: i32) -> String {
        let direction = r#"{"iops":10.5,"bw":42,"total_ios":7,"clat_ns":{"max":9,"mean":4.5,"percentile":{"99.000000":8}}}"#;
        format!(
            "note: x\n{{\"jobs\":[{{\"error\":{error},\"read\":{direction},\"write\":{direction}}}]}}"
        )
    }

    #[test]
    fn reports_are_read_behind_warnings() {
        let result = FioResult::parse(&report(0)).expect("a report");
        assert_eq!(result.read.total_ios, 7);
        assert_eq!(result.read.clat_ns.percentile(99.0), Some(8.0));
        assert_eq!(result.read.clat_ns.percentile(99.9), None);
        assert!(FioResult::parse(&report(5)).is_err());
        assert!(FioResult::parse("fio: no such device").is_err());
    }
}
