//! What the host asks of a path, and what the path reports.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::{Conviction, Stuck, Suspicion};
use umpath_core::{AssociationId, PathId, VolumeShared};
use umpath_nvme::command::Instance;
use umpath_protocol::Failure;
use umpath_session::{AbortAnswer, AnaTable, LostHost, Namespace, Ready, ResetAnswer, ResetRecord};

/// What the host asks of a path.
#[derive(Debug, Clone)]
pub enum Request {
    /// Try to connect now rather than later.
    Retry,
    /// A volume uses the association: its load is evidence.
    Serves(AssociationId, PathId, Arc<VolumeShared>),
    /// A queue thread lost its queue pair.
    Broken(AssociationId, String),
    /// A queue thread has a command in flight that was sent at this time. `Some`: it may be asked back.
    Overdue(AssociationId, Duration, Option<Stuck>),
    /// A command came back with an ANA status.
    RefreshAna(AssociationId),
    /// Ask this association's controller to reset another one.
    ResetOther(AssociationId, Instance),
    /// Read this association's controller's log of resets.
    ReadResets(AssociationId),
    /// Another controller says that this association's has lost us.
    HostLost(AssociationId),
    /// Open so many more I/O queues.
    OpenQueues(AssociationId, u16),
    /// I/O has ended: shut the controller down and end.
    Shutdown,
}

/// What a path reports.
#[derive(Debug)]
pub enum Report {
    /// An attempt failed. `retry_at`: when the next one is due; `None`: none can ever succeed, and
    /// [`Ended`](Self::Ended) follows.
    Failed {
        /// Why.
        failure: Failure,
        /// When the next one begins.
        retry_at: Option<Duration>,
    },
    /// The association is ready for I/O.
    Up(Box<Up>),
    /// More I/O queues are open, as asked by [`Request::OpenQueues`]; none: there are no more.
    Queues(AssociationId, Vec<u16>),
    /// The time in which the path was to come back is over. It goes on trying.
    GivenUp,
    /// The controller's ANA states changed.
    Ana(AssociationId, AnaTable),
    /// The controller's namespaces changed.
    Namespaces(AssociationId, Vec<Namespace>),
    /// The answer to [`Request::ResetOther`].
    Reset {
        /// Who was asked.
        association: AssociationId,
        /// Whom it was to reset.
        impacted: Instance,
        /// What it said.
        answer: ResetAnswer,
    },
    /// A command that was old was asked back; what the controller said.
    Abort {
        /// The command.
        stuck: Stuck,
        /// What it said.
        answer: AbortAnswer,
    },
    /// The controller's log of resets was read, or, with `None`, could not be.
    ResetLog {
        /// Whose controller's.
        association: AssociationId,
        /// Its entries.
        records: Option<Vec<ResetRecord>>,
    },
    /// Controllers that lost this host, by the word of this one.
    LostHosts(Vec<LostHost>),
    /// Evidence against the association.
    Suspect {
        /// Which.
        association: AssociationId,
        /// Since when.
        at: Duration,
        /// What.
        why: Suspicion,
    },
    /// The evidence is gone.
    Clear {
        /// Which association.
        association: AssociationId,
        /// Since when.
        at: Duration,
    },
    /// The association is given up.
    Convict {
        /// Which.
        association: AssociationId,
        /// When.
        at: Duration,
        /// Why.
        why: Conviction,
    },
    /// The admin queue of an association that was ready once is silent since `at`. It comes from the
    /// shell, when [`PathOrder::Release`](super::PathOrder::Release) is done.
    AdminSilent {
        /// Which association.
        association: AssociationId,
        /// Since when.
        at: Duration,
    },
    /// The path has ended as ordered.
    Ended,
}

/// A new association.
#[derive(Debug)]
pub struct Up {
    /// Its number, never used again.
    pub association: AssociationId,
    /// What the controller said.
    pub ready: Ready,
    /// Identifiers of its I/O queues, all idle.
    pub queues: Vec<u16>,
    /// The RDMA device it runs over; the shell fills it in.
    pub device: String,
    /// NUMA node of that device, if known; the shell fills it in.
    pub node: Option<u16>,
}
