//! The sequence of a run: export, both halves, every round.
//!
//! Within a half all contenders exist at once, idle except for the one being measured, and take
//! turns job by job, so that a machine that slows down affects all of them alike. Ours runs in both
//! halves, so that every ratio stays within one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use umpath_tests::bed::{AnaState, Network, NullDisk, Nvmet, run as execute};

use crate::contender::{Contender, Half, NQN, PATHS};
use crate::kernel::load_for;
use crate::lineup::Lineup;
use crate::matrix::{Plan, SHAPES};
use crate::report::{HalfReport, Report, ShapeReport};

const DISK_MIB: u32 = 512;

/// Runs all measurements. The report lists what could not be measured; that is not an error.
pub fn run(plan: &Plan) -> Result<Report> {
    let mut report = Report::new(plan);
    let disk = NullDisk::make("umpath-bench", DISK_MIB)?;
    fill(disk.device())?;
    for half in [Half::Native, Half::Separate] {
        if let Err(error) = measure_half(plan, half, disk.device(), &mut report) {
            eprintln!("bench-compare: {error:#}");
            report.failures.push(format!("{half:?}: {error:#}"));
        }
    }
    Ok(report)
}

fn measure_half(plan: &Plan, half: Half, disk: &Path, report: &mut Report) -> Result<()> {
    load_for(half)?;
    let network = Network::loopback(PATHS)?;
    let _target = export(&network, disk)?;
    let mut lineup = Lineup::make(half, &network);
    for failure in &lineup.failures {
        eprintln!("bench-compare: {failure}");
    }
    report.failures.append(&mut lineup.failures);
    let (measured, mut failures) = measure(plan, half, &lineup.devices);
    report.failures.append(&mut failures);
    report.halves.push(measured);
    Ok(())
}

/// null_blk allocates no page for untouched blocks: reading them costs less, writing them more.
fn fill(device: &Path) -> Result<()> {
    let mut of = std::ffi::OsString::from("of=");
    of.push(device);
    let count = format!("count={DISK_MIB}");
    execute(
        Command::new("dd")
            .args(["if=/dev/zero", "bs=1M", "oflag=direct", "status=none"])
            .args([&count.into(), &of]),
    )
    .context("cannot fill the disk")
}

fn export(network: &Network, device: &Path) -> Result<Nvmet> {
    let states = [AnaState::Optimized; PATHS as usize];
    Nvmet::start(network, NQN, device, &states)
}

fn measure(plan: &Plan, half: Half, devices: &[(Contender, PathBuf)]) -> (HalfReport, Vec<String>) {
    let shapes: Vec<_> = SHAPES.iter().filter(|shape| plan.chosen(shape)).collect();
    let mut results: Vec<_> = shapes
        .iter()
        .map(|shape| ShapeReport::new(shape.name))
        .collect();
    let mut failures = Vec::new();
    let mut given_up: Vec<Contender> = Vec::new();
    for round in 0..plan.rounds {
        for (shape, result) in shapes.iter().zip(&mut results) {
            for turn in 0..devices.len() {
                // Another one goes first in each round.
                let at = (turn + round as usize) % devices.len();
                let Some((contender, device)) = devices.get(at) else {
                    continue;
                };
                if given_up.contains(contender) {
                    continue;
                }
                match shape.measure(device, plan.seconds) {
                    Ok(sample) => {
                        eprintln!(
                            "round {}/{} {} {}: {:.0} IOPS",
                            round + 1,
                            plan.rounds,
                            shape.name,
                            contender.name(),
                            sample.iops
                        );
                        result.add(*contender, sample);
                    }
                    Err(error) => {
                        let words = format!("{}: {error:#}", contender.name());
                        eprintln!("bench-compare: {words}");
                        failures.push(words);
                        given_up.push(*contender);
                    }
                }
            }
        }
    }
    let measured = devices
        .iter()
        .map(|(contender, _)| *contender)
        .filter(|contender| !given_up.contains(contender))
        .collect::<Vec<_>>();
    (HalfReport::new(half, &measured, results), failures)
}
