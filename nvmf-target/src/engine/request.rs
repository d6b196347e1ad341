//! One command on its way through a reactor.

use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::Sqe;
use umpath_rdma::CapsuleSlot;

use super::buffers::Buffer;
use crate::controller::sgl::{Location, Transfer};
use crate::controller::view::Shared;
use crate::gate::Epoch;
use crate::media::{Job, SharedMedia};

/// Where a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Waits for data memory.
    Starved,
    /// The host's data is being fetched.
    Fetching,
    /// Being executed, on the media or not.
    Executing,
    /// Data and response are on their way to the host.
    Responding,
    /// Never to be answered, see [`crate::fault`].
    Silent,
}

/// What executes a command.
#[derive(Debug)]
pub(super) enum Work {
    /// Fabrics Connect.
    Connect,
    /// The array.
    Admin,
    /// A backing store.
    Media(MediaWork),
    /// Nothing: it completes at once.
    Nothing,
}

/// When a command is answered once it was executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answering {
    /// At once.
    Now,
    /// So much later.
    After(Duration),
    /// Not at all.
    Never,
}

/// A command for a backing store.
#[derive(Debug)]
pub(super) struct MediaWork {
    pub(super) media: SharedMedia,
    pub(super) job: Job,
    pub(super) shared: Arc<Shared<SharedMedia>>,
    pub(super) epoch: Epoch,
    /// Ranges of a deallocation, to be checked when the data is here.
    pub(super) ranges: Option<u16>,
    /// Counted by the gate.
    pub(super) entered: bool,
    /// Let past the gate by a fault that was asked for.
    pub(super) unchecked: bool,
}

/// One command.
#[derive(Debug)]
pub(super) struct Request {
    /// Index of its queue.
    pub(super) queue: u32,
    pub(super) sqe: Sqe,
    pub(super) stage: Stage,
    pub(super) work: Work,
    pub(super) transfer: Transfer,
    pub(super) location: Location,
    pub(super) buffer: Option<Buffer>,
    /// Held while its in-capsule data is needed.
    pub(super) capsule: Option<CapsuleSlot>,
    pub(super) answering: Answering,
}
