//! Everything that stays the same over a path's life.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use umpath_core::association::HealthConfig;
use umpath_nvme::Nqn;
use umpath_session::{ReconnectPolicy, SessionConfig};

/// A path's configuration.
#[derive(Debug, Clone)]
pub struct PathSpec {
    /// Host-wide path number.
    pub id: u32,
    /// The controller's address.
    pub traddr: SocketAddr,
    /// Local address, if one was chosen.
    pub host_traddr: Option<IpAddr>,
    /// NQN of the subsystem.
    pub nqn: Nqn,
    /// Session parameters: queues, timeouts, host identity.
    pub session: SessionConfig,
    /// Pauses between attempts, and when to give up.
    pub reconnect: ReconnectPolicy,
    /// Thresholds at which evidence becomes a verdict.
    pub health: HealthConfig,
    /// Longest wait for a queue pair being torn down.
    pub drain_deadline: Duration,
    /// Preferred by configuration.
    pub preferred: bool,
    /// Priority for the `weighted` prioritizer.
    pub weight: i32,
    /// Throughput relative to other paths, 0 to 100.
    pub throughput: u8,
}

impl PathSpec {
    /// `rdma,192.168.10.14:4420`
    pub fn address(&self) -> String {
        format!("rdma,{}", self.traddr)
    }

    /// Whether both have the same addresses and subsystem.
    pub(crate) fn leads_where(&self, other: &Self) -> bool {
        self.traddr == other.traddr
            && self.host_traddr == other.host_traddr
            && self.nqn == other.nqn
    }
}
