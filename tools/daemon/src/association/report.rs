//! What the hub asks of a path's task, and what the task tells the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use umpath_core::association::{Conviction, Stuck, Suspicion};
use umpath_core::{AssociationId, PathId, VolumeShared};
use umpath_nvme::command::Instance;
use umpath_protocol::Failure;
use umpath_rdma::{Domain, HostQueue};
use umpath_session::{AbortAnswer, AnaTable, LostHost, Namespace, Ready, ResetAnswer, ResetRecord};

use crate::hub::Message;

/// What the hub asks of a path.
#[derive(Debug)]
pub(crate) enum Order {
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
    /// I/O has ended: shut the controller down and end the task.
    Shutdown,
}

/// What a path tells the hub.
#[derive(Debug)]
pub(crate) enum Report {
    /// An attempt failed. `retry_at`: when the next one is due; `None`: the path is given up.
    Failed {
        failure: Failure,
        retry_at: Option<Duration>,
    },
    /// The association is ready for I/O.
    Up(Box<Up>),
    /// The controller's ANA states changed.
    Ana(AssociationId, AnaTable),
    /// The controller's namespaces changed.
    Namespaces(AssociationId, Vec<Namespace>),
    /// The answer to [`Order::ResetOther`].
    Reset {
        association: AssociationId,
        impacted: Instance,
        answer: ResetAnswer,
    },
    /// A command that was old was asked back; what the controller said.
    Abort { stuck: Stuck, answer: AbortAnswer },
    /// The controller's log of resets was read, or, with `None`, could not be.
    ResetLog {
        association: AssociationId,
        records: Option<Vec<ResetRecord>>,
    },
    /// Controllers that lost this host, by the word of this one.
    LostHosts(Vec<LostHost>),
    /// Evidence against the association.
    Suspect {
        association: AssociationId,
        at: Duration,
        why: Suspicion,
    },
    /// The evidence is gone.
    Clear {
        association: AssociationId,
        at: Duration,
    },
    /// The association is given up.
    Convict {
        association: AssociationId,
        at: Duration,
        why: Conviction,
    },
    /// The admin queue of an association that was given up is silent since `at`.
    AdminSilent {
        association: AssociationId,
        at: Duration,
    },
    /// The path has ended as ordered.
    Ended,
}

/// A new association.
#[derive(Debug)]
pub(crate) struct Up {
    /// Its number, never used again.
    pub(crate) association: AssociationId,
    /// What the controller said.
    pub(crate) ready: Ready,
    /// Its I/O queues, all idle.
    pub(crate) queues: Vec<HostQueue>,
    /// Where memory for those queues is registered.
    pub(crate) domain: Arc<Domain>,
}

/// Sends reports with the path's number on them.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    pub(super) path: u32,
    pub(super) hub: mpsc::UnboundedSender<Message>,
}

impl Reporter {
    pub(super) fn send(&self, report: Report) {
        // The hub outlives its paths; when it does not, the process is ending.
        let _ = self.hub.send(Message::Path(self.path, report));
    }
}
