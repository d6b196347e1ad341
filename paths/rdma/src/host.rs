//! The initiator's queue: command capsules out, responses in.
//!
//! Decided here: where capsules and responses lie, how a command's data is described to the
//! controller, and when a command is over (see `slots`). The caller chooses command identifiers
//! (at most one outstanding for each `cid % depth`) and calls, in a loop: [`HostQueue::push`] for
//! each command, [`HostQueue::ring`] once, [`HostQueue::poll`]. To sleep: [`HostQueue::arm`], poll
//! once more, wait for [`HostQueue::completion_fd`], [`HostQueue::take_completion_events`].
//!
//! Errors: a [`QueueError`] means the queue pair is in error or about to be. The caller stops
//! pushing, calls [`HostQueue::begin_drain`], and polls [`HostQueue::poll_drained`] until buffers
//! are its own again. Dropping the queue at any time is safe for memory (the queue pair is destroyed
//! first, which ends all its work) but may take the device seconds: see [`HostQueue::retire`].

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::sgl::KEYED_LENGTH_MAX;
use umpath_nvme::{Cqe, FromBytes, IntoBytes, Sgl, Sqe};
use umpath_transport::{Arena, Data, Drain, PushError, Silence};

use crate::CmEvent;
use crate::chain::{Segment, SendKind, WorkId};
use crate::domain::{Buffers, Domain, KeyCache};
use crate::endpoint::{
    Endpoint, EndpointShape, NEVER_POSTED, failure, is_marker, keep_first, page_round,
};
use crate::error::{LocalError, QueueError};
use crate::slots::Slots;
use crate::verbs::{CmId, Completion};

const SEND: u8 = 1;
const RECEIVE: u8 = 2;

/// What a queue is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostShape {
    pub(crate) qid: u16,
    pub(crate) depth: u16,
    pub(crate) in_capsule_bytes: u32,
}

/// An established queue to a controller.
#[derive(Debug)]
pub struct HostQueue {
    // Field order is drop order: the queue pair (with its completion queue), then the memory it
    // used, then the domain.
    endpoint: Endpoint,
    /// Command capsules, then responses, `depth` of each.
    buffers: Buffers,
    keys: KeyCache,
    slots: Slots,
    shape: HostShape,
}

impl HostQueue {
    /// Creates the queue pair of a resolved id and posts all its receives.
    pub(crate) fn new(
        id: &Arc<CmId>,
        domain: Arc<Domain>,
        shape: HostShape,
    ) -> Result<Self, LocalError> {
        let depth = u32::from(shape.depth);
        // Capsules one cache line each, behind them responses a quarter of one, in one region.
        let buffers = domain.register_buffers(&Arena::new(1, page_round(depth * 80))?)?;
        let work = EndpointShape {
            sends: depth,
            receives: depth,
            send_segments: 2,
        };
        let mut queue = Self {
            endpoint: Endpoint::new(id, domain.pd(), work)?,
            buffers,
            keys: KeyCache::new(domain),
            slots: Slots::new(shape.depth),
            shape,
        };
        for index in 0..depth {
            queue.recycle(index);
        }
        queue.endpoint.post_receives()?;
        Ok(queue)
    }

    /// Queue identifier; 0 is the admin queue.
    pub fn qid(&self) -> u16 {
        self.shape.qid
    }

    /// Commands the queue holds.
    pub fn depth(&self) -> u16 {
        self.shape.depth
    }

    /// Commands pushed and not over.
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// Whether the SEND of a command that is not over has completed: the peer's device has acknowledged
    /// it. True as well of a command that is over.
    pub fn has_arrived(&self, cid: u16) -> bool {
        self.slots.is_sent(cid)
    }

    /// The association's domain: register data arenas in it, and pass it to further queues.
    pub fn domain(&self) -> &Arc<Domain> {
        self.keys.domain()
    }

    /// Name of the RDMA device.
    pub fn device(&self) -> &str {
        self.keys.domain().device()
    }

