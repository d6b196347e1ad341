//! What a volume's block device is made from, and what it turned out to be.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use umpath_core::{BlockLimits, VolumeShared};
use umpath_protocol::{ConnectOptions, Portal};
use umpath_session::{NamespaceFacts, StableId};

use crate::policy::VolumePolicy;

/// A path as it was requested.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Address and service of the portal.
    pub portal: Portal,
    /// NQN of the subsystem.
    pub nqn: String,
    /// Options of `umpath connect` or `[[connect]]`.
    pub options: ConnectOptions,
    /// The number operators know it by; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// A volume as one order built it or took it over.
///
/// Each such order is another incarnation: whatever its queue threads, its memory and its block
/// device report later cannot be taken for news of a later volume of the same namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeKey {
    /// Identity of the namespace.
    pub id: StableId,
    /// Counts the orders of this process, from 1.
    pub incarnation: u64,
}

impl std::fmt::Display for VolumeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.id, self.incarnation)
    }
}

/// What a volume is, whoever serves it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Identity of the namespace.
    pub id: StableId,
    /// Name of the volume.
    pub name: String,
    /// NQN of the subsystem.
    pub nqn: String,
    /// Serial number of the subsystem.
    pub serial: String,
    /// Model of its controllers.
    pub model: String,
    /// Firmware revision of its controllers.
    pub firmware: String,
    /// NSID where the namespace was found first.
    pub nsid: u32,
    /// Size, format and identity of the namespace.
    pub namespace: NamespaceFacts,
    /// Limits of the block device.
    pub limits: BlockLimits,
}

/// Everything needed to create a volume.
#[derive(Debug, Clone)]
pub struct VolumeSpec {
    /// What it is; recorded with it.
    pub facts: VolumeFacts,
    /// See [`VolumeKey`]; set by each order that names this specification.
    pub incarnation: u64,
    /// Queues to create; for a device taken over, the driver's count applies.
    pub queues: u16,
    /// Requests per queue.
    pub depth: u16,
    /// Policies in force when it was created.
    pub policy: VolumePolicy,
    /// Paths of its subsystem when it was first seen, for its record.
    pub paths: Vec<Asked>,
    /// State shared by the queue threads and the host.
    pub shared: Arc<VolumeShared>,
}

impl VolumeSpec {
    /// The volume this specification builds.
    pub fn key(&self) -> VolumeKey {
        VolumeKey {
            id: self.id,
            incarnation: self.incarnation,
        }
    }
}

impl Deref for VolumeSpec {
    type Target = VolumeFacts;

    fn deref(&self) -> &VolumeFacts {
        &self.facts
    }
}

/// A block device with its queue threads, created or taken over.
#[derive(Debug, Clone)]
pub struct DeviceFacts {
    /// Number of the block device.
    pub device: u32,
    /// Its queues; the driver may have created fewer than requested.
    pub queues: u16,
    /// Cookie the driver stores with it.
    pub cookie: u64,
}
