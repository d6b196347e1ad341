//! Associations: one task for each path, which gives its state machine sockets and a clock.
//!
//! Decided here: nothing. [`umpath_host::Path`] decides when to connect, what evidence means and when
//! to try again; the task carries that out and passes reports to the shell. I/O queues go to the
//! volumes' queue threads; the admin queue stays with the task.

mod driver;
mod task;
mod teardown;

pub(crate) use driver::{Driver, Happened};
pub(crate) use task::{Around, run};
pub(crate) use teardown::release;
