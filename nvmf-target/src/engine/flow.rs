//! A command's way: capsule, data from the host, execution, data to the host, response.

use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use tracing::{info, warn};
use umpath_nvme::{Cqe, Sqe, Status};
use umpath_rdma::{CapsuleSlot, QueueError, Remote, TargetEvent};
use umpath_transport::PushError;

use super::buffers::Buffers;
use super::execute::{Execution, Outcome, work_of};
use super::faults::Faults;
use super::hub::Hub;
use super::line::Line;
use super::queue::Queue;
use super::request::{Request, Requests, State, Work};
use super::ring::Ring;
use super::waiting::Waiting;
use crate::controller::sgl::{Location, Transfer, key_to_invalidate, locate};
use crate::fault::{AtExecution, AtResponse};

/// The token of responses that have no request.
const NO_REQUEST: u64 = u64::MAX;

/// What the requests of a reactor share. The ring goes before the buffers its entries may name.
pub(super) struct Flow {
    pub(super) hub: Arc<Hub>,
    pub(super) ring: Ring,
    pub(super) queues: Slab<Queue>,
    /// Keys of `queues`.
    pub(super) keys: Vec<u32>,
    requests: Requests,
    /// Requests that wait for memory.
    starved: Line,
    buffers: Buffers,
    waiting: Waiting,
}

impl Flow {
    pub(super) fn new(hub: Arc<Hub>, ring: Ring, buffers: Buffers) -> Self {
        Self {
            hub,
            ring,
            queues: Slab::new(),
            keys: Vec::new(),
            requests: Requests::new(),
            starved: Line::default(),
            buffers,
            waiting: Waiting::default(),
        }
    }

    pub(super) fn handle(&mut self, queue: u32, event: TargetEvent) {
        match event {
            TargetEvent::Capsule { slot, sqe } => self.accept_command(queue, slot, sqe),
            TargetEvent::Read { token } => self.execute(token as u32),
            // The response behind it frees the memory.
            TargetEvent::Written { .. } | TargetEvent::Responded { token: NO_REQUEST } => {}
            TargetEvent::Responded { token } => {
                self.queues[queue as usize]
                    .unacknowledged
                    .reaped(Instant::now);
                self.retire(token as u32);
            }
        }
    }

    fn accept_command(&mut self, queue: u32, slot: CapsuleSlot, sqe: Sqe) {
        let entry = &mut self.queues[queue as usize];
        entry.consume();
        let planned = work_of(&mut entry.role, &sqe).and_then(|(work, transfer)| {
            let location = locate(&sqe, transfer, slot.data_bytes() as usize)?;
            Ok((work, (transfer, location)))
        });
        entry.requests += 1;
        let (work, data, status) = match planned {
            // Advice that is not taken needs no data.
            Ok((Work::Nothing, data)) => (Work::Nothing, data, Some(Status::SUCCESS)),
            Ok((work, data)) => (work, data, None),
            Err(status) => (
                Work::Nothing,
                (Transfer::None, Location::Nowhere),
                Some(status),
            ),
        };
        let request = Request::new(queue, sqe, slot, work, data);
        let index = self.requests.insert(request);
        match status {
            Some(status) => self.finish(index, status, 0),
            None => self.advance(index),
        }
    }

    /// Gets a request its memory and its data.
    fn advance(&mut self, index: u32) {
        let request = &mut self.requests[index];
        let bytes = request.transfer.bytes();
        if bytes > 0 && request.buffer.is_none() {
            let take = || self.buffers.take(bytes);
            request.buffer = self.starved.take_or_wait(index, take);
            if request.buffer.is_none() {
                request.becomes(State::Starved);
                return;
            }
        }
        let Some(transport) = self.queues[request.queue as usize].live() else {
            return self.retire(index);
        };
        match (request.transfer, request.location) {
            (transfer, Location::Capsule { offset }) if transfer.is_from_host() => {
                if let (Some(buffer), Some(slot)) = (&mut request.buffer, &request.capsule) {
                    let data = transport.capsule_data(slot).get(offset as usize..);
                    let memory = buffer.bytes(self.buffers.arena(), bytes);
                    if let Some(data) = data.and_then(|data| data.get(..memory.len())) {
                        memory.copy_from_slice(data);
                    }
                }
                self.execute(index);
            }
            (transfer, Location::Remote { address, key }) if transfer.is_from_host() => {
                request.becomes(State::Fetching);
                let place = request
                    .buffer
                    .as_ref()
                    .map_or((0, 0, 0), |b| b.place(bytes));
                let remote = Remote { address, key };
                let arena = self.buffers.arena();
                if let Err(error) = transport.read(u64::from(index), remote, arena, place) {
                    let queue = request.queue;
                    self.refuse_overrun(queue, error);
                }
            }
            _ => self.execute(index),
        }
    }

