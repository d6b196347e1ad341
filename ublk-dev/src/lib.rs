//! ublk front end: one block device of the kernel, served by one thread for each of its queues.
//!
//! Decided here: how a volume appears to the kernel (limits, cache attributes, recovery flags), in
//! which order a device comes and goes, and how requests, answers and wake-ups travel between the
//! driver and a queue thread's engine ([`umpath_engine::QueueThread`]). Not decided here: what a
//! round of that thread does, which path carries a request, what is retried or held, and when a path
//! is given up.
//!
//! The parts, from the outside in: [`Device`] is the lifecycle of one block device, built from
//! [`Control`] commands and queue threads; [`LaneHandle`] sends
//! [`LaneCommand`](umpath_core::LaneCommand)s to a queue thread and [`Reports`] takes its
//! [`LaneReport`](umpath_engine::LaneReport)s; [`process`] makes a process fit to serve a disk it may
//! itself depend on.

mod clock;
mod command;
mod control;
mod descriptor;
mod device;
mod error;
#[cfg(all(test, feature = "loom"))]
mod explored_wake;
mod features;
mod frontend;
mod limits;
mod mailbox;
mod mounts;
mod numa;
mod partitions;
pub mod process;
mod request;
mod ring;
mod stack;
mod sync;
#[cfg(not(all(test, feature = "loom")))]
mod wake;

pub use clock::Clock;
pub use command::Command;
pub use control::{Control, DeviceInfo, State};
pub use device::{Device, DeviceSpec, Removed, Reports, Started};
pub use error::Error;
pub use features::{Features, KernelVersion};
pub use limits::LimitsError;
pub use mailbox::{LaneGone, LaneHandle};
pub use stack::on_ublk;
