//! Cross-Controller Reset (NVMe Base 2.3 §5.4.3, TP8028): one controller ends another.
//!
//! The impacted incarnation is condemned on the subsystem's [`Board`](crate::gate::board::Board), which
//! works whichever process it lives in and whether or not that process still runs. The command is
//! answered with "immediate reset successful" as soon as nothing of the incarnation is on the media
//! any more; if that takes longer than [`ANSWER_WITHIN`] it is answered without, and the log page
//! and its event report it later. Nothing here believes in time: an entry becomes successful only by the
//! count or by the witness, and fails after [`GIVE_UP_AFTER`].
//!
//! Refused (Invalid Field, do not retry): the controller itself, and an incarnation the board does
//! not know under that identity, uniquifier, random number and host. Some implementations call an
//! unknown incarnation reset; we cannot know that its process is not merely keeping another board.

use std::time::Duration;

use umpath_nvme::command::{CrossControllerReset, Instance, ResetResult};
use umpath_nvme::log::reset::{EntriesHeader, LostHostEntry, ResetEntry, ResetOutcome};
use umpath_nvme::{IntoBytes, Sqe, Status, U16};

use super::events::{Completion, Notice};
use super::{Answer, Controller};
use crate::gate::board::{Board, CellIndex, Fate};
use crate::subsystem::Subsystem;

/// Resets one controller may have in progress (CCRL).
pub(super) const IN_PROGRESS_MAX: u8 = 8;
/// Entries either log keeps.
const ENTRIES_MAX: usize = 32;
/// How long a command waits for the count to fall before it is answered without a proof.
const ANSWER_WITHIN: Duration = Duration::from_millis(20);
/// How long an entry stays in progress.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// One reset that was not complete at once.
#[derive(Debug)]
struct Reset {
    impacted: Instance,
    cell: CellIndex,
    since: Duration,
    /// The command that still waits for its answer.
    waiting: Option<u16>,
    outcome: ResetOutcome,
    initiated: bool,
}

/// The resets asked of one controller, oldest first.
#[derive(Debug, Default)]
pub(super) struct Resets(Vec<Reset>);

impl Resets {
    fn in_progress(&self) -> impl Iterator<Item = &Reset> {
        self.0
            .iter()
            .filter(|reset| reset.outcome == ResetOutcome::InProgress)
    }

    /// Whether one more may be asked for.
    fn check(&self, impacted: Instance) -> Result<(), Status> {
        if self.in_progress().any(|reset| reset.impacted == impacted) {
            return Err(Status::CCR_IN_PROGRESS);
        }
        if self.in_progress().count() >= usize::from(IN_PROGRESS_MAX) {
            return Err(Status::CCR_LIMIT_EXCEEDED);
        }
        if self.0.len() >= ENTRIES_MAX {
            // Reading the log with "remove completed" makes room.
            return Err(Status::CCR_LOG_FULL);
        }
        Ok(())
    }

    /// What the log shows: everything whose command was answered.
    fn log(&self, own_cntlid: u16) -> Vec<u8> {
        let answered = self.0.iter().filter(|reset| reset.waiting.is_none());
        let entries: Vec<ResetEntry> = answered
            .map(|reset| {
                let initiated = if reset.initiated {
                    ResetEntry::INITIATED
                } else {
                    0
                };
                let Instance { cntlid, ciu, .. } = reset.impacted;
                let flags = ResetEntry::VALIDATED | initiated;
                ResetEntry::new(cntlid, ciu, own_cntlid, reset.outcome, flags)
            })
            .collect();
        page(entries.len(), entries.as_bytes())
    }

    /// The commands that wait are never answered: their identifiers may soon be other commands'.
    pub(super) fn forget_commands(&mut self) {
        for reset in &mut self.0 {
            reset.waiting = None;
        }
    }

    fn forget_namesakes(&mut self, impacted: Instance) {
        let Instance { cntlid, ciu, .. } = impacted;
        self.0.retain(|reset| {
            reset.outcome == ResetOutcome::InProgress
                || (reset.impacted.cntlid, reset.impacted.ciu) != (cntlid, ciu)
        });
    }

