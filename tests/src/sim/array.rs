//! The other end: target processes on one medium.
//!
//! The array, its controllers, their gates and the judgement of every command are the product's
//! own (`umpath_target`). Played here are the engine around them (queues, data, the media step) and
//! the medium. The gate is asked exactly where the real engine asks it: when a command is about to
//! be submitted, by the process's clock at that moment.

use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::command::fabrics::ConnectResponse;
use umpath_nvme::command::io::DsmRange;
use umpath_nvme::identify::cns;
use umpath_nvme::opcode::{self, admin};
use umpath_nvme::{Cqe, Sqe, Status};
use umpath_target::controller::io::{Operation, plan};
use umpath_target::controller::sgl::Transfer;
use umpath_target::controller::view::Shared;
use umpath_target::controller::{Answer, abort_result, admin_transfer};
use umpath_target::gate::Epoch;
use umpath_target::model::PortId;
use umpath_target::output::{ArrayOutput, QueueId};

use super::clock::{MICRO, duration, nanos};
use super::happening::Happening;
use super::mutant::Mutant;
use super::plan::{FaultKind, REQUEST_BLOCKS};
use super::qp::{Packet, Qp, QpId, TargetEnd, Values, Way};
use super::resets::{Intercepted, Sent};
use super::store::StoreId;
use super::world::World;

pub(crate) const NQN: &str = "nqn.2026-11.test:simulated";
pub(crate) const LBA_SHIFT: u8 = 12;

/// A command in a target process.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) qp: QpId,
    pub(crate) process: usize,
    pub(crate) life: u32,
    pub(crate) cid: u16,
    pub(crate) copy: u32,
    /// The namespace that its number stood for when it came.
    pub(crate) store: StoreId,
    pub(crate) lba: u64,
    pub(crate) blocks: u64,
    pub(crate) operation: Operation,
    pub(crate) values: Values,
    pub(crate) epoch: Epoch,
    pub(crate) shared: Arc<Shared<StoreId>>,
    /// Of the board.
    pub(crate) row: usize,
    /// Blocks that are done, and those that are on the medium now.
    pub(crate) done: u64,
    pub(crate) step: u64,
    pub(crate) on_medium: bool,
    /// Nothing comes of it any more: it was aborted, or the power failed while it was on the medium.
    pub(crate) void: bool,
    /// Its data is not there yet.
    pub(crate) fetching: bool,
}

impl World {
    /// A packet for the target's end of a queue pair.
    pub(crate) fn target_receives(&mut self, qp: QpId, packet: Packet) {
        let process = self.qps[qp].process;
        let current =
            self.processes[process].alive && self.processes[process].life == self.qps[qp].life;
        if !current || matches!(self.qps[qp].target, TargetEnd::Closed) {
            return;
        }
        match packet {
            Packet::Admin { sqe, data } => self.admin_command(qp, &sqe, data),
            // The array has no part in I/O.
            Packet::Capsule { sqe, copy, values } => {
                return self.io_command(qp, &sqe, copy, values);
            }
            Packet::Fetched { command, values } => {
                if let Some(known) = self.commands.get_mut(command) {
                    known.values = values;
                    known.fetching = false;
                    self.park(command);
                }
                return;
            }
            Packet::Goodbye { counts } => self.target_qp_failed(qp, counts),
            Packet::AdminAnswer { .. } | Packet::Fetch { .. } | Packet::Response { .. } => {}
        }
        self.array_outputs(process);
    }

    /// The target's end is over, for whatever reason. `counts`: it may be taken for traffic.
    pub(crate) fn target_qp_failed(&mut self, qp: QpId, counts: bool) {
        let end = std::mem::replace(&mut self.qps[qp].target, TargetEnd::Fresh);
        self.close_target_end(qp);
        let process = self.qps[qp].process;
        if self.processes[process].life != self.qps[qp].life || !self.processes[process].alive {
            return;
        }
        if let TargetEnd::Admin { cntlid } | TargetEnd::Io { cntlid, .. } = end {
            self.note(|| {
                format!("process {process}: queue pair {qp} of controller {cntlid} is over")
            });
            let now = duration(self.processes[process].clock(self.now));
            let queue = QueueId(qp as u64);
            if counts && self.plan.ends_count {
                self.end_is_traffic(qp, &end, now);
            }
            self.processes[process]
                .array
                .queue_closed(cntlid, queue, now);
            self.array_outputs(process);
        }
    }

