//! Path selectors on two unequal paths: the same reads by each, with one cable degraded by netem.
//!
//! Linux nvmet serves both paths in the initial namespace; umpathd runs in its own, so that every
//! packet crosses a cable. Selectors take turns within a round, and ratios to queue-length are
//! taken round by round, so that a machine that slows down affects all of them alike. Outlier
//! ejection is off, so that the selectors themselves must cope.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use umpath_tests::bed::{
    AnaState, Cable, Fio, Network, NullDisk, Nvmet, Place, Side, load, release, run,
};

use crate::contender::{NQN, PATHS};
use crate::ours::Daemon;
use crate::report::Runs;

const DISK_MIB: u32 = 64;
/// The selector the others are compared with.
const YARDSTICK: &str = "queue-length";
const SELECTORS: [&str; 5] = [
    YARDSTICK,
    "round-robin",
    "service-time",
    "historical-service-time",
    "latency",
];

/// How the first cable is degraded: a name, and netem's arguments.
const ROWS: [(&str, &[&str]); 6] = [
    ("equal", &[]),
    ("+1 ms", &["delay", "1ms"]),
    ("+5 ms", &["delay", "5ms"]),
    ("+30 ms", &["delay", "30ms"]),
    ("+5 ms, jitter 4 ms", &["delay", "5ms", "4ms"]),
    ("loss 0.1 %", &["loss", "0.1%"]),
];

/// Parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Number of runs of every selector per row.
    pub rounds: u32,
    /// Duration of each run.
    pub seconds: u32,
}

/// Results of the whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Incremented when a key changes its meaning.
    version: u32,
    /// `uname -r`.
    kernel: String,
    rounds: u32,
    seconds: u32,
    rows: Vec<RowReport>,
}

#[derive(Clone, Debug, Serialize)]
struct RowReport {
    /// How the first cable is degraded.
    cable: &'static str,
    selectors: Vec<SelectorReport>,
}

/// Results of one selector in one row; times in microseconds.
#[derive(Clone, Debug, Serialize)]
struct SelectorReport {
    selector: &'static str,
    iops: Runs,
    p50_us: Runs,
    p99_us: Runs,
    p999_us: Runs,
    /// Requests per second divided by queue-length's in the same round.
    ratio: Runs,
}

/// The result of one run.
#[derive(Clone, Copy, Debug)]
struct Sample {
    iops: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
}

/// Measures all rows.
pub fn measure(plan: Plan) -> Result<Report> {
    load(&["sch_netem"])?;
    let network = Network::kernel_array(PATHS)?;
    let disk = NullDisk::make("umpath-bench", DISK_MIB)?;
    let _target = export(&network, disk.device())?;
    let daemon = Daemon::start(network.host(), "[defaults]\noutlier_factor = 0\n")?;
    for cable in 1..=PATHS {
        let address = network.cable(cable).address(Side::Array);
        daemon.connect(&address.to_string())?;
    }
    let device = daemon.device()?;
    let mut rows = Vec::new();
    for (cable, words) in ROWS {
        let _slow = Slow::make(network.array(), network.cable(1), words)?;
        let samples = row(plan, cable, &daemon, &device)?;
        rows.push(RowReport {
            cable,
            selectors: reports(&samples),
        });
    }
    Ok(Report {
        version: 1,
        kernel: release(),
        rounds: plan.rounds,
        seconds: plan.seconds,
        rows,
    })
}

