//! The target's fault injection on the real stack: each fault works as documented, and the volume
//! survives.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::disk::Disk;
use super::rig::{Daemon, PATIENCE, Target};
use crate::bed::{Network, within};
use crate::drill::verifier::Verifier;
use crate::suite::{Case, Topology};

/// The cases of this module.
pub(super) const CASES: &[Case] = &[Case {
    name: "faults-of-a-target",
    topology: Topology::Separate(2),
    limit_seconds: 180,
    run: faults,
}];

const NQN: &str = "nqn.2026-11.io.umpath:faults";
const DISK: &str = "/tmp/umpath-faults.disk";
/// The block under test.
const BLOCK: u64 = 77;

/// A command is aborted after 2 s, and its controller given up after 8 s.
const IMPATIENT: &str = "[defaults]\nio_slow_ms = 2000\nio_timeout_ms = 8000\n";

fn faults(network: &Network) -> Result<()> {
    let disk = Disk::new(NQN, DISK, "64MiB");
    let primary = disk.serve(network, 1, "optimized")?;
    let _standby = disk.serve(network, 2, "non-optimized")?;
    let daemon = Daemon::start(network, IMPATIENT)?;
    daemon.connect(network, 1, NQN, &[])?;
    daemon.connect(network, 2, NQN, &[])?;
    let mut verifier = Verifier::start(&daemon.device()?, BLOCK)?;
    late(&primary, &mut verifier)?;
    refused(&primary, &mut verifier)?;
    given_back(&primary, &daemon, &mut verifier)?;
    sat_on(&primary, &daemon, &mut verifier)?;
    deaf(&primary, &daemon, &mut verifier)
}

/// Injects a fault into the next command of a kind on the block.
fn once(target: &Target, words: &[&str], kind: &str) -> Result<()> {
    let lba = BLOCK.to_string();
    let which = ["--kind", kind, "--lba", &lba, "--count", "1"];
    target.verb(&[&["fault"], words, &which].concat())?;
    Ok(())
}

fn spent(target: &Target) -> Result<()> {
    let list = target.verb(&["fault", "list"])?;
    ensure!(
        list.contains("1 of 1 hits"),
        "the fault was not triggered: {list}"
    );
    target.verb(&["fault", "clear"]).map(drop)
}

/// A delayed and a parked write take as long as requested, and complete.
fn late(primary: &Target, verifier: &mut Verifier) -> Result<()> {
    for (value, fault) in [(1, ["delay", "400"]), (2, ["park", "400"])] {
        once(primary, &fault, "write")?;
        let took = verifier.write(value, PATIENCE)?;
        ensure!(took >= 400, "{fault:?}: written after {took} ms");
        spent(primary)?;
        let read = verifier.read(PATIENCE)?;
        ensure!(
            read == value,
            "{fault:?}: read {read}, but {value} was written"
        );
    }
    Ok(())
}

/// A path error makes the host retry elsewhere; the user sees nothing.
fn refused(primary: &Target, verifier: &mut Verifier) -> Result<()> {
    once(primary, &["error", "0x300"], "write")?;
    verifier.write(3, PATIENCE)?;
    spent(primary)?;
    once(primary, &["error", "0x300"], "read")?;
    let read = verifier.read(PATIENCE)?;
    ensure!(read == 3, "read {read}, but 3 was written");
    spent(primary)
}

/// A write that waits in the controller is aborted on request and written through the other path.
fn given_back(primary: &Target, daemon: &Daemon, verifier: &mut Verifier) -> Result<()> {
    once(primary, &["park", "60000"], "write")?;
    let took = verifier.write(4, PATIENCE)?;
    ensure!((2000..8000).contains(&took), "written after {took} ms");
    spent(primary)?;
    let details = events(daemon, "command_aborted");
    let gave = details.iter().any(|words| words.contains("gave it back"));
    ensure!(gave, "the write came back for another reason: {details:?}");
    ensure!(!seen(daemon, "convicted"), "the path was given up for it");
    let read = verifier.read(PATIENCE)?;
    ensure!(read == 4, "read {read}, but 4 was written");
    within(PATIENCE, "I/O back on the primary", || daemon.carries(1))
}

/// A write that was executed cannot be aborted. Its controller never answers and is given up.
fn sat_on(primary: &Target, daemon: &Daemon, verifier: &mut Verifier) -> Result<()> {
    once(primary, &["drop"], "write")?;
    let took = verifier.write(5, PATIENCE)?;
    ensure!((8000..20_000).contains(&took), "written after {took} ms");
    spent(primary)?;
    let details = events(daemon, "command_aborted");
    let kept = details
        .iter()
        .any(|words| words.contains("cannot give it back"));
    ensure!(kept, "no abort was sent, or it succeeded: {details:?}");
    ensure!(seen(daemon, "convicted"), "no path was given up for it");
    let read = verifier.read(PATIENCE)?;
    ensure!(read == 5, "read {read}, but 5 was written");
    within(PATIENCE, "I/O back on the primary", || daemon.carries(1))
}

/// A controller that stops answering keep-alives is suspected, convicted and reconnected.
fn deaf(primary: &Target, daemon: &Daemon, verifier: &mut Verifier) -> Result<()> {
    primary.verb(&["fault", "hang", "--kind", "keep-alive"])?;
    within(PATIENCE, "the conviction", || seen(daemon, "convicted"))?;
    ensure!(seen(daemon, "suspected"), "convicted without a suspicion");
    within(PATIENCE, "the standby carrying", || daemon.carries(2))?;
    verifier.write(6, PATIENCE).context("through the standby")?;
    primary.verb(&["fault", "clear"])?;
    within(Duration::from_secs(60), "I/O back on the primary", || {
        let live = |cable| {
            let path = daemon.path(cable);
            path.is_some_and(|path| path.get("state").is_some_and(|state| state == "live"))
        };
        live(1) && live(2) && daemon.carries(1)
    })?;
    let read = verifier.read(PATIENCE)?;
    ensure!(read == 6, "read {read}, but 6 was written");
    Ok(())
}

/// The details of events of a kind.
fn events(daemon: &Daemon, kind: &str) -> Vec<String> {
    let shown = daemon.json(&["show", "events"]).ok();
    let all = shown.as_ref().and_then(|shown| shown.get("events"));
    let all = all.and_then(Value::as_array).into_iter().flatten();
    let of_kind = all.filter(|event| event.get("kind").is_some_and(|known| known == kind));
    let words = of_kind.filter_map(|event| Some(event.get("detail")?.as_str()?.to_owned()));
    words.collect()
}

fn seen(daemon: &Daemon, kind: &str) -> bool {
    !events(daemon, kind).is_empty()
}
