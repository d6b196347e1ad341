//! The application: every tag of every block device is a client with one request at a time.

use umpath_core::{BlockError, BlockRequest, Op, Tag};
use umpath_engine::Event;

use super::blockdev::State;
use super::checker::{OpId, OpKind, Violation};
use super::clock::MILLI;
use super::course::Phase;
use super::happening::Happening;
use super::host::LaneAt;
use super::mutant::Mutant;
use super::plan::REQUEST_BLOCKS;
use super::world::World;

/// One tag.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) op: Option<OpId>,
    pub(crate) body: BlockRequest,
    /// The tag's memory, one stamp for each block.
    pub(crate) buffer: [u64; REQUEST_BLOCKS],
    /// Copies that were sent for the request.
    pub(crate) copies: Vec<u32>,
    /// It may fail: at some time the volume had no path, and does not let requests wait.
    pub(crate) doomed: bool,
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
            copies: Vec::new(),
            doomed: false,
        }
    }
}

impl World {
    /// A block device is there: the application begins to use it.
    pub(crate) fn begin_work(&mut self, device: usize) {
        self.note(|| format!("device {device} is there"));
        for queue in 0..self.devices[device].queues.len() {
            for tag in 0..self.plan.tags {
                self.think(LaneAt { device, queue }, tag);
            }
        }
    }

    /// A client may make its next request.
    pub(crate) fn client_acts(&mut self, at: LaneAt, tag: u16) {
        let device = &self.devices[at.device];
        if self.client(at, tag).op.is_some() || !device.is_there() {
            return;
        }
        if self.phase == Phase::Active && self.now < device.closed_until {
            let reopened = device.closed_until;
            return self.agenda.push(reopened, Happening::Client { at, tag });
        }
        let first = (at.queue, tag) == (0, 0);
        match self.phase {
            Phase::Active => {
                if let Some((kind, lba, blocks)) = self.choose(at) {
                    let writes = matches!(kind, OpKind::Write | OpKind::WriteZeroes);
                    let fua = writes && self.client_chance.percent(15);
                    self.request(at, tag, kind, (lba, blocks), fua);
                } else {
                    self.think(at, tag);
                }
            }
            Phase::FirstScan | Phase::LastScan if first => {
                let lba = device.scanned;
                let blocks = self.plan.request_blocks.min(device.blocks - lba);
                if blocks > 0 {
                    self.request(at, tag, OpKind::Read, (lba, blocks), false);
                }
            }
            _ => {}
        }
    }

    fn choose(&mut self, at: LaneAt) -> Option<(OpKind, u64, u64)> {
        let chance = &mut self.client_chance;
        let kind = match chance.below(20) {
            0..=7 => OpKind::Read,
            8..=16 => OpKind::Write,
            17 => OpKind::Flush,
            18 => OpKind::WriteZeroes,
            _ => OpKind::Discard,
        };
        let device = &self.devices[at.device];
        let mut own = device.queues[at.queue]
            .iter()
            .filter(|client| client.op.is_some());
        if kind == OpKind::Flush {
            // Commands without data name no tag: two of them could not be told apart.
            let another = own.any(|client| client.body.op == Op::Flush);
            return (!another).then_some((kind, 0, 0));
        }
        let blocks = chance.within(1, self.plan.request_blocks);
        let lba = chance.below(device.blocks - blocks + 1);
        let twin = |client: &Client| {
            let (from, many) = (client.body.lba, u64::from(client.body.blocks));
            client.body.op == Op::WriteZeroes && from < lba + blocks && lba < from + many
        };
        if kind == OpKind::WriteZeroes && own.any(twin) {
            return None;
        }
        let clashes = !self.plan.overlaps
            && self.stores[device.store]
                .checker
                .outstanding()
                .any(|(_, op)| {
                    (kind.is_mutation() || op.kind.is_mutation())
                        && op.lba < lba + blocks
                        && lba < op.lba + op.blocks
                });
        (!clashes).then_some((kind, lba, blocks))
    }

