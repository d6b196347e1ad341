//! Subsystems and their namespaces, as configured.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::gate::board::Board;
use crate::model::{AnaMap, Eui64, Geometry, Nguid, PortId};

/// A namespace.
#[derive(Debug, Clone)]
pub struct Namespace<M> {
    /// Namespace identifier.
    pub nsid: u32,
    /// ANA group.
    pub ana_group: u32,
    /// UUID.
    pub uuid: Uuid,
    /// NGUID.
    pub nguid: Nguid,
    /// EUI-64.
    pub eui64: Option<Eui64>,
    /// Block size, capacity and cache.
    pub geometry: Geometry,
    /// Its backing store.
    pub media: M,
    /// The backing store in words.
    pub description: String,
}

/// A subsystem.
#[derive(Debug, Clone)]
pub struct Subsystem<M> {
    /// NVMe qualified name.
    pub nqn: String,
    /// Serial number.
    pub serial: String,
    /// Model number.
    pub model: String,
    /// Any host may connect.
    pub allow_any_host: bool,
    /// Hosts that may connect.
    pub hosts: BTreeSet<String>,
    /// Ports it is reachable through.
    pub ports: BTreeSet<PortId>,
    /// ANA states.
    pub ana: AnaMap,
    /// Command quiesce time in milliseconds.
    pub cqt_ms: u16,
    /// Cross-controller reset is offered.
    pub ccr: bool,
    /// Where the gates of its controllers are.
    pub board: Board,
    /// Namespaces.
    pub namespaces: BTreeMap<u32, Namespace<M>>,
}

impl<M> Subsystem<M> {
    /// ANA groups that have namespaces or a state of their own, in rising order.
    pub fn ana_groups(&self) -> BTreeSet<u32> {
        let members = self
            .namespaces
            .values()
            .map(|namespace| namespace.ana_group);
        members.chain(self.ana.groups()).collect()
    }

    pub(crate) fn allows(&self, host: &str) -> bool {
        self.allow_any_host || self.hosts.contains(host)
    }
}
