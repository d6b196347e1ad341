//! The demo: the product's main job, end to end, on this kernel.
//!
//! Decided here: the options, how a run is judged (every check passed and every step completed),
//! and its last line, `PASS` or `FAIL`, preceded by what failed and where the logs are. `story`
//! determines the sequence of steps.

mod array;
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

/// The target that serves the volume.
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

/// Command line options.
#[derive(Clone, Debug)]
pub struct Options {
    /// Target that serves the volume.
    pub target: Target,
    /// Seed of the files and of fio's data.
    pub seed: u64,
    /// Path of the JSON report.
    pub json: Option<PathBuf>,
}

/// Working directory.
const WORK: &str = "/tmp/umpath-demo";

/// Runs and prints the demo; `true` if it passed.
pub fn run(options: &Options) -> Result<bool> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the demo needs root on a machine of its own: `cargo xtask demo` boots one"
    );
    let logs = bed::log_dir()?;
    forget_old_logs(&logs)?;
    let work = Path::new(WORK);
    drop(fs::remove_dir_all(work));
    fs::create_dir_all(work).with_context(|| format!("cannot create {WORK}"))?;
    let before = bed::remains();
    let mut report = Report::new(options, &logs);
    println!(
        "umpath demo: Linux {}, target {}, seed {}",
        bed::release(),
        options.target.word(),
        options.seed
    );
    if let Err(error) = story::run(options, work, &mut report) {
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

/// Logs are appended to, so that a restarted program continues its log.
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
