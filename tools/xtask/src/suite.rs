//! `cargo xtask vm-suite`: builds the programs, boots one VM, runs the cases in it.

use std::ffi::OsString;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::binaries;
use crate::host;
use crate::vm::Machine;

/// The arguments of `cargo xtask vm-suite`.
#[derive(Args)]
pub(crate) struct SuiteArgs {
    /// Parts of the names of the cases to run; all without any
    filters: Vec<String>,
    /// Kernel series, such as 6.12 or 7.2; without it the newest of Debian's backports
    #[arg(long, value_name = "SERIES")]
    kernel: Option<String>,
    /// Cargo profile of the programs under test
    #[arg(long, default_value = "release")]
    profile: String,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 1500, value_name = "SECONDS")]
    timeout: u64,
}

/// Runs `cargo xtask vm-suite`.
pub(crate) fn run(args: &SuiteArgs) -> Result<u8> {
    let (machine, command) = prepare(args)?;
    machine.run(&command)
}

/// What `cargo xtask test` runs: every case on the newest kernel.
pub(crate) fn all() -> SuiteArgs {
    SuiteArgs {
        filters: Vec::new(),
        kernel: None,
        profile: "release".to_owned(),
        timeout: 1500,
    }
}

/// Builds the programs and prepares the VM; the command to run in it.
pub(crate) fn prepare(args: &SuiteArgs) -> Result<(Machine, Vec<OsString>)> {
    let repository = host::repository()?;
    let programs = binaries::build(&repository, &args.profile)?;
    let mut machine = Machine::prepare(&repository, args.kernel.as_deref())?;
    machine.timeout = Duration::from_secs(args.timeout);
    eprintln!("xtask: {}", machine.describe());
    let mut command = vec![programs.join("vm-suite").into_os_string()];
    command.extend(args.filters.iter().map(OsString::from));
    Ok((machine, command))
}