    fn request(
        &mut self,
        at: LaneAt,
        tag: u16,
        kind: OpKind,
        (lba, blocks): (u64, u64),
        fua: bool,
    ) {
        let store = self.devices[at.device].store;
        let id = self.stores[store]
            .checker
            .call(kind, (lba, blocks), fua, self.now);
        let body = BlockRequest {
            tag: Tag(tag),
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
        let client = self.client_mut(at, tag);
        client.op = Some(id);
        client.body = body;
        client.doomed = false;
        self.note(|| {
            let fua = if fua { " with FUA" } else { "" };
            format!("{at}: op {id} is {kind:?} of {lba}+{blocks}{fua}")
        });
        if self.devices[at.device].state == State::Live {
            self.submit(at, tag);
        }
    }

    /// Hands a request to its queue thread.
    fn submit(&mut self, at: LaneAt, tag: u16) {
        let fails = self.lane(at).is_some_and(|lane| lane.fails);
        let client = self.client_mut(at, tag);
        let (Some(op), body) = (client.op, client.body) else {
            return;
        };
        client.copies.clear();
        client.doomed |= fails;
        self.fill(at, tag, op, body.lba, body.op == Op::Write);
        self.arrive(at, Event::Request(body));
    }

    /// Everything a queue thread has may fail.
    pub(crate) fn doom(&mut self, at: LaneAt) {
        for client in &mut self.devices[at.device].queues[at.queue] {
            client.doomed = true;
        }
    }

    /// A device is served again: what it kept meanwhile comes to its new queue threads.
    pub(crate) fn reissue(&mut self, device: usize) {
        for queue in 0..self.devices[device].queues.len() {
            for tag in 0..self.plan.tags {
                let at = LaneAt { device, queue };
                let Some(op) = self.client(at, tag).op else {
                    continue;
                };
                if self.is(Mutant::ReissueLost) && self.array_chance.percent(30) {
                    continue;
                }
                self.note(|| format!("{at}: op {op} comes back"));
                self.submit(at, tag);
                if self.is(Mutant::ReissuedTwice) && self.array_chance.percent(30) {
                    self.submit(at, tag);
                }
            }
        }
    }

    /// A device is gone, and so is whoever waited for it: nobody knows what became of its requests.
    pub(crate) fn fail_requests(&mut self, device: usize) {
        let store = self.devices[device].store;
        for client in self.devices[device].queues.iter_mut().flatten() {
            if let Some(op) = client.op.take()
                && let Err(violation) = self.stores[store].checker.done(op, false, &[])
            {
                self.violation.get_or_insert(violation);
            }
        }
    }

    /// A request is over.
    pub(crate) fn request_over(&mut self, at: LaneAt, tag: u16, result: Result<(), BlockError>) {
        let store = self.devices[at.device].store;
        let client = self.client_mut(at, tag);
        let Some(id) = client.op.take() else {
            let what = format!("(7) tag {tag} of {at} completes twice");
            return self.fail(Violation(what));
        };
        let (buffer, may_fail) = (client.buffer, client.doomed);
        let copies = self.client(at, tag).copies.iter();
        let mut copies = copies.map(|copy| &self.copies[*copy as usize]);
        if copies.any(|copy| copy.op == id && !copy.answered && !copy.lost) {
            let what = format!("(6) op {id} returns while a copy of it may touch its buffer");
            return self.fail(Violation(what));
        }
        self.note(|| format!("{at}: op {id} returns {result:?}"));
        if let Err(error) = result
            && !may_fail
        {
            self.fail(Violation(format!("(14) op {id} fails: {error}")));
        }
        if result.is_ok()
            && let Err(violation) = self.check_durable(store, id)
        {
            return self.fail(violation);
        }
        let checker = &mut self.stores[store].checker;
        if let Err(violation) = checker.done(id, result.is_ok(), &buffer) {
            return self.fail(violation);
        }
        if self.devices[at.device].state == State::Dying {
            return self.ending_goes_on(at.device);
        }
        if self.is_scanning() && result.is_ok() && (at.queue, tag) == (0, 0) {
            let body = self.client(at, tag).body;
            let device = &mut self.devices[at.device];
            if body.op == Op::Read && body.lba == device.scanned {
                device.scanned += u64::from(body.blocks);
            }
        }
        self.think(at, tag);
        if self.phase != Phase::Active {
            self.next_phase();
        }
    }

    pub(crate) fn think(&mut self, at: LaneAt, tag: u16) {
        let pause = self.client_chance.tail(MILLI / 10, 2 * self.plan.think);
        let pause = if self.phase == Phase::Active {
            pause
        } else {
            1
        };
        self.agenda
            .push(self.now + pause, Happening::Client { at, tag });
    }
}
