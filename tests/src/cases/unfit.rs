//! Machines that lack a prerequisite. Each must end in an error that names it and the remedy, with
//! nothing left behind; once it is provided, the same daemon works.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::bad_input::{CONFIG, NQN, connect_words, expect_health, explained, memory, serve};
use super::rig::{Daemon, PATIENCE, SERVICE};
use crate::bed::{Network, Side, load, output, run, within};
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "bad-input-unfit-machine",
        topology: Topology::Separate(1),
        limit_seconds: 120,
        run: unfit_machine,
    },
    Case {
        name: "bad-input-memory-limit",
        topology: Topology::Separate(1),
        limit_seconds: 90,
        run: memory_limit,
    },
];

/// No ublk, no io_uring, no RDMA device, no RDMA connection manager, no RDMA libraries.
fn unfit_machine(network: &Network) -> Result<()> {
    let address = network.cable(1).address(Side::Array).to_string();
    let words = connect_words(&address, SERVICE, NQN);
    let fails = |daemon: &mut Daemon, what: &str, says: &[&str]| -> Result<()> {
        explained(what, &daemon.try_ask(&words)?, says)?;
        daemon.expect_nothing(what)
    };

    let mut daemon = Daemon::start_within(network, &[], CONFIG)?;
    {
        let _hidden = Hidden::module("rdma_ucm")?;
        fails(&mut daemon, "no rdma_ucm", &["modprobe rdma_ucm"])?;
    }
    load(&["rdma_ucm"])?;

    let _target = serve(network, 1, "allow_any_host = true", &memory("16MiB"))?;
    {
        let _hidden = Hidden::module("ublk_drv")?;
        fails(
            &mut daemon,
            "no ublk",
            &["/dev/ublk-control", "modprobe ublk_drv"],
        )?;
    }
    load(&["ublk_drv"])?;
    {
        let _disabled = Setting::set("/proc/sys/kernel/io_uring_disabled", "2")?;
        fails(&mut daemon, "no io_uring", &["kernel.io_uring_disabled"])?;
    }
    let device = network.cable(1).rdma_device(Side::Host);
    run(network
        .host()
        .command("rdma")
        .args(["link", "delete", &device]))?;
    fails(
        &mut daemon,
        "no RDMA device",
        &["no RDMA device", "rdma link add"],
    )?;
    let netdev = network.cable(1).netdev(Side::Host);
    let add = ["link", "add", &device, "type", "rxe", "netdev", &netdev];
    run(network.host().command("rdma").args(add))?;
    expect_health(network, &mut daemon, NQN)?;
    drop(daemon);

    let library = output(Command::new("sh").args([
        "-c",
        "ldconfig -p | sed -n 's/.*librdmacm.so.1 .*=> //p' | head -n 1",
    ]))?;
    ensure!(!library.trim().is_empty(), "no librdmacm.so.1 to hide");
    let hide = format!("mount --bind /dev/null {} && exec \"$@\"", library.trim());
    let wrapper = ["unshare", "--mount", "sh", "-c", &hide, "sh"];
    let mut daemon = Daemon::start_within(network, &wrapper, CONFIG)?;
    fails(
        &mut daemon,
        "no RDMA libraries",
        &["rdma-core", "install librdmacm1"],
    )
}

/// A limit on locked memory that the daemon may not raise: once too small for a connection, once
/// enough for it but not for the volume's buffers.
fn memory_limit(network: &Network) -> Result<()> {
    let _target = serve(network, 1, "allow_any_host = true", &memory("16MiB"))?;
    load(&["ublk_drv"])?;
    let address = network.cable(1).address(Side::Array).to_string();
    for bytes in ["16384", "4194304"] {
        let limit = format!("--memlock={bytes}:{bytes}");
        // These two capabilities exempt root from the limit.
        let drop = "--bounding-set=-ipc_lock,-sys_resource";
        let wrapper = ["setpriv", drop, "prlimit", &limit];
        let mut daemon = Daemon::start_within(network, &wrapper, CONFIG)?;
        let what = format!("{bytes} bytes of locked memory");
        let said = daemon.try_ask(&connect_words(&address, SERVICE, NQN))?;
        explained(&what, &said, &["register", "LimitMEMLOCK=infinity"])?;
        daemon.expect_nothing(&what)?;
    }
    let mut daemon = Daemon::start(network, CONFIG)?;
    expect_health(network, &mut daemon, NQN)
}

/// A module that is unloaded and cannot be loaded, as on a kernel without it; back with the guard.
pub(super) struct Hidden(PathBuf);

impl Hidden {
    pub(super) fn module(name: &str) -> Result<Self> {
        let rules = Path::new("/run/modprobe.d");
        fs::create_dir_all(rules)?;
        let rule = rules.join(format!("umpath-case-{name}.conf"));
        fs::write(&rule, format!("install {name} /bin/false\n"))?;
        let hidden = Self(rule);
        let loaded = || Path::new("/sys/module").join(name).exists();
        let mut last = Ok(());
        within(PATIENCE, &format!("{name} unloaded"), || {
            if loaded() {
                last = run(Command::new("modprobe").args(["-r", name]));
            }
            !loaded()
        })
        .with_context(|| format!("{last:?}"))?;
        Ok(hidden)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// A kernel setting below `/proc/sys`; restored when dropped.
struct Setting {
    file: &'static str,
    before: String,
}

impl Setting {
    fn set(file: &'static str, value: &str) -> Result<Self> {
        let before = fs::read_to_string(file).context(file)?;
        fs::write(file, value).context(file)?;
        Ok(Self { file, before })
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        drop(fs::write(self.file, &self.before));
    }
}
