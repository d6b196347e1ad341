//! Path policies on a running volume: group switches and failback, by ANA and by hand, while fio
//! writes and compares. `cargo xtask bench selectors` measures selectors on unequal paths.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE};
use crate::bed::{AnaState, Fio, Load, Network, NullDisk, Nvmet, Side, pause, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "policy-groups",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: groups_with_ours,
    },
    Case {
        name: "policy-groups-nvmet",
        topology: Topology::KernelArray(2),
        limit_seconds: 240,
        run: groups_with_nvmet,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:policies";
const DISK: &str = "/tmp/umpath-policies.disk";

/// Sets the ANA state of a cable's port.
type SetAna<'a> = &'a dyn Fn(u8, AnaState) -> Result<()>;

fn groups_with_ours(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let targets = [
        disk.serve(network, 1, "optimized")?,
        disk.serve(network, 2, "non-optimized")?,
    ];
    let set = |cable: u8, state: AnaState| {
        let (port, state) = (cable.to_string(), state.to_string());
        let words = [
            "nvmf", "ana", "set", "--nqn", NQN, "--port", &port, "--state", &state,
        ];
        let target = targets.get(usize::from(cable) - 1);
        target.context("no such target")?.verb(&words).map(drop)
    };
    groups(network, &set)
}

fn groups_with_nvmet(network: &Network) -> Result<()> {
    let disk = NullDisk::make("umpath0", 64)?;
    let states = [AnaState::Optimized, AnaState::NonOptimized];
    let target = Nvmet::start(network, NQN, disk.device(), &states)?;
    groups(network, &|cable, state| {
        target.set_ana(usize::from(cable), state)
    })
}

/// The address of the active group's only path, and how many groups there are.
fn active(daemon: &Daemon) -> Result<(String, usize)> {
    let maps = daemon.json(&["-ll"])?;
    let groups = maps["maps"][0]["path_groups"].as_array();
    let groups = groups.context("no groups in umpath -ll")?;
    let active = groups.iter().find(|group| group["dm_st"] == "active");
    let paths = active.map_or(&Value::Null, |group| &group["paths"]);
    let address = paths[0]["dev"].as_str().unwrap_or("none");
    Ok((address.to_owned(), groups.len()))
}

/// Waits until the I/O uses this cable.
fn expect_active(network: &Network, daemon: &Daemon, cable: u8, why: &str) -> Result<()> {
    let address = network.cable(cable).address(Side::Array).to_string();
    let there = || active(daemon).is_ok_and(|(path, _)| path.contains(&address));
    within(PATIENCE, why, there).with_context(|| daemon.ask(&["-ll"]).unwrap_or_default())?;
    eprintln!("{why}: cable {cable}");
    Ok(())
}

/// Groups switched by hand, by ANA and by policy under verified writes.
fn groups(network: &Network, set_ana: SetAna<'_>) -> Result<()> {
    let daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    let device = daemon.device()?;
    // Rounds with unique patterns: a single job that overwrites its blocks writes the same data
    // each time and cannot detect a lost write.
    let load = Load::start(&device);
    let outcome = steer(network, &daemon, set_ana);
    let rounds = load.finish();
    outcome?;
    ensure!(rounds? > 0, "fio wrote nothing");
    // One pass over everything without disturbance.
    Fio::on(&device).write_and_verify("4k", "8m", 16).run()?;
    let events = daemon.json(&["show", "events"])?.to_string();
    for kind in [
        "group_chosen",
        "path_failed",
        "path_reinstated",
        "policy_changed",
    ] {
        ensure!(events.contains(kind), "no event {kind}: {events}");
    }
    daemon.ask(&["disconnect", "-n", NQN])?;
    Ok(())
}

fn steer(network: &Network, daemon: &Daemon, set_ana: SetAna<'_>) -> Result<()> {
    let expect = |cable, why: &str| expect_active(network, daemon, cable, why);
    let ask = |words: &[&str]| daemon.ask(words).map(|said| eprint!("{said}"));
    let volume = daemon.volumes()?;
    let device = volume.first().and_then(|v| v["DevicePath"].as_str());
    let device = device.context("no volume")?.to_owned();
    expect(1, "at first")?;
    ask(&["switch-group", &device, "2"])?;
    expect(2, "group 2 chosen by hand")?;
    ask(&["switch-group", &device, "1"])?;
    expect(1, "group 1 chosen by hand")?;
    set_ana(1, AnaState::Inaccessible)?;
    expect(2, "the first path inaccessible")?;
    set_ana(1, AnaState::Optimized)?;
    expect(1, "failback immediate")?;
    ask(&["set", "failback=manual"])?;
    set_ana(1, AnaState::Inaccessible)?;
    expect(2, "inaccessible again")?;
    set_ana(1, AnaState::Optimized)?;
    pause(Duration::from_secs(1));
    expect(2, "failback manual")?;
    ask(&["set", "failback=immediate"])?;
    expect(1, "failback immediate again")?;
    let paths = daemon.paths()?;
    let first = paths.iter().find(|path| {
        let address = network.cable(1).address(Side::Array).to_string();
        path.to_string().contains(&address)
    });
    let first = first.and_then(|path| path["path"].as_u64());
    let first = first.context("no number of the first path")?.to_string();
    ask(&["fail-path", &first])?;
    expect(2, "the first path failed by hand")?;
    ask(&["reinstate-path", &first])?;
    expect(1, "and reinstated")?;
    ask(&["set", "path_grouping_policy=multibus"])?;
    ensure!(active(daemon)?.1 == 1, "multibus has one group");
    for selector in [
        "queue-length",
        "round-robin",
        "service-time",
        "historical-service-time",
        "io-affinity",
        "latency",
    ] {
        ask(&["set", &format!("path_selector={selector}")])?;
        pause(Duration::from_millis(300));
    }
    ask(&["set", "path_grouping_policy=group_by_prio"])?;
    expect(1, "by priority again")
}
