//! `vm-suite [FILTER...]`: the cases that need a real kernel, run as root inside the VM.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use umpath_tests::suite::Choice;
use umpath_tests::{cases, suite};

#[derive(Parser)]
#[command(name = "vm-suite", about = "umpath's cases on a real kernel")]
struct Arguments {
    /// Run cases whose names contain one of these; default: all
    filters: Vec<String>,
    /// Leave out this case
    #[arg(long, value_name = "NAME")]
    without: Vec<String>,
    /// Share the cases with other VMs: each is run by the one that makes its file in this directory
    #[arg(long, value_name = "DIR")]
    claims: Option<PathBuf>,
    /// Run the last one first
    #[arg(long)]
    from_end: bool,
    /// Print the names and exit
    #[arg(long)]
    list: bool,
    /// Run this case in this process (used by the suite itself)
    #[arg(long, value_name = "NAME")]
    one: Option<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vm-suite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<bool> {
    let all = cases::all();
    if arguments.list {
        for case in &all {
            println!("{}", case.name);
        }
        return Ok(true);
    }
    if !rustix::process::geteuid().is_root() {
        bail!("needs root on a machine of its own: `cargo xtask vm-suite` boots one");
    }
    if let Some(name) = arguments.one {
        let case = all
            .iter()
            .find(|case| case.name == name)
            .context("no such case")?;
        return suite::run_one(case).map(|()| true);
    }
    let choice = Choice {
        filters: arguments.filters,
        without: arguments.without,
        claims: arguments.claims,
        from_end: arguments.from_end,
    };
    suite::run(&all, &choice)
}
