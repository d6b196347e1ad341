//! Discovery log pages as sent to the command line (NVMe Base 2.x, Discovery Log Page).

use serde::{Deserialize, Serialize};

/// The discovery log page of one portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryListing {
    /// The portal that was read, `rdma,192.168.10.14:4420`.
    pub portal: String,
    /// Generation counter of the log.
    pub genctr: u64,
    /// Log entries, in log order.
    pub records: Vec<DiscoveryRecord>,
}

/// One log entry, with field values spelled as in nvme-cli (`ipv4`, `nvme subsystem`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryRecord {
    /// Transport type, `rdma`.
    pub trtype: String,
    /// Address family, `ipv4`.
    pub adrfam: String,
    /// Subsystem type, `nvme subsystem`.
    pub subtype: String,
    /// Secure channel requirement, `not specified`.
    pub treq: String,
    /// Port identifier within the subsystem.
    pub portid: u16,
    /// Transport service, `4420`.
    pub trsvcid: String,
    /// NQN of the subsystem.
    pub subnqn: String,
    /// Transport address.
    pub traddr: String,
    /// Entry flags, `none` or a comma separated list.
    pub eflags: String,
    /// RDMA provider type, if the transport is RDMA.
    pub rdma_prtype: String,
    /// RDMA queue pair type, if the transport is RDMA.
    pub rdma_qptype: String,
    /// RDMA connection management service, if the transport is RDMA.
    pub rdma_cms: String,
    /// RDMA partition key, if the transport is RDMA.
    pub rdma_pkey: u16,
}
