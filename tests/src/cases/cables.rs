//! Every cable pulled at once and put back: both paths return.
//!
//! soft-RoCE stops making connections over a device for good when the connection manager cannot send
//! (`umpath_rdma::DeadDevice`), so these cases check two things: that nothing of ours makes it send at
//! such a moment, and that a dead device is found. A target replaces its own; umpathd names the device
//! and the command to replace it, which these cases then run.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, SERVICE, Said, Target};
use crate::bed::{Network, Process, Pull, Side, binary, pause, run, within};
use crate::drill::verifier::Verifier;
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "cables-pulled-both-and-back",
        topology: Topology::Separate(2),
        limit_seconds: 800,
        run: pulled_and_back,
    },
    Case {
        name: "cables-off-while-processes-die",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: processes_die,
    },
    Case {
        name: "cables-dead-device-is-named",
        topology: Topology::Separate(2),
        limit_seconds: 240,
        run: dead_device_is_named,
    },
    Case {
        name: "cables-half-open-requests-hold-up-nobody",
        topology: Topology::Separate(2),
        limit_seconds: 120,
        run: half_open_requests,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:cables";
const DISK: &str = "/tmp/umpath-cables.disk";
const CABLES: [u8; 2] = [1, 2];
/// The block that is written and read.
const BLOCK: u64 = 7;
const QUICK: &str = "[defaults]\nkato_ms = 1000\n";
/// For paths that are to live on a busy machine. A target whose device is dead learns only from its
/// keep-alive timer that a host has disconnected.
const CALM: &str = "[defaults]\nkato_ms = 10000\n";
/// How long until the kernel has repeated what its connection manager sent and nobody answered
/// (4.4 s), on a busy machine.
const REPETITION: Duration = Duration::from_secs(6);
/// What a target logs of a device it replaced.
const REPLACED: &str = "was deleted and added again";
/// How long both paths may take to return. An attempt that was under way takes 3 s to fail, and
/// the pause before the next one grows with every failure.
const RETURN: Duration = Duration::from_secs(60);

/// A volume with a path over each cable.
struct Scene<'a> {
    verifier: Verifier,
    written: u64,
    daemon: Daemon,
    targets: [Target; 2],
    network: &'a Network,
    _disk: Disk,
}

impl<'a> Scene<'a> {
    fn set(network: &'a Network, config: &str) -> Result<Self> {
        let disk = Disk::new(NQN, DISK, "64MiB");
        let targets = [
            disk.serve(network, 1, "optimized")?,
            disk.serve(network, 2, "non-optimized")?,
        ];
        let daemon = Daemon::start(network, config)?;
        for cable in CABLES {
            daemon.connect(network, cable, NQN, &[])?;
        }
        let verifier = Verifier::start(&daemon.device()?, BLOCK)?;
        let mut scene = Self {
            verifier,
            written: 0,
            daemon,
            targets,
            network,
            _disk: disk,
        };
        scene.write()?;
        Ok(scene)
    }

    fn each(&self, mut work: impl FnMut(&crate::bed::Cable) -> Result<()>) -> Result<()> {
        CABLES
            .iter()
            .try_for_each(|number| work(self.network.cable(*number)))
    }

    fn write(&mut self) -> Result<()> {
        self.written += 1;
        self.verifier.write(self.written, PATIENCE).map(drop)
    }

    /// Waits until no target knows the host any more: past its keep-alive timeout.
    fn forgotten(&self) -> Result<()> {
        within(PATIENCE, "the targets giving the host up", || {
            self.targets.iter().all(|target| {
                let shown = target.verb(&["show", "-o", "json"]);
                shown.is_ok_and(|text| text.contains("\"controllers\": []"))
            })
        })
    }

    /// Both paths return, the volume serves, and both portals answer.
    fn expect_return(&mut self, after: &str) -> Result<()> {
        let start = Instant::now();
        let live = |path: &Value| path.get("state").and_then(Value::as_str) == Some("live");
        let back = within(RETURN, "both paths", || {
            let paths = self.daemon.paths();
            paths.is_ok_and(|paths| paths.iter().filter(|path| live(path)).count() == 2)
        });
        back.with_context(|| {
            let paths = self.daemon.ask(&["show", "paths"]).unwrap_or_default();
            let printed = self.targets.iter().map(Target::printed);
            format!("after {after}: {paths}{}", printed.collect::<String>())
        })?;
        eprintln!(
            "both paths back {:.1} s after {after}",
            start.elapsed().as_secs_f32()
        );
        self.write()?;
        for cable in CABLES {
            let said = discover(self.network, &self.daemon, cable)?;
            ensure!(
                said.success && said.out.contains(NQN),
                "after {after}, discovery over cable {cable}: {}{}",
                said.out,
                said.error
            );
        }
        Ok(())
    }

