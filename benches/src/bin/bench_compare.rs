//! `bench-compare`: the side-by-side bench, run as root inside the VM.
//!
//! Exit status: 0 if everything was measured, else 1. Progress goes to standard error, the table to
//! standard output.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;
use umpath_benches::compare;
use umpath_benches::matrix::Plan;
use umpath_benches::own_machine;

#[derive(Parser)]
#[command(
    name = "bench-compare",
    about = "One fio matrix on umpath, dm-multipath and native NVMe multipath"
)]
struct Arguments {
    /// Run jobs whose names contain one of these; default: all
    jobs: Vec<String>,
    /// Number of runs of every job on every device
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
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench-compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    own_machine("compare")?;
    let plan = Plan {
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        jobs: arguments.jobs,
    };
    let report = compare::run(&plan)?;
    print!("{}", report.table());
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.failures.is_empty())
}
