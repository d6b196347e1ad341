//! Taking over the volumes of a dead process.
//!
//! Its block devices wait in the kernel with all their requests. Each one is taken over under its
//! own cookie and served before any path is up, so that its requests wait here instead; then the
//! paths it had are connected again. `inherited` decides what may be written before the dead
//! process's associations are fenced.

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

/// Interval between questions to a driver that could not answer.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// A recorded volume of which the driver could not say whether its block device exists. Until it
/// can, no device is created for the namespace: its users may hold open files on that one.
#[derive(Debug)]
pub(super) struct Unfound {
    record: VolumeRecord,
    /// `None`: the driver is being asked.
    ask_at: Option<Duration>,
}

impl Unfound {
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.ask_at
    }
}

impl Host {
    /// An earlier process left this volume. The shell calls this for each one before anything else
    /// happens, and again after [`Order::FindDevice`]. `true`: it is taken over, and the shell connects
    /// its [`VolumeRecord::paths`] as standing paths.
    pub fn handle_recorded_volume(
        &mut self,
        record: VolumeRecord,
        found: Found,
        now: Duration,
    ) -> bool {
        self.begin(now);
        let id = record.id;
        let asked_again = self.unfound.remove(&id).is_some();
        let taken_over = self.recorded_volume(record, found, asked_again);
        if asked_again {
            self.retry_refusals_for(id);
        }
        self.settle();
        taken_over
    }

    fn recorded_volume(&mut self, record: VolumeRecord, found: Found, asked_again: bool) -> bool {
        match found {
            Found::Waiting { queues } => {
                self.take_over(record, queues);
                return true;
            }
            Found::Dead => self.sweep(record),
            Found::Gone => {
                tracing::info!(
                    volume = record.name,
                    "its block device went with the last umpathd or the last boot"
                );
                self.fx.order(Order::ForgetVolume(Box::new(record)));
            }
            Found::Unknown => {
                if !asked_again {
                    let words = "the driver does not say whether its block device still exists; asking again";
                    let subject = Subject::volume(&record.name);
                    self.fx.event(EventKind::Refused, subject, words);
                }
                let ask_at = Some(self.fx.now + ASK_EVERY);
                self.unfound.insert(record.id, Unfound { record, ask_at });
            }
        }
        false
    }

    /// Asks the driver again about block devices of which it could not say anything.
    pub(super) fn find_devices(&mut self) {
        let now = self.fx.now;
        for unfound in self.unfound.values_mut() {
            if unfound.ask_at.is_some_and(|at| at <= now) {
                unfound.ask_at = None;
                let record = Box::new(unfound.record.clone());
                self.fx.order(Order::FindDevice(record));
            }
        }
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

    fn take_over(&mut self, record: VolumeRecord, queues: u16) {
        let spec = VolumeSpec {
            facts: record.facts.clone(),
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
