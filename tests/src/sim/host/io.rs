//! Commands and answers between queue threads and the fabric, and the memory they touch.

use umpath_core::{AssociationId, BlockError, Op};
use umpath_engine::Channel;
use umpath_nvme::command::io::ReadWrite;
use umpath_nvme::opcode::nvm;
use umpath_nvme::{Cqe, Sqe};

use super::{LaneAt, Range};
use crate::sim::array::range_of;
use crate::sim::checker::{OpId, Violation, stamp};
use crate::sim::clock::MICRO;
use crate::sim::happening::Happening;
use crate::sim::mutant::Mutant;
use crate::sim::plan::REQUEST_BLOCKS;
use crate::sim::qp::{HostEnd, Packet, QpId, TargetEnd, Values, Way};
use crate::sim::workload::Client;
use crate::sim::world::{Copy, World};

impl World {
    pub(crate) fn client(&self, at: LaneAt, tag: u16) -> &Client {
        &self.devices[at.device].queues[at.queue][usize::from(tag)]
    }

    pub(crate) fn client_mut(&mut self, at: LaneAt, tag: u16) -> &mut Client {
        &mut self.devices[at.device].queues[at.queue][usize::from(tag)]
    }

    /// Whose command it is. Those without data name no tag; the application never has two of them
    /// that could be confused.
    fn tag_of(&self, at: LaneAt, sqe: &Sqe, range: Range) -> Option<u16> {
        let range = match range {
            Range::Slot(tag) | Range::Parameters(tag, _) => return Some(tag),
            Range::None => ReadWrite::parse(sqe),
        };
        let (from, blocks) = (range.slba, u64::from(range.blocks.get()));
        let means = |client: &Client| {
            let body = &client.body;
            let covers = body.lba <= from && from + blocks <= body.lba + u64::from(body.blocks);
            client.op.is_some()
                && match body.op {
                    Op::Flush => sqe.opcode == nvm::FLUSH,
                    Op::WriteZeroes => sqe.opcode == nvm::WRITE_ZEROES && covers,
                    _ => false,
                }
        };
        let tags = &self.devices[at.device].queues[at.queue];
        tags.iter().position(means).map(|tag| tag as u16)
    }

    /// A queue thread has rung for a command.
    pub(super) fn lane_sends(&mut self, at: LaneAt, qp: QpId, sqe: &Sqe, range: Range) {
        let Some(tag) = self.tag_of(at, sqe, range) else {
            let what = "(7) a command is sent for a request that is over".to_owned();
            return self.fail(Violation(what));
        };
        let copy = self.new_copy(at, tag, qp, sqe, range);
        if let Err(violation) = self.check_send(&copy) {
            return self.fail(violation);
        }
        let index = self.add_copy(copy);
        if self.qps[qp].host != HostEnd::Open {
            // It goes nowhere; the thread has yet to learn why.
            return;
        }
        let mut sqe = *sqe;
        if self.seam_send(at, qp, &mut sqe, index) {
            return;
        }
        let data = matches!(range, Range::Slot(_)) && copy.mutation;
        let values = (data && self.plan.inline).then(|| self.values_of(&copy));
        let packet = Packet::Capsule {
            sqe,
            copy: index,
            values,
        };
        self.transmit(qp, Way::ToTarget, packet);
    }

    fn new_copy(&self, at: LaneAt, tag: u16, qp: QpId, sqe: &Sqe, range: Range) -> Copy {
        let client = self.client(at, tag);
        let (lba, blocks) = match range {
            Range::Parameters(_, bytes) => range_of(&bytes),
            _ if sqe.opcode == nvm::FLUSH => (0, 0),
            _ => {
                let fields = ReadWrite::parse(sqe);
                (fields.slba, u64::from(fields.blocks.get()))
            }
        };
        Copy {
            op: client.op.unwrap_or(0),
            store: self.devices[at.device].store,
            lane: at,
            tag,
            association: self.qps[qp].association,
            sent_at: self.now,
            lba,
            blocks,
            mutation: client.body.op.is_mutation(),
            offset: lba.saturating_sub(client.body.lba) as usize,
            answered: false,
            lost: false,
        }
    }

