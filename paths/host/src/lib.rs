//! Sans-IO host: every path, every association, every volume, and what becomes of them.
//!
//! Decided here: when a path connects, is suspected, fails and connects again ([`Path`]); which
//! namespace belongs to which volume, what a lost association costs each of them and when its order
//! fence is proved, what a restarted process takes over from its predecessor, and what an operator's
//! verbs mean ([`Host`]). Not decided here: how anything is done. Nothing in this crate opens a file
//! or a socket, reads a clock, draws a random number or waits.
//!
//! A shell drives both: it calls a `handle_*` function for everything that happened, with the time
//! at which it handles it, and then carries out every [`Order`] ([`PathOrder`] of a path) in the
//! order in which they come. An order that takes time is answered by a later `handle_*`; until then
//! nothing is assumed of it. `umpathd` is one shell, the simulator is the other.
//!
//! | module | decides |
//! |---|---|
//! | [`path`] | the life of one path: attempts, health, aborts, pauses |
//! | [`host`](self::Host) | paths x associations x volumes: loss, fence, adoption, verbs |
//! | `volume` | one volume: its members, its stages, the orders of its core to its queue threads |
//! | [`record`] | what has to survive this process |
//! | [`settings`] | what the host asks of the configuration |
//! | `shape` | how a namespace appears to the kernel, and whether two are the same |
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
mod volume;

pub use host::{Found, Host, LaneNews, Wanted, ignored_subsystem};
pub use order::{Answer, CallId, Order, QueueKey, Remains, Verb};
pub use path::{Path, PathOrder, PathSpec, Report, Request};
pub use shape::{block_limits, path_limits};
pub use volume::{DeviceFacts, VolumeSpec};
