//! Asking a controller to give an I/O command back that it has had for too long.
//!
//! Decided here: what the answer means. The answer proves nothing about the command: what does is the
//! command's own completion, which a controller that has aborted it sends as well.

use umpath_nvme::command::Abort;
use umpath_nvme::{Cqe, Status};

/// An I/O command, as the controller knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoCommand {
    /// Its queue.
    pub qid: u16,
    /// Its identifier.
    pub cid: u16,
}

/// What the controller answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortAnswer {
    /// The command was aborted (IANP cleared); its completion says so too.
    Aborted,
    /// It was not, or not at once: its completion may come or not.
    NotAborted,
    /// The controller refused to try.
    Refused(Status),
    /// No answer within the command timeout.
    Unanswered,
}

impl AbortAnswer {
    pub(crate) fn of(cqe: &Cqe) -> Self {
        let status = cqe.status();
        if !status.is_success() {
            Self::Refused(status)
        } else if Abort::performed_immediately(cqe.dw0()) {
            Self::Aborted
        } else {
            Self::NotAborted
        }
    }
}

impl std::fmt::Display for AbortAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Aborted => f.write_str("the controller gave it back"),
            Self::NotAborted => f.write_str("the controller cannot give it back"),
            Self::Refused(status) => write!(f, "the controller refused to abort it: {status}"),
            Self::Unanswered => f.write_str("the controller did not answer"),
        }
    }
}
