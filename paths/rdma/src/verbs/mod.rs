//! Safe ownership over librdmacm and libibverbs.
//!
//! Decided here: who keeps what alive. Every verbs object holds what it was made from, so the order
//! in which a program lets go of things cannot matter: a queue pair owns its completion queue, which
//! owns its channel; a memory region and a queue pair hold their protection domain; a protection
//! domain holds a CM id, which pins the device's context (librdmacm opens one context for each
//! device and closes it with the last id on a device that went away).
//!
//! Also decided here: every CM, completion and device event is copied out and acknowledged before
//! it is handed on, because `rdma_destroy_id`, `ibv_destroy_cq` and `ibv_close_device` wait for
//! acknowledgements without a limit.
//!
//! Not decided here: what is sent, when, and what a failure means.

mod address;
mod cm;
mod cq;
mod device;
mod linger;
mod memory;
mod qp;

pub(crate) use cm::{CmId, ConnectOptions, EventChannel, RawCmEvent};
pub(crate) use cq::{Batch, Completion, Cq, Outcome};
pub(crate) use device::OwnContext;
pub(crate) use memory::{Access, Mr, Pd};
pub(crate) use qp::{Qp, QpShape};

use std::io;

/// A call into rdma-core that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} failed: {source}")]
pub struct VerbsError {
    /// The librdmacm or libibverbs function.
    pub call: &'static str,
    /// What it said.
    pub source: io::Error,
}

impl VerbsError {
    /// The error of a call that reports through `errno`.
    pub(crate) fn errno(call: &'static str) -> Self {
        Self {
            call,
            source: io::Error::last_os_error(),
        }
    }

    /// The error of a call that returns the error number.
    pub(crate) fn code(call: &'static str, code: i32) -> Self {
        Self {
            call,
            source: io::Error::from_raw_os_error(code.abs()),
        }
    }

    /// The error number.
    pub fn raw_os_error(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// Turns the usual `0` or `-1 and errno` into a result.
pub(crate) fn check(call: &'static str, result: i32) -> Result<(), VerbsError> {
    if result == 0 {
        Ok(())
    } else {
        Err(VerbsError::errno(call))
    }
}
