//! Sans-IO multipath device: paths, in-flight requests, retry, fences.
//!
//! Decided here: which command is sent on which path, what an answer means, when a lost command
//! may be sent again, when a path is suspected and convicted, which paths the lanes may use.
//! Not decided here: how a capsule travels, how a controller is connected, what the block device
//! looks like. Nothing here reads a clock, owns a socket or a thread, or draws a random number:
//! time (`now`, since an origin of the host's choice, never running backwards) and events are
//! arguments, and what should happen comes out of `poll_*` functions. The same code runs under the
//! daemon, the simulator and the benchmarks.
//!
//! Two halves share the [`PathTable`]:
//! - [`Lane`]: data path of one queue thread. No lock and no allocation for a request.
//! - [`Device`]: control side of a volume; publishes tables and events.
//!
//! [`association`] belongs to neither: one association may serve several volumes.
//!
//! # A failover, step by step
//! 1. [`Health`](association::Health) answers `Suspect`: the host calls [`Device::suspect`], the
//!    device publishes a table in which the path is not usable.
//! 2. `Convict`: [`Device::convict`] puts out [`DeviceOutput::Convict`]; the host calls
//!    [`Lane::convict`] on every lane of the volume and moves every queue pair of the association
//!    to the error state, noting when ([`OrderFence`](association::OrderFence)).
//! 3. *Buffer fence*, lane by lane: the queue pair is drained or destroyed, the host calls
//!    [`Lane::drained`] and hands the ghosts it returns to [`Device::lane_drained`]. Reads and
//!    flushes are sent again elsewhere.
//! 4. *Lock*: the device puts out [`DeviceOutput::Guard`] with a table of all ghosts; lanes that got it
//!    ([`Lane::guard`]) send no other mutation over one, and say [`LaneEvent::Guarded`]. When all
//!    have, [`DeviceOutput::Locked`] and [`Lane::locked`] let the ghosts be sent again.
//! 5. *Order fence*: at [`OrderFence::at`](association::OrderFence::at), but not before every lane
//!    has drained, the host calls [`Device::order_fenced`], which puts out [`DeviceOutput::Fenced`]
//!    ([`Lane::fenced`]) and a table without the association's ghosts: what was kept off them goes.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

pub mod association;
mod block_limits;
pub mod device;
mod event;
#[cfg(all(test, not(feature = "loom")))]
mod exhaustive;
pub mod ghost;
pub mod lane;
mod lane_command;
mod request;
mod shared;
mod status;
mod sync;
mod table;
mod thread_stats;

pub use block_limits::{BlockLimits, Discard};
pub use device::{
    Device, DeviceConfig, DeviceError, DeviceOutput, NoPath, PathConfig, PathView, Ready, Unchanged,
};
pub use event::{Event, EventKind, LaneEvent, LaneId};
pub use ghost::{Ghost, GhostTable, Owner, Resend};
pub use lane::{
    Action, Crowded, HeldStats, Lane, LaneConfig, LaneStats, QUEUE_PAIRS_MAX, SendCommand,
    SubmitError,
};
pub use lane_command::LaneCommand;
pub use request::{BlockError, BlockRequest, Data, Op, Tag};
pub use shared::{Pulse, VolumeShared};
pub use table::{
    AssociationId, CommandLimits, GroupEntry, OnNoPath, PATHS_MAX, PathEntry, PathId, PathTable,
    Steering,
};
pub use thread_stats::{LATENCY_BUCKETS, QueueStats, ThreadStats};
pub use umpath_policies as policies;
