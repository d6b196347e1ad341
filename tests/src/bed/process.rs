//! A background program of a case: started in a place, its output logged, ended when dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::place::Place;
use super::run::show;
use super::wait::{within, within_value};

const END_TIME: Duration = Duration::from_secs(10);

/// Path of a program of this workspace, built beside the running one.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the running program")?;
    let path = own.with_file_name(name);
    if !path.is_file() {
        bail!("{} is missing; run `cargo build`", path.display());
    }
    Ok(path)
}

/// A running program. Dropping sends SIGTERM, then SIGKILL if it does not end.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `place`; its output goes to a log named after `name`.
    pub fn start<S: AsRef<OsStr>>(
        place: &Place,
        name: &str,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut command = place.command(program);
        command.args(args);
        Self::spawn(name, command)
    }

    /// Starts a prepared command.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let log = log_dir()?.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let shown = show(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All its output so far, including that of earlier runs under the same name.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it prints a line with `words`; an error if it ends first.
    pub fn wait_for_words(&mut self, words: &str, limit: Duration) -> Result<()> {
        let what = format!("{} printing `{words}`", self.name);
        let name = self.name.clone();
        let outcome = within_value(limit, &what, || {
            if self.printed().contains(words) {
                return Some(Ok(()));
            }
            let ended = self.child.try_wait().ok().flatten()?;
            Some(Err(anyhow::anyhow!(
                "{name} ended ({ended}) before it printed `{words}`"
            )))
        });
        outcome.and_then(|inner| inner).with_context(|| self.tail())
    }

    /// Waits until it ends.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        within_value(limit, &what, || self.child.try_wait().ok().flatten())
            .with_context(|| self.tail())
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Kills it at once (SIGKILL) and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("cannot reap {}", self.name))?;
        Ok(())
    }

    /// The last lines of its output, for error messages.
    pub fn tail(&self) -> String {
        let printed = self.printed();
        let lines: Vec<_> = printed.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(15)..)
            .unwrap_or_default()
            .join("\n  ");
        format!("{} printed last:\n  {last}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.running() {
            return;
        }
        drop(self.signal(Signal::TERM));
        let name = self.name.clone();
        if within(END_TIME, &name, || !self.running()).is_err() {
            eprintln!(
                "bed: {name} did not end within {} s of SIGTERM",
                END_TIME.as_secs()
            );
            drop(self.kill());
        }
    }
}

/// Log directory of this case: `UMPATH_CASE_LOGS`, or a temporary directory.
pub fn log_dir() -> Result<PathBuf> {
    let dir = std::env::var_os("UMPATH_CASE_LOGS");
    let dir = dir.map_or_else(
        || Path::new("/tmp/umpath-logs").to_path_buf(),
        PathBuf::from,
    );
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}
