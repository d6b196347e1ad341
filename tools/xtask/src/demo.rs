//! `cargo xtask demo`: the main job, end to end, on any Linux machine with Rust and apt.
//!
//! Decided here: its arguments. Where it runs: `stage`. What it does: `tests/src/demo`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::stage::{self, StageArgs};

/// The arguments of `cargo xtask demo`.
#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Whose target serves the volume
    #[arg(long, value_enum, default_value = "umpath")]
    target: Target,
    #[command(flatten)]
    stage: StageArgs,
}

/// Two processes of ours, or Linux nvmet.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Umpath,
    Kernel,
}

/// Runs `cargo xtask demo`.
pub(crate) fn run(args: &DemoArgs) -> Result<u8> {
    let target = match args.target {
        Target::Umpath => "umpath",
        Target::Kernel => "kernel",
    };
    let words = ["--target", target].map(Into::into);
    stage::perform(&args.stage, "demo", &format!("demo-{target}"), words)
}
