//! What `umpath-target show` prints: the whole array at one moment.

use serde::{Deserialize, Serialize};

use super::Array;
use crate::model::AnaState;

/// The whole array.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Version of this format.
    pub version: u32,
    /// Ports.
    pub ports: Vec<PortReport>,
    /// Subsystems.
    pub subsystems: Vec<SubsystemReport>,
    /// Connected controllers.
    pub controllers: Vec<ControllerReport>,
}

/// A port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortReport {
    /// Identifier.
    pub id: u16,
    /// Transport type.
    pub trtype: String,
    /// Address.
    pub traddr: String,
    /// Service number.
    pub trsvcid: u16,
    /// What keeps hosts from connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// How often its soft-RoCE device was deleted and added again (`rdma.replace_dead_devices`).
    #[serde(default)]
    pub device_replaced: u32,
}

/// A subsystem.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubsystemReport {
    /// NVMe qualified name.
    pub nqn: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Any host may connect.
    pub allow_any_host: bool,
    /// Hosts that may connect.
    pub hosts: Vec<String>,
    /// Ports it is reachable through.
    pub ports: Vec<u16>,
    /// Namespaces.
    pub namespaces: Vec<NamespaceReport>,
    /// ANA state of each group in use on each port.
    pub ana: Vec<AnaReport>,
}

/// A namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NamespaceReport {
    /// Namespace identifier.
    pub nsid: u32,
    /// ANA group.
    pub ana_group: u32,
    /// Block size in bytes.
    pub block_bytes: u32,
    /// Capacity in blocks.
    pub blocks: u64,
    /// UUID.
    pub uuid: String,
    /// NGUID.
    pub nguid: String,
    /// EUI-64.
    pub eui64: Option<String>,
    /// Backing store.
    pub backend: String,
}

/// The state of one ANA group on one port.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AnaReport {
    /// Port.
    pub port: u16,
    /// Group.
    pub group: u32,
    /// State.
    pub state: AnaState,
}

/// A connected controller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ControllerReport {
    /// Identifier.
    pub cntlid: u16,
    /// Subsystem; absent on a discovery controller.
    pub nqn: Option<String>,
    /// Port the host came through.
    pub port: u16,
    /// Host.
    pub host: String,
    /// Keep-alive timeout in milliseconds, 0 when there is none.
    pub kato_ms: u32,
    /// Connected I/O queues.
    pub io_queues: usize,
    /// Commands on the media now.
    pub on_media: u32,
}

impl<M: Clone> Array<M> {
    /// The whole array as of now.
    pub fn report(&self) -> Report {
        Report {
            version: 1,
            ports: self
                .ports
                .iter()
                .map(|(port, address)| PortReport {
                    id: port.0,
                    trtype: "rdma".to_owned(),
                    traddr: address.ip().to_string(),
                    trsvcid: address.port(),
                    trouble: None,
                    device_replaced: 0,
                })
                .collect(),
            subsystems: self
                .subsystems
                .values()
                .map(super::Subsystem::report)
                .collect(),
            controllers: self
                .controllers
                .iter()
                .map(|(cntlid, controller)| ControllerReport {
                    cntlid: *cntlid,
                    nqn: controller.subsystem.clone(),
                    port: controller.port.0,
                    host: controller.host.clone(),
                    kato_ms: controller.kato_ms(),
                    io_queues: controller.io_queues(),
                    on_media: controller.shared().gate.in_flight(),
                })
                .collect(),
        }
    }
}

impl<M> super::Subsystem<M> {
    fn report(&self) -> SubsystemReport {
        let groups = self.ana_groups();
        SubsystemReport {
            nqn: self.nqn.clone(),
            serial: self.serial.clone(),
            model: self.model.clone(),
            allow_any_host: self.allow_any_host,
            hosts: self.hosts.iter().cloned().collect(),
            ports: self.ports.iter().map(|port| port.0).collect(),
            namespaces: self
                .namespaces
                .values()
                .map(|namespace| NamespaceReport {
                    nsid: namespace.nsid,
                    ana_group: namespace.ana_group,
                    block_bytes: namespace.geometry.block_bytes,
                    blocks: namespace.geometry.blocks,
                    uuid: namespace.uuid.to_string(),
                    nguid: namespace.nguid.to_string(),
                    eui64: namespace.eui64.map(|eui64| eui64.to_string()),
                    backend: namespace.description.clone(),
                })
                .collect(),
            ana: self
                .ports
                .iter()
                .flat_map(|port| groups.iter().map(move |group| (*port, *group)))
                .map(|(port, group)| AnaReport {
                    port: port.0,
                    group,
                    state: self.ana.state(port, group),
                })
                .collect(),
        }
    }
}