/// The samples of every round, in the order of [`SELECTORS`].
fn row(plan: Plan, cable: &str, daemon: &Daemon, device: &Path) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); SELECTORS.len()];
    for round in 0..plan.rounds as usize {
        for turn in 0..SELECTORS.len() {
            // Another one goes first in each round.
            let at = (turn + round) % SELECTORS.len();
            let (Some(&selector), Some(samples)) = (SELECTORS.get(at), samples.get_mut(at)) else {
                continue;
            };
            daemon.set(&format!("path_selector={selector}"))?;
            let sample = reads(device, plan.seconds)
                .with_context(|| format!("{selector} with a cable {cable}"))?;
            eprintln!(
                "{cable}: round {}: {selector}: {:.0} IOPS, p99 {:.0} us",
                round + 1,
                sample.iops,
                sample.p99_us
            );
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn reads(device: &Path, seconds: u32) -> Result<Sample> {
    let job = ["--rw=randread", "--bs=4k", "--iodepth=16", "--norandommap"];
    let result = Fio::on(device)
        .with(job)
        .with(["--time_based", "--ramp_time=1"])
        .with([format!("--runtime={seconds}")])
        .run()?
        .read;
    let percentile = |percent| {
        let value = result.clat_ns.percentile(percent);
        value
            .map(|ns| ns / 1000.0)
            .with_context(|| format!("fio reports no percentile {percent}"))
    };
    Ok(Sample {
        iops: result.iops,
        p50_us: percentile(50.0)?,
        p99_us: percentile(99.0)?,
        p999_us: percentile(99.9)?,
    })
}

fn reports(samples: &[Vec<Sample>]) -> Vec<SelectorReport> {
    let yardstick = samples.first().map(Vec::as_slice).unwrap_or_default();
    let report = |(selector, samples): (&&'static str, &Vec<Sample>)| {
        let runs = |what: fn(&Sample) -> f64| Runs::of(samples.iter().map(what).collect());
        let ratios = samples.iter().zip(yardstick);
        SelectorReport {
            selector,
            iops: runs(|sample| sample.iops),
            p50_us: runs(|sample| sample.p50_us),
            p99_us: runs(|sample| sample.p99_us),
            p999_us: runs(|sample| sample.p999_us),
            ratio: Runs::of(ratios.map(|(own, its)| own.iops / its.iops).collect()),
        }
    };
    SELECTORS.iter().zip(samples).map(report).collect()
}

fn export(network: &Network, device: &Path) -> Result<Nvmet> {
    let states = [AnaState::Optimized; PATHS as usize];
    Nvmet::start(network, NQN, device, &states)
}

/// netem on what the array sends through a cable; removed when dropped.
struct Slow<'a> {
    place: &'a Place,
    netdev: String,
}

impl<'a> Slow<'a> {
    fn make(place: &'a Place, cable: &Cable, words: &[&str]) -> Result<Option<Self>> {
        if words.is_empty() {
            return Ok(None);
        }
        let netdev = cable.netdev(Side::Array);
        let mut tc = place.command("tc");
        tc.args(["qdisc", "add", "dev", &netdev, "root", "netem"]);
        // netem's default limit of 1,000 packets would drop some.
        run(tc.args(["limit", "100000"]).args(words))?;
        Ok(Some(Self { place, netdev }))
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        let mut tc = self.place.command("tc");
        tc.args(["qdisc", "del", "dev", &self.netdev, "root"]);
        if let Err(error) = run(&mut tc) {
            eprintln!("bench-selectors: {error:#}");
        }
    }
}

impl Report {
    /// Medians, as a Markdown table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "Linux {}, 4k random reads, QD16, {} rounds of {} s; medians\n\n",
            self.kernel, self.rounds, self.seconds
        );
        text.push_str(
            "| first cable | selector | IOPS | to queue-length | p50 us | p99 us | p99.9 us |\n",
        );
        text.push_str("|---|---|---:|---:|---:|---:|---:|\n");
        for row in &self.rows {
            for one in &row.selectors {
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.0} | {:.2} ({:.2}-{:.2}) | {:.0} | {:.0} | {:.0} |",
                    row.cable,
                    one.selector,
                    one.iops.median,
                    one.ratio.median,
                    one.ratio.min,
                    one.ratio.max,
                    one.p50_us.median,
                    one.p99_us.median,
                    one.p999_us.median
                );
            }
        }
        text
    }
}
