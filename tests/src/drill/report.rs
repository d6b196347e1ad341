//! Results of the drills: printed, judged and written as JSON.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::bed;

use super::ghost_run::GhostRun;
use super::load::Sums;
use super::steps::Steps;

/// Incremented when a key changes its meaning.
const VERSION: u32 = 1;

/// fio queues requests, and its longest need not belong to a failover: it may take this many
/// budgets.
const FIO_SLACK: u64 = 2;

/// Minimum, median and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Figures {
    min: f64,
    median: f64,
    max: f64,
}

impl Figures {
    /// `None` if there are no values.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            min: *sorted.first()?,
            median: *sorted.get(sorted.len() / 2)?,
            max: *sorted.last()?,
        })
    }
}

/// One repetition.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Repetition {
    /// Longest probe request from just before the fault until the failover was over.
    pub(super) stall_ms: f64,
    /// Longest probe request in the undisturbed period before it.
    pub(super) before_ms: f64,
    /// The steps from umpathd's event log.
    #[serde(flatten)]
    pub(super) steps: Steps,
}

#[derive(Clone, Debug, Serialize)]
struct Check {
    name: String,
    passed: bool,
    detail: String,
}

/// The result of one drill.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    name: String,
    passed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stall_ms: Option<Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fio: Option<Sums>,
    checks: Vec<Check>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    repetitions: Vec<Repetition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ghost_runs: Vec<GhostRun>,
}

impl Outcome {
    /// A failover drill; judges the stall budget.
    pub(super) fn new(name: &str, budget: Duration, repetitions: Vec<Repetition>) -> Self {
        let mut outcome = Self::empty(name);
        let budget_ms = budget.as_millis() as u64;
        outcome.budget_ms = Some(budget_ms);
        outcome.stall_ms = Figures::of(repetitions.iter().map(|it| it.stall_ms));
        outcome.repetitions = repetitions;
        // The probe has one request at a time, on one CPU; umpathd's own measurement covers the
        // others.
        let all = Figures::of(outcome.repetitions.iter().filter_map(|repetition| {
            let ms = repetition.steps.umpathd_stall_ms?;
            Some(ms as f64)
        }));
        for (whose, figures) in [
            ("longest stall", outcome.stall_ms),
            ("longest wait of any request", all),
        ] {
            let (fits, words) = match figures {
                None => (false, "nothing was measured".to_owned()),
                Some(Figures { min, median, max }) => (
                    max <= budget_ms as f64,
                    format!("min {min:.1}, median {median:.1}, max {max:.1} ms"),
                ),
            };
            outcome.check(&format!("{whose} at most {budget_ms} ms"), fits, words);
        }
        outcome
    }

    /// The ghost-write drill.
    pub(super) fn of_ghosts(name: &str, runs: Vec<GhostRun>) -> Self {
        let mut outcome = Self::empty(name);
        for run in &runs {
            let (passed, words) = run.verdict();
            outcome.check(run.title(), passed, words);
        }
        outcome.ghost_runs = runs;
        outcome
    }

    fn empty(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            passed: true,
            budget_ms: None,
            stall_ms: None,
            fio: None,
            checks: Vec::new(),
            repetitions: Vec::new(),
            ghost_runs: Vec::new(),
        }
    }

    fn check(&mut self, name: &str, passed: bool, detail: String) {
        self.passed &= passed;
        self.checks.push(Check {
            name: name.to_owned(),
            passed,
            detail,
        });
    }

    /// Records whether a step succeeded.
    pub(super) fn note(&mut self, name: &str, result: Result<()>) {
        let (passed, detail) = match result {
            Ok(()) => (true, String::new()),
            Err(error) => (false, format!("{error:#}")),
        };
        self.check(name, passed, detail);
    }

    /// Records what fio wrote and compared.
    pub(super) fn fio(&mut self, sums: Sums) {
        let detail = format!(
            "{} rounds, {} writes, {} reads compared, longest {:.0} ms",
            sums.rounds, sums.writes, sums.reads_compared, sums.longest_ms
        );
        let enough = sums.writes > 0 && sums.reads_compared > 0;
        self.check("fio: no I/O error, every block as written", enough, detail);
        if let Some(budget_ms) = self.budget_ms {
            let most_ms = FIO_SLACK * budget_ms;
            let fits = sums.longest_ms <= most_ms as f64;
            let words = format!("{:.1} ms", sums.longest_ms);
            self.check(&format!("fio: longest at most {most_ms} ms"), fits, words);
        }
        self.fio = Some(sums);
    }

    pub(super) fn print(&self) {
        for check in &self.checks {
            let word = if check.passed { "ok    " } else { "FAILED" };
            let gap = if check.detail.is_empty() { "" } else { ": " };
            let detail = check.detail.replace('\n', "\n         ");
            println!("  {word} {}{gap}{detail}", check.name);
        }
        let word = if self.passed { "PASS" } else { "FAIL" };
        println!("drill {}: {word}", self.name);
    }
}

/// All drills of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: u32,
    kernel: String,
    seed: u64,
    passed: bool,
    drills: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            version: VERSION,
            kernel: bed::release(),
            seed,
            passed: true,
            drills: Vec::new(),
        }
    }

    /// Prints and keeps an outcome.
    pub(super) fn add(&mut self, outcome: Outcome) {
        outcome.print();
        self.passed &= outcome.passed;
        self.drills.push(outcome);
    }

    /// Records a drill that could not be completed.
    pub(super) fn broke_off(&mut self, name: &str, error: anyhow::Error) {
        let mut outcome = Outcome::empty(name);
        outcome.note("the drill completed", Err(error));
        self.add(outcome);
    }

    pub(super) fn passed(&self) -> bool {
        self.passed && !self.drills.is_empty()
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_need_no_order() {
        let figures = Figures::of([3.0, 1.0, 2.0].into_iter()).unwrap();
        assert_eq!((figures.min, figures.median, figures.max), (1.0, 2.0, 3.0));
        assert_eq!(Figures::of(std::iter::empty()), None);
    }

    #[test]
    fn nothing_measured_is_no_pass() {
        let outcome = Outcome::new("link-down", Duration::from_millis(100), Vec::new());
        assert!(!outcome.passed);
        assert!(!Report::new(1).passed());
    }

    fn passes(umpathd_stall_ms: Option<u64>, fio_ms: f64) -> bool {
        let repetition = Repetition {
            stall_ms: 40.0,
            before_ms: 1.0,
            steps: Steps {
                umpathd_stall_ms,
                ..Steps::default()
            },
        };
        let budget = Duration::from_millis(100);
        let mut outcome = Outcome::new("link-down", budget, vec![repetition]);
        outcome.fio(Sums {
            rounds: 1,
            writes: 1,
            reads_compared: 1,
            longest_ms: fio_ms,
        });
        outcome.passed
    }

    #[test]
    fn a_stall_that_the_probe_does_not_see_is_judged_as_well() {
        assert!(passes(Some(100), 200.0));
        assert!(!passes(Some(3000), 90.0), "another queue hung");
        assert!(!passes(Some(90), 3000.0), "fio hung");
        assert!(!passes(None, 90.0), "nobody counted");
    }
}
