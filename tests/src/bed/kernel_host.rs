//! The kernel's own NVMe host, through nvme-cli: the host our target must interoperate with.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::kernel::load;
use super::run::{attempt, run};
use super::wait::within_value;

const DEVICE_TIME: Duration = Duration::from_secs(30);

/// Options for `nvme connect` in addition to the portal.
#[derive(Clone, Debug, Default)]
pub struct ConnectOptions {
    /// Further arguments, such as `--ctrl-loss-tmo=-1`.
    pub arguments: Vec<String>,
}

/// The connections of the kernel's host to one subsystem; dropping disconnects them.
#[derive(Debug)]
pub struct KernelHost {
    nqn: String,
    transport: String,
}

impl KernelHost {
    /// Prepares the kernel's host for `transport` (`rdma` or `tcp`) without connecting.
    pub fn new(transport: &str, nqn: &str) -> Result<Self> {
        load(&[&format!("nvme-{transport}")])?;
        Ok(Self {
            nqn: nqn.to_owned(),
            transport: transport.to_owned(),
        })
    }

    /// Connects one path.
    pub fn connect(&self, address: IpAddr, service: u16, options: &ConnectOptions) -> Result<()> {
        let (address, service) = (address.to_string(), service.to_string());
        run(Command::new("nvme")
            .args([
                "connect",
                "-t",
                &self.transport,
                "-a",
                &address,
                "-s",
                &service,
            ])
            .args(["-n", &self.nqn])
            .args(&options.arguments))
    }

    /// The controllers, as `/sys/class/nvme/nvmeN`.
    pub fn controllers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir("/sys/class/nvme")
            .into_iter()
            .flatten()
            .flatten();
        let ours = |dir: &PathBuf| {
            fs::read_to_string(dir.join("subsysnqn")).is_ok_and(|nqn| nqn.trim() == self.nqn)
        };
        let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(ours).collect();
        found.sort();
        found
    }

    /// Waits for the namespace's block device, such as `/dev/nvme0n1`.
    pub fn device(&self) -> Result<PathBuf> {
        within_value(
            DEVICE_TIME,
            &format!("a block device of {}", self.nqn),
            || {
                let subsystems = fs::read_dir("/sys/class/nvme-subsystem").ok()?.flatten();
                let heads = subsystems
                    .map(|entry| entry.path())
                    .filter(|dir| self.owns(dir));
                let found = heads
                    .chain(self.controllers())
                    .find_map(|dir| block_device(&dir));
                found.filter(|device| device.exists())
            },
        )
    }

    /// ANA state of each path, such as `(nvme0c1n1, optimized)`.
    pub fn ana_states(&self) -> Result<Vec<(String, String)>> {
        let mut states = Vec::new();
        for controller in self.controllers() {
            for entry in fs::read_dir(&controller)
                .context("controller went away")?
                .flatten()
            {
                if let Ok(state) = fs::read_to_string(entry.path().join("ana_state")) {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    states.push((name, state.trim().to_owned()));
                }
            }
        }
        states.sort();
        Ok(states)
    }

    fn owns(&self, subsystem: &Path) -> bool {
        fs::read_to_string(subsystem.join("subsysnqn")).is_ok_and(|nqn| nqn.trim() == self.nqn)
    }
}

/// The first `nvmeXnY` below a sysfs directory; names of hidden per-path devices differ.
fn block_device(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let name = names.find(|name| {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let rest = name
            .strip_prefix("nvme")
            .and_then(|rest| rest.split_once('n'));
        rest.is_some_and(|(controller, namespace)| digits(controller) && digits(namespace))
    })?;
    Some(Path::new("/dev").join(name))
}

impl Drop for KernelHost {
    fn drop(&mut self) {
        if !self.controllers().is_empty() {
            drop(attempt(Command::new("nvme").args([
                "disconnect",
                "-n",
                &self.nqn,
            ])));
        }
    }
}
