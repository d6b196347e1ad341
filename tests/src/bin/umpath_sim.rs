//! `umpath-sim`: the simulator's command line. `cargo xtask sim` builds it and runs it.

use std::fs;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use umpath_tests::sim::batch::{Failure, Kill, Outcome, Runner, SEEDS_MAX};
use umpath_tests::sim::mutant::Mutant;
use umpath_tests::sim::shrink::Part;

/// Worlds are built and dropped hundreds of times a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Failing seeds after which no more are run.
const FAILURES_MAX: usize = 10;

#[derive(Parser)]
#[command(
    name = "umpath-sim",
    about = "Failovers in virtual time: one seed, one run"
)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them; alone, or with --trace, the only one
    #[arg(long)]
    seed: Option<u64>,
    /// Tell everything that happens in one seed
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Leave out of one failing seed whatever its failure does not need
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// Leave these parts out of one seed's plan, as --shrink names them
    #[arg(
        long,
        value_name = "PART,...",
        value_delimiter = ',',
        requires = "seed"
    )]
    without: Vec<Part>,
    /// How often each mistake is planted, each time from another first seed
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..))]
    trials: u64,
    /// Plant this mistake, or `all` of them one by one, and see whether it is noticed
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
    /// Seeds after which a planted mistake counts as not noticed
    #[arg(long, value_name = "SEEDS", default_value_t = SEEDS_MAX)]
    most: u64,
    /// Write in JSON what became of the mistakes
    #[arg(long, value_name = "FILE", requires = "mutant")]
    json: Option<PathBuf>,
    /// Threads; without it one for each core
    #[arg(long)]
    jobs: Option<usize>,
    /// What is run, for the report of a failure
    #[arg(long, default_value = "unknown", hide = true)]
    commit: String,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runner = Runner::new()?;
    let jobs = arguments
        .jobs
        .unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    // A panic is reported with its seed; the default message would only be in the way.
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
        let effort = (arguments.trials, arguments.most);
        let kills = runner.kill(&mutants, first, effort, jobs);
        if let Some(file) = &arguments.json {
            let text = serde_json::to_string_pretty(&kills)? + "\n";
            fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        report_kills(&kills)
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one seed, and makes its failure small if that is asked for.
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

/// Says how a failure is seen again.
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
            "no mutant is called '{name}'; there are: {}",
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
    for kill in kills {
        let name = kill.name;
        match (kill.median, kill.trials.first(), kill.trials.last()) {
            (Some(median), Some(Some(least)), Some(Some(most))) => {
                let promise = &kill.promise;
                println!("{name:24} median {median:5} seeds ({least} to {most})  {promise}");
            }
            _ => println!("{name:24} SURVIVED"),
        }
    }
    let dead = kills.iter().filter(|kill| kill.is_dead()).count();
    println!("{dead} passed, {} failed", kills.len() - dead);
    dead == kills.len()
}