    pub(crate) fn add_copy(&mut self, copy: Copy) -> u32 {
        let index = self.copies.len() as u32;
        self.note(|| {
            let Copy {
                op,
                lba,
                blocks,
                association,
                lane,
                ..
            } = copy;
            format!("{lane}: sends copy {index} of op {op} ({lba}+{blocks}) on {association}")
        });
        self.copies.push(copy);
        self.client_mut(copy.lane, copy.tag).copies.push(index);
        if copy.mutation {
            self.at_large.push(index);
        }
        index
    }

    /// An earlier copy of the same request was lost.
    pub(crate) fn was_lost(&self, copy: &Copy) -> bool {
        let client = self.client(copy.lane, copy.tag);
        let copies = client.copies.iter().map(|at| &self.copies[*at as usize]);
        copies
            .into_iter()
            .any(|other| other.op == copy.op && other.lost)
    }

    /// A queue thread has taken an answer.
    pub(super) fn reaped(&mut self, at: LaneAt, copy: u32) {
        self.note(|| format!("{at}: copy {copy} is answered"));
        self.copies[copy as usize].answered = true;
        self.at_large.retain(|known| *known != copy);
    }

    /// A queue thread has answered a request.
    pub(super) fn answered(&mut self, at: LaneAt, tag: u16, result: Result<u32, BlockError>) {
        let result = result.map(|_| ());
        if self.is(Mutant::CompletionDropped) && self.array_chance.percent(1) {
            return;
        }
        self.request_over(at, tag, result);
        if self.is(Mutant::CompletionTwice) && self.array_chance.percent(1) {
            self.request_over(at, tag, result);
        }
        if self.is(Mutant::UnlockOnAnswer) {
            self.unlock_answered(at);
        }
    }

    /// A queue thread gives a queue pair up: nothing leaves it any more, and after a while its NIC
    /// lets go of memory and says so. Or it does neither, until it is destroyed.
    pub(super) fn lane_drains(&mut self, qp: QpId) {
        let known = &self.qps[qp];
        let lost = known.marker_lost;
        if known.port.as_ref().is_some_and(|port| port.stubborn.get()) {
            self.note(|| format!("queue pair {qp} is stubborn"));
        } else {
            self.silence(qp);
        }
        let marker = self
            .fabric_chance
            .tail(10 * MICRO, self.plan.drain_deadline / 2);
        if !lost {
            self.agenda.push(self.now + marker, Happening::Flushed(qp));
        }
        if self.is(Mutant::BufferAtError) || self.is(Mutant::MarkerTrusted) && lost {
            self.say_flushed(qp);
        }
    }

    /// The marker of a queue pair came: its NIC touches nothing any more.
    pub(crate) fn flushed(&mut self, qp: QpId) {
        self.silence(qp);
        self.qps[qp].host = HostEnd::Drained;
        self.say_flushed(qp);
    }

    fn say_flushed(&mut self, qp: QpId) {
        if let Some(port) = &self.qps[qp].port {
            port.flushed.set(true);
        }
        self.ring_bell(qp, Channel::Completions);
    }

    /// What a queue thread had in flight on an association is lost.
    pub(super) fn lost_with(&mut self, at: LaneAt, association: AssociationId) {
        let association = self.host.assoc(association);
        let Self {
            devices, copies, ..
        } = self;
        for client in &devices[at.device].queues[at.queue] {
            for copy in &client.copies {
                let copy = &mut copies[*copy as usize];
                copy.lost |= copy.association == association && !copy.answered;
            }
        }
    }

