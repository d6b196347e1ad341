//! The setup of volume cases: `umpath-target` processes on the array's side of a [`Network`],
//! `umpathd` on the host's, and `umpath` as its client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;

use crate::bed::{
    Network, Process, Side, TargetProcess, attempt, binary, load, within, within_value,
};

/// Time limit for anything that should be quick, on a busy emulated machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The service every target listens on.
pub(super) const SERVICE: &str = "4420";

/// The beginning of an `umpath.toml` with which nothing but the case itself costs a path: heartbeats and
/// responses may be late, as they are on a busy machine.
pub(super) const CALM: &str = "[defaults]\nkato_ms = 4000\nheartbeats_missed = 10\noutlier_factor = 0\n\
                               reconnect_delay_max_ms = 500\n";

/// A directory of this case, removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn make(name: &str) -> Result<Self> {
        let folder = PathBuf::from(format!("/tmp/umpath-{name}"));
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A running `umpath-target` on one cable.
#[derive(Debug)]
pub(super) struct Target {
    // Declared first, so ended before its directory is removed.
    process: TargetProcess,
    _folder: Folder,
}

impl Target {
    /// Serves `subsystems` (the `[[subsystem]]` part of `array.toml`) on port `cable`.
    pub(super) fn start(network: &Network, cable: u8, subsystems: &str) -> Result<Self> {
        let folder = Folder::make(&format!("array-{cable}"))?;
        let config = format!(
            "[process]\ncntlid = {{ first = {first}, last = {last} }}\n\
             [[port]]\nid = {cable}\ntraddr = \"{address}\"\n{subsystems}",
            first = u16::from(cable) * 1000,
            last = u16::from(cable) * 1000 + 999,
            address = network.cable(cable).address(Side::Array),
        );
        let name = format!("array-{cable}");
        let process = TargetProcess::start(network.array(), &folder.0, &name, &config)?;
        Ok(Self {
            process,
            _folder: folder,
        })
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again after it was killed.
    pub(super) fn start_again(&mut self, network: &Network) -> Result<()> {
        self.process.start_again(network.array())
    }

    /// All it has printed.
    pub(super) fn printed(&self) -> String {
        self.process.printed()
    }

    /// Runs `umpath-target WORDS` against it.
    pub(super) fn verb(&self, words: &[&str]) -> Result<String> {
        self.process.verb(words)
    }
}

/// Exit status and output of a program.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) out: String,
    pub(super) error: String,
}

/// A running `umpathd` on the host's side.
#[derive(Debug)]
pub(crate) struct Daemon {
    // Declared first, so ended before its directory is removed.
    process: Process,
    folder: Folder,
}

impl Daemon {
    /// Starts it with this `umpath.toml`.
    pub(crate) fn start(network: &Network, config: &str) -> Result<Self> {
        load(&["ublk_drv"])?;
        Self::start_within(network, &[], config)
    }

    /// The same behind `wrapper`, such as `prlimit --memlock=65536`, and without loading ublk.
    pub(crate) fn start_within(network: &Network, wrapper: &[&str], config: &str) -> Result<Self> {
        let folder = Folder::make("host")?;
        fs::write(folder.0.join("umpath.toml"), config)?;
        let command = Self::command(network, wrapper, &folder.0, &folder.0.join("run"))?;
        let mut process = Process::spawn("umpathd", command)?;
        let socket = folder.0.join("run/umpathd.sock");
        within(PATIENCE, "umpathd listening", || {
            !process.running() || socket.exists()
        })?;
        ensure!(process.running(), "{}", process.tail());
        Ok(Self { process, folder })
    }

    fn command(
        network: &Network,
        wrapper: &[&str],
        folder: &Path,
        run_dir: &Path,
    ) -> Result<Command> {
        let daemon = binary("umpathd")?;
        let mut command = match wrapper.split_first() {
            None => network.host().command(daemon),
            Some((program, args)) => {
                let mut command = network.host().command(program);
                command.args(args).arg(daemon);
                command
            }
        };
        for (flag, name) in [
            ("--config", "umpath.toml"),
            ("--state-dir", "state"),
            ("--nvme-dir", "nvme"),
        ] {
            command.arg(flag).arg(folder.join(name));
        }
        command.arg("--run-dir").arg(run_dir);
        Ok(command)
    }

