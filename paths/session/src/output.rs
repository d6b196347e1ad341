//! What a session tells its host to do, and what it reports.

use std::time::Duration;

use umpath_nvme::command::Instance;
use umpath_nvme::{AsyncEvent, Sqe};

use crate::abort::{AbortAnswer, IoCommand};
use crate::ana::AnaTable;
use crate::ask::AdminData;
use crate::discovery_log::DiscoveryLog;
use crate::error::SessionError;
use crate::facts::ControllerFacts;
use crate::namespace::Namespace;
use crate::resets::{LostHost, ResetAnswer, ResetRecord};

/// An order to the host.
#[derive(Debug)]
pub enum SessionOutput {
    /// Open the transport queue, then call `handle_queue_connected` or `handle_queue_failed`.
    OpenQueue {
        /// 0 is the admin queue.
        qid: u16,
        /// Controller the queue belongs to; `FFFFh` for the admin queue, whose controller is not
        /// yet known.
        cntlid: u16,
        /// Entries of the submission queue (the wire carries this minus one).
        depth: u16,
    },
    /// Send one command. The host fills in the SGL; everything else of the capsule is final.
    Send {
        /// Queue to send on.
        qid: u16,
        /// The command, its data pointer left zero.
        sqe: Sqe,
        /// Its data.
        data: AdminData,
    },
    /// Close an I/O queue that is not used, and report nothing of it any more. Nothing was sent on it, or
    /// its only command was answered. Another queue may get its identifier, with the next
    /// [`Self::OpenQueue`].
    CloseQueue {
        /// The queue.
        qid: u16,
    },
    /// Something the rest of the system should know.
    Event(Event),
    /// Close every queue of the association. Nothing follows but the final [`Event::Failed`] or
    /// [`Event::Closed`], which always follows.
    CloseAll,
}

/// What a session reports.
#[derive(Debug)]
pub enum Event {
    /// The controller is identified; I/O queues are opened next. Tells the host, among others, how
    /// much data an I/O queue takes in a capsule and which incarnation it is about to talk to.
    Identified(Box<ControllerFacts>),
    /// I/O queues are connected, at least one, and every namespace is known. I/O may start.
    Ready(Box<Ready>),
    /// The I/O queues asked for with [`Controller::add_io_queues`](crate::Controller::add_io_queues)
    /// that connected; none: they could not be had.
    QueuesAdded(Vec<u16>),
    /// The discovery log was read (`Discovery` only). Call `shutdown` or keep the association.
    Discovered(DiscoveryLog),
    /// ANA states differ from those last reported, or were read because the host asked.
    AnaChanged(AnaTable),
    /// The ANA log could not be read; what was reported last stays in force and another attempt
    /// follows.
    AnaStale(SessionError),
    /// The complete list of namespaces after a change.
    NamespacesChanged(Vec<Namespace>),
    /// Namespaces changed but some or all could not be read; what was reported of those stays in force
    /// and further attempts follow, less and less often.
    NamespacesStale(SessionError),
    /// A keep-alive was answered.
    KeepAlive {
        /// When it was sent.
        sent_at: Duration,
        /// When the answer was handled.
        answered_at: Duration,
    },
    /// The oldest unanswered keep-alive has been waiting for `count` whole heartbeats. Evidence,
    /// not a verdict: the session goes on until its host says otherwise.
    KeepAliveMissed {
        /// Whole heartbeats elapsed since that keep-alive was sent.
        count: u32,
    },
    /// The answer to [`Controller::reset_other`](crate::Controller::reset_other).
    Reset {
        /// The incarnation that was to be reset.
        impacted: Instance,
        /// What the controller said, or that it said nothing.
        answer: ResetAnswer,
    },
    /// The answer to [`Controller::abort`](crate::Controller::abort).
    Abort {
        /// The command that was to be aborted.
        command: IoCommand,
        /// What the controller said, or that it said nothing.
        answer: AbortAnswer,
    },
    /// The log of resets was read, because the controller announced news or the host asked.
    Resets(Vec<ResetRecord>),
    /// The log of resets could not be read. Nothing follows by itself.
    ResetsUnknown(SessionError),
    /// Controllers of the subsystem that lost this host. Complete, and may repeat what was told.
    LostHosts(Vec<LostHost>),
    /// An asynchronous event the session does not act on.
    Notice(AsyncEvent),
    /// The association is over. Follows [`SessionOutput::CloseAll`].
    Failed(SessionError),
    /// The shutdown the host asked for is over. Follows [`SessionOutput::CloseAll`].
    Closed {
        /// Whether the controller confirmed that its shutdown is complete.
        orderly: bool,
    },
}

/// Everything known once an association is ready.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The controller.
    pub facts: ControllerFacts,
    /// Its active namespaces, in ascending order of identifier.
    pub namespaces: Vec<Namespace>,
    /// Its ANA states; `None` if it does not report any, and then every namespace is optimized.
    pub ana: Option<AnaTable>,
    /// Identifiers of the I/O queues that connected. May be fewer than asked; those that are missing
    /// can be [added](crate::Controller::add_io_queues).
    pub io_queues: Vec<u16>,
    /// Entries of each I/O submission queue; one fewer commands may be outstanding. May be smaller
    /// than asked.
    pub io_depth: u16,
}
