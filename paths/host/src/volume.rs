//! A volume: one namespace, its block device, and the paths to it.
//!
//! Decided here: the state of its block device, the core's numbers of its paths, what is recorded
//! of it. Not decided here: which path may be used and when to fail over; [`umpath_core::Device`]
//! decides that, and this module passes its orders to the queue threads and its events to the event
//! log.

mod counters;
mod failover;
mod log;
mod measure;
mod member;
mod namespace;
mod stage;
mod steer;
mod view;

pub(crate) use member::Attachment;
pub(crate) use view::PathFacts;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::{
    AssociationId, Device, DeviceOutput, LaneCommand, LaneEvent, LaneId, NoPath, PathId,
    VolumeShared, policies,
};
use umpath_protocol::Failure;
use umpath_session::{AnaState, StableId};

use crate::effects::Effects;
use crate::events::FailoverId;
use crate::record::VolumeRecord;
use crate::spec::{VolumeKey, VolumeSpec};

use counters::Counters;
use measure::Measures;
use stage::Stage;

#[derive(Debug)]
struct Member {
    /// Host-wide path number.
    path: u32,
    /// The core's path number.
    number: PathId,
    /// The last association, alive or not.
    association: AssociationId,
    /// The one before it.
    lost: Option<AssociationId>,
    nsid: u32,
    /// Queue identifiers, by queue thread.
    qids: Vec<u16>,
    ana_group: u32,
    preferred: bool,
    /// The failover its marks belong to.
    failover: Option<FailoverId>,
}

#[derive(Debug)]
pub(crate) struct Volume {
    spec: VolumeSpec,
    stage: Stage,
    core: Device,
    /// Number of the block device, once it has one.
    device: Option<u32>,
    /// Number of queue threads.
    lanes: u16,
    /// Queue threads that have ended and confirm nothing any more.
    ended: BTreeSet<u16>,
    /// What queue threads noticed before all of them had begun: requests of a device that is taken
    /// over may come that early.
    early: Vec<(LaneId, LaneEvent, Duration)>,
    /// It is being dropped before anybody saw it.
    unseen: bool,
    members: Vec<Member>,
    /// Stalls being measured.
    measures: Measures,
    counters: Counters,
    path_faults: u64,
    group_switches: u64,
    /// What proved the last order fence.
    proof: String,
    /// It had a path and has none now.
    pathless: bool,
    /// The record for the next process, once the block device exists.
    record: Option<VolumeRecord>,
    /// An earlier process made its block device.
    adopted: bool,
    /// Requests wait for a first usable path, whatever the policy says of volumes without one.
    awaits_first_path: bool,
    /// What an operator said of I/O without a path, until the policy is set again.
    queueing: Option<bool>,
    /// Why its block device could not be taken over or started yet; empty where nothing failed.
    trouble: String,
    /// The last pause before something that failed was tried again.
    pause: Duration,
}

impl Volume {
    /// A volume whose block device is still to be created.
    pub(crate) fn new(spec: VolumeSpec, now: Duration) -> Self {
        let config = spec
            .policy
            .device_config(spec.namespace.lba_shift, spec.queues);
        Self {
            core: Device::new(config, now),
            spec,
            stage: Stage::Building,
            device: None,
            lanes: 0,
            ended: BTreeSet::new(),
            early: Vec::new(),
            unseen: false,
            members: Vec::new(),
            measures: Measures::default(),
            counters: Counters::default(),
            path_faults: 0,
            group_switches: 0,
            proof: String::new(),
            pathless: false,
            record: None,
            adopted: false,
            awaits_first_path: false,
            queueing: None,
            trouble: String::new(),
            pause: Duration::ZERO,
        }
    }

    /// A volume whose block device an earlier process left behind.
    pub(crate) fn adopted(spec: VolumeSpec, record: VolumeRecord, now: Duration) -> Self {
        let device = Some(record.device);
        Self {
            device,
            record: Some(record),
            adopted: true,
            ..Self::new(spec, now)
        }
    }

    pub(crate) fn id(&self) -> StableId {
        self.spec.id
    }

    /// Its present incarnation.
    pub(crate) fn key(&self) -> VolumeKey {
        self.spec.key()
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn nqn(&self) -> &str {
        &self.spec.nqn
    }

    /// `ublkb0`, or a placeholder until the driver has assigned a number.
    pub(crate) fn device_name(&self) -> String {
        self.device
            .map_or_else(|| "(no device yet)".to_owned(), |id| format!("ublkb{id}"))
    }

    /// The state its queue threads share with the host.
    pub(crate) fn shared(&self) -> &Arc<VolumeShared> {
        &self.spec.shared
    }

    pub(crate) fn lanes(&self) -> u16 {
        self.lanes
    }

    /// Queue pairs each of its paths needs.
    pub(crate) fn queues_wanted(&self) -> u16 {
        self.lanes.max(self.spec.queues)
    }

    /// Host-wide numbers of its paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.path)
    }

    pub(crate) fn has_path(&self, path: u32) -> bool {
        self.paths().any(|known| known == path)
    }

    /// Whether an earlier process created its block device.
    pub(crate) fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Why its block device is not taken over or started yet.
    pub(crate) fn trouble(&self) -> Option<&str> {
        Some(self.trouble.as_str()).filter(|why| !why.is_empty())
    }

