//! `umpath-target`: the target as a program.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("umpath-target: {error:#}");
            ExitCode::FAILURE
        }
    }
}
