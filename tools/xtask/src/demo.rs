//! `cargo xtask demo`: the main job, end to end, on any Linux machine with Rust and apt.
//!
//! Decided here: where it runs (a VM, or with `--here` this kernel if it has ublk and RDMA), where
//! its logs go, and how the JSON report gets out of the VM. What it does: `tests/src/demo`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::binaries;
use crate::host;
use crate::vm::{self, Machine};

/// The arguments of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Whose target serves the volume
    #[arg(long, value_enum, default_value = "umpath")]
    target: Target,
    /// Kernel series of the VM, such as 7.2; without it the newest of Debian's backports
    #[arg(long, value_name = "SERIES", conflicts_with = "here")]
    kernel: Option<String>,
    /// Use the running kernel, no VM (it must have ublk and RDMA)
    #[arg(long)]
    here: bool,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Seed of the files and of fio's data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cargo profile of the programs
    #[arg(long, default_value = "release")]
    profile: String,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    timeout: u64,
}

/// Two processes of ours, or Linux nvmet.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Umpath,
    Kernel,
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Self::Umpath => "umpath",
            Self::Kernel => "kernel",
        }
    }
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: &DemoArgs) -> Result<u8> {
    let repository = host::repository()?;
    let programs = binaries::build(&repository, &args.profile)?;
    let logs = logs(&repository, args.target)?;
    let report = logs.join("report.json");
    drop(fs::remove_file(&report));
    let command = command(args, &programs, &logs, &report);
    let status = if args.here {
        host::install(&[host::GUEST_NEEDS])?;
        vm::run_here(&command)?
    } else {
        let mut machine = Machine::prepare(&repository, args.kernel.as_deref())?;
        machine.timeout = Duration::from_secs(args.timeout);
        eprintln!("xtask: {}", machine.describe());
        machine.run(&command)?
    };
    if matches!(status, vm::STATUS_TIMEOUT | vm::STATUS_VM_FAILED) {
        println!("logs: {}\nFAIL", logs.display());
    }
    if let Some(file) = &args.json
        && report.exists()
    {
        fs::copy(&report, file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(status)
}

/// In the repository, because the VM writes there for real.
fn logs(repository: &Path, target: Target) -> Result<PathBuf> {
    let dir = repository
        .join(".vm/logs")
        .join(format!("demo-{}", target.word()));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn command(args: &DemoArgs, programs: &Path, logs: &Path, report: &Path) -> Vec<OsString> {
    let mut variable = OsString::from("UMPATH_CASE_LOGS=");
    variable.push(logs);
    let mut command = vec![
        "env".into(),
        variable,
        programs.join("demo").into_os_string(),
        "--target".into(),
        args.target.word().into(),
        "--seed".into(),
        args.seed.to_string().into(),
    ];
    command.extend(["--json".into(), report.as_os_str().to_owned()]);
    command
}
