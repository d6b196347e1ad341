//! A volume: one namespace, its block device, and the paths to it.
//!
//! Decided here: nothing about paths. [`umpath_core::Device`] decides which may be used, and what a
//! failover is; this module carries its orders to the queue threads, its events to the event log,
//! and keeps the numbers by which the hub knows the same paths.

mod build;
mod chronicle;
mod counters;
mod failover;
mod measure;
mod namespace;
mod steer;
mod view;

pub(crate) use build::{BlockDevice, Built, build, recover};
pub(crate) use view::PathFacts;

use counters::Counters;
use measure::Measures;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::policies;
use umpath_core::{
    AssociationId, BlockLimits, Device, LaneCommand, LaneEvent, LaneId, Limits, NoPath, Output,
    PATHS_MAX, PathConfig, PathId, VolumeShared,
};
use umpath_protocol::Failure;
use umpath_rdma::{HostQueue, QueueError};
use umpath_session::{AnaState, NamespaceFacts, StableId};
use umpath_transport::{Arena, Loss};
use umpath_ublk::LaneHandle;

use crate::clock;
use crate::config::{NoPathRetry, VolumePolicy};
use crate::events::{EventLog, FailoverId};
use crate::keeper::VolumeRecord;

/// What a volume is made of.
#[derive(Debug, Clone)]
pub(crate) struct VolumeSpec {
    pub(crate) id: StableId,
    pub(crate) name: String,
    pub(crate) nqn: String,
    pub(crate) serial: String,
    pub(crate) model: String,
    pub(crate) firmware: String,
    pub(crate) nsid: u32,
    pub(crate) namespace: NamespaceFacts,
    pub(crate) limits: BlockLimits,
    pub(crate) queues: u16,
    pub(crate) depth: u16,
    pub(crate) polling: Duration,
    /// How long a lane's queue pair may take to drain; then it is destroyed.
    pub(crate) drain_deadline: Duration,
    pub(crate) policy: VolumePolicy,
}

/// A new path as the hub describes it.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// The hub's number of the path.
    pub(crate) path: u32,
    pub(crate) association: AssociationId,
    pub(crate) nsid: u32,
    pub(crate) limits: Limits,
    /// `None`: the controller reports no ANA.
    pub(crate) ana: Option<policies::AnaState>,
    pub(crate) ana_group: u32,
    pub(crate) serial: String,
    pub(crate) cntlid: u16,
    pub(crate) address: String,
    pub(crate) steering: PathConfig,
    /// NUMA node of its RDMA device, if known.
    pub(crate) node: Option<u16>,
    /// One queue pair for each queue thread.
    pub(crate) queues: Vec<HostQueue>,
}

/// A path of the volume.
#[derive(Debug)]
struct Member {
    /// The hub's number.
    path: u32,
    /// The core's number.
    number: PathId,
    /// The last association, whether or not it lives.
    association: AssociationId,
    nsid: u32,
    /// Of the queue pair that each queue thread has.
    qids: Vec<u16>,
    ana_group: u32,
    preferred: bool,
    /// Where marks of its current failover go.
    failover: Option<FailoverId>,
}

/// How far the block device has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It and its queue threads are being made.
    Building,
    /// Queue threads run; the block device waits for its first path.
    Built,
    /// It is being started.
    Starting,
    /// It is there for everyone.
    Started,
}

/// A volume.
pub(crate) struct Volume {
    spec: VolumeSpec,
    stage: Stage,
    shared: Arc<VolumeShared>,
    core: Device,
    events: EventLog,
    /// Absent while it is being made or removed.
    device: Option<BlockDevice>,
    device_id: u32,
    handles: Vec<LaneHandle<HostQueue>>,
    /// Queue threads that have ended: they confirm nothing any more.
    ended: BTreeSet<u16>,
    arenas: Vec<Arc<Arena>>,
    members: Vec<Member>,
    /// Longest stalls being measured.
    measures: Measures,
    counters: Counters,
    path_faults: u64,
    group_switches: u64,
    /// What proved the last order fence.
    surety: String,
    /// There was a path, and there is none now.
    pathless: bool,
    /// What is kept of it for the next umpathd, once its block device is made.
    record: Option<VolumeRecord>,
    recovered: bool,
}

