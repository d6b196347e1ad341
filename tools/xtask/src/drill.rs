//! `cargo xtask drill`: single failovers on the real stack, measured.
//!
//! Decided here: where it runs (a VM, or with `--here` this kernel if it has ublk and RDMA), where
//! its logs go, and how the JSON report gets out of the VM. What it does: `tests/src/drill`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::binaries;
use crate::host;
use crate::vm::{self, Machine};

/// The arguments of `cargo xtask drill`.
#[derive(Args)]
pub(crate) struct DrillArgs {
    /// link-down, blackhole, target-kill, target-stop, ghost-write, or all
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Times each failover is drilled
    #[arg(long, default_value_t = 5, value_name = "N")]
    repeat: u32,
    /// Seed of fio's data and of the ghost's block
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Kernel series of the VM, such as 7.2; without it the newest of Debian's backports
    #[arg(long, value_name = "SERIES", conflicts_with = "here")]
    kernel: Option<String>,
    /// Use the running kernel, no VM (it must have ublk and RDMA)
    #[arg(long)]
    here: bool,
    /// Cargo profile of the programs
    #[arg(long, default_value = "release")]
    profile: String,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 1800, value_name = "SECONDS")]
    timeout: u64,
}

/// Runs `cargo xtask drill`.
pub(crate) fn run(args: &DrillArgs) -> Result<u8> {
    let repository = host::repository()?;
    let programs = binaries::build(&repository, &args.profile)?;
    let logs = logs(&repository)?;
    let report = logs.join("report.json");
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
    if status != 0 {
        println!("logs: {}", logs.display());
    }
    if matches!(status, vm::STATUS_TIMEOUT | vm::STATUS_VM_FAILED) {
        println!("FAIL");
    }
    if let Some(file) = &args.json
        && report.exists()
    {
        fs::copy(&report, file).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(status)
}

/// In the repository, because the VM writes there for real. Empty: programs append to their logs.
fn logs(repository: &Path) -> Result<PathBuf> {
    let dir = repository.join(".vm/logs/drill");
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn command(args: &DrillArgs, programs: &Path, logs: &Path, report: &Path) -> Vec<OsString> {
    let mut variable = OsString::from("UMPATH_CASE_LOGS=");
    variable.push(logs);
    let mut command = vec![
        "env".into(),
        variable,
        programs.join("drill").into_os_string(),
        "--repeat".into(),
        args.repeat.to_string().into(),
        "--seed".into(),
        args.seed.to_string().into(),
        "--json".into(),
        report.as_os_str().to_owned(),
    ];
    command.extend(args.names.iter().map(OsString::from));
    command
}
