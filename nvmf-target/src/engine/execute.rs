//! Executing a command: in the array, or on a backing store through the controller's gate.
//!
//! Every media submission passes [`Execution::submit`], and nothing else submits: there the
//! controller's gate is asked, with the clock read at that moment. What becomes of a request then, its
//! flow decides by the [`Outcome`].

use std::sync::Arc;

use tracing::{debug, warn};
use umpath_nvme::command::fabrics::ConnectResponse;
use umpath_nvme::opcode::{FABRICS, fabrics};
use umpath_nvme::{Sqe, Status};
use umpath_transport::Arena;

use super::hub::Hub;
use super::queue::{Queue, Role};
use super::request::{MediaWork, Request, State, Work};
use super::ring::Ring;
use crate::array::Refusal;
use crate::controller::io::{Operation, check_ranges, plan};
use crate::controller::sgl::Transfer;
use crate::controller::{Answer, admin_transfer};
use crate::gate::Fenced;
use crate::media::{Job, Step};

/// What executing a command, or a step of it, led to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome {
    /// Its answer is known.
    Done(Status, u64),
    /// A step of it is in the ring.
    InRing,
    /// The array keeps it and answers it itself.
    Kept,
}

impl From<Status> for Outcome {
    fn from(status: Status) -> Self {
        Self::Done(status, 0)
    }
}

/// A request and all that executing it takes.
pub(super) struct Execution<'a> {
    pub(super) hub: &'a Hub,
    pub(super) ring: &'a mut Ring,
    pub(super) arena: &'a Arena,
    pub(super) queue: &'a mut Queue,
    pub(super) request: &'a mut Request,
    /// Names the request in the ring.
    pub(super) index: u32,
}

impl Execution<'_> {
    /// Executes a command; one that goes around the gate has been parked.
    pub(super) fn start(mut self) -> Outcome {
        match self.request.work {
            _ if self.request.state() == State::Parked { past_gate: true } => self.pass_gate(),
            Work::Connect => self.connect(),
            Work::Admin => self.admin(),
            Work::Media(_) => self.enter_media(),
            Work::Nothing => Status::SUCCESS.into(),
        }
    }

    fn connect(self) -> Outcome {
        let Self { hub, queue, .. } = self;
        // Its data was fetched meanwhile. A controller made for a queue that is being closed, or that
        // an earlier Connect has given to another one, would never hear of the queue's end.
        if !queue.is_fresh() || queue.is_closing() {
            return Status::COMMAND_SEQUENCE_ERROR.with_dnr().into();
        }
        let (port, id, sqe) = (queue.port, queue.id, self.request.sqe);
        let (_, data) = self.request.parts(self.arena);
        let answer = hub.with_array(|array| array.connect(port, &sqe, data, id, hub.now()));
        match answer {
            Ok(connected) => {
                let accepted = ConnectResponse::Accepted {
                    cntlid: connected.cntlid,
                    authreq: 0,
                };
                queue.connected(connected);
                hub.pending_connects().leave();
                let (status, result) = accepted.to_result();
                Outcome::Done(status, result)
            }
            Err(Refusal { status, result }) => {
                debug!(%status, "connect refused");
                Outcome::Done(status, result)
            }
        }
    }

    fn admin(self) -> Outcome {
        let Self { hub, queue, .. } = self;
        let cntlid = queue.cntlid().expect("an admin queue has a controller");
        let (sqe, transfer) = (self.request.sqe, self.request.transfer);
        let (_, data) = self.request.parts(self.arena);
        if matches!(transfer, Transfer::ToHost(_)) {
            data.fill(0);
        }
        match hub.with_array(|array| array.admin(cntlid, &sqe, data, hub.now())) {
            Answer::Done { status, result } => {
                if !status.is_success() {
                    debug!(cntlid, %status, ?sqe, "admin command refused");
                }
                Outcome::Done(status, result)
            }
            Answer::Parked => Outcome::Kept,
        }
    }

    fn enter_media(&mut self) -> Outcome {
        let now = self.hub.now();
        let (work, data) = self.request.parts(self.arena);
        let work = work.media();
        if let Some(ranges) = work.ranges
            && let Err(status) = check_ranges(work.media.geometry(), ranges, data)
        {
            return status.into();
        }
        match work.shared.gate.enter(work.epoch, now) {
            Ok(()) => {
                self.request.becomes(State::OnMedia { counted: true });
                self.submit()
            }
            Err(fenced) => self.refuse(fenced),
        }
    }

    /// Submits a command that the gate has not counted and is not asked about: what a controller
    /// does that claims to have stopped and has not.
    fn pass_gate(&mut self) -> Outcome {
        self.request.becomes(State::OnMedia { counted: false });
        self.submit()
    }

    /// Answers a command that came too late to be executed.
    fn refuse(&mut self, fenced: Fenced) -> Outcome {
        self.queue.refused += 1;
        match fenced {
            Fenced::Closed => Status::ABORTED_SQ_DELETION,
            Fenced::KeepAliveExpired => Status::KEEP_ALIVE_EXPIRED,
        }
        .into()
    }

    /// The choke point: one media step of a request.
    fn submit(&mut self) -> Outcome {
        let now = self.hub.now();
        let counted = self.is_counted();
        let (work, data) = self.request.parts(self.arena);
        let work = work.media();
        if counted && let Err(fenced) = work.shared.gate.permits(work.epoch, now) {
            work.shared.gate.leave();
            return self.refuse(fenced);
        }
        match work.media.step(&mut work.job, data) {
            Step::Done(status) => self.leave_media(status),
            Step::Submit(entry) => match self.ring.push_media(entry, self.index) {
                Ok(()) => Outcome::InRing,
                Err(error) => {
                    warn!(%error, "cannot submit to the ring");
                    self.leave_media(Status::INTERNAL_ERROR)
                }
            },
        }
    }

    /// A media step is over.
    pub(super) fn step_done(mut self, result: i32) -> Outcome {
        let work = self.request.work.media();
        match work.media.completed(&mut work.job, result) {
            Some(status) => self.leave_media(status),
            None => self.submit(),
        }
    }

    fn leave_media(&mut self, status: Status) -> Outcome {
        let (counted, sqe) = (self.is_counted(), self.request.sqe);
        let transfer = self.request.transfer;
        let shared = &self.request.work.media().shared;
        if counted {
            shared.gate.leave();
        }
        if status.is_success() {
            match transfer {
                Transfer::ToHost(bytes) => shared.counters.count_read(bytes),
                Transfer::FromHost(bytes) => shared.counters.count_write(bytes),
                Transfer::HeadFromHost(_) | Transfer::None => {}
            }
        } else if !self.queue.is_closing() {
            warn!(%status, opcode = sqe.opcode, nsid = sqe.nsid.get(), "media command failed");
        }
        status.into()
    }

    fn is_counted(&self) -> bool {
        self.request.state() == State::OnMedia { counted: true }
    }
}

