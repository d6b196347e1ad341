//! What a queue thread does around its lane.

use umpath_core::{Action, AssociationId, Data, Lane, Op, PathId, Send, Tag};
use umpath_nvme::Cqe;
use umpath_nvme::command::io::ReadWrite;

use super::{LaneOrder, LaneReport};
use crate::sim::array::range_of;
use crate::sim::checker::{OpId, Violation, stamp};
use crate::sim::clock::{MICRO, Nanos, duration, nanos};
use crate::sim::fabric::{HostEnd, Packet, QpId, TargetEnd, Values, Way};
use crate::sim::plan::REQUEST_BLOCKS;
use crate::sim::world::{Copy, Happening, World};

/// A lane with its queue pairs.
#[derive(Debug)]
pub(crate) struct LaneActor {
    pub(crate) core: Lane,
    pub(crate) stalled_until: Nanos,
    pub(crate) qps: Vec<(AssociationId, QpId)>,
    /// When the last message in each direction arrives.
    pub(crate) inbox_at: Nanos,
    pub(crate) outbox_at: Nanos,
    timer_at: Option<Nanos>,
}

impl LaneActor {
    pub(crate) fn new(core: Lane) -> Self {
        Self {
            core,
            stalled_until: 0,
            qps: Vec::new(),
            inbox_at: 0,
            outbox_at: 0,
            timer_at: None,
        }
    }

    fn qp_of(&self, association: AssociationId) -> Option<QpId> {
        let found = self.qps.iter().find(|(known, _)| *known == association);
        found.map(|(_, qp)| *qp)
    }
}

impl World {
    /// A message of the control side arrives.
    pub(crate) fn lane_order(&mut self, lane: usize, order: LaneOrder) {
        let now = duration(self.now);
        self.note(|| format!("lane {lane}: told {}", brief(&order)));
        let actor = &mut self.host.lanes[lane];
        match order {
            LaneOrder::Attach {
                path,
                association,
                qp,
            } => {
                actor.qps.push((association, qp));
                actor.core.attach(path, association, self.plan.depth, now);
            }
            LaneOrder::Table(table) => actor.core.set_table(table, now),
            LaneOrder::Convict(association) => {
                actor.core.convict(association, now);
                match actor.qp_of(association) {
                    Some(qp) => self.lane_drains(lane, qp),
                    None => self.lane_drained(lane, association, self.now),
                }
            }
            LaneOrder::Guard(ghosts) => actor.core.guard(ghosts, now),
            LaneOrder::Locked(association) => actor.core.locked(association, now),
            LaneOrder::Fenced(association) => actor.core.fenced(association, now),
            LaneOrder::FailQueued => actor.core.fail_queued(now),
        }
        self.pump_lane(lane);
    }

    /// Moves a queue pair to the error state and waits until it is drained.
    fn lane_drains(&mut self, lane: usize, qp: QpId) {
        self.silence(qp);
        let deadline = self.plan.drain_deadline;
        let marker = self.fabric_chance.tail(10 * MICRO, deadline / 2);
        let lost = self.fabric_chance.percent(self.plan.lost_markers);
        let wait = if lost { deadline } else { marker };
        self.agenda.push(
            self.now + wait,
            Happening::Drained {
                qp,
                lane: Some(lane),
            },
        );
    }

    /// The marker of a queue pair came, or the queue pair was destroyed.
    pub(crate) fn qp_drained(&mut self, qp: QpId, lane: Option<usize>) {
        self.qps[qp].host = HostEnd::Drained;
        let (association, silent_at) = (self.qps[qp].association, self.qps[qp].silent_at);
        match lane {
            Some(lane) => {
                self.lane_drained(lane, association, silent_at);
                self.pump_lane(lane);
            }
            None => self.admin_silent(association, silent_at),
        }
    }

