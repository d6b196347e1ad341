//! `drill NAME...`: measures single failovers on this kernel. `cargo xtask drill` builds it and
//! runs it in a suitable environment.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use umpath_tests::drill::{self, Options};

#[derive(Parser)]
#[command(name = "drill", about = "Failover drills on the real stack")]
struct Arguments {
    /// link-down, blackhole, target-kill, target-stop, ghost-write, or all
    #[arg(required = true)]
    names: Vec<String>,
    /// Repetitions of each failover
    #[arg(long, default_value_t = 5)]
    repeat: u32,
    /// Seed of fio's data and of the ghost's block
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write a report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        names: arguments.names,
        repeat: arguments.repeat,
        seed: arguments.seed,
        json: arguments.json,
    };
    match drill::run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("drill: {error:#}");
            println!("FAIL");
            ExitCode::FAILURE
        }
    }
}
