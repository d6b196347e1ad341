//! The host: the product's own [`umpath_host::Host`], paths and queue threads, in a shell of ours.
//!
//! Everything that decides is the product's. Played here is what carries orders out: threads,
//! channels, files, the driver, the adapter. The host, every path and every queue thread are actors
//! of their own, and messages between them take time; between two of them they keep their order.
//!
//! | file | plays |
//! |---|---|
//! | `orders`, `work` | carrying out the host's orders, and what takes time |
//! | `paths`, `connections` | carrying out a path's orders; its queue pairs |
//! | `lanes` | queue threads: when their rounds are, what comes of them |
//! | `io` | their commands, answers and memory |
//! | `front`, `port` | what a queue thread sees of block layer and queue pairs |
//! | `build` | making, taking over, removing block devices |
//! | `process` | death and succession |
//! | `settings` | the configuration |

mod build;
mod connections;
mod front;
mod io;
mod lanes;
mod orders;
mod paths;
mod port;
mod process;
mod settings;
mod words;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use umpath_core::AssociationId;
use umpath_core::association::Suspicion;
use umpath_host::path::AssociationNumbers;
use umpath_host::record::{AssociationRecord, VolumeRecord};
use umpath_host::{
    CallId, Host, LaneNews, Path, Remains, RemovalOutcome, Report, Request, VolumeKey,
};
use umpath_protocol::Failure;
use umpath_session::StableId;

use super::clock::Nanos;
use super::qp::{Assoc, QpId};

pub(crate) use build::Ending;
pub(crate) use lanes::{LaneActor, LaneAt};
pub(crate) use port::{Did, Log, Port, Range, SimQp};
pub(crate) use settings::{asked_for, route_of};

/// What one message to the host brings besides its words: queue pairs.
pub(crate) type Brought = Vec<(AssociationId, u16, QpId)>;

/// Something that happens in the host's process, and not any more when that is over.
#[derive(Debug)]
pub(crate) enum Inside {
    ToLane(LaneAt, Box<umpath_core::LaneCommand<SimQp>>),
    FromLane(LaneAt, Box<LaneNews>, Brought),
    ToPath(u32, Box<Request>),
    FromPath(u32, Box<Report>, Brought),
    PathTimer(u32, Nanos),
    HostTimer(Nanos),
    /// A connection is made, or not.
    Opened {
        path: u32,
        association: AssociationId,
        qid: u16,
        qp: Option<QpId>,
    },
    /// What a path let go of is silent.
    Released {
        path: u32,
        association: AssociationId,
        report: bool,
        qps: Vec<QpId>,
    },
    /// The condition of a path's link is known, or changed.
    Link(u32, AssociationId, umpath_host::path::Link),
    /// A piece of work is done.
    Done(usize),
    /// An operator asks.
    Verb(super::plan::Nuisance),
    /// A mutant unlocks what is locked.
    Unlock(LaneAt, u64),
    /// A mutant calls a record durable.
    RecordedEarly(u32, AssociationId),
    /// A mutant calls something destroyed.
    Destroyed(AssociationId, Remains, Duration),
    /// A mutant asks for a path as an operator does.
    AskedAgain(usize),
    /// A mutant raises a suspicion, or takes it back.
    Swing(u32, AssociationId, Suspicion, bool),
}

/// Work that takes time. Disk and driver are asked when it is done.
#[derive(Debug)]
pub(crate) enum Work {
    Record {
        path: u32,
        association: AssociationId,
        record: Box<AssociationRecord>,
    },
    Forget(Assoc),
    /// The oldest of what the keeper has to write.
    Rewrite,
    Build(Box<umpath_host::VolumeSpec>),
    Recover {
        spec: Box<umpath_host::VolumeSpec>,
        device: u32,
        cookie: u64,
    },
    Find(Box<VolumeRecord>),
    Register(VolumeKey, AssociationId),
    Start(VolumeKey),
    FindUsers(u64, Vec<StableId>),
    Remove {
        removal: u64,
        volume: VolumeKey,
        force: bool,
    },
    /// The end of a removal.
    Removed(u64, VolumeKey, RemovalOutcome),
    /// Deleting a block device that has stopped.
    Sweep(Box<VolumeRecord>),
    Destroy {
        association: AssociationId,
        remains: Remains,
        report: bool,
        qps: Vec<QpId>,
    },
}

