//! Taking over the volumes of an umpathd that died.
//!
//! Its block devices wait in the kernel with every request they had. Each is taken over under its
//! own cookie, is served before any path is there, so that its requests wait here instead, and the
//! paths it had are asked for again. What may be written before the dead daemon's associations are
//! fenced is not decided here.

use std::time::Duration;

use umpath_protocol::EventKind;
use umpath_ublk::{Control, State};

use super::{Hub, Message, Wanted};
use crate::events::Subject;
use crate::keeper::{Asked, VolumeRecord};
use crate::volume::{Volume, VolumeSpec, recover};

/// Requests of a volume taken over wait at least so long for a first path, whatever its policy says
/// of volumes without one: the paths it had are being connected.
pub(crate) const FIRST_PATH_PATIENCE: Duration = Duration::from_secs(30);

impl Hub {
    /// Begins with what the last umpathd left. Blocks for a few system calls, before anything runs.
    pub(super) fn recover_volumes(&mut self) {
        let records = self.context.keeper.load();
        if records.is_empty() {
            return;
        }
        let mut control = match Control::open() {
            Ok(control) => control,
            Err(error) => {
                tracing::error!("cannot look for the last umpathd's block devices: {error}");
                return;
            }
        };
        for record in records {
            match control.info(record.device) {
                Ok(Some(info)) if info.cookie == record.cookie => {
                    if info.state == State::Dead {
                        self.sweep(&mut control, &record);
                    } else {
                        self.take_over(record);
                    }
                }
                Ok(_) => {
                    tracing::info!(
                        volume = record.name,
                        "its block device went with the last umpathd or the last boot"
                    );
                    self.context.keeper.remove(Some(&record));
                }
                Err(error) => tracing::error!(volume = record.name, "{error}"),
            }
        }
    }

    /// The last umpathd died before the device had begun, or when it had ended: nobody uses it.
    fn sweep(&self, control: &mut Control, record: &VolumeRecord) {
        match control.delete(record.device) {
            Ok(()) => self.context.keeper.remove(Some(record)),
            Err(error) => tracing::error!(volume = record.name, "{error}"),
        }
    }

    fn take_over(&mut self, record: VolumeRecord) {
        let config = &self.context.config;
        let id = record.id.to_string();
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
            // What the device was made with counts; the driver tells.
            queues: 0,
            depth: 0,
            polling: Duration::from_micros(config.defaults.poll_us.into()),
            drain_deadline: Duration::from_millis(config.defaults.drain_deadline_ms),
            policy: config.policy(&id, &record.model),
        };
        let words = format!("/dev/ublkb{} {id}", record.device);
        let subject = Subject::volume(&record.name);
        self.context
            .events
            .record(EventKind::VolumeRecovering, subject, words);
        let volume = Volume::new(spec.clone(), self.context.events.clone());
        let (shared, outbox) = (volume.shared().clone(), self.outbox.clone());
        self.volumes.insert(record.id, volume);
        let (device, cookie) = (record.device, record.cookie);
        self.elsewhere(move || {
            let outcome = recover(&spec, device, cookie, &shared, &outbox);
            Message::Built(spec.id, outcome.map(Box::new))
        });
        for Asked {
            portal,
            nqn,
            options,
        } in record.paths
        {
            self.connect(Wanted {
                portal,
                nqn,
                options,
                standing: true,
                reply: None,
            });
        }
    }

    /// Notes the paths of a volume for the next umpathd.
    pub(super) fn note_paths_of(&self, volume: &Volume) {
        let Some(mut record) = volume.record() else {
            return;
        };
        record.paths = volume
            .paths()
            .filter_map(|path| self.paths.get(&path))
            .filter(|path| !path.ending)
            .map(|path| path.asked.clone())
            .collect();
        self.context.keeper.rewrite(record);
    }
}
