//! What both ends of a connection share: a queue pair, the chains that feed it, and its end.
//!
//! Decided here: when work requests reach the device, which error is reported, and the order of steps
//! of a drain. Not decided here: what a work request means.

#![expect(unsafe_code)]
// UNSAFETY: posting work requests hands memory to the device.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use umpath_transport::{Drain, Silence};

use crate::CmEvent;
use crate::chain::{ReceiveChain, Segment, SendChain, SendKind, WorkId};
use crate::device;
use crate::drain::{Draining, Marker};
use crate::error::{QueueError, TransportError, WcStatus};
use crate::verbs::{Batch, CmId, Completion, Cq, Outcome, Pd, Qp, QpShape, VerbsError};

/// Kinds of work the owner of an endpoint must not use.
const SEND_MARKER: u8 = 0xfe;
const RECEIVE_MARKER: u8 = 0xff;

/// What a completion says that names no work of ours.
pub(crate) const NEVER_POSTED: QueueError =
    QueueError::Device("a completion of work that was never posted");

/// Whether work of this kind is an endpoint's own.
pub(crate) fn is_marker(kind: u8) -> bool {
    matches!(kind, SEND_MARKER | RECEIVE_MARKER)
}

/// How much work an endpoint holds at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointShape {
    pub(crate) sends: u32,
    pub(crate) receives: u32,
    pub(crate) send_segments: u32,
}

/// A queue pair and what waits to be posted on it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    qp: Qp,
    sends: SendChain,
    receives: ReceiveChain,
    draining: Option<Draining>,
    broken: bool,
    /// Only its destruction proves it silent.
    leaves_packets_behind: bool,
}

impl Endpoint {
    pub(crate) fn new(
        id: &Arc<CmId>,
        domain: &Arc<Pd>,
        shape: EndpointShape,
    ) -> Result<Self, VerbsError> {
        // Room for the two drain markers on top.
        let cq = Cq::new(domain, shape.sends + shape.receives + 2)?;
        let sizes = QpShape {
            send_requests: shape.sends + 1,
            receive_requests: shape.receives + 1,
            send_segments: shape.send_segments,
        };
        Ok(Self {
            qp: Qp::new(id, domain, cq, sizes)?,
            sends: SendChain::new(shape.sends as usize),
            receives: ReceiveChain::new(shape.receives as usize),
            draining: None,
            broken: false,
            leaves_packets_behind: device::leaves_packets_behind(&id.device_name()),
        })
    }

    pub(crate) fn id(&self) -> &Arc<CmId> {
        self.qp.id()
    }

