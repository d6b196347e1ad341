//! Cross-controller resets at the target's end: odd answers, wrong ones, and the oracle (8).
//!
//! The product's own array answers unless a fault says otherwise. Odd answers are those an array
//! may give: busy, full, refused, late, lost, failed in the log. Wrong answers are mutants.

use umpath_nvme::command::{CrossControllerReset, GetLogPage, Instance, ResetResult};
use umpath_nvme::identify::IdentifyController;
use umpath_nvme::log::lid;
use umpath_nvme::log::reset::{EntriesHeader, ResetEntry, ResetOutcome};
use umpath_nvme::opcode::admin;
use umpath_nvme::{FromBytes, IntoBytes, Sqe, Status};
use umpath_target::controller::Answer;
use umpath_target::output::{Event, Gone};

use super::checker::Violation;
use super::clock::{MILLI, Nanos};
use super::mutant::Mutant;
use super::plan::FaultKind;
use super::qp::{Assoc, Packet, QpId, Way};
use super::world::World;

/// How a target answers a request to reset while a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OddReset {
    /// Refused for now: in progress already.
    Busy,
    /// Refused for now: too many.
    Limit,
    /// Refused for now: the log is full.
    LogFull,
    /// Refused for good.
    Refused,
    /// Begun, it says, and the log says later that it failed.
    Fails,
    /// Done, and the answer comes late.
    Late,
    /// Done, and the answer never comes.
    Lost,
    /// The command vanishes.
    Unheard,
}

impl OddReset {
    pub(crate) const ALL: [Self; 8] = [
        Self::Busy,
        Self::Limit,
        Self::LogFull,
        Self::Refused,
        Self::Fails,
        Self::Late,
        Self::Lost,
        Self::Unheard,
    ];
}

/// A controller a target made, as it told the host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Made {
    process: usize,
    instance: Instance,
    association: Assoc,
}

impl Made {
    pub(crate) fn instance(&self) -> Instance {
        self.instance
    }

    pub(crate) fn association(&self) -> Assoc {
        self.association
    }
}

/// How late a late answer is at most.
const LATE_MAX: Nanos = 600 * MILLI;

/// What is to become of a command before the array sees it.
pub(crate) enum Intercepted {
    /// The array answers.
    Passed(Sqe),
    /// This is the answer.
    Answered(Answer),
    /// Nobody answers.
    Vanished,
}

/// What is to become of an answer.
pub(crate) enum Sent {
    Now,
    At(Nanos),
    Never,
}

fn pending() -> Answer {
    Answer::Done {
        status: Status::SUCCESS,
        result: u64::from(ResetResult::VALIDATED | ResetResult::INITIATED),
    }
}

fn immediate() -> Answer {
    Answer::Done {
        status: Status::SUCCESS,
        result: u64::from(ResetResult::IMMEDIATE | ResetResult::VALIDATED),
    }
}

impl World {
    /// A controller told the host who it is.
    pub(crate) fn identified(&mut self, qp: QpId, cntlid: u16, data: &[u8]) {
        if let Ok((identity, _)) = IdentifyController::ref_from_prefix(data) {
            self.made.push(Made {
                process: self.qps[qp].process,
                instance: Instance {
                    cntlid,
                    ciu: identity.ciu,
                    cirn: identity.cirn.get(),
                },
                association: self.qps[qp].association,
            });
        }
    }

    fn odd_reset(&self, process: usize) -> Option<OddReset> {
        let kinds = self
            .active_faults
            .iter()
            .map(|at| self.plan.faults[*at].kind);
        let mut odd = kinds.filter_map(|kind| match kind {
            FaultKind::Resets { process: of, odd } if of == process => Some(odd),
            _ => None,
        });
        odd.next()
    }

