//! Lost writes are fenced by cross-controller reset: the standby resets the primary's controller,
//! and nothing waits for the keep-alive timeout.
//!
//! Every case writes with verification on a volume over a primary and a standby, two processes on
//! one file, loses the primary, and checks in the failover record what proved the order fence and
//! how long after the conviction.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, Target, ublk_nodes};
use crate::bed::{Fio, FioResult, Network, Process, Pull, Side, pause, within, within_value};
use crate::drill::verifier::Verifier;
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "ccr-cable-pulled",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: cable_pulled,
    },
    Case {
        name: "ccr-target-killed",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: target_killed,
    },
    Case {
        name: "ccr-target-stopped",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: target_stopped,
    },
    Case {
        name: "ccr-switched-off",
        topology: Topology::Separate(2),
        limit_seconds: 180,
        run: switched_off,
    },
];

const NQN: &str = "nqn.2026-11.io.umpath:ccr";
const DISK: &str = "/tmp/umpath-ccr.disk";
/// Long enough that a fence by time cannot be mistaken for one by reset.
const KATO_MS: u64 = 3000;
/// Time limit on a busy emulated machine, from the conviction to the order fence.
const RESET_MS: u64 = 500;
/// A block that fio does not write.
const BLOCK: u64 = 20_000;
/// A resumed target executes pending commands within this time, if at all.
const SETTLE: Duration = Duration::from_secs(2);

/// A volume being written to.
struct Scene {
    fio: Process,
    daemon: Daemon,
    primary: Target,
    _standby: Target,
    _disk: Disk,
}

/// How a failover was fenced.
#[derive(Debug)]
struct Fence {
    /// The proof of fencing, as recorded.
    proof: String,
    /// Milliseconds from the conviction to the order fence.
    took_ms: u64,
}

impl Scene {
    fn set(network: &Network, ccr: bool) -> Result<Self> {
        let disk = Disk::new(NQN, DISK, "128MiB");
        let keys = format!("ccr = {ccr}\n");
        let primary = disk.serve_with(network, 1, "optimized", &keys)?;
        let standby = disk.serve_with(network, 2, "non-optimized", &keys)?;
        let daemon = Daemon::start(network, &format!("[defaults]\nkato_ms = {KATO_MS}\n"))?;
        daemon.connect(network, 1, NQN, &[])?;
        daemon.connect(network, 2, NQN, &[])?;
        let device = daemon.device()?;
        let job = Fio::on(&device)
            .write_and_verify("4k", "48m", 16)
            .with(["--rate_iops=1000"]);
        let mut fio = Process::spawn("fio", job.command())?;
        let name = device.file_name().context("no device")?.to_owned();
        let stat = std::path::Path::new("/sys/block").join(name).join("stat");
        within(PATIENCE, "writes under way", || {
            let written = std::fs::read_to_string(&stat)
                .ok()
                .and_then(|text| text.split_ascii_whitespace().nth(4)?.parse::<u64>().ok());
            !fio.running() || written.is_some_and(|written| written > 1000)
        })?;
        ensure!(fio.running(), "{}", fio.tail());
        Ok(Self {
            fio,
            daemon,
            primary,
            _standby: standby,
            _disk: disk,
        })
    }

    /// Waits until the failover is fenced.
    fn fence(&self) -> Result<Fence> {
        let fence = within_value(PATIENCE, "the order fence", || {
            let shown = self.daemon.json(&["show", "events"]).ok()?;
            let failovers = shown.get("failovers")?.as_array()?;
            failovers.iter().find_map(fence_of)
        });
        let fence =
            fence.with_context(|| self.daemon.ask(&["show", "events"]).unwrap_or_default())?;
        eprintln!("{fence:?}");
        Ok(fence)
    }

    /// Checks the counters of `umpath show stats`.
    fn counters(&self, blocks: u64) -> Result<()> {
        eprint!("{}", self.daemon.ask(&["show", "stats"])?);
        let shown = self.daemon.json(&["show", "stats"])?;
        let stats = shown.pointer("/volumes/0").context("no volume")?;
        let count = |pointer| stats.pointer(pointer).and_then(Value::as_u64);
        ensure!(
            count("/writes").is_some_and(|writes| writes >= blocks)
                && count("/errors") == Some(0)
                && count("/silent") == Some(0)
                && count("/held/now") == Some(0)
                && (count("/lost") == Some(0) || count("/resent") > Some(0)),
            "{stats:#}"
        );
        Ok(())
    }

