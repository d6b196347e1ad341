//! Resetting another controller of the subsystem through this one, and what this one says of others.
//!
//! Decided here: what the answers and log pages of TP8028 mean. Not decided here: which controller
//! is to be reset, when to try again, and what follows from it (`umpath-core`).

use umpath_nvme::command::{GetLogPage, ResetResult};
use umpath_nvme::log::lid;
use umpath_nvme::log::reset::{
    EntriesHeader, LSP_REMOVE_COMPLETED, ResetOutcome, lost_host_entries, reset_entries,
};
use umpath_nvme::{Cqe, Status};

use crate::answer::Answer;
use crate::ask::Ask;
use crate::error::SessionError;
use crate::step::Step;

/// Resets of other controllers outstanding at a time, whatever the controller allows.
pub(crate) const OUTSTANDING_MAX: usize = 8;
/// One read takes this many bytes of either log: more entries than any controller keeps at once.
const LOG_BYTES: u32 = 4096;

/// What the controller answered when it was asked to reset another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetAnswer {
    /// The other incarnation executes nothing any more.
    Complete,
    /// Under way: the reset log will tell, and an event says when to read it.
    Pending,
    /// Refused; nothing is proven. Among others [`Status::CCR_IN_PROGRESS`],
    /// [`Status::CCR_LIMIT_EXCEEDED`] and [`Status::CCR_LOG_FULL`].
    Refused(Status),
    /// No answer within the command timeout; nothing is proven.
    Unanswered,
}

impl ResetAnswer {
    pub(crate) fn of(cqe: &Cqe) -> Self {
        let status = cqe.status();
        if !status.is_success() {
            Self::Refused(status)
        } else if ResetResult(cqe.dw0()).is_immediate() {
            Self::Complete
        } else {
            Self::Pending
        }
    }
}

/// One entry of a controller's reset log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResetRecord {
    /// The controller that was to be reset.
    pub cntlid: u16,
    /// Its instance uniquifier. The log has no room for the random number.
    pub ciu: u8,
    /// What became of it.
    pub outcome: ResetOutcome,
}

/// A controller that lost contact with this host, by the word of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostHost {
    /// The controller.
    pub cntlid: u16,
    /// Its instance uniquifier.
    pub ciu: u8,
}

/// What a log read after [`Event::Ready`](crate::Event::Ready) is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogKind {
    Resets,
    LostHosts,
}

impl LogKind {
    pub(crate) fn begin(self) -> Ask {
        let (step, lid, lsp) = match self {
            // Completed entries are forgotten by the controller once they were read.
            Self::Resets => (
                Step::ReadResets,
                lid::CROSS_CONTROLLER_RESET,
                LSP_REMOVE_COMPLETED,
            ),
            Self::LostHosts => (Step::ReadLostHosts, lid::LOST_HOST_COMMUNICATION, 0),
        };
        let command = GetLogPage {
            lid,
            nsid: u32::MAX,
            length: LOG_BYTES.into(),
            lsp,
            ..GetLogPage::default()
        };
        Ask::read(step, command.build(), LOG_BYTES)
    }
}

pub(crate) fn resets(answer: &Answer<'_>) -> Result<Vec<ResetRecord>, SessionError> {
    let bytes = answer.success()?.data_up_to(LOG_BYTES as usize);
    let entries = reset_entries(bytes).ok_or_else(|| answer.short(size_of::<EntriesHeader>()))?;
    // A reserved outcome proves nothing, so it says nothing.
    let known = entries.iter().filter_map(|entry| {
        Some(ResetRecord {
            cntlid: entry.icid.get(),
            ciu: entry.ciu,
            outcome: entry.outcome()?,
        })
    });
    Ok(known.collect())
}

pub(crate) fn lost_hosts(answer: &Answer<'_>) -> Result<Vec<LostHost>, SessionError> {
    let bytes = answer.success()?.data_up_to(LOG_BYTES as usize);
    let entries =
        lost_host_entries(bytes).ok_or_else(|| answer.short(size_of::<EntriesHeader>()))?;
    let lost = entries.iter().map(|entry| LostHost {
        cntlid: entry.cntlid.get(),
        ciu: entry.ciu,
    });
    Ok(lost.collect())
}
