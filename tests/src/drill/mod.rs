//! Drills: measure failovers on the real stack and check that none loses or reverts a write.
//!
//! Decided here: which drills exist and what a run consists of. The failover drills share one scene
//! and inject a fault into it repeatedly; each ghost-write run builds its own. A drill passes if
//! its stall budget holds, no request failed and every byte is as written.

mod array;
mod block;
mod failover;
mod fault;
mod ghost;
mod ghost_run;
mod load;
mod probe;
mod report;
mod scene;
mod steps;
pub mod verifier;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bed;
use array::Arrays;
use fault::Fault;
use report::Report;
use scene::{Plan, Scene};

/// Command line options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of drills, or `all`.
    pub names: Vec<String>,
    /// Repetitions of each failover.
    pub repeat: u32,
    /// Seed of fio's data and of the ghost's block.
    pub seed: u64,
    /// Path of the JSON report.
    pub json: Option<PathBuf>,
}

/// Working directory.
const WORK: &str = "/tmp/umpath-drill";

/// The drill that is not a plain failover.
const GHOST_WRITE: &str = "ghost-write";

/// Runs and prints the chosen drills; `true` if all passed.
pub fn run(options: &Options) -> Result<bool> {
    let (faults, ghosts) = chosen(&options.names)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "drills need root on a machine of their own: `cargo xtask drill` boots one"
    );
    let work = Path::new(WORK);
    drop(fs::remove_dir_all(work));
    fs::create_dir_all(work).with_context(|| format!("cannot create {WORK}"))?;
    println!(
        "umpath drill: Linux {}, seed {}",
        bed::release(),
        options.seed
    );
    let mut report = Report::new(options.seed);
    if !faults.is_empty() {
        failovers(&faults, options, work, &mut report);
    }
    if ghosts {
        ghost::drill(options.seed, work, &mut report);
    }
    drop(fs::remove_dir_all(work));
    if let Some(file) = &options.json {
        report.write(file)?;
    }
    println!("{}", if report.passed() { "PASS" } else { "FAIL" });
    Ok(report.passed())
}

fn failovers(faults: &[Fault], options: &Options, work: &Path, report: &mut Report) {
    let plan = Plan {
        arrays: Arrays::Umpath,
        subsystem: "",
        // Disable damping, which would hold down a path that is lost repeatedly, longer each time.
        daemon: "[defaults]\nflap_hold_max_ms = 0\n",
        unfenced: false,
    };
    let mut scene = match Scene::build(work, plan) {
        Ok(scene) => scene,
        Err(error) => return report.broke_off("failovers", error),
    };
    for fault in faults {
        match failover::drill(&mut scene, *fault, options.repeat, work, options.seed) {
            Ok(outcome) => report.add(outcome),
            Err(error) => report.broke_off(fault.name(), error),
        }
    }
}

/// The chosen faults, and whether ghost-write was chosen as well.
fn chosen(names: &[String]) -> Result<(Vec<Fault>, bool)> {
    let known = || Fault::ALL.iter().map(|fault| fault.name());
    for name in names {
        if name != "all" && name != GHOST_WRITE && !known().any(|known| known == name) {
            let names = known().collect::<Vec<_>>().join(", ");
            bail!("there is no drill {name}; the drills are {names}, {GHOST_WRITE}, and all");
        }
    }
    let wanted = |name: &str| names.iter().any(|given| given == name || given == "all");
    let faults = Fault::ALL.into_iter().filter(|fault| wanted(fault.name()));
    Ok((faults.collect(), wanted(GHOST_WRITE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_and_unknown_ones_are_refused() {
        let names = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (faults, ghosts) = chosen(&names(&["target-stop", "link-down"])).unwrap();
        assert_eq!(
            (faults, ghosts),
            (vec![Fault::LinkDown, Fault::TargetStop], false)
        );
        let (faults, ghosts) = chosen(&names(&["all"])).unwrap();
        assert_eq!((faults.len(), ghosts), (4, true));
        assert!(chosen(&names(&["link-up"])).is_err());
    }
}
