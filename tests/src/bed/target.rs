//! A running `umpath-target` process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::place::Place;
use super::process::{Process, binary};
use super::run::{attempt, output};
use super::wait::{STEP_TIMEOUT, within};

/// A process of `umpath-target`, ended when dropped.
#[derive(Debug)]
pub struct TargetProcess {
    process: Process,
    name: String,
    config: PathBuf,
    socket: PathBuf,
    killed: bool,
}

impl TargetProcess {
    /// Starts one in `place`, with `config` as its `array.toml`; its files are `folder/name.*`.
    pub fn start(place: &Place, folder: &Path, name: &str, config: &str) -> Result<Self> {
        let file = |extension| folder.join(format!("{name}.{extension}"));
        let (path, socket) = (file("toml"), file("sock"));
        fs::write(&path, config).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            process: launch(place, name, &path, &socket)?,
            name: name.to_owned(),
            config: path,
            socket,
            killed: false,
        })
    }

    /// Starts it again after it was killed.
    pub fn start_again(&mut self, place: &Place) -> Result<()> {
        self.process = launch(place, &self.name, &self.config, &self.socket)?;
        self.killed = false;
        Ok(())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it (SIGKILL) and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        self.killed = true;
        self.process.kill()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it runs.
    pub fn running(&mut self) -> bool {
        self.process.running()
    }

    /// Its last output, if it ended without being killed here.
    pub fn casualty(&mut self) -> Option<String> {
        (!self.killed && !self.process.running()).then(|| self.process.tail())
    }

    /// All its output.
    pub fn printed(&self) -> String {
        self.process.printed()
    }

    /// The end of its output.
    pub fn tail(&self) -> String {
        self.process.tail()
    }

    /// Path of its `array.toml`.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The command `umpath-target WORDS`, directed at this process.
    pub fn command(&self, words: &[&str]) -> Result<Command> {
        command(&self.socket, words)
    }

    /// Runs `umpath-target WORDS` against it; returns the output.
    pub fn verb(&self, words: &[&str]) -> Result<String> {
        output(&mut self.command(words)?)
    }
}

fn command(socket: &Path, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("umpath-target")?);
    command.arg("--socket").arg(socket).args(words);
    Ok(command)
}

fn launch(place: &Place, name: &str, config: &Path, socket: &Path) -> Result<Process> {
    let mut serve = place.command(binary("umpath-target")?);
    serve.arg("--socket").arg(socket);
    serve.args(["serve", "--config"]).arg(config);
    let mut process = Process::spawn(name, serve)?;
    // A killed process leaves its socket behind: wait for one that answers.
    let answers = || {
        let shown = command(socket, &["show"]).and_then(|mut show| attempt(&mut show));
        shown.is_ok_and(|shown| shown.status.success())
    };
    within(STEP_TIMEOUT, "the target answering", || {
        !process.running() || answers()
    })
    .with_context(|| process.tail())?;
    ensure!(process.running(), "{}", process.tail());
    Ok(process)
}
