//! The event log: single events, and failovers as timelines in milliseconds.

use serde::{Deserialize, Serialize};

/// Kind of an event. Programs match on these values; later versions only add to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon started.
    Started,
    /// The daemon is stopping.
    Stopping,
    /// A volume's block device was created.
    VolumeAdded,
    /// Takeover of a dead daemon's volume has started.
    VolumeRecovering,
    /// A dead daemon's volume is served again.
    VolumeRecovered,
    /// A volume's block device was removed.
    VolumeRemoved,
    /// A path can carry I/O.
    PathReady,
    /// A path was removed by request.
    PathRemoved,
    /// An attempt to connect a path failed; it will be retried.
    ConnectFailed,
    /// There is evidence against a path: it gets no new I/O.
    Suspected,
    /// The evidence went away before a verdict.
    Cleared,
    /// The association is torn down.
    Convicted,
    /// Buffer fence: the old association can no longer access local memory.
    BufferFenced,
    /// Ghosts: the old association left writes of unknown fate. Every queue holds back writes to
    /// their blocks until the order fence; then they are resent.
    GhostsLocked,
    /// There are too many ghosts: every new write waits for the order fences.
    GhostsOverflowed,
    /// An earlier daemon left an unfenced association behind: every new write waits.
    Inherited,
    /// Order fence: the old association can no longer execute anything.
    OrderFenced,
    /// The first I/O completed on another path after a conviction.
    FirstIo,
    /// I/O is back on the best group.
    FailedBack,
    /// I/O moved to another priority group.
    GroupSwitched,
    /// A controller reported a new ANA state.
    AnaChanged,
    /// The last path is gone.
    NoPath,
    /// A path is back after there was none.
    PathAgain,
    /// A request waits because there is no path.
    QueueingStarted,
    /// No request waits for a path any more.
    QueueingEnded,
    /// The wait for a path is over: I/O without a path now fails.
    QueuedFailed,
    /// A controller answered with path errors.
    PathErrors,
    /// A queue pair was cut off from its controller, and another one took its place; the association lives.
    QueueReplaced,
    /// A controller was asked to abort a command that is overdue.
    CommandAborted,
    /// A path keeps failing or is much slower than others: it is marginal for a while.
    PathHeld,
    /// A marginal path is probed with a few requests.
    PathProbation,
    /// A marginal path is an ordinary one again.
    PathSound,
    /// A path was failed by request.
    PathFailed,
    /// A path was reinstated by request.
    PathReinstated,
    /// The preference for a path was changed by request.
    PathPreferred,
    /// A priority group was chosen by request.
    GroupChosen,
    /// The policies of a volume were changed by request.
    PolicyChanged,
    /// A namespace changed.
    NamespaceChanged,
    /// A request or a namespace was refused.
    Refused,
    /// The configuration ignores a subsystem or a namespace.
    Ignored,
}

impl EventKind {
    /// The name used in listings and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stopping => "stopping",
            Self::VolumeAdded => "volume_added",
            Self::VolumeRecovering => "volume_recovering",
            Self::VolumeRecovered => "volume_recovered",
            Self::VolumeRemoved => "volume_removed",
            Self::PathReady => "path_ready",
            Self::PathRemoved => "path_removed",
            Self::ConnectFailed => "connect_failed",
            Self::Suspected => "suspected",
            Self::Cleared => "cleared",
            Self::Convicted => "convicted",
            Self::BufferFenced => "buffer_fenced",
            Self::GhostsLocked => "ghosts_locked",
            Self::GhostsOverflowed => "ghosts_overflowed",
            Self::Inherited => "inherited",
            Self::OrderFenced => "order_fenced",
            Self::FirstIo => "first_io",
            Self::FailedBack => "failed_back",
            Self::GroupSwitched => "group_switched",
            Self::AnaChanged => "ana_changed",
            Self::NoPath => "no_path",
            Self::PathAgain => "path_again",
            Self::QueueingStarted => "queueing_started",
            Self::QueueingEnded => "queueing_ended",
            Self::QueuedFailed => "queued_failed",
            Self::PathErrors => "path_errors",
            Self::QueueReplaced => "queue_replaced",
            Self::CommandAborted => "command_aborted",
            Self::PathHeld => "path_held",
            Self::PathProbation => "path_probation",
            Self::PathSound => "path_sound",
            Self::PathFailed => "path_failed",
            Self::PathReinstated => "path_reinstated",
            Self::PathPreferred => "path_preferred",
            Self::GroupChosen => "group_chosen",
            Self::PolicyChanged => "policy_changed",
            Self::NamespaceChanged => "namespace_changed",
            Self::Refused => "refused",
            Self::Ignored => "ignored",
        }
    }
}

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 since the daemon started; a gap means the ring dropped events.
    pub seq: u64,
    /// Wall clock, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Milliseconds since the daemon started (monotonic).
    pub at_ms: u64,
    /// Kind of the event.
    pub kind: EventKind,
    /// The volume concerned, by name.
    pub volume: Option<String>,
    /// The path concerned, by number.
    pub path: Option<u32>,
    /// Details for display.
    pub detail: String,
}

/// One failover of one association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Number of the failover since the daemon started.
    pub id: u64,
    /// The path that was lost.
    pub path: u32,
    /// Address of that path, `rdma,192.168.10.14:4420`.
    pub address: String,
    /// Volumes the path served, by name.
    pub volumes: Vec<String>,
    /// The evidence that started it, for display.
    pub cause: String,
    /// Wall clock of the first mark, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// Steps of the failover, in order of time.
    pub marks: Vec<TimelineMark>,
    /// Longest time a request was held up during this failover, milliseconds.
    pub longest_stall_ms: Option<u64>,
}

/// One step of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineMark {
    /// Kind of the step.
    pub kind: EventKind,
    /// Wall clock, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Milliseconds after the first mark.
    pub after_ms: u64,
    /// Details for display; may be empty.
    pub detail: String,
}

/// The contents of the bounded event log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventListing {
    /// Failovers, oldest first.
    pub failovers: Vec<Timeline>,
    /// Events, oldest first.
    pub events: Vec<Event>,
}
