//! The results: a table for people, JSON for programs.
//!
//! JSON keys are stable; [`VERSION`] is incremented when one changes its meaning.

use std::fmt::Write as _;

use serde::Serialize;
use umpath_tests::bed::release;

use crate::contender::{Contender, Half};
use crate::matrix::Plan;
use crate::matrix::Sample;

/// Version of the JSON.
pub const VERSION: u32 = 1;
/// Rounds that differ by more than this factor cause a warning.
const SPREAD_NOISY: f64 = 1.5;

/// Results of the whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// See [`VERSION`].
    pub version: u32,
    /// `uname -r`.
    pub kernel: String,
    /// CPUs online.
    pub cpus: usize,
    /// Runs of every job on every contender.
    pub rounds: u32,
    /// Duration of each run.
    pub seconds: u32,
    /// With native multipath, and without.
    pub halves: Vec<HalfReport>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Results of one half.
#[derive(Clone, Debug, Serialize)]
pub struct HalfReport {
    /// The value of `nvme_core.multipath`.
    pub native_multipath: bool,
    /// Results of every job.
    pub jobs: Vec<ShapeReport>,
    #[serde(skip)]
    half: Half,
    #[serde(skip)]
    measured: Vec<Contender>,
}

/// Results of one job.
#[derive(Clone, Debug, Serialize)]
pub struct ShapeReport {
    /// Name of the job.
    pub job: &'static str,
    /// Results of each contender.
    pub contenders: Vec<ContenderReport>,
    /// Ours divided by others, round by round.
    pub ratios: Vec<Ratio>,
}

/// Results of one contender at one job.
#[derive(Clone, Debug, Serialize)]
pub struct ContenderReport {
    /// Name of the contender.
    pub contender: &'static str,
    /// Requests per second.
    pub iops: Runs,
    /// Mean completion latency, microseconds.
    pub clat_us: Runs,
}

/// Our throughput divided by another's.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Name of the contender in the divisor.
    pub to: &'static str,
    /// One ratio per round.
    pub iops: Runs,
}

/// Values of one quantity in several rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Runs {
    /// In round order.
    pub runs: Vec<f64>,
    /// Smallest of them.
    pub min: f64,
    /// Middle value, or the mean of the two middle ones.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Runs {
    pub(crate) fn of(runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let count = sorted.len();
        Self {
            runs,
            min: at(0),
            median: f64::midpoint(at(count.saturating_sub(1) / 2), at(count / 2)),
            max: at(count.saturating_sub(1)),
        }
    }

    fn add(&mut self, value: f64) {
        let mut runs = std::mem::take(&mut self.runs);
        runs.push(value);
        *self = Self::of(runs);
    }
}

impl ShapeReport {
    pub(crate) fn new(job: &'static str) -> Self {
        Self {
            job,
            contenders: Vec::new(),
            ratios: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, contender: Contender, sample: Sample) {
        let name = contender.name();
        let at = self.contenders.iter().position(|c| c.contender == name);
        let at = at.unwrap_or_else(|| {
            self.contenders.push(ContenderReport {
                contender: name,
                iops: Runs::default(),
                clat_us: Runs::default(),
            });
            self.contenders.len() - 1
        });
        if let Some(entry) = self.contenders.get_mut(at) {
            entry.iops.add(sample.iops);
            entry.clat_us.add(sample.clat_us);
        }
    }

    fn iops(&self, contender: Contender) -> Option<&Runs> {
        let found = self
            .contenders
            .iter()
            .find(|c| c.contender == contender.name());
        found.map(|found| &found.iops)
    }

    fn ratio(&self, to: Contender) -> Option<Ratio> {
        let (ours, other) = (self.iops(Contender::Ours)?, self.iops(to)?);
        let runs: Vec<f64> = ours
            .runs
            .iter()
            .zip(&other.runs)
            .map(|(ours, other)| ours / other)
            .collect();
        Some(Ratio {
            to: to.name(),
            iops: Runs::of(runs),
        })
    }
}

impl HalfReport {
    /// Only contenders in `measured` have all their runs; ratios are taken between those.
    pub(crate) fn new(half: Half, measured: &[Contender], mut jobs: Vec<ShapeReport>) -> Self {
        let measured: Vec<_> = half
            .contenders()
            .iter()
            .copied()
            .filter(|contender| measured.contains(contender))
            .collect();
        for job in &mut jobs {
            if measured.contains(&Contender::Ours) {
                let others = measured.iter().filter(|c| **c != Contender::Ours);
                job.ratios = others.filter_map(|other| job.ratio(*other)).collect();
            }
        }
        Self {
            native_multipath: half == Half::Native,
            jobs,
            half,
            measured,
        }
    }

