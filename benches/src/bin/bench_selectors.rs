//! `bench-selectors`: path selectors on unequal paths, run as root inside the VM.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use umpath_benches::own_machine;
use umpath_benches::selectors::{self, Plan};

#[derive(Parser)]
#[command(
    name = "bench-selectors",
    about = "The path selectors on two paths that differ"
)]
struct Arguments {
    /// Number of runs of every selector
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Duration of each run, seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Also write the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-selectors: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    own_machine("selectors")?;
    let report = selectors::measure(Plan {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
    })?;
    print!("{}", report.table());
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
