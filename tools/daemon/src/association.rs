//! Associations: one task for each path, which connects, watches, and connects again.
//!
//! Decided here: nothing that a pure crate can decide. `umpath_session` says what to send and when
//! to try again, `umpath_core::association` what evidence means. The task carries it out and tells
//! the hub what happened. Its I/O queues go to the volumes' queue threads; its admin queue stays.

mod driver;
mod failure;
mod path;
mod report;
mod teardown;

pub(crate) use driver::Driver;
pub(crate) use failure::explain;
pub(crate) use path::{PathSpec, run};
pub(crate) use report::{Order, Report, Up};
pub(crate) use teardown::release;
