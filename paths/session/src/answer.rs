//! The answer to one command, with the ways it can be wrong.

use umpath_nvme::{Cqe, Status};

use crate::error::{Fault, PeerError, SessionError};
use crate::step::Step;

/// The answer to a procedure's command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) step: Step,
    pub(crate) cqe: &'a Cqe,
    data: &'a [u8],
}

impl<'a> Answer<'a> {
    pub(crate) fn new(step: Step, cqe: &'a Cqe, data: &'a [u8]) -> Self {
        Self { step, cqe, data }
    }

    pub(crate) fn status(&self) -> Status {
        self.cqe.status()
    }

    /// The data and result of a command that succeeded.
    pub(crate) fn success(&self) -> Result<Self, SessionError> {
        let status = self.status();
        if status.is_success() {
            return Ok(*self);
        }
        Err(PeerError::Command {
            step: self.step,
            status,
        }
        .into())
    }

    /// The data, `bytes` of it.
    pub(crate) fn data(&self, bytes: usize) -> Result<&'a [u8], SessionError> {
        self.data.get(..bytes).ok_or_else(|| self.short(bytes))
    }

    /// All the data that came, at most `bytes` of it.
    pub(crate) fn data_up_to(&self, bytes: usize) -> &'a [u8] {
        self.data.get(..bytes).unwrap_or(self.data)
    }

    pub(crate) fn short(&self, needed: usize) -> SessionError {
        self.garbage(Fault::Short {
            got: self.data.len(),
            needed,
        })
    }

    pub(crate) fn garbage(&self, fault: Fault) -> SessionError {
        PeerError::Garbage {
            step: self.step,
            fault,
        }
        .into()
    }
}
