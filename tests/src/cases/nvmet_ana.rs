//! A volume on the kernel's target whose ANA states change under load: I/O follows them, fails
//! back, waits while no path is usable, and nothing is lost.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::rig::{Daemon, PATIENCE, Progress};
use crate::bed::{
    AnaState, Load, Network, NullDisk, Nvmet, NvmetTrace, pause, within, within_value,
};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "volume-nvmet-ana",
    topology: Topology::KernelArray(2),
    limit_seconds: 240,
    run: ana,
}];

const NQN: &str = "nqn.2026-11.io.umpath:ana";

/// Longest time without commands: fio starts a process for each round.
const ROUND: Duration = Duration::from_secs(40);
/// This many consecutive commands at one controller mean that it carries the I/O.
const SAMPLE: usize = 300;

fn ana(network: &Network) -> Result<()> {
    use AnaState::{Change, Inaccessible, NonOptimized, Optimized};
    let disk = NullDisk::make("umpath0", 64)?;
    let target = Nvmet::start(network, NQN, disk.device(), &[Optimized, NonOptimized])?;
    let mut daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &["-k", "2"])?;
    daemon.connect(network, 2, NQN, &["-k", "2"])?;
    let device = daemon.device()?;
    let load = Load::start(&device);
    let trace = NvmetTrace::start()?;
    carried_by(&daemon, &trace, 1)?;
    for (first, second, carrier) in [
        // Preferences change, and change back: failback.
        (NonOptimized, Optimized, 2),
        (Optimized, NonOptimized, 1),
        // The path in use becomes unusable, in both possible ways.
        (Inaccessible, NonOptimized, 2),
        (Optimized, NonOptimized, 1),
        (Change, NonOptimized, 2),
        (Optimized, Inaccessible, 1),
    ] {
        eprintln!("--- {first}, {second}");
        target.set_ana(1, first)?;
        target.set_ana(2, second)?;
        carried_by(&daemon, &trace, carrier).with_context(|| format!("{first}, {second}"))?;
    }
    eprintln!("--- no path at all, then one");
    target.set_ana(1, Inaccessible)?;
    expect_stall(&device)?;
    target.set_ana(2, Optimized)?;
    carried_by(&daemon, &trace, 2)?;
    load.more(1, ROUND)?;
    let rounds = load.finish()?;
    eprintln!("{rounds} rounds, all compared");
    drop(trace);
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// Checks that requests are waiting and none completes. fio's rounds do not show that: one takes
/// longer.
pub(super) fn expect_stall(device: &Path) -> Result<()> {
    let done = |now: Progress| (now.reads, now.writes);
    // Commands in flight when the last path closed complete first.
    let before = within_value(PATIENCE, "I/O waiting for a path", || {
        let before = Progress::of(device)?;
        pause(Duration::from_secs(1));
        let now = Progress::of(device)?;
        (done(now) == done(before) && now.in_flight > 0).then_some(now)
    })?;
    pause(Duration::from_secs(4));
    let after = Progress::of(device).context("the device is gone")?;
    ensure!(
        done(after) == done(before) && after.in_flight > 0,
        "I/O ended without a path that may carry it: {before:?}, then {after:?}"
    );
    Ok(())
}

/// Waits until I/O uses this cable and no other: first by the volume's own state, then by where
/// commands arrive.
fn carried_by(daemon: &Daemon, trace: &NvmetTrace, cable: u8) -> Result<()> {
    let active = within(PATIENCE, &format!("cable {cable} carrying"), || {
        daemon.carries(cable)
    });
    active.with_context(|| daemon.ask(&["-ll"]).unwrap_or_default())?;
    let cntlid = daemon
        .path(cable)
        .and_then(|path| path.get("cntlid")?.as_u64());
    trace.take()?;
    let (mut here, mut elsewhere) = (0, 0);
    let arrive = within(ROUND, "commands at that controller alone", || {
        let seen = trace.take().unwrap_or_default();
        let all = seen.iter().filter(|command| command.qid > 0);
        let (ours, others): (Vec<_>, Vec<_>) =
            all.partition(|command| Some(command.cntlid) == cntlid);
        here += ours.len();
        elsewhere += others.len();
        let only = here >= SAMPLE && elsewhere == 0;
        if !others.is_empty() {
            // Sent before the state changed: start over.
            (here, elsewhere) = (0, 0);
        }
        only
    });
    arrive.with_context(|| format!("controller {cntlid:?}: {here} commands, others {elsewhere}"))
}
