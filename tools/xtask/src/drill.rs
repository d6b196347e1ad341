//! `cargo xtask drill`: single failovers on the real stack, measured.
//!
//! Decided here: its arguments. Where it runs: `stage`. What it does: `tests/src/drill`.

use anyhow::Result;
use clap::Args;

use crate::stage::{self, StageArgs};

/// The arguments of `cargo xtask drill`.
#[derive(Args)]
pub(crate) struct DrillArgs {
    /// link-down, blackhole, target-kill, target-stop, ghost-write, or all
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Times each failover is drilled
    #[arg(long, default_value_t = 5, value_name = "N")]
    repeat: u32,
    #[command(flatten)]
    stage: StageArgs,
}

/// Runs `cargo xtask drill`.
pub(crate) fn run(args: &DrillArgs) -> Result<u8> {
    let mut words = vec!["--repeat".into(), args.repeat.to_string().into()];
    words.extend(args.names.iter().map(Into::into));
    stage::perform(&args.stage, "drill", "drill", words)
}
