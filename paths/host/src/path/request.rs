//! The host's requests to a path, and the path's reports.

use std::sync::Arc;
use std::time::Duration;

use umpath_core::association::{Conviction, Stuck, Suspicion};
use umpath_core::{AssociationId, PathId, VolumeShared};
use umpath_nvme::command::Instance;
use umpath_protocol::Failure;
use umpath_session::{AbortAnswer, AnaTable, LostHost, Namespace, Ready, ResetAnswer, ResetRecord};

/// A request of the host to a path.
#[derive(Debug, Clone)]
pub enum Request {
    /// Try to connect now instead of at the scheduled time.
    Retry,
    /// A volume uses the association: its load is evidence.
    Serves(AssociationId, PathId, Arc<VolumeShared>),
    /// A queue thread lost its queue pair.
    Broken(AssociationId, String),
    /// An I/O queue pair is cut off from the controller and cannot be replaced alone.
    CutOff(AssociationId),
    /// The send time of a queue thread's oldest command in flight. `Some`: that command may be
    /// aborted.
    Overdue(AssociationId, Duration, Option<Stuck>),
    /// A command completed with an ANA status.
    RefreshAna(AssociationId),
    /// Ask this association's controller to reset another one.
    ResetOther(AssociationId, Instance),
    /// Read the reset log of this association's controller.
    ReadResets(AssociationId),
    /// Another controller reports that this association's has lost this host.
    HostLost(AssociationId),
    /// Open this many more I/O queues.
    OpenQueues(AssociationId, u16),
    /// I/O has ended: shut the controller down and end.
    Shutdown,
}

/// A report of a path to the host.
#[derive(Debug)]
pub enum Report {
    /// An attempt failed. Without `retry_at` no attempt can succeed, and [`Ended`](Self::Ended)
    /// follows.
    Failed {
        /// The cause, with advice for the operator.
        failure: Failure,
        /// Start of the next attempt.
        retry_at: Option<Duration>,
    },
    /// The association is ready for I/O.
    Up(Box<Up>),
    /// More I/O queues are open, as [`Request::OpenQueues`] asked; empty: there can be no more.
    Queues(AssociationId, Vec<u16>),
    /// The path did not come back within its time limit. It keeps trying.
    GivenUp,
    /// The controller's ANA states changed.
    Ana(AssociationId, AnaTable),
    /// The controller's namespaces changed.
    Namespaces(AssociationId, Vec<Namespace>),
    /// The answer to [`Request::ResetOther`].
    Reset {
        /// The association whose controller was asked.
        association: AssociationId,
        /// The controller it was to reset.
        impacted: Instance,
        /// That controller's reply.
        answer: ResetAnswer,
    },
    /// The controller's reply to the abort of an overdue command.
    Abort {
        /// The overdue command.
        stuck: Stuck,
        /// That reply.
        answer: AbortAnswer,
    },
    /// The controller's reset log was read; without records, reading failed.
    ResetLog {
        /// The association whose controller was read.
        association: AssociationId,
        /// Its entries.
        records: Option<Vec<ResetRecord>>,
    },
    /// This controller reports that these have lost this host.
    LostHosts(Vec<LostHost>),
    /// Evidence against the association.
    Suspect {
        /// The association under suspicion.
        association: AssociationId,
        /// When the evidence began.
        at: Duration,
        /// The evidence.
        why: Suspicion,
    },
    /// The evidence is gone.
    Clear {
        /// The association cleared.
        association: AssociationId,
        /// When it was cleared.
        at: Duration,
    },
    /// The association is given up.
    Convict {
        /// The association convicted.
        association: AssociationId,
        /// Time of the verdict.
        at: Duration,
        /// The evidence that decided it.
        why: Conviction,
    },
    /// The admin queue of a formerly ready association is silent since `at`. The shell sends this
    /// when [`PathOrder::Release`](super::PathOrder::Release) is done.
    AdminSilent {
        /// The released association.
        association: AssociationId,
        /// Start of the silence.
        at: Duration,
    },
    /// The path has ended as ordered.
    Ended,
}

/// A new association.
#[derive(Debug)]
pub struct Up {
    /// Its number, never reused.
    pub association: AssociationId,
    /// What the controller reported, and its I/O queues, all idle.
    pub ready: Ready,
    /// The RDMA device it runs over; set by the shell.
    pub device: String,
    /// NUMA node of that device, if known; set by the shell.
    pub node: Option<u16>,
}
