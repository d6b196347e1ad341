//! What happened, for the failover timeline.

use core::fmt;
use core::time::Duration;

use umpath_nvme::Status;
use umpath_policies::{AnaState, Fault};

use crate::association::{Conviction, Suspicion};
use crate::table::{AssociationId, PathId};

/// Which lane of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u16);

/// What a lane noticed; handed to [`Device::lane_event`](crate::Device::lane_event).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneEvent {
    /// The controller refused the namespace with an ANA status. The lane leaves the path alone
    /// until a table with a higher `ana_epoch` comes.
    AnaStatus {
        /// On which path.
        path: PathId,
        /// Through which association.
        association: AssociationId,
        /// What it said.
        status: Status,
    },
    /// The controller answered with a path error; reported for the 1st, 2nd, 4th, 8th ... of a queue.
    PathError {
        /// On which path.
        path: PathId,
        /// Through which association.
        association: AssociationId,
        /// What it said.
        status: Status,
        /// How many there were.
        count: u32,
    },
    /// The first command sent after a conviction was answered with success by another path.
    FirstIo {
        /// The association that was convicted.
        lost: AssociationId,
        /// The path that answered.
        path: PathId,
        /// Longest time a request had been waiting by then.
        stall: Duration,
    },
    /// A command has been in flight for long; reported again while it is.
    Overdue {
        /// On which path.
        path: PathId,
        /// Through which association.
        association: AssociationId,
        /// When the oldest one was sent.
        since: Duration,
        /// Its identifier on the lane's queue, where it is one that never takes long: a read or a write. A
        /// discard of a whole disk may be as slow elsewhere.
        cid: Option<u16>,
    },
    /// A queue pair answers nothing, although a read or a write is in flight on it; reported again and
    /// again while that is so. Others of its association may be answering.
    QueueSilent {
        /// On which path.
        path: PathId,
        /// Through which association.
        association: AssociationId,
        /// Since when: a read or a write has been in flight, and nothing was answered.
        since: Duration,
        /// The read or write sent last of those that have been in flight all that time. Whether it
        /// arrived tells a queue pair that is cut off from a controller that is slow.
        cid: u16,
        /// Something in flight on it may change the medium: only the order fence of its association
        /// tells what becomes of that.
        mutations: bool,
    },
    /// A request waits for want of a path.
    QueueingStarted,
    /// Requests that waited for a path are on their way, or failed.
    QueueingEnded,
    /// The lane keeps off the ghosts of this table, and nothing it sent before overlaps one any
    /// more.
    Guarded {
        /// [`GhostTable::generation`](crate::ghost::GhostTable::generation).
        generation: u64,
    },
}

/// One event of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When it happened, by the host's clock.
    pub at: Duration,
    /// The path concerned.
    pub path: Option<PathId>,
    /// The association concerned.
    pub association: Option<AssociationId>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A path was configured.
    PathAdded,
    /// A path was taken out of the configuration.
    PathRemoved,
    /// A path has an association.
    PathUp,
    /// A path lost its association in good order.
    PathDown,
    /// Evidence against a path: it gets no new I/O.
    Suspected(Suspicion),
    /// The evidence is gone.
    Cleared,
    /// The association is being torn down.
    Convicted(Conviction),
    /// An earlier run of the host left the association behind, not fenced.
    Inherited,
    /// No lane's memory can be touched by the old association any more.
    BufferFenced,
    /// Mutations of unknown fate are left of the association: until its order fence every lane
    /// keeps off their blocks, and they may be sent again.
    GhostsLocked {
        /// How many.
        ghosts: u32,
    },
    /// There are too many ghosts: all new mutations wait for the order fences.
    GhostsOverflowed,
    /// The old association will execute nothing any more.
    OrderFenced,
    /// The first command after a conviction succeeded, on `path`.
    FirstIo {
        /// Longest time a request of that lane had been waiting by then.
        stall: Duration,
    },
    /// The group of `path` carries the I/O, because the one before has no usable path.
    GroupSwitched,
    /// The better group of `path` carries the I/O again.
    FailedBack,
    /// The controller reports another ANA state for the namespace.
    AnaChanged(AnaState),
    /// The controller refused the namespace with this ANA status.
    AnaStatus(Status),
    /// The controller answered with path errors.
    PathErrors {
        /// The last one.
        status: Status,
        /// How many on this queue.
        count: u32,
    },
    /// There is no usable path.
    NoPath,
    /// There is a usable path again.
    PathAgain,
    /// A request waits for want of a path.
    QueueingStarted,
    /// Nothing waits for want of a path any more.
    QueueingEnded,
    /// Requests without a path fail from now on.
    QueueingExpired,
    /// The path keeps failing: it belongs to the last resort for so long.
    Held {
        /// What it did.
        fault: Fault,
        /// How long.
        time: Duration,
    },
    /// The path is tried with a few requests.
    Probation,
    /// The path is an ordinary one again.
    Sound,
    /// An operator failed the path.
    PathFailed,
    /// An operator reinstated the path.
    PathReinstated,
    /// An operator changed the preference for the path.
    Preferred(bool),
    /// An operator made the group of `path` carry the I/O.
    GroupChosen,
    /// The policies of the volume changed.
    PolicyChanged,
}

impl EventKind {
    /// Word for logs and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::PathAdded => "path_added",
            Self::PathRemoved => "path_removed",
            Self::PathUp => "path_up",
            Self::PathDown => "path_down",
            Self::Suspected(_) => "suspected",
            Self::Cleared => "cleared",
            Self::Convicted(_) => "convicted",
            Self::Inherited => "inherited",
            Self::BufferFenced => "buffer_fenced",
            Self::GhostsLocked { .. } => "ghosts_locked",
            Self::GhostsOverflowed => "ghosts_overflowed",
            Self::OrderFenced => "order_fenced",
            Self::FirstIo { .. } => "first_io",
            Self::GroupSwitched => "group_switched",
            Self::FailedBack => "failed_back",
            Self::AnaChanged(_) => "ana_changed",
            Self::AnaStatus(_) => "ana_status",
            Self::PathErrors { .. } => "path_errors",
            Self::NoPath => "no_path",
            Self::PathAgain => "path_again",
            Self::QueueingStarted => "queueing_started",
            Self::QueueingEnded => "queueing_ended",
            Self::QueueingExpired => "queueing_expired",
            Self::Held { .. } => "held",
            Self::Probation => "probation",
            Self::Sound => "sound",
            Self::PathFailed => "path_failed",
            Self::PathReinstated => "path_reinstated",
            Self::Preferred(_) => "preferred",
            Self::GroupChosen => "group_chosen",
            Self::PolicyChanged => "policy_changed",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Self::Suspected(why) => write!(f, ": {why}"),
            Self::Convicted(why) => write!(f, ": {why}"),
            Self::GhostsLocked { ghosts } => write!(f, ": {ghosts} writes of unknown fate"),
            Self::FirstIo { stall } => write!(f, " after {} ms", stall.as_millis()),
            Self::AnaChanged(state) => write!(f, ": {state}"),
            Self::AnaStatus(status) => write!(f, ": {status}"),
            Self::Held { fault, time } => {
                let why = match fault {
                    Fault::Lost => "lost too often",
                    Fault::Outlier => "much slower than others",
                };
                write!(f, ": {why}, for {} s", time.as_secs_f32())
            }
            Self::Preferred(on) => f.write_str(if *on { ": on" } else { ": off" }),
            Self::PathErrors { status, count } => write!(f, ": {count}, last: {status}"),
            _ => Ok(()),
        }
    }
}
