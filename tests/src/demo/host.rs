//! The host's side: umpathd in its namespace, and `umpath` as its client.
//!
//! All queries go through the command line and its JSON, as in a user's script.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;

use crate::bed::{Network, Process, STEP_TIMEOUT, attempt, binary, output, within};

use super::array::{Allowance, NQN};
use super::timeline::Events;

/// A running umpathd.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    program: PathBuf,
    socket: PathBuf,
}

#[derive(Deserialize)]
struct Connected {
    connected: Vec<PathUp>,
}

/// A path created by `umpath connect`.
#[derive(Debug, Deserialize)]
pub(super) struct PathUp {
    pub(super) path: u32,
    /// Block devices it serves.
    pub(super) devices: Vec<String>,
}

impl Daemon {
    /// Starts it, with directories of its own, and waits until it answers.
    pub(super) fn start(network: &Network, work: &Path, allowance: &Allowance) -> Result<Self> {
        let dir = |name: &str| work.join(name);
        for name in ["state", "run", "nvme"] {
            fs::create_dir_all(dir(name))?;
        }
        let config = dir("umpath.toml");
        fs::write(&config, configuration(allowance))?;
        let socket = dir("umpathd.sock");
        let mut command = network.host().command(binary("umpathd")?);
        command.arg("--config").arg(&config);
        command.arg("--state-dir").arg(dir("state"));
        command.arg("--run-dir").arg(dir("run"));
        command.arg("--nvme-dir").arg(dir("nvme"));
        command.arg("--socket").arg(&socket);
        let mut daemon = Self {
            process: Process::spawn("umpathd", command)?,
            program: binary("umpath")?,
            socket,
        };
        let mut refusal = String::new();
        within(STEP_TIMEOUT, "umpathd answering", || {
            let answer = daemon.umpath(&["show", "status"]);
            refusal = answer
                .err()
                .map_or_else(String::new, |why| format!("{why:#}"));
            refusal.is_empty() || !daemon.process.running()
        })
        .with_context(|| format!("{refusal}\n{}", daemon.process.tail()))?;
        ensure!(daemon.process.running(), "{}", daemon.process.tail());
        Ok(daemon)
    }

    /// Runs `umpath` with these arguments; returns its output.
    pub(super) fn umpath(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        output(command.arg("--socket").arg(&self.socket).args(words))
    }

    /// Adds a path with `umpath connect`.
    pub(super) fn connect(&self, address: IpAddr) -> Result<PathUp> {
        let address = address.to_string();
        let text = self.umpath(&[
            "-o", "json", "connect", "-t", "rdma", "-a", &address, "-n", NQN,
        ])?;
        let answer: Connected =
            serde_json::from_str(&text).with_context(|| format!("umpath connect: {text}"))?;
        answer
            .connected
            .into_iter()
            .next()
            .with_context(|| format!("umpath connect made no path: {text}"))
    }

    /// Reads `umpath show events`.
    pub(super) fn events(&self) -> Result<Events> {
        let text = self.umpath(&["-o", "json", "show", "events"])?;
        serde_json::from_str(&text).with_context(|| format!("umpath show events: {text}"))
    }

    /// Runs `umpath disconnect` for the whole subsystem; the volume goes with it.
    pub(super) fn disconnect(&self) -> Result<()> {
        self.umpath(&["disconnect", "-n", NQN]).map(drop)
    }

    /// Ends it with SIGTERM; an error unless it exits cleanly.
    pub(super) fn end(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait(STEP_TIMEOUT)?;
        ensure!(
            status.success(),
            "umpathd ended with {status}\n{}",
            self.process.tail()
        );
        Ok(())
    }

    /// Whether it still runs.
    pub(super) fn running(&mut self) -> bool {
        self.process.running()
    }
}

fn configuration(allowance: &Allowance) -> String {
    // Reconnect often: the demo shows the failback, not the back-off.
    format!(
        "[defaults]\nheartbeat_ms = 100\nkato_ms = {}\nfailback = \"immediate\"\n\
         no_path_retry = \"queue\"\nreconnect_delay_max_ms = 1000\n",
        allowance.kato_ms
    )
}

/// Requests a block device has completed, and writes it has in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    pub(super) completed: u64,
    pub(super) writes_in_flight: u64,
}

impl Traffic {
    pub(super) fn of(device: &Path) -> Result<Self> {
        let name = device.file_name().unwrap_or_default();
        let dir = Path::new("/sys/block").join(name);
        let numbers = |file: &str| -> Result<Vec<u64>> {
            let text = fs::read_to_string(dir.join(file))?;
            Ok(text
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect())
        };
        let (stat, inflight) = (numbers("stat")?, numbers("inflight")?);
        let at = |list: &[u64], index: usize| list.get(index).copied().unwrap_or_default();
        Ok(Self {
            completed: at(&stat, 0) + at(&stat, 4),
            writes_in_flight: at(&inflight, 1),
        })
    }
}

/// Kernel messages about errors on a device since a mark in the log.
pub(super) fn kernel_complaints(mark: &str, device: &Path) -> Vec<String> {
    let log = attempt(&mut Command::new("dmesg")).map(|done| done.stdout);
    let log = String::from_utf8_lossy(&log.unwrap_or_default()).into_owned();
    let name = device.file_name().unwrap_or_default().to_string_lossy();
    let bad = ["error", "corrupt", "hung", "blocked for more"];
    log.rsplit(mark)
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| line.contains(name.as_ref()) || line.contains("EXT4-fs"))
        .filter(|line| bad.iter().any(|word| line.to_lowercase().contains(word)))
        .map(str::to_owned)
        .collect()
}
