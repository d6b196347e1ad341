//! A shell that does at once whatever the host orders, unless it is told to fail.

mod shell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use umpath_core::{
    AssociationId, Ghost, LaneCommand, LaneEvent, LaneStats, PathTable, QueueStats, ThreadStats,
};
use umpath_host::order::{Answer, CallId, Order, Remains, Verb};
use umpath_host::path::Up;
use umpath_host::policy::VolumePolicy;
use umpath_host::record::{Asked, AssociationRecord, RecordKey, VolumeRecord};
use umpath_host::{
    DeviceFacts, Found, Host, LaneNews, PathSpec, RemovalOutcome, Report, Request, VolumeKey,
    VolumeSpec, Wanted,
};
use umpath_nvme::Nqn;
use umpath_protocol::{Association, DaemonView, DisconnectTarget, Failure, PathOutcome, Snapshot};
use umpath_session::{
    AnaTable, BackoffPolicy, ControllerFacts, Namespace, Ready, ReconnectPolicy, SessionConfig,
    StableId,
};

pub(crate) use super::machine::{Disk, Failing, Late};
use super::sample::{Plain, facts, policy};

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) struct Rig {
    pub(crate) host: Host,
    pub(crate) now: Duration,
    pub(crate) disk: Disk,
    pub(crate) failing: Failing,
    pub(crate) late: Late,
    held_back: VecDeque<Done>,
    /// Queue pairs do not drain before they are destroyed.
    pub(crate) stubborn: bool,
    /// Queues of the block devices that are made.
    pub(crate) device_queues: u16,
    /// Volumes that queue threads serve, with the last table each was told.
    pub(crate) tables: BTreeMap<StableId, Arc<PathTable>>,
    /// Queue threads that were told a table.
    pub(crate) told_tables: BTreeMap<StableId, BTreeSet<u16>>,
    /// Every table, in the order they were published.
    pub(crate) published: Vec<Arc<PathTable>>,
    queues: BTreeMap<VolumeKey, u16>,
    /// Associations of which the queue threads of a volume have queue pairs.
    attached: BTreeSet<(VolumeKey, AssociationId)>,
    /// Volumes that were dropped, until their queue threads have ended.
    dropped: BTreeSet<VolumeKey>,
    /// Queue threads that were told of the end of a queue pair they had handed back.
    pub(crate) freed: Vec<(StableId, u16, AssociationId)>,
    /// What concerns single queue pairs of queue threads.
    pub(crate) told: Vec<(u16, LaneCommand<u16>)>,
    /// Queue threads do not answer by themselves.
    pub(crate) mute: bool,
    pub(crate) specs: Vec<PathSpec>,
    pub(crate) requests: Vec<(u32, Request)>,
    pub(crate) answers: BTreeMap<CallId, Answer>,
    pub(crate) destroyed: Vec<(AssociationId, Remains)>,
    /// Block devices that were made, one after the other.
    pub(crate) made: u32,
    pub(crate) successor: Vec<String>,
    /// Somebody has every block device open.
    pub(crate) used: bool,
    /// What queue threads report of an association when they release it.
    pub(crate) ghosts: Vec<Ghost>,
    /// Associations that queue threads were to release.
    pub(crate) convicted: BTreeSet<AssociationId>,
    /// Associations whose queue pairs no queue thread has, as the shell holds them.
    held: BTreeSet<AssociationId>,
    /// Volumes whose memory is registered with associations that still exist.
    pub(crate) registered: BTreeSet<(VolumeKey, AssociationId)>,
    associations: u64,
    inherited: Vec<u64>,
    calls: u64,
    done: VecDeque<Done>,
}

