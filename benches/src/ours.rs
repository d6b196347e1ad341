//! `umpathd`, controlled through `umpath`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use umpath_tests::bed::{Place, Process, attempt, binary, load, output, run, within_value};

use crate::contender::{NQN, PATHS, QUEUES, SERVICE};

const START_TIME: Duration = Duration::from_secs(20);
const DEVICE_TIME: Duration = Duration::from_secs(30);
const DIR: &str = "/tmp/umpath-bench";

/// A daemon for this bench; dropping disconnects and ends it.
#[derive(Debug)]
pub(crate) struct Daemon {
    cli: PathBuf,
    socket: PathBuf,
    // Dropped after the volume was disconnected.
    process: Process,
}

#[derive(Deserialize)]
struct Maps {
    maps: Vec<MapView>,
}

#[derive(Deserialize)]
struct MapView {
    nqn: String,
    sysfs: String,
    path_groups: Vec<GroupView>,
}

#[derive(Deserialize)]
struct GroupView {
    paths: Vec<PathView>,
}

#[derive(Deserialize)]
struct PathView {
    chk_st: String,
}

impl Daemon {
    /// Starts one in `place` with this `umpath.toml`.
    pub(crate) fn start(place: &Place, config_text: &str) -> Result<Self> {
        load(&["ublk_drv"])?;
        let dir = Path::new(DIR);
        fs::create_dir_all(dir).with_context(|| format!("cannot create {DIR}"))?;
        let config = dir.join("umpath.toml");
        fs::write(&config, config_text)?;
        let socket = dir.join("run/umpathd.sock");
        drop(fs::remove_file(&socket));
        let mut command = place.command(binary("umpathd")?);
        command.arg("--config").arg(config);
        for (flag, name) in [
            ("--state-dir", "state"),
            ("--run-dir", "run"),
            ("--nvme-dir", "nvme"),
        ] {
            fs::create_dir_all(dir.join(name))?;
            command.arg(flag).arg(dir.join(name));
        }
        command.arg("--socket").arg(&socket);
        let mut daemon = Self {
            cli: binary("umpath")?,
            process: Process::spawn("bench-umpathd", command)?,
            socket,
        };
        within_value(START_TIME, "umpathd's socket", || {
            (daemon.socket.exists() || !daemon.process.running()).then_some(())
        })
        .with_context(|| daemon.process.tail())?;
        Ok(daemon)
    }

    pub(crate) fn connect(&self, address: &str) -> Result<()> {
        let (service, queues) = (SERVICE.to_string(), QUEUES);
        run(self
            .ask(&["connect", "-t", "rdma", "-a", address, "-s", &service])
            .args(["-n", NQN, "-i", queues]))
        .with_context(|| self.process.tail())
    }

    /// Waits until every path is ready; returns the volume's device node.
    pub(crate) fn device(&self) -> Result<PathBuf> {
        within_value(DEVICE_TIME, "our volume with all its paths", || {
            let text = output(&mut self.ask(&["show", "maps", "-o", "json"])).ok()?;
            let maps: Maps = serde_json::from_str(&text).ok()?;
            let map = maps.maps.into_iter().find(|map| map.nqn == NQN)?;
            let paths = map.path_groups.iter().flat_map(|group| &group.paths);
            let ready = paths.filter(|path| path.chk_st == "ready").count();
            let device = Path::new("/dev").join(&map.sysfs);
            (ready == usize::from(PATHS) && device.exists()).then_some(device)
        })
        .with_context(|| self.process.tail())
    }

    /// Sets a policy of the volume while it runs, such as `path_selector=latency`.
    pub(crate) fn set(&self, option: &str) -> Result<()> {
        run(&mut self.ask(&["set", option])).with_context(|| self.process.tail())
    }

    fn ask(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cli);
        command.args(words).arg("--socket").arg(&self.socket);
        command
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let outcome = attempt(&mut self.ask(&["disconnect", "-n", NQN]));
        if let Ok(outcome) = outcome
            && !outcome.status.success()
        {
            eprintln!(
                "bench-compare: {}",
                String::from_utf8_lossy(&outcome.stderr).trim_end()
            );
        }
    }
}
