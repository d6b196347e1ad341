//! Many runs: seeds in a row on several threads, and mutants until they die.
//!
//! A panic of the code under test is a broken promise like any other: one of its own assertions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Serialize;

use super::mutant::Mutant;
use super::plan::Plan;
use super::shrink::{Part, shrink};
use super::world::{Templates, World};

/// A seed that broke a promise.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Seed of the run.
    pub seed: u64,
    /// The promise, by its number in the list of invariants, and how it was broken.
    pub what: String,
}

/// What became of many seeds.
#[derive(Debug)]
pub struct Outcome {
    /// Seeds run.
    pub seeds: u64,
    /// Those that failed, in rising order.
    pub failures: Vec<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// How hard a mutant was to kill.
#[derive(Debug, Serialize)]
pub struct Kill {
    /// Name of the mutant.
    pub name: &'static str,
    /// Seeds needed, by trial, in rising order; `None`: it survived.
    pub trials: Vec<Option<u64>>,
    /// The middle one, where it survived none.
    pub median: Option<u64>,
    /// The promise whose violation gave it away in one of the trials: a number, or `assertion` where the
    /// product itself noticed.
    pub promise: String,
}

impl Kill {
    /// It was noticed in every trial.
    pub fn is_dead(&self) -> bool {
        self.median.is_some()
    }
}

/// First seeds of two trials lie this far apart.
const TRIAL_STRIDE: u64 = 1_000_000;
/// A mutant that lives longer has survived, unless another limit is asked for.
pub const SEEDS_MAX: u64 = 30_000;

/// Runs single seeds. One serves any number of threads.
#[derive(Debug)]
pub struct Runner(Templates);

impl Runner {
    /// Made once, because it is what takes the time.
    pub fn new() -> Result<Self> {
        let templates =
            Templates::new().map_err(|error| anyhow!("cannot name the ends: {error}"))?;
        Ok(Self(templates))
    }

    /// Runs one seed; what broke, if anything did.
    pub fn run(&self, seed: u64, mutant: Option<Mutant>, trace: bool) -> Option<Failure> {
        self.run_without(seed, &[], mutant, trace)
    }

    /// Runs one seed without some parts of its plan.
    pub fn run_without(
        &self,
        seed: u64,
        parts: &[Part],
        mutant: Option<Mutant>,
        trace: bool,
    ) -> Option<Failure> {
        let run = || {
            let plan = Plan::new(seed).without(parts);
            let mut world = World::new(plan, mutant, &self.0, trace);
            world.run();
            world.violation.map(|violation| violation.0)
        };
        let what = match catch_unwind(AssertUnwindSafe(run)) {
            Ok(what) => what?,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                format!("assertion: {}", text.unwrap_or("without words"))
            }
        };
        Some(Failure { seed, what })
    }

    /// Leaves out of a failing seed's plan what its failure does not need.
    pub fn shrink(&self, failure: &Failure, mutant: Option<Mutant>) -> Vec<Part> {
        let promise = |what: &str| what.split(')').next().map(str::to_owned);
        shrink(&Plan::new(failure.seed), |parts| {
            let smaller = self.run_without(failure.seed, parts, mutant, false);
            smaller.is_some_and(|smaller| promise(&smaller.what) == promise(&failure.what))
        })
    }

    /// Runs `count` seeds from `first` on `jobs` threads; stops early when `failures_max` failed.
    pub fn run_many(&self, first: u64, count: u64, jobs: usize, failures_max: usize) -> Outcome {
        let (next, run) = (AtomicU64::new(0), AtomicU64::new(0));
        let failures = Mutex::new(Vec::new());
        let begun = Instant::now();
        on_threads(jobs, || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= count {
                    break;
                }
                run.fetch_add(1, Ordering::Relaxed);
                let Some(failure) = self.run(first + at, None, false) else {
                    continue;
                };
                if let Ok(mut failures) = failures.lock() {
                    failures.push(failure);
                    if failures.len() >= failures_max {
                        next.store(count, Ordering::Relaxed);
                    }
                }
            }
        });
        let mut failures = failures.into_inner().unwrap_or_default();
        failures.sort_by_key(|failure: &Failure| failure.seed);
        Outcome {
            seeds: run.into_inner(),
            failures,
            took: begun.elapsed(),
        }
    }

    /// Kills mutants, each `trials_each` times, from `first` on. What is not noticed in `seeds_max`
    /// seeds has survived.
    pub fn kill(
        &self,
        mutants: &[(&'static str, Mutant)],
        first: u64,
        (trials_each, seeds_max): (u64, u64),
        jobs: usize,
    ) -> Vec<Kill> {
        let next = AtomicU64::new(0);
        let trials = Mutex::new(Vec::new());
        on_threads(jobs, || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let (mutant, trial) = ((at / trials_each) as usize, at % trials_each);
                let Some((_, mutant_kind)) = mutants.get(mutant) else {
                    break;
                };
                let begin = first + trial * TRIAL_STRIDE;
                let found = (0..seeds_max).find_map(|nth| {
                    let failure = self.run(begin + nth, Some(*mutant_kind), false)?;
                    Some((nth + 1, failure.what))
                });
                if let Ok(mut trials) = trials.lock() {
                    trials.push((mutant, found));
                }
            }
        });
        let trials = trials.into_inner().unwrap_or_default();
        let of = |at: usize| trials.iter().filter(move |(mutant, _)| *mutant == at);
        let kill = |(at, (name, _)): (usize, &(&'static str, Mutant))| {
            let seeds = |found: &Option<(u64, String)>| found.as_ref().map(|(seeds, _)| *seeds);
            let mut trials: Vec<Option<u64>> = of(at).map(|(_, found)| seeds(found)).collect();
            // Those it survived come last.
            trials.sort_unstable_by_key(|seeds| seeds.unwrap_or(u64::MAX));
            let survived = trials.contains(&None);
            let median = trials.get(trials.len() / 2).copied().flatten();
            let promise = of(at).find_map(|(_, found)| found.as_ref());
            Kill {
                name,
                median: median.filter(|_| !survived),
                trials,
                promise: promise.map_or_else(String::new, |(_, what)| what.clone()),
            }
        };
        mutants.iter().enumerate().map(kill).collect()
    }
}

fn on_threads(jobs: usize, work: impl Fn() + Sync) {
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(&work);
        }
    });
}