    fn forget_completed(&mut self) {
        self.0
            .retain(|reset| reset.outcome == ResetOutcome::InProgress);
    }
}

/// The controllers of this controller's host that lost it, oldest first.
#[derive(Debug, Default)]
pub(super) struct LostHosts(Vec<LostHostEntry>);

impl LostHosts {
    fn add(&mut self, instance: Instance) {
        if self.0.len() >= ENTRIES_MAX {
            self.0.remove(0);
        }
        self.0.push(LostHostEntry {
            cntlid: U16::new(instance.cntlid),
            losses: 1,
            ciu: instance.ciu,
            reserved: [0; 4],
        });
    }
}

fn page(entries: usize, bytes: &[u8]) -> Vec<u8> {
    let header = EntriesHeader::new(entries as u16);
    [header.as_bytes(), bytes].concat()
}

impl<M> Controller<M> {
    pub(super) fn cross_controller_reset(
        &mut self,
        sqe: &Sqe,
        subsystem: &Subsystem<M>,
        now: Duration,
    ) -> Result<Answer, Status> {
        if !subsystem.ccr {
            return Err(Status::INVALID_OPCODE.with_dnr());
        }
        let impacted = CrossControllerReset::parse(sqe).impacted;
        if impacted == self.shared.instance {
            return Err(Status::INVALID_FIELD.with_dnr());
        }
        self.resets.check(impacted)?;
        // The log does not name the random number: no earlier success may pass for this one's.
        self.resets.forget_namesakes(impacted);
        let board = &subsystem.board;
        let cell = board
            .find(impacted, &self.association.host)
            .ok_or(Status::INVALID_FIELD.with_dnr())?;
        let initiated = board.condemn(cell, impacted);
        if board.fate(cell, impacted) == Fate::Off {
            return Ok(Answer::value(u64::from(immediate(initiated))));
        }
        self.resets.0.push(Reset {
            impacted,
            cell,
            since: now,
            waiting: Some(sqe.cid.get()),
            outcome: ResetOutcome::InProgress,
            initiated,
        });
        Ok(Answer::Parked)
    }

    /// Whether [`Controller::advance_resets`] has something to do.
    pub(crate) fn has_resets(&self) -> bool {
        self.resets.in_progress().next().is_some()
    }

    /// Looks at the resets in progress: answers, gives up, raises the event.
    pub(crate) fn advance_resets(&mut self, board: &Board, now: Duration) {
        let mut answers = Vec::new();
        let mut news = false;
        self.resets.0.retain_mut(|reset| {
            if reset.outcome != ResetOutcome::InProgress {
                return true;
            }
            let off = board.fate(reset.cell, reset.impacted) == Fate::Off;
            let took = now.saturating_sub(reset.since);
            if let Some(cid) = reset.waiting
                && (off || took >= ANSWER_WITHIN)
            {
                reset.waiting = None;
                let dword = if off { immediate(reset.initiated) } else { 0 };
                answers.push(Completion { cid, dword });
                return !off;
            }
            if off || took >= GIVE_UP_AFTER {
                let failed = (!off).then_some(ResetOutcome::Failed);
                reset.outcome = failed.unwrap_or(ResetOutcome::Success);
                news = true;
            }
            true
        });
        for answer in answers {
            self.respond(answer);
        }
        if news {
            self.raise(Notice::Resets);
        }
    }

    pub(super) fn resets_log(&self) -> Vec<u8> {
        self.resets.log(self.shared.instance.cntlid)
    }

    pub(super) fn forget_completed_resets(&mut self) {
        self.resets.forget_completed();
    }

    /// Another controller of the same host lost it.
    pub(crate) fn note_lost_host(&mut self, instance: Instance) {
        self.lost_hosts.add(instance);
        self.raise(Notice::LostHost);
    }

    pub(super) fn lost_hosts_log(&self) -> Vec<u8> {
        page(self.lost_hosts.0.len(), self.lost_hosts.0.as_bytes())
    }
}

const fn immediate(initiated: bool) -> u32 {
    let initiated = if initiated { ResetResult::INITIATED } else { 0 };
    ResetResult::IMMEDIATE | ResetResult::VALIDATED | initiated
}
