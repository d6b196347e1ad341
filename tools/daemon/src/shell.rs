//! The shell of the host: it gives [`umpath_host::Host`] its events and carries out its orders.
//!
//! Decided here: nothing about paths, associations and volumes. Everything that happens arrives as a
//! [`Message`] or a call of the control socket, is passed to the host with the time, and what the
//! host orders is carried out at once or, where it takes time (verbs teardown, ublk commands, memory
//! registration, files), elsewhere; its end comes back as a message.
//!
//! | file | concern |
//! |---|---|
//! | `start` | what earlier processes left, and what the configuration wants to stand |
//! | `orders` | carrying out orders |
//! | `resources` | queue pairs, domains and block devices by the names the host has for them |
//! | `lanes` | reports of queue threads |
//! | `calls` | requests of the control socket |

mod calls;
mod lanes;
mod orders;
mod resources;
mod start;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use umpath_core::AssociationId;
use umpath_engine::LaneReport;
use umpath_host::order::{Answer, CallId, Remains};
use umpath_host::path::AssociationNumbers;
use umpath_host::record::Asked;
use umpath_host::{Host, Report, Request};
use umpath_protocol::{Failure, PathOutcome, Reply};
use umpath_rdma::{Domain, HostQueue};
use umpath_session::StableId;

use crate::association;
use crate::build::{BlockDevice, Built};
use crate::clock;
use crate::config::Config;
use crate::identity::Identity;
use crate::keeper::{Keeper, Kept};
use crate::links::Links;
use crate::records::Records;
use crate::server::Call;
use crate::settings::InForce;
use resources::Resources;

/// `EX_SOFTWARE` of sysexits.h: not zero, so that a supervisor starts umpathd again.
pub(crate) const EXIT_SOFTWARE: i32 = 70;

/// What comes with a report of a path.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) association: AssociationId,
    pub(crate) queues: Vec<HostQueue>,
    /// Where memory for those queues is registered; with the first ones.
    pub(crate) domain: Option<Arc<Domain>>,
}

/// A path to make.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What, with an address that is understood.
    pub(crate) asked: Asked,
    /// Keep trying although it was never up.
    pub(crate) standing: bool,
    /// Told when it is up, or that it could not be made.
    pub(crate) reply: Option<oneshot::Sender<Result<PathOutcome, Failure>>>,
}

/// What happens.
pub(crate) enum Message {
    /// A path reports.
    Report(u32, Box<Report>, Option<Brought>),
    /// A queue thread reports.
    Lane(StableId, u16, Box<LaneReport<HostQueue>>),
    /// A path is wanted.
    Connect(Box<Wanted>),
    /// A portal offered a subsystem that is left alone.
    Ignored(Failure),
    /// A new association was put on disk, or could not be.
    Recorded(u32, AssociationId, Result<(), Failure>),
    /// A volume's block device was made, or could not be.
    Built(StableId, Result<Box<Built>, Failure>),
    /// The memory of a volume is registered with an association, or could not be.
    Registered(StableId, AssociationId, Result<(), Failure>),
    /// The block device is there for everyone, or could not be started.
    Started(StableId, Result<(), Failure>),
    /// What was left of an association has been destroyed at this time.
    Destroyed(AssociationId, Remains, Duration),
    /// Who uses which volume was found out for a removal.
    Users(u64, Vec<(StableId, Vec<String>)>),
    /// A volume's block device was removed, or was not.
    Removed(u64, StableId, Option<Box<BlockDevice>>, Result<(), Failure>),
    /// A block device that no record names was deleted, or was not.
    OrphanDeleted(CallId, u32, Result<(), Failure>),
    /// SIGTERM or SIGINT.
    Stop,
}

/// What every part of the daemon may know.
#[derive(Debug)]
pub(crate) struct Context {
    /// The configuration in force.
    pub(crate) config: Config,
    /// Who this host is.
    pub(crate) identity: Identity,
    /// `discovery.conf`.
    pub(crate) discovery_conf: std::path::PathBuf,
    /// Links of RDMA devices.
    pub(crate) links: Links,
    /// Volumes, names and numbers on disk.
    pub(crate) keeper: Keeper,
    /// Files of associations.
    pub(crate) records: Records,
    /// Order fences are not waited for: data are at risk. For drills only.
    pub(crate) unfenced: bool,
}

impl Context {
    /// The configuration, as the host asks for it.
    pub(crate) fn settings(&self) -> InForce {
        InForce {
            config: self.config.clone(),
            unfenced: self.unfenced,
        }
    }
}

/// Somebody who waits for an answer.
enum Asker {
    Path(oneshot::Sender<Result<PathOutcome, Failure>>),
    Reply(oneshot::Sender<Reply>),
}

