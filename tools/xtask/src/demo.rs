//! `cargo xtask demo`: the demo, end to end, on any Linux machine with Rust and apt.
//!
//! Decided here: its arguments. `stage` decides where it runs, `tests/src/demo` what it does.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::stage::{self, StageArgs};

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Target that serves the volume
    #[arg(long, value_enum, default_value = "umpath")]
    target: Target,
    #[command(flatten)]
    stage: StageArgs,
}

/// Two `umpath-target` processes, or Linux nvmet.
#[derive(Clone, Copy, ValueEnum)]
enum Target {
    Umpath,
    Kernel,
}

pub(crate) fn run(args: &DemoArgs) -> Result<u8> {
    let target = match args.target {
        Target::Umpath => "umpath",
        Target::Kernel => "kernel",
    };
    let words = ["--target", target].map(Into::into);
    stage::perform(&args.stage, "demo", &format!("demo-{target}"), words)
}
