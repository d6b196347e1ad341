//! A namespace is deleted under load while its NSID goes to another one: no I/O reaches the other,
//! and the load resumes when the first is back.

use std::time::Duration;

use anyhow::Result;

use super::nvmet_ana::expect_stall;
use super::rig::{Daemon, PATIENCE, ublk_nodes};
use crate::bed::{AnaState, Load, Network, NullDisk, Nvmet, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "volume-namespace-replaced",
    topology: Topology::KernelArray(2),
    limit_seconds: 180,
    run: replaced,
}];

const NQN: &str = "nqn.2026-11.io.umpath:replaced";
/// A namespace that is not the volume's.
const OTHER: &str = "11111111-2222-3333-4444-555555555555";
/// Longest time without a round: fio starts a process for each.
const ROUND: Duration = Duration::from_secs(40);

fn replaced(network: &Network) -> Result<()> {
    let disk = NullDisk::make("umpath0", 64)?;
    let states = [AnaState::Optimized, AnaState::NonOptimized];
    let target = Nvmet::start(network, NQN, disk.device(), &states)?;
    let first = target.uuid()?;
    let mut daemon = Daemon::start(network, "")?;
    daemon.connect(network, 1, NQN, &["-k", "2"])?;
    daemon.connect(network, 2, NQN, &["-k", "2"])?;
    let device = daemon.device()?;
    let load = Load::start(&device);
    load.more(1, ROUND)?;
    for other in [None, Some(OTHER)] {
        eprintln!("--- number 1 is {}", other.unwrap_or("nobody's"));
        target.replace_namespace(other)?;
        expect_stall(&device)?;
        if let Some(other) = other {
            within(PATIENCE, "the other namespace being reported", || {
                let events = daemon.ask(&["show", "events"]).unwrap_or_default();
                events.contains(&format!("namespace 1 appeared: uuid.{other}"))
            })?;
            // It is a volume of its own, with queue pairs of its own.
            within(PATIENCE, "a second volume", || {
                let nodes = ublk_nodes();
                nodes
                    .iter()
                    .filter(|node| node.starts_with("ublkb"))
                    .count()
                    == 2
            })?;
            expect_stall(&device)?;
        }
        target.replace_namespace(Some(&first))?;
        load.more(1, ROUND)?;
    }
    let rounds = load.finish()?;
    eprintln!("{rounds} rounds, all compared");
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}