impl Volume {
    /// A volume whose block device is still to be made.
    pub(crate) fn new(spec: VolumeSpec, events: EventLog) -> Self {
        let shared = Arc::new(VolumeShared::new());
        let core = Device::new(
            spec.policy
                .device_config(spec.namespace.lba_shift, spec.queues),
            clock::now(),
        );
        Self {
            spec,
            stage: Stage::Building,
            shared,
            core,
            events,
            device: None,
            device_id: u32::MAX,
            handles: Vec::new(),
            ended: BTreeSet::new(),
            arenas: Vec::new(),
            members: Vec::new(),
            measures: Measures::default(),
            counters: Counters::default(),
            path_faults: 0,
            group_switches: 0,
            surety: String::new(),
            pathless: false,
            record: None,
            recovered: false,
        }
    }

    pub(crate) fn id(&self) -> StableId {
        self.spec.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(crate) fn nqn(&self) -> &str {
        &self.spec.nqn
    }

    /// `ublkb0`, or what stands for it before the driver gave it a number.
    pub(crate) fn device_name(&self) -> String {
        if self.device_id == u32::MAX {
            "(no device yet)".to_owned()
        } else {
            format!("ublkb{}", self.device_id)
        }
    }

    /// Counters its queue threads share.
    pub(crate) fn shared(&self) -> &Arc<VolumeShared> {
        &self.shared
    }

    /// The queue threads' memory, once there are any.
    pub(crate) fn arenas(&self) -> Option<Vec<Arc<Arena>>> {
        (self.stage != Stage::Building).then(|| self.arenas.clone())
    }

    /// Queue threads.
    pub(crate) fn lanes(&self) -> usize {
        self.handles.len()
    }

    pub(crate) fn is_started(&self) -> bool {
        self.stage == Stage::Started
    }

    /// The block device was made and nobody ever saw it.
    pub(crate) fn is_unborn(&self) -> bool {
        self.stage == Stage::Built
    }

    /// The hub's numbers of its paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.path)
    }

    pub(crate) fn has_path(&self, path: u32) -> bool {
        self.paths().any(|known| known == path)
    }

    /// Block device and queue threads are there.
    pub(crate) fn built(&mut self, built: Built) {
        self.stage = Stage::Built;
        self.record = Some(built.record);
        self.recovered = built.recovered;
        self.device_id = built.device.info().id;
        self.handles = built.device.lanes().cloned().collect();
        self.ended.clear();
        self.measures.set_lanes(self.handles.len());
        self.counters.set_lanes(self.handles.len());
        self.arenas = built.arenas;
        self.device = Some(built.device);
        // The driver may have made fewer queues than wished for, and each has to confirm a fence.
        let lanes = self.handles.len() as u16;
        let config = self
            .spec
            .policy
            .device_config(self.spec.namespace.lba_shift, lanes);
        self.core = Device::new(config, clock::now());
        if self.recovered {
            self.core
                .set_no_path(self.first_path_policy(), clock::now());
        }
    }

    /// What becomes of requests before the first path of a volume that was taken over.
    fn first_path_policy(&self) -> NoPath {
        let least = crate::hub::FIRST_PATH_PATIENCE;
        match self.spec.policy.no_path_retry {
            NoPathRetry::Queue => NoPath::Queue,
            NoPathRetry::Fail => NoPath::QueueFor(least),
            NoPathRetry::For(time) => NoPath::QueueFor(time.max(least)),
        }
    }

    /// Its block device was made by an umpathd before this one.
    pub(crate) fn is_recovered(&self) -> bool {
        self.recovered
    }

    /// What is kept of it on disk.
    pub(crate) fn record(&self) -> Option<VolumeRecord> {
        self.record.clone()
    }