    /// The end of a queue pair restarts its controller's timer as a command does (Linux nvmet,
    /// `nvmet_sq_destroy`).
    fn end_is_traffic(&mut self, qp: QpId, end: &TargetEnd, now: Duration) {
        let Qp {
            process,
            association,
            ..
        } = self.qps[qp];
        // The admin queue's controller is known by its other queue pairs.
        let others = self
            .qps
            .iter()
            .filter(|other| other.association == association);
        let mut ends = others.map(|other| &other.target).chain([end]);
        let shared = ends.find_map(|end| match end {
            TargetEnd::Io { access, .. } => Some(Arc::clone(access.shared())),
            _ => None,
        });
        if let Some(shared) = shared {
            self.processes[process].restart_timers(now, duration(self.plan.kato));
            self.processes[process].note_traffic(&shared, now);
        }
    }

    fn admin_command(&mut self, qp: QpId, sqe: &Sqe, mut data: Vec<u8>) {
        let process = self.qps[qp].process;
        let now = duration(self.processes[process].clock(self.now));
        let cid = sqe.cid.get();
        let port = PortId(self.qps[qp].path as u16 + 1);
        self.processes[process].restart_timers(now, duration(self.plan.kato));
        let fresh = matches!(self.qps[qp].target, TargetEnd::Fresh);
        let refused = fresh && self.refuses(process, opcode::FABRICS);
        let (status, result) = match self.qps[qp].target {
            TargetEnd::Fresh if refused => (Status::CONNECT_CONTROLLER_BUSY, 0),
            TargetEnd::Fresh => match self.processes[process].array.connect(
                port,
                sqe,
                &data,
                QueueId(qp as u64),
                now,
            ) {
                Ok(connected) => {
                    let cntlid = connected.cntlid;
                    self.qps[qp].target = match connected.io {
                        None => TargetEnd::Admin { cntlid },
                        Some(access) => {
                            if self.plan.traffic_based {
                                self.processes[process].time_by_traffic(access.shared());
                            }
                            TargetEnd::Io { cntlid, access }
                        }
                    };
                    data.clear();
                    ConnectResponse::Accepted { cntlid, authreq: 0 }.to_result()
                }
                Err(refusal) => (refusal.status, refusal.result),
            },
            TargetEnd::Admin { cntlid } => match self.ask_array(qp, cntlid, sqe, &mut data, now) {
                Some(Answer::Done { status, result }) => (status, result),
                Some(Answer::Parked) | None => return,
            },
            TargetEnd::Closed | TargetEnd::Io { .. } => return,
        };
        let cqe = Cqe::new(cid, 0, status, result);
        let packet = Packet::AdminAnswer { cqe, data };
        match self.reset_leaves(process, sqe) {
            Sent::Now => self.transmit(qp, Way::ToHost, packet),
            Sent::At(at) => {
                let packet = Box::new(packet);
                self.agenda.push(at, Happening::LateAnswer { qp, packet });
            }
            Sent::Never => {}
        }
    }

