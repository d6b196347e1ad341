//! The state directory: what the host keeps for its successor.
//!
//! A write is one file put in another's place, so a file is the old one or the new one and never
//! half of either. What a process had under way when it died was done or was not.

use std::collections::{BTreeMap, VecDeque};

use umpath_host::record::{AssociationRecord, VolumeRecord};
use umpath_session::StableId;

use super::qp::Assoc;

/// What is on disk.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    /// Associations, by the number of their file.
    pub(crate) associations: BTreeMap<u64, (Assoc, AssociationRecord)>,
    last: u64,
    pub(crate) volumes: BTreeMap<StableId, VolumeRecord>,
    /// Volumes to be written again, in this order.
    pub(crate) later: VecDeque<VolumeRecord>,
    pub(crate) names: Vec<(String, String)>,
    pub(crate) numbers: Vec<(String, u32)>,
    /// What `numbers` has to be.
    pub(crate) promised: Vec<(String, u32)>,
}

impl Disk {
    pub(crate) fn record(&mut self, assoc: Assoc, record: AssociationRecord) {
        self.last += 1;
        self.associations.insert(self.last, (assoc, record));
    }

    pub(crate) fn forget(&mut self, assoc: Assoc) {
        self.associations.retain(|_, (known, _)| *known != assoc);
    }

    /// A file that another volume of the same identity has written since stays.
    pub(crate) fn forget_volume(&mut self, id: StableId, cookie: u64) {
        if self
            .volumes
            .get(&id)
            .is_some_and(|known| known.cookie == cookie)
        {
            self.volumes.remove(&id);
        }
    }

    /// The oldest of what is to be written again, unless its file is gone.
    pub(crate) fn rewrite(&mut self, full: bool) {
        let Some(record) = self.later.pop_front() else {
            return;
        };
        if !full && self.volumes.contains_key(&record.id) {
            self.volumes.insert(record.id, record);
        }
    }
}