    fn lane_drained(&mut self, lane: usize, association: AssociationId, silent_at: Nanos) {
        let now = duration(self.now);
        let ghosts = self.host.lanes[lane].core.drained(association, now);
        for copy in &mut self.copies {
            if copy.lane == lane && copy.association == association && !copy.answered {
                copy.lost = true;
            }
        }
        self.report(
            lane,
            LaneReport::Drained {
                association,
                silent_at,
                ghosts,
            },
        );
    }

    /// Sends a lane's message to the control side.
    fn report(&mut self, lane: usize, report: LaneReport) {
        let delay = self.fabric_chance.tail(MICRO, self.plan.message_delay);
        let actor = &mut self.host.lanes[lane];
        actor.outbox_at = actor.outbox_at.max(self.now + delay);
        let (at, life) = (actor.outbox_at, self.host.life);
        self.agenda
            .push(at, Happening::FromLane { life, lane, report });
    }

    /// A queue pair of the host failed by itself.
    pub(crate) fn host_qp_failed(&mut self, qp: QpId) {
        if self.qps[qp].host != HostEnd::Open {
            return;
        }
        self.note(|| format!("queue pair {qp} of the host failed"));
        self.silence(qp);
        let association = self.qps[qp].association;
        if self.qps[qp].qid == 0 {
            return self.admin_failed(association);
        }
        let known = |actor: &LaneActor| actor.qps.iter().any(|(_, own)| *own == qp);
        match self.host.lanes.iter().position(known) {
            Some(lane) => self.report(lane, LaneReport::Broken(association)),
            None => self.admin_failed(association),
        }
    }

    /// Carries out everything a lane wants, and sets its timer.
    pub(crate) fn pump_lane(&mut self, lane: usize) {
        while let Some(action) = self.host.lanes[lane].core.poll_action() {
            match action {
                Action::Send(send) => self.lane_sends(lane, &send),
                Action::Complete { tag, result } => self.request_over(lane, tag, result),
            }
            if self.violation.is_some() {
                return;
            }
        }
        while let Some(event) = self.host.lanes[lane].core.poll_event() {
            self.report(lane, LaneReport::Event(event));
        }
        let actor = &mut self.host.lanes[lane];
        if let Some(due) = actor.core.poll_timeout() {
            let at = nanos(due).max(self.now + 1);
            if actor
                .timer_at
                .is_none_or(|timer| at < timer || timer <= self.now)
            {
                actor.timer_at = Some(at);
                let life = self.host.life;
                self.agenda
                    .push(at, Happening::LaneTimer { life, lane, at });
            }
        }
    }

    pub(crate) fn lane_timer(&mut self, lane: usize, at: Nanos) {
        if self.host.lanes[lane].timer_at != Some(at) {
            return;
        }
        self.host.lanes[lane].timer_at = None;
        self.host.lanes[lane]
            .core
            .handle_timeout(duration(self.now));
        self.pump_lane(lane);
    }

    fn lane_sends(&mut self, lane: usize, send: &Send) {
        let qp = self.host.lanes[lane].qp_of(send.association);
        let Some(qp) = qp.filter(|qp| self.qps[*qp].host == HostEnd::Open) else {
            let now = duration(self.now);
            return self.host.lanes[lane].core.send_failed(send, now);
        };
        let copy = self.new_copy(lane, send);
        if let Err(violation) = self.check_send(&copy) {
            return self.fail(violation);
        }
        let index = self.copies.len() as u32;
        self.note(|| {
            let Copy {
                op,
                lba,
                blocks,
                association,
                ..
            } = copy;
            format!("lane {lane}: sends copy {index} of op {op} ({lba}+{blocks}) on {association}")
        });
        self.copies.push(copy);
        let values = (matches!(send.data, Data::ToController { .. }) && self.plan.inline)
            .then(|| self.values_of(&copy));
        let packet = Packet::Capsule {
            sqe: send.sqe,
            copy: index,
            values,
        };
        self.transmit(qp, Way::ToTarget, packet);
    }

