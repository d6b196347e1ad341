//! What a queue thread reports.

use std::io;
use std::time::Duration;

use umpath_core::{AssociationId, Ghost, LaneEvent, ThreadStats};
use umpath_transport::{Loss, Transport};

/// What a queue thread reports.
#[derive(Debug)]
pub enum LaneReport<T: Transport> {
    /// The queue pair of a convicted association, or one that was given up alone, is drained, as far as
    /// it would; or there was no room for it, and it goes back unused.
    Drained {
        /// The association.
        association: AssociationId,
        /// Nothing was sent on the queue pair later than this. `None`: not proved, it may send until
        /// the transport has been dropped. A quiet one is silent.
        silent_at: Option<Duration>,
        /// What is left of it, to be dropped where it disturbs nobody. `None`: there was none.
        transport: Option<T>,
        /// `false`: the device did not confirm in time. Memory counts as in use until the transport
        /// has been dropped and [`LaneCommand::Destroyed`](umpath_core::LaneCommand::Destroyed) says
        /// so; only then comes [`BufferFenced`](Self::BufferFenced).
        quiet: bool,
        /// Time of the report.
        at: Duration,
    },
    /// The lane has passed the buffer fence of a convicted association, or of a queue pair that was given
    /// up alone, which leaves no ghosts. Comes before any later
    /// [`Event`](Self::Event).
    BufferFenced {
        /// The association.
        association: AssociationId,
        /// What the lane lost with it; for [`umpath_core::Device::lane_drained`].
        ghosts: Vec<Ghost>,
        /// Time of the report.
        at: Duration,
    },
    /// A queue pair is of no further use. Commands on it wait for the association's conviction.
    Broken {
        /// The association.
        association: AssociationId,
        /// Cause.
        why: Loss<T::Error>,
        /// Time of the report.
        at: Duration,
    },
    /// The lane noticed something; for [`umpath_core::Device::lane_event`].
    Event {
        /// The event of the lane.
        event: LaneEvent,
        /// Time of the report.
        at: Duration,
    },
    /// Counters.
    Stats(Box<ThreadStats>),
    /// The thread has ended. The last report.
    Ended {
        /// Queue pairs it still had.
        transports: Vec<(AssociationId, T)>,
        /// `Err`: its ring failed or it panicked; the device waits for another server.
        outcome: io::Result<()>,
    },
}

/// Receives the reports of a queue thread. Called between two batches of requests: it must not
/// block, and should not allocate much.
pub trait LaneReports<T: Transport> {
    /// Takes a report.
    fn report(&mut self, report: LaneReport<T>);
}

impl<T: Transport, F: FnMut(LaneReport<T>)> LaneReports<T> for F {
    fn report(&mut self, report: LaneReport<T>) {
        self(report);
    }
}
