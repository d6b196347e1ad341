//! The demo: the product's main job, end to end, on this kernel.
//!
//! Decided here: the options, how a run is judged (every check passed and nothing broke off), and
//! how it ends: `PASS` or `FAIL` on a line by itself, with what failed and where the logs are before
//! it. What happens in which order is `story`'s.

mod array;
mod clock;
mod file_system;
mod host;
mod load;
mod report;
mod steady;
mod story;
mod switch;
mod timeline;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::bed;
use report::Report;

/// Whose target the volume comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Two `umpath-target` processes.
    Umpath,
    /// Linux nvmet with two ports.
    Kernel,
}

impl Target {
    fn word(self) -> &'static str {
        match self {
            Self::Umpath => "umpath",
            Self::Kernel => "kernel",
        }
    }
}

/// What can be chosen.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose target.
    pub target: Target,
    /// Seed of the files and of fio's data.
    pub seed: u64,
    /// Where the JSON report goes.
    pub json: Option<PathBuf>,
}

/// Where the demo keeps its files while it runs.
const WORK: &str = "/tmp/umpath-demo";

/// Runs the demo and prints it; true when it passed.
pub fn run(options: &Options) -> Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the demo needs root on a machine of its own: `cargo xtask demo` boots one"
    );
    let logs = bed::log_dir()?;
    forget_old_logs(&logs)?;
    let work = Path::new(WORK);
    drop(fs::remove_dir_all(work));
    fs::create_dir_all(work).with_context(|| format!("cannot make {WORK}"))?;
    let before = bed::remains();
    let mut report = Report::new(options, &logs);
    println!(
        "umpath demo: Linux {}, target {}, seed {}",
        bed::release(),
        options.target.word(),
        options.seed
    );
    if let Err(error) = story::tell(options, work, &mut report) {
        report.broke_off(&error);
    }
    report.check_nothing_left(&before);
    drop(fs::remove_dir_all(work));
    report.conclude();
    if let Some(file) = &options.json {
        report.write(file)?;
    }
    println!("{}", if report.passed() { "PASS" } else { "FAIL" });
    Ok(report.passed())
}

/// Logs are appended to, so that a program's second life follows its first.
fn forget_old_logs(logs: &Path) -> Result<()> {
    for entry in fs::read_dir(logs)?.flatten() {
        let path = entry.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "log" || extension == "json")
        {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
