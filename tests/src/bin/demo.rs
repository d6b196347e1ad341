//! `demo`: the demo on this kernel. `cargo xtask demo` builds it and runs it in a suitable
//! environment.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use umpath_tests::demo::{self, Options, Target};

#[derive(Parser)]
#[command(
    name = "demo",
    about = "A volume over a primary and a standby controller survives a pulled cable"
)]
struct Arguments {
    /// Target that serves the volume
    #[arg(long, value_enum, default_value = "umpath")]
    target: Target,
    /// Seed of the files and of fio's data
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        target: arguments.target,
        seed: arguments.seed,
        json: arguments.json,
    };
    match demo::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            println!("FAIL");
            ExitCode::FAILURE
        }
    }
}
