//! What the shell of the host is sent by everything that runs beside it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use umpath_core::AssociationId;
use umpath_engine::LaneReport;
use umpath_host::order::{CallId, Remains, RemovalOutcome};
use umpath_host::record::Asked;
use umpath_host::record::VolumeRecord;
use umpath_host::{Found, Report, VolumeKey};
use umpath_protocol::{Failure, PathOutcome};
use umpath_rdma::{Domain, HostQueue};
use umpath_session::StableId;
use umpath_transport::Arena;
use umpath_ublk::Device;

/// What comes with a report of a path.
#[derive(Debug)]
pub(crate) struct Brought {
    pub(crate) association: AssociationId,
    pub(crate) queues: Vec<HostQueue>,
    /// Where memory for those queues is registered; with the first ones.
    pub(crate) domain: Option<Arc<Domain>>,
}

/// A path to make.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// What, with an address that is understood.
    pub(crate) asked: Asked,
    /// Keep trying although it was never up.
    pub(crate) standing: bool,
    /// Discovery found it again.
    pub(crate) rediscovered: bool,
    /// Told when it is up, or that it could not be made.
    pub(crate) reply: Option<oneshot::Sender<Result<PathOutcome, Failure>>>,
}

/// The block device of a volume.
pub(crate) type BlockDevice = Device<HostQueue>;

/// A block device nobody sees yet, and its queue threads.
pub(crate) struct Built {
    pub(crate) device: BlockDevice,
    /// Memory of each queue thread.
    pub(crate) arenas: Vec<Arc<Arena>>,
    /// What is kept of it on disk.
    pub(crate) record: VolumeRecord,
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Built")
            .field("device", self.device.info())
            .finish_non_exhaustive()
    }
}

/// What happens.
pub(crate) enum Message {
    /// A path reports.
    Report(u32, Box<Report>, Option<Brought>),
    /// A queue thread reports.
    Lane(VolumeKey, u16, Box<LaneReport<HostQueue>>),
    /// A path is wanted.
    Connect(Box<Wanted>),
    /// A portal offered a subsystem that is left alone.
    Ignored(Failure),
    /// A new association was put on disk, or could not be.
    Recorded(u32, AssociationId, Result<(), Failure>),
    /// A volume's block device was made, or could not be.
    Built(VolumeKey, Result<Box<Built>, Failure>),
    /// The driver was asked about a recorded block device.
    Found(StableId, Found),
    /// The memory of a volume is registered with an association, or could not be.
    Registered(VolumeKey, AssociationId, Result<(), Failure>),
    /// The block device is there for everyone, or could not be started.
    Started(VolumeKey, Result<(), Failure>),
    /// What was left of an association has been destroyed at this time.
    Destroyed(AssociationId, Remains, Duration),
    /// Who uses which volume was found out for a removal.
    Users(u64, Vec<(StableId, Vec<String>)>),
    /// A volume's block device was removed, or was not.
    Removed(u64, VolumeKey, Option<Box<BlockDevice>>, RemovalOutcome),
    /// A block device that had stopped for good was deleted with its record, or was not.
    Swept(StableId, Result<(), Failure>),
    /// A block device that no record names was deleted, or was not.
    OrphanDeleted(CallId, u32, Result<(), Failure>),
    /// SIGTERM or SIGINT.
    Stop,
}