/// What executes a command that came on a queue of this role, and the data that takes.
pub(super) fn work_of(role: &mut Role, sqe: &Sqe) -> Result<(Work, Transfer), Status> {
    match role {
        Role::Fresh if sqe.opcode == FABRICS && sqe.fabrics_type() == fabrics::CONNECT => {
            admin_transfer(sqe).map(|transfer| (Work::Connect, transfer))
        }
        Role::Fresh => Err(Status::COMMAND_SEQUENCE_ERROR.with_dnr()),
        Role::Admin { .. } => admin_transfer(sqe).map(|transfer| (Work::Admin, transfer)),
        Role::Io { access, .. } => {
            let (shared, epoch) = (Arc::clone(access.shared()), access.epoch());
            let plan = plan(access.view(), sqe)?;
            let work = job_of(plan.operation).map(|(job, ranges)| MediaWork {
                media: Arc::clone(&plan.namespace.media),
                job,
                shared,
                epoch,
                ranges,
            });
            Ok((work.map_or(Work::Nothing, Work::Media), plan.transfer))
        }
    }
}

/// The media job of an operation, and the ranges it still has to check.
fn job_of(operation: Operation) -> Option<(Job, Option<u16>)> {
    Some(match operation {
        Operation::Read { offset, bytes } => (Job::read(offset, bytes), None),
        Operation::Write { offset, bytes, fua } => (Job::write(offset, bytes, fua), None),
        Operation::Flush => (Job::flush(), None),
        Operation::Zero {
            offset,
            bytes,
            deallocate,
            fua,
        } => (Job::zero(offset, bytes, deallocate, fua), None),
        Operation::Deallocate { ranges } => (Job::deallocate(ranges), Some(ranges)),
        Operation::Nothing => return None,
    })
}
