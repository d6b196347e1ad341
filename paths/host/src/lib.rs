//! Sans-IO host: every path, association and volume, and every decision about them.
//!
//! Decided here: when a path connects, is suspected, fails and reconnects ([`Path`]); which
//! namespace belongs to which volume, what a lost association means for each of them and when its
//! order fence is proved, what a restarted process takes over from its predecessor, and how an
//! operator's request is carried out ([`Host`]). Not decided here: how anything is done. Nothing in
//! this crate opens a file or a socket, reads a clock, draws a random number or waits.
//!
//! A shell drives both: it calls a `handle_*` function for every input, with the time at which it
//! handles it, and then carries out every [`Order`] ([`PathOrder`] of a path) in sequence. A slow
//! order completes with a later `handle_*` call; until then its outcome is unknown. `umpathd` is
//! one shell, the simulator is the other.
//! | module | decides |
//! |---|---|
//! | [`path`] | the life of one path: attempts, health, aborts, pauses |
//! | [`host`](self::Host) | paths x associations x volumes: loss, fence, adoption, verbs |
//! | `volume` | one volume: its members, its stages, the orders of its core to its queue threads |
//! | [`record`] | what must survive this process |
//! | [`settings`] | what the host needs from the configuration |
//! | `shape` | a namespace's block limits, and whether two namespaces are the same |
//! | [`events`] | the event log and the timelines of failovers |
#![forbid(unsafe_code)]

mod effects;
pub mod events;
mod host;
mod names;
pub mod order;
pub mod path;
pub mod policy;
pub mod record;
pub mod settings;
mod shape;
mod spec;
mod volume;

pub use host::{Found, Host, LaneNews, Wanted, ignored_subsystem};
pub use order::{Answer, CallId, Order, QueueKey, Remains, RemovalOutcome, Verb};
pub use path::{Path, PathOrder, PathSpec, Report, Request};
pub use shape::{block_limits, path_limits};
pub use spec::{DeviceFacts, VolumeFacts, VolumeKey, VolumeSpec};
