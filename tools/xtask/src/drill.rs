//! `cargo xtask drill`: single failovers on the real stack, measured.
//!
//! Decided here: its arguments. `stage` decides where it runs, `tests/src/drill` what it does.

use anyhow::Result;
use clap::Args;

use crate::stage::{self, StageArgs};

#[derive(Args)]
pub(crate) struct DrillArgs {
    /// link-down, blackhole, target-kill, target-stop, ghost-write, or all
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Repetitions of each failover
    #[arg(long, default_value_t = 5, value_name = "N")]
    repeat: u32,
    #[command(flatten)]
    stage: StageArgs,
}

pub(crate) fn run(args: &DrillArgs) -> Result<u8> {
    let mut words = vec!["--repeat".into(), args.repeat.to_string().into()];
    words.extend(args.names.iter().map(Into::into));
    stage::perform(&args.stage, "drill", "drill", words)
}