    /// Port of the device, from 1, as in [`DeviceEvent`](crate::DeviceEvent).
    pub fn port(&self) -> u8 {
        self.endpoint.id().port()
    }

    /// Largest write that travels inside its capsule. Known only after Identify for the controller,
    /// which the admin queue asks; I/O queues get it in their parameters.
    pub fn in_capsule_bytes(&self) -> u32 {
        self.shape.in_capsule_bytes
    }

    /// Readable when a completion arrived after [`HostQueue::arm`].
    pub fn completion_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.completion_fd()
    }

    /// Asks for the descriptor to become readable at the next completion. Poll once afterwards:
    /// what arrived before does not count.
    pub fn arm(&mut self) -> Result<(), QueueError> {
        self.endpoint.arm()
    }

    /// Makes the descriptor unreadable again; the queue is then no longer armed.
    pub fn take_completion_events(&mut self) -> Result<u32, QueueError> {
        self.endpoint.take_completion_events()
    }

    /// Readable when [`HostQueue::cm_event`] has something.
    pub fn cm_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.cm_fd()
    }

    /// What the connection manager has to say; `None` when nothing. Call until it says so.
    pub fn cm_event(&mut self) -> Result<Option<CmEvent>, QueueError> {
        self.endpoint.cm_event()
    }

    /// Queues a command; [`HostQueue::ring`] sends it. Fills in PSDT and the data pointer. On an
    /// error nothing changed.
    pub fn push(&mut self, mut sqe: Sqe, data: Data<'_>) -> Result<(), PushError> {
        if self.endpoint.is_closed() {
            return Err(PushError::Closed);
        }
        let (sgl, in_capsule) = self.describe(data)?;
        sqe.flags = (sqe.flags & !umpath_nvme::sqe::FLAGS_PSDT_MASK) | umpath_nvme::sqe::FLAGS_SGL;
        sqe.sgl = sgl;
        let slot = self.slots.claim(sqe.cid.get()).ok_or(PushError::Full)?;
        let offset = slot * 64;
        let capsule = self.buffers.locate(offset, 64);
        let capsule = capsule.expect("every slot has a capsule");
        let written = self.buffers.arena().write_at(0, offset, sqe.as_bytes());
        written.expect("every slot has a capsule");
        let head = Segment {
            address: capsule.address,
            len: 64,
            key: capsule.local_key,
        };
        let pushed =
            self.endpoint
                .push_send(WorkId::new(SEND, slot), SendKind::Send, [head, in_capsule]);
        assert!(pushed, "the chain holds a request for every slot");
        Ok(())
    }

    /// Sends everything pushed since the last call, with one call to the device.
    pub fn ring(&mut self) -> Result<(), QueueError> {
        self.endpoint.post_sends()
    }

    /// Reaps completions and reports each command that is over. After an error, which is reported once,
    /// the queue can only be drained; responses reaped before it have been reported.
    pub fn poll(&mut self, mut f: impl FnMut(Cqe)) -> Result<usize, QueueError> {
        let mut reported = 0;
        let mut fault = None;
        self.reap(&mut fault, &mut |cqe| {
            reported += 1;
            f(cqe);
        })?;
        self.endpoint.post_receives()?;
        self.endpoint.verdict(fault, reported)
    }

    /// Closes the queue: the queue pair goes to the error state, the peer is notified, and a marker is
    /// queued behind everything else. Commands pushed but not rung are never sent. `deadline`: on the
    /// caller's clock, which [`HostQueue::poll_drained`] gets the time of.
    pub fn begin_drain(&mut self, deadline: Duration) -> Silence {
        self.endpoint.begin_drain(deadline)
    }

    /// Whether memory is still in use; reports responses that had arrived before the end.
    pub fn poll_drained(&mut self, now: Duration, mut f: impl FnMut(Cqe)) -> Drain {
        let _ = self.reap(&mut None, &mut f);
        self.endpoint.drain_state(now)
    }

    /// Whether an error was reported or a drain begun.
    pub fn is_closed(&self) -> bool {
        self.endpoint.is_closed()
    }

    /// The data pointer, and what travels in the capsule.
    fn describe(&mut self, data: Data<'_>) -> Result<(Sgl, Segment), PushError> {
        let (arena, slot, offset, len, write) = match data {
            Data::None => return Ok((Sgl::NONE, Segment::NONE)),
            Data::Read {
                arena,
                slot,
                offset,
                len,
            } => (arena, slot, offset, len, false),
            Data::Write {
                arena,
                slot,
                offset,
                len,
            } => (arena, slot, offset, len, true),
        };
        if len > KEYED_LENGTH_MAX {
            return Err(PushError::OutOfRange);
        }
        let keyed = self.keys.find(arena, slot, offset, len)?;
        if write && self.shape.qid != 0 && len <= self.shape.in_capsule_bytes {
            let inside = Segment {
                address: keyed.address,
                len,
                key: keyed.local_key,
            };
            return Ok((Sgl::in_capsule(0, len), inside));
        }
        Ok((
            Sgl::keyed(keyed.address, len, keyed.remote_key),
            Segment::NONE,
        ))
    }

    fn reap(
        &mut self,
        fault: &mut Option<QueueError>,
        report: &mut dyn FnMut(Cqe),
    ) -> Result<(), QueueError> {
        loop {
            let batch = self.endpoint.reap()?;
            for completion in batch.iter() {
                if let Some(cqe) = self.take(completion, fault) {
                    report(cqe);
                }
            }
            if !batch.is_full() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, completion: Completion, fault: &mut Option<QueueError>) -> Option<Cqe> {
        let WorkId { kind, index } = WorkId::from_raw(completion.id);
        let failed = match kind {
            SEND => failure("SEND", completion),
            RECEIVE => failure("RECV", completion),
            _ if is_marker(kind) => return None,
            _ => {
                keep_first(fault, NEVER_POSTED);
                return None;
            }
        };
        let received = failed.is_none();
        if let Some(error) = failed.filter(|_| !self.endpoint.is_draining()) {
            keep_first(fault, error.into());
        }
        match kind {
            // A SEND that failed is over as well: the device no longer reads its memory. If its
            // response is here, the command was executed.
            SEND => self.slots.sent(index).unwrap_or_else(|_| {
                keep_first(fault, QueueError::Device("a SEND completed twice"));
                None
            }),
            RECEIVE if received => {
                self.take_response(index, completion.bytes)
                    .unwrap_or_else(|error| {
                        keep_first(fault, error);
                        None
                    })
            }
            _ => None,
        }
    }

    fn take_response(&mut self, index: u32, bytes: u32) -> Result<Option<Cqe>, QueueError> {
        let mut raw = [0; Cqe::SIZE];
        if bytes as usize != Cqe::SIZE {
            return Err(QueueError::Peer("a response capsule is not 16 bytes long"));
        }
        let read = self
            .buffers
            .arena()
            .read_at(0, self.response_offset(index), &mut raw);
        read.map_err(|_| NEVER_POSTED)?;
        self.recycle(index);
        let cqe = Cqe::read_from_bytes(&raw).expect("16 bytes are a completion entry");
        self.slots
            .answered(cqe)
            .map_err(|_| QueueError::Peer("a response to a command that is not outstanding"))
    }

    fn response_offset(&self, index: u32) -> u32 {
        u32::from(self.shape.depth) * 64 + index * 16
    }

    /// Puts response buffer `index` back on the receive chain.
    fn recycle(&mut self, index: u32) {
        let keyed = self.buffers.locate(self.response_offset(index), 16);
        let keyed = keyed.expect("only response buffers that exist are recycled");
        let part = Segment {
            address: keyed.address,
            len: 16,
            key: keyed.local_key,
        };
        self.endpoint
            .push_receive(WorkId::new(RECEIVE, index), part);
    }
}
