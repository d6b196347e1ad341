//! What was refused or lost once comes back by itself, also over restarts of umpathd.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::restart::events;
use super::rig::{Daemon, PATIENCE, SERVICE, Target, ublk_nodes};
use super::unfit::Hidden;
use crate::bed::{Fio, Network, Pull, Side, load, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "trouble-driver-loaded-late",
        topology: Topology::Separate(1),
        limit_seconds: 120,
        run: driver_loaded_late,
    },
    Case {
        name: "trouble-namespace-added",
        topology: Topology::Separate(2),
        limit_seconds: 150,
        run: namespace_added,
    },
    Case {
        name: "trouble-restarts",
        topology: Topology::Separate(2),
        limit_seconds: 300,
        run: restarts,
    },
    Case {
        name: "trouble-configured-path-away",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: configured_path_away,
    },
    Case {
        name: "trouble-state-lost",
        topology: Topology::Separate(1),
        limit_seconds: 150,
        run: state_lost,
    },
    Case {
        name: "trouble-queueing-off",
        topology: Topology::Separate(1),
        limit_seconds: 150,
        run: queueing_off,
    },
];

pub(super) const NQN: &str = "nqn.2026-11.io.umpath:trouble";
const DISK: &str = "/tmp/umpath-trouble.disk";
const SECOND: &str = "/tmp/umpath-trouble-2.disk";

/// Files that targets serve; gone with the guard.
struct Disks;

impl Drop for Disks {
    fn drop(&mut self) {
        for disk in [DISK, SECOND] {
            drop(fs::remove_file(disk));
        }
    }
}

fn subsystem(port: u8, size: &str) -> String {
    let state = if port == 1 {
        "optimized"
    } else {
        "non-optimized"
    };
    format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\nports = [{port}]\n\
         [[subsystem.namespace]]\nnsid = 1\n\
         uuid = \"7b0e7b6e-2f0c-4c55-9a3e-0d1f5c0a7e11\"\n\
         backend = {{ type = \"file\", path = \"{DISK}\", size = \"{size}\" }}\n\
         [[subsystem.ana]]\nport = {port}\nstate = \"{state}\"\n"
    )
}

/// Standing paths over these cables.
pub(super) fn standing(network: &Network, cables: &[u8], more: &str) -> String {
    let controllers: Vec<String> = cables
        .iter()
        .map(|cable| format!("\"{}\"", network.cable(*cable).address(Side::Array)))
        .collect();
    format!(
        "{more}\n[[connect]]\ncontrollers = [{}]\nnqns = [\"{NQN}\"]\n",
        controllers.join(", ")
    )
}

/// The word `show paths` has for what is wrong with a path.
pub(super) fn trouble(daemon: &Daemon, cable: u8) -> String {
    let path = daemon.path(cable).unwrap_or_default();
    let words = path.get("last_error").and_then(Value::as_str);
    words.unwrap_or_default().to_owned()
}

pub(super) fn usable(daemon: &Daemon, wanted: usize) -> bool {
    let ready = |path: &Value| {
        let members = path.get("members").and_then(Value::as_array);
        members.is_some_and(|members| {
            members
                .iter()
                .any(|member| member.get("dm_st").and_then(Value::as_str) == Some("active"))
        })
    };
    let paths = daemon.paths().unwrap_or_default();
    paths.iter().filter(|path| ready(path)).count() == wanted
}

pub(super) fn expect_usable(daemon: &Daemon, wanted: usize) -> Result<()> {
    within(PATIENCE, &format!("{wanted} usable paths"), || {
        usable(daemon, wanted)
    })
    .with_context(|| daemon.shown())
}