    /// Kills it (SIGKILL) and starts another one on the same directories.
    pub(super) fn kill_and_restart(&mut self, network: &Network) -> Result<()> {
        self.kill()?;
        self.start_again(network)
    }

    /// Kills it (SIGKILL).
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts another one on the directories of one that was killed.
    pub(super) fn start_again(&mut self, network: &Network) -> Result<()> {
        let socket = self.folder.0.join("run/umpathd.sock");
        drop(fs::remove_file(&socket));
        let run_dir = self.folder.0.join("run");
        let command = Self::command(network, &[], &self.folder.0, &run_dir)?;
        self.process = Process::spawn("umpathd", command)?;
        within(PATIENCE, "the next umpathd listening", || {
            !self.process.running() || socket.exists()
        })?;
        ensure!(self.process.running(), "{}", self.process.tail());
        Ok(())
    }

    /// The same, and the state directory is lost meanwhile.
    pub(super) fn kill_and_restart_without_state(&mut self, network: &Network) -> Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.folder.0.join("state"))?;
        self.start_again(network)
    }

    /// A second daemon on the same state, with this run directory: runs to its end.
    pub(super) fn second(&self, network: &Network, run_dir: &Path) -> Result<Said> {
        say(&mut Self::command(network, &[], &self.folder.0, run_dir)?)
    }

    /// The same with this state directory.
    pub(super) fn second_with_state(
        &self,
        network: &Network,
        run_dir: &Path,
        state_dir: &Path,
    ) -> Result<Said> {
        let mut command = network.host().command(binary("umpathd")?);
        command
            .arg("--config")
            .arg(self.folder.0.join("umpath.toml"));
        command.arg("--run-dir").arg(run_dir);
        say(command.arg("--state-dir").arg(state_dir))
    }

    /// Where its `umpath.toml` is.
    pub(super) fn folder(&self) -> &Path {
        &self.folder.0
    }

    /// All it has printed since it started.
    pub(super) fn printed(&self) -> String {
        self.process.printed()
    }

    /// Whether it still runs.
    pub(crate) fn running(&mut self) -> bool {
        self.process.running()
    }

    /// Runs `umpath WORDS`, which may fail.
    pub(super) fn try_ask(&self, words: &[&str]) -> Result<Said> {
        let mut command = Command::new(binary("umpath")?);
        command.args(words).arg("--socket");
        say(command.arg(self.folder.0.join("run/umpathd.sock")))
    }

    /// Runs `umpath WORDS`, which must succeed; returns its standard output.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        let said = self.try_ask(words)?;
        if !said.success {
            bail!(
                "`umpath {}` failed:\n{}{}\n{}",
                words.join(" "),
                said.out,
                said.error,
                self.process.tail()
            );
        }
        Ok(said.out)
    }

    /// The same with `-o json`.
    pub(crate) fn json(&self, words: &[&str]) -> Result<Value> {
        let text = self.ask(&[words, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("umpath {}: no JSON: {text}", words.join(" ")))
    }

    /// Connects to `nqn` on a cable, with further arguments.
    pub(crate) fn connect(
        &self,
        network: &Network,
        cable: u8,
        nqn: &str,
        more: &[&str],
    ) -> Result<()> {
        let address = network.cable(cable).address(Side::Array).to_string();
        let words = ["connect", "-t", "rdma", "-a", &address, "-s", SERVICE];
        let said = self.ask(&[words.as_slice(), &["-n", nqn], more].concat())?;
        eprint!("{said}");
        Ok(())
    }

    /// The volumes in `umpath list`.
    pub(super) fn volumes(&self) -> Result<Vec<Value>> {
        let list = self.json(&["list"])?;
        let devices = list.get("Devices").and_then(Value::as_array);
        Ok(devices.context("no Devices in umpath list")?.clone())
    }

    /// The paths in `umpath show paths`.
    pub(crate) fn paths(&self) -> Result<Vec<Value>> {
        let shown = self.json(&["show", "paths"])?;
        let paths = shown.get("paths").and_then(Value::as_array);
        Ok(paths.context("no paths in umpath show paths")?.clone())
    }

    /// The path over a cable, from `umpath show paths`.
    pub(super) fn path(&self, cable: u8) -> Option<Value> {
        let address = format!("10.9.{cable}.1:");
        let found = |path: &Value| {
            let text = path.get("address").and_then(Value::as_str);
            text.is_some_and(|text| text.starts_with(&address))
        };
        self.paths().ok()?.into_iter().find(found)
    }

    /// Whether the path over a cable is up.
    pub(super) fn live(&self, cable: u8) -> bool {
        self.path(cable)
            .is_some_and(|path| path.get("state").and_then(Value::as_str) == Some("live"))
    }

    /// The number of the path over a cable.
    pub(super) fn number(&self, cable: u8) -> Option<u64> {
        self.path(cable)?.get("path")?.as_u64()
    }

    /// What an operator sees, for errors.
    pub(super) fn shown(&self) -> String {
        let paths = self.ask(&["show", "paths"]).unwrap_or_default();
        let events = self.ask(&["show", "events"]).unwrap_or_default();
        format!("{paths}{events}")
    }

    /// Whether the volume sends its I/O over this cable.
    pub(super) fn carries(&self, cable: u8) -> bool {
        self.path(cable).is_some_and(|path| {
            path.pointer("/members/0/group_st").and_then(Value::as_str) == Some("active")
        })
    }

    /// The device node of the only volume.
    pub(crate) fn device(&self) -> Result<PathBuf> {
        let node = within_value(PATIENCE, "a volume", || {
            let volumes = self.volumes().ok()?;
            let path = volumes.first()?.get("DevicePath")?.as_str()?;
            Some(PathBuf::from(path)).filter(|path| path.exists())
        })?;
        let count = self.volumes()?.len();
        ensure!(count == 1, "{count} volumes");
        Ok(node)
    }

    /// Waits until no volume or path is left.
    pub(super) fn expect_nothing(&mut self, after: &str) -> Result<()> {
        ensure!(
            self.running(),
            "umpathd died of {after}: {}",
            self.process.tail()
        );
        let volumes = self.volumes()?;
        ensure!(volumes.is_empty(), "after {after}: {volumes:?}");
        let gone = within(Duration::from_secs(10), "paths gone", || {
            self.paths().is_ok_and(|paths| paths.is_empty()) && ublk_nodes().is_empty()
        });
        gone.with_context(|| {
            let paths = self.ask(&["show", "paths"]).unwrap_or_default();
            format!(
                "after {after}: {:?}\n{paths}{}",
                ublk_nodes(),
                self.process.tail()
            )
        })
    }
}

/// Counters of a block device (`/sys/block/*/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) in_flight: u64,
}

impl Progress {
    /// Reads them for a device node; `None` if the device is gone.
    pub(super) fn of(device: &Path) -> Option<Self> {
        let name = device.file_name()?.to_str()?;
        let text = fs::read_to_string(format!("/sys/block/{name}/stat")).ok()?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let field = |at: usize| fields.get(at)?.parse().ok();
        Some(Self {
            reads: field(0)?,
            writes: field(4)?,
            in_flight: field(8)?,
        })
    }
}

/// Nodes of all ublk devices.
pub(super) fn ublk_nodes() -> Vec<String> {
    let entries = fs::read_dir("/dev").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with("ublkb") || name.starts_with("ublkc"))
        .collect()
}

/// Runs a command to completion and keeps its output.
pub(super) fn say(command: &mut Command) -> Result<Said> {
    let result = attempt(command)?;
    Ok(Said {
        success: result.status.success(),
        out: String::from_utf8_lossy(&result.stdout).into_owned(),
        error: String::from_utf8_lossy(&result.stderr).into_owned(),
    })
}
