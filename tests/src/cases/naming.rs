//! What paths are called, and what is said of their losses.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::disk::Disk;
use super::rig::{CALM, Daemon, PATIENCE};
use super::trouble::{NQN, expect_usable, standing, trouble};
use crate::bed::{Fio, Network, Process, Pull, Side, pause, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "naming-whichever-is-up-first",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: whichever_is_up_first,
    },
    Case {
        name: "naming-an-unplugged-cable",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: unplugged_cable,
    },
];

const DISK: &str = "/tmp/umpath-naming.disk";
/// Losses may be far apart on a busy machine.
const FORGET_NONE: &str = "flap_forget_ms = 600000\n";
/// A group for each path, so that at equal priority the order of paths decides which one is used.
const ONE_EACH: &str = "path_grouping_policy = \"failover\"\n";
/// Losses that are forgiven before a path is held, and one more.
const LOSSES: usize = 3;
/// A hold of a second is over, and a path that it was not over for would be tried.
const PAST_THE_HOLD: Duration = Duration::from_secs(4);

/// Paths of equal priority have the numbers and the places of the configuration, whichever is up first at
/// a start or a restart.
fn whichever_is_up_first(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let mut second = disk.serve(network, 2, "optimized")?;
    let config = standing(network, &[1, 2], &format!("{CALM}{ONE_EACH}"));
    let mut daemon = Daemon::start(network, &config)?;
    expect_usable(&daemon, 1)?;
    ensure!(daemon.live(2), "{}", daemon.shown());
    let mut first = disk.serve(network, 1, "optimized")?;
    as_configured(&daemon).context("the second one up first")?;

    daemon.kill()?;
    first.kill()?;
    daemon.start_again(network)?;
    expect_usable(&daemon, 1)?;
    first.start_again(network)?;
    as_configured(&daemon).context("the second one up first again")?;

    daemon.kill()?;
    second.kill()?;
    daemon.start_again(network)?;
    expect_usable(&daemon, 1)?;
    second.start_again(network)?;
    as_configured(&daemon).context("the first one up first")?;

    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

fn as_configured(daemon: &Daemon) -> Result<()> {
    expect_usable(daemon, 2)?;
    let numbers = [daemon.number(1), daemon.number(2)];
    ensure!(numbers == [Some(1), Some(2)], "{numbers:?}");
    within(PATIENCE, "I/O on the first path", || daemon.carries(1))
        .with_context(|| daemon.ask(&["-ll"]).unwrap_or_default())
}

/// A cable is pulled three times under load. Each time the cable is what is blamed, and what is said of the
/// I/O names the path it went to. The third time the path is held, and nothing is said of its
/// recovery before it is plugged in again.
fn unplugged_cable(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let _first = disk.serve(network, 1, "optimized")?;
    let _second = disk.serve(network, 2, "non-optimized")?;
    let mut daemon = Daemon::start(network, &format!("{CALM}{FORGET_NONE}"))?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    expect_usable(&daemon, 2)?;
    let job = Fio::on(&daemon.device()?).with([
        // One process, which can be killed.
        "--thread",
        "--rw=randrw",
        "--bs=4k",
        "--iodepth=8",
        "--rate_iops=100",
        "--time_based",
        "--runtime=600",
    ]);
    let mut fio = Process::spawn("fio", job.command())?;
    for loss in 1..=LOSSES {
        within(PATIENCE, "I/O on the first path", || daemon.carries(1))
            .with_context(|| daemon.shown())?;
        pause(Duration::from_secs(1));
        let before = last(&daemon)?;
        network.cable(1).pull(Pull::CarrierOf(Side::Host))?;
        within(PATIENCE, "I/O on the second path", || {
            let since = since(&daemon, before).unwrap_or_default();
            ["convicted", "group_switched", "first_io"]
                .iter()
                .all(|kind| since.iter().any(|event| event.is(kind)))
        })
        .with_context(|| daemon.shown())?;
        if loss == LOSSES {
            pause(PAST_THE_HOLD);
        }
        blamed(&daemon, before)
            .with_context(|| format!("loss {loss}"))
            .with_context(|| daemon.shown())?;
        if loss == LOSSES {
            let since = since(&daemon, before)?;
            ensure!(since.iter().any(|event| event.is("path_held")), "{since:?}");
        }
        network.cable(1).restore()?;
    }
    within(PATIENCE, "I/O on the first path", || daemon.carries(1))
        .with_context(|| daemon.shown())?;
    ensure!(fio.running(), "{}", fio.tail());
    fio.kill()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// What has been said since event `before`, with the first cable still unplugged.
fn blamed(daemon: &Daemon, before: u64) -> Result<()> {
    for event in since(daemon, before)? {
        match event.kind.as_str() {
            "suspected" | "convicted" if event.path == Some(1) => {
                ensure!(event.detail.contains("link"), "not the cable: {event:?}");
            }
            "group_switched" | "first_io" => {
                ensure!(event.path == Some(2), "not where I/O went: {event:?}");
            }
            "path_probation" | "path_sound" | "path_ready" => {
                ensure!(event.path != Some(1), "it is unplugged: {event:?}");
            }
            _ => {}
        }
    }
    let words = trouble(daemon, 1);
    eprintln!("show paths says: {words}");
    ensure!(!words.contains("SEND"), "not the cable: {words}");
    let said = daemon.json(&["show", "events"])?;
    let failovers = said.get("failovers").and_then(Value::as_array);
    for failover in failovers.context("no failovers")? {
        let cause = failover.get("cause").and_then(Value::as_str);
        let other = failover.get("path").and_then(Value::as_u64) != Some(1);
        let cable = cause.is_some_and(|cause| cause.contains("link"));
        ensure!(other || cable, "not the cable: {failover}");
    }
    Ok(())
}

/// An event as `umpath show events` has it.
#[derive(Debug)]
struct Said {
    seq: u64,
    kind: String,
    path: Option<u64>,
    detail: String,
}

impl Said {
    fn parse(event: &Value) -> Option<Self> {
        let text = |key| Some(event.get(key)?.as_str()?.to_owned());
        Some(Self {
            seq: event.get("seq")?.as_u64()?,
            kind: text("kind")?,
            path: event.get("path")?.as_u64(),
            detail: text("detail")?,
        })
    }

    fn is(&self, kind: &str) -> bool {
        self.kind == kind
    }
}

fn all(daemon: &Daemon) -> Result<Vec<Said>> {
    let shown = daemon.json(&["show", "events"])?;
    let events = shown.get("events").and_then(Value::as_array);
    let events = events.context("no events")?.iter();
    events
        .map(|event| Said::parse(event).with_context(|| format!("no event: {event}")))
        .collect()
}

fn since(daemon: &Daemon, before: u64) -> Result<Vec<Said>> {
    let mut said = all(daemon)?;
    said.retain(|event| event.seq > before);
    Ok(said)
}

/// The number of the latest event.
fn last(daemon: &Daemon) -> Result<u64> {
    Ok(all(daemon)?.last().context("no events")?.seq)
}
