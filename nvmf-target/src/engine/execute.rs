//! Executing a command: in the array, or on a backing store through the controller's gate.
//!
//! Every media submission passes [`Reactor::submit_media`], and nothing else submits: there the
//! controller's gate is asked, with the clock read at that moment.

use std::sync::Arc;

use tracing::{debug, warn};
use umpath_nvme::Status;
use umpath_nvme::command::fabrics::ConnectResponse;

use super::reactor::Reactor;
use super::request::{State, Work};
use crate::array::Refusal;
use crate::controller::Answer;
use crate::controller::io::{Operation, check_ranges};
use crate::controller::sgl::Transfer;
use crate::gate::Fenced;
use crate::media::{Job, Step};

impl Reactor {
    pub(super) fn proceed(&mut self, index: u32) {
        match self.requests[index].work {
            Work::Connect => self.connect(index),
            Work::Admin => self.admin(index),
            Work::Media(_) => self.enter_media(index),
            Work::Nothing => self.finish(index, Status::SUCCESS, 0),
        }
    }

    fn connect(&mut self, index: u32) {
        let hub = Arc::clone(&self.hub);
        let request = &mut self.requests[index];
        let queue = &mut self.queues[request.queue as usize];
        // Its data was fetched meanwhile. A controller made for a queue that is being closed, or that
        // an earlier Connect has given to another one, would never hear of the queue's end.
        if !queue.is_fresh() || queue.is_closing() {
            return self.finish(index, Status::COMMAND_SEQUENCE_ERROR.with_dnr(), 0);
        }
        let (port, id, sqe) = (queue.port, queue.id, request.sqe);
        let bytes = request.transfer.bytes();
        let data = match &mut request.buffer {
            Some(buffer) => buffer.bytes(self.buffers.arena(), bytes),
            None => &mut [],
        };
        let answer = hub.with_array(|array| array.connect(port, &sqe, data, id, hub.now()));
        match answer {
            Ok(connected) => {
                let accepted = ConnectResponse::Accepted {
                    cntlid: connected.cntlid,
                    authreq: 0,
                };
                queue.connected(connected);
                self.hub.pending_connects().leave();
                let (status, result) = accepted.to_result();
                self.finish(index, status, result);
            }
            Err(Refusal { status, result }) => {
                debug!(%status, "connect refused");
                self.finish(index, status, result);
            }
        }
    }

    fn admin(&mut self, index: u32) {
        let hub = Arc::clone(&self.hub);
        let request = &mut self.requests[index];
        let queue = &self.queues[request.queue as usize];
        let Some(cntlid) = queue.cntlid() else { return };
        let bytes = request.transfer.bytes();
        let data = match &mut request.buffer {
            Some(buffer) => buffer.bytes(self.buffers.arena(), bytes),
            None => &mut [],
        };
        if matches!(request.transfer, Transfer::ToHost(_)) {
            data.fill(0);
        }
        let sqe = request.sqe;
        match hub.with_array(|array| array.admin(cntlid, &sqe, data, hub.now())) {
            Answer::Done { status, result } => {
                if !status.is_success() {
                    debug!(cntlid, %status, ?sqe, "admin command refused");
                }
                self.finish(index, status, result);
            }
            Answer::Parked => self.retire(index),
        }
    }

    fn enter_media(&mut self, index: u32) {
        let now = self.hub.now();
        let request = &mut self.requests[index];
        let Work::Media(work) = &mut request.work else {
            unreachable!("only commands for a backing store come here");
        };
        if let Some(ranges) = work.ranges {
            let bytes = request.transfer.bytes();
            let data = match &mut request.buffer {
                Some(buffer) => buffer.bytes(self.buffers.arena(), bytes),
                None => &mut [],
            };
            if let Err(status) = check_ranges(work.media.geometry(), ranges, data) {
                return self.finish(index, status, 0);
            }
        }
        match work.shared.gate.enter(work.epoch, now) {
            Ok(()) => {
                request.becomes(State::OnMedia { counted: true });
                self.submit_media(index);
            }
            Err(fenced) => self.refuse(index, fenced),
        }
    }

    /// Submits a command that the gate has not counted and is not asked about: what a controller
    /// does that claims to have stopped and has not.
    pub(super) fn pass_gate(&mut self, index: u32) {
        self.requests[index].becomes(State::OnMedia { counted: false });
        self.submit_media(index);
    }

    /// Answers a command that came too late to be executed.
    fn refuse(&mut self, index: u32, fenced: Fenced) {
        self.queues[self.requests[index].queue as usize].refused += 1;
        self.finish(index, fenced_status(fenced), 0);
    }

    /// The choke point: one media step of a request.
    fn submit_media(&mut self, index: u32) {
        let now = self.hub.now();
        let request = &mut self.requests[index];
        let counted = request.state() == State::OnMedia { counted: true };
        let Work::Media(work) = &mut request.work else {
            unreachable!("only commands for a backing store come here");
        };
        if counted && let Err(fenced) = work.shared.gate.permits(work.epoch, now) {
            work.shared.gate.leave();
            return self.refuse(index, fenced);
        }
        let bytes = request.transfer.bytes();
        let data = match &mut request.buffer {
            Some(buffer) => buffer.bytes(self.buffers.arena(), bytes),
            None => &mut [],
        };
        match work.media.step(&mut work.job, data) {
            Step::Done(status) => self.leave_media(index, status),
            Step::Submit(entry) => {
                if let Err(error) = self.ring.push_media(entry, index) {
                    warn!(%error, "cannot submit to the ring");
                    self.leave_media(index, Status::INTERNAL_ERROR);
                }
            }
        }
    }

    /// A media step is over.
    pub(super) fn media_done(&mut self, index: u32, result: i32) {
        let request = &mut self.requests[index];
        let Work::Media(work) = &mut request.work else {
            unreachable!("only commands for a backing store come here");
        };
        match work.media.completed(&mut work.job, result) {
            Some(status) => self.leave_media(index, status),
            None => self.submit_media(index),
        }
    }

    fn leave_media(&mut self, index: u32, status: Status) {
        let request = &mut self.requests[index];
        let counted = request.state() == State::OnMedia { counted: true };
        let Work::Media(work) = &mut request.work else {
            unreachable!("only commands for a backing store come here");
        };
        if counted {
            work.shared.gate.leave();
        }
        if status.is_success() {
            match request.transfer {
                Transfer::ToHost(bytes) => work.shared.counters.count_read(bytes),
                Transfer::FromHost(bytes) => work.shared.counters.count_write(bytes),
                Transfer::HeadFromHost(_) | Transfer::None => {}
            }
        } else if !self.queues[request.queue as usize].is_closing() {
            let sqe = &request.sqe;
            warn!(%status, opcode = sqe.opcode, nsid = sqe.nsid.get(), "media command failed");
        }
        self.finish(index, status, 0);
    }
}

fn fenced_status(fenced: Fenced) -> Status {
    match fenced {
        Fenced::Closed => Status::ABORTED_SQ_DELETION,
        Fenced::KeepAliveExpired => Status::KEEP_ALIVE_EXPIRED,
    }
}

/// The media job of an operation, and the ranges it still has to check.
pub(super) fn job_of(operation: Operation) -> Option<(Job, Option<u16>)> {
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