    /// Executes a command whose data is here.
    fn execute(&mut self, index: u32) {
        let request = &mut self.requests[index];
        request.becomes(State::Ready);
        let queue = &self.queues[request.queue as usize];
        match self.hub.faults().at_execution(request, queue) {
            AtExecution::Execute => self.proceed(index),
            AtExecution::Park {
                past_gate: true, ..
            } if !self.gate_is_open(index) => self.proceed(index),
            AtExecution::Park { wait, past_gate } => {
                self.requests[index].becomes(State::Parked { past_gate });
                self.wait(index, wait);
            }
            AtExecution::Answer(status) => self.finish(index, status, 0),
            AtExecution::Ignore => self.fall_silent(index),
        }
    }

    fn proceed(&mut self, index: u32) {
        let outcome = self.execution(index).start();
        self.go_on(index, outcome);
    }

    /// A media step of a request is over.
    pub(super) fn media_done(&mut self, index: u32, result: i32) {
        let outcome = self.execution(index).step_done(result);
        self.go_on(index, outcome);
    }

    fn execution(&mut self, index: u32) -> Execution<'_> {
        let request = &mut self.requests[index];
        Execution {
            hub: &self.hub,
            ring: &mut self.ring,
            arena: self.buffers.arena(),
            queue: &mut self.queues[request.queue as usize],
            request,
            index,
        }
    }

    fn go_on(&mut self, index: u32, outcome: Outcome) {
        match outcome {
            Outcome::Done(status, result) => self.finish(index, status, result),
            Outcome::InRing => {}
            Outcome::Kept => self.retire(index),
        }
    }

    fn wait(&mut self, index: u32, wait: Duration) {
        self.waiting.push(self.hub.now() + wait, index);
    }

    /// The answer of a request is known.
    fn finish(&mut self, index: u32, status: Status, result: u64) {
        let request = &mut self.requests[index];
        request.becomes(State::Done { status, result });
        if self.queues[request.queue as usize].is_closing() {
            return self.retire(index);
        }
        match Faults::at_response(request) {
            AtResponse::Send => self.respond(index, status, result),
            AtResponse::Delay(wait) => self.wait(index, wait),
            AtResponse::Drop => self.fall_silent(index),
        }
    }

    /// Sends data, if any, and the response.
    fn respond(&mut self, index: u32, status: Status, result: u64) {
        let request = &mut self.requests[index];
        let queue_index = request.queue;
        let queue = &mut self.queues[queue_index as usize];
        let head = queue.head();
        let Some(transport) = queue.live() else {
            return self.retire(index);
        };
        request.becomes(State::Responding);
        if let Some(slot) = request.capsule.take() {
            transport.release(slot);
        }
        let bytes = request.transfer.bytes();
        let mut pushed = Ok(());
        if let (true, Transfer::ToHost(_), Location::Remote { address, key }, Some(buffer)) = (
            status.is_success(),
            request.transfer,
            request.location,
            &request.buffer,
        ) {
            let remote = Remote { address, key };
            let arena = self.buffers.arena();
            pushed = transport.write(u64::from(index), remote, arena, buffer.place(bytes));
        }
        let cqe = Cqe::new(request.sqe.cid.get(), head, status, result);
        let key = key_to_invalidate(&request.sqe.sgl);
        let pushed = pushed.and_then(|()| transport.respond(u64::from(index), &cqe, key));
        match pushed {
            Ok(()) => queue.unacknowledged.sent(Instant::now),
            Err(error) => self.refuse_overrun(queue_index, error),
        }
    }

    /// Completes a command that was parked in the array.
    pub(super) fn respond_parked(
        &mut self,
        queue_index: u32,
        cid: u16,
        status: Status,
        dword: u32,
    ) {
        let queue = &mut self.queues[queue_index as usize];
        let head = queue.head();
        let Some(transport) = queue.live() else {
            return;
        };
        let cqe = Cqe::new(cid, head, status, u64::from(dword));
        if let Err(error) = transport.respond(NO_REQUEST, &cqe, None) {
            self.refuse_overrun(queue_index, error);
        }
    }

    /// A host that keeps its queue depth can never fill our queues.
    fn refuse_overrun(&mut self, queue: u32, error: PushError) {
        warn!(%error, "the host sent more commands than its queue holds");
        self.close(queue);
    }

    /// Forgets a request whose memory no device and no ring entry uses any more.
    fn retire(&mut self, index: u32) {
        let mut request = self.requests.end(index);
        if let Some(buffer) = request.buffer.take() {
            self.buffers.give(buffer);
        }
        let queue = &mut self.queues[request.queue as usize];
        queue.requests -= 1;
        if let (Some(slot), Some(transport)) = (request.capsule.take(), queue.live()) {
            transport.release(slot);
        }
    }

    /// A request that is never answered lives as long as its queue.
    fn fall_silent(&mut self, index: u32) {
        let request = &mut self.requests[index];
        request.becomes(State::Silent);
        if self.queues[request.queue as usize].is_closing() {
            self.retire(index);
        }
    }

    /// Whether a request could go to its backing store now. Range lists are checked behind the gate,
    /// so no deallocation goes around it.
    fn gate_is_open(&self, index: u32) -> bool {
        matches!(&self.requests[index].work, Work::Media(work)
            if work.ranges.is_none()
                && work.shared.gate.permits(work.epoch, self.hub.now()).is_ok())
    }

    /// Completes a command as aborted if it waits to be executed. What has passed the gate, or has been
    /// executed, cannot be taken back.
    pub(super) fn recall(&mut self, queue: u32, cid: u16) -> bool {
        let requests = &self.requests;
        let found = self.waiting.take(|index| {
            let request = &requests[index];
            request.state() == State::Parked { past_gate: false }
                && request.queue == queue
                && request.sqe.cid.get() == cid
        });
        if let Some(index) = found {
            self.finish(index, Status::ABORT_REQUESTED, 0);
        }
        found.is_some()
    }

    /// When the next one that waits goes on.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        self.waiting.next()
    }

    /// Lets go on what has waited long enough; whether there was any.
    pub(super) fn wake_waiting(&mut self) -> bool {
        let mut busy = false;
        while self.waiting.next().is_some()
            && let Some(index) = self.waiting.pop(self.hub.now())
        {
            busy = true;
            match self.requests[index].state() {
                State::Parked { past_gate: true } => self.proceed(index),
                State::Parked { past_gate: false } => self.resume(index),
                State::Done { status, result } => self.respond(index, status, result),
                state => unreachable!("a request waits in {state:?}"),
            }
        }
        busy
    }

    /// Executes what was parked. An admin command whose controller may be another by now is not.
    fn resume(&mut self, index: u32) {
        let request = &mut self.requests[index];
        let queue = &self.queues[request.queue as usize];
        if matches!(request.work, Work::Admin) && queue.is_closing() {
            self.retire(index);
        } else {
            request.becomes(State::Ready);
            self.proceed(index);
        }
    }

    /// The program ends: nothing goes on.
    pub(super) fn abandon_waiting(&mut self) {
        for index in self.waiting.drain().collect::<Vec<_>>() {
            self.retire(index);
        }
    }

    /// Requests that wait for memory, as far as there is some again.
    pub(super) fn feed_starved(&mut self) {
        while let Some(index) = self.starved.first() {
            // One that ended meanwhile kept its place.
            if self.requests.is(index, State::Starved) {
                let request = &mut self.requests[index];
                let Some(buffer) = self.buffers.take(request.transfer.bytes()) else {
                    return;
                };
                request.buffer = Some(buffer);
                self.starved.pass_first();
                self.advance(index);
            } else {
                self.starved.pass_first();
            }
        }
    }

    pub(super) fn fail(&mut self, key: u32, error: &QueueError) {
        let queue = &self.queues[key as usize];
        if !queue.is_closing() {
            info!(cntlid = queue.cntlid(), id = queue.id.0, %error, "queue failed");
        }
        self.close(key);
    }

    /// Starts closing a queue and notifies the array.
    pub(super) fn close(&mut self, key: u32) {
        let queue = &mut self.queues[key as usize];
        if !queue.begin_close() {
            return;
        }
        if let Some(cntlid) = queue.cntlid() {
            let (id, now) = (queue.id, self.hub.now());
            self.hub
                .with_array(|array| array.queue_closed(cntlid, id, now));
        }
    }

    /// Ends the requests that end with their queue pair.
    pub(super) fn retire_all_of(&mut self, key: u32) {
        for index in self.requests.bound_to(key) {
            self.retire(index);
        }
    }
}
