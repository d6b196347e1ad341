//! The ghost write: the old copy of a write, executed by its controller long after the host gave
//! that controller up, resent the write, and overwrote the block.
//!
//! | step | by |
//! |---|---|
//! | value 1 written to a block | through the primary |
//! | value 2 submitted; the primary holds it for seconds | the target's fault, or dm-delay below nvmet |
//! | every packet to and from the primary is dropped | the cable |
//! | value 2 resent and acknowledged | through the standby |
//! | value 3 written and acknowledged | through the standby |
//! | the primary executes its copy of value 2, unless it was fenced | |
//! | the block is read and must hold value 3 | through the standby |
//!
//! Each array is drilled twice with the same seed: with fencing disabled, when the block must end
//! up with value 2 (otherwise the drill could not detect a ghost), and with fencing. A target may
//! learn of the loss itself if a response was in flight when packets stopped; then there is no
//! ghost and the run is repeated. Without fencing, the block shows whether that happened. With a
//! fence by time, the ghost is over before the overwrite begins and the block shows nothing; there
//! the primary must not log that it discarded the command.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::bed::{STEP_TIMEOUT, pause, unix_ms, within};

use super::array::{Arrays, PRIMARY};
use super::fault::{Fault, Injector};
use super::ghost_run::{BY_TIME, GhostRun, Seen};
use super::report::{Outcome, Report};
use super::scene::{Plan, Scene};
use super::steps::Steps;
use super::verifier::Verifier;

/// Attempts to produce a ghost.
const ATTEMPTS: u32 = 4;
/// Additional wait after which the ghost has certainly reached the medium.
const SETTLE: Duration = Duration::from_secs(2);

/// An array, and how its ghost is produced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant {
    name: &'static str,
    arrays: Arrays,
    /// Further lines for the `[[subsystem]]` of our targets.
    subsystem: &'static str,
    /// The expected proof of fencing.
    fenced_by: &'static str,
    /// Keep-alive timeout. The ghost must execute within it, or the target stops the write by
    /// itself.
    kato_ms: u64,
    /// How long the primary holds the write.
    late: Duration,
}

const VARIANTS: [Variant; 3] = [
    Variant {
        name: "umpath-target with CCR",
        arrays: Arrays::Umpath,
        subsystem: "",
        fenced_by: "by ccr",
        kato_ms: 4000,
        late: Duration::from_millis(2500),
    },
    Variant {
        name: "umpath-target without CCR",
        arrays: Arrays::Umpath,
        subsystem: "ccr = false",
        fenced_by: BY_TIME,
        kato_ms: 4000,
        late: Duration::from_millis(2500),
    },
    Variant {
        name: "nvmet over dm-delay",
        arrays: Arrays::KernelPrimary { late_ms: 4000 },
        subsystem: "",
        fenced_by: BY_TIME,
        kato_ms: 2000,
        late: Duration::from_secs(4),
    },
];

/// Drills every variant, without and with fences.
pub(super) fn drill(seed: u64, work: &Path, report: &mut Report) {
    let mut runs = Vec::new();
    for variant in VARIANTS {
        for fencing in [false, true] {
            let how = if fencing { "fenced" } else { "unfenced" };
            let title = format!("{}, {how}", variant.name);
            println!("ghost-write: {title}");
            let mut result = run(variant, fencing, seed, work);
            let mut attempts = 1;
            let no_ghost = |seen: &Seen| seen.no_ghost(fencing, variant.fenced_by);
            while attempts < ATTEMPTS && result.as_ref().is_ok_and(no_ghost) {
                println!("  no ghost: the target learned of the loss itself; retrying");
                result = run(variant, fencing, seed, work);
                attempts += 1;
            }
            let error = result.as_ref().err();
            let run = GhostRun {
                title,
                fencing,
                fence_expected: variant.fenced_by,
                attempts,
                late_ms: variant.late.as_millis() as u64,
                error: error.map_or_else(String::new, |error| format!("{error:#}")),
                seen: result.ok(),
            };
            println!("  {}", run.verdict().1);
            runs.push(run);
        }
    }
    report.add(Outcome::of_ghosts(super::GHOST_WRITE, runs));
}

fn run(variant: Variant, fencing: bool, seed: u64, work: &Path) -> Result<Seen> {
    // A disk that is slow on purpose must not make the host leave the primary.
    let config = format!(
        "[defaults]\nkato_ms = {}\nio_stuck_ms = 60000\n",
        variant.kato_ms
    );
    let plan = Plan {
        arrays: variant.arrays,
        subsystem: variant.subsystem,
        daemon: &config,
        unfenced: !fencing,
    };
    let mut scene = Scene::build(work, plan)?;
    let refusals = scene.array.primary_refusals();
    let block = 1000 + seed % 1000;
    let mut injector = Injector::on(&scene.network)?;
    let mut verifier = Verifier::start(&scene.volume, block)?;
    verifier
        .write(1, STEP_TIMEOUT)
        .context("before the fault")?;
    scene.await_primary()?;
    let mut umpath_fault = None;
    if variant.arrays == Arrays::Umpath {
        let (late, lba) = (variant.late.as_millis().to_string(), block.to_string());
        let words = ["fault", "park", &late, "--kind", "write", "--lba", &lba];
        scene
            .array
            .primary_verb(&[&words[..], &["--count", "1"]].concat())?;
        umpath_fault = Some("1 of 1 hits");
    }
    let (begun, begun_unix_ms) = (Instant::now(), unix_ms());
    verifier.begin_write(2)?;
    match umpath_fault {
        Some(hit) => within(STEP_TIMEOUT, "the write reaching the primary", || {
            let faults = scene.array.primary_verb(&["fault", "list"]);
            faults.is_ok_and(|list| list.contains(hit))
        })?,
        None => within(
            STEP_TIMEOUT,
            "the write reaching the primary's disk",
            || {
                scene
                    .array
                    .primary_writes_in_flight()
                    .is_some_and(|writes| writes > 0)
            },
        )?,
    }
    ensure!(
        begun.elapsed() < variant.late,
        "the machine is too slow: the write was executed before the primary was cut off"
    );
    injector.inject(Fault::Blackhole, &scene.network, &mut scene.array)?;
    let resent_ms = verifier
        .wrote(2, STEP_TIMEOUT)
        .context("the write resent")?;
    let overwrite_ms = verifier.write(3, STEP_TIMEOUT).context("the overwrite")?;
    let read_at_once = verifier.read(STEP_TIMEOUT)?;
    pause((variant.late + SETTLE).saturating_sub(begun.elapsed()));
    let read_late = verifier.read(STEP_TIMEOUT)?;
    let steps = Steps::read(&scene.events()?, scene.primary, begun_unix_ms);
    drop(verifier);
    scene.network.cable(PRIMARY).restore()?;
    scene.all_alive()?;
    Ok(Seen {
        resent_ms,
        overwrite_ms,
        read_at_once,
        read_late,
        fenced_by: steps.fenced_by,
        refused: scene.array.primary_refusals() != refusals,
    })
}
