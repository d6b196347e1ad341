//! `umpath-sim`: the simulator's command line. `cargo xtask sim` builds it and runs it.

use std::panic;
use std::process::ExitCode;
use std::thread::available_parallelism;

use anyhow::{Result, bail};
use clap::Parser;
use umpath_tests::sim::batch::{Kill, Outcome, Runner};
use umpath_tests::sim::mutant::Mutant;

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
    /// Plant this mistake, or `all` of them one by one, and see whether it is noticed
    #[arg(long, value_name = "NAME")]
    mutant: Option<String>,
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
    let sound = if arguments.trace {
        let mutant = mutants.first().map(|(_, mutant)| *mutant);
        let failure = runner.run(arguments.seed.unwrap_or(1), mutant, true);
        if let Some(failure) = &failure {
            println!("seed {}: {}", failure.seed, failure.what);
        }
        failure.is_none()
    } else if mutants.is_empty() {
        let first = arguments.seed.unwrap_or(1);
        tell(
            &runner.run_many(first, arguments.seeds, jobs, 10),
            &arguments.commit,
        )
    } else {
        let kills = runner.kill(&mutants, arguments.seed.unwrap_or(1), jobs);
        tell_kills(&kills)
    };
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
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

fn tell(outcome: &Outcome, commit: &str) -> bool {
    let Outcome {
        seeds,
        failures,
        took,
    } = outcome;
    for failure in failures {
        let seed = failure.seed;
        println!("seed {seed} at commit {commit}: {}", failure.what);
        println!("  cargo xtask sim --seed {seed} --trace");
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

/// Mistakes no seed has shown to do harm, and why that may be. They are run and told, not counted.
const NOT_KILLED: [(&str, &str); 2] = [
    (
        "fence-from-answer",
        "the slack of n x KATO hides it unless a conviction comes very late",
    ),
    (
        "ghosts-forgotten",
        "lost writes then wait for the order fence unacknowledged: slower, and as safe",
    ),
];

fn tell_kills(kills: &[Kill]) -> bool {
    let (mut dead, mut alive) = (0, 0);
    for kill in kills {
        let Some(seeds) = &kill.seeds else {
            if let Some((name, why)) = NOT_KILLED.iter().find(|(name, _)| *name == kill.name) {
                println!("{name:24} not killed (not counted): {why}");
                continue;
            }
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
