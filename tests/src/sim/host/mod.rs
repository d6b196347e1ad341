//! The host: the product's own lanes, control side, sessions, health and fences.
//!
//! Played here is what the daemon and the queue threads do around them: every lane and the control
//! side are actors of their own, and what they tell each other takes time. The order is that of
//! the daemon: one channel in each direction for each lane, first in, first out.

mod control;
mod failover;
mod ladder;
mod lane;
mod path;

use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies::{DampingConfig, Failback, Ranking};
use umpath_core::{
    AssociationId, Device, DeviceConfig, Ghost, GhostTable, Lane, LaneConfig, LaneEvent, LaneId,
    NoPath, PathConfig, PathId, PathTable, VolumeShared,
};
use umpath_session::SessionConfig;

use super::array::LBA_SHIFT;
use super::checker::Violation;
use super::clock::{Nanos, duration};
use super::fabric::QpId;
use super::mutant::Mutant;
use super::plan::{Plan, REQUEST_BLOCKS};
use super::world::World;

pub(crate) use failover::{FencedQueue, Record, Teardown, terms_of};
pub(crate) use ladder::instance_of;
pub(crate) use lane::LaneActor;
pub(crate) use path::PathActor;

/// What the control side tells a lane.
#[derive(Debug, Clone)]
pub(crate) enum LaneOrder {
    Attach {
        path: PathId,
        association: AssociationId,
        qp: QpId,
    },
    Table(Arc<PathTable>),
    Convict(AssociationId),
    Guard(Arc<GhostTable>),
    Locked(AssociationId),
    Fenced(AssociationId),
    FailQueued,
}

/// What a lane tells the control side.
#[derive(Debug, Clone)]
pub(crate) enum LaneReport {
    Drained {
        association: AssociationId,
        silent_at: Nanos,
        ghosts: Vec<Ghost>,
    },
    Broken(AssociationId),
    Event(LaneEvent),
}

impl World {
    /// Somebody's time has come and was dealt with: what it asks for next lies in the future, or its
    /// thread would spin.
    pub(crate) fn check_due(&mut self, whose: &str, due: Option<Duration>) {
        let now = duration(self.now);
        if let Some(due) = due.filter(|due| *due <= now) {
            let what = format!("(15) {whose} asks to be called at {due:?} when it is {now:?}");
            self.fail(Violation(what));
        }
    }
}

/// The host's process.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) alive: bool,
    /// Counts its lives.
    pub(crate) life: u32,
    /// Associations this process had queue pairs of.
    pub(crate) used: Vec<AssociationId>,
    pub(crate) shared: Arc<VolumeShared>,
    pub(crate) device: Device,
    pub(crate) lanes: Vec<LaneActor>,
    pub(crate) paths: Vec<PathActor>,
    pub(crate) teardowns: Vec<Teardown>,
    /// Associations whose ghosts every lane keeps off, by the device's word.
    pub(crate) locked: Vec<AssociationId>,
    /// Associations that execute nothing more, as the host was entitled to conclude.
    pub(crate) fenced: Vec<AssociationId>,
    /// The same, from the moment of the proof: the lanes may have to drain yet.
    pub(crate) proven: Vec<AssociationId>,
    pub(crate) next_association: u64,
    pub(crate) control_stalled_until: Nanos,
    pub(crate) device_timer: Option<Nanos>,
    pub(crate) ladder_timer: Option<Nanos>,
    pub(crate) session_config: SessionConfig,
}

impl Host {
    pub(crate) fn new(
        plan: &Plan,
        mutant: Option<Mutant>,
        session_config: SessionConfig,
        now: Nanos,
    ) -> Self {
        let shared = Arc::new(VolumeShared::new());
        let config = DeviceConfig {
            lba_shift: LBA_SHIFT,
            lanes: plan.lanes as u16,
            selector: plan.selector,
            grouping: plan.grouping,
            ranking: Ranking::default(),
            failback: Failback::Immediate,
            no_path: if mutant == Some(Mutant::FailsWithoutPath) {
                NoPath::Fail
            } else {
                NoPath::Queue
            },
            shared_with_other_hosts: plan.shared && mutant != Some(Mutant::SharingIgnored),
            damping: DampingConfig::default(),
            fast_io_fail: duration(0),
            flush_on_last_del: false,
        };
        let mut device = Device::new(config, duration(now));
        for path in 0..plan.paths() {
            let added = device.add_path(PathId(path as u8), PathConfig::default(), duration(now));
            debug_assert!(added.is_ok());
        }
        let lanes = (0..plan.lanes)
            .map(|lane| {
                let config = LaneConfig {
                    id: LaneId(lane as u16),
                    tags: plan.tags,
                    buffer_bytes: (REQUEST_BLOCKS as u32) << LBA_SHIFT,
                    lba_shift: LBA_SHIFT,
                };
                let table = Arc::new(PathTable::empty(LBA_SHIFT));
                LaneActor::new(Lane::new(config, table, Arc::clone(&shared)))
            })
            .collect();
        Self {
            alive: true,
            life: 1,
            used: Vec::new(),
            shared,
            device,
            lanes,
            paths: (0..plan.paths()).map(|_| PathActor::new(plan)).collect(),
            teardowns: Vec::new(),
            locked: Vec::new(),
            fenced: Vec::new(),
            proven: Vec::new(),
            next_association: 1,
            control_stalled_until: 0,
            device_timer: None,
            ladder_timer: None,
            session_config,
        }
    }
}
