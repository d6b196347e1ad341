//! What a queue thread does around its lane.

use std::sync::Arc;

use umpath_core::{
    Action, AssociationId, Data, Ghost, GhostTable, Lane, LaneEvent, Op, PathId, Resend, Send, Tag,
};
use umpath_nvme::command::io::ReadWrite;
use umpath_nvme::opcode::nvm;
use umpath_nvme::{Cqe, Status};

use super::{LaneOrder, LaneReport};
use crate::sim::array::range_of;
use crate::sim::checker::{OpId, OpKind, Violation, stamp};
use crate::sim::clock::{MICRO, MILLI, Nanos, duration, nanos};
use crate::sim::fabric::{HostEnd, Packet, QpId, TargetEnd, Values, Way};
use crate::sim::mutant::{Mutant, UNLOCK_AFTER};
use crate::sim::plan::REQUEST_BLOCKS;
use crate::sim::world::{Copy, Happening, World};

/// How long after its deadline a queue pair that is not destroyed drains at last.
const LATE_DRAIN: Nanos = 100 * MILLI;

/// How long after a controller's goodbye a mutant takes it for dead.
const GOODBYE_BELIEVED: Nanos = 20 * MILLI;

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
            LaneOrder::Convict(_) if self.mutant == Some(Mutant::ConvictionUnheard) => {}
            LaneOrder::Convict(association) => {
                actor.core.convict(association, now);
                match actor.qp_of(association) {
                    Some(qp) => self.lane_drains(lane, qp),
                    None => self.lane_drained(lane, association, self.now),
                }
            }
            LaneOrder::Guard(table) => self.lane_guards(lane, &table),
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
        self.qps[qp].marker_lost = lost;
        let wait = if lost { deadline } else { marker };
        let life = self.host.life;
        let lane = Some(lane);
        self.agenda
            .push(self.now + wait, Happening::Drained { life, qp, lane });
        if self.is(Mutant::BufferAtError) {
            self.thought_drained(qp);
        }
    }

    /// A mutant's lane takes a queue pair for drained that may touch memory for some time yet.
    fn thought_drained(&mut self, qp: QpId) {
        self.qps[qp].told = true;
        let (association, silent_at) = (self.qps[qp].association, self.qps[qp].silent_at);
        let known = |actor: &LaneActor| actor.qps.iter().any(|(_, own)| *own == qp);
        if let Some(lane) = self.host.lanes.iter().position(known) {
            self.lane_drained(lane, association, silent_at);
        }
    }

    /// A lane gets a table of ghosts.
    fn lane_guards(&mut self, lane: usize, table: &Arc<GhostTable>) {
        let now = duration(self.now);
        let generation = table.generation();
        if self.is(Mutant::GuardUnheard) && lane == 0 || self.is(Mutant::RetryAtOnce) {
            let event = LaneEvent::Guarded { generation };
            return self.report(lane, LaneReport::Event(event));
        }
        let table = match self.mutant {
            Some(mutant) => mutant.table(lane, table),
            None => Arc::clone(table),
        };
        let core = &mut self.host.lanes[lane].core;
        core.guard(Arc::clone(&table), now);
        if self.mutant == Some(Mutant::LockedAlone) {
            let mut associations: Vec<_> = table.ghosts().map(|ghost| ghost.association).collect();
            associations.dedup();
            for association in associations {
                self.host.lanes[lane].core.locked(association, now);
            }
        }
        if self.is(Mutant::GuardedAtOnce) {
            self.report(lane, LaneReport::Event(LaneEvent::Guarded { generation }));
        }
        if self.is(Mutant::UnlockOnTimeout) && !table.is_empty() {
            let (life, at) = (self.host.life, self.now + UNLOCK_AFTER);
            let generation = table.generation() + 1;
            self.agenda.push(
                at,
                Happening::Unlock {
                    life,
                    lane,
                    generation,
                },
            );
        }
    }

    /// A mutant's lane forgets what is locked.
    pub(crate) fn unlock(&mut self, lane: usize, generation: u64) {
        let none = Arc::new(GhostTable::new(generation, Resend::OnceGuarded, []));
        self.host.lanes[lane].core.guard(none, duration(self.now));
        self.pump_lane(lane);
    }

    /// The marker of a queue pair came, or the queue pair was destroyed.
    pub(crate) fn qp_drained(&mut self, qp: QpId, lane: Option<usize>) {
        if self.is(Mutant::DeadlineTrusted) && self.qps[qp].marker_lost && !self.qps[qp].told {
            self.thought_drained(qp);
            let (life, at) = (self.host.life, self.now + LATE_DRAIN);
            return self.agenda.push(at, Happening::Drained { life, qp, lane });
        }
        self.qps[qp].host = HostEnd::Drained;
        let (association, silent_at) = (self.qps[qp].association, self.qps[qp].silent_at);
        match lane {
            Some(_) if self.qps[qp].told => {}
            Some(lane) => {
                self.lane_drained(lane, association, silent_at);
                self.pump_lane(lane);
            }
            None => self.admin_silent(association, silent_at),
        }
    }

    fn lane_drained(&mut self, lane: usize, association: AssociationId, silent_at: Nanos) {
        let now = duration(self.now);
        let mut ghosts = self.host.lanes[lane].core.drained(association, now);
        for copy in &mut self.copies {
            if copy.lane == lane && copy.association == association && !copy.answered {
                copy.lost = true;
            }
        }
        match self.mutant {
            Some(Mutant::GhostsForgotten) => ghosts.clear(),
            Some(Mutant::OnlyWritesHaunt) => {
                let writes = |ghost: &Ghost| {
                    let lost = self.copies.iter().rev();
                    let mut lost =
                        lost.filter(|copy| copy.lane == lane && copy.association == association);
                    lost.find(|copy| copy.lba == ghost.lba && copy.lost)
                        .is_some_and(|copy| {
                            self.checker.ops[copy.op as usize].kind == OpKind::Write
                        })
                };
                ghosts.retain(writes);
            }
            Some(Mutant::RetryAtOnce) => {
                ghosts.clear();
                self.host.lanes[lane].core.fenced(association, now);
            }
            _ => {}
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
                Action::Complete { tag, result } => {
                    if self.is(Mutant::CompletionDropped) && self.array_chance.percent(1) {
                        continue;
                    }
                    self.request_over(lane, tag, result);
                    if self.is(Mutant::CompletionTwice) && self.array_chance.percent(1) {
                        self.request_over(lane, tag, result);
                    }
                    if self.is(Mutant::UnlockOnAnswer) {
                        self.unlock_answered(lane);
                    }
                }
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
            format!(
                "lane {lane}: sends copy {index} of op {op} ({lba}+{blocks}) on association \
                 {association}"
            )
        });
        self.copies.push(copy);
        if copy.mutation {
            self.at_large.push(index);
        }
        if self.is(Mutant::HedgedWrite) && copy.mutation && self.array_chance.percent(5) {
            self.hedge(lane, qp, copy, send);
        }
        let values = (matches!(send.data, Data::ToController { .. }) && self.plan.inline)
            .then(|| self.values_of(&copy));
        let again = || {
            let earlier = &self.copies[..index as usize];
            earlier
                .iter()
                .any(|other| other.op == copy.op && other.lost)
        };
        let mut sqe = send.sqe;
        if self.is(Mutant::FuaNotResent) && again() {
            sqe.cdw12.set(sqe.cdw12.get() & !(1 << 30));
        }
        if self.is(Mutant::FlushNotResent) && sqe.opcode == nvm::FLUSH && again() {
            let (life, at) = (self.host.life, self.now + 1);
            let cqe = Cqe::new(sqe.cid.get(), 0, Status::SUCCESS, 0);
            let completion = Happening::Completion {
                life,
                qp,
                lane,
                cqe,
                copy: index,
            };
            return self.agenda.push(at, completion);
        }
        let packet = Packet::Capsule {
            sqe,
            copy: index,
            values,
        };
        self.transmit(qp, Way::ToTarget, packet);
    }

    /// A mutant forgets the ghosts of requests that are over.
    fn unlock_answered(&mut self, lane: usize) {
        let table = Arc::clone(self.host.device.ghosts());
        let over = |ghost: &Ghost| {
            let mut copies = self.copies.iter().rev();
            let copy = copies.find(|copy| {
                copy.lba == ghost.lba && copy.association == ghost.association && copy.lost
            });
            copy.is_some_and(|copy| self.checker.ops[copy.op as usize].end != u64::MAX)
        };
        if table.ghosts().any(over) {
            let left: Vec<Ghost> = table
                .ghosts()
                .filter(|ghost| !over(ghost))
                .copied()
                .collect();
            let generation = 2 * table.generation() + 1;
            let table = Arc::new(GhostTable::new(generation, table.resend(), left));
            self.host.lanes[lane].core.guard(table, duration(self.now));
        }
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
            mutation: client.body.op.is_mutation(),
            offset: lba.saturating_sub(client.body.lba) as usize,
            answered: false,
            lost: false,
        }
    }

    /// A mutant sends a write on another path as well.
    fn hedge(&mut self, lane: usize, first: QpId, copy: Copy, send: &Send) {
        let mut qps = self.host.lanes[lane].qps.iter().rev().map(|(_, qp)| *qp);
        let open = |qp: &QpId| self.qps[*qp].host == HostEnd::Open && *qp != first;
        let Some(qp) = qps.find(open) else { return };
        let index = self.copies.len() as u32;
        let association = self.qps[qp].association;
        // Nobody asks about this copy but the checker of what is read.
        self.copies.push(Copy {
            association,
            answered: true,
            ..copy
        });
        let values = Some(self.values_of(&copy));
        let sqe = send.sqe.with_cid(0xfff0);
        self.transmit(
            qp,
            Way::ToTarget,
            Packet::Capsule {
                sqe,
                copy: index,
                values,
            },
        );
    }

    /// What the host's memory holds for a copy's blocks at this moment.
    fn values_of(&self, copy: &Copy) -> Values {
        let client = &self.clients[copy.lane][usize::from(copy.tag.0)];
        let mut values = [0; REQUEST_BLOCKS];
        let part = &client.buffer[copy.offset..copy.offset + copy.blocks as usize];
        values[..part.len()].copy_from_slice(part);
        let again = || {
            let earlier = &self.copies[client.first_copy..];
            earlier
                .iter()
                .any(|other| other.op == copy.op && other.lost)
        };
        if self.is(Mutant::ResendShifted) && again() {
            values.rotate_left(1);
        }
        values
    }

    /// A packet for the host's end of a queue pair.
    pub(crate) fn host_receives(&mut self, qp: QpId, packet: Packet) {
        match packet {
            Packet::AdminAnswer { cqe, data } => self.admin_answer(qp, &cqe, &data),
            Packet::Goodbye { .. } => {
                if self.is(Mutant::GoodbyeIsFence) {
                    let (life, association) = (self.host.life, self.qps[qp].association);
                    let at = self.now + GOODBYE_BELIEVED;
                    self.agenda
                        .push(at, Happening::FenceDue { life, association });
                }
                self.host_qp_failed(qp);
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
            Packet::Response { cqe, copy, values } => {
                if self.qps[qp].host == HostEnd::Drained && !self.is(Mutant::StaleAnswer) {
                    return;
                }
                if let Some(values) = values
                    && self.qps[qp].host != HostEnd::Drained
                {
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
        let drained = self.qps[qp].host == HostEnd::Drained && !self.is(Mutant::StaleAnswer);
        if drained || self.violation.is_some() {
            return;
        }
        let (path, mut association) = (self.qps[qp].path, self.qps[qp].association);
        if self.is(Mutant::StaleAnswer) {
            let newest = self.host.lanes[lane].qps.iter().rev();
            let mut same_path = newest.filter(|(_, known)| self.qps[*known].path == path);
            association = same_path.next().map_or(association, |(newest, _)| *newest);
        }
        self.note(|| format!("lane {lane}: copy {copy} is answered: {}", cqe.status()));
        self.copies[copy as usize].answered = true;
        self.at_large.retain(|known| *known != copy);
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
        LaneOrder::Guard(table) => {
            let ghosts = table.ghosts().map(|g| format!("{}+{}", g.lba, g.blocks));
            let ghosts: Vec<String> = ghosts.collect();
            format!("guard {} [{}]", table.generation(), ghosts.join(" "))
        }
        other => format!("{other:?}"),
    }
}
