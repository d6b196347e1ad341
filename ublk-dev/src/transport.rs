//! What a queue thread asks of one queue pair.
//!
//! The engine is generic over this, so that a second transport needs no second engine. A transport
//! is owned by one thread at a time and never blocks: whatever has to wait shows up on one of its
//! descriptors. It decides nothing about retries: a command is either answered, or still out when
//! the transport has been drained.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use umpath_nvme::{Cqe, Sqe};
use umpath_rdma::{CmEvent, HostQueue, QueueError};
use umpath_transport::{Data, Drain, PushError};

/// Why a queue pair is of no further use.
#[derive(Debug)]
pub enum Loss<E> {
    /// The transport failed.
    Failed(E),
    /// The peer, or the connection manager, closed the connection.
    Disconnected,
    /// The local device is being removed.
    DeviceRemoved,
    /// It cannot reach the lane's memory: the caller attached it before registering the arena.
    Unregistered(PushError),
}

/// A queue pair of one association, seen from the thread that drives it.
pub trait Transport: Send + 'static {
    /// Why it failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Commands it can hold.
    fn depth(&self) -> u16;

    /// Commands pushed and not over.
    fn in_flight(&self) -> usize;

    /// Queues a command; [`Self::ring`] sends it. The data range stays untouched until the command
    /// is over or the transport drained.
    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError>;

    /// Sends what was pushed, all at once.
    fn ring(&mut self) -> Result<(), Self::Error>;

    /// Reports commands that are over; how many.
    fn poll(&mut self, report: impl FnMut(Cqe)) -> Result<usize, Self::Error>;

    /// Readable when something is over that [`Self::poll`] had not seen at [`Self::arm`].
    fn completion_fd(&self) -> BorrowedFd<'_>;

    /// Asks for the descriptor to become readable. Poll once more afterwards.
    fn arm(&mut self) -> Result<(), Self::Error>;

    /// Makes the descriptor unreadable; it is no longer armed.
    fn disarm(&mut self) -> Result<(), Self::Error>;

    /// Readable when [`Self::loss`] may have something.
    fn connection_fd(&self) -> BorrowedFd<'_>;

    /// Takes what the connection has to report.
    fn loss(&mut self) -> Option<Loss<Self::Error>>;

    /// Gives up the connection. Nothing is sent from now on.
    fn begin_drain(&mut self, deadline: Instant);

    /// Whether our memory may still be touched; reports answers that had arrived before the end.
    fn poll_drained(&mut self, now: Instant, report: impl FnMut(Cqe)) -> Drain;
}

impl Transport for HostQueue {
    type Error = QueueError;

    fn depth(&self) -> u16 {
        self.depth()
    }

    fn in_flight(&self) -> usize {
        self.in_flight()
    }

    fn push(&mut self, sqe: Sqe, data: Data<'_>) -> Result<(), PushError> {
        self.push(sqe, data)
    }

    fn ring(&mut self) -> Result<(), QueueError> {
        self.ring()
    }

    fn poll(&mut self, report: impl FnMut(Cqe)) -> Result<usize, QueueError> {
        self.poll(report)
    }

    fn completion_fd(&self) -> BorrowedFd<'_> {
        self.completion_fd()
    }

    fn arm(&mut self) -> Result<(), QueueError> {
        self.arm()
    }

    fn disarm(&mut self) -> Result<(), QueueError> {
        self.take_completion_events().map(drop)
    }

    fn connection_fd(&self) -> BorrowedFd<'_> {
        self.cm_fd()
    }

    fn loss(&mut self) -> Option<Loss<QueueError>> {
        loop {
            match self.cm_event() {
                Err(error) => return Some(Loss::Failed(error)),
                Ok(None) => return None,
                Ok(Some(CmEvent::Disconnected)) => return Some(Loss::Disconnected),
                Ok(Some(CmEvent::DeviceRemoved)) => return Some(Loss::DeviceRemoved),
                Ok(Some(_)) => {}
            }
        }
    }

    fn begin_drain(&mut self, deadline: Instant) {
        self.begin_drain(deadline);
    }

    fn poll_drained(&mut self, now: Instant, report: impl FnMut(Cqe)) -> Drain {
        self.poll_drained(now, report)
    }
}
