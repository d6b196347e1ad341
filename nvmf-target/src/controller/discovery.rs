//! The discovery log: what a host finds at the port it asks.
//!
//! A port shows the subsystems reachable through itself that the host may use, and nothing of other
//! ports: the way a volume is reached is chosen by choosing the portal.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use umpath_nvme::log::discovery::{adrfam, subtype, treq, trtype};
use umpath_nvme::log::{DiscoveryEntry, DiscoveryHeader};
use umpath_nvme::{IntoBytes, Nqn, U16};

use crate::model::PortId;
use crate::subsystem::Subsystem;

/// What can be discovered.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a, M> {
    pub(crate) ports: &'a BTreeMap<PortId, SocketAddr>,
    pub(crate) subsystems: &'a BTreeMap<String, Subsystem<M>>,
    pub(crate) generation: u64,
}

impl<M> Directory<'_, M> {
    fn entries(&self, port: PortId, host: &str) -> Vec<DiscoveryEntry> {
        let Some(address) = self.ports.get(&port) else {
            return Vec::new();
        };
        let family = if address.is_ipv4() {
            adrfam::IPV4
        } else {
            adrfam::IPV6
        };
        self.subsystems
            .values()
            .filter(|subsystem| subsystem.ports.contains(&port) && subsystem.allows(host))
            .filter_map(|subsystem| Nqn::new(&subsystem.nqn).ok())
            .map(|nqn| {
                let mut entry = DiscoveryEntry::new(
                    trtype::RDMA,
                    family,
                    subtype::NVM,
                    &nqn,
                    &address.ip().to_string(),
                    &address.port().to_string(),
                );
                entry.portid = U16::new(port.0);
                entry.treq = treq::SQ_FLOW_CONTROL_DISABLE;
                entry
            })
            .collect()
    }

    /// The log as `host` sees it through `port`.
    pub(crate) fn log(&self, port: PortId, host: &str) -> Vec<u8> {
        let entries = self.entries(port, host);
        let header = DiscoveryHeader::new(self.generation, entries.len() as u64);
        let mut log = header.as_bytes().to_vec();
        for entry in &entries {
            log.extend_from_slice(entry.as_bytes());
        }
        log
    }
}
