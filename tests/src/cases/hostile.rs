//! A target that violates the protocol. Whatever it sends, `umpath connect` ends in time with an
//! error that names the violation, nothing is left behind, and the daemon still works.

use anyhow::{Context as _, Result, ensure};

use super::bad_input::{CONFIG, NQN, connect_words, expect_health, explained, memory, serve};
use super::rig::{Daemon, PATIENCE, SERVICE};
use crate::bed::{Network, Process, Side, binary};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "bad-input-hostile-target",
    topology: Topology::Separate(1),
    limit_seconds: 240,
    run: hostile_target,
}];

/// The violation, and what the error must say besides the address.
const FAULTS: [(&str, &str); 13] = [
    ("cm-reply-random", "not NVMe over RDMA"),
    // The connection manager pads with zeroes, and hosts do not use the one defined field.
    ("cm-reply-empty", "Identify says 0x0000"),
    ("cm-reply-zero", "Identify says 0x0000"),
    ("cm-reject-random", "without an NVMe reason"),
    ("cm-reject-unknown", "unknown reject code 30583"),
    ("silent", "no answer within 2000 ms"),
    ("completion-unknown", "broke the protocol"),
    ("completion-twice", "broke the protocol"),
    ("completion-random", "broke the protocol"),
    ("identify-ones", "could not"),
    ("identify-random", "could not"),
    ("identify-zero", "Identify says 0x0000"),
    ("identify-nothing", "Identify says 0x0000"),
];

/// Violations of a discovery controller.
const LOGS: [&str; 5] = [
    "log-ones",
    "log-random",
    "log-endless",
    "log-circular",
    "log-nothing",
];

fn hostile_target(network: &Network) -> Result<()> {
    let mut daemon = Daemon::start(network, CONFIG)?;
    let address = network.cable(1).address(Side::Array).to_string();
    let mut wrong = Vec::new();
    for (fault, says) in FAULTS {
        let _liar = lie(network, fault, &address)?;
        let said = daemon.try_ask(&connect_words(&address, SERVICE, NQN))?;
        // Try all of them: one failure says little about the others.
        wrong.extend(explained(fault, &said, &[&address, says]).err());
        daemon.expect_nothing(fault)?;
    }
    for fault in LOGS {
        let _liar = lie(network, fault, &address)?;
        let words = ["discover", "-t", "rdma", "-a", &address, "-s", SERVICE];
        let said = daemon.try_ask(&words)?;
        eprintln!("{fault}: {}{}", said.out, said.error);
        // A log without records is harmless; the others must be rejected.
        if !matches!(fault, "log-circular" | "log-nothing") {
            wrong.extend(explained(fault, &said, &[&address]).err());
        }
        daemon.expect_nothing(fault)?;
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let _honest = serve(network, 1, "allow_any_host = true", &memory("16MiB"))?;
    expect_health(network, &mut daemon, NQN)
}

fn lie(network: &Network, fault: &str, address: &str) -> Result<Process> {
    let mut command = network.array().command(binary("hostile-target")?);
    command.args([
        "--address",
        &format!("{address}:{SERVICE}"),
        "--fault",
        fault,
    ]);
    let name = format!("hostile-{fault}");
    let mut liar = Process::spawn(&name, command)?;
    liar.wait_for_words("ready", PATIENCE).context(name)?;
    ensure!(liar.running(), "{}", liar.tail());
    Ok(liar)
}
