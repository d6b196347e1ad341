//! One kind of failover, many times: inject the fault, wait for failover, undo the fault, wait for
//! failback.
//!
//! Meanwhile fio writes and compares, and the latency probe times one request at a time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::bed::{STEP_TIMEOUT, pause, unix_ms, within, within_value};

use super::array::SIZE_MIB;
use super::block::BYTES;
use super::fault::{Fault, Injector};
use super::load::Load;
use super::probe::Probe;
use super::report::{Outcome, Repetition};
use super::scene::Scene;
use super::steps::{Steps, strays};

/// Part of the volume that fio uses; the probe uses the upper half.
const FIO_MIB: u64 = 16;
/// Probe requests between two faults, and before the first.
const FLOWING: u64 = 100;

/// Drills one fault `repeat` times on a scene.
pub(super) fn drill(
    scene: &mut Scene,
    fault: Fault,
    repeat: u32,
    work: &Path,
    seed: u64,
) -> Result<Outcome> {
    println!(
        "drill {}: {repeat} times, budget {} ms",
        fault.name(),
        fault.budget().as_millis()
    );
    let mut injector = Injector::on(&scene.network)?;
    let load = Load::start(&scene.volume, FIO_MIB, work, seed);
    let blocks = (SIZE_MIB << 20) / BYTES / 2;
    let probe = Probe::start(&scene.volume, blocks, blocks)?;
    let (repetitions, broken) = repeated(scene, fault, &mut injector, repeat, &load, &probe);
    let mut outcome = Outcome::new(fault.name(), fault.budget(), repetitions);
    outcome.note("every failover completed", broken);
    match load.finish() {
        Ok(sums) => outcome.fio(sums),
        Err(error) => outcome.note("fio: no I/O error, every block as written", Err(error)),
    }
    let timed = probe.finish().map(drop);
    outcome.note("probe: no I/O error, every block as written", timed);
    Ok(outcome)
}

/// The repetitions that succeeded, and the error that ended the series, if any.
fn repeated(
    scene: &mut Scene,
    fault: Fault,
    injector: &mut Injector,
    repeat: u32,
    load: &Load,
    probe: &Probe,
) -> (Vec<Repetition>, Result<()>) {
    let mut done = Vec::new();
    for number in 1..=repeat {
        match once(scene, fault, injector, load, probe) {
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
    fault: Fault,
    injector: &mut Injector,
    load: &Load,
    probe: &Probe,
) -> Result<Repetition> {
    let quiet_from = unix_ms();
    flow(scene, load, probe)?;
    let fault_at = unix_ms();
    let before_ms = probe.longest_ms(quiet_from, fault_at);
    injector.inject(fault, &scene.network, &mut scene.array)?;
    let steps = within_value(STEP_TIMEOUT, "the failover", || {
        let steps = read(scene, fault_at).ok()?;
        steps.is_over().then_some(steps)
    });
    let steps = steps.with_context(|| format!("seen: {:?}", read(scene, fault_at)))?;
    // A request from before the end of the failover may still be waiting.
    within(STEP_TIMEOUT, "I/O through the standby", {
        let start = probe.requests();
        move || probe.requests() > start + 2
    })?;
    let over_at = unix_ms();
    let stall_ms = probe.longest_ms(fault_at, over_at);
    fault.undo(&scene.network, &mut scene.array)?;
    within(STEP_TIMEOUT, "failback", || {
        read(scene, fault_at).is_ok_and(|steps| steps.failed_back_ms.is_some())
    })?;
    scene.await_primary()?;
    let failed_back_ms = read(scene, fault_at)?.failed_back_ms;
    let strays = strays(&scene.events()?, scene.primary, fault_at);
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

fn read(scene: &Scene, fault_at: u64) -> Result<Steps> {
    Ok(Steps::read(&scene.events()?, scene.primary, fault_at))
}

/// Waits until I/O has completed for a while on healthy paths.
fn flow(scene: &mut Scene, load: &Load, probe: &Probe) -> Result<()> {
    let start = probe.requests();
    within(STEP_TIMEOUT, "steady I/O", || {
        probe.requests() > start + FLOWING || !load.alive() || !probe.alive()
    })?;
    ensure!(load.alive(), "fio ended");
    ensure!(probe.alive(), "the probe has ended");
    // Vary the position between two heartbeats.
    pause(Duration::from_millis(unix_ms() % 97));
    scene.all_alive()
}
