//! `cargo xtask sim`: the deterministic simulator. No VM, no root.
//!
//! Decided here: that it is built optimized, and that a failure names its commit. `tests/src/sim`
//! defines seeds and mutants.

use std::process::Command;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::binaries;
use crate::host;

#[derive(Args)]
pub(crate) struct SimArgs {
    /// Passed to the simulator: --seeds N, --seed S, --trace, --shrink, --without PART,...,
    /// --mutant NAME|all, --trials N, --most SEEDS, --json FILE, --jobs N
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(args: &SimArgs) -> Result<u8> {
    let mut command = prepare()?;
    let status = command
        .args(&args.arguments)
        .status()
        .context("cannot start the simulator")?;
    Ok(u8::from(!status.success()))
}

/// Builds the simulator; returns the command that runs it.
pub(crate) fn prepare() -> Result<Command> {
    let repository = host::repository()?;
    let programs = binaries::build_one(&repository, "umpath-sim")?;
    let mut command = Command::new(programs.join("umpath-sim"));
    let mut git = Command::new("git");
    git.args(["rev-parse", "--short", "HEAD"])
        .current_dir(&repository);
    if let Ok(commit) = host::capture(&mut git) {
        command.args(["--commit", commit.trim()]);
    }
    Ok(command)
}
