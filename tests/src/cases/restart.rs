//! Users of a volume do not notice when umpathd dies.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, Progress, ublk_nodes};
use crate::bed::{Fio, FioResult, Network, Process, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "restart-after-kill",
    topology: Topology::Separate(2),
    limit_seconds: 240,
    run: after_kill,
}];

const NQN: &str = "nqn.2026-11.io.umpath:restart";
/// What fio writes and compares: 40 MiB in blocks of 4 KiB.
const BLOCKS: u64 = 10_240;
const DISK: &str = "/tmp/umpath-restart.disk";

/// umpathd is killed twice while fio writes; each time its successor takes the device over with all
/// its requests, and fio notices nothing but a pause.
fn after_kill(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "128MiB");
    let _first = disk.serve(network, 1, "optimized")?;
    let _second = disk.serve(network, 2, "non-optimized")?;
    let mut daemon = Daemon::start(network, "[defaults]\nkato_ms = 1000\n")?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    let device = daemon.device()?;
    let job = Fio::on(&device)
        .write_and_verify("4k", "40m", 16)
        .with(["--rate_iops=1500", "--fsync=256"]);
    let mut fio = Process::spawn("fio", job.command())?;
    let mut done = 0;
    for round in 1..=2 {
        let wanted = done + 1000;
        within(PATIENCE, "writes in flight", || {
            !fio.running()
                || Progress::of(&device).is_some_and(|now| now.writes > wanted && now.in_flight > 0)
        })?;
        ensure!(fio.running(), "{}", fio.tail());
        daemon.kill_and_restart(network)?;
        within(PATIENCE, "the volume being served again", || {
            events(&daemon).is_ok_and(|kinds| kinds.iter().any(|kind| kind == "volume_recovered"))
        })
        .with_context(|| format!("round {round}: {:?}", daemon.ask(&["show", "events"])))?;
        within(PATIENCE, "the fences carried over", || fenced(&daemon))
            .with_context(|| format!("round {round}: {:?}", daemon.ask(&["show", "events"])))?;
        done = Progress::of(&device).context("the device is gone")?.writes;
    }
    let status = fio.wait(Duration::from_secs(120))?;
    ensure!(status.success(), "fio: {status}\n{}", fio.tail());
    let result = FioResult::parse(&fio.printed())?;
    ensure!(
        result.write.total_ios >= BLOCKS && result.read.total_ios >= BLOCKS,
        "fio wrote {} and compared {} blocks",
        result.write.total_ios,
        result.read.total_ios
    );
    eprint!("{}", daemon.ask(&["show", "events"])?);
    ensure!(
        daemon.device()? == device,
        "the volume has another device now: {}",
        daemon.device()?.display()
    );
    within(PATIENCE, "both paths", || {
        daemon.paths().is_ok_and(|paths| paths.len() == 2)
    })?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    ensure!(ublk_nodes().is_empty(), "left: {:?}", ublk_nodes());
    let kept: Vec<_> = std::fs::read_dir(daemon.folder().join("state/volumes"))?.collect();
    ensure!(kept.is_empty(), "still recorded: {kept:?}");
    let associations = daemon.folder().join("state/associations");
    within(PATIENCE, "associations losing their records", || {
        std::fs::read_dir(&associations).is_ok_and(|mut left| left.next().is_none())
    })
}

/// Both associations of the killed umpathd were carried over, and are fenced.
fn fenced(daemon: &Daemon) -> bool {
    events(daemon).is_ok_and(|kinds| {
        let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
        // The host logs each of them as inherited, and so does the volume; only the host logs the
        // fences.
        count("inherited") >= 4 && count("order_fenced") >= 2
    })
}

/// The kinds of all events.
pub(super) fn events(daemon: &Daemon) -> Result<Vec<String>> {
    let shown = daemon.json(&["show", "events"])?;
    let events = shown.get("events").and_then(Value::as_array);
    Ok(events
        .context("no events")?
        .iter()
        .filter_map(|event| Some(event.get("kind")?.as_str()?.to_owned()))
        .collect())
}
