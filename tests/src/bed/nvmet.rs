//! The kernel's own NVMe target, through configfs.
//!
//! One subsystem with one namespace, and one port per portal. Every port has ANA group 1, whose
//! state can be changed at any time; the kernel notifies connected hosts.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::kernel::{load, mount_configfs};
use super::network::{Network, Side};

const NVMET: &str = "/sys/kernel/config/nvmet";
/// The port that IANA assigned to NVMe over Fabrics.
const SERVICE: &str = "4420";

/// State of an ANA group on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnaState {
    /// Best performance.
    Optimized,
    /// Usable, but slower.
    NonOptimized,
    /// Unusable for now.
    Inaccessible,
    /// Permanently unusable.
    PersistentLoss,
    /// Changing to another state.
    Change,
}

impl fmt::Display for AnaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
            Self::PersistentLoss => "persistent-loss",
            Self::Change => "change",
        })
    }
}

/// A running export; dropping removes it.
#[derive(Debug)]
pub struct Nvmet {
    subsystem: PathBuf,
    ports: Vec<PathBuf>,
}

impl Nvmet {
    /// Exports `device` as namespace 1 of subsystem `nqn` over RDMA: on the array's end of cable 1
    /// with the first ANA state, of cable 2 with the second, and so on.
    pub fn start(network: &Network, nqn: &str, device: &Path, states: &[AnaState]) -> Result<Self> {
        mount_configfs()?;
        load(&["nvmet", "nvmet-rdma"])?;
        let root = Path::new(NVMET);
        let mut target = Self {
            subsystem: root.join("subsystems").join(nqn),
            ports: Vec::new(),
        };
        make(&target.subsystem)?;
        set(&target.subsystem.join("attr_allow_any_host"), "1")?;
        let namespace = target.subsystem.join("namespaces/1");
        make(&namespace)?;
        set(&namespace.join("device_path"), &device.to_string_lossy())?;
        set(&namespace.join("enable"), "1")?;
        for (number, state) in (1..).zip(states) {
            let address = network.cable(number).address(Side::Array);
            let port = root.join("ports").join(format!("{number}"));
            make(&port)?;
            target.ports.push(port.clone());
            set(&port.join("addr_trtype"), "rdma")?;
            set(&port.join("addr_adrfam"), "ipv4")?;
            set(&port.join("addr_traddr"), &address.to_string())?;
            set(&port.join("addr_trsvcid"), SERVICE)?;
            set(&port.join("ana_groups/1/ana_state"), &state.to_string())?;
            let link = port.join("subsystems").join(nqn);
            std::os::unix::fs::symlink(&target.subsystem, &link)
                .with_context(|| format!("nvmet cannot listen on {address} port {SERVICE}"))?;
        }
        Ok(target)
    }

    /// Changes the ANA state of a port, counted from 1.
    pub fn set_ana(&self, port: usize, state: AnaState) -> Result<()> {
        let port = self.ports.get(port - 1).context("no such port")?;
        set(&port.join("ana_groups/1/ana_state"), &state.to_string())
    }

    /// The UUID of the namespace.
    pub fn uuid(&self) -> Result<String> {
        let file = self.subsystem.join("namespaces/1/device_uuid");
        let text = fs::read_to_string(&file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        Ok(text.trim().to_owned())
    }

    /// Deletes the namespace and, if `uuid` is given, gives its NSID to another one. Hosts are
    /// notified.
    pub fn replace_namespace(&self, uuid: Option<&str>) -> Result<()> {
        let namespace = self.subsystem.join("namespaces/1");
        set(&namespace.join("enable"), "0")?;
        let Some(uuid) = uuid else { return Ok(()) };
        set(&namespace.join("device_uuid"), uuid)?;
        set(&namespace.join("enable"), "1")
    }

    /// Removes a port, counted from 1, from the subsystem: its controllers end at once.
    pub fn withdraw(&self, port: usize) -> Result<()> {
        let link = self.link(port)?;
        fs::remove_file(&link).with_context(|| format!("cannot remove {}", link.display()))
    }

    /// Adds a removed port to the subsystem again.
    pub fn offer(&self, port: usize) -> Result<()> {
        let link = self.link(port)?;
        std::os::unix::fs::symlink(&self.subsystem, &link)
            .with_context(|| format!("cannot create {}", link.display()))
    }

    fn link(&self, port: usize) -> Result<PathBuf> {
        let port = self.ports.get(port - 1).context("no such port")?;
        let name = self.subsystem.file_name().context("no subsystem")?;
        Ok(port.join("subsystems").join(name))
    }
}

impl Drop for Nvmet {
    fn drop(&mut self) {
        if let Err(error) = dismantle(&self.subsystem, &self.ports) {
            eprintln!("bed: {error:#}");
        }
    }
}

fn dismantle(subsystem: &Path, ports: &[PathBuf]) -> Result<()> {
    for port in ports {
        for link in fs::read_dir(port.join("subsystems"))
            .into_iter()
            .flatten()
            .flatten()
        {
            drop(fs::remove_file(link.path()));
        }
        fs::remove_dir(port).with_context(|| format!("cannot remove {}", port.display()))?;
    }
    let namespace = subsystem.join("namespaces/1");
    if namespace.exists() {
        fs::remove_dir(&namespace)
            .with_context(|| format!("cannot remove {}", namespace.display()))?;
    }
    if subsystem.exists() {
        fs::remove_dir(subsystem)
            .with_context(|| format!("cannot remove {}", subsystem.display()))?;
    }
    Ok(())
}

/// Removes every subsystem and port of the kernel's target.
pub(super) fn sweep() {
    let list = |what: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(Path::new(NVMET).join(what));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    };
    let ports = list("ports");
    for subsystem in list("subsystems") {
        drop(dismantle(&subsystem, &ports));
    }
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))
}

fn set(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).with_context(|| format!("{} refuses `{value}`", file.display()))
}