    /// Replaces dead devices of the host as umpathd says they are to be: it names them in its log and in
    /// `show paths`, and leaves them alone.
    fn replace_host_devices(&self) -> Result<()> {
        self.each(|cable| {
            if cable.makes_connections(Side::Host)? {
                return Ok(());
            }
            let device = cable.rdma_device(Side::Host);
            let words = format!("rdma link delete {device}");
            within(RETURN, "`show paths` naming the dead device", || {
                let shown = self.daemon.ask(&["show", "paths"]);
                shown.is_ok_and(|text| text.contains(&words))
            })?;
            let log = self.daemon.printed();
            ensure!(log.contains(&words), "no {words} in the log: {log}");
            ensure!(
                !cable.makes_connections(Side::Host)?,
                "{device} was replaced"
            );
            self.obey(&self.daemon.ask(&["show", "paths"])?, &words)
        })
    }

    /// Runs the command on the host that `text` names in backticks and that begins with `words`.
    fn obey(&self, text: &str, words: &str) -> Result<()> {
        let mut quoted = text.split('`');
        let command = quoted.find(|part| part.starts_with(words));
        let command = command.with_context(|| format!("no `{words} ...` in {text}"))?;
        run(self.network.host().command("sh").args(["-c", command]))
    }

    /// No device died, and so none was replaced.
    fn expect_no_dead_device(&self, after: &str) -> Result<()> {
        for target in &self.targets {
            let printed = target.printed();
            ensure!(!printed.contains(REPLACED), "after {after}: {printed}");
        }
        self.each(|cable| {
            for side in [Side::Array, Side::Host] {
                let device = cable.rdma_device(side);
                ensure!(cable.makes_connections(side)?, "{device} died of {after}");
            }
            Ok(())
        })
    }
}

fn discover(network: &Network, daemon: &Daemon, cable: u8) -> Result<Said> {
    let address = network.cable(cable).address(Side::Array).to_string();
    daemon.try_ask(&["discover", "-t", "rdma", "-a", &address, "-s", SERVICE])
}

/// Both cables stop carrying, in every way there is, for longer than the controllers live.
fn pulled_and_back(network: &Network) -> Result<()> {
    let mut scene = Scene::set(network, QUICK)?;
    // First, while the targets' connections are the first ones of their devices: the targets disconnect
    // from a host that does not receive it, and then their interfaces go. For whoever keeps an id longer
    // than its connection, the kernel repeats the disconnect request now.
    let round = "the host's plugs pulled and the array's interfaces off after that";
    scene.each(|cable| cable.pull(Pull::CarrierOf(Side::Host)))?;
    scene.forgotten()?;
    scene.each(|cable| cable.switch_off(Side::Array))?;
    pause(REPETITION);
    scene.each(crate::bed::Cable::restore)?;
    scene.expect_return(round)?;
    scene.expect_no_dead_device(round)?;

    for (round, pull) in [
        ("the host's plugs pulled", Pull::CarrierOf(Side::Host)),
        ("the array's plugs pulled", Pull::CarrierOf(Side::Array)),
        ("both cables silent", Pull::Silent),
    ] {
        scene.each(|cable| cable.pull(pull))?;
        scene.forgotten()?;
        scene.each(crate::bed::Cable::restore)?;
        scene.expect_return(round)?;
        scene.expect_no_dead_device(round)?;
    }

    let round = "the array's interfaces off";
    scene.each(|cable| cable.switch_off(Side::Array))?;
    scene.forgotten()?;
    pause(REPETITION);
    scene.each(crate::bed::Cable::restore)?;
    scene.expect_return(round)?;
    scene.expect_no_dead_device(round)?;

    // The host keeps requesting connections from an array that is silent. The kernel repeats the
    // requests that were pending when its interfaces went: that device may die, and must be named.
    let round = "the array's plugs pulled and the host's interfaces off after that";
    scene.each(|cable| cable.pull(Pull::CarrierOf(Side::Array)))?;
    scene.forgotten()?;
    scene.each(|cable| cable.switch_off(Side::Host))?;
    pause(REPETITION);
    scene.each(crate::bed::Cable::restore)?;
    scene.replace_host_devices()?;
    scene.expect_return(round)
}

/// Processes die while their interfaces are off: the kernel disconnects for them, and the devices are
/// dead. The next target replaces its own, the next umpathd names them.
fn processes_die(network: &Network) -> Result<()> {
    let mut scene = Scene::set(network, QUICK)?;
    scene.each(|cable| cable.switch_off(Side::Array))?;
    for target in &mut scene.targets {
        target.kill()?;
    }
    let dead = !network.cable(1).makes_connections(Side::Array)?;
    scene.each(|cable| cable.switch_on(Side::Array))?;
    for target in &mut scene.targets {
        target.start_again(network)?;
    }
    scene.expect_return("targets killed with their interfaces off")?;
    for target in &scene.targets {
        let printed = target.printed();
        ensure!(printed.contains(REPLACED) == dead, "{printed}");
        let shown = target.verb(&["show"])?;
        ensure!(
            shown.contains("deleted and added again once") == dead,
            "{shown}"
        );
    }

    scene.each(|cable| cable.switch_off(Side::Host))?;
    scene.daemon.kill_and_restart(network)?;
    scene.each(|cable| cable.switch_on(Side::Host))?;
    scene.replace_host_devices()?;
    scene.expect_return("umpathd killed with its interfaces off")
}

