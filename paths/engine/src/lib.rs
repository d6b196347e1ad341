//! The engine of a queue thread: between a block layer, one [`Lane`](umpath_core::Lane) and its queue
//! pairs.
//!
//! Decided here: the order of work in a round, when the thread sleeps, and when a queue pair is
//! polled, armed, watched, drained and handed back. Not decided here: which path carries a request
//! and what is sent again (the lane), when an association is given up (the control side), how a
//! request arrives ([`Frontend`]) and how a capsule travels
//! ([`Transport`](umpath_transport::Transport)).
//!
//! It is sans-IO: it owns no descriptor and no thread, reads no clock but its front end's, and takes
//! no lock. [`QueueThread::round`] does one whole round, so whoever has a front end and a transport
//! of its own drives exactly what a real queue thread does: `ublk-dev` one thread for each queue,
//! a simulator all of them on one.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod frontend;
mod polling;
mod queue_pairs;
mod report;
mod requests;
mod thread;

pub use frontend::{Channel, Event, Frontend, QueuePairId};
pub use polling::Polling;
pub use report::{LaneReport, LaneReports};
pub use thread::{LaneSetup, QueueThread};
