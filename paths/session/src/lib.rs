//! Sans-IO NVMe-oF controller session.
//!
//! A [`Controller`] drives one association from "open the admin queue" to "ready for I/O" and keeps
//! it alive; a [`Discovery`] reads a discovery controller's log; [`Reconnect`] says when to try
//! again. Decided here: what is asked of a controller, in which order, how long each answer may
//! take, and which answers make a controller or namespace unusable. Not decided here: when a path
//! is suspect or convicted (`umpath-core`; the session reports evidence), how bytes travel (the
//! transport) and what time it is.
//!
//! The host's contract:
//! - Call `poll_output` until `None` after every other call, and obey in order.
//! - Call `handle_timeout` when `poll_timeout` is due. Early and late calls are harmless.
//! - Pass a monotonic `now` that never runs backwards.
//! - Hand in every completion of the admin queue, and of an I/O queue until [`Event::Ready`]; then
//!   the I/O queues belong to the data path.
//! - After [`SessionOutput::CloseAll`] close every queue; a new association needs a new session.
//!
//! Everything from the peer is bounded and nothing it sends can panic.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod abort;
mod admin_queue;
mod ana;
mod ana_log;
mod answer;
mod ask;
mod backoff;
mod config;
mod connect;
mod controller;
mod discovery;
mod discovery_log;
mod error;
mod facts;
mod handshake;
mod heartbeat;
mod io_queues;
mod namespace;
mod notice;
mod output;
mod pending;
mod refusal;
mod resets;
mod scan;
mod setup;
mod step;
mod stop;

pub use abort::{AbortAnswer, IoCommand};
pub use ana::{AnaGroup, AnaState, AnaTable};
pub use ask::{ADMIN_DEPTH, AdminData, DATA_MAX};
pub use backoff::{Backoff, BackoffPolicy, Reconnect, ReconnectPolicy, Verdict};
pub use config::{IO_DEPTH_MAX, IO_QUEUES_MAX, SessionConfig};
pub use controller::Controller;
pub use discovery::Discovery;
pub use discovery_log::{DiscoveryLog, DiscoveryRecord};
pub use error::{ConfigError, Fault, PeerError, SessionError, TransportError, TransportSource};
pub use facts::{AnaFacts, ControllerFacts, NvmLimits};
pub use namespace::{Namespace, NamespaceFacts, NamespaceProblem, StableId};
pub use output::{Event, Ready, SessionOutput};
pub use refusal::Refusal;
pub use resets::{LostHost, ResetAnswer, ResetRecord};
pub use step::Step;
