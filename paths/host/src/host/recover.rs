//! Taking over the volumes of a dead process.
//!
//! Its block devices wait in the kernel with all their requests. Each one is taken over under its
//! own cookie and served before any path is up, so that its requests wait here instead; then the
//! paths it had are connected again. `inherited` decides what may be written before the dead
//! process's associations are fenced.
//!
//! A device may be in use whether or not this process can ask the driver about it. So a recorded
//! volume stands for its namespace until the driver has said that the device is gone: another one
//! made meanwhile would give one namespace two block devices.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::VolumeShared;
use umpath_protocol::{EventKind, Failure, Reply};
use umpath_session::StableId;

use super::Host;
use crate::events::Subject;
use crate::order::{CallId, Order};
use crate::record::{Asked, VolumeRecord};
use crate::spec::VolumeSpec;
use crate::volume::Volume;

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
    /// The driver could not say: it is not loaded, say. It is asked again.
    Unknown,
}

impl Host {
    /// An earlier process left this volume. The shell calls this for each one before anything else
    /// happens. `true`: it is or will be taken over, and the shell connects its [`VolumeRecord::paths`] as
    /// standing paths. A second record of a volume is refused.
    pub fn handle_recorded_volume(
        &mut self,
        record: VolumeRecord,
        found: Found,
        now: Duration,
    ) -> bool {
        self.begin(now);
        if self.volumes.contains_key(&record.id) || self.sweeps.contains_key(&record.id) {
            let words = format!(
                "a second record of volume {} ({}) is not used",
                record.name, record.id
            );
            self.fx
                .event(EventKind::Refused, Subject::volume(&record.name), words);
            return false;
        }
        match found {
            Found::Waiting { queues } => {
                let mut volume = self.adopt(record, queues);
                volume.build(&mut self.fx);
                self.volumes.insert(volume.id(), volume);
                true
            }
            Found::Unknown => {
                let mut volume = self.adopt(record, 0);
                volume.not_found(&mut self.fx);
                self.volumes.insert(volume.id(), volume);
                true
            }
            Found::Dead | Found::Gone => {
                self.clear_away(record, found);
                false
            }
        }
    }

    /// What the driver says of a recorded block device that is still to be taken over.
    pub fn handle_found(&mut self, id: StableId, found: Found, now: Duration) {
        self.begin(now);
        let volume = self.volumes.get_mut(&id);
        let Some(volume) = volume.filter(|volume| volume.is_asked_for()) else {
            // It was removed by force meanwhile, or is left to the next process.
            return;
        };
        match found {
            Found::Waiting { queues } => volume.found(queues, &mut self.fx),
            Found::Unknown => volume.not_found(&mut self.fx),
            Found::Dead | Found::Gone => {
                let record = volume.record().expect("it was taken over").clone();
                let why = Failure::new(
                    format!("volume {} of the last umpathd is not there", volume.name()),
                    format!("its block device ublkb{} is gone", record.device),
                    "it gets another one by itself",
                );
                self.clear_away(record, found);
                self.volume_failed(id, &why);
                self.retry_refusals_for(id);
            }
        }
        self.settle();
    }

    /// Removes what is left of a volume whose block device is of no use.
    fn clear_away(&mut self, record: VolumeRecord, found: Found) {
        if found == Found::Dead {
            return self.sweep(record);
        }
        tracing::info!(
            volume = record.name,
            "its block device went with the last umpathd or the last boot"
        );
        self.fx.order(Order::ForgetVolume(Box::new(record)));
    }

    /// A block device of the driver waits for a server that died, and no record says which volume it
    /// was: its users hang until it is removed. To be called before anything else happens.
    pub fn handle_orphan(&mut self, device: u32, now: Duration) {
        self.begin(now);
        self.orphans.insert(device);
        let words = format!(
            "/dev/ublkb{device} waits for a server that died, and no record says which volume it \
             was: whoever uses it hangs. If it was umpathd's: umpath disconnect -d ublkb{device} \
             --force fails its requests and removes it"
        );
        self.fx.event(EventKind::Refused, Subject::default(), words);
    }

    /// An orphaned block device was deleted, or was not.
    pub fn handle_orphan_deleted(
        &mut self,
        call: CallId,
        device: u32,
        outcome: Result<(), Failure>,
        now: Duration,
    ) {
        self.begin(now);
        let reply = match outcome {
            Ok(()) => {
                self.orphans.remove(&device);
                let deleted = vec![format!("/dev/ublkb{device}")];
                let paths = Vec::new();
                Reply::Disconnected { paths, deleted }
            }
            Err(failure) => Reply::Failed(failure),
        };
        self.reply(call, reply);
    }

    /// Deletes an orphaned block device, if that is what is named; false: it is not.
    pub(super) fn delete_orphan(&mut self, name: &str, force: bool, call: CallId) -> bool {
        let number = name.strip_prefix("ublkb").unwrap_or(name).parse().ok();
        let Some(device) = number.filter(|number| self.orphans.contains(number)) else {
            return false;
        };
        if force {
            self.fx.order(Order::DeleteOrphan { device, call });
        } else {
            let failure = Failure::new(
                format!("/dev/ublkb{device} was not removed"),
                "its server died and nobody knows which volume it was; its requests would fail",
                "start the umpathd that has its record, or --force",
            );
            self.reply(call, Reply::Failed(failure));
        }
        true
    }

    /// The volume of a record. `queues` of its block device; 0: not known yet.
    fn adopt(&mut self, record: VolumeRecord, queues: u16) -> Volume {
        let spec = VolumeSpec {
            facts: record.facts.clone(),
            incarnation: 0,
            queues,
            // The queue count the device was created with applies; the driver reports it.
            depth: 0,
            policy: self.settings.policy(&record.id, &record.model),
            paths: record.paths.clone(),
            shared: Arc::new(VolumeShared::new()),
        };
        let words = format!("/dev/ublkb{} {}", record.device, record.id);
        self.fx.event(
            EventKind::VolumeRecovering,
            Subject::volume(&record.name),
            words,
        );
        Volume::adopted(spec, record, self.fx.now)
    }

    /// Records the paths of every volume of a path's subsystem: also one that the path did not serve
    /// yet may have it on record.
    pub(super) fn note_paths_to(&mut self, path: u32) {
        let nqn = self.path(path).spec.nqn.to_string();
        let volumes = self.volumes.values();
        let volumes: Vec<StableId> = volumes
            .filter(|volume| volume.nqn() == nqn)
            .map(Volume::id)
            .collect();
        for id in volumes {
            self.note_paths_of(id);
        }
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
