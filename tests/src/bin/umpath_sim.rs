//! `umpath-sim`: the simulator's command line. `cargo xtask sim` builds it and runs it.

use std::panic;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Result, bail};
use clap::Parser;
use umpath_tests::sim::batch::{Failure, Kill, Outcome, Runner};
use umpath_tests::sim::mutant::Mutant;
use umpath_tests::sim::shrink::Part;

/// Stop after this many failing seeds.
const FAILURES_MAX: usize = 10;

#[derive(Parser)]
#[command(
    name = "umpath-sim",
    about = "Failovers in virtual time: one seed, one run"
)]
struct Arguments {
    /// Number of seeds to run
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// First seed; without --seeds, or with --trace, the only one
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens in one seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Reduce a failing seed's plan to what its failure needs
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Leave these parts out of a seed's plan, as named by --shrink
    #[arg(
        long,
        value_name = "PART,...",
        value_delimiter = ',',
        requires = "seed"
    )]
    without: Vec<Part>,
    /// Number of times to plant each mutant, each from another first seed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    trials: u64,
    /// Plant this mutant, or `all` one by one, and check whether it is detected
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Number of threads; default: one per core
    #[arg(long)]
    jobs: Option<usize>,
    /// Commit under test, for failure reports
    #[arg(long, default_value = "unknown", hide = true)]
    commit: String,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runner = Runner::new()?;
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    // A panic is reported with its seed; the default message would be noise.
    panic::set_hook(Box::new(|_| {}));
    let mutants = match arguments.mutant.as_deref() {
        None => Vec::new(),
        Some("all") => Mutant::ALL.to_vec(),
        Some(name) => vec![called(name)?],
    };
    let first = arguments.seed.unwrap_or(1);
    let sound = if arguments.trace || arguments.shrink || !arguments.without.is_empty() {
        one(&runner, &arguments, first, mutants.first().copied())
    } else if mutants.is_empty() {
        let outcome = runner.run_many(first, arguments.seeds, jobs, FAILURES_MAX);
        report(&runner, &outcome, &arguments.commit)
    } else {
        report_kills(&runner.kill(&mutants, first, arguments.trials, jobs))
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one seed, and shrinks its failure if requested.
fn one(
    runner: &Runner,
    arguments: &Arguments,
    seed: u64,
    mutant: Option<(&'static str, Mutant)>,
) -> bool {
    let kind = mutant.map(|(_, kind)| kind);
    let failure = runner.run_without(seed, &arguments.without, kind, arguments.trace);
    if let Some(failure) = &failure {
        println!("seed {seed}: {}", failure.what);
        if arguments.shrink {
            replay(failure, &runner.shrink(failure, kind), mutant);
        }
    }
    failure.is_none()
}

/// Prints how to reproduce a failure.
fn replay(failure: &Failure, without: &[Part], mutant: Option<(&'static str, Mutant)>) {
    let mutant = mutant.map_or_else(String::new, |(name, _)| format!(" --mutant {name}"));
    let parts: Vec<String> = without.iter().map(ToString::to_string).collect();
    let parts = match parts.len() {
        0 => String::new(),
        _ => format!(" --without {}", parts.join(",")),
    };
    println!(
        "  cargo xtask sim --seed {}{mutant}{parts} --trace",
        failure.seed
    );
}

fn called(name: &str) -> Result<(&'static str, Mutant)> {
    let Some(found) = Mutant::ALL.iter().find(|(known, _)| *known == name) else {
        let known: Vec<&str> = Mutant::ALL.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no mutant '{name}'; the mutants are: {}",
            known.join(", ")
        );
    };
    Ok(*found)
}

fn report(runner: &Runner, outcome: &Outcome, commit: &str) -> bool {
    let Outcome {
        seeds,
        failures,
        took,
    } = outcome;
    for failure in failures {
        let seed = failure.seed;
        println!("seed {seed} at commit {commit}: {}", failure.what);
        replay(failure, &runner.shrink(failure, None), None);
    }
    let rate = *seeds as f64 / took.as_secs_f64();
    println!(
        "{seeds} seeds in {:.1} s, {rate:.0} seeds/s",
        took.as_secs_f64()
    );
    println!(
        "{} passed, {} failed",
        seeds - failures.len() as u64,
        failures.len()
    );
    failures.is_empty()
}

fn report_kills(kills: &[Kill]) -> bool {
    let (mut dead, mut alive) = (0, 0);
    for kill in kills {
        let Some(seeds) = &kill.seeds else {
            alive += 1;
            println!("{:24} SURVIVED", kill.name);
            continue;
        };
        let (least, median, most) = (seeds[0], seeds[seeds.len() / 2], seeds[seeds.len() - 1]);
        dead += 1;
        let (name, what) = (kill.name, &kill.what);
        println!("{name:24} median {median:5} seeds ({least} to {most})  {what}");
    }
    println!("{dead} passed, {alive} failed");
    alive == 0
}
