//! Block devices of a dead umpathd while its successor cannot serve them yet: their users wait, and
//! none of them gets a second device or an error that nobody asked for.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::disk::Disk;
use super::in_use::{MOUNT, Mounted};
use super::restart::events;
use super::rig::{CALM, Daemon, PATIENCE, Target, ublk_nodes};
use super::trouble::{NQN, expect_usable, standing, usable};
use crate::bed::{Fio, Network, Process, load, pause, run, within, within_value};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "takeover-device-busy",
        topology: Topology::Separate(1),
        limit_seconds: 240,
        run: device_busy,
    },
    Case {
        name: "takeover-no-usable-path",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: no_usable_path,
    },
];

const DISK: &str = "/tmp/umpath-takeover.disk";
/// Long enough for a daemon that does the wrong thing to do it.
const A_WHILE: Duration = Duration::from_secs(4);
/// As much of the 30 s that a takeover grants requests at `no_path_retry = "fail"` as a case may spend waiting.
const A_MOMENT: Duration = Duration::from_secs(1);
/// Within which requests that are to fail have failed, and which is less than those 30 s.
const AT_ONCE: Duration = Duration::from_secs(10);

/// The device of a mounted volume is still held when the next umpathd wants it (a predecessor whose end
/// takes long): no second device is made for the namespace although its path is up, and the mount is
/// served once the device is let go.
fn device_busy(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let _target = disk.serve(network, 1, "optimized")?;
    let mut daemon = Daemon::start(network, &standing(network, &[1], CALM))?;
    expect_usable(&daemon, 1)?;
    let device = daemon.device()?;
    load(&["ext4"])?;
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device))?;
    let mounted = Mounted::on(&device)?;
    let kept = Path::new(MOUNT).join("kept");
    fs::write(&kept, NQN)?;
    File::open(&kept)?.sync_all()?;
    let before = nodes();

    daemon.kill()?;
    let held = hold(&device)?;
    daemon.start_again(network)?;
    // Unmounting may hang after this, so say it now.
    expect_no_other(&daemon, &before).inspect_err(|why| eprintln!("{why:?}"))?;

    drop(held);
    expect_usable(&daemon, 1)?;
    ensure!(daemon.device()? == device, "the volume has another device");
    ensure!(nodes() == before, "{:?}, not {before:?}", nodes());
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    ensure!(fs::read_to_string(&kept)? == NQN, "the file has changed");
    Fio::on(&Path::new(MOUNT).join("file"))
        .write_and_verify("4k", "1m", 4)
        .run()?;
    drop(mounted);
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// The device cannot be taken over, and nothing is put in its place.
fn expect_no_other(daemon: &Daemon, before: &[String]) -> Result<()> {
    within(PATIENCE, "an attempt that failed", || {
        let kinds = events(daemon).unwrap_or_default();
        daemon.live(1) && kinds.iter().any(|kind| kind == "refused")
    })
    .with_context(|| daemon.shown())?;
    pause(A_WHILE);
    ensure!(nodes() == before, "{:?}, not {before:?}", nodes());
    ensure!(usable(daemon, 0), "{}", daemon.shown());
    Ok(())
}

/// Keeps the server's side of a block device open. The driver lets one process have it.
fn hold(device: &Path) -> Result<File> {
    let node = device.to_string_lossy().replace("ublkb", "ublkc");
    within_value(PATIENCE, "the device's server gone", || {
        File::options().read(true).write(true).open(&node).ok()
    })
}

fn nodes() -> Vec<String> {
    let mut nodes = ublk_nodes();
    nodes.sort_unstable();
    nodes
}

/// umpathd dies and loses its usable path with it; what comes back first is inaccessible. Requests wait
/// for a usable path whatever `no_path_retry` says, until an operator says otherwise, whose word counts
/// from then on.
fn no_usable_path(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let mut first = disk.serve(network, 1, "optimized")?;
    let second = disk.serve(network, 2, "non-optimized")?;
    let config = |retry: &str| format!("{CALM}no_path_retry = \"{retry}\"\n");
    let mut daemon = Daemon::start(network, &config("fail"))?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    expect_usable(&daemon, 2)?;
    let device = daemon.device()?;
    set_ana(&second, 2, "inaccessible")?;

    eprintln!("--- no_path_retry = fail");
    daemon.kill()?;
    first.kill()?;
    let mut read = reading(&device)?;
    daemon.start_again(network)?;
    inaccessible_one_is_back(&daemon)?;
    pause(A_MOMENT);
    ensure!(read.running(), "it should wait: {}", read.tail());
    first.start_again(network)?;
    let status = read.wait(PATIENCE)?;
    ensure!(status.success(), "{}\n{}", read.tail(), daemon.shown());
    ensure!(daemon.number(1) == Some(1) && daemon.number(2) == Some(2));
    // From then on no_path_retry counts.
    first.kill()?;
    expect_failure(&daemon, &device)?;

    eprintln!("--- queueing off");
    fs::write(daemon.folder().join("umpath.toml"), config("queue"))?;
    daemon.kill()?;
    let mut read = reading(&device)?;
    daemon.start_again(network)?;
    inaccessible_one_is_back(&daemon)?;
    ensure!(read.running(), "it should wait: {}", read.tail());
    daemon.ask(&["queueing", "off"])?;
    let status = read.wait(AT_ONCE)?;
    ensure!(!status.success(), "a read without a path succeeded");
    first.start_again(network)?;
    within(PATIENCE, "I/O on the first path", || daemon.carries(1))?;
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    first.kill()?;
    expect_failure(&daemon, &device)?;
    first.start_again(network)?;
    within(PATIENCE, "I/O on the first path", || daemon.carries(1))?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// Reads a block in a process of its own.
fn reading(device: &Path) -> Result<Process> {
    let mut read = Command::new("dd");
    read.arg(format!("if={}", device.display()));
    read.args(["of=/dev/null", "bs=4k", "count=1", "iflag=direct"]);
    Process::spawn("dd", read)
}

/// The volume is served again, over nothing but a path to an inaccessible namespace.
fn inaccessible_one_is_back(daemon: &Daemon) -> Result<()> {
    within(PATIENCE, "the inaccessible path", || {
        let kinds = events(daemon).unwrap_or_default();
        let path = daemon.path(2).unwrap_or_default();
        let ana = path.pointer("/members/0/ana_state");
        kinds.iter().any(|kind| kind == "volume_recovered")
            && daemon.live(2)
            && ana.is_some_and(|state| state == "inaccessible")
    })
    .with_context(|| daemon.shown())?;
    ensure!(!daemon.live(1), "the first path is up: {}", daemon.shown());
    Ok(())
}

/// The first path is lost, and a read fails at once.
fn expect_failure(daemon: &Daemon, device: &Path) -> Result<()> {
    within(PATIENCE, "the first path lost", || !daemon.live(1))?;
    let mut read = reading(device)?;
    let status = read.wait(AT_ONCE).with_context(|| daemon.shown())?;
    ensure!(!status.success(), "a read without a path succeeded");
    Ok(())
}

/// Sets the state of the namespace on a target's port.
fn set_ana(target: &Target, port: u8, state: &str) -> Result<()> {
    let port = port.to_string();
    let words = ["nvmf", "ana", "set", "--nqn", NQN, "--port", &port];
    let said = target.verb(&[&words[..], &["--state", state]].concat())?;
    eprint!("{said}");
    Ok(())
}
