//! The stages of a volume's block device: created or taken over, started, removed.

use std::time::Duration;

use umpath_core::{Device, NoPath};
use umpath_protocol::{EventKind, Failure};

use super::Volume;
use crate::effects::Effects;
use crate::events::Subject;
use crate::order::Order;
use crate::policy::NoPathRetry;
use crate::record::VolumeRecord;
use crate::spec::DeviceFacts;

/// Requests of a volume taken over wait at least this long for a first usable path, whatever its
/// `no_path_retry` says: the paths it had are being connected.
const FIRST_PATH_PATIENCE: Duration = Duration::from_secs(30);

/// First and longest pause between attempts to take over a block device, to start it, or to remove
/// one that does not start.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// State of the block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It and its queue threads are being created or taken over.
    Building,
    /// The driver is asked whether the device to be taken over still exists.
    Finding,
    /// Taking it over failed; a retry is scheduled.
    Unrecovered { retry_at: Duration },
    /// It is not taken over, and the process ends: the next one does that.
    Left,
    /// Queue threads run; the block device waits for its first path.
    Built,
    /// It is being started.
    Starting,
    /// Starting it failed. One that was taken over is started again: its users wait. One that nobody
    /// saw could not be removed either, and that is tried again.
    Unstarted { retry_at: Duration },
    /// It is there for everyone.
    Started,
    /// It is being removed; `started`: whether it was started before.
    Removing { started: bool },
}

impl Volume {
    /// Whether the queue threads' memory exists.
    pub(crate) fn is_built(&self) -> bool {
        !matches!(
            self.stage,
            Stage::Building | Stage::Finding | Stage::Unrecovered { .. } | Stage::Left
        )
    }

    pub(crate) fn is_started(&self) -> bool {
        match self.stage {
            Stage::Started | Stage::Removing { started: true } => true,
            Stage::Building
            | Stage::Finding
            | Stage::Unrecovered { .. }
            | Stage::Left
            | Stage::Built
            | Stage::Starting
            | Stage::Unstarted { .. }
            | Stage::Removing { started: false } => false,
        }
    }

    /// Drops a block device that was never visible. The volume stays until its queue threads have
    /// ended: a successor of the same identity must not be taken for it. False: it is wanted.
    pub(crate) fn begin_discard(&mut self) -> bool {
        let unborn = self.stage == Stage::Built && !self.adopted;
        if unborn {
            self.stage = Stage::Removing { started: false };
            self.unseen = true;
        }
        unborn
    }

    /// It is being dropped: nobody listens any more.
    pub(crate) fn is_unseen(&self) -> bool {
        self.unseen
    }

    /// It was dropped, and its queue threads have ended.
    pub(crate) fn is_discarded(&self) -> bool {
        self.unseen && self.ended.len() == usize::from(self.lanes)
    }

    /// Orders the creation or takeover of its block device.
    pub(crate) fn build(&mut self, fx: &mut Effects) {
        self.stage = Stage::Building;
        self.spec.incarnation = fx.next_incarnation();
        let spec = Box::new(self.spec.clone());
        if !self.adopted {
            return fx.order(Order::Build(spec));
        }
        let record = self
            .record
            .as_ref()
            .expect("a device an earlier process left");
        fx.order(Order::Recover {
            spec,
            device: record.device,
            cookie: record.cookie,
        });
    }

    /// Asks the driver about the device before the next attempt to take it over: it may have gone
    /// since, and its number may belong to another.
    pub(super) fn find(&mut self, fx: &mut Effects) {
        self.stage = Stage::Finding;
        let record = self
            .record
            .clone()
            .expect("a device an earlier process left");
        fx.order(Order::FindDevice(Box::new(record)));
    }

