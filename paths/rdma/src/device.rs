//! The machine's RDMA devices: what they are, and what happens to them.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use crate::verbs::{OwnContext, VerbsError};

/// An RDMA device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaDevice {
    /// For instance `mlx5_0` or `rxe0`.
    pub name: String,
    /// Network interfaces its ports are on.
    pub interfaces: Vec<String>,
    /// Addresses in its GID tables.
    pub addresses: Vec<IpAddr>,
    /// State of the first port, for instance `ACTIVE`.
    pub state: String,
}

impl fmt::Display for RdmaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on {} ({}",
            self.name,
            self.interfaces.join("+"),
            self.state
        )?;
        for address in &self.addresses {
            write!(f, ", {address}")?;
        }
        f.write_str(")")
    }
}

/// The RDMA devices this process can see; empty when there is none.
pub fn rdma_devices() -> Vec<RdmaDevice> {
    devices_under(Path::new("/sys/class/infiniband"))
}

/// The devices in one line, for messages.
pub(crate) fn devices_in_words() -> String {
    let devices = rdma_devices();
    if devices.is_empty() {
        return "none".to_owned();
    }
    devices
        .iter()
        .map(RdmaDevice::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

fn devices_under(class: &Path) -> Vec<RdmaDevice> {
    let mut devices: Vec<_> = names(class)
        .into_iter()
        .map(|name| device(class, name))
        .collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

fn device(class: &Path, name: String) -> RdmaDevice {
    let ports = class.join(&name).join("ports");
    let mut found = RdmaDevice {
        name,
        interfaces: vec![],
        addresses: vec![],
        state: String::new(),
    };
    for port in names(&ports) {
        let port = ports.join(port);
        if found.state.is_empty() {
            // "4: ACTIVE"
            let state = text(&port.join("state"));
            found
                .state
                .push_str(state.rsplit(' ').next().unwrap_or_default());
        }
        for index in names(&port.join("gids")) {
            let interface = text(&port.join("gid_attrs/ndevs").join(&index));
            if !interface.is_empty() && !found.interfaces.contains(&interface) {
                found.interfaces.push(interface);
            }
            let Some(address) = parse_gid(&text(&port.join("gids").join(&index))) else {
                continue;
            };
            if !found.addresses.contains(&address) {
                found.addresses.push(address);
            }
        }
    }
    found.interfaces.sort();
    found.addresses.sort();
    found
}

/// A GID as an address: mapped IPv4 as IPv4; unused and link-local entries are left out.
fn parse_gid(gid: &str) -> Option<IpAddr> {
    let v6: Ipv6Addr = gid.parse().ok()?;
    if let Some(v4) = v6.to_ipv4_mapped() {
        return Some(v4.into());
    }
    (!v6.is_unspecified() && !v6.is_unicast_link_local() && v6.segments()[0] != 0)
        .then_some(v6.into())
}

/// Whether a device hands its packets to the network stack of this machine, as soft-RoCE and soft-iWARP
/// do. They may wait there for a neighbour, for seconds, and leave after the queue pair is in the error
/// state; only its destruction waits for them.
pub(crate) fn leaves_packets_behind(name: &str) -> bool {
    is_virtual(Path::new("/sys/class/infiniband"), name)
}

/// Devices in software have no device below them.
fn is_virtual(class: &Path, name: &str) -> bool {
    !class.join(name).join("device").exists()
}

fn names(directory: &Path) -> Vec<String> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// A sysfs attribute; empty when it cannot be read, as for unused GID table entries.
fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Port and device events of one device.
///
/// Opens a context of its own, so any number of readers get every event. The descriptor is
/// readable when [`AsyncEvents::handle_readable`] has something.
#[derive(Debug)]
pub struct AsyncEvents {
    device: String,
    context: OwnContext,
}

/// Something that happened to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceEvent {
    /// The device's name.
    pub device: String,
    /// What happened.
    pub kind: DeviceEventKind,
}

/// What can happen to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceEventKind {
    /// The port lost its link.
    PortError {
        /// Port number, from 1.
        port: u8,
    },
    /// The port has its link back.
    PortActive {
        /// Port number, from 1.
        port: u8,
    },
    /// The port's addresses changed.
    AddressesChanged {
        /// Port number, from 1.
        port: u8,
    },
    /// The device is broken or was removed: every queue on it is dead.
    DeviceFatal,
    /// Something of no consequence here (`ibv_event_type`).
    Other(u32),
}

impl AsyncEvents {
    /// Watches the device called `device`.
    pub fn open(device: &str) -> Result<Self, VerbsError> {
        Ok(Self {
            device: device.to_owned(),
            context: OwnContext::open(device)?,
        })
    }

    /// Name of the device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Readable when an event waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.context.as_fd()
    }

    /// The next event; `None` when none waits. Call until it says so.
    pub fn handle_readable(&mut self) -> Result<Option<DeviceEvent>, VerbsError> {
        Ok(self.context.next_event()?.map(|(kind, port)| DeviceEvent {
            device: self.device.clone(),
            kind: DeviceEventKind::from_raw(kind, port),
        }))
    }
}

impl DeviceEventKind {
    /// Numbers of `ibv_event_type`.
    fn from_raw(kind: u32, port: u8) -> Self {
        match kind {
            8 => Self::DeviceFatal,
            9 => Self::PortActive { port },
            10 => Self::PortError { port },
            11 | 18 => Self::AddressesChanged { port },
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_in_software_has_none_below_it() {
        let class = std::env::temp_dir().join(format!("infiniband-{}", std::process::id()));
        fs::create_dir_all(class.join("mlx5_0/device")).unwrap();
        fs::create_dir_all(class.join("rxe0")).unwrap();
        assert!(!is_virtual(&class, "mlx5_0"));
        assert!(is_virtual(&class, "rxe0"));
        fs::remove_dir_all(&class).unwrap();
    }

    #[test]
    fn gids_become_addresses() {
        let mapped = "0000:0000:0000:0000:0000:ffff:0a09:0102";
        assert_eq!(parse_gid(mapped), Some("10.9.1.2".parse().unwrap()));
        assert_eq!(parse_gid("fe80:0000:0000:0000:5054:00ff:fe00:0001"), None);
        assert_eq!(parse_gid("0000:0000:0000:0000:0000:0000:0000:0000"), None);
        assert_eq!(parse_gid("fd00::7"), Some("fd00::7".parse().unwrap()));
        assert_eq!(parse_gid("nonsense"), None);
    }

    #[test]
    fn a_machine_without_devices_has_none() {
        assert_eq!(devices_under(Path::new("/nonexistent")), []);
    }
}