/// A path's task.
#[derive(Debug)]
pub(crate) struct PathActor {
    pub(crate) core: Path,
    pub(crate) route: usize,
    /// The host ended it.
    pub(crate) shut_down: bool,
    /// Queue pairs of the association at hand that nobody else has.
    pub(crate) qps: Vec<(u16, QpId)>,
    /// Somebody watches the link of this association.
    pub(crate) watches: Option<AssociationId>,
    pub(crate) inbox_at: Nanos,
    pub(crate) outbox_at: Nanos,
    pub(crate) timer: Option<Nanos>,
}

/// The host's process.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) alive: bool,
    /// Counts its lives.
    pub(crate) life: u32,
    pub(crate) core: Host,
    pub(crate) paths: BTreeMap<u32, PathActor>,
    numbers: AssociationNumbers,
    /// Queue pairs of associations that no queue thread has.
    pub(crate) held: BTreeMap<AssociationId, Vec<(u16, QpId)>>,
    handed_back: BTreeMap<(AssociationId, Remains), QpId>,
    /// Block devices whose memory is registered with associations that are held.
    registered: BTreeSet<(usize, AssociationId)>,
    /// Associations that queue threads were to release, in whatever order.
    pub(crate) released: BTreeSet<AssociationId>,
    /// Block devices of volumes.
    pub(crate) served: BTreeMap<VolumeKey, usize>,
    /// Which association each inherited record stands for.
    pub(crate) inherited: BTreeMap<u64, Assoc>,
    pub(crate) stalled_until: Nanos,
    timer: Option<Nanos>,
    /// Calls that are not answered, and when they were made.
    pub(crate) calls: BTreeMap<CallId, Nanos>,
    call_last: u64,
    /// When a path saw what is being handled.
    pub(crate) reported_at: Option<Nanos>,
    /// A record could not be written.
    pub(crate) record_failed: bool,
    /// Memory could not be registered.
    pub(crate) memory_failed: bool,
    /// It dies when it has carried out so many more orders.
    pub(crate) orders_left: Option<u32>,
}

/// Inherited associations are numbered from here.
const INHERITED: u64 = 1 << 63;

impl Daemon {
    /// Associations that its paths have.
    pub(crate) fn live_associations(&self) -> impl Iterator<Item = AssociationId> {
        self.paths
            .values()
            .filter_map(|path| path.core.association())
    }

    /// It has a path that leads by this route.
    pub(crate) fn wants(&self, route: usize) -> bool {
        let mut paths = self.paths.values();
        paths.any(|path| path.route == route && !path.shut_down && !path.core.is_over())
    }

    /// A block device that serves no volume any more, and whose memory is still registered.
    pub(crate) fn registered_in_vain(&self) -> Option<usize> {
        let serves = |device: &usize| self.served.values().any(|known| known == device);
        let mut devices = self.registered.iter().map(|(device, _)| *device);
        devices.find(|device| !serves(device))
    }

    /// Somebody asks something.
    pub(crate) fn new_call(&mut self, now: Nanos) -> CallId {
        self.call_last += 1;
        let call = CallId(self.call_last);
        self.calls.insert(call, now);
        call
    }

    /// The association of this number, among those of all lives.
    pub(crate) fn assoc(&self, id: AssociationId) -> Assoc {
        let own = Assoc {
            life: self.life,
            id,
        };
        let inherited = id.0.checked_sub(INHERITED);
        let inherited = inherited.and_then(|number| self.inherited.get(&number));
        inherited.copied().unwrap_or(own)
    }
}

/// What a step that a fault forbids says.
fn failure(what: &str) -> Failure {
    Failure::new(what, "the simulator says so", "")
}
