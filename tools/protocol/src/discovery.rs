//! Discovery log pages as they travel to the command line (NVMe Base 2.x, Discovery Log Page).

use serde::{Deserialize, Serialize};

/// The discovery log page of one portal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryListing {
    /// The portal asked, `rdma,192.168.10.14:4420`.
    pub portal: String,
    /// Generation counter of the log.
    pub genctr: u64,
    /// Its entries, in the order of the log.
    pub records: Vec<DiscoveryRecord>,
}

/// One entry. The words are nvme-cli's (`ipv4`, `nvme subsystem`, `not specified`).
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
    /// Port of the subsystem.
    pub portid: u16,
    /// Transport service, `4420`.
    pub trsvcid: String,
    /// Name of the subsystem.
    pub subnqn: String,
    /// Transport address.
    pub traddr: String,
    /// Entry flags, `none` or a comma separated list.
    pub eflags: String,
    /// RDMA provider type, when the transport is RDMA.
    pub rdma_prtype: String,
    /// RDMA queue pair type, when the transport is RDMA.
    pub rdma_qptype: String,
    /// RDMA connection management service, when the transport is RDMA.
    pub rdma_cms: String,
    /// RDMA partition key, when the transport is RDMA.
    pub rdma_pkey: u16,
}
