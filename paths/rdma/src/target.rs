//! The target's queue: command capsules in, data both ways, responses out.
//!
//! Decided here: where capsules and responses lie and how many work requests fit. Not decided here:
//! what a command means. The caller polls for [`TargetEvent`]s; for each capsule it queues any
//! number of [`TargetQueue::read`] (data from the host) and [`TargetQueue::write`] (data to the
//! host), one [`TargetQueue::respond`], gives the capsule back with [`TargetQueue::release`], and
//! calls [`TargetQueue::ring`] once for the whole batch.
//!
//! Order: a response queued behind a write reaches the host after the data; data of a read is there
//! only at [`TargetEvent::Read`].
//!
//! Tokens are the caller's and come back unchanged. Errors and draining are as for
//! [`HostQueue`](crate::HostQueue).

#![expect(unsafe_code)]
// UNSAFETY: in-capsule data is lent out of memory a device writes.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use umpath_nvme::{Cqe, FromBytes, IntoBytes, Sqe};
use umpath_transport::{Arena, Drain, PushError};

use crate::CmEvent;
use crate::chain::{Segment, SendKind, WorkId};
use crate::domain::{Buffers, Domain, KeyCache};
use crate::endpoint::{
    Endpoint, EndpointShape, NEVER_POSTED, failure, is_marker, keep_first, page_round,
};
use crate::error::{LocalError, QueueError};
use crate::verbs::{CmId, Completion};

const RECEIVE: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 3;
const RESPONSE: u8 = 4;

/// Memory of the host, from a keyed data pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remote {
    /// Address in the host.
    pub address: u64,
    /// The host's key.
    pub key: u32,
}

/// A received command capsule, held until released.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "release it, or the host runs out of receives"]
pub struct CapsuleSlot {
    index: u32,
    data_bytes: u32,
}

impl CapsuleSlot {
    /// Bytes of in-capsule data that came with the command.
    pub fn data_bytes(&self) -> u32 {
        self.data_bytes
    }
}