    /// That its block device is not taken over or started yet, for those who wait for it.
    pub(crate) fn not_served(&self) -> Option<Failure> {
        let what = format!("volume {} cannot be served yet", self.name());
        Some(Failure::new(
            what,
            self.trouble()?,
            "umpath show events tells more",
        ))
    }

    /// Its on-disk record, once the block device exists.
    pub(crate) fn record(&self) -> Option<&VolumeRecord> {
        self.record.as_ref()
    }

    pub(crate) fn set_record(&mut self, record: VolumeRecord) {
        self.record = Some(record);
    }

    pub(crate) fn spec(&self) -> &VolumeSpec {
        &self.spec
    }

    /// Handles an observation of a queue thread.
    pub(crate) fn lane_event(
        &mut self,
        queue: u16,
        event: LaneEvent,
        at: Duration,
        fx: &mut Effects,
    ) {
        if !self.is_built() {
            return self.early.push((LaneId(queue), event, at));
        }
        self.core.lane_event(LaneId(queue), event, at);
        self.pump(fx);
    }

    /// Sets whether I/O waits while there is no path.
    pub(crate) fn set_queueing(&mut self, on: bool, fx: &mut Effects) {
        // An operator's word counts more than the wait for a first path; it ends that if it is off.
        self.awaits_first_path &= on;
        self.queueing = Some(on);
        if on {
            self.core.set_no_path(NoPath::Queue, fx.now);
        } else {
            self.core.stop_queueing(fx.now);
        }
        self.pump(fx);
    }

    /// From its first usable path on, a volume that was taken over is one like any other.
    fn first_path_arrives(&mut self, now: Duration) {
        if self.awaits_first_path && self.core.table().has_usable() {
            self.awaits_first_path = false;
            self.core.set_no_path(self.no_path(), now);
        }
    }

    /// Sends nothing new on an association that is to be taken away; `false`: no path has it.
    pub(crate) fn retire(&mut self, association: AssociationId, fx: &mut Effects) -> bool {
        let Some(number) = self.number_on(association) else {
            return false;
        };
        self.core.retire_path(number, fx.now);
        self.pump(fx);
        true
    }

    /// The core's number of the path that has this association.
    pub(crate) fn number_on(&self, association: AssociationId) -> Option<PathId> {
        let mut paths = self.core.paths();
        let path = paths.find(|path| path.association == Some(association))?;
        Some(path.path)
    }

    /// Requests in flight on an association, if a path has it.
    pub(crate) fn in_flight_on(&self, association: AssociationId) -> u32 {
        self.number_on(association)
            .map_or(0, |number| self.spec.shared.in_flight(number))
    }

    /// Forgets a path.
    pub(crate) fn path_removed(&mut self, path: u32, fx: &mut Effects) {
        let Some(at) = self.members.iter().position(|member| member.path == path) else {
            return;
        };
        let member = self.members.swap_remove(at);
        self.core.remove_path(member.number, fx.now);
        self.pump(fx);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let window = self.core.window_ends().filter(|_| self.is_started());
        [self.core.poll_timeout(), window, self.retry_at()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, fx: &mut Effects) {
        let now = fx.now;
        if self.retry_at().is_some_and(|at| at <= now) {
            self.retry(fx);
        }
        // In this order: a path that comes back may be what there is to compare.
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
            self.pump(fx);
        }
        if self.core.window_ends().is_some_and(|at| at <= now) {
            self.core.end_window(&self.spec.shared, now);
            self.pump(fx);
        }
    }

    fn send_all(&self, fx: &mut Effects, command: impl Fn() -> LaneCommand<u16>) {
        if self.unseen {
            return;
        }
        for queue in (0..self.lanes).filter(|queue| !self.ended.contains(queue)) {
            fx.lane(self.key(), queue, command());
        }
    }

    /// Passes on the core's orders and events.
    fn pump(&mut self, fx: &mut Effects) {
        // Without queue threads nobody can receive orders yet, and the core is recreated when they
        // exist.
        if !self.is_built() {
            return;
        }
        self.first_path_arrives(fx.now);
        while let Some(output) = self.core.poll_output() {
            match output {
                DeviceOutput::Publish(table) => {
                    self.send_all(fx, || LaneCommand::SetTable(table.clone()));
                }
                DeviceOutput::Convict(association) => {
                    self.send_all(fx, || LaneCommand::Convict(association));
                }
                DeviceOutput::Guard(ghosts) => {
                    self.send_all(fx, || LaneCommand::Guard(ghosts.clone()));
                }
                DeviceOutput::Locked(association) => {
                    self.send_all(fx, || LaneCommand::Locked(association));
                }
                DeviceOutput::Fenced(association) => {
                    self.send_all(fx, || LaneCommand::Fenced(association));
                }
                DeviceOutput::FailQueued => self.send_all(fx, || LaneCommand::FailQueued),
                DeviceOutput::Event(event) => self.log(&event, fx),
            }
        }
    }
}

/// The core's ANA state for a log entry. A namespace missing from the log counts as inaccessible.
pub(crate) fn ana_state(reported: Option<AnaState>) -> policies::AnaState {
    match reported {
        Some(AnaState::Optimized) => policies::AnaState::Optimized,
        Some(AnaState::NonOptimized) => policies::AnaState::NonOptimized,
        Some(AnaState::Inaccessible) | None => policies::AnaState::Inaccessible,
        Some(AnaState::PersistentLoss) => policies::AnaState::PersistentLoss,
        Some(AnaState::Change) => policies::AnaState::Change,
    }
}
