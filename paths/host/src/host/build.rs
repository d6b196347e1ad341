//! A volume's block device: created when its namespace is first seen, started when it has a path,
//! discarded if it is no longer wanted.

use std::time::Duration;

use std::sync::Arc;

use umpath_core::VolumeShared;
use umpath_protocol::{EventKind, Failure};
use umpath_session::{NamespaceFacts, StableId};

use super::Host;
use crate::events::Subject;
use crate::order::Order;
use crate::shape;
use crate::spec::{DeviceFacts, VolumeFacts, VolumeSpec};
use crate::volume::Volume;

impl Host {
    /// Creates the volume of a namespace seen for the first time.
    pub(super) fn begin_volume(&mut self, path: u32, nsid: u32, facts: &NamespaceFacts) {
        let record = self.paths.get(&path).expect("a path that is there");
        let live = record.live.as_ref().expect("an association to match");
        let controller = &live.ready.facts;
        let alias = self
            .settings
            .alias(&facts.id)
            .or_else(|| record.asked.options.alias.clone());
        let volumes = &self.volumes;
        let in_use = |name: &str| volumes.values().any(|volume| volume.name() == name);
        let id = facts.id.to_string();
        let (name, news) = self.names.name(&id, alias.as_deref(), &in_use);
        if news {
            self.fx.order(Order::SaveNames(self.names.pairs()));
        }
        let volume = VolumeFacts {
            id: facts.id,
            name,
            nqn: record.spec.nqn.to_string(),
            serial: controller.serial.clone(),
            model: controller.model.clone(),
            firmware: controller.firmware.clone(),
            nsid,
            namespace: facts.clone(),
            limits: shape::block_limits(controller, facts, self.settings.max_io_bytes()),
        };
        let spec = VolumeSpec {
            facts: volume,
            queues: record.spec.session.io_queues_per_namespace,
            depth: record.spec.session.io_depth - 1,
            policy: self.settings.policy(&facts.id, &controller.model),
            shared: Arc::new(VolumeShared::new()),
        };
        let mut volume = Volume::new(spec, self.fx.now);
        volume.build(&mut self.fx);
        self.volumes.insert(facts.id, volume);
    }

    /// A volume's block device was created or taken over, or could not be.
    pub fn handle_built(
        &mut self,
        id: StableId,
        outcome: Result<DeviceFacts, Failure>,
        now: Duration,
    ) {
        self.begin(now);
        match outcome {
            Ok(facts) => self.built(id, &facts),
            Err(failure) => self.not_built(id, &failure),
        }
        self.settle();
    }

    fn built(&mut self, id: StableId, facts: &DeviceFacts) {
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was ordered");
        volume.built(facts, &mut self.fx);
        self.carry_over_to(id);
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was ordered");
        if volume.is_adopted() {
            // Its requests have waited in the kernel; from here on listings show them.
            volume.start(&mut self.fx);
        }
        for path in self.waiting_for(id) {
            self.register(path, id);
        }
        // Its paths may have gone while the device was being created.
        self.discard_if_unwanted(id);
    }

    fn not_built(&mut self, id: StableId, failure: &Failure) {
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was ordered");
        if !volume.is_adopted() {
            return self.volume_failed(id, failure);
        }
        // Its users hold open files on it: neither drop it nor create a new device.
        let news = volume.trouble() != Some(failure.why.as_str());
        volume.recovery_failed(failure, &self.fx);
        if news {
            let subject = Subject::volume(volume.name());
            let words = format!("{failure}; trying again");
            self.fx.event(EventKind::Refused, subject, words);
        }
    }

    /// Drops a volume whose device cannot be created, and informs everyone who waited for it.
    fn volume_failed(&mut self, id: StableId, failure: &Failure) {
        self.volumes.remove(&id).expect("a volume that was ordered");
        for path in self.waiting_for(id) {
            self.not_attached(path, id, failure);
        }
    }

    fn waiting_for(&self, id: StableId) -> Vec<u32> {
        let waits = |path: &u32| {
            self.live(*path)
                .is_some_and(|live| live.pending.contains(&id))
        };
        self.paths.keys().copied().filter(waits).collect()
    }

    /// Discards a volume that never had a path, unless one is being attached.
    pub(super) fn discard_if_unwanted(&mut self, id: StableId) {
        if !self.waiting_for(id).is_empty() {
            return;
        }
        let volume = self.volumes.get_mut(&id);
        if volume.is_some_and(Volume::begin_discard) {
            self.fx.order(Order::Discard(id));
            self.fx.order(Order::Unregister(id));
        }
    }

    /// A block device was started and is visible to everyone, or could not be started.
    pub fn handle_started(&mut self, id: StableId, outcome: Result<(), Failure>, now: Duration) {
        self.begin(now);
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was started");
        match outcome {
            Ok(()) => {
                volume.started();
                let words = format!("/dev/{} {id}", volume.device_name());
                let subject = Subject::volume(volume.name());
                let kind = if volume.is_adopted() {
                    EventKind::VolumeRecovered
                } else {
                    EventKind::VolumeAdded
                };
                self.fx.event(kind, subject, words);
            }
            Err(failure) => self.not_started(id, &failure),
        }
        self.settle();
    }

    /// The block device could not be started. One that was never visible is discarded; one that was
    /// taken over is left as it is, with its users, for an operator to examine.
    fn not_started(&mut self, id: StableId, failure: &Failure) {
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was started");
        let subject = Subject::volume(volume.name());
        self.fx
            .event(EventKind::Refused, subject, failure.to_string());
        volume.not_started();
        if volume.is_adopted() {
            return;
        }
        assert!(volume.begin_removal(), "nothing else is being done with it");
        let paths: Vec<u32> = volume.paths().collect();
        self.fx.order(Order::Remove {
            removal: 0,
            volume: id,
            force: true,
        });
        for path in paths {
            let nsid = self.live(path).and_then(|live| live.namespace(id));
            let nsid = nsid.map_or(0, |(nsid, _)| nsid);
            self.note_refusal(path, nsid, failure);
        }
    }
}