/// An event of a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum TargetEvent {
    /// A command arrived; its data is at [`TargetQueue::capsule_data`].
    Capsule {
        /// To be released.
        slot: CapsuleSlot,
        /// The command.
        sqe: Sqe,
    },
    /// The host's data is here.
    Read {
        /// From [`TargetQueue::read`].
        token: u64,
    },
    /// The data left, and its memory may be used again.
    Written {
        /// From [`TargetQueue::write`].
        token: u64,
    },
    /// The host's device has the response.
    Responded {
        /// From [`TargetQueue::respond`].
        token: u64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct TargetShape {
    pub(crate) receive_depth: u16,
    pub(crate) data_requests: u16,
    pub(crate) in_capsule_bytes: u32,
}

impl TargetShape {
    /// A response's memory is free only once its SEND was reaped, and by then the host may have
    /// sent its next command: twice the commands.
    fn responses(self) -> u32 {
        2 * u32::from(self.receive_depth)
    }

    fn capsule_bytes(self) -> u32 {
        (64 + self.in_capsule_bytes).next_multiple_of(64)
    }
}

/// An accepted queue of a host.
#[derive(Debug)]
pub struct TargetQueue {
    // Field order is drop order: the queue pair (with its completion queue), then the memory it
    // used, then the domain.
    endpoint: Endpoint,
    capsules: Buffers,
    responses: Buffers,
    keys: KeyCache,
    /// Tokens of outstanding send-side requests, by work index.
    tokens: Box<[u64]>,
    free_data: Vec<u32>,
    free_responses: Vec<u32>,
    shape: TargetShape,
}

impl TargetQueue {
    pub(crate) fn new(
        id: &Arc<CmId>,
        domain: Arc<Domain>,
        shape: TargetShape,
    ) -> Result<Self, LocalError> {
        let receives = u32::from(shape.receive_depth);
        let (responses, data) = (shape.responses(), u32::from(shape.data_requests));
        let capsule_arena = Arena::new(
            1,
            page_round(receives.saturating_mul(shape.capsule_bytes())),
        )?;
        let capsules = domain.register_buffers(&capsule_arena)?;
        let response_buffers =
            domain.register_buffers(&Arena::new(1, page_round(responses * 16))?)?;
        let sends = responses + data;
        let work = EndpointShape {
            sends,
            receives,
            send_segments: 1,
        };
        let mut queue = Self {
            endpoint: Endpoint::new(id, domain.pd(), work)?,
            capsules,
            responses: response_buffers,
            keys: KeyCache::new(domain),
            tokens: vec![0; sends as usize].into(),
            free_data: (0..data).rev().collect(),
            free_responses: (0..responses).rev().collect(),
            shape,
        };
        for index in 0..receives {
            queue.recycle(index);
        }
        queue.endpoint.post_receives()?;
        Ok(queue)
    }

    /// The queue's domain: register data arenas in it, and pass it to the association's other
    /// queues.
    pub fn domain(&self) -> &Arc<Domain> {
        self.keys.domain()
    }

    /// Name of the RDMA device.
    pub fn device(&self) -> &str {
        self.keys.domain().device()
    }

    /// The host's address.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.endpoint.id().peer_address()
    }

    /// Readable when a completion arrived after [`TargetQueue::arm`].
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

    /// Readable when [`TargetQueue::cm_event`] has something.
    pub fn cm_fd(&self) -> BorrowedFd<'_> {
        self.endpoint.cm_fd()
    }

    /// What the connection manager has to say; `None` when nothing. Call until it says so.
    pub fn cm_event(&mut self) -> Result<Option<CmEvent>, QueueError> {
        self.endpoint.cm_event()
    }

    /// The in-capsule data of a command.
    pub fn capsule_data(&self, slot: &CapsuleSlot) -> &[u8] {
        let offset = slot.index * self.shape.capsule_bytes() + 64;
        let Some(start) = self.capsules.arena().pointer(0, offset, slot.data_bytes) else {
            return &[];
        };
        // SAFETY: the bytes were received before the slot was handed out, and the slot's memory is
        // not given to the device again until the caller gives the slot up (`release` takes it).
        unsafe { std::slice::from_raw_parts(start.as_ptr(), slot.data_bytes as usize) }
    }

    /// Gives a capsule back; [`TargetQueue::ring`] posts it for the next command.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the slot must not be used afterwards"
    )]
    pub fn release(&mut self, slot: CapsuleSlot) {
        let CapsuleSlot { index, .. } = slot;
        self.recycle(index);
    }

    /// Queues an RDMA READ: data of the host into an arena registered in the domain.
    pub fn read(
        &mut self,
        token: u64,
        remote: Remote,
        arena: &Arena,
        (slot, offset, len): (u32, u32, u32),
    ) -> Result<(), PushError> {
        let kind = SendKind::Read {
            address: remote.address,
            key: remote.key,
        };
        self.move_data(READ, token, kind, arena, (slot, offset, len))
    }

    /// Queues an RDMA WRITE: data of an arena to the host. It must not change until
    /// [`TargetEvent::Written`].
    pub fn write(
        &mut self,
        token: u64,
        remote: Remote,
        arena: &Arena,
        (slot, offset, len): (u32, u32, u32),
    ) -> Result<(), PushError> {
        let kind = SendKind::Write {
            address: remote.address,
            key: remote.key,
        };
        self.move_data(WRITE, token, kind, arena, (slot, offset, len))
    }

    /// Queues a response; with `invalidate` the host's device forgets that key of its own.
    pub fn respond(
        &mut self,
        token: u64,
        cqe: &Cqe,
        invalidate: Option<u32>,
    ) -> Result<(), PushError> {
        self.check_open()?;
        let index = self.free_responses.pop().ok_or(PushError::Full)?;
        let offset = index * 16;
        let keyed = self.responses.locate(offset, 16);
        let keyed = keyed.expect("every free response has a buffer");
        let written = self.responses.arena().write_at(0, offset, cqe.as_bytes());
        written.expect("every free response has a buffer");
        let part = Segment {
            address: keyed.address,
            len: 16,
            key: keyed.local_key,
        };
        let kind = invalidate.map_or(SendKind::Send, |key| SendKind::SendInvalidate { key });
        self.enqueue(RESPONSE, index, token, kind, part);
        Ok(())
    }

    /// Hands everything queued to the device, with one call for each direction.
    pub fn ring(&mut self) -> Result<(), QueueError> {
        self.endpoint.post_receives()?;
        self.endpoint.post_sends()
    }

    /// Reaps completions. After an error, which is reported once, the queue can only be drained; events
    /// reaped before it have been reported.
    pub fn poll(&mut self, mut f: impl FnMut(TargetEvent)) -> Result<usize, QueueError> {
        let mut reported = 0;
        let mut fault = None;
        self.reap(&mut fault, &mut |event| {
            reported += 1;
            f(event);
        })?;
        self.endpoint.verdict(fault, reported)
    }

    /// Closes the queue, as [`HostQueue::begin_drain`](crate::HostQueue::begin_drain). Whether it is
    /// silent is no matter at this end.
    pub fn begin_drain(&mut self, deadline: Duration) {
        let _ = self.endpoint.begin_drain(deadline);
    }

    /// Whether memory is still in use. Tokens still outstanding when it is not never come back.
    pub fn poll_drained(&mut self, now: Duration) -> Drain {
        let _ = self.reap(&mut None, &mut |_| {});
        self.endpoint.drain_state(now)
    }

    /// Whether an error was reported or a drain begun.
    pub fn is_closed(&self) -> bool {
        self.endpoint.is_closed()
    }

    fn check_open(&self) -> Result<(), PushError> {
        if self.is_closed() {
            Err(PushError::Closed)
        } else {
            Ok(())
        }
    }

    fn move_data(
        &mut self,
        kind: u8,
        token: u64,
        work: SendKind,
        arena: &Arena,
        (slot, offset, len): (u32, u32, u32),
    ) -> Result<(), PushError> {
        self.check_open()?;
        let keyed = self.keys.find(arena, slot, offset, len)?;
        let index = self.free_data.pop().ok_or(PushError::Full)?;
        let part = Segment {
            address: keyed.address,
            len,
            key: keyed.local_key,
        };
        self.enqueue(kind, index, token, work, part);
        Ok(())
    }

    fn enqueue(&mut self, kind: u8, index: u32, token: u64, work: SendKind, part: Segment) {
        let place = self.token_index(kind, index);
        let entry = self.tokens.get_mut(place);
        *entry.expect("every free index has a token") = token;
        let pushed = self
            .endpoint
            .push_send(WorkId::new(kind, index), work, [part, Segment::NONE]);
        assert!(pushed, "the chain holds a request for every free index");
    }

    /// Responses first, data requests behind them.
    fn token_index(&self, kind: u8, index: u32) -> usize {
        let base = if kind == RESPONSE {
            0
        } else {
            self.shape.responses()
        };
        (base + index) as usize
    }

    fn reap(
        &mut self,
        fault: &mut Option<QueueError>,
        report: &mut dyn FnMut(TargetEvent),
    ) -> Result<(), QueueError> {
        loop {
            let batch = self.endpoint.reap()?;
            for completion in batch.iter() {
                match self.take(completion) {
                    Ok(Some(event)) => report(event),
                    Ok(None) => {}
                    Err(error) => keep_first(fault, error),
                }
            }
            if !batch.is_full() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, completion: Completion) -> Result<Option<TargetEvent>, QueueError> {
        let WorkId { kind, index } = WorkId::from_raw(completion.id);
        let work = match kind {
            RECEIVE => "RECV",
            READ => "RDMA READ",
            WRITE => "RDMA WRITE",
            RESPONSE => "SEND",
            _ if is_marker(kind) => return Ok(None),
            _ => return Err(NEVER_POSTED),
        };
        if self.endpoint.is_draining() {
            return Ok(None);
        }
        if let Some(error) = failure(work, completion) {
            return Err(error.into());
        }
        match kind {
            RECEIVE => self.take_capsule(index, completion.bytes).map(Some),
            READ => Ok(Some(TargetEvent::Read {
                token: self.finish(kind, index),
            })),
            WRITE => Ok(Some(TargetEvent::Written {
                token: self.finish(kind, index),
            })),
            _ => Ok(Some(TargetEvent::Responded {
                token: self.finish(kind, index),
            })),
        }
    }

    /// Frees the work index and returns its token.
    fn finish(&mut self, kind: u8, index: u32) -> u64 {
        let free = if kind == RESPONSE {
            &mut self.free_responses
        } else {
            &mut self.free_data
        };
        free.push(index);
        let token = self.tokens.get(self.token_index(kind, index));
        *token.expect("work was posted with a token")
    }

    fn take_capsule(&mut self, index: u32, bytes: u32) -> Result<TargetEvent, QueueError> {
        let data_bytes = bytes.checked_sub(Sqe::SIZE as u32).ok_or(QueueError::Peer(
            "a command capsule is shorter than 64 bytes",
        ))?;
        let mut raw = [0; Sqe::SIZE];
        let offset = index * self.shape.capsule_bytes();
        let read = self.capsules.arena().read_at(0, offset, &mut raw);
        read.map_err(|_| NEVER_POSTED)?;
        let sqe = Sqe::read_from_bytes(&raw).expect("64 bytes are a command");
        Ok(TargetEvent::Capsule {
            slot: CapsuleSlot { index, data_bytes },
            sqe,
        })
    }

    fn recycle(&mut self, index: u32) {
        let len = 64 + self.shape.in_capsule_bytes;
        let offset = index * self.shape.capsule_bytes();
        let keyed = self.capsules.locate(offset, len);
        let keyed = keyed.expect("only capsules that exist are recycled");
        let part = Segment {
            address: keyed.address,
            len,
            key: keyed.local_key,
        };
        self.endpoint
            .push_receive(WorkId::new(RECEIVE, index), part);
    }
}
