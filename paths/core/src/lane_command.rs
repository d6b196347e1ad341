//! Commands of the control side to a queue thread.

use std::sync::Arc;

use crate::ghost::GhostTable;
use crate::table::{AssociationId, PathId, PathTable};

/// What the control side asks of a queue thread.
#[derive(Clone, Debug)]
pub enum LaneCommand<T> {
    /// Use this queue pair for the path's commands. Its arena is registered already.
    Attach {
        /// The path.
        path: PathId,
        /// The association the queue pair belongs to.
        association: AssociationId,
        /// The queue pair, empty.
        transport: T,
    },
    /// Choose paths by this table from now on.
    SetTable(Arc<PathTable>),
    /// Give up one queue pair of an association that lives on: it is cut off from the controller. Answered
    /// like `Convict` once it is done; not answered where there is nothing to give up, or where the
    /// fate of a mutation in flight on it would become unknown.
    GiveUpQueue(AssociationId),
    /// Give up an association: send nothing more, drain the queue pair. Answered by the reports
    /// `Drained` and `BufferFenced`, also where the thread had no queue pair of it.
    Convict(AssociationId),
    /// The queue pair handed back undrained has been destroyed: its memory is ours again. Answered
    /// by the report `BufferFenced`.
    Destroyed(AssociationId),
    /// Keep off the blocks of these ghosts. Answered by
    /// [`LaneEvent::Guarded`](crate::LaneEvent::Guarded).
    Guard(Arc<GhostTable>),
    /// Every thread keeps off the blocks of the association's ghosts.
    Locked(AssociationId),
    /// The controller will execute nothing more of the association.
    Fenced(AssociationId),
    /// Fail what waits for a path now. Later requests are not affected.
    FailQueued,
    /// The device is going away: fail what waits, now and from now on.
    Close,
    /// Report the thread's counters ([`ThreadStats`](crate::ThreadStats)).
    Snapshot,
    /// Leave the device to another server: end without answering anything more.
    Stop,
}

impl<T> LaneCommand<T> {
    /// The same command, with the queue pair it brings in another form.
    pub fn map<U>(self, attach: impl FnOnce(AssociationId, T) -> U) -> LaneCommand<U> {
        match self {
            Self::Attach {
                path,
                association,
                transport,
            } => LaneCommand::Attach {
                path,
                association,
                transport: attach(association, transport),
            },
            Self::SetTable(table) => LaneCommand::SetTable(table),
            Self::GiveUpQueue(association) => LaneCommand::GiveUpQueue(association),
            Self::Convict(association) => LaneCommand::Convict(association),
            Self::Destroyed(association) => LaneCommand::Destroyed(association),
            Self::Guard(ghosts) => LaneCommand::Guard(ghosts),
            Self::Locked(association) => LaneCommand::Locked(association),
            Self::Fenced(association) => LaneCommand::Fenced(association),
            Self::FailQueued => LaneCommand::FailQueued,
            Self::Close => LaneCommand::Close,
            Self::Snapshot => LaneCommand::Snapshot,
            Self::Stop => LaneCommand::Stop,
        }
    }
}