    pub(crate) fn completion_fd(&self) -> BorrowedFd<'_> {
        self.qp.cq_ref().as_fd()
    }

    pub(crate) fn arm(&mut self) -> Result<(), QueueError> {
        Ok(self.qp.cq().arm()?)
    }

    pub(crate) fn take_completion_events(&mut self) -> Result<u32, QueueError> {
        Ok(self.qp.cq().take_events()?)
    }

    pub(crate) fn cm_fd(&self) -> BorrowedFd<'_> {
        self.qp.id().channel().as_fd()
    }

    pub(crate) fn cm_event(&mut self) -> Result<Option<CmEvent>, QueueError> {
        while let Some(event) = self.qp.id().channel().next_event()? {
            if let Some(event) = CmEvent::from_raw(&event) {
                if event == CmEvent::Established {
                    self.qp.id().established();
                }
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Whether nothing can be queued any more: an error was reported or a drain begun.
    pub(crate) fn is_closed(&self) -> bool {
        self.broken || self.draining.is_some()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Queues send-side work; `false` when there is no room. The memory must be registered in the
    /// endpoint's domain, and be left alone from [`Endpoint::post_sends`] until the completion.
    pub(crate) fn push_send(&mut self, id: WorkId, kind: SendKind, parts: [Segment; 2]) -> bool {
        self.sends.push(id, kind, parts)
    }

    /// Queues a receive; memory as for [`Endpoint::push_send`]. Ignored while draining: nothing is
    /// received any more. There is room for every buffer, each of which is posted once at a time.
    pub(crate) fn push_receive(&mut self, id: WorkId, part: Segment) {
        if self.draining.is_none() {
            let pushed = self.receives.push(id, part);
            assert!(pushed, "the chain holds a request for every receive buffer");
        }
    }

    /// Posts what [`Endpoint::push_send`] queued.
    pub(crate) fn post_sends(&mut self) -> Result<(), QueueError> {
        let Some(first) = self.sends.take() else {
            return Ok(());
        };
        // SAFETY: the chain is ours and terminated; `push_send` states what its memory must be.
        unsafe { self.qp.post_send(first) }.map_err(|error| {
            self.broken = true;
            QueueError::Local(error)
        })
    }

    /// Posts what [`Endpoint::push_receive`] queued.
    pub(crate) fn post_receives(&mut self) -> Result<(), VerbsError> {
        let Some(first) = self.receives.take() else {
            return Ok(());
        };
        // SAFETY: as for `post_sends`.
        unsafe { self.qp.post_receive(first) }
    }

    /// Reaps one batch. Markers of a drain are taken note of; their kinds mean nothing to others.
    pub(crate) fn reap(&mut self) -> Result<Batch, VerbsError> {
        let batch = self.qp.cq().poll()?;
        if let Some(draining) = self.draining.as_mut() {
            for completion in batch.iter() {
                let marker = match WorkId::from_raw(completion.id).kind {
                    SEND_MARKER => Marker::Send,
                    RECEIVE_MARKER => Marker::Receive,
                    _ => continue,
                };
                draining.came_back(marker, completion.outcome);
            }
        }
        Ok(batch)
    }

    /// The result of a poll: the first fault ever, once; otherwise how much was reported.
    pub(crate) fn verdict(
        &mut self,
        fault: Option<QueueError>,
        reported: usize,
    ) -> Result<usize, QueueError> {
        match fault {
            Some(fault) if !self.broken => {
                self.broken = true;
                Err(fault)
            }
            _ => Ok(reported),
        }
    }

    /// Moves the queue pair to the error state, notifies the peer, and posts the markers. Once: later
    /// calls prove nothing.
    pub(crate) fn begin_drain(&mut self, deadline: Duration) -> Silence {
        if self.draining.is_some() {
            return Silence::Unproved;
        }
        self.sends.take();
        self.receives.take();
        let stopped = self.qp.set_error();
        self.qp.id().disconnect();
        // A queue pair that is not in the error state gets no markers: it would send one of them.
        let marked = stopped.is_ok() && self.post_markers().is_ok();
        self.draining = Some(if marked {
            Draining::marked(deadline)
        } else {
            Draining::unmarked()
        });
        if stopped.is_ok() && !self.leaves_packets_behind {
            Silence::Proved
        } else {
            Silence::Unproved
        }
    }

    pub(crate) fn drain_state(&self, now: Duration) -> Drain {
        self.draining
            .as_ref()
            .map_or(Drain::Pending, |draining| draining.state(now))
    }

    fn post_markers(&mut self) -> Result<(), QueueError> {
        self.receives
            .push(WorkId::new(RECEIVE_MARKER, 0), Segment::NONE);
        self.post_receives()?;
        self.sends.push(
            WorkId::new(SEND_MARKER, 0),
            SendKind::Send,
            [Segment::NONE; 2],
        );
        self.post_sends()
    }
}

/// Keeps the first fault, but lets a real one replace "flushed", which only says there was one.
pub(crate) fn keep_first(kept: &mut Option<QueueError>, fault: QueueError) {
    let flushed =
        |e: &QueueError| matches!(e, QueueError::Transport(t) if t.status == WcStatus::FLUSHED);
    if kept
        .as_ref()
        .is_none_or(|old| flushed(old) && !flushed(&fault))
    {
        *kept = Some(fault);
    }
}

/// The failure that a completion reports, if any.
pub(crate) fn failure(work: &'static str, completion: Completion) -> Option<TransportError> {
    match completion.outcome {
        Outcome::Done => None,
        Outcome::Flushed => Some(TransportError {
            work,
            status: WcStatus::FLUSHED,
            vendor: 0,
        }),
        Outcome::Failed { status, vendor } => Some(TransportError {
            work,
            status: WcStatus(status),
            vendor,
        }),
    }
}

/// Rounds up to whole pages; at least one.
pub(crate) fn page_round(bytes: u32) -> u32 {
    bytes.clamp(1, u32::MAX - 4096).next_multiple_of(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(status: u32) -> QueueError {
        TransportError {
            work: "SEND",
            status: WcStatus(status),
            vendor: 0,
        }
        .into()
    }

    #[test]
    fn the_first_real_fault_is_kept() {
        let mut kept = None;
        for status in [5, 12, 5, 10] {
            keep_first(&mut kept, transport(status));
        }
        assert!(matches!(kept, Some(QueueError::Transport(t)) if t.status == WcStatus(12)));
    }

    #[test]
    fn buffers_are_whole_pages() {
        assert_eq!([0, 1, 4096, 4097].map(page_round), [4096, 4096, 4096, 8192]);
        assert_eq!(page_round(u32::MAX) % 4096, 0);
    }
}
