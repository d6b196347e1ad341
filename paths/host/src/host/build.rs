//! A volume's block device: created when its namespace is first seen, started when it has a path,
//! discarded if it is no longer wanted.

use std::time::Duration;

use std::sync::Arc;

use umpath_core::VolumeShared;
use umpath_protocol::{EventKind, Failure};
use umpath_session::{NamespaceFacts, StableId};

use super::{Host, same};
use crate::events::Subject;
use crate::order::Order;
use crate::shape;
use crate::spec::{Asked, DeviceFacts, VolumeFacts, VolumeKey, VolumeSpec};
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
        // On record before the device appears: any of them may be the one its users depend on.
        let mut paths: Vec<Asked> = self
            .paths
            .values()
            .filter(|path| !path.ending && path.spec.nqn == record.spec.nqn)
            .map(|path| path.asked.clone())
            .collect();
        paths.sort_by_key(|path| path.number);
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
            incarnation: 0,
            queues: record.spec.session.io_queues_per_namespace,
            depth: record.spec.session.io_depth - 1,
            policy: self.settings.policy(&facts.id, &controller.model),
            paths,
            shared: Arc::new(VolumeShared::new()),
        };
        let mut volume = Volume::new(spec, self.fx.now);
        volume.build(&mut self.fx);
        self.volumes.insert(facts.id, volume);
    }

    /// A volume's block device was created or taken over, or could not be.
    pub fn handle_built(
        &mut self,
        key: VolumeKey,
        outcome: Result<DeviceFacts, Failure>,
        now: Duration,
    ) {
        self.begin(now);
        match outcome {
            Ok(facts) => self.built(key, &facts),
            Err(failure) => self.not_built(key, &failure),
        }
        self.settle();
    }

    fn built(&mut self, key: VolumeKey, facts: &DeviceFacts) {
        let id = key.id;
        let volume = same(&mut self.volumes, key).expect("a volume that was ordered");
        volume.built(facts, &mut self.fx);
        self.carry_over_to(id);
        let volume = self.volumes.get_mut(&id).expect("it was just there");
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

    fn not_built(&mut self, key: VolumeKey, failure: &Failure) {
        let volume = same(&mut self.volumes, key).expect("a volume that was ordered");
        if !volume.is_adopted() {
            return self.volume_failed(key.id, failure);
        }
        // Its users hold open files on it: neither drop it nor create a new device.
        let what = format!("volume {} cannot be taken over", volume.name());
        let failure = Failure::new(what, failure.why.clone(), failure.fix.clone());
        volume.recovery_failed(&failure, &mut self.fx);
        if self.stopping.is_some() {
            volume.leave();
        }
    }

    /// Drops a volume whose device cannot be created, and informs everyone who waited for it.
    pub(super) fn volume_failed(&mut self, id: StableId, failure: &Failure) {
        self.volumes.remove(&id).expect("a volume that was ordered");
        for path in self.waiting_for(id) {
            self.not_attached(path, id, failure);
        }
    }

    pub(super) fn waiting_for(&self, id: StableId) -> Vec<u32> {
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
        if let Some(volume) = self.volumes.get_mut(&id)
            && volume.begin_discard()
        {
            self.fx.order(Order::Discard(volume.key()));
            self.fx.order(Order::Unregister(volume.key()));
        }
    }

    /// A block device was started and is visible to everyone, or could not be started.
    pub fn handle_started(&mut self, key: VolumeKey, outcome: Result<(), Failure>, now: Duration) {
        self.begin(now);
        let volume = same(&mut self.volumes, key).expect("a volume that was started");
        match outcome {
            Ok(()) => {
                volume.started();
                let words = format!("/dev/{} {}", volume.device_name(), key.id);
                let subject = Subject::volume(volume.name());
                let kind = if volume.is_adopted() {
                    EventKind::VolumeRecovered
                } else {
                    EventKind::VolumeAdded
                };
                self.fx.event(kind, subject, words);
            }
            Err(failure) => self.not_started(key.id, &failure),
        }
        self.settle();
    }

    /// The block device could not be started. What the volume does about it is its own decision;
    /// namespaces wait for the next one where this one goes.
    fn not_started(&mut self, id: StableId, failure: &Failure) {
        let volume = self
            .volumes
            .get_mut(&id)
            .expect("a volume that was started");
        volume.not_started(failure, &mut self.fx);
        if !volume.is_going() {
            return;
        }
        let subject = Subject::volume(volume.name());
        let paths: Vec<u32> = volume.paths().collect();
        self.fx
            .event(EventKind::Refused, subject, failure.to_string());
        for path in paths {
            let nsid = self.live(path).and_then(|live| live.namespace(id));
            let nsid = nsid.map_or(0, |(nsid, _)| nsid);
            self.note_refusal(path, nsid, failure);
        }
    }
}
