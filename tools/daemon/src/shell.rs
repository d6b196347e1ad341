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

use tokio::sync::{mpsc, oneshot};
use umpath_host::order::{Answer, CallId};
use umpath_host::path::AssociationNumbers;
use umpath_host::record::VolumeRecord;
use umpath_host::{Host, Report, Request};
use umpath_protocol::{Failure, PathOutcome, Reply};

use crate::association;
use crate::clock;
use crate::context::Context;
use crate::keeper::Kept;
use crate::message::{Message, Wanted};
use crate::server::Call;
use resources::Resources;

/// `EX_SOFTWARE` of sysexits.h: not zero, so that a supervisor starts umpathd again.
pub(crate) const EXIT_SOFTWARE: i32 = 70;

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
    /// Volumes of earlier processes, until [`Self::start`].
    recorded: Vec<VolumeRecord>,
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
            recorded: kept.volumes,
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
                () = clock::due(due) => {}
            }
            // Checked after every input: timers must not wait until the inbox is empty.
            let now = clock::now();
            if self.host.poll_timeout().is_some_and(|due| due <= now) {
                self.host.handle_timeout(now);
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
                if matches!(*report, Report::Ended) {
                    self.paths.remove(&path);
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
            Message::Found(volume, found) => self.host.handle_found(volume, found, now),
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
            Message::Swept(volume, outcome) => self.host.handle_swept(volume, outcome, now),
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