    /// A request to reset reaches a target.
    pub(crate) fn intercept_reset(&mut self, process: usize, sqe: &Sqe) -> Intercepted {
        if sqe.opcode != admin::CROSS_CONTROLLER_RESET {
            return Intercepted::Passed(*sqe);
        }
        let impacted = CrossControllerReset::parse(sqe).impacted;
        if self.is(Mutant::CcrIgnoresIncarnation) {
            let mut newest = self.made.iter().rev();
            let newest = newest.find(|made| made.instance.cntlid == impacted.cntlid);
            let impacted = newest.map_or(impacted, |made| made.instance);
            let named = CrossControllerReset { impacted }.build();
            return Intercepted::Passed(named.with_cid(sqe.cid.get()));
        }
        let refused = |status| Intercepted::Answered(Answer::failed(status));
        match self.odd_reset(process) {
            Some(OddReset::Busy) => refused(Status::CCR_IN_PROGRESS),
            Some(OddReset::Limit) => refused(Status::CCR_LIMIT_EXCEEDED),
            Some(OddReset::LogFull) => refused(Status::CCR_LOG_FULL),
            Some(OddReset::Refused) => refused(Status::INVALID_FIELD.with_dnr()),
            Some(OddReset::Unheard) => Intercepted::Vanished,
            Some(OddReset::Fails) => {
                let failing = &mut self.processes[process].failing;
                if !failing.contains(&impacted) {
                    failing.push(impacted);
                }
                Intercepted::Answered(pending())
            }
            Some(OddReset::Late | OddReset::Lost) | None => Intercepted::Passed(*sqe),
        }
    }

    /// The array's answer to a request to reset, and to a read of the log, as it is told.
    pub(crate) fn retell_reset(
        &self,
        process: usize,
        sqe: &Sqe,
        answer: Answer,
        data: &mut Vec<u8>,
    ) -> Answer {
        match (self.mutant, &answer, sqe.opcode) {
            (Some(Mutant::CcrCountIgnored), Answer::Parked, admin::CROSS_CONTROLLER_RESET) => {
                immediate()
            }
            (
                Some(Mutant::CcrUnknownIsSuccess),
                Answer::Done { status, .. },
                admin::CROSS_CONTROLLER_RESET,
            ) if status.is(Status::INVALID_FIELD) => immediate(),
            (_, Answer::Done { status, .. }, admin::GET_LOG_PAGE) if status.is_success() => {
                let failing = &self.processes[process].failing;
                if GetLogPage::parse(sqe).lid == lid::CROSS_CONTROLLER_RESET && !failing.is_empty()
                {
                    add_failed(data, failing);
                }
                answer
            }
            _ => answer,
        }
    }

    /// When an answer to a request to reset leaves the target.
    pub(crate) fn reset_leaves(&mut self, process: usize, sqe: &Sqe) -> Sent {
        if sqe.opcode != admin::CROSS_CONTROLLER_RESET {
            return Sent::Now;
        }
        match self.odd_reset(process) {
            Some(OddReset::Late) => Sent::At(self.now + self.array_chance.below(LATE_MAX)),
            Some(OddReset::Lost) => Sent::Never,
            _ => Sent::Now,
        }
    }

    /// A late answer leaves the target at last.
    pub(crate) fn late_answer(&mut self, qp: QpId, packet: Packet) {
        let (process, life) = (self.qps[qp].process, self.qps[qp].life);
        if self.processes[process].alive && self.processes[process].life == life {
            self.transmit(qp, Way::ToHost, packet);
        }
    }

    /// What a target says of its controllers.
    pub(crate) fn array_event(&mut self, process: usize, event: &Event) {
        self.note(|| format!("process {process}: {event:?}"));
        let Event::Gone {
            cntlid,
            why: Gone::Reset,
        } = event
        else {
            return;
        };
        let mut made = self.made.iter().rev();
        let made = made.find(|made| made.process == process && made.instance.cntlid == *cntlid);
        let Some(Made { association, .. }) = made.copied() else {
            return;
        };
        let known = self.host.live_associations().any(|id| id == association.id);
        // Its path may still be shutting it down.
        let known = known && !self.host.released.contains(&association.id);
        if self.host.alive && association.life == self.host.life && known {
            let what =
                format!("(8) controller {cntlid} of {association} is reset, which nobody gave up");
            self.fail(Violation(what));
        }
    }
}

/// Adds failed resets to a log page.
fn add_failed(data: &mut Vec<u8>, failing: &[Instance]) {
    let header = size_of::<EntriesHeader>();
    let known = data.first().copied().map_or(0, usize::from);
    let size = data.len();
    data.truncate(header + known * size_of::<ResetEntry>());
    for Instance { cntlid, ciu, .. } in failing {
        let flags = ResetEntry::VALIDATED | ResetEntry::INITIATED;
        let entry = ResetEntry::new(*cntlid, *ciu, 0, ResetOutcome::Failed, flags);
        data.extend_from_slice(entry.as_bytes());
    }
    data.resize(size, 0);
    if let Some(count) = data.first_mut() {
        *count = (known + failing.len()) as u8;
    }
}
