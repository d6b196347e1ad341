//! What `[[ignore]]` names gets no volume, whoever asks for it.

use anyhow::{Result, ensure};

use super::rig::{Daemon, SERVICE, Target};
use crate::bed::{Network, Side};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "ignored-namespaces",
    topology: Topology::Separate(1),
    limit_seconds: 120,
    run: ignored,
}];

const NQN: &str = "nqn.2026-11.io.umpath:wanted";
const OTHER: &str = "nqn.2026-11.io.umpath:unwanted";
const WANTED: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const UNWANTED: &str = "aaaaaaaa-0000-4000-8000-000000000002";

fn namespace(nsid: u32, uuid: &str) -> String {
    format!(
        "[[subsystem.namespace]]\nnsid = {nsid}\nuuid = \"{uuid}\"\n\
         backend = {{ type = \"memory\", size = \"16MiB\" }}\n"
    )
}

fn subsystem(nqn: &str, namespaces: &[String]) -> String {
    let head = format!("[[subsystem]]\nnqn = \"{nqn}\"\nallow_any_host = true\nports = [1]\n");
    head + &namespaces.concat()
}

fn ignored(network: &Network) -> Result<()> {
    let both = [namespace(1, WANTED), namespace(2, UNWANTED)];
    let other = [namespace(1, "aaaaaaaa-0000-4000-8000-000000000003")];
    let config = subsystem(NQN, &both) + &subsystem(OTHER, &other);
    let _target = Target::start(network, 1, &config)?;
    let rules = format!(
        "[[ignore]]\nwwid = \"^uuid\\\\.aaaaaaaa-\"\n\
         [[ignore]]\nwwid = \"{WANTED}$\"\nexcept = true\n\
         [[ignore]]\nnqn = \":unwanted$\"\n"
    );
    let mut daemon = Daemon::start(network, &rules)?;
    let address = network.cable(1).address(Side::Array).to_string();
    let portal = ["-t", "rdma", "-a", &address, "-s", SERVICE];
    let said = daemon.ask(&[&["connect-all"], portal.as_slice()].concat())?;
    eprintln!("{said}");
    let volumes = daemon.volumes()?;
    ensure!(volumes.len() == 1, "{volumes:?}");
    ensure!(
        daemon.ask(&["list", "-o", "json"])?.contains(WANTED),
        "the wrong namespace is left"
    );
    let events = daemon.ask(&["show", "events"])?;
    ensure!(
        events.contains(UNWANTED),
        "the event log does not mention the ignored namespace"
    );
    let refused = daemon.try_ask(&[&["connect"], portal.as_slice(), &["-n", OTHER]].concat())?;
    ensure!(!refused.success, "{refused:?}");
    ensure!(
        refused.error.contains("[[ignore]] nqn"),
        "the error does not name the entry: {refused:?}"
    );
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}
