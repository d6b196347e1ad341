//! One kind of failover, many times: strike, watch, mend, wait until all is as before.
//!
//! fio writes and compares all the while, and the stopwatch times one request after the other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::bed::{pause, within, within_value};

use super::array::SIZE_MIB;
use super::block::BYTES;
use super::blow::{Blow, Hands};
use super::chronicle::{Steps, strays};
use super::clock;
use super::load::{Load, Sums};
use super::probe::Probe;
use super::report::{Figures, Outcome};
use super::scene::Scene;

const PATIENCE: Duration = Duration::from_secs(60);
/// The part of the volume that fio has; the stopwatch has the upper half.
const FIO_MIB: u64 = 16;
/// Requests of the stopwatch between two blows, and as many before the first.
const FLOWING: u64 = 100;

/// One repetition.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Repetition {
    /// Longest request of the stopwatch, from just before the blow until the failover was over.
    pub(super) stall_ms: f64,
    /// Longest request of the stopwatch in the quiet time before.
    pub(super) before_ms: f64,
    /// umpathd's view.
    #[serde(flatten)]
    pub(super) steps: Steps,
}

/// Drills one blow `repeat` times on a scene.
pub(super) fn drill(
    scene: &mut Scene,
    blow: Blow,
    repeat: u32,
    work: &Path,
    seed: u64,
) -> Result<Outcome> {
    println!(
        "drill {}: {repeat} times, budget {} ms",
        blow.name(),
        blow.budget().as_millis()
    );
    let mut hands = Hands::on(&scene.network)?;
    let load = Load::start(&scene.volume, FIO_MIB, work, seed);
    let blocks = (SIZE_MIB << 20) / BYTES / 2;
    let probe = Probe::start(&scene.volume, blocks, blocks)?;
    let (repetitions, broken) = repeated(scene, blow, &mut hands, repeat, &load, &probe);
    let mut outcome = Outcome::new(blow.name(), blow.budget(), repetitions);
    outcome.note("every failover came to its end", broken);
    match load.finish() {
        Ok(sums) => outcome.fio(sums),
        Err(error) => outcome.note("fio: no I/O error, every block as written", Err(error)),
    }
    let timed = probe.finish().map(drop);
    outcome.note("stopwatch: no I/O error, every block as written", timed);
    Ok(outcome)
}

/// As many repetitions as went well, and what the next one failed of.
fn repeated(
    scene: &mut Scene,
    blow: Blow,
    hands: &mut Hands,
    repeat: u32,
    load: &Load,
    probe: &Probe,
) -> (Vec<Repetition>, Result<()>) {
    let mut done = Vec::new();
    for number in 1..=repeat {
        match once(scene, blow, hands, load, probe) {
            Ok(repetition) => {
                println!("  {number:>3}  {}", line(&repetition));
                done.push(repetition);
            }
            Err(error) => return (done, Err(error.context(format!("repetition {number}")))),
        }
    }
    (done, Ok(()))
}

fn line(repetition: &Repetition) -> String {
    let steps = &repetition.steps;
    let ms = |value: Option<i64>| value.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
    format!(
        "stall {:>6.1} ms (umpathd {}, before {:.1}); suspected {}, convicted {}, buffer fence {}, \
         order fence {} {}, back {}; {}",
        repetition.stall_ms,
        ms(steps.umpathd_stall_ms.map(u64::cast_signed)),
        repetition.before_ms,
        ms(steps.suspected_ms),
        ms(steps.convicted_ms),
        ms(steps.buffer_fenced_ms),
        ms(steps.order_fenced_ms),
        steps.fenced_by,
        ms(steps.failed_back_ms),
        steps.evidence,
    )
}

fn once(
    scene: &mut Scene,
    blow: Blow,
    hands: &mut Hands,
    load: &Load,
    probe: &Probe,
) -> Result<Repetition> {
    let quiet_from = clock::unix_ms();
    flow(scene, load, probe)?;
    let blow_at = clock::unix_ms();
    let before_ms = probe.longest_ms(quiet_from, blow_at);
    hands.strike(blow, &scene.network, &mut scene.array)?;
    let steps = within_value(PATIENCE, "the failover", || {
        let steps = read(scene, blow_at).ok()?;
        steps.is_over().then_some(steps)
    });
    let steps = steps.with_context(|| format!("seen: {:?}", read(scene, blow_at)))?;
    // A request that began before the failover was over may still be waiting.
    within(PATIENCE, "I/O through the standby", {
        let start = probe.requests();
        move || probe.requests() > start + 2
    })?;
    let over_at = clock::unix_ms();
    let stall_ms = probe.longest_ms(blow_at, over_at);
    blow.mend(&scene.network, &mut scene.array)?;
    within(PATIENCE, "failing back", || {
        read(scene, blow_at).is_ok_and(|steps| steps.failed_back_ms.is_some())
    })?;
    scene.await_primary()?;
    let failed_back_ms = read(scene, blow_at)?.failed_back_ms;
    let strays = strays(&scene.events()?, scene.primary, blow_at);
    ensure!(
        strays.is_empty(),
        "a healthy path was given up as well: {}",
        strays.join("; ")
    );
    Ok(Repetition {
        stall_ms,
        before_ms,
        steps: Steps {
            failed_back_ms,
            ..steps
        },
    })
}

fn read(scene: &Scene, blow_at: u64) -> Result<Steps> {
    Ok(Steps::read(&scene.events()?, scene.primary, blow_at))
}

/// Waits until I/O has flowed for a while on healthy paths.
fn flow(scene: &mut Scene, load: &Load, probe: &Probe) -> Result<()> {
    let start = probe.requests();
    within(PATIENCE, "steady I/O", || {
        probe.requests() > start + FLOWING || !load.alive() || !probe.alive()
    })?;
    ensure!(load.alive(), "fio ended");
    ensure!(probe.alive(), "the stopwatch ended");
    // Not always the same moment between two heartbeats.
    pause(Duration::from_millis(clock::unix_ms() % 97));
    scene.all_alive()
}

/// Distribution of the stalls.
pub(super) fn figures(repetitions: &[Repetition]) -> Option<Figures> {
    Figures::of(repetitions.iter().map(|repetition| repetition.stall_ms))
}

/// For the report's type.
pub(super) type FioSums = Sums;