    /// An admin command after Connect; `None`: it vanishes.
    fn ask_array(
        &mut self,
        qp: QpId,
        cntlid: u16,
        sqe: &Sqe,
        data: &mut Vec<u8>,
        now: Duration,
    ) -> Option<Answer> {
        let (process, path) = (self.qps[qp].process, self.qps[qp].path);
        if self.routes[path].admin_dead > 0 {
            return None;
        }
        if self.refuses(process, sqe.opcode) {
            return Some(Answer::failed(Status::INTERNAL_ERROR));
        }
        if identifies_namespace(sqe) && self.has_fault(FaultKind::Unreadable { process }) {
            self.unread.insert(self.qps[qp].association);
            return Some(Answer::failed(Status::INTERNAL_ERROR));
        }
        let sqe = match self.intercept_reset(process, sqe) {
            Intercepted::Passed(sqe) => sqe,
            Intercepted::Answered(answer) => return Some(answer),
            Intercepted::Vanished => return None,
        };
        if let Ok(Transfer::ToHost(bytes)) = admin_transfer(&sqe) {
            *data = vec![0; bytes as usize];
        }
        let answer = self.processes[process].admin(cntlid, &sqe, data, now);
        if sqe.opcode == admin::IDENTIFY && sqe.cdw10.get() & 0xff == 1 {
            self.identified(qp, cntlid, data);
            // MDTS.
            data[77] = self.plan.routes[path].mdts;
            if self.plan.traffic_based {
                // CTRATT bit 6, TBKAS.
                data[96] |= 1 << 6;
            }
        }
        Some(self.retell_reset(process, &sqe, answer, data))
    }

    fn io_command(&mut self, qp: QpId, sqe: &Sqe, copy: u32, values: Option<Values>) {
        let (process, life) = (self.qps[qp].process, self.qps[qp].life);
        let cid = sqe.cid.get();
        let TargetEnd::Io { access, .. } = &mut self.qps[qp].target else {
            return;
        };
        let (shared, epoch) = (Arc::clone(access.shared()), access.epoch());
        let now = duration(self.processes[process].clock(self.now));
        self.processes[process].restart_timers(now, duration(self.plan.kato));
        self.processes[process].note_traffic(&shared, now);
        let named = access.view().namespace(sqe.nsid.get());
        let named = named.map(|namespace| namespace.media);
        let planned = plan(access.view(), sqe).map(|plan| (plan.operation, plan.namespace.media));
        if named.is_some_and(|store| self.is_misdirected(copy, store)) {
            let status = Status::INVALID_NAMESPACE.with_dnr();
            return self.respond(qp, cid, status, copy, None);
        }
        let (operation, store) = match planned {
            Ok(planned) => planned,
            Err(status) => return self.respond(qp, cid, status, copy, None),
        };
        let (offset, bytes) = match operation {
            Operation::Read { offset, bytes } | Operation::Write { offset, bytes, .. } => {
                (offset, u64::from(bytes))
            }
            Operation::Zero { offset, bytes, .. } => (offset, bytes),
            Operation::Deallocate { .. } => {
                // The range travels as the copy's own.
                let copy = &self.copies[copy as usize];
                (copy.lba << LBA_SHIFT, copy.blocks << LBA_SHIFT)
            }
            Operation::Flush | Operation::Nothing => (0, 0),
        };
        let fetches = matches!(operation, Operation::Write { .. }) && values.is_none();
        let command = self.commands.insert(Command {
            qp,
            process,
            life,
            cid,
            copy,
            store,
            lba: offset >> LBA_SHIFT,
            blocks: bytes >> LBA_SHIFT,
            operation,
            values: values.unwrap_or([0; REQUEST_BLOCKS]),
            epoch,
            shared,
            row: self.processes[process].row,
            done: 0,
            step: 0,
            on_medium: false,
            void: false,
            fetching: fetches,
        });
        if fetches {
            self.transmit(qp, Way::ToHost, Packet::Fetch { command, copy });
        } else {
            self.park(command);
        }
    }

    /// Keeps a command for as long as it pleases before the gate is asked.
    fn park(&mut self, command: usize) {
        let process = self.commands[command].process;
        let usual = self.array_chance.tail(5 * MICRO, 200 * MICRO);
        let mut wait = usual;
        for at in 0..self.active_faults.len() {
            let fault = self.plan.faults[self.active_faults[at]];
            if let FaultKind::Park {
                process: slow,
                longest,
            } = fault.kind
                && slow == process
                && self.array_chance.percent(50)
            {
                wait = wait.max(self.array_chance.below(longest.max(1)));
            }
        }
        self.agenda
            .push(self.now + wait, Happening::Enter { command });
    }

