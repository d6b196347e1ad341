//! `cargo xtask`: the contributor commands.
//!
//! Decided here: the command line. Each command lives in a module of its own and returns the exit
//! status of the whole process. This package depends on no other package of the workspace, so it
//! builds on a bare machine before anything it installs is there.

mod bench;
mod binaries;
mod demo;
mod drill;
mod host;
mod man;
mod multipath_tools;
mod sim;
mod stage;
mod suite;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "umpath's contributor commands", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Micro-benchmarks, or the fio matrix beside dm-multipath and native multipath
    Bench(bench::BenchArgs),
    /// The main job, end to end: a volume survives a pulled cable; ends with PASS or FAIL
    Demo(demo::DemoArgs),
    /// Failovers in virtual time: the real core, sessions and target logic, seed by seed
    Sim(sim::SimArgs),
    /// Lose the primary in one way, many times, and measure the stalls; or show that no write of a
    /// lost controller comes back
    Drill(drill::DrillArgs),
    /// Run a command as root in a VM on a stock Debian kernel, with the repository mounted
    Vm(vm::VmArgs),
    /// Run the cases that need a real kernel, in one VM
    VmSuite(suite::SuiteArgs),
    /// Run everything: formatting, lints, house rules, tests, the VM suite
    Test(test::TestArgs),
    /// Write the manual pages of the programs and of the configuration file
    Man(man::ManArgs),
    /// Check the house rules: dependency table, file sizes, names, orphans
    Tidy,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Bench(args) => bench::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Drill(args) => drill::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::VmSuite(args) => suite::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Tidy => tidy::run(),
    };
    match result {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