    /// A queue pair of the host failed by itself, or its peer is gone.
    pub(crate) fn host_qp_failed(&mut self, qp: QpId, by_peer: bool) {
        if self.qps[qp].host != HostEnd::Open {
            return;
        }
        self.note(|| format!("queue pair {qp} of the host failed"));
        self.silence(qp);
        let known = &self.qps[qp];
        let (Some(_), Some(port)) = (known.lane, &known.port) else {
            return self.session_qp_failed(qp);
        };
        let busy = port.in_flight.get() > 0;
        if by_peer {
            port.disconnected.set(true);
        } else {
            port.failed.set(true);
        }
        let channel = if busy && !by_peer {
            Channel::Completions
        } else {
            Channel::Connection
        };
        self.ring_bell(qp, channel);
    }

    /// What the host's memory holds for a copy's blocks at this moment.
    pub(crate) fn values_of(&self, copy: &Copy) -> Values {
        let client = self.client(copy.lane, copy.tag);
        let mut values = [0; REQUEST_BLOCKS];
        let part = &client.buffer[copy.offset..copy.offset + copy.blocks as usize];
        values[..part.len()].copy_from_slice(part);
        if self.is(Mutant::ResendShifted) && self.was_lost(copy) {
            values.rotate_left(1);
        }
        values
    }

    /// A packet for the host's end of a queue pair.
    pub(crate) fn host_receives(&mut self, qp: QpId, packet: Packet) {
        match packet {
            Packet::AdminAnswer { cqe, data } => self.admin_answer(qp, &cqe, &data),
            Packet::Goodbye { .. } => {
                self.seam_goodbye(qp);
                self.host_qp_failed(qp, true);
            }
            Packet::Fetch { command, copy } => {
                if self.qps[qp].host == HostEnd::Drained {
                    return;
                }
                let copy = self.copies[copy as usize];
                if !self.owns_buffer(&copy) {
                    let what = format!(
                        "(6) data of op {} is fetched from a buffer that is no longer its own",
                        copy.op
                    );
                    return self.fail(Violation(what));
                }
                let values = self.values_of(&copy);
                if !matches!(self.qps[qp].target, TargetEnd::Closed) {
                    self.carry_fetched(qp, command, values);
                }
            }
            Packet::Response { cqe, copy, values } => self.response(qp, cqe, copy, values),
            _ => {}
        }
    }

    /// The NIC gets a response, and writes it where the thread finds it.
    fn response(&mut self, qp: QpId, cqe: Cqe, copy: u32, values: Option<Values>) {
        let drained = self.qps[qp].host == HostEnd::Drained;
        if let Some(values) = values
            && !drained
        {
            self.land(copy, &values);
        }
        if drained {
            return self.seam_late_answer(qp, cqe, copy);
        }
        if let Some(port) = &self.qps[qp].port {
            port.answers.borrow_mut().push_back((cqe, copy));
        }
        self.ring_bell(qp, Channel::Completions);
    }

    fn owns_buffer(&self, copy: &Copy) -> bool {
        self.client(copy.lane, copy.tag).op == Some(copy.op)
    }

    /// A read's data reaches memory.
    fn land(&mut self, copy: u32, values: &Values) {
        let copy = self.copies[copy as usize];
        if !self.owns_buffer(&copy) {
            let what = format!(
                "(6) data for op {} lands in a buffer that is no longer its own",
                copy.op
            );
            return self.fail(Violation(what));
        }
        let client = self.client_mut(copy.lane, copy.tag);
        let blocks = copy.blocks as usize;
        client.buffer[copy.offset..copy.offset + blocks].copy_from_slice(&values[..blocks]);
    }

    /// Puts a new request's data where the NIC will fetch it.
    pub(crate) fn fill(&mut self, at: LaneAt, tag: u16, op: OpId, lba: u64, write: bool) {
        let store = self.devices[at.device].store;
        let client = self.client_mut(at, tag);
        for (offset, value) in client.buffer.iter_mut().enumerate() {
            *value = if write {
                stamp(store, op, lba + offset as u64)
            } else {
                u64::MAX
            };
        }
    }
}
