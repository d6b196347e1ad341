//! Taking over the volumes of a dead process.
//!
//! Its block devices wait in the kernel with all their requests. Each one is taken over under its
//! own cookie and served before any path is up, so that its requests wait here instead; then the
//! paths it had are connected again. `inherited` decides what may be written before the dead
//! process's associations are fenced.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::VolumeShared;
use umpath_protocol::EventKind;
use umpath_session::StableId;

use super::Host;
use crate::events::Subject;
use crate::order::Order;
use crate::record::{Asked, VolumeRecord};
use crate::volume::{Volume, VolumeSpec};

/// What the driver reports about a recorded block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It exists under the record's cookie and waits for a server.
    Waiting {
        /// Number of its queues.
        queues: u16,
    },
    /// It exists under the record's cookie but cannot be used: its server died before starting it
    /// or after stopping it.
    Dead,
    /// It is gone, or the number now belongs to another device: it ended with its server or at a
    /// reboot.
    Gone,
    /// The driver could not say.
    Unknown,
}

impl Host {
    /// An earlier process left this volume. The shell calls this for each one before anything else
    /// happens. `true`: it is taken over, and the shell connects its [`VolumeRecord::paths`] as
    /// standing paths.
    pub fn handle_recorded_volume(
        &mut self,
        record: VolumeRecord,
        found: Found,
        now: Duration,
    ) -> bool {
        self.begin(now);
        match found {
            Found::Waiting { queues } => {
                self.take_over(record, queues);
                return true;
            }
            Found::Dead => self.fx.order(Order::Sweep(Box::new(record))),
            Found::Gone => {
                tracing::info!(
                    volume = record.name,
                    "its block device went with the last umpathd or the last boot"
                );
                self.fx.order(Order::ForgetVolume(Box::new(record)));
            }
            // Keep the record until the driver can answer.
            Found::Unknown => {}
        }
        false
    }

    fn take_over(&mut self, record: VolumeRecord, queues: u16) {
        let spec = VolumeSpec {
            id: record.id,
            name: record.name.clone(),
            nqn: record.nqn.clone(),
            serial: record.serial.clone(),
            model: record.model.clone(),
            firmware: record.firmware.clone(),
            nsid: record.nsid,
            namespace: record.namespace.clone(),
            limits: record.limits.clone(),
            queues,
            // The queue count the device was created with applies; the driver reports it.
            depth: 0,
            policy: self.settings.policy(&record.id, &record.model),
            shared: Arc::new(VolumeShared::new()),
        };
        let words = format!("/dev/ublkb{} {}", record.device, record.id);
        self.fx.event(
            EventKind::VolumeRecovering,
            Subject::volume(&record.name),
            words,
        );
        let id = record.id;
        let mut volume = Volume::adopted(spec, record, self.fx.now);
        volume.build(&mut self.fx);
        self.volumes.insert(id, volume);
    }

    /// Records what the next process must know about a volume: its paths and the size of its
    /// namespace. A recorded path that is still connecting stays recorded.
    pub(super) fn note_paths_of(&mut self, id: StableId) {
        let volume = self.volumes.get(&id).expect("a volume that is there");
        let Some(record) = volume.record() else {
            return;
        };
        let asked = |path: u32| {
            let path = self.paths.get(&path).filter(|path| !path.ending)?;
            Some(path.asked.clone())
        };
        let mut paths: Vec<_> = volume.paths().filter_map(asked).collect();
        let same =
            |one: &Asked, other: &Asked| (&one.portal, &one.nqn) == (&other.portal, &other.nqn);
        for known in &record.paths {
            let mut coming = self.paths.values().filter(|path| !path.ending);
            let coming = coming.any(|path| same(&path.asked, known));
            if coming && paths.iter().all(|path| !same(path, known)) {
                paths.push(known.clone());
            }
        }
        paths.sort_by_key(|path| path.number);
        let record = VolumeRecord {
            paths,
            ..record.clone()
        };
        let volume = self.volumes.get_mut(&id).expect("a volume that is there");
        volume.set_record(record.clone());
        self.fx.order(Order::Rewrite(Box::new(record)));
    }
}