enum Done {
    Recorded(u32, AssociationId, Box<AssociationRecord>),
    Discarded(VolumeKey),
    Found(Box<VolumeRecord>),
    Counted(VolumeKey, u16),
    Swept(StableId),
    Built(Box<VolumeSpec>, Option<u32>),
    Registered(VolumeKey, AssociationId),
    Started(VolumeKey),
    Removed(u64, VolumeKey),
    Destroyed(AssociationId, Remains),
    Users(u64, Vec<StableId>),
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(policy(), Disk::default())
    }

    /// A process that finds this on disk, and does what `umpathd` does at its start.
    pub(crate) fn with(policy: VolumePolicy, disk: Disk) -> Self {
        Self::failing(policy, disk, Failing::default())
    }

    pub(crate) fn failing(policy: VolumePolicy, disk: Disk, failing: Failing) -> Self {
        let (names, numbers) = (disk.names.clone(), disk.numbers.clone());
        let now = ms(0);
        let mut rig = Self {
            host: Host::new(Arc::new(Plain(policy)), names, numbers, now, 0),
            now,
            failing,
            late: Late::default(),
            held_back: VecDeque::new(),
            stubborn: false,
            device_queues: 2,
            tables: BTreeMap::new(),
            told_tables: BTreeMap::new(),
            published: Vec::new(),
            queues: BTreeMap::new(),
            attached: BTreeSet::new(),
            dropped: BTreeSet::new(),
            freed: Vec::new(),
            told: Vec::new(),
            mute: false,
            specs: Vec::new(),
            requests: Vec::new(),
            answers: BTreeMap::new(),
            destroyed: Vec::new(),
            made: 0,
            successor: Vec::new(),
            used: false,
            ghosts: Vec::new(),
            convicted: BTreeSet::new(),
            held: BTreeSet::new(),
            registered: BTreeSet::new(),
            associations: 1_000 * (1 + disk.associations.len() as u64),
            inherited: Vec::new(),
            calls: 0,
            done: VecDeque::new(),
            disk,
        };
        for (number, key) in rig.disk.associations.keys().copied().enumerate() {
            rig.inherited.push(key);
            let record = rig.disk.associations[&key].clone();
            rig.host.handle_inherited(number as u64, &record, now);
        }
        for record in rig.disk.volumes.values().cloned().collect::<Vec<_>>() {
            let found = rig.found(&record);
            let paths = record.paths.clone();
            if rig.host.handle_recorded_volume(record, found, now) {
                for asked in paths {
                    rig.want(asked, true);
                }
            }
        }
        rig
    }

    /// What the driver says of a recorded block device.
    fn found(&self, record: &VolumeRecord) -> Found {
        match self.disk.devices.get(&record.device) {
            _ if self.failing.driver => Found::Unknown,
            Some((cookie, queues)) if *cookie == record.cookie => {
                Found::Waiting { queues: *queues }
            }
            _ => Found::Gone,
        }
    }

    /// Does what is ordered, and what follows from it.
    pub(crate) fn settle(&mut self) {
        loop {
            while let Some(order) = self.host.poll_order() {
                self.carry_out(order);
            }
            let Some(done) = self.done.pop_front() else {
                break;
            };
            let late = match done {
                Done::Recorded(..) => self.late.records,
                Done::Removed(..) => self.late.removals,
                Done::Built(..) => self.late.builds,
                Done::Registered(..) => self.late.registers,
                Done::Discarded(..) => self.late.ends,
                Done::Destroyed(..) => self.late.destructions,
                Done::Counted(..) => self.late.counters,
                Done::Found(..) => self.late.answers,
                Done::Users(..) => self.late.users,
                _ => false,
            };
            if late {
                self.held_back.push_back(done);
            } else {
                self.finish(done);
            }
        }
    }

    /// Asks for a removal; its call.
    pub(crate) fn disconnect(&mut self, target: DisconnectTarget, force: bool) -> CallId {
        let call = self.call();
        let verb = Verb::Disconnect { target, force };
        self.host.handle_verb(call, verb, self.now);
        self.settle();
        call
    }

    /// What was late is done.
    pub(crate) fn finish_late(&mut self) {
        self.late = Late::default();
        self.finish_held_back();
    }

    /// What is no longer late is done.
    pub(crate) fn finish_held_back(&mut self) {
        self.done.append(&mut self.held_back);
        self.settle();
    }

    /// Lets time pass.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.settle();
        let until = self.now + by;
        while let Some(due) = self.host.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.host.handle_timeout(self.now);
            let next = self.host.poll_timeout();
            assert!(
                next.is_none_or(|next| next > self.now),
                "it spins at {:?}",
                self.now
            );
            self.settle();
        }
        self.now = until;
    }

    pub(crate) fn call(&mut self) -> CallId {
        self.calls += 1;
        CallId(self.calls)
    }

    /// Asks for a path; its call.
    pub(crate) fn want(&mut self, asked: Asked, standing: bool) -> CallId {
        self.wanted(asked, standing, false)
    }

    /// Discovery finds a path again.
    pub(crate) fn rediscover(&mut self, asked: Asked) -> CallId {
        self.wanted(asked, true, true)
    }

    fn wanted(&mut self, asked: Asked, standing: bool, rediscovered: bool) -> CallId {
        let call = self.call();
        let address: IpAddr = asked.portal.traddr.parse().unwrap();
        let session = SessionConfig {
            io_queues_per_namespace: asked.options.nr_io_queues.unwrap_or(2),
            ..SessionConfig::new(
                Nqn::new("nqn.2026-11.example:host").unwrap(),
                [1; 16],
                Nqn::new(&asked.nqn).unwrap(),
            )
        };
        let spec = PathSpec {
            id: 0,
            traddr: (address, 4420).into(),
            host_traddr: None,
            nqn: Nqn::new(&asked.nqn).unwrap(),
            session,
            reconnect: ReconnectPolicy {
                first: ms(20),
                backoff: BackoffPolicy {
                    base: ms(50),
                    cap: ms(500),
                },
                refused: ms(500),
                settle: ms(1_000),
                ctrl_loss: None,
            },
            health: umpath_core::association::HealthConfig::default(),
            drain_deadline: ms(100),
            preferred: false,
            weight: 1,
            throughput: 1,
        };
        let call_given = Some(call);
        let wanted = Wanted {
            spec,
            asked,
            standing,
            rediscovered,
            call: call_given,
        };
        self.host.handle_connect(wanted, self.now);
        self.settle();
        call
    }

    /// A path is up with these namespaces; its association.
    pub(crate) fn up(&mut self, path: u32, namespaces: &[Namespace]) -> AssociationId {
        self.up_with(path, facts(path as u16), namespaces)
    }

    pub(crate) fn up_with(
        &mut self,
        path: u32,
        facts: ControllerFacts,
        namespaces: &[Namespace],
    ) -> AssociationId {
        self.up_as(path, facts, None, namespaces)
    }

    /// The association that serves a volume through a path.
    pub(crate) fn association_of(&self, path: u32) -> AssociationId {
        let serves = |(known, request): &(u32, Request)| match request {
            Request::Serves(association, ..) if *known == path => Some(*association),
            _ => None,
        };
        self.requests.iter().rev().find_map(serves).unwrap()
    }

    pub(crate) fn up_as(
        &mut self,
        path: u32,
        facts: ControllerFacts,
        ana: Option<AnaTable>,
        namespaces: &[Namespace],
    ) -> AssociationId {
        self.associations += 1;
        let association = AssociationId(self.associations);
        let spec = self
            .specs
            .iter()
            .rev()
            .find(|spec| spec.id == path)
            .unwrap();
        let io_queues = spec.session.io_queues_per_namespace * namespaces.len().max(1) as u16;
        let up = Up {
            association,
            ready: Ready {
                facts,
                namespaces: namespaces.to_vec(),
                ana,
                io_queues: (1..=io_queues).collect(),
                io_depth: 65,
            },
            device: "rxe0".to_owned(),
            node: None,
        };
        self.held.insert(association);
        self.report(path, Report::Up(Box::new(up)));
        association
    }

    pub(crate) fn report(&mut self, path: u32, report: Report) {
        self.host.handle_report(path, report, self.now);
        self.settle();
    }

    /// A path loses its association.
    pub(crate) fn lose(&mut self, path: u32, association: AssociationId) {
        let at = self.now;
        let why = umpath_core::association::Conviction::QueueFailed;
        self.report(
            path,
            Report::Convict {
                association,
                at,
                why,
            },
        );
        self.report(path, Report::AdminSilent { association, at });
    }

    pub(crate) fn path_answer(&mut self, call: CallId) -> Option<Result<PathOutcome, Failure>> {
        match self.answers.remove(&call)? {
            Answer::Path(outcome) => Some(outcome),
            other @ Answer::Reply(_) => panic!("{other:?}"),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.host.snapshot(DaemonView {
            version: String::new(),
            pid: 0,
            uptime_ms: 0,
            hostnqn: String::new(),
            hostid: String::new(),
            rdma_devices: Vec::new(),
            detection: Vec::new(),
            orphans: Vec::new(),
        })
    }

    pub(crate) fn association(&self, path: u32) -> Association {
        let associations = self.snapshot().associations;
        associations.into_iter().find(|it| it.path == path).unwrap()
    }

    /// Paths that queue threads may use for a volume.
    pub(crate) fn usable(&self, id: StableId) -> usize {
        let table = self.tables.get(&id);
        table.map_or(0, |table| {
            table.paths.iter().filter(|path| path.usable).count()
        })
    }

    /// Words of the events so far.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let events = self.host.events().events.into_iter();
        events
            .map(|event| (event.kind.word().to_owned(), event.detail))
            .collect()
    }
}
