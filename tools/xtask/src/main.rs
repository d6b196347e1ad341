//! `cargo xtask`: the contributor commands.
//!
//! Decided here: the command line. Each command is a module that returns the exit status of the
//! process. This package depends on no other package of the workspace, so it builds on a bare
//! machine before anything has been installed.

mod bench;
mod beside;
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
    /// Micro-benchmarks, or the fio matrix compared with dm-multipath and native multipath
    Bench(bench::BenchArgs),
    /// The demo: a volume survives a pulled cable; ends with PASS or FAIL
    Demo(demo::DemoArgs),
    /// Failovers in virtual time: the real core, sessions and target logic, one run per seed
    Sim(sim::SimArgs),
    /// Inject one fault many times and measure the stalls; or show that no write of a lost
    /// controller is executed late
    Drill(drill::DrillArgs),
    /// Run a command as root in a VM on a stock Debian kernel, with the repository mounted
    Vm(vm::VmArgs),
    /// Run the cases that need a real kernel, in one VM
    VmSuite(suite::SuiteArgs),
    /// Run all checks: formatting, lints, house rules, tests, the VM suite
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
