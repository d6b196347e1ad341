//! Mistakes of users and arrays. Each must end in an error that names cause and remedy, a non-zero
//! exit status, nothing left behind, and a daemon that still works.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::rig::{Daemon, PATIENCE, SERVICE, Said, Target, say};
use crate::bed::{AnaState, Fio, Network, NullDisk, Nvmet, Side, binary, load, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "bad-input-addresses-and-names",
        topology: Topology::Separate(1),
        limit_seconds: 150,
        run: addresses_and_names,
    },
    Case {
        name: "bad-input-namespaces-that-differ",
        topology: Topology::Separate(2),
        limit_seconds: 150,
        run: namespaces_that_differ,
    },
    Case {
        name: "bad-input-namespace-without-identifier",
        topology: Topology::KernelArray(1),
        limit_seconds: 90,
        run: namespace_without_identifier,
    },
];

/// The subsystem these cases serve.
pub(super) const NQN: &str = "nqn.2026-11.io.umpath:mistake";

/// Short timeouts and small queues: many attempts, little data.
pub(super) const CONFIG: &str = "[defaults]\nconnect_timeout_ms = 2000\ncommand_timeout_ms = 2000\n\
                      io_queues = 1\nqueue_depth = 32\n";

fn subsystem(access: &str, namespace: &str) -> String {
    format!(
        "[[subsystem]]\nnqn = \"{NQN}\"\n{access}\nports = [1, 2]\n\
         [[subsystem.namespace]]\nnsid = 1\n{namespace}\n"
    )
}

/// A memory-backed namespace of this size.
pub(super) fn memory(size: &str) -> String {
    format!("backend = {{ type = \"memory\", size = \"{size}\" }}")
}

/// An array on `cable` that serves [`NQN`].
pub(super) fn serve(network: &Network, cable: u8, access: &str, namespace: &str) -> Result<Target> {
    let text = subsystem(access, namespace).replace("[1, 2]", &format!("[{cable}]"));
    Target::start(network, cable, &text)
}

/// Expects a useful error: standard error contains every part of `says`, and a remedy.
pub(super) fn explained(what: &str, said: &Said, says: &[&str]) -> Result<()> {
    eprintln!("--- {what}\n{}", said.error.trim_end());
    ensure!(!said.success, "{what}: succeeded: {}", said.out);
    for part in says.iter().chain(&["fix:"]) {
        ensure!(
            said.error.contains(part),
            "{what}: no `{part}` in: {}{}",
            said.error,
            said.out
        );
    }
    ensure!(!said.error.contains("panicked"), "{what}: a panic");
    Ok(())
}

/// Arguments of `umpath connect` for this address.
pub(super) fn connect_words<'a>(address: &'a str, service: &'a str, nqn: &'a str) -> [&'a str; 9] {
    [
        "connect", "-t", "rdma", "-a", address, "-s", service, "-n", nqn,
    ]
}

/// Checks that the daemon can still create a volume, move data and remove the volume.
pub(super) fn expect_health(network: &Network, daemon: &mut Daemon, nqn: &str) -> Result<()> {
    daemon.connect(network, 1, nqn, &[])?;
    let device = daemon.device()?;
    Fio::on(&device).write_and_verify("4k", "1m", 4).run()?;
    daemon.ask(&["disconnect", "-n", nqn])?;
    daemon.expect_nothing("a healthy connection")
}

