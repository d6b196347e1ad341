//! ublk front end: one block device of the kernel, served by one thread for each of its queues.
//!
//! Decided here: how a volume appears to the kernel (limits, cache attributes, recovery flags), in
//! which order a device comes and goes, and how a queue thread moves requests between ublk, the
//! sans-IO [`umpath_core::lane::Lane`] and the queue pairs of its paths. Not decided here: which
//! path carries a request, what is retried or held, and when a path is given up: the lane and the
//! control side decide, this crate carries it out.
//!
//! The parts, from the outside in: [`Device`] is the lifecycle of one block device, built from
//! [`Control`] commands and queue threads; [`LaneHandle`] sends [`LaneCommand`]s to a queue thread
//! and [`LaneReports`] brings its [`LaneReport`]s back; [`Transport`] is what a queue thread asks
//! of one queue pair; [`process`] makes a process fit to serve a disk it may itself depend on.

mod control;
mod descriptor;
mod device;
mod error;
mod features;
mod frontend;
mod limits;
mod links;
mod mailbox;
mod numa;
mod partitions;
mod polling;
pub mod process;
mod queue;
mod request;
mod ring;
mod stats;
mod transport;
#[cfg(all(test, umpath_loom))]
mod under_loom;

pub use control::{Command, Control, DeviceInfo, State};
pub use device::{Device, DeviceSpec, LaneSetup, Started};
pub use error::Error;
pub use features::{Features, KernelVersion};
pub use limits::{Discard, Limits, LimitsError};
pub use mailbox::{LaneCommand, LaneGone, LaneHandle, LaneReport, LaneReports, Stats};
pub use polling::Polling;
pub use queue::Clock;
pub use stats::{LATENCY_BUCKETS, QueueStats};
pub use transport::{Loss, Transport};
