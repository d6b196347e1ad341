//! What an operator has removed stays removed, however often portals are queried.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, SERVICE, Target};
use crate::bed::{Fio, Network, Side, pause, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "rediscovery-respects-removals",
    topology: Topology::Separate(1),
    limit_seconds: 150,
    run: respects_removals,
}];

const NQN: &str = "nqn.2026-11.io.umpath:removed";
const DISK: &str = "/tmp/umpath-rediscovery.disk";
const PERIOD: Duration = Duration::from_secs(1);
const LARGE: u64 = 64 << 20;
const SMALL: u64 = 32 << 20;
/// Subsystems that are added meanwhile, and the size of their namespaces.
const OTHERS: [&str; 2] = [
    "nqn.2026-11.io.umpath:discovered-1",
    "nqn.2026-11.io.umpath:discovered-2",
];
const ADDED: u64 = 16 << 20;

/// A volume is removed, then the whole subsystem. Queries find new subsystems meanwhile, and bring back
/// neither; `umpath connect` does.
fn respects_removals(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let target = disk.serve(network, 1, "optimized")?;
    add_namespace(&target, NQN, "32MiB")?;
    let address = network.cable(1).address(Side::Array);
    let config = format!(
        "[defaults]\nrediscover_ms = {}\n[[connect]]\ncontrollers = [\"{address}\"]\n",
        PERIOD.as_millis()
    );
    let mut daemon = Daemon::start(network, &config)?;
    expect_sizes(&daemon, &[LARGE, SMALL])?;

    let small = device_of(&daemon, SMALL)?;
    let name = small.trim_start_matches("/dev/");
    let [before, after] = OTHERS;
    daemon.ask(&["disconnect", "-d", name])?;
    discovered(network, &target, &daemon, before)?;
    expect_sizes(&daemon, &[LARGE, ADDED]).context("a volume was removed")?;

    daemon.ask(&["disconnect", "-n", NQN])?;
    discovered(network, &target, &daemon, after)?;
    expect_sizes(&daemon, &[ADDED, ADDED]).context("a subsystem was removed")?;
    let paths = daemon.paths()?;
    let to = |path: &Value| path.get("nqn").and_then(Value::as_str) == Some(NQN);
    ensure!(!paths.iter().any(to), "a path is back: {paths:?}");

    daemon.connect(network, 1, NQN, &[])?;
    expect_sizes(&daemon, &[LARGE, SMALL, ADDED, ADDED])?;
    let small = device_of(&daemon, SMALL)?;
    Fio::on(small.as_ref())
        .write_and_verify("4k", "1m", 4)
        .run()?;
    for nqn in [&[NQN], &OTHERS[..]].concat() {
        daemon.ask(&["disconnect", "-n", nqn])?;
    }
    daemon.expect_nothing("disconnect")
}

/// Adds a namespace of this size, kept in memory.
fn add_namespace(target: &Target, nqn: &str, size: &str) -> Result<()> {
    let add = ["nvmf", "namespace", "add", "--nqn", nqn];
    let backend = format!("memory:{size}");
    let said = target.verb(&[&add[..], &["--bdev", &backend]].concat())?;
    eprint!("{said}");
    Ok(())
}

/// Waits until a query has found a new subsystem, and for two more queries.
fn discovered(network: &Network, target: &Target, daemon: &Daemon, nqn: &str) -> Result<()> {
    let address = network.cable(1).address(Side::Array).to_string();
    let create = ["nvmf", "subsystem", "create", "--allow-any-host"];
    eprint!("{}", target.verb(&[&create[..], &["--nqn", nqn]].concat())?);
    add_namespace(target, nqn, "16MiB")?;
    let listen = ["nvmf", "listener", "add", "--traddr", &address];
    let rest = ["--trsvcid", SERVICE, "--nqn", nqn];
    eprint!("{}", target.verb(&[&listen[..], &rest].concat())?);
    within(PATIENCE, "the new subsystem's path", || {
        let of = |path: &Value| path.get("nqn").and_then(Value::as_str) == Some(nqn);
        let paths = daemon.paths().unwrap_or_default();
        paths.iter().any(of)
    })
    .with_context(|| daemon.shown())?;
    pause(3 * PERIOD);
    Ok(())
}

fn sizes(daemon: &Daemon) -> Vec<u64> {
    let volumes = daemon.volumes().unwrap_or_default();
    let size = |volume: &Value| volume.get("PhysicalSize").and_then(Value::as_u64);
    let mut sizes: Vec<u64> = volumes.iter().filter_map(size).collect();
    sizes.sort_unstable();
    sizes
}

fn expect_sizes(daemon: &Daemon, wanted: &[u64]) -> Result<()> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    within(PATIENCE, "these volumes and no others", || {
        sizes(daemon) == wanted
    })
    .with_context(|| format!("{:?}, not {wanted:?}\n{}", sizes(daemon), daemon.shown()))
}

/// The device node of the volume of this size.
fn device_of(daemon: &Daemon, bytes: u64) -> Result<String> {
    let volumes = daemon.volumes()?;
    let size = |volume: &&Value| volume.get("PhysicalSize").and_then(Value::as_u64);
    let volume = volumes.iter().find(|volume| size(volume) == Some(bytes));
    let path = volume.and_then(|volume| volume.get("DevicePath")?.as_str());
    Ok(path.with_context(|| format!("{volumes:?}"))?.to_owned())
}