    /// Takes a command back that has not asked the gate yet; true when it did.
    fn recall(&mut self, qp: QpId, cid: u16) -> bool {
        let mut commands = self.commands.iter();
        let found = commands.find(|(_, known)| {
            let waits = !known.on_medium && known.done == 0 && !known.void;
            waits && known.qp == qp && known.cid == cid
        });
        let Some((at, copy)) = found.map(|(at, known)| (at, known.copy)) else {
            return false;
        };
        self.commands[at].void = !self.is(Mutant::AbortLies);
        self.note(|| format!("copy {copy} is given back"));
        self.respond(qp, cid, Status::ABORT_REQUESTED, copy, None);
        true
    }

    pub(crate) fn respond(
        &mut self,
        qp: QpId,
        cid: u16,
        status: Status,
        copy: u32,
        values: Option<Values>,
    ) {
        if matches!(self.qps[qp].target, TargetEnd::Closed) {
            return;
        }
        let cqe = Cqe::new(cid, 0, status, 0);
        self.transmit(qp, Way::ToHost, Packet::Response { cqe, copy, values });
    }

    /// Carries out what an array wants done, and sets its timer.
    pub(crate) fn array_outputs(&mut self, process: usize) {
        while let Some(output) = self.processes[process].array.poll_output() {
            match output {
                ArrayOutput::Respond { queue, cid, dword } => {
                    let cqe = Cqe::new(cid, 0, Status::SUCCESS, u64::from(dword));
                    let data = Vec::new();
                    self.transmit(
                        queue.0 as usize,
                        Way::ToHost,
                        Packet::AdminAnswer { cqe, data },
                    );
                }
                ArrayOutput::Abort { queue, cid } => {
                    let cqe = Cqe::new(cid, 0, Status::ABORT_REQUESTED, 0);
                    let data = Vec::new();
                    self.transmit(
                        queue.0 as usize,
                        Way::ToHost,
                        Packet::AdminAnswer { cqe, data },
                    );
                }
                ArrayOutput::Recall {
                    queue,
                    cid,
                    asker,
                    asker_cid,
                } => {
                    let dword = abort_result(self.recall(queue.0 as usize, cid));
                    let cqe = Cqe::new(asker_cid, 0, Status::SUCCESS, dword.into());
                    let data = Vec::new();
                    self.transmit(
                        asker.0 as usize,
                        Way::ToHost,
                        Packet::AdminAnswer { cqe, data },
                    );
                }
                ArrayOutput::Close { queue } => self.target_qp_failed(queue.0 as usize, false),
                ArrayOutput::Event(event) => self.array_event(process, &event),
            }
        }
        let known = &self.processes[process];
        let now = duration(known.clock(self.now));
        let Some(due) = known.array.next_timeout(now) else {
            return;
        };
        let at = known.when(nanos(due)).max(self.now + MICRO);
        if known.timer_at.is_none_or(|timer| at < timer) {
            let life = known.life;
            self.processes[process].timer_at = Some(at);
            self.agenda
                .push(at, Happening::ProcessTimer { process, life, at });
        }
    }

    /// Something of a dead or living process may still reach the medium.
    pub(crate) fn commands_pending(&self) -> bool {
        self.commands.iter().any(|(_, command)| !command.fetching)
    }
}

fn identifies_namespace(sqe: &Sqe) -> bool {
    let kind = (sqe.cdw10.get() & 0xff) as u8;
    sqe.opcode == admin::IDENTIFY && [cns::NAMESPACE, cns::NAMESPACE_DESCRIPTORS].contains(&kind)
}

/// The one range of a deallocation.
pub(crate) fn range_of(bytes: &[u8; DsmRange::SIZE]) -> (u64, u64) {
    use umpath_nvme::FromBytes;
    let range = DsmRange::read_from_bytes(&bytes[..]).unwrap_or_default();
    (range.slba.get(), u64::from(range.blocks.get()))
}