/// Runs the host.
pub(crate) struct Shell {
    context: Arc<Context>,
    host: Host,
    inbox: mpsc::UnboundedReceiver<Message>,
    /// Given to everyone who reports.
    outbox: mpsc::UnboundedSender<Message>,
    calls: mpsc::Receiver<Call>,
    /// Tasks of paths.
    paths: BTreeMap<u32, mpsc::UnboundedSender<Request>>,
    around: association::Around,
    resources: Resources,
    askers: HashMap<CallId, Asker>,
    call_last: u64,
}

impl Shell {
    /// A shell of an empty host, and where to send messages to.
    pub(crate) fn new(
        context: Arc<Context>,
        kept: Kept,
        calls: mpsc::Receiver<Call>,
    ) -> (Self, mpsc::UnboundedSender<Message>) {
        let (outbox, inbox) = mpsc::unbounded_channel();
        let settings = Arc::new(context.settings());
        let now = clock::now();
        let host = Host::new(settings, kept.names, kept.numbers, now, clock::unix_ms());
        let around = association::Around {
            links: context.links.clone(),
            numbers: AssociationNumbers::default(),
            shell: outbox.clone(),
        };
        let shell = Self {
            context,
            host,
            inbox,
            outbox: outbox.clone(),
            calls,
            paths: BTreeMap::new(),
            around,
            resources: Resources::default(),
            askers: HashMap::new(),
            call_last: 0,
        };
        (shell, outbox)
    }

    /// Runs until the daemon may end.
    pub(crate) async fn run(mut self) {
        self.start();
        self.carry_out_all();
        while !self.host.is_over() {
            let due = self.host.poll_timeout();
            tokio::select! {
                biased;
                Some(message) = self.inbox.recv() => self.handle(message),
                Some(call) = self.calls.recv() => self.call(call),
                () = clock::due(due) => self.host.handle_timeout(clock::now()),
            }
            self.carry_out_all();
        }
    }

    fn handle(&mut self, message: Message) {
        let now = clock::now();
        self.host.handle_wall_clock(clock::unix_ms(), now);
        match message {
            Message::Report(path, report, brought) => {
                if let Some(brought) = brought {
                    self.resources.bring(brought);
                }
                self.host.handle_report(path, *report, now);
            }
            Message::Lane(volume, queue, report) => self.lane(volume, queue, *report),
            Message::Connect(wanted) => self.connect(*wanted),
            Message::Ignored(failure) => self.host.note_ignored(&failure, now),
            Message::Recorded(path, association, outcome) => {
                self.host.handle_recorded(path, association, outcome, now);
            }
            Message::Built(volume, outcome) => {
                let outcome = outcome.map(|built| self.resources.built(volume, *built));
                self.host.handle_built(volume, outcome, now);
            }
            Message::Registered(volume, association, outcome) => {
                self.host
                    .handle_registered(volume, association, outcome, now);
            }
            Message::Started(volume, outcome) => self.host.handle_started(volume, outcome, now),
            Message::Destroyed(association, remains, at) => {
                self.host.handle_destroyed(association, remains, at, now);
            }
            Message::Users(removal, users) => self.host.handle_users(removal, &users, now),
            Message::Removed(removal, volume, device, outcome) => {
                self.resources.removed(volume, device);
                self.host.handle_removed(removal, volume, outcome, now);
            }
            Message::OrphanDeleted(call, device, outcome) => {
                self.host.handle_orphan_deleted(call, device, outcome, now);
            }
            Message::Stop => self.host.handle_stop(now),
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer) {
        // An asker that has gone away needs no answer.
        match (self.askers.remove(&call), answer) {
            (Some(Asker::Path(asker)), Answer::Path(answer)) => drop(asker.send(answer)),
            (Some(Asker::Reply(asker)), Answer::Reply(answer)) => drop(asker.send(answer)),
            (asker, answer) => panic!(
                "call {call:?} is answered with {answer:?}, but {} asked",
                if asker.is_some() {
                    "something else was"
                } else {
                    "nobody"
                }
            ),
        }
    }

    fn ask(&mut self, asker: Asker) -> CallId {
        self.call_last += 1;
        let call = CallId(self.call_last);
        self.askers.insert(call, asker);
        call
    }

    /// Runs blocking work elsewhere; what it returns comes back as a message.
    fn elsewhere(&self, work: impl FnOnce() -> Message + Send + 'static) {
        let outbox = self.outbox.clone();
        tokio::task::spawn_blocking(move || {
            let _ = outbox.send(work());
        });
    }
}
