//! The event log: single events, and failovers as timelines in milliseconds.

use serde::{Deserialize, Serialize};

/// What happened. Programs match on these words; they only ever grow in number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The daemon started.
    Started,
    /// The daemon is stopping.
    Stopping,
    /// A volume's block device exists now.
    VolumeAdded,
    /// A volume of a daemon that died is being taken over.
    VolumeRecovering,
    /// A volume of a daemon that died is served again.
    VolumeRecovered,
    /// A volume's block device is gone.
    VolumeRemoved,
    /// A path can carry I/O.
    PathReady,
    /// A path was removed by request.
    PathRemoved,
    /// An attempt to connect a path failed; it will be tried again.
    ConnectFailed,
    /// Evidence against a path: it gets no new I/O.
    Suspected,
    /// The evidence went away before a verdict.
    Cleared,
    /// The association is torn down.
    Convicted,
    /// The old association can no longer touch local memory.
    BufferFenced,
    /// Writes of unknown fate are left of the old association. Every queue keeps off their blocks
    /// until the order fence, so they are sent again.
    GhostsLocked,
    /// There are too many writes of unknown fate: every new write waits for the order fences.
    GhostsOverflowed,
    /// An earlier daemon left an association behind that is not fenced: every new write waits.
    Inherited,
    /// The old association can no longer execute anything.
    OrderFenced,
    /// The first I/O completed on another path after a conviction.
    FirstIo,
    /// I/O uses the best group again.
    FailedBack,
    /// Another priority group carries the I/O.
    GroupSwitched,
    /// A controller reported a new ANA state.
    AnaChanged,
    /// The last path is gone.
    NoPath,
    /// A path is back after there was none.
    PathAgain,
    /// A request waits for want of a path.
    QueueingStarted,
    /// Nothing waits for want of a path any more.
    QueueingEnded,
    /// The time to wait for a path is over: I/O without a path fails.
    QueuedFailed,
    /// A controller answered with path errors.
    PathErrors,
    /// A controller was asked to give a command back that it has had for too long.
    CommandAborted,
    /// A path keeps failing, or answers much later than others: it is kept out for a while.
    PathHeld,
    /// A path that was kept out is tried with a few requests.
    PathProbation,
    /// A path that was kept out is an ordinary one again.
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
    /// A subsystem or a namespace is left alone: the configuration says so.
    Ignored,
}

impl EventKind {
    /// The word used in listings and in JSON.
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

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1 since the daemon started; a gap means the ring dropped events.
    pub seq: u64,
    /// Wall clock, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Milliseconds since the daemon started (monotonic).
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// The volume concerned, by name.
    pub volume: Option<String>,
    /// The path concerned, by number.
    pub path: Option<u32>,
    /// In words.
    pub detail: String,
}

/// One failover of one association.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Number of the failover since the daemon started.
    pub id: u64,
    /// The path that was lost.
    pub path: u32,
    /// Its address, `rdma,192.168.10.14:4420`.
    pub address: String,
    /// Volumes it served, by name.
    pub volumes: Vec<String>,
    /// The evidence, in words.
    pub cause: String,
    /// Wall clock of the first mark, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// What happened and how long after the first mark.
    pub marks: Vec<TimelineMark>,
    /// Longest time a request was held up during this failover, milliseconds.
    pub longest_stall_ms: Option<u64>,
}

/// One step of a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineMark {
    /// The step.
    pub kind: EventKind,
    /// Wall clock, milliseconds since 1970.
    pub at_unix_ms: u64,
    /// Milliseconds after the first mark.
    pub after_ms: u64,
    /// In words, may be empty.
    pub detail: String,
}

/// The bounded event log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventListing {
    /// Failovers, oldest first.
    pub failovers: Vec<Timeline>,
    /// Events, oldest first.
    pub events: Vec<Event>,
}
