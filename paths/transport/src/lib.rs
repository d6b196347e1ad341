//! What a lane needs of a queue pair, whatever carries its capsules.
//!
//! Decided here: what a queue pair promises ([`Transport`]), where a command's data lies, and how a
//! queue pair refuses a command and ends. Not decided here: how a capsule travels; a transport is a
//! crate of its own beside this one.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod arena;
mod contract;
mod data;
mod drain;
mod error;

pub use arena::{Arena, ArenaError, SLOT_BYTES_MAX};
pub use contract::{Pollable, Transport};
pub use data::Data;
pub use drain::{Drain, Silence};
pub use error::{Loss, PushError};