    /// Gives the queue threads their queue pairs of a new association. Returns the core's number of
    /// the path.
    pub(crate) fn attach(&mut self, new: Attachment) -> Result<PathId, Failure> {
        let number = self.member_for(&new)?;
        let Attachment {
            association,
            nsid,
            limits,
            ana_group,
            queues,
            ..
        } = new;
        for (handle, transport) in self.handles.iter().zip(queues) {
            let attach = LaneCommand::Attach {
                path: number,
                association,
                transport,
            };
            if let Err(gone) = handle.send(attach) {
                // The thread has ended, and the volume with it: nothing will use the queue pair.
                tokio::task::spawn_blocking(move || drop(gone));
            }
        }
        let ready = umpath_core::Ready {
            association,
            nsid,
            limits,
            ana: new.ana,
            ana_group,
            controller: Some(policies::ControllerKey {
                serial: padded(&new.serial),
                cntlid: new.cntlid,
            }),
            node: new.node,
        };
        self.core.path_ready(number, ready, clock::now());
        if self.recovered {
            // From its first path on it is a volume like any other.
            let policy = self.spec.policy.no_path();
            self.core.set_no_path(policy, clock::now());
        }
        self.pump();
        Ok(number)
    }

    fn member_for(&mut self, new: &Attachment) -> Result<PathId, Failure> {
        if let Some(member) = self
            .members
            .iter_mut()
            .find(|member| member.path == new.path)
        {
            member.association = new.association;
            member.nsid = new.nsid;
            member.qids = new.queues.iter().map(HostQueue::qid).collect();
            member.ana_group = new.ana_group;
            return Ok(member.number);
        }
        let free = (0..PATHS_MAX as u8)
            .map(PathId)
            .find(|number| self.members.iter().all(|member| member.number != *number));
        let Some(number) = free else {
            return Err(Failure::new(
                format!("volume {} cannot use {}", self.name(), new.address),
                format!("a volume has at most {PATHS_MAX} paths"),
                "disconnect a path that is not needed",
            ));
        };
        self.core
            .add_path(number, new.steering, clock::now())
            .map_err(|error| {
                let what = format!("volume {} cannot use {}", self.spec.name, new.address);
                Failure::new(what, error.to_string(), "")
            })?;
        self.members.push(Member {
            path: new.path,
            number,
            association: new.association,
            nsid: new.nsid,
            qids: new.queues.iter().map(HostQueue::qid).collect(),
            ana_group: new.ana_group,
            preferred: new.steering.preferred,
            failover: None,
        });
        Ok(number)
    }

    /// Lets the block device appear, if that has not been done.
    pub(crate) fn start(&mut self, hub: &tokio::sync::mpsc::UnboundedSender<crate::hub::Message>) {
        let Some(device) = self.device.as_mut().filter(|_| self.stage == Stage::Built) else {
            return;
        };
        self.stage = Stage::Starting;
        let (id, name, told) = (self.spec.id, self.spec.name.clone(), hub.clone());
        let failure = move |error: umpath_ublk::Error| {
            Failure::new(
                format!("cannot start the block device of {name}"),
                error.to_string(),
                "dmesg tells more",
            )
        };
        let explain = failure.clone();
        let done = Box::new(move |outcome: Result<(), umpath_ublk::Error>| {
            let _ = told.send(crate::hub::Message::Started(id, outcome.map_err(explain)));
        });
        if let Err(error) = device.start(done) {
            let _ = hub.send(crate::hub::Message::Started(id, Err(failure(error))));
        }
    }

    /// The block device is there for everyone.
    pub(crate) fn started(&mut self) {
        self.stage = Stage::Started;
    }

    /// Takes the block device to remove it.
    pub(crate) fn take_device(&mut self) -> Option<BlockDevice> {
        if matches!(self.stage, Stage::Building | Stage::Starting) {
            return None;
        }
        self.device.take()
    }

    /// Gives a block device back that could not be removed.
    pub(crate) fn put_back(&mut self, device: BlockDevice) {
        self.device = Some(device);
    }