    /// Waits for fio, which must have seen nothing but a pause, and tears everything down.
    fn end(mut self) -> Result<()> {
        let status = self.fio.wait(Duration::from_secs(120))?;
        eprint!("{}", self.daemon.ask(&["show", "events"])?);
        ensure!(status.success(), "fio: {status}\n{}", self.fio.tail());
        let result = FioResult::parse(&self.fio.printed())?;
        let blocks = (48 << 20) / 4096;
        self.counters(blocks)?;
        ensure!(
            result.write.total_ios >= blocks && result.read.total_ios >= blocks,
            "fio wrote {} and compared {} blocks",
            result.write.total_ios,
            result.read.total_ios
        );
        self.daemon.ask(&["disconnect", "-n", NQN])?;
        ensure!(ublk_nodes().is_empty(), "left: {:?}", ublk_nodes());
        Ok(())
    }
}

fn fence_of(failover: &Value) -> Option<Fence> {
    let marks = failover.get("marks")?.as_array()?;
    let mark = |kind: &str| {
        marks
            .iter()
            .find(|mark| mark.get("kind").and_then(Value::as_str) == Some(kind))
    };
    let after = |mark: &Value| mark.get("after_ms")?.as_u64();
    let fenced = mark("order_fenced")?;
    Some(Fence {
        proof: fenced.get("detail")?.as_str()?.to_owned(),
        took_ms: after(fenced)?.saturating_sub(after(mark("convicted")?)?),
    })
}

impl Fence {
    fn expect_reset(&self) -> Result<()> {
        ensure!(self.proof.contains("by ccr"), "{self:?}");
        ensure!(self.took_ms <= RESET_MS, "{self:?}");
        Ok(())
    }
}

/// The host's end of the primary's cable loses its carrier; the primary stays alive and the standby
/// resets it.
fn cable_pulled(network: &Network) -> Result<()> {
    let scene = Scene::set(network, true)?;
    network.cable(1).pull(Pull::CarrierOf(Side::Host))?;
    scene.fence()?.expect_reset()?;
    network.cable(1).restore()?;
    scene.end()
}

/// The primary dies with commands on the media; the standby finds that they are over.
fn target_killed(network: &Network) -> Result<()> {
    let mut scene = Scene::set(network, true)?;
    scene.primary.kill()?;
    scene.fence()?.expect_reset()?;
    scene.end()
}

/// The primary is stopped. The standby cannot exclude that it resumes and executes commands it had
/// admitted, so the reset is complete only if there were none; otherwise time is the fence. The
/// case checks that nothing executes late. fio cannot: it writes each block once, so a ghost would
/// change nothing. Therefore one block is overwritten while its ghost is queued in the primary.
fn target_stopped(network: &Network) -> Result<()> {
    let scene = Scene::set(network, true)?;
    let mut verifier = Verifier::start(&scene.daemon.device()?, BLOCK)?;
    verifier.write(1, PATIENCE)?;
    scene.primary.signal(Signal::STOP)?;
    verifier.begin_write(2)?;
    let fence = scene.fence()?;
    let resent_ms = verifier.wrote(2, PATIENCE).context("sent again")?;
    let overwrite_ms = verifier.write(3, PATIENCE).context("overwritten")?;
    eprintln!("resent after {resent_ms} ms, overwritten after {overwrite_ms} ms");
    scene.primary.signal(Signal::CONT)?;
    let known = fence.proof.contains("by ccr") || fence.proof.contains("by time");
    ensure!(known, "{fence:?}");
    pause(SETTLE);
    let read = verifier.read(PATIENCE)?;
    ensure!(
        read == 3,
        "read {read}, but 3 was written last: the ghost was executed"
    );
    drop(verifier);
    scene.end()
}

/// Without cross-controller reset, time is the fence.
fn switched_off(network: &Network) -> Result<()> {
    let scene = Scene::set(network, false)?;
    network.cable(1).pull(Pull::CarrierOf(Side::Host))?;
    let fence = scene.fence()?;
    ensure!(fence.proof.contains("by time"), "{fence:?}");
    ensure!(fence.took_ms >= KATO_MS / 2, "{fence:?}");
    network.cable(1).restore()?;
    scene.end()
}
