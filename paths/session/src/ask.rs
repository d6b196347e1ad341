//! The commands a session asks its controller: one at a time for each procedure, and how large they
//! may be.

use std::time::Duration;

use umpath_nvme::Sqe;

use crate::step::Step;

/// Largest data transfer of any command a session sends, in bytes. The host needs one buffer of
/// this size for each queue it opens: at most one command with data is outstanding on a queue.
pub const DATA_MAX: usize = 64 * 1024;

/// Entries of the admin queue's submission queue. Command identifiers are chosen so that
/// `cid % ADMIN_DEPTH` is unique among the outstanding commands.
pub const ADMIN_DEPTH: u16 = 32;

/// The data of a command a session sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminData {
    /// No data.
    None,
    /// The host hands these bytes to the controller.
    ToController(Vec<u8>),
    /// The controller fills a buffer of this many bytes; the host returns them with the response.
    FromController(u32),
}

/// A command a procedure wants sent.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) step: Step,
    pub(crate) sqe: Sqe,
    pub(crate) data: AdminData,
}

impl Ask {
    pub(crate) fn bare(step: Step, sqe: Sqe) -> Self {
        Self {
            step,
            sqe,
            data: AdminData::None,
        }
    }

    pub(crate) fn read(step: Step, sqe: Sqe, bytes: u32) -> Self {
        Self {
            step,
            sqe,
            data: AdminData::FromController(bytes),
        }
    }
}

/// What a procedure wants next.
#[derive(Debug)]
pub(crate) enum Next<T> {
    /// Send this now.
    Ask(Ask),
    /// Send this at that time.
    AskAt(Duration, Ask),
    /// The procedure is over.
    Done(T),
}