    /// A queue thread noticed something.
    pub(crate) fn lane_event(&mut self, queue: u16, event: LaneEvent, at: Duration) {
        self.core.lane_event(LaneId(queue), event, at);
        self.pump();
    }

    /// Whether I/O waits while there is no path.
    pub(crate) fn set_queueing(&mut self, on: bool) {
        let no_path = if on { NoPath::Queue } else { NoPath::Fail };
        self.core.set_no_path(no_path, clock::now());
        self.pump();
    }

    /// Sends nothing new on an association that is to be taken away.
    pub(crate) fn retire(&mut self, association: AssociationId) {
        if let Some((number, _)) = self.load_of(association) {
            self.core.retire_path(number, clock::now());
            self.pump();
        }
    }

    /// The load of an association's path.
    pub(crate) fn load_of(
        &self,
        association: AssociationId,
    ) -> Option<(PathId, Arc<VolumeShared>)> {
        let path = self
            .core
            .paths()
            .find(|path| path.association == Some(association))?;
        Some((path.path, self.shared.clone()))
    }

    /// Forgets a path.
    pub(crate) fn path_removed(&mut self, path: u32) {
        let Some(at) = self.members.iter().position(|member| member.path == path) else {
            return;
        };
        let member = self.members.swap_remove(at);
        self.core.remove_path(member.number, clock::now());
        self.pump();
    }

    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let window = self.core.window_ends().filter(|_| self.is_started());
        [self.core.poll_timeout(), window]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        if self.core.window_ends().is_some_and(|at| at <= now) {
            self.core.end_window(&self.shared, now);
            self.pump();
        }
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
            self.pump();
        }
    }

    fn send_all(&self, command: impl Fn() -> LaneCommand<HostQueue>) {
        for handle in &self.handles {
            // A thread that has ended needs to know nothing any more.
            let _ = handle.send(command());
        }
    }

    /// Carries out what the core has decided.
    fn pump(&mut self) {
        if self.stage == Stage::Building {
            return;
        }
        while let Some(output) = self.core.poll_output() {
            match output {
                Output::Publish(table) => {
                    self.send_all(|| LaneCommand::SetTable(table.clone()));
                }
                Output::Convict(association) => {
                    self.send_all(|| LaneCommand::Convict(association));
                }
                Output::Guard(ghosts) => self.send_all(|| LaneCommand::Guard(ghosts.clone())),
                Output::Locked(association) => self.send_all(|| LaneCommand::Locked(association)),
                Output::Fenced(association) => self.send_all(|| LaneCommand::Fenced(association)),
                Output::FailQueued => self.send_all(|| LaneCommand::FailQueued),
                Output::Event(event) => self.log(&event),
            }
        }
    }
}

/// The core's word for what an ANA log says of a namespace. One that the log does not know cannot be
/// accessed, as far as anyone knows.
pub(crate) fn ana_state(reported: Option<AnaState>) -> policies::AnaState {
    match reported {
        Some(AnaState::Optimized) => policies::AnaState::Optimized,
        Some(AnaState::NonOptimized) => policies::AnaState::NonOptimized,
        Some(AnaState::Inaccessible) | None => policies::AnaState::Inaccessible,
        Some(AnaState::PersistentLoss) => policies::AnaState::PersistentLoss,
        Some(AnaState::Change) => policies::AnaState::Change,
    }
}

/// A serial number as Identify Controller pads it.
fn padded(serial: &str) -> [u8; 20] {
    let mut bytes = [b' '; 20];
    for (to, from) in bytes.iter_mut().zip(serial.bytes()) {
        *to = from;
    }
    bytes
}

/// Why a queue pair is of no further use.
pub(crate) fn loss_in_words(why: &Loss<QueueError>) -> String {
    match why {
        Loss::Failed(error) => error.to_string(),
        Loss::Disconnected => "the controller closed the connection".to_owned(),
        Loss::DeviceRemoved => "the RDMA device is being removed".to_owned(),
        Loss::Unregistered(error) => format!("memory is not registered: {error}"),
    }
}
