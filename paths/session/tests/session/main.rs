//! The session against a model controller, in virtual time: complete lives, every failure at every
//! step, and arbitrary bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod aborts;
mod arbitrary;
mod bring_up;
mod changes;
mod discovery;
mod failures;
mod life;
mod model;
mod queues;
mod resets;
mod rig;
