//! What has to survive this process: the associations its successor must fence before it writes, and
//! the volumes it takes over.
//!
//! Decided here: what is written down. When it has to be durable is the host's order; how it is
//! written is the shell's.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use umpath_core::association::{FenceTerms, quiesce_floor};
use umpath_core::{AssociationId, BlockLimits};
use umpath_nvme::command::Instance;
use umpath_protocol::{ConnectOptions, Portal};
use umpath_session::{ControllerFacts, NamespaceFacts, StableId};

use crate::volume::VolumeSpec;

/// Raised when a field changes its meaning.
pub const VERSION: u32 = 1;

/// Which association record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKey {
    /// Of an association of this process.
    Own(AssociationId),
    /// Of an earlier process, by the number the shell gave it.
    Inherited(u64),
}

/// What a fence needs to know of an association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssociationRecord {
    /// [`VERSION`].
    pub version: u32,
    /// The subsystem.
    pub nqn: String,
    /// The path, for humans.
    pub address: String,
    cntlid: u16,
    ciu: u8,
    cirn: u64,
    /// Absent: the controller has no keep-alive timer.
    kato_ms: Option<u64>,
    traffic_based: bool,
    cqt_ms: u64,
}

impl AssociationRecord {
    /// The record of an association that has just become ready.
    #[must_use]
    pub fn new(nqn: &str, address: String, facts: &ControllerFacts) -> Self {
        Self {
            version: VERSION,
            nqn: nqn.to_owned(),
            address,
            cntlid: facts.cntlid,
            ciu: facts.ciu,
            cirn: facts.cirn,
            kato_ms: facts.kato.map(|kato| kato.as_millis() as u64),
            traffic_based: facts.traffic_based,
            cqt_ms: facts.cqt.as_millis() as u64,
        }
    }

    /// The incarnation to be fenced.
    pub fn instance(&self) -> Instance {
        Instance {
            cntlid: self.cntlid,
            ciu: self.ciu,
            cirn: self.cirn,
        }
    }

    /// What its controller promised about ending by itself.
    pub fn terms(&self, floor: Option<Duration>) -> Option<FenceTerms> {
        let kato = Duration::from_millis(self.kato_ms?);
        // Rounded to the controller's granularity already.
        let unit = 1;
        let cqt = Duration::from_millis(self.cqt_ms);
        let floor = quiesce_floor(floor, cqt);
        FenceTerms::new(kato, unit, self.traffic_based, cqt, floor)
    }
}

/// A path as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Where.
    pub portal: Portal,
    /// Which subsystem.
    pub nqn: String,
    /// How.
    pub options: ConnectOptions,
    /// The number people know it by; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// What is kept of a volume. What the configuration decides is not: it is read anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// [`VERSION`].
    pub version: u32,
    /// Number of the block device.
    pub device: u32,
    /// What the driver keeps with it.
    pub cookie: u64,
    /// Identity.
    pub id: StableId,
    /// Name.
    pub name: String,
    /// Subsystem.
    pub nqn: String,
    /// Serial number of the subsystem.
    pub serial: String,
    /// Model of its controllers.
    pub model: String,
    /// Their firmware.
    pub firmware: String,
    /// Namespace identifier, where it was found first.
    pub nsid: u32,
    /// What is known of the namespace.
    pub namespace: NamespaceFacts,
    /// How it appears to the kernel.
    pub limits: BlockLimits,
    /// Paths to ask for again.
    pub paths: Vec<Asked>,
}

impl VolumeRecord {
    /// The record of a volume whose block device has just been made.
    #[must_use]
    pub fn new(spec: &VolumeSpec, device: u32, cookie: u64) -> Self {
        Self {
            version: VERSION,
            device,
            cookie,
            id: spec.id,
            name: spec.name.clone(),
            nqn: spec.nqn.clone(),
            serial: spec.serial.clone(),
            model: spec.model.clone(),
            firmware: spec.firmware.clone(),
            nsid: spec.nsid,
            namespace: spec.namespace.clone(),
            limits: spec.limits.clone(),
            paths: Vec::new(),
        }
    }
}