fn addresses_and_names(network: &Network) -> Result<()> {
    let target = serve(network, 1, "allow_any_host = true", &memory("32MiB"))?;
    let mut daemon = Daemon::start(network, CONFIG)?;
    let good = network.cable(1).address(Side::Array).to_string();
    // An interface without an RDMA device.
    load(&["dummy"])?;
    for words in [
        ["link", "add", "plain", "type", "dummy"].as_slice(),
        &["address", "add", "10.8.0.1/24", "dev", "plain"],
        &["link", "set", "plain", "up"],
    ] {
        run(network.host().command("ip").args(words))?;
    }
    let other = "nqn.2026-11.io.umpath:nobody";
    for (what, address, service, nqn, says) in [
        (
            "an unused address",
            "10.9.1.77",
            SERVICE,
            NQN,
            ["10.9.1.77", "cannot connect"],
        ),
        (
            "an address without a route",
            "192.0.2.1",
            SERVICE,
            NQN,
            ["192.0.2.1", "cannot connect"],
        ),
        (
            "a port without a listener",
            &good,
            "4499",
            NQN,
            ["4499", "nothing listens"],
        ),
        (
            "an unknown subsystem",
            &good,
            SERVICE,
            other,
            [other, "does not serve"],
        ),
        (
            "an interface without RDMA",
            "10.8.0.99",
            SERVICE,
            NQN,
            ["10.8.0.99", "no RDMA device"],
        ),
        (
            "an unresolvable name",
            &good,
            SERVICE,
            "disk one",
            ["disk one", "NQN"],
        ),
        ("an invalid port", &good, "nvme", NQN, ["nvme", "port"]),
        (
            "an invalid address",
            "no-such-array",
            SERVICE,
            NQN,
            ["no-such-array", "known name"],
        ),
    ] {
        let said = daemon.try_ask(&connect_words(address, service, nqn))?;
        explained(what, &said, &says)?;
        daemon.expect_nothing(what)?;
    }
    let discover = daemon.try_ask(&["discover", "-t", "rdma", "-a", "10.9.1.77"])?;
    explained("discovery at an unused address", &discover, &["10.9.1.77"])?;
    let all = daemon.try_ask(&["connect-all", "-t", "rdma", "-a", &good, "-s", "4499"])?;
    explained("connect-all at a port without a listener", &all, &["4499"])?;
    let none = daemon.try_ask(&["disconnect", "-n", other])?;
    explained("removing an unknown subsystem", &none, &[other])?;
    daemon.expect_nothing("failed commands")?;

    target.verb(&["nvmf", "host", "remove", "--nqn", NQN, "--any"])?;
    let said = daemon.try_ask(&connect_words(&good, SERVICE, NQN))?;
    explained(
        "a host that is not allowed",
        &said,
        &["does not allow this host", "hostnqn"],
    )?;
    daemon.expect_nothing("a host that is not allowed")?;
    target.verb(&["nvmf", "host", "add", "--nqn", NQN, "--any"])?;

    // Once with the same run directory, and once with its own on the same state.
    for run_dir in ["run", "run-of-its-own"] {
        let second = daemon.second(network, &daemon.folder().join(run_dir))?;
        eprintln!("--- a second daemon\n{}", second.error.trim_end());
        ensure!(
            !second.success && second.error.contains("another umpathd runs"),
            "a second daemon: {second:?}"
        );
    }
    fs::write(
        daemon.folder().join("wrong.toml"),
        "[defaults]\nno_path_rety = \"queue\"\n",
    )?;
    let wrong = daemon.folder().join("wrong.toml");
    let mut command = network.host().command(binary("umpathd")?);
    let said = say(command.arg("--config").arg(&wrong))?;
    eprintln!("--- an unknown key\n{}", said.error.trim_end());
    for part in ["wrong.toml:2:", "no_path_rety", "no_path_retry"] {
        ensure!(
            !said.success && said.error.contains(part),
            "an unknown key: {said:?}"
        );
    }
    expect_health(network, &mut daemon, NQN)
}

/// Two paths whose namespaces share an identity and differ in something else never become one
/// volume, and the first path is not disturbed.
fn namespaces_that_differ(network: &Network) -> Result<()> {
    let anyone = "allow_any_host = true";
    let _first = serve(network, 1, anyone, &memory("32MiB"))?;
    let mut daemon = Daemon::start(network, CONFIG)?;
    daemon.connect(network, 1, NQN, &[])?;
    let device = daemon.device()?;
    let second = network.cable(2).address(Side::Array).to_string();
    let other_nguid = format!(
        "nguid = \"00112233445566778899aabbccddeeff\"\n{}",
        memory("32MiB")
    );
    let small_blocks = format!("block_size = 512\n{}", memory("32MiB"));
    for (what, namespace, says) in [
        ("another size", memory("64MiB"), "size"),
        ("another block size", small_blocks, "block"),
        ("another NGUID", other_nguid, "NGUID"),
    ] {
        let _second = serve(network, 2, anyone, &namespace)?;
        let said = daemon.try_ask(&connect_words(&second, SERVICE, NQN))?;
        explained(what, &said, &[&second, "differ", says])?;
        let alone = within(PATIENCE, "the refused path gone", || {
            daemon.paths().is_ok_and(|paths| paths.len() == 1)
        });
        alone.with_context(|| daemon.ask(&["show", "paths"]).unwrap_or_default())?;
        ensure!(
            daemon.volumes()?.len() == 1,
            "{what}: {:?}",
            daemon.volumes()?
        );
        Fio::on(&device).write_and_verify("4k", "512k", 4).run()?;
    }
    // An equal namespace is accepted.
    let _second = serve(network, 2, anyone, &memory("32MiB"))?;
    daemon.connect(network, 2, NQN, &[])?;
    ensure!(daemon.volumes()?.len() == 1, "{:?}", daemon.volumes()?);
    daemon.ask(&["disconnect", "-n", NQN])?;
    daemon.expect_nothing("disconnect")
}

/// Linux nvmet without a UUID: nothing tells paths to two different disks apart.
fn namespace_without_identifier(network: &Network) -> Result<()> {
    let disk = NullDisk::make("umpath0", 32)?;
    let address = network.cable(1).address(Side::Array);
    let target = Nvmet::start(network, NQN, disk.device(), &[AnaState::Optimized])?;
    let uuid = target.uuid()?;
    target.replace_namespace(Some("00000000-0000-0000-0000-000000000000"))?;
    let mut daemon = Daemon::start(network, CONFIG)?;
    let address = address.to_string();
    let words = [
        connect_words(&address, SERVICE, NQN).as_slice(),
        &["-k", "2"],
    ]
    .concat();
    let said = daemon.try_ask(&words)?;
    let what = "a namespace without an identifier";
    explained(what, &said, &["no stable identifier", "UUID"])?;
    daemon.expect_nothing(what)?;
    target.replace_namespace(Some(&uuid))?;
    expect_health(network, &mut daemon, NQN)
}