/// umpathd is there before its driver: the path says so, and the volume comes with the driver.
fn driver_loaded_late(network: &Network) -> Result<()> {
    let _disks = Disks;
    let _target = Target::start(network, 1, &subsystem(1, "64MiB"))?;
    let hidden = Hidden::module("ublk_drv")?;
    let config = standing(network, &[1], "");
    let mut daemon = Daemon::start_within(network, &[], &config)?;
    within(PATIENCE, "a path that says what is wrong", || {
        trouble(&daemon, 1).contains("ublk")
    })
    .with_context(|| daemon.ask(&["show", "paths"]).unwrap_or_default())?;
    drop(hidden);
    load(&["ublk_drv"])?;
    let device = daemon.device()?;
    expect_usable(&daemon, 1)?;
    ensure!(trouble(&daemon, 1).is_empty(), "{}", trouble(&daemon, 1));
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// A namespace is added while its paths are up: it gets a device, and nobody reconnects.
fn namespace_added(network: &Network) -> Result<()> {
    let _disks = Disks;
    let first = Target::start(network, 1, &subsystem(1, "64MiB"))?;
    let second = Target::start(network, 2, &subsystem(2, "64MiB"))?;
    let mut daemon = Daemon::start(network, "[defaults]\nio_queues = 2\n")?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    expect_usable(&daemon, 2)?;
    let uuid = "8c0e7b6e-2f0c-4c55-9a3e-0d1f5c0a7e12";
    for target in [&first, &second] {
        let words = ["nvmf", "namespace", "add", "--nqn", NQN, "--nsid", "2"];
        let disk = ["--uuid", uuid, "--bdev", SECOND, "--size", "32MiB"];
        let said = target.verb(&[&words[..], &disk].concat())?;
        eprint!("{said}");
    }
    within(PATIENCE, "a second volume", || {
        daemon.volumes().is_ok_and(|volumes| volumes.len() == 2)
    })
    .with_context(|| daemon.ask(&["show", "events"]).unwrap_or_default())?;
    let shown = daemon.ask(&["-ll"])?;
    eprint!("{shown}");
    let volumes = daemon.volumes()?;
    let added = volumes
        .iter()
        .find(|volume| volume.get("PhysicalSize").and_then(Value::as_u64) == Some(32 << 20));
    let device = added.and_then(|volume| volume.get("DevicePath")?.as_str());
    let device = device.with_context(|| format!("{volumes:?}"))?;
    within(PATIENCE, "two paths for both volumes", || {
        let members = |path: &Value| path.get("members").and_then(Value::as_array).map(Vec::len);
        let paths = daemon.paths().unwrap_or_default();
        paths.len() == 2 && paths.iter().all(|path| members(path) == Some(2))
    })?;
    Fio::on(Path::new(device))
        .write_and_verify("4k", "1m", 4)
        .run()?;
    for path in daemon.paths()? {
        ensure!(
            path.get("connects").and_then(Value::as_u64) == Some(1),
            "reconnected: {path}"
        );
    }
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// umpathd is killed again and again: with a path down, with fewer queues configured than its device
/// has, after the array has grown the namespace. Every path is back in the end, under its number.
fn restarts(network: &Network) -> Result<()> {
    let _disks = Disks;
    let targets = |size: &str| -> Result<[Target; 2]> {
        Ok([
            Target::start(network, 1, &subsystem(1, size))?,
            Target::start(network, 2, &subsystem(2, size))?,
        ])
    };
    let mut serving = targets("64MiB")?;
    let mut daemon = Daemon::start(network, "[defaults]\nkato_ms = 500\nio_queues = 2\n")?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    let device = daemon.device()?;
    let numbers =
        |daemon: &Daemon| -> Vec<Option<u64>> { [1, 2].map(|cable| daemon.number(cable)).to_vec() };
    let before = numbers(&daemon);

    eprintln!("--- twice, with the second path down");
    network.cable(2).pull(Pull::Silent)?;
    for round in 1..=2 {
        daemon.kill_and_restart(network)?;
        expect_usable(&daemon, 1).with_context(|| format!("round {round}"))?;
    }
    network.cable(2).restore()?;
    expect_usable(&daemon, 2)?;

    eprintln!("--- fewer queues configured than the device has");
    let config = daemon.folder().join("umpath.toml");
    fs::write(&config, "[defaults]\nkato_ms = 500\nio_queues = 1\n")?;
    daemon.kill_and_restart(network)?;
    expect_usable(&daemon, 2)?;

    eprintln!(
        "--- the array grows the namespace while umpathd is away, and it is killed once more"
    );
    drop(serving);
    serving = targets("96MiB")?;
    for _ in 0..2 {
        daemon.kill_and_restart(network)?;
        expect_usable(&daemon, 2)?;
    }
    ensure!(
        numbers(&daemon) == before,
        "{:?}, not {before:?}",
        numbers(&daemon)
    );
    ensure!(daemon.device()? == device, "the volume has another device");
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")?;
    drop(serving);
    Ok(())
}

/// `ctrl_loss_tmo_ms` ends the waiting for a configured path, not the asking.
fn configured_path_away(network: &Network) -> Result<()> {
    let _disks = Disks;
    let _first = Target::start(network, 1, &subsystem(1, "64MiB"))?;
    let _second = Target::start(network, 2, &subsystem(2, "64MiB"))?;
    let defaults = "[defaults]\nkato_ms = 500\nctrl_loss_tmo_ms = 2000\n";
    let daemon = Daemon::start(network, &standing(network, &[1, 2], defaults))?;
    expect_usable(&daemon, 2)?;
    for (cable, number) in [(1, 1), (2, 2)] {
        let path = daemon.path(cable).context("no such path")?;
        let is = path.get("path").and_then(Value::as_u64);
        ensure!(is == Some(number), "not in the order of the file: {path}");
    }
    network.cable(2).pull(Pull::CarrierOf(Side::Host))?;
    within(PATIENCE, "the path given up", || {
        let shown = daemon.ask(&["show", "events"]).unwrap_or_default();
        shown.contains("ctrl_loss_tmo")
    })
    .with_context(|| daemon.ask(&["show", "events"]).unwrap_or_default())?;
    network.cable(2).restore()?;
    expect_usable(&daemon, 2)?;
    // A path is named by its address as well as by its number.
    let address = network.cable(2).address(Side::Array).to_string();
    daemon.ask(&["fail-path", &address])?;
    within(PATIENCE, "one path failed by hand", || usable(&daemon, 1))?;
    daemon.ask(&["reinstate-path", &format!("{address}:{SERVICE}")])?;
    expect_usable(&daemon, 2)?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    Ok(())
}

/// The state directory is lost with a device in use: the next umpathd names the device, and removes it
/// by its number. And it refuses to keep its state on a volume.
fn state_lost(network: &Network) -> Result<()> {
    let _disks = Disks;
    let _target = Target::start(network, 1, &subsystem(1, "64MiB"))?;
    let mut daemon = Daemon::start(network, "[defaults]\nkato_ms = 500\n")?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    let name = device
        .file_name()
        .context("a name")?
        .to_string_lossy()
        .into_owned();

    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&device))?;
    let mount = Path::new("/tmp/umpath-trouble.mount");
    fs::create_dir_all(mount)?;
    run(Command::new("mount").arg(&device).arg(mount))?;
    let inside = mount.join("state");
    let said = daemon.second_with_state(network, Path::new("/tmp/umpath-trouble.run"), &inside)?;
    ensure!(
        !said.success && said.error.contains(&name),
        "{}",
        said.error
    );
    run(Command::new("umount").arg(mount))?;
    drop(fs::remove_dir_all("/tmp/umpath-trouble.run"));

    daemon.kill_and_restart_without_state(network)?;
    within(PATIENCE, "the device being named", || {
        let shown = daemon.ask(&["show", "status"]).unwrap_or_default();
        shown.contains(&format!("/dev/{name} waits for a server that died"))
    })
    .with_context(|| daemon.ask(&["show", "status"]).unwrap_or_default())?;
    ensure!(events(&daemon)?.iter().any(|kind| kind == "refused"));
    let said = daemon.try_ask(&["disconnect", "-d", &name])?;
    ensure!(
        !said.success && said.error.contains("--force"),
        "{}",
        said.error
    );
    daemon.ask(&["disconnect", "-d", &name, "--force"])?;
    within(PATIENCE, "the device being gone", || {
        ublk_nodes().is_empty()
    })?;
    // The volume is made anew.
    daemon.connect(network, 1, NQN, &[])?;
    Fio::on(&daemon.device()?)
        .write_and_verify("4k", "1m", 4)
        .run()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// `queueing off` fails what waits at once, however long a lost path is hoped for.
fn queueing_off(network: &Network) -> Result<()> {
    let _disks = Disks;
    let _target = Target::start(network, 1, &subsystem(1, "64MiB"))?;
    let defaults = "[defaults]\nkato_ms = 500\nfast_io_fail_ms = 120000\n";
    let mut daemon = Daemon::start(network, defaults)?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    ensure!(daemon.ask(&["-ll"])?.contains("queue_if_no_path"));
    network.cable(1).pull(Pull::CarrierOf(Side::Host))?;
    within(PATIENCE, "no usable path", || usable(&daemon, 0))?;
    let mut read = Command::new("dd");
    read.arg(format!("if={}", device.display()));
    read.args(["of=/dev/null", "bs=4k", "count=1", "iflag=direct"]);
    let mut read = crate::bed::Process::spawn("dd", read)?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(read.running(), "it should wait: {}", read.tail());
    daemon.ask(&["queueing", "off"])?;
    let status = read.wait(Duration::from_secs(10))?;
    ensure!(!status.success(), "a read without a path succeeded");
    ensure!(!daemon.ask(&["-ll"])?.contains("queue_if_no_path"));
    let shown = daemon.ask(&["show", "events"])?;
    ensure!(shown.contains("queueing off"), "{shown}");
    network.cable(1).restore()?;
    expect_usable(&daemon, 1)?;
    daemon.ask(&["queueing", "on"])?;
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}
