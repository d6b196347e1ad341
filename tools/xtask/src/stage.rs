//! Shared by the demo and the drills: runs a program of package umpath-tests in a suitable
//! environment.
//!
//! Decided here: which environment (a VM, or with `--here` this kernel if it has ublk and RDMA),
//! where its logs go, and how its JSON report leaves the VM.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::binaries;
use crate::host;
use crate::vm::{self, Machine};

/// The common arguments.
#[derive(Args)]
pub(crate) struct StageArgs {
    /// Seed of all random choices: files, fio's data, blocks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Kernel series of the VM, such as 7.2; default: the newest in Debian's backports
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

/// Runs `program` with `words`; its logs are in `.vm/logs/<name>`.
pub(crate) fn perform(
    args: &StageArgs,
    program: &str,
    name: &str,
    words: impl IntoIterator<Item = OsString>,
) -> Result<u8> {
    let repository = host::repository()?;
    let programs = binaries::build(&repository, &args.profile)?;
    let logs = logs(&repository, name)?;
    let report = logs.join("report.json");
    let mut logs_variable = OsString::from("UMPATH_CASE_LOGS=");
    logs_variable.push(&logs);
    let mut command = vec![
        "env".into(),
        logs_variable,
        programs.join(program).into_os_string(),
        "--seed".into(),
        args.seed.to_string().into(),
        "--json".into(),
        report.as_os_str().to_owned(),
    ];
    command.extend(words);
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

/// In the repository, because the VM can write there. Emptied first: programs append to their logs.
fn logs(repository: &Path, name: &str) -> Result<PathBuf> {
    let dir = repository.join(".vm/logs").join(name);
    drop(fs::remove_dir_all(&dir));
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}