/// A device that dies while it has connections is left alone and named, with what to do. The target
/// replaces its own as soon as it has none.
fn dead_device_is_named(network: &Network) -> Result<()> {
    let cable = network.cable(1);
    for side in [Side::Array, Side::Host] {
        cable.refuse_management(side)?;
        cable.permit_management(side)?;
    }
    let mut scene = Scene::set(network, CALM)?;

    cable.refuse_management(Side::Array)?;
    let said = discover(network, &scene.daemon, 1)?;
    ensure!(!said.success, "connected without an answer: {}", said.out);
    cable.permit_management(Side::Array)?;
    if cable.makes_connections(Side::Array)? {
        eprintln!("this kernel has no such fault");
        return Ok(());
    }
    scene.write()?;
    within(PATIENCE, "the target naming its device", || {
        let shown = scene.targets.first().map(|target| target.verb(&["show"]));
        shown.is_some_and(|shown| {
            shown.is_ok_and(|text| {
                text.contains("rdma link delete rxa1") && text.contains("connections over it")
            })
        })
    })?;
    let said = discover(network, &scene.daemon, 1)?;
    ensure!(
        said.error.contains("rdma resource show qp"),
        "no advice about the target's device: {}",
        said.error
    );
    disconnect(&scene)?;
    answers(&scene, "the target's device replaced")?;
    scene.daemon.connect(network, 1, NQN, &[])?;
    scene.write()?;

    cable.refuse_management(Side::Host)?;
    let said = discover(network, &scene.daemon, 1)?;
    cable.permit_management(Side::Host)?;
    ensure!(
        said.error.contains("connections over it"),
        "no word of what the command costs: {}",
        said.error
    );
    scene.obey(&said.error, "rdma link delete rxh1")?;
    scene.expect_return("both devices of a cable died")
}

/// Removes the path over the first cable.
fn disconnect(scene: &Scene<'_>) -> Result<()> {
    let path = scene.daemon.path(1).context("no path over cable 1")?;
    let id = path.get("path").and_then(Value::as_u64);
    let id = id.with_context(|| format!("no number in {path}"))?;
    scene
        .daemon
        .ask(&["disconnect", "--path", &id.to_string()])?;
    Ok(())
}

fn answers(scene: &Scene<'_>, what: &str) -> Result<()> {
    let mut last = String::new();
    within(RETURN, what, || {
        discover(scene.network, &scene.daemon, 1).is_ok_and(|said| {
            last = said.error;
            said.success
        })
    })
    .context(last)
}

/// A target that stood still finds a crowd of requests from a host that is gone by then. Each costs a
/// second of address resolution, and nobody else's time.
fn half_open_requests(network: &Network) -> Result<()> {
    const CROWD: usize = 10;
    let disk = Disk::new(NQN, DISK, "64MiB");
    let target = disk.serve(network, 1, "optimized")?;
    let other = network.cable(2).address(Side::Array).to_string();
    target.verb(&["nvmf", "listener", "add", "--nqn", NQN, "--traddr", &other])?;
    let daemon = Daemon::start(network, QUICK)?;
    for cable in CABLES {
        let said = discover(network, &daemon, cable)?;
        ensure!(said.success, "cable {cable}: {}", said.error);
    }
    target.signal(Signal::STOP)?;
    let address = network.cable(1).address(Side::Array).to_string();
    let socket = daemon.folder().join("run/umpathd.sock");
    let crowd = (0..CROWD)
        .map(|number| {
            let mut command = std::process::Command::new(binary("umpath")?);
            command.args(["discover", "-t", "rdma", "-a", &address, "-s", SERVICE]);
            command.arg("--socket").arg(&socket);
            Process::spawn(&format!("crowd-{number}"), command)
        })
        .collect::<Result<Vec<_>>>()?;
    // Until their requests are there, and before they take them back.
    pause(Duration::from_secs(1));
    let cable = network.cable(1);
    cable.pull(Pull::CarrierOf(Side::Host))?;
    let netdev = cable.netdev(Side::Array);
    run(network
        .array()
        .command("ip")
        .args(["neighbour", "flush", "dev", &netdev]))?;
    target.signal(Signal::CONT)?;
    let start = Instant::now();
    let said = discover(network, &daemon, 2)?;
    ensure!(
        said.success,
        "held up: {}\n{}",
        said.error,
        target.printed()
    );
    eprintln!(
        "discovery took {} ms beside a crowd of {CROWD}",
        start.elapsed().as_millis()
    );
    drop(crowd);
    cable.restore()?;
    within(RETURN, "the first portal answering again", || {
        discover(network, &daemon, 1).is_ok_and(|said| said.success)
    })
}
