//! Devices that make no connections any more.
//!
//! A device's connections are made by messages of the kernel's connection manager, which all go
//! through one queue pair of the kernel's, the *management queue pair* (QP1, "GSI"). soft-RoCE moves
//! it to the error state when it cannot send such a message: the interface is switched off or has lost
//! its address, or a firewall refuses the packet. The kernel never moves it back (seen on Linux 7.2
//! and 7.3): from then on requests to connect over the device are neither sent nor received, by
//! whatever process, and both ends wait in vain. Existing connections go on. Only a new device ends
//! that.
//!
//! `verbs::linger` avoids such messages where that is ours to decide. It is not where the kernel
//! repeats an unanswered message, or disconnects for a process that ends.
//!
//! Decided here: when a device counts as dead, and when it may be replaced. It may when no queue pair
//! on it, of any process, has a connection: then it is of no use to anybody. Not decided here: when
//! to check, and whether to replace at all
//! (docs/decisions/0010).
//!
//! A hardware device never counts as dead, whatever state its queue pairs are in: only soft-RoCE has
//! the fault, only soft-RoCE names its interface as `parent` in sysfs, and the kernel refuses to delete
//! a device of a driver that does not permit it.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use crate::netlink::{QueuePair, RdmaNetlink};

/// `IB_QPT_SMI` and `IB_QPT_GSI`: the kernel's own.
const SUBNET_MANAGEMENT: u8 = 0;
const GENERAL_MANAGEMENT: u8 = 1;
/// `IB_QPS_RTR` to `IB_QPS_SQE`: the states of a queue pair that has a connection.
const CONNECTED: std::ops::RangeInclusive<u8> = 2..=5;
/// `IB_QPS_ERR`.
const ERROR: u8 = 6;

const DEVICES: &str = "/sys/class/infiniband";

/// A soft-RoCE device whose management queue pair is in the error state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadDevice {
    /// The device.
    pub device: String,
    /// The network interface it is on.
    pub interface: String,
    /// Queue pairs on it that have a connection, of all processes.
    pub connections: usize,
}

impl fmt::Display for DeadDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            device, interface, ..
        } = self;
        write!(
            f,
            "{device} makes no connections any more: soft-RoCE left its management queue pair in \
             the error state when a message could not be sent (`rdma resource show qp`, type GSI), \
             as when {interface} is down; `rdma link delete {device} && rdma link add {device} \
             type rxe netdev {interface}` ends that"
        )?;
        match self.connections {
            0 => Ok(()),
            1 => f.write_str(", and the connection over it"),
            number => write!(f, ", and the {number} connections over it"),
        }
    }
}

/// Why a dead device was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// Its interface is down, and what it sends meanwhile would only kill the next one.
    #[error("it was left alone because its interface has no link")]
    NoLink,
    /// Somebody still uses it.
    #[error("it was left alone because it has connections")]
    InUse,
    /// The device of this name is another one now.
    #[error("it is another device now")]
    Changed,
    /// It could not be deleted, or not even be asked about.
    #[error("it could not be deleted: {0}")]
    Refused(#[source] io::Error),
    /// It is deleted, and could not be added again.
    #[error("it is deleted now, and could not be added again: {0}")]
    Lost(#[source] io::Error),
}

impl DeadDevice {
    /// Checks whether a device is dead; changes nothing. `None` also when the kernel does not say, and
    /// for hardware, which has no such fault.
    pub fn find(device: &str) -> Option<Self> {
        let interface = interface_of(Path::new(DEVICES), device)?;
        let kernel = RdmaNetlink::open().ok()?;
        let index = kernel.index_of(device).ok()??;
        let pairs = kernel.queue_pairs(index).ok()?;
        is_dead(&pairs).then(|| Self {
            device: device.to_owned(),
            interface,
            connections: connections(&pairs),
        })
    }

    /// Deletes the device and adds it again, unless somebody has a connection over it. Listeners on
    /// it are notified of its removal. Takes as long as the kernel takes to release it.
    ///
    /// Invasive: for a test array only, and never for a host that merely uses the device.
    pub fn replace(&self) -> Result<(), ReplaceError> {
        if !has_carrier(&self.interface) {
            return Err(ReplaceError::NoLink);
        }
        let kernel = RdmaNetlink::open().map_err(ReplaceError::Refused)?;
        let index = kernel
            .index_of(&self.device)
            .map_err(ReplaceError::Refused)?;
        if let Some(index) = index {
            // As it is now: another process may have replaced it, under this name or another.
            if interface_of(Path::new(DEVICES), &self.device).as_ref() != Some(&self.interface) {
                return Err(ReplaceError::Changed);
            }
            let pairs = kernel.queue_pairs(index).map_err(ReplaceError::Refused)?;
            if !is_dead(&pairs) {
                return Ok(());
            }
            if connections(&pairs) > 0 {
                return Err(ReplaceError::InUse);
            }
            kernel.delete_link(index).map_err(ReplaceError::Refused)?;
        }
        match kernel.add_soft_roce(&self.device, &self.interface) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(ReplaceError::Lost(error))
            }
            _ => Ok(()),
        }
    }
}

