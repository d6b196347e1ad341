//! What the rig's process finds on its machine: what survives it, what fails and what is late.

use std::collections::BTreeMap;

use umpath_host::record::{AssociationRecord, VolumeRecord};
use umpath_session::StableId;

/// What survives the process.
#[derive(Debug, Default, Clone)]
pub(crate) struct Disk {
    pub(crate) associations: BTreeMap<u64, AssociationRecord>,
    pub(crate) volumes: BTreeMap<StableId, VolumeRecord>,
    pub(crate) numbers: Vec<(String, u32)>,
    pub(crate) names: Vec<(String, String)>,
    /// Block devices: their cookies and queues.
    pub(crate) devices: BTreeMap<u32, (u64, u16)>,
}

/// What fails, and why.
#[derive(Debug, Default)]
pub(crate) struct Failing {
    pub(crate) record: bool,
    pub(crate) build: bool,
    /// The first queue thread has begun when `build` fails.
    pub(crate) half_way: bool,
    pub(crate) register: bool,
    pub(crate) remove: bool,
    pub(crate) start: bool,
    /// Deleting a block device that was stopped.
    pub(crate) delete: bool,
    /// What is noted later is never written.
    pub(crate) rewrite: bool,
    /// The driver does not say what it has.
    pub(crate) driver: bool,
}

/// What takes until `Rig::finish_late`.
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) records: bool,
    pub(crate) removals: bool,
    pub(crate) builds: bool,
    /// Answers of queue threads to requests for their counters.
    pub(crate) counters: bool,
    /// The end of queue threads of devices that nobody saw.
    pub(crate) ends: bool,
    /// The end of queue pairs.
    pub(crate) destructions: bool,
    /// The registration of memory.
    pub(crate) registers: bool,
    /// What the driver says of a block device.
    pub(crate) answers: bool,
    /// Who uses a block device.
    pub(crate) users: bool,
}
