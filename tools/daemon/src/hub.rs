//! The hub: one task that owns every path and every volume.
//!
//! Everything that happens arrives as a [`Message`] and is handled to its end without waiting, so
//! there are no locks and no half-done states to see. Whatever takes time (verbs teardown, ublk
//! commands, memory registration, discovery) runs elsewhere and comes back as a message. What the
//! events of paths *mean* is decided in `umpath_core`; here they are matched with the volumes they
//! concern.
//!
//! | file | concern |
//! |---|---|
//! | `paths` | paths come, try, and go |
//! | `attach` | a new association meets its volumes |
//! | `namespaces` | what a live association says of its namespaces |
//! | `ignore` | what the configuration leaves alone |
//! | `failover` | suspicion, conviction, the two fences |
//! | `ladder` | how the order fence is reached |
//! | `inherit` | associations that outlive what knew of them |
//! | `disconnect` | removal that refuses rather than half-removes |
//! | `recover` | taking over the volumes of an umpathd that died |
//! | `retire` | taking a path from volumes that live on |
//! | `connect_all` | discovery and standing connections |
//! | `verbs` | requests of the control socket |
//! | `steer` | paths, groups and policies changed by hand |
//! | `snapshot` | what listings are drawn from |
//! | `stop` | the end of the daemon |

mod attach;
mod connect_all;
mod disconnect;
mod failover;
mod ignore;
mod inherit;
mod ladder;
mod namespaces;
mod paths;
mod recover;
mod retire;
mod snapshot;
mod stats;
mod steer;
mod stop;
mod teardown;
mod verbs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use umpath_core::AssociationId;
use umpath_engine::LaneReport;
use umpath_protocol::{ConnectOptions, EventKind, Failure, PathOutcome, Portal};
use umpath_rdma::HostQueue;
use umpath_session::StableId;

use crate::association::Report;
use crate::clock;
use crate::config::Config;
use crate::events::{EventLog, Subject};
use crate::host::Host;
use crate::keeper::Keeper;
use crate::links::Links;
use crate::names::Names;
use crate::records::Records;
use crate::server::Call;
use crate::volume::{BlockDevice, Built, Volume};

pub(crate) use failover::EXIT_SOFTWARE;
use paths::PathRecord;
pub(crate) use recover::FIRST_PATH_PATIENCE;
use teardown::Teardown;

/// How often usage is looked at while the daemon waits to end.
const USAGE_LOOK: Duration = Duration::from_secs(1);

/// What happens.
pub(crate) enum Message {
    /// A path reports.
    Path(u32, Report),
    /// A queue thread reports.
    Lane(StableId, u16, Box<LaneReport<HostQueue>>),
    /// A path is wanted.
    Connect(Box<Wanted>),
    /// A new association was put on disk, or could not be.
    Recorded(u32, AssociationId, Result<(), Failure>),
    /// A volume's block device was made, or could not be.
    Built(StableId, Result<Box<Built>, Failure>),
    /// The memory of a volume is registered with an association, or could not be.
    Registered(StableId, AssociationId, Result<(), Failure>),
    /// The block device is there for everyone, or could not be started.
    Started(StableId, Result<(), Failure>),
    /// What was handed back of an association has been destroyed.
    Destroyed(AssociationId, Remains, Duration),
    /// The order fence of an association stands.
    Fenced(AssociationId),
    /// The effects of a failover are over: see how long requests were held up.
    Settled(AssociationId),
    /// Queue threads may have told their counters.
    Counters(stats::Question),
    /// Nothing is in flight any more on a path that is being taken away, or it took too long.
    Idle(u32, AssociationId),
    /// Who uses which volume was looked up for a removal.
    Looked(u64, Vec<(StableId, Vec<String>)>),
    /// A volume's block device was removed, or was not.
    Removed(u64, StableId, Option<Box<BlockDevice>>, Result<(), Failure>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// What was destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// Queue pairs that no queue thread ever had.
    Spare,
    /// The queue pair of this queue thread, which had not drained.
    Lane(StableId, u16),
}

/// A path to make.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Where.
    pub(crate) portal: Portal,
    /// To which subsystem.
    pub(crate) nqn: String,
    /// How.
    pub(crate) options: ConnectOptions,
    /// Keep trying although it was never up.
    pub(crate) standing: bool,
    /// Told when it is up, or that it could not be made.
    pub(crate) reply: Option<oneshot::Sender<Result<PathOutcome, Failure>>>,
}