    /// Whether the driver is asked about the device to be taken over.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.stage == Stage::Finding
    }

    /// Whether a device of an earlier process is not taken over, and nothing is under way for that but a
    /// question to the driver.
    pub(crate) fn is_unrecovered(&self) -> bool {
        matches!(
            self.stage,
            Stage::Finding | Stage::Unrecovered { .. } | Stage::Left
        )
    }

    /// Leaves a device that is not taken over, and its record, to the next process.
    pub(crate) fn leave(&mut self) {
        if self.is_unrecovered() {
            self.stage = Stage::Left;
        }
    }

    /// It is left to the next process.
    pub(crate) fn is_left(&self) -> bool {
        self.stage == Stage::Left
    }

    /// The device to be taken over exists.
    pub(crate) fn found(&mut self, queues: u16, fx: &mut Effects) {
        assert_eq!(self.stage, Stage::Finding, "a device nobody asked for");
        self.spec.queues = queues;
        self.build(fx);
    }

    /// The driver could not say whether it exists: it is asked again.
    pub(crate) fn not_found(&mut self, fx: &mut Effects) {
        let what = format!("volume {} cannot be taken over", self.name());
        let why = "the ublk driver does not say whether its block device is still there";
        let failure = Failure::new(what, why, "check `modprobe ublk_drv` and the kernel log");
        self.recovery_failed(&failure, fx);
    }

    /// The block device and queue threads exist.
    pub(crate) fn built(&mut self, facts: &DeviceFacts, fx: &mut Effects) {
        assert_eq!(self.stage, Stage::Building, "a block device nobody ordered");
        assert!(self.ended.is_empty(), "none of its queue threads has ended");
        self.stage = Stage::Built;
        self.trouble.clear();
        self.device = Some(facts.device);
        self.lanes = facts.queues;
        self.measures.set_lanes(facts.queues);
        self.counters.set_lanes(facts.queues);
        if self.record.is_none() {
            let record = VolumeRecord::new(&self.spec, facts.device, facts.cookie);
            self.record = Some(record);
        }
        // The driver may have created fewer queues than requested, and each has to confirm a fence.
        let mut config = self
            .spec
            .policy
            .device_config(self.spec.namespace.lba_shift, self.lanes);
        self.awaits_first_path = self.adopted && self.queueing != Some(false);
        // From the first table on: requests could fail under another one.
        config.no_path = self.no_path();
        self.core = Device::new(config, fx.now);
        if self.queueing == Some(false) {
            self.core.stop_queueing(fx.now);
        }
        for (lane, event, at) in std::mem::take(&mut self.early) {
            self.core.lane_event(lane, event, at);
        }
    }

    /// Taking over its block device failed; schedules a retry. Its users hold open files on it, so
    /// it is never created anew.
    pub(crate) fn recovery_failed(&mut self, why: &Failure, fx: &mut Effects) {
        let ordered = matches!(self.stage, Stage::Building | Stage::Finding);
        assert!(ordered, "a recovery nobody ordered");
        self.early.clear();
        let retry_at = self.put_off(why, fx);
        self.stage = Stage::Unrecovered { retry_at };
    }

    /// Notes a failure that is retried; when.
    fn put_off(&mut self, why: &Failure, fx: &mut Effects) -> Duration {
        if self.trouble != why.why {
            let words = format!("{why}; trying again");
            fx.event(EventKind::Refused, Subject::volume(self.name()), words);
        }
        self.trouble.clone_from(&why.why);
        let [first, longest] = PAUSES;
        self.pause = (self.pause * 2).clamp(first, longest);
        fx.now + self.pause
    }

    /// When a step that failed is due again.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        match self.stage {
            Stage::Unrecovered { retry_at } | Stage::Unstarted { retry_at } => Some(retry_at),
            _ => None,
        }
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self, fx: &mut Effects) {
        match self.stage {
            Stage::Unrecovered { .. } => self.find(fx),
            Stage::Unstarted { .. } if self.adopted => {
                self.stage = Stage::Built;
                self.start(fx);
            }
            Stage::Unstarted { .. } => self.remove_unstarted(fx),
            other => panic!("nothing failed in {other:?}"),
        }
    }

    /// Removes a block device that does not start, and that nobody saw.
    fn remove_unstarted(&mut self, fx: &mut Effects) {
        self.stage = Stage::Removing { started: false };
        fx.order(Order::Remove {
            removal: 0,
            volume: self.key(),
            force: true,
        });
    }

    /// What happens to requests without a path.
    pub(super) fn no_path(&self) -> NoPath {
        match self.spec.policy.no_path_retry {
            _ if self.queueing == Some(true) => NoPath::Queue,
            _ if self.queueing == Some(false) => NoPath::Fail,
            _ if !self.awaits_first_path => self.spec.policy.no_path(),
            NoPathRetry::Queue => NoPath::Queue,
            NoPathRetry::Fail => NoPath::QueueFor(FIRST_PATH_PATIENCE),
            NoPathRetry::For(time) => NoPath::QueueFor(time.max(FIRST_PATH_PATIENCE)),
        }
    }

    /// Makes the block device visible, unless that was done.
    pub(crate) fn start(&mut self, fx: &mut Effects) {
        if self.stage == Stage::Built {
            self.stage = Stage::Starting;
            fx.order(Order::Start(self.key()));
        }
    }

    /// The block device is visible.
    pub(crate) fn started(&mut self) {
        assert_eq!(self.stage, Stage::Starting, "a block device nobody started");
        self.stage = Stage::Started;
        self.trouble.clear();
        self.pause = Duration::ZERO;
    }

    /// The block device could not be started. One that was never visible is removed; one that was
    /// taken over has users, who wait until it can be.
    pub(crate) fn not_started(&mut self, why: &Failure, fx: &mut Effects) {
        assert_eq!(self.stage, Stage::Starting, "a block device nobody started");
        if self.adopted {
            let retry_at = self.put_off(why, fx);
            self.stage = Stage::Unstarted { retry_at };
        } else {
            self.remove_unstarted(fx);
        }
    }

    /// Starts its removal; `false`: something else is in progress on it.
    pub(crate) fn begin_removal(&mut self) -> bool {
        let started = match self.stage {
            Stage::Built | Stage::Unstarted { .. } => false,
            Stage::Started => true,
            Stage::Building
            | Stage::Finding
            | Stage::Unrecovered { .. }
            | Stage::Left
            | Stage::Starting
            | Stage::Removing { .. } => return false,
        };
        self.stage = Stage::Removing { started };
        true
    }

    /// Whether it is being removed, or is to be: no path is attached to it any more.
    pub(crate) fn is_going(&self) -> bool {
        match self.stage {
            Stage::Removing { .. } => true,
            Stage::Unstarted { .. } => !self.adopted,
            _ => false,
        }
    }

    /// It could not be removed.
    pub(crate) fn removal_failed(&mut self, why: &Failure, fx: &mut Effects) {
        let Stage::Removing { started } = self.stage else {
            panic!("a removal nobody began");
        };
        self.stage = if started {
            Stage::Started
        } else if self.members.is_empty() && !self.adopted {
            Stage::Built
        } else {
            // It was to be there, and did not start.
            let retry_at = self.put_off(why, fx);
            Stage::Unstarted { retry_at }
        };
    }
}