    fn table(&self, text: &mut String) {
        let yes = if self.native_multipath { "Y" } else { "N" };
        let _ = write!(text, "\n{:<29}", format!("nvme_core.multipath={yes}"));
        for contender in &self.measured {
            let _ = write!(text, "{:>17}", contender.name());
        }
        let to = self.half.yardstick().name();
        let _ = writeln!(text, "{:>17}", format!("ours/{to}"));
        for job in &self.jobs {
            let _ = write!(text, "{:<29}", job.job);
            for contender in &self.measured {
                let cell = job.iops(*contender).map_or_else(
                    || "-".to_owned(),
                    |runs| format!("{:.0} ({:.0})", runs.median, runs.min),
                );
                let _ = write!(text, "{cell:>17}");
            }
            let ratio = job.ratios.iter().find(|ratio| ratio.to == to);
            let cell = ratio.map_or_else(
                || "-".to_owned(),
                |ratio| format!("{:.2} ({:.2})", ratio.iops.median, ratio.iops.min),
            );
            let _ = writeln!(text, "{cell:>17}");
        }
    }
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            version: VERSION,
            kernel: release(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            rounds: plan.rounds,
            seconds: plan.seconds,
            halves: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Largest ratio between rounds of one job on one device; 1 means none differ. It shows how
    /// busy the machine was: smaller differences between devices mean nothing.
    pub fn spread(&self) -> f64 {
        let jobs = self.halves.iter().flat_map(|half| &half.jobs);
        let runs = jobs.flat_map(|job| &job.contenders).map(|one| &one.iops);
        runs.filter(|runs| runs.min > 0.0)
            .map(|runs| runs.max / runs.min)
            .fold(1.0, f64::max)
    }

    /// The results as text.
    pub fn table(&self) -> String {
        let mut text = format!(
            "bench compare: Linux {}, {} CPUs, {} rounds of {} s; IOPS and ratios: median (min)\n",
            self.kernel, self.cpus, self.rounds, self.seconds
        );
        for half in &self.halves {
            half.table(&mut text);
        }
        let spread = self.spread();
        if spread > SPREAD_NOISY {
            let _ = writeln!(
                text,
                "\nnoisy: rounds of one job on one device differ by up to {spread:.1} times; \
                 repeat on an idle machine, with more --rounds"
            );
        }
        for failure in &self.failures {
            let _ = writeln!(text, "not measured: {failure}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(iops: f64) -> Sample {
        Sample { iops, clat_us: 1.0 }
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut job = ShapeReport::new("job");
        for (ours, dm) in [(10.0, 5.0), (30.0, 10.0), (8.0, 8.0)] {
            job.add(Contender::Dm, sample(dm));
            job.add(Contender::Ours, sample(ours));
        }
        let measured = [Contender::Dm, Contender::Ours];
        let half = HalfReport::new(Half::Separate, &measured, vec![job]);
        let ratio = &half.jobs[0].ratios[0];
        assert_eq!(
            (ratio.to, ratio.iops.min, ratio.iops.median),
            ("dm", 1.0, 2.0)
        );
        let mut text = String::new();
        half.table(&mut text);
        assert!(
            text.contains("10 (8)") && text.contains("2.00 (1.00)"),
            "{text}"
        );
    }

    #[test]
    fn an_even_number_of_runs_has_a_median_between_two() {
        let runs = Runs::of(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!((runs.min, runs.median), (1.0, 2.5));
        assert!(Runs::of(Vec::new()).median.abs() < f64::EPSILON);
    }

    #[test]
    fn a_busy_machine_is_said() {
        let plan = Plan {
            rounds: 2,
            seconds: 1,
            jobs: Vec::new(),
        };
        let mut report = Report::new(&plan);
        let mut job = ShapeReport::new("job");
        job.add(Contender::Dm, sample(5.0));
        job.add(Contender::Dm, sample(6.0));
        let half = HalfReport::new(Half::Separate, &[Contender::Dm], vec![job.clone()]);
        report.halves.push(half);
        assert!(!report.table().contains("noisy"));
        job.add(Contender::Dm, sample(10.0));
        let half = HalfReport::new(Half::Separate, &[Contender::Dm], vec![job]);
        report.halves.push(half);
        assert!(report.table().contains("differ by up to 2.0 times"));
    }

    #[test]
    fn without_ours_there_is_no_ratio() {
        let mut job = ShapeReport::new("job");
        job.add(Contender::Dm, sample(5.0));
        let half = HalfReport::new(Half::Separate, &[Contender::Dm], vec![job]);
        assert!(half.jobs[0].ratios.is_empty());
    }
}
