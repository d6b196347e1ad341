//! A volatile cache that only a later controller has is flushed.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::rig::{CALM, Daemon, PATIENCE, Target};
use super::trouble::{NQN, expect_usable};
use crate::bed::{Fio, LoopDisk, Network, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "late-cache-is-flushed",
    topology: Topology::Separate(2),
    limit_seconds: 120,
    run: is_flushed,
}];

const STORE: &str = "/tmp/umpath-late-cache.store";

fn subsystem(port: u8, state: &str, disk: &Path) -> String {
    let disk = disk.display();
    format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\nports = [{port}]\n\
         [[subsystem.namespace]]\nnsid = 1\n\
         backend = {{ type = \"block\", path = \"{disk}\", direct = \"always\" }}\n\
         [[subsystem.ana]]\nport = {port}\nstate = \"{state}\"\n"
    )
}

/// The first controller reports no volatile cache when the block device is made; the second one, which
/// is the better path, does. A synced write sends it a FLUSH, and fails if that fails.
fn is_flushed(network: &Network) -> Result<()> {
    let disk = LoopDisk::make(Path::new(STORE), 64)?;
    // A target asks the kernel for the cache of its disk when it opens it.
    let _first = {
        cache(disk.device(), "write through")?;
        Target::start(network, 1, &subsystem(1, "non-optimized", disk.device()))?
    };
    cache(disk.device(), "write back")?;
    let second = Target::start(network, 2, &subsystem(2, "optimized", disk.device()))?;
    let mut daemon = Daemon::start(network, CALM)?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    write_synced(&device)?;
    daemon.connect(network, 2, NQN, &[])?;
    expect_usable(&daemon, 2)?;
    within(PATIENCE, "I/O on the second path", || daemon.carries(2))
        .with_context(|| daemon.shown())?;

    // Changes nothing, and counts.
    second.verb(&["fault", "delay", "0", "--kind", "flush"])?;
    write_synced(&device)?;
    let list = second.verb(&["fault", "list"])?;
    ensure!(hits(&list).is_some_and(|hits| hits > 0), "no FLUSH: {list}");
    second.verb(&["fault", "clear"])?;
    // A cache that could not be flushed (write fault, do not retry).
    second.verb(&["fault", "error", "0x4280", "--kind", "flush"])?;
    let failed = write_synced(&device).is_err();
    let list = second.verb(&["fault", "list"])?;
    ensure!(failed, "a write was synced without its FLUSH: {list}");
    second.verb(&["fault", "clear"])?;
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// Says what kind of cache a disk has.
fn cache(disk: &Path, kind: &str) -> Result<()> {
    let name = disk.file_name().context("a name")?.to_string_lossy();
    let file = format!("/sys/block/{name}/queue/write_cache");
    fs::write(&file, kind).context(file.clone())?;
    let is = fs::read_to_string(&file)?;
    ensure!(is.trim() == kind, "{file} says {is}");
    Ok(())
}

fn write_synced(device: &Path) -> Result<()> {
    let mut write = Command::new("dd");
    write.arg("if=/dev/urandom");
    write.arg(format!("of={}", device.display()));
    run(write.args(["bs=4k", "count=1", "oflag=direct", "conv=fsync,notrunc"]))
}

/// How often the only fault of a list was triggered.
fn hits(list: &str) -> Option<u64> {
    let (before, _) = list.trim().rsplit_once(" hits")?;
    before.rsplit(' ').next()?.parse().ok()
}
