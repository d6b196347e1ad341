//! The fio jobs, and running one of them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use umpath_tests::bed::{Fio, FioResult, attempt};

/// A job that exceeds its run time by this much hangs.
const HANG_SECONDS: u32 = 40;

/// Parameters of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Runs of every job on every contender.
    pub rounds: u32,
    /// Duration of each run.
    pub seconds: u32,
    /// Run jobs whose names contain one of these; empty: all.
    pub jobs: Vec<String>,
}

impl Plan {
    pub(crate) fn chosen(&self, shape: &Shape) -> bool {
        self.jobs.is_empty() || self.jobs.iter().any(|part| shape.name.contains(part))
    }
}

/// One fio job.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Stable name, used in JSON and for selection.
    pub name: &'static str,
    /// fio arguments specific to this job.
    arguments: &'static [&'static str],
    /// Whether it writes.
    writes: bool,
}

const fn reads(name: &'static str, arguments: &'static [&'static str]) -> Shape {
    Shape {
        name,
        arguments,
        writes: false,
    }
}

const fn writes(name: &'static str, arguments: &'static [&'static str]) -> Shape {
    Shape {
        name,
        arguments,
        writes: true,
    }
}

/// All jobs, in the order in which they run and are printed.
pub const SHAPES: &[Shape] = &[
    reads(
        "randread-4k-qd32-libaio",
        &["--rw=randread", "--bs=4k", "--iodepth=32"],
    ),
    reads(
        "randread-4k-qd32x2-io_uring",
        &[
            "--rw=randread",
            "--bs=4k",
            "--iodepth=32",
            "--ioengine=io_uring",
            "--numjobs=2",
        ],
    ),
    writes(
        "randwrite-4k-qd32-libaio",
        &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
    ),
    reads(
        "randread-4k-qd1-psync",
        &["--rw=randread", "--bs=4k", "--ioengine=psync"],
    ),
    reads(
        "read-128k-qd16-libaio",
        &["--rw=read", "--bs=128k", "--iodepth=16"],
    ),
    writes(
        "write-128k-qd16-libaio",
        &["--rw=write", "--bs=128k", "--iodepth=16"],
    ),
];

/// The result of one job.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Requests per second.
    pub iops: f64,
    /// Mean time from submission to completion, microseconds.
    pub clat_us: f64,
}

impl Shape {
    /// Runs the job on `device` for `seconds`, after one second of warm-up.
    pub fn measure(&self, device: &Path, seconds: u32) -> Result<Sample> {
        let fio = Fio::on(device)
            .with(["--time_based", "--ramp_time=1", "--norandommap"])
            .with([format!("--runtime={seconds}")])
            .with(self.arguments.iter().copied())
            .command();
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", &(seconds + HANG_SECONDS).to_string()]);
        command.arg(fio.get_program()).args(fio.get_args());
        let output = attempt(&mut command)?;
        if !output.status.success() {
            bail!(
                "{} on {}: {}\n{}",
                self.name,
                device.display(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            );
        }
        let result = FioResult::parse(&String::from_utf8_lossy(&output.stdout))
            .with_context(|| format!("{} on {}", self.name, device.display()))?;
        let direction = if self.writes {
            result.write
        } else {
            result.read
        };
        if direction.total_ios == 0 {
            bail!(
                "{} on {}: no request completed",
                self.name,
                device.display()
            );
        }
        Ok(Sample {
            iops: direction.iops,
            clat_us: direction.clat_ns.mean / 1000.0,
        })
    }
}