/// What every part of the daemon may know.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration in force.
    pub(crate) config: Config,
    /// Who this host is.
    pub(crate) host: Host,
    /// `discovery.conf`.
    pub(crate) discovery_conf: std::path::PathBuf,
    /// Links of RDMA devices.
    pub(crate) links: Links,
    /// The event log.
    pub(crate) events: EventLog,
    /// Volumes on disk.
    pub(crate) keeper: Keeper,
    /// Files of associations.
    pub(crate) records: Records,
    /// Order fences are not waited for: data are at risk. For drills only.
    pub(crate) unfenced: bool,
}

/// The owner of everything.
pub(crate) struct Hub {
    context: Arc<Context>,
    names: Names,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Given to everyone who reports.
    outbox: mpsc::UnboundedSender<Message>,
    calls: mpsc::Receiver<Call>,
    paths: BTreeMap<u32, PathRecord>,
    path_last: u32,
    volumes: BTreeMap<StableId, Volume>,
    /// Associations given up, until their order fence stands.
    teardowns: BTreeMap<AssociationId, Teardown>,
    removals: BTreeMap<u64, disconnect::Removal>,
    removal_last: u64,
    /// Set once the daemon is to end.
    stopping: Option<stop::Stopping>,
}

impl Hub {
    /// An empty hub, and where to send messages to.
    pub(crate) fn new(
        context: Arc<Context>,
        names: Names,
        calls: mpsc::Receiver<Call>,
    ) -> (Self, mpsc::UnboundedSender<Message>) {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let hub = Self {
            context,
            names,
            inbox,
            outbox: outbox.clone(),
            calls,
            paths: BTreeMap::new(),
            path_last: 0,
            volumes: BTreeMap::new(),
            teardowns: BTreeMap::new(),
            removals: BTreeMap::new(),
            removal_last: 0,
            stopping: None,
        };
        (hub, outbox)
    }

    /// Runs until the daemon may end.
    pub(crate) async fn run(mut self) {
        self.context
            .events
            .record(EventKind::Started, Subject::default(), "");
        self.inherit_associations();
        self.recover_volumes();
        self.start_standing();
        while !self.is_over() {
            let wake = self.wake_at();
            tokio::select! {
                biased;
                Some(message) = self.inbox.recv() => self.handle(message),
                Some(call) = self.calls.recv() => self.call(call),
                () = tokio::time::sleep_until(wake) => self.time_passed(),
            }
        }
    }

    /// When something is due although nothing happened.
    fn wake_at(&self) -> tokio::time::Instant {
        let volumes = self.volumes.values().filter_map(Volume::poll_timeout);
        let stopping = self.stopping.as_ref().map(|stopping| stopping.look_at);
        let next = volumes.chain(stopping).chain(self.ladders_due()).min();
        next.map_or_else(
            || tokio::time::Instant::now() + Duration::from_secs(3600),
            clock::instant,
        )
    }

    fn time_passed(&mut self) {
        let now = clock::now();
        for volume in self.volumes.values_mut() {
            volume.handle_timeout(now);
        }
        self.climb(now);
        self.look_whether_unused(now);
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Path(path, report) => self.path_report(path, report),
            Message::Lane(volume, queue, report) => self.lane_report(volume, queue, *report),
            Message::Connect(wanted) => self.connect(*wanted),
            Message::Recorded(path, association, outcome) => {
                self.recorded(path, association, outcome);
            }
            Message::Built(volume, outcome) => self.built(volume, outcome),
            Message::Registered(volume, association, outcome) => {
                self.registered(volume, association, outcome);
            }
            Message::Started(volume, outcome) => self.started(volume, outcome),
            Message::Destroyed(association, remains, at) => {
                self.destroyed(association, remains, at);
            }
            Message::Fenced(association) => self.order_fenced(association),
            Message::Settled(association) => self.settled(association),
            Message::Counters(question) => self.look_at_counters(question),
            Message::Idle(path, association) => self.idle(path, association),
            Message::Looked(removal, users) => self.looked(removal, &users),
            Message::Removed(removal, volume, device, outcome) => {
                self.removed(removal, volume, device, outcome);
            }
            Message::Stop => self.stop(),
        }
        self.settle();
    }

    /// Answers whoever waited for what is true now.
    fn settle(&mut self) {
        self.settle_connects();
        self.settle_removals();
    }

    /// Runs blocking work elsewhere; what it returns comes back as a message.
    fn elsewhere(&self, work: impl FnOnce() -> Message + Send + 'static) {
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let _ = outbox.send(work());
        });
    }
}
