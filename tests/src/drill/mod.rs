//! Drills: what a failover costs, and that no write is lost or reverted by one, on the real stack.
//!
//! Decided here: which drills there are and what a run consists of. The failover drills share one
//! scene and strike it again and again; each ghost-write run builds its own. A drill passes when its
//! budget holds, no request failed and every byte was as written.

mod array;
mod block;
mod blow;
mod chronicle;
mod clock;
mod failover;
mod ghost;
mod load;
mod probe;
mod report;
mod scene;
pub mod verifier;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::bed;
use array::Arrays;
use blow::Blow;
use report::Report;
use scene::{Plan, Scene};

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names of drills, or `all`.
    pub names: Vec<String>,
    /// Times each failover is drilled.
    pub repeat: u32,
    /// Seed of fio's data and of the ghost's block.
    pub seed: u64,
    /// Where the JSON report goes.
    pub json: Option<PathBuf>,
}

/// Where drills keep their files while they run.
const WORK: &str = "/tmp/umpath-drill";

/// The drill that is no plain failover.
const GHOST_WRITE: &str = "ghost-write";

/// Runs the chosen drills and prints them; true when all passed.
pub fn run(options: &Options) -> Result<bool> {
    let (blows, ghosts) = chosen(&options.names)?;
    ensure!(
        rustix::process::geteuid().is_root(),
        "drills need root on a machine of their own: `cargo xtask drill` boots one"
    );
    let work = Path::new(WORK);
    drop(fs::remove_dir_all(work));
    fs::create_dir_all(work).with_context(|| format!("cannot make {WORK}"))?;
    println!(
        "umpath drill: Linux {}, seed {}",
        bed::release(),
        options.seed
    );
    let mut report = Report::new(options.seed);
    if !blows.is_empty() {
        failovers(&blows, options, work, &mut report);
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

fn failovers(blows: &[Blow], options: &Options, work: &Path, report: &mut Report) {
    let plan = Plan {
        arrays: Arrays::Umpath,
        subsystem: "",
        // A path that is lost again and again is otherwise held down, longer each time.
        daemon: "[defaults]\nflap_hold_max_ms = 0\n",
        unfenced: false,
    };
    let mut scene = match Scene::build(work, plan) {
        Ok(scene) => scene,
        Err(error) => return report.broke_off("failovers", error),
    };
    for blow in blows {
        match failover::drill(&mut scene, *blow, options.repeat, work, options.seed) {
            Ok(outcome) => report.add(outcome),
            Err(error) => report.broke_off(blow.name(), error),
        }
    }
}

/// The failovers by name, and whether ghost-write is among the names.
fn chosen(names: &[String]) -> Result<(Vec<Blow>, bool)> {
    let known = || Blow::ALL.iter().map(|blow| blow.name());
    for name in names {
        if name != "all" && name != GHOST_WRITE && !known().any(|known| known == name) {
            let names = known().collect::<Vec<_>>().join(", ");
            bail!("no drill is called {name}; there are {names}, {GHOST_WRITE}, and all");
        }
    }
    let wanted = |name: &str| names.iter().any(|given| given == name || given == "all");
    let blows = Blow::ALL.into_iter().filter(|blow| wanted(blow.name()));
    Ok((blows.collect(), wanted(GHOST_WRITE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_and_unknown_ones_are_refused() {
        let names = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let (blows, ghosts) = chosen(&names(&["target-stop", "link-down"])).unwrap();
        assert_eq!(
            (blows, ghosts),
            (vec![Blow::LinkDown, Blow::TargetStop], false)
        );
        let (blows, ghosts) = chosen(&names(&["all"])).unwrap();
        assert_eq!((blows.len(), ghosts), (4, true));
        assert!(chosen(&names(&["link-up"])).is_err());
    }
}