    fn new_copy(&self, lane: usize, send: &Send) -> Copy {
        let client = &self.clients[lane][usize::from(send.tag.0)];
        let op = client.op.unwrap_or(0);
        let (lba, blocks) = match (client.body.op, &send.data) {
            (Op::Flush, _) => (0, 0),
            (Op::Discard, Data::Parameters { bytes, .. }) => range_of(bytes),
            _ => {
                let fields = ReadWrite::parse(&send.sqe);
                (fields.slba, u64::from(fields.blocks.get()))
            }
        };
        Copy {
            op,
            lane,
            tag: send.tag,
            association: send.association,
            lba,
            blocks,
            offset: lba.saturating_sub(client.body.lba) as usize,
            answered: false,
            lost: false,
        }
    }

    /// What the host's memory holds for a copy's blocks at this moment.
    fn values_of(&self, copy: &Copy) -> Values {
        let client = &self.clients[copy.lane][usize::from(copy.tag.0)];
        let mut values = [0; REQUEST_BLOCKS];
        let part = &client.buffer[copy.offset..copy.offset + copy.blocks as usize];
        values[..part.len()].copy_from_slice(part);
        values
    }

    /// A packet for the host's end of a queue pair.
    pub(crate) fn host_receives(&mut self, qp: QpId, packet: Packet) {
        match packet {
            Packet::AdminAnswer { cqe, data } => self.admin_answer(qp, &cqe, &data),
            Packet::Goodbye => self.host_qp_failed(qp),
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
            Packet::Response { cqe, copy, values } => {
                if self.qps[qp].host == HostEnd::Drained {
                    return;
                }
                if let Some(values) = values {
                    self.land(copy, &values);
                }
                let Some(lane) = self.lane_of(qp) else { return };
                let at = self.now.max(self.host.lanes[lane].stalled_until);
                let life = self.host.life;
                if at > self.now {
                    self.agenda.push(
                        at,
                        Happening::Completion {
                            life,
                            qp,
                            lane,
                            cqe,
                            copy,
                        },
                    );
                } else {
                    self.completion(qp, lane, &cqe, copy);
                }
            }
            _ => {}
        }
    }

    fn lane_of(&self, qp: QpId) -> Option<usize> {
        let known = |actor: &LaneActor| actor.qps.iter().any(|(_, own)| *own == qp);
        self.host.lanes.iter().position(known)
    }

    fn owns_buffer(&self, copy: &Copy) -> bool {
        self.clients[copy.lane][usize::from(copy.tag.0)].op == Some(copy.op)
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
        let client = &mut self.clients[copy.lane][usize::from(copy.tag.0)];
        let blocks = copy.blocks as usize;
        client.buffer[copy.offset..copy.offset + blocks].copy_from_slice(&values[..blocks]);
    }

    /// A lane reaps a response.
    pub(crate) fn completion(&mut self, qp: QpId, lane: usize, cqe: &Cqe, copy: u32) {
        if self.qps[qp].host == HostEnd::Drained || self.violation.is_some() {
            return;
        }
        let (path, association) = (self.qps[qp].path, self.qps[qp].association);
        self.copies[copy as usize].answered = true;
        let path = PathId(path as u8);
        self.host.lanes[lane]
            .core
            .complete(path, association, cqe, duration(self.now));
        self.pump_lane(lane);
    }

    /// Puts a new request's data where the NIC will fetch it.
    pub(crate) fn fill(&mut self, lane: usize, tag: Tag, op: OpId, lba: u64, write: bool) {
        let client = &mut self.clients[lane][usize::from(tag.0)];
        for (offset, value) in client.buffer.iter_mut().enumerate() {
            *value = if write {
                stamp(op, lba + offset as u64)
            } else {
                u64::MAX
            };
        }
    }
}

fn brief(order: &LaneOrder) -> String {
    match order {
        LaneOrder::Table(table) => format!("table {}", table.generation),
        LaneOrder::Guard(ghosts) => {
            format!("{} ghosts, table {}", ghosts.len(), ghosts.generation())
        }
        other => format!("{other:?}"),
    }
}