/// The interface under a soft-RoCE device; no other RDMA driver has this attribute.
fn interface_of(devices: &Path, device: &str) -> Option<String> {
    let attribute = devices.join(device).join("parent");
    let interface = fs::read_to_string(attribute).ok()?;
    Some(interface.trim().to_owned()).filter(|name| !name.is_empty())
}

/// An interface that is switched off has no carrier to read.
fn has_carrier(interface: &str) -> bool {
    let attribute = Path::new("/sys/class/net").join(interface).join("carrier");
    fs::read_to_string(attribute).is_ok_and(|text| text.trim() == "1")
}

fn is_dead(pairs: &[QueuePair]) -> bool {
    pairs
        .iter()
        .any(|pair| pair.kind == GENERAL_MANAGEMENT && pair.state == ERROR)
}

fn connections(pairs: &[QueuePair]) -> usize {
    let own = [SUBNET_MANAGEMENT, GENERAL_MANAGEMENT];
    pairs
        .iter()
        .filter(|pair| !own.contains(&pair.kind) && CONNECTED.contains(&pair.state))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELIABLE: u8 = 2;

    fn pair(kind: u8, state: u8) -> QueuePair {
        QueuePair { kind, state }
    }

    #[test]
    fn a_device_is_dead_when_its_management_is_and_not_for_a_connection_in_error() {
        let works = pair(GENERAL_MANAGEMENT, 3);
        assert!(!is_dead(&[]));
        assert!(!is_dead(&[works, pair(RELIABLE, ERROR)]));
        assert!(is_dead(&[
            pair(RELIABLE, 3),
            pair(GENERAL_MANAGEMENT, ERROR)
        ]));
    }

    #[test]
    fn only_what_is_connected_keeps_a_device_from_being_replaced() {
        let failed = pair(GENERAL_MANAGEMENT, ERROR);
        let subnet = pair(SUBNET_MANAGEMENT, 3);
        // Connections in the making, and ones that are over.
        let others = [pair(RELIABLE, 0), pair(RELIABLE, 1), pair(RELIABLE, ERROR)];
        assert_eq!(connections(&[&[failed, subnet], &others[..]].concat()), 0);
        for state in [2, 3, 4, 5] {
            assert_eq!(connections(&[failed, pair(RELIABLE, state)]), 1);
        }
    }

    #[test]
    fn the_words_name_the_commands_and_what_they_cost() {
        let mut dead = DeadDevice {
            device: "rxe0".to_owned(),
            interface: "eth1".to_owned(),
            connections: 0,
        };
        let words = dead.to_string();
        assert!(
            words.ends_with(
                "`rdma link delete rxe0 && rdma link add rxe0 type rxe netdev eth1` ends that"
            ),
            "{words}"
        );
        dead.connections = 3;
        let words = dead.to_string();
        assert!(
            words.ends_with("ends that, and the 3 connections over it"),
            "{words}"
        );
    }

    #[test]
    fn only_soft_roce_has_an_interface_to_be_found_by() {
        let root = std::env::temp_dir().join(format!("umpath-management-{}", std::process::id()));
        for device in ["mlx5_0", "rxe0", "nameless"] {
            fs::create_dir_all(root.join(device)).unwrap();
        }
        // What a hardware device has instead.
        fs::write(root.join("mlx5_0/fw_ver"), "16.35.2000\n").unwrap();
        fs::write(root.join("rxe0/parent"), "eth1\n").unwrap();
        fs::write(root.join("nameless/parent"), "\n").unwrap();
        let found = ["mlx5_0", "rxe0", "nameless", ""].map(|device| interface_of(&root, device));
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, [None, Some("eth1".to_owned()), None, None]);
    }

    #[test]
    fn a_device_that_is_not_there_is_not_dead() {
        assert_eq!(DeadDevice::find("no-such-device"), None);
    }
}
