//! The application, and the course of a run: work under faults, rest, scan, wait, scan again.
//!
//! Every tag is a client with one request at a time. The second scan comes after the longest time
//! anything can have been held back, or a ghost that executes late would never be seen.

use umpath_core::{BlockError, BlockRequest, Op, Tag};

use super::checker::{OpId, OpKind, Violation};
use super::clock::{MILLI, Nanos, duration};
use super::plan::REQUEST_BLOCKS;
use super::world::{Happening, World};

/// One tag.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) op: Option<OpId>,
    pub(crate) body: BlockRequest,
    /// The tag's memory, one stamp for each block.
    pub(crate) buffer: [u64; REQUEST_BLOCKS],
    /// Copies made before the request was.
    pub(crate) first_copy: usize,
}

impl Client {
    pub(crate) fn new() -> Self {
        let body = BlockRequest {
            tag: Tag(0),
            op: Op::Flush,
            lba: 0,
            blocks: 0,
            fua: false,
            no_unmap: false,
        };
        Self {
            op: None,
            body,
            buffer: [0; REQUEST_BLOCKS],
            first_copy: 0,
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are made, faults happen.
    Active,
    /// All is well; what was begun ends.
    Settling,
    FirstScan,
    /// For as long as anything may be held back.
    Waiting,
    LastScan,
    Over,
}

/// Slack of the liveness budget: reconnects, detection, messages.
const SLACK: Nanos = 3_000 * MILLI;

impl World {
    pub(crate) fn begin_workload(&mut self) {
        for lane in 0..self.plan.lanes {
            for tag in 0..self.plan.tags {
                let at = MILLI + self.client_chance.below(self.plan.think);
                self.agenda.push(at, Happening::Client { lane, tag });
            }
        }
        for at in 0..self.plan.faults.len() {
            let fault = self.plan.faults[at];
            let ends = (fault.at + fault.lasts).min(self.plan.active);
            self.agenda
                .push(fault.at, Happening::Fault { at, begins: true });
            self.agenda
                .push(ends.max(fault.at), Happening::Fault { at, begins: false });
        }
        self.agenda.push(self.plan.active + 1, Happening::Phase);
    }

    /// A client makes its next request.
    pub(crate) fn client(&mut self, lane: usize, tag: u16) {
        if self.clients[lane][usize::from(tag)].op.is_some() {
            return;
        }
        if !self.host.alive {
            // The block layer keeps it until there is somebody to take it.
            return self.think(lane, tag);
        }
        match self.phase {
            Phase::Active => {
                if let Some((kind, lba, blocks)) = self.choose() {
                    let writes = matches!(kind, OpKind::Write | OpKind::WriteZeroes);
                    let fua = writes && self.client_chance.percent(15);
                    self.request(lane, Tag(tag), kind, (lba, blocks), fua);
                } else {
                    self.think(lane, tag);
                }
            }
            Phase::FirstScan | Phase::LastScan if (lane, tag) == (0, 0) => {
                let lba = self.scan_at;
                let blocks = self.plan.request_blocks.min(self.plan.blocks - lba);
                self.scan_at += blocks;
                self.request(lane, Tag(tag), OpKind::Read, (lba, blocks), false);
            }
            _ => {}
        }
    }

    fn choose(&mut self) -> Option<(OpKind, u64, u64)> {
        let chance = &mut self.client_chance;
        let kind = match chance.below(20) {
            0..=7 => OpKind::Read,
            8..=16 => OpKind::Write,
            17 => OpKind::Flush,
            18 => OpKind::WriteZeroes,
            _ => OpKind::Discard,
        };
        if kind == OpKind::Flush {
            return Some((kind, 0, 0));
        }
        let blocks = chance.within(1, self.plan.request_blocks);
        let lba = chance.below(self.plan.blocks - blocks + 1);
        let clashes = !self.plan.overlaps
            && self.checker.outstanding().any(|(_, op)| {
                (kind.is_mutation() || op.kind.is_mutation())
                    && op.lba < lba + blocks
                    && lba < op.lba + op.blocks
            });
        (!clashes).then_some((kind, lba, blocks))
    }

    fn request(
        &mut self,
        lane: usize,
        tag: Tag,
        kind: OpKind,
        (lba, blocks): (u64, u64),
        fua: bool,
    ) {
        let id = self.checker.call(kind, (lba, blocks), fua, self.now);
        let body = BlockRequest {
            tag,
            op: match kind {
                OpKind::Read => Op::Read,
                OpKind::Write => Op::Write,
                OpKind::WriteZeroes => Op::WriteZeroes,
                OpKind::Discard => Op::Discard,
                OpKind::Flush => Op::Flush,
            },
            lba,
            blocks: blocks as u32,
            fua,
            no_unmap: false,
        };
        let first_copy = self.copies.len();
        let client = &mut self.clients[lane][usize::from(tag.0)];
        client.op = Some(id);
        client.body = body;
        client.first_copy = first_copy;
        self.fill(lane, tag, id, lba, kind == OpKind::Write);
        self.note(|| {
            let fua = if fua { " with FUA" } else { "" };
            format!("lane {lane}: op {id} is {kind:?} of {lba}+{blocks}{fua}")
        });
        self.submit(lane, body, id);
    }

    /// Hands a request to its lane.
    fn submit(&mut self, lane: usize, body: BlockRequest, id: OpId) {
        let taken = self.host.lanes[lane].core.submit(body, duration(self.now));
        if let Err(error) = taken {
            return self.fail(Violation(format!("(7) op {id} was not taken: {error}")));
        }
        self.pump_lane(lane);
    }

    /// What was in flight when the host died comes back to its successor.
    pub(crate) fn reissue(&mut self) {
        for lane in 0..self.clients.len() {
            for tag in 0..self.clients[lane].len() {
                let first_copy = self.copies.len();
                let client = &mut self.clients[lane][tag];
                let Some(id) = client.op else { continue };
                let body = client.body;
                client.first_copy = first_copy;
                self.fill(lane, body.tag, id, body.lba, body.op == Op::Write);
                self.note(|| format!("lane {lane}: op {id} comes back"));
                self.submit(lane, body, id);
            }
        }
    }

    /// A request is over.
    pub(crate) fn request_over(&mut self, lane: usize, tag: Tag, result: Result<(), BlockError>) {
        let client = &mut self.clients[lane][usize::from(tag.0)];
        let Some(id) = client.op.take() else {
            return self.fail(Violation(format!(
                "(7) tag {} of lane {lane} completes twice",
                tag.0
            )));
        };
        let buffer = client.buffer;
        let copies = &self.copies[client.first_copy..];
        let open = copies
            .iter()
            .any(|copy| copy.op == id && !copy.answered && !copy.lost);
        if open {
            let what = format!("(6) op {id} returns while a copy of it may touch its buffer");
            return self.fail(Violation(what));
        }
        self.note(|| format!("lane {lane}: op {id} returns {result:?}"));
        if let Err(error) = result {
            self.fail(Violation(format!("(14) op {id} fails: {error}")));
        }
        if let Err(violation) = self.checker.done(id, result.is_ok(), &buffer) {
            return self.fail(violation);
        }
        self.think(lane, tag.0);
        if self.phase != Phase::Active {
            self.next_phase();
        }
    }

    fn think(&mut self, lane: usize, tag: u16) {
        let pause = self.client_chance.tail(MILLI / 10, 2 * self.plan.think);
        let pause = if self.phase == Phase::Active {
            pause
        } else {
            1
        };
        self.agenda
            .push(self.now + pause, Happening::Client { lane, tag });
    }

    /// Goes on to the next phase when the present one has come to its end.
    pub(crate) fn next_phase(&mut self) {
        let idle = self.checker.outstanding().next().is_none();
        let scanned = idle && self.scan_at >= self.plan.blocks;
        match self.phase {
            Phase::Active => {
                self.enter_phase(Phase::Settling);
                self.next_phase();
            }
            Phase::Settling if idle => self.enter_phase(Phase::FirstScan),
            Phase::FirstScan if scanned => {
                self.phase = Phase::Waiting;
                self.budget_ends = self.now + self.plan.longest_hold();
                self.agenda.push(self.budget_ends, Happening::Phase);
            }
            Phase::Waiting if self.now >= self.budget_ends => {
                if self.commands_pending() {
                    self.fail(Violation("a command stays in a target for ever".to_owned()));
                }
                self.enter_phase(Phase::LastScan);
            }
            Phase::LastScan if scanned => self.phase = Phase::Over,
            Phase::Settling | Phase::FirstScan | Phase::LastScan => self.check_budget(),
            Phase::Waiting | Phase::Over => {}
        }
    }

    fn enter_phase(&mut self, phase: Phase) {
        self.phase = phase;
        self.scan_at = 0;
        self.budget_ends = self.now + self.plan.longest_hold() + SLACK;
        self.agenda.push(self.budget_ends, Happening::Phase);
        if phase != Phase::Settling {
            self.agenda
                .push(self.now, Happening::Client { lane: 0, tag: 0 });
        }
    }

    fn check_budget(&mut self) {
        if self.now < self.budget_ends {
            return;
        }
        let late = self.checker.outstanding().next();
        if let Some((id, op)) = late.map(|(id, op)| (id, *op)) {
            let what = format!(
                "(13) op {id}, called at {} ms, has not returned",
                op.called_at / MILLI
            );
            self.fail(Violation(what));
        }
    }
}
